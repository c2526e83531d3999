"""Credentials to principal: which headers are right, what they allow and what checking them costs."""

from __future__ import annotations

import base64
import gc
import itertools
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice, permutations
from types import FunctionType, ModuleType

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.security import check_password_hash, generate_password_hash

from elasticpypi.auth import Authenticator, Principal, hash_password
from elasticpypi.config import Permission, User
from elasticpypi.errors import ConfigError, ForbiddenError, UnavailableError
from elasticpypi.names import NormalizedName
from elasticpypi.passwords import is_hash

CHEAP = "scrypt:1024:8:1"  # 4 ms


class SlowCheck:
    """Counts the calls of the slow hash, and can hold them up."""

    def __init__(self) -> None:
        self.calls = 0
        self.entered = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, hashed: str, password: str) -> bool:
        self.calls += 1
        self.entered.release()
        assert self.may_go_on.wait(timeout=30)
        return check_password_hash(hashed, password)


def plain(username: str = "alice", password: str = "secret") -> User:
    return User(username, password, Permission.UPLOAD, ("acme-*",))


def hashed(username: str = "alice", password: str = "secret") -> User:
    return User(username, generate_password_hash(password, CHEAP), Permission.UPLOAD, ("acme-*",))


def basic(credentials: str | bytes, encoding: str = "utf-8") -> str:
    data = credentials if isinstance(credentials, bytes) else credentials.encode(encoding)
    return "Basic " + base64.b64encode(data).decode("ascii")


def as_requests_sends(username: str, password: str) -> str:
    """Return the header that requests makes, and with it pip and twine; decoded as WSGI does."""
    prepared = requests.Request("GET", "http://localhost/simple/", auth=(username, password)).prepare()
    header = prepared.headers["Authorization"]
    return header.decode("latin-1") if isinstance(header, bytes) else header


KINDS = pytest.mark.parametrize("kind", [plain, hashed])
ALICE = Principal("alice", Permission.UPLOAD, ("acme-*",))


@KINDS
def test_right_credentials_give_the_principal(kind: Callable[..., User]) -> None:
    assert Authenticator([kind()]).authenticate(basic("alice:secret")) == ALICE


HEADERS = [
    (basic("alice:secret"), True),
    (basic("alice:secret").replace("Basic", "bAsIc"), True),
    (basic("alice:secret").replace(" ", "   ") + " ", True),
    (None, False),
    ("", False),
    ("Basic", False),
    ("Basic ", False),
    ("Basic =", False),
    (basic(""), False),
    (basic(":"), False),
    (basic("alice"), False),
    (basic("alice:"), False),
    (basic("alice:secret "), False),
    (basic("alice:Secret"), False),
    (basic("alice:secre"), False),
    (basic("alice:secret:"), False),
    (basic("alice:secret\0"), False),  # scrypt alone takes both for the same: HMAC fills its key up with zeros
    (basic("alice\0:secret"), False),
    (basic("alice:secret\r\n"), False),
    (basic("Alice:secret"), False),
    (basic("bob:secret"), False),
    (basic(":secret"), False),
    (basic("alice:secret", "utf-16"), False),
    (basic("alice:secret").replace("Basic", "Bearer"), False),
    (basic("alice:secret").replace("Basic ", ""), False),
    (basic("alice:secret").replace(" ", ""), False),
    (basic("alice:secret").replace("Y", "\n Y", 1), False),
    (basic("alice:secret") + "!", False),
    (basic("alice:secret") + "\u20ac", False),
    (basic("alice:secret") + "\udc80", False),
    (basic("alice:" + "x" * 100_000), False),
    (basic("alice:secret") + " " * 9000, False),  # longer than any header is allowed to be
]


@KINDS
@pytest.mark.parametrize(("header", "right"), HEADERS, ids=range(len(HEADERS)))
def test_only_right_basic_credentials_are_accepted(kind: Callable[..., User], header: str | None, right: bool) -> None:
    authenticator = Authenticator([kind()])
    expected = ALICE if right else None
    assert [authenticator.authenticate(header) for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize("password", ["1", "12", "123"])
def test_the_padding_may_be_missing(password: str) -> None:
    header = basic(f"alice:{password}").rstrip("=")
    assert Authenticator([plain(password=password)]).authenticate(header) == ALICE


ODD_CREDENTIALS = [
    ("alice", "a:b::c:"),
    ("alice", "two words"),
    ("alice", "a$b"),
    ("jürgen", "geheim"),
    ("alice", "pässwörd"),
    ("jürgen", "Ã¤"),  # which as latin-1 bytes is the UTF-8 of another text
    ("alice", "ÿ" * 100),
]


@KINDS
@pytest.mark.parametrize(("username", "password"), ODD_CREDENTIALS)
def test_credentials_as_each_client_sends_them(kind: Callable[..., User], username: str, password: str) -> None:
    expected = Principal(username, Permission.UPLOAD, ("acme-*",))
    headers = [
        as_requests_sends(username, password),
        basic(f"{username}:{password}"),  # uv, browsers
        basic(f"{username}:{password}", "latin-1"),
    ]
    authenticator = Authenticator([plain("other"), kind(username, password)])
    assert [authenticator.authenticate(header) for header in headers] == [expected] * 3


def test_requests_sends_latin_1_and_nothing_beyond() -> None:
    assert base64.b64decode(as_requests_sends("ä", "ü").removeprefix("Basic ")) == b"\xe4:\xfc"
    with pytest.raises(UnicodeEncodeError):
        as_requests_sends("alice", "пароль")


@pytest.mark.parametrize("sent", ["u\u0308", "ü"])
@pytest.mark.parametrize("configured", ["u\u0308", "ü"])
@pytest.mark.parametrize("is_hashed", [False, True])
def test_composed_and_decomposed_letters_are_the_same(configured: str, sent: str, is_hashed: bool) -> None:
    user = User(configured, hash_password(configured) if is_hashed else configured)
    assert Authenticator([user]).authenticate(basic(f"{sent}:{sent}")) == Principal("ü", Permission.READ, ("*",))


def test_each_user_has_a_password_of_their_own() -> None:
    users = {"a": plain("a", "pw-a"), "b": hashed("b", "pw-b"), "c": plain("c", "pw-c"), "d": hashed("d", "pw-d")}
    authenticator = Authenticator(users.values())
    for name in users:
        principal = authenticator.authenticate(basic(f"{name}:pw-{name}"))
        assert principal == Principal(name, Permission.UPLOAD, ("acme-*",))
    for name, other in permutations(users, 2):
        assert authenticator.authenticate(basic(f"{name}:pw-{other}")) is None


def test_a_hash_is_not_its_own_password() -> None:
    user = hashed()
    assert Authenticator([user]).authenticate(basic(f"alice:{user.password}")) is None


def test_nobody_is_let_in_where_there_are_no_users() -> None:
    assert Authenticator([]).authenticate(basic("alice:secret")) is None


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([plain(), hashed()], r"'alice' is given to two users"),
        ([plain("ü"), plain("u\u0308")], r"'ü' is given to two users"),
        ([plain(password="scrypt:1:2:3$salt$" + "0" * 128)], r"password of the user 'alice' .*hash-password"),
    ],
)
def test_users_who_cannot_be_told_apart_or_checked_are_refused(users: list[User], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Authenticator(users)


def test_hashed_passwords_are_salted_and_recognised() -> None:
    first, second = hash_password("secret"), hash_password("secret")
    assert first != second
    assert is_hash(first)
    assert check_password_hash(first, "secret")


@given(st.text() | st.binary().map(basic) | st.text(max_size=20).map(lambda text: "Basic " + text))
def test_no_header_is_an_exception(header: str) -> None:
    assert Authenticator([plain()]).authenticate(header) in (None, ALICE)


def test_the_slow_hash_is_paid_once_for_right_credentials() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    assert [authenticator.authenticate(basic("alice:secret")) for _ in range(50)] == [ALICE] * 50
    assert check.calls == 1


def test_the_slow_hash_is_paid_once_for_the_same_wrong_credentials() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    assert [authenticator.authenticate(basic("alice:wrong")) for _ in range(50)] == [None] * 50
    assert check.calls == 1


@pytest.mark.parametrize("credentials", ["alice:wrong", "bob:wrong", "nobody:wrong", "nobody:secret"])
def test_a_refusal_costs_one_slow_hash_whoever_is_named(credentials: str) -> None:
    check = SlowCheck()
    users = [plain("bob"), hashed("alice"), hashed("carol")]
    assert Authenticator(users, check_hash=check).authenticate(basic(credentials)) is None
    assert check.calls == 1


def test_plain_passwords_need_no_slow_hash() -> None:
    check = SlowCheck()
    authenticator = Authenticator([plain()], check_hash=check)
    for credentials in ("alice:secret", "alice:wrong", "nobody:secret"):
        authenticator.authenticate(basic(credentials))
    assert check.calls == 0


def test_a_flood_of_wrong_credentials_displaces_no_right_ones() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed(), plain("bob")], check_hash=check)
    authenticator.authenticate(basic("alice:secret"))
    check_password = check.calls
    for number in range(3000):
        assert authenticator.authenticate(f"Bearer {number}") is None
    authenticator.authenticate(basic("alice:secret"))
    assert check.calls == check_password


@pytest.mark.parametrize("password", ["wrong", "secret"])
def test_memory_is_bounded_whatever_is_sent(password: str) -> None:
    minutes = itertools.count(step=60)  # of which each has room for ten attempts
    authenticator = Authenticator([plain()], clock=lambda: float(next(minutes)))
    header = basic(f"alice:{password}")
    grown = []
    tracemalloc.start()
    try:
        for spaces in range(6000):
            authenticator.authenticate(header + " " * spaces)
            if spaces in (2999, 5999):
                grown.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert grown[1] - grown[0] < 50_000  # bytes; 3,000 digests alone are 200,000


def strings_kept(by: object) -> set[str | bytes]:
    """Return every string that is reachable, but for those of code."""
    found: dict[int, object] = {}
    todo = [by]
    while todo:
        thing = todo.pop()
        if id(thing) not in found and not isinstance(thing, type | ModuleType | FunctionType):
            found[id(thing)] = thing
            todo += gc.get_referents(thing)
    return {thing for thing in found.values() if isinstance(thing, str | bytes)}


def test_neither_headers_nor_passwords_are_kept() -> None:
    authenticator = Authenticator([hashed("bob", "pass"), plain()])
    headers = [basic("alice:secret"), basic("bob:pass"), basic("alice:wrong")]
    for header in headers:
        authenticator.authenticate(header)
    kept = strings_kept(authenticator)
    assert {"alice", "bob"} <= kept
    assert kept.isdisjoint(["secret", "pass", "wrong", *headers])


def test_digests_mean_nothing_to_another_process() -> None:
    digests = []
    for authenticator in (Authenticator([plain()]), Authenticator([plain()])):
        authenticator.authenticate(basic("alice:secret"))
        digests.append({text for text in strings_kept(authenticator) if isinstance(text, bytes)})
    assert digests[0] & digests[1] <= {b""}


def test_at_most_two_slow_hashes_run_at_once() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    check.may_go_on.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(authenticator.authenticate, [basic(f"alice:wrong{number}") for number in range(8)])
        try:
            assert [check.entered.acquire(timeout=10) for _ in range(2)] == [True, True]
            assert not check.entered.acquire(timeout=0.2)
        finally:
            check.may_go_on.set()
        assert list(answers) == [None] * 8
    assert check.calls == 8


def test_a_flood_of_wrong_passwords_does_not_make_everybody_wait() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    check.may_go_on.clear()
    with ThreadPoolExecutor(80) as pool:
        answers = [  # each from elsewhere, lest they be too many attempts before they are too many at once
            pool.submit(authenticator.authenticate, basic(f"alice:wrong{number}"), f"10.0.0.{number}")
            for number in range(80)
        ]
        try:
            # Those for whom there is no room are answered while the others wait.
            refused = [answer.exception() for answer in islice(as_completed(answers, timeout=10), 16)]
        finally:
            check.may_go_on.set()
        assert {type(error) for error in refused} == {UnavailableError}
        assert Counter(type(answer.exception()) for answer in answers) == {UnavailableError: 16, type(None): 64}


def test_the_same_credentials_at_once_are_not_each_checked() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    check.may_go_on.clear()
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(authenticator.authenticate, basic("alice:secret")) for _ in range(16)]
        assert [check.entered.acquire(timeout=10) for _ in range(2)] == [True, True]
        check.may_go_on.set()
        assert [answer.result() for answer in answers] == [ALICE] * 16
    assert check.calls == 2


def test_known_credentials_wait_for_no_slow_hash() -> None:
    check = SlowCheck()
    authenticator = Authenticator([hashed()], check_hash=check)
    known = [basic("alice:secret"), basic("alice:wrong")]
    expected = [authenticator.authenticate(header) for header in known]
    check.may_go_on.clear()
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(authenticator.authenticate, basic(f"alice:wrong{number}")) for number in range(2)]
        try:
            # The known ones have entered before, the slow ones are in there now.
            assert [check.entered.acquire(timeout=10) for _ in range(4)] == [True] * 4
            assert [pool.submit(authenticator.authenticate, header).result(timeout=10) for header in known] == expected
        finally:
            check.may_go_on.set()
        assert [answer.result() for answer in slow] == [None, None]


def test_threads_get_the_answers_of_their_own_credentials() -> None:
    users = {f"user{number}": User(f"user{number}", f"pw{number}") for number in range(50)}
    authenticator = Authenticator(users.values())
    asked = [f"user{number % 50}" for number in range(3000)]
    headers = [basic(f"{name}:{users[name].password}") + " " * number for number, name in enumerate(asked)]
    with ThreadPoolExecutor(8) as pool:
        principals = list(pool.map(authenticator.authenticate, headers))
    assert [principal and principal.name for principal in principals] == asked


MAY = [
    (Permission.READ, ("*",), Permission.READ, None, True),
    (Permission.READ, ("*",), Permission.READ, "acme", True),
    (Permission.READ, ("*",), Permission.UPLOAD, "acme", False),
    (Permission.UPLOAD, ("*",), Permission.READ, "acme", True),
    (Permission.UPLOAD, ("*",), Permission.ADMIN, None, False),
    (Permission.ADMIN, ("*",), Permission.UPLOAD, "acme", True),
    (Permission.ADMIN, ("acme-*",), Permission.ADMIN, "acme", False),
    (Permission.ADMIN, ("acme-*",), Permission.ADMIN, "acme-tools", True),
    (Permission.ADMIN, ("acme-*",), Permission.READ, "other", False),
    (Permission.READ, ("acme-*",), Permission.READ, None, True),
    (Permission.READ, ("acme", "to?ls"), Permission.READ, "tools", True),
    (Permission.READ, ("acme", "to?ls"), Permission.READ, "acme2", False),
    (Permission.READ, ("a[!0-9]",), Permission.READ, "a1", False),
    (Permission.READ, (), Permission.READ, "acme", False),
]


@pytest.mark.parametrize(("has", "projects", "needs", "project", "expected"), MAY)
def test_permission_and_patterns_decide(
    has: Permission, projects: tuple[str, ...], needs: Permission, project: str | None, expected: bool
) -> None:
    principal = Principal("alice", has, projects)
    name = None if project is None else NormalizedName(project)
    assert principal.may(needs, name) is expected
    if expected:
        principal.require(needs, name)
    else:
        with pytest.raises(ForbiddenError):
            principal.require(needs, name)


@pytest.mark.parametrize(
    ("needs", "project", "message"),
    [
        (Permission.ADMIN, None, "'alice' has the permission 'upload', but this needs 'admin'"),
        (
            Permission.ADMIN,
            NormalizedName("other"),
            "'alice' has the permission 'upload', but this needs 'admin' for the project 'other'",
        ),
        (
            Permission.READ,
            NormalizedName("other"),
            "'alice' has no permission 'read' for the project 'other', only for acme-*",
        ),
    ],
)
def test_a_refusal_says_what_is_missing(needs: Permission, project: NormalizedName | None, message: str) -> None:
    with pytest.raises(ForbiddenError) as raised:
        ALICE.require(needs, project)
    assert str(raised.value) == message


@pytest.mark.parametrize(("projects", "expected"), [(("*",), True), (("a", "*"), True), (("a*",), False), ((), False)])
def test_who_sees_everything(projects: tuple[str, ...], expected: bool) -> None:
    assert Principal("alice", Permission.READ, projects).sees_everything is expected
