"""`/login` and `/logout`: where people sign in with a browser, and out.

A form that another site fills in and sends could sign somebody in as somebody else. So it has to bring along what a
cookie says that came with the page: another site can neither read nor set that.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import unquote, urlsplit

from flask import Blueprint, Response, request
from werkzeug.http import dump_cookie

from elasticpypi.auth import Authenticator
from elasticpypi.errors import ForbiddenError, TooManyAttemptsError, UnavailableError
from elasticpypi.web.auth import FAILED, SESSION
from elasticpypi.web.csrf import FIELD
from elasticpypi.web.errors import answer_error
from elasticpypi.web.mount import is_secure, up_to_mount
from elasticpypi.web.people import as_sentence, render_page, show_errors
from elasticpypi.web.sessions import Sessions, read_cookie

# Which check by themselves where a request comes from: before somebody has signed in, there is no session.
ENDPOINTS = frozenset({"sign_in.sign_in"})
_COOKIE = "elasticpypi-form"
_FORM_BYTES = 16 * 1024
_LONGEST_NEXT = 2000
_WRONG = "The username or the password is wrong, or the token has been revoked or has expired."
_OLD_FORM = "The form is out of date, or your browser takes no cookies: try again."


def sign_in_pages(authenticator: Authenticator, sessions: Sessions, url: str | None) -> Blueprint:
    """Return the routes; `url` is where browsers find the index, if that is configured."""
    pages = Blueprint("sign_in", __name__)
    show_errors(pages)

    @pages.get("/login")
    def form() -> Response:
        if sessions.find(request.environ) is not None:  # whoever has signed in comes here by an old link
            return _redirect(_next(request.args.get("next", "")))
        return _form(url, request.args.get("next", ""))

    @pages.post("/login")
    def sign_in() -> Response:
        request.max_content_length = _FORM_BYTES
        given = request.form
        kept = read_cookie(request.environ, _COOKIE)
        if kept is None or not hmac.compare_digest(kept.encode(), given.get(FIELD, "").encode()):
            return _form(url, given.get("next", ""), status=403, problem=_OLD_FORM)
        username, password = given.get("username", ""), given.get("password", "")
        try:
            principal = authenticator.sign_in(username, password, request.environ.get("REMOTE_ADDR", ""))
        except (TooManyAttemptsError, UnavailableError) as error:
            if isinstance(error, TooManyAttemptsError):
                request.environ[FAILED] = username if authenticator.is_known(username) else ""
            answer = answer_error(error, request.path)
            page = _form(url, given.get("next", ""), status=answer.status_code, problem=as_sentence(str(error)))
            page.headers["Retry-After"] = answer.headers["Retry-After"]
            return page
        if principal is None:
            request.environ[FAILED] = username if authenticator.is_known(username) else ""
            return _form(url, given.get("next", ""), status=401, problem=_WRONG, username=username)
        response = _redirect(_next(given.get("next", "")))
        response.headers["Set-Cookie"] = sessions.begin(principal, request.environ)
        return response

    @pages.post("/logout")
    def sign_out() -> Response:
        if SESSION not in request.environ:
            raise ForbiddenError("there is no session to end: a program sends its credentials each time")
        response = _redirect("login")
        response.headers["Set-Cookie"] = sessions.end(request.environ)
        response.headers["Clear-Site-Data"] = '"cache"'  # what others who use this browser are not to see
        return response

    return pages


def _form(url: str | None, following: str, *, status: int = 200, problem: str = "", username: str = "") -> Response:
    """Return the form, and the cookie that belongs to it; one that is there stays, lest another tab be out of date."""
    secret = read_cookie(request.environ, _COOKIE) or secrets.token_urlsafe(16)
    page = render_page(
        "sign_in.html", status=status, form=secret, following=following, problem=problem, username=username
    )
    page.headers["Set-Cookie"] = dump_cookie(
        _COOKIE,
        secret,
        path=None,  # as for a session
        secure=is_secure(request.environ, url),
        httponly=True,
        samesite="Lax",
    )
    return page


def _next(given: str) -> str:
    """Return where somebody wanted to go, below the mount point; "" for what leads elsewhere."""
    try:
        parts = urlsplit(given)
    except ValueError:
        return ""
    path = unquote(parts.path)  # as browsers read it, for whom "%2e" is a dot, too
    leads_elsewhere = parts.scheme or parts.netloc or path.startswith(("/", "\\")) or "\\" in path
    if leads_elsewhere or not given.isprintable() or len(given) > _LONGEST_NEXT or ".." in path.split("/"):
        return ""
    return given


def _redirect(following: str) -> Response:
    # "./" keeps what follows from being read as a scheme or a host.
    location = f"{up_to_mount(request.environ)}./{following}"
    return Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})
