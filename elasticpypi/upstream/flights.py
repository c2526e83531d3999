"""One caller at a time asks for a name; the others wait a while for what it finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Flight:
    lock: threading.Lock = field(default_factory=threading.Lock)
    callers: int = 0  # who is at it and who waits, by whom it is forgotten in the end


class Flights:
    """Turns, one for each name of an upstream, among a bounded number of callers; thread-safe."""

    def __init__(self, most: int, *, share: int | None = None) -> None:
        """At most so many callers are at it or wait: the others are told at once.

        Of one upstream at most `share` (None: all), so that one which is slow leaves places for the others.
        """
        self._places = threading.BoundedSemaphore(most)
        self._share = most if share is None else share
        self._shares: dict[str, threading.BoundedSemaphore] = {}  # of the configured upstreams, by name
        self._flights: dict[str, _Flight] = {}
        self._changing = threading.Lock()

    @contextmanager
    def place(self, upstream: str) -> Iterator[bool]:
        """Take a place among all callers, without a turn; False where none is free."""
        share = self._shares.get(upstream) or self._shares.setdefault(upstream, threading.BoundedSemaphore(self._share))
        with _taken(share) as has_share:
            if not has_share:
                yield False
                return
            with _taken(self._places) as has_place:
                yield has_place

    @contextmanager
    def turn(self, upstream: str, name: str, *, patience_seconds: float) -> Iterator[bool]:
        """Wait for the turn of a name; False where it does not come in time, or too many wait already."""
        with self.place(upstream) as has_place:
            if not has_place:
                yield False
                return
            key = f"{upstream}/{name}"
            flight = self._join(key)
            try:
                has_turn = flight.lock.acquire(timeout=patience_seconds)
                try:
                    yield has_turn
                finally:
                    if has_turn:
                        flight.lock.release()
            finally:
                self._leave(key, flight)

    def _join(self, name: str) -> _Flight:
        with self._changing:
            flight = self._flights.setdefault(name, _Flight())
            flight.callers += 1
            return flight

    def _leave(self, name: str, flight: _Flight) -> None:
        with self._changing:
            flight.callers -= 1
            if not flight.callers:
                del self._flights[name]


@contextmanager
def _taken(places: threading.BoundedSemaphore) -> Iterator[bool]:
    is_taken = places.acquire(blocking=False)
    try:
        yield is_taken
    finally:
        if is_taken:
            places.release()
