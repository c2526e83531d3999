"""The simple pages as they are sent: negotiated, compressed or not, with their ETag; a 304 where nothing has changed.

Specifications: PEP 691 (content negotiation), HTTP semantics (RFC 9110, 8.8.3, 12.5, 13.1.2).
"""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from werkzeug.datastructures import ETags, MIMEAccept
from werkzeug.exceptions import NotAcceptable
from werkzeug.http import parse_accept_header, parse_etags

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.index import Elsewhere, Index, Listing, NotOurs, Page, Variant
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.web.carried import accepts_gzip, is_carried, most_binary_bytes
from elasticpypi.web.mount import lasting_root_url

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "application/vnd.pypi.simple.v1+html"
_OLD_HTML = "text/html"
# What a client may name -> what it gets; in the order in which we prefer them where the client does not care.
_OFFERS = {
    _JSON: _JSON,
    "application/vnd.pypi.simple.latest+json": _JSON,
    _HTML: _HTML,
    "application/vnd.pypi.simple.latest+html": _HTML,
    _OLD_HTML: _OLD_HTML,
}
_LONGEST_HEADER = 1000  # characters; what is parsed once is remembered
_MEMORY_BYTES = 16 * 2**20  # of pages, in each process


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: of a page, or that it has not changed."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _ReadyPage:
    """A page as it is sent, in one form and encoding, and what is sent in its place where the client has it."""

    revision: int
    tag: str  # what its ETag quotes
    whole: Answer | None  # None: it is too large to be sent, and got from the storage
    unchanged: Answer

    @property
    def size(self) -> int:
        """How many bytes it takes in memory, nearly all of them."""
        return 0 if self.whole is None else len(self.whole.body)


class Pages:
    """Answers requests for simple pages; those that were sent lately are kept in memory, as long as they are current.

    Whether a page is current is asked of the catalog on every request: another process may have changed it. A page that
    has more than `largest_answer` bytes (see `web.carried`) is kept in the storage, with URLs that begin with `url`, or
    as the client has asked; who asks for it is redirected there.
    """

    def __init__(self, index: Index, *, url: str | None = None, largest_answer: int | None = None) -> None:
        self._index = index
        self._url = url
        self._largest_answer = largest_answer
        self._at_most = None if largest_answer is None else most_binary_bytes(largest_answer)
        self._ready: dict[tuple[str, str, bool, tuple[str, ...]], _ReadyPage] = {}
        self._bytes = 0
        self._changing = threading.Lock()

    def project(self, name: NormalizedName, principal: Principal, environ: WSGIEnvironment) -> Answer:
        """Answer a request for a project's page.

        Raise ForbiddenError, NotFoundError and NotAcceptable, besides UnavailableError.
        """
        principal.require(Permission.READ, name)
        content_type = negotiate(environ.get("HTTP_ACCEPT"))
        gzipped = accepts_gzip(environ)
        revision = self._index.locate(name)
        if not isinstance(revision, int):
            return self._upstream(revision, content_type, environ)
        key = (name, content_type, gzipped, ())
        ready = self._ready.get(key)
        if ready is None or ready.revision != revision:
            page = self._index.project_page(name, _form(content_type), revision, at_most=self._at_most)
            ready = self._make_ready(key, page, "")
        answer = _choose(ready, environ)
        if answer is None:
            variant = self._variant(content_type, environ)
            return _redirect(self._index.project_page_elsewhere(name, ready.revision, variant).url)
        return answer

    def _upstream(self, name: NotOurs, content_type: str, environ: WSGIEnvironment) -> Answer:
        """Answer for a project that is not ours, with what another index has."""
        found = self._index.find_upstream(name)
        if isinstance(found, Elsewhere):
            return _redirect(found.url)
        gzipped = accepts_gzip(environ)
        key = (name, content_type, gzipped, ("upstream",))
        ready = self._ready.get(key)
        if ready is None or ready.revision != found.revision:
            page = self._index.upstreams.page(found, _form(content_type), at_most=self._at_most)
            ready = self._make_ready(key, page, "")
        answer = _choose(ready, environ)
        if answer is None:
            variant = self._variant(content_type, environ)
            return _redirect(self._index.upstream_page_elsewhere(found, variant).url)
        return answer if found.stale is None else _stale(answer, found)

    def root(self, principal: Principal, environ: WSGIEnvironment) -> Answer:
        """Answer a request for the list of projects, as far as the principal may see them; raise as `project` does."""
        principal.require(Permission.READ)
        content_type = negotiate(environ.get("HTTP_ACCEPT"))
        gzipped = accepts_gzip(environ)
        form = _form(content_type)
        revision = self._index.root_revision(form)
        seen = principal.scope
        key = ("", content_type, gzipped, seen)
        ready = self._ready.get(key)
        if ready is None or ready.revision != revision:
            page = self._index.root_page(form, revision, is_visible=_filter(principal), at_most=self._at_most)
            ready = self._make_ready(key, page, _scope(seen))
        answer = _choose(ready, environ)
        if answer is None:
            variant = self._variant(content_type, environ, _scope(seen))
            elsewhere = self._index.root_page_elsewhere(ready.revision, variant, is_visible=_filter(principal))
            return _redirect(elsewhere.url)
        return answer

    def _variant(self, content_type: str, environ: WSGIEnvironment, scope: str = "") -> Variant:
        base = lasting_root_url(environ, self._url)  # of what is kept for all who ask by it
        return Variant(_form(content_type), _full_type(content_type), base, scope)

    def _make_ready(self, key: tuple[str, str, bool, tuple[str, ...]], page: Page, scope: str) -> _ReadyPage:
        _, content_type, gzipped, _ = key
        ready = _ready_page(page, scope, content_type, gzipped=gzipped, largest_answer=self._largest_answer)
        if ready.size <= _MEMORY_BYTES // 2:
            with self._changing:
                self._forget(key)
                self._ready[key] = ready
                self._bytes += ready.size
                while self._bytes > _MEMORY_BYTES:
                    self._forget(next(iter(self._ready)))
        return ready

    def _forget(self, key: tuple[str, str, bool, tuple[str, ...]]) -> None:
        forgotten = self._ready.pop(key, None)
        if forgotten is not None:
            self._bytes -= forgotten.size


@lru_cache(maxsize=256)
def negotiate(accept: str | None) -> str:
    """Return the content type that an Accept header likes best; raise NotAcceptable (406) where it likes none.

    The most specific range that fits a type gives its quality (RFC 9110, 12.5.1). Who does not care (no header, `*/*`)
    gets `text/html`, as from PyPI.
    """
    if accept is not None and len(accept) > _LONGEST_HEADER:
        raise NotAcceptable(f"The Accept header has more than {_LONGEST_HEADER} characters.")
    parsed = parse_accept_header(accept or "*/*", MIMEAccept)
    # Without parameters other than q: our types have none but a charset, of which there is one.
    accepted = MIMEAccept([(value.partition(";")[0].strip().lower(), quality) for value, quality in parsed])
    qualities = {offer: accepted.quality(offer) for offer in _OFFERS}
    best = max(qualities.values())
    if best <= 0:
        raise NotAcceptable(f"This page exists as {', '.join(dict.fromkeys(_OFFERS.values()))}; accept one of them.")
    named = set(accepted.values())
    liked = [offer for offer, quality in qualities.items() if quality == best]
    return _OFFERS[next((offer for offer in liked if offer in named), _OLD_HTML if _OLD_HTML in liked else liked[0])]


@lru_cache(maxsize=1024)
def _etags(if_none_match: str) -> ETags:
    return parse_etags(if_none_match)


def _form(content_type: str) -> Form:
    return Form.JSON if content_type == _JSON else Form.HTML


def _scope(seen: tuple[str, ...]) -> str:
    """Return what tells the root as somebody sees it from the complete one."""
    return "." + hashlib.sha256("\0".join(seen).encode()).hexdigest()[:16] if seen else ""


def _filter(principal: Principal) -> Callable[[NormalizedName], bool] | None:
    return None if principal.sees_everything else partial(principal.may, Permission.READ)


def _full_type(content_type: str) -> str:
    return f"{content_type}; charset=utf-8" if content_type == _OLD_HTML else content_type


def _ready_page(page: Page, scope: str, content_type: str, *, gzipped: bool, largest_answer: int | None) -> _ReadyPage:
    # The same HTML goes out under two types, and a strong ETag names the bytes as they are sent.
    tag = page.tag + scope + (".plain" if content_type == _OLD_HTML else "") + (".gzip" if gzipped else "")
    headers = [
        ("Content-Type", _full_type(content_type)),
        ("ETag", f'"{tag}"'),
        ("Cache-Control", "private, max-age=0"),
        ("Vary", "Accept, Accept-Encoding, Authorization, Cookie"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    unchanged = Answer("304 Not Modified", headers, b"")
    body = page.body if gzipped or page.body is None else gzip.decompress(page.body)
    if body is None or not is_carried(body, largest_answer, is_text=not gzipped):
        return _ReadyPage(page.revision, tag, None, unchanged)
    encoding = [("Content-Encoding", "gzip")] if gzipped else []
    whole = Answer("200 OK", [*headers, *encoding, ("Content-Length", str(len(body)))], body)
    return _ReadyPage(page.revision, tag, whole, unchanged)


def _choose(ready: _ReadyPage, environ: WSGIEnvironment) -> Answer | None:
    """Return what is sent of a page; None: a redirect to where it is."""
    known = environ.get("HTTP_IF_NONE_MATCH")
    if known is None or len(known) > _LONGEST_HEADER or not _etags(known).contains_weak(ready.tag):
        if ready.whole is None and environ["REQUEST_METHOD"] == "HEAD":
            return Answer("200 OK", ready.unchanged.headers, b"")  # a URL that is signed for GET refuses HEAD
        return ready.whole
    return ready.unchanged


def _stale(answer: Answer, listing: Listing) -> Answer:
    """Say of an answer that upstream could not be asked whether it still holds (RFC 9211)."""
    detail = "".join(
        character if " " <= character <= "~" and character not in '"\\' else "?" for character in listing.stale or ""
    )
    since = f" ttl=-{max(int(time.time() - listing.checked), 0)};" if listing.checked else ""
    told = ("Cache-Status", f'elasticpypi; hit; fwd=stale;{since} detail="{detail}"')
    return Answer(answer.status, [*answer.headers, told], answer.body)


def _redirect(url: str) -> Answer:
    # It dies, and must not be kept longer than it lives.
    return Answer("302 Found", [("Location", url), ("Cache-Control", "no-store"), ("Content-Length", "0")], b"")
