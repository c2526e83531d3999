"""Storage -> catalog: the one function `reconcile`, and `sync`, which finds the keys it has to be called for."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from elasticpypi.catalog import Catalog, KnownKey
from elasticpypi.digests import hex_digest
from elasticpypi.errors import (
    ArchiveError,
    BusyError,
    ConflictError,
    InvalidFilenameError,
    ObjectMissingError,
    UnreadableObjectError,
)
from elasticpypi.metadata import CoreMetadata, read_core_metadata
from elasticpypi.model import Decisions, Entry, File, Rejection, Status, format_decisions, parse_decisions
from elasticpypi.names import (
    DecisionsKey,
    FileKey,
    Kind,
    NormalizedName,
    ParsedFilename,
    decisions_key,
    parse_filename,
    parse_key,
)
from elasticpypi.storage import Storage, StoredObject

# Raise it when other things are read out of objects than before: `sync` then reads all of them again.
_READING = 1
_ATTEMPTS = 100
_POLLING_SECONDS = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What somebody has already proven about the object with this fingerprint, so that nobody reads it again."""

    fingerprint: str
    sha256: str
    core_metadata: CoreMetadata | None


@dataclass(slots=True)
class SyncReport:
    """What `sync` found: keys, by what had to be done about them (or, with `check`, would have to be)."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # key -> why nothing could be done about it now
    unsettled: list[str] = field(default_factory=list)  # still being written, so not looked at yet
    unchanged: int = 0

    @property
    def drift(self) -> int:
        """The number of keys in which catalog and storage differed."""
        return len(self.added) + len(self.changed) + len(self.removed) + len(self.failed)


def reconcile(catalog: Catalog, storage: Storage, key: str, *, known: Known | None = None) -> Entry | None:
    """Make the catalog agree with the object under `key` as it is now; return the row, None for a key we ignore.

    May be called by anybody, in any order and any number of times: the row is written on condition that it is still
    the one that was read before looking at the object, so whoever writes last has looked last. That is why even a row
    that needs no change is written (its generation moves): it stops whoever looked earlier. Raise BusyError if others
    were quicker again and again, and whatever catalog or storage raise: an error while looking is never "gone".
    """
    named = parse_key(key)
    if named is None:
        return None
    for _ in range(_ATTEMPTS):
        before = catalog.entry(key)
        try:
            after, core_metadata = _look(storage, named, before, known)
            leaves = after.content is None and isinstance(before.content, File | Rejection)
            if leaves and before.project is not None:
                _keep_ours(catalog, storage, before.project, key)
            catalog.put(before, after, core_metadata=core_metadata)
        except (ConflictError, BusyError, ObjectMissingError):
            continue
        if leaves and before.project is not None:
            # Once more: two last files may go at the same time, neither seeing that the other does.
            _keep_ours(catalog, storage, before.project, key)
        return after
    raise BusyError(key)


def _look(
    storage: Storage, named: FileKey | DecisionsKey, before: Entry, known: Known | None
) -> tuple[Entry, bytes | None]:
    """Return the row that the object deserves now, and its core metadata."""
    try:
        obj = storage.stat(named.key)
    except ObjectMissingError:
        return replace(before, project=before.project or _project(named), fingerprint="", content=None), None
    if before.content is not None and before.fingerprint == _seen(obj):
        return before, None
    try:
        content, core_metadata = _read(storage, obj, named, before, known)
        fingerprint = _seen(obj)
    except UnreadableObjectError as error:
        if isinstance(before.content, File | Decisions):
            raise  # what is known stays known
        content, core_metadata = _unreadable(named, error.reason), None
        fingerprint = ""  # whoever comes next tries again
    return Entry(named.key, _project(named), before.generation, fingerprint, content), core_metadata


def _seen(obj: StoredObject) -> str:
    return f"{_READING}:{obj.fingerprint}"


def object_fingerprint(seen: str) -> str:
    """Return the storage's fingerprint out of that of an entry, which also says how the object was read."""
    return seen.partition(":")[2]


def _project(named: FileKey | DecisionsKey) -> NormalizedName | None:
    if isinstance(named, DecisionsKey):
        return named.project
    try:
        return parse_filename(named.filename).project
    except InvalidFilenameError:
        return None


def _read(
    storage: Storage, obj: StoredObject, named: FileKey | DecisionsKey, before: Entry, known: Known | None
) -> tuple[File | Rejection | Decisions, bytes | None]:
    if isinstance(named, DecisionsKey):
        return _read_decisions(storage, obj, before), None
    try:
        parsed = parse_filename(named.filename)
        if known is None or known.fingerprint != obj.fingerprint:
            known = _prove(storage, obj, parsed)
    except InvalidFilenameError as error:
        return Rejection(named.filename, error.reason), None
    except ArchiveError as error:
        _log.warning("rejected %s: %s", named.key, error.reason)
        return Rejection(named.filename, error.reason), None
    return _file(storage, obj, parsed, known)


def _prove(storage: Storage, obj: StoredObject, parsed: ParsedFilename) -> Known:
    with storage.open(obj) as stream:
        core_metadata = read_core_metadata(stream, parsed)
        if obj.sha256 is not None:
            return Known(obj.fingerprint, obj.sha256, core_metadata)
        return Known(obj.fingerprint, hex_digest(stream, "sha256"), core_metadata)


def _file(storage: Storage, obj: StoredObject, parsed: ParsedFilename, known: Known) -> tuple[File, bytes | None]:
    # Only a wheel's METADATA is sure to be what an installer will find; what building an sdist gives is not (PEP 643).
    metadata = known.core_metadata
    raw = metadata.raw if metadata is not None and parsed.kind is Kind.WHEEL else None
    file = File(
        filename=parsed.filename,
        version=str(parsed.version),
        kind=parsed.kind,
        size=obj.size,
        sha256=known.sha256,
        upload_time=storage.upload_time(obj, known.sha256),
        requires_python=None if metadata is None else metadata.requires_python,
        core_metadata_sha256=None if raw is None else hashlib.sha256(raw).hexdigest(),
    )
    return file, raw


def _read_decisions(storage: Storage, obj: StoredObject, before: Entry) -> Decisions:
    """Read a `project.json`; one that cannot be read leaves the last good decisions, or quarantines without any."""
    document = storage.read_document(obj.key)
    if document.fingerprint != obj.fingerprint:
        raise BusyError(obj.key)
    try:
        return parse_decisions(document.data)
    except ValueError as error:
        _log.warning("%s cannot be read: %s", obj.key, error)
        if isinstance(before.content, Decisions):
            return replace(before.content, problem=str(error))
        return _quarantined(str(error))


def _unreadable(named: FileKey | DecisionsKey, reason: str) -> Rejection | Decisions:
    return Rejection(named.filename, reason) if isinstance(named, FileKey) else _quarantined(reason)


def _quarantined(problem: str) -> Decisions:
    return Decisions(Status.QUARANTINED, "its project.json cannot be read", problem=problem)


def _keep_ours(catalog: Catalog, storage: Storage, project: NormalizedName, leaving: str) -> None:
    """Write a `project.json` when a project's last file goes, so that the name stays ours when the catalog is lost."""
    if catalog.has_files(project, besides=leaving):
        return
    key = decisions_key(project)
    with suppress(ConflictError, ObjectMissingError):  # somebody else has just done so, or has just undone it
        storage.write_document(key, format_decisions(Decisions()), replacing=None)
    reconcile(catalog, storage, key)


def sync(
    catalog: Catalog, storage: Storage, *, prefix: str = "", check: bool = False, patience_seconds: float = 0
) -> SyncReport:
    """Make the catalog equal to the storage below a prefix; with `check` only report in what they differ.

    Lists both sides in order, in constant memory, and hands the keys that differ to `reconcile`. Files that somebody is
    still writing are waited for as long as the patience lasts, then left as `unsettled`: what has never been whole is
    not missing.
    """
    identity = catalog.identity()
    report = SyncReport()
    for row, obj in _side_by_side(catalog, storage, prefix):
        _bring_together(catalog, storage, row, obj, check=check, report=report)
    if not check:
        _wait_for_unsettled(catalog, storage, report, time.monotonic() + patience_seconds)
        if not (prefix or report.failed):
            catalog.mark_complete(identity)
    return report


def _wait_for_unsettled(catalog: Catalog, storage: Storage, report: SyncReport, until: float) -> None:
    while report.unsettled and time.monotonic() < until:
        time.sleep(_POLLING_SECONDS)
        waiting, report.unsettled = report.unsettled, []
        for key in waiting:
            row, obj = _both_sides(catalog, storage, key)
            _bring_together(catalog, storage, row, obj, check=False, report=report)


def _both_sides(catalog: Catalog, storage: Storage, key: str) -> tuple[KnownKey | None, StoredObject | None]:
    entry = catalog.entry(key)
    row = None if entry.content is None else KnownKey(key, entry.fingerprint)
    try:
        return row, storage.stat(key)
    except ObjectMissingError:
        return row, None


def reconcile_settled(catalog: Catalog, storage: Storage, key: str) -> bool:
    """Do as `reconcile` if nobody is writing the object any more, and tell whether that was so."""
    try:
        if not storage.is_settled(storage.stat(key)):
            return False
    except ObjectMissingError:
        pass  # and nobody is
    reconcile(catalog, storage, key)
    return True


def _side_by_side(
    catalog: Catalog, storage: Storage, prefix: str
) -> Iterator[tuple[KnownKey | None, StoredObject | None]]:
    """Yield what the two sides have under each key that either has."""
    rows: Iterator[KnownKey | StoredObject] = catalog.known_keys(prefix)
    objects = (obj for obj in storage.list(prefix) if parse_key(obj.key) is not None)
    ordered = heapq.merge(rows, objects, key=_order)
    for _, found in itertools.groupby(ordered, key=_order):
        sides = list(found)
        yield (
            next((side for side in sides if isinstance(side, KnownKey)), None),
            next((side for side in sides if isinstance(side, StoredObject)), None),
        )


def _order(item: KnownKey | StoredObject) -> bytes:
    return item.key.encode()


def _bring_together(
    catalog: Catalog,
    storage: Storage,
    row: KnownKey | None,
    obj: StoredObject | None,
    *,
    check: bool,
    report: SyncReport,
) -> None:
    """Do what one key needs, and put it down in the report."""
    if row is not None and obj is not None and row.fingerprint == _seen(obj):
        report.unchanged += 1
    elif obj is not None and not storage.is_settled(obj):
        report.unsettled.append(obj.key)
    else:
        _repair(catalog, storage, row, obj, check=check, report=report)


def _repair(
    catalog: Catalog,
    storage: Storage,
    row: KnownKey | None,
    obj: StoredObject | None,
    *,
    check: bool,
    report: SyncReport,
) -> None:
    if row is None and obj is not None:
        key, done = obj.key, report.added
    elif row is not None:
        key, done = row.key, report.removed if obj is None else report.changed
    else:
        return
    try:
        if not check:
            reconcile(catalog, storage, key)
        elif _agree(catalog, storage, key):
            report.unchanged += 1
            return
        done.append(key)
    except (BusyError, UnreadableObjectError) as error:
        report.failed[key] = str(error)


def _agree(catalog: Catalog, storage: Storage, key: str) -> bool:
    """Whether row and object agree by now: while two lists are read, things go on."""
    entry = catalog.entry(key)
    try:
        return entry.content is not None and entry.fingerprint == _seen(storage.stat(key))
    except ObjectMissingError:
        return entry.content is None
