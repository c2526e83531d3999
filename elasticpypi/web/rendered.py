"""Simple pages before Flask is asked, whose routing and response cost four times as much as the rest of a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from elasticpypi.errors import ElasticpypiError
from elasticpypi.names import NormalizedName, is_normalized_name
from elasticpypi.web.auth import PRINCIPAL
from elasticpypi.web.pages import Answer, Pages

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ROOT = "/simple/"


class RenderedPages:
    """Answers what asks for a simple page by its own name, and hands everything else on: errors and redirects too."""

    def __init__(self, app: WSGIApplication, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        answer = self._find(environ) if method in ("GET", "HEAD") else None
        if answer is None:
            return self._app(environ, start_response)
        start_response(answer.status, answer.headers)
        return [] if method == "HEAD" else [answer.body]  # granian sends a list in one go, anything else in pieces

    def _find(self, environ: WSGIEnvironment) -> Answer | None:
        path: str = environ["PATH_INFO"]
        principal = environ[PRINCIPAL]
        if principal is None or not (path.startswith(_ROOT) and path.endswith("/")):
            return None
        name = path[len(_ROOT) : -1]
        try:
            if path == _ROOT:
                return self._pages.root(principal, environ)
            return self._pages.project(NormalizedName(name), principal, environ) if is_normalized_name(name) else None
        except (ElasticpypiError, HTTPException):
            return None  # answered there, in words
