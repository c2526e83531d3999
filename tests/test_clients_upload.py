"""Real upload clients against the real server, and against the deployed functions behind a REST API."""

from __future__ import annotations

import hashlib
import json
import select
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests import dists
from tests.clients import UPLOADERS, Account, Desk, Server, account, recording
from tests.deployed import Deployment
from tests.loop import running_on_aws
from tests.running import serving

pytestmark = pytest.mark.both_worlds
PATHS = ("/legacy/", "/legacy", "/simple/", "/simple")
CLIENTS = [client for client in UPLOADERS if client != "twine --verbose"]
LATIN = "pä:ss"
UNICODE = "pä:ss wörd€"
USERS = [
    {"username": "latin", "password": LATIN, "permission": "upload"},
    {"username": "unicode", "password": UNICODE, "permission": "upload"},
    {"username": "jürgen", "password": LATIN, "permission": "upload"},
    {"username": "reader", "password": "secret", "permission": "read"},
]


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest) -> Server:
    on_aws = getattr(request, "param", "directory") == "aws"
    server: Server = request.getfixturevalue("shop_on_aws" if on_aws else "shop_here")
    return server


@pytest.fixture(scope="module")
def shop_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("shop")
    with serving(root / "data", home=root / "home", extra={"ELASTICPYPI_USERS": json.dumps(USERS)}) as running:
        yield running


@pytest.fixture(scope="module")
def shop_on_aws(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_on_aws(deployment, tmp_path_factory.mktemp("shop-on-aws"), users=USERS) as running:
        yield running


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def other_bytes(desk: Desk, name: str) -> Path:
    """Write a wheel over the one that is there, with another content."""
    return dists.make_wheel(desk.dist, name, extra_files={"another.py": b""})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_wheel_and_an_sdist_are_uploaded(shop: Server, desk: Desk, name: str, client: str, path: str) -> None:
    index = account(shop)
    files = [dists.make_wheel(desk.dist, name), dists.make_sdist(desk.dist, name)]

    outcome = UPLOADERS[client](desk, index, path, files)

    assert outcome.succeeded, outcome.output
    assert index.listed(name) == {file.name: sha256(file) for file in files}
    for file in files:
        assert index.get(f"/packages/{name}/{file.name}") == file.read_bytes()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_same_bytes_again_succeed(shop: Server, desk: Desk, name: str, client: str) -> None:
    index = account(shop)
    wheel = dists.make_wheel(desk.dist, name)
    assert UPLOADERS["uv"](desk, index, "/legacy/", [wheel]).succeeded
    before = index.page(name)

    outcome = UPLOADERS[client](desk, index, "/legacy/", [wheel])

    assert outcome.succeeded, outcome.output
    assert index.page(name) == before


# Client -> what it shows of "409 Conflict" and of our sentence.
SHOWN = {
    "twine": "409 Conflict",  # and that --verbose says more
    "twine --verbose": "File already exists",
    "uv": "File already exists",
    "poetry": "File already exists",
    "pdm": "409 Conflict",
    "hatch": "409 Conflict",
}


@pytest.mark.parametrize(("client", "shown"), SHOWN.items())
def test_other_bytes_are_refused(shop: Server, desk: Desk, name: str, client: str, shown: str) -> None:
    index = account(shop)
    wheel = dists.make_wheel(desk.dist, name)
    assert UPLOADERS["uv"](desk, index, "/legacy/", [wheel]).succeeded
    before = index.page(name)

    outcome = UPLOADERS[client](desk, index, "/legacy/", [other_bytes(desk, name)])

    assert not outcome.succeeded
    assert outcome.says(shown), outcome.output
    assert index.page(name) == before


NO_WHEEL = "it has no WHEEL, which every wheel must have"
REFUSED = {
    "twine": "400 Bad Request",
    "twine --verbose": NO_WHEEL,
    "uv": NO_WHEEL,
    "poetry": NO_WHEEL,
    "pdm": "400 Bad Request",
    "hatch": "400 Bad Request",
}


@pytest.mark.parametrize(("client", "shown"), REFUSED.items())
def test_a_broken_wheel_is_refused(shop: Server, desk: Desk, name: str, client: str, shown: str) -> None:
    wheel = dists.make_wheel(desk.dist, name)
    core_metadata = dists.make_core_metadata(name, "1.0")
    wheel.write_bytes(dists.zip_bytes({f"{name.replace('-', '_')}-1.0.dist-info/METADATA": core_metadata}))

    outcome = UPLOADERS[client](desk, account(shop), "/legacy/", [wheel])

    assert not outcome.succeeded
    assert outcome.says(shown), outcome.output
    assert account(shop).status(f"/simple/{name}/") == 404


@pytest.mark.parametrize("client", UPLOADERS)
def test_wrong_credentials_are_refused(shop: Server, desk: Desk, name: str, client: str) -> None:
    wheel = dists.make_wheel(desk.dist, name)

    outcome = UPLOADERS[client](desk, account(shop, password="wrong"), "/legacy/", [wheel])

    assert not outcome.succeeded
    assert outcome.says("HTTP Error 401" if client == "poetry" else "401 Unauthorized"), outcome.output
    assert account(shop).status(f"/simple/{name}/") == 404


@pytest.mark.only_in_a_directory("API Gateway reads a request whole before anybody else sees it")
@pytest.mark.parametrize(("username", "password", "status"), [("reader", "secret", 403), ("reader", "wrong", 401)])
def test_a_client_that_is_still_sending_gets_the_refusal(
    shop: Server, username: str, password: str, status: int
) -> None:
    body = b"x" * 1_000_000
    token = b64encode(f"{username}:{password}".encode()).decode()
    with closing(HTTPConnection("127.0.0.1", shop.port, timeout=30)) as connection:
        connection.putrequest("POST", "/legacy/")
        connection.putheader("Authorization", f"Basic {token}")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        early, _, _ = select.select([connection.sock], [], [], 0.5)
        assert not early  # an answer now would end the connection while the client writes to it
        connection.send(body)
        assert connection.getresponse().status == status


def test_who_may_only_read_is_told_so(shop: Server, desk: Desk, name: str) -> None:
    outcome = UPLOADERS["uv"](desk, account(shop, "reader", "secret"), "/legacy/", [dists.make_wheel(desk.dist, name)])

    assert not outcome.succeeded
    assert outcome.says("'reader' has the permission 'read', but this needs 'upload'"), outcome.output


@pytest.mark.parametrize("username", ["latin", "jürgen"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_password_with_colon_and_umlaut(shop: Server, desk: Desk, name: str, client: str, username: str) -> None:
    outcome = UPLOADERS[client](desk, account(shop, username, LATIN), "/legacy/", [dists.make_wheel(desk.dist, name)])

    assert outcome.succeeded, outcome.output


@pytest.mark.parametrize("client", ["uv", "pdm", "hatch"])  # twine and poetry cannot send what latin-1 does not have
def test_a_password_beyond_latin_1(shop: Server, desk: Desk, name: str, client: str) -> None:
    outcome = UPLOADERS[client](
        desk, account(shop, "unicode", UNICODE), "/legacy/", [dists.make_wheel(desk.dist, name)]
    )

    assert outcome.succeeded, outcome.output


def test_uv_skips_what_its_check_url_lists(shop: Server, desk: Desk, name: str) -> None:
    files = [dists.make_wheel(desk.dist, name)]
    assert UPLOADERS["uv"](desk, account(shop), "/legacy/", files).succeeded
    files.append(dists.make_sdist(desk.dist, name))

    with recording(shop.url) as recorder:
        index = Account(recorder.url, shop.username, shop.password)
        outcome = UPLOADERS["uv"](desk, index, "/legacy/", files, "--check-url", index.index_url)

    assert outcome.succeeded, outcome.output
    assert [each.path for each in recorder.take() if each.method == "POST"] == ["/legacy/"]
    assert account(shop).listed(name).keys() == {file.name for file in files}


def test_uv_sees_other_bytes_at_its_check_url(shop: Server, desk: Desk, name: str) -> None:
    index = account(shop)
    assert UPLOADERS["uv"](desk, index, "/legacy/", [dists.make_wheel(desk.dist, name)]).succeeded

    outcome = UPLOADERS["uv"](desk, index, "/legacy/", [other_bytes(desk, name)], "--check-url", index.index_url)

    assert not outcome.succeeded
    assert outcome.says("Local file and index file do not match"), outcome.output
