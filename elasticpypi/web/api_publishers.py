"""`/api/v1/publishers`: who publishes without a secret of ours; for administrators of the whole index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import ForbiddenError, InvalidRequestError
from elasticpypi.index import Index, Provider, Publisher, describe_publisher, make_publisher
from elasticpypi.web.present import answer_json, current_principal, read_json_object

_TEXTS = ("repository", "workflow", "environment", "owner-id", "issuer")


def publisher_interface(index: Index) -> Blueprint:
    """Return the routes."""
    api = Blueprint("api_publishers", __name__, url_prefix="/api/v1/publishers")

    @api.get("")
    def publishers() -> Response:
        _administrator()
        found = index.publishers.registered()
        described = [describe_publisher(publisher) for publisher in found.publishers.values()]
        return answer_json({"audience": found.audience, "publishers": described})

    @api.post("")
    def add() -> Response:
        principal = _administrator()
        if principal.token is not None:
            raise ForbiddenError("a token can register no publisher, by which it would live on: use a password")
        publisher = index.publishers.add(_read_publisher(read_json_object()), by=principal.actor)
        return answer_json(describe_publisher(publisher), 201)

    @api.delete("/<publisher_id>")
    def remove(publisher_id: str) -> Response:
        principal = _administrator()
        return answer_json(describe_publisher(index.publishers.remove(publisher_id, by=principal.actor)))

    return api


def _administrator() -> Principal:
    """Return who asks, an administrator whose patterns hide no project; ForbiddenError."""
    principal = current_principal()
    principal.require(Permission.ADMIN)
    if not principal.sees_everything:
        raise ForbiddenError("publishers are the business of administrators of all projects")
    return principal


def _read_publisher(document: Mapping[str, Any]) -> Publisher:
    provider = document.get("provider")
    if provider not in list(Provider):
        raise InvalidRequestError(f"'provider' is {str(provider)[:20]!r}, not one of {', '.join(Provider)}")
    texts = {name: _read_text(document, name) for name in _TEXTS}
    projects = document.get("projects")
    if not isinstance(projects, list):
        raise InvalidRequestError("'projects' is not a list of patterns")
    return make_publisher(
        Provider(provider),
        repository=texts["repository"] or "",
        workflow=texts["workflow"] or "",
        environment=texts["environment"],
        owner_id=texts["owner-id"],
        issuer=texts["issuer"],
        projects=projects,
    )


def _read_text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if not isinstance(value, str | None):
        raise InvalidRequestError(f"{name!r} is not a string")
    return value
