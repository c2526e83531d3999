"""Real installers against the real server, from the root, from under a prefix, and from the deployed functions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from elasticpypi.auth import Authenticator
from elasticpypi.config import Permission, Settings, User
from elasticpypi.index import open_index
from elasticpypi.web.app import create_app
from tests import dists
from tests.clients import INSTALLERS, Account, Desk, account, wait_until
from tests.deployed import Deployment
from tests.loop import running_on_aws
from tests.running import serving

pytestmark = pytest.mark.both_worlds
LATIN = "pä:ss"
UNICODE = "pä:ss wörd€"
USERS = (User("admin", "secret", Permission.ADMIN), User("latin", LATIN), User("unicode", UNICODE))
REASON = 'eats <b>"data"</b> & more'
OUTSIDE = "requests"  # a project that every other index has


def fill(files: Path) -> None:
    """Put the projects of this module's tests into a directory."""
    files.mkdir(parents=True, exist_ok=True)
    make_wheel_requiring(files, "acme_app", "1.0", "acme-lib>=1")
    dists.make_sdist(
        files, "acme-lib", "1.0", extra_files={"PKG-INFO": metadata_requiring("acme-lib", "1.0", "acme-leaf")}
    )
    dists.make_wheel(files, "acme-leaf", "1.0")
    dists.make_sdist(files, "acme-leaf", "1.0")
    dists.make_wheel(files, "Acme.Dotted-Name", "1.0")
    dists.make_wheel(files, "acme-local", "1.0")
    dists.make_wheel(files, "acme-local", "1.0+local.1")
    dists.make_wheel(files, "acme-python", "1.9")
    dists.make_wheel(files, "acme-python", "1.10", requires_python=">=3.8,!=3.9.*")
    dists.make_wheel(files, "acme-python", "2.0", requires_python=">=4")
    dists.make_wheel(files, "acme-pre", "1.0")
    dists.make_wheel(files, "acme-pre", "2.0rc1")
    for version in ("1.0", "1.1", "1.2"):
        dists.make_wheel(files, "acme-yanked", version)
    decide(files, "acme-yanked", {"yanked": {"1.1": REASON, "1.2": ""}})
    dists.make_wheel(files, "acme-quarantined", "1.0")
    decide(files, "acme-quarantined", {"status": "quarantined"})


ASKED_FOR = ("acme-app", "Acme.Dotted_Name", "acme-local", "acme-python>=1", "acme-pre", "acme-yanked")
INSTALLED = {
    "acme-app": "1.0",
    "acme-lib": "1.0",  # an sdist
    "acme-leaf": "1.0",
    "acme-dotted-name": "1.0",
    "acme-local": "1.0+local.1",
    "acme-python": "1.10",
    "acme-pre": "1.0",
    "acme-yanked": "1.0",
}


def decide(files: Path, project: str, decisions: object) -> None:
    directory = files / project
    directory.mkdir(exist_ok=True)
    (directory / "project.json").write_text(json.dumps(decisions))


def metadata_requiring(name: str, version: str, requirement: str) -> bytes:
    headers, _, description = dists.make_core_metadata(name, version).partition(b"\n\n")
    return b"%s\nRequires-Dist: %s\n\n%s" % (headers, requirement.encode(), description)


def make_wheel_requiring(directory: Path, name: str, version: str, requirement: str) -> None:
    stem = f"{name}-{version}"
    files = {
        f"{name}.py": b"",
        f"{stem}.dist-info/METADATA": metadata_requiring(name, version, requirement),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{stem}.dist-info/RECORD"])
    files[f"{stem}.dist-info/RECORD"] = record.encode()
    (directory / f"{stem}-py3-none-any.whl").write_bytes(dists.zip_bytes(files))


OTHERS = [{"username": user.username, "password": user.password} for user in USERS[1:]]


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest) -> Account:
    on_aws = getattr(request, "param", "directory") == "aws"
    index: Account = request.getfixturevalue("shop_on_aws" if on_aws else "shop_here")
    return index


@pytest.fixture(scope="module")
def shop_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    root = tmp_path_factory.mktemp("shop")
    fill(root / "data" / "files")
    extra = {
        "ELASTICPYPI_USERNAME": USERS[0].username,
        "ELASTICPYPI_PASSWORD": USERS[0].password,
        "ELASTICPYPI_USERS": json.dumps(OTHERS),
    }
    with serving(root / "data", home=root / "home", extra=extra) as running:
        index = account(running)
        wait_until(lambda: b"acme-yanked" in index.get("/simple/"), what="the files of the data directory are listed")
        yield index


@pytest.fixture(scope="module")
def shop_on_aws(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with running_on_aws(deployment, tmp_path_factory.mktemp("shop-on-aws"), users=OTHERS) as running:
        fill(running.files)
        running.put_files()
        running.settle()
        yield account(running)


@contextmanager
def mounted(data: Path, prefix: str) -> Iterator[Account]:
    """Serve an index below a prefix, from a thread."""
    index = open_index(Settings(), data=data)
    index.sync(patience_seconds=10)
    app = DispatcherMiddleware(NotFound(), {prefix: create_app(index, Authenticator(USERS))})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Account(f"http://127.0.0.1:{server.port}{prefix}", USERS[0].username, USERS[0].password)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        index.close()


@pytest.fixture(scope="module")
def shop_below_prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    data = tmp_path_factory.mktemp("mounted") / "data"
    fill(data / "files")
    with mounted(data, "/dev") as index:
        yield index


@pytest.mark.parametrize("client", INSTALLERS)
def test_the_best_release_of_each_project_is_installed(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, shop, *ASKED_FOR)

    assert outcome.succeeded, outcome.output
    assert desk.installed() == INSTALLED


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_everything_works_below_a_prefix(shop_below_prefix: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, shop_below_prefix, *ASKED_FOR)

    assert outcome.succeeded, outcome.output
    assert desk.installed() == INSTALLED


# Client -> what it says of the pinned version.
YANKED_SHOWN = {
    "pip": REASON,
    "uv": f'is yanked (reason: "{REASON}")',
    "poetry": 'is a yanked version. Reason for being yanked: eats "data" & more',  # its terminal takes tags for its own
    "pdm": "",  # nothing
}


@pytest.mark.parametrize(("client", "shown"), YANKED_SHOWN.items())
def test_a_pin_installs_what_is_yanked(shop: Account, desk: Desk, client: str, shown: str) -> None:
    outcome = INSTALLERS[client](desk, shop, "acme-yanked==1.1")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == {"acme-yanked": "1.1"}
    assert shown in outcome.output


PRE_RELEASES = {"pip": "--pre", "uv": "--prerelease=allow", "poetry": "--allow-prereleases", "pdm": "--prerelease"}


@pytest.mark.parametrize(("client", "option"), PRE_RELEASES.items())
def test_pre_releases_are_installed_on_demand(shop: Account, desk: Desk, client: str, option: str) -> None:
    outcome = INSTALLERS[client](desk, shop, option, "acme-pre", "acme-local==1.0+local.1")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == {"acme-pre": "2.0rc1", "acme-local": "1.0+local.1"}


@pytest.mark.parametrize("project", ["acme-quarantined", OUTSIDE])
@pytest.mark.parametrize("client", INSTALLERS)
def test_what_is_not_listed_comes_from_nowhere_else(shop: Account, desk: Desk, client: str, project: str) -> None:
    outcome = INSTALLERS[client](desk, shop, project)

    assert not outcome.succeeded
    assert desk.installed() == {}


@pytest.mark.parametrize("client", INSTALLERS)
def test_wrong_credentials_install_nothing(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, Account(shop.url, shop.username, "wrong"), "acme-leaf")

    assert not outcome.succeeded
    assert desk.installed() == {}


@pytest.mark.parametrize("client", INSTALLERS)
def test_a_password_with_colon_and_umlaut(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, Account(shop.url, "latin", LATIN), "acme-leaf")

    assert outcome.succeeded, outcome.output


@pytest.mark.parametrize("client", ["uv", "pdm"])  # pip and poetry cannot send what latin-1 does not have
def test_a_password_beyond_latin_1(shop: Account, desk: Desk, client: str) -> None:
    outcome = INSTALLERS[client](desk, Account(shop.url, "unicode", UNICODE), "acme-leaf")

    assert outcome.succeeded, outcome.output
