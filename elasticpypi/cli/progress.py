"""A word now and then on work that takes long, on standard error."""

from __future__ import annotations

import time
from typing import BinaryIO, cast

import click

_SECONDS = 5.0


class Throttle:
    """Says when it is time for the next word."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def is_due(self) -> bool:
        """Whether it is; the next time is counted from then."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class CountedStream:
    """A stream that tells how many bytes have gone through it."""

    def __init__(self, stream: BinaryIO, done: str) -> None:
        """`done` is what has become of the bytes: "written", "read"."""
        self._stream = stream
        self._done = done
        self._count = 0
        self._throttle = Throttle()

    def as_stream(self) -> BinaryIO:
        """Return this as what it stands for; only `read` and `write` are here."""
        return cast(BinaryIO, self)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._pass(len(data))
        return data

    def write(self, data: bytes) -> int:
        self._pass(len(data))
        return self._stream.write(data)

    def _pass(self, count: int) -> None:
        self._count += count
        if self._throttle.is_due():
            click.echo(f"{self._count / 1e6:,.0f} MB {self._done} so far", err=True)
