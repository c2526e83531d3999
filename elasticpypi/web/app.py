"""The application: the routes over an index, behind basic authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, request

from elasticpypi.auth import Authenticator
from elasticpypi.index import Index
from elasticpypi.web.auth import BasicAuth
from elasticpypi.web.bodies import ReadToTheEnd
from elasticpypi.web.errors import answer_errors
from elasticpypi.web.files import file_downloads
from elasticpypi.web.health import health_check
from elasticpypi.web.simple import redirect_within, simple_pages
from elasticpypi.web.upload import file_uploads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def create_app(index: Index, authenticator: Authenticator) -> WSGIApplication:
    """Return the application. It works wherever it is mounted: no URL in it is absolute."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    for blueprint in (simple_pages(index), file_downloads(index), file_uploads(index), health_check(index)):
        app.register_blueprint(blueprint)
    app.add_url_rule("/", "home", lambda: redirect_within(f"{request.script_root}/simple/", 302))
    answer_errors(app)
    return _with_path(ReadToTheEnd(BasicAuth(app, authenticator)))


def _with_path(app: WSGIApplication) -> WSGIApplication:
    """Take the mount point without its slash for the one with it; Werkzeug would redirect, to an absolute URL."""

    def with_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ.get("PATH_INFO") or "/"
        return app(environ, start_response)

    return with_path
