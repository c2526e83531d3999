"""Pages before Flask is asked: nothing is different but the time they take."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client, TestResponse

from elasticpypi.auth import Authenticator
from elasticpypi.web import pages
from elasticpypi.web.app import create_app
from elasticpypi.web.auth import BasicAuth
from elasticpypi.web.pages import Pages
from elasticpypi.web.rendered import RenderedPages
from tests.dists import make_wheel
from tests.running import RunningServer, serving
from tests.site import JSON, USERS, Site, routes_of

pytestmark = pytest.mark.both_worlds

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HTML = "application/vnd.pypi.simple.v1+html"


@pytest.fixture
def acme(site: Site, tmp_path: Path) -> Site:
    for name in ("acme", "acme-tools", "bolt"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    return site


def ask(client: Client, path: str, *, user: str = "reader", method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    credentials = {"Authorization": "Basic " + b64encode(f"{user}:secret".encode()).decode()}
    return client.open(path, method=method, headers=named | credentials, buffered=True)


def without_flask(site: Site) -> Client:
    """Return a client of the pages alone; whatever would be handed on to Flask is 599."""

    def nobody(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("599 Handed On", [])
        return []

    return Client(BasicAuth(RenderedPages(nobody, Pages(site.index)), Authenticator(USERS)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/simple/", "/simple/acme/"])
def test_pages_are_answered_without_flask(acme: Site, path: str, method: str) -> None:
    client = without_flask(acme)
    first = ask(client, path, method=method, accept=JSON)
    assert (first.status_code, first.mimetype) == (200, JSON)
    assert bool(first.data) is (method == "GET")
    unchanged = ask(client, path, method=method, accept=JSON, if_none_match=first.headers["ETag"])
    assert (unchanged.status_code, unchanged.data) == (304, b"")


@pytest.mark.parametrize(
    ("path", "user", "method", "accept"),
    [
        ("/simple/Acme/", "reader", "GET", JSON),
        ("/simple/acme", "reader", "GET", JSON),
        ("/simple", "reader", "GET", JSON),
        ("/simple/nothing/", "reader", "GET", JSON),
        ("/simple/acme/x/", "reader", "GET", JSON),
        ("/simple//", "reader", "GET", JSON),
        ("/simple/bolt/", "guest", "GET", JSON),
        ("/simple/acme/", "reader", "GET", "image/png"),
        ("/simple/", "writer", "POST", JSON),
        ("/packages/acme/acme-1.0-py3-none-any.whl", "reader", "GET", "*/*"),
    ],
)
def test_everything_else_is_handed_on(acme: Site, path: str, user: str, method: str, accept: str) -> None:
    assert ask(without_flask(acme), path, user=user, method=method, accept=accept).status_code == 599


def test_flask_gives_the_same_answers(acme: Site) -> None:
    alone = Client(BasicAuth(routes_of(acme.index), Authenticator(USERS)))
    both = Client(create_app(acme.index, Authenticator(USERS)))
    paths = ("/simple/", "/simple/acme/", "/simple/bolt/", "/simple/nothing/", "/simple/ACME/")
    accepts = (JSON, HTML, "text/html", "*/*", "image/png")
    for path, accept, encoding, user, method in itertools.product(
        paths, accepts, ("gzip", "identity"), ("reader", "guest"), ("GET", "HEAD")
    ):
        answers = [
            ask(client, path, user=user, method=method, accept=accept, accept_encoding=encoding)
            for client in (alone, both)
        ]
        seen = [(answer.status, sorted(answer.headers.items()), answer.data) for answer in answers]
        assert seen[0] == seen[1], (path, accept, encoding, user, method)


def test_nobody_sees_the_root_of_somebody_else(acme: Site) -> None:
    client = without_flask(acme)
    for user, count in (("reader", 3), ("guest", 2), ("reader", 3), ("team", 2)):
        answer = ask(client, "/simple/", user=user, accept=JSON)
        assert answer.json is not None
        assert len(answer.json["projects"]) == count


def test_what_does_not_fit_into_memory_is_answered_all_the_same(acme: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MEMORY_BYTES", 2000)  # two or three pages
    client = without_flask(acme)
    for name, accept in itertools.product(("acme", "acme-tools", "bolt", "acme"), (JSON, HTML, "text/html")):
        answer = ask(client, f"/simple/{name}/", accept=accept)
        assert (answer.status_code, name in answer.text) == (200, True)


def test_headers_that_are_far_too_long_are_not_looked_at(acme: Site) -> None:
    client = Client(create_app(acme.index, Authenticator(USERS)))
    tag = ask(client, "/simple/acme/", accept=JSON).headers["ETag"]
    padded = ",".join([tag, *['"x"'] * 1000])
    assert ask(client, "/simple/acme/", accept=JSON, if_none_match=padded).status_code == 200
    assert ask(client, "/simple/acme/", accept=f"{JSON}{',a/b' * 1000}").status_code == 406
    assert "Content-Encoding" not in ask(client, "/simple/acme/", accept_encoding="x," * 1000 + "gzip").headers


def files(server: RunningServer) -> set[str]:
    return {file["filename"] for file in server.fetch("/simple/acme/").json()["files"]}


def test_what_one_process_took_the_next_request_to_any_other_shows(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "3", home=tmp_path / "home") as server:
        sent = set()
        for number in range(12):
            wheel = make_wheel(tmp_path, "acme", f"1.{number}")
            assert server.upload(wheel).status_code == 200
            sent.add(wheel.name)
            # A connection each, which the kernel gives to this process or that.
            assert [files(server) for _ in range(5)] == [sent] * 5
