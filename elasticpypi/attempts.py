"""How many wrong passwords came lately: in memory, bounded, and in each process by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from elasticpypi.errors import TooManyAttemptsError

_REMEMBERED = 1024
_FREE_ATTEMPTS = 10  # in a row
_SECONDS_PER_ATTEMPT = 6.0  # after which there is another one


class Attempts:
    """Counts attempts of the same kind, a username from an address for instance; thread-safe.

    So whoever guesses is slowed down in each process to one guess in some seconds, and nothing is written anywhere. One
    who is right before that is not: what was checked once is not checked again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._spent: dict[bytes, float] = {}  # until when all of the free attempts are there again
        self._writing = threading.Lock()

    def check(self, attempt: bytes) -> None:
        """Raise TooManyAttemptsError where there were too many."""
        waiting = self._spent.get(attempt, 0.0) - self._clock() - (_FREE_ATTEMPTS - 1) * _SECONDS_PER_ATTEMPT
        if waiting > 0:
            raise TooManyAttemptsError(waiting)

    def count(self, attempt: bytes) -> None:
        """Remember that one more was wrong."""
        with self._writing:
            spent = max(self._spent.pop(attempt, 0.0), self._clock())
            if len(self._spent) >= _REMEMBERED:
                del self._spent[next(iter(self._spent))]
            self._spent[attempt] = spent + _SECONDS_PER_ATTEMPT

    def forget(self, attempt: bytes) -> None:
        """Forget those that were wrong, since one was right."""
        with self._writing:
            self._spent.pop(attempt, None)


def network_of(address: str) -> str:
    """Return what an address has in common with all that its owner may choose: of IPv6 the first 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:  # none at all, where nobody tells
        return address
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))
