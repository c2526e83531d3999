"""`/feed.xml` and `/project/<name>/feed.xml`: releases as they come. Specification: Atom (RFC 4287).

A release comes with its first file. Nothing is kept of it: projects are read beginning with the one that changed last,
until no other one can have a release as new, or enough of them have been read.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from flask import Blueprint, Response, current_app, request

from elasticpypi import legacy_json
from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import NotFoundError
from elasticpypi.index import Index
from elasticpypi.model import format_time
from elasticpypi.names import NormalizedName, normalize_name
from elasticpypi.presenting import fit_for_xml
from elasticpypi.simple import Form, templates
from elasticpypi.web.mount import root_url
from elasticpypi.web.people import TITLE
from elasticpypi.web.present import current_principal
from elasticpypi.web.simple import redirect_within

MOST_RELEASES = 50
MOST_PROJECTS = 200  # that are read for one feed
_SCOPES = 16
_REMEMBERED = 1024  # projects
_IDS = uuid.UUID("0b6a4f0e-6c39-4f0a-9b53-0d5f7a0a7a55")  # of which the releases' identifiers are made
_NEVER = datetime.fromtimestamp(0, UTC)  # Atom wants one time of everything


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A release that came; the newest is the greatest."""

    time: datetime  # of its first file
    name: NormalizedName
    version: str

    @property
    def id(self) -> str:
        """What nothing else is called, here or anywhere."""
        return uuid.uuid5(_IDS, f"{self.name}/{self.version}").urn

    @property
    def path(self) -> str:
        """Where its page lies below the mount."""
        return f"project/{self.name}/{quote(self.version, safe='')}/"

    @property
    def updated(self) -> str:
        """The time as Atom writes it."""
        return format_time(self.time)


def feeds(index: Index, url: str | None) -> Blueprint:
    """Return the routes; URLs begin with `url`, else with the URL that the client has asked."""
    blueprint = Blueprint("feeds", __name__)
    newest = NewestReleases(index)

    @blueprint.get("/feed.xml")
    def of_all() -> Response:
        return _answer(newest.of_all(current_principal()), url)

    @blueprint.get("/project/<name>/feed.xml")
    def of_project(name: str) -> Response:
        normalized = normalize_name(name)
        current_principal().require(Permission.READ, normalized)
        if name != normalized:
            return redirect_within(f"../{normalized}/feed.xml")
        return _answer(newest.of_project(normalized), url, normalized)

    return blueprint


class NewestReleases:
    """Finds the newest releases, and remembers them until something changes; thread-safe."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[str, ...], tuple[int, tuple[Release, ...]]] = {}  # by scope; oldest first
        self._changing = threading.Lock()
        self._of_revision: Callable[[NormalizedName, int], tuple[Release, ...]] = lru_cache(_REMEMBERED)(self._read)

    def of_all(self, principal: Principal) -> Sequence[Release]:
        """Return the newest releases of all projects that a principal sees, the newest first."""
        principal.require(Permission.READ)
        revision = self._index.root_revision(Form.JSON)
        known = self._known.get(principal.scope)
        if known is not None and known[0] == revision:
            return known[1]
        found = self._find(principal)
        with self._changing:
            self._known.pop(principal.scope, None)
            self._known[principal.scope] = (revision, found)
            while len(self._known) > _SCOPES:
                del self._known[next(iter(self._known))]
        return found

    def of_project(self, name: NormalizedName) -> Sequence[Release]:
        """Return a project's newest releases, the newest first; raise NotFoundError for an unknown project."""
        return self._of_revision(name, self._index.project_revision(name))

    def _find(self, principal: Principal) -> tuple[Release, ...]:
        visible = (project for project in self._index.root().projects if principal.may(Permission.READ, project.name))
        newest: list[Release] = []  # a heap: the oldest first
        for project in heapq.nlargest(MOST_PROJECTS, visible, key=lambda project: project.serial):
            if len(newest) == MOST_RELEASES and _microseconds(newest[0]) > project.serial:
                break  # no release is newer than the last change of its project
            for release in self._releases(project.name, project.serial):
                heapq.heappush(newest, release)
                if len(newest) > MOST_RELEASES:
                    heapq.heappop(newest)
        return tuple(sorted(newest, reverse=True))

    def _releases(self, name: NormalizedName, revision: int) -> Sequence[Release]:
        try:
            return self._of_revision(name, revision)
        except NotFoundError:  # gone since the list was read
            return ()

    def _read(self, name: NormalizedName, _revision: int) -> tuple[Release, ...]:
        files = legacy_json.list_files(self._index.snapshot(name), root="")
        releases = [
            Release(min(item.file.upload_time for item in listed), name, version)
            for version, listed in legacy_json.group(files).items()
        ]
        return tuple(heapq.nlargest(MOST_RELEASES, releases))


def _microseconds(release: Release) -> int:
    return int(release.time.timestamp() * 1_000_000)


def _answer(releases: Sequence[Release], url: str | None, name: NormalizedName | None = None) -> Response:
    root = root_url(request.environ, url)
    about = "" if name is None else f"project/{name}/"
    text = templates().get_template("people/feed.xml").render(
        title=current_app.config[TITLE],
        name=name,
        root=root,
        page=f"{root}{about}",
        here=f"{root}{about}feed.xml",
        updated=releases[0].updated if releases else format_time(_NEVER),
        releases=releases,
    )  # fmt: skip
    body = fit_for_xml(text).encode()
    response = Response(body, content_type="application/atom+xml; charset=utf-8")
    response.headers["Cache-Control"] = "private, max-age=0"
    response.headers["Vary"] = "Authorization, Cookie"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.set_etag(hashlib.sha256(body).hexdigest())
    response.make_conditional(request)
    return response
