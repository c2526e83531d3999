"""The page of a name that is not ours: what the upstream has that answers for it, and what of that is held back.

What upstreams say may be hostile and endless: it stays text, and of lists only the beginning is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Response, request
from packaging.version import Version

from elasticpypi import legacy_json
from elasticpypi.index import Asked, Elsewhere, Index, Listing, NotOurs, UpstreamFile
from elasticpypi.names import parse_filename
from elasticpypi.presenting import describe_kind, describe_size, one_line
from elasticpypi.web.errors import RETRY_AFTER_SECONDS
from elasticpypi.web.mount import root_url, up_to_mount
from elasticpypi.web.people import render_page
from elasticpypi.web.project_page import installs, requirement

_MOST_ROWS = 100  # of each list
_LONGEST_URL = 2000  # characters


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file that clients may get."""

    filename: str
    url: str | None  # None: it is too long for a page
    kind: str
    requires_python: str
    size: str
    upload_time: datetime | None
    sha256: str  # "": the page does not say
    yanked: bool | str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class ShownRelease:
    """A release of which clients may get files."""

    version: str
    count: int  # of these files
    time: datetime | None  # of the first of them
    is_prerelease: bool
    yanked: bool


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file as `legacy_json` looks at it, to find the latest release."""

    file: UpstreamFile
    requires_dist: None = None

    @property
    def version(self) -> str:
        return self.file.version

    @property
    def document(self) -> Mapping[str, Any]:
        return {"yanked": self.file.yanked}


def show_upstream(index: Index, name: NotOurs, url: str | None) -> Response:
    """Return the page; where nobody has the project, or an upstream does not say, one that tells who was asked.

    Commands to copy begin with `url`, else with the URL that the client has asked.
    """
    own_pattern = index.upstreams.own_pattern(name)
    asked = [] if own_pattern is not None else list(index.upstreams.explain(name))
    found = asked[-1].found if asked else None
    if found is None:
        return _show_nothing(name, own_pattern, asked)
    values = _describe_elsewhere(name, found) if isinstance(found, Elsewhere) else _describe_listing(found)
    return render_page(
        "upstream.html",
        name=name,
        upstream=found.upstream,
        their_url=f"{found.upstream.url}{name}/",
        simple_url=shlex.quote(f"{root_url(request.environ, url)}simple/"),
        has_url=url is not None,
        **values,
    )


def _show_nothing(name: NotOurs, own_pattern: str | None, asked: Sequence[Asked]) -> Response:
    """Return the page of a name for which clients get nothing, with the status that they get."""
    is_failing = any(each.fails for each in asked)
    status = HTTPStatus.SERVICE_UNAVAILABLE if is_failing else HTTPStatus.NOT_FOUND
    page = render_page(
        "nowhere.html",
        status=status,
        phrase=status.phrase,
        name=name,
        own_pattern=own_pattern,
        asked=[(each.upstream.name, one_line(each.outcome)) for each in asked],
        is_failing=is_failing,
    )
    if is_failing:
        page.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return page


def _describe_elsewhere(name: NotOurs, found: Elsewhere) -> dict[str, Any]:
    return {
        "sent_to": found.url,
        "listing": None,
        "version": None,
        "installs": list(installs(name, from_here_alone=True)),
    }


def _describe_listing(listing: Listing) -> dict[str, Any]:
    releases = legacy_json.group(_Listed(file) for file in listing.shown)
    version = legacy_json.latest_version(releases)
    files = [] if version is None else [listed.file for listed in releases[version]]
    base = up_to_mount(request.environ)
    return {
        "sent_to": None,
        "listing": listing,
        "stale": None if listing.stale is None else one_line(listing.stale),
        "checked": datetime.fromtimestamp(listing.checked, UTC) if listing.checked else None,
        "status_reason": one_line(listing.page.status_reason),
        "version": version,
        "installs": []
        if version is None
        else list(installs(_requirement(listing, version, files), from_here_alone=True)),
        "files": [_show_file(listing, file, base) for file in files[:_MOST_ROWS]],
        "file_count": len(files),
        "releases": [_show_release(each, releases[each]) for each in [*reversed(releases)][:_MOST_ROWS]],
        "release_count": len(releases),
        "held_back": [replace(held, reason=one_line(held.reason)) for held in listing.newest_held_back[:_MOST_ROWS]],
        "left_out": [(one_line(key), one_line(why)) for key, why in list(listing.page.left_out.items())[:_MOST_ROWS]],
    }


def _requirement(listing: Listing, version: str, files: Sequence[UpstreamFile]) -> str:
    is_yanked = all(file.yanked is not False for file in files)
    return requirement(listing.name, version, latest=version, is_yanked=is_yanked)


def _show_file(listing: Listing, file: UpstreamFile, base: str) -> ShownFile:
    url = listing.url_of(file, base=base)
    return ShownFile(
        filename=file.filename,
        url=url if len(url) <= _LONGEST_URL else None,
        kind=describe_kind(file.filename, parse_filename(file.filename).kind),
        requires_python=one_line(file.requires_python),
        size=describe_size(file.size),
        upload_time=file.upload_time,
        sha256=one_line(file.sha256),
        yanked=(one_line(file.yanked) or True) if isinstance(file.yanked, str) else file.yanked,
        is_kept=listing.keeps(file),
    )


def _show_release(version: str, files: Sequence[_Listed]) -> ShownRelease:
    times = [listed.file.upload_time for listed in files if listed.file.upload_time is not None]
    return ShownRelease(
        version=version,
        count=len(files),
        time=min(times, default=None),
        is_prerelease=Version(version).is_prerelease,
        yanked=all(listed.file.yanked is not False for listed in files),
    )
