"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import Cloud, running_cloud
from tests.running import RunningServer, serving
from tests.site import Site, open_cloud_site, open_site


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of its own for one test."""
    with serving(tmp_path / "data", home=tmp_path / "home") as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that is marked so in both worlds, but for those that are marked otherwise."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "site" in metafunc.fixturenames and "both_worlds" in marks and "only_in_a_directory" not in marks:
        metafunc.parametrize("site", ["directory", "aws"], indirect=True)


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
