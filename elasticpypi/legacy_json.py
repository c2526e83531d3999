"""The legacy JSON API: a project, or one release of it, with its core metadata.

Specification: PyPI's documentation, "JSON API", and the core metadata specification. bandersnatch mirrors by it. Pure.
"""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from packaging.version import Version

from elasticpypi.errors import NotFoundError
from elasticpypi.model import File, ListedFile, ProjectSnapshot, Status, format_time
from elasticpypi.names import Kind, parse_version
from elasticpypi.simple import file_url

_PACKAGE_TYPES = {Kind.WHEEL: "bdist_wheel", Kind.SDIST: "sdist", Kind.EGG: "bdist_egg"}
# Key of `info` -> field of the core metadata, of those that stand there once.
_TEXTS = {
    "author": "Author",
    "author_email": "Author-email",
    "description_content_type": "Description-Content-Type",
    "download_url": "Download-URL",
    "home_page": "Home-page",
    "keywords": "Keywords",
    "license": "License",
    "license_expression": "License-Expression",
    "maintainer": "Maintainer",
    "maintainer_email": "Maintainer-email",
    "requires_python": "Requires-Python",
    "summary": "Summary",
}
# Likewise of those that may stand there several times.
_LISTS = {
    "dynamic": "Dynamic",
    "license_files": "License-File",
    "provides_extra": "Provides-Extra",
    "requires_dist": "Requires-Dist",
}


def render(
    project: ProjectSnapshot, asked: str | None, *, core_metadata: Callable[[str], bytes | None], root: str
) -> bytes:
    """Render the release that is `asked` for, or (None) the project: its latest release and all the files.

    The latest is the highest final version that is not yanked, else the highest one. `core_metadata` returns what is
    kept under a key. `root` is the absolute URL of the index, with its slash: clients of this API resolve no relative
    ones. Raise NotFoundError where there is no such release; a project without files has no latest one, and is shown.
    """
    listing = [] if project.decisions.status is Status.QUARANTINED else project.listing()
    version = _latest_version(listing) if asked is None else _find_version(listing, asked)
    if asked is not None and version is None:
        raise NotFoundError(f"the project {project.name!r} has no release {asked!r}")
    here = [item for item in listing if item.file.version == version]
    key = _described_by(project, here)
    document: dict[str, Any] = {
        "info": _info(project, version, None if key is None else core_metadata(key), here, root),
        "last_serial": project.revision,
        "urls": [_file(project, item, root) for item in here],
        "vulnerabilities": [],
    }
    if asked is None:
        releases: dict[str, list[dict[str, Any]]] = {}
        for item in listing:
            releases.setdefault(item.file.version, []).append(_file(project, item, root))
        document["releases"] = releases
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def _latest_version(listing: list[ListedFile]) -> str | None:
    versions = [item.file.version for item in listing]
    offered = [item.file.version for item in listing if item.yanked is False]
    final = [version for version in offered if not Version(version).is_prerelease]
    return max(final or offered or versions, key=Version, default=None)


def _find_version(listing: list[ListedFile], asked: str) -> str | None:
    """Return a version as it is listed, however it was spelled."""
    wanted = parse_version(asked)
    versions = dict.fromkeys(item.file.version for item in listing)
    return None if wanted is None else next((version for version in versions if Version(version) == wanted), None)


def _described_by(project: ProjectSnapshot, here: list[ListedFile]) -> str | None:
    """Return the key of the file whose core metadata describes a release: a wheel, else an sdist."""
    order = (Kind.WHEEL, Kind.SDIST)
    files = [item.file for item in here if item.file.kind in order]
    best = min(files, key=lambda file: order.index(file.kind), default=None)
    return next((entry.key for entry in project.entries if best is not None and entry.content is best), None)


def _info(
    project: ProjectSnapshot, version: str | None, core_metadata: bytes | None, here: list[ListedFile], root: str
) -> dict[str, Any]:
    message = _parse(core_metadata or b"")
    page = f"{root}simple/{project.name}/"
    reasons = {item.yanked for item in here if isinstance(item.yanked, str)}
    return {
        **{key: _text(message, name) for key, name in _TEXTS.items()},
        **{key: message.get_all(name) for key, name in _LISTS.items()},
        "bugtrack_url": None,
        "classifiers": message.get_all("Classifier") or [],
        "description": _description(message),
        "docs_url": None,
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "name": _text(message, "Name") or project.name,
        "package_url": page,
        "platform": ",".join(message.get_all("Platform") or []) or None,
        "project_url": page,
        "project_urls": _project_urls(message.get_all("Project-URL") or []),
        "release_url": page,
        "version": version or "",
        "yanked": bool(here) and all(item.yanked is not False for item in here),
        "yanked_reason": min(reasons, default=None),
    }


def _parse(core_metadata: bytes) -> email.message.Message[str, str]:
    # Only headers are parsed: email would read the description as a multipart message where a header says so.
    text = core_metadata.decode("utf-8", "replace")
    return email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)


def _text(message: email.message.Message[str, str], name: str) -> str | None:
    value = message.get(name)
    return None if value is None or value.strip() in ("", "UNKNOWN") else value.strip()


def _description(message: email.message.Message[str, str]) -> str:
    """Return the description: the body, or in old metadata a field whose lines are indented, with or without a bar."""
    body = message.get_payload()
    if isinstance(body, str) and body.strip():
        return body
    first, *others = message.get("Description", "").splitlines() or [""]
    return "\n".join([first, *(line.removeprefix("       |").removeprefix("        ") for line in others)])


def _project_urls(values: Iterable[str]) -> dict[str, str] | None:
    """Return label -> URL out of `label, URL`."""
    pairs = (value.partition(",") for value in values)
    return {label.strip(): url.strip() for label, _, url in pairs} or None


def _file(project: ProjectSnapshot, item: ListedFile, root: str) -> dict[str, Any]:
    file = item.file
    uploaded = format_time(file.upload_time)
    return {
        "comment_text": "",
        "digests": {"sha256": file.sha256},
        "downloads": -1,
        "filename": file.filename,
        "has_sig": False,
        "packagetype": _PACKAGE_TYPES[file.kind],
        "python_version": _python_version(file),
        "requires_python": file.requires_python,
        "size": file.size,
        "upload_time": uploaded.partition(".")[0],
        "upload_time_iso_8601": uploaded,
        "url": file_url(project.name, file.filename, base=root),
        "yanked": item.yanked is not False,
        "yanked_reason": item.yanked if isinstance(item.yanked, str) else None,
    }


def _python_version(file: File) -> str:
    """Return what a filename says of Python, "source" for an sdist."""
    match file.kind:
        case Kind.SDIST:
            return "source"
        case Kind.WHEEL:
            return file.filename.split("-")[-3]
        case Kind.EGG:
            return "".join(re.findall(r"-py(\d[\d.]*\d)", file.filename))
