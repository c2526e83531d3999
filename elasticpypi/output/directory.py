"""The output in a directory, which a web server gives out as it lies there.

A full build writes a hundred thousand small files, so each is written with as few calls of the system as can be, and
none waits for the disk: whoever is killed leaves whole documents only, but a power cut may leave empty ones, which
`build --everything` finds and mends.

Below `.elasticpypi/`, which a web server should not give out, lie two files of our own:

    output.lock     locked by whoever writes
    output.new      the document that is being written; renamed when it is whole, and one that is left by somebody who
                    was killed is dropped by the next who writes
"""

# Paths are text: to make a pathlib.Path of each would take as long as half of the rest.
# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from elasticpypi.errors import BusyError, ConflictError, OutputError, UnwritableDocumentError
from elasticpypi.names import is_text
from elasticpypi.output import STATE_PREFIX, Written

_STATE = STATE_PREFIX.rstrip("/")
_LOCK = f"{STATE_PREFIX}output.lock"
_DRAFT = f"{STATE_PREFIX}output.new"
_OWN = frozenset({_LOCK, _DRAFT})
_NO_PART = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|\0")  # empty, "." or ".."
_KNOWN_DIRECTORIES = 4096  # at most; a build comes back to those above, not to those of an earlier project
_SECOND = 10**9  # ns
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}  # nothing can lie under such a path


class DirectoryOutput:
    """An `Output` in a directory, which is made by the first write. Only one at a time writes, others wait."""

    at_once = 1
    is_exclusive = True

    def __init__(self, path: Path) -> None:
        self._root = str(path.absolute())
        self._mutex = threading.RLock()
        self._depth = 0  # of `exclusively` in the thread that has the mutex
        self._known: set[str] = set()  # directories of which is known, while we are alone, that they are some
        self._empty: str | None = None  # the one that was made last, until something is written

    def list(self, prefix: str = "") -> Iterator[Written]:
        above = prefix[: prefix.rfind("/") + 1]  # where the walk can begin
        if above and (_NO_PART.search(above[:-1]) or not self._is_directory(above[:-1])):
            return
        left_out = frozenset() if prefix.startswith(STATE_PREFIX) else frozenset({_STATE})
        directories = [above]
        while directories:
            directory = directories.pop()
            for name, is_directory in self._scan(directory):
                path = directory + name
                if is_directory:
                    below = f"{path}/"
                    if path not in left_out and (below.startswith(prefix) or prefix.startswith(below)):
                        directories.append(below)
                elif path.startswith(prefix) and path not in _OWN:
                    found = self._look(path, others=True)
                    if found is not None:
                        yield found

    def _scan(self, directory: str) -> Sequence[tuple[str, bool]]:
        """Return the names in a directory and whether they are directories; what is not UTF-8 is not ours."""
        with self._translated(directory):
            try:
                with os.scandir(self._place(directory)) as scan:
                    return [(e.name, e.is_dir(follow_symlinks=False)) for e in scan if is_text(e.name)]
            except (FileNotFoundError, NotADirectoryError):
                return []  # removed meanwhile

    def look(self, path: str) -> Written | None:
        _check(path)
        return self._look(path)

    def _look(self, path: str, *, others: bool = False) -> Written | None:
        """Return what lies there; what is no file is an UnwritableDocumentError, or None if `others` may lie there."""
        try:
            status = os.lstat(self._place(path))
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise self._explain(error, path) from error
        if stat.S_ISREG(status.st_mode):
            return _written(path, status)
        if others or stat.S_ISDIR(status.st_mode):
            return None
        raise self._no_file(path)

    def holds(self, written: Written, data: bytes) -> bool:
        if written.size != len(data):
            return False
        found = self.read(written.path)
        if found is None or found[1] != written:
            raise BusyError(written.path)
        return found[0] == data

    def read(self, path: str) -> tuple[bytes, Written] | None:
        _check(path)
        try:
            # Something else than a file may lie there, which to open might last for ever.
            descriptor = os.open(self._place(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise (self._no_file(path) if error.errno == errno.ELOOP else self._explain(error, path)) from error
        with self._translated(path):
            try:
                status = os.fstat(descriptor)
                if stat.S_ISDIR(status.st_mode):
                    return None
                if not stat.S_ISREG(status.st_mode):
                    raise self._no_file(path)
                with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                    data = stream.read()
            finally:
                os.close(descriptor)
        if len(data) != status.st_size:
            raise BusyError(path)  # we replace files; somebody else is writing into this one
        return data, _written(path, status)

    def write(self, path: str, data: bytes, content_type: str, *, replacing: Written | None) -> Written:
        _check(path)
        with self.exclusively(), self._translated(path):
            directory = path.rpartition("/")[0]
            self._make_directory(directory)
            place = self._place(path)
            present = None if directory == self._empty else self._status(path)
            self._empty = None
            if (None if present is None else _token(present)) != (None if replacing is None else replacing.token):
                raise ConflictError(path)
            written_at = _time_after(present, len(data))
            draft = self._place(_DRAFT)
            written = self._write_draft(draft, path, data, written_at)
            try:
                os.rename(draft, place)
            except FileNotFoundError:  # somebody has removed the directory by hand since we saw it
                self._forget()
                self._make_directory(directory)
                os.rename(draft, place)
            return written

    def _status(self, path: str) -> os.stat_result | None:
        try:
            status = os.lstat(self._place(path))
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            raise UnwritableDocumentError(f"{self._place(path)} is a directory where a file must be: move it away")
        if not stat.S_ISREG(status.st_mode):
            raise self._no_file(path)
        return status

    def _write_draft(self, draft: str, path: str, data: bytes, written_at: int) -> Written:
        """Write all of a document to the draft; `written_at` is its time, in ns since 1970."""
        descriptor = _open_draft(draft)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.utime(descriptor, ns=(written_at, written_at))
            return _written(path, os.fstat(descriptor))
        except OSError:
            os.unlink(draft)  # which may take the last room
            raise
        finally:
            os.close(descriptor)

    def remove(self, written: Written) -> None:
        path = written.path
        _check(path)
        directory = path.rpartition("/")[0]
        with self.exclusively(), self._translated(path):
            if directory and not self._is_directory(directory):
                return
            present = self._look(path)
            if present is None:
                return
            if present.token != written.token:
                raise ConflictError(path)
            os.unlink(self._place(path))
            if not path.startswith(STATE_PREFIX):  # where what comes and goes would have them made again and again
                self._remove_empty(directory)

    def _remove_empty(self, directory: str) -> None:
        while directory:
            try:
                os.rmdir(self._place(directory))
            except OSError:  # not empty; or it must stay, which hurts nobody
                return
            self._known.discard(directory)
            directory = directory.rpartition("/")[0]

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        with self._mutex:
            if self._depth == 0:
                self._forget()  # others may have changed everything meanwhile
                lock = self._lock()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    os.close(lock)

    def _lock(self) -> int:
        """Wait until nobody else writes; return what must be closed in the end."""
        place = self._place(_LOCK)
        with self._translated(_STATE):
            while True:
                with self._translated():
                    os.makedirs(self._root, exist_ok=True)
                self._make_directory(_STATE)
                with suppress(FileNotFoundError):  # the whole output was removed just now
                    lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX)
                        if os.path.samestat(os.fstat(lock), os.lstat(place)):
                            return lock
                    except BaseException:
                        os.close(lock)
                        raise
                    os.close(lock)
                self._forget()

    def _make_directory(self, directory: str) -> None:
        """Make a directory and those above it; UnwritableDocumentError where something else is in the way."""
        if directory in self._known or not directory:
            return
        self._make_directory(directory.rpartition("/")[0])
        try:
            os.mkdir(self._place(directory), 0o755)
        except FileExistsError as error:
            if not self._is_directory(directory):
                raise self._explain(error, directory) from error
        else:
            self._know(directory)
            self._empty = directory if self._depth else None

    def _is_directory(self, directory: str) -> bool:
        """Whether the way to a directory leads over directories only; UnwritableDocumentError where over a link."""
        if directory in self._known:
            return True
        above = directory.rpartition("/")[0]
        if above and not self._is_directory(above):
            return False
        try:
            mode = os.lstat(self._place(directory)).st_mode
        except OSError as error:
            if error.errno in _NOTHING:
                return False
            raise self._explain(error, directory) from error
        if stat.S_ISLNK(mode):
            place = self._place(directory)
            raise UnwritableDocumentError(f"{place} is a symbolic link, which is not followed: make it a directory")
        if stat.S_ISDIR(mode):
            self._know(directory)
        return stat.S_ISDIR(mode)

    def _know(self, directory: str) -> None:
        if self._depth == 0 and directory != _STATE:
            return  # somebody else may remove it at any time
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._forget()
        self._known.add(directory)

    def _forget(self) -> None:
        self._known.clear()
        self._empty = None

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _translated(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error, path) from error

    def _no_file(self, path: str) -> UnwritableDocumentError:
        return UnwritableDocumentError(f"{self._place(path)} is no file, and no link is followed: move it away")

    def _explain(self, error: OSError, path: str) -> OutputError:
        place = self._place(path).rstrip("/")
        if error.errno in _NO_ROOM:
            return OutputError(f"there is no room left to write {place}: make some, and begin again")
        if error.errno in _FORBIDDEN:
            return OutputError(f"{place} cannot be used ({error.strerror}): allow it to the user that writes the index")
        if error.errno == errno.ENAMETOOLONG:
            return UnwritableDocumentError(f"{place} is too long for this file system: write to another one, or to S3")
        if error.errno == errno.EXDEV:
            return OutputError(f"{place} lies on another file system than the rest of the output: let all be on one")
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            return UnwritableDocumentError(
                f"{place} must be a directory, but is a file or lies below one: move that away"
            )
        return OutputError(f"{place} cannot be used: {error.strerror}")


def _open_draft(draft: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(draft, flags, 0o644)
    except FileExistsError:  # of somebody who was killed, for we are alone
        os.unlink(draft)
        return os.open(draft, flags, 0o644)


def _check(path: str) -> None:
    if _NO_PART.search(path) or not is_text(path) or path in _OWN:
        raise UnwritableDocumentError(f"{path!r} cannot be the path of a document: correct the name that it comes from")


def _token(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _written(path: str, status: os.stat_result) -> Written:
    return Written(path, status.st_size, _token(status))


def _time_after(present: os.stat_result | None, size: int) -> int:
    """Return the time of a document that takes the place of another, in ns since 1970.

    Of the same size, it is of another second, be it the next: nginx makes its ETag of seconds and size, and clients
    would never hear of the change. Set by ourselves at all, since the system's clock for files stands still for some
    milliseconds, in which a document could be replaced twice and look as before.
    """
    now = time.time_ns()
    if present is None or present.st_size != size:
        return now
    return max(now, (present.st_mtime_ns // _SECOND + 1) * _SECOND)
