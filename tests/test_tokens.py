"""Tokens: what they look like, what is kept of them, and when they end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from elasticpypi.audit import Action, Audit
from elasticpypi.catalog.dynamodb import DynamoDBLedger
from elasticpypi.catalog.ledger import Ledger, Record
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.config import Permission
from elasticpypi.errors import CatalogError, InvalidRequestError, NotFoundError
from elasticpypi.model import Actor
from elasticpypi.tokens import Token, Tokens, describe_token, is_token

ALICE = Actor("alice", "password")
NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: datetime = NOON

    def __call__(self) -> float:
        return self.now.timestamp()

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass(frozen=True)
class Office:
    """Where tokens are made."""

    ledger: Ledger
    clock: Clock
    tokens: Tokens
    audit: Audit


@pytest.fixture(params=["directory", "aws"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    clock = Clock()
    ledger: Ledger
    if request.param == "aws":
        cloud = request.getfixturevalue("cloud")
        ledger = DynamoDBLedger(cloud.aws, cloud.make_table(), clock=clock)
    else:
        ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    audit = Audit(ledger, clock=clock)
    yield Office(ledger, clock, Tokens(ledger, audit, clock=clock), audit)
    ledger.close()


def test_a_token_can_be_recognised_and_is_found(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.UPLOAD, projects=("acme-*",))
    assert re.fullmatch(r"epypi_[0-9A-Za-z]{38}", secret)
    assert made == Token(made.id, "CI", None, Permission.UPLOAD, ("acme-*",), NOON, "alice")
    found = office.tokens.find(secret)
    assert found == made
    assert office.tokens.get(made.id).last_used == NOON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epypi_",
        "epypi_" + "0" * 38,
        "pypi-AgEIcHlwaS5vcmc",
        "epypi_" + "é" * 38,
        "epypi_" + "٣" * 38,
        " {secret}",
        "{secret}\n",
        "{secret}0",
        "EPYPI{rest}",
    ],
)
def test_what_has_not_the_form_of_a_token_is_not_looked_up(text: str, tmp_path: Path) -> None:
    class Unreadable(SqliteLedger):
        def record(self, kind: str, id: str) -> None:  # noqa: A002
            raise AssertionError("it was looked up")

    ledger = Unreadable(tmp_path / "ledger.sqlite")
    tokens = Tokens(ledger, Audit(ledger))
    _, secret = tokens.create("CI", by=ALICE, permission=Permission.READ)
    shown = text.replace("{secret}", secret).replace("{rest}", secret[5:])
    assert not is_token(shown)
    assert tokens.find(shown) is None
    ledger.close()


def test_a_mistyped_character_fails_the_checksum(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    _, secret = Tokens(ledger, Audit(ledger)).create("CI", by=ALICE, permission=Permission.READ)
    assert is_token(secret)
    for place in range(len(secret)):
        other = "a" if secret[place] != "a" else "b"
        assert not is_token(secret[:place] + other + secret[place + 1 :])
    ledger.close()


def test_what_is_kept_is_of_no_use_to_whoever_reads_it(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)
    (record,) = office.ledger.records("token", limit=10)
    assert secret[6:] not in record.text + record.id
    assert json.loads(record.text)["sha256"].startswith(made.id)


def test_one_with_the_same_id_is_not_the_same_token(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)
    (record,) = office.ledger.records("token", limit=10)
    forged = json.dumps(json.loads(record.text) | {"sha256": made.id + "0" * 48})
    assert office.ledger.replace(record, type(record)(record.kind, record.id, forged, record.expires))
    assert office.tokens.find(secret) is None


def test_a_token_ends_when_it_expires(office: Office) -> None:
    expires = NOON + timedelta(days=1)
    _, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ, expires=expires)
    office.clock.pass_by(hours=23, minutes=59)
    assert office.tokens.find(secret) is not None
    office.clock.pass_by(minutes=1)
    assert office.tokens.find(secret) is None
    assert office.tokens.find_all() == []


def test_a_token_ends_when_it_is_revoked(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)
    assert office.tokens.revoke(made.id, by=Actor("bob", "session")) == made
    assert office.tokens.find(secret) is None
    with pytest.raises(NotFoundError, match=made.id):
        office.tokens.revoke(made.id, by=ALICE)


def test_use_is_noted_once_an_hour(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)
    noted = []
    for minutes in (10, 49, 1, 59, 61):
        office.clock.pass_by(minutes=minutes)
        office.tokens.find(secret)
        noted.append(office.tokens.get(made.id).last_used)
    assert noted == [NOON, NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1), NOON + timedelta(hours=3)]


def test_noting_use_brings_no_revoked_token_back(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)
    replace = type(office.ledger).replace

    def revoked_before(ledger: Ledger, before: object, after: object) -> bool:
        office.tokens.revoke(made.id, by=ALICE)
        return replace(ledger, before, after)  # type: ignore[arg-type]

    monkeypatch.setattr(type(office.ledger), "replace", revoked_before)
    office.tokens.find(secret)
    assert office.tokens.find_all() == []


def test_a_token_is_good_though_its_use_cannot_be_noted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)

    def fail(*_: object) -> bool:
        raise CatalogError("the disk is full")

    monkeypatch.setattr(type(office.ledger), "replace", fail)
    assert office.tokens.find(secret) == made


def test_an_outage_is_an_error_and_not_a_wrong_token(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = office.tokens.create("CI", by=ALICE, permission=Permission.READ)

    def fail(*_: object) -> None:
        raise CatalogError("the table cannot be reached")

    monkeypatch.setattr(type(office.ledger), "record", fail)
    with pytest.raises(CatalogError):
        office.tokens.find(secret)


def test_tokens_are_listed_by_owner_and_age(office: Office) -> None:
    for name, owner in (("first", "alice"), ("second", None), ("third", "alice")):
        office.tokens.create(name, by=ALICE, permission=Permission.READ, owner=owner)
        office.clock.pass_by(seconds=1)
    assert [token.name for token in office.tokens.find_all()] == ["first", "second", "third"]
    assert [token.name for token in office.tokens.find_all("alice")] == ["first", "third"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, "\u202eCI"])
def test_a_name_says_what_a_token_is_for(office: Office, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="a token needs a name"):
        office.tokens.create(name, by=ALICE, permission=Permission.READ)
    assert office.tokens.find_all() == []


def test_a_time_that_has_passed_is_refused(office: Office) -> None:
    with pytest.raises(InvalidRequestError, match="later time"):
        office.tokens.create("CI", by=ALICE, permission=Permission.READ, expires=NOON)


def test_what_is_done_to_tokens_is_remembered_without_them(office: Office) -> None:
    made, secret = office.tokens.create("CI", by=ALICE, permission=Permission.UPLOAD, owner="alice")
    office.clock.pass_by(seconds=1)
    office.tokens.revoke(made.id, by=Actor("bob", "session"))
    events = office.audit.events(limit=10)
    assert [(event.actor.name, event.action, event.target, event.details) for event in events] == [
        (name, action, made.id, {"name": "CI", "permission": "upload", "projects": "*", "owner": "alice"})
        for name, action in (("bob", Action.REVOKE_TOKEN), ("alice", Action.CREATE_TOKEN))
    ]
    assert secret[6:] not in repr(events)


def test_an_owner_has_a_hundred_tokens_at_most(office: Office) -> None:
    for number in range(100):
        office.ledger.add(Record("token", f"{number:016}", _text(owner="alice", name=f"{number}")))
    with pytest.raises(InvalidRequestError, match="'alice' has 100 tokens already: revoke some"):
        office.tokens.create("one more", by=ALICE, permission=Permission.READ, owner="alice")
    office.tokens.create("of another", by=ALICE, permission=Permission.READ, owner="bob")
    office.tokens.create("of nobody", by=ALICE, permission=Permission.READ)


def test_however_many_there_are_all_are_found(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    tokens = Tokens(ledger, Audit(ledger))
    for number in range(2001):
        ledger.add(Record("token", f"{number:016}", _text(owner="alice", name=f"{number}")))
    assert sorted(int(token.name) for token in tokens.find_all("alice")) == list(range(2001))
    ledger.close()


def _text(**fields: str) -> str:
    token = Token("0" * 16, "", None, Permission.READ, ("*",), NOON, "alice")
    return json.dumps(describe_token(token) | {"sha256": "0" * 64} | fields)
