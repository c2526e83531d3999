"""Storage -> catalog, for one key: `reconcile`."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from elasticpypi.catalog import Catalog
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
    project_of,
)
from elasticpypi.storage import Storage, StoredObject

# Raise it when other things are read out of objects than before: `sync` then reads all of them again.
_READING = 2
_ATTEMPTS = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What somebody has already proven about the object with this fingerprint, so that nobody reads it again."""

    fingerprint: str
    sha256: str
    core_metadata: CoreMetadata | None


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
        return replace(before, project=before.project or project_of(named), fingerprint="", content=None), None
    if before.content is not None and before.fingerprint == seen_fingerprint(obj):
        return before, None
    try:
        content, core_metadata = _read(storage, obj, named, before, known)
        fingerprint = seen_fingerprint(obj)
    except UnreadableObjectError as error:
        if isinstance(before.content, File | Decisions):
            raise  # what is known stays known
        content, core_metadata = _unreadable(named, error.reason), None
        fingerprint = ""  # whoever comes next tries again
    return Entry(named.key, project_of(named), before.generation, fingerprint, content), core_metadata


def seen_fingerprint(obj: StoredObject) -> str:
    """Return the fingerprint of an entry that was read from this object, by the present way of reading."""
    return f"{_READING}:{obj.fingerprint}"


def object_fingerprint(seen: str) -> str:
    """Return the storage's fingerprint out of that of an entry, which also says how the object was read."""
    return seen.partition(":")[2]


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
    metadata = known.core_metadata
    raw = None if metadata is None else metadata.raw
    # Only a wheel's METADATA is sure to be what an installer will find; what building an sdist gives is not (PEP 643).
    announced = raw if parsed.kind is Kind.WHEEL else None
    file = File(
        filename=parsed.filename,
        version=str(parsed.version),
        kind=parsed.kind,
        size=obj.size,
        sha256=known.sha256,
        upload_time=storage.upload_time(obj, known.sha256),
        requires_python=None if metadata is None else metadata.requires_python,
        core_metadata_sha256=None if announced is None else hashlib.sha256(announced).hexdigest(),
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


def reconcile_settled(catalog: Catalog, storage: Storage, key: str) -> bool:
    """Do as `reconcile` if nobody is writing the object any more, and tell whether that was so."""
    try:
        if not storage.is_settled(storage.stat(key)):
            return False
    except ObjectMissingError:
        pass  # and nobody is
    reconcile(catalog, storage, key)
    return True
