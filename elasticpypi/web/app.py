"""The application: the pages and routes over an index, behind basic authentication."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from elasticpypi.auth import Authenticator
from elasticpypi.index import Index
from elasticpypi.web.auth import BasicAuth
from elasticpypi.web.bodies import ReadToTheEnd
from elasticpypi.web.carried import CarriedAnswers
from elasticpypi.web.mount import WITHOUT_SLASH
from elasticpypi.web.observe import Observer
from elasticpypi.web.pages import Pages
from elasticpypi.web.rendered import RenderedPages
from elasticpypi.web.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Blueprint, Flask


def create_app(
    index: Index,
    authenticator: Authenticator,
    *,
    url: str | None = None,
    title: str | None = None,
    observer: Observer | None = None,
    metrics: Blueprint | None = None,
    finish_later: Callable[[Mapping[str, Any]], None] | None = None,
    keep_later: Callable[[Mapping[str, Any]], None] | None = None,
    largest_answer: int | None = None,
    at_once: bool = True,
) -> WSGIApplication:
    """Return the application. It works wherever it is mounted: no URL in it is absolute, but for the legacy JSON API.

    `url` is where clients find it, should that differ from what they ask (behind a proxy). `title` is what the
    pages for people bear. `observer` sees every request; `metrics` are routes that show numbers (web.metrics), apart
    because what they need is not everywhere.
    `finish_later` hands what takes longer than a request may to whoever calls `Index.finish_upload` with it; without
    it, everything is done within the request. `largest_answer` is how many bytes a gateway carries of an answer's body
    (see `web.carried`); a page that has more is redirected to, with absolute URLs in it. Behind such a gateway, an
    answer cannot be sent while it is made: `keep_later` then hands over files of upstreams that are to be copied here.
    Unless `at_once`, the routes are made when the first request needs them: pages do not, and Flask is a third of what
    a start takes.
    """
    pages = Pages(index, url=url, largest_answer=largest_answer)
    sessions = Sessions(authenticator, index, url=url)
    options = {"url": url, "title": title, "metrics": metrics, "finish_later": finish_later, "keep_later": keep_later}
    routes = _Routes(partial(_route, index, pages, authenticator, sessions, largest_answer=largest_answer, **options))
    if at_once:
        routes.get()
    served = _with_path(ReadToTheEnd(BasicAuth(RenderedPages(routes, pages), authenticator, sessions)))
    if largest_answer is not None:
        served = CarriedAnswers(served, largest_answer)
    return served if observer is None else observer.wrap(served)


def _route(*parts: Any, **options: Any) -> Flask:
    from elasticpypi.web.routes import route  # and with it Flask

    return route(*parts, **options)


class _Routes:
    """The routes, made once, by whoever needs them first."""

    def __init__(self, make: Callable[[], Flask]) -> None:
        self._make = make
        self._made: Flask | None = None
        self._making = threading.Lock()

    def get(self) -> Flask:
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = self._make()
        return self._made

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.get()(environ, start_response)


def _with_path(app: WSGIApplication) -> WSGIApplication:
    """Take the mount point without its slash for the one with it; Werkzeug would redirect, to an absolute URL."""

    def with_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO"):
            environ["PATH_INFO"] = environ[WITHOUT_SLASH] = "/"
        return app(environ, start_response)

    return with_path
