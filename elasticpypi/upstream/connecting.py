"""Connections to the hosts of an upstream: whom they lead to is looked at first, and every wait has its end.

Imported when something is asked for the first time: urllib3 takes long to import. Its pools are not used, because each
of our exchanges has a patience of its own, which a connection has to know before it is opened.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import HTTPResponse as Answer

from elasticpypi.config import Upstream
from elasticpypi.errors import UpstreamError
from elasticpypi.upstream.hosts import Origin, read_origin, refuse_address
from elasticpypi.upstream.outages import OutageError
from elasticpypi.upstream.patience import Patience

_IDLE_SECONDS = 60.0  # after which a connection is not used again: what lies between may have forgotten it
_MOST_OF_HEADERS = 1024 * 1024  # bytes, with those of answers before the final one (RFC 9110, section 15.2)
_MOST_BETWEEN = 256 * 1024  # bytes that are read for a piece of at most 64 KiB: sizes of chunks, trailers
_MOST_DRAINED = 64 * 1024  # bytes of an answer that nobody reads, so that its connection can be used again
# An idle connection may end just when it is to be used again, which says nothing about the next one.
_HANGING_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_Connection = HTTPConnection | HTTPSConnection


class Reply:
    """An answer whose body has yet to come; not thread-safe. Whoever has it closes it."""

    def __init__(self, connections: Connections, connection: _Connection, line: _Line, answer: Answer) -> None:
        self.status = answer.status
        self.size = answer.length_remaining  # bytes of the body as it comes; None: that is not known beforehand
        self._connections = connections
        self._connection = connection
        self._line = line
        self._answer = answer
        self._is_complete = False

    def header(self, name: str) -> str | None:
        return self._answer.headers.get(name)

    def read(self, most: int) -> bytes:
        """Return what has come of the body, as it was sent: at most so many bytes, and none at its end.

        Raise UpstreamError where it breaks off.
        """
        self._line.allowance = most + _MOST_BETWEEN
        try:
            piece = self._answer.read1(most, decode_content=False)
        except (HTTPError, HTTPException, OSError) as error:
            raise self._connections.explain(error, self._line) from error
        self._is_complete = not piece
        return piece

    def drain(self) -> None:
        """Read what nobody needs, if it is little, so that the connection can be used again."""
        left = _MOST_DRAINED
        with suppress(UpstreamError):
            while left > 0 and (piece := self.read(left)):
                left -= len(piece)

    def be_patient(self, patience: Patience) -> None:
        """Wait for the rest as this says."""
        self._line.patience = patience

    def close(self) -> None:
        self._answer.close()
        if self._is_complete and self._connection.is_connected:
            self._connections.give_back(self._line, self._connection)
        else:
            self._connection.close()


class Connections:
    """The connections to the hosts of one upstream, each used for one exchange after the other; thread-safe."""

    def __init__(self, upstream: Upstream, *, connect_seconds: float, most_idle: int) -> None:
        """`connect_seconds` are for each address of a host; `most_idle` connections are kept for each origin."""
        self._upstream = upstream
        self._connect_seconds = connect_seconds
        self._most_idle = most_idle
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[tuple[float, _Line, _Connection]]] = {}
        self._tls: ssl.SSLContext | None = None
        self.close = weakref.finalize(self, _close_all, self._idle)

    def ask(self, method: str, url: str, headers: Mapping[str, str], patience: Patience) -> Reply:
        """Send a request for a URL that may be asked, and return the answer; redirects are answers like others.

        Raise OutageError where nobody answers in time, UpstreamError where the answer cannot be understood.
        """
        origin = read_origin(url)
        if origin is None:
            raise ValueError("no such URL is asked")
        parts = urlsplit(url)
        request = _Request(method, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", headers)
        idle = self._take(origin)
        if idle is not None:
            with suppress(_HungUpError):
                return self._exchange(*idle, patience, request)
        line, connection = self._connect(origin, patience)
        try:
            return self._exchange(line, connection, patience, request)
        except _HungUpError as error:
            raise self.explain(error, line) from error

    def _exchange(self, line: _Line, connection: _Connection, patience: Patience, request: _Request) -> Reply:
        line.patience, line.allowance = patience, _MOST_OF_HEADERS
        try:
            connection.timeout = patience.rest()
            connection.request(
                request.method, request.target, headers=request.headers, preload_content=False, decode_content=False
            )
            return Reply(self, connection, line, connection.getresponse())
        except (HTTPError, HTTPException, OSError) as error:
            connection.close()
            if line.response is not None:
                line.response.close()
            if isinstance(error, _HANGING_UP):
                raise _HungUpError from error
            raise self.explain(error, line) from error

    def _connect(self, origin: Origin, patience: Patience) -> tuple[_Line, _Connection]:
        line = _Line(self._upstream, origin, patience, self._connect_seconds)
        connection = _Plain(line) if origin.scheme == "http" else _Secure(line, self._context())
        try:
            connection.connect()
        except (HTTPError, OSError) as error:
            connection.close()
            raise OutageError(self._upstream.name, _explain_connecting(error, line)) from error
        return line, connection

    def explain(self, error: Exception, line: _Line) -> UpstreamError:
        """Return what has gone wrong after the connection was there; without URLs, which libraries quote."""
        if isinstance(error, TimeoutError | ReadTimeoutError):
            return OutageError(self._upstream.name, line.patience.complaint)
        return UpstreamError(self._upstream.name, f"breaks off at {line.origin}, or sends what is no answer")

    def _context(self) -> ssl.SSLContext:
        with self._lock:  # one for all connections: to read the certificates of the system takes long
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls

    def _take(self, origin: Origin) -> tuple[_Line, _Connection] | None:
        """Return the connection that was used last; those that have been idle for long are closed."""
        long_ago = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            idle = self._idle.get(origin, [])
            while idle:
                since, line, connection = idle.pop()
                if since > long_ago and connection.is_connected:
                    return line, connection
                connection.close()
        return None

    def give_back(self, line: _Line, connection: _Connection) -> None:
        with self._lock:
            idle = self._idle.setdefault(line.origin, [])
            idle.append((time.monotonic(), line, connection))
            surplus = idle.pop(0)[2] if len(idle) > self._most_idle else None
        if surplus is not None:
            surplus.close()


def _close_all(idle: dict[Origin, list[tuple[float, _Line, _Connection]]]) -> None:
    for connections in idle.values():
        while connections:
            connections.pop()[2].close()


def _explain_connecting(error: Exception, line: _Line) -> str:
    match error:
        case TimeoutError():
            return f"takes no connection in time at {line.origin}"
        case socket.gaierror():
            return f"cannot be found: nobody knows an address of {line.origin}"
        case ssl.SSLCertVerificationError():
            return f"has no certificate that is good for {line.origin}: {error.verify_message}"
        case ssl.SSLError():
            return f"does not speak TLS as we do at {line.origin}"
        case OSError():
            return f"cannot be reached at {line.origin}: {error.strerror or type(error).__name__}"
        case _:
            return f"cannot be reached at {line.origin}: {type(error).__name__}"


# A connection ----------------------------------------------------------------------------------------------------


class _HungUpError(Exception):
    """The connection has ended before there was an answer."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of a host."""

    method: str
    target: str  # path and query
    headers: Mapping[str, str]


class _Line:
    """Whom a connection leads to, and how long and for how much whoever has it waits; not thread-safe."""

    def __init__(self, upstream: Upstream, origin: Origin, patience: Patience, connect_seconds: float) -> None:
        self.upstream = upstream
        self.origin = origin
        self.patience = patience
        self.allowance = 0  # bytes that may come until somebody sets it again
        self.response: HTTPResponse | None = None  # the last one, which nobody else may know if its headers are broken
        self._connect_seconds = connect_seconds

    def dial(self) -> socket.socket:
        """Return a socket that is connected to somebody who may be asked, and over which nothing was sent yet."""
        failure = OSError("it has no address")
        host = self.origin.host.encode()  # as it is: a str would be read as an internationalised name
        for family, kind, protocol, _, address in socket.getaddrinfo(host, self.origin.port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                self._dial_address(sock, address)
            except OSError as error:  # the next one may answer
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    def _dial_address(self, sock: socket.socket, address: Any) -> None:
        sock.settimeout(min(self._connect_seconds, self.patience.rest()))
        self._refuse(address[0])  # lest we knock at doors of others
        sock.connect(address)
        self._refuse(sock.getpeername()[0])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(self.patience.rest())  # of the handshake, as a whole

    def _refuse(self, address: str) -> None:
        """Raise OutageError for an address that is not asked."""
        reason = refuse_address(address, self.origin.host, private=self.upstream.private)
        if reason is not None:
            raise OutageError(self.upstream.name, reason)


class _Plain(HTTPConnection):
    """A connection without TLS."""

    def __init__(self, line: _Line) -> None:
        super().__init__(line.origin.host, line.origin.port)
        self._line = line
        self.response_class = partial(_Response, line)  # type: ignore[assignment]  # it is only ever called

    def _new_conn(self) -> socket.socket:
        return self._line.dial()


class _Secure(HTTPSConnection):
    """A connection with TLS."""

    def __init__(self, line: _Line, context: ssl.SSLContext) -> None:
        super().__init__(line.origin.host, line.origin.port, ssl_context=context)
        self._line = line
        self.response_class = partial(_Response, line)  # type: ignore[assignment]  # it is only ever called

    def _new_conn(self) -> socket.socket:
        return self._line.dial()


class _Response(HTTPResponse):
    """Reads an answer through `_Receiver`, and takes no headers that are not as they should be."""

    def __init__(self, line: _Line, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        line.response = self
        self.fp = io.BufferedReader(_Receiver(line, sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        if self.headers.defects or self.headers.get_payload():  # urllib3 would log them, and the URL
            raise HTTPException("the headers are broken")


class _Receiver(io.RawIOBase):
    """What comes from a socket, whose own timeout would begin anew with every byte."""

    def __init__(self, line: _Line, sock: socket.socket, received: io.RawIOBase) -> None:
        super().__init__()
        self._line = line
        self._sock = sock
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._line.allowance <= 0:
            raise HTTPException("more comes than what is read can need")
        self._sock.settimeout(self._line.patience.rest())
        began = time.monotonic()
        size = self._received.readinto(buffer)
        self._line.patience.heard(size or 0, time.monotonic() - began)
        self._line.allowance -= size or 0
        return size

    def close(self) -> None:
        self._received.close()
        super().close()
