"""Upstreams' pages in our catalog, so that neither a new process nor an upstream that is down has to begin anew.

Two things are kept under a project that is not ours: the page, with which its next request can ask whether it has
changed, and when upstream last said that it has not. The second one is small, and written each time.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from elasticpypi.catalog import Catalog, KeptPage
from elasticpypi.config import Upstream
from elasticpypi.errors import CatalogError, ConflictError, ObjectMissingError, StorageError
from elasticpypi.storage import Storage
from elasticpypi.upstream.fetching import Validators
from elasticpypi.upstream.formats import dump_page, load_page
from elasticpypi.upstream.model import NotOurs, UpstreamPage

FORMAT = 1  # raise it whenever other pages come out of the same answers: kept ones then are as good as gone
_GZIP_LEVEL = 6
_LARGEST_DOCUMENT = 16 * 2**20  # bytes; more cannot be read back (`Storage.read_document`)
# A lifecycle rule removes what is older than a month; what is missing is asked for again.
_PREFIX = ".elasticpypi/pages/upstream/"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedPage:
    """A page as upstream has sent it, and for how long it may be shown without asking again."""

    page: UpstreamPage
    validators: Validators
    revision: int  # of the page, by its time in µs: another one wherever the page was sent again
    checked: float  # seconds since 1970, when upstream last said that it is so
    fresh_seconds: float  # from then on


@dataclass(frozen=True, slots=True)
class Checked:
    """What upstream said of a project when it was last asked."""

    revision: int | None  # of the page that holds; None: that it no longer has the project, which it had
    at: float  # seconds since 1970
    fresh_seconds: float  # from then on


class PageCache:
    """The pages of one upstream. What cannot be kept is served all the same."""

    def __init__(
        self, catalog: Catalog, storage: Storage, upstream: Upstream, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._clock = clock
        # Whatever it is called; with other credentials it may be another one.
        self._place = hashlib.sha256(f"{upstream.url}\0{upstream.username or ''}".encode()).hexdigest()[:16]
        self._page_form = f"upstream.{FORMAT}.{self._place}"
        self._checked_form = f"{self._page_form}.checked"

    def checked(self, name: NotOurs) -> Checked | None:
        """Return when upstream last spoke of a project, with a small read; None where nobody remembers that."""
        kept = self._catalog.page(name, self._checked_form)
        return None if kept is None or not kept.body else Checked(*orjson.loads(kept.body))

    def find(self, name: NotOurs) -> CachedPage | None:
        """Return what is kept; None where nothing is, or what is there belongs to another time."""
        checked = self.checked(name)
        kept = None if checked is None else self._catalog.page(name, self._page_form)
        if checked is None or kept is None or kept.revision != checked.revision:
            return None
        body = self._read(name, kept)
        try:
            document = None if body is None else orjson.loads(gzip.decompress(body))
            if document is None or document["url"] != self._place:
                return None
            validators = Validators(document["etag"], document["modified"])
            return CachedPage(load_page(document["page"]), validators, kept.revision, checked.at, checked.fresh_seconds)
        except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
            _log.warning("a page of an upstream that is kept cannot be read, and is asked for again: %s", error)
            return None

    def keep(self, name: NotOurs, page: UpstreamPage, validators: Validators, *, fresh_seconds: float) -> CachedPage:
        """Keep a page that was sent just now."""
        now = self._clock()
        cached = CachedPage(page, validators, int(now * 1_000_000), now, fresh_seconds)
        document = {
            "url": self._place,
            "etag": validators.etag,
            "modified": validators.modified,
            "page": dump_page(page),
        }
        body = gzip.compress(orjson.dumps(document), _GZIP_LEVEL, mtime=0)
        if len(body) > _LARGEST_DOCUMENT:
            return cached
        try:
            self._catalog.keep_page(name, self._page_form, self._write(name, cached.revision, body))
            self._keep_checked(name, Checked(cached.revision, now, fresh_seconds))
        except (CatalogError, StorageError) as error:  # a reader needs no room on a disk that is full
            _log.warning("a page of an upstream was not kept: %s", error)
        return cached

    def confirm(self, name: NotOurs, cached: CachedPage, *, fresh_seconds: float) -> CachedPage:
        """Remember that upstream has just said that a page has not changed."""
        confirmed = CachedPage(cached.page, cached.validators, cached.revision, self._clock(), fresh_seconds)
        try:
            self._keep_checked(name, Checked(confirmed.revision, confirmed.checked, fresh_seconds))
        except CatalogError as error:
            _log.warning("it was not kept that a page of an upstream is unchanged: %s", error)
        return confirmed

    def forget(self, name: NotOurs) -> None:
        """Forget a page: upstream has said that it has no such project."""
        try:
            self._keep_checked(name, Checked(None, self._clock(), 0))
        except CatalogError as error:
            _log.warning("a page that an upstream no longer has was not forgotten: %s", error)

    def _keep_checked(self, name: NotOurs, checked: Checked) -> None:
        body = orjson.dumps([checked.revision, checked.at, checked.fresh_seconds])
        self._catalog.keep_page(name, self._checked_form, KeptPage(int(checked.at * 1_000_000), body))

    def _write(self, name: NotOurs, revision: int, body: bytes) -> KeptPage:
        """Return what the catalog is to keep, having written to the storage what is too large for it."""
        if self._catalog.largest_page is None or len(body) <= self._catalog.largest_page:
            return KeptPage(revision, body)
        try:
            self._storage.write_document(self._key(name, revision), body, replacing=None)
        except ConflictError:
            _log.debug("a page of an upstream was kept by somebody else at the same time")
        return KeptPage(revision, None)

    def _read(self, name: NotOurs, kept: KeptPage) -> bytes | None:
        if kept.body is not None:
            return kept.body
        try:
            return self._storage.read_document(self._key(name, kept.revision)).data
        except ObjectMissingError:
            return None

    def _key(self, name: NotOurs, revision: int) -> str:
        return f"{_PREFIX}{name}/{self._place}.{FORMAT}.{revision}.gz"
