"""The audit trail: what is remembered of whom, for how long, and who gets to see it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.test import Client, TestResponse

from elasticpypi.audit import EVENT_LOGGER, Action, Audit, Event, Wanted, describe_event
from elasticpypi.auth import Authenticator
from elasticpypi.catalog.ledger import NoLedger
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.config import Permission, User
from elasticpypi.errors import InvalidRequestError
from elasticpypi.index import FinishRequest, claim_by_filename
from elasticpypi.model import UNKNOWN_ACTOR, Actor, Status
from elasticpypi.names import NormalizedName
from elasticpypi.publishers import Provider, make_publisher
from elasticpypi.web.app import create_app
from tests.dists import make_sdist, make_wheel
from tests.issuers import Issuer, issuing
from tests.looking import look
from tests.signing_in import Visitor, read_forms
from tests.site import USERS, Site, open_site, routes_of, upload_form
from tests.test_web_api import check_described

ACME, BOLT = NormalizedName("acme"), NormalizedName("bolt")
ALICE, BOB = Actor("alice", "password"), Actor("bob", "token 0123456789abcdef")
OPERATOR = Actor(pwd.getpwuid(os.getuid()).pw_name, "command line")
NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
DAY_SECONDS = 86_400
LIMITED = User("limited", "secret", Permission.ADMIN, ("acme", "acme-*"))


@dataclass
class Clock:
    """A clock that is set by hand; each look takes a second."""

    seconds: float = NOON.timestamp()

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(tmp_path: Path, clock: Clock) -> Iterator[Audit]:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    yield Audit(ledger, keep_days=2, clock=clock)
    ledger.close()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """What the log says, a line of JSON for each event."""
    caplog.set_level(logging.INFO, logger=EVENT_LOGGER)
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == EVENT_LOGGER]


def targets(events: Any) -> list[str | None]:
    return [event.target for event in events]


# Keeping ---------------------------------------------------------------------------------------------------------


def test_an_event_is_kept_and_logged_as_it_was(audit: Audit, told: Callable[[], list[dict[str, Any]]]) -> None:
    audit.record(BOB, Action.YANK, project="acme", target="1.0", details={"reason": "broken"})
    (event,) = audit.events(limit=10)
    time = datetime(2026, 11, 29, 12, 0, 1, tzinfo=UTC)
    assert event == Event(event.id, time, BOB, Action.YANK, "acme", "1.0", {"reason": "broken"})
    expected = {
        "kind": "audit",
        "id": event.id,
        "time": "2026-11-29T12:00:01.000000Z",
        "who": "bob",
        "credential": "token 0123456789abcdef",
        "action": "yank",
        "project": "acme",
        "target": "1.0",
        "details": {"reason": "broken"},
    }
    assert told() == [expected]
    assert {"kind": "audit", **describe_event(event)} == expected


def test_the_last_event_comes_first_and_none_stays_longer_than_it_should(audit: Audit, clock: Clock) -> None:
    for number in range(3):
        audit.record(ALICE, Action.UPLOAD, target=f"{number}")
    assert targets(audit.events(limit=2)) == ["2", "1"]
    clock.seconds += 2 * DAY_SECONDS - 10
    assert targets(audit.events(limit=10)) == ["2", "1", "0"]
    clock.seconds += 20
    assert audit.events(limit=10) == []


def test_what_cannot_be_kept_is_logged_and_stops_nobody(
    told: Callable[[], list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    Audit(NoLedger()).record(ALICE, Action.DELETE, project="acme")
    assert [(line["who"], line["action"], line["project"]) for line in told()] == [("alice", "delete", "acme")]
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    assert "an event was not kept in the audit trail: " in caplog.text


def test_what_is_too_long_is_cut(audit: Audit) -> None:
    audit.record(ALICE, Action.DELETE, details={"filenames": "ä" * 100_000})
    (event,) = audit.events(limit=1)
    assert event.details == {"filenames": "ä" * 2000 + "…"}


def test_an_action_of_a_later_version_can_be_read(audit: Audit) -> None:
    audit.record(ALICE, "rename", project="acme")  # type: ignore[arg-type]
    assert [event.action for event in audit.events(limit=1)] == ["rename"]


# Finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trail(audit: Audit) -> Audit:
    """Twelve events: alice's at acme, bob's at bolt, and tokens of alice's, by turns."""
    for number in range(0, 12, 3):
        audit.record(ALICE, Action.UPLOAD, project=ACME, target=f"{number}")
        audit.record(BOB, Action.UPLOAD, project=BOLT, target=f"{number + 1}")
        audit.record(ALICE, Action.CREATE_TOKEN, target=f"{number + 2}")
    return audit


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), "11 10 9 8 7 6 5 4 3 2 1 0"),
        (Wanted(project=ACME), "9 6 3 0"),
        (Wanted(who="bob"), "10 7 4 1"),
        (Wanted(project=BOLT, who="alice"), ""),
        (Wanted(project=NormalizedName("nut")), ""),
        (Wanted(is_visible=lambda name: name == BOLT), "10 7 4 1"),  # no token: these belong to no project
        (Wanted(project=ACME, is_visible=lambda name: name == BOLT), ""),
    ],
)
@pytest.mark.parametrize(("at_once", "most"), [(500, 5000), (2, 5000), (2, 5), (1, 1)])
def test_events_are_found_in_pieces_that_leave_out_none(
    trail: Audit, monkeypatch: pytest.MonkeyPatch, wanted: Wanted, expected: str, at_once: int, most: int
) -> None:
    monkeypatch.setattr("elasticpypi.audit._READ_AT_ONCE", at_once)
    monkeypatch.setattr("elasticpypi.audit._MOST_READ", most)
    for limit in (1, 2, 4, 12, 13):
        found, before = list[str | None](), None
        for _ in range(20):
            excerpt = trail.find(wanted, before=before, limit=limit)
            assert len(excerpt.events) <= limit
            found += targets(excerpt.events)
            before = excerpt.next
            if before is None:
                break
        assert (found, before) == (expected.split(), None)
    assert targets(trail.walk(wanted)) == expected.split()


def test_the_last_piece_says_that_there_is_no_more(trail: Audit) -> None:
    assert trail.find(Wanted(project=ACME), limit=4).next is None
    assert trail.find(Wanted(project=ACME), limit=3).next is not None


def test_no_more_events_are_read_than_a_request_has_time_for(trail: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.audit._MOST_READ", 5)
    excerpt = trail.find(Wanted(who="nobody"), limit=100)
    assert excerpt.events == ()
    assert targets(trail.find(Wanted(), before=excerpt.next, limit=1).events) == ["6"]


@pytest.mark.parametrize("before", ["", "x", "0" * 16, "\u0660" * 16 + "-01234567", "9" * 5000])
def test_what_is_no_event_is_refused(trail: Audit, before: str) -> None:
    with pytest.raises(InvalidRequestError):
        trail.find(Wanted(), before=before, limit=1)


# What is remembered ----------------------------------------------------------------------------------------------


def deeds(site: Site) -> list[tuple[str, str, str, str | None, str | None, dict[str, str]]]:
    """Return what the trail says, the oldest first."""
    return [
        (e.actor.name, e.actor.credential, e.action, e.project, e.target, dict(e.details))
        for e in reversed(site.index.audit.events(limit=100))
    ]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.both_worlds
def test_what_changes_something_is_remembered_once(site: Site, tmp_path: Path) -> None:
    wheel, sdist = make_wheel(tmp_path, "acme", "1.0"), make_sdist(tmp_path, "acme", "1.0")
    for _ in range(2):  # the second time, each of these changes nothing
        assert site.upload(wheel).status_code == 200
        assert site.upload(sdist, user="admin").status_code == 200
        site.send("PUT", "/api/v1/projects/Acme/yanked/1.0.0", {"reason": "broken"})
        site.send("PUT", "/api/v1/projects/acme/status", {"status": "deprecated", "reason": "use bolt"})
    for _ in range(2):
        site.send("DELETE", "/api/v1/projects/acme/yanked/1.0")
        site.send("PUT", "/api/v1/projects/acme/status", {"status": "active"})
    for _ in range(2):
        site.send("DELETE", f"/api/v1/projects/acme/files/{sdist.name}")
        site.send("DELETE", "/api/v1/projects/acme/files")
    admin = ("admin", "password")
    assert deeds(site) == [
        ("writer", "password", "upload", "acme", wheel.name, {"sha256": digest(wheel)}),
        (*admin, "upload", "acme", sdist.name, {"sha256": digest(sdist)}),
        (*admin, "yank", "acme", "1.0", {"reason": "broken"}),
        (*admin, "status", "acme", None, {"status": "deprecated", "reason": "use bolt"}),
        (*admin, "unyank", "acme", "1.0", {}),
        (*admin, "status", "acme", None, {"status": "active"}),
        (*admin, "delete", "acme", sdist.name, {"filenames": sdist.name}),
        (*admin, "delete", "acme", None, {"filenames": wheel.name}),
    ]


@pytest.mark.both_worlds
def test_what_is_refused_is_not_remembered(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.upload(wheel)
    site.upload(make_wheel(tmp_path / "other", "acme", "1.0", description="other bytes"))
    site.upload(make_wheel(tmp_path, "acme", "2.0"), user="reader")
    site.send("PUT", "/api/v1/projects/acme/yanked/3.0", {})
    site.send("PUT", "/api/v1/projects/acme/yanked/1.0", {}, user="writer")
    site.send("DELETE", "/api/v1/projects/bolt/files")
    assert [deed[:5] for deed in deeds(site)] == [("writer", "password", "upload", "acme", wheel.name)]


def test_a_replacement_is_called_one(tmp_path: Path) -> None:
    site = open_site(tmp_path / "data", overwrite=True)
    first = make_wheel(tmp_path, "acme", "1.0")
    second = make_wheel(tmp_path / "other", "acme", "1.0", description="other bytes")
    site.upload(first)
    site.upload(second)
    assert [deed[2:] for deed in deeds(site)] == [
        ("upload", "acme", first.name, {"sha256": digest(first)}),
        ("replace", "acme", first.name, {"sha256": digest(second)}),
    ]
    site.index.close()


def test_an_upload_that_is_finished_later_is_that_of_who_began_it(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    request = FinishRequest("ab" * 32, wheel.name, wheel.stat().st_size, digest(wheel), BOB.name, BOB.credential)
    site.index.begin(request.token, size=request.size, sha256=request.sha256)
    with site.index.resume(request.token) as incoming:
        incoming.write(wheel.read_bytes())
    sent: list[Any] = []
    site.index.hand_over(request, sent.append)
    for _ in range(2):
        site.index.finish_upload(sent[0])
    assert deeds(site) == [(BOB.name, BOB.credential, "upload", "acme", wheel.name, {"sha256": digest(wheel)})]


def test_an_upload_whose_message_names_no_credential_is_finished(site: Site, tmp_path: Path) -> None:
    """A message that waited in the queue while a new version was deployed."""
    wheel = make_wheel(tmp_path, "acme", "1.0")
    message = {"token": "ab" * 32, "filename": wheel.name, "size": wheel.stat().st_size, "sha256": digest(wheel)}
    site.index.begin("ab" * 32, size=wheel.stat().st_size, sha256=digest(wheel))
    with site.index.resume("ab" * 32) as incoming:
        incoming.write(wheel.read_bytes())
    site.index.finish_upload(message | {"principal": "writer"})
    assert [deed[:3] for deed in deeds(site)] == [("writer", "unknown", "upload")]


def test_who_says_nothing_is_unknown(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    with site.index.receive() as incoming:
        incoming.write(make_wheel(tmp_path, "acme", "1.1").read_bytes())
        sha256 = digest(tmp_path / "acme-1.1-py3-none-any.whl")
        site.index.add(incoming, claim_by_filename("acme-1.1-py3-none-any.whl", sha256), sha256=sha256)
    site.index.yank(ACME, "1.0")
    site.index.unyank(ACME, "1.0")
    site.index.set_status(ACME, Status.ARCHIVED)
    site.index.delete(ACME)
    assert [(Actor(*deed[:2]), deed[2]) for deed in deeds(site)] == [
        (UNKNOWN_ACTOR, action) for action in ("upload", "yank", "unyank", "status", "delete")
    ]


@pytest.mark.both_worlds
def test_commands_are_those_of_the_user_of_the_operating_system(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")  # as `runuser` leaves it
    make_wheel(tmp_path / "packages", "acme", "1.0")
    for arguments in (
        ("import", "pypiserver", str(tmp_path / "packages")),
        ("yank", "acme", "1.0", "--reason", "broken"),
        ("unyank", "acme", "1.0"),
        ("status", "acme", "deprecated"),
        ("delete", "acme", "--yes"),
    ):
        done = site.run(*arguments)
        assert done.exit_code == 0, done.output
    assert [(Actor(*deed[:2]), deed[2]) for deed in deeds(site)] == [
        (OPERATOR, action) for action in ("upload", "yank", "unyank", "status", "delete")
    ]


def test_what_goes_by_an_upload_command_is_that_of_the_user_too(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    assert site.run("upload", str(wheel)).exit_code == 0
    assert deeds(site) == [(*astuple(OPERATOR), "upload", "acme", wheel.name, {"sha256": digest(wheel)})]


def astuple(actor: Actor) -> tuple[str, str]:
    return actor.name, actor.credential


def test_a_deletion_that_stops_halfway_is_remembered(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(site.place.storage_type, "remove", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        site.index.delete(ACME, by=ALICE)
    assert [deed[:4] for deed in deeds(site)] == [("alice", "password", "delete", "acme")]


# Every route -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """An index with a release of acme, yanked, and what requests need."""

    site: Site
    tmp_path: Path
    issuer: Issuer

    def send(self, method: str, path: str, body: object = None) -> TestResponse:
        return self.site.send(method, path, body)

    def upload(self, path: str) -> TestResponse:
        return self.site.upload(make_wheel(self.tmp_path / "new", "acme", "2.0"), path=path)

    def upload_by_form(self) -> TestResponse:
        form = dict(upload_form(make_wheel(self.tmp_path / "new", "acme", "2.0")))
        return self.site.client.post("/upload", data={"content": form["content"]}, auth=("writer", "secret"))

    def begin(self) -> str:
        wheel = make_wheel(self.tmp_path / "new", "acme", "2.0")
        slot = {"filename": wheel.name, "size": wheel.stat().st_size, "sha256": digest(wheel)}
        begun: Any = self.send("POST", "/api/v1/uploads", slot).json
        headers = {"Upload-Offset": "0"}
        path = f"/api/v1/{begun['parts-url']}"
        self.site.client.patch(path, data=wheel.read_bytes(), headers=headers, auth=("admin", "secret"))
        return path

    def make_token(self) -> str:
        token, _ = self.site.index.tokens.create("CI", by=ALICE, permission=Permission.READ, owner="admin")
        return token.id

    def publisher(self) -> dict[str, Any]:
        return {"provider": "github", "repository": "acme/widget", "workflow": "release.yml", "projects": ["widget"]}

    def add_publisher(self) -> str:
        known: Any = self.send("POST", "/api/v1/publishers", self.publisher()).json
        return str(known["id"])

    def mint(self) -> TestResponse:
        publishers = self.site.index.publishers
        publishers.add(
            make_publisher(
                Provider.GITHUB,
                repository="acme/widget",
                workflow="release.yml",
                issuer=self.issuer.url,
                projects=["widget"],
            ),
            by=ALICE,
        )
        token = self.issuer.token(publishers.audience())
        return self.site.client.post("/_/oidc/mint-token", json={"token": token})

    def decide(self, what: str, **fields: str) -> TestResponse:
        """Do as the page says on which somebody is asked whether to go on."""
        visitor = Visitor(self.site.client)
        visitor.sign_in("admin")
        path = f"/project/acme/manage/{what}"
        forms = read_forms(visitor.get(f"{path}?{urlencode(fields)}").text)
        (asked,) = (form for action, form in forms.items() if not action.endswith(("logout", "search")))
        return visitor.post(path, asked | fields)

    def revoke_by_page(self) -> TestResponse:
        return self.site.client.post(f"/account/tokens/{self.make_token()}/revoke", auth=("admin", "secret"))


Ask = Callable[[Scene], TestResponse]
# What each route that changes something leaves behind, last.
LEAVES: dict[tuple[str, str], tuple[Ask, Action]] = {
    ("POST", "/legacy"): (lambda s: s.upload("/legacy"), Action.UPLOAD),
    ("POST", "/legacy/"): (lambda s: s.upload("/legacy/"), Action.UPLOAD),
    ("POST", "/simple"): (lambda s: s.upload("/simple"), Action.UPLOAD),
    ("POST", "/simple/"): (lambda s: s.upload("/simple/"), Action.UPLOAD),
    ("POST", "/upload"): (lambda s: s.upload_by_form(), Action.UPLOAD),
    ("POST", "/api/v1/uploads/<upload_id>/finish"): (lambda s: s.send("POST", f"{s.begin()}/finish"), Action.UPLOAD),
    ("PUT", "/api/v1/projects/<name>/yanked/<target>"): (
        lambda s: s.send("PUT", "/api/v1/projects/acme/yanked/1.1", {}),
        Action.YANK,
    ),
    ("DELETE", "/api/v1/projects/<name>/yanked/<target>"): (
        lambda s: s.send("DELETE", "/api/v1/projects/acme/yanked/1.0"),
        Action.UNYANK,
    ),
    ("PUT", "/api/v1/projects/<name>/status"): (
        lambda s: s.send("PUT", "/api/v1/projects/acme/status", {"status": "archived"}),
        Action.STATUS,
    ),
    ("DELETE", "/api/v1/projects/<name>/files"): (
        lambda s: s.send("DELETE", "/api/v1/projects/acme/files"),
        Action.DELETE,
    ),
    ("DELETE", "/api/v1/projects/<name>/files/<target>"): (
        lambda s: s.send("DELETE", "/api/v1/projects/acme/files/1.0"),
        Action.DELETE,
    ),
    ("POST", "/api/v1/tokens"): (
        lambda s: s.send("POST", "/api/v1/tokens", {"name": "CI", "permission": "read"}),
        Action.CREATE_TOKEN,
    ),
    ("DELETE", "/api/v1/tokens/<token_id>"): (
        lambda s: s.send("DELETE", f"/api/v1/tokens/{s.make_token()}"),
        Action.REVOKE_TOKEN,
    ),
    ("POST", "/account/tokens"): (
        lambda s: s.site.client.post(
            "/account/tokens", data={"name": "CI", "permission": "read"}, auth=("admin", "secret")
        ),
        Action.CREATE_TOKEN,
    ),
    ("POST", "/account/tokens/<token_id>/revoke"): (lambda s: s.revoke_by_page(), Action.REVOKE_TOKEN),
    ("POST", "/api/v1/publishers"): (
        lambda s: s.send("POST", "/api/v1/publishers", s.publisher()),
        Action.ADD_PUBLISHER,
    ),
    ("DELETE", "/api/v1/publishers/<publisher_id>"): (
        lambda s: s.send("DELETE", f"/api/v1/publishers/{s.add_publisher()}"),
        Action.REMOVE_PUBLISHER,
    ),
    ("POST", "/project/<name>/manage/yank"): (lambda s: s.decide("yank", target="1.1"), Action.YANK),
    ("POST", "/project/<name>/manage/unyank"): (lambda s: s.decide("unyank", target="1.0"), Action.UNYANK),
    ("POST", "/project/<name>/manage/delete"): (lambda s: s.decide("delete", target="1.0"), Action.DELETE),
    ("POST", "/project/<name>/manage/status"): (lambda s: s.decide("status", status="archived"), Action.STATUS),
    ("POST", "/_/oidc/mint-token"): (lambda s: s.mint(), Action.CREATE_TOKEN),
}
# And why the others leave nothing.
LEAVE_NOTHING = {
    ("POST", "/api/v1/uploads"): "nobody sees the bytes of an upload before it is finished",
    ("PATCH", "/api/v1/uploads/<upload_id>"): "nobody sees the bytes of an upload before it is finished",
    ("POST", "/login"): "a session is kept by the browser alone; what fails is counted and logged",
    ("POST", "/logout"): "a session is kept by the browser alone",
}


def unsafe_routes(site: Site) -> set[tuple[str, str]]:
    return {
        (method, rule.rule)
        for rule in routes_of(site.index).url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    }


def test_every_route_that_is_not_safe_is_known_here(site: Site) -> None:
    assert unsafe_routes(site) == LEAVES.keys() | LEAVE_NOTHING.keys()


@pytest.mark.parametrize("route", LEAVES, ids=" ".join)
def test_every_route_that_changes_something_leaves_an_event(site: Site, tmp_path: Path, route: tuple[str, str]) -> None:
    for version in ("1.0", "1.1"):
        site.drop(make_wheel(tmp_path, "acme", version))
    site.index.yank(ACME, "1.0")
    ask, action = LEAVES[route]
    with issuing() as issuer:
        before = site.index.audit.events(limit=1)
        answer = ask(Scene(site, tmp_path, issuer))
    assert answer.status_code < 400, answer.text
    last = site.index.audit.events(limit=1)
    assert last != before
    assert (last[0].action, last[0].actor == UNKNOWN_ACTOR) == (action, False)


# Who sees it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def told_site(site: Site) -> Site:
    """An index with six events, and an administrator of acme alone."""
    for number in range(3):
        site.index.audit.record(ALICE, Action.UPLOAD, project=ACME, target=f"acme-{number}")
        site.index.audit.record(BOB, Action.UPLOAD, project=BOLT, target=f"bolt-{number}")
    site.index.audit.record(ALICE, Action.CREATE_TOKEN, target="0123456789abcdef", details={"name": "CI"})
    app = create_app(site.index, Authenticator((*USERS, LIMITED), tokens=site.index.tokens))
    return replace(site, client=Client(app))


def ask(site: Site, query: str = "", *, user: str = "admin") -> Any:
    answer = site.get(f"/api/v1/audit{query}", user=user)
    check_described("GET", "/api/v1/audit", answer)
    return answer


@pytest.mark.both_worlds
def test_events_come_in_pieces(told_site: Site) -> None:
    first = ask(told_site, "?limit=3").json
    second = ask(told_site, f"?limit=3&before={first['next']}").json
    third = ask(told_site, f"?limit=3&before={second['next']}").json
    pages = [[event["target"] for event in page["events"]] for page in (first, second, third)]
    assert pages == [["0123456789abcdef", "bolt-2", "acme-2"], ["bolt-1", "acme-1", "bolt-0"], ["acme-0"]]
    assert third["next"] is None
    assert first["events"][0] == {
        "id": first["events"][0]["id"],
        "time": first["events"][0]["time"],
        "who": "alice",
        "credential": "password",
        "action": "create-token",
        "project": None,
        "target": "0123456789abcdef",
        "details": {"name": "CI"},
    }
    assert ask(told_site, "?limit=3").headers["Cache-Control"] == "no-store"


def test_events_of_a_project_in_any_spelling(told_site: Site) -> None:
    found = ask(told_site, "?project=BOLT&limit=2").json
    assert [event["target"] for event in found["events"]] == ["bolt-2", "bolt-1"]
    found = ask(told_site, f"?project=bolt&limit=2&before={found['next']}").json
    assert ([event["target"] for event in found["events"]], found["next"]) == (["bolt-0"], None)


def test_an_administrator_of_some_projects_sees_what_was_done_to_these(told_site: Site) -> None:
    seen = ask(told_site, user="limited").json["events"]
    assert [event["target"] for event in seen] == ["acme-2", "acme-1", "acme-0"]
    assert ask(told_site, "?project=bolt", user="limited").json == {"events": [], "next": None}
    page = told_site.get("/audit", user="limited").text
    assert ["acme-0" in page, "bolt-0" in page, "0123456789abcdef" in page] == [True, False, False]


@pytest.mark.parametrize("user", ["reader", "writer", "guest"])
def test_nobody_else_sees_any(told_site: Site, user: str) -> None:
    assert ask(told_site, user=user).status_code == 403
    page = told_site.get("/audit", user=user)
    assert (page.status_code, page.mimetype, "acme-0" in page.text) == (403, "text/html", False)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?limit=x", 400),
        ("?before=x", 400),
        (f"?before={'9' * 500}", 400),
        ("?project=a%20b", 404),
    ],
)
def test_what_cannot_be_asked_is_said_so(told_site: Site, query: str, status: int) -> None:
    assert ask(told_site, query).status_code == status


def test_the_page_shows_events_and_leads_to_earlier_ones(told_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.web.audit_page._EVENTS", 2)
    visitor = Visitor(told_site.client)
    visitor.sign_in("admin")
    shown, path = list[str](), "/audit?project=ACME"
    while path:
        page = visitor.get(path)
        assert page.status_code == 200
        shown += re.findall('<td data-label="Target">(acme-.)</td>', page.text)
        assert "bolt-" not in page.text
        _, _, rest = page.text.partition('<a href="audit?project=ACME&amp;')
        query, _, _ = rest.partition('"')
        path = f"/audit?project=ACME&{query}" if query else ""
    assert shown == ["acme-2", "acme-1", "acme-0"]
    assert "There is nothing of this project." in visitor.get("/audit?project=nut").text


def test_the_page_says_that_a_name_is_none_and_keeps_it(told_site: Site) -> None:
    page = told_site.get("/audit?project=Nope!")
    shown = look(page.text)
    assert (page.status_code, page.mimetype) == (400, "text/html")
    assert "'Nope!' is not a project name: use ASCII letters" in shown.text
    (field,) = shown.find("input", id="project")
    assert (field["value"], field["aria-invalid"], field["aria-describedby"]) == ("Nope!", "true", "project-problem")
    assert shown.find("p", id="project-problem") != []
    assert (shown.find("table"), "There is nothing" in shown.text) == ([], False)


def test_what_people_have_written_stays_text(site: Site) -> None:
    hostile = "<script>alert(1)</script>\"'&\x1b[31m\x00"
    who = Actor(hostile, "password")
    site.index.audit.record(who, Action.CREATE_TOKEN, target=hostile, details={"name": hostile})
    page = site.get("/audit?project=%22%3E%3Cscript%3E")
    assert (page.status_code, "<script>" in page.text) == (400, False)
    page = site.get("/audit")
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert not set(page.text) & set("\x1b\x00")
    done = site.run("audit")
    assert done.exit_code == 0
    assert done.output.count("\\x1b[31m\\x00") == 3
    assert done.output.rstrip("\n").isprintable()
    assert json.loads(site.run("audit", "--json").output)["events"][0]["who"] == hostile


@pytest.mark.both_worlds
def test_the_command_prints_what_is_asked_for(told_site: Site) -> None:
    told_site.index.audit.record(BOB, Action.YANK, project=ACME, target="1.0", details={"reason": "broken"})

    def printed(*options: str) -> list[str]:
        done = told_site.run("audit", *options)
        assert (done.exit_code, done.stderr) == (0, "")
        return [line[25:] for line in done.stdout.splitlines()]

    assert printed("--limit", "2") == [
        "bob (token 0123456789abcdef)  yank acme 1.0  (reason: broken)",
        "alice (password)  create-token 0123456789abcdef  (name: CI)",
    ]
    assert printed("--project", "Bolt", "--limit", "1") == ["bob (token 0123456789abcdef)  upload bolt bolt-2"]
    assert len(printed("--who", "bob")) == 4
    assert printed("--who", "nobody") == []
    document = json.loads(told_site.run("audit", "--json", "--limit", "1").stdout)
    (event,) = told_site.index.audit.events(limit=1)
    assert document == {"events": [describe_event(event)]}
