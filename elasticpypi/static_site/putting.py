"""One document into an output, and the count of what was done."""

from __future__ import annotations

import threading

from elasticpypi.errors import ConflictError
from elasticpypi.output import Output, Written
from elasticpypi.static_site import Document

ATTEMPTS = 20  # at what others keep changing


class Tally:
    """How many documents were written, removed and left as they were; counted by several threads."""

    def __init__(self) -> None:
        self.written = 0
        self.removed = 0
        self.unchanged = 0
        self._lock = threading.Lock()

    def count(self, *, written: int = 0, removed: int = 0, unchanged: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            self.written += written
            self.removed += removed
            self.unchanged += unchanged


def put(output: Output, document: Document, there: Written | None, tally: Tally) -> None:
    """Write a document in place of what was seen there, unless it is just that; ConflictError, BusyError."""
    if there is not None and there.size == len(document.data) and output.holds(there, document.data):
        tally.count(unchanged=1)
        return
    output.write(document.path, document.data, document.content_type, replacing=there)
    tally.count(written=1)


def take_away(output: Output, there: Written, tally: Tally) -> None:
    """Remove a document that was seen there; ConflictError."""
    output.remove(there)
    tally.count(removed=1)


def look_again(output: Output, path: str, before: Written | None) -> None:
    """Make sure that a document is still the one that was seen; ConflictError."""
    if output.look(path) != before:
        raise ConflictError(path)
