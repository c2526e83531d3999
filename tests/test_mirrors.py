"""Others in front of us: pip gets the same files through them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pypi_simple import PyPISimple

from tests import dists
from tests.clients import Account, Desk, Recorder, account, recording
from tests.mirrors import MIRRORS, make_bandersnatch
from tests.running import RunningServer, serving, wait_for

REASON = 'eats <b>"data"</b> & more'
# What pip takes if nothing else is said, and what it is asked for so that each file is brought once.
BEST = {"acme-dotted-name": "1.0", "acme-local": "1.0+local.1", "acme-python": "1.0", "acme-yanked": "1.0"}
WHEELS = ("Acme.Dotted_Name", "acme-local", "acme-python==1.0", "acme-yanked==1.0")
SDISTS = ("Acme.Dotted_Name", "acme-local", "acme-python==2.0", "acme-yanked==1.1")


@dataclass(frozen=True, slots=True)
class Listed:
    """What a mirror has to hand on of a file."""

    sha256: str
    requires_python: str | None = None
    yanked: bool | str = False


def fill(files: Path) -> dict[str, dict[str, Listed]]:
    """Make some projects, and return what has to be listed: project -> filename -> file."""
    made: dict[str, list[tuple[Path, str | None, bool | str]]] = {
        "acme-dotted-name": [
            (dists.make_wheel(files, "Acme.Dotted-Name", "1.0"), None, False),
            (dists.make_sdist(files, "Acme.Dotted-Name", "1.0"), None, False),
        ],
        "acme-local": [
            (dists.make_wheel(files, "acme-local", "1.0+local.1"), None, False),
            (dists.make_sdist(files, "acme-local", "1.0+local.1"), None, False),
        ],
        "acme-python": [
            (dists.make_wheel(files, "acme-python", "1.0", requires_python=">=3.8,!=3.9.*"), ">=3.8,!=3.9.*", False),
            (dists.make_sdist(files, "acme-python", "2.0", requires_python=">=4"), ">=4", False),
        ],
        "acme-yanked": [
            (dists.make_wheel(files, "acme-yanked", "1.0"), None, False),
            (dists.make_sdist(files, "acme-yanked", "1.1"), None, REASON),
        ],
    }
    yank(files, "acme-yanked", "1.1", REASON)
    return {
        project: {file.name: Listed(sha256_of(file), requires_python, yanked) for file, requires_python, yanked in each}
        for project, each in made.items()
    }


def yank(files: Path, project: str, version: str, reason: str) -> None:
    (files / project).mkdir(exist_ok=True)
    (files / project / "project.json").write_text(json.dumps({"yanked": {version: reason}}))


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def pages(index_url: str) -> dict[str, dict[str, Listed]]:
    """Return what all pages of an index say, as `fill` does."""
    with PyPISimple(index_url) as reader:
        return {
            project: {
                file.filename: Listed(
                    file.digests["sha256"], file.requires_python, file.is_yanked and (file.yanked_reason or "")
                )
                for file in reader.get_project_page(project).packages
            }
            for project in reader.get_index_page().projects
        }


@dataclass(frozen=True, slots=True)
class Shop:
    """A server of ours, and what it lists."""

    server: RunningServer
    listed: dict[str, dict[str, Listed]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    listed = fill(root / "data" / "files")
    with serving(root / "data", home=root / "home") as running:
        wait_for(lambda: pages(running.index_url), lambda found: found == listed)
        yield Shop(running, listed)


@pytest.mark.heavy
@pytest.mark.parametrize("mirror", MIRRORS)
def test_pip_gets_the_same_files_through_a_mirror(mirror: str, shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with MIRRORS[mirror](account(shop.server), tmp_path) as url:
        listed = pages(url)
        options = ("--no-deps", "--index-url", url)
        download = ("download", *options, "--ignore-requires-python", "--dest", "brought")
        outcomes = [
            desk.pip(*download, "--only-binary", ":all:", *WHEELS),
            desk.pip(*download, "--no-binary", ":all:", *SDISTS),
            desk.pip("install", *options, *BEST),
        ]
    assert [outcome.output for outcome in outcomes if not outcome.succeeded] == []
    assert listed == shop.listed
    assert {file.name: sha256_of(file) for file in (desk.project / "brought").iterdir()} == {
        filename: file.sha256 for files in shop.listed.values() for filename, file in files.items()
    }
    assert desk.installed() == BEST


ROOT = ["/simple", "/simple/"]  # it asks without the slash


def paths(project: str, *files: Path) -> list[str]:
    """Return what has to be asked for to know a project and to have these files of it."""
    return [f"/pypi/{project}/json", *(f"/packages/{project}/{file.name}" for file in files)]


def fetched(recorder: Recorder) -> list[str]:
    """Return the paths that were asked for since the last call, all of them successfully."""
    exchanges = recorder.take()
    assert [exchange for exchange in exchanges if exchange.status not in (200, 301)] == []
    return sorted(exchange.path for exchange in exchanges)


def test_bandersnatch_brings_only_what_has_changed(server: RunningServer, tmp_path: Path) -> None:
    deleted = dists.make_wheel(server.files, "acme-changed", "1.0")
    yanked = dists.make_wheel(server.files, "acme-changed", "1.1")
    same = dists.make_wheel(server.files, "acme-same", "1.0")
    uploaded = dists.make_wheel(tmp_path / "dist", "acme-changed", "2.0")
    of_deleted, of_yanked, of_same, of_uploaded = (Listed(sha256_of(f)) for f in (deleted, yanked, same, uploaded))
    before = {"acme-changed": {deleted.name: of_deleted, yanked.name: of_yanked}, "acme-same": {same.name: of_same}}
    after = {
        "acme-changed": {yanked.name: replace(of_yanked, yanked=REASON), uploaded.name: of_uploaded},
        "acme-same": {same.name: of_same},
    }
    with recording(server.url) as recorder:
        mirror = make_bandersnatch(Account(recorder.url, server.username, server.password), tmp_path)
        wait_for(lambda: pages(server.index_url), lambda listed: listed == before)
        mirror.update()
        assert fetched(recorder) == sorted([*ROOT, *paths("acme-changed", deleted, yanked), *paths("acme-same", same)])

        assert server.upload(uploaded).ok
        yank(server.files, "acme-changed", "1.1", REASON)
        deleted.unlink()
        wait_for(lambda: pages(server.index_url), lambda listed: listed == after)
        mirror.update()
        assert fetched(recorder) == sorted([*ROOT, *paths("acme-changed", uploaded)])

        mirror.update()
        assert fetched(recorder) == ROOT
    with mirror.serving() as url:
        assert pages(url) == after
