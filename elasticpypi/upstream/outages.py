"""A host that nobody reaches is left alone for a while, so that those who would ask it are told so at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from elasticpypi.errors import UpstreamError


class OutageError(UpstreamError):
    """Nobody was reached, or no answer came in time."""


class Breaker:
    """Remembers that a host has failed; thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failure: UpstreamError | None = None
        self._until = 0.0

    def check(self) -> None:
        """Raise UpstreamError, the last one's, while the host is left alone."""
        failure = self._failure
        if failure is not None and self._clock() < self._until:
            raise UpstreamError(failure.upstream, failure.reason)

    def enter(self) -> None:
        """Do as `check` does, and let one who comes when the time is over try it; the others are told as before."""
        with self._lock:
            self.check()
            self._until = self._clock() + self._seconds

    def fail(self, error: UpstreamError) -> None:
        with self._lock:
            self._failure, self._until = error, self._clock() + self._seconds

    def succeed(self) -> None:
        with self._lock:
            self._failure = None
