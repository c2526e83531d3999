"""How long a function goes on trying: until shortly before its own end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

NO_TIME = "there was no time left for it"
# Before what cannot be done now is tried again. The queue gives it back after an hour and a half only, the longest that
# an invocation and what goes wrong around it may take.
PAUSES = (1.0, 4.0, 16.0)  # seconds


class Context(Protocol):
    """What Lambda says of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how much time the function has left."""


def deadline(context: Context, *, reserve_seconds: float) -> float:
    """Return when, by `time.monotonic()`, nothing new should be begun: so long before the function's own end."""
    remaining = context.get_remaining_time_in_millis() / 1000
    return time.monotonic() + remaining - min(reserve_seconds, remaining / 2)


def tries(pauses: Sequence[float], until: float) -> Iterator[float]:
    """Let the caller try, and again after longer and longer pauses."""
    for pause in (0.0, *pauses):
        if pause and time.monotonic() + pause >= until:
            return
        time.sleep(pause)
        yield pause
