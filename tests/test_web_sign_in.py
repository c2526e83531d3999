"""Signing in with a browser, and out; and what a session is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from elasticpypi.auth import Authenticator
from elasticpypi.config import Permission, User
from elasticpypi.index import Index
from elasticpypi.model import Actor
from elasticpypi.web.app import create_app
from elasticpypi.web.sessions import SESSION_SECONDS, _serializer
from tests.dists import make_wheel
from tests.signing_in import BROWSER, Visitor, read_forms
from tests.site import USERS, Site

ALICE = Actor("alice", "password")


def attributes(set_cookie: str) -> dict[str, str | bool]:
    """Return what a Set-Cookie header says besides name and value, sorted out of the way."""
    pairs = (part.strip().partition("=") for part in set_cookie.split(";")[1:])
    return {name: value or True for name, _, value in pairs}


def client_of(index: Index, *users: User, **options: Any) -> Client:
    """Return a client of another process, which sends the cookies that it is told to."""
    return Client(create_app(index, Authenticator(users or USERS, tokens=index.tokens), **options), use_cookies=False)


def cookie_of(visitor: Visitor) -> str:
    kept = visitor.client.get_cookie("elasticpypi")
    assert kept is not None
    return kept.value


def with_cookie(value: str, name: str = "elasticpypi") -> dict[str, str]:
    return BROWSER | {"Cookie": f"{name}={value}"}


@pytest.mark.both_worlds
def test_whoever_signs_in_lands_where_they_wanted_to(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    visitor = Visitor(site.client)
    sent = visitor.get("/simple/acme/?x=1&y=%26")
    assert (sent.status_code, sent.headers["Location"]) == (302, "../../login?next=simple/acme/%3Fx%3D1%26y%3D%2526")
    form = read_forms(visitor.get("/login?next=simple/acme/%3Fx%3D1%26y%3D%2526").text)["login"]
    landed = visitor.post("/login", form | {"username": "reader", "password": "secret"})
    assert (landed.status_code, landed.headers["Location"]) == (303, "./simple/acme/?x=1&y=%26")
    assert visitor.get("/simple/acme/").status_code == 200
    assert visitor.get("/packages/acme/acme-1.0-py3-none-any.whl").status_code in (200, 302)


@pytest.mark.parametrize(
    ("path", "mount", "location"),
    [
        ("/", "", "login"),
        ("/search", "", "login?next=search"),
        ("/project/acme/", "/dev", "../../login?next=project/acme/"),
        ("", "/dev", "dev/login"),
        ("", "/a/b", "b/login"),
        ("/project/é", "", "../login?next=project/%25C3%25A9"),
        ("//evil.example/", "", "../../login?next=/evil.example/"),
    ],
)
def test_a_browser_is_sent_to_the_form_by_a_relative_url(site: Site, path: str, mount: str, location: str) -> None:
    environ: dict[str, Any] = {}
    seen = site.client.get(
        "/x",
        headers=BROWSER,
        environ_overrides=environ | {"PATH_INFO": path.encode().decode("latin-1"), "SCRIPT_NAME": mount},
    )
    assert (seen.status_code, seen.headers["Location"]) == (302, location)
    assert seen.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "text/html"},
        {"Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.1, text/html;q=0.01"},
        {"Accept": "*/*"},
        BROWSER | {"Authorization": "Basic Zm9vOmJhcg=="},
    ],
)
def test_a_program_is_challenged(site: Site, headers: dict[str, str]) -> None:
    answer = site.client.get("/simple/", headers=headers)
    assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (401, True)


def test_a_script_of_a_page_is_refused_without_a_challenge(site: Site) -> None:
    """The browser would open a window of its own and ask for a password."""
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"X-CSRF-Token": "x"}, {"Cookie": "elasticpypi=old"}):
        answer = client_of(site.index).post("/api/v1/uploads", headers=headers)
        assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (401, False)


@pytest.mark.parametrize(
    ("following", "location"),
    [
        ("", "./"),
        ("project/acme/", "./project/acme/"),
        ("search?q=a%26b", "./search?q=a%26b"),
        ("https://evil.example/", "./"),
        ("//evil.example/", "./"),
        ("/\\evil.example", "./"),
        ("\\\\evil.example", "./"),
        ("javascript:alert(1)", "./"),
        ("a\r\nSet-Cookie: x=y", "./"),
        ("../other/", "./"),
        ("project/../../x", "./"),
        ("%2e%2e/other/", "./"),
        ("%2f%2fevil.example/", "./"),
        ("%5cevil.example/", "./"),
        ("http://[", "./"),
        ("x" * 3000, "./"),
    ],
)
def test_nobody_is_led_elsewhere(site: Site, following: str, location: str) -> None:
    visitor = Visitor(site.client)
    form = read_forms(visitor.get("/login").text)["login"]
    landed = visitor.post("/login", form | {"username": "reader", "password": "secret", "next": following})
    assert (landed.status_code, landed.headers["Location"]) == (303, location)


@pytest.mark.parametrize(
    ("username", "password"),
    [("reader", "mistaken"), ("nobody", "secret"), ("", ""), ("__token__", "epypi_" + "0" * 38)],
)
def test_wrong_credentials_begin_no_session(site: Site, username: str, password: str) -> None:
    visitor = Visitor(site.client)
    refused = visitor.sign_in(username, password)
    assert refused.status_code == 401
    assert "WWW-Authenticate" not in refused.headers
    assert "The username or the password is wrong" in refused.text
    assert password not in refused.text or not password
    assert visitor.get("/account").status_code == 302


@pytest.mark.both_worlds
def test_a_token_signs_in_for_as_long_as_it_lasts(site: Site) -> None:
    made, secret = site.index.tokens.create("CI", by=ALICE, permission=Permission.READ)
    by_name, pasted = Visitor(site.client), Visitor(site.client)
    assert by_name.sign_in("__token__", secret).status_code == 303
    assert pasted.sign_in("", f" {secret} ").status_code == 303
    assert "token:CI" in by_name.get("/account").text
    site.index.tokens.revoke(made.id, by=ALICE)
    later = client_of(site.index)  # a process that has not asked yet
    answer = later.get("/account", headers=with_cookie(cookie_of(by_name)))
    assert answer.status_code == 302


@pytest.mark.parametrize(
    ("environ", "options", "secure"),
    [
        ({}, {}, False),
        ({"wsgi.url_scheme": "https"}, {}, True),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, {}, True),
        ({"HTTP_X_FORWARDED_PROTO": "http, https"}, {}, False),
        ({}, {"url": "https://pypi.example.org/"}, True),
        ({}, {"url": "http://pypi.example.org/"}, False),
    ],
)
def test_the_cookie_is_kept_from_scripts_other_sites_and_the_clear(
    site: Site, environ: dict[str, str], options: dict[str, str], secure: bool
) -> None:
    client = client_of(site.index, **options)
    form = read_forms(client.get("/login", environ_overrides=environ).text)["login"]
    signed = client.post(
        "/login",
        data=form | {"username": "admin", "password": "secret"},
        headers=with_cookie(form["csrf"], "elasticpypi-form"),
        environ_overrides=environ,
    )
    found = attributes(signed.headers["Set-Cookie"])
    expected = {"HttpOnly": True, "Max-Age": str(SESSION_SECONDS), "SameSite": "Lax"}  # no Path: see below
    assert found == expected | ({"Secure": True} if secure else {}) | {"Expires": found["Expires"]}


def test_the_cookies_go_to_the_mount_alone(site: Site) -> None:
    """Without a Path it is that of the form as the browser has it, prefix and all (RFC 6265, 5.1.4)."""
    visitor = Visitor(site.client)
    cookies = [visitor.get("/login").headers["Set-Cookie"], visitor.sign_in("admin").headers["Set-Cookie"]]
    assert ["Path" in attributes(cookie) for cookie in cookies] == [False, False]


def test_a_session_ends_with_any_password_of_the_configuration(site: Site) -> None:
    """What signs it is made of them, so that whoever reads the ledger can make none."""
    alice, bob = User("alice", "first"), User("bob", "secret")
    visitor = Visitor(client_of(site.index, alice, bob))
    visitor.sign_in("alice", "first")
    sent = with_cookie(cookie_of(visitor))
    answers = [
        client_of(site.index, *users).get("/account", headers=sent).status_code
        for users in ((alice, bob), (bob, alice), (User("alice", "second"), bob), (alice, User("bob", "x")), (alice,))
    ]
    assert answers == [200, 200, 302, 302, 302]


def test_the_ledger_alone_signs_nobody_in(site: Site) -> None:
    made, _ = site.index.tokens.create("CI", by=ALICE, permission=Permission.ADMIN)
    secret = site.index.session_secret()
    for document in ({"nonce": "x", "token": made.id}, {"nonce": "x", "user": "admin"}):
        forged = str(_serializer(secret).dumps(document))
        assert client_of(site.index).get("/account", headers=with_cookie(forged)).status_code == 302


def test_a_strangers_cookie_has_nothing_made(site: Site) -> None:
    assert client_of(site.index).get("/account", headers=with_cookie("x")).status_code == 302
    assert site.index.find_session_secret() is None


@pytest.mark.parametrize("change", ["", "x", "{value}x", "x{value}", "{half}", "e30.x.y", "x" * 5000])
def test_a_forged_cookie_is_no_session(site: Site, change: str) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    good = cookie_of(visitor)
    value = change.replace("{value}", good).replace("{half}", good[: len(good) // 2])
    answer = client_of(site.index).get("/account", headers=with_cookie(value))
    assert answer.status_code == 302


def test_a_new_ledger_ends_all_sessions(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    for path in site.data.glob("ledger.sqlite*"):
        path.unlink()
    answer = client_of(site.index).get("/account", headers=with_cookie(cookie_of(visitor)))
    assert answer.status_code == 302


def test_signing_out_ends_the_session(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    left = visitor.post("/logout", {"csrf": visitor.csrf})
    assert (left.status_code, left.headers["Location"]) == (303, "./login")
    assert attributes(left.headers["Set-Cookie"])["Max-Age"] == "0"
    assert visitor.get("/account").status_code == 302


def test_a_form_without_its_cookie_signs_nobody_in(site: Site) -> None:
    """Another site cannot sign a visitor in as somebody else."""
    client = client_of(site.index)
    form = read_forms(client.get("/login").text)["login"] | {"username": "admin", "password": "secret"}
    for headers in (BROWSER, with_cookie("other", "elasticpypi-form")):
        answer = client.post("/login", data=form, headers=headers)
        assert answer.status_code == 403
        assert "elasticpypi=" not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("POST", "/account/tokens", {"name": "x", "permission": "read"}),
        ("POST", "/logout", {}),
        ("DELETE", "/api/v1/projects/acme/files", {}),
        ("PUT", "/api/v1/projects/acme/status", {}),
        ("POST", "/legacy/", {":action": "file_upload"}),
        ("POST", "/api/v1/tokens", {}),
    ],
)
def test_a_session_alone_changes_nothing(site: Site, method: str, path: str, form: dict[str, str]) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    for given in ({}, {"csrf": "x"}, {"csrf": ""}):
        answer = visitor.client.open(path, method=method, data=form | given, headers=BROWSER)
        assert answer.status_code == 403
        assert "out of date" in answer.text


def test_a_session_with_its_token_changes_something(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    answer = visitor.client.post(
        "/api/v1/tokens", json={"name": "x", "permission": "read"}, headers=BROWSER | {"X-CSRF-Token": visitor.csrf}
    )
    assert answer.status_code == 201


def test_the_token_of_another_session_is_none(site: Site) -> None:
    visitor, other = Visitor(site.client), Visitor(site.client)
    visitor.sign_in("admin")
    other.sign_in("admin")
    assert visitor.post("/logout", {"csrf": other.csrf}).status_code == 403


@pytest.mark.parametrize("of", ["cross-site", "same-site"])
def test_pages_of_other_sites_change_nothing_with_typed_credentials(site: Site, of: str) -> None:
    """A browser sends what was typed into its own window along with every form."""
    answer = site.client.put(
        "/api/v1/projects/acme/status",
        json={"status": "archived"},
        auth=("admin", "secret"),
        headers={"Sec-Fetch-Site": of},
    )
    assert (answer.status_code, "another site" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("origin", "url", "status"),
    [
        ("http://localhost", None, 400),
        ("https://pypi.example.org", "https://pypi.example.org/dev/", 400),
        ("https://pypi.example.org", None, 403),
        ("https://evil.example", "https://pypi.example.org/", 403),
        ("null", None, 403),
        (None, None, 400),
    ],
)
def test_where_browsers_say_less_the_origin_has_to_be_ours(
    site: Site, origin: str | None, url: str | None, status: int
) -> None:
    """By plain HTTP they send no Sec-Fetch-Site."""
    client = client_of(site.index, url=url)
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/legacy/", auth=("admin", "secret"), headers=headers).status_code == status


def test_the_body_of_a_program_stays_as_it_is(site: Site, tmp_path: Path) -> None:
    """curl calls everything a form, and looking for the token in it would take it away."""
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = site.client.put(
        "/api/v1/projects/acme/yanked/1.0", auth=("admin", "secret"), data='{"reason": "x"}', headers=form
    )
    assert (refused.status_code, "application/json" in refused.text) == (400, True)


def test_guessing_is_slowed_down(site: Site) -> None:
    visitor = Visitor(site.client)
    answers = [visitor.sign_in("admin", f"wrong{number}") for number in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 6
    assert "Too many wrong passwords" in answers[-1].text
    assert visitor.sign_in("admin").status_code == 429  # right or not: it is not looked at
    assert visitor.sign_in("reader").status_code == 303  # for others nothing has changed
    programs = site.client.get("/simple/", auth=("admin", "wrong"))
    assert (programs.status_code, "Retry-After" in programs.headers) == (429, True)


def test_strangers_write_nothing(site: Site) -> None:
    """Nothing but the secret of all sessions, which is made once."""
    visitor = Visitor(site.client)
    visitor.sign_in("reader")
    before = (site.data / "ledger.sqlite").read_bytes(), (site.data / "ledger.sqlite-wal").read_bytes()
    stranger = Visitor(site.client)
    for number in range(20):
        stranger.sign_in(f"nobody{number}", "wrong")
        site.client.get("/simple/", auth=("__token__", "epypi_" + "0" * 38))
    assert before == ((site.data / "ledger.sqlite").read_bytes(), (site.data / "ledger.sqlite-wal").read_bytes())
