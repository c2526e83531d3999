"""Puts back what a backup holds."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, BinaryIO

from elasticpypi.backup import DIGEST, END, FORMAT, kept_sha256, prove_file
from elasticpypi.catalog import Catalog
from elasticpypi.errors import BackupError, BusyError, ConflictError, ObjectMissingError, UnreadableObjectError
from elasticpypi.indexer import reconcile
from elasticpypi.model import Decisions, parse_decisions
from elasticpypi.names import RESERVED_PREFIX, DecisionsKey, FileKey, parse_key
from elasticpypi.storage import Document, Storage

_CHUNK_BYTES = 1024 * 1024
_DOCUMENT_BYTES = 16 * 2**20
_ATTEMPTS = 20
# Of what `Storage.notes` yields: when bytes were first seen, where they came from, who publishes from where, and which
# files of upstreams are kept.
_is_note = re.compile(
    re.escape(RESERVED_PREFIX)
    + r"(first-seen/[0-9a-f]{2}/[0-9a-f]{62}|origins/[a-z0-9-]+|publishers|upstream/[a-z0-9-]+/kept)\.json"
).fullmatch
# Of a file that was kept: its core metadata, with the sha256 of that, and what its provenance ends in.
_read_core_metadata_key = re.compile(
    re.escape(RESERVED_PREFIX) + r"upstream/[a-z0-9-]+/[0-9a-f]{64}/([0-9a-f]{64})\.metadata"
).fullmatch
_PROVENANCE = ".provenance"
_NOTHING_OF_OURS = "it is nothing that an index has"
_DAMAGED = "its bytes in the backup are damaged; take it from another backup"
_OTHER_PUBLISHERS = (
    "other trusted publishers are registered already, or were removed, and were left; "
    "register those of the backup with `elasticpypi publisher add`"
)
_OTHER_FILE = "other bytes lie there already, and were left; move them away and restore again"
_OTHER_DECISIONS = (
    "another project.json lies there already, and was left; compare it with that of the backup and edit it by hand"
)


@dataclass(slots=True)
class RestoreReport:
    """What a restore has done."""

    restored: int = 0  # files, notes and decisions
    present: int = 0  # were there already with the same content
    problems: dict[str, str] = field(default_factory=dict)  # key -> why it was not restored


def restore_backup(catalog: Catalog, storage: Storage, stream: BinaryIO) -> RestoreReport:
    """Put back what a backup holds, each thing indexed as it comes; what lies there already stays.

    Raise BackupError where this is no backup, or where it ends too early: what came before is restored then.
    """
    restorer = _Restorer(catalog, storage)
    members = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or it would remember all of them
                content = archive.extractfile(member)
                if content is None or not member.pax_headers.get("comment", "").startswith(DIGEST):
                    raise BackupError(f"it is not one that `elasticpypi backup` has written ({member.name!r})")
                if member.name == END:
                    _check_end(content.read(_CHUNK_BYTES), members)
                    return restorer.report
                restorer.restore(member, content)
                members += 1
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"it cannot be read to its end: {error}") from error
    raise BackupError(f"it ends too early; the {members} members before are restored: restore a whole copy, too")


def _check_end(data: bytes, members: int) -> None:
    try:
        end = json.loads(data)
        complete = end["format"] == FORMAT and end["members"] == members
    except (ValueError, TypeError, KeyError, RecursionError):
        complete = False
    if not complete:
        raise BackupError(f"its end does not fit the {members} members before it")


class _Restorer:
    """Puts the members of a backup back, one after another."""

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self.report = RestoreReport()
        self._catalog = catalog
        self._storage = storage
        self._written: dict[str, str] = {}  # keys of decisions -> sha256 of what this restore wrote there

    def restore(self, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        key, sha256 = member.name, member.pax_headers["comment"].removeprefix(DIGEST)
        printable = key.encode(errors="backslashreplace").decode()
        self.report.problems.pop(printable, None)  # of an earlier member with this name
        try:
            if printable != key:
                raise _NotRestoredError(_NOTHING_OF_OURS)
            if isinstance(parse_key(key), FileKey):
                restored = self._restore_file(key, sha256, content)
            elif kept_sha256(key) is not None:
                restored = self._restore_kept(key, sha256, content)
            else:
                restored = self._restore_document(key, _read_document(key, sha256, member.size, content))
        except (_NotRestoredError, BusyError, ObjectMissingError, UnreadableObjectError) as error:
            self.report.problems[printable] = str(error)
            return
        self.report.restored += restored
        self.report.present += not restored

    def _restore_file(self, key: str, sha256: str, content: IO[bytes]) -> bool:
        try:
            present = prove_file(self._catalog, self._storage, key)[1]
        except ObjectMissingError:
            present = None
        if present == sha256:
            return False
        if present is not None:
            raise _NotRestoredError(_OTHER_FILE)
        try:
            self._write(key, sha256, content)
        except ConflictError as error:
            raise _NotRestoredError(_OTHER_FILE) from error
        reconcile(self._catalog, self._storage, key)
        return True

    def _restore_kept(self, key: str, sha256: str, content: IO[bytes]) -> bool:
        """Put back a file that was kept from an upstream: what lies under its key has the same bytes, as that says."""
        if kept_sha256(key) != sha256:
            raise _NotRestoredError(_DAMAGED)
        try:
            self._storage.stat(key)
        except ObjectMissingError:
            with suppress(ConflictError):
                self._write(key, sha256, content)
                return True
        return False

    def _write(self, key: str, sha256: str, content: IO[bytes]) -> None:
        with self._storage.receive() as incoming:
            digest = hashlib.sha256()
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
                incoming.write(chunk)
            if digest.hexdigest() != sha256:
                raise _NotRestoredError(_DAMAGED)
            incoming.publish(key)

    def _restore_document(self, key: str, data: bytes) -> bool:
        change = partial(self._decide, key) if isinstance(parse_key(key), DecisionsKey) else _change_of(key)
        for _ in range(_ATTEMPTS):
            try:
                present: Document | None = self._storage.read_document(key)
            except ObjectMissingError:
                present = None
            wanted = data if present is None else change(data, present.data)
            if present is not None and wanted == present.data:
                return False
            with suppress(ConflictError, BusyError):
                fingerprint = None if present is None else present.fingerprint
                self._storage.write_document(key, wanted, replacing=fingerprint)
                self._written[key] = hashlib.sha256(wanted).hexdigest()
                reconcile(self._catalog, self._storage, key)
                return True
        raise BusyError(key)

    def _decide(self, key: str, data: bytes, present: bytes) -> bytes:
        """Return which of two decisions holds: what people have decided here is not replaced."""
        if present != data and self._written.get(key) != hashlib.sha256(present).hexdigest() and _decides(present):
            raise _NotRestoredError(_OTHER_DECISIONS)
        return data


class _NotRestoredError(Exception):
    """Why one member was not restored."""


def _read_document(key: str, sha256: str, size: int, content: IO[bytes]) -> bytes:
    if not (_is_note(key) or _lies_beside(key) or isinstance(parse_key(key), DecisionsKey)):
        raise _NotRestoredError(_NOTHING_OF_OURS)
    data = content.read(min(size, _DOCUMENT_BYTES))
    core_metadata = _read_core_metadata_key(key)
    if size > _DOCUMENT_BYTES or hashlib.sha256(data).hexdigest() != sha256:
        raise _NotRestoredError(_DAMAGED)
    if core_metadata is not None and core_metadata[1] != sha256:
        raise _NotRestoredError(_DAMAGED)
    with suppress(ValueError):  # a damaged document is restored as it was
        try:
            json.loads(data)
        except RecursionError as error:
            raise _NotRestoredError("it is nested too deeply to be read") from error
    return data


def _lies_beside(key: str) -> bool:
    """Whether a key is that of core metadata or provenance of a file that was kept from an upstream."""
    if key.endswith(_PROVENANCE):
        return kept_sha256(key.removesuffix(_PROVENANCE)) is not None
    return _read_core_metadata_key(key) is not None


def _change_of(key: str) -> Callable[[bytes, bytes], bytes]:
    """Return what makes of a note in a backup and the one that is here the one that stays."""
    if _lies_beside(key):
        return _keep_present
    return _merge_kept if key.endswith("/kept.json") else _CHANGES.get(key, _merge)


def _decides(data: bytes) -> bool:
    """Whether a `project.json` says anything; one that says nothing is written where a project's last file went."""
    try:
        return parse_decisions(data) != Decisions()
    except (ValueError, RecursionError):
        return True


def _merge(data: bytes, present: bytes) -> bytes:
    """Return a note with what the backup says besides; what is noted here stays."""
    try:
        ours, theirs = json.loads(present), json.loads(data)
        missing = {name: value for name, value in theirs.items() if name not in ours}
        return json.dumps(ours | missing).encode() if missing else present
    except (ValueError, TypeError, AttributeError, RecursionError):
        return _keep_present(data, present)


def _merge_kept(data: bytes, present: bytes) -> bytes:
    """Return what is kept of a project, likewise; what either says to be quarantined is, until upstream says more."""
    try:
        ours, theirs = json.loads(present), json.loads(data)
        files = {**theirs["files"], **ours["files"]}
        quarantined_by = sorted({*ours["quarantined-by"], *theirs["quarantined-by"]})
        merged = {**ours, "files": files, "quarantined-by": quarantined_by}
        return present if merged == ours else json.dumps(merged).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _keep_present(data, present)


def _keep_present(data: bytes, present: bytes) -> bytes:
    if present != data:
        raise _NotRestoredError("another note lies there already, and was left")
    return present


def _keep_publishers(data: bytes, present: bytes) -> bytes:
    """Return the publishers as they are here: who may publish is not changed by putting files back."""
    try:
        ours, theirs = json.loads(present)["publishers"], json.loads(data)["publishers"]
        has_all = ours == {**ours, **theirs}
    except (ValueError, KeyError, TypeError, RecursionError):
        has_all = present == data
    if not has_all:
        raise _NotRestoredError(_OTHER_PUBLISHERS)
    return present


_CHANGES = {RESERVED_PREFIX + "publishers.json": _keep_publishers}
