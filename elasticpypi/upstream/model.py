"""What another index has of a project, and what of it our clients may see.

Specifications: simple repository API (PEP 503, 592, 691, 700, 714), provenance (PEP 740), project status (PEP 792).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NewType

from elasticpypi.config import Upstream
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.simple import file_url

REVISION_DIGITS = 15  # hexadecimal ones of a digest, which fit into what catalogs have for revisions
# A project name of which a complete catalog has just said that it is not ours. `Index.locate` alone makes them: what
# asks another index takes nothing else, so that nobody asks it for a name of ours by mistake.
NotOurs = NewType("NotOurs", NormalizedName)
# Bytes of a file that somebody copies who has 4 GB of room in all, such as an indexer on AWS.
LARGEST_COPY = 3_500_000_000
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file as upstream's page lists it; its name is that of a file of the project."""

    filename: str
    url: str  # absolute, http or https, without a fragment
    version: str  # normalised (PEP 440)
    hashes: Mapping[str, str]  # algorithm -> lowercase hex; perhaps none
    size: int | None = None  # bytes; None: the page does not say
    upload_time: datetime | None = None  # aware, UTC; None: the page does not say
    requires_python: str | None = None
    yanked: bool | str = False  # False, True, or the reason (PEP 592)
    core_metadata: bool | Mapping[str, str] = False  # whether there is a `.metadata` beside it, and its digests
    provenance: str | None = None  # absolute URL (PEP 740)

    @property
    def sha256(self) -> str | None:
        """The digest that all that comes through us is held against."""
        return self.hashes.get("sha256")


@dataclass(frozen=True, slots=True)
class UpstreamPage:
    """A project's page as upstream has it."""

    files: tuple[UpstreamFile, ...]  # by version, then filename
    status: Status = Status.ACTIVE
    status_reason: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # what is no file of the project -> why


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A file that upstream has and our clients do not see."""

    file: UpstreamFile
    reason: str  # the rest of a sentence that begins with the filename: "is younger than 7 days"
    until: datetime | None = None  # aware, UTC; None: until somebody changes the configuration, or upstream the file


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of upstream's that lies in our storage."""

    upstream: str  # the name of the one that it came from
    file: UpstreamFile  # as its page had it then; `hashes` has the sha256 of the bytes that lie here


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where clients are sent for a project."""

    upstream: Upstream
    url: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What our clients may see of a project that an upstream has."""

    upstream: Upstream
    name: NormalizedName
    page: UpstreamPage
    shown: tuple[UpstreamFile, ...]  # by version, then filename
    held_back: tuple[HeldBack, ...]
    kept: Mapping[str, KeptFile]  # by filename, of this upstream
    checked: (
        float  # seconds since 1970, when upstream last said that this is so; 0: it has not, and this is what is kept
    )
    stale: str | None = None  # why upstream could not say so again, when it was time to ask; None: it is fresh
    digest: str = ""  # of all that is shown: equal ones make equal pages

    @property
    def revision(self) -> int:
        """A number that stands for all that is shown: another one wherever that differs."""
        return int(self.digest[:REVISION_DIGITS], 16)

    def keeps(self, file: UpstreamFile) -> bool:
        """Whether the bytes of a file that is shown lie in our storage."""
        kept = self.kept.get(file.filename)
        return kept is not None and kept.file.sha256 == file.sha256

    def url_of(self, file: UpstreamFile, *, base: str) -> str:
        """Return where clients get a file that is shown; `base` is the URL of the index, with its slash."""
        return file_url(self.name, file.filename, base=base) if self.upstream.brings_files else file.url

    @property
    def newest(self) -> list[UpstreamFile]:
        """What is shown, the latest upload first; what has no time comes last, the highest version first."""
        return sorted(self.shown, key=_upload_time)[::-1]

    @property
    def newest_held_back(self) -> list[HeldBack]:
        """What is held back, likewise."""
        return sorted(self.held_back, key=lambda held: _upload_time(held.file))[::-1]


@dataclass(frozen=True, slots=True)
class Asked:
    """What has come of one upstream, when it was its turn for a name."""

    upstream: Upstream
    outcome: str  # the rest of a sentence that begins with its name
    found: Listing | Elsewhere | None = None
    fails: bool = False  # whether it does not say, so that nobody else is asked


def _upload_time(file: UpstreamFile) -> datetime:
    return file.upload_time or _BEFORE_ALL
