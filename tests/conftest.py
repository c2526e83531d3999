"""Fixtures that several test modules share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.aws import Cloud, running_cloud
from tests.clients import Desk
from tests.deployed import Deployment, deployed
from tests.running import RunningServer, serving
from tests.site import Site, open_cloud_site, open_site
from tests.together import Together

# How long an example takes says more about what else the machine is doing.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

pytest_plugins = ["tests.no_secrets"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of its own for one test."""
    with serving(tmp_path / "data", home=tmp_path / "home") as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that is marked so in both worlds, but for those that are marked otherwise."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "both_worlds" not in marks or "only_in_a_directory" in marks:
        return
    for fixture in {"site", "shop"} & set(metafunc.fixturenames):
        metafunc.parametrize(fixture, ["directory", "aws"], indirect=True)


# What takes too long for every run, once the others have shown that clients get on with AWS.
_HEAVY_ON_AWS = {"poetry", "pdm", "hatch"}


@pytest.hookimpl(tryfirst=True)  # before what `-m` leaves out is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of some clients as heavy, where they are against AWS."""
    for item in items:
        values = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if values.get("shop") == "aws" and values.get("client") in _HEAVY_ON_AWS:
            item.add_marker(pytest.mark.heavy)


@pytest.hookimpl(optionalhook=True)  # where xdist is not told to be left out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    """Let tests that share what takes long to make run in one process; None leaves it to xdist."""
    return Together(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An index and a client of its application, in this process."""
    if getattr(request, "param", "directory") == "aws":
        opened = open_cloud_site(request.getfixturevalue("cloud"))
    else:
        opened = open_site(tmp_path / "data")
    yield opened
    opened.index.close()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An AWS for all tests of a session; each makes buckets and tables of its own."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
def deployment(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """What one `sls deploy` has made, a REST API, for all tests that do not change it: it takes half a minute."""
    with deployed(cloud, tmp_path_factory.mktemp("deployed")) as made:
        yield made


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty home for real clients."""
    return Desk(tmp_path)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The name of a project that no other test uses."""
    return f"acme-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]}"
