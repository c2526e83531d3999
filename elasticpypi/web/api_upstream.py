"""`/api/v1/projects/<name>/upstream`: what clients get for a name, and why."""

from __future__ import annotations

from flask import Blueprint, Response

from elasticpypi.config import Permission
from elasticpypi.index import Index
from elasticpypi.web.present import answer_json, permitted_project, read_number

_LISTED = 100  # of each list, unless a client asks otherwise
_MOST_LISTED = 5000  # which is about as much as Lambda carries


def upstream_interface(index: Index) -> Blueprint:
    """Return the route."""
    api = Blueprint("api_upstream", __name__)

    @api.get("/api/v1/projects/<name>/upstream")
    def why(name: str) -> Response:
        normalized = permitted_project(name, Permission.READ)
        return answer_json(index.why(normalized, most=read_number("limit", _LISTED, most=_MOST_LISTED)))

    return api
