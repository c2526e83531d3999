"""Where rendered pages are kept, and what becomes of readers where they cannot be."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from elasticpypi.catalog import KeptPage
from elasticpypi.errors import ConflictError, ObjectMissingError, StorageError
from elasticpypi.kept_pages import KeptPages, Variant
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.storage import Document, SignedURL, StoredObject

ACME = NormalizedName("acme")
BODY = b"words " * 10
DAY = 86_400.0


class Objects:
    """As much of a storage as pages need, which can be made to fail."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.written: dict[str, float] = {}
        self.now = 1.0
        self.failing = False

    def stat(self, key: str) -> StoredObject:
        self._look(key)
        return StoredObject(key, len(self.data[key]), str(self.written[key]))

    def upload_time(self, obj: StoredObject, _: str) -> datetime:
        return datetime.fromtimestamp(float(obj.fingerprint), UTC)

    def read_document(self, key: str) -> Document:
        self._look(key)
        return Document(self.data[key], "fingerprint")

    def write_document(self, key: str, data: bytes, *, replacing: str | None, headers: Mapping[str, str]) -> None:
        if self.failing:
            raise StorageError("throttled")
        if replacing != (str(self.written[key]) if key in self.data else None):
            raise ConflictError(key)
        self.data[key], self.written[key] = data, self.now

    def download(self, key: str, _: str) -> SignedURL:
        return SignedURL(f"https://storage/{key}?signed")

    def _look(self, key: str) -> None:
        if self.failing:
            raise StorageError("throttled")
        if key not in self.data:
            raise ObjectMissingError(key)


class SmallCatalog:
    """As much of a catalog as pages need, which keeps none larger than this."""

    largest_page = 20

    def __init__(self) -> None:
        self._kept: dict[tuple[NormalizedName | None, str], KeptPage] = {}

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        return self._kept.get((name, form))

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        assert page.body is None or len(page.body) <= self.largest_page
        present = self._kept.get((name, form))
        if present is None or present.revision < page.revision:
            self._kept[name, form] = page


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def pages(objects: Objects) -> KeptPages:
    return KeptPages(cast(Any, SmallCatalog()), cast(Any, objects), clock=lambda: objects.now)


def keep(pages: KeptPages, revision: int = 1, body: bytes = BODY, at_most: int | None = None) -> bytes | None:
    return pages.keep(ACME, Form.JSON, revision, iter([body[:5], body[5:]]), at_most=at_most).body


def find(pages: KeptPages, revision: int = 1, at_most: int | None = None) -> bytes | None:
    page = pages.find(ACME, Form.JSON, revision, at_most=at_most)
    return None if page is None or page.body is None else gzip.decompress(page.body)


def test_what_is_too_large_for_the_catalog_lies_in_the_storage(pages: KeptPages, objects: Objects) -> None:
    assert gzip.decompress(keep(pages) or b"") == BODY
    assert list(objects.data) == [".elasticpypi/pages/project/acme/json.2.1.gz"]
    assert find(pages) == BODY
    assert find(pages, revision=2) is None


def test_a_page_is_rendered_again_where_the_kept_one_is_gone_or_cannot_be_read(
    pages: KeptPages, objects: Objects
) -> None:
    keep(pages)
    objects.failing = True
    assert find(pages) is None
    objects.failing = False
    objects.data.clear()
    assert find(pages) is None
    keep(pages)
    assert find(pages) == BODY


def test_a_page_that_cannot_be_kept_is_served(pages: KeptPages, objects: Objects) -> None:
    objects.failing = True
    assert gzip.decompress(keep(pages) or b"") == BODY
    objects.failing = False
    assert find(pages) is None  # nothing says that it lies where it does not


def test_what_cannot_be_sent_is_not_even_read(pages: KeptPages, objects: Objects) -> None:
    assert keep(pages, at_most=10) is None
    assert objects.data == {}
    page = pages.find(ACME, Form.JSON, 1, at_most=10)
    assert page is not None
    assert page.body is None
    assert find(pages) is None  # who has no such bound renders it, and keeps it
    keep(pages)
    assert find(pages) == BODY


def test_each_variant_lies_in_its_own_place(pages: KeptPages, objects: Objects) -> None:
    variants = [
        Variant(Form.HTML, content_type, base, scope)
        for content_type in ("text/html; charset=utf-8", "application/vnd.pypi.simple.v1+html")
        for base in ("https://acme.org/dev/", "https://acme.org/")
        for scope in ("", ".guest")
    ]
    for name in (None, ACME, NormalizedName("root")):
        for variant in variants:
            assert pages.find_elsewhere(name, 1, variant) is None
            kept = pages.keep_elsewhere(name, 1, variant, iter([variant.base.encode()]))
            assert pages.find_elsewhere(name, 1, variant) == kept
            assert pages.find_elsewhere(name, 2, variant) is None
    assert len(objects.data) == 3 * len(variants)


def test_what_has_no_other_way_fails_loudly(pages: KeptPages, objects: Objects) -> None:
    objects.failing = True
    variant = Variant(Form.JSON, "application/vnd.pypi.simple.v1+json", "https://acme.org/")
    with pytest.raises(StorageError):
        pages.find_elsewhere(ACME, 1, variant)
    with pytest.raises(StorageError):
        pages.keep_elsewhere(ACME, 1, variant, iter([BODY]))


def test_nobody_is_sent_to_a_page_that_a_lifecycle_rule_is_about_to_remove(pages: KeptPages, objects: Objects) -> None:
    variant = Variant(Form.JSON, "application/vnd.pypi.simple.v1+json", "https://acme.org/")
    url = pages.keep_elsewhere(ACME, 1, variant, iter([BODY]))
    objects.now = 19 * DAY
    assert pages.find_elsewhere(ACME, 1, variant) == url
    objects.now = 21 * DAY  # also of those who have seen it
    assert pages.find_elsewhere(ACME, 1, variant) is None
    assert pages.keep_elsewhere(ACME, 1, variant, iter([BODY])) == url
    assert list(objects.written.values()) == [21 * DAY]
    objects.now = 40 * DAY
    assert pages.find_elsewhere(ACME, 1, variant) == url
    pages.keep_elsewhere(ACME, 1, variant, iter([BODY]))  # as somebody else has done just now
    assert list(objects.written.values()) == [21 * DAY]
