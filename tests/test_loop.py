"""The loop closed on AWS: objects, events, pages and clients, through the deployed functions and a gateway's limits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import INSTALLERS, UPLOADERS, Account, Desk, account
from tests.deployed import Deployment
from tests.dists import make_sdist, make_wheel
from tests.gateway import GATEWAY_BYTES
from tests.loop import IndexOnAws, running_on_aws
from tests.running import run_command, wait_for

MIB = 2**20
pytestmark = pytest.mark.timeout(300)  # seconds: the first to ask for a deployment waits for `sls`


@pytest.fixture(scope="module")
def index(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexOnAws]:
    with running_on_aws(deployment, tmp_path_factory.mktemp("loop")) as running:
        yield running


@pytest.fixture(scope="module")
def http_index(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexOnAws]:
    """The same functions behind an HTTP API."""
    with running_on_aws(deployment, tmp_path_factory.mktemp("http"), gateway="http") as running:
        yield running


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_large_wheel(directory: Path, name: str, *, mib: int) -> Path:
    return make_wheel(directory, name, extra_files={"large.bin": random.Random(1).randbytes(mib * MIB)})


# Objects and events ---------------------------------------------------------------------------------------------------


def test_what_is_put_by_hand_is_listed_and_what_is_removed_is_not(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name, "1.0+local.1")
    sdist = make_sdist(tmp_path, name, "2.0")
    for file in (wheel, sdist):
        index.put(f"{name}/{file.name}", file.read_bytes())
    wait_for(lambda: index.listing(name), lambda found: found == {f.name: sha256(f) for f in (wheel, sdist)})
    index.remove(f"{name}/{wheel.name}")
    wait_for(lambda: index.listing(name), lambda found: found == {sdist.name: sha256(sdist)})
    index.remove(f"{name}/{sdist.name}")
    wait_for(lambda: index.listing(name), lambda found: found == {})  # and the name stays ours
    assert index.fetch(f"/packages/{name}/{sdist.name}").status_code == 404
    assert index.waiting(dead=True) == 0


def test_decisions_written_by_hand_are_followed(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name)
    index.put(wheel.name, wheel.read_bytes())
    wait_for(lambda: index.listing(name))
    index.put(f"{name}/project.json", b'{"yanked": {"1.0": "broken"}}')
    wait_for(lambda: index.fetch(f"/simple/{name}/").json()["files"][0]["yanked"], lambda yanked: yanked == "broken")
    index.put(f"{name}/project.json", b'{"status": "quarantined"}')
    wait_for(lambda: index.listing(name), lambda found: found == {})


def test_an_upload_is_listed_before_its_event_comes(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name)
    assert index.upload(wheel).status_code == 200
    page = index.fetch(f"/simple/{name}/").content
    index.settle()
    assert index.fetch(f"/simple/{name}/").content == page  # the event changed nothing
    assert [index.listing(name), index.waiting(dead=True)] == [{wheel.name: sha256(wheel)}, 0]


def test_what_is_broken_stops_nobody_else(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name)
    index.put(f"{name}-1.0-py3-none-any.whl", b"no zip")
    index.put(f"{name}/{wheel.name}", wheel.read_bytes())
    wait_for(lambda: index.listing(name), lambda found: found == {wheel.name: sha256(wheel)})
    index.settle()
    assert index.waiting(dead=True) == 0


# Clients --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_installers_get_on_with_an_http_api(http_index: IndexOnAws, desk: Desk, name: str, client: str) -> None:
    for version in ("1.0", "1.1+local.1"):
        wheel = make_wheel(desk.dist, name, version)
        http_index.put(f"{name}/{wheel.name}", wheel.read_bytes())
    wait_for(lambda: len(http_index.listing(name) or ()) == 2)
    outcome = INSTALLERS[client](desk, account(http_index), name)
    assert outcome.succeeded, outcome.output
    assert desk.installed() == {name: "1.1+local.1"}
    assert not INSTALLERS[client](desk, account(http_index), "requests").succeeded
    assert not INSTALLERS[client](desk, Account(http_index.url, "admin", "wrong"), f"{name}==1.0").succeeded


@pytest.mark.parametrize("client", ["twine", "uv"])
def test_uploaders_get_on_with_an_http_api(http_index: IndexOnAws, desk: Desk, name: str, client: str) -> None:
    files = [make_wheel(desk.dist, name), make_sdist(desk.dist, name)]
    for _ in range(2):
        outcome = UPLOADERS[client](desk, account(http_index), "/legacy/", files)
        assert outcome.succeeded, outcome.output
    assert http_index.listing(name) == {file.name: sha256(file) for file in files}
    assert account(http_index).get(f"/packages/{name}/{files[0].name}") == files[0].read_bytes()
    make_wheel(desk.dist, name, extra_files={"another.py": b""})
    refused = UPLOADERS[client](desk, account(http_index), "/legacy/", files)
    assert not refused.succeeded
    assert refused.says("409 Conflict" if client == "twine" else "File already exists"), refused.output


# Large files ----------------------------------------------------------------------------------------------------------


def test_twine_is_told_of_the_way_for_large_files(index: IndexOnAws, desk: Desk, name: str) -> None:
    wheel = make_large_wheel(desk.dist, name, mib=6)
    assert wheel.stat().st_size < GATEWAY_BYTES
    outcome = UPLOADERS["twine --verbose"](desk, account(index), "/legacy/", [wheel])
    assert not outcome.succeeded
    assert outcome.says("413"), outcome.output
    assert outcome.says("elasticpypi upload"), outcome.output
    assert index.listing(name) is None


@pytest.mark.parametrize("gateway", ["rest", "http"])
def test_elasticpypi_upload_sends_files_of_any_size(
    request: pytest.FixtureRequest, desk: Desk, name: str, gateway: str
) -> None:
    index: IndexOnAws = request.getfixturevalue("index" if gateway == "rest" else "http_index")
    files = [make_wheel(desk.dist, name), make_large_wheel(desk.dist, f"{name}-large", mib=12)]
    url = index.url.replace("://", f"://{index.username}:{index.password}@")
    first = run_command("upload", *files, "--url", url, home=desk.root / "home")
    assert (first.returncode, first.stdout) == (0, "".join(f"created: {file}\n" for file in files)), first.stderr
    assert [index.listing(name), index.listing(f"{name}-large")] == [{file.name: sha256(file)} for file in files]
    assert account(index).get(f"/packages/{name}-large/{files[1].name}") == files[1].read_bytes()
    again = run_command("upload", *files, "--url", url, home=desk.root / "home")
    assert (again.returncode, again.stdout) == (0, "".join(f"unchanged: {file}\n" for file in files)), again.stderr
    index.settle()
    staged = [key for key in index.list_keys() if key.startswith(".elasticpypi/uploads/")]
    assert [key for key in staged if not key.endswith(".json")] == []  # what became of others
    assert index.listing(f"{name}-large") == {files[1].name: sha256(files[1])}


def test_what_takes_longer_than_a_request_is_finished_by_the_indexer(index: IndexOnAws, desk: Desk, name: str) -> None:
    sdist = make_sdist(desk.dist, name, extra_files={"large.bin": random.Random(1).randbytes(33 * MIB)})
    url = index.url.replace("://", f"://{index.username}:{index.password}@")
    done = run_command("upload", sdist, "--url", url, home=desk.root / "home")
    assert (done.returncode, done.stdout) == (0, f"created: {sdist}\n"), done.stderr
    assert index.listing(name) == {sdist.name: sha256(sdist)}
    assert "sqs" in {call.service for call in index.api.calls}
    index.settle()
    assert index.waiting(dead=True) == 0


def test_no_secret_is_in_a_log(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name)
    index.upload(wheel)
    index.fetch(f"/packages/{name}/{wheel.name}")
    index.settle()
    logs = index.logs()
    assert wheel.name in logs
    assert [word for word in ("X-Amz-Signature", "Basic ", index.password) if word in logs] == []
