"""What an index knows, in the words of the specifications: files, rejections and human decisions.

Specifications: simple repository API (PEP 503, 592, 691, 700, 714, 792).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from packaging.version import Version

from elasticpypi.names import Kind, NormalizedName, canonical_key, parse_version


class Status(StrEnum):
    """A project's status (PEP 792)."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    QUARANTINED = "quarantined"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and with which credential: what the audit trail says of them."""

    name: str
    credential: str  # "password", "session", "token <id>", "trusted publisher <id>", "command line"


UNKNOWN_ACTOR = Actor("unknown", "unknown")  # of what is done by who has not said


@dataclass(frozen=True, slots=True)
class File:
    """One distribution file, as proven from its bytes."""

    filename: str
    version: str  # normalised (PEP 440)
    kind: Kind
    size: int  # bytes
    sha256: str  # lowercase hex
    upload_time: datetime  # aware, UTC
    requires_python: str | None = None  # as the core metadata has it
    core_metadata_sha256: str | None = None  # lowercase hex; None: no core metadata is served for it


@dataclass(frozen=True, slots=True)
class Rejection:
    """A file that is kept in the storage but not listed, because it cannot be read or trusted."""

    filename: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """What people have decided about a project: its `project.json`."""

    status: Status = Status.ACTIVE
    status_reason: str | None = None
    yanked: Mapping[str, str] = field(default_factory=dict)  # filename or version -> reason, "" for none
    deleted: Mapping[str, str] = field(default_factory=dict)  # filename -> sha256
    problem: str | None = None  # why the present project.json cannot be read; the rest is the last good one


@dataclass(frozen=True, slots=True)
class Origin:
    """What the source of an imported file says of it: a claim, which no page shows and no cooldown reads."""

    sha256: str  # lowercase hex, of the bytes that came in
    upload_time: datetime | None  # aware, UTC; None where the source has none
    source: str  # what was imported from: a URL without credentials, or a directory's name


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the catalog: what is known of one key.

    `generation` is the row's own counter, on which conditional writes stand; 0 where there is no row yet.
    `content` is None where nothing is known: no row, or a tombstone.
    """

    key: str
    project: NormalizedName | None  # None: a filename from which no project can be read
    generation: int = 0
    fingerprint: str = ""  # of the object that was read, as the storage gives it
    content: File | Rejection | Decisions | None = None

    @property
    def problem(self) -> str | None:
        """What somebody should look at: why a file was rejected, or why decisions cannot be read."""
        match self.content:
            case Rejection(reason=reason):
                return reason
            case Decisions(problem=problem):
                return problem
            case _:
                return None


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as a page lists it."""

    file: File
    yanked: bool | str  # False, True, or the reason (PEP 592)


@dataclass(frozen=True, slots=True)
class ProjectSnapshot:
    """All that is known of one project at one revision; entries sorted by key."""

    name: NormalizedName
    revision: int
    entries: tuple[Entry, ...]

    @property
    def decisions(self) -> Decisions:
        """The project's decisions; the defaults where there is no `project.json`."""
        return next((e.content for e in self.entries if isinstance(e.content, Decisions)), Decisions())

    def listing(self) -> list[ListedFile]:
        """Return the files that are served, sorted by version, then filename.

        Where two keys bear the same filename the canonical key (`<project>/<filename>`) is served, else the smallest.
        """
        served: dict[str, File] = {}
        for entry in self.entries:
            if isinstance(entry.content, File) and (entry.content.filename not in served or _is_canonical(entry)):
                served[entry.content.filename] = entry.content
        versions = {file.version: Version(file.version) for file in served.values()}
        yanked = self.decisions.yanked
        reasons = {version: yanked[name] for name, version in _versions_among(yanked)}
        listed = [
            ListedFile(file, _yanked(yanked.get(file.filename, reasons.get(versions[file.version]))))
            for file in served.values()
        ]
        return sorted(listed, key=lambda item: (versions[item.file.version], item.file.filename))


@dataclass(frozen=True, slots=True)
class ListedProject:
    """A project as the root lists it."""

    name: NormalizedName
    serial: int  # its revision


@dataclass(frozen=True, slots=True)
class RootSnapshot:
    """All projects at one moment, sorted by name."""

    revision: int  # grows when a project comes or goes
    serials_revision: int  # grows with every change of anything
    last_serial: int  # no change that is not among `projects` has, or will ever have, a serial up to this one
    projects: tuple[ListedProject, ...]


def served_entry(entries: Iterable[Entry]) -> Entry | None:
    """Return the one of several entries of a filename that is served (see `ProjectSnapshot.listing`)."""
    files = [entry for entry in entries if isinstance(entry.content, File)]
    return min(files, key=lambda entry: (not _is_canonical(entry), entry.key), default=None)


def _is_canonical(entry: Entry) -> bool:
    return entry.project is not None and entry.key == canonical_key(entry.project, entry.key.rpartition("/")[2])


def _yanked(reason: str | None) -> bool | str:
    return False if reason is None else reason or True


def _versions_among(yanked: Iterable[str]) -> Iterator[tuple[str, Version]]:
    for name in yanked:
        version = parse_version(name)
        if version is not None:  # else it is a filename
            yield name, version


def format_time(time: datetime) -> str:
    """Write a time as the simple API wants it: UTC, microseconds, `Z` (PEP 700)."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def parse_time(text: str) -> datetime:
    """Read what `format_time` writes; raise ValueError for anything else."""
    time = datetime.fromisoformat(text)  # ten times as fast as strptime, and content with much more
    if time.tzinfo is not UTC or format_time(time) != text:
        raise ValueError(f"{text!r} is not a time in UTC with microseconds and 'Z'")
    return time


def parse_decisions(data: bytes) -> Decisions:
    """Read a `project.json`; raise ValueError with a sentence where it is not as it should be."""
    try:
        document = json.loads(data)
        json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate, which JSON can name, fits no page
    except (ValueError, RecursionError) as error:
        raise ValueError(f"project.json is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("project.json is not a JSON object")
    unknown = sorted(document.keys() - {"status", "status-reason", "yanked", "deleted"})
    if unknown:
        raise ValueError(f"project.json has an unknown key {unknown[0]!r}")
    status, reason = document.get("status", "active"), document.get("status-reason")
    if status not in list(Status):
        raise ValueError(f"project.json: 'status' is {status!r}, not one of {', '.join(Status)}")
    if not isinstance(reason, str | None):
        raise ValueError("project.json: 'status-reason' is not a string")
    yanked, deleted = document.get("yanked", {}), document.get("deleted", {})
    for key, mapping in (("yanked", yanked), ("deleted", deleted)):
        if not isinstance(mapping, dict) or not all(isinstance(value, str) for value in mapping.values()):
            raise ValueError(f"project.json: {key!r} is not an object of strings")
    return Decisions(Status(status), reason, yanked, {name: digest.lower() for name, digest in deleted.items()})


def format_decisions(decisions: Decisions) -> bytes:
    """Write a `project.json`, so that people can read and edit it."""
    document: dict[str, Any] = {"status": decisions.status}
    if decisions.status_reason is not None:
        document["status-reason"] = decisions.status_reason
    document |= {"yanked": dict(decisions.yanked), "deleted": dict(decisions.deleted)}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
