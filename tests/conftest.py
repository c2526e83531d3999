"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import Cloud, running_cloud
from tests.running import RunningServer, serving
from tests.site import Site, open_site


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of its own for one test."""
    with serving(tmp_path / "data", home=tmp_path / "home") as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An index and a client of its application, in this process."""
    opened = open_site(tmp_path / "data")
    yield opened
    opened.index.close()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An AWS for all tests of a session; each makes buckets and tables of its own."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running
