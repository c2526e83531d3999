"""`elasticpypi backup` and `restore`: all of an index in one tar, taken and put back while it is in use."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from elasticpypi.backup.restoring import RestoreReport
from elasticpypi.config import Settings
from elasticpypi.errors import BackupError, StorageError
from elasticpypi.index import Index, open_index
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName, parse_filename
from tests.clients import Desk, account
from tests.dists import make_sdist, make_wheel
from tests.running import bare_environment, run_command, serving, wait_for
from tests.site import Site, open_site

ACME = NormalizedName("acme")


def back_up(site: Site) -> bytes:
    """Return a backup, in which nothing is left out."""
    stream = io.BytesIO()
    assert site.index.backup(stream).left_out == {}
    return stream.getvalue()


def names(backup: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        return archive.getnames()


def member(backup: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        content = archive.extractfile(name)
        assert content is not None
        return content.read()


def pages(site: Site) -> dict[str, Any]:
    """Return the root and each project's page, without their serials."""
    paths = [f"/simple/{project['name']}/" for project in site.json("/simple/")["projects"]]
    found = {path: site.json(path) for path in ("/simple/", *paths)}
    for page in found.values():
        page.pop("meta")
    for project in found["/simple/"]["projects"]:
        project.pop("_last-serial", None)
    return found


@contextmanager
def new_site(data: Path) -> Iterator[Site]:
    site = open_site(data)
    with closing(site.index):
        yield site


def restore(index: Index, backup: bytes) -> RestoreReport:
    return index.restore(io.BytesIO(backup))


def first_seen_note(key: str) -> str:
    """Return where it is noted when the bytes under a key were first seen."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f".elasticpypi/first-seen/{digest[:2]}/{digest[2:]}.json"


@pytest.fixture
def full(site: Site, tmp_path: Path) -> Site:
    """An index with something of everything: files of ours and by hand, decisions, a rejected file, imported times."""
    for version in ("1.0", "2.0"):
        site.upload(make_wheel(tmp_path, version=version))
    site.drop(make_sdist(tmp_path, "other", "2.0"), "by/hand/other-2.0.tar.gz")
    site.drop(make_sdist(tmp_path, "other"), "other-1.0.tar.gz")
    broken = tmp_path / "broken-1.0.zip"
    broken.write_bytes(b"no archive")
    site.drop(broken)
    site.index.yank(ACME, "1.0", "broken")
    site.upload(make_wheel(tmp_path, "gone"))
    site.index.delete(NormalizedName("gone"))
    site.index.set_status(NormalizedName("other"), Status.DEPRECATED, "use acme")
    return site


# What is in it ---------------------------------------------------------------------------------------------------


def test_decisions_come_first_then_notes_then_files(full: Site) -> None:
    assert names(back_up(full)) == [
        "acme/project.json",
        "gone/project.json",
        "other/project.json",
        *sorted(
            first_seen_note(key)
            for key in (
                "acme/acme-1.0-py3-none-any.whl",
                "acme/acme-2.0-py3-none-any.whl",
                "broken-1.0.zip",
                "by/hand/other-2.0.tar.gz",
                "gone/gone-1.0-py3-none-any.whl",
                "other-1.0.tar.gz",
            )
        ),
        "acme/acme-1.0-py3-none-any.whl",
        "acme/acme-2.0-py3-none-any.whl",
        "broken-1.0.zip",
        "by/hand/other-2.0.tar.gz",
        "other-1.0.tar.gz",
        ".elasticpypi/backup.json",
    ]


def test_a_restored_index_shows_the_same_pages(full: Site, tmp_path: Path) -> None:
    backup = back_up(full)
    with new_site(tmp_path / "restored") as restored:
        report = restore(restored.index, backup)
        assert (report.restored, report.present, report.problems) == (14, 0, {})
        assert pages(restored) == pages(full)
        assert [entry.key for entry in restored.index.problems()] == ["broken-1.0.zip"]
        assert restored.index.find_drift().drift == 0
        # Whose the deleted name was is remembered.
        other = make_wheel(tmp_path / "other", "gone", description="other bytes")
        assert restored.upload(other).status_code == 409


def test_ordinary_tar_extracts_an_index(full: Site, tmp_path: Path) -> None:
    (tmp_path / "backup.tar").write_bytes(back_up(full))
    files = tmp_path / "restored" / "files"
    files.mkdir(parents=True)
    done = subprocess.run(["tar", "-xf", tmp_path / "backup.tar", "-C", files], check=True, capture_output=True)
    assert done.stderr == b""
    with new_site(tmp_path / "restored") as restored:
        restored.index.sync(patience_seconds=10)  # as young as they are, somebody might still be writing them
        assert pages(restored) == pages(full)
        # And the end of the old backup is not in the next one.
        assert names(back_up(restored)) == names(back_up(full))


def test_restoring_again_changes_nothing(full: Site) -> None:
    backup, before = back_up(full), pages(full)
    for _ in range(2):
        report = restore(full.index, backup)
        assert (report.restored, report.present, report.problems) == (0, 14, {})
        assert pages(full) == before


def test_a_file_that_nobody_has_indexed_yet_is_in_it(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(site.data / "files")
    with new_site(tmp_path / "restored") as restored:
        assert restore(restored.index, back_up(site)).problems == {}
        site.index.sync()
        assert pages(restored) == pages(site)
        assert [file["filename"] for file in restored.json("/simple/acme/")["files"]] == [wheel.name]


def test_a_file_that_is_being_copied_is_left_out_and_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.index._SETTLING_SECONDS", 0.0)
    wheel = make_wheel(tmp_path)
    with (site.data / "files" / wheel.name).open("wb") as half:
        half.write(wheel.read_bytes()[:100])
        half.flush()
        stream = io.BytesIO()
        report = site.index.backup(stream)
    assert report.left_out == {wheel.name: f"{wheel.name} is changing just now; try again in a moment"}
    assert names(stream.getvalue()) == [".elasticpypi/backup.json"]


def test_bytes_that_have_rotted_are_named_and_never_restored(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.upload(make_wheel(tmp_path))
    key = "acme/acme-1.0-py3-none-any.whl"
    path = site.data / "files" / key
    rotten = bytearray(path.read_bytes())
    rotten[50] ^= 1

    real_open = Path.open

    def open_rotten(self: Path, *arguments: Any, **named: Any) -> Any:
        stream = real_open(self, *arguments, **named)
        return _Rotten(stream, bytes(rotten)) if self == path else stream

    monkeypatch.setattr(Path, "open", open_rotten)  # the bytes on the disk change, and no time with them
    stream = io.BytesIO()
    report = site.index.backup(stream)
    assert list(report.left_out) == [key]
    monkeypatch.undo()
    with new_site(tmp_path / "restored") as restored:
        report_of_restore = restore(restored.index, stream.getvalue())
        assert list(report_of_restore.problems) == [key]
        assert not (restored.data / "files" / key).exists()


class _Rotten(io.BytesIO):
    """A file whose disk gives other bytes than were written."""

    def __init__(self, stream: BinaryIO, data: bytes) -> None:
        super().__init__(data)
        self._stream = stream

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self._stream.close()
        super().close()


# While things go on ----------------------------------------------------------------------------------------------


class _Interrupted(io.BytesIO):
    """A place for a backup at which something happens once, as soon as so many bytes have come in."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        super().__init__()
        self._after = after
        self._act: Callable[[], object] | None = act

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        if self._act is not None and self.tell() >= self._after:
            act, self._act = self._act, None
            act()
        return written


LARGE = 200_000  # bytes of a file, far more than the tar keeps back before it writes


@pytest.fixture
def two(site: Site, tmp_path: Path) -> Site:
    """An index with two large files of a project on which something has been decided."""
    for version in ("1.0", "2.0"):
        extra = {"noise.bin": hashlib.shake_256(version.encode()).digest(LARGE)}
        site.upload(make_wheel(tmp_path, version=version, extra_files=extra))
    site.index.yank(ACME, "1.0", "broken")
    return site


@pytest.mark.parametrize(
    ("version", "listed", "deleted"),
    [
        ("1.0", ["acme-1.0-py3-none-any.whl", "acme-2.0-py3-none-any.whl"], []),  # it was in the backup already
        ("2.0", ["acme-1.0-py3-none-any.whl"], ["acme-2.0-py3-none-any.whl"]),
    ],
)
def test_a_file_deleted_meanwhile_is_there_as_before_or_remembered_as_deleted(
    two: Site, tmp_path: Path, version: str, listed: list[str], deleted: list[str]
) -> None:
    stream = _Interrupted(LARGE // 2, lambda: two.index.delete(ACME, version))
    assert two.index.backup(stream).left_out == {}
    for times in (1, 2):  # a backup can be restored again, also where a name comes twice in it
        with new_site(tmp_path / "restored") as restored:
            assert restore(restored.index, stream.getvalue()).problems == {}, times
            assert [file["filename"] for file in restored.json("/simple/acme/")["files"]] == listed
            decided = json.loads((restored.data / "files/acme/project.json").read_text())
            assert (list(decided["deleted"]), decided["yanked"]) == (deleted, {"1.0": "broken"})


def test_a_deletion_does_not_take_another_with_it(two: Site, tmp_path: Path) -> None:
    def delete_all() -> None:
        two.index.delete(ACME)

    stream = _Interrupted(LARGE // 2, delete_all)
    two.index.backup(stream)
    with new_site(tmp_path / "restored") as restored:
        assert restore(restored.index, stream.getvalue()).problems == {}
        files = [file["filename"] for file in restored.json("/simple/acme/")["files"]]
        decided = json.loads((restored.data / "files/acme/project.json").read_text())
        assert (files, list(decided["deleted"])) == (["acme-1.0-py3-none-any.whl"], ["acme-2.0-py3-none-any.whl"])


def test_a_file_replaced_meanwhile_keeps_the_time_of_its_new_bytes(tmp_path: Path) -> None:
    two = open_site(tmp_path / "data", overwrite=True)
    large = {"noise.bin": hashlib.shake_256(b"1").digest(LARGE)}
    two.upload(make_wheel(tmp_path, version="1.0", extra_files=large))
    two.upload(make_wheel(tmp_path, version="2.0"))
    other = make_wheel(tmp_path / "other", version="2.0", description="replaced")
    stream = _Interrupted(LARGE // 2, lambda: two.upload(other))
    with closing(two.index), new_site(tmp_path / "restored") as restored:
        assert two.index.backup(stream).left_out == {}
        assert restore(restored.index, stream.getvalue()).problems == {}
        assert pages(restored) == pages(two)


def test_what_comes_meanwhile_is_not_in_it(two: Site, tmp_path: Path) -> None:
    before = pages(two)
    stream = _Interrupted(LARGE // 2, lambda: two.upload(make_wheel(tmp_path, "late")))
    two.index.backup(stream)
    assert "late" in str(pages(two))
    with new_site(tmp_path / "restored") as restored:
        assert restore(restored.index, stream.getvalue()).problems == {}
        assert pages(restored) == before


@contextmanager
def load(site: Site, wheels: list[Path], new: Path) -> Iterator[None]:
    """Yank, delete and upload again and again, a thread for each of these wheels; and upload new ones to a project."""
    stop = threading.Event()

    def change(wheel: Path, number: int) -> None:
        name = parse_filename(wheel.name).project
        turn = 0
        while not stop.is_set():
            turn += 1
            site.index.yank(name, "1.0", "moving")
            site.index.delete(name)
            assert site.upload(wheel).status_code == 200
            assert site.upload(make_wheel(new, "new", f"{number}.{turn}")).status_code == 200

    with ThreadPoolExecutor(len(wheels)) as pool:
        changing = [pool.submit(change, wheel, number) for number, wheel in enumerate(wheels)]
        try:
            yield
        finally:
            stop.set()
        for each in changing:
            each.result()


def test_a_backup_under_load_has_all_that_was_there_before(site: Site, tmp_path: Path) -> None:
    stable = [make_wheel(tmp_path, f"stable-{number}") for number in range(20)]
    moving = [make_wheel(tmp_path, f"moving-{number}") for number in range(4)]
    for wheel in (*stable, *moving):
        assert site.upload(wheel).status_code == 200
    with load(site, moving, tmp_path / "new"):
        backups = [back_up(site) for _ in range(5)]
    original = pages(site)
    for number, backup in enumerate(backups):
        with new_site(tmp_path / f"restored-{number}") as restored:
            assert restore(restored.index, backup).problems == {}
            assert restored.index.find_drift().drift == 0
            found = pages(restored)
            for path in [f"/simple/stable-{one}/" for one in range(20)]:
                assert found[path] == original[path]
            for one in range(4):
                assert_moved(restored.data / f"files/moving-{one}", found, original)


def assert_moved(directory: Path, found: dict[str, Any], original: dict[str, Any]) -> None:
    """A file that comes and goes is there, as old as it is, or its deletion is remembered."""
    (before,) = original[f"/simple/{directory.name}/"]["files"]
    match found[f"/simple/{directory.name}/"]["files"]:
        case []:
            decided = json.loads((directory / "project.json").read_text())["deleted"]
            assert decided == {before["filename"]: before["hashes"]["sha256"]}
        case [after]:
            assert after["upload-time"] == before["upload-time"]


# What lies there already -----------------------------------------------------------------------------------------


def test_other_bytes_and_other_decisions_are_left_and_named(full: Site, tmp_path: Path) -> None:
    backup = back_up(full)
    with new_site(tmp_path / "restored") as restored:
        restored.upload(make_wheel(tmp_path / "other", version="1.0", description="other bytes"))
        restored.index.yank(ACME, "1.0", "for another reason")
        before = restored.json("/simple/acme/")["files"]
        report = restore(restored.index, backup)
        assert list(report.problems) == ["acme/project.json", "acme/acme-1.0-py3-none-any.whl"]
        assert "project.json" in report.problems["acme/project.json"]
        assert restored.json("/simple/acme/")["files"][:1] == before
        assert [file["filename"] for file in restored.json("/simple/acme/")["files"]] == [
            "acme-1.0-py3-none-any.whl",
            "acme-2.0-py3-none-any.whl",
        ]


def test_a_project_removed_by_hand_comes_back_with_its_decisions(full: Site) -> None:
    backup, before = back_up(full), pages(full)
    removed = list((full.data / "files/acme").iterdir())
    for path in removed:
        path.unlink()
    for path in removed:
        full.index.reconcile(f"acme/{path.name}")
    assert (full.data / "files/acme/project.json").exists()  # which says no more than that the name is ours
    report = restore(full.index, backup)
    assert (report.restored, report.problems) == (3, {})
    assert pages(full) == before


def test_a_first_seen_time_that_is_known_here_stays(full: Site) -> None:
    backup = back_up(full)
    note = full.data / "files" / first_seen_note("acme/acme-1.0-py3-none-any.whl")
    ((sha256, _),) = json.loads(note.read_text()).items()
    note.write_text(json.dumps({sha256: "2020-01-01T00:00:00.000000Z", "ab" * 32: "2020-01-01T00:00:00.000000Z"}))
    before = note.read_bytes()
    assert restore(full.index, backup).problems == {}
    assert note.read_bytes() == before
    note.write_text(json.dumps({"ab" * 32: "2020-01-01T00:00:00.000000Z"}))
    assert restore(full.index, backup).problems == {}
    assert json.loads(note.read_text()).keys() == {sha256, "ab" * 32}


def test_a_quarantined_project_is_never_served_while_it_is_restored(full: Site, tmp_path: Path) -> None:
    full.index.set_status(ACME, Status.QUARANTINED)
    backup = back_up(full)
    with new_site(tmp_path / "restored") as restored:
        listed: list[object] = []

        class Watching(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                page = restored.get("/simple/acme/", accept="application/vnd.pypi.simple.v1+json")
                listed.extend(page.json["files"] if page.json else [])
                return super().read(512)

        assert restored.index.restore(Watching(backup)).problems == {}
        assert listed == []
        assert restored.get("/packages/acme/acme-1.0-py3-none-any.whl").status_code == 403


# Damage ----------------------------------------------------------------------------------------------------------


def offset_of(backup: bytes, name: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        return archive.getmember(name).offset_data


def test_a_damaged_file_is_named_and_the_rest_restored(full: Site, tmp_path: Path) -> None:
    backup = bytearray(back_up(full))
    keys = ["acme/project.json", "acme/acme-2.0-py3-none-any.whl"]
    for key in keys:
        backup[offset_of(bytes(backup), key) + 20] ^= 1
    with new_site(tmp_path / "restored") as restored:
        report = restore(restored.index, bytes(backup))
        assert (list(report.problems), report.restored) == (keys, 12)
        assert [file["filename"] for file in restored.json("/simple/acme/")["files"]] == ["acme-1.0-py3-none-any.whl"]


def test_a_truncated_backup_is_noticed_wherever_it_ends(full: Site, tmp_path: Path) -> None:
    backup = back_up(full)
    end = offset_of(backup, ".elasticpypi/backup.json")
    with new_site(tmp_path / "restored") as restored:
        for length in [0, 1, *range(512, end, 4096), end - 512, end - 1]:
            with pytest.raises(BackupError):
                restore(restored.index, backup[:length])


def test_a_missing_member_is_noticed(full: Site, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(back_up(full))) as source,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for each in source.getmembers()[1:]:
            archive.addfile(each, source.extractfile(each))
    with new_site(tmp_path / "restored") as restored, pytest.raises(BackupError, match="13 members"):
        restore(restored.index, stream.getvalue())


def made_by_hand(*members: tuple[str, bytes], end: bytes | None = None) -> bytes:
    """Return a backup of these members, none of which need be what an index has."""
    ending = b'{"format": 1, "members": %d}' % len(members) if end is None else end
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for key, data in (*members, (".elasticpypi/backup.json", ending)):
            strange = tarfile.TarInfo(key)
            strange.size = len(data)
            strange.pax_headers = {"comment": f"sha256:{hashlib.sha256(data).hexdigest()}"}
            archive.addfile(strange, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../evil-1.0.zip",
        "/evil-1.0.zip",
        "notes.txt",
        ".elasticpypi/../../evil",
        ".elasticpypi/lock",
        ".elasticpypi/uploads/x",
        ".elasticpypi/uploads/resumable-x",
        ".elasticpypi/first-seen/x.json",
        ".elasticpypi/origins/../x.json",
    ],
)
def test_a_strange_member_is_not_restored(site: Site, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    report = restore(site.index, made_by_hand((name, b"{}")))
    assert (list(report.problems), report.restored) == ([name], 0)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["\udcff/acme-1.0.zip", "\udcff/project.json", ".elasticpypi/origins/\udcff.json"])
def test_a_name_that_is_not_utf_8_is_not_restored(site: Site, key: str) -> None:
    report = restore(site.index, made_by_hand((key, b"{}")))
    assert report.problems == {key.replace("\udcff", "\\udcff"): "it is nothing that an index has"}


@pytest.mark.parametrize("key", ["acme/project.json", ".elasticpypi/origins/acme.json"])
@pytest.mark.parametrize("is_present", [False, True])
def test_what_is_nested_too_deeply_is_not_restored(site: Site, key: str, is_present: bool) -> None:
    if is_present:
        assert restore(site.index, made_by_hand((key, b"{}"))).problems == {}
    report = restore(site.index, made_by_hand((key, b"[" * 100_000)))
    assert report.problems == {key: "it is nested too deeply to be read"}


@pytest.mark.parametrize("key", ["acme/project.json", ".elasticpypi/origins/acme.json"])
def test_what_lies_here_and_is_nested_too_deeply_is_left(site: Site, key: str) -> None:
    path = site.data / "files" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"[" * 100_000)
    assert list(restore(site.index, made_by_hand((key, b"{}"))).problems) == [key]
    assert path.read_bytes() == b"[" * 100_000


def test_an_end_that_is_nested_too_deeply_is_none(site: Site) -> None:
    with pytest.raises(BackupError, match="its end does not fit"):
        restore(site.index, made_by_hand(end=b"[" * 100_000))


@pytest.mark.parametrize("data", [b"", b"no tar", b"\0" * 10_240, b"PK\x03\x04" * 1000])
def test_what_is_no_backup_is_refused(site: Site, data: bytes) -> None:
    with pytest.raises(BackupError):
        restore(site.index, data)


def test_a_storage_that_is_not_there_is_neither_backed_up_nor_restored_into(full: Site) -> None:
    backup = back_up(full)
    full.data.joinpath("files").rename(full.data / "away")
    with pytest.raises(StorageError):
        full.index.backup(io.BytesIO())
    with pytest.raises(StorageError):
        restore(full.index, backup)


def test_memory_does_not_grow_with_the_files(site: Site, tmp_path: Path) -> None:
    large = 64 * 2**20  # bytes
    site.upload(make_wheel(tmp_path, extra_files={"noise.bin": os.urandom(large)}))
    file = tmp_path / "backup.tar"
    tracemalloc.start()
    try:
        with file.open("wb") as out:
            assert site.index.backup(out).size > large
        with new_site(tmp_path / "restored") as restored, file.open("rb") as stream:
            assert restored.index.restore(stream).problems == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < large // 8


def test_a_backup_goes_through_a_pipe_that_stays_one(full: Site, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        done = run_command("backup", pipe, "--data", full.data, home=tmp_path / "home")
        assert (done.returncode, names(read.result())[0]) == (0, "acme/project.json"), done.stderr
    assert pipe.is_fifo()


# The commands ----------------------------------------------------------------------------------------------------


def test_a_backup_of_a_running_server_is_restored_into_another_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = tmp_path / "backup.tar"
    with serving(tmp_path / "one", home=home) as one, serving(tmp_path / "two", "--workers", "2", home=home) as two:
        wheel = make_wheel(tmp_path)
        assert one.upload(wheel).status_code == 200
        done = run_command("backup", file, "--data", one.data, home=home)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"1 files, {wheel.stat().st_size} bytes\n", "")
        assert file.stat().st_mode & 0o777 == 0o600
        done = run_command("restore", file, "--data", two.data, home=home)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "2 restored, 0 there already, 0 not restored\n"
        assert two.fetch("/simple/acme/").json()["files"] == one.fetch("/simple/acme/").json()["files"]
        desk = Desk(tmp_path / "desk")
        installed = desk.pip("install", "--index-url", account(two).index_url, "acme")
        assert installed.succeeded, installed.output
        wait_for(
            lambda: run_command("sync", "--check", "--data", two.data, home=home).returncode, lambda code: code == 0
        )


def test_a_backup_goes_through_a_pipe_into_a_new_directory(full: Site, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "elasticpypi"]
    script = '"$0" -m elasticpypi backup - --data "$1" | "$0" -m elasticpypi restore - --json --data "$2"'
    done = subprocess.run(
        ["sh", "-c", script, command[0], full.data, tmp_path / "new"],
        env=bare_environment(tmp_path / "home"),
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == {"restored": 14, "present": 0, "not-restored": {}}
    assert done.stderr.startswith("5 files, ")
    with closing(open_index(Settings(), data=tmp_path / "new")) as index:
        assert index.is_complete()


def test_a_backup_that_fails_leaves_the_old_one(full: Site, tmp_path: Path) -> None:
    file = tmp_path / "out" / "backup.tar"
    file.parent.mkdir()
    file.write_bytes(b"the old one")
    full.data.joinpath("files").rename(full.data / "away")
    done = run_command("backup", file, "--data", full.data, home=tmp_path / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert [path.name for path in file.parent.iterdir()] == ["backup.tar"]
    assert file.read_bytes() == b"the old one"


def test_places_that_cannot_be_used_are_named(full: Site, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "backup.tar"
    for command in ("backup", "restore"):
        done = run_command(command, nowhere, "--data", full.data, home=tmp_path / "home")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: the backup cannot be used: {nowhere} cannot be ")


def test_conflicts_and_damage_are_said_and_exit_with_1(full: Site, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_bytes(back_up(full))
    with new_site(tmp_path / "new") as other:
        other.upload(make_wheel(tmp_path / "other", version="1.0", description="other bytes"))
    done = run_command("restore", file, "--data", tmp_path / "new", home=tmp_path / "home")
    assert done.returncode == 1
    assert "\nnot restored: acme/acme-1.0-py3-none-any.whl: other bytes lie there already" in done.stderr
    file.write_bytes(file.read_bytes()[:4096])
    done = run_command("restore", file, "--data", tmp_path / "third", home=tmp_path / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the backup cannot be used: it ")
