"""`/api/v1/projects/<name>/downloads`: how often files were downloaded."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response

from elasticpypi.config import Permission
from elasticpypi.index import DOWNLOADS_KEPT_DAYS, Index, describe_downloads
from elasticpypi.model import Status
from elasticpypi.names import normalize_name
from elasticpypi.web.present import answer_json, current_principal, read_number

_DAYS = 30


def download_counts(index: Index) -> Blueprint:
    """Return the route."""
    api = Blueprint("api_downloads", __name__)

    @api.get("/api/v1/projects/<name>/downloads")
    def downloads(name: str) -> Response:
        normalized, principal = normalize_name(name), current_principal()
        principal.require(Permission.READ, normalized)
        found = index.downloads.of(normalized, days=read_number("days", _DAYS, most=DOWNLOADS_KEPT_DAYS))
        is_quarantined = index.snapshot(normalized).decisions.status is Status.QUARANTINED
        if is_quarantined and not principal.may(Permission.ADMIN, normalized):
            found = replace(found, files={})  # which lists no files
        return answer_json(describe_downloads(found) | {"counting": index.downloads.is_on})

    return api
