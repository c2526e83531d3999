"""`/api/v1/`: what it does, and that it does what its description says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from elasticpypi.model import parse_decisions
from elasticpypi.names import NormalizedName
from elasticpypi.web import routes
from tests.dists import make_sdist, make_wheel
from tests.site import Site, routes_of

pytestmark = pytest.mark.both_worlds
ACME = NormalizedName("acme")
OPENAPI: dict[str, Any] = json.loads((Path(routes.__file__).parent / "openapi.json").read_text())


def call(site: Site, method: str, path: str, body: object = None, *, user: str | None = "admin") -> TestResponse:
    """Send a request, and hold the answer against the description."""
    response = site.send(method, path, body, user=user)
    check_described(method, path.partition("?")[0], response)
    return response


def check_described(method: str, path: str, response: TestResponse) -> None:
    operation = find_operation(method, path)
    answer = operation["responses"][str(response.status_code)]
    while "$ref" in answer:
        answer = resolve(answer["$ref"])
    assert response.mimetype == "application/json"
    schema = answer["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": OPENAPI["components"]}).validate(response.json)


def resolve(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = OPENAPI
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def find_operation(method: str, path: str) -> dict[str, Any]:
    for template, operations in OPENAPI["paths"].items():
        parts, wanted = template.split("/"), path.split("/")
        if len(parts) == len(wanted) and all(
            part == found or (part.startswith("{") and found) for part, found in zip(parts, wanted, strict=True)
        ):
            operation: dict[str, Any] = operations[method.lower()]
            return operation
    raise AssertionError(f"{method} {path} is not described")


@pytest.fixture
def acme(site: Site, tmp_path: Path) -> Site:
    """An index with two releases of acme."""
    for version in ("1.0", "1.1"):
        site.drop(make_wheel(tmp_path, "acme", version))
    site.drop(make_sdist(tmp_path, "acme", "1.1"))
    return site


def decided(site: Site) -> object:
    return parse_decisions(site.place.read("acme/project.json"))


def test_the_description_is_valid() -> None:
    validate(OPENAPI)


def test_every_route_is_described_and_nothing_else(site: Site) -> None:
    app = routes_of(site.index)
    assert sorted(described_operations()) == sorted(routed_operations(app))


def described_operations() -> Iterator[tuple[str, str]]:
    for path, operations in OPENAPI["paths"].items():
        for method in operations.keys() - {"parameters"}:
            yield method.upper(), "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def routed_operations(app: flask.Flask) -> Iterable[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield method, "/".join("{}" if part.startswith("<") else part for part in rule.rule.split("/"))


def test_it_says_what_it_is(site: Site) -> None:
    assert call(site, "GET", "/api/v1/").json == {"api-version": OPENAPI["info"]["version"], "elasticpypi": "0.1.0"}
    assert call(site, "GET", "/api/v1/openapi.json").json == OPENAPI
    assert site.send("GET", "/api/v1").json == site.send("GET", "/api/v1/").json


def test_projects_come_in_pieces(site: Site, tmp_path: Path) -> None:
    for name in ("acme", "acme-tools", "bolt", "nut"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    first = call(site, "GET", "/api/v1/projects?limit=3").json
    second = call(site, "GET", f"/api/v1/projects?limit=3&after={first['next']}").json  # type: ignore[index]
    assert [[project["name"] for project in page["projects"]] for page in (first, second)] == [  # type: ignore[index]
        ["acme", "acme-tools", "bolt"],
        ["nut"],
    ]
    assert (first["next"], second["next"]) == ("bolt", None)  # type: ignore[index]
    seen = call(site, "GET", "/api/v1/projects", user="guest").json
    assert [project["name"] for project in seen["projects"]] == ["acme", "acme-tools"]  # type: ignore[index]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "²", "9" * 5000])
def test_a_limit_that_is_none_is_refused(site: Site, limit: str) -> None:
    answer = call(site, "GET", f"/api/v1/projects?limit={limit}")
    assert (answer.status_code, answer.json["error"]) == (400, "invalid-request")  # type: ignore[index]


def test_a_project_is_shown_as_the_files_are(acme: Site) -> None:
    document = call(acme, "GET", "/api/v1/projects/Acme").json
    page = {file["filename"]: file for file in acme.json("/simple/acme/")["files"]}
    assert document is not None
    files = [file for release in document["releases"] for file in release["files"]]
    assert [release["version"] for release in document["releases"]] == ["1.0", "1.1"]
    assert {f["filename"]: (f["sha256"], f["size"], f["upload-time"], f["yanked"]) for f in files} == {
        name: (file["hashes"]["sha256"], file["size"], file["upload-time"], file["yanked"])
        for name, file in page.items()
    }
    assert (document["name"], document["status"], document["rejected"]) == ("acme", "active", [])


def test_a_release_is_yanked_and_not_yanked_any_more(acme: Site) -> None:
    done = call(acme, "PUT", "/api/v1/projects/Acme/yanked/1.1.0", {"reason": "broken"})
    both = ["acme-1.1-py3-none-any.whl", "acme-1.1.tar.gz"]
    assert (done.status_code, done.json) == (200, {"project": "acme", "filenames": both})
    yanked = {file["filename"]: file["yanked"] for file in acme.json("/simple/acme/")["files"]}
    assert yanked == {"acme-1.0-py3-none-any.whl": False, **dict.fromkeys(both, "broken")}
    done = call(acme, "DELETE", "/api/v1/projects/acme/yanked/1.1")
    assert (done.status_code, done.json) == (200, {"project": "acme", "filenames": both})
    assert not any(file["yanked"] for file in acme.json("/simple/acme/")["files"])


def test_a_yank_needs_no_reason(acme: Site) -> None:
    assert call(acme, "PUT", "/api/v1/projects/acme/yanked/acme-1.1.tar.gz").status_code == 200
    assert [file["yanked"] for file in acme.json("/simple/acme/")["files"]] == [False, False, True]


def test_a_project_gets_a_status(acme: Site) -> None:
    done = call(acme, "PUT", "/api/v1/projects/acme/status", {"status": "quarantined", "reason": "<malware>"})
    assert done.json == {"project": "acme", "status": "quarantined", "status-reason": "<malware>"}
    page = acme.json("/simple/acme/")
    assert (page["project-status"], page["files"]) == ({"status": "quarantined", "reason": "<malware>"}, [])
    for user, releases in (("admin", 2), ("reader", 0)):
        shown = call(acme, "GET", "/api/v1/projects/acme", user=user).json
        assert len(shown["releases"]) == releases  # type: ignore[index]
    call(acme, "PUT", "/api/v1/projects/acme/status", {"status": "active"})
    assert acme.json("/simple/acme/")["project-status"] == {"status": "active"}


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("files/acme-1.0-py3-none-any.whl", ["acme-1.0-py3-none-any.whl"]),
        ("files/1.1", ["acme-1.1-py3-none-any.whl", "acme-1.1.tar.gz"]),
        ("files", ["acme-1.0-py3-none-any.whl", "acme-1.1-py3-none-any.whl", "acme-1.1.tar.gz"]),
    ],
)
def test_files_are_deleted(acme: Site, path: str, gone: list[str]) -> None:
    before = {file["filename"]: file["hashes"]["sha256"] for file in acme.json("/simple/acme/")["files"]}
    done = call(acme, "DELETE", f"/api/v1/projects/acme/{path}")
    assert (done.status_code, done.json) == (200, {"project": "acme", "filenames": gone})
    left = [file["filename"] for file in acme.json("/simple/acme/")["files"]]
    assert left == [name for name in before if name not in gone]
    assert call(acme, "GET", "/api/v1/projects/acme").json["deleted"] == {  # type: ignore[index]
        name: before[name] for name in gone
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "projects/bolt", None, 404, "not-found"),
        ("GET", "projects/-", None, 404, "invalid-name"),
        ("PUT", "projects/acme/yanked/9.9", {}, 404, "not-found"),
        ("DELETE", "projects/acme/yanked/nothing.whl", None, 404, "not-found"),
        ("DELETE", "projects/acme/files/9.9", None, 404, "not-found"),
        ("PUT", "projects/acme/status", {"status": "gone"}, 400, "invalid-request"),
        ("PUT", "projects/acme/status", {"status": "active", "reason": 1}, 400, "invalid-request"),
        ("PUT", "projects/acme/status", ["active"], 400, "invalid-request"),
        ("PUT", "projects/acme/yanked/1.0", {"reason": "x" * 2001}, 400, "invalid-request"),
    ],
)
def test_what_cannot_be_done_is_said_in_json(
    acme: Site, method: str, path: str, body: object, status: int, error: str
) -> None:
    answer = call(acme, method, f"/api/v1/{path}", body)
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"], answer.json["error"]) == (status, status, error)
    assert answer.json["message"].count("\n") == 0


def test_a_project_whose_decisions_cannot_be_read_takes_no_new_ones(acme: Site) -> None:
    acme.decide("acme", "{")
    answer = call(acme, "PUT", "/api/v1/projects/acme/yanked/1.0")
    assert answer.json is not None
    assert (answer.status_code, answer.json["error"]) == (409, "decisions")
    assert acme.place.read("acme/project.json") == b"{"


@pytest.mark.parametrize(
    ("user", "body", "status"),
    [("reader", b"[" * 100_000, 403), ("writer", b"[" * 50_000, 400), ("writer", b" " * 70_000 + b"{}", 400)],
)
def test_a_body_that_is_no_small_object_is_not_read(site: Site, user: str, body: bytes, status: int) -> None:
    answer = site.client.post("/api/v1/uploads", data=body, content_type="application/json", auth=(user, "secret"))
    assert (answer.status_code, answer.mimetype) == (status, "application/json")


DECIDING = [
    ("PUT", "projects/acme/yanked/1.0"),
    ("DELETE", "projects/acme/yanked/1.0"),
    ("PUT", "projects/acme/status"),
    ("DELETE", "projects/acme/files"),
    ("DELETE", "projects/acme/files/1.0"),
]


@pytest.mark.parametrize(("method", "path"), DECIDING)
def test_only_administrators_decide(acme: Site, method: str, path: str) -> None:
    for user in ("writer", "reader", "team"):
        answer = call(acme, method, f"/api/v1/{path}", {"status": "archived"}, user=user)
        assert (answer.status_code, answer.json["error"]) == (403, "forbidden")  # type: ignore[index]
    answer = call(acme, method, f"/api/v1/{path}", user=None)
    assert (answer.status_code, answer.json["error"]) == (401, "unauthorized")  # type: ignore[index]
    assert "acme/project.json" not in acme.place.list_keys()
    assert len(acme.json("/simple/acme/")["files"]) == 3


def test_a_path_that_is_none_is_not_found_in_json(site: Site) -> None:
    answer = site.send("GET", "/api/v1/nothing")
    assert (answer.status_code, answer.mimetype) == (404, "application/json")
    answer = site.send("POST", "/api/v1/projects")
    assert (answer.status_code, answer.json["error"]) == (405, "method-not-allowed")  # type: ignore[index]
