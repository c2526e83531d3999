"""Storage -> catalog, for all keys: finds those in which the two differ, and has them reconciled."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from elasticpypi.catalog import Catalog, KnownKey
from elasticpypi.errors import (
    BusyError,
    ElasticpypiError,
    ObjectMissingError,
    UnavailableError,
    UnreadableObjectError,
)
from elasticpypi.indexer import LOOKS_AT_ONCE, UNREAD, Failed, Reconciled, reconcile_all, seen_fingerprint
from elasticpypi.names import parse_key
from elasticpypi.storage import Storage, StoredObject

_POLLING_SECONDS = 0.1
_KEYS_TOGETHER = 100
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SyncReport:
    """Keys in which catalog and storage differed, by what `sync` did about them, or would do after `find_drift`.

    What others have brought in line meanwhile did not differ. An object that could not be read is known by its name,
    and is unchanged until it can be.
    """

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

    Lists both sides in order, in constant memory but for those that cannot be read, and hands the keys that differ to
    `reconcile_all`. Files that somebody is still writing are waited for as long as the patience lasts, then left as
    `unsettled`. Once `time.monotonic()` has come to the deadline it stops;
    what was done stays, and the next run does the rest. `progress` is told of the report again and again, as it grows.

    What fails about one key leaves the others alone; UnavailableError where catalog or storage themselves fail. The
    catalog is complete as soon as it knows something of every key: also that its object cannot be read. Of a file that
    is still being written nothing may be known, and its name would be taken for nobody's.
    """
    identity = catalog.identity()
    report = SyncReport()
    bring_together = partial(
        _bring_together,
        partial(reconcile_all, catalog, storage, looks_at_once=looks_at_once, deadline=deadline),
        partial(_check, catalog, storage),
        report=report,
    )
    differing: list[_Sides] = []
    unread: list[_Sides] = []
    for sides in _side_by_side(catalog, storage, prefix):
        if time.monotonic() >= deadline:
            report.is_partial = True
            break
        if _is_to_be_done(storage, sides, report):
            (unread if sides.is_unread else differing).append(sides)
        if len(differing) == _KEYS_TOGETHER:
            bring_together(differing)
            differing = []
        progress(report)
    bring_together(differing)
    bring_together(unread)  # last: they may take all the time that is left, in vain
    progress(report)
    until = min(time.monotonic() + patience_seconds, deadline)
    while report.unsettled and time.monotonic() < until:
        time.sleep(_POLLING_SECONDS)
        waiting, report.unsettled = report.unsettled, []
        looked = (_look(catalog, storage, key) for key in waiting)
        bring_together([each for each in looked if _is_to_be_done(storage, each, report)])
    unknown = any(catalog.entry(key).content is None for key in (*report.failed, *report.unsettled))
    if not (prefix or report.is_partial or unknown):
        catalog.mark_complete(identity)
    return report


def find_drift(catalog: Catalog, storage: Storage, *, deadline: float = math.inf) -> SyncReport:
    """Tell where catalog and storage differ, and change nothing; only in part once the deadline has come."""
    report = SyncReport()
    for sides in _side_by_side(catalog, storage, prefix=""):
        if time.monotonic() >= deadline:
            report.is_partial = True
            break
        try:
            # What differs is looked at once more: while two lists are read, things go on.
            now = sides if sides.agree or sides.is_unread else _look(catalog, storage, sides.key)
        except UnreadableObjectError as error:
            report.failed[sides.key] = str(error)
            continue
        done = now.to_be_done(report)
        if done is None or now.is_unread:
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

    @property
    def is_unread(self) -> bool:
        """Whether the object is known, as one that could not be read."""
        return self.row is not None and self.row.fingerprint == UNREAD and self.obj is not None

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


def _check(catalog: Catalog, storage: Storage) -> None:
    """Raise UnavailableError where catalog or storage cannot be used at all."""
    catalog.check()
    storage.check()


def _bring_together(
    reconciling: Callable[[list[str]], Iterator[Reconciled | Failed]],
    check: Callable[[], None],
    differing: Sequence[_Sides],
    *,
    report: SyncReport,
) -> None:
    """Do what these keys need, and put it down in the report."""
    outcomes = {outcome.key: outcome for outcome in reconciling([sides.key for sides in differing])}
    failures = {key: outcome.error for key, outcome in outcomes.items() if isinstance(outcome, Failed)}
    if any(_may_be_general(error) for error in failures.values()):
        check()
    for sides in differing:
        outcome = outcomes.get(sides.key)
        if outcome is None and sides.is_unread:
            report.unchanged += 1
        elif outcome is None:
            # Left at the deadline, if it is a key of ours at all.
            report.is_partial |= parse_key(sides.key) is not None
        elif isinstance(outcome, Failed):
            report.failed[outcome.key] = _describe(outcome)
        else:
            _put_down(outcome, report)


def _may_be_general(error: Exception) -> bool:
    return isinstance(error, UnavailableError) and not isinstance(error, BusyError | UnreadableObjectError)


def _describe(failed: Failed) -> str:
    if isinstance(failed.error, ElasticpypiError):
        return str(failed.error)
    _log.error("%s failed in a way that nobody has foreseen", failed.key, exc_info=failed.error)
    return f"{type(failed.error).__name__}: {failed.error}"


def _put_down(outcome: Reconciled, report: SyncReport) -> None:
    before, after = outcome.before, outcome.after
    if after.content is None:
        if before.content is not None:
            report.removed.append(outcome.key)
    elif before.content is None:
        report.added.append(outcome.key)
    elif (before.fingerprint, before.content) == (after.fingerprint, after.content):
        report.unchanged += 1
    else:
        report.changed.append(outcome.key)
