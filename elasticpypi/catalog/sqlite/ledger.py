"""`SqliteLedger`: the ledger in one SQLite file of its own, so that the catalog's can be removed at any time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from elasticpypi.catalog.ledger import Record, range_of_ids
from elasticpypi.catalog.sqlite.connections import Kind, Pool

_SCHEMA = """
    CREATE TABLE records (
        kind TEXT, id TEXT, text TEXT NOT NULL, expires INTEGER, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE INDEX expiring_records ON records (expires) WHERE expires IS NOT NULL;
    CREATE TABLE counters (
        kind TEXT, id TEXT, count INTEGER NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE INDEX expiring_counters ON counters (expires);
"""
_LOST = "or remove it, with which all tokens and the audit trail are lost"
_KIND = Kind(
    "ledger",
    _SCHEMA,
    version=1,
    synchronous="FULL",  # a token that was revoked stays so after a power cut
    if_other=f"run the elasticpypi that has written it, put a copy of the file in its place, {_LOST}",
    if_damaged=f"put a copy of the file in its place, {_LOST}",
)
_SELECT = "SELECT kind, id, text, expires FROM records WHERE kind = :kind AND (expires IS NULL OR expires > :now)"
_REMOVE_EXPIRED = (  # some of them, lest one write takes long
    "DELETE FROM records WHERE (kind, id) IN (SELECT kind, id FROM records WHERE expires <= ? LIMIT 100)",
    "DELETE FROM counters WHERE (kind, id) IN (SELECT kind, id FROM counters WHERE expires <= ? LIMIT 100)",
)


class SqliteLedger:
    """A `Ledger` in the file `path`, made when it is first asked if it is not there, in a directory that is."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.pool = Pool(path, _KIND, lambda _: None)
        self._clock = clock

    def record(self, kind: str, id: str) -> Record | None:  # noqa: A002 - the record's own word
        with self.pool.lend() as connection:
            row = connection.execute(f"{_SELECT} AND id = :id", {"kind": kind, "id": id, "now": self._now()}).fetchone()
        return Record(*row) if row else None

    def records(self, kind: str, *, before: str | None = None, prefix: str = "", limit: int) -> list[Record]:
        first, end = range_of_ids(prefix, before)
        with self.pool.lend() as connection:
            rows = connection.execute(
                f"{_SELECT} AND id >= :first AND id < :end ORDER BY id DESC LIMIT :limit",
                {"kind": kind, "first": first, "end": end, "limit": limit, "now": self._now()},
            ).fetchall()
        return [Record(*row) for row in rows]

    def add(self, record: Record) -> bool:
        return self._write(
            "INSERT INTO records (kind, id, text, expires) VALUES (:kind, :id, :text, :expires) ON CONFLICT DO UPDATE"
            " SET text = excluded.text, expires = excluded.expires WHERE expires <= :now",
            {"kind": record.kind, "id": record.id, "text": record.text, "expires": record.expires},
        )

    def replace(self, before: Record, after: Record) -> bool:
        return self._write(
            "UPDATE records SET text = :text, expires = :expires WHERE kind = :kind AND id = :id"
            " AND text = :text_was AND expires IS :expires_was AND (expires IS NULL OR expires > :now)",
            {
                "kind": before.kind,
                "id": before.id,
                "text_was": before.text,
                "expires_was": before.expires,
                "text": after.text,
                "expires": after.expires,
            },
        )

    def remove(self, kind: str, id: str) -> bool:  # noqa: A002 - the record's own word
        return self._write(
            "DELETE FROM records WHERE kind = :kind AND id = :id AND (expires IS NULL OR expires > :now)",
            {"kind": kind, "id": id},
        )

    def count(self, kind: str, additions: Mapping[str, int], *, expires: int) -> None:
        now = self._now()
        with self.pool.writing() as connection:
            connection.executemany(
                "INSERT INTO counters (kind, id, count, expires) VALUES (:kind, :id, :count, :expires) ON CONFLICT"
                " DO UPDATE SET count = iif(expires > :now, count, 0) + excluded.count, expires = excluded.expires",
                [
                    {"kind": kind, "id": id, "count": number, "expires": expires, "now": now}
                    for id, number in additions.items()  # noqa: A001 - the counter's own word
                ],
            )
            _remove_expired(connection, now)

    def counters(self, kind: str, *, prefix: str = "") -> dict[str, int]:
        first, end = range_of_ids(prefix)
        with self.pool.lend() as connection:
            rows = connection.execute(
                "SELECT id, count FROM counters"
                " WHERE kind = :kind AND id >= :first AND id < :end AND expires > :now ORDER BY id",
                {"kind": kind, "first": first, "end": end, "now": self._now()},
            ).fetchall()
        return dict(rows)

    def close(self) -> None:
        self.pool.close()

    def _now(self) -> int:
        return int(self._clock())

    def _write(self, statement: str, values: Mapping[str, str | int | None]) -> bool:
        """Write a record, and remove some of what has expired; tell whether the record was written."""
        now = self._now()
        with self.pool.writing() as connection:
            written = connection.execute(statement, {**values, "now": now}).rowcount > 0
            _remove_expired(connection, now)
        return written


def _remove_expired(connection: sqlite3.Connection, now: int) -> None:
    for statement in _REMOVE_EXPIRED:
        connection.execute(statement, (now,))
