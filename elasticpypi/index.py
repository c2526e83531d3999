"""What one can do with an index: read its pages, get its files, add to it, keep it equal to its storage."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from elasticpypi import adding, decisions, finishing, indexer, legacy_json, origins, sync
from elasticpypi.adding import Added
from elasticpypi.audit import EVENT_LOGGER, Action, Audit, Event, Excerpt, Wanted, describe_event
from elasticpypi.catalog import Catalog, Counts
from elasticpypi.catalog.ledger import Ledger, NoLedger, Record
from elasticpypi.config import Settings
from elasticpypi.description import describe_project
from elasticpypi.downloads import KEPT_DAYS as DOWNLOADS_KEPT_DAYS
from elasticpypi.downloads import Downloads, ProjectDownloads, describe_downloads
from elasticpypi.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    ObjectMissingError,
)
from elasticpypi.finishing import FinishRequest, Outcome
from elasticpypi.indexer import Failed, Reconciled
from elasticpypi.kept_pages import KeptPages, Page, Variant, compress, make_page
from elasticpypi.model import (
    UNKNOWN_ACTOR,
    Actor,
    Decisions,
    Entry,
    File,
    Origin,
    ProjectSnapshot,
    RootSnapshot,
    Status,
    served_entry,
)
from elasticpypi.names import MAX_NAME, FileKey, NormalizedName, ParsedFilename, decisions_key, parse_key, project_of
from elasticpypi.publishers import Provider, Publisher, Publishers, describe_publisher, make_publisher
from elasticpypi.simple import Form, render_project, render_root
from elasticpypi.storage import Incoming, LocalFile, SignedURL, Slot, Storage, StoredObject
from elasticpypi.sync import SyncReport
from elasticpypi.tokens import Token, Tokens, describe_token
from elasticpypi.uploads import Claim, claim_by_filename, prove_alone
from elasticpypi.upstream.model import LARGEST_COPY, Asked, Elsewhere, HeldBack, Listing, NotOurs, UpstreamFile

if TYPE_CHECKING:
    from elasticpypi.aws import AWS
    from elasticpypi.backup.restoring import RestoreReport
    from elasticpypi.backup.writing import BackupReport
    from elasticpypi.upstream.pages import Upstreams
    from elasticpypi.upstream.transfers import FoundUpstreamFile, UpstreamStream

__all__ = [
    "DOWNLOADS_KEPT_DAYS",
    "EVENT_LOGGER",
    "LARGEST_COPY",
    "Action",
    "Added",
    "Asked",
    "Claim",
    "Counts",
    "Elsewhere",
    "Event",
    "Excerpt",
    "Failed",
    "FinishRequest",
    "FoundFile",
    "FoundUpstreamFile",
    "HeldBack",
    "Incoming",
    "Index",
    "Listing",
    "LocalFile",
    "NotOurs",
    "Outcome",
    "Page",
    "ProjectDownloads",
    "Provider",
    "Publisher",
    "Reconciled",
    "SignedURL",
    "Slot",
    "SyncReport",
    "Token",
    "UpstreamFile",
    "UpstreamStream",
    "Variant",
    "Wanted",
    "claim_by_filename",
    "connect_aws",
    "describe_downloads",
    "describe_event",
    "describe_publisher",
    "describe_token",
    "is_index",
    "make_publisher",
    "open_index",
    "prove_alone",
    "sqlite_version",
]

_ATTEMPTS = 20
_POLLING_SECONDS = 0.1
_SETTLING_SECONDS = 10.0  # for files that are being copied into the directory while a backup is written, or all is read
_MARKER = "storage-was-made"  # in the data directory
_SECRET_BYTES = 32
_SESSION_SECRET = ("secret", "sessions")  # kind and id of the record


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be downloaded, and where it lies."""

    file: File
    key: str
    fingerprint: str  # of the object that `file` describes


class Index:
    """An index over a catalog and a storage. Every method may raise UnavailableError."""

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        *,
        ledger: Ledger | None = None,
        overwrite: bool = False,
        audit_days: int = 365,
        count_downloads: bool = False,
        upstreams: Upstreams | None = None,
    ) -> None:
        """Without a `ledger` there are no tokens and no sessions, and of the audit trail only what is logged.

        Without `upstreams` nobody else is asked for names that are not ours.
        """
        self._catalog = catalog
        self._storage = storage
        self._ledger = NoLedger() if ledger is None else ledger
        self._pages = KeptPages(catalog, storage)
        self.overwrite = overwrite
        self.audit = Audit(self._ledger, keep_days=audit_days)
        self.downloads = Downloads(self._ledger, is_on=count_downloads)
        self.tokens = Tokens(self._ledger, self.audit)
        self.publishers = Publishers(storage, self._ledger, self.tokens, self.audit)
        self._upstreams = upstreams

    @property
    def has_upstreams(self) -> bool:
        """Whether anybody else is asked for names that are not ours."""
        return self._upstreams is not None and self._upstreams.are_configured

    @property
    def upstreams(self) -> Upstreams:
        """Those others."""
        if self._upstreams is None:  # an index that names none starts without what asks them
            from elasticpypi.upstream.pages import Upstreams

            self._upstreams = Upstreams(self._catalog, self._storage)
        return self._upstreams

    def find_upstream(self, name: NotOurs) -> Listing | Elsewhere:
        """Return what clients get for a name that is not ours.

        Raise NotFoundError where nobody has it or may be asked for it, UpstreamError where somebody does not say.
        """
        if not self.has_upstreams:
            raise _unknown_project(name)
        return self.upstreams.find(name)

    def locate(self, name: NormalizedName) -> int | NotOurs:
        """Return the revision of a project's page with one small read, or the proof that the name is not ours.

        A name is ours from its first file on and stays so. What cannot be read is an error, and never a proof.
        """
        revision = self._catalog.revision(name)
        self._check_complete()
        # Perhaps it came while the catalog was made: before anybody else is asked, it is looked for once more.
        if revision is None and self.has_upstreams:
            revision = self._catalog.revision(name)
            self._check_complete()
        return NotOurs(name) if revision is None else revision

    def project_revision(self, name: NormalizedName) -> int:
        """Return the revision of a project's page with one small read; raise NotFoundError for an unknown project."""
        revision = self.locate(name)
        if not isinstance(revision, int):
            raise _unknown_project(name)
        return revision

    def project_page(self, name: NormalizedName, form: Form, revision: int, *, at_most: int | None = None) -> Page:
        """Return a project's page, at least of the revision that was just read; it is rendered once a revision.

        Without its body, should that have more than `at_most` bytes compressed.
        """
        kept = self._pages.find(name, form, revision, at_most=at_most)
        if kept is not None:
            return kept
        project = self.snapshot(name)
        return self._pages.keep(name, form, project.revision, render_project(project, form), at_most=at_most)

    def project_page_elsewhere(self, name: NormalizedName, revision: int, variant: Variant) -> SignedURL:
        """Return where the storage has a project's page that is too large to be sent; it is rendered once a revision.

        StorageError where the storage cannot keep it, or has no URLs.
        """
        found = self._pages.find_elsewhere(name, revision, variant)
        if found is not None:
            return found
        project = self.snapshot(name)
        rendered = render_project(project, variant.form, base=variant.base)
        return self._pages.keep_elsewhere(name, project.revision, variant, rendered)

    def upstream_page_elsewhere(self, listing: Listing, variant: Variant) -> SignedURL:
        """Do as `project_page_elsewhere` with the page of a project that upstream has."""
        found = self._pages.find_elsewhere(listing.name, listing.revision, variant)
        if found is not None:
            return found
        rendered = self.upstreams.render(listing, variant.form, base=variant.base)
        return self._pages.keep_elsewhere(listing.name, listing.revision, variant, rendered)

    def why(self, name: NormalizedName, *, most: int | None = None) -> dict[str, Any]:
        """Return what clients get for a name, and why, as `/api/v1/` gives it: of lists the first `most` (None: all).

        For what is ours nobody else is asked, nor for what the configuration says is ours.
        """
        from elasticpypi.upstream.explaining import explain

        located, pattern = self.locate(name), self.upstreams.own_pattern(name)
        is_ours = isinstance(located, int)
        asked = () if isinstance(located, int) or pattern is not None else self.upstreams.explain(located)
        return explain(name, asked, is_ours=is_ours, own_pattern=pattern, most=most)

    def root_revision(self, form: Form) -> int:
        """Return the revision of the list of projects with one small read; as JSON it shows every project's serial."""
        revision = self._catalog.serials_revision() if form is Form.JSON else self._catalog.root_revision()
        self._check_complete()
        return revision

    def root_page(
        self,
        form: Form,
        revision: int,
        *,
        is_visible: Callable[[NormalizedName], bool] | None = None,
        at_most: int | None = None,
    ) -> Page:
        """Return the list of projects, at least of the revision that was just read; as `project_page` does.

        Of those projects that somebody may see (None: all of them): what not everybody sees is not kept.
        """
        if is_visible is None:
            kept = self._pages.find(None, form, revision, at_most=at_most)
            if kept is not None:
                return kept
        root = self._visible_root(is_visible)
        current, rendered = _revision_of(root, form), render_root(root, form)
        if is_visible is None:
            return self._pages.keep(None, form, current, rendered, at_most=at_most)
        return make_page(current, form, compress(rendered), at_most=at_most)

    def root_page_elsewhere(
        self, revision: int, variant: Variant, *, is_visible: Callable[[NormalizedName], bool] | None = None
    ) -> SignedURL:
        """Return where the storage has a list of projects that is too large to be sent, as `project_page_elsewhere`."""
        found = self._pages.find_elsewhere(None, revision, variant)
        if found is not None:
            return found
        root = self._visible_root(is_visible)
        rendered = render_root(root, variant.form, base=variant.base)
        return self._pages.keep_elsewhere(None, _revision_of(root, variant.form), variant, rendered)

    def _visible_root(self, is_visible: Callable[[NormalizedName], bool] | None) -> RootSnapshot:
        root = self.root()
        if is_visible is None:
            return root
        return replace(root, projects=tuple(project for project in root.projects if is_visible(project.name)))

    def legacy_json(self, name: NormalizedName, version: str | None, *, root: str) -> tuple[int, bytes]:
        """Return a project (version None) or a release for the legacy JSON API, and the revision it belongs to.

        `root` is the absolute URL of the index, with its slash. NotFoundError for what is unknown.
        """
        project = self.snapshot(name)
        body = legacy_json.render(project, version, core_metadata=self._catalog.core_metadata, root=root)
        return project.revision, body

    def find_file(self, name: NormalizedName, filename: str) -> FoundFile:
        """Return the file that is served under a name; NotFoundError, or ForbiddenError where it is quarantined."""
        # A longer one is no file's, nor does it fit into a key of every catalog.
        entry = self._served_entry(name, filename) if len(filename) <= MAX_NAME else None
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

    def description(self, key: str) -> bytes | None:
        """Return the core metadata kept under a key, announced or not: an sdist's may be what describes a release."""
        return self._catalog.core_metadata(key)

    def receive(self) -> AbstractContextManager[Incoming]:
        """Begin an upload; what is not added before the context ends leaves no trace."""
        return self._storage.receive()

    @property
    def upload_origin(self) -> str | None:
        """Where signed requests bring bytes, for a page that may send there; None: bytes come through us."""
        return self._storage.upload_origin

    def begin(self, token: str, *, size: int, sha256: str) -> Slot:
        """Begin an upload in parts, or go on with it; return what there is of it already, and where the rest goes.

        Raise StorageFullError where the rest has no room. `token` is as for `Storage.begin`.
        """
        return adding.begin(self._storage, token, size=size, sha256=sha256)

    def received(self, token: str) -> int | None:
        """Return how many bytes of an upload in parts there are; None where it was not begun, or is over."""
        try:
            return self._storage.received(token)
        except ObjectMissingError:
            return None

    def resume(self, token: str) -> AbstractContextManager[Incoming]:
        """Go on with an upload in parts, for no longer than it takes to write one; NotFoundError where there is none.

        What is written stays. BusyError where somebody else is at it.
        """
        return finishing.resume(self._storage, token)

    def add_resumed(self, incoming: Incoming, claim: Claim, *, by: Actor = UNKNOWN_ACTOR) -> Added:
        """Do as `add` with what `resume` gave, and forget it, unless asking again may help."""
        record = self.audit.recorder(by)
        return adding.add_resumed(
            self._catalog, self._storage, incoming, claim, overwrite=self.overwrite, record=record
        )

    def hand_over(self, request: FinishRequest, send: Callable[[Mapping[str, Any]], None]) -> None:
        """Have an upload finished by whoever gets what is sent, for `finish_upload`, unless somebody is at it."""
        finishing.hand_over(self._storage, request, send)

    def finish_upload(self, request: Mapping[str, Any]) -> Outcome:
        """Do what `hand_over` has sent, any number of times; a refusal is an outcome, too, and kept with it.

        Raise InvalidRequestError where that is no such thing.
        """
        return finishing.finish(self._catalog, self._storage, request, overwrite=self.overwrite, audit=self.audit)

    def find_outcome(self, token: str) -> Outcome | None:
        """Return what has become of an upload that was handed over; None where none was."""
        return finishing.find_outcome(self._storage, token)

    def has(self, parsed: ParsedFilename, sha256: str) -> bool:
        """Whether these bytes are there already under their name; else raise what `add` would without reading them."""
        return adding.has(self._catalog, self._storage, parsed, sha256, overwrite=self.overwrite)

    def add(self, incoming: Incoming, claim: Claim, *, sha256: str, by: Actor = UNKNOWN_ACTOR) -> Added:
        """Check what has come in, store it and index it, so that the next reader sees it; as `adding.add`."""
        return adding.add(
            self._catalog,
            self._storage,
            incoming,
            claim,
            sha256=sha256,
            overwrite=self.overwrite,
            record=self.audit.recorder(by),
        )

    def yank(self, name: NormalizedName, target: str, reason: str = "", *, by: Actor = UNKNOWN_ACTOR) -> list[str]:
        """Yank a release or a file; return the filenames. NotFoundError where there is none, DecisionsError."""
        project, record = self.snapshot(name), self.audit.recorder(by)
        return decisions.yank(self._catalog, self._storage, project, target, reason, record=record)

    def unyank(self, name: NormalizedName, target: str, *, by: Actor = UNKNOWN_ACTOR) -> list[str]:
        """Take a yank back; return the filenames that were yanked. NotFoundError, DecisionsError."""
        project, record = self.snapshot(name), self.audit.recorder(by)
        return decisions.unyank(self._catalog, self._storage, project, target, record=record)

    def delete(self, name: NormalizedName, target: str | None = None, *, by: Actor = UNKNOWN_ACTOR) -> list[str]:
        """Remove a file, a release or all files of a project (None); return the filenames.

        The names stay those of the bytes they had, and the project's name stays ours. NotFoundError, DecisionsError.
        """
        filenames, record, recorded = self.find_filenames(name, target), self.audit.recorder(by), set[str]()
        for _ in range(_ATTEMPTS):
            try:
                snapshot = self.snapshot(name)
                decisions.delete(self._catalog, self._storage, snapshot, target, record=record, recorded=recorded)
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

    def set_status(
        self, name: NormalizedName, status: Status, reason: str | None = None, *, by: Actor = UNKNOWN_ACTOR
    ) -> None:
        """Give a project a status; NotFoundError, DecisionsError."""
        project, record = self.snapshot(name), self.audit.recorder(by)
        decisions.set_status(self._catalog, self._storage, project, status, reason, record=record)

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

    def reconcile_all(self, keys: Iterable[str], *, deadline: float = math.inf) -> Iterator[Reconciled | Failed]:
        """Do as `reconcile` for several keys, as the outcomes are asked for; see `indexer.reconcile_all`."""
        return indexer.reconcile_all(self._catalog, self._storage, keys, deadline=deadline)

    def reconcile_settled(self, key: str) -> bool:
        """Do as `reconcile` if nobody is writing the object any more, and tell whether that was so."""
        return indexer.reconcile_settled(self._catalog, self._storage, key)

    def sync(
        self,
        *,
        prefix: str = "",
        patience_seconds: float = 0,
        deadline: float = math.inf,
        progress: Callable[[SyncReport], None] = lambda _: None,
    ) -> SyncReport:
        """Make the catalog equal to the storage below a prefix.

        Files that somebody is still writing are waited for as long as the patience lasts, then left as `unsettled`.
        At the deadline, by `time.monotonic()`, it stops where it is. `progress` is told of the report again and again,
        as it grows.
        """
        self._storage.remove_abandoned()
        return sync.sync(
            self._catalog,
            self._storage,
            prefix=prefix,
            patience_seconds=patience_seconds,
            deadline=deadline,
            progress=progress,
        )

    def complete(self) -> None:
        """Let the catalog know the whole storage, if it does not yet, files included that are just being written."""
        if not self.is_complete():
            self.sync(patience_seconds=_SETTLING_SECONDS)

    def find_drift(self, *, patience_seconds: float = 0, deadline: float = math.inf) -> SyncReport:
        """Tell where catalog and storage differ, and change nothing; at the deadline, as `sync` does, only so far.

        What somebody is about to mend (a file that was dropped just now) is no drift: it has to outlast the patience.
        """
        until = min(time.monotonic() + patience_seconds, deadline)
        while True:
            report = sync.find_drift(self._catalog, self._storage, deadline=deadline)
            if not (report.drift or report.unsettled) or time.monotonic() >= until:
                return report
            time.sleep(_POLLING_SECONDS)

    def backup(self, stream: BinaryIO) -> BackupReport:
        """Write all that the storage holds as a tar, while the index is in use; the catalog is not in it."""
        from elasticpypi.backup.writing import write_backup  # which a function on Lambda should not wait for

        return write_backup(self._catalog, self._storage, stream, patience_seconds=_SETTLING_SECONDS)

    def restore(self, stream: BinaryIO, *, by: Actor = UNKNOWN_ACTOR) -> RestoreReport:
        """Put back what `backup` wrote, while the index is in use; what lies there already stays. BackupError."""
        from elasticpypi.backup.restoring import restore_backup

        trusted = self.publishers.trusted()
        try:
            return restore_backup(self._catalog, self._storage, stream)
        finally:  # a backup that ends too early has brought something, too
            self.publishers.record_restored(trusted, by=by)
            self.complete()

    def problems(self) -> Iterable[Entry]:
        """Return what somebody should look at: rejected files, decisions that cannot be read."""
        return self._catalog.problems()

    def hidden_files(self) -> Iterator[Entry]:
        """Yield files that are not served, because other bytes under the same filename are.

        Looks through all keys, and then at those projects in which a filename comes twice.
        """
        for name in self._projects_with_copies():
            project = self._catalog.project(name)
            if project is None:
                continue  # gone since
            served = {item.file.filename: item.file.sha256 for item in project.listing()}
            for entry in project.entries:
                if isinstance(entry.content, File) and entry.content.sha256 != served[entry.content.filename]:
                    yield entry

    def _projects_with_copies(self) -> list[NormalizedName]:
        """Return the projects of which a filename lies under several keys, sorted."""
        seen: set[int] = set()  # hashes of filenames: that two have the same one costs a look, and no more
        found: set[NormalizedName] = set()
        for known in self._catalog.known_keys():
            named = parse_key(known.key)
            if not isinstance(named, FileKey):
                continue
            project = project_of(named) if hash(named.filename) in seen else None
            seen.add(hash(named.filename))
            if project is not None:
                found.add(project)
        return sorted(found)

    def counts(self) -> Counts:
        """Count what is known, which may take a while."""
        return self._catalog.counts()

    def free_bytes(self) -> int | None:
        """Return how much room the storage has; None where there is no bound."""
        return self._storage.free_bytes()

    def session_secret(self) -> bytes:
        """Return what sessions of browsers are signed with: chance, the same for all processes of an index.

        One small read; it is made by the first who asks. ConfigError where there is no place to keep it.
        """
        while (found := self.find_session_secret()) is None:
            self._ledger.add(Record(*_SESSION_SECRET, secrets.token_hex(_SECRET_BYTES)))
        return found

    def find_session_secret(self) -> bytes | None:
        """Return what sessions are signed with; None where it has not been made."""
        kept = self._ledger.record(*_SESSION_SECRET)
        return None if kept is None else bytes.fromhex(kept.text)

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
        self._ledger.close()

    def _check_complete(self) -> None:
        adding.check_complete(self._catalog)

    def _decisions(self, name: NormalizedName) -> Decisions:
        content = self._catalog.entry(decisions_key(name)).content
        return content if isinstance(content, Decisions) else Decisions()

    def _served_entry(self, name: NormalizedName, filename: str) -> Entry | None:
        return served_entry(self._catalog.entries_named(name, filename))


def _revision_of(root: RootSnapshot, form: Form) -> int:
    return root.serials_revision if form is Form.JSON else root.revision


def _unknown_project(name: NormalizedName) -> NotFoundError:
    return NotFoundError(f"there is no project {name!r}")


def is_index(data: Path) -> bool:
    """Whether there is a local index in a directory, or has been one."""
    return (data / _MARKER).exists()


def sqlite_version() -> tuple[int, ...]:
    """Return the version of the SQLite library, in which a local index has its catalog."""
    from elasticpypi.catalog.sqlite import SQLITE_VERSION

    return SQLITE_VERSION


# The adapters are imported by whoever opens one: neither does Lambda need SQLite, nor a laptop boto3.
def open_index(settings: Settings, *, data: Path, may_create: bool = True) -> Index:
    """Put the parts together that the settings name; `data` is where the local ones lie.

    A directory becomes a storage once in its life, where `may_create`: one that was made before and is not there now is
    a volume that is not mounted, and not an empty index. Raise ConfigError where AWS cannot be used from here.
    """
    if settings.bucket is not None and settings.table is not None:
        return _open_on_aws(settings, bucket=settings.bucket, table=settings.table)
    if settings.bucket is not None and settings.output_bucket is not None:
        return _open_without_table(settings, bucket=settings.bucket, output_bucket=settings.output_bucket)
    return _open_in_directory(settings, data, may_create=may_create)


def _open_on_aws(settings: Settings, *, bucket: str, table: str) -> Index:
    aws = connect_aws(settings)
    from elasticpypi.catalog.dynamodb import DynamoDBCatalog, DynamoDBLedger
    from elasticpypi.storage.s3 import S3Storage

    catalog, storage = DynamoDBCatalog(aws, table), S3Storage(aws, bucket)
    return _open(settings, catalog, storage, DynamoDBLedger(aws, table))


def _open(settings: Settings, catalog: Catalog, storage: Storage, ledger: Ledger) -> Index:
    return Index(
        catalog,
        storage,
        ledger=ledger,
        overwrite=settings.overwrite,
        audit_days=settings.audit_days,
        count_downloads=settings.count_downloads,
        upstreams=_open_upstreams(settings, catalog, storage),
    )


def _open_upstreams(settings: Settings, catalog: Catalog, storage: Storage) -> Upstreams | None:
    if not (settings.upstreams or settings.own_names):
        return None
    from elasticpypi.upstream.pages import Upstreams

    return Upstreams(catalog, storage, settings.upstreams, own_names=settings.own_names, url=settings.url)


def _open_without_table(settings: Settings, *, bucket: str, output_bucket: str) -> Index:
    """Open an index that is deployed as static files alone: the bucket of the files is read, the other one written."""
    aws = connect_aws(settings)
    from elasticpypi.catalog.documents import DocumentsCatalog
    from elasticpypi.storage.s3 import S3Storage
    from elasticpypi.storage.s3.documents import S3Documents

    catalog = DocumentsCatalog(S3Documents(aws, output_bucket))
    return Index(catalog, S3Storage(aws, bucket), overwrite=settings.overwrite)


def connect_aws(settings: Settings) -> AWS:
    """Return the clients of the account and region that the settings name; nothing is asked of AWS yet."""
    try:
        from elasticpypi.aws import AWS
    except ModuleNotFoundError as error:
        missing = (error.name or "botocore").partition(".")[0]
        raise ConfigError(
            f"'bucket' and 'table' name S3 and DynamoDB, for which {missing} is missing here: "
            "`pip install 'elasticpypi[aws]'` brings it, or --data names a directory instead"
        ) from error
    return AWS(profile=settings.profile, region=settings.region)


def _open_in_directory(settings: Settings, data: Path, *, may_create: bool) -> Index:
    from elasticpypi.catalog.sqlite import SqliteCatalog, SqliteLedger
    from elasticpypi.storage.filesystem import FilesystemStorage

    catalog = SqliteCatalog(data / "catalog.sqlite")
    storage = FilesystemStorage(data / "files")
    marker = data / _MARKER
    if may_create and not marker.exists():
        storage.initialise()
        marker.touch()
    return _open(settings, catalog, storage, SqliteLedger(data / "ledger.sqlite"))
