"""`/assets/`: the style sheet and the scripts of the pages for people. Everybody gets them, to sign in with."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response, request

from elasticpypi.presenting import INDEX_ASSETS, read_asset
from elasticpypi.web.people import asset_digests

_A_YEAR = "public, max-age=31536000, immutable"
_A_WHILE = "public, max-age=300"


def page_assets() -> Blueprint:
    """Return the routes. Pages ask with the digest, under which the content never changes."""
    blueprint = Blueprint("assets", __name__)

    for name in INDEX_ASSETS:
        blueprint.add_url_rule(f"/assets/{name}", endpoint=name.replace(".", "_"), view_func=partial(_answer, name))
    return blueprint


def _answer(name: str) -> Response:
    digest = asset_digests()[name]
    response = Response(read_asset(name), content_type=INDEX_ASSETS[name])
    response.headers["Cache-Control"] = _A_YEAR if request.query_string == digest.encode() else _A_WHILE
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.set_etag(digest)
    response.make_conditional(request)
    return response
