"""The pages of the simple repository API: a project, or the root, as JSON and as its HTML projection.

Specifications: PEP 503 (HTML), 592 (yanked), 629 (version), 658 and 714 (core metadata), 691 (JSON), 700 (versions,
sizes, upload times), 792 (project status), 833 (HTML stays at 1.4). Pure: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from elasticpypi.model import ListedFile, ProjectSnapshot, Status, format_time
from elasticpypi.names import NormalizedName

API_VERSION = "1.4"

# Raise it whenever other bytes come out of the same model: kept pages and clients' caches then are as good as gone.
RENDERER = 1


class Form(StrEnum):
    """The two forms of a page."""

    HTML = "html"
    JSON = "json"


def render_project(project: ProjectSnapshot, form: Form) -> bytes:
    """Render a project's page, whose URLs are relative to `/simple/<project>/`; a quarantined one lists no files."""
    quarantined = project.decisions.status is Status.QUARANTINED
    listing = [] if quarantined else project.listing()
    document = _project_document(project, listing)
    return _json(document) if form is Form.JSON else _html("project.html", document)


def render_root(names: Iterable[NormalizedName], form: Form) -> bytes:
    """Render the list of projects; the URLs in it are relative to `/simple/`."""
    document = {"meta": {"api-version": API_VERSION}, "projects": [{"name": name} for name in names]}
    return _json(document) if form is Form.JSON else _html("root.html", document)


def file_url(project: NormalizedName, filename: str) -> str:
    """Return a file's URL relative to the page of its project."""
    return f"../../packages/{project}/{quote(filename, safe='')}"


def _project_document(project: ProjectSnapshot, listing: list[ListedFile]) -> dict[str, Any]:
    decisions = project.decisions
    status: dict[str, str] = {"status": decisions.status}
    if decisions.status_reason is not None:
        status["reason"] = decisions.status_reason
    return {
        "meta": {"api-version": API_VERSION},
        "name": project.name,
        "project-status": status,
        "versions": list(dict.fromkeys(item.file.version for item in listing)),
        "files": [_file_document(project.name, item) for item in listing],
    }


def _file_document(project: NormalizedName, item: ListedFile) -> dict[str, Any]:
    file = item.file
    document: dict[str, Any] = {
        "filename": file.filename,
        "url": file_url(project, file.filename),
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": format_time(file.upload_time),
        "yanked": item.yanked,
        "core-metadata": False if file.core_metadata_sha256 is None else {"sha256": file.core_metadata_sha256},
    }
    if file.requires_python is not None:
        document["requires-python"] = file.requires_python
    return document


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _html(template: str, document: dict[str, Any]) -> bytes:
    return _templates.get_template(template).render(document=document).encode()


_templates = Environment(
    loader=PackageLoader("elasticpypi"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
