"""`/pypi/<project>/json` and `/pypi/<project>/<version>/json`: the legacy JSON API, which bandersnatch mirrors by."""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response, request

from elasticpypi.config import Permission
from elasticpypi.index import Index
from elasticpypi.names import normalize_name
from elasticpypi.web.mount import root_url
from elasticpypi.web.present import current_principal

_SERIAL = "X-PyPI-Last-Serial"  # bandersnatch refuses an answer without it


def legacy_json_pages(index: Index, url: str | None) -> Blueprint:
    """Return the routes; file URLs begin with `url`, else with the URL that the client has asked."""
    pages = Blueprint("legacy_json", __name__)

    @pages.get("/pypi/<name>/json")
    def project(name: str) -> Response:
        return _answer(index, name, None, url)

    @pages.get("/pypi/<name>/<version>/json")
    def release(name: str, version: str) -> Response:
        return _answer(index, name, version, url)

    return pages


def _answer(index: Index, name: str, version: str | None, url: str | None) -> Response:
    normalized = normalize_name(name)
    current_principal().require(Permission.READ, normalized)
    revision, body = index.legacy_json(normalized, version, root=root_url(request.environ, url))
    response = Response(body, mimetype="application/json")
    response.headers[_SERIAL] = str(revision)
    response.headers["Cache-Control"] = "private, max-age=0"
    response.headers["Vary"] = "Authorization, Cookie"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.set_etag(hashlib.sha256(body).hexdigest())
    response.make_conditional(request)
    return response
