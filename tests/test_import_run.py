"""What becomes of a source's files: verified, repeatable, and nothing that was decided here is undone."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.config import Settings
from elasticpypi.errors import InterruptedDownloadError, NotReadyError, StorageFullError
from elasticpypi.importing import SourceProject
from elasticpypi.importing.directory import PackageDirectory
from elasticpypi.importing.run import Report, import_files
from elasticpypi.index import open_index
from elasticpypi.model import Origin, Status
from elasticpypi.names import NormalizedName
from tests.dists import make_egg, make_sdist, make_wheel
from tests.moving import Shelf, Watched, bring_in, on_shelf, shelf
from tests.site import Site, open_site

ACME = NormalizedName("acme")
WHEEL = "acme-1.0-py3-none-any.whl"
ALGORITHMS = ("sha256", "sha512", "blake2b", "sha384", "sha224", "sha1", "md5")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Where a source has its files."""
    return tmp_path / "there"


def digest(path: Path, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()


def listed(site: Site, project: str = "acme") -> dict[str, bool | str]:
    """Return what a page lists: filename to whether and why it is yanked."""
    return {file["filename"]: file["yanked"] for file in site.json(f"/simple/{project}/")["files"]}


def everything(site: Site) -> dict[Path, bytes]:
    files = (path for path in site.data.rglob("*") if path.is_file() and "sqlite" not in path.name)
    return {path: path.read_bytes() for path in files}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A content that must not be read."""

    def read(self) -> Any:
        raise AssertionError("it was read")

    def sha256(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Breaking:
    """A content whose reading breaks off so many times."""

    path: Path
    times: list[None] = field(default_factory=list)

    @contextmanager
    def read(self) -> Iterator[Iterator[bytes]]:
        yield self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        data = self.path.read_bytes()
        yield data[:100]
        if self.times:
            self.times.pop()
            raise InterruptedDownloadError("it broke off")
        yield data[100:]

    def sha256(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Endless:
    """A content that never ends."""

    @contextmanager
    def read(self) -> Iterator[Iterator[bytes]]:
        yield itertools.repeat(b"more")

    def sha256(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Full:
    """A content for which the storage has no room."""

    @contextmanager
    def read(self) -> Iterator[Iterator[bytes]]:
        raise StorageFullError("the storage is full")
        yield  # type: ignore[unreachable]  # makes it a generator

    def sha256(self) -> str | None:
        return None


# Coming in -------------------------------------------------------------------------------------------------------


def test_files_come_in_with_what_their_source_says_of_them(site: Site, there: Path) -> None:
    files = [make_wheel(there), make_sdist(there / "old"), make_egg(there / "old", version="0.9")]
    other = make_wheel(there, "My.Tool", "2.0+local")
    for path in (*files, other):
        os.utime(path, (10**9, 10**9))
    before = datetime.now(UTC)
    report = bring_in(site.index, PackageDirectory(there))
    assert report == Report(
        imported=["acme-1.0-py3-none-any.whl", "acme-0.9-py3.11.egg", "acme-1.0.tar.gz", other.name]
    )
    claimed = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert site.index.origins(ACME) == {path.name: Origin(digest(path), claimed, "pypiserver there") for path in files}
    page = site.json("/simple/acme/")["files"]
    assert {file["filename"]: file["hashes"]["sha256"] for file in page} == {path.name: digest(path) for path in files}
    # A cooldown reads when the bytes came here, not what a source claims.
    assert min(file["upload-time"] for file in page) >= before.strftime("%Y-%m-%dT%H:%M:%S")
    assert list(listed(site, "my-tool")) == [other.name]


def test_a_second_run_moves_nothing(site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    bring_in(site.index, PackageDirectory(there))
    before, revision = everything(site), site.index.project_revision(ACME)
    assert bring_in(site.index, PackageDirectory(there)) == Report(unchanged=[wheel.name])
    assert (everything(site), site.index.project_revision(ACME)) == (before, revision)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_here_is_not_fetched_again_whatever_digest_its_source_states(
    algorithm: str, site: Site, there: Path
) -> None:
    wheel = make_wheel(there)
    file = on_shelf(wheel, {algorithm: digest(wheel, algorithm).upper()})
    assert bring_in(site.index, shelf(file)) == Report(imported=[WHEEL])
    assert bring_in(site.index, shelf(replace(file, content=Unreachable()))) == Report(unchanged=[WHEEL])


def test_without_a_digest_the_same_bytes_are_fetched_and_change_nothing(site: Site, there: Path) -> None:
    file = replace(on_shelf(make_wheel(there)), content=Breaking(make_wheel(there)))
    assert bring_in(site.index, shelf(file)) == Report(imported=[WHEEL])
    assert bring_in(site.index, shelf(file)) == Report(unchanged=[WHEEL])


def test_a_rehearsal_says_what_would_come_in_and_changes_nothing(site: Site, there: Path) -> None:
    here, new, taken = make_wheel(there), make_wheel(there, version="2.0"), make_wheel(there, version="3.0")
    bring_in(site.index, shelf(on_shelf(here)))
    before = everything(site)
    files = (
        on_shelf(here, {"sha256": digest(here)}),
        replace(on_shelf(new, yanked=True), content=Unreachable()),
        on_shelf(taken.rename(there / "setup.exe")),
        replace(on_shelf(here, {"sha256": "0" * 64}), content=Unreachable()),
    )
    report = bring_in(site.index, Shelf((SourceProject(files, ACME, Status.DEPRECATED),)), dry_run=True)
    assert (report.imported, report.unchanged, report.yanked, report.statuses) == ([new.name], [here.name], [], {})
    assert report.skipped == {"setup.exe": "it is not a wheel, sdist or egg"}
    assert list(report.failed) == [here.name]
    assert everything(site) == before


def test_a_watcher_sees_how_far_it_is(site: Site, there: Path) -> None:
    wheel, watched = make_wheel(there), Watched()
    size = wheel.stat().st_size
    source = Shelf((SourceProject((on_shelf(wheel), on_shelf(there / "setup.exe")), remaining=1), SourceProject(())))
    import_files(site.index, source, watched, Report())
    assert watched.events == [
        ("expect", 2, 1),
        ("finish",),
        ("receive", WHEEL, 0),
        ("receive", WHEEL, size),
        ("finish",),
        ("expect", 0, 0),
    ]


# What is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bytes_that_are_not_what_their_source_says_stay_out(algorithm: str, site: Site, there: Path) -> None:
    wheel, other = make_wheel(there), make_wheel(there, version="2.0")
    wrong = digest(other, algorithm)
    report = bring_in(site.index, shelf(on_shelf(wheel, {algorithm: wrong}), on_shelf(other)))
    assert report.imported == [other.name]
    assert list(report.failed) == [wheel.name]
    assert f"its {algorithm} is {digest(wheel, algorithm)}, but the source says {wrong}" in report.failed[wheel.name]
    assert list(listed(site)) == [other.name]


def test_every_stated_digest_must_be_right(site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    digests = {"sha256": digest(wheel), "md5": "0" * 32}
    assert list(bring_in(site.index, shelf(on_shelf(wheel, digests))).failed) == [WHEEL]


@pytest.mark.parametrize("digests", [{"egg": "acme"}, {"sha256": ""}, {"shake_128": "00"}])
def test_what_is_no_digest_is_left_alone(digests: dict[str, str], site: Site, there: Path) -> None:
    assert bring_in(site.index, shelf(on_shelf(make_wheel(there), digests))).imported == [WHEEL]


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_another_size_than_stated_stays_out(difference: int, site: Site, there: Path) -> None:
    file = on_shelf(make_wheel(there))
    size = (there / WHEEL).stat().st_size + difference
    report = bring_in(site.index, shelf(replace(file, size=size)))
    assert report == Report(failed={WHEEL: f"it has not the {size} bytes that the source says it has; import again"})


def test_no_more_is_read_than_the_source_has_stated(site: Site, there: Path) -> None:
    file = replace(on_shelf(make_wheel(there)), content=Endless(), size=1000)
    assert list(bring_in(site.index, shelf(file)).failed) == [WHEEL]


def test_an_endless_download_leaves_the_storage_its_reserve(
    site: Site, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.importing.run._RESERVE_BYTES", 2**63)
    monkeypatch.setattr("elasticpypi.importing.run._CHECKED_BYTES", 100_000)
    endless, good = replace(on_shelf(make_sdist(there)), content=Endless()), on_shelf(make_wheel(there))
    report = bring_in(site.index, shelf(endless, good))
    assert (report.imported, list(report.failed)) == ([WHEEL], [endless.filename])
    assert "make room and import again" in report.failed[endless.filename]
    assert list((site.data / "files" / ".elasticpypi" / "uploads").iterdir()) == []


def test_a_broken_archive_does_not_stop_the_others(site: Site, there: Path) -> None:
    broken, good = make_wheel(there), make_wheel(there, version="2.0")
    broken.write_bytes(broken.read_bytes()[:-100])
    report = bring_in(site.index, PackageDirectory(there))
    assert (report.imported, list(report.failed)) == ([good.name], [broken.name])
    assert report.failed[broken.name].startswith(f"{broken.name}: ")


@pytest.mark.parametrize("stated", [True, False])
def test_a_name_that_other_bytes_have_stays_theirs(stated: bool, site: Site, there: Path) -> None:
    ours = make_wheel(there / "ours", description="ours")
    site.upload(ours)
    theirs = make_wheel(there / "theirs")
    file = on_shelf(theirs, {"sha256": digest(theirs)} if stated else {})
    report = bring_in(site.index, shelf(replace(file, content=Unreachable()) if stated else file))
    assert list(report.failed) == [WHEEL]
    assert "taken by other bytes" in report.failed[WHEEL]
    assert site.json("/simple/acme/")["files"][0]["hashes"] == {"sha256": digest(ours)}
    assert site.index.origins(ACME) == {}


def test_an_index_that_overwrites_takes_the_bytes_of_the_source(tmp_path: Path, there: Path) -> None:
    site = open_site(tmp_path / "data", overwrite=True)
    bring_in(site.index, shelf(on_shelf(make_wheel(there / "ours", description="ours"))))
    theirs = make_wheel(there / "theirs")
    assert bring_in(site.index, shelf(on_shelf(theirs))) == Report(imported=[WHEEL])
    assert site.index.origins(ACME) == {WHEEL: Origin(digest(theirs), None, "shelf")}
    site.index.close()


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("../acme-1.0-py3-none-any.whl", "it contains a character that no such filename has"),
        ("sub/acme-1.0.tar.gz", "it contains a character that no such filename has"),
        ("acme-1.0\n.tar.gz", "it contains a character that no such filename has"),
        ("acme.whl", "Invalid wheel filename"),
        ("acme-one.tar.gz", "Invalid sdist filename"),
    ],
)
def test_a_distribution_file_of_an_impossible_name_fails(
    filename: str, reason: str, site: Site, there: Path, tmp_path: Path
) -> None:
    make_wheel(there)
    report = bring_in(site.index, shelf(replace(on_shelf(there / WHEEL), filename=filename)))
    assert list(report.failed) == [filename.replace("\n", "\\n")]
    assert reason in next(iter(report.failed.values()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "there"]
    assert site.json("/simple/")["projects"] == []


@pytest.mark.parametrize("filename", ["setup.exe", "acme-1.0-py3-none-any.whl.asc", ".hidden-1.0.whl", "..", ""])
def test_what_is_no_distribution_file_is_skipped(filename: str, site: Site, there: Path) -> None:
    report = bring_in(site.index, shelf(replace(on_shelf(there), filename=filename)))
    assert report == Report(skipped={filename: "it is not a wheel, sdist or egg"})


def test_names_and_reasons_can_be_printed(site: Site, there: Path) -> None:
    hostile = on_shelf(make_wheel(there))
    files = tuple(replace(hostile, filename=name) for name in ("\x1b[2J.exe", "\udcff.exe", "\x1b[2J.whl", "ä.exe"))
    source = Shelf((SourceProject(files, skipped={"\r": "\x07"}, failed={"\x9b": "\u202e"}),))
    report = bring_in(site.index, source)
    assert list(report.skipped) == ["\\r", "\\x1b[2J.exe", "\\udcff.exe", "ä.exe"]
    assert list(report.failed) == ["\\x9b", "\\x1b[2J.whl"]
    assert [reason for reason in (*report.skipped.values(), *report.failed.values()) if not reason.isprintable()] == []


def test_a_reason_that_fits_no_encoding_comes_in_without_what_does_not(site: Site, there: Path) -> None:
    file = on_shelf(make_wheel(there), yanked="bro\udcffken\n")
    bring_in(site.index, Shelf((SourceProject((file,), ACME, Status.DEPRECATED, "\ud800"),)))
    assert listed(site) == {WHEEL: "bro?ken\n"}
    assert site.json("/simple/acme/")["project-status"]["reason"] == "?"


def test_a_page_cannot_bring_in_files_of_another_project(site: Site, there: Path) -> None:
    source = Shelf((SourceProject((on_shelf(make_wheel(there, "secret")),), ACME),))
    report = bring_in(site.index, source)
    assert report == Report(
        failed={"secret-1.0-py3-none-any.whl": "it is listed as a file of 'acme', which by its name it is not"}
    )
    assert site.json("/simple/")["projects"] == []


@pytest.mark.parametrize(("times", "comes_in"), [(2, True), (3, False)])
def test_a_download_that_breaks_off_begins_anew(times: int, comes_in: bool, site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    report = bring_in(site.index, shelf(replace(on_shelf(wheel), content=Breaking(wheel, [None] * times))))
    assert report == (Report(imported=[WHEEL]) if comes_in else Report(failed={WHEEL: "it broke off"}))


def test_an_index_that_cannot_go_on_ends_the_import(tmp_path: Path, there: Path) -> None:
    index = open_index(Settings(), data=tmp_path / "data")  # and no sync has completed its catalog
    with pytest.raises(NotReadyError):
        bring_in(index, shelf(on_shelf(make_wheel(there))))
    index.close()


def test_a_storage_that_is_full_ends_the_import_and_keeps_what_has_come(site: Site, there: Path) -> None:
    first, second, third = (on_shelf(make_wheel(there, version=f"{version}.0")) for version in (1, 2, 3))
    source = shelf(first, replace(second, content=Full()), replace(third, content=Unreachable()))
    with pytest.raises(StorageFullError):
        bring_in(site.index, source)
    assert list(site.index.origins(ACME)) == [first.filename]


# Decisions -------------------------------------------------------------------------------------------------------


def test_yanks_come_along(site: Site, there: Path) -> None:
    first, second, third = (make_wheel(there, version=f"{version}.0") for version in (1, 2, 3))
    files = (on_shelf(first), on_shelf(second, yanked=True), on_shelf(third, yanked="broken"))
    assert bring_in(site.index, shelf(*files)).yanked == [second.name, third.name]
    assert listed(site) == {first.name: False, second.name: True, third.name: "broken"}


def test_a_yank_that_was_taken_back_here_stays_so(site: Site, there: Path) -> None:
    first, second = (make_wheel(there, version=f"{version}.0") for version in (1, 2))
    bring_in(site.index, shelf(on_shelf(first, yanked=True)))
    site.index.unyank(ACME, "1.0")
    report = bring_in(site.index, shelf(on_shelf(first, yanked=True), on_shelf(second, yanked=True)))
    assert report == Report(unchanged=[first.name], imported=[second.name], yanked=[second.name])
    assert listed(site) == {first.name: False, second.name: True}


def test_an_import_that_ended_before_the_yank_is_completed(site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    site.upload(wheel)  # as an import does, which then ended
    report = bring_in(site.index, shelf(on_shelf(wheel, yanked="broken")))
    assert report == Report(unchanged=[WHEEL], yanked=[WHEEL])
    assert listed(site) == {WHEEL: "broken"}


@pytest.mark.parametrize("status", [Status.DEPRECATED, Status.ARCHIVED, Status.QUARANTINED])
def test_a_status_comes_along(status: Status, site: Site, there: Path) -> None:
    source = Shelf((SourceProject((on_shelf(make_wheel(there)),), ACME, status, "use tools"),))
    assert bring_in(site.index, source) == Report(imported=[WHEEL], statuses={"acme": status.value})
    assert site.json("/simple/acme/")["project-status"] == {"status": status.value, "reason": "use tools"}
    assert bring_in(site.index, source) == Report(unchanged=[WHEEL])


def test_a_status_that_was_taken_back_here_stays_so(site: Site, there: Path) -> None:
    source = Shelf((SourceProject((on_shelf(make_wheel(there)),), ACME, Status.DEPRECATED),))
    bring_in(site.index, source)
    site.index.set_status(ACME, Status.ACTIVE)
    assert bring_in(site.index, source) == Report(unchanged=[WHEEL])
    site.index.set_status(ACME, Status.QUARANTINED, "stolen")
    assert bring_in(site.index, source) == Report(unchanged=[WHEEL])
    assert site.json("/simple/acme/")["project-status"] == {"status": "quarantined", "reason": "stolen"}


def test_a_status_that_was_given_here_stays_so(site: Site, there: Path) -> None:
    site.upload(make_wheel(there))
    site.index.set_status(ACME, Status.DEPRECATED, "ours")
    file = on_shelf(make_wheel(there, version="2.0"))
    source = Shelf((SourceProject((file,), ACME, Status.QUARANTINED, "theirs"),))
    assert bring_in(site.index, source) == Report(imported=[file.filename])
    assert site.json("/simple/acme/")["project-status"] == {"status": "deprecated", "reason": "ours"}


def test_a_project_is_archived_once_all_its_files_have_come_in(site: Site, there: Path) -> None:
    first, second = make_wheel(there), make_wheel(there, version="2.0")

    def source(stated: str) -> Shelf:
        files = (on_shelf(first), on_shelf(second, {"sha256": stated}))
        return Shelf((SourceProject(files, ACME, Status.ARCHIVED),))

    report = bring_in(site.index, source("0" * 64))
    assert (report.imported, report.statuses, list(report.failed)) == ([first.name], {}, [second.name])
    report = bring_in(site.index, source(digest(second)))
    assert report == Report(imported=[second.name], unchanged=[first.name], statuses={"acme": "archived"})


def test_an_archived_project_takes_nothing_and_nothing_is_fetched_for_it(site: Site, there: Path) -> None:
    bring_in(site.index, shelf(on_shelf(make_wheel(there))))
    site.index.set_status(ACME, Status.ARCHIVED)
    file = replace(on_shelf(make_wheel(there, version="2.0")), content=Unreachable())
    report = bring_in(site.index, shelf(file))
    assert report == Report(failed={file.filename: "the project 'acme' is archived: it takes no new files"})


@pytest.mark.parametrize("how", ["uploaded and deleted", "imported and deleted", "imported and removed by hand"])
def test_what_was_removed_here_stays_so(how: str, site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    if "imported" in how:
        bring_in(site.index, shelf(on_shelf(wheel)))
    else:
        site.upload(wheel)
    if "deleted" in how:
        site.index.delete(ACME, WHEEL)
    else:
        (site.data / "files" / "acme" / WHEEL).unlink()
        site.index.sync()
    report = bring_in(site.index, shelf(on_shelf(wheel)))
    assert report == Report(skipped={WHEEL: "it has been removed here; upload it to have it again"})
    assert listed(site) == {}


def test_decisions_that_cannot_be_read_are_not_written_over(site: Site, there: Path) -> None:
    site.decide("acme", "{}")
    site.decide("acme", "{")
    plain, yanked = make_wheel(there), make_wheel(there, version="2.0")
    files = (on_shelf(plain), on_shelf(yanked, yanked=True))
    report = bring_in(site.index, Shelf((SourceProject(files, ACME, Status.DEPRECATED),)))
    assert (report.imported, sorted(report.failed)) == ([plain.name, yanked.name], ["acme", yanked.name])
    assert (site.data / "files" / "acme" / "project.json").read_text() == "{"
    site.decide("acme", "{}")
    report = bring_in(site.index, shelf(*files))
    assert report == Report(unchanged=[plain.name, yanked.name], yanked=[yanked.name])


# Origins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        (None, None),
        (datetime(2020, 1, 2, 3, 4, 5, 6, UTC), "2020-01-02T03:04:05.000006Z"),
        (datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=1))), "2020-01-01T23:00:00.000000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), None),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), None),
    ],
)
def test_an_upload_time_is_kept_as_a_claim(claimed: datetime | None, kept: str | None, site: Site, there: Path) -> None:
    wheel = make_wheel(there)
    bring_in(site.index, shelf(replace(on_shelf(wheel), upload_time=claimed)))
    document = json.loads((site.data / "files" / ".elasticpypi" / "origins" / "acme.json").read_text())
    assert document == {WHEEL: {"sha256": digest(wheel), "upload-time": kept, "source": "shelf"}}
    time = next(iter(site.index.origins(ACME).values())).upload_time
    assert time == (None if kept is None else datetime.fromisoformat(kept))
