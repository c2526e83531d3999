"""The request log: a line for each request, without secrets, whose fields nobody can forge.

    2026-11-22T18:20:01.123Z 127.0.0.1 alice GET /simple/acme/ 200 1234 0.000123 "pip/26.3"

Time (UTC), address of the client, user, method, path, status, bytes of the answer's body, seconds until it began, user
agent. What a client sends can break no line: the path is percent-encoded and comes without its query, the user agent is
a JSON string, and what is long is cut. Who gave no good credentials is "-"; nothing is said of what they tried. Lines
that nobody read in time are lost; a line that begins with "#" says later how many.

Wrong credentials are told of once more, as JSON among the events of the audit trail, which does not keep them:

    {"kind": "failed-sign-in", "time": "2026-11-22T18:20:01.123456Z", "address": "192.0.2.7", "username": "alice", …}
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from elasticpypi.index import EVENT_LOGGER
from elasticpypi.model import format_time
from elasticpypi.web.observe import Exchange

_WHOLE_BYTES = 4096  # a pipe keeps that much together when several processes write to it (PIPE_BUF on Linux)
_LARGE_BYTES = 64 * 1024  # each block lets go of the interpreter's lock, for which requests then queue
# Of escaped texts, so that a line stays whole: with an agent of 200 characters, six for each, it has less than 4096.
_ADDRESS, _USER, _PATH = 200, 200, 2000
_PATIENCE_SECONDS = 1.0  # with whoever reads
_events = logging.getLogger(EVENT_LOGGER)
_is_plain = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@-]+").fullmatch


class AccessLog:
    """Writes lines to a file descriptor, several at once but whole."""

    def __init__(self, descriptor: int, *, shared: bool = True, write: Callable[[int, bytes], int] = os.write) -> None:
        """`shared` says whether other processes write there, too: only small blocks are kept apart then."""
        self._descriptor = descriptor
        self._block_bytes = _WHOLE_BYTES if shared else _LARGE_BYTES
        self._write = write
        self._lost = 0  # lines that have not been spoken of

    def __call__(self, exchanges: Sequence[Exchange]) -> None:
        """Write the lines of these exchanges; where nobody takes them they are lost."""
        lines = [format_line(exchange).encode("ascii") for exchange in exchanges]
        if self._lost:
            lines.insert(0, b"# %d lines are lost: nobody read them\n" % self._lost)
        written = 0
        with suppress(OSError):
            for block in _blocks(lines, self._block_bytes):
                if not self._write_whole(b"".join(block)):
                    break
                written += len(block)
        self._lost = len(lines) - written if written else self._lost + len(exchanges)

    def _write_whole(self, data: bytes) -> bool:
        """Write all of it; false where nobody reads, who would hold up the end of the process."""
        while data:
            if not select.select([], [self._descriptor], [], _PATIENCE_SECONDS)[1]:
                return False
            data = data[self._write(self._descriptor, data) :]
        return True


def _blocks(lines: Iterable[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """Yield lines, as many together as fit into so many bytes."""
    block, size = list[bytes](), 0
    for line in lines:
        if block and size + len(line) > most_bytes:
            yield block
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield block


def format_line(exchange: Exchange) -> str:
    """Return the line of an exchange, printable ASCII and a line break; less than 4096 bytes."""
    second = int(exchange.began)
    milliseconds = int((exchange.began - second) * 1000)
    user = "-" if exchange.principal is None else _escape_word(exchange.principal.name, "utf-8")[:_USER]
    return (
        f"{_format_second(second)}.{milliseconds:03}Z {_escape_word(exchange.address)[:_ADDRESS]} {user}"
        f" {_escape_word(exchange.method)} {_escape(exchange.path)[:_PATH]} {exchange.status} {exchange.size}"
        f" {exchange.seconds:.6f} {_quote_agent(exchange.agent)}\n"
    )


def log_failed_sign_ins(exchanges: Sequence[Exchange]) -> None:
    """Write a line for each of these exchanges whose credentials were wrong; of what was tried only a username of ours.

    People type passwords into the wrong field.
    """
    for exchange in exchanges:
        if exchange.failed is not None:
            described = {
                "kind": "failed-sign-in",
                "time": format_time(datetime.fromtimestamp(exchange.began, UTC)),
                "address": exchange.address,
                "username": exchange.failed or None,
                "method": exchange.method,
                "path": exchange.path,
            }
            _events.warning("%s", json.dumps(described))


@lru_cache(maxsize=4)
def _format_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _escape(text: str, encoding: str = "latin-1") -> str:
    return text if _is_plain(text) else quote(text, safe="/!$&'()*+,;=:@", encoding=encoding, errors="replace") or "-"


_escape_word = lru_cache(maxsize=256)(_escape)  # of those that come again and again


@lru_cache(maxsize=256)
def _quote_agent(agent: str) -> str:
    return json.dumps(agent)
