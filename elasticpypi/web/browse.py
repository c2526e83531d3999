"""The pages on which people look around: the list of projects, what a search finds, a project and its releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from flask import Blueprint, Response, request

from elasticpypi import legacy_json
from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import InvalidNameError, NotFoundError
from elasticpypi.index import Index, NotOurs
from elasticpypi.names import NormalizedName, normalize_name
from elasticpypi.readme import Readmes
from elasticpypi.web import project_page
from elasticpypi.web.mount import WITHOUT_SLASH, root_url, up_to_mount
from elasticpypi.web.people import render_page, show_errors
from elasticpypi.web.present import current_principal
from elasticpypi.web.searching import VisibleNames
from elasticpypi.web.simple import redirect_within
from elasticpypi.web.upstream_page import show_upstream

PER_PAGE = 100  # projects


def browsing(index: Index, url: str | None) -> Blueprint:
    """Return the routes; commands to copy begin with `url`, else with the URL that the client has asked."""
    blueprint = Blueprint("browse", __name__)
    show_errors(blueprint)
    names = VisibleNames(index)
    readmes = Readmes()

    @blueprint.get("/")
    def home() -> Response:
        if WITHOUT_SLASH in request.environ:
            return redirect_within(up_to_mount(request.environ) or "./", 302)
        return _list(names, current_principal())

    @blueprint.get("/search")
    def search() -> Response:
        query = request.args.get("q", "")
        if not query.strip():
            return _list(names, current_principal())
        return _search(index, names, query)

    @blueprint.get("/project/<name>/")
    def project(name: str) -> Response:
        return _show(index, readmes, name, None, url)

    @blueprint.get("/project/<name>/<version>/")
    def release(name: str, version: str) -> Response:
        return _show(index, readmes, name, version, url)

    _without_slashes(blueprint)
    return blueprint


def _without_slashes(blueprint: Blueprint) -> None:
    """Redirect to the page from what somebody has typed; Werkzeug would, too, but to an absolute URL."""

    @blueprint.get("/project")
    def no_project_without_slash() -> Response:
        return redirect_within("./", 302)

    @blueprint.get("/project/")
    def no_project() -> Response:
        return redirect_within("../", 302)

    @blueprint.get("/project/<name>")
    def project_without_slash(name: str) -> Response:
        return redirect_within(f"{normalize_name(name)}/")

    @blueprint.get("/project/<name>/<version>")
    def release_without_slash(name: str, version: str) -> Response:  # noqa: ARG001  # stays as it is in the URL
        return redirect_within(f"{quote(version, safe='')}/")


def _list(names: VisibleNames, principal: Principal) -> Response:
    """Show one page of all projects, by name."""
    every = names.of(principal).all
    pages = max(-(-len(every) // PER_PAGE), 1)
    page = min(max(request.args.get("page", 1, type=int), 1), pages)
    shown = every[(page - 1) * PER_PAGE : page * PER_PAGE]
    return render_page("projects.html", query="", names=shown, count=len(every), page=page, pages=pages, elsewhere=None)


def _search(index: Index, names: VisibleNames, query: str) -> Response:
    """Show what a search has found."""
    found = names.of(current_principal()).search(query)
    return render_page(
        "projects.html",
        query=query,
        names=found.names,
        count=found.count,
        page=1,
        pages=1,
        elsewhere=None if found.names else _find_name(index, query),
    )


def _find_name(index: Index, query: str) -> NormalizedName | None:
    """Return the name that was searched for; None where it is none, or no upstream is to be asked for it."""
    try:
        name = normalize_name(query.strip())
    except InvalidNameError:
        return None
    may_be_there = index.has_upstreams and index.upstreams.own_pattern(name) is None
    return name if may_be_there and current_principal().may(Permission.READ, name) else None


def _show(index: Index, readmes: Readmes, asked_name: str, asked_version: str | None, url: str | None) -> Response:
    """Show a release (None: the latest); under another spelling, redirect to that of the index."""
    name = normalize_name(asked_name)
    principal = current_principal()
    principal.require(Permission.READ, name)
    located = index.locate(name) if index.has_upstreams else None
    if located is not None and not isinstance(located, int):
        return _show_upstream(index, located, asked_name, asked_version, url)
    project = index.snapshot(name)
    releases = legacy_json.group(legacy_json.list_files(project, root=up_to_mount(request.environ)))
    version = None if asked_version is None else _find_version(name, releases, asked_version)
    if (asked_name, asked_version) != (name, version):
        return redirect_within(f"../{name}/" if version is None else f"../../{name}/{quote(version, safe='')}/")
    values = project_page.describe(
        index,
        readmes,
        project,
        releases,
        version,
        root=root_url(request.environ, url),
        every="all" in request.args,
    )
    may_manage = principal.may(Permission.ADMIN, name)
    return render_page("project.html", may_manage=may_manage, has_url=url is not None, **values)


def _show_upstream(
    index: Index, name: NotOurs, asked_name: str, asked_version: str | None, url: str | None
) -> Response:
    """Show what an upstream has of a project, whose releases have no pages of their own."""
    if asked_version is not None:
        return redirect_within(f"../../{name}/", 302)
    return show_upstream(index, name, url) if asked_name == name else redirect_within(f"../{name}/")


def _find_version(name: NormalizedName, releases: Mapping[str, Sequence[legacy_json.Listed]], asked: str) -> str:
    version = legacy_json.find_version(releases, asked)
    if version is None:
        raise NotFoundError(f"the project {name!r} has no release {asked!r}")
    return version
