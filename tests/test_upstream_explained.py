"""What people and programs are told of names that are not ours: by the API, the command, and the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from elasticpypi.cli.main import main
from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.explaining import explain
from elasticpypi.upstream.model import Asked, HeldBack, Listing, NotOurs, UpstreamFile, UpstreamPage
from tests.dists import make_sdist, make_wheel
from tests.looking import Looked, look
from tests.site import Clock, Outside, Site, open_site
from tests.test_web_api import check_described
from tests.upstreams import FakeUpstream, running_upstream

BROWSER = "text/html,application/xhtml+xml"
OWN_NAMES = ("acme-*",)
NEW = "2999-01-01T00:00:00.000000Z"  # which is young as long as anybody runs this
OLD_ENOUGH = "2999-01-08T00:00:00.000000Z"  # where a week is
WHEEL, SDIST = "spam-1.0-py3-none-any.whl", "spam-1.0.tar.gz"
HOSTILE = "<x-evil a=1>\"'><x-evil/onload=x>\u202e\x1b]0;\x9b2J" + "long " * 5000


@dataclass(frozen=True, slots=True)
class Shop:
    """An index, and the upstreams that it asks in this order."""

    site: Site
    first: FakeUpstream
    second: FakeUpstream
    clock: Clock
    directory: Path

    def reopen(self, *upstreams: Upstream) -> Shop:
        """Open the index once more, with other upstreams."""
        self.site.index.close()
        outside = Outside(upstreams, OWN_NAMES, clock=self.clock)
        return replace(self, site=self.site.reopen(outside=outside))

    def why(self, name: str, *, most: int | None = None) -> dict[str, Any]:
        return self.site.index.why(NormalizedName(name), most=most)

    def outcomes(self, name: str) -> list[tuple[str, str]]:
        return [(asked["upstream"], asked["outcome"]) for asked in self.why(name)["asked"]]

    def listing(self, name: str) -> dict[str, Any]:
        """Return what is told of the listing that answers."""
        listing: dict[str, Any] = self.why(name)["asked"][-1]["listing"]
        return listing

    def page(self, path: str, *, status: int = 200) -> Looked:
        answer = self.site.get(path, user="reader", accept=BROWSER)
        assert (answer.status_code, answer.content_type) == (status, "text/html; charset=utf-8"), answer.text
        return look(answer.text)

    def run(self, *arguments: str) -> Result:
        """Run `elasticpypi why` with the upstreams in its configuration."""
        configured = self.directory / "config.json"
        upstreams = [
            {"name": name, "url": upstream.url, "mode": "proxy", "min-age": 7, "deny": ["denied-*"], "private": True}
            for name, upstream in (("first", self.first), ("second", self.second))
        ]
        settings = {"username": "admin", "password": "secret", "upstreams": upstreams, "own_names": OWN_NAMES}
        configured.write_text(json.dumps(settings))
        environment = self.site.place.environment | {"ELASTICPYPI_CONFIG": str(configured)}
        return CliRunner().invoke(main, ["why", *arguments, *self.site.place.arguments], env=environment)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """An index that asks two upstreams, each with a project of its own and none of the other's."""
    with running_upstream() as first, running_upstream() as second:
        first.add(make_wheel(tmp_path, "spam", "1.0"))
        first.add(make_sdist(tmp_path, "spam", "1.0"))
        first.add(make_wheel(tmp_path, "spam", "2.0"), says={"upload-time": NEW})
        second.add(make_wheel(tmp_path, "eggs", "1.0"))
        upstreams = [
            each.configured(name=name, min_age_days=7, deny=("denied-*",))
            for name, each in (("first", first), ("second", second))
        ]
        clock = Clock()
        site = open_site(tmp_path / "data", outside=Outside(upstreams, OWN_NAMES, clock=clock))
        site.drop(make_wheel(tmp_path, "ours", "1.0"), "ours/ours-1.0-py3-none-any.whl")
        opened = Shop(site, first, second, clock, tmp_path)
        yield opened
        site.index.close()


# The document -----------------------------------------------------------------------------------------------------


def test_a_name_that_is_ours_is_told_and_nobody_is_asked(shop: Shop) -> None:
    assert shop.why("ours") == {"name": "ours", "is-ours": True, "own-pattern": None, "asked": []}
    assert shop.why("acme-secret") == {
        "name": "acme-secret",
        "is-ours": False,
        "own-pattern": "acme-*",
        "asked": [],
    }
    assert (shop.first.asked, shop.second.asked) == ([], [])


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("spam", [("first", "answers")]),
        ("eggs", [("first", "has no such project"), ("second", "answers")]),
        ("bacon", [("first", "has no such project"), ("second", "has no such project")]),
        (
            "denied-thing",
            [(name, "is not asked: 'denied-*' in its 'deny' matches") for name in ("first", "second")],
        ),
    ],
)
def test_who_was_asked_is_told_up_to_the_one_that_answers(
    shop: Shop, name: str, outcomes: list[tuple[str, str]]
) -> None:
    assert shop.outcomes(name) == outcomes


def test_after_one_that_does_not_say_nobody_else_is_asked(shop: Shop) -> None:
    with shop.first.behaving("500"):
        (asked,) = shop.why("eggs")["asked"]
    assert "500" in asked.pop("outcome")
    assert asked == {
        "upstream": "first",
        "mode": "proxy",
        "answers": False,
        "fails": True,
        "sent-to": None,
        "listing": None,
    }
    assert shop.second.asked == []


def test_where_clients_are_sent_is_told(shop: Shop) -> None:
    sending = shop.reopen(shop.first.configured(name="first", mode=UpstreamMode.REDIRECT))
    (asked,) = sending.why("bacon")["asked"]
    assert (asked["sent-to"], asked["answers"], asked["listing"]) == (f"{shop.first.url}bacon/", True, None)
    assert shop.first.asked == []


def test_what_clients_get_and_what_is_held_back_is_told_file_by_file(shop: Shop) -> None:
    shop.first.project("spam").files.append({"filename": "spam.exe", "url": "spam.exe", "hashes": {}})
    listing = shop.listing("spam")
    old = {"version": "1.0", "upload-time": "2020-02-20T20:20:20.000000Z", "yanked": False, "kept": False}
    sizes = {name: (shop.directory / name).stat().st_size for name in (WHEEL, SDIST)}
    (left_out,) = listing.pop("left-out")
    (held_back,) = listing.pop("held-back")
    assert listing == {
        "status": "active",
        "status-reason": None,
        "checked": "2027-01-15T08:00:00.000000Z",
        "stale": None,
        "file-count": 2,
        "kept-count": 0,
        "files": [{"filename": name, "size": sizes[name], **old} for name in (SDIST, WHEEL)],
        "held-back-count": 1,
        "left-out-count": 1,
    }
    assert left_out["filename"] == "spam.exe"
    assert "7 days" in held_back.pop("reason")
    assert held_back == {
        "filename": "spam-2.0-py3-none-any.whl",
        "version": "2.0",
        "upload-time": NEW,
        "until": OLD_ENOUGH,
    }


def test_the_latest_uploads_come_first_and_lists_may_be_cut(shop: Shop) -> None:
    for year in (2021, 2023, 2022):
        times = {"upload-time": f"{year}-01-01T00:00:00.000000Z"}
        shop.first.add(make_wheel(shop.directory, "spam", f"{year}.0"), says=times)
    listing = shop.listing("spam")
    assert [file["version"] for file in listing["files"]] == ["2023.0", "2022.0", "2021.0", "1.0", "1.0"]
    cut = shop.why("spam", most=2)["asked"][-1]["listing"]
    assert ([file["version"] for file in cut["files"]], cut["file-count"]) == (["2023.0", "2022.0"], 5)


def test_kept_files_are_told_apart(shop: Shop) -> None:
    keeping = shop.reopen(shop.first.configured(name="first", keep=True))
    keeping.site.index.upstreams.keep(NotOurs(NormalizedName("spam")), "spam-2.0-py3-none-any.whl")
    shop.clock.turn(seconds=700)  # what was listed before does not know of it
    listing = keeping.listing("spam")
    assert [(file["version"], file["kept"]) for file in listing["files"]] == [
        ("2.0", True), ("1.0", False), ("1.0", False)
    ]  # fmt: skip
    assert listing["kept-count"] == 1
    assert "spam-2.0-py3-none-any.whl kept here" in keeping.page("/project/spam/").text


def test_what_is_old_is_told_with_the_reason_and_since_when(shop: Shop) -> None:
    shop.why("spam")
    shop.clock.turn(days=1)
    with shop.first.behaving("500"):
        listing = shop.listing("spam")
        assert (listing["checked"], listing["file-count"]) == ("2027-01-15T08:00:00.000000Z", 2)
        assert "500" in listing["stale"]
        shown = shop.page("/project/spam/")
    assert "first cannot be asked now: it " in shown.text
    assert "What is shown here is what it said at 2027-01-15 08:00 (UTC)." in shown.text
    assert WHEEL in shown.text


# The API ----------------------------------------------------------------------------------------------------------


@pytest.mark.both_worlds
def test_programs_get_the_document_as_it_is_described(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "ours", "1.0"), "ours/ours-1.0-py3-none-any.whl")
    with running_upstream() as upstream:
        upstream.add(make_wheel(tmp_path, "spam", "1.0"))
        upstream.add(make_wheel(tmp_path, "spam", "2.0"), says={"upload-time": NEW})
        upstream.add(make_wheel(tmp_path, "spam", "3.0"), says={"upload-time": NEW, "yanked": "broken"})
        upstream.project("spam").files.append({"filename": "spam.exe", "url": "spam.exe", "hashes": {}})
        configured = upstream.configured(min_age_days=7, deny=("denied-*",))
        asking = site.reopen(outside=Outside([configured], OWN_NAMES))
        for name in ("ours", "acme-secret", "spam", "bacon", "denied-thing"):
            path = f"/api/v1/projects/{name}/upstream"
            answer = asking.send("GET", path, user="reader")
            check_described("GET", path, answer)
            assert (answer.status_code, answer.json) == (200, asking.index.why(NormalizedName(name)))
        (asked,) = asking.json("/api/v1/projects/Spam/upstream?limit=1")["asked"]
        assert (len(asked["listing"]["held-back"]), asked["listing"]["held-back-count"]) == (1, 2)
        with upstream.behaving("500"):
            failing = asking.send("GET", "/api/v1/projects/eggs/upstream")
        check_described("GET", "/api/v1/projects/eggs/upstream", failing)
        assert [each["fails"] for each in failing.json["asked"]] == [True]  # type: ignore[index]
        asking.index.close()


@pytest.mark.parametrize("limit", ["0", "5001", "x"])
def test_a_limit_that_is_none_is_refused(shop: Shop, limit: str) -> None:
    assert shop.site.get(f"/api/v1/projects/spam/upstream?limit={limit}").status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/projects/spam/upstream", "/project/spam/", "/project/spam/1.0/"])
def test_who_may_not_see_a_name_is_told_nothing_and_nobody_is_asked(shop: Shop, path: str) -> None:
    assert shop.site.get(path, user="guest").status_code == 403
    assert shop.first.asked == []


# The command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_quarantined", "told"), [(True, ["  its status is quarantined (malware)"]), (False, [])])
def test_the_command_tells_of_names_of_ours_that_nobody_gets(shop: Shop, is_quarantined: bool, told: list[str]) -> None:
    ours = NormalizedName("ours")
    if is_quarantined:
        shop.site.index.set_status(ours, Status.QUARANTINED, "malware")
    else:
        shop.site.index.delete(ours)
    done = shop.run("ours")
    assert (done.exit_code, done.output.splitlines()[1:]) == (
        1,
        [*told, "  clients get none of its files, and nobody else's"],
    )


@pytest.mark.parametrize(
    ("name", "code", "lines"),
    [
        ("Ours", 0, ["ours is ours: what is ours is never taken from elsewhere", "  clients get 1 file"]),
        (
            "acme-secret",
            1,
            ["acme-secret is not here, and no upstream is asked for it: 'acme-*' in 'own_names' keeps the name for us"],
        ),
        (
            "eggs",
            0,
            [
                "eggs is not ours",
                "the upstream 'first' has no such project",
                "the upstream 'second' answers",
                "  clients get 1 file; the newest releases: 1.0",
            ],
        ),
        (
            "denied-thing",
            1,
            [
                "denied-thing is not ours",
                "the upstream 'first' is not asked: 'denied-*' in its 'deny' matches",
                "the upstream 'second' is not asked: 'denied-*' in its 'deny' matches",
            ],
        ),
    ],
)
def test_the_command_tells_in_a_few_lines_what_clients_get(shop: Shop, name: str, code: int, lines: list[str]) -> None:
    done = shop.run(name)
    told = [line for line in done.output.splitlines() if not line.startswith("  as of ")]
    assert (done.exit_code, told) == (code, lines)


def test_the_command_groups_what_is_held_back_by_its_reason(shop: Shop) -> None:
    for number in range(3, 28):
        shop.first.add(make_wheel(shop.directory, "spam", f"{number}.0"), says={"upload-time": NEW})
    told = shop.run("spam").output
    assert "  clients get 2 files; the newest releases: 1.0\n" in told
    assert "  26 files are held back: each " in told
    assert "    spam-27.0-py3-none-any.whl  (uploaded 2999-01-01 00:00 UTC, until 2999-01-08 00:00 UTC)\n" in told
    assert (told.count(".whl"), "    and 6 more (--all names them)\n" in told) == (20, True)
    every = shop.run("spam", "--all").output
    assert (every.count(".whl"), "more" in every) == (26, False)


def test_the_command_finds_a_problem_where_all_is_held_back_or_an_upstream_fails(shop: Shop) -> None:
    shop.first.add(make_wheel(shop.directory, "young", "1.0"), says={"upload-time": NEW})
    held = shop.run("young")
    assert held.exit_code == 1
    assert "  clients get none of its files\n" in held.output
    with shop.first.behaving("500"):
        failing = shop.run("bacon")
    assert failing.exit_code == 1
    assert "another upstream's word is not taken instead" in failing.output
    assert "second" not in failing.output


def test_the_command_prints_the_whole_document_for_programs(shop: Shop) -> None:
    done = shop.run("spam", "--json")
    document, expected = json.loads(done.output), shop.why("spam")
    for each in (document, expected):
        each["asked"][-1]["listing"].pop("checked")  # the command has a clock of its own
    assert (done.exit_code, document) == (0, expected)


def test_the_command_says_where_no_upstream_is_configured(shop: Shop) -> None:
    done = shop.site.run("why", "spam")
    assert (done.exit_code, done.output) == (1, "spam is not here, and no upstream is configured\n")


# The pages --------------------------------------------------------------------------------------------------------


def test_a_page_shows_whose_project_it_is_and_what_of_it_is_held_back(shop: Shop) -> None:
    shown = shop.page("/project/spam/")
    for text in (
        "spam 1.0 upstream", "From the upstream first: this index has no project of this name.",
        "pip install --index-url http://localhost/simple/ spam", f"{WHEEL} Wheel, Python 3", f"{SDIST} Source",
        "Held back 1", "spam-2.0-py3-none-any.whl It ", "2999-01-01 00:00 2999-01-08 00:00", "Releases 1",
        "1.0 2 files",
    ):  # fmt: skip
        assert text in shown.text, text
    theirs = {"rel": "nofollow noopener noreferrer"}
    assert shown.find("a", href=f"{shop.first.url}spam/", **theirs) != []
    assert shown.find("a", href=f"{shop.first.base}/files/{WHEEL}", **theirs) != []
    assert [url for url in shown.urls if "spam-2.0" in url] == []


def test_files_that_come_through_us_are_linked_here(shop: Shop) -> None:
    keeping = shop.reopen(shop.first.configured(name="first", keep=True, min_age_days=7))
    assert f"../../packages/spam/{WHEEL}" in keeping.page("/project/spam/").links
    assert keeping.page("/project/spam/").find("a", href=f"../../packages/spam/{WHEEL}") == [
        {"href": f"../../packages/spam/{WHEEL}"}
    ]


def test_a_page_shows_where_clients_are_sent(shop: Shop) -> None:
    sending = shop.reopen(shop.first.configured(name="first", mode=UpstreamMode.REDIRECT))
    shown = sending.page("/project/bacon/")
    assert f"Clients are sent to {shop.first.url}bacon/" in shown.text
    assert "pip install --index-url http://localhost/simple/ bacon" in shown.text
    assert shop.first.asked == []


def test_a_release_that_installers_would_not_choose_is_pinned(shop: Shop) -> None:
    shop.first.add(make_wheel(shop.directory, "beta", "1.0rc1"))
    assert "pip install --index-url http://localhost/simple/ beta==1.0rc1" in shop.page("/project/beta/").text


@pytest.mark.parametrize("status", ["archived", "deprecated", "quarantined"])
def test_the_status_that_upstream_has_given_is_told(shop: Shop, status: str) -> None:
    shop.first.project("spam").status = {"status": status, "reason": "use eggs"}
    shown = shop.page("/project/spam/")
    assert f"first says that this project is {status}." in shown.text
    assert "Reason: use eggs" in shown.text
    assert any(WHEEL in url for url in shown.links) is (status != "quarantined")
    told = shop.run("spam")
    assert f"  its status is {status} (use eggs)\n" in told.output
    assert told.exit_code == (status == "quarantined")


def test_where_all_is_held_back_there_is_nothing_to_install(shop: Shop) -> None:
    shop.first.add(make_wheel(shop.directory, "young", "1.0"), says={"upload-time": NEW})
    shown = shop.page("/project/young/")
    assert "Clients get nothing of it: all its files are held back." in shown.text
    assert "young-1.0-py3-none-any.whl It " in shown.text
    assert "pip install" not in shown.text


def test_a_project_of_which_nothing_can_be_used_is_not_looked_for_elsewhere(shop: Shop) -> None:
    shop.first.project("broken").files.append({"filename": "spam.exe", "url": "spam.exe", "hashes": {}})
    shop.second.add(make_wheel(shop.directory, "broken", "1.0"))
    shown = shop.page("/project/broken/")
    assert "Clients get nothing of it: nothing on its page can be used." in shown.text
    assert "Left out 1 These are on the page of first, and cannot be used. spam.exe" in shown.text
    assert shop.site.get("/simple/broken/").status_code == 404
    assert shop.second.asked == []
    told = shop.run("broken")
    assert "  left out of its page: 1\n    spam.exe is not the filename " in told.output
    assert told.exit_code == 1


def test_lists_end_after_a_hundred(shop: Shop) -> None:
    for number in range(102):
        shop.first.add(make_wheel(shop.directory, "many", f"1.{number}"))
        shop.first.add(make_wheel(shop.directory, "many", f"2.{number}"), says={"upload-time": NEW})
    shown = shop.page("/project/many/")
    assert shown.text.count("and 2 more") == 2
    assert (shown.text.count("It is "), "1.2 1 file" in shown.text, "1.1 1 file" in shown.text) == (100, True, False)


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/project/spam/1.0/", 302, "../../spam/"),
        ("/project/Spam/1.0/", 302, "../../spam/"),
        ("/project/SPAM/", 301, "../spam/"),
        ("/project/spam", 301, "spam/"),
    ],
)
def test_other_ways_lead_to_the_page(shop: Shop, path: str, status: int, location: str) -> None:
    answer = shop.site.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (status, location)


def test_a_name_that_nobody_has_says_who_was_asked(shop: Shop) -> None:
    shown = shop.page("/project/bacon/", status=404)
    assert "There is no project “bacon”." in shown.text
    assert "first has no such project second has no such project" in shown.text


def test_a_name_that_is_kept_for_us_says_so(shop: Shop) -> None:
    shown = shop.page("/project/acme-secret/", status=404)
    assert "No upstream is asked for it: acme-* keeps the name for projects of this index." in shown.text
    assert (shop.first.asked, shop.second.asked) == ([], [])


def test_an_upstream_that_does_not_say_is_no_missing_project(shop: Shop) -> None:
    with shop.first.behaving("500"):
        answer = shop.site.get("/project/eggs/", accept=BROWSER)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    text = look(answer.text).text
    assert "whether an upstream has it cannot be found out now" in text
    assert "second" not in text
    assert shop.second.asked == []


def test_without_upstreams_a_page_is_as_it_was(shop: Shop) -> None:
    alone = shop.reopen()
    assert "There is no project 'spam'." in alone.page("/project/spam/", status=404).text


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ("Spam", "project/spam/"),
        (" a.b_c ", "project/a-b-c/"),
        ("acme-secret", None),
        ("ours", None),
        ("no name!", None),
        ("x" * 300, None),
    ],
)
def test_a_search_that_finds_nothing_leads_to_the_upstream(shop: Shop, query: str, link: str | None) -> None:
    links = shop.page(f"/search?q={query}").links
    assert [url for url in links if url.startswith("project/") and "ours" not in url] == ([link] if link else [])
    assert shop.first.asked == []


def test_a_search_leads_nobody_to_what_they_may_not_see(shop: Shop) -> None:
    assert "Not ours?" not in shop.site.get("/search?q=spam", user="guest").text
    assert "Not ours?" not in shop.reopen().site.get("/search?q=spam").text


# Hostile upstreams ------------------------------------------------------------------------------------------------


def test_what_an_upstream_says_stays_text_of_bounded_length(shop: Shop) -> None:
    says = {"yanked": HOSTILE}
    shop.first.add(make_wheel(shop.directory, "evil", "1.0"), says=says)
    shop.first.add(make_wheel(shop.directory, "evil", "2.0"), says={**says, "upload-time": NEW})
    evil = shop.first.project("evil")
    evil.files.append({"filename": f"{HOSTILE}.whl", "url": "javascript:alert(1)", "hashes": {}})
    evil.files.append({"filename": "evil-3.0.tar.gz", "url": "javascript:alert(1)", "hashes": {}})
    evil.status = {"status": "archived", "reason": HOSTILE}
    shown = shop.page("/project/evil/")
    assert {tag for tag, _ in shown.elements if "evil" in tag} == set()
    assert [name for _, found in shown.elements for name in found if name.startswith("on")] == []
    assert [url for url in shown.urls if not url.startswith(("http", "../", "data:,", "#"))] == []
    assert "<x-evil a=1>" in shown.text
    assert len(shown.text) < 6000
    for arguments in (["evil"], ["evil", "--json"], ["evil", "--all"]):
        told = shop.run(*arguments).output
        assert "<x-evil a=1>" in told
        assert all(character.isprintable() for line in told.split("\n") for character in line)
        assert len(told) < 6000


def test_whatever_is_told_fits_on_a_line_of_a_terminal() -> None:
    upstream = Upstream("fake", "https://fake.example/simple/", UpstreamMode.PROXY)
    file = UpstreamFile(WHEEL, "https://fake.example/spam.whl", "1.0", {}, yanked=HOSTILE)
    page = UpstreamPage((file, file), Status.ARCHIVED, HOSTILE, {HOSTILE: HOSTILE})
    held_back = (HeldBack(file, HOSTILE),)
    listing = Listing(upstream, NormalizedName("spam"), page, (file,), held_back, {}, 0.0, stale=HOSTILE)
    asked = [Asked(upstream, HOSTILE, listing)]
    document = explain(listing.name, asked, is_ours=False, own_pattern=None, most=None)
    texts = list(find_texts(document))
    assert sum("x-evil" in text for text in texts) == 7
    assert [text for text in texts if not text.isprintable() or len(text) > 301] == []


def find_texts(value: object) -> Iterator[str]:
    """Yield every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from find_texts(each)
