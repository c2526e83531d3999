"""A DynamoDB in moto that many may write to at once, as its own does not let them.

moto's transactions copy the whole table for each of their actions and put the copy back when one fails, and with it
away whatever others have written meanwhile; its queries sort the whole table. Here requests come one after the other, a
failed transaction puts back the items that it touched, and a query looks at its own partition.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler

_one_at_a_time = threading.RLock()


def mend_dynamodb() -> None:
    """Change moto in this process."""
    answer, write, query, all_items = (
        DynamoHandler.call_action,
        DynamoDBBackend.transact_write_items,
        Table.query,
        Table.all_items,
    )

    def call_action(self: Any) -> Any:
        with _one_at_a_time:
            return answer(self)

    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        before = [(*place, _item(*place)) for place in _places(self, transact_items)]
        Table.__deepcopy__ = lambda table, _: table  # type: ignore[attr-defined]
        try:
            write(self, transact_items)
        except Exception:
            for table, hash_key, range_key, item in before:
                if item is None:
                    table.items[hash_key].pop(range_key, None)
                else:
                    table.items[hash_key][range_key] = item
            raise
        finally:
            del Table.__deepcopy__  # type: ignore[attr-defined]

    def query_partition(self: Any, hash_key: DynamoType, *args: Any, **kwargs: Any) -> Any:
        partition = self.items.get(hash_key, {})
        self.all_items = lambda: list(partition.values()) if self.range_key_attr else all_items(self)
        try:
            return query(self, hash_key, *args, **kwargs)
        finally:
            del self.all_items

    DynamoHandler.call_action = call_action  # type: ignore[method-assign]
    DynamoDBBackend.transact_write_items = transact_write_items  # type: ignore[method-assign]
    Table.query = query_partition  # type: ignore[method-assign,assignment]


def _places(backend: Any, actions: list[dict[str, Any]]) -> list[tuple[Any, DynamoType, DynamoType]]:
    """Return where the items lie that a transaction may change, in tables with a sort key."""
    places = []
    for action in actions:
        ((_, details),) = action.items()
        table = backend.tables.get(details["TableName"])
        if table is not None and table.range_key_attr:
            key = details.get("Key") or details["Item"]
            places.append((table, DynamoType(key[table.hash_key_attr]), DynamoType(key[table.range_key_attr])))
    return places


def _item(table: Any, hash_key: DynamoType, range_key: DynamoType) -> Any:
    return copy.deepcopy(table.items.get(hash_key, {}).get(range_key))
