"""A file of an upstream on its way to a client and into the storage, held against the sha256 on its page.

Nobody gets the whole of a wrong file: its last piece waits until all of it is proven. Keeping a file is what a client
never suffers from: it gets the file even where the storage has no room for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from elasticpypi.config import Upstream
from elasticpypi.errors import ConflictError, StorageError, UpstreamError
from elasticpypi.names import NormalizedName
from elasticpypi.storage import Incoming, Storage
from elasticpypi.upstream.kept import file_key
from elasticpypi.upstream.model import UpstreamFile

_MOST_FILE_BYTES = 16 * 2**30  # where the page does not say how many there are
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundUpstreamFile:
    """A file of an upstream that clients may have, and that comes through us."""

    upstream: Upstream
    project: NormalizedName
    file: UpstreamFile
    is_kept: bool  # whether its bytes lie here for good

    @property
    def sha256(self) -> str:
        """The digest of its bytes."""
        return self.file.hashes["sha256"]

    @property
    def key(self) -> str:
        """Where its bytes lie, should they lie here."""
        return file_key(self.project, self.sha256, self.file.filename)


class UpstreamStream:
    """A file on its way to a client, who gets the last piece when all of it is proven. The caller closes it."""

    def __init__(
        self,
        found: FoundUpstreamFile,
        pass_on: Callable[[FoundUpstreamFile, UpstreamStream], Generator[bytes, None, None]],
    ) -> None:
        self.size: int | None = None  # bytes; None: nobody says
        self._pieces = pass_on(found, self)
        # What cannot be had at all, or is wrong and small, is an error before an answer has begun.
        self._first: bytes | None = next(self._pieces, None)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next piece; raise UpstreamError where nothing good can come any more."""
        first, self._first = self._first, None
        return next(self._pieces) if first is None else first

    def close(self) -> None:
        """Give back what it holds; what has not passed whole leaves no trace."""
        self._pieces.close()


class Proof:
    """Holds the bytes that come against what the page says of them."""

    def __init__(self, found: FoundUpstreamFile) -> None:
        self.is_given = False
        self._found = found
        self._digest = hashlib.sha256()
        self._size = 0

    def agree(self, size: int | None) -> int | None:
        """Return how many bytes there are, given what upstream says as it begins to send; None: nobody says."""
        announced = self._found.file.size
        if announced is not None and size not in (None, announced):
            raise UpstreamError(
                self._found.upstream.name,
                f"is about to send {size} bytes for {self._found.file.filename}, and its page says {announced}",
            )
        return size if announced is None else announced

    def pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what comes; the last piece when the proof is given, else raise UpstreamError in its place."""
        waiting = b""
        most = _MOST_FILE_BYTES if self._found.file.size is None else self._found.file.size
        for piece in pieces:
            self._digest.update(piece)
            self._size += len(piece)
            if self._size > most:
                break
            if waiting and piece:
                yield waiting
            waiting = piece or waiting
        self._check()
        self.is_given = True
        if waiting:
            yield waiting

    def _check(self) -> None:
        sha256, size = self._digest.hexdigest(), self._found.file.size
        if sha256 != self._found.sha256 or size not in (None, self._size):
            raise refuse_bytes(self._found, came=f"{sha256} ({self._size} bytes)", announced=self._found.sha256)


class Copy:
    """What passes by, on its way into the storage; should it fail there, then no copy is made, and that is all."""

    def __init__(self, storage: Storage | None, found: FoundUpstreamFile) -> None:
        """Without a storage nothing is copied."""
        self._storage = storage
        self._found = found
        self._incoming: Incoming | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._storage is not None:
            with self._giving_up():
                self._incoming = self._stack.enter_context(self._storage.receive())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, piece: bytes) -> None:
        if self._incoming is not None:
            with self._giving_up():
                self._incoming.write(piece)

    def publish(self) -> bool:
        """Give the bytes their place; whether they lie there now."""
        if self._incoming is not None:
            with self._giving_up():
                publish(self._incoming, self._found)
        return self._incoming is not None

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            _log.warning("%s is not kept this time: %s", self._found.file.filename, error)
            self._incoming = None
            self._stack.close()  # which makes room, too


def publish(incoming: Incoming, found: FoundUpstreamFile) -> None:
    """Give proven bytes their place."""
    try:
        incoming.publish(found.key)
    except ConflictError:
        _log.debug("%s lies there already", found.key)  # the same bytes, as the key says


def refuse_bytes(found: FoundUpstreamFile, what: str = "", *, came: str, announced: str | None) -> UpstreamError:
    """Tell the log of bytes that are not what the page says; return what everybody else is told."""
    filename, upstream = found.file.filename, found.upstream.name
    _log.warning(
        "the upstream %r has sent other bytes for %s%s: sha256 %s instead of %s",
        upstream,
        what,
        filename,
        came,
        announced,
    )
    return UpstreamError(upstream, f"has sent other bytes than its page says for {what}{filename}")
