"""The storage in a directory: a key is a path below it, and files may be dropped into it by hand.

Beside the files lies `.elasticpypi/`, whose presence says that this is the storage and not, say, the mount point of a
volume that is not there:

    uploads/            what is still on its way in; `resumable-…` outlives the request that brought it
    first-seen/…        for each key, sha256 and time of the bytes under it: an ordinary mtime can be carried in
    lock                held while something is replaced
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ObjectMissingError,
    StorageError,
    StorageFullError,
    UnreadableObjectError,
)
from elasticpypi.model import format_time, parse_time
from elasticpypi.names import RESERVED_PREFIX, is_text
from elasticpypi.storage import NO_HEADERS, Document, LocalFile, Slot, StoredObject

_LOST_AND_FOUND = "lost+found/"  # of a volume's own, which only root may read
_SETTLED_SECONDS = 1.0
_ABANDONED_SECONDS = 60.0
_RESUMABLE = "resumable-"
_RESUMABLE_SECONDS = 24 * 3600.0
_DOCUMENT_BYTES = 16 * 2**20
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_log = logging.getLogger(__name__)


class FilesystemStorage:
    """A `Storage` in the directory `root`. Symbolic links below it are not followed: they could lead out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._own = self._root / RESERVED_PREFIX.rstrip("/")
        self._uploads = self._own / "uploads"
        self._first_seen = self._own / "first-seen"

    @property
    def upload_origin(self) -> None:
        return None

    def initialise(self) -> None:
        """Make the directory a storage; for the first start only, since it would hide that a volume is not there."""
        with _translated(self._root):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._first_seen.mkdir(exist_ok=True, mode=0o700)

    def check(self) -> None:
        with _translated(self._root):
            if not self._own.is_dir():
                raise StorageError(
                    f"{self._root} does not look like the storage (it has no {self._own.name}/): is its volume mounted?"
                )
            os.scandir(self._root).close()

    def stat(self, key: str) -> StoredObject:
        path = self._path(key)
        try:
            with _translated(path):
                status = path.lstat()
        except ObjectMissingError:
            self.check()
            raise
        if not stat.S_ISREG(status.st_mode) or not self._is_below(path.parent):
            raise ObjectMissingError(key)
        return _stored_object(key, status)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self.check()
        above = prefix[: prefix.rfind("/") + 1]  # where the walk can begin
        directory = self._root / above
        if above and not _is_key(above[:-1]):
            return iter(())
        if above.startswith(RESERVED_PREFIX) or not self._is_below(directory):
            return iter(())
        return self._walk(directory, above, prefix)

    def is_settled(self, obj: StoredObject) -> bool:
        try:
            with _translated(self._path(obj.key)), self._path(obj.key).open("rb") as stream:
                age = time.time() - os.fstat(stream.fileno()).st_ctime
                # A ctime in the future comes of a clock that was set back; waiting for it may take years.
                return not 0 <= age < _SETTLED_SECONDS and not _is_being_written(stream)
        except (ObjectMissingError, StorageError):
            return True  # looking at it again tells more

    @contextmanager
    def open(self, obj: StoredObject) -> Iterator[BinaryIO]:
        with self._open(obj.key, obj.fingerprint) as stream:
            yield stream
            if _fingerprint(os.fstat(stream.fileno())) != obj.fingerprint:
                raise BusyError(obj.key)

    def upload_time(self, obj: StoredObject, sha256: str) -> datetime:
        path = self._first_seen_note(obj.key)
        with _translated(path):
            times = _read_first_seen(path)
            if sha256 not in times:
                with self._locked():
                    times = _read_first_seen(path)
                    if sha256 not in times:
                        times[sha256] = format_time(datetime.now(UTC))
                        path.parent.mkdir(parents=True, exist_ok=True)
                        _write_whole(path, json.dumps(times).encode())
            return parse_time(times[sha256])

    def receive(self, *, resuming: str | None = None) -> AbstractContextManager[_IncomingFile]:
        return self._receive() if resuming is None else self._resume(self._resumable(resuming))

    @contextmanager
    def _receive(self) -> Iterator[_IncomingFile]:
        self.check()
        with _translated(self._uploads):
            self._uploads.mkdir(exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=self._uploads)
        path = Path(name)
        stream = os.fdopen(descriptor, "w+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)  # tells remove_abandoned that somebody is at it
            yield _IncomingFile(self, path, stream)
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # what a full volume did not take is dropped; what is published has been flushed
                stream.close()

    @contextmanager
    def _resume(self, path: Path) -> Iterator[_IncomingFile]:
        self.check()
        with _translated(path):
            stream = path.open("r+b")
        try:
            if not _lock(stream, path):
                raise BusyError("the upload")
            yield _IncomingFile(self, path, stream, stream.seek(0, os.SEEK_END))
            with _translated(path):
                stream.flush()
        finally:
            with suppress(OSError):  # as above; the next one asks how much there is
                stream.close()

    def begin(self, token: str, *, size: int, sha256: str) -> Slot:
        self.check()
        with _translated(self._uploads):
            self._uploads.mkdir(exist_ok=True, mode=0o700)
            with self._resumable(token).open("ab") as stream:
                return Slot(os.fstat(stream.fileno()).st_size)

    def received(self, token: str) -> int:
        path = self._resumable(token)
        with _translated(path):
            return path.stat().st_size

    def _resumable(self, token: str) -> Path:
        return self._uploads / f"{_RESUMABLE}{token}"

    def remove_abandoned(self) -> None:
        """Remove uploads whose process has died; those still being written are locked by it."""
        self.check()
        with suppress(ObjectMissingError), _translated(self._uploads):
            for path in self._uploads.iterdir():
                with suppress(FileNotFoundError), path.open("rb") as stream:
                    patience_seconds = _RESUMABLE_SECONDS if path.name.startswith(_RESUMABLE) else _ABANDONED_SECONDS
                    if time.time() - path.stat().st_mtime < patience_seconds:
                        continue  # perhaps it was made just now and is not locked yet
                    with suppress(BlockingIOError):
                        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()

    def read_document(self, key: str) -> Document:
        obj = self.stat(key)
        if obj.size > _DOCUMENT_BYTES:
            raise UnreadableObjectError(key, f"it has {obj.size} bytes, at most {_DOCUMENT_BYTES} are read")
        with self.open(obj) as stream:
            return Document(stream.read(), obj.fingerprint)

    def write_document(
        self, key: str, data: bytes, *, replacing: str | None, headers: Mapping[str, str] = NO_HEADERS
    ) -> StoredObject:
        with self.receive() as incoming:
            incoming.write(data)
            return incoming.publish(key, replacing=replacing)

    def remove(self, key: str, *, fingerprint: str) -> None:
        path = self._path(key)
        with _translated(path), self._locked():
            if self.stat(key).fingerprint != fingerprint:
                raise ConflictError(key)
            path.unlink()
            _synchronise(path.parent)

    def notes(self, about: str | None = None) -> Iterator[str]:
        self.check()
        if about is None:
            yield from (obj.key for obj in self._walk(self._own, RESERVED_PREFIX, "") if _is_note(obj.key))
        elif _is_key(about) and (note := self._first_seen_note(about)).is_file():
            yield note.relative_to(self._root).as_posix()

    def free_bytes(self) -> int | None:
        self.check()
        with _translated(self._root):
            return shutil.disk_usage(self._root).free

    def download(self, key: str, fingerprint: str) -> LocalFile:
        return LocalFile(self._open(key, fingerprint))

    def publish(self, draft: Path, key: str, replacing: str | None) -> StoredObject:
        """Give a finished file its place, as `Incoming.publish` says."""
        path = self._path(key)
        if not self._is_below(path.parent):
            raise StorageError(f"{path.parent} leads over a symbolic link, which is not followed: make it a directory")
        with _translated(path):
            _make_directory(path.parent)
            if replacing is None:
                self._link(draft, path, key)
            else:
                self._replace(draft, path, key, replacing)
            _synchronise(path.parent)
        return self.stat(key)

    def _link(self, draft: Path, path: Path, key: str) -> None:
        try:
            os.link(draft, path)
        except FileExistsError as error:
            raise ConflictError(key) from error
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with self._locked():
                if os.path.lexists(path):
                    raise ConflictError(key) from error
                draft.rename(path)
        else:
            draft.unlink()

    def _replace(self, draft: Path, path: Path, key: str, replacing: str) -> None:
        with self._locked():
            try:
                present = self.stat(key).fingerprint
            except ObjectMissingError:
                present = None
            if present != replacing:
                raise ConflictError(key)
            draft.replace(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._own / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        if not _is_key(key):
            raise ObjectMissingError(key)
        return self._root / key

    def _first_seen_note(self, key: str) -> Path:
        # By digest, in few directories: a second one for each project would need a second watch.
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._first_seen / digest[:2] / f"{digest[2:]}.json"

    def _is_below(self, directory: Path) -> bool:
        """Whether the way from the root to a directory leads over directories only, and no symbolic link."""
        while directory != self._root:
            if directory.is_symlink():
                return False
            directory = directory.parent
        return True

    def _open(self, key: str, fingerprint: str) -> BinaryIO:
        if self.stat(key).fingerprint != fingerprint:
            raise BusyError(key)
        with _translated(self._path(key)):
            stream = self._path(key).open("rb")
        if _fingerprint(os.fstat(stream.fileno())) != fingerprint:
            stream.close()
            raise BusyError(key)
        return stream

    def _walk(self, directory: Path, above: str, prefix: str) -> Iterator[StoredObject]:
        """Yield what lies below `directory`, whose keys begin with `above`, as far as they begin with `prefix`."""
        try:
            with _translated(directory), os.scandir(directory) as scan:
                # Names alone: there may be many in a directory, and their entries take several times as much memory.
                found = [os.fsencode(e.name) + (b"/" if e.is_dir(follow_symlinks=False) else b"") for e in scan]
        except ObjectMissingError:
            return  # removed since its parent was read
        for name in sorted(found):
            key = above + os.fsdecode(name)
            if key in (RESERVED_PREFIX, _LOST_AND_FOUND) or not key.startswith(prefix):
                continue
            if not is_text(key):
                _log.warning("left out, because its name is not UTF-8: %r", key)
            elif key.endswith("/"):
                yield from self._walk(self._root / key, key, prefix)
            else:
                with suppress(FileNotFoundError):
                    status = os.lstat(self._root / key)
                    if stat.S_ISREG(status.st_mode):
                        yield _stored_object(key, status)


class _IncomingFile:
    """An `Incoming` in a file of its own below `.elasticpypi/uploads/`."""

    def __init__(self, storage: FilesystemStorage, path: Path, stream: BinaryIO, size: int = 0) -> None:
        self._storage = storage
        self._path = path
        self.stream = stream
        self.size = size
        self.sha256: str | None = None

    def write(self, data: bytes) -> int:
        with _translated(self._path):
            return self.stream.write(data)

    def publish(self, key: str, *, replacing: str | None = None) -> StoredObject:
        with _translated(self._path):
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self._path.chmod(0o644)
        return self._storage.publish(self._path, key, replacing)

    def drop(self) -> None:
        with _translated(self._path):
            self._path.unlink(missing_ok=True)


def _lock(stream: BinaryIO, path: Path) -> bool:
    """Lock an open file for writing; whether nobody else has, or has published or dropped it since it was opened."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _is_key(key: str) -> bool:
    """Whether a key names a path below the root."""
    return not any(part in ("", ".", "..") or "\0" in part for part in key.split("/"))


def _is_note(key: str) -> bool:
    """Whether something below `.elasticpypi/` is to stay: no upload, lock, draft, probe or end of a backup."""
    name = key.removeprefix(RESERVED_PREFIX)
    is_passing = name.startswith(("uploads/", "watch-probe/"))
    # The second lock is that of an output: core metadata may be written beside the files.
    return not (is_passing or name in ("lock", "output.lock", "backup.json") or name.endswith(".new"))


def _fingerprint(status: os.stat_result) -> str:
    # The ctime cannot be carried in: bytes exchanged under the same size and mtime are noticed.
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _stored_object(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key, status.st_size, _fingerprint(status))


def _is_being_written(stream: BinaryIO) -> bool:
    """Whether a process has the file open for writing, where the system tells (Linux, and only of our own files)."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    # Whoever opens it while we hold the lease has the kernel send us a signal: not SIGIO, which would end us.
    fcntl.fcntl(stream, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _read_first_seen(path: Path) -> dict[str, str]:
    """Return sha256 -> time of all bytes seen under a key; a damaged note is none, which means "only now"."""
    try:
        note = json.loads(path.read_bytes())
        return {sha256: format_time(parse_time(time)) for sha256, time in note.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _write_whole(path: Path, data: bytes) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(data)
    draft.replace(path)


def _make_directory(directory: Path) -> None:
    """Make a directory, and make sure that a power cut does not take it away again."""
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _synchronise(directory.parent)


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissingError(str(path)) from error
    except PermissionError as error:
        raise UnreadableObjectError(str(path), "permission denied") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"the storage is full: make room for {path.parent}") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
            raise ObjectMissingError(str(path)) from error
        raise StorageError(f"{path} cannot be used: {error.strerror}") from error
