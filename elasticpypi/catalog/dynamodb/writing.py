"""Rows are replaced: together with their project's revision, in transactions."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from elasticpypi.catalog import Write
from elasticpypi.catalog.dynamodb.items import (
    Item,
    Key,
    Place,
    as_key,
    dump_core_metadata,
    dump_row,
    is_file,
    is_live,
    mark,
    named_parts,
    next_after,
    number,
    part_keys,
    place_of,
    project_key,
    shard_key,
    tombstone_expires,
    weigh,
)
from elasticpypi.catalog.dynamodb.table import PASSING_REASONS, Patience, Table, add_to_attributes, when
from elasticpypi.errors import CatalogError
from elasticpypi.names import NormalizedName

# Three actions for a row (itself, its core metadata, that it is a problem) and two for its project make up to 98 of the
# 100 actions of a transaction; it may have 4 MB, of which what is replaced may be a part.
_ROWS_PER_TRANSACTION = 32
_BYTES_PER_TRANSACTION = 2 << 20
# For which writers of one project get into each other's way; one at a time comes through. With the 15 seconds of a call
# that is not answered these are less than the 29 that API Gateway waits.
_WRITING_SECONDS = 12.0
_INLINE = "-"  # as `m` of a row: its core metadata has no parts
_CONDITION_FAILED = "ConditionalCheckFailed"
_log = logging.getLogger(__name__)


def put_all(table: Table, writes: Sequence[Write]) -> list[Write]:
    """Do as `Catalog.put_all`."""
    lost: list[Write] = []
    changing: dict[NormalizedName | None, list[_Prepared]] = {}
    for write in writes:
        place = place_of(write.after.key)
        if write.after.content != write.before.content:
            changing.setdefault(place.project, []).append(_prepare(place, write))
        elif not _move_generation(table, place, write):
            lost.append(write)
    for project, prepared in changing.items():
        for group in _groups(prepared):
            lost += _replace(table, project, group)
    return lost


def _move_generation(table: Table, place: Place, write: Write) -> bool:
    """Write a row whose content stays; false where it is no longer as it was read."""
    generation = next_after(write.before.generation)
    if not write.before.generation:
        row, _ = dump_row(place, write.after, generation, "")
        return table.put(row, condition=when(pk=None))
    changes: Item = {"g": {"N": str(generation)}, "f": {"S": write.after.fingerprint}}
    if write.after.content is None:
        changes["expires"] = {"N": str(tombstone_expires())}
    return table.update(place.row, changes, condition=_as_read(write))


def _as_read(write: Write) -> Item:
    generation = write.before.generation
    return when(g={"N": str(generation)}) if generation else when(pk=None)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A write, and the items that it takes."""

    write: Write
    place: Place
    row: Item  # without the revision
    core_metadata: Item | None
    parts: list[Item]  # of both, where they are too large; written before the transaction, in which they are named

    @property
    def weight(self) -> int:
        return weigh(self.row) + weigh(self.core_metadata or {})


def _prepare(place: Place, write: Write) -> _Prepared:
    token = secrets.token_hex(8)  # parts are never shared: whoever replaces a row may delete its parts
    row, parts = dump_row(place, write.after, next_after(write.before.generation), token)
    if write.core_metadata is None or write.after.content is None:
        return _Prepared(write, place, row, None, parts)
    metadata, metadata_parts = dump_core_metadata(place, write.core_metadata, token)
    row["m"] = metadata.get("t", {"S": _INLINE})
    return _Prepared(write, place, row, metadata, parts + metadata_parts)


def _groups(prepared: Iterable[_Prepared]) -> Iterator[list[_Prepared]]:
    """Yield what fits into one transaction each."""
    group: list[_Prepared] = []
    weight = 0
    for each in prepared:
        if group and (len(group) == _ROWS_PER_TRANSACTION or weight + each.weight > _BYTES_PER_TRANSACTION):
            yield group
            group, weight = [], 0
        group.append(each)
        weight += each.weight
    if group:
        yield group


def _replace(table: Table, project: NormalizedName | None, group: list[_Prepared]) -> list[Write]:
    """Replace rows of one project (None: of none); return those that were no longer as they were read."""
    table.write_all(part for each in group for part in each.parts)
    lost: list[_Prepared] = []
    patience = Patience(table.busy, _WRITING_SECONDS)
    while group:
        places = [each.place.row for each in group]
        items = table.get_all(places if project is None else [*places, project_key(project)])
        stale = [each for each in group if number(items.get(each.place.row), "g") != each.write.before.generation]
        if not stale:
            actions = _actions(project, group, items)
            reasons = table.transact(actions)
            if not reasons:
                _delete_parts(table, [key for place in places if place in items for key in _parts_of(items[place])])
                break
            stale = [each for each, reason in zip(group, reasons, strict=False) if reason == _CONDITION_FAILED]
            unknown = set(reasons) - PASSING_REASONS - {_CONDITION_FAILED, "None"}
            if unknown:
                raise CatalogError(
                    f"the table {table.name!r} refuses a write of {group[0].place.key}: {', '.join(sorted(unknown))}"
                )
            if not stale:
                patience.wait()
        lost += stale
        group = [each for each in group if all(each is not other for other in stale)]
    if not lost:
        return []
    items = table.get_all(each.place.row for each in lost)
    lost = [each for each in lost if not _is_written(each, items.get(each.place.row))]
    _delete_parts(table, [(part["pk"]["S"], part["sk"]["S"]) for each in lost for part in each.parts])
    return [each.write for each in lost]


def _is_written(prepared: _Prepared, item: Item | None) -> bool:
    """Whether a row is the one that was to be written, although the answer to that write never came.

    Should it be somebody else's who has written the same in the same microsecond, nothing is lost either.
    """
    return item is not None and {name: value for name, value in item.items() if name != "v"} == prepared.row


def _actions(project: NormalizedName | None, group: Sequence[_Prepared], items: Mapping[Key, Item]) -> list[Item]:
    """Return the actions of a transaction: those of the rows first, in their order."""
    known = None if project is None else items.get(project_key(project))
    revision = next_after(number(known, "revision"))
    rows = [
        each.row if project is None or not is_live(each.row) else each.row | {"v": {"N": str(revision)}}
        for each in group
    ]
    actions = [{"Put": {"Item": row, **_as_read(each.write)}} for each, row in zip(group, rows, strict=True)]
    for each in group:
        actions += _actions_beside(each, items.get(each.place.row, {}))
    if project is not None:
        actions += _actions_on_project(project, group, rows, items, revision)
    return actions


def _actions_beside(prepared: _Prepared, before: Item) -> Iterator[Item]:
    """Yield what is done to the other items of a row."""
    place = prepared.place
    if prepared.core_metadata is not None:
        yield {"Put": {"Item": prepared.core_metadata}}
    elif "m" in before:
        yield {"Delete": {"Key": as_key(place.core_metadata)}}
    if "p" in prepared.row:
        yield {"Put": {"Item": as_key(place.problem) | {"key": {"S": place.key}}}}
    elif "p" in before:
        yield {"Delete": {"Key": as_key(place.problem)}}


def _actions_on_project(
    project: NormalizedName, group: Sequence[_Prepared], rows: Sequence[Item], items: Mapping[Key, Item], revision: int
) -> Iterator[Item]:
    key = project_key(project)
    known = items.get(key)
    before = [items.get(each.place.row) for each in group]
    live, old_live = number(known, "live") + _count(rows) - _count(before), number(known, "live")
    item = as_key(key) | {
        "revision": {"N": str(revision)},
        "live": {"N": str(live)},
        "files": {"N": str(number(known, "files") + _count_files(rows) - _count_files(before))},
        "x": {"N": str(number(known, "x") + _marks(rows) - _marks(before))},
    }
    yield {"Put": {"Item": item, **when(**({"revision": known["revision"]} if known else {"pk": None}))}}
    added = {
        "serial": 1,
        "x": _mark_of(project, live, revision) - _mark_of(project, old_live, number(known, "revision")),
    }
    if bool(live) != bool(old_live):
        added["revision"] = 1
    yield {"Update": {"Key": as_key(shard_key(key[0])), **add_to_attributes(**added)}}


def _count(rows: Sequence[Item | None]) -> int:
    return sum(row is not None and is_live(row) for row in rows)


def _count_files(rows: Sequence[Item | None]) -> int:
    return sum(row is not None and is_live(row) and is_file(row) for row in rows)


def _marks(rows: Sequence[Item | None]) -> int:
    return sum(mark(row["sk"]["S"], number(row, "v")) for row in rows if row is not None and is_live(row))


def _mark_of(project: NormalizedName, live: int, revision: int) -> int:
    return mark(project, revision) if live else 0


def _parts_of(row: Item) -> list[Key]:
    """Return the keys of all parts of a row and of its core metadata."""
    in_parts = "m" in row and row["m"]["S"] != _INLINE
    return named_parts(row, "t") + (part_keys(row["pk"]["S"], row["m"]["S"]) if in_parts else [])


def _delete_parts(table: Table, keys: Sequence[Key]) -> None:
    """Delete parts that no item names any more; left behind, they cost their room and nothing else."""
    try:
        table.delete_all(keys)
    except CatalogError as error:
        _log.warning("parts of a row were left in the table: %s", error)
