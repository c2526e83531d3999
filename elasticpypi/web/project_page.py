"""What a project's page shows: of a release its files, README and core metadata, of the others when they came.

What files say of themselves may be hostile and endless: it stays text, and of lists only the beginning is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from packaging.version import Version

from elasticpypi import legacy_json
from elasticpypi.index import Index
from elasticpypi.legacy_json import Listed
from elasticpypi.model import ProjectSnapshot
from elasticpypi.names import NormalizedName
from elasticpypi.presenting import describe_kind, describe_size, project_links
from elasticpypi.readme import Readmes

MOST_RELEASES = 100  # that are listed, unless all are asked for
_MOST_OF_A_KIND = 100  # dependencies, classifiers
_MOST_TEXT = 300  # characters of what should be a line
_CUT = "…"


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of the release."""

    filename: str
    url: str
    kind: str
    requires_python: str
    size: str
    upload_time: datetime
    sha256: str
    yanked: bool | str  # without the reason where it is that of the whole release


@dataclass(frozen=True, slots=True)
class ShownRelease:
    """A release in the list of all."""

    version: str
    url: str
    time: datetime  # of its first file
    is_shown: bool
    is_prerelease: bool
    yanked: bool


def describe(
    index: Index,
    readmes: Readmes,
    project: ProjectSnapshot,
    releases: dict[str, list[Listed]],
    version: str | None,
    *,
    root: str,
    every: bool,
) -> dict[str, Any]:
    """Return the values for the template, of one of a project's releases (None: of the latest).

    `releases` are the files by version, as `legacy_json.group` has them; a project without any is shown, too. `root` is
    the absolute URL of the index. Unless `every`, only so many releases are listed.
    """
    latest = legacy_json.latest_version(releases)
    shown = latest if version is None else version
    files = [] if shown is None else releases[shown]
    info = _info(index, project, shown, files)
    base = "" if version is None else "../"
    return {
        "name": project.name,
        "version": shown,
        "base": base,
        "latest": None if shown == latest else latest,
        "latest_url": None if latest is None else _release_url(latest, base),
        "is_prerelease": shown is not None and Version(shown).is_prerelease,
        "decisions": project.decisions,
        "summary": _line(info["summary"]),
        "yanked": _yanked(info),
        "simple_url": shlex.quote(f"{root}simple/"),
        "installs": [] if shown is None else list(_installs(_requirement(project.name, shown, latest, info))),
        "readme": readmes.render(info["description"], info["description_content_type"]),
        "facts": list(_facts(info)),
        "links": [(_line(label), url) for label, url in project_links(info)],
        "lists": list(_lists(info)),
        "files": [_show_file(item, info) for item in files],
        "releases": _show_releases(releases, shown, base, every=every),
        "release_count": len(releases),
    }


def _info(index: Index, project: ProjectSnapshot, version: str | None, files: Sequence[Listed]) -> dict[str, Any]:
    described = legacy_json.find_described(files)
    body = None if described is None else index.description(legacy_json.find_key(project, described.file))
    return legacy_json.describe_release(project.name, version, files, body)


def _yanked(info: Mapping[str, Any]) -> bool | str:
    """Return whether a release is yanked as a whole, and why."""
    return bool(info["yanked"]) and (info["yanked_reason"] or True)


def _requirement(name: NormalizedName, version: str, latest: str | None, info: Mapping[str, Any]) -> str:
    """Return what installers call a release: by its version where they would choose another one, or none."""
    is_chosen = version == latest and not info["yanked"] and not Version(version).is_prerelease
    return shlex.quote(name if is_chosen else f"{name}=={version}")


def _installs(wanted: str) -> Iterator[tuple[str, str, str]]:
    """Yield tools, and what stands before and behind the URL of the simple index in commands that install from it."""
    yield "pip", "pip install --index-url ", f" {wanted}"
    yield "uv", "uv pip install --default-index ", f" {wanted}"
    yield "poetry", "poetry source add --priority explicit ours ", f" && poetry add --source ours {wanted}"


def _facts(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is said in a line each."""
    for label, values in (
        ("Requires Python", [info["requires_python"]]),
        ("License", [info.get("license_expression") or info["license"]]),
        ("Author", [info["author"], info["author_email"]]),
        ("Maintainer", [info["maintainer"], info["maintainer_email"]]),
        ("Keywords", [info["keywords"]]),
    ):
        text = _line(", ".join(value for value in values if value))
        if text:
            yield label, text


def _lists(info: Mapping[str, Any]) -> Iterator[tuple[str, list[str], int]]:
    """Yield what is said in lists: label, the first entries, and how many others there are."""
    for label, values in (("Dependencies", info["requires_dist"]), ("Classifiers", info["classifiers"])):
        if values:
            yield label, [_line(value) for value in values[:_MOST_OF_A_KIND]], max(len(values) - _MOST_OF_A_KIND, 0)


def _line(text: str | None) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join((text or "")[: 10 * _MOST_TEXT].split())
    return line if len(line) <= _MOST_TEXT else f"{line[:_MOST_TEXT]}{_CUT}"


def _show_file(item: Listed, info: Mapping[str, Any]) -> ShownFile:
    document, file = item.document, item.file
    yanked: bool | str = document["yanked"]
    is_told = yanked is not False and yanked == _yanked(info)
    return ShownFile(
        filename=file.filename,
        url=document["url"],
        kind=describe_kind(file.filename, file.kind),
        requires_python=_line(file.requires_python),
        size=describe_size(file.size),
        upload_time=file.upload_time,
        sha256=file.sha256,
        yanked=(_line(yanked) or True) if isinstance(yanked, str) and not is_told else yanked is not False,
    )


def _show_releases(
    releases: dict[str, list[Listed]], shown: str | None, base: str, *, every: bool
) -> list[ShownRelease]:
    """Return releases, the highest first."""
    versions = [*reversed(releases)]
    return [
        ShownRelease(
            version=version,
            url=_release_url(version, base),
            time=min(item.file.upload_time for item in releases[version]),
            is_shown=version == shown,
            is_prerelease=Version(version).is_prerelease,
            yanked=all(item.document["yanked"] is not False for item in releases[version]),
        )
        for version in (versions if every else versions[:MOST_RELEASES])
    ]


def _release_url(version: str, base: str) -> str:
    return f"{base}{quote(version, safe='')}/"
