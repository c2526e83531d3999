"""What one can do with an index: read its pages, get its files, add to it, keep it equal to its storage."""

from __future__ import annotations

import gzip
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO

from elasticpypi import indexer, sync
from elasticpypi.catalog import Catalog, KeptPage
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.config import Settings
from elasticpypi.errors import (
    AlreadyExistsError,
    BusyError,
    CatalogError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    ObjectMissingError,
    StorageError,
)
from elasticpypi.indexer import Known
from elasticpypi.model import Decisions, Entry, File, Rejection, Status, served_entry
from elasticpypi.names import NormalizedName, canonical_key, decisions_key
from elasticpypi.simple import RENDERER, Form, render_project, render_root
from elasticpypi.storage import Incoming, Storage
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.sync import SyncReport
from elasticpypi.uploads import Claim, Proof, prove

__all__ = ["Added", "Claim", "FoundFile", "Incoming", "Index", "Page", "SyncReport", "open_index", "page_tag"]

_log = logging.getLogger(__name__)
_ATTEMPTS = 20
_POLLING_SECONDS = 0.1
_GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page; equal tags mean equal bytes."""

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
        project = self._catalog.project(name)
        self._check_complete()
        if project is None:
            raise _unknown_project(name)
        return self._keep_page(name, form, project.revision, render_project(project, form))

    def root_revision(self) -> int:
        """Return the revision of the list of projects with one small read."""
        revision = self._catalog.root_revision()
        self._check_complete()
        return revision

    def root_page(self, form: Form, revision: int) -> Page:
        """Return the complete list of projects, at least of the revision that was just read."""
        kept = self._kept_page(None, form, revision)
        if kept is not None:
            return kept
        revision, names = self._catalog.projects()
        self._check_complete()
        return self._keep_page(None, form, revision, render_root(names, form))

    def filtered_root_page(self, form: Form, is_visible: Callable[[NormalizedName], bool]) -> Page:
        """Return the list of those projects that somebody may see; not kept."""
        revision, names = self._catalog.projects()
        self._check_complete()
        return Page(page_tag(revision, form), _compress(render_root(filter(is_visible, names), form)))

    def find_file(self, name: NormalizedName, filename: str) -> FoundFile:
        """Return the file that is served under a name; NotFoundError, or ForbiddenError where it is quarantined."""
        entry = self._served_entry(name, filename)
        self._check_complete()
        if entry is None or not isinstance(entry.content, File):
            raise NotFoundError(f"the project {name!r} has no file {filename!r}")
        if self._decisions(name).status is Status.QUARANTINED:
            raise ForbiddenError(f"the project {name!r} is quarantined: its files cannot be downloaded for now")
        return FoundFile(entry.content, entry.key, entry.fingerprint)

    def open_file(self, found: FoundFile) -> BinaryIO:
        """Open a file's bytes; BusyError where they are no longer those that are listed."""
        try:
            return self._storage.download(found.key, indexer.object_fingerprint(found.fingerprint)).stream
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
        self._check_may_change(name, filename, proof.sha256)
        key = canonical_key(name, filename)
        present = self._served_entry(name, filename)
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
        decisions = self._decisions(name)
        if decisions.status in (Status.ARCHIVED, Status.QUARANTINED):
            raise ForbiddenError(f"the project {name!r} is {decisions.status.value}: it takes no new files")
        if decisions.deleted.get(filename, sha256) != sha256 and not self.overwrite:
            raise AlreadyExistsError(filename, deleted=True)

    def _fingerprint_to_replace(self, key: str) -> str | None:
        if not self.overwrite:
            return None
        try:
            return self._storage.stat(key).fingerprint
        except ObjectMissingError:
            return None

    def reconcile(self, key: str) -> None:
        """Make what is known of a key equal to the object as it is now."""
        indexer.reconcile(self._catalog, self._storage, key)

    def reconcile_settled(self, key: str) -> bool:
        """Do as `reconcile` if nobody is writing the object any more, and tell whether that was so."""
        return indexer.reconcile_settled(self._catalog, self._storage, key)

    def sync(self, *, prefix: str = "", patience_seconds: float = 0) -> SyncReport:
        """Make the catalog equal to the storage below a prefix.

        Files that somebody is still writing are waited for as long as the patience lasts, then left as `unsettled`.
        """
        self._storage.remove_abandoned()
        return sync.sync(self._catalog, self._storage, prefix=prefix, patience_seconds=patience_seconds)

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

    def problems(self) -> Iterable[Entry]:
        """Return what somebody should look at: rejected files, decisions that cannot be read."""
        return self._catalog.problems()

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
        return Page(page_tag(revision, form), kept.body) if kept is not None and kept.revision == revision else None

    def _keep_page(self, name: NormalizedName | None, form: Form, revision: int, rendered: bytes) -> Page:
        body = _compress(rendered)
        try:
            self._catalog.keep_page(name, _kept_form(form), KeptPage(revision, body))
        except CatalogError as error:  # a reader needs no room on a disk that is full
            _log.warning("a page was not kept: %s", error)
        return Page(page_tag(revision, form), body)

    def _decisions(self, name: NormalizedName) -> Decisions:
        content = self._catalog.entry(decisions_key(name)).content
        return content if isinstance(content, Decisions) else Decisions()

    def _served_entry(self, name: NormalizedName, filename: str) -> Entry | None:
        return served_entry(self._catalog.entries_named(name, filename))


def page_tag(revision: int, form: Form) -> str:
    """Return the tag of a page; equal tags mean equal bytes, whatever their encoding."""
    return f"{revision}.{RENDERER}.{form}"


def _kept_form(form: Form) -> str:
    return f"{form}.{RENDERER}"


def _compress(body: bytes) -> bytes:
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


def _unknown_project(name: NormalizedName) -> NotFoundError:
    return NotFoundError(f"there is no project {name!r}")


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
    marker = data / "storage-was-made"
    if may_create and not marker.exists():
        storage.initialise()
        marker.touch()
    return Index(catalog, storage, overwrite=settings.overwrite)
