"""The contract of `Storage`, on every adapter; then what a directory alone can meet. Of S3: test_storage_s3.py."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ElasticpypiError,
    ObjectMissingError,
    StorageError,
    StorageFullError,
    UnreadableObjectError,
)
from elasticpypi.storage import Document, LocalFile, Storage, StoredObject
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud
from tests.privileges import unprivileged
from tests.running import wait_for

KEY = "acme/acme-1.zip"
OLD_NS = 1_600_000_000_000_000_000  # 2020, in ns since 1970
A, B = "aa" * 32, "bb" * 32


def open_directory(request: pytest.FixtureRequest) -> Storage:
    root: Path = request.getfixturevalue("tmp_path")
    storage = FilesystemStorage(root / "files")
    storage.initialise()
    return storage


def open_bucket(request: pytest.FixtureRequest) -> Storage:
    cloud: Cloud = request.getfixturevalue("cloud")
    return S3Storage(cloud.aws, cloud.make_bucket())


ADAPTERS = [pytest.param(open_directory, id="directory"), pytest.param(open_bucket, id="s3")]


@pytest.fixture(params=ADAPTERS)
def storage(request: pytest.FixtureRequest) -> Storage:
    opened: Storage = request.param(request)
    return opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def directory(tmp_path: Path) -> FilesystemStorage:
    storage = FilesystemStorage(tmp_path / "files")
    storage.initialise()
    return storage


def publish(storage: Storage, key: str, data: bytes = b"data", *, replacing: str | None = None) -> StoredObject:
    with storage.receive() as incoming:
        incoming.write(data)
        return incoming.publish(key, replacing=replacing)


def read(storage: Storage, key: str) -> bytes:
    with storage.open(storage.stat(key)) as stream:
        return stream.read()


def listed(storage: Storage, prefix: str = "") -> list[StoredObject]:
    """Return what is listed; a listing need not tell the digests that looking at an object does."""
    return list(storage.list(prefix))


def without_digest(*objects: StoredObject) -> list[StoredObject]:
    return [replace(obj, sha256=None) for obj in objects]


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [obj.key for obj in storage.list(prefix)]


def put(path: Path, data: bytes = b"data") -> Path:
    """Put a file there by hand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_published_object_is_there(storage: Storage) -> None:
    storage.check()
    obj = publish(storage, KEY)
    assert (obj.key, obj.size) == (KEY, 4)
    assert storage.stat(KEY) == obj
    assert listed(storage) == without_digest(obj)
    assert obj.sha256 in (None, hashlib.sha256(b"data").hexdigest())
    assert read(storage, KEY) == b"data"


def test_what_was_written_can_be_read_back_before_it_is_published(storage: Storage) -> None:
    with storage.receive() as incoming:
        assert [incoming.write(b"some "), incoming.write(b"data")] == [5, 4]
        incoming.stream.seek(0)
        assert incoming.stream.read() == b"some data"
        incoming.publish(KEY)
    assert read(storage, KEY) == b"some data"


def test_an_object_is_invisible_until_it_is_published(storage: Storage) -> None:
    with storage.receive() as incoming:
        incoming.write(b"data")
        assert keys(storage) == []
        with pytest.raises(ObjectMissingError):
            storage.stat(KEY)
        incoming.publish(KEY)
        assert keys(storage) == [KEY]


def test_what_is_not_published_leaves_no_trace(storage: Storage, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with storage.receive() as incoming:
        incoming.write(b"data")
    with pytest.raises(ZeroDivisionError), storage.receive() as incoming:
        incoming.write(bytes(1 // 0))
    publish(storage, KEY)
    with pytest.raises(ConflictError):
        publish(storage, KEY, b"other")
    assert [path for path in sorted(tmp_path.rglob("*")) if KEY.partition("/")[0] not in path.parts[-2:]] == before


def test_an_object_is_not_published_over_another(storage: Storage) -> None:
    obj = publish(storage, KEY)
    for data in (b"data", b"other"):
        with pytest.raises(ConflictError) as caught:
            publish(storage, KEY, data)
        assert caught.value.key == KEY
    assert (storage.stat(KEY), read(storage, KEY)) == (obj, b"data")


def test_an_object_is_replaced_only_as_it_was_seen(storage: Storage) -> None:
    first = publish(storage, KEY)
    with pytest.raises(ConflictError):
        publish(storage, KEY, b"never", replacing="other")
    second = publish(storage, KEY, b"more data", replacing=first.fingerprint)
    assert read(storage, KEY) == b"more data"
    with pytest.raises(ConflictError):
        publish(storage, KEY, b"never", replacing=first.fingerprint)
    with pytest.raises(ConflictError):
        publish(storage, "acme/none.zip", b"never", replacing=first.fingerprint)
    assert listed(storage) == without_digest(second)


def test_a_draft_that_lost_may_be_published_under_what_has_become_of_the_key(storage: Storage) -> None:
    obj = publish(storage, KEY)
    with storage.receive() as incoming:
        incoming.write(b"other")
        with pytest.raises(ConflictError):
            incoming.publish(KEY)
        incoming.publish(KEY, replacing=obj.fingerprint)
    assert read(storage, KEY) == b"other"


TOKEN = "0123abcd"


def begin(storage: Storage, token: str = TOKEN) -> int:
    slot = storage.begin(token, size=14, sha256="00" * 32)
    assert slot.puts is None
    return slot.received


def append(storage: Storage, data: bytes, *, token: str = TOKEN) -> None:
    with storage.receive(resuming=token) as incoming:
        incoming.write(data)


def append_and_fail(storage: Storage, data: bytes) -> None:
    with storage.receive(resuming=TOKEN) as incoming:
        incoming.write(data)
        raise ZeroDivisionError


def test_an_upload_goes_on_where_it_was_left(directory: FilesystemStorage) -> None:
    assert begin(directory) == 0
    append(directory, b"some ")
    assert (begin(directory), directory.received(TOKEN), keys(directory)) == (5, 5, [])
    with pytest.raises(ZeroDivisionError):
        append_and_fail(directory, b"more ")
    with directory.receive(resuming=TOKEN) as incoming:
        assert incoming.size == 10
        incoming.write(b"data")
        incoming.stream.seek(0)
        assert incoming.stream.read() == b"some more data"
        incoming.publish(KEY)
    assert read(directory, KEY) == b"some more data"


def test_uploads_that_go_on_are_kept_apart(directory: FilesystemStorage) -> None:
    for token in ("a", "b"):
        begin(directory, token)
        append(directory, token.encode() * 3, token=token)
    append(directory, b"!", token="a")
    assert [directory.received("a"), directory.received("b")] == [4, 3]


def is_over(storage: Storage) -> bool:
    with pytest.raises(ObjectMissingError):
        storage.received(TOKEN)
    with pytest.raises(ObjectMissingError), storage.receive(resuming=TOKEN):
        pass
    return True


def test_an_upload_is_over_when_it_is_published_or_dropped(directory: FilesystemStorage, tmp_path: Path) -> None:
    assert is_over(directory)
    before = sorted(tmp_path.rglob("*"))
    begin(directory)
    append(directory, b"data")
    with directory.receive(resuming=TOKEN) as incoming:
        incoming.drop()
        incoming.drop()
    assert is_over(directory)
    assert sorted(tmp_path.rglob("*")) == before
    begin(directory)
    with directory.receive(resuming=TOKEN) as incoming:
        obj = incoming.publish(KEY)
        incoming.drop()
    assert is_over(directory)
    assert (directory.stat(KEY), begin(directory)) == (obj, 0)


def test_an_upload_that_loses_its_place_may_still_go_on(directory: FilesystemStorage) -> None:
    publish(directory, KEY, b"other")
    begin(directory)
    with directory.receive(resuming=TOKEN) as incoming:
        incoming.write(b"data")
        with pytest.raises(ConflictError):
            incoming.publish(KEY)
    assert (directory.received(TOKEN), read(directory, KEY)) == (4, b"other")


def test_one_at_a_time_goes_on_with_an_upload(directory: FilesystemStorage) -> None:
    begin(directory)
    with directory.receive(resuming=TOKEN):
        with pytest.raises(BusyError, match="try again"), directory.receive(resuming=TOKEN):
            pass
        assert (begin(directory), directory.received(TOKEN)) == (0, 0)
    append(directory, b"data")
    assert directory.received(TOKEN) == 4


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_publishers_at_once_one_wins(storage: Storage, *, is_there: bool) -> None:
    replacing = publish(storage, KEY).fingerprint if is_there else None

    def try_to_publish(number: int) -> bytes | None:
        data = f"{number:04}".encode() * 1000
        try:
            publish(storage, KEY, data, replacing=replacing)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(16) as pool:
        winners = [data for data in pool.map(try_to_publish, range(16)) if data is not None]
    assert [read(storage, KEY)] == winners


def test_a_document_is_read_with_its_fingerprint_and_written_on_condition(storage: Storage) -> None:
    key = "acme/project.json"
    with pytest.raises(ObjectMissingError):
        storage.read_document(key)
    first = storage.write_document(key, b"{}", replacing=None)
    assert storage.read_document(key) == Document(b"{}", first.fingerprint)
    with pytest.raises(ConflictError):
        storage.write_document(key, b"[]", replacing=None)
    second = storage.write_document(key, b"[]  ", replacing=first.fingerprint)
    with pytest.raises(ConflictError):
        storage.write_document(key, b"never", replacing=first.fingerprint)
    assert storage.read_document(key) == Document(b"[]  ", second.fingerprint)


def test_a_document_has_16_mib_at_most(storage: Storage) -> None:
    data = b"x" * (16 * 2**20)
    obj = storage.write_document(KEY, data, replacing=None)
    assert storage.read_document(KEY) == Document(data, obj.fingerprint)
    storage.write_document(KEY, data + b"x", replacing=obj.fingerprint)
    with pytest.raises(UnreadableObjectError, match="16777217 bytes, at most 16777216 are read"):
        storage.read_document(KEY)


AWKWARD = [
    *("a/x", "a-b/x", "a.b/x", "a/b/x", "a/b-c", "a/b.c", "ab", "a-b.zip", "a.zip", "B", "é", "\uffff"),
    *("\U0001f600.zip", "\U0001f600/x", "x%_*?[a]", "a/.hidden", ".hidden/a", ".elasticpypi-not/a", "a/.elasticpypi/b"),
]


def test_objects_are_listed_in_the_order_of_their_bytes(storage: Storage) -> None:
    objects = {key: publish(storage, key, key.encode()) for key in AWKWARD}
    assert listed(storage) == without_digest(*(objects[key] for key in sorted(AWKWARD, key=str.encode)))


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a-b", "a-b/", "é", "\U0001f600", "x%", "zz", "a/x/"])
def test_objects_are_listed_by_prefix(storage: Storage, prefix: str) -> None:
    for key in AWKWARD:
        publish(storage, key)
    assert keys(storage, prefix) == sorted((key for key in AWKWARD if key.startswith(prefix)), key=str.encode)


@pytest.mark.parametrize("prefix", ["/", "/acme", "//", "./", "../", "../outside/", "acme/../", "acme//", "acme/./"])
def test_nothing_lies_under_a_prefix_that_no_key_has(storage: Storage, tmp_path: Path, prefix: str) -> None:
    put(tmp_path / "outside" / "secret.zip")
    publish(storage, KEY)
    assert keys(storage, prefix) == []


def test_what_the_application_keeps_itself_is_not_listed(storage: Storage) -> None:
    storage.upload_time(publish(storage, KEY), A)
    with storage.receive() as incoming:
        incoming.write(b"data")
        assert keys(storage) == keys(storage, "acme") == [KEY]
        assert keys(storage, ".elasticpypi/") == keys(storage, ".elasticpypi/uploads/") == []


MISSING = [
    "none",
    "acme/none.zip",
    "acme",
    f"{KEY}/below",
    "none/none.zip",
    "x" * 300,
    "\0",
    "",
    ".",
    "acme/",
    f"/{KEY}",
]
LEADING_OUT = ["../secret", "acme/../../secret", "acme/../acme/acme-1.zip", "./acme/acme-1.zip", "acme//acme-1.zip"]


@pytest.mark.parametrize("key", [*MISSING, *LEADING_OUT])
def test_there_is_no_object_under_such_a_key(storage: Storage, tmp_path: Path, key: str) -> None:
    put(tmp_path / "secret")
    obj = publish(storage, KEY)
    for ask in (
        lambda: storage.stat(key),
        lambda: storage.read_document(key),
        lambda: storage.open(StoredObject(key, 4, obj.fingerprint)).__enter__().read(),
    ):
        with pytest.raises(ObjectMissingError):
            ask()


@pytest.mark.parametrize("key", [*MISSING, *LEADING_OUT])
def test_a_directory_has_no_download_under_such_a_key(directory: FilesystemStorage, tmp_path: Path, key: str) -> None:
    put(tmp_path / "secret")
    obj = publish(directory, KEY)
    with pytest.raises(ObjectMissingError):
        directory.download(key, obj.fingerprint)


@pytest.mark.parametrize("key", LEADING_OUT)
def test_no_download_leads_out(storage: Storage, key: str) -> None:
    obj = publish(storage, KEY)
    with pytest.raises(ObjectMissingError):
        storage.download(key, obj.fingerprint)


@pytest.mark.parametrize("key", LEADING_OUT)
def test_nothing_is_published_outside(storage: Storage, tmp_path: Path, key: str) -> None:
    secret = put(tmp_path / "secret")
    publish(storage, KEY)
    with pytest.raises(ElasticpypiError):
        publish(storage, key, b"replaced", replacing=None)
    assert (secret.read_bytes(), read(storage, KEY), keys(storage)) == (b"data", b"data", [KEY])
    assert {path.name for path in tmp_path.iterdir()} <= {"files", "secret"}


def test_another_object_than_the_one_looked_at_is_not_opened(storage: Storage) -> None:
    first = publish(storage, KEY)
    second = publish(storage, KEY, b"other", replacing=first.fingerprint)
    with pytest.raises(BusyError), storage.open(first) as stream:
        stream.read()
    with storage.open(second) as stream:
        assert stream.read() == b"other"


def test_another_object_than_the_one_looked_at_is_not_downloaded(directory: FilesystemStorage) -> None:
    first = publish(directory, KEY)
    second = publish(directory, KEY, b"other", replacing=first.fingerprint)
    with pytest.raises(BusyError):
        directory.download(KEY, first.fingerprint)
    download = directory.download(KEY, second.fingerprint)
    assert isinstance(download, LocalFile)
    with download.stream as stream:
        assert stream.read() == b"other"


def test_an_open_object_stays_whole_or_says_so_when_it_is_replaced(storage: Storage) -> None:
    first = publish(storage, KEY)
    with ExitStack() as stack:
        stream = stack.enter_context(storage.open(first))
        assert stream.read(2) == b"da"
        publish(storage, KEY, b"other", replacing=first.fingerprint)
        try:
            assert stream.read() == b"ta"
        except BusyError as error:
            assert error.key == KEY  # noqa: PT017 (either is right)
        stack.pop_all()  # whether leaving tells is up to the adapter
        stream.close()


def test_the_upload_time_is_that_of_the_bytes_and_stays(storage: Storage) -> None:
    early = datetime.now(UTC).replace(microsecond=0)  # S3 tells whole seconds
    obj = publish(storage, KEY)
    time = storage.upload_time(obj, A)
    assert early <= time <= datetime.now(UTC)
    assert time.tzinfo is UTC
    assert storage.upload_time(obj, A) == time
    assert storage.upload_time(publish(storage, "acme-1.zip"), A) >= time
    other = publish(storage, KEY, b"other", replacing=obj.fingerprint)
    assert storage.upload_time(other, B) >= time


# The directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    put(tmp_path / "outside" / "acme-1.zip")
    return tmp_path / "outside"


def test_files_put_there_by_hand_are_objects(directory: FilesystemStorage, root: Path) -> None:
    put(root / "acme-1.zip")
    put(root / "a" / "b" / "acme-1.zip", b"longer")
    (root / "empty").mkdir()
    assert [(obj.key, obj.size) for obj in directory.list()] == [("a/b/acme-1.zip", 6), ("acme-1.zip", 4)]
    assert list(directory.list()) == [directory.stat("a/b/acme-1.zip"), directory.stat("acme-1.zip")]


def test_symbolic_links_are_not_followed(directory: FilesystemStorage, root: Path, outside: Path) -> None:
    (root / "link.zip").symlink_to(outside / "acme-1.zip")
    (root / "link").symlink_to(outside)
    put(root / "deep" / "acme-1.zip")
    (root / "inside").symlink_to(root / "deep")
    (root / "dangling.zip").symlink_to(outside / "none")
    assert keys(directory) == ["deep/acme-1.zip"]
    obj = directory.stat("deep/acme-1.zip")
    for key in ("link.zip", "link/acme-1.zip", "inside/acme-1.zip", "dangling.zip"):
        with pytest.raises(ObjectMissingError):
            directory.stat(key)
        with pytest.raises(ObjectMissingError):
            directory.download(key, obj.fingerprint)
        with pytest.raises(ObjectMissingError):
            directory.read_document(key)


@pytest.mark.parametrize("key", ["link/new.zip", "link/deep/new.zip", "link/acme-1.zip"])
def test_nothing_is_published_through_a_symbolic_link(
    directory: FilesystemStorage, root: Path, outside: Path, key: str
) -> None:
    (root / "link").symlink_to(outside)
    with pytest.raises(ElasticpypiError):
        publish(directory, key)
    assert [path.name for path in outside.rglob("*")] == ["acme-1.zip"]


def test_only_regular_files_are_objects(directory: FilesystemStorage, root: Path) -> None:
    os.mkfifo(root / "pipe.zip")
    (root / "dir.zip").mkdir()
    assert keys(directory) == []
    for key in ("pipe.zip", "dir.zip"):
        with pytest.raises(ObjectMissingError):
            directory.stat(key)


def test_a_name_that_is_not_utf_8_is_left_out(directory: FilesystemStorage, root: Path) -> None:
    put(root / "a.zip")
    with open(os.fsencode(root) + b"/\xff.zip", "wb"):  # noqa: PTH123 (a Path is text)
        pass
    assert keys(directory) == ["a.zip"]


def replace_in_place(path: Path) -> None:
    path.write_bytes(b"DATA")
    os.utime(path, ns=(OLD_NS, OLD_NS))


def replace_by_moving(path: Path) -> None:
    draft = path.with_name("draft")
    draft.write_bytes(b"DATA")
    os.utime(draft, ns=(OLD_NS, OLD_NS))
    draft.replace(path)


@pytest.mark.parametrize("exchange", [replace_in_place, replace_by_moving])
def test_bytes_exchanged_under_the_same_size_and_mtime_are_another_object(
    directory: FilesystemStorage, root: Path, exchange: Callable[[Path], None]
) -> None:
    path = put(root / KEY)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    first = directory.stat(KEY)
    while path.stat().st_ctime_ns == _clock(root):  # the clock of the file system may stand still for milliseconds
        pass
    exchange(path)
    second = directory.stat(KEY)
    assert (second.size, path.stat().st_mtime_ns) == (first.size, OLD_NS)
    assert second.fingerprint != first.fingerprint
    with pytest.raises(BusyError), directory.open(first):
        pass


def _clock(root: Path) -> int:
    """Return the time that the file system would note now."""
    path = root.parent / "clock"
    path.touch()
    os.utime(path)
    return path.stat().st_ctime_ns


def test_bytes_exchanged_while_they_are_read_are_noticed_in_the_end(directory: FilesystemStorage, root: Path) -> None:
    path = put(root / KEY)
    with pytest.raises(BusyError) as caught, directory.open(directory.stat(KEY)):
        path.write_bytes(b"longer data")
    assert caught.value.key == KEY


def test_the_upload_time_survives_touching_moving_and_restoring(directory: FilesystemStorage, root: Path) -> None:
    path = put(root / KEY)
    first = directory.stat(KEY)
    time = directory.upload_time(first, A)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    assert directory.upload_time(directory.stat(KEY), A) == time
    path.unlink()
    put(path)
    assert directory.upload_time(directory.stat(KEY), A) == time
    assert FilesystemStorage(root).upload_time(first, A) == time


def test_an_mtime_that_was_carried_in_is_no_upload_time(directory: FilesystemStorage, root: Path) -> None:
    early = datetime.now(UTC)
    os.utime(put(root / KEY), ns=(OLD_NS, OLD_NS))
    assert directory.upload_time(directory.stat(KEY), A) >= early


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b'{"sha256": 1}', b"null", b"\xff"])
def test_a_damaged_note_of_the_upload_time_means_only_now(
    directory: FilesystemStorage, root: Path, note: bytes
) -> None:
    obj = publish(directory, KEY)
    directory.upload_time(obj, A)
    (written,) = (root / ".elasticpypi" / "first-seen").rglob("*.json")
    written.write_bytes(note)
    early = datetime.now(UTC)
    time = directory.upload_time(obj, A)
    assert time >= early
    assert directory.upload_time(obj, A) == time


def test_a_file_that_was_just_written_is_not_settled(directory: FilesystemStorage, root: Path) -> None:
    os.utime(put(root / KEY), ns=(OLD_NS, OLD_NS))
    assert not directory.is_settled(directory.stat(KEY))


def test_what_is_gone_is_settled(directory: FilesystemStorage, root: Path) -> None:
    put(root / KEY)
    obj = directory.stat(KEY)
    (root / KEY).unlink()
    assert directory.is_settled(obj)


LONG_AGO = """
import os, sys, time
from pathlib import Path
from elasticpypi.storage.filesystem import FilesystemStorage

later = time.time() + 60
time.time = lambda: later  # a ctime cannot be set: let a minute pass instead
storage = FilesystemStorage(Path(sys.argv[1]))
path = Path(sys.argv[1], "a.zip")
print(storage.is_settled(storage.stat("a.zip")))
sys.stdout.flush()
sys.stdin.readline()
print(storage.is_settled(storage.stat("a.zip")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is writing")
@pytest.mark.usefixtures("directory")
def test_a_file_that_somebody_has_open_for_writing_is_not_settled(root: Path) -> None:
    put(root / "a.zip")
    with (root / "a.zip").open("ab"):
        process = subprocess.Popen(
            [sys.executable, "-c", LONG_AGO, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert process.stdout is not None
        first = process.stdout.readline()
    second, _ = process.communicate("\n", timeout=30)
    assert (first, second, process.returncode) == ("False\n", "True\n", 0)


@pytest.mark.parametrize("is_root_there", [False, True])
def test_a_volume_that_is_not_there_is_an_error_and_not_empty(tmp_path: Path, *, is_root_there: bool) -> None:
    if is_root_there:
        (tmp_path / "files").mkdir()
    storage = FilesystemStorage(tmp_path / "files")
    for ask in (
        storage.check,
        lambda: storage.stat(KEY),
        lambda: list(storage.list()),
        lambda: list(storage.list("acme/")),
        lambda: storage.read_document(KEY),
        lambda: storage.download(KEY, ""),
        lambda: publish(storage, KEY),
    ):
        with pytest.raises(StorageError, match="is its volume mounted"):
            ask()
    assert sorted(tmp_path.rglob("*")) == ([tmp_path / "files"] if is_root_there else [])


def test_a_directory_is_made_a_storage_for_its_owner_only(root: Path, directory: FilesystemStorage) -> None:
    put(root / KEY)
    directory.initialise()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert keys(directory) == [KEY]


def abandon(root: Path, name: str, *, age_seconds: int) -> Path:
    path = put(root / ".elasticpypi" / "uploads" / name)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_seconds))
    return path


def test_uploads_whose_process_died_are_removed(directory: FilesystemStorage, root: Path) -> None:
    publish(directory, KEY)
    dead, young = abandon(root, "dead", age_seconds=3600), abandon(root, "young", age_seconds=1)
    directory.remove_abandoned()
    assert (dead.exists(), young.exists(), keys(directory)) == (False, True, [KEY])


def test_an_upload_that_goes_on_is_spared_however_long_it_takes(directory: FilesystemStorage, root: Path) -> None:
    with directory.receive() as incoming:
        incoming.write(b"data")
        incoming.stream.flush()
        for path in (root / ".elasticpypi" / "uploads").iterdir():
            os.utime(path, ns=(OLD_NS, OLD_NS))
        directory.remove_abandoned()
        incoming.publish(KEY)
    assert read(directory, KEY) == b"data"


@pytest.mark.parametrize(("age_seconds", "is_kept"), [(23 * 3600, True), (25 * 3600, False)])
def test_an_upload_in_parts_is_kept_for_a_day_after_its_last_byte(
    directory: FilesystemStorage, root: Path, age_seconds: int, *, is_kept: bool
) -> None:
    begin(directory)
    append(directory, b"data")
    (path,) = (root / ".elasticpypi" / "uploads").iterdir()
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_seconds))
    begin(directory)  # without a byte
    directory.remove_abandoned()
    assert path.exists() is is_kept


@pytest.mark.parametrize("end", ["publish", "drop"])
def test_an_upload_that_ends_between_opening_and_locking_it_gets_no_more_bytes(
    directory: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    begin(directory)
    append(directory, b"data")
    lock = fcntl.flock

    def end_it_first(*arguments: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        with directory.receive(resuming=TOKEN) as incoming:
            incoming.drop() if end == "drop" else incoming.publish(KEY)
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", end_it_first)
    with pytest.raises(BusyError):
        append(directory, b"!")
    assert is_over(directory)
    assert end == "drop" or read(directory, KEY) == b"data"


CRASHING = """
import os, sys
from pathlib import Path
from elasticpypi.storage.filesystem import FilesystemStorage

storage = FilesystemStorage(Path(sys.argv[1]))
with storage.receive() as incoming:
    incoming.write(b"half")
    incoming.stream.flush()
    os._exit(9)
"""


def test_a_crash_leaves_what_remove_abandoned_removes(directory: FilesystemStorage, root: Path) -> None:
    crashed = subprocess.run([sys.executable, "-c", CRASHING, str(root)], cwd=Path(__file__).parents[1], check=False)
    assert crashed.returncode == 9
    (left,) = (root / ".elasticpypi" / "uploads").iterdir()
    assert keys(directory) == []
    os.utime(left, ns=(OLD_NS, OLD_NS))
    directory.remove_abandoned()
    assert not left.exists()


@pytest.fixture
def full_directory(directory: FilesystemStorage, root: Path) -> Iterator[FilesystemStorage]:
    """A storage on a volume with room for 64 KiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(root / ".elasticpypi" / "uploads")],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small volume")
    yield directory
    subprocess.run(["umount", str(root / ".elasticpypi" / "uploads")], check=True)


def test_a_full_volume_is_its_own_error_with_a_remedy(full_directory: FilesystemStorage, root: Path) -> None:
    with pytest.raises(StorageFullError) as caught, full_directory.receive() as incoming:
        incoming.write(b"x" * 2**20)
    assert str(caught.value) == f"the storage is full: make room for {root}/.elasticpypi/uploads"
    assert list((root / ".elasticpypi" / "uploads").iterdir()) == []
    assert keys(full_directory) == []


TOO_LARGE = """
import resource, signal, sys
from pathlib import Path
from elasticpypi.errors import StorageError
from elasticpypi.storage.filesystem import FilesystemStorage

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with FilesystemStorage(Path(sys.argv[1])).receive() as incoming:
        for _ in range(100):
            incoming.write(b"x" * 4096)
except StorageError as error:
    print(type(error).__name__, str(error).rpartition(": ")[2])
"""


@pytest.mark.usefixtures("directory")
def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(root)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("StorageError File too large\n", "")
    assert list((root / ".elasticpypi" / "uploads").iterdir()) == []


def test_a_file_that_may_not_be_read_is_an_error_of_its_own(directory: FilesystemStorage, root: Path) -> None:
    put(root / KEY).chmod(0)
    obj = directory.stat(KEY)
    with pytest.raises(UnreadableObjectError, match="permission denied"), unprivileged(), directory.open(obj):
        pass
    assert keys(directory) == [KEY]


def test_a_directory_that_goes_while_it_is_listed_is_left_out(directory: FilesystemStorage, root: Path) -> None:
    for key in ("a/1.zip", "b/1.zip", "c/1.zip"):
        put(root / key)
    listed = directory.list()
    assert next(listed).key == "a/1.zip"
    shutil.rmtree(root / "b")
    assert [obj.key for obj in listed] == ["c/1.zip"]


def test_published_files_may_be_read_by_others(directory: FilesystemStorage, root: Path) -> None:
    publish(directory, KEY)
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o644


_WATCH_A_FILE_THAT_OTHERS_OPEN = """
import sys
from pathlib import Path
from elasticpypi.storage.filesystem import FilesystemStorage
storage = FilesystemStorage(Path(sys.argv[1]))
obj = storage.stat(sys.argv[2])
for _ in range(20_000):
    storage.is_settled(obj)
"""
_OPEN_IT_AGAIN_AND_AGAIN = "import sys\nwhile True:\n    open(sys.argv[1], 'r+').close()"


def test_looking_whether_a_file_is_settled_survives_that_somebody_opens_it(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    storage.initialise()
    file = tmp_path / "acme-1.0.zip"
    file.write_bytes(b"data")
    wait_for(lambda: storage.is_settled(storage.stat(file.name)))
    watch = [sys.executable, "-c", _WATCH_A_FILE_THAT_OTHERS_OPEN, str(tmp_path), file.name]
    with subprocess.Popen([sys.executable, "-c", _OPEN_IT_AGAIN_AND_AGAIN, file]) as writer:
        try:
            watcher = subprocess.run(watch, cwd=Path(__file__).parents[1], timeout=60, check=False)
            assert writer.poll() is None  # it opened the file all the while
        finally:
            writer.kill()
    assert watcher.returncode == 0


def test_notes_are_what_nobody_could_make_anew(storage: Storage) -> None:
    obj = publish(storage, KEY)
    publish(storage, ".elasticpypi/origins/acme.json")
    publish(storage, ".elasticpypi/backup.json")
    publish(storage, ".elasticpypi/watch-probe/file")
    with storage.receive() as incoming:
        incoming.write(b"data")
        before = list(storage.notes())
    assert before == [".elasticpypi/origins/acme.json"]
    storage.upload_time(obj, A)
    about = list(storage.notes(KEY))  # none on S3, which knows itself when the object came
    assert list(storage.notes()) == sorted([*about, *before])
    assert list(storage.notes("acme/acme-2.zip")) == list(storage.notes("../lock")) == []


def test_a_directory_notes_when_the_bytes_came(directory: FilesystemStorage) -> None:
    directory.upload_time(publish(directory, KEY), A)
    (about,) = directory.notes(KEY)
    assert A.encode() in directory.read_document(about).data


def test_signed_requests_go_to_the_origin_that_is_told(storage: Storage) -> None:
    slot = storage.begin("token", size=4, sha256=A)
    found = {f"{urlsplit(put.url).scheme}://{urlsplit(put.url).netloc}" for put in slot.puts or ()}
    assert found == {storage.upload_origin} - {None}
    assert (slot.puts is None) is (storage.upload_origin is None)


def test_there_is_room(storage: Storage) -> None:
    free_bytes = storage.free_bytes()
    assert free_bytes is None or free_bytes > 0


def test_a_directory_that_is_not_there_has_no_notes_and_no_room(directory: FilesystemStorage, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(StorageError):
        list(directory.notes())
    with pytest.raises(StorageError):
        directory.free_bytes()
