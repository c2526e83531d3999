"""`/project/<name>/manage`: what administrators decide with a browser, in two steps; what others are told."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from elasticpypi.model import Decisions, Status, parse_decisions
from tests.dists import make_sdist, make_wheel
from tests.signing_in import Visitor, read_forms
from tests.site import Site

OLD, WHEEL, SDIST = "acme-1.0-py3-none-any.whl", "acme-1.1-py3-none-any.whl", "acme-1.1.tar.gz"
MANAGE = "/project/acme/manage"
HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def acme(site: Site, tmp_path: Path) -> Site:
    """An index with two releases of acme."""
    for version in ("1.0", "1.1"):
        site.drop(make_wheel(tmp_path, "acme", version))
    site.drop(make_sdist(tmp_path, "acme", "1.1"))
    return site


@pytest.fixture
def admin(acme: Site) -> Visitor:
    """An administrator who has signed in."""
    visitor = Visitor(acme.client)
    assert visitor.sign_in("admin").status_code == 303
    return visitor


def confirm(visitor: Visitor, change: str, **typed: str) -> TestResponse:
    """Ask for a change, fill in the form that comes, and send it."""
    path = change.partition("?")[0]
    asked = visitor.get(f"{MANAGE}/{change}")
    assert asked.status_code == 200, asked.text
    return visitor.post(f"{MANAGE}/{path}", form_of(asked, path) | typed)


def form_of(page: TestResponse, verb: str) -> dict[str, str]:
    return next(form for action, form in read_forms(page.text).items() if action.endswith(f"/manage/{verb}"))


def listed(site: Site) -> dict[str, object]:
    return {file["filename"]: file["yanked"] for file in site.json("/simple/acme/")["files"]}


def decided(site: Site) -> Decisions:
    return parse_decisions(site.place.read("acme/project.json"))


def links(page: TestResponse) -> set[str]:
    """Return the changes that a page offers."""
    return set(re.findall(r'manage/((?:un)?yank\?[^"]*|delete[^"]*)"', html.unescape(page.text)))


def texts(page: TestResponse) -> str:
    """Return what a page says, without its markup."""
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page.text).split()))


@pytest.mark.both_worlds
def test_a_release_is_yanked_with_a_reason_and_back_again(acme: Site, admin: Visitor) -> None:
    done = confirm(admin, "yank?target=1.1", reason=" broken, see #12 ")
    assert (done.status_code, done.headers["Location"]) == (303, "../manage?done=yanked")
    assert listed(acme) == {OLD: False, WHEEL: "broken, see #12", SDIST: "broken, see #12"}
    page = admin.get(f"{MANAGE}?done=yanked")
    assert "It is yanked: installers take it only where its exact version is asked for." in page.text
    assert "Yanked: broken, see #12" in page.text
    done = confirm(admin, "unyank?target=1.1")
    assert (done.status_code, done.headers["Location"]) == (303, "../manage?done=unyanked")
    assert listed(acme) == {OLD: False, WHEEL: False, SDIST: False}
    events = acme.index.audit.events(limit=10)
    assert [(event.actor.name, str(event.action), event.target) for event in events] == [
        ("admin", "unyank", "1.1"),
        ("admin", "yank", "1.1"),
    ]


def test_a_file_is_yanked_alone_and_without_a_reason(acme: Site, admin: Visitor) -> None:
    assert confirm(admin, f"yank?target={SDIST}").status_code == 303
    assert listed(acme) == {OLD: False, WHEEL: False, SDIST: True}
    assert confirm(admin, f"unyank?target={SDIST}").status_code == 303
    assert listed(acme) == {OLD: False, WHEEL: False, SDIST: False}


def test_unyanking_names_what_is_yanked(acme: Site, admin: Visitor) -> None:
    acme.decide("acme", f'{{"yanked": {{"{SDIST}": ""}}}}')
    asked = texts(admin.get(f"{MANAGE}/unyank?target=1.1"))
    assert (SDIST in asked, WHEEL in asked, "Unyank 1 file" in asked) == (True, False, True)
    nothing = admin.get(f"{MANAGE}/unyank?target=1.0")
    assert ("Unyank 0 files" in texts(nothing), OLD in nothing.text) == (False, False)


@pytest.mark.both_worlds
def test_a_release_is_deleted_and_its_names_stay_taken(acme: Site, admin: Visitor) -> None:
    asked = texts(admin.get(f"{MANAGE}/delete?target=1.1"))
    assert "2 files will be removed, for everybody and at once. Their names stay taken" in asked
    assert (WHEEL in asked, SDIST in asked, OLD in asked) == (True, True, False)
    done = confirm(admin, "delete?target=1.1")
    assert (done.status_code, done.headers["Location"]) == (303, "../manage?done=deleted")
    assert listed(acme) == {OLD: False}
    assert set(decided(acme).deleted) == {WHEEL, SDIST}
    page = texts(admin.get(f"{MANAGE}?done=deleted"))
    assert "2 names that stay taken" in page
    assert WHEEL in page


def test_asking_changes_nothing(acme: Site, admin: Visitor) -> None:
    before = acme.get("/simple/acme/").headers["ETag"]
    for change in ("yank?target=1.1", "unyank?target=1.1", "delete?target=1.1", "delete", "status?status=archived"):
        assert admin.get(f"{MANAGE}/{change}").status_code == 200
    assert acme.get("/simple/acme/").headers["ETag"] == before
    assert "acme/project.json" not in acme.place.list_keys()


@pytest.mark.parametrize("typed", ["", "acm", "acme-tools", "ACME"])
def test_a_whole_project_is_deleted_by_who_types_its_name_only(acme: Site, admin: Visitor, typed: str) -> None:
    refused = confirm(admin, "delete", typed=typed)
    assert (refused.status_code, len(listed(acme))) == (400, 3)
    assert "Type the name of the project, acme, to delete all there is of it." in texts(refused)
    assert confirm(admin, "delete", typed=" acme ").status_code == 303
    assert listed(acme) == {}
    assert "There are no files." in texts(admin.get(MANAGE))


@pytest.mark.parametrize("verb", ["yank", "unyank", "delete"])
def test_what_was_not_seen_is_not_changed(acme: Site, admin: Visitor, tmp_path: Path, verb: str) -> None:
    acme.decide("acme", '{"yanked": {"1.1": "broken"}}')
    form = form_of(admin.get(f"{MANAGE}/{verb}?target=1.1"), verb)
    new = make_wheel(tmp_path, "acme", "1.1", tag="cp311-abi3-linux_x86_64")
    acme.drop(new)
    before = listed(acme)
    answer = admin.post(f"{MANAGE}/{verb}", form)
    assert (answer.status_code, new.name in answer.text, listed(acme)) == (409, True, before)
    assert "Its files have changed since the page was loaded: look at the list again." in texts(answer)
    assert admin.post(f"{MANAGE}/{verb}", form_of(answer, verb)).status_code == 303
    assert listed(acme) != before


STATUSES = [
    (Status.DEPRECATED, "Deprecate", "", "everybody is told that something else should be used"),
    (Status.ARCHIVED, "Archive", "", "it takes no new files"),
    (Status.QUARANTINED, "Quarantine", "", "its files are not listed, cannot be downloaded by anybody"),
    (Status.ACTIVE, "Make", " active again", "listed, downloaded and uploaded as usual"),
]


@pytest.mark.parametrize(("status", "verb", "again", "words"), STATUSES)
def test_a_project_gets_a_status(acme: Site, admin: Visitor, status: Status, verb: str, again: str, words: str) -> None:
    asked = texts(admin.get(f"{MANAGE}/status?status={status}"))
    assert ("If you go on, " in asked, words in asked, f"{verb} acme{again}?" in asked) == (True, True, True)
    done = confirm(admin, f"status?status={status}", reason="use bolt")
    assert (done.status_code, done.headers["Location"]) == (303, "../manage?done=status")
    assert (decided(acme).status, decided(acme).status_reason) == (status, "use bolt")
    assert f"It is {status} . Reason: use bolt" in texts(admin.get(MANAGE))
    offered = re.findall(r'<option value="([^"]*)"', admin.get(MANAGE).text)
    assert offered == [other for other in Status if other is not status]
    assert confirm(admin, f"status?status={status}", reason="").status_code == 303
    assert decided(acme).status_reason is None


def test_the_page_offers_what_can_be_done(acme: Site, admin: Visitor) -> None:
    everything = {f"delete?target={target}" for target in ("1.0", "1.1", OLD, WHEEL, SDIST)} | {"delete"}
    own = {f"yank?target={target}" for target in ("1.0", OLD)}
    assert links(admin.get(MANAGE)) == everything | own | {f"yank?target={target}" for target in ("1.1", WHEEL, SDIST)}
    acme.decide("acme", f'{{"yanked": {{"{SDIST}": ""}}}}')
    assert links(admin.get(MANAGE)) == everything | own | {
        *("yank?target=1.1", f"yank?target={WHEEL}", f"unyank?target={SDIST}")
    }
    acme.decide("acme", f'{{"yanked": {{"1.1.0": "x", "{SDIST}": ""}}}}')  # a file cannot be taken out of a release
    assert links(admin.get(MANAGE)) == everything | own | {"unyank?target=1.1"}


def test_releases_come_newest_first_and_not_all_at_once(site: Site, tmp_path: Path) -> None:
    for number in range(53):
        site.drop(make_wheel(tmp_path, "acme", f"1.{number}"))
    visitor = Visitor(site.client)
    visitor.sign_in("admin")
    some, every = visitor.get(MANAGE), visitor.get(f"{MANAGE}?all")
    newest_first = [f"1.{number}" for number in reversed(range(53))]
    assert re.findall(r"<h3[^>]*><span>([^<]*)<", some.text) == newest_first[:50]
    assert re.findall(r"<h3[^>]*><span>([^<]*)<", every.text) == newest_first
    assert ("All 53 releases" in some.text, "All 53 releases" in every.text) == (True, False)


def test_what_is_wrong_is_shown(acme: Site, admin: Visitor, tmp_path: Path) -> None:
    (tmp_path / "acme-9.0.tar.gz").write_bytes(b"no archive")
    acme.drop(tmp_path / "acme-9.0.tar.gz", "somewhere/acme-9.0.tar.gz")
    acme.decide("acme", "{")
    page = texts(admin.get(MANAGE))
    assert "cannot be read, so nothing can be changed until it is mended: project.json is not JSON" in page
    assert "somewhere/acme-9.0.tar.gz" in page
    assert "delete?target=acme-9.0.tar.gz" in links(admin.get(MANAGE))
    answer = confirm(admin, "yank?target=1.1")
    assert (answer.status_code, answer.mimetype) == (409, "text/html")
    assert "cannot be read, so nothing can be decided" in answer.text
    acme.decide("acme", "{}")
    assert confirm(admin, "delete?target=acme-9.0.tar.gz").status_code == 303
    assert "somewhere/acme-9.0.tar.gz" not in acme.place.list_keys()


def test_what_others_have_written_stays_text(acme: Site, admin: Visitor) -> None:
    reason = {"status": "deprecated", "status-reason": HOSTILE, "yanked": {"1.1": HOSTILE}, "deleted": {HOSTILE: "0"}}
    acme.decide("acme", json.dumps(reason))
    for path in (MANAGE, f"{MANAGE}/status?status=active"):
        page = admin.get(path)
        assert ("<script>alert" in page.text, HOSTILE in html.unescape(page.text)) == (False, True)
    for change in ("yank", "unyank", "delete"):
        missing = admin.get(f"{MANAGE}/{change}?target=%3Cscript%3Ealert(1)%3C/script%3E%0d%0a")
        assert (missing.status_code, "<script>alert" in missing.text) == (404, False)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ("yank", 404, "has no release and no file ''"),
        ("yank?target=9.0", 404, "has no release and no file '9.0'"),
        ("unyank?target=9.0", 404, "has no release and no file '9.0'"),
        ("delete?target=9.0", 404, "has no release and no file '9.0'"),
        ("status", 400, "'status' is '', not one of"),
        ("status?status=gone", 400, "'status' is 'gone', not one of"),
    ],
)
def test_what_cannot_be_done_is_said_on_a_page(admin: Visitor, change: str, status: int, words: str) -> None:
    answer = admin.get(f"{MANAGE}/{change}")
    assert (answer.status_code, answer.mimetype, words in texts(answer)) == (status, "text/html", True), texts(answer)


def test_a_reason_has_a_bound(acme: Site, admin: Visitor) -> None:
    long = "é" * 2001
    for change in ("yank?target=1.1", "status?status=archived"):
        answer = confirm(admin, change, reason=long)
        assert (answer.status_code, "more than 2000 characters" in texts(answer)) == (400, True)
    assert confirm(admin, "yank?target=1.1", reason=long[:2000]).status_code == 303
    assert listed(acme)[WHEEL] == long[:2000]


def test_an_unknown_project_is_not_there(admin: Visitor) -> None:
    answers = [admin.get(path) for path in ("/project/bolt/manage", "/project/bolt/manage/delete", "/project/-/manage")]
    assert [(answer.status_code, answer.mimetype) for answer in answers] == [(404, "text/html")] * 3


def test_any_spelling_of_the_name_does(admin: Visitor) -> None:
    page = admin.get("/project/Acme/manage")
    assert (page.status_code, "Manage acme" in texts(page)) == (200, True)


@pytest.mark.parametrize("user", ["reader", "writer", "guest", "team"])
def test_who_is_no_administrator_changes_nothing(acme: Site, user: str) -> None:
    visitor = Visitor(acme.client)
    visitor.sign_in(user)
    before = acme.place.list_keys()
    answers = [visitor.get(MANAGE)]
    for change in ("yank", "unyank", "delete", "status"):
        form = {"csrf": visitor.csrf, "target": "1.1", "status": "archived", "typed": "acme"}
        answers += [visitor.get(f"{MANAGE}/{change}?target=1.1"), visitor.post(f"{MANAGE}/{change}", form)]
    assert {(answer.status_code, answer.mimetype) for answer in answers} == {(403, "text/html")}
    assert ["this needs 'admin' for the project 'acme'" in texts(answer) for answer in answers] == [True] * 9
    assert (acme.place.list_keys(), len(listed(acme))) == (before, 3)


@pytest.mark.parametrize("verb", ["yank", "unyank", "delete"])
def test_without_the_csrf_token_nothing_changes(acme: Site, admin: Visitor, verb: str) -> None:
    form = form_of(admin.get(f"{MANAGE}/{verb}?target=1.1"), verb)
    before = listed(acme)
    for token in ("", "0" * 64):
        answer = admin.post(f"{MANAGE}/{verb}", form | {"csrf": token})
        assert (answer.status_code, "form is out of date" in texts(answer)) == (403, True)
    assert listed(acme) == before
