"""`/project/<name>/manage`: where administrators of a project yank, unyank and delete, and give it a status.

Each change takes two steps, without scripts: a page that says what exactly will happen, and the form on it.

Specifications: yanked files (PEP 592), project status (PEP 792).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, request

from elasticpypi.config import Permission
from elasticpypi.errors import InvalidRequestError, NotFoundError
from elasticpypi.index import Index
from elasticpypi.model import ListedFile, ProjectSnapshot, Rejection, Status
from elasticpypi.names import NormalizedName, same_version
from elasticpypi.presenting import describe_size
from elasticpypi.web.api import LONGEST_REASON
from elasticpypi.web.people import render_page, show_errors
from elasticpypi.web.present import current_principal, permitted_project

_RELEASES = 50  # on a page, unless all are asked for
_FILENAMES = 200  # named on a page that asks whether to go on
_DONE = {
    "yanked": "It is yanked: installers take it only where its exact version is asked for.",
    "unyanked": "It is not yanked any more.",
    "deleted": "It is deleted. The names of its files stay taken.",
    "status": "The project has another status now.",
}
_CHANGED = "Its files have changed since the page was loaded: look at the list again."


@dataclass(frozen=True, slots=True)
class _Release:
    """A release, and what can be decided about it."""

    version: str
    yanked: bool | str  # as a whole; else its files are, or are not, each for itself
    files: tuple[ListedFile, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """What somebody is about to do to files of a project, for which its page asks first."""

    verb: str  # "yank", "unyank" or "delete"
    project: NormalizedName
    target: str | None  # a version or a filename; None: all there is
    filenames: tuple[str, ...]  # that will be changed by it

    @property
    def digest(self) -> str:
        """What tells these files from those that somebody has not seen."""
        return hashlib.sha256("\n".join(self.filenames).encode()).hexdigest()

    def find_problem(self) -> str:
        """Return why the form that was sent is not enough; "" where it is."""
        if request.form.get("seen") != self.digest:
            return _CHANGED
        if self.target is None and request.form.get("typed", "").strip() != self.project:
            return f"Type the name of the project, {self.project}, to delete all there is of it."
        return ""


def manage_pages(index: Index) -> Blueprint:
    """Return the routes."""
    pages = Blueprint("manage", __name__, url_prefix="/project/<name>/manage")
    show_errors(pages)

    @pages.get("")
    def show(name: str) -> Response:
        return _show(index.snapshot(permitted_project(name, Permission.ADMIN)))

    @pages.route("/yank", methods=["GET", "POST"])
    def yank(name: str) -> Response:
        project = permitted_project(name, Permission.ADMIN)
        target = _target()
        change = _Change("yank", project, target, _filenames(_find(index.snapshot(project), target)))
        actor = current_principal().actor
        return _decide(change, lambda: index.yank(project, target, _reason() or "", by=actor), "yanked")

    @pages.route("/unyank", methods=["GET", "POST"])
    def unyank(name: str) -> Response:
        project = permitted_project(name, Permission.ADMIN)
        target = _target()
        found = [item for item in _find(index.snapshot(project), target) if item.yanked is not False]
        change = _Change("unyank", project, target, _filenames(found))
        actor = current_principal().actor
        return _decide(change, lambda: index.unyank(project, target, by=actor), "unyanked")

    @pages.route("/delete", methods=["GET", "POST"])
    def delete(name: str) -> Response:
        project = permitted_project(name, Permission.ADMIN)
        target = _target() or None
        change = _Change("delete", project, target, tuple(index.find_filenames(project, target)))
        actor = current_principal().actor
        return _decide(change, lambda: index.delete(project, target, by=actor), "deleted")

    @pages.route("/status", methods=["GET", "POST"])
    def set_status(name: str) -> Response:
        project = permitted_project(name, Permission.ADMIN)
        status = _status()
        if request.method != "POST":
            return _ask_status(index.snapshot(project), status)
        index.set_status(project, status, _reason(), by=current_principal().actor)
        return _back("status")

    return pages


def _show(project: ProjectSnapshot) -> Response:
    releases = _releases(project)
    shown = releases if "all" in request.args else releases[:_RELEASES]
    return render_page(
        "manage.html",
        section="projects",
        project=project.name,
        decided=project.decisions,
        statuses=[status for status in Status if status is not project.decisions.status],
        releases=shown,
        all_releases=len(releases),
        rejected=[entry for entry in project.entries if isinstance(entry.content, Rejection)],
        done=_DONE.get(request.args.get("done", ""), ""),
        describe_size=describe_size,
    )


def _releases(project: ProjectSnapshot) -> list[_Release]:
    """Return the releases, the newest first."""
    found: dict[str, list[ListedFile]] = {}
    for item in project.listing():
        found.setdefault(item.file.version, []).append(item)
    yanked = project.decisions.yanked
    return [_Release(version, _yanked(version, yanked), tuple(files)) for version, files in reversed(found.items())]


def _yanked(version: str, yanked: Mapping[str, str]) -> bool | str:
    return next((reason or True for name, reason in yanked.items() if same_version(name, version)), False)


def _find(project: ProjectSnapshot, target: str) -> list[ListedFile]:
    """Return the files that a filename or a version names; NotFoundError where there are none."""
    listing = project.listing()
    found = [item for item in listing if item.file.filename == target]
    found = found or [item for item in listing if same_version(item.file.version, target)]
    if not found:
        raise NotFoundError(f"the project {project.name!r} has no release and no file {target!r}")
    return found


def _filenames(files: Iterable[ListedFile]) -> tuple[str, ...]:
    return tuple(item.file.filename for item in files)


def _decide(change: _Change, act: Callable[[], object], done: str) -> Response:
    """Ask first; do what the answer to that says."""
    if request.method != "POST":
        return _ask(change)
    problem = change.find_problem()
    if problem:
        return _ask(change, status=409 if problem is _CHANGED else 400, problem=problem)
    act()
    return _back(done)


def _ask(change: _Change, *, status: int = 200, problem: str = "") -> Response:
    return render_page(
        "confirm.html",
        status=status,
        section="projects",
        verb=change.verb,
        project=change.project,
        target=change.target,
        filenames=change.filenames[:_FILENAMES],
        more=len(change.filenames[_FILENAMES:]),
        seen=change.digest,
        problem=problem,
        longest=LONGEST_REASON,
    )


def _ask_status(project: ProjectSnapshot, status: Status) -> Response:
    return render_page(
        "confirm.html",
        section="projects",
        verb="status",
        project=project.name,
        decided=project.decisions,
        wanted=status,
        problem="",
        longest=LONGEST_REASON,
    )


def _back(done: str) -> Response:
    """Send a browser back, so that loading the page again repeats nothing; relative, as every URL here."""
    return Response(status=303, headers={"Location": f"../manage?done={done}", "Cache-Control": "no-store"})


def _target() -> str:
    return request.values.get("target", "")


def _status() -> Status:
    given = request.values.get("status", "")
    if given not in list(Status):
        raise InvalidRequestError(f"'status' is {given[:20]!r}, not one of {', '.join(Status)}")
    return Status(given)


def _reason() -> str | None:
    reason = request.form.get("reason", "").strip()
    if len(reason) > LONGEST_REASON:
        raise InvalidRequestError(f"the reason has more than {LONGEST_REASON} characters")
    return reason or None
