"""Whether anything has changed in a catalog: two numbers in a file that all its processes have mapped into memory.

Asking SQLite takes longer than all the rest of a page that is ready, and lets go of the interpreter's lock, for which
the threads of a server then queue. Looking at sixteen bytes does neither.

A writer counts `begun` up while it holds SQLite's write lock, and sets `done` to that number once its transaction has
ended, before it answers anybody. While the two are equal nobody is writing, and all that was written can be read. A
writer that dies in between leaves them different: then SQLite is asked, until the next one has written.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

_SIZE = 16  # bytes: begun, done
_HALF = 8


class Changes:
    """The two numbers in the file `path`, made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                _make_room(descriptor)
            self._identity = os.fstat(descriptor).st_ino
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def is_current(self) -> bool:
        """Whether the file still lies at its path: others could not see what is written to one that was removed."""
        try:
            return self._path.stat().st_ino == self._identity
        except FileNotFoundError:
            return False

    def seen(self) -> bytes:
        """Return what stays the same as long as nothing changes, if `is_quiet` says so of it."""
        return self._memory[:]

    def begin(self) -> bytes:
        """Note that a transaction begins, under SQLite's write lock; return its number."""
        memory = self._memory
        highest = max(_number(memory[:_HALF]), _number(memory[_HALF:]))
        memory[:_HALF] = begun = (highest + 1).to_bytes(_HALF, sys.byteorder)
        return begun

    def end(self, begun: bytes) -> None:
        """Note that the transaction of this number has ended, however it has."""
        if _number(begun) > _number(self._memory[_HALF:]):  # else a later one was quicker to say so
            self._memory[_HALF:] = begun


def _make_room(descriptor: int) -> None:
    """Make the file as large as it has to be, with zeros; it must be there on the disk before it is mapped.

    To write into a hole on a full disk would end the process (SIGBUS).
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, _SIZE)
    else:  # macOS
        os.ftruncate(descriptor, _SIZE)


def _number(half: bytes) -> int:
    return int.from_bytes(half, sys.byteorder)


def is_quiet(seen: bytes) -> bool:
    """Whether nobody was writing when this was seen."""
    return seen[:_HALF] == seen[_HALF:]
