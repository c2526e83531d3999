"""Documents that were given out lately, in memory, by their digest: what is found there can be nothing else."""

from __future__ import annotations

import threading


class RecentDocuments:
    """Some small documents; the ones that came first go first. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        """Take no document of more than a sixteenth of that, lest it drive out all the others."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._documents: dict[str, bytes] = {}
        self._changing = threading.Lock()

    def get(self, sha256: str) -> bytes | None:
        """Return the document that has this digest; None where it is not here."""
        return self._documents.get(sha256)

    def add(self, sha256: str, data: bytes) -> None:
        """Take a document, of which the caller has proven the digest."""
        if len(data) > self._most_bytes // 16:
            return
        with self._changing:
            if sha256 not in self._documents:
                self._documents[sha256] = data
                self._bytes += len(data)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._documents.pop(next(iter(self._documents))))
