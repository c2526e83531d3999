"""What one can do with an index: read its pages, get its files, add to it, keep it equal to its storage."""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO

from elasticpypi import decisions, indexer, legacy_json, origins, sync
from elasticpypi.backup.restoring import RestoreReport, restore_backup
from elasticpypi.backup.writing import BackupReport, write_backup
from elasticpypi.catalog import Catalog, Counts, KeptPage
from elasticpypi.catalog.sqlite import SQLITE_VERSION, SqliteCatalog
from elasticpypi.config import Settings
from elasticpypi.description import describe_project
from elasticpypi.digests import hex_digest
from elasticpypi.errors import (
    AlreadyExistsError,
    BusyError,
    CatalogError,
    ConfigError,
    ConflictError,
    ElasticpypiError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    ObjectMissingError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from elasticpypi.indexer import Known
from elasticpypi.model import (
    Decisions,
    Entry,
    File,
    Origin,
    ProjectSnapshot,
    Rejection,
    RootSnapshot,
    Status,
    served_entry,
)
from elasticpypi.names import NormalizedName, ParsedFilename, canonical_key, decisions_key
from elasticpypi.simple import RENDERER, Form, render_project, render_root
from elasticpypi.storage import Incoming, LocalFile, SignedURL, Slot, Storage, StoredObject
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.sync import SyncReport
from elasticpypi.uploads import Claim, Proof, claim_by_filename, prove, prove_alone

__all__ = [
    "SQLITE_VERSION",
    "Added",
    "BackupReport",
    "Claim",
    "Counts",
    "FoundFile",
    "Incoming",
    "Index",
    "LocalFile",
    "Page",
    "RestoreReport",
    "SignedURL",
    "Slot",
    "SyncReport",
    "claim_by_filename",
    "is_index",
    "open_index",
    "prove_alone",
]

_log = logging.getLogger(__name__)
_ATTEMPTS = 20
_POLLING_SECONDS = 0.1
_SETTLING_SECONDS = 10.0  # for files that are being copied into the directory while a backup is written
_GZIP_LEVEL = 6
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # 16: with a gzip header, which has no time in it
_MARKER = "storage-was-made"  # in the data directory


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page; equal tags mean equal bytes."""

    revision: int
    tag: str  # of the content, whatever its encoding
    body: bytes  # gzip-compressed


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be downloaded, and where it lies."""

    file: File
    key: str
    fingerprint: str  # of the object that `file` describes


class Added(Enum):
    """What an upload has come to."""

    CREATED = auto()
    UNCHANGED = auto()  # the same bytes were there already
    REPLACED = auto()


class Index:
    """An index over a catalog and a storage. Every method may raise UnavailableError."""

    def __init__(self, catalog: Catalog, storage: Storage, *, overwrite: bool = False) -> None:
        self._catalog = catalog
        self._storage = storage
        self.overwrite = overwrite

    def project_revision(self, name: NormalizedName) -> int:
        """Return the revision of a project's page with one small read; raise NotFoundError for an unknown project."""
        revision = self._catalog.revision(name)
        self._check_complete()
        if revision is None:
            raise _unknown_project(name)
        return revision

    def project_page(self, name: NormalizedName, form: Form, revision: int) -> Page:
        """Return a project's page, at least of the revision that was just read; it is rendered once a revision."""
        kept = self._kept_page(name, form, revision)
        if kept is not None:
            return kept
        project = self.snapshot(name)
        return self._keep_page(name, form, project.revision, render_project(project, form))

    def root_revision(self, form: Form) -> int:
        """Return the revision of the list of projects with one small read; as JSON it shows every project's serial."""
        revision = self._catalog.serials_revision() if form is Form.JSON else self._catalog.root_revision()
        self._check_complete()
        return revision

    def root_page(self, form: Form, revision: int) -> Page:
        """Return the complete list of projects, at least of the revision that was just read."""
        kept = self._kept_page(None, form, revision)
        if kept is not None:
            return kept
        root = self._catalog.root()
        self._check_complete()
        return self._keep_page(None, form, _revision_of(root, form), render_root(root, form))

    def filtered_root_page(self, form: Form, is_visible: Callable[[NormalizedName], bool]) -> Page:
        """Return the list of those projects that somebody may see; not kept."""
        root = self._catalog.root()
        self._check_complete()
        visible = replace(root, projects=tuple(project for project in root.projects if is_visible(project.name)))
        return _page(_revision_of(root, form), form, _compress(render_root(visible, form)))

    def legacy_json(self, name: NormalizedName, version: str | None, *, root: str) -> tuple[int, bytes]:
        """Return a project (version None) or a release for the legacy JSON API, and the revision it belongs to.

        `root` is the absolute URL of the index, with its slash. NotFoundError for what is unknown.
        """
        project = self.snapshot(name)
        body = legacy_json.render(project, version, core_metadata=self._catalog.core_metadata, root=root)
        return project.revision, body

    def find_file(self, name: NormalizedName, filename: str) -> FoundFile:
        """Return the file that is served under a name; NotFoundError, or ForbiddenError where it is quarantined."""
        entry = self._served_entry(name, filename)
        self._check_complete()
        if entry is None or not isinstance(entry.content, File):
            raise NotFoundError(f"the project {name!r} has no file {filename!r}")
        if self._decisions(name).status is Status.QUARANTINED:
            raise ForbiddenError(f"the project {name!r} is quarantined: its files cannot be downloaded for now")
        return FoundFile(entry.content, entry.key, entry.fingerprint)

    def open_file(self, found: FoundFile) -> AbstractContextManager[BinaryIO]:
        """Open a file's bytes for seeking and reading; BusyError where they are no longer those that are listed."""
        return self._storage.open(
            StoredObject(found.key, found.file.size, indexer.object_fingerprint(found.fingerprint))
        )

    def download(self, found: FoundFile) -> LocalFile | SignedURL:
        """Say how a client gets a file's bytes; BusyError where they are no longer those that are listed."""
        try:
            return self._storage.download(found.key, indexer.object_fingerprint(found.fingerprint))
        except ObjectMissingError as error:
            raise NotFoundError(f"the file {found.file.filename!r} is no longer in the storage") from error

    def core_metadata(self, found: FoundFile) -> bytes:
        """Return a file's core metadata byte for byte, as announced; NotFoundError where none is announced for it."""
        body = None if found.file.core_metadata_sha256 is None else self._catalog.core_metadata(found.key)
        if body is None:
            raise NotFoundError(f"there is no core metadata for {found.file.filename!r}")
        if hashlib.sha256(body).hexdigest() != found.file.core_metadata_sha256:
            raise BusyError(found.key)  # the file was replaced after it was found
        return body

    def receive(self) -> AbstractContextManager[Incoming]:
        """Begin an upload; what is not added before the context ends leaves no trace."""
        return self._storage.receive()

    def begin(self, token: str, *, size: int, sha256: str) -> Slot:
        """Begin an upload in parts, or go on with it; return what there is of it already, and where the rest goes.

        Raise StorageFullError where the rest has no room. `token` is as for `Storage.begin`.
        """
        slot = self._storage.begin(token, size=size, sha256=sha256)
        free = self._storage.free_bytes()
        if free is not None and free < size - slot.received:
            raise StorageFullError(
                f"the storage has room for {free} bytes, but {size - slot.received} are to come: make room"
            )
        return slot

    def received(self, token: str) -> int | None:
        """Return how many bytes of an upload in parts there are; None where it was not begun, or is over."""
        try:
            return self._storage.received(token)
        except ObjectMissingError:
            return None

    @contextmanager
    def resume(self, token: str) -> Iterator[Incoming]:
        """Go on with an upload in parts, for no longer than it takes to write one; NotFoundError where there is none.

        What is written stays. BusyError where somebody else is at it.
        """
        with ExitStack() as stack:
            try:
                incoming = stack.enter_context(self._storage.receive(resuming=token))
            except ObjectMissingError as error:
                raise NotFoundError("there is no such upload: it was finished or given up; begin it again") from error
            yield incoming

    def add_resumed(self, incoming: Incoming, claim: Claim) -> Added:
        """Do as `add` with what `resume` gave, and forget it, unless asking again may help."""
        try:
            added = self.add(incoming, claim, sha256=incoming.sha256 or hex_digest(incoming.stream, "sha256"))
        except UnavailableError:
            raise
        except ElasticpypiError:
            incoming.drop()
            raise
        incoming.drop()
        return added

    def has(self, parsed: ParsedFilename, sha256: str) -> bool:
        """Whether these bytes are there already under their name; else raise what `add` would without reading them."""
        self._check_may_change(parsed.project, parsed.filename, sha256)
        present = self._served_entry(parsed.project, parsed.filename)
        self._check_complete()
        seen = None if present is None else indexer.reconcile(self._catalog, self._storage, present.key)
        if seen is None or not isinstance(seen.content, File):
            return False
        if seen.content.sha256 != sha256 and not self.overwrite:
            raise AlreadyExistsError(parsed.filename)
        return seen.content.sha256 == sha256

    def add(self, incoming: Incoming, claim: Claim, *, sha256: str) -> Added:
        """Check what has come in, store it and index it, so that the next reader sees it.

        `sha256` is that of the bytes received. Raise InvalidUploadError, AlreadyExistsError, or ForbiddenError where
        the project is archived or quarantined.
        """
        self._check_complete()
        proof = prove(claim, incoming.stream, sha256)
        for _ in range(_ATTEMPTS):
            added = self._try_to_add(incoming, proof)
            if added is not None:
                return added
        key = canonical_key(proof.parsed.project, claim.filename)
        raise StorageError(f"{key} cannot be stored: something lies there that is no file; remove it, or try again")

    def _try_to_add(self, incoming: Incoming, proof: Proof) -> Added | None:
        """Publish what has come in, unless it may not be; None where others were quicker: then ask all of it anew."""
        name, filename = proof.parsed.project, proof.parsed.filename
        key = canonical_key(name, filename)
        # Looked up in this order, a deletion shows in one of them: it is written down before the file goes.
        present = self._served_entry(name, filename)
        self._check_may_change(name, filename, proof.sha256)
        self._check_complete()
        if present is not None and isinstance(present.content, File):
            seen = indexer.reconcile(self._catalog, self._storage, present.key)
            if seen is None or seen.content != present.content:
                return None  # what the catalog said was out of date
            if present.content.sha256 == proof.sha256:
                return Added.UNCHANGED
            if not self.overwrite:
                raise AlreadyExistsError(filename)
        replacing = self._fingerprint_to_replace(key)
        try:
            stored = incoming.publish(key, replacing=replacing)
        except ConflictError:
            # Something lies there that the catalog did not know, or it has just come.
            seen = indexer.reconcile(self._catalog, self._storage, key)
            if seen is not None and isinstance(seen.content, Rejection) and not self.overwrite:
                raise AlreadyExistsError(filename) from None
            return None
        indexer.reconcile(
            self._catalog, self._storage, key, known=Known(stored.fingerprint, proof.sha256, proof.core_metadata)
        )
        return Added.CREATED if present is None else Added.REPLACED

    def _check_may_change(self, name: NormalizedName, filename: str, sha256: str) -> None:
        decided = self._decisions(name)
        if decided.status in (Status.ARCHIVED, Status.QUARANTINED):
            raise ForbiddenError(f"the project {name!r} is {decided.status.value}: it takes no new files")
        if decided.deleted.get(filename, sha256) != sha256 and not self.overwrite:
            raise AlreadyExistsError(filename, deleted=True)

    def _fingerprint_to_replace(self, key: str) -> str | None:
        if not self.overwrite:
            return None
        try:
            return self._storage.stat(key).fingerprint
        except ObjectMissingError:
            return None

    def yank(self, name: NormalizedName, target: str, reason: str = "") -> list[str]:
        """Yank a release or a file; return the filenames. NotFoundError where there is none, DecisionsError."""
        return decisions.yank(self._catalog, self._storage, self.snapshot(name), target, reason)

    def unyank(self, name: NormalizedName, target: str) -> list[str]:
        """Take a yank back; return the filenames that were yanked. NotFoundError, DecisionsError."""
        return decisions.unyank(self._catalog, self._storage, self.snapshot(name), target)

    def delete(self, name: NormalizedName, target: str | None = None) -> list[str]:
        """Remove a file, a release or all files of a project (None); return the filenames.

        The names stay those of the bytes they had, and the project's name stays ours. NotFoundError, DecisionsError.
        """
        filenames = self.find_filenames(name, target)
        for _ in range(_ATTEMPTS):
            try:
                decisions.delete(self._catalog, self._storage, self.snapshot(name), target)
            except ConflictError as error:  # replaced since it was indexed: what is to be deleted is looked up anew
                self.reconcile(error.key)
            except NotFoundError:
                return filenames  # by now
            else:
                return filenames
        raise BusyError(name)

    def find_filenames(self, name: NormalizedName, target: str | None = None) -> list[str]:
        """Return what `delete` would remove; NotFoundError."""
        return decisions.find_filenames(self.snapshot(name), target)

    def set_status(self, name: NormalizedName, status: Status, reason: str | None = None) -> None:
        """Give a project a status; NotFoundError, DecisionsError."""
        decisions.set_status(self._catalog, self._storage, self.snapshot(name), status, reason)

    def snapshot(self, name: NormalizedName) -> ProjectSnapshot:
        """Return all that is known of a project; NotFoundError where it is unknown."""
        project = self._catalog.project(name)
        self._check_complete()
        if project is None:
            raise _unknown_project(name)
        return project

    def root(self) -> RootSnapshot:
        """Return all projects."""
        root = self._catalog.root()
        self._check_complete()
        return root

    def describe(self, name: NormalizedName, *, in_quarantine: bool = True) -> dict[str, Any]:
        """Return what is known of a project, as `/api/v1/` gives it; NotFoundError.

        Unless `in_quarantine`, a quarantined project lists no files here either.
        """
        project = self.snapshot(name)
        hidden = project.decisions.status is Status.QUARANTINED and not in_quarantine
        return describe_project(project, self.origins(name), with_files=not hidden)

    def keep_origins(self, name: NormalizedName, found: Mapping[str, Origin]) -> None:
        """Remember what a source says of files that were imported, by filename."""
        origins.keep_origins(self._storage, name, found)

    def origins(self, name: NormalizedName) -> Mapping[str, Origin]:
        """Return what sources have said of a project's imported files, by filename; empty where none were."""
        return origins.read_origins(self._storage, name)

    def reconcile(self, key: str) -> None:
        """Make what is known of a key equal to the object as it is now."""
        indexer.reconcile(self._catalog, self._storage, key)

    def reconcile_settled(self, key: str) -> bool:
        """Do as `reconcile` if nobody is writing the object any more, and tell whether that was so."""
        return indexer.reconcile_settled(self._catalog, self._storage, key)

    def sync(
        self, *, prefix: str = "", patience_seconds: float = 0, progress: Callable[[SyncReport], None] = lambda _: None
    ) -> SyncReport:
        """Make the catalog equal to the storage below a prefix.

        Files that somebody is still writing are waited for as long as the patience lasts, then left as `unsettled`.
        `progress` is told of the report again and again, as it grows.
        """
        self._storage.remove_abandoned()
        return sync.sync(
            self._catalog, self._storage, prefix=prefix, patience_seconds=patience_seconds, progress=progress
        )

    def find_drift(self, *, patience_seconds: float = 0) -> SyncReport:
        """Tell where catalog and storage differ, and change nothing.

        What somebody is about to mend (a file that was dropped just now) is no drift: it has to outlast the patience.
        """
        until = time.monotonic() + patience_seconds
        while True:
            report = sync.find_drift(self._catalog, self._storage)
            if not (report.drift or report.unsettled) or time.monotonic() >= until:
                return report
            time.sleep(_POLLING_SECONDS)

    def backup(self, stream: BinaryIO) -> BackupReport:
        """Write all that the storage holds as a tar, while the index is in use; the catalog is not in it."""
        return write_backup(self._catalog, self._storage, stream, patience_seconds=_SETTLING_SECONDS)

    def restore(self, stream: BinaryIO) -> RestoreReport:
        """Put back what `backup` wrote, while the index is in use; what lies there already stays. BackupError."""
        try:
            return restore_backup(self._catalog, self._storage, stream)
        finally:  # a backup that ends too early has brought something, too
            if not self._catalog.is_complete():
                self.sync()

    def problems(self) -> Iterable[Entry]:
        """Return what somebody should look at: rejected files, decisions that cannot be read."""
        return self._catalog.problems()

    def hidden_files(self) -> Iterator[Entry]:
        """Yield files that are not served, because other bytes under the same filename are.

        Reads the whole catalog, one project after the other.
        """
        for listed in self._catalog.root().projects:
            project = self._catalog.project(listed.name)
            if project is None:
                continue  # gone since
            served = {item.file.filename: item.file.sha256 for item in project.listing()}
            for entry in project.entries:
                if isinstance(entry.content, File) and entry.content.sha256 != served[entry.content.filename]:
                    yield entry

    def counts(self) -> Counts:
        """Count what is known, which may take a while."""
        return self._catalog.counts()

    def free_bytes(self) -> int | None:
        """Return how much room the storage has; None where there is no bound."""
        return self._storage.free_bytes()

    def is_complete(self) -> bool:
        """Whether the catalog has known the whole storage once."""
        return self._catalog.is_complete()

    def check(self) -> None:
        """Raise UnavailableError where catalog or storage cannot be used."""
        self._catalog.check()
        self._storage.check()
        self._check_complete()

    def close(self) -> None:
        """Give back what is held open."""
        self._catalog.close()

    def _check_complete(self) -> None:
        # A catalog that has just been made knows nothing: "not found" would send installers to another index. Asked
        # after what was read, lest a new catalog take the place of a complete one in between.
        if not self._catalog.is_complete():
            raise NotReadyError

    def _kept_page(self, name: NormalizedName | None, form: Form, revision: int) -> Page | None:
        kept = self._catalog.page(name, _kept_form(form))
        if kept is None or kept.body is None or kept.revision != revision:
            return None
        return _page(revision, form, kept.body)

    def _keep_page(self, name: NormalizedName | None, form: Form, revision: int, rendered: Iterator[bytes]) -> Page:
        body = _compress(rendered)
        try:
            self._catalog.keep_page(name, _kept_form(form), KeptPage(revision, body))
        except CatalogError as error:  # a reader needs no room on a disk that is full
            _log.warning("a page was not kept: %s", error)
        return _page(revision, form, body)

    def _decisions(self, name: NormalizedName) -> Decisions:
        content = self._catalog.entry(decisions_key(name)).content
        return content if isinstance(content, Decisions) else Decisions()

    def _served_entry(self, name: NormalizedName, filename: str) -> Entry | None:
        return served_entry(self._catalog.entries_named(name, filename))


def _page(revision: int, form: Form, body: bytes) -> Page:
    return Page(revision, f"{revision}.{RENDERER}.{form}", body)


def _revision_of(root: RootSnapshot, form: Form) -> int:
    return root.serials_revision if form is Form.JSON else root.revision


def _kept_form(form: Form) -> str:
    return f"{form}.{RENDERER}"


def _compress(pieces: Iterator[bytes]) -> bytes:
    """Return a gzip stream, the same for the same pieces."""
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


def _unknown_project(name: NormalizedName) -> NotFoundError:
    return NotFoundError(f"there is no project {name!r}")


def is_index(data: Path) -> bool:
    """Whether there is a local index in a directory, or has been one."""
    return (data / _MARKER).exists()


def open_index(settings: Settings, *, data: Path, may_create: bool = True) -> Index:
    """Put the parts together that the settings name; `data` is where the local ones lie.

    A directory becomes a storage once in its life, where `may_create`: one that was made before and is not there now is
    a volume that is not mounted, and not an empty index.
    """
    if settings.bucket is not None:
        raise ConfigError(
            "'bucket' and 'table' name S3 and DynamoDB, which this release cannot use yet: "
            "remove both keys, or give a directory with --data"
        )
    catalog = SqliteCatalog(data / "catalog.sqlite")
    storage = FilesystemStorage(data / "files")
    marker = data / _MARKER
    if may_create and not marker.exists():
        storage.initialise()
        marker.touch()
    return Index(catalog, storage, overwrite=settings.overwrite)
