"""Tokens as credentials: whom they stand for, for how long an answer about them holds, and what that costs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from elasticpypi.audit import Audit
from elasticpypi.auth import TOKEN_SECONDS, Authenticator, Principal
from elasticpypi.catalog.ledger import Record
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.config import Permission, User
from elasticpypi.errors import CatalogError, ConfigError, ForbiddenError, TooManyAttemptsError
from elasticpypi.model import Actor
from elasticpypi.names import NormalizedName
from elasticpypi.tokens import Token, Tokens

OPERATOR = Actor("root", "command line")
BOB = User("bob", "secret", Permission.UPLOAD, ("acme-*",))


class WatchedLedger(SqliteLedger):
    """Counts what is read, and can fail."""

    reads = 0
    fails = False

    def record(self, kind: str, id: str) -> Record | None:  # noqa: A002
        self.reads += 1
        if self.fails:
            raise CatalogError("the ledger cannot be reached")
        return super().record(kind, id)


@dataclass
class Gate:
    """An authenticator whose clock is set by hand."""

    ledger: WatchedLedger
    users: tuple[User, ...] = (BOB,)
    now: float = 0.0
    tokens: Tokens = field(init=False)
    authenticator: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.ledger, Audit(self.ledger))
        self.authenticator = Authenticator(self.users, tokens=self.tokens, clock=lambda: self.now)

    def show(self, secret: str, *, username: str = "__token__") -> Principal | None:
        return self.authenticator.authenticate("Basic " + b64encode(f"{username}:{secret}".encode()).decode())


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    ledger = WatchedLedger(tmp_path / "ledger.sqlite")
    yield Gate(ledger)
    ledger.close()


def test_a_token_of_the_index_stands_for_itself(gate: Gate) -> None:
    made, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.UPLOAD, projects=("acme",))
    principal = gate.show(secret)
    assert principal == Principal("token:CI", Permission.UPLOAD, ("acme",), ("*",), f"token {made.id}", made)
    assert principal.actor == Actor("token:CI", f"token {made.id}")


def test_a_token_of_a_user_stands_for_that_user(gate: Gate) -> None:
    made, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ, owner="bob")
    assert gate.show(secret) == Principal("bob", Permission.READ, ("*",), ("acme-*",), f"token {made.id}", made)


@pytest.mark.parametrize("has", list(Permission))
@pytest.mark.parametrize("asks", list(Permission))
def test_a_token_allows_no_more_than_its_owner_may(gate: Gate, has: Permission, asks: Permission) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=asks, owner="bob")
    gate.users = (User("bob", "secret", has),)
    gate.__post_init__()
    principal = gate.show(secret)
    assert principal is not None
    assert principal.permission == min(has, asks, key=list(Permission).index)


@pytest.mark.parametrize(
    ("project", "allowed"), [("acme-lib", True), ("acme-app", False), ("bolt-lib", False), ("acme", False)]
)
def test_patterns_of_token_and_owner_have_both_to_fit(gate: Gate, project: str, allowed: bool) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ, projects=("*-lib",), owner="bob")
    principal = gate.show(secret)
    assert principal is not None
    assert principal.may(Permission.READ, NormalizedName(project)) is allowed
    assert not principal.sees_everything
    if not allowed:
        with pytest.raises(ForbiddenError, match=r"only for \*-lib, and of these acme-\*"):
            principal.require(Permission.READ, NormalizedName(project))


def test_those_who_see_the_same_have_the_same_scope() -> None:
    everything = Principal("a", Permission.READ)
    some = Principal("b", Permission.READ, ("acme-*",))
    by_token = Principal("c", Permission.READ, ("*",), ("acme-*",))
    turned = Principal("d", Permission.READ, ("acme-*", "x"), ("y",))
    other = Principal("e", Permission.READ, ("acme-*",), ("x", "y"))
    assert everything.scope == ()
    assert len({some.scope, by_token.scope, turned.scope, other.scope}) == 4


def test_a_token_of_a_user_who_has_gone_is_worth_nothing(gate: Gate) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ, owner="alice")
    assert gate.show(secret) is None


@pytest.mark.parametrize("username", ["bob", "", "token", "__TOKEN__"])
def test_a_token_goes_with_its_own_username(gate: Gate, username: str) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    assert gate.show(secret, username=username) is None


def test_nobody_may_be_called_as_tokens_are() -> None:
    with pytest.raises(ConfigError, match="__token__"):
        Authenticator([User("__token__", "secret")])


def test_an_answer_holds_for_some_seconds_and_no_longer(gate: Gate) -> None:
    made, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    assert gate.show(secret) is not None
    reads = gate.ledger.reads
    gate.now = TOKEN_SECONDS - 0.1
    assert gate.show(secret) is not None
    assert gate.ledger.reads == reads
    gate.tokens.revoke(made.id, by=OPERATOR)
    gate.now = TOKEN_SECONDS
    assert gate.show(secret) is None


def test_a_wrong_token_is_looked_up_once(gate: Gate) -> None:
    made, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    gate.tokens.revoke(made.id, by=OPERATOR)
    before = gate.ledger.reads
    assert [gate.show(secret) for _ in range(3)] == [None] * 3
    assert gate.ledger.reads == before + 1


def test_an_outage_is_no_verdict(gate: Gate) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    gate.ledger.fails = True
    with pytest.raises(CatalogError):
        gate.show(secret)
    gate.ledger.fails = False
    assert gate.show(secret) is not None
    gate.now = TOKEN_SECONDS
    gate.ledger.fails = True
    with pytest.raises(CatalogError):  # and not what was known before
        gate.show(secret)


def test_wrong_tokens_lock_nobody_out(gate: Gate) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    for number in range(30):
        assert gate.show(f"epypi_{number:038}") is None
    assert gate.show(secret) is not None


def test_without_tokens_none_is_good() -> None:
    header = "Basic " + b64encode(b"__token__:epypi_x").decode()
    assert Authenticator([BOB]).authenticate(header) is None


def test_attempts_are_counted_by_user_and_address_and_come_back(gate: Gate) -> None:
    def attempt(password: str, address: str) -> str:
        header = "Basic " + b64encode(f"bob:{password}".encode()).decode()
        try:
            return "in" if gate.authenticator.authenticate(header, address) else "out"
        except Exception as error:  # noqa: BLE001 - whatever it is, its name is compared
            return type(error).__name__

    guesses = [attempt(f"guess{number}", "10.0.0.1") for number in range(12)]
    assert guesses == ["out"] * 10 + ["TooManyAttemptsError"] * 2
    assert attempt("guess", "10.0.0.2") == "out"
    gate.now += 6
    assert [attempt("again", "10.0.0.1"), attempt("once more", "10.0.0.1")] == ["out", "TooManyAttemptsError"]
    gate.now += 6
    assert attempt("secret", "10.0.0.1") == "in"
    assert [attempt(f"new{number}", "10.0.0.1") for number in range(11)] == ["out"] * 10 + ["TooManyAttemptsError"]
    assert attempt("secret", "10.0.0.1") == "in"  # known before, so that it is not checked


def test_invented_names_make_no_room_for_more_guesses(gate: Gate) -> None:
    def refusals(count: int) -> int:
        refused = 0
        for number in range(count):
            try:
                gate.authenticator.sign_in("bob", f"guess{number}", "10.0.0.1")
            except TooManyAttemptsError:
                refused += 1
        return refused

    assert refusals(10) == 0
    for number in range(2000):
        gate.authenticator.sign_in(f"user{number}", "x", "10.0.0.1")
    assert refusals(10) == 10


def test_whether_a_name_is_somebodys_does_not_show(gate: Gate) -> None:
    for name in ("bob", "nobody"):
        with pytest.raises(TooManyAttemptsError):  # noqa: PT012
            for number in range(11):
                gate.authenticator.sign_in(name, f"guess{number}", "10.0.0.1")


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "", True),
    ],
)
def test_addresses_that_somebody_may_choose_among_count_as_one(
    gate: Gate, first: str, second: str, together: bool
) -> None:
    for number in range(10):
        gate.authenticator.sign_in("bob", f"guess{number}", first)
    if together:
        with pytest.raises(TooManyAttemptsError):
            gate.authenticator.sign_in("bob", "guess", second)
    else:
        assert gate.authenticator.sign_in("bob", "guess", second) is None


def test_a_token_that_expires_meanwhile_is_not_remembered_longer(gate: Gate) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=2)
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ, expires=expires)
    assert gate.show(secret) is not None
    reads, gate.now = gate.ledger.reads, 2.0
    gate.show(secret)
    assert gate.ledger.reads == reads + 1


def test_a_slow_look_up_does_not_make_an_answer_hold_longer(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    find = Tokens.find

    def slow(tokens: Tokens, shown: str) -> Token | None:
        found = find(tokens, shown)
        gate.now += 5
        return found

    monkeypatch.setattr(Tokens, "find", slow)
    assert gate.show(secret) is not None
    reads, gate.now = gate.ledger.reads, TOKEN_SECONDS
    gate.show(secret)
    assert gate.ledger.reads == reads + 1


def test_a_wrong_token_is_looked_up_again_after_a_while(gate: Gate) -> None:
    """Somebody may have put a copy of the ledger in its place."""
    made, secret = gate.tokens.create("CI", by=OPERATOR, permission=Permission.READ)
    record = gate.ledger.record("token", made.id)
    assert record is not None
    gate.ledger.remove("token", made.id)
    assert gate.show(secret) is None
    gate.ledger.add(record)
    gate.now = TOKEN_SECONDS
    assert gate.show(secret) is not None


def test_the_id_of_a_token_is_no_credential(gate: Gate) -> None:
    made, _ = gate.tokens.create("CI", by=OPERATOR, permission=Permission.ADMIN)
    assert gate.authenticator.find_token(made.id) is not None
    for header in (made.id, f"token\0{made.id}", f"\0token\0{made.id}"):
        assert gate.authenticator.authenticate(header) is None


def test_a_refusal_names_some_patterns_only() -> None:
    principal = Principal("a", Permission.READ, tuple(f"p{number}" for number in range(100)))
    with pytest.raises(ForbiddenError, match=r"p0, p1, .*, p9 and 90 more"):
        principal.require(Permission.READ, NormalizedName("x"))


def test_attempts_are_remembered_in_bounded_room(gate: Gate) -> None:
    for number in range(5000):
        gate.authenticator.sign_in(f"user{number}", "x", "10.0.0.1")
        gate.authenticator.sign_in("bob", "x", f"10.0.{number // 250}.{number % 250}")
    for attempts in gate.authenticator._attempts.values():  # noqa: SLF001
        assert len(attempts._spent) == 1024  # noqa: SLF001
