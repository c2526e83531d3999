"""The ledger: what an index is told and cannot make anew, unlike the catalog beside which it lies.

Tokens, the audit trail, counts of downloads, the secret that signs sessions. Each is a record of a kind under an id,
with a text (JSON) whose meaning belongs to whoever writes it, and a time after which it is gone.

Adapters: `catalog.sqlite`, `catalog.dynamodb`. Every adapter passes the same contract tests (tests/test_ledger.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from elasticpypi.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Record:
    """Something that is remembered. Records of a kind are sorted by their ids, as ASCII."""

    kind: str  # printable ASCII, at most 300 characters
    id: str  # printable ASCII, at most 300 characters
    text: str  # at most 64 KiB
    expires: int | None = None  # seconds since 1970, from which on it is as good as gone; None: it stays


class Ledger(Protocol):
    """What an index remembers. Any method may raise CatalogError when it cannot be reached or read.

    Strongly consistent: who reads after a write sees it. What has expired is never returned, and counts as not there.
    """

    def record(self, kind: str, id: str) -> Record | None:  # noqa: A002 - the record's own word
        """Return a record with one small read; None where there is none."""

    def records(self, kind: str, *, before: str | None = None, prefix: str = "", limit: int) -> list[Record]:
        """Return the last records of a kind, the last one first, at most so many.

        `before` leaves out those from this id on, `prefix` those whose id does not begin so.
        """

    def add(self, record: Record) -> bool:
        """Write a record unless there is one under its id; tell whether it was written. Of several at once, one is."""

    def replace(self, before: Record, after: Record) -> bool:
        """Write `after` in the place of `before`, of the same kind and id, if that has still the same text and expiry.

        Tell whether it was written.
        """

    def remove(self, kind: str, id: str) -> bool:  # noqa: A002 - the record's own word
        """Remove a record; tell whether there was one."""

    def count(self, kind: str, additions: Mapping[str, int], *, expires: int) -> None:
        """Add to counters, by id, which begin at 0; each is gone at `expires`, as the last one to add has it.

        Counters are no records, and have kinds of their own.
        """

    def counters(self, kind: str, *, prefix: str = "") -> dict[str, int]:
        """Return the counters of a kind, by id, those only whose id begins so."""

    def close(self) -> None:
        """Give back what is held open."""


def range_of_ids(prefix: str, before: str | None = None) -> tuple[str, str]:
    """Return the first id that may begin with a prefix, and that from which on none does or all are left out."""
    end = f"{prefix}\x7f"  # which sorts after all that is printable
    return prefix or " ", end if before is None else min(before, end)


class NoLedger:
    """The `Ledger` of an index that has no place for one: nothing is in it, and nothing can be written to it."""

    def record(self, kind: str, id: str) -> Record | None:  # noqa: A002 - the record's own word
        return None

    def records(self, kind: str, *, before: str | None = None, prefix: str = "", limit: int) -> list[Record]:
        return []

    def add(self, record: Record) -> bool:
        raise _missing()

    def replace(self, before: Record, after: Record) -> bool:
        raise _missing()

    def remove(self, kind: str, id: str) -> bool:  # noqa: A002 - the record's own word
        return False

    def count(self, kind: str, additions: Mapping[str, int], *, expires: int) -> None:
        raise _missing()

    def counters(self, kind: str, *, prefix: str = "") -> dict[str, int]:
        return {}

    def close(self) -> None:
        """Do nothing."""


def _missing() -> ConfigError:
    return ConfigError(
        "an index without a table keeps no tokens, no sessions and no audit trail: name a 'table' in the configuration"
    )
