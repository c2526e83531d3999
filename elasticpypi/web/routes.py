"""All routes, put together as a Flask application; `web.app` says what stands before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException

from elasticpypi.errors import ElasticpypiError
from elasticpypi.index import Index
from elasticpypi.web.api import program_interface
from elasticpypi.web.api_uploads import resumable_uploads
from elasticpypi.web.errors import answer_error, answer_http
from elasticpypi.web.files import file_downloads
from elasticpypi.web.health import health_check
from elasticpypi.web.legacy_json import legacy_json_pages
from elasticpypi.web.mount import WITHOUT_SLASH
from elasticpypi.web.pages import Pages
from elasticpypi.web.simple import redirect_within, simple_pages
from elasticpypi.web.upload import file_uploads


def route(
    index: Index,
    pages: Pages,
    *,
    url: str | None = None,
    metrics: Blueprint | None = None,
    finish_later: Callable[[Mapping[str, Any]], None] | None = None,
) -> Flask:
    """Return the routes alone."""
    app = Flask("elasticpypi.web", static_folder=None)
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
    app.register_error_handler(ElasticpypiError, lambda error: answer_error(error, request.path))
    app.register_error_handler(HTTPException, lambda error: answer_http(error, request.path))
    return app


def _redirect_home() -> Response:
    # A proxy may have taken a prefix away of which we know nothing, so that the way there can only be relative.
    mount = request.script_root.rpartition("/")[2]
    return redirect_within(f"{mount}/simple/" if mount and WITHOUT_SLASH in request.environ else "simple/", 302)
