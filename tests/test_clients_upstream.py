"""Real installers get what is ours and what an upstream has through one URL, from one server of ours to another."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import dists
from tests.clients import INSTALLERS, Account, Desk, Recorder, account, recording, wait_until
from tests.running import RunningServer, serving
from tests.test_clients_install import make_wheel_requiring, metadata_requiring

# Mode -> how ours is configured, beside the URL; whether it has the upstream's credentials is told by "username".
MODES: Mapping[str, Mapping[str, Any]] = {
    "redirect": {"mode": "redirect"},
    "proxy": {"mode": "proxy"},
    "proxy that keeps": {"mode": "proxy", "keep": True},
    "proxy with credentials": {"mode": "proxy", "username": "upstream", "password": "secret"},
}
CLIENTS = ("pip", "uv", "poetry")
QUICK_CLIENTS = ("pip", "uv", pytest.param("poetry", marks=pytest.mark.heavy))
INSTALLED = {"acme-app": "1.0", "acme-lib": "1.0", "spam": "1.1", "spam-eggs": "2.0+local.1", "ham": "1.0"}


def fill_ours(files: Path) -> None:
    """Put the application, which needs something of upstream's, and a library into a directory."""
    files.mkdir(parents=True)
    make_wheel_requiring(files, "acme_app", "1.0", "spam>=1")
    dists.make_sdist(files, "acme-lib", "1.0", extra_files={"PKG-INFO": metadata_requiring("acme-lib", "1.0", "ham")})


def fill_upstream(files: Path) -> None:
    """Put what ours does not have into a directory, and newer releases of what it has: nobody may get those."""
    files.mkdir(parents=True)
    for version in ("1.0", "1.1"):
        make_wheel_requiring(files, "spam", version, "Spam.Eggs")
    dists.make_wheel(files, "spam", "2.0", requires_python=">=4")
    dists.make_wheel(files, "spam-eggs", "2.0+local.1")
    dists.make_sdist(files, "ham", "1.0")
    for name in ("acme-app", "acme-lib"):
        dists.make_wheel(files, name, "9.0")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server of ours that others have for an upstream, and a door before it that needs no credentials."""

    server: RunningServer
    door: Recorder

    def configured(self, mode: str) -> dict[str, Any]:
        """Return how it is written into a configuration."""
        asks = self.server.url if "username" in MODES[mode] else self.door.url
        return {"name": "upstream", "url": f"{asks}/simple/", "private": True, **MODES[mode]}


@contextmanager
def running_upstream(root: Path) -> Iterator[Upstream]:
    fill_upstream(root / "data" / "files")
    extra = {"ELASTICPYPI_USERNAME": "upstream", "ELASTICPYPI_PASSWORD": "secret"}
    with serving(root / "data", home=root / "home", extra=extra) as server:
        wait_until(lambda: b"spam-eggs" in account(server).get("/simple/"), what="upstream's files are listed")
        credentials = "Basic " + b64encode(b"upstream:secret").decode()
        with recording(server.url, adding={"Authorization": credentials}) as door:
            yield Upstream(server, door)


@contextmanager
def running_ours(root: Path, upstream: Mapping[str, Any]) -> Iterator[RunningServer]:
    extra = {"ELASTICPYPI_UPSTREAMS": json.dumps([upstream])}
    with serving(root / "data", home=root / "home", extra=extra) as server:
        wait_until(lambda: b"acme-lib" in account(server).get("/simple/"), what="our files are listed")
        yield server


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with running_upstream(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture(scope="module", params=MODES)
def shop(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """An index of ours that has the upstream, in each mode."""
    root = tmp_path_factory.mktemp("ours")
    fill_ours(root / "data" / "files")
    with running_ours(root, upstream.configured(request.param)) as server:
        yield account(server)


@pytest.mark.parametrize("client", CLIENTS)
def test_ours_and_upstreams_come_through_one_url(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, shop, "acme-app", "acme-lib")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == INSTALLED


@pytest.mark.parametrize("client", QUICK_CLIENTS)
def test_a_newer_release_of_upstreams_is_no_release_of_ours(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, shop, "acme-lib==9.0")

    assert not outcome.succeeded
    assert desk.installed() == {}


@pytest.mark.parametrize("client", QUICK_CLIENTS)
def test_what_was_kept_is_installed_without_upstream(tmp_path: Path, desk: Desk, client: str) -> None:
    fill_ours(tmp_path / "ours" / "data" / "files")
    with running_upstream(tmp_path / "upstream") as upstream:
        configured = upstream.configured("proxy that keeps")
        with running_ours(tmp_path / "ours", configured) as server:
            first = INSTALLERS[client](desk, account(server), "acme-app", "acme-lib")
            assert first.succeeded, first.output
    for path in (tmp_path / "ours" / "data").glob("catalog.sqlite*"):
        path.unlink()  # and with it the pages of upstream's
    with running_ours(tmp_path / "ours", configured) as server:
        again = Desk(tmp_path / "again")
        second = INSTALLERS[client](again, account(server), "acme-app", "acme-lib")

    assert second.succeeded, second.output
    assert again.installed() == INSTALLED


def test_upstreams_credentials_stay_here(upstream: Upstream, tmp_path: Path, desk: Desk) -> None:
    fill_ours(tmp_path / "data" / "files")
    with (
        running_ours(tmp_path, upstream.configured("proxy with credentials")) as server,
        recording(server.url) as seen,
    ):
        outcome = desk.pip(
            "install", "--index-url", Account(seen.url, server.username, server.password).index_url, "spam"
        )
        assert outcome.succeeded, outcome.output
        page = account(server).page("spam")
        output = server.output()
    assert all(file["url"].startswith("../../packages/") for file in page["files"])
    assert {exchange.status for exchange in seen.take()} == {200}  # nobody was sent elsewhere
    assert "secret" not in output
