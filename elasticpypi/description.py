"""What is known of a project, for programs: the document of `/api/v1/projects/<project>` and `elasticpypi show --json`.

elasticpypi/web/openapi.json describes it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elasticpypi.model import ListedFile, Origin, ProjectSnapshot, Rejection, format_time


def describe_project(
    project: ProjectSnapshot, origins: Mapping[str, Origin], *, with_files: bool = True
) -> dict[str, Any]:
    """Return a project with its releases (in the order of their versions), rejected files and decisions.

    `origins` are what sources have said of imported files, by filename.
    """
    decided = project.decisions
    releases: dict[str, list[dict[str, Any]]] = {}
    for item in project.listing() if with_files else ():
        releases.setdefault(item.file.version, []).append(_describe_file(item, origins.get(item.file.filename)))
    return {
        "name": project.name,
        "serial": project.revision,
        "status": decided.status,
        "status-reason": decided.status_reason,
        "problem": decided.problem,
        "releases": [{"version": version, "files": files} for version, files in releases.items()],
        "rejected": [
            {"key": entry.key, "reason": entry.content.reason}
            for entry in project.entries
            if isinstance(entry.content, Rejection)
        ],
        "deleted": dict(decided.deleted),
    }


def _describe_file(item: ListedFile, origin: Origin | None) -> dict[str, Any]:
    file = item.file
    return {
        "filename": file.filename,
        "kind": file.kind,
        "size": file.size,
        "sha256": file.sha256,
        "upload-time": format_time(file.upload_time),
        "requires-python": file.requires_python,
        "yanked": item.yanked,
        "origin": None if origin is None or origin.sha256 != file.sha256 else _describe_origin(origin),
    }


def _describe_origin(origin: Origin) -> dict[str, Any]:
    time = origin.upload_time
    return {"source": origin.source, "upload-time": None if time is None else format_time(time)}
