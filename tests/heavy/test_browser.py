"""What people do with a browser: on a local index, and on the deployed one behind API Gateway, below /dev."""

from __future__ import annotations

import json
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Browser, Page

from elasticpypi.auth import TOKEN_SECONDS
from tests.browser import Visit, check_accessible, check_narrow, running_chromium, visiting
from tests.clients import Account, Desk
from tests.deployed import Deployment
from tests.dists import make_sdist, make_wheel
from tests.loop import IndexOnAws, deployed_places, running_on_aws
from tests.running import RunningServer, serving, wait_for
from tests.test_running import nginx

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]  # the first test waits for a deployment
PASSWORD = "Quittenbaum-5417"
USERS: list[dict[str, Any]] = [
    {"username": "alice", "password": PASSWORD, "permission": "admin"},
    {"username": "wendy", "password": PASSWORD, "permission": "upload"},
    {"username": "bob", "password": PASSWORD, "permission": "read"},
    {"username": "guest", "password": PASSWORD, "permission": "read", "projects": ["acme"]},
]
PAGES = (
    *("/", "/search?q=acme", "/search?q=nothing", "/project/acme/", "/project/acme/1.0/", "/project/acme/manage"),
    *("/project/acme/manage/yank?target=1.0", "/project/acme/manage/delete", "/upload", "/audit", "/account"),
)
WRONG = "The username or the password is wrong"
Look = Callable[..., AbstractContextManager[Visit]]


@dataclass(frozen=True, slots=True)
class World:
    """An index that people look at."""

    server: RunningServer | IndexOnAws
    mount: str  # the path of the index, with its slash
    storage: tuple[str, ...]  # origins that take files

    @property
    def url(self) -> str:
        return self.server.url

    def account(self, username: str, password: str = PASSWORD) -> Account:
        return Account(self.url, username, password)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("here")
    with serving(root / "data", home=root / "home", extra={"ELASTICPYPI_USERS": json.dumps(USERS)}) as running:
        fill(running, root)
        yield World(running, "/", ())
        assert PASSWORD not in running.output()


@pytest.fixture(scope="module")
def on_aws(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("on-aws")
    places = deployed_places(deployment)
    with running_on_aws(deployment, root, places=places, users=USERS) as running:
        fill(running, root)
        yield World(running, "/dev/", (deployment.cloud.url,))
        assert PASSWORD not in running.logs()


@pytest.fixture(scope="module", params=["here", "on_aws"])
def world(request: pytest.FixtureRequest) -> World:
    opened: World = request.getfixturevalue(request.param)
    return opened


def fill(server: RunningServer | IndexOnAws, directory: Path) -> None:
    """Put some projects in."""
    readme = "# Acme\n\nMakes *everything*.\n\n```python\nimport acme\n```\n"
    core_metadata = (
        "Metadata-Version: 2.1\nName: acme\nVersion: 1.1\nSummary: Makes everything\nRequires-Python: >=3.9\n"
        "License: MIT\nAuthor: Alice\nProject-URL: Source, https://git.example.com/acme\n"
        "Classifier: Programming Language :: Python :: 3\nDescription-Content-Type: text/markdown\n\n" + readme
    )
    for wheel in (
        make_wheel(directory, "acme", "1.0"),
        make_wheel(directory, "acme", "1.1", core_metadata=core_metadata.encode()),
        make_wheel(directory, "acme-tools", "0.1"),
        make_wheel(directory, "bolt", "2.0"),
    ):
        assert server.upload(wheel).status_code == 200


@pytest.fixture
def look(chromium: Browser, world: World) -> Look:
    """Look at the index; keyword arguments as for `visiting`."""
    permissions = ["clipboard-read", "clipboard-write"]
    return partial(visiting, chromium, world.url, storage=world.storage, permissions=permissions)


def heading(page: Page) -> str:
    return page.get_by_role("heading", level=1).inner_text()


# Signing in and out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/account", "/project/acme/?a=1%262"])
def test_who_has_not_signed_in_comes_to_the_form_and_then_to_where_they_wanted(look: Look, path: str) -> None:
    with look() as visit:
        assert visit.go(path).status == 200
        assert heading(visit.page) == "Sign in"
        visit.sign_in("bob", PASSWORD)
        assert visit.path == path
        assert visit.page.get_by_role("heading", name="Sign in").count() == 0


def test_a_wrong_password_says_so(look: Look) -> None:
    with look() as visit:
        visit.sign_in("bob", "mistaken-Quittenbaum")
        assert WRONG in visit.page.get_by_role("alert").inner_text()
        assert visit.page.get_by_label("Username").input_value() == "bob"
        assert visit.cookie() is None
        assert "mistaken-Quittenbaum" not in visit.page.content()
        visit.sign_in("bob", PASSWORD)
        assert visit.cookie() is not None


def test_the_cookie_of_a_session_is_for_this_index_alone(look: Look, world: World) -> None:
    with look() as visit:
        visit.sign_in("bob", PASSWORD)
        cookie = visit.cookie()
        assert cookie is not None
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", world.mount.rstrip("/") or "/")
        assert visit.page.evaluate("document.cookie") == ""
        assert cookie["value"] not in visit.page.content()


def test_signing_out_ends_it(look: Look) -> None:
    with look() as visit:
        visit.sign_in("bob", PASSWORD)
        visit.go("/account")
        visit.follow(visit.page.get_by_role("button", name="Sign out"))
        assert heading(visit.page) == "Sign in"
        assert visit.cookie() is None
        visit.page.go_back()  # what was there before is in no cache
        assert heading(visit.page) == "Sign in"
        assert visit.path == "/login?next=account"


def test_without_scripts_one_signs_in_too(look: Look) -> None:
    with look(java_script_enabled=False) as visit:
        visit.go("/account")
        visit.sign_in("bob", PASSWORD)
        assert visit.path == "/account"
        visit.follow(visit.page.get_by_role("button", name="Sign out"))
        assert visit.cookie() is None


def test_behind_tls_the_cookie_goes_no_other_way(chromium: Browser, tmp_path: Path) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    extra = {"ELASTICPYPI_USERS": json.dumps(USERS)}
    with (
        serving(tmp_path / "data", "--behind-proxy", home=tmp_path / "home", extra=extra) as server,
        nginx(server, directory) as front,
        visiting(chromium, front.url, ignore_https_errors=True) as visit,
    ):
        visit.go("/account")
        visit.sign_in("bob", PASSWORD)
        assert visit.path == "/account"
        cookie = visit.cookie()
        assert cookie is not None
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        visit.follow(visit.page.get_by_role("button", name="Sign out"))
        assert (heading(visit.page), visit.cookie()) == ("Sign in", None)


def test_behind_a_proxy_that_takes_a_prefix_away_commands_are_right(chromium: Browser, tmp_path: Path) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    extra = {"ELASTICPYPI_USERS": json.dumps(USERS)}
    with (
        serving(tmp_path / "data", "--behind-proxy", home=tmp_path / "home", extra=extra) as server,
        nginx(server, directory) as front,
        visiting(chromium, front.url, ignore_https_errors=True) as visit,
    ):
        assert server.upload(make_wheel(tmp_path, "acme", "1.0")).status_code == 200
        page = visit.page
        visit.go("/project/acme/")
        visit.sign_in("bob", PASSWORD)
        assert page.locator("#install-pip").inner_text() == f"pip install --index-url {front.url}/simple/ acme"
        visit.go("/account")
        page.get_by_label("What it is for").fill("CI")
        visit.follow(page.get_by_role("button", name="Make the token"))
        told = f"{front.url}/simple/".replace("https://", "https://__token__:TOKEN@")
        assert page.get_by_text(told, exact=True).count() == 1
        visit.go("/account")  # where the token is not shown again


# Tokens --------------------------------------------------------------------------------------------------------------


def test_a_token_is_made_used_by_pip_and_revoked(look: Look, world: World, desk: Desk) -> None:
    with look() as visit:
        visit.go("/account")
        visit.sign_in("bob", PASSWORD)
        page = visit.page
        page.get_by_label("What it is for").fill("CI of bob")
        page.get_by_role("textbox", name="Projects", exact=True).fill("bolt")
        visit.follow(page.get_by_role("button", name="Make the token"))
        token = page.locator("#token").inner_text()
        visit.typed.add(token)
        page.get_by_role("button", name="Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.get_by_role("status").inner_text() == "Copied"  # which screen readers say
        assert page.evaluate("navigator.clipboard.readText()") == token
        account = world.account("__token__", token)
        pip = desk.pip("install", "--index-url", account.index_url, "bolt")
        assert pip.succeeded, pip.output
        assert desk.installed() == {"bolt": "2.0"}
        assert account.status("/simple/acme/") == 403
        visit.go("/account")  # where it is not shown again
        assert token not in page.content()
        visit.follow(page.get_by_role("button", name="Revoke CI of bob"))
        assert "revoked" in page.get_by_role("status").inner_text()
        assert page.get_by_role("button", name="Revoke CI of bob").count() == 0
        wait_for(lambda: account.status("/simple/bolt/"), lambda status: status == 401, seconds=TOKEN_SECONDS + 5)
    again = desk.pip("install", "--index-url", account.index_url, "--force-reinstall", "bolt")
    assert not again.succeeded
    assert again.says("401"), again.output


def test_a_token_signs_in_and_makes_no_other(look: Look, world: World) -> None:
    token = make_token(world, "wendy", "upload")
    with look() as visit:
        visit.go("/account")
        visit.sign_in("__token__", token)
        page = visit.page
        assert visit.path == "/account"
        assert "wendy" in page.get_by_role("main").inner_text()
        assert page.get_by_role("button", name="Make the token").count() == 0
        assert token not in page.content()


def make_token(world: World, username: str, permission: str) -> str:
    account = world.account(username)
    document = {"name": "for tests", "permission": permission}
    auth = (account.username, account.password)
    answer = requests.post(f"{world.url}/api/v1/tokens", json=document, auth=auth, timeout=60)
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


# Looking around ------------------------------------------------------------------------------------------------------


def listed(page: Page) -> list[str]:
    """Return the projects that are listed."""
    return page.locator("#results .projects a").all_inner_texts()


def test_projects_are_found_while_one_types(look: Look) -> None:
    with look() as visit:
        visit.go("/")
        visit.sign_in("bob", PASSWORD)
        page = visit.page
        assert {"acme", "acme-tools", "bolt"} <= set(listed(page))
        page.get_by_role("searchbox").press_sequentially("Acme_T")
        wait_for(lambda: listed(page), lambda names: names == ["acme-tools"])
        assert "1 project" in page.get_by_role("status").inner_text()
        page.get_by_role("searchbox").press_sequentially("-nothing")
        wait_for(lambda: listed(page), lambda names: names == [])
        page.get_by_role("searchbox").fill("bol")
        wait_for(lambda: listed(page), lambda names: names == ["bolt"])
        visit.follow(page.get_by_role("link", name="bolt"))
        assert (heading(page).split(), visit.path) == (["bolt", "2.0"], "/project/bolt/")


def test_without_scripts_a_search_is_a_page(look: Look) -> None:
    with look(java_script_enabled=False) as visit:
        visit.go("/")
        visit.sign_in("bob", PASSWORD)
        visit.page.get_by_role("searchbox").fill("acme-tool")
        visit.follow(visit.page.get_by_role("button", name="Search"))
        assert visit.path == "/search?q=acme-tool"
        assert listed(visit.page) == ["acme-tools"]
        visit.follow(visit.page.get_by_role("link", name="acme-tools"))
        assert heading(visit.page).split() == ["acme-tools", "0.1"]


def test_who_may_see_some_projects_sees_no_others(look: Look) -> None:
    with look() as visit:
        visit.go("/")
        visit.sign_in("guest", PASSWORD)
        assert listed(visit.page) == ["acme"]
        visit.page.get_by_role("searchbox").press_sequentially("bolt")
        wait_for(lambda: listed(visit.page), lambda names: names == [])
        visit.go("/search?q=bolt")
        assert listed(visit.page) == []
        assert visit.go("/project/bolt/").status == 403
        assert visit.go("/project/acme/").status == 200
        links = visit.page.get_by_role("navigation", name="Site").get_by_role("link").all_inner_texts()
        assert links == ["Projects", "Account"]


def test_a_project_shows_its_readme_and_how_to_install_it(look: Look, world: World, desk: Desk) -> None:
    with look() as visit:
        visit.go("/project/acme/")
        visit.sign_in("bob", PASSWORD)
        page = visit.page
        assert heading(page).split() == ["acme", "1.1"]
        readme = page.locator(".readme")
        assert readme.get_by_role("heading", name="Acme").count() == 1
        assert (readme.locator("em").inner_text(), readme.locator("pre").inner_text().strip()) == (
            "everything",
            "import acme",
        )
        assert page.get_by_role("link", name="Source").get_attribute("href") == "https://git.example.com/acme"
        commands = {}
        for tool in ("pip", "uv", "poetry"):
            page.get_by_role("button", name=f"Copy the command for {tool}").click()
            shown = page.locator(f"#install-{tool}").inner_text()
            wait_for(lambda: page.evaluate("navigator.clipboard.readText()"), partial(str.__eq__, shown))
            commands[tool] = shown
        index_url = f"{world.url}/simple/"
        assert commands["pip"] == f"pip install --index-url {index_url} acme"
        assert commands["uv"] == f"uv pip install --default-index {index_url} acme"
        assert index_url in commands["poetry"]
        visit.follow(page.get_by_role("link", name="1.0", exact=True))
        assert visit.path == "/project/acme/1.0/"
        assert heading(page).split() == ["acme", "1.0"]
        with page.expect_download() as download:
            page.get_by_role("link", name="acme-1.0-py3-none-any.whl").click()
        assert download.value.path().read_bytes() == make_wheel(None, "acme", "1.0").read_bytes()
    words = commands["pip"].replace(index_url, world.account("bob").index_url).split()
    pip = desk.pip(*words[1:])  # as somebody does who has pasted it, and has their credentials in a netrc file
    assert pip.succeeded, pip.output
    assert desk.installed() == {"acme": "1.1"}


# Uploading -----------------------------------------------------------------------------------------------------------

STATES = """
() => {
  window.seen = [];
  const note = () => {
    for (const item of document.querySelectorAll("#uploads li")) {
      const bar = item.querySelector("progress");
      window.seen.push([item.dataset.state, bar.hidden ? null : bar.value]);
    }
  };
  new MutationObserver(note).observe(document.querySelector("#uploads"), {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
}
"""
DROP = """
files => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  return transfer;
}
"""


def drop(page: Page, *files: Path) -> None:
    """Let go of files over the page."""
    contents = [[file.name, b64encode(file.read_bytes()).decode()] for file in files]
    transfer = page.evaluate_handle(DROP, contents)
    page.dispatch_event("#upload", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#upload", "drop", {"dataTransfer": transfer})


def is_uploaded(page: Page, count: int) -> None:
    wait_for(lambda: page.locator("#upload-status").inner_text(), lambda text: f"{count} of {count} file" in text)


def test_what_is_dropped_is_uploaded_and_can_be_installed(look: Look, world: World, desk: Desk, name: str) -> None:
    noise = {"noise.bin": os.urandom(3 * 2**20)}
    wheel, sdist = make_wheel(desk.dist, name, "1.0", extra_files=noise), make_sdist(desk.dist, name, "1.0")
    with look() as visit:
        visit.go("/upload")
        visit.sign_in("wendy", PASSWORD)
        page = visit.page
        page.evaluate(STATES)
        drop(page, wheel, sdist)
        is_uploaded(page, 2)
        seen = page.evaluate("seen")
        assert {"reading", "sending", "finishing", "done"} <= {state for state, _ in seen}
        assert any(value is not None and 0 < value < 1 for _, value in seen)
        visit.follow(page.get_by_role("link", name=f"Look at {name}").first)
        assert heading(page).split() == [name, "1.0"]
        assert page.get_by_role("link", name=wheel.name).count() == 1
        for storage in world.storage:
            assert [url for url in visit.urls if url.startswith(storage)] != []
    if isinstance(world.server, IndexOnAws):  # past the API, which could not carry it
        assert max(len(request.body) for request, _ in world.server.gateway.seen) < 2**20
    pip = desk.pip("install", "--index-url", world.account("bob").index_url, name)
    assert pip.succeeded, pip.output
    assert desk.installed() == {name: "1.0"}


def test_what_is_chosen_is_uploaded_and_what_is_refused_says_why(
    look: Look, world: World, tmp_path: Path, name: str
) -> None:
    wheel = make_wheel(tmp_path, name, "1.0")
    with look() as visit:
        visit.go("/upload")
        visit.sign_in("wendy", PASSWORD)
        page = visit.page
        page.locator("#files").set_input_files(wheel)
        is_uploaded(page, 1)
        assert set(world.account("bob").listed(name)) == {wheel.name}
        visit.refusals.append(409)
        page.locator("#files").set_input_files(make_wheel(tmp_path, name, "1.0", extra_files={"other.py": b""}))
        refused = page.locator("#uploads li[data-state=failed]")
        assert "already exists" in refused.inner_text()


def test_without_scripts_a_form_uploads(look: Look, world: World, tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, name, "1.0")
    with look(java_script_enabled=False) as visit:
        visit.go("/upload")
        visit.sign_in("wendy", PASSWORD)
        page = visit.page
        page.locator("#files").set_input_files(wheel)
        visit.follow(page.get_by_role("button", name="Upload"))
        assert wheel.name in page.get_by_role("status").first.inner_text()
        assert set(world.account("bob").listed(name)) == {wheel.name}
        visit.follow(page.get_by_role("link", name=f"Look at {name}"))
        assert heading(page).split() == [name, "1.0"]


# Deciding ------------------------------------------------------------------------------------------------------------


def files_of(world: World, project: str) -> dict[str, bool | str]:
    """Return the files that installers see, and whether they are yanked."""
    return {file["filename"]: file["yanked"] for file in world.account("bob").page(project)["files"]}


def test_administrators_decide_and_it_is_remembered(look: Look, world: World, tmp_path: Path, name: str) -> None:
    old, new = make_wheel(tmp_path, name, "1.0"), make_wheel(tmp_path, name, "1.1")
    for wheel in (old, new):
        assert world.server.upload(wheel).status_code == 200
    with look(java_script_enabled=False) as visit:
        visit.go(f"/project/{name}/")
        visit.sign_in("alice", PASSWORD)
        page = visit.page
        visit.follow(page.get_by_role("link", name="Manage"))

        visit.follow(page.get_by_role("link", name="Yank 1.1", exact=True))
        visit.follow(page.get_by_role("link", name="Cancel"))
        assert files_of(world, name) == {old.name: False, new.name: False}
        visit.follow(page.get_by_role("link", name="Yank 1.1", exact=True))
        assert new.name in page.get_by_role("main").inner_text()
        page.get_by_label("Reason").fill("breaks <everything>")
        visit.follow(page.get_by_role("button", name="Yank 1 file"))
        assert "yanked" in page.get_by_role("status").inner_text()
        assert files_of(world, name) == {old.name: False, new.name: "breaks <everything>"}
        visit.go(f"/project/{name}/1.1/")
        assert "breaks <everything>" in page.get_by_role("main").inner_text()

        visit.go(f"/project/{name}/manage")
        visit.follow(page.get_by_role("link", name="Unyank 1.1", exact=True))
        visit.follow(page.get_by_role("button", name="Unyank 1 file"))
        assert files_of(world, name) == {old.name: False, new.name: False}

        page.get_by_label("Another status").select_option("archived")
        visit.follow(page.get_by_role("button", name="Change …"))
        page.get_by_label("Reason").fill("done")
        visit.follow(page.get_by_role("button", name=f"Archive {name}"))
        assert world.account("bob").page(name)["project-status"] == {"status": "archived", "reason": "done"}
        visit.go(f"/project/{name}/")
        assert "This project is archived. Reason: done" in page.get_by_role("main").inner_text()

        visit.go(f"/project/{name}/manage")
        visit.follow(page.get_by_role("link", name="Delete 1.0", exact=True))
        visit.follow(page.get_by_role("button", name="Delete 1 file"))
        assert files_of(world, name) == {new.name: False}
        visit.follow(page.get_by_role("link", name=f"Delete all files of {name}"))
        page.get_by_label("Name of the project").fill("another")
        visit.follow(page.get_by_role("button", name="Delete 1 file"))
        assert "Type the name" in page.get_by_role("alert").inner_text()
        page.get_by_label("Name of the project").fill(name)
        visit.follow(page.get_by_role("button", name="Delete 1 file"))
        assert files_of(world, name) == {}

        visit.go(f"/audit?project={name}")
        rows = page.get_by_role("row").all()[1:]
        told = [[cell.inner_text() for cell in row.get_by_role("cell").all()] for row in rows]
        assert [(who, credential, action) for who, credential, action, *_ in told] == [
            *(("alice", "session", action) for action in ("delete", "delete", "status", "unyank", "yank")),
            *(("admin", "password", "upload"),) * 2,
        ]


def test_who_may_not_decide_finds_no_way_to(look: Look) -> None:
    with look() as visit:
        visit.go("/project/acme/")
        visit.sign_in("wendy", PASSWORD)
        assert visit.page.get_by_role("link", name="Manage").count() == 0
        for path in ("/project/acme/manage", "/project/acme/manage/delete", "/audit"):
            assert visit.go(path).status == 403
            assert heading(visit.page) == "Forbidden"


# What others may not do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])  # another site, and the same one at another port
def test_a_form_on_the_page_of_another_origin_changes_nothing(look: Look, world: World, host: str) -> None:
    form = '<form method="post" action="{}{}">{}<button>Win</button></form>'
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{value}">'
        for name, value in {"name": "stolen", "permission": "read", "projects": "", "days": "", "csrf": "0"}.items()
    )
    sign_in = (
        f'<input name="csrf" value="0"><input name="username" value="bob"><input name="password" value="{PASSWORD}">'
    )
    pages = {
        "/token": form.format(world.url, "/account/tokens", fields),
        "/logout": form.format(world.url, "/logout", ""),
        "/login": form.format(world.url, "/login", sign_in),
    }
    with pages_elsewhere(host, pages) as elsewhere, look(storage=[*world.storage, elsewhere]) as visit:
        visit.go("/account")
        visit.sign_in("wendy", PASSWORD)
        for path in pages:
            visit.page.goto(elsewhere + path)
            with visit.page.expect_navigation() as navigation:
                visit.page.get_by_role("button", name="Win").click()
            assert navigation.value.status in (401, 403), path
            visit.go("/account")
            told = visit.page.get_by_role("main").inner_text()
            assert ("wendy" in told, "stolen" in told) == (True, False)


@contextmanager
def pages_elsewhere(host: str, pages: Mapping[str, str]) -> Iterator[str]:
    """Serve some pages at an origin of their own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f"<!DOCTYPE html><title>Elsewhere</title><link rel=icon href=data:,>{pages.get(self.path)}".encode()
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# For everybody -------------------------------------------------------------------------------------------------------


def test_nobody_is_kept_out_by_how_pages_look(chromium: Browser, here: World) -> None:
    with visiting(chromium, here.url) as visit:
        visit.go("/login")
        check_accessible(visit.page)
        visit.sign_in("alice", "mistaken")
        check_accessible(visit.page)
        visit.sign_in("alice", PASSWORD)
        for path in PAGES:
            assert visit.go(path).status == 200, path
            check_accessible(visit.page)
        visit.page.get_by_label("What it is for").fill("CI")
        visit.follow(visit.page.get_by_role("button", name="Make the token"))
        check_accessible(visit.page)
        assert visit.go("/account/nothing").status == 404
        check_accessible(visit.page)


def press_until(page: Page, name: str) -> None:
    """Go on to the next thing that can have the focus, until it is the one with this name."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == name:
            return
    raise AssertionError(f"no {name!r} is reached by the keyboard")


def test_no_mouse_is_needed(chromium: Browser, here: World) -> None:
    with visiting(chromium, here.url) as visit:
        visit.go("/")
        keyboard = visit.page.keyboard
        keyboard.type("bob")
        keyboard.press("Tab")
        keyboard.type(PASSWORD)
        visit.typed.add(PASSWORD)
        with visit.page.expect_navigation():
            keyboard.press("Enter")
        keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.innerText") == "Skip to the content"
        keyboard.press("/")
        keyboard.type("acme-t")
        wait_for(lambda: listed(visit.page), lambda names: names == ["acme-tools"])
        press_until(visit.page, "acme-tools")
        with visit.page.expect_navigation():
            keyboard.press("Enter")
        assert visit.path == "/project/acme-tools/"
        keyboard.press("/")
        keyboard.type("bolt")
        with visit.page.expect_navigation():
            keyboard.press("Enter")
        assert listed(visit.page) == ["bolt"]
        press_until(visit.page, "Sign out")
        with visit.page.expect_navigation():
            keyboard.press("Enter")
        assert heading(visit.page) == "Sign in"


# What is hostile -----------------------------------------------------------------------------------------------------

SCRIPT = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><svg/onload=window.ran=3>"
TEXT = f"\"'>{SCRIPT}</title></style></textarea>--> {{{{ 7*7 }}}} \u202e\u2028\x1b[31m\x07"
NAMED = "{}-1.0-py3-none-<svg>'\"&lt;<script>.whl"  # a slash or a space no filename may have
FOREIGN = (
    "img, svg, iframe, object, embed, style, base, [onerror], [onload], [onclick], [style], [href^='javascript' i], "
    "script:not([src*='assets/'])"
)


def hostile_wheel(directory: Path, name: str) -> Path:
    line = " ".join(TEXT.split())
    fields = {
        "Summary": line,
        "Author": line,
        "License": line,
        "Keywords": line,
        "Classifier": line,
        "Requires-Dist": f"other; extra == '{line}'",
        "Project-URL": f"{line}, javascript:window.ran=5",
        "Home-page": f"https://example.com/{line}",
        "Description-Content-Type": "text/markdown",
    }
    readme = (
        f"# {TEXT}\n\n{SCRIPT}\n\n[a](javascript:window.ran=6) <a href='javascript:window.ran=7'>b</a>\n\n![c](x)\n"
    )
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    lines = "".join(f"{field}: {text}\n" for field, text in fields.items())
    return make_wheel(directory, name, "1.0", core_metadata=f"{head}{lines}\n{readme}".encode())


def test_what_is_hostile_stays_text(chromium: Browser, here: World, tmp_path: Path, name: str) -> None:
    server = here.server
    assert isinstance(server, RunningServer)
    wheel = hostile_wheel(tmp_path, name)
    assert server.upload(wheel).status_code == 200
    (server.files / name / NAMED.format(name.replace("-", "_"))).write_bytes(wheel.read_bytes())
    wait_for(lambda: len(files_of(here, name)), lambda count: count == 2)
    auth = ("alice", PASSWORD)
    for path, document in {
        f"projects/{name}/yanked/1.0": {"reason": TEXT},
        f"projects/{name}/status": {"status": "deprecated", "reason": TEXT},
    }.items():
        answer = requests.put(f"{here.url}/api/v1/{path}", json=document, auth=auth, timeout=60)
        assert answer.status_code == 200, answer.text
    named = {"name": SCRIPT, "permission": "read"}
    assert requests.post(f"{here.url}/api/v1/tokens", json=named, auth=auth, timeout=60).status_code == 201
    asked = quote(TEXT, safe="")
    with visiting(chromium, here.url) as visit:
        visit.go(f"/login?next={asked}")
        visit.sign_in(SCRIPT, "mistaken")
        check_inert(visit.page)
        visit.sign_in("alice", PASSWORD)
        for path in (
            f"/project/{name}/",
            f"/project/{name}/1.0/",
            f"/project/{name}/manage",
            f"/project/{name}/manage/yank?target=1.0",
            f"/project/{name}/manage/status?status=archived",
            f"/project/{name}/{asked}/",
            f"/project/{asked}/",
            f"/search?q={asked}",
            f"/audit?project={asked}",
            "/audit",
            "/account",
        ):
            assert visit.go(path).status in (200, 400, 404), path
            check_inert(visit.page)
        visit.go(f"/project/{name}/")
        assert SCRIPT in visit.page.get_by_role("main").inner_text()


def check_inert(page: Page) -> None:
    """Fail where a page has something that is not ours."""
    assert page.evaluate("window.ran") is None
    foreign = page.evaluate(f'Array.from(document.querySelectorAll("{FOREIGN}"), (each) => each.outerHTML)')
    assert foreign == [], page.url


# The browser itself ---------------------------------------------------------------------------------------------------

BAD = f"""
<script>window.ran = 1; alert("boo"); console.error("oops"); setTimeout(() => {{ throw new Error("late") }})</script>
<img src="http://localhost:9/"><p style="width: 50rem">Wide</p><script src="/missing.js?key={PASSWORD}"></script>
"""


def test_what_a_page_should_not_do_is_noticed(chromium: Browser) -> None:
    with pages_elsewhere("127.0.0.1", {"/": "<h1>Fine</h1>", "/bad": BAD}) as url, visiting(chromium, url) as visit:
        visit.go("/")
        check_inert(visit.page)
        check_narrow(visit.page)
        assert visit.find_problems() == []
        visit.typed.add(PASSWORD)
        visit.go("/bad")
        with pytest.raises(AssertionError, match="image-alt"):
            check_accessible(visit.page)
        with pytest.raises(AssertionError, match="pixels wide"):
            check_narrow(visit.page)
        with pytest.raises(AssertionError):
            check_inert(visit.page)
        kinds = {problem.partition(":")[0] for problem in visit.find_problems()}
        assert kinds == {"dialog", "console", "error", "another host", "failed", "404", "secret"}
        visit.go("/")
        visit.problems.clear()
        visit.urls.clear()
