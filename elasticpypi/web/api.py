"""`/api/v1/`: the index for programs. elasticpypi/web/openapi.json describes it; uploads are in `web.api_uploads`."""

from __future__ import annotations

import itertools
from importlib import resources
from typing import Any

from flask import Blueprint, Response, request

import elasticpypi
from elasticpypi.config import Permission
from elasticpypi.errors import InvalidRequestError
from elasticpypi.index import Index
from elasticpypi.model import Status
from elasticpypi.names import normalize_name
from elasticpypi.web.present import answer_json, current_principal, permitted_project, read_json_object, read_number

VERSION = "1.0"
_MOST_PROJECTS = 1000  # in an answer
LONGEST_REASON = 2000  # characters


def program_interface(index: Index) -> Blueprint:
    """Return the routes that look at projects and decide about them."""
    api = Blueprint("api", __name__, url_prefix="/api/v1")
    description = resources.files("elasticpypi.web").joinpath("openapi.json").read_bytes()

    @api.get("/", strict_slashes=False)  # Werkzeug would redirect, to an absolute URL
    def about() -> Response:
        return answer_json({"api-version": VERSION, "elasticpypi": elasticpypi.__version__})

    @api.get("/openapi.json")
    def openapi() -> Response:
        response = Response(description, mimetype="application/json")
        response.headers["Cache-Control"] = "no-store"
        return response

    @api.get("/projects")
    def projects() -> Response:
        return answer_json(_list_projects(index))

    @api.get("/projects/<name>")
    def project(name: str) -> Response:
        return answer_json(index.describe(permitted_project(name, Permission.READ), in_quarantine=_is_admin(name)))

    @api.put("/projects/<name>/status")
    def set_status(name: str) -> Response:
        normalized = permitted_project(name, Permission.ADMIN)
        status, reason = _read_status()
        index.set_status(normalized, status, reason, by=current_principal().actor)
        return answer_json({"project": normalized, "status": status, "status-reason": reason})

    @api.put("/projects/<name>/yanked/<target>")
    def yank(name: str, target: str) -> Response:
        normalized = permitted_project(name, Permission.ADMIN)
        reason = _read_reason(read_json_object(), "reason") or ""
        filenames = index.yank(normalized, target, reason, by=current_principal().actor)
        return answer_json({"project": normalized, "filenames": filenames})

    @api.delete("/projects/<name>/yanked/<target>")
    def unyank(name: str, target: str) -> Response:
        normalized = permitted_project(name, Permission.ADMIN)
        filenames = index.unyank(normalized, target, by=current_principal().actor)
        return answer_json({"project": normalized, "filenames": filenames})

    @api.delete("/projects/<name>/files")
    def delete_all(name: str) -> Response:
        normalized = permitted_project(name, Permission.ADMIN)
        filenames = index.delete(normalized, by=current_principal().actor)
        return answer_json({"project": normalized, "filenames": filenames})

    @api.delete("/projects/<name>/files/<target>")
    def delete(name: str, target: str) -> Response:
        normalized = permitted_project(name, Permission.ADMIN)
        filenames = index.delete(normalized, target, by=current_principal().actor)
        return answer_json({"project": normalized, "filenames": filenames})

    return api


def _is_admin(name: str) -> bool:
    return current_principal().may(Permission.ADMIN, normalize_name(name))


def _list_projects(index: Index) -> dict[str, object]:
    """Return those projects that the principal may see, from one name on, and the name to go on after."""
    principal = current_principal()
    principal.require(Permission.READ)
    after = request.args.get("after", "")
    limit = read_number("limit", _MOST_PROJECTS, most=_MOST_PROJECTS)
    seen = (
        project
        for project in index.root().projects
        if project.name > after and principal.may(Permission.READ, project.name)
    )
    found = list(itertools.islice(seen, limit + 1))
    listed = [{"name": project.name, "serial": project.serial} for project in found[:limit]]
    return {"projects": listed, "next": listed[-1]["name"] if len(found) > limit else None}


def _read_status() -> tuple[Status, str | None]:
    document = read_json_object()
    status = document.get("status")
    if status not in list(Status):
        raise InvalidRequestError(f"'status' is {str(status)[:20]!r}, not one of {', '.join(Status)}")
    return Status(status), _read_reason(document, "reason")


def _read_reason(document: dict[str, Any], key: str) -> str | None:
    reason = document.get(key)
    if not isinstance(reason, str | None) or len(reason or "") > LONGEST_REASON:
        raise InvalidRequestError(f"{key!r} is not a string of at most {LONGEST_REASON} characters")
    return reason
