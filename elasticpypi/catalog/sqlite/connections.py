"""A file of SQLite's (WAL mode) and the connections to it, each lent to one thread at a time.

The file is made whole beside its place and then moved there, so that nobody ever opens half a schema. If it is replaced
or removed, the next call notices and opens what is there now. Specification: SQLite, "Write-Ahead Logging".
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from elasticpypi.catalog.changes import Changes
from elasticpypi.errors import CatalogError

SQLITE_VERSION = sqlite3.sqlite_version_info  # of the library that this Python has
_BUSY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    name: str
    schema: str
    version: int  # of the schema
    synchronous: str  # of SQLite's pragma: NORMAL may lose the last transactions to a power cut, FULL does not
    if_other: str  # what to do where it has another schema
    if_damaged: str


class Connection(sqlite3.Connection):
    """A connection that knows which file it was opened to."""

    identity: int = 0


class Pool:
    """The connections to the file `path`, which is made if it is not there when the first one is asked for.

    Whenever one is lent, `notice` is first told which file lies at the path.
    """

    def __init__(self, path: Path, kind: Kind, notice: Callable[[int], None]) -> None:
        self.path = path.absolute()
        self._text = str(self.path)
        self._kind = kind
        self._notice = notice
        self.idle: deque[Connection] = deque()

    def lend(self) -> Lent:
        """Lend a connection to the file that lies at the path now; errors are translated."""
        return Lent(self)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection in a transaction, in which everything is read as it was at one time."""
        with self.lend() as connection, transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Lend a connection in a transaction that nobody else writes beside."""
        with self.lend() as connection, transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    def take(self) -> Connection:
        """Return an idle connection to the file that lies at the path now, or a new one."""
        try:
            identity = os.stat(self._text).st_ino  # noqa: PTH116  # every page asks: a Path takes twice as long
        except FileNotFoundError:
            _make(self.path, self._kind)
            identity = self.path.stat().st_ino
        self._notice(identity)
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:
                break  # another thread was quicker
            if connection.identity == identity:
                return connection
            connection.close()  # to a file that was replaced or removed
        return _connect(self.path, self._kind)

    def translated(self, error: sqlite3.Error | OSError) -> CatalogError:
        """Return an error of SQLite's or the system's in a sentence."""
        what = f"the {self._kind.name} {self.path}"
        match error:
            case sqlite3.OperationalError():
                return CatalogError(f"{what} cannot be used now: {error}")
            case OSError():
                return CatalogError(f"{what} cannot be reached: {error.strerror}")
            case _:
                return CatalogError(f"{what} is damaged ({error}): {self._kind.if_damaged}")

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().close()


class Lent:
    """A connection for as long as a `with` block runs; errors in it are translated.

    A class, since every page that is answered asks for one: a generator takes twice as long.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> Connection:
        try:
            self._connection = self._pool.take()
        except (sqlite3.Error, OSError) as error:
            raise self._pool.translated(error) from error
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._pool.idle.append(self._connection)
        if isinstance(error, sqlite3.DatabaseError | OSError):
            raise self._pool.translated(error) from error


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str, changes: Changes | None = None) -> Iterator[None]:
    """Begin a transaction; commit it where the `with` block ends well, else roll it back. Tell `changes` of it."""
    connection.execute(begin)
    begun = None if changes is None else changes.begin()
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        if changes is not None and begun is not None:
            changes.end(begun)


def _connect(path: Path, kind: Kind) -> Connection:
    with _alone(path) as notes:
        identity = path.stat().st_ino
        _remove_log_of_another(path, identity, notes)
        connection = _open(path, kind)
        try:
            _note_log(path, identity, notes)
        except BaseException:
            connection.close()
            raise
    connection.identity = identity
    return connection


def _open(path: Path, kind: Kind) -> Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",  # not rwc: if the file has just gone, an empty one would be no catalog
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # the pool hands a connection to one thread at a time
        factory=Connection,
    )
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != kind.version:
            raise CatalogError(
                f"the {kind.name} {path} has schema {version}, this program needs {kind.version}: {kind.if_other}"
            )
        connection.execute(f"PRAGMA synchronous = {kind.synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path, kind: Kind) -> None:
    """Make the file with its schema, unless somebody else was quicker."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{kind.name}-") as directory:
        draft = Path(directory, path.name)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {kind.schema} PRAGMA user_version = {kind.version}; COMMIT;")
        finally:
            connection.close()
        draft.chmod(0o600)
        with _alone(path):
            if not path.exists():
                _remove_log(path)  # what a removed file left there must not be read into the new one
                draft.rename(path)


@contextmanager
def _alone(path: Path) -> Iterator[TextIO]:
    """Hold the lock of those that make or open the file; yield what they note for each other."""
    descriptor = os.open(
        path.with_name(path.name + ".lock"), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    with open(descriptor, "a+") as notes:  # noqa: PTH123 - a Path opens no descriptor
        fcntl.flock(notes, fcntl.LOCK_EX)
        yield notes


def _remove_log_of_another(path: Path, identity: int, notes: TextIO) -> None:
    """Remove the write-ahead log of a file in whose place another has been put: it would be read into that one.

    That is so where the log was noted with another file on this same volume. A directory that was copied as a whole has
    a log that is not the noted one, and that belongs to its file.
    """
    notes.seek(0)
    noted = notes.read().split()
    log = _identity(_log(path))
    if len(noted) == 3 and log and noted[0::2] == [_volume(path), log] and noted[1] != str(identity):
        _remove_log(path)


def _note_log(path: Path, identity: int, notes: TextIO) -> None:
    notes.seek(0)
    noted, note = notes.read(), f"{_volume(path)} {identity} {_identity(_log(path))}\n"
    if noted != note:
        notes.seek(0)
        notes.truncate()
        notes.write(note)


def _remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _volume(path: Path) -> str:
    return str(path.stat().st_dev)


def _identity(path: Path) -> str:
    """Return which file lies at a path; nothing where there is none."""
    try:
        return str(path.stat().st_ino)
    except FileNotFoundError:
        return ""
