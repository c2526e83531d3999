"""`/simple/`: the pages of the simple repository API, in the form that the client likes best.

Specifications: PEP 503 (redirect to the normalised name), PEP 691 (content negotiation).
"""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache, partial

from flask import Blueprint, Response, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import NotAcceptable
from werkzeug.http import parse_accept_header

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.index import Index, Page, page_tag
from elasticpypi.names import normalize_name
from elasticpypi.simple import Form
from elasticpypi.web.auth import current_principal

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


def simple_pages(index: Index) -> Blueprint:
    """Return the routes of the simple API."""
    pages = Blueprint("simple", __name__)

    @pages.get("/simple/")
    def root() -> Response:
        principal = current_principal()
        principal.require(Permission.READ)
        content_type = negotiate(request.headers.get("Accept"))
        form = _form(content_type)
        revision = index.root_revision()
        tag = page_tag(revision, form) + _scope(principal)
        return _not_modified(tag, content_type) or _answer(_root_page(index, principal, form, revision), content_type)

    @pages.get("/simple/<name>/")
    def project(name: str) -> Response:
        normalized = normalize_name(name)
        current_principal().require(Permission.READ, normalized)
        if name != normalized:
            return redirect_within(f"../{normalized}/")
        content_type = negotiate(request.headers.get("Accept"))
        form = _form(content_type)
        revision = index.project_revision(normalized)
        unchanged = _not_modified(page_tag(revision, form), content_type)
        return unchanged or _answer(index.project_page(normalized, form, revision), content_type)

    @pages.get("/simple")
    def root_without_slash() -> Response:
        return redirect_within("simple/")

    @pages.get("/simple/<name>")
    def project_without_slash(name: str) -> Response:
        return redirect_within(f"{normalize_name(name)}/")

    return pages


def redirect_within(location: str, status: int = 301) -> Response:
    """Redirect by a relative URL, which holds under any prefix and behind any proxy."""
    response = Response(status=status, headers={"Location": location})
    response.headers["Cache-Control"] = "private, max-age=0"
    return response


@lru_cache(maxsize=256)
def negotiate(accept: str | None) -> str:
    """Return the content type that an Accept header likes best; raise NotAcceptable (406) where it likes none.

    The most specific range that fits a type gives its quality (RFC 9110, 12.5.1). Who does not care (no header, `*/*`)
    gets `text/html`, as from PyPI.
    """
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


def _form(content_type: str) -> Form:
    return Form.JSON if content_type == _JSON else Form.HTML


def _root_page(index: Index, principal: Principal, form: Form, revision: int) -> Page:
    if principal.sees_everything:
        return index.root_page(form, revision)
    page = index.filtered_root_page(form, partial(principal.may, Permission.READ))
    return Page(page.tag + _scope(principal), page.body)


def _scope(principal: Principal) -> str:
    """Return what tells the root as this principal sees it from the complete one."""
    if principal.sees_everything:
        return ""
    return "." + hashlib.sha256("\0".join(principal.projects).encode()).hexdigest()[:16]


def _accepts_gzip() -> bool:
    return request.accept_encodings.quality("gzip") > 0


def _not_modified(tag: str, content_type: str) -> Response | None:
    """Return the 304 that the client deserves, if it does."""
    etag = _etag(tag, content_type, gzipped=_accepts_gzip())
    if not request.if_none_match.contains_weak(etag):
        return None
    return _with_headers(Response(status=304), etag, content_type)


def _answer(page: Page, content_type: str) -> Response:
    gzipped = _accepts_gzip()
    response = Response(page.body if gzipped else gzip.decompress(page.body))
    if gzipped:
        response.headers["Content-Encoding"] = "gzip"
    return _with_headers(response, _etag(page.tag, content_type, gzipped=gzipped), content_type)


def _etag(tag: str, content_type: str, *, gzipped: bool) -> str:
    """Return the strong ETag of a page as it is sent; the same HTML goes out under two types."""
    return tag + (".plain" if content_type == _OLD_HTML else "") + (".gzip" if gzipped else "")


def _with_headers(response: Response, etag: str, content_type: str) -> Response:
    response.set_etag(etag)
    response.headers["Content-Type"] = f"{content_type}; charset=utf-8" if content_type == _OLD_HTML else content_type
    response.headers["Cache-Control"] = "private, max-age=0"
    response.headers["Vary"] = "Accept, Accept-Encoding, Authorization"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
