"""What is known of an upstream's projects: fresh, confirmed, old, or nothing, and who is asked for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.catalog import KeptPage
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.errors import CatalogError, ForbiddenError, NotFoundError, StorageError, UpstreamError
from elasticpypi.model import Status, format_time
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.upstream.fetching import Limits
from elasticpypi.upstream.flights import Flights
from elasticpypi.upstream.kept import KeptFiles
from elasticpypi.upstream.model import Elsewhere, Listing, NotOurs
from elasticpypi.upstream.pages import Upstreams
from elasticpypi.upstream.source import MOST_ASKING
from tests.dists import make_wheel
from tests.upstreams import FakeUpstream, running_upstream, send

SPAM = NotOurs(NormalizedName("spam"))
DAY = 86_400.0
NOW = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
_PATIENCE_SECONDS = 30.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    """Where an index of ours lies; each process of it opens its upstreams."""

    catalog: SqliteCatalog
    storage: FilesystemStorage
    clock: Clock = field(default_factory=Clock)

    def open(self, *upstreams: Upstream, own_names: tuple[str, ...] = (), **limits: Any) -> Upstreams:
        return Upstreams(
            self.catalog,
            self.storage,
            upstreams,
            own_names=own_names,
            limits=Limits(**limits) if limits else None,
            clock=self.clock,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    storage = FilesystemStorage(tmp_path / "files")
    storage.initialise()
    catalog = SqliteCatalog(tmp_path / "catalog.sqlite")
    yield Place(catalog, storage)
    catalog.close()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[FakeUpstream]:
    with running_upstream() as running:
        running.add(make_wheel(tmp_path, "spam", "1.0"))
        yield running


def shown(upstreams: Upstreams, name: NotOurs = SPAM) -> list[str]:
    found = upstreams.find(name)
    assert isinstance(found, Listing)
    return [file.filename for file in found.shown]


def stale(upstreams: Upstreams) -> str | None:
    found = upstreams.find(SPAM)
    assert isinstance(found, Listing)
    return found.stale


ONE = ["spam-1.0-py3-none-any.whl"]
TWO = [*ONE, "spam-2.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("cache_control", "fresh_seconds"),
    [(None, 60), ("max-age=0", 60), ("no-cache", 60), ("max-age=300", 300), ("public, max-age=90000", 600)],
)
def test_a_page_is_asked_for_again_when_it_is_no_longer_fresh(
    place: Place, upstream: FakeUpstream, tmp_path: Path, cache_control: str | None, fresh_seconds: float
) -> None:
    if cache_control is not None:
        upstream.page_headers["Cache-Control"] = cache_control
    upstreams = place.open(upstream.configured())
    assert shown(upstreams) == ONE
    upstream.add(make_wheel(tmp_path, "spam", "2.0"))
    place.clock.now += fresh_seconds - 1
    assert shown(upstreams) == ONE
    assert len(upstream.asked) == 1
    place.clock.now += 2
    assert shown(upstreams) == TWO
    assert len(upstream.asked) == 2


def test_an_unchanged_page_is_confirmed_and_not_sent_again(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    before = upstreams.find(SPAM)
    place.clock.now += 61
    after = upstreams.find(SPAM)
    assert isinstance(before, Listing)
    assert isinstance(after, Listing)
    assert (after.digest, after.checked) == (before.digest, place.clock.now)
    assert "if-none-match" in upstream.asked[-1].headers
    place.clock.now += 59
    upstreams.find(SPAM)
    assert len(upstream.asked) == 2


class SmallCatalog(SqliteCatalog):
    """A catalog that has room for the smallest pages alone, as DynamoDB has for those below 400 KB."""

    largest_page = 10

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        super().keep_page(name, form, page if page.body is not None else KeptPage(page.revision, b"elsewhere"))

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        found = super().page(name, form)
        return KeptPage(found.revision, None) if found is not None and found.body == b"elsewhere" else found


@pytest.mark.parametrize("catalog", [SqliteCatalog, SmallCatalog])
def test_a_new_process_goes_by_what_another_one_was_told(
    place: Place, upstream: FakeUpstream, catalog: type[SqliteCatalog]
) -> None:
    place.catalog = catalog(place.catalog.pool.path)
    assert shown(place.open(upstream.configured())) == ONE
    assert shown(place.open(upstream.configured(name="called-otherwise"))) == ONE
    assert len(upstream.asked) == 1
    place.clock.now += 61
    assert shown(place.open(upstream.configured())) == ONE
    assert upstream.asked[-1].headers["if-none-match"]


def test_a_process_notices_that_another_one_has_asked_again(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    one, other = place.open(upstream.configured()), place.open(upstream.configured())
    assert (shown(one), shown(other)) == (ONE, ONE)
    place.clock.now += 61
    upstream.add(make_wheel(tmp_path, "spam", "2.0"))
    assert shown(one) == TWO
    assert shown(other) == TWO
    assert len(upstream.asked) == 2


def test_another_upstream_has_other_pages(place: Place, upstream: FakeUpstream, tmp_path: Path) -> None:
    assert shown(place.open(upstream.configured())) == ONE
    with running_upstream() as other:
        other.add(make_wheel(tmp_path, "spam", "2.0"))
        assert shown(place.open(other.configured())) == TWO[1:]


def test_other_credentials_have_other_pages(place: Place, upstream: FakeUpstream) -> None:
    upstream.credentials = ("reader", "secret")
    assert shown(place.open(upstream.configured())) == ONE
    with pytest.raises(UpstreamError, match="401"):
        place.open(upstream.configured(username=None, password=None)).find(SPAM)
    with pytest.raises(UpstreamError, match="401"):
        place.open(upstream.configured(username="other")).find(SPAM)


def test_a_page_whose_files_come_through_us_is_another_one(place: Place, upstream: FakeUpstream) -> None:
    found = [place.open(upstream.configured(keep=keep)).find(SPAM) for keep in (False, True)]
    assert len({each.digest for each in found if isinstance(each, Listing)}) == 2


def test_an_upstream_that_is_down_is_answered_for_three_days(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    assert stale(upstreams) is None
    with upstream.behaving("down"):
        place.clock.now += 61
        assert stale(upstreams)
        place.clock.now += 3 * DAY - 62
        assert stale(upstreams)
        assert stale(place.open(upstream.configured()))
        place.clock.now += 11
        for asked in (upstreams, place.open(upstream.configured())):
            with pytest.raises(UpstreamError, match="fake"):
                asked.find(SPAM)
    place.clock.now += 11
    assert stale(upstreams) is None


def test_a_failure_is_remembered_for_a_moment(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    with upstream.behaving("500"):
        for _ in range(5):
            with pytest.raises(UpstreamError, match="500"):
                upstreams.find(SPAM)
        assert len(upstream.asked) == 1
    with pytest.raises(UpstreamError):
        upstreams.find(SPAM)
    place.clock.now += 11
    assert shown(upstreams) == ONE


def test_what_an_upstream_no_longer_has_is_not_shown_when_it_is_down(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    assert shown(upstreams) == ONE
    upstream.remove("spam")
    place.clock.now += 61
    assert is_missing(upstreams)
    with upstream.behaving("down"):
        place.clock.now += 61
        for asked in (upstreams, place.open(upstream.configured())):
            with pytest.raises(UpstreamError):
                asked.find(SPAM)


def test_that_there_is_no_such_project_is_remembered_for_a_minute(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstreams, ham = place.open(upstream.configured()), NotOurs(NormalizedName("ham"))
    for _ in range(3):
        with pytest.raises(NotFoundError):
            upstreams.find(ham)
    assert len(upstream.asked) == 1
    upstream.add(make_wheel(tmp_path, "ham", "1.0"))
    place.clock.now += 61
    assert shown(upstreams, ham) == ["ham-1.0-py3-none-any.whl"]


def is_missing(upstreams: Upstreams, name: NotOurs = SPAM) -> bool:
    """Whether clients are told that there is no such project."""
    try:
        found = upstreams.find(name)
        if isinstance(found, Listing):
            upstreams.page(found, Form.JSON, at_most=None)
    except NotFoundError:
        return True
    return False


def test_a_project_without_files_is_missing_and_still_its_upstream_s_own(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    ham = NotOurs(NormalizedName("ham"))
    upstream.project("ham")
    with running_upstream() as second:
        second.add(make_wheel(tmp_path, "ham", "1.0"))
        upstreams = place.open(upstream.configured(name="first"), second.configured(name="second"))
        assert is_missing(upstreams, ham)
        assert second.asked == []
        with upstream.behaving("500"):
            place.clock.now += 61
            with pytest.raises(UpstreamError):  # that there was nothing is no answer any more
                upstreams.find(ham)


def test_a_project_that_is_gone_stays_its_upstream_s_own_for_three_days(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    with running_upstream() as second:
        second.add(make_wheel(tmp_path, "spam", "9.0"))

        def opened() -> Upstreams:
            return place.open(upstream.configured(name="first"), second.configured(name="second"))

        upstreams = opened()
        assert shown(upstreams) == ONE
        upstream.remove("spam")
        place.clock.now += 61
        assert is_missing(upstreams)
        place.clock.now += 3 * DAY - 100
        assert is_missing(upstreams)
        assert is_missing(opened())
        assert second.asked == []
        place.clock.now += 200
        assert shown(upstreams) == ["spam-9.0-py3-none-any.whl"]


def test_a_quarantined_project_has_a_page_without_files(place: Place, upstream: FakeUpstream) -> None:
    upstream.projects["spam"].status = {"status": "quarantined", "reason": "malware"}
    found = place.open(upstream.configured()).find(SPAM)
    assert isinstance(found, Listing)
    assert (found.page.status, found.shown) == (Status.QUARANTINED, ())
    page = place.open(upstream.configured()).page(found, Form.JSON, at_most=None)
    assert page.body


@pytest.mark.parametrize("behaviour", ["404", "500", "down"])
@pytest.mark.parametrize("catalog", ["the same", "remade"])
def test_a_quarantine_ends_with_a_page_that_says_so(
    place: Place, upstream: FakeUpstream, tmp_path: Path, behaviour: str, catalog: str
) -> None:
    configured = upstream.configured(keep=True)
    place.open(configured).keep(SPAM, ONE[0])
    upstream.projects["spam"].status = {"status": "quarantined", "reason": "malware"}
    place.clock.now += 601
    assert quarantined(place.open(configured)) == ONE
    if catalog == "remade":
        place = Place(SqliteCatalog(tmp_path / "remade.sqlite"), place.storage, place.clock)
    place.clock.now += 4 * DAY
    upstreams = place.open(configured)
    with upstream.behaving(behaviour):
        for opened in (upstreams, upstreams, place.open(configured)):
            assert quarantined(opened) == ONE
            place.clock.now += 61
    upstream.projects["spam"].status = None
    place.clock.now += 601
    assert shown(place.open(configured)) == ONE
    place.clock.now += 601
    with upstream.behaving(behaviour):
        assert shown(place.open(configured)) == ONE
    if catalog == "remade":
        place.catalog.close()


def quarantined(upstreams: Upstreams) -> list[str]:
    """Return what is held back since upstream has quarantined all of it."""
    found = upstreams.find(SPAM)
    assert isinstance(found, Listing)
    assert (found.page.status, found.shown) == (Status.QUARANTINED, ())
    with pytest.raises(ForbiddenError, match="has quarantined the project 'spam'"):
        upstreams.files.find(found, ONE[0])
    return [held.file.filename for held in found.held_back]


def test_a_quarantine_that_cannot_be_remembered_holds_as_long_as_there_is_a_page(
    place: Place, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configured = upstream.configured(keep=True)
    place.open(configured).keep(SPAM, ONE[0])
    upstream.projects["spam"].status = {"status": "quarantined"}
    place.clock.now += 601

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the storage takes nothing")

    with monkeypatch.context() as patched:
        patched.setattr(place.storage, "write_document", fail)
        assert quarantined(place.open(configured)) == ONE
    assert "it is not remembered yet whether it is quarantined: the storage takes nothing" in caplog.text
    assert quarantined(place.open(configured)) == ONE  # by the page in the catalog
    place.clock.now += 601
    with upstream.behaving("404"):
        assert quarantined(place.open(configured)) == ONE


def test_another_upstream_does_not_quarantine_what_this_one_has(place: Place, upstream: FakeUpstream) -> None:
    place.open(upstream.configured(keep=True)).keep(SPAM, ONE[0])
    upstream.projects["spam"].status = {"status": "quarantined"}
    other = upstream.configured(name="other", keep=True)
    place.clock.now += 601
    found = place.open(other).find(SPAM)
    assert isinstance(found, Listing)
    assert found.page.status is Status.QUARANTINED
    assert KeptFiles(place.storage).read(SPAM).quarantined_by == frozenset()


def test_a_file_appears_when_it_is_old_enough_though_nobody_is_asked(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.page_headers["Cache-Control"] = "max-age=600"
    uploaded = datetime.fromtimestamp(NOW - 7 * DAY + 100, UTC)
    upstream.add(make_wheel(tmp_path, "spam", "2.0"), says={"upload-time": format_time(uploaded)})
    upstreams = place.open(upstream.configured(min_age_days=7))
    before = upstreams.find(SPAM)
    assert isinstance(before, Listing)
    assert ([file.filename for file in before.shown], len(before.held_back)) == (ONE, 1)
    place.clock.now += 101
    after = upstreams.find(SPAM)
    assert isinstance(after, Listing)
    assert ([file.filename for file in after.shown], after.held_back) == (TWO, ())
    assert after.digest != before.digest
    assert len(upstream.asked) == 1


def test_a_page_of_which_all_files_are_held_back_is_missing_and_says_why(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured(min_age_days=10_000))
    found = upstreams.find(SPAM)
    assert isinstance(found, Listing)
    with pytest.raises(NotFoundError, match=r"spam-1\.0-py3-none-any\.whl is younger than 10000 days"):
        upstreams.page(found, Form.JSON, at_most=None)


def test_a_project_that_is_gone_stays_its_upstream_s_own_though_the_catalog_takes_no_note_of_it(
    place: Place, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CatalogError("database or disk is full")

    with running_upstream() as second:
        second.add(make_wheel(tmp_path, "spam", "9.0"))
        upstreams = place.open(upstream.configured(name="first"), second.configured(name="second"))
        assert shown(upstreams) == ONE
        upstream.remove("spam")
        monkeypatch.setattr(SqliteCatalog, "keep_page", refuse)
        for _ in range(3):
            place.clock.now += 61
            assert is_missing(upstreams)
        assert second.asked == []


@pytest.mark.parametrize(
    ("url", "changes", "expected"),
    [
        (None, {}, "{upstream}/files/spam-2.0-py3-none-any.whl.provenance"),
        (None, {"keep": True}, "{upstream}/files/spam-2.0-py3-none-any.whl.provenance"),
        (None, {"username": "reader", "password": "secret"}, None),
        ("https://pypi.example.org/", {}, "{upstream}/files/spam-2.0-py3-none-any.whl.provenance"),
        ("https://pypi.example.org", {"keep": True}, "https://pypi.example.org/packages/spam/{filename}.provenance"),
        (
            "https://pypi.example.org/",
            {"username": "reader", "password": "secret"},
            "https://pypi.example.org/packages/spam/{filename}.provenance",
        ),
    ],
)
def test_provenance_has_a_whole_url_by_which_clients_can_get_it(
    place: Place, upstream: FakeUpstream, tmp_path: Path, url: str | None, changes: dict[str, Any], expected: str | None
) -> None:
    upstream.add(make_wheel(tmp_path, "spam", "2.0"), provenance=b"{}")
    upstreams = Upstreams(place.catalog, place.storage, [upstream.configured(**changes)], url=url, clock=place.clock)
    found = upstreams.find(SPAM)
    assert isinstance(found, Listing)
    document = json.loads(b"".join(upstreams.render(found, Form.JSON)))
    whole = None if expected is None else expected.format(upstream=upstream.base, filename=TWO[1])
    assert [file.get("provenance") for file in document["files"]] == [None, whole]


def test_a_file_is_shown_as_kept_as_soon_as_it_is(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured(keep=True))
    before = upstreams.find(SPAM)
    assert isinstance(before, Listing)
    upstreams.files.bring(upstreams.files.find(before, ONE[0]))
    after = upstreams.find(SPAM)
    assert isinstance(after, Listing)
    assert (list(before.kept), list(after.kept)) == ([], ONE)
    assert upstream.paths("/simple/") == ["/simple/spam/"]


# Who is asked ---------------------------------------------------------------------------------------------------------


def test_the_first_upstream_that_has_a_project_answers_for_it_alone(
    place: Place, upstream: FakeUpstream, tmp_path: Path
) -> None:
    with running_upstream() as second:
        second.add(make_wheel(tmp_path, "spam", "9.0"))
        second.add(make_wheel(tmp_path, "ham", "1.0"))
        upstreams = place.open(upstream.configured(name="first"), second.configured(name="second"))
        assert shown(upstreams) == ONE
        assert shown(upstreams, NotOurs(NormalizedName("ham"))) == ["ham-1.0-py3-none-any.whl"]
        assert second.paths() == ["/simple/ham/"]


@pytest.mark.parametrize("behaviour", ["down", "500", "429", "401", "no links", "no bytes"])
def test_an_upstream_that_does_not_say_keeps_later_ones_from_being_asked(
    place: Place, upstream: FakeUpstream, behaviour: str
) -> None:
    with running_upstream() as first, first.behaving(BEHAVIOURS.get(behaviour, behaviour)):
        upstreams = place.open(first.configured(name="first"), upstream.configured(name="second"))
        with pytest.raises(UpstreamError, match="first"):
            upstreams.find(SPAM)
        assert upstream.asked == []
        told = list(upstreams.explain(SPAM))
        assert [(asked.upstream.name, asked.found) for asked in told] == [("first", None)]


BEHAVIOURS: dict[str, Any] = {
    "no links": send(200, b"<!DOCTYPE html><html><body>Welcome</body></html>", "text/html"),
    "no bytes": send(200, b"", "text/html"),
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"deny": ("ham", "sp?m")}, "is not asked: 'sp?m' in its 'deny' matches"),
        ({"allow": ("ham",)}, "is not asked: nothing in its 'allow' matches"),
        ({"allow": ("spam",), "deny": ("spam",)}, "is not asked: 'spam' in its 'deny' matches"),
    ],
)
def test_patterns_decide_for_which_names_an_upstream_is_asked(
    place: Place, upstream: FakeUpstream, changes: dict[str, Any], reason: str
) -> None:
    upstreams = place.open(upstream.configured(**changes))
    with pytest.raises(NotFoundError):
        upstreams.find(SPAM)
    assert [asked.outcome for asked in upstreams.explain(SPAM)] == [reason]
    assert upstream.asked == []


def test_own_names_are_never_asked_for(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured(), own_names=("acme-*", "spam"))
    with pytest.raises(NotFoundError, match="'spam' in 'own_names'"):
        upstreams.find(SPAM)
    assert upstream.asked == []


def test_clients_are_sent_to_an_upstream_that_is_to_be_redirected_to(place: Place, upstream: FakeUpstream) -> None:
    found = place.open(upstream.configured(mode=UpstreamMode.REDIRECT)).find(SPAM)
    assert isinstance(found, Elsewhere)
    assert found.url == f"{upstream.url}spam/"
    assert upstream.asked == []


# At the same time -----------------------------------------------------------------------------------------------------


def _hold(asked: threading.Event) -> Callable[[FakeUpstream, Any], None]:
    """Return what answers late, when it is released, and says that it was asked."""

    def hold(upstream: FakeUpstream, request: Any) -> None:
        asked.set()
        upstream.released.wait(_PATIENCE_SECONDS)
        request.send(upstream.find(request))

    return hold


def test_many_who_want_the_same_project_ask_once(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    waiting = threading.Event()
    with ThreadPoolExecutor(20) as pool:
        with upstream.behaving(_hold(waiting)):
            first = pool.submit(shown, upstreams)
            assert waiting.wait(_PATIENCE_SECONDS)
            others = [pool.submit(shown, upstreams) for _ in range(19)]
        assert [future.result(_PATIENCE_SECONDS) for future in (first, *others)] == [ONE] * 20
    assert len(upstream.asked) == 1


def test_nobody_waits_where_there_is_a_page_that_was_current_a_while_ago(place: Place, upstream: FakeUpstream) -> None:
    upstreams = place.open(upstream.configured())
    assert shown(upstreams) == ONE
    place.clock.now += 61
    asked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with upstream.behaving(_hold(asked)):
            first = pool.submit(shown, upstreams)
            assert asked.wait(_PATIENCE_SECONDS)
            assert shown(upstreams) == ONE  # here and now
        assert first.result(_PATIENCE_SECONDS) == ONE


def test_more_callers_than_there_are_places_are_told_at_once() -> None:
    flights = Flights(2)
    with (
        flights.turn("up", "spam", patience_seconds=0) as first,
        flights.turn("up", "ham", patience_seconds=0) as second,
    ):
        assert (first, second) == (True, True)
        with flights.turn("up", "eggs", patience_seconds=_PATIENCE_SECONDS) as third:
            assert not third
    with flights.turn("up", "eggs", patience_seconds=0) as third:
        assert third


def test_a_turn_that_does_not_come_in_time_is_none() -> None:
    flights = Flights(5)
    with flights.turn("up", "spam", patience_seconds=0), flights.turn("up", "spam", patience_seconds=0.01) as second:
        assert not second
    with flights.turn("up", "spam", patience_seconds=0) as third:
        assert third


def test_an_upstream_takes_no_more_than_its_share_of_the_places() -> None:
    flights = Flights(3, share=2)
    with (
        flights.turn("slow", "spam", patience_seconds=0),
        flights.turn("slow", "ham", patience_seconds=0),
        flights.turn("slow", "eggs", patience_seconds=0) as third,
        flights.place("other") as place,
    ):
        assert (third, place) == (False, True)
    with flights.turn("slow", "eggs", patience_seconds=0) as third:
        assert third


def test_a_slow_upstream_leaves_others_alone(place: Place, upstream: FakeUpstream) -> None:
    names = [NotOurs(NormalizedName(f"ham-{number}")) for number in range(MOST_ASKING + 10)]
    with running_upstream() as slow:
        upstreams = place.open(
            slow.configured(name="slow", allow=("ham-*",)), upstream.configured(name="fast"), page_seconds=10
        )
        with ThreadPoolExecutor(len(names)) as pool:
            with slow.behaving("slow"):
                waiting = [pool.submit(upstreams.find, name) for name in names]
                told = next(as_completed(waiting))  # that too many wait already
                with pytest.raises(UpstreamError, match="slow"):
                    told.result()
                assert shown(upstreams) == ONE
            for future in waiting:
                with pytest.raises((UpstreamError, NotFoundError)):
                    future.result(_PATIENCE_SECONDS)


# What is remembered ---------------------------------------------------------------------------------------------------


def test_only_so_much_is_remembered(place: Place, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.upstream.source._MOST_FILES", 2)
    upstreams = place.open(upstream.configured())
    read = _counting_reads(monkeypatch)
    for version in ("1.0", "2.0", "3.0"):
        name = NotOurs(NormalizedName(f"p{version[0]}"))
        upstream.add(make_wheel(place.catalog.pool.path.parent, name, version))
        upstreams.find(name)
    before = len(upstream.asked)
    upstreams.find(NotOurs(NormalizedName("p1")))  # forgotten, and read from the catalog
    assert (len(upstream.asked), read()) == (before, 4)


def _counting_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    from elasticpypi.upstream.cached import PageCache

    count = 0
    find = PageCache.find

    def counted(self: PageCache, name: NotOurs) -> Any:
        nonlocal count
        count += 1
        return find(self, name)

    monkeypatch.setattr(PageCache, "find", counted)
    return lambda: count
