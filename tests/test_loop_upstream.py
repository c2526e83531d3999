"""Names that are not ours through the deployed functions: upstreams in variables, pages and files behind a gateway."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients import INSTALLERS, Desk, account
from tests.deployed import Deployment
from tests.dists import make_wheel
from tests.loop import IndexOnAws, running_on_aws
from tests.running import wait_for
from tests.upstreams import FakeUpstream, running_upstream

pytestmark = pytest.mark.timeout(300)  # seconds: the first to ask for a deployment waits for `sls`
CREDENTIALS = ("ours", "s3cr3t-of-upstream")


@dataclass(frozen=True, slots=True)
class Shop:
    """An index on AWS, and its upstreams: one that everybody may ask, and one that wants credentials."""

    index: IndexOnAws
    open: FakeUpstream
    closed: FakeUpstream


@pytest.fixture(scope="module")
def shop(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with running_upstream() as everybodys, running_upstream() as closed:
        closed.credentials = CREDENTIALS
        username, password = CREDENTIALS
        with_credentials = {"username": username, "password": password}
        upstreams: list[dict[str, Any]] = [
            {"name": "sent", "url": everybodys.url, "mode": "redirect", "allow": ["sent-*"]},
            {"name": "kept", "url": everybodys.url, "mode": "proxy", "allow": ["kept-*"], "keep": True},
            {"name": "closed", "url": closed.url, "mode": "proxy", "allow": ["closed-*"], **with_credentials},
            {"name": "other", "url": everybodys.url, "mode": "proxy"},
        ]
        extra = {
            "ELASTICPYPI_UPSTREAMS": json.dumps([{**upstream, "private": True} for upstream in upstreams]),
            "ELASTICPYPI_OWN_NAMES": json.dumps(["reserved-*"]),
        }
        with running_on_aws(deployment, tmp_path_factory.mktemp("upstreams"), extra=extra) as index:
            yield Shop(index, everybodys, closed)


def test_a_page_comes_through_the_gateway(shop: Shop, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name)
    shop.open.add(wheel)
    page = shop.index.fetch(f"/simple/{name}/")
    (file,) = page.json()["files"]
    assert (file["filename"], file["url"]) == (wheel.name, f"{shop.open.base}/files/{wheel.name}")
    assert shop.index.fetch(f"/simple/{name}/", if_none_match=page.headers["ETag"]).status_code == 304


def test_what_is_ours_is_never_asked_for(shop: Shop, name: str, tmp_path: Path) -> None:
    for version in ("1.0", "9.0"):
        wheel = make_wheel(tmp_path, name, version)
        shop.open.add(wheel)
        if version == "1.0":
            shop.index.put(f"{name}/{wheel.name}", wheel.read_bytes())
    shop.index.settle()
    assert list(shop.index.listing(name) or {}) == [f"{name.replace('-', '_')}-1.0-py3-none-any.whl"]
    assert shop.index.fetch(f"/packages/{name}/{wheel.name}").status_code == 404
    assert shop.open.paths(f"/simple/{name}/") == []


@pytest.mark.parametrize("prefix", ["reserved", "unheard-of"])
def test_what_nobody_has_is_a_404(shop: Shop, name: str, prefix: str) -> None:
    assert shop.index.fetch(f"/simple/{prefix}-{name}/").status_code == 404
    assert len(shop.open.paths(f"/simple/{prefix}-{name}/")) == (0 if prefix == "reserved" else 1)


def test_clients_are_sent_to_upstream(shop: Shop, name: str) -> None:
    answer = shop.index.fetch(f"/simple/sent-{name}/", follow=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{shop.open.url}sent-{name}/")


def test_what_was_downloaded_once_is_kept_by_the_other_function(shop: Shop, name: str, tmp_path: Path) -> None:
    project = f"kept-{name}"
    wheel = make_wheel(tmp_path, project)
    shop.open.add(wheel)
    path = f"/packages/{project}/{wheel.name}"
    first = shop.index.fetch(path, follow=False)
    assert (first.status_code, first.headers["Location"]) == (302, f"{shop.open.base}/files/{wheel.name}")
    assert first.headers["Cache-Control"] == "no-store"
    wait_for(lambda: shop.index.fetch(path, follow=False).headers["Location"], lambda url: shop.open.base not in url)
    asked = shop.open.paths(f"/files/{wheel.name}")
    with shop.open.behaving("500"):
        got = shop.index.fetch(path).content
        metadata = shop.index.fetch(f"{path}.metadata")
    assert hashlib.sha256(got).digest() == hashlib.sha256(wheel.read_bytes()).digest()
    assert metadata.status_code == 200
    assert shop.open.paths(f"/files/{wheel.name}") == asked
    assert shop.index.waiting(dead=True) == 0


def test_files_that_need_credentials_come_by_way_of_the_bucket(shop: Shop, name: str, tmp_path: Path) -> None:
    project = f"closed-{name}"
    wheel = make_wheel(tmp_path, project)
    shop.closed.add(wheel)
    (file,) = shop.index.fetch(f"/simple/{project}/").json()["files"]
    assert file["url"] == f"../../packages/{project}/{wheel.name}"
    sent = shop.index.fetch(f"/packages/{project}/{wheel.name}", follow=False)
    assert sent.status_code == 302
    assert shop.closed.netloc not in sent.headers["Location"]
    assert shop.index.fetch(f"/packages/{project}/{wheel.name}").content == wheel.read_bytes()
    assert CREDENTIALS[1] not in shop.index.logs()


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("prefix", ["sent", "kept", "closed", "other"])
def test_clients_install_from_upstreams(
    shop: Shop, name: str, tmp_path: Path, desk: Desk, prefix: str, client: str
) -> None:
    project = f"{prefix}-{name}"
    upstream = shop.closed if prefix == "closed" else shop.open
    upstream.add(make_wheel(tmp_path, project, "2.0"))
    ours = make_wheel(tmp_path, name)
    shop.index.put(f"{name}/{ours.name}", ours.read_bytes())
    shop.index.settle()
    outcome = INSTALLERS[client](desk, account(shop.index), name, project)
    assert outcome.succeeded, outcome.output
    assert desk.installed() == {name: "1.0", project: "2.0"}


def test_an_upstream_that_fails_is_not_here_now(shop: Shop, name: str, tmp_path: Path) -> None:
    shop.open.add(make_wheel(tmp_path, name))
    with shop.open.behaving("500"):
        answer = shop.index.fetch(f"/simple/{name}/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
