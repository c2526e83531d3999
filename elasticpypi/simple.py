"""The pages of the simple repository API: a project, or the root, as JSON and as its HTML projection.

Specifications: PEP 503 (HTML), 592 (yanked), 629 (version), 658 and 714 (core metadata), 691 (JSON), 700 (versions,
sizes, upload times), 792 (project status), 833 (HTML stays at 1.4). Keys with an underscore are no part of them:
`_last-serial` is what mirrors such as bandersnatch follow, as on PyPI. Pure: the same arguments give the same bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from elasticpypi.model import ListedFile, ProjectSnapshot, RootSnapshot, Status, format_time
from elasticpypi.names import NormalizedName

if TYPE_CHECKING:
    from jinja2 import Environment

API_VERSION = "1.4"

_UP_FROM_PROJECT = "../../"  # from a project's page to the index

# Raise it whenever other bytes come out of the same model: kept pages and clients' caches then are as good as gone.
RENDERER = 2


class Form(StrEnum):
    """The two forms of a page."""

    HTML = "html"
    JSON = "json"


def render_project(project: ProjectSnapshot, form: Form, *, base: str | None = None) -> Iterator[bytes]:
    """Render a project's page, in pieces; without its files, where the project is quarantined.

    Its URLs begin with `base`, the URL of the index with its slash; None: they are relative to `/simple/<project>/`.
    """
    quarantined = project.decisions.status is Status.QUARANTINED
    listing = [] if quarantined else project.listing()
    base = _UP_FROM_PROJECT if base is None else base
    files = (_file_document(project.name, item, base) for item in listing)
    document = _project_document(project, listing)
    return _json(document, "files", files) if form is Form.JSON else _html("project.html", document | {"files": files})


def render_root(root: RootSnapshot, form: Form, *, base: str | None = None) -> Iterator[bytes]:
    """Render the list of projects, in pieces; its URLs begin with `base` (None: they are relative to `/simple/`)."""
    projects = ({"_last-serial": project.serial, "name": project.name} for project in root.projects)
    document = {"meta": {"_last-serial": root.last_serial, "api-version": API_VERSION}}
    if form is Form.JSON:
        return _json(document, "projects", projects)
    return _html("root.html", document | {"projects": projects, "base": "" if base is None else f"{base}simple/"})


def file_url(project: NormalizedName, filename: str, *, base: str) -> str:
    """Return a file's URL; `base` is that of the index, with its slash."""
    return f"{base}packages/{project}/{quote(filename, safe='')}"


def _project_document(project: ProjectSnapshot, listing: list[ListedFile]) -> dict[str, Any]:
    decisions = project.decisions
    status: dict[str, str] = {"status": decisions.status}
    if decisions.status_reason is not None:
        status["reason"] = decisions.status_reason
    return {
        "meta": {"_last-serial": project.revision, "api-version": API_VERSION},
        "name": project.name,
        "project-status": status,
        "versions": list(dict.fromkeys(item.file.version for item in listing)),
    }


def _file_document(project: NormalizedName, item: ListedFile, base: str) -> dict[str, Any]:
    file = item.file
    document: dict[str, Any] = {
        "filename": file.filename,
        "url": file_url(project, file.filename, base=base),
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": format_time(file.upload_time),
        "yanked": item.yanked,
        "core-metadata": False if file.core_metadata_sha256 is None else {"sha256": file.core_metadata_sha256},
    }
    if file.requires_python is not None:
        document["requires-python"] = file.requires_python
    return document


# Pages are written piece by piece: all the objects of a page of 100,000 projects take many times what it has in bytes.
_ITEMS = 500


def _json(document: dict[str, Any], key: str, items: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Write a document, as its last key a long list."""
    yield f"{_dump(document)[:-1]},{json.dumps(key)}:[".encode()
    separator = ""
    while chunk := list(itertools.islice(items, _ITEMS)):
        yield f"{separator}{_dump(chunk)[1:-1]}".encode()
        separator = ","
    yield b"]}"


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _html(template: str, document: dict[str, Any]) -> Iterator[bytes]:
    stream = _templates().get_template(template).stream(document=document)
    stream.enable_buffering(_ITEMS)
    return (piece.encode() for piece in stream)


@cache
def _templates() -> Environment:
    # Imported with the first page in HTML: an indexer that renders nothing starts without it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("elasticpypi"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
