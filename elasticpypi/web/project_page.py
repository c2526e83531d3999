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
from elasticpypi.presenting import describe_kind, describe_size, one_line, project_links
from elasticpypi.readme import Readmes

MOST_RELEASES = 100  # that are listed, unless all are asked for
_MOST_OF_A_KIND = 100  # dependencies, classifiers


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
    wanted = None if shown is None else requirement(project.name, shown, latest=latest, is_yanked=info["yanked"])
    base = "" if version is None else "../"
    return {
        "name": project.name,
        "version": shown,
        "base": base,
        "latest": None if shown == latest else latest,
        "latest_url": None if latest is None else _release_url(latest, base),
        "is_prerelease": shown is not None and Version(shown).is_prerelease,
        "decisions": project.decisions,
        "summary": one_line(info["summary"]),
        "yanked": _yanked(info),
        "simple_url": shlex.quote(f"{root}simple/"),
        "installs": [] if wanted is None else list(installs(wanted, from_here_alone=index.has_upstreams)),
        "readme": readmes.render(info["description"], info["description_content_type"]),
        "facts": list(_facts(info)),
        "links": [(one_line(label), url) for label, url in project_links(info)],
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


def requirement(name: NormalizedName, version: str, *, latest: str | None, is_yanked: bool) -> str:
    """Return what installers call a release: by its version where they would choose another one, or none."""
    is_chosen = version == latest and not is_yanked and not Version(version).is_prerelease
    return shlex.quote(name if is_chosen else f"{name}=={version}")


def installs(wanted: str, *, from_here_alone: bool) -> Iterator[tuple[str, str, str]]:
    """Yield tools, and what stands before and behind the URL of the simple index in commands that install from it.

    `from_here_alone`: this index has all names, and poetry is not to ask PyPI for what a project depends on.
    """
    priority = "primary" if from_here_alone else "explicit"
    yield "pip", "pip install --index-url ", f" {wanted}"
    yield "uv", "uv pip install --default-index ", f" {wanted}"
    yield "poetry", f"poetry source add --priority {priority} ours ", f" && poetry add --source ours {wanted}"


def _facts(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is said in a line each."""
    for label, values in (
        ("Requires Python", [info["requires_python"]]),
        ("License", [info.get("license_expression") or info["license"]]),
        ("Author", [info["author"], info["author_email"]]),
        ("Maintainer", [info["maintainer"], info["maintainer_email"]]),
        ("Keywords", [info["keywords"]]),
    ):
        text = one_line(", ".join(value for value in values if value))
        if text:
            yield label, text


def _lists(info: Mapping[str, Any]) -> Iterator[tuple[str, list[str], int]]:
    """Yield what is said in lists: label, the first entries, and how many others there are."""
    for label, values in (("Dependencies", info["requires_dist"]), ("Classifiers", info["classifiers"])):
        if values:
            yield label, [one_line(value) for value in values[:_MOST_OF_A_KIND]], max(len(values) - _MOST_OF_A_KIND, 0)


def _show_file(item: Listed, info: Mapping[str, Any]) -> ShownFile:
    document, file = item.document, item.file
    yanked: bool | str = document["yanked"]
    is_told = yanked is not False and yanked == _yanked(info)
    return ShownFile(
        filename=file.filename,
        url=document["url"],
        kind=describe_kind(file.filename, file.kind),
        requires_python=one_line(file.requires_python),
        size=describe_size(file.size),
        upload_time=file.upload_time,
        sha256=file.sha256,
        yanked=(one_line(yanked) or True) if isinstance(yanked, str) and not is_told else yanked is not False,
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
