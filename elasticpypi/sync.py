"""Storage -> catalog, for all keys: finds those in which the two differ, and has them reconciled."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from elasticpypi.catalog import Catalog, KnownKey
from elasticpypi.errors import BusyError, ObjectMissingError, UnreadableObjectError
from elasticpypi.indexer import LOOKS_AT_ONCE, Failed, Reconciled, reconcile_all, seen_fingerprint
from elasticpypi.names import parse_key
from elasticpypi.storage import Storage, StoredObject

_POLLING_SECONDS = 0.1
_KEYS_TOGETHER = 100


@dataclass(slots=True)
class SyncReport:
    """Keys in which catalog and storage differed, by what `sync` did about them, or would do after `find_drift`."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # key -> why nothing could be done about it now
    unsettled: list[str] = field(default_factory=list)  # still being written, so not looked at yet
    unchanged: int = 0
    is_partial: bool = False  # time was over before all keys were looked at

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
    deadline: float = math.inf,
    looks_at_once: int = LOOKS_AT_ONCE,
    progress: Callable[[SyncReport], None] = lambda _: None,
) -> SyncReport:
    """Make the catalog equal to the storage below a prefix.

    Lists both sides in order, in constant memory, and hands the keys that differ to `reconcile_all`. Files that
    somebody is still writing are waited for as long as the patience lasts, then left as `unsettled`: what has never
    been whole is not missing. Once `time.monotonic()` has come to the deadline it stops; what was done stays, and the
    next run does the rest. `progress` is told of the report again and again, as it grows.
    """
    identity = catalog.identity()
    report = SyncReport()
    reconciling = partial(reconcile_all, catalog, storage, looks_at_once=looks_at_once)
    differing: list[_Sides] = []
    for sides in _side_by_side(catalog, storage, prefix):
        if time.monotonic() >= deadline:
            report.is_partial = True
            break
        if _is_to_be_done(storage, sides, report):
            differing.append(sides)
        if len(differing) == _KEYS_TOGETHER:
            _bring_together(reconciling, differing, report)
            differing = []
        progress(report)
    _bring_together(reconciling, differing, report)
    progress(report)
    until = min(time.monotonic() + patience_seconds, deadline)
    while report.unsettled and time.monotonic() < until:
        time.sleep(_POLLING_SECONDS)
        waiting, report.unsettled = report.unsettled, []
        looked = (_look(catalog, storage, key) for key in waiting)
        _bring_together(reconciling, [each for each in looked if _is_to_be_done(storage, each, report)], report)
    if not (prefix or report.failed or report.is_partial):
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


def _is_to_be_done(storage: Storage, sides: _Sides, report: SyncReport) -> bool:
    """Whether a key needs something now; if not, put it down in the report."""
    if sides.agree:
        report.unchanged += sides.row is not None
        return False
    if sides.obj is not None and not storage.is_settled(sides.obj):
        report.unsettled.append(sides.key)
        return False
    return True


def _bring_together(
    reconciling: Callable[[list[str]], Iterator[Reconciled | Failed]], differing: Sequence[_Sides], report: SyncReport
) -> None:
    """Do what these keys need, and put it down in the report."""
    failed: dict[str, Exception] = {}
    for outcome in reconciling([sides.key for sides in differing]):
        if isinstance(outcome, Failed):
            if not isinstance(outcome.error, BusyError | UnreadableObjectError):
                raise outcome.error
            failed[outcome.key] = outcome.error
    for sides in differing:
        done = sides.to_be_done(report)
        if sides.key in failed:
            report.failed[sides.key] = str(failed[sides.key])
        elif done is not None:
            done.append(sides.key)
