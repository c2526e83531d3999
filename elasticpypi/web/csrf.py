"""Requests that change something come from our own pages, or from programs; never from another site's page.

A browser sends a session's cookie along with whatever any page makes it ask, and credentials that somebody typed into
its own window likewise. The first needs the CSRF token besides; the second is told apart by what browsers say of
themselves and programs do not: `Sec-Fetch-Site` (Fetch Metadata Request Headers), and by plain HTTP at least `Origin`
(RFC 6454).
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import request

from elasticpypi.errors import ForbiddenError
from elasticpypi.web.present import current_session

HEADER = "X-CSRF-Token"
FIELD = "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME = frozenset({"same-origin", "none"})
_FORM = "application/x-www-form-urlencoded"
_FORM_BYTES = 64 * 1024
_OTHER_SITE = "this request was made by the page of another site, which may change nothing here"


def check_origin(url: str | None, *, by_themselves: frozenset[str]) -> None:
    """Raise ForbiddenError where the present request changes something and does not come from a page of ours.

    The routes called `by_themselves` look for the token where only they can read it. `url` is where clients find the
    index, if that is configured.
    """
    if request.method in _SAFE:
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in _SAME:
        raise ForbiddenError(_OTHER_SITE)
    if current_session() is None:
        _check_host(url)  # and nothing of the body: it may be anything
    elif request.endpoint not in by_themselves:
        check_token(_given_token())


def _check_host(url: str | None) -> None:
    origin = request.headers.get("Origin")
    ours = {request.host} if url is None else {request.host, urlsplit(url).netloc}
    if origin is not None and urlsplit(origin).netloc not in ours:
        raise ForbiddenError(_OTHER_SITE)


def check_token(given: str) -> None:
    """Raise ForbiddenError where the present request comes by a session, and this is not its token."""
    session = current_session()
    if session is not None and not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise ForbiddenError("the form is out of date: load the page again, and repeat what you did")


def _given_token() -> str:
    if HEADER in request.headers or request.mimetype != _FORM:
        return request.headers.get(HEADER, "")
    request.max_content_length = _FORM_BYTES
    return request.form.get(FIELD, "")
