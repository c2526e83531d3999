"""Counts of downloads: what counts, what it costs, and who is told."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.catalog.dynamodb import DynamoDBLedger
from elasticpypi.catalog.ledger import Ledger, NoLedger
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.config import Settings
from elasticpypi.downloads import Downloads, ProjectDownloads, describe_downloads
from elasticpypi.errors import CatalogError
from elasticpypi.handler.gateway import COUNTED_DOWNLOAD_ONE_IN, GatewayHandler
from elasticpypi.handler.logs import Lines
from elasticpypi.index import open_index
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from tests.dists import make_sdist, make_wheel
from tests.gateway import rest_event
from tests.running import serving
from tests.site import USERS, Site
from tests.test_handler_api import CREDENTIALS
from tests.test_web_api import check_described

ACME, BOLT = NormalizedName("acme"), NormalizedName("bolt")
WHEEL = "acme-1.0-py3-none-any.whl"
DAY_SECONDS = 86_400
TODAY = date(2027, 1, 1)


@dataclass
class Clock:
    """A clock that is set by hand."""

    seconds: float = datetime(2027, 1, 1, 23, 59, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Watched:
    """A ledger whose writes are seen, and fail for as long as they are told to."""

    inner: Ledger
    writes: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def count(self, kind: str, additions: Mapping[str, int], *, expires: int) -> None:
        if kind in self.failing:
            raise CatalogError("the disk is full")
        self.writes.append((kind, dict(additions)))
        self.inner.count(kind, additions, expires=expires)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Watched]:
    kept = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    yield Watched(kept)
    kept.close()


@pytest.fixture
def downloads(ledger: Watched, clock: Clock) -> Downloads:
    return Downloads(ledger, clock=clock)


# Counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["directory", "aws"])
def test_downloads_are_counted_by_file_and_day(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, world: str
) -> None:
    kept: Ledger
    if world == "aws":
        cloud = request.getfixturevalue("cloud")
        kept = DynamoDBLedger(cloud.aws, cloud.make_table(), clock=clock)
    else:
        kept = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    downloads = Downloads(kept, clock=clock)
    for filename, number in (("b.whl", 2), ("a.whl", 1)):
        for _ in range(number):
            downloads.note(ACME, filename)
    downloads.note(BOLT, "a.whl")
    downloads.flush()
    clock.seconds += DAY_SECONDS
    downloads.note(ACME, "b.whl")
    downloads.flush()
    downloads.note(ACME, "b.whl")
    downloads.flush()
    found = downloads.of(ACME)
    assert found == ProjectDownloads(ACME, 30, {"a.whl": {TODAY: 1}, "b.whl": {TODAY: 2, date(2027, 1, 2): 2}})
    assert list(found.files) == ["a.whl", "b.whl"]
    assert describe_downloads(found) == {
        "project": "acme",
        "days": 30,
        "total": 5,
        "files": [
            {"filename": "a.whl", "total": 1, "days": {"2027-01-01": 1}},
            {"filename": "b.whl", "total": 4, "days": {"2027-01-01": 2, "2027-01-02": 2}},
        ],
    }
    assert downloads.of(NormalizedName("ac")).files == {}
    kept.close()


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (1, ["2027-01-01"]),
        (2, ["2026-12-31", "2027-01-01"]),
        (32, ["2026-12-01", "2026-12-31", "2027-01-01"]),
        (33, ["2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01"]),
        (366, ["2026-01-01", "2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01"]),
        (400, ["2025-11-28", "2026-01-01", "2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01"]),
    ],
)
def test_as_many_days_are_told_as_are_asked_for(
    downloads: Downloads, clock: Clock, days: int, expected: list[str]
) -> None:
    now = clock.seconds
    for text in ("2025-11-28", "2026-01-01", "2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01"):
        clock.seconds = datetime.fromisoformat(f"{text}T00:00:00Z").timestamp()
        downloads.note(ACME, "a.whl")
    clock.seconds = now
    downloads.flush()
    assert [day.isoformat() for day in downloads.of(ACME, days=days).files["a.whl"]] == expected


def test_counts_are_kept_for_400_days(downloads: Downloads, clock: Clock) -> None:
    downloads.note(ACME, "a.whl")
    downloads.flush()
    clock.seconds += 399 * DAY_SECONDS
    assert downloads.of(ACME, days=400).total == 1
    clock.seconds += DAY_SECONDS
    assert downloads.of(ACME, days=401).total == 0


def test_what_was_counted_is_written_together(downloads: Downloads, ledger: Watched) -> None:
    for _ in range(1000):
        downloads.note(ACME, "a.whl")
    downloads.note(ACME, "b.whl")
    downloads.note(BOLT, "c.whl")
    assert ledger.writes == []
    for _ in range(3):
        downloads.flush()
    assert ledger.writes == [
        ("downloads#acme", {"2027-01-01#a.whl": 1000, "2027-01-01#b.whl": 1}),
        ("downloads#bolt", {"2027-01-01#c.whl": 1}),
    ]


def test_what_cannot_be_written_is_kept_for_the_next_time(
    downloads: Downloads, ledger: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.failing = {"downloads#bolt"}
    downloads.note(ACME, "a.whl")
    downloads.note(BOLT, "b.whl")
    downloads.flush()
    downloads.note(BOLT, "b.whl")
    downloads.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "downloads have not been written down, and are kept for the next time: the disk is full"
    ] * 2
    ledger.failing = set()
    downloads.flush()
    assert ledger.writes == [
        ("downloads#acme", {"2027-01-01#a.whl": 1}),
        ("downloads#bolt", {"2027-01-01#b.whl": 2}),
    ]


def test_an_index_that_can_keep_nothing_goes_on(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    downloads = Downloads(NoLedger(), clock=clock)
    downloads.note(ACME, "a.whl")
    downloads.flush()
    assert "downloads have not been written down" in caplog.text
    assert downloads.of(ACME).total == 0


def test_no_more_is_remembered_than_there_is_room_for(
    downloads: Downloads, ledger: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("elasticpypi.downloads._MOST_WAITING", 2)
    for filename in ("a", "b", "c", "d", "a"):
        downloads.note(ACME, filename)
    downloads.flush()
    assert ledger.writes == [("downloads#acme", {"2027-01-01#a": 2, "2027-01-01#b": 1})]
    assert [record.getMessage() for record in caplog.records] == [
        "2 downloads are not counted: too many others were waiting to be written"
    ]


def test_one_in_some_is_taken_for_all_of_them(ledger: Watched, clock: Clock) -> None:
    chances = iter([3, 0, 9, 0])
    downloads = Downloads(ledger, clock=clock, below=lambda _: next(chances))
    downloads.sample(10)
    for filename in ("a", "b", "c", "b"):
        downloads.note(ACME, filename)
    downloads.flush()
    assert ledger.writes == [("downloads#acme", {"2027-01-01#b": 20})]


def test_none_is_lost_between_threads(downloads: Downloads) -> None:
    begun = threading.Barrier(5)

    def note() -> None:
        begun.wait(30)
        for _ in range(500):
            downloads.note(ACME, "a.whl")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(30)
    while any(thread.is_alive() for thread in threads):
        downloads.flush()
    downloads.flush()
    assert downloads.of(ACME).total == 2000


# What counts -----------------------------------------------------------------------------------------------------


def counted(site: Site) -> dict[str, int]:
    site.index.downloads.flush()
    return {name: sum(days.values()) for name, days in site.index.downloads.of(ACME).files.items()}


@pytest.mark.both_worlds
def test_what_counts_is_that_a_file_begins_to_come(site: Site, tmp_path: Path) -> None:
    wheel, sdist = make_wheel(tmp_path, "acme", "1.0"), make_sdist(tmp_path, "acme", "1.0")
    for file in (wheel, sdist):
        site.drop(file, f"acme/{file.name}")
    site.index.downloads.is_on = True
    path = f"/packages/acme/{wheel.name}"
    etag = f'"{site.json("/simple/acme/")["files"][0]["hashes"]["sha256"]}"'
    is_local = site.get(path).status_code == 200
    for headers in ({}, {"range": "bytes=0-"}, {"range": "bytes=0-99"}, {"range": "bytes=0-9,20-"}, {"range": "x"}):
        assert site.get(path, **headers).status_code in (200, 206, 302)
    assert counted(site) == {wheel.name: 6}
    site.get(path, method="HEAD")
    for headers in ({"range": "bytes=-100"}, {"range": "bytes=1-"}, {"range": "bytes=00100-200"}):
        assert site.get(path, **headers).status_code in (206, 302)
    site.get(f"{path}.metadata")
    site.get(f"/packages/Acme/{wheel.name}")  # a redirect
    site.get("/packages/acme/acme-9.9.tar.gz")
    site.get(path, user=None)
    if is_local:  # where S3 has the bytes, it is asked for what has changed
        assert site.get(path, if_none_match=etag).status_code == 304
        assert site.get(path, range="bytes=999999999-").status_code == 416
    site.get(f"/packages/acme/{sdist.name}", user="reader")
    assert counted(site) == {wheel.name: 6, sdist.name: 1}


def test_nothing_is_counted_unless_it_is_asked_for(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"), f"acme/{WHEEL}")
    assert site.get(f"/packages/acme/{WHEEL}").status_code == 200
    assert (counted(site), site.index.downloads.is_on) == ({}, False)


# Who is told -----------------------------------------------------------------------------------------------------


@pytest.fixture
def counting(site: Site, tmp_path: Path) -> Site:
    """An index that counts, with three downloads of one file of acme."""
    site.drop(make_wheel(tmp_path, "acme", "1.0"), f"acme/{WHEEL}")
    site.drop(make_wheel(tmp_path, "bolt", "1.0"))
    site.index.downloads.is_on = True
    for _ in range(3):
        site.get(f"/packages/acme/{WHEEL}")
    site.index.downloads.flush()
    return site


def ask(site: Site, project: str, query: str = "", *, user: str = "admin") -> Any:
    answer = site.get(f"/api/v1/projects/{project}/downloads{query}", user=user)
    check_described("GET", "/api/v1/projects/acme/downloads", answer)
    return answer


@pytest.mark.both_worlds
def test_who_may_read_is_told(counting: Site) -> None:
    today = datetime.now(UTC).date().isoformat()
    document = ask(counting, "Acme", "?days=2", user="guest").json
    (file,) = document["files"]
    assert (file["filename"], file["total"], sum(file["days"].values())) == (WHEEL, 3, 3)
    assert set(file["days"]) <= {today, max(file["days"])}
    assert {name: document[name] for name in ("project", "days", "total", "counting")} == {
        "project": "acme",
        "days": 2,
        "total": 3,
        "counting": True,
    }
    assert ask(counting, "bolt", user="guest").status_code == 403
    assert ask(counting, "nut").status_code == 404
    assert ask(counting, "bolt").json["files"] == []


def test_of_a_quarantined_project_administrators_alone_are_told(counting: Site) -> None:
    counting.index.set_status(ACME, Status.QUARANTINED)
    seen = {user: ask(counting, "acme", user=user).json["total"] for user in ("admin", "writer", "guest")}
    assert seen == {"admin": 3, "writer": 0, "guest": 0}


@pytest.mark.parametrize("days", ["0", "401", "x", "-1", "9" * 5000])
def test_days_that_are_none_are_refused(counting: Site, days: str) -> None:
    assert ask(counting, "acme", f"?days={days}").status_code == 400


@pytest.mark.both_worlds
def test_the_command_tells(counting: Site) -> None:
    done = counting.run("downloads", "Acme", "--days", "2")
    assert (done.exit_code, done.stdout) == (0, f"       3  {WHEEL}\n       3  in 2 days\n")
    # as this command is configured
    assert done.stderr == "Downloads are not counted now: set `count_downloads` to true in the configuration.\n"
    document = json.loads(counting.run("downloads", "acme", "--days", "2", "--json").stdout)
    assert document == {**ask(counting, "acme", "?days=2").json, "counting": False}
    assert counting.run("downloads", "nut").exit_code == 1
    assert counting.run("downloads", "acme", "--days", "401").exit_code == 2


# Where it runs ---------------------------------------------------------------------------------------------------


def test_a_server_writes_what_it_has_counted_at_its_end(tmp_path: Path) -> None:
    extra = {"ELASTICPYPI_COUNT_DOWNLOADS": "true"}
    with serving(tmp_path / "data", home=tmp_path / "home", extra=extra) as server:
        assert server.upload(make_wheel(tmp_path, "acme", "1.0")).status_code == 200
        for _ in range(3):
            assert server.fetch(f"/packages/acme/{WHEEL}").status_code == 200
        assert server.stop() == 0
    with closing(open_index(Settings(), data=tmp_path / "data")) as index:
        assert index.downloads.of(ACME).total == 3


def test_a_function_writes_before_it_answers(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"), f"acme/{WHEEL}")
    chances = iter([0, 1, 0])
    ledger = SqliteLedger(site.data / "ledger.sqlite")
    site.index.downloads = Downloads(ledger, is_on=True, below=lambda _: next(chances))
    lines = Lines(service="tests", stage="dev", stream=io.StringIO())
    handler = GatewayHandler(site.index, Settings(users=USERS), lines=lines)
    totals = []
    for _ in range(3):
        answer = handler(rest_event(path=f"/packages/acme/{WHEEL}", headers=[CREDENTIALS]), None)
        assert answer["statusCode"] == 200
        totals.append(site.index.downloads.of(ACME).total)
    assert totals == [10, 10, 20]
    assert COUNTED_DOWNLOAD_ONE_IN == 10
    ledger.close()
