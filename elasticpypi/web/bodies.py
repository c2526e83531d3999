"""Requests are read to their end before they are answered.

A server ends the connection behind an answer that comes early; a client that is still sending then sees a broken pipe
in place of the refusal, and uv sends everything again, five times.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_MOST_BYTES = 256 * 2**20  # who sends more than that in vain may see a broken pipe
_CHUNK_BYTES = 64 * 1024
_AT_ONCE = 16  # strangers who send slowly hold no more threads than these; the others are answered early


class ReadToTheEnd:
    """Discards what an application leaves of a request's body."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        body = get_input_stream(environ)
        environ["wsgi.input"], environ["wsgi.input_terminated"] = body, True
        answer = self._app(environ, start_response)
        if self._turns.acquire(blocking=False):
            try:
                _discard(body)
            finally:
                self._turns.release()
        return answer


def _discard(body: IO[bytes]) -> None:
    left = _MOST_BYTES
    with suppress(OSError, ClientDisconnected):
        while left > 0 and (chunk := body.read(_CHUNK_BYTES)):
            left -= len(chunk)
