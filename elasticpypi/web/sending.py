"""Bytes on their way to a client: how it may keep them, which part of them it wants, and whose turn it is."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from elasticpypi.errors import UnavailableError
from elasticpypi.index import LocalFile, SignedURL
from elasticpypi.web.present import current_session

if TYPE_CHECKING:
    from elasticpypi.index import UpstreamStream

_CHUNK_BYTES = 64 * 1024  # the server keeps a few of them for each reader that stalls


class SentFile(FileWrapper):
    """A file on its way, which holds a turn until the server closes it."""

    def __init__(self, stream: BinaryIO, turns: threading.BoundedSemaphore) -> None:
        super().__init__(stream, _CHUNK_BYTES)
        self._turn = _Turn(turns)

    def close(self) -> None:
        super().close()
        self._turn.end()


class SentStream:
    """A file of an upstream on its way, which holds a turn, too."""

    def __init__(self, stream: UpstreamStream, turns: threading.BoundedSemaphore) -> None:
        self.size = stream.size  # bytes; None: nobody says
        self._stream = stream
        self._turn = _Turn(turns)

    def __iter__(self) -> Iterator[bytes]:
        return self._stream

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._turn.end()


class _Turn:
    """A turn that was taken; a server may end it more than once."""

    def __init__(self, turns: threading.BoundedSemaphore) -> None:
        self._turns: threading.BoundedSemaphore | None = turns

    def end(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release()


def open_in_turn(
    turns: threading.BoundedSemaphore, open_bytes: Callable[[], LocalFile | SignedURL | UpstreamStream]
) -> SentFile | SentStream | SignedURL:
    """Open what is to be sent while there are turns; raise UnavailableError where there is none left."""
    if not turns.acquire(blocking=False):
        raise UnavailableError("too many downloads are under way just now; try again in a moment")
    try:
        match open_bytes():
            case LocalFile(stream):
                return SentFile(stream, turns)
            case SignedURL() as elsewhere:
                turns.release()
                return elsewhere
            case stream:
                return SentStream(stream, turns)
    except BaseException:
        turns.release()
        raise


def redirect_to_bytes(elsewhere: SignedURL) -> Response:
    """Send a client to where it gets bytes; that dies, and must not be kept longer than it lives."""
    return Response(status=302, headers={"Location": elsewhere.url, "Cache-Control": "no-store"})


def make_cacheable(response: Response, sha256: str, *, for_good: bool) -> None:
    """Name the bytes by their digest, and let clients keep them, for good where they are never others."""
    response.set_etag(sha256)
    # What a browser keeps of a session would stay there after it has ended.
    is_kept = for_good and current_session() is None
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if is_kept else "private, max-age=0"
    response.headers["Vary"] = "Authorization, Cookie"
    response.headers["X-Content-Type-Options"] = "nosniff"


def asks_for_one_range() -> bool:
    """Whether there is a Range to be heeded; several at once, other units and nonsense are ignored (RFC 9110, 14.2)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("Range", ""), re.ASCII)
    if match is None or match[0] == "bytes=-":
        return False
    return not (match[1] and match[2]) or int(match[1]) <= int(match[2])


def is_download(response: Response) -> bool:
    """Whether a client gets a whole file, or its beginning: what looks into an archive asks for its end."""
    if request.method != "GET" or response.status_code not in (200, 206, 302):
        return False
    return response.status_code == 200 or not asks_for_one_range() or _begins_at_the_start()


def _begins_at_the_start() -> bool:
    return re.match(r"bytes=0+-", request.headers["Range"]) is not None
