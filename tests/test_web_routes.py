"""Who may do what: every route × every kind of credentials, with the status that is the answer.

A route without a row fails, as does a row without a route.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Blueprint
from werkzeug.test import Client, TestResponse

from elasticpypi.audit import Audit
from elasticpypi.auth import Authenticator
from elasticpypi.config import Permission
from elasticpypi.index import Index, Provider, make_publisher
from elasticpypi.model import Actor
from elasticpypi.names import NormalizedName
from elasticpypi.tokens import Tokens
from elasticpypi.web.app import create_app
from elasticpypi.web.metrics import SharedTraffic, metrics_page
from elasticpypi.web.observe import Observer
from tests.dists import make_wheel
from tests.site import USERS, Directory, open_site, routes_of, upload_form

# Statuses, by column:
#
# nobody   no credentials, and those that are none: a wrong password, a token that was never made, one that has expired,
#          one that was revoked
# reader   the permission `read`, by a password, by a token, by a session with its CSRF token; so `writer` and `admin`
# other    the permission `admin`, by a token for another project
# token    by a token, whatever its permission; =: as by a password
# session  by a session, whatever the permission; =: as by a password
# forged   by the session of an administrator without the CSRF token; -: nothing is changed, so that none is needed
TABLE = """
route                                             nobody reader writer admin  other token session forged

GET     /health                                   200    200    200    200    200   =     =       -
GET     /login                                    200    200    200    200    200   =     303     -
POST    /login                                    303    303    303    303    303   =     =       303
GET     /assets/site.css                          200    200    200    200    200   =     =       -
GET     /assets/site.js                           200    200    200    200    200   =     =       -
GET     /assets/upload.js                         200    200    200    200    200   =     =       -
GET     /_/oidc/audience                          200    200    200    200    200   =     =       -
POST    /_/oidc/mint-token                        422    422    422    422    422   =     =       422

GET     /                                         401    200    200    200    200   =     =       -
GET     /search                                   401    200    200    200    200   =     =       -
GET     /feed.xml                                 401    200    200    200    200   =     =       -
GET     /project                                  401    302    302    302    302   =     =       -
GET     /project/                                 401    302    302    302    302   =     =       -
GET     /project/<name>                           401    301    301    301    301   =     =       -
GET     /project/<name>/                          401    200    200    200    403   =     =       -
GET     /project/<name>/<version>                 401    301    301    301    301   =     =       -
GET     /project/<name>/<version>/                401    200    200    200    403   =     =       -
GET     /project/<name>/feed.xml                  401    200    200    200    403   =     =       -
GET     /project/<name>/manage                    401    403    403    200    403   =     =       -
GET     /project/<name>/manage/yank               401    403    403    200    403   =     =       -
POST    /project/<name>/manage/yank               401    403    403    303    403   =     =       403
GET     /project/<name>/manage/unyank             401    403    403    200    403   =     =       -
POST    /project/<name>/manage/unyank             401    403    403    303    403   =     =       403
GET     /project/<name>/manage/delete             401    403    403    200    403   =     =       -
POST    /project/<name>/manage/delete             401    403    403    303    403   =     =       403
GET     /project/<name>/manage/status             401    403    403    200    403   =     =       -
POST    /project/<name>/manage/status             401    403    403    303    403   =     =       403
GET     /upload                                   401    403    200    200    200   =     =       -
POST    /upload                                   401    403    200    200    403   =     =       403
GET     /audit                                    401    403    403    200    200   =     =       -

GET     /simple/                                  401    200    200    200    200   =     =       -
GET     /simple                                   401    301    301    301    301   =     =       -
GET     /simple/<name>/                           401    200    200    200    403   =     =       -
GET     /simple/<name>                            401    301    301    301    301   =     =       -
GET     /packages/<name>/<filename>               401    200    200    200    403   =     =       -
GET     /packages/<name>/<filename>.metadata      401    200    200    200    403   =     =       -
GET     /pypi/<name>/json                         401    200    200    200    403   =     =       -
GET     /pypi/<name>/<version>/json               401    200    200    200    403   =     =       -

POST    /legacy/                                  401    403    200    200    403   =     =       403
POST    /legacy                                   401    403    200    200    403   =     =       403
POST    /simple/                                  401    403    200    200    403   =     =       403
POST    /simple                                   401    403    200    200    403   =     =       403

POST    /logout                                   401    403    403    403    403   =     303     403
GET     /account                                  401    200    200    200    200   =     =       -
POST    /account/tokens                           401    200    200    200    403   403   =       403
POST    /account/tokens/<token_id>/revoke         401    403    403    303    403   =     =       403

GET     /metrics                                  401    403    403    200    403   =     =       -
GET     /api/v1/                                  401    200    200    200    200   =     =       -
GET     /api/v1/openapi.json                      401    200    200    200    200   =     =       -
GET     /api/v1/projects                          401    200    200    200    200   =     =       -
GET     /api/v1/projects/<name>                   401    200    200    200    403   =     =       -
GET     /api/v1/projects/<name>/downloads         401    200    200    200    403   =     =       -
GET     /api/v1/projects/<name>/upstream          401    200    200    200    403   =     =       -
GET     /api/v1/audit                             401    403    403    200    200   =     =       -
PUT     /api/v1/projects/<name>/status            401    403    403    200    403   =     =       403
PUT     /api/v1/projects/<name>/yanked/<target>   401    403    403    200    403   =     =       403
DELETE  /api/v1/projects/<name>/yanked/<target>   401    403    403    200    403   =     =       403
DELETE  /api/v1/projects/<name>/files             401    403    403    200    403   =     =       403
DELETE  /api/v1/projects/<name>/files/<target>    401    403    403    200    403   =     =       403
POST    /api/v1/uploads                           401    403    201    201    403   =     =       403
GET     /api/v1/uploads/<upload_id>               401    403    200    200    403   =     =       -
PATCH   /api/v1/uploads/<upload_id>               401    403    200    200    403   =     =       403
POST    /api/v1/uploads/<upload_id>/finish        401    403    201    201    403   =     =       403
GET     /api/v1/tokens                            401    200    200    200    200   =     =       -
POST    /api/v1/tokens                            401    201    201    201    403   403   =       403
DELETE  /api/v1/tokens/<token_id>                 401    403    403    200    403   =     =       403
GET     /api/v1/publishers                        401    403    403    200    403   =     =       -
POST    /api/v1/publishers                        401    403    403    201    403   403   =       403
DELETE  /api/v1/publishers/<publisher_id>         401    403    403    200    403   =     =       403
"""
ROLES = ("reader", "writer", "admin")
NOBODY = ("no credentials", "a wrong password", "a token of nobody's", "an expired token", "a revoked token")
OTHER, FORGED = "a token for another project", "a session without its CSRF token"
NOBODYS = f"epypi_{'A' * 32}4cAGNy"  # of the right form, with the right checksum
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@dataclass(frozen=True, slots=True)
class Row:
    """A route, and what it answers whom."""

    method: str
    rule: str
    columns: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"

    @property
    def changes(self) -> bool:
        return self.method != "GET"

    def expected(self) -> dict[str, int]:
        """Return the status for all credentials, by their names."""
        statuses = dict.fromkeys(NOBODY, self.columns["nobody"]) | {OTHER: self.columns["other"]}
        for role in ROLES:
            by_password = self.columns[role]
            statuses[f"password of {role}"] = by_password
            for kind in ("token", "session"):
                statuses[f"{kind} of {role}"] = by_password if self.columns[kind] == "=" else self.columns[kind]
        if self.changes:
            statuses[FORGED] = self.columns["forged"]
        return {credentials: int(status) for credentials, status in statuses.items()}


def read_table() -> list[Row]:
    head, *lines = filter(None, TABLE.splitlines())
    names = head.split()[1:]
    rows = (line.split() for line in lines)
    return [Row(method, rule, dict(zip(names, statuses, strict=True))) for method, rule, *statuses in rows]


ROWS = read_table()
OPEN = [row for row in ROWS if row.columns["nobody"] != "401"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An index in which there is all that the rows speak of; each request that changes something has its own copy."""

    data: Path
    client: Client = field(repr=False)  # for whoever changes nothing
    headers: Mapping[str, Mapping[str, str]]  # by the names of credentials
    values: Mapping[str, str]  # of what stands for itself in a rule
    whole_upload: str  # the id of one of which all bytes are there

    def path_of(self, row: Row) -> str:
        values = dict(self.values)
        if row.rule.endswith("/finish"):
            values["upload_id"] = self.whole_upload
        path = re.sub(r"<(\w+)>", lambda found: quote(values[found[1]]), row.rule)
        return path + ("" if row.changes else QUERIES.get(row.rule, ""))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    root = tmp_path_factory.mktemp("prepared")
    site = open_site(root / "data")
    wheel, begun, whole = (make_wheel(root, "acme", version) for version in ("1.0", "1.1", "1.2"))
    assert site.upload(wheel).status_code == 200
    site.index.yank(NormalizedName("acme"), "1.0")
    for user in ("writer", "admin"):
        assert site.send("POST", "/api/v1/uploads", announce(begun), user=user).status_code == 201
        assert site.send("POST", "/api/v1/uploads", announce(whole), user=user).status_code == 201
        append(site.client, upload_id(whole), whole.read_bytes(), user)
    publisher = make_publisher(Provider.GITHUB, repository="acme/acme", workflow="publish.yml", projects=["acme"])
    site.index.publishers.add(publisher, by=Actor("admin", "password"))
    made, _ = make_token(site.index, "admin")
    headers = make_headers(site.index)
    values = {
        "name": "acme",
        "filename": wheel.name,
        "version": "1.0",
        "target": "1.0",
        "token_id": made,
        "publisher_id": publisher.id,
        "upload_id": upload_id(begun),
    }
    yield Prepared(root / "data", open_client(site.index, root), headers, values, upload_id(whole))
    site.index.close()


def announce(file: Path) -> dict[str, object]:
    data = file.read_bytes()
    return {"filename": file.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def upload_id(file: Path) -> str:
    said = announce(file)
    return f"{said['sha256']}.{said['size']}.{file.name}"


def append(client: Client, upload: str, data: bytes, user: str) -> None:
    headers = {"Upload-Offset": "0"}
    done = client.patch(f"/api/v1/uploads/{upload}", data=data, headers=headers, auth=(user, "secret"))
    assert done.status_code == 200, done.text


def make_headers(index: Index) -> dict[str, dict[str, str]]:
    """Return what shows all credentials, by their names; tokens are made, sessions begun by signing in."""
    revoked_id, revoked = make_token(index, "admin")
    index.tokens.revoke(revoked_id, by=Actor("admin", "password"))
    headers = {
        "no credentials": {},
        "a wrong password": basic("admin", "wrong"),
        "a token of nobody's": basic("__token__", NOBODYS),
        "an expired token": basic("__token__", make_expired_token(index)),
        "a revoked token": basic("__token__", revoked),
        OTHER: basic("__token__", make_token(index, "admin", projects=("other",))[1]),
    }
    for role in ROLES:
        headers[f"password of {role}"] = basic(role, "secret")
        headers[f"token of {role}"] = basic("__token__", make_token(index, role)[1])
        headers[f"session of {role}"] = begin_session(index, role)
    headers[FORGED] = {"Cookie": headers["session of admin"]["Cookie"]}
    return headers


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}


def make_token(index: Index, owner: str, *, projects: tuple[str, ...] = ("*",)) -> tuple[str, str]:
    permission = {"reader": Permission.READ, "writer": Permission.UPLOAD, "admin": Permission.ADMIN}[owner]
    made, secret = index.tokens.create(
        "for tests", by=Actor(owner, "password"), permission=permission, projects=projects, owner=owner
    )
    return made.id, secret


def make_expired_token(index: Index) -> str:
    ledger = index.tokens._ledger  # noqa: SLF001 - a clock of its own
    yesterday = time.time() - 86_400
    tokens = Tokens(ledger, Audit(ledger, keep_days=1), clock=lambda: yesterday)
    expires = datetime.fromtimestamp(yesterday, UTC) + timedelta(hours=1)
    by = Actor("admin", "password")
    _, secret = tokens.create("for tests", by=by, permission=Permission.ADMIN, owner="admin", expires=expires)
    return secret


def begin_session(index: Index, user: str) -> dict[str, str]:
    """Sign in as a browser does; return the cookie, and the CSRF token that stands in the pages."""
    client = Client(create_app(index, Authenticator(USERS, tokens=index.tokens)), use_cookies=False)
    form = {"csrf": "form", "username": user, "password": "secret"}
    answer = client.post("/login", data=form, headers={"Cookie": "elasticpypi-form=form"})
    assert answer.status_code == 303, answer.text
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    page = client.get("/account", headers={"Cookie": cookie}).text
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return {"Cookie": cookie, "X-CSRF-Token": found[1]}


def open_client(index: Index, counters: Path) -> Client:
    app = create_app(index, Authenticator(USERS, tokens=index.tokens), metrics=metrics_of(index, counters))
    return Client(app, use_cookies=False)


def metrics_of(index: Index, counters: Path) -> Blueprint:
    return metrics_page(index, Observer(), SharedTraffic(counters))


# What a request sends, where nothing would not do.
def _wheel() -> dict[str, Any]:
    return {"data": dict(upload_form(make_wheel(None, "acme", "2.0")))}


def _sign_in() -> dict[str, Any]:
    data = {"csrf": "form", "username": "reader", "password": "secret"}
    return {"data": data, "headers": {"Cookie": "elasticpypi-form=form"}}


PUBLISHER = {"provider": "gitlab", "repository": "acme/tools", "workflow": ".gitlab-ci.yml", "projects": ["tools"]}
WHEEL = "acme-1.0-py3-none-any.whl"
CHANGE = {"target": "1.0", "seen": hashlib.sha256(WHEEL.encode()).hexdigest()}
QUERIES = {
    "/search": "?q=acme",
    "/project/<name>/manage/yank": "?target=1.0",
    "/project/<name>/manage/unyank": "?target=1.0",
    "/project/<name>/manage/status": "?status=archived",
}
BODIES: Mapping[str, Callable[[], dict[str, Any]]] = {
    **dict.fromkeys(["POST /legacy/", "POST /legacy", "POST /simple/", "POST /simple"], _wheel),
    "POST /login": _sign_in,
    "POST /_/oidc/mint-token": lambda: {"json": {"token": "x.y.z"}},
    "POST /account/tokens": lambda: {"data": {"name": "CI", "permission": "read", "days": "7"}},
    "POST /project/<name>/manage/yank": lambda: {"data": dict(CHANGE)},
    "POST /project/<name>/manage/unyank": lambda: {"data": dict(CHANGE)},
    "POST /project/<name>/manage/delete": lambda: {"data": dict(CHANGE)},
    "POST /project/<name>/manage/status": lambda: {"data": {"status": "archived"}},
    "POST /upload": lambda: {"data": {"content": (io.BytesIO(make_wheel(None).read_bytes()), WHEEL)}},
    "PUT /api/v1/projects/<name>/status": lambda: {"json": {"status": "archived"}},
    "POST /api/v1/uploads": lambda: {"json": announce(make_wheel(None, "acme", "3.0"))},
    "PATCH /api/v1/uploads/<upload_id>": lambda: {"data": b"PK", "headers": {"Upload-Offset": "0"}},
    "POST /api/v1/tokens": lambda: {"json": {"name": "CI", "permission": "read"}},
    "POST /api/v1/publishers": lambda: {"json": PUBLISHER},
}


# Which answer the same again, so that the same index will do.
REPEATABLE = {
    *("POST /login", "POST /logout", "POST /_/oidc/mint-token", "POST /account/tokens", "POST /api/v1/tokens"),
    *("POST /legacy/", "POST /legacy", "POST /simple/", "POST /simple", "POST /upload"),
    *("POST /project/<name>/manage/yank", "POST /project/<name>/manage/status"),
    "PUT /api/v1/projects/<name>/status",
}


class Asking:
    """Sends the request of a row with any credentials, to an index in which nobody has changed anything."""

    def __init__(self, prepared: Prepared, directory: Path) -> None:
        self._prepared = prepared
        self._directory = directory
        self._index: Index | None = None
        self._client: Client | None = None

    def ask(self, row: Row, credentials: str, *, method: str | None = None, **more: str) -> TestResponse:
        """Ask; keyword arguments are further headers."""
        options = BODIES[str(row)]() if str(row) in BODIES else {}
        headers = dict(options.pop("headers", {}))
        for name, value in self._prepared.headers[credentials].items():
            headers[name] = f"{headers[name]}; {value}" if name in headers else value
        if str(row) == "POST /upload" and "X-CSRF-Token" in headers:
            options["data"]["csrf"] = headers.pop("X-CSRF-Token")  # which it looks for in the form alone
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        client = self._open() if row.changes else self._prepared.client
        path = self._prepared.path_of(row)
        answer = client.open(path, method=method or row.method, headers=headers, buffered=True, **options)
        answer.request.environ["wsgi.input"].close()
        if row.changes and answer.status_code < 400 and str(row) not in REPEATABLE:
            self.close()
        return answer

    def _open(self) -> Client:
        if self._client is None:
            shutil.copytree(self._prepared.data, self._directory)
            self._index = Directory(self._directory).open(overwrite=False)
            self._client = open_client(self._index, self._directory)
        return self._client

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = self._client = None
            shutil.rmtree(self._directory)


@pytest.fixture
def asking(prepared: Prepared, tmp_path: Path) -> Iterator[Asking]:
    opened = Asking(prepared, tmp_path / "copy")
    yield opened
    opened.close()


def test_every_route_has_a_row_and_every_row_a_route(tmp_path: Path) -> None:
    index = open_site(tmp_path / "data").index
    rules = routes_of(index, metrics=metrics_of(index, tmp_path)).url_map.iter_rules()
    routed = sorted((rule.rule, method) for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})
    index.close()
    # Core metadata lies beside its file, and shares its route.
    assert sorted((row.rule, row.method) for row in ROWS if not row.rule.endswith(".metadata")) == routed


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_who_is_answered_what(asking: Asking, row: Row) -> None:
    expected = row.expected()
    for method in [row.method] if row.changes else ["GET", "HEAD"]:
        answers = {credentials: asking.ask(row, credentials, method=method) for credentials in expected}
        assert {credentials: answer.status_code for credentials, answer in answers.items()} == expected, method
        assert method != "HEAD" or {answer.data for answer in answers.values()} == {b""}


def test_a_browser_without_a_session_is_sent_to_the_form(asking: Asking, prepared: Prepared) -> None:
    for row in ROWS:
        if row.changes or row in OPEN:
            continue
        path = prepared.path_of(row)
        up = "../" * (path.partition("?")[0].count("/") - 1)
        following = f"?next={quote(path[1:], safe='/')}" if path != "/" else ""
        for shown in ({"accept": BROWSER}, {"sec_fetch_mode": "navigate"}):
            answer = asking.ask(row, "no credentials", **shown)
            assert (answer.status_code, answer.headers["Location"]) == (302, f"{up}login{following}")
            assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("row", [row for row in ROWS if row.changes and row not in OPEN], ids=str)
def test_the_page_of_another_site_changes_nothing(asking: Asking, row: Row) -> None:
    for credentials in ("password of admin", "session of admin"):
        for place in ("cross-site", "same-site"):
            assert asking.ask(row, credentials, sec_fetch_site=place).status_code == 403


def test_what_one_person_sees_lies_in_no_cache_that_another_is_answered_from(asking: Asking) -> None:
    for row in ROWS:
        if not row.changes and not row.rule.startswith("/assets/"):
            answer = asking.ask(row, "password of admin")
            kept = answer.headers.get("Cache-Control", "").split(", ")
            assert {"private", "no-store"} & set(kept) != set() or answer.status_code == 301, row
