"""`/audit`: who has done what, for administrators."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from elasticpypi.errors import InvalidNameError
from elasticpypi.index import Index
from elasticpypi.web.api_audit import find_events
from elasticpypi.web.people import as_sentence, render_page, show_errors
from elasticpypi.web.present import current_principal

_EVENTS = 100


def audit_page(index: Index) -> Blueprint:
    """Return the route."""
    pages = Blueprint("audit", __name__)
    show_errors(pages)

    @pages.get("/audit")
    def audit() -> Response:
        project, before = request.args.get("project", ""), request.args.get("before", "")
        values: dict[str, Any] = {"section": "audit", "project": project, "before": before}
        try:
            found = find_events(index, current_principal(), limit=_EVENTS)
        except InvalidNameError as error:
            problem = as_sentence(str(error))
            return render_page("audit.html", status=400, found=None, problem=problem, wrong="project", **values)
        return render_page("audit.html", found=found, problem="", wrong="", **values)

    return pages
