"""`DynamoDBLedger`: the ledger in the table of the catalog, under keys of its own.

DynamoDB removes what has expired within days, not at once: until then it is left out of what is read, and written over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice

from elasticpypi.aws import AWS
from elasticpypi.catalog.dynamodb.items import Item, Key, as_key, ledger_pk, number
from elasticpypi.catalog.dynamodb.table import Patience, Table, when
from elasticpypi.catalog.ledger import Record, range_of_ids

_READ_AT_ONCE = 25  # at least, so that many that have expired are not passed one by one

_HAS_EXPIRED = "#expires <= :now"
_IS_FREE = f"attribute_not_exists(#pk) OR {_HAS_EXPIRED}"
_COUNTS = "attribute_not_exists(#expires) OR #expires > :now"  # from 0 on where there is none
_IS_THERE = f"attribute_exists(#pk) AND ({_COUNTS})"


class DynamoDBLedger:
    """A `Ledger` in a table with the keys `pk` and `sk` and the time to live `expires`."""

    def __init__(self, aws: AWS, table: str, *, clock: Callable[[], float] = time.time) -> None:
        self._table = Table(aws, table)
        self._clock = clock

    def record(self, kind: str, id: str) -> Record | None:  # noqa: A002 - the record's own word
        item = self._table.get((ledger_pk(kind), id))
        return None if item is None or self._has_expired(item) else _load(kind, item)

    def records(self, kind: str, *, before: str | None = None, prefix: str = "", limit: int) -> list[Record]:
        items = self._table.query_backwards(
            ledger_pk(kind),
            *range_of_ids(prefix, before),
            at_once=max(limit + 1, _READ_AT_ONCE),  # one is `before` itself
        )
        return list(islice((_load(kind, item) for item in items if not self._has_expired(item)), limit))

    def add(self, record: Record) -> bool:
        return self._table.put_signed(_dump(record), condition=self._when(_IS_FREE))

    def replace(self, before: Record, after: Record) -> bool:
        if before.expires is not None and before.expires <= self._now():
            return False
        return self._table.put_signed(_dump(after), condition=_when_still(before))

    def remove(self, kind: str, id: str) -> bool:  # noqa: A002 - the record's own word
        """Remove a record; where the answer was lost and it was asked again, say that there was none."""
        return self._table.delete((ledger_pk(kind), id), condition=self._when(_IS_THERE))

    def count(self, kind: str, additions: Mapping[str, int], *, expires: int) -> None:
        """Add to counters, each with a request and a write unit of its own: DynamoDB adds to one item at a time.

        Where an answer is lost and DynamoDB is asked again, that addition may count twice.
        """
        for id, addition in additions.items():  # noqa: A001 - the counter's own word
            self._count((ledger_pk(kind), id), addition, {"expires": {"N": str(expires)}})

    def counters(self, kind: str, *, prefix: str = "") -> dict[str, int]:
        items = self._table.query(ledger_pk(kind), prefix or None)
        return {item["sk"]["S"]: number(item, "n") for item in items if not self._has_expired(item)}

    def close(self) -> None:
        """Do nothing: clients are closed with the process."""

    def _count(self, key: Key, addition: int, changes: Item) -> None:
        patience = Patience(self._table.busy)
        while not self._table.add(key, {"n": addition}, changes, condition=self._when(_COUNTS)):
            # It has expired, and lies there still: it begins anew, unless somebody else was quicker.
            begun = {"n": {"N": str(addition)}} | changes
            if self._table.update(key, begun, condition=self._when(_HAS_EXPIRED)):
                return
            patience.wait()

    def _when(self, condition: str) -> Item:
        return {
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in ("pk", "expires") if f"#{name}" in condition},
            "ExpressionAttributeValues": {":now": {"N": str(self._now())}},
        }

    def _has_expired(self, item: Item) -> bool:
        return "expires" in item and number(item, "expires") <= self._now()

    def _now(self) -> int:
        return int(self._clock())


def _dump(record: Record) -> Item:
    item = as_key((ledger_pk(record.kind), record.id)) | {"c": {"S": record.text}}
    return item if record.expires is None else item | {"expires": {"N": str(record.expires)}}


def _load(kind: str, item: Item) -> Record:
    return Record(kind, item["sk"]["S"], item["c"]["S"], number(item, "expires") if "expires" in item else None)


def _when_still(record: Record) -> Item:
    expires = None if record.expires is None else {"N": str(record.expires)}
    return when(c={"S": record.text}, expires=expires)
