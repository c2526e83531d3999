"""How long we wait for another index: for a page a time in all, for a file as long as enough of it comes."""

from __future__ import annotations

import math
import time
from typing import Protocol

_KIB = 1024
_NOT_IN_TIME = "has not sent all of it in time"


class Patience(Protocol):
    """How long one exchange may still take; not thread-safe."""

    @property
    def complaint(self) -> str:
        """What is said when it is over: the rest of a sentence about the upstream."""

    def rest(self) -> float:
        """Return for how many seconds the next wait may last; raise TimeoutError where it may not begin."""

    def heard(self, size: int, seconds: float) -> None:
        """Be told that so many bytes have come, and how long we have waited for them."""


class Deadline:
    """A time by which everything has to be there, whatever it was spent on."""

    def __init__(self, seconds: float, *, until: float = math.inf) -> None:
        """Where `until`, by `time.monotonic()`, is sooner, that is the end: whoever asks has no more time."""
        by_itself = time.monotonic() + seconds
        self._until = min(by_itself, until)
        self._is_curtailed = until < by_itself
        self.complaint = _NOT_IN_TIME if self._is_curtailed else f"does not answer within {seconds:g} seconds"

    @property
    def was_too_short(self) -> bool:
        """Whether it is over so early that nobody else is to blame."""
        return self._is_curtailed and self.left <= 0

    @property
    def left(self) -> float:
        """Seconds, less than 0 when it is over."""
        return self._until - time.monotonic()

    def rest(self) -> float:
        left = self.left
        if left <= 0:
            raise TimeoutError(self.complaint)
        return left

    def heard(self, size: int, seconds: float) -> None:
        """Care for nothing but the time."""


class Flow:
    """Bytes that have to keep coming, and not too slowly on the whole. Only the time that we wait for them counts.

    What is done with them in between may take long: a client of ours may be slow.
    """

    def __init__(self, *, idle_seconds: float, grace_seconds: float, least_rate: int, until: float = math.inf) -> None:
        """`least_rate` bytes a second are expected, once we have waited for `grace_seconds` in all.

        At `until`, by `time.monotonic()`, all of them have to be there.
        """
        self._idle_seconds = idle_seconds
        self._grace_seconds = grace_seconds
        self._least_rate = least_rate
        self._until = until
        self._size = 0
        self._waited = 0.0

    @property
    def complaint(self) -> str:
        if time.monotonic() >= self._until:
            return _NOT_IN_TIME
        if self._left() < self._idle_seconds:
            return f"sends a file at less than {self._least_rate / _KIB:g} KiB a second"
        return f"has sent nothing of a file for {self._idle_seconds:g} seconds"

    def rest(self) -> float:
        rest = min(self._idle_seconds, self._left(), self._until - time.monotonic())
        if rest <= 0:
            raise TimeoutError(self.complaint)
        return rest

    def heard(self, size: int, seconds: float) -> None:
        self._size += size
        self._waited += seconds

    def _left(self) -> float:
        return max(self._grace_seconds, self._size / self._least_rate) - self._waited
