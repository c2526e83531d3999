"""Storage -> catalog, for all keys: finds those in which the two differ, and has them reconciled."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from elasticpypi.catalog import Catalog, KnownKey
from elasticpypi.errors import BusyError, ObjectMissingError, UnreadableObjectError
from elasticpypi.indexer import reconcile, seen_fingerprint
from elasticpypi.names import parse_key
from elasticpypi.storage import Storage, StoredObject

_POLLING_SECONDS = 0.1


@dataclass(slots=True)
class SyncReport:
    """Keys in which catalog and storage differed, by what `sync` did about them, or would do after `find_drift`."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # key -> why nothing could be done about it now
    unsettled: list[str] = field(default_factory=list)  # still being written, so not looked at yet
    unchanged: int = 0

    @property
    def seen(self) -> int:
        """The number of keys that were looked at so far."""
        return self.unchanged + self.drift + len(self.unsettled)

    @property
    def drift(self) -> int:
        """The number of keys in which catalog and storage differed."""
        return len(self.added) + len(self.changed) + len(self.removed) + len(self.failed)


def sync(
    catalog: Catalog,
    storage: Storage,
    *,
    prefix: str = "",
    patience_seconds: float = 0,
    progress: Callable[[SyncReport], None] = lambda _: None,
) -> SyncReport:
    """Make the catalog equal to the storage below a prefix.

    Lists both sides in order, in constant memory, and hands the keys that differ to `reconcile`. Files that somebody is
    still writing are waited for as long as the patience lasts, then left as `unsettled`: what has never been whole is
    not missing. `progress` is told of the report again and again, as it grows.
    """
    identity = catalog.identity()
    report = SyncReport()
    for sides in _side_by_side(catalog, storage, prefix):
        _bring_together(catalog, storage, sides, report)
        progress(report)
    until = time.monotonic() + patience_seconds
    while report.unsettled and time.monotonic() < until:
        time.sleep(_POLLING_SECONDS)
        waiting, report.unsettled = report.unsettled, []
        for key in waiting:
            _bring_together(catalog, storage, _look(catalog, storage, key), report)
    if not (prefix or report.failed):
        catalog.mark_complete(identity)
    return report


def find_drift(catalog: Catalog, storage: Storage) -> SyncReport:
    """Tell where catalog and storage differ, and change nothing."""
    report = SyncReport()
    for sides in _side_by_side(catalog, storage, prefix=""):
        # What differs is looked at once more: while two lists are read, things go on.
        now = sides if sides.agree else _look(catalog, storage, sides.key)
        done = now.to_be_done(report)
        if done is None:
            report.unchanged += 1
        elif now.obj is not None and not storage.is_settled(now.obj):
            report.unsettled.append(now.key)
        else:
            done.append(now.key)
    return report


@dataclass(frozen=True, slots=True)
class _Sides:
    """What catalog and storage have under one key."""

    key: str
    row: KnownKey | None
    obj: StoredObject | None

    @property
    def agree(self) -> bool:
        """Whether there is nothing to be done."""
        if self.row is None or self.obj is None:
            return self.row is None and self.obj is None
        return self.row.fingerprint == seen_fingerprint(self.obj)

    def to_be_done(self, report: SyncReport) -> list[str] | None:
        """Return the list of a report in which the key belongs; None where the sides agree."""
        if self.agree:
            return None
        if self.row is None:
            return report.added
        return report.removed if self.obj is None else report.changed


def _side_by_side(catalog: Catalog, storage: Storage, prefix: str) -> Iterator[_Sides]:
    """Yield what the two sides have under each key that either has."""
    rows: Iterator[KnownKey | StoredObject] = catalog.known_keys(prefix)
    objects = (obj for obj in storage.list(prefix) if parse_key(obj.key) is not None)
    ordered = heapq.merge(rows, objects, key=_order)
    for _, found in itertools.groupby(ordered, key=_order):
        sides = list(found)
        row = next((side for side in sides if isinstance(side, KnownKey)), None)
        obj = next((side for side in sides if isinstance(side, StoredObject)), None)
        yield _Sides(sides[0].key, row, obj)


def _order(item: KnownKey | StoredObject) -> bytes:
    return item.key.encode()


def _look(catalog: Catalog, storage: Storage, key: str) -> _Sides:
    entry = catalog.entry(key)
    row = None if entry.content is None else KnownKey(key, entry.fingerprint)
    try:
        return _Sides(key, row, storage.stat(key))
    except ObjectMissingError:
        return _Sides(key, row, None)


def _bring_together(catalog: Catalog, storage: Storage, sides: _Sides, report: SyncReport) -> None:
    """Do what one key needs, and put it down in the report."""
    done = sides.to_be_done(report)
    if done is None:
        report.unchanged += sides.row is not None
    elif sides.obj is not None and not storage.is_settled(sides.obj):
        report.unsettled.append(sides.key)
    else:
        try:
            reconcile(catalog, storage, sides.key)
            done.append(sides.key)
        except (BusyError, UnreadableObjectError) as error:
            report.failed[sides.key] = str(error)
