"""The application: the routes over an index, behind basic authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, request

from elasticpypi.auth import Authenticator
from elasticpypi.index import Index
from elasticpypi.web.api import program_interface
from elasticpypi.web.api_uploads import resumable_uploads
from elasticpypi.web.auth import BasicAuth
from elasticpypi.web.bodies import ReadToTheEnd
from elasticpypi.web.carried import CarriedAnswers
from elasticpypi.web.errors import answer_errors
from elasticpypi.web.files import file_downloads
from elasticpypi.web.health import health_check
from elasticpypi.web.legacy_json import legacy_json_pages
from elasticpypi.web.observe import Observer
from elasticpypi.web.pages import Pages
from elasticpypi.web.rendered import RenderedPages
from elasticpypi.web.simple import redirect_within, simple_pages
from elasticpypi.web.upload import file_uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_WITHOUT_SLASH = "elasticpypi.without-slash"  # in the environ: the mount point was asked for as a file would be


def create_app(
    index: Index,
    authenticator: Authenticator,
    *,
    url: str | None = None,
    observer: Observer | None = None,
    metrics: Blueprint | None = None,
    finish_later: Callable[[Mapping[str, Any]], None] | None = None,
    largest_answer: int | None = None,
) -> WSGIApplication:
    """Return the application. It works wherever it is mounted: no URL in it is absolute, but for the legacy JSON API.

    `url` is where clients find it, should that differ from what they ask (behind a proxy). `observer` sees every
    request; `metrics` are routes that show numbers (web.metrics), apart because what they need is not everywhere.
    `finish_later` hands what takes longer than a request may to whoever calls `Index.finish_upload` with it; without
    it, everything is done within the request. `largest_answer` is how many bytes a gateway carries of an answer's body
    (see `web.carried`); a page that has more is redirected to, with absolute URLs in it.
    """
    pages = Pages(index, url=url, largest_answer=largest_answer)
    app = route(index, pages, url=url, metrics=metrics, finish_later=finish_later)
    served = _with_path(ReadToTheEnd(BasicAuth(RenderedPages(app, pages), authenticator)))
    if largest_answer is not None:
        served = CarriedAnswers(served, largest_answer)
    return served if observer is None else observer.wrap(served)


def route(
    index: Index,
    pages: Pages,
    *,
    url: str | None = None,
    metrics: Blueprint | None = None,
    finish_later: Callable[[Mapping[str, Any]], None] | None = None,
) -> Flask:
    """Return the routes alone."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    for blueprint in (
        simple_pages(pages),
        file_downloads(index),
        file_uploads(index),
        program_interface(index),
        resumable_uploads(index, finish_later),
        legacy_json_pages(index, url),
        health_check(index),
        *(() if metrics is None else (metrics,)),
    ):
        app.register_blueprint(blueprint)
    app.add_url_rule("/", "home", _redirect_home)
    answer_errors(app)
    return app


def _redirect_home() -> Response:
    # A proxy may have taken a prefix away of which we know nothing, so that the way there can only be relative.
    mount = request.script_root.rpartition("/")[2]
    return redirect_within(f"{mount}/simple/" if mount and _WITHOUT_SLASH in request.environ else "simple/", 302)


def _with_path(app: WSGIApplication) -> WSGIApplication:
    """Take the mount point without its slash for the one with it; Werkzeug would redirect, to an absolute URL."""

    def with_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO"):
            environ["PATH_INFO"] = environ[_WITHOUT_SLASH] = "/"
        return app(environ, start_response)

    return with_path
