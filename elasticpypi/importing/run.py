"""Brings the files of a source into an index: repeatable, and nothing that was decided here is undone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from elasticpypi.digests import hex_digest
from elasticpypi.errors import (
    AlreadyExistsError,
    CatalogError,
    ElasticpypiError,
    InterruptedDownloadError,
    InvalidFilenameError,
    NotFoundError,
    SourceError,
    StorageFullError,
)
from elasticpypi.importing import Source, SourceFile, SourceProject
from elasticpypi.index import Added, Incoming, Index, claim_by_filename
from elasticpypi.model import UNKNOWN_ACTOR, Actor, Decisions, Origin, Status
from elasticpypi.names import FileKey, NormalizedName, ParsedFilename, parse_filename, parse_key

_DOWNLOADS = 3  # of one file, as long as they break off
# Strongest first, but sha256 before all, which the catalog knows. A source may state anything ("#egg=…"), and what
# cannot be computed cannot be held against the bytes.
_ALGORITHMS = ("sha256", "sha512", "blake2b", "sha384", "sha224", "sha1", "md5")


_MEBIBYTE = 2**20
_RESERVE_BYTES = 1024 * _MEBIBYTE  # that an import leaves free: others use the same volume
_CHECKED_BYTES = 64 * _MEBIBYTE  # of one file, after which it is asked how much is free


class Watcher(Protocol):
    """Somebody who watches an import while it runs."""

    def expect(self, files: int, projects: int) -> None:
        """So many files come next, and after them so many projects whose files are not known yet."""

    def receive(self, filename: str, size: int) -> None:
        """So many bytes of a file have come in; 0 when it is its turn."""

    def finish(self) -> None:
        """One file is done with, whatever has become of it."""


@dataclass(slots=True)
class Report:
    """What has become of the files of a source, by filename."""

    imported: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)  # the same bytes were here already
    yanked: list[str] = field(default_factory=list)  # because the source says so
    statuses: dict[str, str] = field(default_factory=dict)  # project -> the status it has from the source
    skipped: dict[str, str] = field(default_factory=dict)  # why it is not to come in
    failed: dict[str, str] = field(default_factory=dict)  # why it could not come in


@dataclass(slots=True)
class _Here:
    """What this index has of a project."""

    name: NormalizedName
    files: dict[str, str]  # filename -> sha256
    decisions: Decisions
    origins: dict[str, Origin]
    new_origins: dict[str, Origin] = field(default_factory=dict)  # those that are not written down yet

    def has_removed(self, filename: str) -> bool:
        """Whether a file was here once and somebody has removed it."""
        return filename not in self.files and (filename in self.decisions.deleted or filename in self.origins)

    def has_claims_of(self, filename: str) -> bool:
        """Whether what the source says of a file has come with it: an import may end between the two."""
        return filename in self.origins and self.origins[filename].sha256 == self.files[filename]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file of a source that has the name of a distribution file."""

    file: SourceFile
    parsed: ParsedFilename

    @property
    def stated(self) -> dict[str, str]:
        """The digests that the source states and that can be computed: algorithm to lowercase hex."""
        digests = self.file.digests
        return {algorithm: digests[algorithm].lower() for algorithm in _ALGORITHMS if digests.get(algorithm)}


def import_files(
    index: Index,
    source: Source,
    watcher: Watcher,
    report: Report,
    *,
    dry_run: bool = False,
    by: Actor = UNKNOWN_ACTOR,
) -> None:
    """Bring in what is not here yet, and put down in the report what becomes of each file.

    A file that cannot come in does not stop the others. With `dry_run` nothing is fetched and nothing changes; the
    report says what would come in, as far as that can be told. Raise SourceError where the source cannot be read at
    all, UnavailableError where the index cannot go on.
    """
    run = _Run(index, source.name, watcher, report, by)
    for found in source.projects():
        watcher.expect(len(found.files), found.remaining)
        report.skipped |= _printable(found.skipped)
        report.failed |= _printable(found.failed)
        for name, candidates in run.sort_out(found).items():
            here = _look(index, name)
            if dry_run:
                run.rehearse(here, candidates)
            else:
                run.bring_in(here, candidates, found)


def _look(index: Index, name: NormalizedName) -> _Here:
    origins = dict(index.origins(name))
    try:
        snapshot = index.snapshot(name)
    except NotFoundError:
        return _Here(name, {}, Decisions(), origins)
    files = {item.file.filename: item.file.sha256 for item in snapshot.listing()}
    return _Here(name, files, snapshot.decisions, origins)


class _Run:
    """One import."""

    def __init__(self, index: Index, source: str, watcher: Watcher, report: Report, by: Actor) -> None:
        self._index = index
        self._source = source
        self._watcher = watcher
        self._report = report
        self._by = by

    def sort_out(self, found: SourceProject) -> dict[NormalizedName, list[_Candidate]]:
        """Return what may come in, by project; the report says why the others may not."""
        candidates: dict[NormalizedName, list[_Candidate]] = {}
        for file in found.files:
            parsed = self._parse(file, found.name)
            if parsed is None:
                self._watcher.finish()
            else:
                candidates.setdefault(parsed.project, []).append(_Candidate(file, parsed))
        return dict(sorted(candidates.items()))

    def _parse(self, file: SourceFile, project: NormalizedName | None) -> ParsedFilename | None:
        if not isinstance(parse_key(file.filename.rpartition("/")[2]), FileKey):
            self._report.skipped |= _printable({file.filename: "it is not a wheel, sdist or egg"})
            return None
        try:
            parsed = parse_filename(file.filename)
        except InvalidFilenameError as error:
            self._report.failed |= _printable({file.filename: str(error)})
            return None
        if project in (None, parsed.project):
            return parsed
        self._report.failed[file.filename] = f"it is listed as a file of {project!r}, which by its name it is not"
        return None

    def rehearse(self, here: _Here, candidates: list[_Candidate]) -> None:
        """Put down in the report what would come in."""
        for candidate in self._watched(candidates):
            with self._reporting(candidate.parsed.filename):
                if self._is_wanted(here, candidate):
                    self._report.imported.append(candidate.parsed.filename)

    def bring_in(self, here: _Here, candidates: list[_Candidate], found: SourceProject) -> None:
        """Import the files of one project, then the status that the source gives it."""
        failures = len(self._report.failed)
        try:
            for candidate in self._watched(candidates):
                with self._reporting(candidate.parsed.filename):
                    self._bring_in_file(here, candidate)
        finally:
            if here.new_origins:
                self._index.keep_origins(here.name, here.new_origins)
        # An archived project takes no files: what has failed now could not come in later.
        if found.status is not Status.ARCHIVED or len(self._report.failed) == failures:
            with self._reporting(here.name):
                self._take_status(here, found)

    def _watched(self, candidates: Iterable[_Candidate]) -> Iterator[_Candidate]:
        for candidate in candidates:
            self._watcher.receive(candidate.parsed.filename, 0)
            yield candidate
            self._watcher.finish()

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Put down in the report why something has failed, unless everything else would fail as well."""
        try:
            yield
        except (CatalogError, StorageFullError):
            raise
        except ElasticpypiError as error:
            self._report.failed |= _printable({what: str(error)})

    def _bring_in_file(self, here: _Here, candidate: _Candidate) -> None:
        filename = candidate.parsed.filename
        if self._is_wanted(here, candidate):
            added, here.files[filename] = self._receive(candidate)
            (self._report.unchanged if added is Added.UNCHANGED else self._report.imported).append(filename)
        if filename in here.files and not here.has_claims_of(filename):
            self._take_claims(here, candidate.file, filename)

    def _is_wanted(self, here: _Here, candidate: _Candidate) -> bool:
        """Whether a file is to be fetched, or put it down otherwise; AlreadyExistsError, ForbiddenError."""
        filename = candidate.parsed.filename
        if here.has_removed(filename):
            self._report.skipped[filename] = "it has been removed here; upload it to have it again"
            return False
        if filename not in here.files:
            # Asked before anything is fetched: an archived project takes no files, for instance.
            same: bool | None = self._index.has(candidate.parsed, candidate.stated.get("sha256", ""))
        else:
            same = self._has_same_bytes(here, candidate)
            if same is False and not self._index.overwrite:
                raise AlreadyExistsError(filename)
        if same:
            self._report.unchanged.append(filename)
        return not same

    def _has_same_bytes(self, here: _Here, candidate: _Candidate) -> bool | None:
        """Whether the file that is here has the bytes of the source; None where only fetching them tells."""
        filename, stated = candidate.parsed.filename, candidate.stated
        if not stated:
            sha256 = candidate.file.content.sha256()
            return None if sha256 is None else sha256 == here.files[filename]
        algorithm = next(iter(stated))
        if algorithm == "sha256":
            return stated[algorithm] == here.files[filename]
        with self._index.open_file(self._index.find_file(here.name, filename)) as stream:
            return stated[algorithm] == hex_digest(stream, algorithm)

    def _receive(self, candidate: _Candidate) -> tuple[Added, str]:
        """Fetch a file and add it; return what has come of it and the sha256 of its bytes."""
        for _ in range(_DOWNLOADS - 1):
            try:
                return self._try_to_receive(candidate)
            except InterruptedDownloadError:
                continue
        return self._try_to_receive(candidate)

    def _try_to_receive(self, candidate: _Candidate) -> tuple[Added, str]:
        filename = candidate.parsed.filename
        with candidate.file.content.read() as pieces, self._index.receive() as incoming:
            sha256 = self._copy(candidate, pieces, incoming)
            claim = claim_by_filename(filename, sha256)
            return self._index.add(incoming, claim, sha256=sha256, by=self._by), sha256

    def _copy(self, candidate: _Candidate, pieces: Iterator[bytes], incoming: Incoming) -> str:
        """Write all pieces and return their sha256; SourceError where they are not what the source says they are."""
        stated, size, expected = candidate.stated, 0, candidate.file.size
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("sha256", *stated)}
        unchecked = 0
        for piece in pieces:
            unchecked += len(piece)
            if unchecked > _CHECKED_BYTES:
                self._require_reserve()
                unchecked = 0
            incoming.write(piece)
            for each in hashes.values():
                each.update(piece)
            size += len(piece)
            if expected is not None and size > expected:
                break
            self._watcher.receive(candidate.parsed.filename, size)
        if expected not in (None, size):
            raise SourceError(f"it has not the {expected} bytes that the source says it has; import again")
        for name, digest in stated.items():
            if hashes[name].hexdigest() != digest:
                raise SourceError(
                    f"its {name} is {hashes[name].hexdigest()}, but the source says {digest}: it was damaged or "
                    "exchanged there or on the way, so it is not taken"
                )
        return hashes["sha256"].hexdigest()

    def _require_reserve(self) -> None:
        free = self._index.free_bytes()
        if free is not None and free < _RESERVE_BYTES:
            raise SourceError(
                f"it is large, or without an end, and the storage has less than {_RESERVE_BYTES // _MEBIBYTE} MiB "
                "left: make room and import again"
            )

    def _take_claims(self, here: _Here, file: SourceFile, filename: str) -> None:
        """Yank a file where the source has, and remember what the source says of it."""
        if file.yanked is not False:
            reason = "" if file.yanked is True else _storable(file.yanked)
            self._index.yank(here.name, filename, reason, by=self._by)
            self._report.yanked.append(filename)
        origin = Origin(here.files[filename], _plausible(file.upload_time), self._source)
        here.origins[filename] = here.new_origins[filename] = origin

    def _take_status(self, here: _Here, found: SourceProject) -> None:
        """Give a project the source's status (PEP 792) with its first files, unless somebody here has given it one."""
        decided = here.decisions
        if found.status is Status.ACTIVE or not here.new_origins or decided.status is not Status.ACTIVE:
            return
        reason = None if found.status_reason is None else _storable(found.status_reason)
        self._index.set_status(here.name, found.status, reason, by=self._by)
        self._report.statuses[here.name] = found.status.value


def _printable(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return names and reasons without what would disturb a terminal or fit no encoding."""
    return {_escape(name): _escape(reason) for name, reason in reasons.items()}


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _storable(text: str) -> str:
    """Return a text without lone surrogates, which JSON can name and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def _plausible(time: datetime | None) -> datetime | None:
    """Return a time in UTC; None for what can be no upload's, whoever claims it."""
    try:
        time = None if time is None else time.astimezone(UTC)
    except OverflowError:
        return None
    return time if time is not None and time.year >= 1990 else None
