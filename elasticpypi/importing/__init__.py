"""Moving in: the files of another index, as whatever is left of it says they are.

Sources: `importing.directory`, `importing.devpi`, `importing.dumb_pypi`, `importing.simple_index`. What a source says
is a claim: `importing.run` holds it against the bytes, and these against all that an upload must prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from elasticpypi.model import Status
from elasticpypi.names import NormalizedName


class Content(Protocol):
    """Where the bytes of a source's file are. Each method raises SourceError where they cannot be read."""

    def read(self) -> AbstractContextManager[Iterator[bytes]]:
        """Open the bytes, which then come piece by piece."""

    def sha256(self) -> str | None:
        """Return the sha256 of the bytes; None where they would have to be fetched for it."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as a source has it."""

    filename: str  # anything at all; not looked at yet
    content: Content
    digests: Mapping[str, str]  # algorithm -> hex, as the source states them; none where it states none
    size: int | None = None  # bytes; None where the source does not say
    upload_time: datetime | None = None  # aware; None where the source does not say
    yanked: bool | str = False  # False, True, or the reason (PEP 592)


@dataclass(frozen=True, slots=True)
class SourceProject:
    """Files that a source has together."""

    files: tuple[SourceFile, ...]
    name: NormalizedName | None = None  # which project all files must belong to; None where their names decide
    status: Status = Status.ACTIVE
    status_reason: str | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)  # what is no distribution file -> why
    failed: Mapping[str, str] = field(default_factory=dict)  # what should have been read and could not -> why
    remaining: int = 0  # how many projects come after this one


class Source(Protocol):
    """Another index, or what it left behind."""

    @property
    def name(self) -> str:
        """What origins call it: scheme and host of a URL, or the kind and the last part of the path."""

    def projects(self) -> Iterator[SourceProject]:
        """Yield all there is; raise SourceError where nothing can be read."""
