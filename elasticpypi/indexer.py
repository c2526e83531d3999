"""Storage -> catalog, for one key (`reconcile`) or several together (`reconcile_all`)."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from elasticpypi.catalog import Catalog, Write
from elasticpypi.digests import hex_digest
from elasticpypi.errors import (
    ArchiveError,
    BusyError,
    ConflictError,
    InvalidFilenameError,
    ObjectMissingError,
    UnavailableError,
    UnreadableObjectError,
)
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

if TYPE_CHECKING:
    from elasticpypi.metadata import CoreMetadata

UNREAD = ""  # the fingerprint of a row whose object could not be read: that of no object
# Raise it when other things are read out of objects than before: `sync` then reads all of them again.
_READING = 2
_ATTEMPTS = 100
# Looking waits for the storage most of the time. More at once hold more: core metadata may have 16 MiB for each.
LOOKS_AT_ONCE = 4
_KEYS_TOGETHER = 32
_HELD_BYTES = 8 * 1024 * 1024  # of core metadata that waits to be written
# Who has read one object for so long without coming to its end is told that it takes too long here, not to try again.
_PATIENCE_SECONDS = 300.0
_LEAST_SECONDS = 5.0  # for an object that is begun at the deadline
_WAITING_SECONDS = 5.0  # of what was read for a row that others may write meanwhile, while large files are hashed
_AGAIN = (ConflictError, BusyError, ObjectMissingError)  # others were quicker
_T = TypeVar("_T")
_R = TypeVar("_R")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What somebody has already proven about the object with this fingerprint, so that nobody reads it again."""

    fingerprint: str
    sha256: str
    core_metadata: CoreMetadata | None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A key whose row agrees with its object: the row that was there, and the one that is (but for its generation)."""

    before: Entry
    after: Entry

    @property
    def key(self) -> str:
        """The key."""
        return self.after.key


@dataclass(frozen=True, slots=True)
class Failed:
    """A key about which nothing could be done now."""

    key: str
    error: Exception


def reconcile(catalog: Catalog, storage: Storage, key: str, *, known: Known | None = None) -> Entry | None:
    """Make the catalog agree with the object under `key` as it is now; return the row, None for a key we ignore.

    May be called by anybody, in any order and any number of times: the row is written on condition that it is still
    the one that was read before looking at the object, so whoever writes last has looked last. That is why even a row
    that needs no change is written (its generation moves): it stops whoever looked earlier. Raise BusyError if others
    were quicker again and again, and whatever catalog or storage raise: an error while looking is never "gone".
    """
    for outcome in reconcile_all(catalog, storage, [key], known=known):
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.after
    return None


def reconcile_all(
    catalog: Catalog,
    storage: Storage,
    keys: Iterable[str],
    *,
    known: Known | None = None,
    looks_at_once: int = LOOKS_AT_ONCE,
    deadline: float = math.inf,
) -> Iterator[Reconciled | Failed]:
    """Do as `reconcile` for several keys, each once; yield what has come of them, but of those that we ignore.

    Rows are read together, some objects are looked at at the same time, and the rows of one project are written
    together; only keys that met a conflict begin again. A key that fails leaves the others alone. The work is done as
    the outcomes are asked for, a bounded number of keys at a time and in bounded memory. Once `time.monotonic()` has
    come to the deadline no more are begun, but for the first ones, and what is still being read fails: what was not
    yielded then is still to be done.
    """
    # A dictionary, so that each is there once; sorted, so that those of one project come together.
    names = {key: named for key in keys if (named := parse_key(key)) is not None}
    ordered = sorted(names, key=lambda key: project_of(names[key]) or "")
    with _Together(catalog, storage, known, min(looks_at_once, len(ordered)), deadline) as work:
        for first in range(0, len(ordered), _KEYS_TOGETHER):
            if first and time.monotonic() >= deadline:
                return
            yield from work.reconcile({key: names[key] for key in ordered[first : first + _KEYS_TOGETHER]})


class _Together:
    """Reconciles keys together."""

    def __init__(
        self, catalog: Catalog, storage: Storage, known: Known | None, looks_at_once: int, deadline: float
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._known = known
        self._at_once = max(looks_at_once, 1)
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(looks_at_once) if looks_at_once > 1 else None

    def __enter__(self) -> _Together:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def reconcile(self, names: Mapping[str, FileKey | DecisionsKey]) -> Iterator[Reconciled | Failed]:
        """Yield what has come of each key; begin again with those to which others were quicker."""
        for _ in range(_ATTEMPTS):
            outcomes = self._try(names)
            for key, outcome in outcomes.items():
                if isinstance(outcome, Reconciled):
                    yield outcome
                elif not isinstance(outcome, _AGAIN):
                    yield Failed(key, outcome)
            names = {key: names[key] for key, outcome in outcomes.items() if isinstance(outcome, _AGAIN)}
            if not names:
                return
        yield from (Failed(key, BusyError(key)) for key in names)

    def _try(self, names: Mapping[str, FileKey | DecisionsKey]) -> Mapping[str, Reconciled | Exception]:
        """Return what has come of each key that there was time for."""
        try:
            rows = _read_rows(self._catalog, list(names))
        except UnavailableError as error:
            return dict.fromkeys(names, error)
        outcomes: dict[str, Reconciled | Exception] = {}
        writes: list[Write] = []
        waiting_since = time.monotonic()
        for first in range(0, len(rows), self._at_once):
            if first and time.monotonic() >= self._deadline:
                break
            some = rows[first : first + self._at_once]
            for row, seen in zip(some, self._map(partial(self._look, names), some), strict=True):
                if isinstance(seen, Write):
                    writes.append(seen)
                else:
                    outcomes[row.key] = seen
            held = sum(len(write.core_metadata or b"") for write in writes)
            if held > _HELD_BYTES or time.monotonic() - waiting_since > _WAITING_SECONDS:
                outcomes |= self._write(writes)
                writes, waiting_since = [], time.monotonic()
        return outcomes | self._write(writes)

    def _look(self, names: Mapping[str, FileKey | DecisionsKey], before: Entry) -> Write | Exception:
        try:
            return Write(before, *_look(self._storage, names[before.key], before, self._known, self._deadline))
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one object, the others are not to wait for it)
            return error

    def _write(self, writes: Sequence[Write]) -> dict[str, Reconciled | Exception]:
        """Write the rows of each project together."""
        projects: dict[tuple[str | None, str], list[Write]] = {}
        for write in writes:
            alone = "" if write.after.project else write.after.key
            projects.setdefault((write.after.project, alone), []).append(write)
        outcomes: dict[str, Reconciled | Exception] = {}
        for written in self._map(self._write_project, list(projects.values())):
            outcomes |= written
        return outcomes

    def _write_project(self, writes: Sequence[Write]) -> Mapping[str, Reconciled | Exception]:
        try:
            conflicts = {write.after.key for write in _put_and_keep_ours(self._catalog, self._storage, writes)}
        except Exception as error:  # noqa: BLE001 (as above, of projects)
            return {write.after.key: error for write in writes}
        return {
            write.after.key: ConflictError(write.after.key)
            if write.after.key in conflicts
            else Reconciled(write.before, write.after)
            for write in writes
        }

    def _map(self, function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
        return map(function, items) if self._threads is None or len(items) == 1 else self._threads.map(function, items)


def _read_rows(catalog: Catalog, keys: Sequence[str]) -> Sequence[Entry]:
    return [catalog.entry(keys[0])] if len(keys) == 1 else catalog.entries(keys)


def _put(catalog: Catalog, writes: Sequence[Write]) -> Sequence[Write]:
    """Write rows of one project; return those that met a conflict."""
    if len(writes) != 1:
        return catalog.put_all(writes) if writes else []
    try:
        catalog.put(writes[0].before, writes[0].after, core_metadata=writes[0].core_metadata)
    except ConflictError:
        return writes
    return []


def _put_and_keep_ours(catalog: Catalog, storage: Storage, writes: Sequence[Write]) -> Sequence[Write]:
    """Write rows of one project, and see to it that its name stays ours; return the writes that met a conflict."""
    leaving = [write for write in writes if _leaves(write)]
    if not leaving:
        return _put(catalog, writes)
    last, project = leaving[-1], leaving[-1].after.project
    # The last one goes by itself: only then can it be told whether the project has another file.
    conflicts = [*_put(catalog, [write for write in writes if write is not last])]
    if project is None:
        return [*conflicts, *_put(catalog, [last])]
    try:
        _keep_ours(catalog, storage, project, last.after.key)
    except _AGAIN:
        return [*conflicts, last]
    if _put(catalog, [last]):
        return [*conflicts, last]
    # Once more: two last files may go at the same time, neither seeing that the other does.
    _keep_ours(catalog, storage, project, last.after.key)
    return conflicts


def _leaves(write: Write) -> bool:
    return write.after.content is None and isinstance(write.before.content, File | Rejection)


def _look(
    storage: Storage, named: FileKey | DecisionsKey, before: Entry, known: Known | None, deadline: float
) -> tuple[Entry, bytes | None]:
    """Return the row that the object deserves now, and its core metadata."""
    try:
        obj = storage.stat(named.key)
    except ObjectMissingError:
        return replace(before, project=before.project or project_of(named), fingerprint="", content=None), None
    except UnreadableObjectError as error:
        return _look_in_vain(named, before, error), None
    if before.content is not None and before.fingerprint == seen_fingerprint(obj):
        return before, None
    try:
        content, core_metadata = _read(storage, obj, named, before, known, deadline)
    except UnreadableObjectError as error:
        return _look_in_vain(named, before, error), None
    return Entry(named.key, project_of(named), before.generation, seen_fingerprint(obj), content), core_metadata


def _look_in_vain(named: FileKey | DecisionsKey, before: Entry, error: UnreadableObjectError) -> Entry:
    """Return the row of an object that cannot be read; what is known stays known, and the error is raised again."""
    if before.fingerprint and isinstance(before.content, File | Decisions):
        raise error
    # Without a fingerprint: whoever comes next tries again.
    return Entry(named.key, project_of(named), before.generation, UNREAD, _unreadable(named, error.reason))


def seen_fingerprint(obj: StoredObject) -> str:
    """Return the fingerprint of an entry that was read from this object, by the present way of reading."""
    return f"{_READING}:{obj.fingerprint}"


def object_fingerprint(seen: str) -> str:
    """Return the storage's fingerprint out of that of an entry, which also says how the object was read."""
    return seen.partition(":")[2]


def _read(
    storage: Storage,
    obj: StoredObject,
    named: FileKey | DecisionsKey,
    before: Entry,
    known: Known | None,
    deadline: float,
) -> tuple[File | Rejection | Decisions, bytes | None]:
    if isinstance(named, DecisionsKey):
        return _read_decisions(storage, obj, before), None
    try:
        parsed = parse_filename(named.filename)
        if known is None or known.fingerprint != obj.fingerprint:
            known = _prove(storage, obj, parsed, deadline)
    except InvalidFilenameError as error:
        return Rejection(named.filename, error.reason), None
    except ArchiveError as error:
        _log.warning("rejected %s: %s", named.key, error.reason)
        return Rejection(named.filename, error.reason), None
    return _file(storage, obj, parsed, known)


def _prove(storage: Storage, obj: StoredObject, parsed: ParsedFilename, deadline: float) -> Known:
    # With it come the readers of archives, for which a function that only answers with pages should not wait.
    from elasticpypi.metadata import read_core_metadata

    with storage.open(obj) as opened:
        stream = opened if deadline == math.inf else cast(BinaryIO, _Hurried(opened, obj.key, deadline))
        core_metadata = read_core_metadata(stream, parsed)
        if obj.sha256 is not None:
            return Known(obj.fingerprint, obj.sha256, core_metadata)
        return Known(obj.fingerprint, hex_digest(stream, "sha256"), core_metadata)


class _Hurried:
    """An object that is read for no longer than there is time, lest one that is huge takes all others with it."""

    def __init__(self, stream: BinaryIO, key: str, deadline: float) -> None:
        self._stream = stream
        self._key = key
        self._began = time.monotonic()
        # Something is done even by whoever has no time at all.
        self._until = max(deadline, self._began + _LEAST_SECONDS)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        now = time.monotonic()
        if now < self._until:
            return self._stream.read(size)
        if now - self._began >= _PATIENCE_SECONDS:
            raise UnreadableObjectError(
                self._key,
                "it takes longer to read than a function may; run `elasticpypi sync` on a machine",
            )
        raise UnavailableError(f"{self._key} was not read to its end in time; the next run begins it again")


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
