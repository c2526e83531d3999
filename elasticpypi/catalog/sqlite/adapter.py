"""`SqliteCatalog`: the catalog in one SQLite file, and what is remembered of it for as long as nothing changes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from elasticpypi.catalog import Counts, KeptPage, KnownKey, Write
from elasticpypi.catalog.changes import Changes, is_quiet
from elasticpypi.catalog.rows import dump_content, load_content
from elasticpypi.catalog.sqlite.connections import Connection, Kind, Pool, transaction
from elasticpypi.errors import ConflictError
from elasticpypi.model import Entry, ListedProject, ProjectSnapshot, RootSnapshot
from elasticpypi.names import DECISIONS_FILENAME, NormalizedName, decisions_key

_SCHEMA = """
    CREATE TABLE entries (
        key TEXT PRIMARY KEY,
        project TEXT,
        filename TEXT NOT NULL,         -- the last part of the key
        generation INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        content TEXT,                   -- catalog.rows; NULL: a tombstone
        is_problem INTEGER NOT NULL,
        expires INTEGER                 -- seconds since 1970, tombstones only
    );
    CREATE INDEX entries_by_project ON entries (project, filename) WHERE content IS NOT NULL;
    CREATE INDEX problems ON entries (key) WHERE is_problem;
    CREATE INDEX tombstones ON entries (expires) WHERE content IS NULL;
    CREATE TABLE core_metadata (key TEXT PRIMARY KEY, body BLOB NOT NULL);
    -- The root is the project called ''. A project that has gone keeps its revision, lest one repeat.
    CREATE TABLE projects (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, live INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX projects_by_revision ON projects (revision);
    CREATE TABLE pages (
        project TEXT, form TEXT, revision INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (project, form)
    );
    CREATE TABLE self (identity TEXT NOT NULL, is_complete INTEGER NOT NULL);
    INSERT INTO self VALUES (hex(randomblob(16)), 0);
"""
_KIND = Kind(
    "catalog",
    _SCHEMA,
    version=2,
    synchronous="NORMAL",  # the catalog is derived: after a power cut `sync` finds what the last commits had said
    if_other="remove the file and run `elasticpypi sync`, which makes it anew from the storage",
    if_damaged="remove it and run `elasticpypi sync`, which makes it anew from the storage",
)
_ROOT = ""
_PAGE_MICROSECONDS = 30 * 86_400 * 1_000_000
_FORGETTING_SECONDS = 3600.0
_TOMBSTONE_SECONDS = 24 * 60 * 60
_KEYS_PER_READ = 1000
_REMEMBERED = 16 * 1024  # revisions, about 2 MB
_LOOK_AROUND_SECONDS = 0.1
_LAST_CHARACTER = "\U0010ffff"


class SqliteCatalog:
    """A `Catalog` in the file `path`, made if it is not there."""

    largest_page: int | None = None

    def __init__(self, path: Path) -> None:
        self.pool = Pool(path, _KIND, self._notice)
        self._changes_path = self.pool.path.with_name(path.name + "-changes")
        self._forget_at = 0.0  # when pages of names that are not ours are looked through, on the monotonic clock
        try:
            self.pool.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._memory = _Memory(Changes(self._changes_path), identity=0)
        except OSError as error:
            raise self.pool.translated(error) from error
        with self.pool.lend():
            pass

    def entry(self, key: str) -> Entry:
        with self.pool.lend() as connection:
            row = connection.execute(f"{_SELECT_ENTRY} WHERE key = ?", (key,)).fetchone()
        return _entry(row) if row else Entry(key, None)

    def entries(self, keys: Sequence[str]) -> list[Entry]:
        with self.pool.reading() as connection:
            rows = [connection.execute(f"{_SELECT_ENTRY} WHERE key = ?", (key,)).fetchone() for key in keys]
        return [_entry(row) if row else Entry(key, None) for key, row in zip(keys, rows, strict=True)]

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        if self.put_all([Write(before, after, core_metadata)]):
            raise ConflictError(after.key)

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        with self._writing() as connection:
            return [write for write in writes if not _write(connection, write)]

    def project(self, name: NormalizedName) -> ProjectSnapshot | None:
        with self.pool.reading() as connection:
            revision = _revision(connection, name)
            rows = connection.execute(
                f"{_SELECT_ENTRY} WHERE project = ? AND content IS NOT NULL ORDER BY key", (name,)
            ).fetchall()
        return None if revision is None else ProjectSnapshot(name, revision, tuple(_entry(row) for row in rows))

    def entries_named(self, name: NormalizedName, filename: str) -> list[Entry]:
        with self.pool.lend() as connection:
            rows = connection.execute(
                f"{_SELECT_ENTRY} WHERE project = ? AND filename = ? AND content IS NOT NULL ORDER BY key",
                (name, filename),
            )
            return [_entry(row) for row in rows]

    def has_files(self, name: NormalizedName, *, besides: str) -> bool:
        with self.pool.lend() as connection:
            row = connection.execute(
                "SELECT 1 FROM entries WHERE project = ? AND content IS NOT NULL AND key NOT IN (?, ?) LIMIT 1",
                (name, besides, decisions_key(name)),
            ).fetchone()
        return row is not None

    def revision(self, name: NormalizedName) -> int | None:
        memory = self._remembered()
        revision = memory.revisions.get(name)
        if revision is None:
            with self.pool.lend() as connection:
                revision = _revision(connection, name)
            memory.keep(name, revision)
        return revision

    def root(self) -> RootSnapshot:
        with self.pool.reading() as connection:
            revision, serial = _root_revision(connection), _serial(connection)
            rows = connection.execute(
                "SELECT name, revision FROM projects WHERE live > 0 AND name != '' ORDER BY name"
            ).fetchall()
        return RootSnapshot(
            revision, serial, serial, tuple(ListedProject(NormalizedName(name), of) for name, of in rows)
        )

    def root_revision(self) -> int:
        memory = self._remembered()
        revision = memory.revisions.get(_ROOT)
        if revision is None:
            with self.pool.lend() as connection:
                revision = _root_revision(connection)
            memory.keep(_ROOT, revision)
        return revision

    def serials_revision(self) -> int:
        memory = self._remembered()
        if memory.serial is None:
            with self.pool.lend() as connection:
                memory.serial = _serial(connection)
        return memory.serial

    def core_metadata(self, key: str) -> bytes | None:
        with self.pool.lend() as connection:
            row = connection.execute("SELECT body FROM core_metadata WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def known_keys(self, prefix: str = "") -> Iterator[KnownKey]:
        after, last = "", prefix + _LAST_CHARACTER
        while True:
            with self.pool.lend() as connection:
                rows = connection.execute(
                    "SELECT key, fingerprint FROM entries WHERE content IS NOT NULL"
                    " AND key > ? AND key >= ? AND key <= ? ORDER BY key LIMIT ?",
                    (after, prefix, last, _KEYS_PER_READ),
                ).fetchall()
            if not rows:
                return
            yield from (KnownKey(key, fingerprint) for key, fingerprint in rows)
            after = rows[-1][0]

    def problems(self) -> Iterator[Entry]:
        with self.pool.lend() as connection:
            rows = connection.execute(f"{_SELECT_ENTRY} WHERE is_problem ORDER BY key").fetchall()
        return (_entry(row) for row in rows)

    def counts(self) -> Counts:
        with self.pool.reading() as connection:
            (projects,) = connection.execute("SELECT count(*) FROM projects WHERE live > 0 AND name != ''").fetchone()
            (files,) = connection.execute(
                "SELECT count(*) FROM entries INDEXED BY entries_by_project"
                " WHERE content IS NOT NULL AND filename != ?",
                (DECISIONS_FILENAME,),
            ).fetchone()
            (problems,) = connection.execute("SELECT count(*) FROM entries WHERE is_problem").fetchone()
        return Counts(projects, files, problems)

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        with self.pool.lend() as connection:
            row = connection.execute(
                "SELECT revision, body FROM pages WHERE project = ? AND form = ?", (name or _ROOT, form)
            ).fetchone()
        return KeptPage(*row) if row else None

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        with self._writing() as connection:
            if time.monotonic() >= self._forget_at:
                _forget_pages(connection)
                self._forget_at = time.monotonic() + _FORGETTING_SECONDS
            connection.execute(
                "INSERT INTO pages (project, form, revision, body) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET revision = excluded.revision, body = excluded.body WHERE excluded.revision > revision",
                (name or _ROOT, form, page.revision, page.body),
            )

    def identity(self) -> str:
        with self.pool.lend() as connection:
            identity: str = connection.execute("SELECT identity FROM self").fetchone()[0]
            return identity

    def is_complete(self) -> bool:
        memory = self._remembered()
        if not memory.complete:
            with self.pool.lend() as connection:
                memory.complete = bool(connection.execute("SELECT is_complete FROM self").fetchone()[0])
        return memory.complete

    def mark_complete(self, identity: str) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE self SET is_complete = 1 WHERE identity = ?", (identity,))

    def check(self) -> None:
        with self.pool.lend() as connection:
            _root_revision(connection)

    def close(self) -> None:
        self.pool.close()

    def _remembered(self) -> _Memory:
        """Return what is remembered for as long as nothing changes; an empty memory where something has."""
        memory = self._memory
        if time.monotonic() > memory.until:
            memory = self._look_around()
        seen = memory.changes.seen()
        if seen != memory.seen:
            memory = _Memory(memory.changes, memory.identity, memory.until, seen)
            if is_quiet(seen):
                self._memory = memory
        return memory

    def _look_around(self) -> _Memory:
        """Begin a new memory if somebody has removed or replaced the catalog's files."""
        with self.pool.lend() as connection:
            if not self._memory.changes.is_current():
                self._announce(connection)
            memory = self._memory
            memory.until = time.monotonic() + _LOOK_AROUND_SECONDS
            return memory

    def _announce(self, connection: Connection) -> None:
        """Say by the notes that lie there now that something has changed: what we wrote to removed ones nobody saw."""
        self._memory = _Memory(Changes(self._changes_path), connection.identity)
        with transaction(connection, "BEGIN IMMEDIATE", self._memory.changes):
            pass

    def _notice(self, identity: int) -> None:
        """Begin a new memory if another file lies in the place of the one that was read."""
        if identity != self._memory.identity:
            self._memory = _Memory(Changes(self._changes_path), identity)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.pool.lend() as connection:
            changes = self._memory.changes
            with transaction(connection, "BEGIN IMMEDIATE", changes):
                yield connection
            if not changes.is_current():
                self._announce(connection)


@dataclass(slots=True)
class _Memory:
    """What was read since the catalog last changed."""

    changes: Changes
    identity: int  # of the catalog's file
    until: float = 0.0  # when to look whether the files are still there, on the monotonic clock
    seen: bytes = b""  # of the changes
    revisions: dict[str, int] = field(default_factory=dict)  # the root's included
    serial: int | None = None
    complete: bool = False

    def keep(self, name: str, revision: int | None) -> None:
        if len(self.revisions) >= _REMEMBERED:
            self.revisions.clear()
        if revision is not None:
            self.revisions[name] = revision


_SELECT_ENTRY = "SELECT key, project, generation, fingerprint, content FROM entries"


def _forget_pages(connection: sqlite3.Connection) -> None:
    """Forget the pages of projects that are not ours (those of upstreams) when they were kept a month ago."""
    before = time.time_ns() // 1000 - _PAGE_MICROSECONDS
    connection.execute(
        "DELETE FROM pages WHERE revision < ? AND project NOT IN (SELECT name FROM projects WHERE live > 0)", (before,)
    )


def _next(counter: int) -> int:
    return max(counter + 1, time.time_ns() // 1000)


def _entry(row: tuple[str, str | None, int, str, str | None]) -> Entry:
    key, project, generation, fingerprint, content = row
    return Entry(
        key,
        None if project is None else NormalizedName(project),
        generation,
        fingerprint,
        None if content is None else load_content(content),
    )


def _revision(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT revision FROM projects WHERE name = ? AND live > 0", (name,)).fetchone()
    return row[0] if row else None


def _root_revision(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT revision FROM projects WHERE name = ?", (_ROOT,)).fetchone()
    return row[0] if row else 0


def _serial(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT max(revision) FROM projects").fetchone()[0] or 0


def _write(connection: Connection, write: Write) -> bool:
    """Replace a row; false where it is no longer as it was read."""
    before, after = write.before, write.after
    row = connection.execute("SELECT generation FROM entries WHERE key = ?", (after.key,)).fetchone()
    if (row[0] if row else 0) != before.generation:
        return False
    _write_entry(connection, after, _next(before.generation))
    if after.content != before.content:
        _write_core_metadata(connection, after.key, write.core_metadata)
        if after.project is not None:
            _write_project(connection, after.project, (after.content is not None) - (before.content is not None))
    return True


def _write_entry(connection: sqlite3.Connection, entry: Entry, generation: int) -> None:
    now = int(time.time())
    gone = entry.content is None
    connection.execute(
        "INSERT OR REPLACE INTO entries (key, project, filename, generation, fingerprint, content, is_problem, expires)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.key,
            entry.project,
            entry.key.rpartition("/")[2],
            generation,
            entry.fingerprint,
            None if entry.content is None else dump_content(entry.content),
            entry.problem is not None,
            now + _TOMBSTONE_SECONDS if gone else None,
        ),
    )
    if gone:
        connection.execute("DELETE FROM entries WHERE content IS NULL AND expires < ?", (now,))


def _write_core_metadata(connection: sqlite3.Connection, key: str, body: bytes | None) -> None:
    if body is None:
        connection.execute("DELETE FROM core_metadata WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO core_metadata (key, body) VALUES (?, ?)", (key, body))


def _write_project(connection: sqlite3.Connection, name: str, difference: int) -> None:
    """Bump a project's revision, and the root's if the project comes or goes with a `difference` in live rows."""
    row = connection.execute("SELECT live FROM projects WHERE name = ?", (name,)).fetchone()
    live = row[0] if row else 0
    now_live = live + difference
    connection.execute(
        "INSERT OR REPLACE INTO projects (name, revision, live) VALUES (?, ?, ?)",
        (name, _next(_serial(connection)), now_live),
    )
    if name != _ROOT and bool(live) != bool(now_live):
        _write_project(connection, _ROOT, now_live - live)
        if not now_live:
            connection.execute("DELETE FROM pages WHERE project = ?", (name,))
