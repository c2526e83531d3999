"""`/audit`: who has done what, for administrators."""

from __future__ import annotations

from flask import Blueprint, Response, request

from elasticpypi.index import Index
from elasticpypi.web.api_audit import find_events
from elasticpypi.web.people import render_page, show_errors
from elasticpypi.web.present import current_principal

_EVENTS = 100


def audit_page(index: Index) -> Blueprint:
    """Return the route."""
    pages = Blueprint("audit", __name__)
    show_errors(pages)

    @pages.get("/audit")
    def audit() -> Response:
        principal = current_principal()
        found = find_events(index, principal, limit=_EVENTS)
        project, before = request.args.get("project", ""), request.args.get("before", "")
        return render_page("audit.html", section="audit", found=found, project=project, before=before)

    return pages
