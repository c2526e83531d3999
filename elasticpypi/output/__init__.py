"""The output: where an index lies that is written as files, for any web server or for S3 itself to serve.

Adapters: `output.directory`, `output.s3`. Every adapter passes the same contract tests (tests/test_output.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

STATE_PREFIX = ".elasticpypi/"  # of what the site keeps for itself, which no web server should give out


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it lies in an output now."""

    path: str
    size: int  # bytes
    token: str  # opaque; another one when other bytes were written


class Output(Protocol):
    """Where documents are written. Any method may raise OutputError when the output cannot be reached or written.

    It is an UnwritableDocumentError where that is so of one document, or of those below one path.

    Paths are parts joined by "/", as in a URL that is decoded: `simple/acme/index.html`. A document is seen whole or
    not at all. Strongly consistent: who looks after a write sees it.
    """

    at_once: int
    """How many requests are worth making at the same time; 1 where nothing is gained."""

    is_exclusive: bool
    """Whether `exclusively` keeps all others out, so that nobody need look who else is at work."""

    def list(self, prefix: str = "") -> Iterator[Written]:
        """Yield what lies under a prefix (of paths, not of parts), in any order; `.elasticpypi/` only if asked for."""

    def look(self, path: str) -> Written | None:
        """Return what lies under a path; None where nothing does."""

    def holds(self, written: Written, data: bytes) -> bool:
        """Whether a document has just these bytes, as far as can be told; BusyError where it is another one by now."""

    def read(self, path: str) -> tuple[bytes, Written] | None:
        """Return a document and what it is known by; None where there is none."""

    def write(self, path: str, data: bytes, content_type: str, *, replacing: Written | None) -> Written:
        """Write a document in place of just that one (None: there must be none); ConflictError."""

    def remove(self, written: Written) -> None:
        """Remove just this document; nothing where it is gone, ConflictError where it is another one by now."""

    def exclusively(self) -> AbstractContextManager[None]:
        """Be alone with an output that is exclusive: others wait. Where it is not, conditions do."""
