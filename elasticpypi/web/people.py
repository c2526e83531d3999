"""The pages that people read, as they are sent: in one frame, with nothing in them that a browser would run.

Every URL in them is relative, and so holds under any prefix and behind any proxy. Specification: Content Security
Policy (CSP3).
"""

from __future__ import annotations

import hashlib
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import ElasticpypiError
from elasticpypi.presenting import INDEX_ASSETS, fit_for_xml, read_asset
from elasticpypi.simple import templates
from elasticpypi.web.auth import PRINCIPAL, is_browser
from elasticpypi.web.errors import answer_error, answer_http
from elasticpypi.web.mount import up_to_mount
from elasticpypi.web.present import csrf_token

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLE = "ELASTICPYPI_TITLE"  # in the application's configuration: what every page bears

# What each part of the site is called by templates (`section`), where it lies, how people call it, and who needs it.
_NAVIGATION = (
    ("projects", "", "Projects", Permission.READ),
    ("upload", "upload", "Upload", Permission.UPLOAD),
    ("audit", "audit", "Audit", Permission.ADMIN),
    ("account", "account", "Account", Permission.READ),
)
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src {connect}; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def render_page(template: str, *, status: int = 200, connect_to: str | None = None, **values: object) -> Response:
    """Render one of the templates of `templates/people/` for the present request.

    Besides `values` it has `up` (the relative way to the mount), `principal` (None where nobody has signed in), `csrf`
    ("" without a session) and `title`. `connect_to` is an origin to which the page's script may send, besides ours.
    """
    principal: Principal | None = request.environ.get(PRINCIPAL)
    text = templates().get_template(f"people/{template}").render(
        **{
            "up": up_to_mount(request.environ),
            "principal": principal,
            "csrf": csrf_token(),
            "title": current_app.config[TITLE],
            "assets": asset_digests(),
            "navigation": [] if principal is None else [
                (name, path, label) for name, path, label, permission in _NAVIGATION if principal.may(permission)
            ],
        }
        | values
    )  # fmt: skip
    response = Response(fit_for_xml(text), status, mimetype="text/html")
    connect = "'self'" if connect_to is None else f"'self' {connect_to}"
    response.headers["Content-Security-Policy"] = _POLICY.format(connect=connect)
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def show_errors(blueprint: Blueprint) -> None:
    """Let errors of a blueprint's routes be shown as pages, with the status and sentence that they have elsewhere."""
    blueprint.register_error_handler(ElasticpypiError, lambda error: error_page(answer_error(error, request.path)))
    blueprint.register_error_handler(HTTPException, lambda error: error_page(answer_http(error, request.path)))


def show_errors_in_browsers(blueprint: Blueprint) -> None:
    """Let errors of a blueprint's routes be shown as pages where a browser asks; programs are told in a sentence."""

    def show(answer: AnyResponse) -> AnyResponse:
        return error_page(answer) if is_browser(request.environ) else answer

    blueprint.register_error_handler(ElasticpypiError, lambda error: show(answer_error(error, request.path)))
    blueprint.register_error_handler(HTTPException, lambda error: show(answer_http(error, request.path)))


def as_sentence(text: str) -> str:
    """Return what programs are told as people write it: with a capital, unless a name begins it, and a full stop."""
    first = text.partition(" ")[0].rstrip(",:;.?!")
    begun = text[:1].upper() + text[1:] if first.isalpha() else text
    return begun if begun.endswith((".", "!", "?")) else f"{begun}."


def error_page(answer: AnyResponse) -> Response:
    """Return a page that says what an answer of one sentence does, with its status, and its headers besides."""
    sentence = as_sentence(answer.get_data(as_text=True).strip())
    phrase = HTTPStatus(answer.status_code).phrase
    page = render_page("error.html", status=answer.status_code, phrase=phrase, sentence=sentence)
    for name, value in answer.headers:
        if name.lower() not in ("content-type", "content-length", "cache-control", "x-content-type-options"):
            page.headers[name] = value
    return page


@cache
def asset_digests() -> Mapping[str, str]:
    """Return what tells one content of a style sheet or script from another, by name."""
    return {name: hashlib.sha256(read_asset(name)).hexdigest()[:16] for name in INDEX_ASSETS}
