"""Writes a backup."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, BinaryIO, TypeVar, cast

from elasticpypi.backup import DIGEST, END, FORMAT, kept_sha256, prove_file
from elasticpypi.catalog import Catalog
from elasticpypi.errors import BusyError, InvalidFilenameError, ObjectMissingError, UnreadableObjectError
from elasticpypi.model import format_decisions, parse_decisions
from elasticpypi.names import DecisionsKey, FileKey, NormalizedName, decisions_key, parse_filename, parse_key
from elasticpypi.storage import Document, Storage, StoredObject

_T = TypeVar("_T")
_POLLING_SECONDS = 0.1


@dataclass(slots=True)
class BackupReport:
    """What a backup holds."""

    files: int = 0
    size: int = 0  # bytes of all files together
    left_out: dict[str, str] = field(default_factory=dict)  # key -> why


def write_backup(catalog: Catalog, storage: Storage, stream: BinaryIO, *, patience_seconds: float) -> BackupReport:
    """Write everything that was there when this began.

    What comes meanwhile is left out, what goes meanwhile too. A file that somebody is still writing, and that nobody
    has indexed, is waited for as long as the patience lasts. In memory lie only the keys of files that went meanwhile;
    the list of all of them is a temporary file.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as listed,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        writer = _Writer(catalog, storage, archive, patience_seconds)
        writer.list_keys(listed)
        for key, _ in _read_list(listed, DecisionsKey):
            writer.add_document(key)
        for key in storage.notes():
            writer.add_note(key)
        gone = [key for key, sha256 in _read_list(listed, FileKey) if not writer.add_file(key, sha256)]
        writer.add_amended_decisions(listed, set(gone))
        writer.add_end()
        return writer.report


def _read_list(listed: IO[str], kind: type[FileKey | DecisionsKey]) -> Iterator[tuple[str, str]]:
    """Yield the keys of one kind that were listed, each with its sha256 ("" for decisions)."""
    listed.seek(0)
    for line in listed:
        key, sha256 = json.loads(line)
        if isinstance(parse_key(key), kind):
            yield key, sha256


class _Writer:
    """Puts an index into a tar, member by member."""

    def __init__(self, catalog: Catalog, storage: Storage, archive: tarfile.TarFile, patience_seconds: float) -> None:
        self.report = BackupReport()
        self._catalog = catalog
        self._storage = storage
        self._archive = archive
        self._patience_seconds = patience_seconds
        self._now = datetime.now(UTC)
        self._members = 0

    def list_keys(self, listed: IO[str]) -> None:
        """Put down what there is, and make sure that each file's upload time is noted before the notes are read."""
        for obj in self._storage.list():
            match parse_key(obj.key):
                case DecisionsKey():
                    listed.write(json.dumps([obj.key, ""]) + "\n")
                case FileKey():
                    proven = self._noting(obj.key, self._prove)
                    if proven is not None:
                        self._storage.upload_time(*proven)
                        listed.write(json.dumps([obj.key, proven[1]]) + "\n")

    def add_document(self, key: str) -> None:
        """Add a `project.json` or a note as it is now, if it still is."""
        document = self._noting(key, self._storage.read_document)
        if document is not None:
            self._add_bytes(key, document.data)

    def add_note(self, key: str) -> None:
        """Add something of what lies below `.elasticpypi/`, which may be a file that was kept from an upstream."""
        sha256 = kept_sha256(key)
        if sha256 is None:
            self.add_document(key)
        else:
            self._noting(key, lambda key: self._add_object(self._storage.stat(key), sha256, self._now))

    def add_file(self, key: str, listed_sha256: str) -> bool:
        """Add a file as it is now; tell whether it still is."""
        try:
            self._patiently(key, lambda key: self._try_to_add(key, listed_sha256))
        except ObjectMissingError:
            return False
        except (BusyError, UnreadableObjectError) as error:
            self.report.left_out[key] = str(error)
        return True

    def add_amended_decisions(self, listed: IO[str], gone: set[str]) -> None:
        """Add the decisions on projects of which files went meanwhile: they remember the bytes that the names had.

        A file that went after it was added is not among the deleted: the backup has it as it was before.
        """
        projects = {_project(key) for key in gone} - {None}
        kept: dict[NormalizedName | None, set[str]] = defaultdict(set)
        for key, _ in _read_list(listed, FileKey) if projects else ():
            if key not in gone and _project(key) in projects:
                kept[_project(key)].add(_filename(key))
        for project in sorted(name for name in projects if name is not None):
            key = decisions_key(project)
            document = self._noting(key, self._storage.read_document)
            if document is not None:
                self._add_bytes(key, _without_deletions(document, kept[project]))

    def add_end(self) -> None:
        """Add what shows that nothing is missing."""
        self._add_bytes(END, json.dumps({"format": FORMAT, "members": self._members}).encode() + b"\n")

    def _try_to_add(self, key: str, listed_sha256: str) -> None:
        obj, sha256 = self._prove(key)
        uploaded = self._storage.upload_time(obj, sha256)
        if sha256 != listed_sha256:  # replaced, perhaps after the notes were read
            for note in self._storage.notes(key):
                self.add_document(note)
        self._add_object(obj, sha256, uploaded)

    def _add_object(self, obj: StoredObject, sha256: str, modified: datetime) -> None:
        with suppress(BusyError), self._storage.open(obj) as stream:
            reading = _Reading(stream, obj.size)
            self._add(obj.key, obj.size, sha256, cast(IO[bytes], reading), modified)
        if reading.sha256 != sha256:
            if self._storage.stat(obj.key) != obj:
                raise BusyError(obj.key)
            raise UnreadableObjectError(obj.key, "its bytes are no longer those that came, though nobody wrote it")
        self.report.files += 1
        self.report.size += obj.size

    def _prove(self, key: str) -> tuple[StoredObject, str]:
        """Return a file as it is now and its sha256; BusyError while somebody is writing it."""
        return prove_file(self._catalog, self._storage, key)

    def _noting(self, key: str, read: Callable[[str], _T]) -> _T | None:
        """Return what can be read under a key; None where it has gone, or is left out and put down as such."""
        try:
            return self._patiently(key, read)
        except ObjectMissingError:
            return None
        except (BusyError, UnreadableObjectError) as error:
            self.report.left_out[key] = str(error)
            return None

    def _patiently(self, key: str, read: Callable[[str], _T]) -> _T:
        """Read again as long as somebody writes what is read."""
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                return read(key)
            except BusyError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLLING_SECONDS)

    def _add_bytes(self, key: str, data: bytes) -> None:
        self._add(key, len(data), hashlib.sha256(data).hexdigest(), io.BytesIO(data), self._now)

    def _add(self, key: str, size: int, sha256: str, content: IO[bytes], modified: datetime) -> None:
        member = tarfile.TarInfo(key)
        member.size = size
        member.mtime = int(modified.timestamp())
        member.pax_headers = {"comment": DIGEST + sha256}
        self._archive.addfile(member, content)
        self._archive.getmembers().clear()  # or it would remember all of them
        self._members += 1


class _Reading(io.RawIOBase):
    """An object's bytes on their way into a tar, hashed as they pass; always as many as were promised."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        try:
            data = self._stream.read(wanted)
        except OSError:
            data = b""
        data = data.ljust(wanted, b"\0")  # cut short, which the digest tells: the next member begins where it must
        self._left -= len(data)
        self._hash.update(data)
        return data


def _without_deletions(document: Document, filenames: set[str]) -> bytes:
    """Return decisions without the memory that these files were deleted."""
    try:
        decisions = parse_decisions(document.data)
    except ValueError:
        return document.data
    deleted = {filename: sha256 for filename, sha256 in decisions.deleted.items() if filename not in filenames}
    return format_decisions(replace(decisions, deleted=deleted))


def _project(key: str) -> NormalizedName | None:
    try:
        return parse_filename(_filename(key)).project
    except InvalidFilenameError:
        return None


def _filename(key: str) -> str:
    return key.rpartition("/")[2]
