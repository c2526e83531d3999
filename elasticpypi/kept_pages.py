"""Pages that were rendered once and are kept, compressed: small ones in the catalog, larger ones in the storage.

A page that nobody could be sent, because it has more bytes than an answer may have where the application runs, is kept
with absolute URLs in it, and got from the storage by a signed URL: relative ones would resolve against the bucket.
What is kept can be removed at any time, and is rendered again then.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from elasticpypi.catalog import Catalog, KeptPage
from elasticpypi.errors import CatalogError, ConflictError, ObjectMissingError, StorageError
from elasticpypi.names import NormalizedName
from elasticpypi.simple import RENDERER, Form
from elasticpypi.storage import SignedURL, Storage, StoredObject

_log = logging.getLogger(__name__)
_GZIP_LEVEL = 6
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # 16: with a gzip header, which has no time in it
_PREFIX = ".elasticpypi/pages/"
_LARGEST_DOCUMENT = 16 * 2**20  # bytes; more cannot be read back (`Storage.read_document`)
_TOO_LARGE_TO_SEND = b"too large to send"  # kept in place of a page: no gzip stream begins like that
_TRUSTED_SECONDS = 600.0  # that an object is still there that was seen
# A lifecycle rule removes a page 30 days after it was written, and a client that is sent to one which is gone believes
# that there is no such project. An older one is rendered and written anew, long before: a URL to it lives for half an
# hour, and a function may be frozen for hours before it sends one that it trusts.
_FRESH_SECONDS = 20 * 86_400.0


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page; equal tags mean equal bytes."""

    revision: int
    tag: str  # of the content, whatever its encoding
    body: bytes | None  # gzip-compressed; None: it is larger than whoever asked can send


@dataclass(frozen=True, slots=True)
class Variant:
    """A page as it is kept to be got from the storage itself."""

    form: Form
    content_type: str
    base: str  # URL of the index, with its slash
    scope: str = ""  # tells what somebody sees of the root from the complete one

    @property
    def suffix(self) -> str:
        """What tells its key from those of other variants."""
        return hashlib.sha256("\0".join((self.content_type, self.base, self.scope)).encode()).hexdigest()[:16]


class KeptPages:
    """The pages of an index. A page that cannot be kept is served all the same."""

    def __init__(self, catalog: Catalog, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._storage = storage
        self._clock = clock
        self._seen: dict[str, float] = {}  # key of a page in the storage -> until when it is trusted to be there

    def find(self, name: NormalizedName | None, form: Form, revision: int, *, at_most: int | None) -> Page | None:
        """Return a project's page (name None: the root's) of just this revision; None where none is kept.

        Its body is None where it is known to have more than `at_most` bytes, or had so at the last revision that was
        rendered: then it is rendered for its other place alone, which takes seconds for such a page. One read, and one
        more of a page that lies in the storage.
        """
        kept = self._catalog.page(name, _kept_form(form))
        if kept is not None and kept.body == _TOO_LARGE_TO_SEND and at_most is not None:
            return Page(revision, _tag(revision, form), None)
        if kept is None or kept.revision != revision:
            return None
        if kept.body is not None and kept.body != _TOO_LARGE_TO_SEND:
            return make_page(revision, form, kept.body, at_most=at_most)
        try:
            body = self._storage.read_document(_key(name, form, revision)).data
        except ObjectMissingError:
            return None
        except StorageError as error:
            _log.warning("a page that is kept cannot be read, and is rendered again: %s", error)
            return None
        return make_page(revision, form, body, at_most=at_most)

    def keep(
        self, name: NormalizedName | None, form: Form, revision: int, rendered: Iterator[bytes], *, at_most: int | None
    ) -> Page:
        """Keep a page for the next ones who ask, and return it, without its body if that has more than `at_most`."""
        body = compress(rendered)
        page = make_page(revision, form, body, at_most=at_most)
        try:
            self._catalog.keep_page(name, _kept_form(form), KeptPage(revision, self._place(name, page, form, body)))
        except (CatalogError, StorageError) as error:  # a reader needs no room on a disk that is full
            _log.warning("a page was not kept: %s", error)
        return page

    def _place(self, name: NormalizedName | None, page: Page, form: Form, body: bytes) -> bytes | None:
        """Return what the catalog is to keep of a page, having written to the storage what is too large for it."""
        if self._catalog.largest_page is None or len(body) <= self._catalog.largest_page:
            return body
        if page.body is None or len(body) > _LARGEST_DOCUMENT:
            return _TOO_LARGE_TO_SEND
        self._write(_key(name, form, page.revision), body, "application/octet-stream")
        return None

    def find_elsewhere(self, name: NormalizedName | None, revision: int, variant: Variant) -> SignedURL | None:
        """Return where a variant of just this revision can be got; None where it is not kept.

        One read, which is spared where it was seen a short while ago.
        """
        key = _key(name, variant.form, revision, variant.suffix)
        if self._seen.get(key, 0.0) < self._clock():
            try:
                found = self._storage.stat(key)
            except ObjectMissingError:
                return None
            if not self._is_fresh(found):
                return None
            self._trust(key)
        return self._sign(key)

    def keep_elsewhere(
        self, name: NormalizedName | None, revision: int, variant: Variant, rendered: Iterator[bytes]
    ) -> SignedURL:
        """Keep a variant, and return where it can be got. StorageError: there is no other way to send it."""
        key = _key(name, variant.form, revision, variant.suffix)
        body = compress(rendered)
        if not self._write(key, body, variant.content_type):
            self._write_anew(key, body, variant.content_type)
        self._trust(key)
        return self._sign(key)

    def _write(self, key: str, body: bytes, content_type: str, *, replacing: str | None = None) -> bool:
        """Write a page; False where another one lies there, which has the same bytes."""
        headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
        try:
            self._storage.write_document(key, body, replacing=replacing, headers=headers)
        except ConflictError:
            _log.debug("%s was kept by somebody else", key)
            return False
        return True

    def _write_anew(self, key: str, body: bytes, content_type: str) -> None:
        """Replace a page that is not fresh, so that it does not go while somebody is sent to it."""
        try:
            found = self._storage.stat(key)
        except ObjectMissingError:  # it went just now
            self._write(key, body, content_type)
        else:
            if not self._is_fresh(found):
                self._write(key, body, content_type, replacing=found.fingerprint)

    def _is_fresh(self, found: StoredObject) -> bool:
        return self._clock() - self._storage.upload_time(found, "").timestamp() < _FRESH_SECONDS

    def _trust(self, key: str) -> None:
        now = self._clock()
        self._seen = {known: until for known, until in self._seen.items() if until >= now} | {
            key: now + _TRUSTED_SECONDS
        }

    def _sign(self, key: str) -> SignedURL:
        download = self._storage.download(key, "")
        if isinstance(download, SignedURL):
            return download
        download.stream.close()
        raise StorageError(f"{key} is too large to be sent, and this storage has no URLs to redirect to")


def make_page(revision: int, form: Form, body: bytes, *, at_most: int | None) -> Page:
    """Return a page out of its compressed body, without it where that has more than `at_most` bytes."""
    return Page(revision, _tag(revision, form), body if at_most is None or len(body) <= at_most else None)


def compress(pieces: Iterator[bytes]) -> bytes:
    """Return a gzip stream, the same for the same pieces."""
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


def _tag(revision: int, form: Form) -> str:
    return f"{revision}.{RENDERER}.{form}"


def _kept_form(form: Form) -> str:
    return f"{form}.{RENDERER}"


def _key(name: NormalizedName | None, form: Form, revision: int, suffix: str = "") -> str:
    place = "root" if name is None else f"project/{name}"
    return f"{_PREFIX}{place}/{form}.{RENDERER}.{revision}{suffix and '.'}{suffix}.gz"
