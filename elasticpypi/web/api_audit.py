"""`/api/v1/audit`: who has done what, for administrators."""

from __future__ import annotations

from flask import Blueprint, Response, request

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.index import Excerpt, Index, Wanted, describe_event
from elasticpypi.names import normalize_name
from elasticpypi.web.present import answer_json, current_principal, read_number

_MOST_EVENTS = 1000  # in an answer
_EVENTS = 100


def audit_interface(index: Index) -> Blueprint:
    """Return the route."""
    api = Blueprint("api_audit", __name__)

    @api.get("/api/v1/audit")
    def audit() -> Response:
        found = find_events(index, current_principal(), limit=read_number("limit", _EVENTS, most=_MOST_EVENTS))
        return answer_json({"events": [describe_event(event) for event in found.events], "next": found.next})

    return api


def find_events(index: Index, principal: Principal, *, limit: int) -> Excerpt:
    """Return the events that the present request's query asks for, of those that an administrator may see.

    Who is limited to some projects sees what was done to these. ForbiddenError, InvalidRequestError, InvalidNameError.
    """
    principal.require(Permission.ADMIN)
    project, before = request.args.get("project"), request.args.get("before")
    wanted = Wanted(
        project=normalize_name(project) if project else None,
        is_visible=None if principal.sees_everything else lambda name: principal.may(Permission.ADMIN, name),
    )
    return index.audit.find(wanted, before=before or None, limit=limit)
