"""The list of projects, the search and a project's pages: what they show, to whom, and that nothing of it is run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from elasticpypi.auth import Authenticator, Principal
from elasticpypi.config import Permission
from elasticpypi.names import NormalizedName, normalize_name, parse_filename
from elasticpypi.presenting import describe_kind
from elasticpypi.web.app import create_app
from elasticpypi.web.people import as_sentence
from elasticpypi.web.searching import MOST_HITS, Found, Names, VisibleNames
from tests.dists import make_sdist, make_wheel
from tests.looking import look
from tests.signing_in import Visitor
from tests.site import USERS, Site, open_site

BROWSER = "text/html,application/xhtml+xml"
README = "# Rockets\n\n![seen](https://spy.example.org/x.png)\n\nRide **on**.\n"
HOSTILE = "<x-evil a=1>\"'><x-evil/onload=x>\u202e\0\x1b]0;"
ACME = b"""\
Metadata-Version: 2.4
Name: Acme
Version: 2.0
Summary: Rockets to ride on
Author: Jane
Author-email: jane@example.org
License-Expression: MIT
Keywords: rockets,roads
Requires-Python: >=3.9
Requires-Dist: bolt>=1
Requires-Dist: rich; extra == "cli"
Classifier: Operating System :: POSIX
Project-URL: Source, https://git.example.org/acme
Project-URL: Evil, javascript:alert(1)
Description-Content-Type: text/markdown

"""


def fill(site: Site, directory: Path) -> Site:
    """Add a project of several releases, and others."""
    for wheel in (
        make_wheel(directory, "acme", "2.0", core_metadata=ACME + README.encode()),
        make_sdist(directory, "acme", "2.0"),
        make_wheel(directory, "acme", "1.0"),
        make_wheel(directory, "acme", "1!0.5rc1"),
        make_wheel(directory, "acme-tools", "1.0"),
        make_wheel(directory, "bolt", "1.0"),
    ):
        site.drop(wheel, f"{parse_filename(wheel.name).project}/{wheel.name}")
    return site


@pytest.fixture
def acme(site: Site, tmp_path: Path) -> Site:
    """An index with a few projects, in each world where the test is of both."""
    return fill(site, tmp_path)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same, to be looked at only."""
    site = open_site(tmp_path_factory.mktemp("shelf"))
    yield fill(site, tmp_path_factory.mktemp("files"))
    site.index.close()


def page(site: Site, path: str, *, user: str = "reader", status: int = 200) -> str:
    answer = site.get(path, user=user, accept=BROWSER)
    assert (answer.status_code, answer.content_type) == (status, "text/html; charset=utf-8"), answer.text
    return answer.text


def put_all(site: Site, objects: Mapping[str, bytes]) -> None:
    for key, data in objects.items():
        site.place.put(key, data)
    for _ in site.index.reconcile_all(objects):
        pass


def projects(text: str) -> list[str]:
    return [url.split("/")[-2] for url in look(text).links if url.startswith("project/")]


@pytest.mark.both_worlds
def test_the_list_names_the_projects_that_somebody_may_see(acme: Site) -> None:
    assert projects(page(acme, "/")) == ["acme", "acme-tools", "bolt"]
    assert projects(page(acme, "/", user="guest")) == ["acme", "acme-tools"]
    assert "2 projects" in look(page(acme, "/", user="guest")).text


@pytest.mark.both_worlds
def test_a_search_finds_the_projects_that_somebody_may_see(acme: Site) -> None:
    assert projects(page(acme, "/search?q=O")) == ["acme-tools", "bolt"]
    found = page(acme, "/search?q=o", user="guest")
    assert projects(found) == ["acme-tools"]
    assert "1 project with “o”" in look(found).text
    assert look(found).find("input", name="q")[-1]["value"] == "o"
    assert projects(page(acme, "/search?q=nowhere")) == []
    assert projects(page(acme, "/search?q=+")) == ["acme", "acme-tools", "bolt"]


def test_a_new_project_is_found_at_once(acme: Site, tmp_path: Path) -> None:
    assert projects(page(acme, "/search?q=car")) == []
    assert acme.upload(make_wheel(tmp_path, "cart", "1.0")).status_code == 200
    assert projects(page(acme, "/search?q=car")) == ["cart"]
    assert projects(page(acme, "/")) == ["acme", "acme-tools", "bolt", "cart"]


def test_an_index_without_projects_says_so(site: Site) -> None:
    shown = look(page(site, "/"))
    assert "0 projects" in shown.text
    assert "There is nothing here yet." in shown.text
    assert "or nothing that you may see" in look(page(site, "/", user="guest")).text


def test_the_list_has_pages(site: Site) -> None:
    names = [f"project-{number:03}" for number in range(205)]
    put_all(site, {f"{name}/project.json": b"{}" for name in names})
    listed = [
        projects(page(site, path)) for path in ("/", "/?page=2", "/?page=3", "/?page=99", "/?page=x", "/?page=-1")
    ]
    assert listed == [names[:100], names[100:200], names[200:], names[200:], names[:100], names[:100]]
    assert look(page(site, "/")).links[-2:] == ["./?page=2", "feed.xml"]
    assert [a["href"] for a in look(page(site, "/?page=2")).find("a") if "rel" in a] == ["./", "./?page=3"]
    assert "205 projects" in look(page(site, "/?page=3")).text
    found = look(page(site, "/search?q=ject")).text
    assert "205 projects with “ject”, of which 100 are shown" in found


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("acme", ["acme", "acme-tools", "acme2", "an-acme", "the-acme-inc"]),
        ("ACME_", ["acme-tools", "the-acme-inc"]),
        (" acme tools ", ["acme-tools"]),
        ("me", ["acme", "acme-tools", "acme2", "an-acme", "the-acme-inc"]),
        ("inc", ["incense", "the-acme-inc"]),
        ("-", ["acme-tools", "an-acme", "the-acme-inc"]),
        ("aa", ["aaa"]),
        ("z", []),
        ("", []),
        ("\n", []),
        ("a\nb", []),
        ("x" * 1000, []),
        ("\x7f", []),
        ("é", []),
        (".*", []),
    ],
)
def test_exact_hits_come_first_then_what_begins_so(query: str, names: list[str]) -> None:
    every = ["aaa", "acme", "acme-tools", "acme2", "an-acme", "incense", "the-acme-inc"]
    found = Names([NormalizedName(name) for name in every]).search(query)
    assert (list(found.names), found.count) == (names, len(names))


def test_a_search_among_thousands_is_what_looking_at_each_name_gives() -> None:
    random.seed(7)
    names = sorted({normalize_name(f"a{''.join(random.choices('abc-', k=8))}c") for _ in range(5000)})
    searched = Names(names)
    for query in ("a", "ab", "cab", "abcab", "a-b", "aaaaa", names[700]):
        hits = sorted((name for name in names if query in name), key=lambda name: (not name.startswith(query), name))
        assert searched.search(query) == Found(hits[:MOST_HITS], len(hits)), query


def test_names_are_remembered_for_those_who_see_the_same(shelf: Site) -> None:
    names = VisibleNames(shelf.index)
    everything, some = Principal("a", Permission.READ), Principal("b", Permission.READ, ("acme-*",))
    first = names.of(everything)
    assert names.of(Principal("c", Permission.ADMIN)) is first
    assert list(names.of(some).all) == ["acme-tools"]
    assert names.of(everything) is first
    assert list(names.of(Principal("d", Permission.READ, limits=("bolt",))).all) == ["bolt"]


@pytest.mark.both_worlds
def test_a_project_s_page_shows_its_latest_release(acme: Site) -> None:
    shown = look(page(acme, "/project/acme/"))
    for text in (
        "acme 2.0", "Rockets to ride on", "Ride on.", "Requires Python >=3.9", "License MIT", "Keywords rockets,roads",
        "Author Jane, jane@example.org", "bolt>=1", 'rich; extra == "cli"', "Operating System :: POSIX",
        "pip install --index-url http://localhost/simple/ acme",
        "uv pip install --default-index http://localhost/simple/ acme",
        "poetry source add --priority explicit ours http://localhost/simple/ && poetry add --source ours acme",
        "Clients need your username and password, or __token__ and a token of your account.",
        "1 image is left out", "acme-2.0-py3-none-any.whl Wheel, Python 3", "acme-2.0.tar.gz Source",
    ):  # fmt: skip
        assert text in shown.text, text
    for file in acme.json("/simple/acme/")["files"]:
        listed = file["filename"].startswith("acme-2.0")
        assert (file["url"] in shown.links) is listed
        assert (file["hashes"]["sha256"] in shown.text) is listed
    assert "https://git.example.org/acme" in shown.links
    assert [url for url in shown.links if url.endswith(("0/", "rc1/"))] == ["1%210.5rc1/", "2.0/", "1.0/"]
    assert shown.find("a", href="2.0/") == [{"href": "2.0/", "aria-current": "true"}]
    assert "1!0.5rc1 pre-release" in shown.text


def test_a_release_has_a_page_of_its_own(shelf: Site) -> None:
    shown = look(page(shelf, "/project/acme/1.0/"))
    assert "pip install --index-url http://localhost/simple/ acme==1.0" in shown.text
    assert "The latest release is 2.0." in shown.text
    assert "../../../packages/acme/acme-1.0-py3-none-any.whl" in shown.links
    assert [url for url in shown.links if url.endswith(("0/", "rc1/"))] == [
        "../2.0/",
        "../1%210.5rc1/",
        "../2.0/",
        "../1.0/",
    ]
    odd = look(page(shelf, "/project/acme/1%210.5rc1/"))
    assert "pip install --index-url http://localhost/simple/ 'acme==1!0.5rc1'" in odd.text  # "!" is the shell's


@pytest.mark.parametrize(
    ("yanked", "path", "wanted"),
    [
        ({}, "", "acme"),
        ({}, "2.0/", "acme"),
        ({}, "1.0/", "acme==1.0"),
        ({}, "1%210.5rc1/", "'acme==1!0.5rc1'"),
        ({"acme-2.0.tar.gz": "incomplete"}, "", "acme"),
        ({"2.0": ""}, "", "acme"),
        ({"2.0": ""}, "2.0/", "acme==2.0"),
        ({"2.0": "", "1.0": ""}, "", "'acme==1!0.5rc1'"),  # where only a pre-release is left
        ({"2.0": "", "1.0": "", "1!0.5rc1": "", "acme-2.0.tar.gz": ""}, "", "'acme==1!0.5rc1'"),
    ],
)
def test_a_release_that_installers_would_not_choose_is_pinned(
    acme: Site, yanked: Mapping[str, str], path: str, wanted: str
) -> None:
    acme.decide("acme", json.dumps({"yanked": yanked}))
    commands = [line.rpartition(" ")[2] for line in copied(page(acme, f"/project/acme/{path}"))]
    assert commands == [wanted] * 3


def test_a_release_is_pinned_where_all_are_yanked(acme: Site) -> None:
    acme.decide("bolt", json.dumps({"yanked": {"1.0": ""}}))
    assert [line.rpartition(" ")[2] for line in copied(page(acme, "/project/bolt/"))] == ["bolt==1.0"] * 3


def copied(text: str) -> list[str]:
    """Return the commands that a page offers."""
    return [look(code).text for code in re.findall(r'<code id="install-[^>]*>(.*?)</code>', text)]


def test_a_script_may_know_better_where_the_index_lies_unless_that_is_configured(shelf: Site) -> None:
    places = [found["data-simple"] for found in look(page(shelf, "/project/acme/2.0/")).find("code") if found]
    assert places == ["../../../simple/"] * 3
    app = create_app(shelf.index, Authenticator(USERS), url="https://pypi.example.org/dev")
    assert "data-simple" not in Client(app).get("/project/acme/2.0/", auth=("reader", "secret")).text


def test_behind_a_proxy_with_tls_the_commands_say_so(shelf: Site) -> None:
    answer = shelf.get("/project/acme/", x_forwarded_proto="https")
    assert "pip install --index-url https://localhost/simple/ acme" in copied(answer.text)


def test_the_commands_name_the_configured_url(shelf: Site) -> None:
    app = create_app(shelf.index, Authenticator(USERS), url="https://pypi.example.org/dev", title="Ours & theirs")
    text = Client(app).get("/project/acme/", auth=("reader", "secret")).text
    assert "pip install --index-url https://pypi.example.org/dev/simple/ acme" in look(text).text
    assert "<title>acme 2.0 · Ours &amp; theirs</title>" in text


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/project/Acme/", "../acme/"),
        ("/project/acme", "acme/"),
        ("/project/A.c_me", "a-c-me/"),
        ("/project/acme/2.0", "2.0/"),
        ("/project/acme/2/", "../../acme/2.0/"),
        ("/project/ACME/1%210.5.rc1/", "../../acme/1%210.5rc1/"),
        ("/project/", "../"),
        ("/project", "./"),
    ],
)
def test_other_spellings_are_redirected_by_relative_urls(shelf: Site, path: str, location: str) -> None:
    answer = shelf.get(path)
    assert (answer.status_code // 100, answer.headers["Location"]) == (3, location)


def test_the_mount_without_its_slash_leads_to_the_list(shelf: Site) -> None:
    client = Client(DispatcherMiddleware(lambda *_: [], {"/dev": shelf.client.application}))
    answer = client.get("/dev", auth=("reader", "secret"))
    assert (answer.status_code, answer.headers["Location"]) == (302, "dev/")
    assert projects(client.get("/dev/", auth=("reader", "secret")).text) == ["acme", "acme-tools", "bolt"]


@pytest.mark.parametrize(
    ("path", "user", "status", "sentence"),
    [
        ("/project/nowhere/", "admin", 404, "There is no project 'nowhere'"),
        ("/project/acme/9.9/", "admin", 404, "The project 'acme' has no release '9.9'"),
        ("/project/acme/../", "admin", 404, ""),
        ("/project/-/", "admin", 404, ""),
        ("/nowhere/at/all", "admin", 404, ""),
        ("/project/bolt/", "guest", 403, "for the project 'bolt', only for acme-*, acme."),
        ("/project/bolt/1.0/", "guest", 403, ""),
        ("/project/nowhere/", "guest", 403, ""),
    ],
)
def test_errors_are_pages_with_their_status(shelf: Site, path: str, user: str, status: int, sentence: str) -> None:
    text = page(shelf, path, user=user, status=status)
    assert sentence in look(text).text
    up = "../" * (path.count("/") - 1)
    assert look(text).find("a", class_="home") == [{"class": "home", "href": up}]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("there is no project 'x'", "There is no project 'x'."),
        ("acme-1.0.tar.gz: it is corrupt", "acme-1.0.tar.gz: it is corrupt."),
        ("project.json is not JSON", "project.json is not JSON."),
        ("'x' is not one of a, b", "'x' is not one of a, b."),
        ("éa is", "Éa is."),
        ("The form is old.", "The form is old."),
        ("really?", "Really?"),
    ],
)
def test_what_programs_are_told_is_a_sentence_for_people(said: str, shown: str) -> None:
    assert as_sentence(said) == shown


def test_programs_are_told_in_a_sentence_what_is_nowhere(shelf: Site) -> None:
    assert shelf.get("/nowhere").content_type == "text/plain; charset=utf-8"
    assert shelf.get("/api/v1/nowhere", accept=BROWSER).content_type == "application/json"


def test_a_quarantined_project_shows_no_files(acme: Site) -> None:
    acme.decide("acme", json.dumps({"status": "quarantined", "status-reason": "stolen"}))
    text = page(acme, "/project/acme/")
    shown = look(text)
    assert "This project is quarantined. Its files are withheld for now. Reason: stolen" in shown.text
    assert "There are no files." in shown.text
    assert "packages/" not in text
    assert "Ride" not in text
    page(acme, "/project/acme/2.0/", status=404)


@pytest.mark.parametrize("status", ["archived", "deprecated"])
def test_the_status_of_a_project_is_told(acme: Site, status: str) -> None:
    acme.decide("acme", json.dumps({"status": status, "status-reason": "use bolt"}))
    shown = look(page(acme, "/project/acme/"))
    assert f"This project is {status}. Reason: use bolt" in shown.text
    assert "acme-2.0.tar.gz" in shown.text


def test_a_project_without_files_is_shown_empty(site: Site) -> None:
    site.decide("acme", "{}")
    shown = look(page(site, "/project/acme/"))
    assert "There are no files." in shown.text
    assert "pip install" not in shown.text


def test_yanks_are_told_once(acme: Site) -> None:
    acme.decide("acme", json.dumps({"yanked": {"1.0": "explodes", "acme-2.0.tar.gz": "incomplete"}}))
    shown = look(page(acme, "/project/acme/1.0/"))
    assert "This release is yanked" in shown.text
    assert "by its number. Reason: explodes" in shown.text
    assert shown.text.count("explodes") == 1
    shown = look(page(acme, "/project/acme/"))
    assert "This release is yanked" not in shown.text
    assert "acme-2.0.tar.gz Source yanked incomplete" in shown.text
    assert "1.0 yanked" in shown.text


@pytest.mark.parametrize("kind", ["wheels", "releases"])
def test_a_project_of_a_hundred_files_has_less_than_50_kilobytes(site: Site, tmp_path: Path, kind: str) -> None:
    tags = [f"cp3{number}-cp3{number}-manylinux_2_17_x86_64.manylinux2014_x86_64" for number in range(100)]
    wheels = (
        [make_wheel(tmp_path, "acme-rocket", "1.0", tag=tag, requires_python=">=3.10") for tag in tags]
        if kind == "wheels"
        else [make_wheel(tmp_path, "acme-rocket", f"1.{number}", requires_python=">=3.10") for number in range(100)]
    )
    put_all(site, {f"acme-rocket/{wheel.name}": wheel.read_bytes() for wheel in wheels})
    text = page(site, "/project/acme-rocket/")
    assert len(text.encode()) < 50_000
    links = look(text).links
    assert sum("/packages/" in url for url in links) == (100 if kind == "wheels" else 1)
    assert sum(url.startswith("1.") for url in links) == (1 if kind == "wheels" else 100)


def test_of_many_releases_the_newest_hundred_are_listed_unless_all_are_asked_for(site: Site, tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, "acme", f"1.{number}") for number in range(103)]
    put_all(site, {f"acme/{wheel.name}": wheel.read_bytes() for wheel in wheels})
    listed = [url for url in look(page(site, "/project/acme/")).links if url.startswith("1.")]
    assert listed == [f"1.{number}/" for number in range(102, 2, -1)]
    assert "?all#releases" in look(page(site, "/project/acme/")).links
    every = [url for url in look(page(site, "/project/acme/?all")).links if url.startswith("1.")]
    assert every == [f"1.{number}/" for number in range(102, -1, -1)]


def test_pages_ask_nobody_else_and_run_nothing_of_their_own(shelf: Site) -> None:
    for path in ("/", "/search?q=a", "/project/acme/", "/project/acme/1.0/", "/project/nowhere/"):
        answer = shelf.get(path, accept=BROWSER)
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "script-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        shown = look(answer.text)
        assert shown.find("style") == []
        assert [found for found in shown.find("script") if "src" not in found] == []
        assert [name for _, found in shown.elements for name in found if name.startswith("on") or name == "style"] == []
        elsewhere = [url for url in shown.urls if "//" in url or url.startswith("/")]
        assert elsewhere == [url for url in shown.links if url == "https://git.example.org/acme"]


def test_ids_differ_and_labels_have_fields(shelf: Site) -> None:
    for path in ("/", "/project/acme/"):
        shown = look(page(shelf, path))
        ids = [found["id"] for _, found in shown.elements if "id" in found]
        assert len(ids) == len(set(ids))
        named = [found[key] for _, found in shown.elements for key in ("for", "aria-labelledby") if key in found]
        assert set(named) <= set(ids)
        assert {found["data-copy"] for found in shown.find("button") if "data-copy" in found} <= set(ids)
        assert len(shown.find("h1")) == len(shown.find("main")) == 1
        assert shown.find("a", class_="skip") == [{"class": "skip", "href": "#content"}]


@pytest.mark.parametrize(
    ("user", "labels"),
    [
        ("reader", ["Projects", "Account"]),
        ("writer", ["Projects", "Upload", "Account"]),
        ("admin", ["Projects", "Upload", "Audit", "Account"]),
    ],
)
def test_everybody_is_led_to_what_they_may_use(shelf: Site, user: str, labels: list[str]) -> None:
    text = page(shelf, "/project/acme/", user=user)
    navigation = text.partition('<nav aria-label="Site">')[2].partition("</nav>")[0]
    assert look(navigation).text.split() == labels
    assert ("manage" in look(text).links) is (user == "admin")


def test_who_has_a_session_can_sign_out(shelf: Site) -> None:
    visitor = Visitor(shelf.client)
    assert "Sign out" not in page(shelf, "/")
    visitor.sign_in("reader")
    text = visitor.get("/project/acme/").text
    assert look(text).find("form", method="post") == [{"method": "post", "action": "../../logout"}]
    assert look(text).find("input", name="csrf", value=visitor.csrf) != []


@pytest.mark.parametrize("name", ["site.css", "site.js"])
def test_assets_are_kept_as_long_as_they_are_the_same(shelf: Site, name: str) -> None:
    urls = [url for url in look(page(shelf, "/project/acme/")).urls if name in url]
    assert len(urls) == 1
    path = urls[0].removeprefix("../..")
    answer = shelf.get(path, user=None)
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert shelf.get(f"/assets/{name}", user=None).headers["Cache-Control"] == "public, max-age=300"
    assert shelf.get(f"/assets/{name}?0000", user=None).headers["Cache-Control"] == "public, max-age=300"
    unchanged = shelf.get(path, user=None, if_none_match=answer.headers["ETag"])
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert b"http" not in answer.data
    assert b"url(" not in answer.data


def test_whatever_others_have_written_stays_text(site: Site, tmp_path: Path) -> None:
    evil = HOSTILE.replace("\0", "")  # which ends the metadata's line for nobody, but is no text on any page either
    fields = (
        "Summary", "Author", "Author-email", "Maintainer", "Keywords", "License", "Requires-Dist", "Classifier",
        "Home-page", "Download-URL",
    )  # fmt: skip
    header = "".join(f"{field}: {HOSTILE}\n" for field in fields)
    header += (
        f"Project-URL: {HOSTILE}, https://example.org/?{HOSTILE}\nProject-URL: {HOSTILE}2, https://example.org/good\n"
    )
    header += f"Project-URL: js, JavaScript:alert(1)\nProject-URL: {HOSTILE}3, data:text/html,{HOSTILE}\n"
    markdown = (
        f"Description-Content-Type: text/markdown\n\n{HOSTILE}\n\n[x](javascript:x-evil) <a href='{HOSTILE}'>y</a>\n"
    )
    metadata = f"Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n{header}{markdown}".encode()
    site.drop(make_wheel(tmp_path, "acme", "1.0", core_metadata=metadata), "acme/acme-1.0-py3-none-any.whl")
    site.drop(make_sdist(tmp_path, "acme", "1.0"), "acme/acme-1.0.tar.gz")
    yanked = {"acme-1.0.tar.gz": HOSTILE}
    site.decide("acme", json.dumps({"status": "archived", "status-reason": HOSTILE, "yanked": yanked}))
    for path in ("/project/acme/", "/project/acme/1.0/", f"/search?q={'%3Cx-evil%20a=1%3E%22'}", "/project/<x-evil>/"):
        answer = site.get(path, accept=BROWSER)
        shown = look(answer.text)
        assert [tag for tag, _ in shown.elements if "x-evil" in tag] == [], path
        assert [found for _, found in shown.elements if {"a", "onload", "src\x00"} & found.keys()] == [], path
        assert "\0" not in answer.text
        assert "\x1b" not in answer.text
        for url in shown.urls:
            assert not url.lower().startswith(("javascript:", "data:t", "//")), url
        if path.startswith("/project/acme"):
            assert shown.text.count(evil[:12]) >= len(fields) - 2, path
    assert look(page(site, "/project/acme/")).find("a", href="https://example.org/good") != []


@pytest.mark.parametrize(
    ("filename", "kind", "shown"),
    [
        ("a-1-py3-none-any.whl", "wheel", "Wheel, Python 3"),
        ("a-1-py2.py3-none-any.whl", "wheel", "Wheel, Python 2, Python 3"),
        (
            "a-1-2-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "wheel",
            "Wheel, CPython 3.12, Linux x86_64",
        ),
        ("a-1-cp39-abi3-musllinux_1_2_aarch64.whl", "wheel", "Wheel, CPython 3.9+, Linux with musl aarch64"),
        ("a-1-pp310-pypy310_pp73-macosx_11_0_arm64.whl", "wheel", "Wheel, PyPy 3.10, macOS arm64"),
        ("a-1-cp313-cp313t-win_amd64.whl", "wheel", "Wheel, CPython 3.13, Windows amd64"),
        ("a-1-cp313-none-win32.whl", "wheel", "Wheel, CPython 3.13, Windows 32"),
        ("a-1-odd-none-odd_os.whl", "wheel", "Wheel, odd, odd_os"),
        ("a-1.tar.gz", "sdist", "Source"),
        ("a-1-py3.egg", "egg", "Egg"),
    ],
)
def test_kinds_are_written_for_people(filename: str, kind: str, shown: str) -> None:
    assert describe_kind(filename, kind) == shown
