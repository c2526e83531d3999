"""`/simple/`: the routes of the simple repository API.

Specifications: PEP 503 (redirect to the normalised name), PEP 691.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from elasticpypi.config import Permission
from elasticpypi.names import normalize_name
from elasticpypi.web.pages import Answer, Pages
from elasticpypi.web.present import current_principal


def simple_pages(pages: Pages) -> Blueprint:
    """Return the routes; most requests for a page never reach them (see `web.rendered`)."""
    blueprint = Blueprint("simple", __name__)

    @blueprint.get("/simple/")
    def root() -> Response:
        return _response(pages.root(current_principal(), request.environ))

    @blueprint.get("/simple/<name>/")
    def project(name: str) -> Response:
        normalized = normalize_name(name)
        if name == normalized:
            return _response(pages.project(normalized, current_principal(), request.environ))
        current_principal().require(Permission.READ, normalized)
        return redirect_within(f"../{normalized}/")

    @blueprint.get("/simple")
    def root_without_slash() -> Response:
        return redirect_within("simple/")

    @blueprint.get("/simple/<name>")
    def project_without_slash(name: str) -> Response:
        return redirect_within(f"{normalize_name(name)}/")

    return blueprint


def redirect_within(location: str, status: int = 301) -> Response:
    """Redirect by a relative URL, which holds under any prefix and behind any proxy."""
    response = Response(status=status, headers={"Location": location})
    response.headers["Cache-Control"] = "private, max-age=0"
    return response


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers=answer.headers)
