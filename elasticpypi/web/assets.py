"""`/assets/`: the style sheet and the script of the pages for people. Everybody gets them, to sign in with."""

from __future__ import annotations

from flask import Blueprint, Response, request

from elasticpypi.presenting import INDEX_ASSETS, read_asset
from elasticpypi.web.people import asset_digests

_A_YEAR = "public, max-age=31536000, immutable"
_A_WHILE = "public, max-age=300"


def page_assets() -> Blueprint:
    """Return the routes. Pages ask with the digest, under which the content never changes."""
    blueprint = Blueprint("assets", __name__)

    @blueprint.get("/assets/site.css")
    def style() -> Response:
        return _answer("site.css")

    @blueprint.get("/assets/site.js")
    def script() -> Response:
        return _answer("site.js")

    @blueprint.get("/assets/upload.js")
    def upload_script() -> Response:
        return _answer("upload.js")

    return blueprint


def _answer(name: str) -> Response:
    digest = asset_digests()[name]
    response = Response(read_asset(name), content_type=INDEX_ASSETS[name])
    response.headers["Cache-Control"] = _A_YEAR if request.query_string == digest.encode() else _A_WHILE
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.set_etag(digest)
    response.make_conditional(request)
    return response
