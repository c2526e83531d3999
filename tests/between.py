"""A proxy in front of moto that fails as AWS does now and then, and counts the bytes that pass."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import urlsplit

_PIECE = 64 * 1024
_FOREVER = 10**9
_TARGETS = {"DynamoDB": "dynamodb", "AmazonSQS": "sqs"}
# Kind -> status and code, for DynamoDB (and SQS) and for S3. "Error handling with DynamoDB", "Error responses" of S3.
_ANSWERS = {
    "throttle": ((400, "ThrottlingException"), (503, "SlowDown")),
    "error": ((500, "InternalServerError"), (500, "InternalError")),
    "unavailable": ((503, "ServiceUnavailable"), (503, "ServiceUnavailable")),
}
KINDS = (*_ANSWERS, "reset")  # and "hang"


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next so many requests of a service."""

    service: str
    kind: str
    operations: frozenset[str]  # none: all of them
    left: int


@dataclass(slots=True)
class Between:
    """A running proxy."""

    url: str
    received: Counter[str] = field(default_factory=Counter)  # bytes of bodies that the clients got, by service
    failed: Counter[str] = field(default_factory=Counter)  # requests that failed, by service
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _going_on: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def failing(self, service: str, kind: str, *operations: str, times: int = _FOREVER) -> Iterator[None]:
        """Let requests of a service fail until the context ends, or so many of them.

        Operations of S3 are HTTP's methods. What hangs is never answered.
        """
        fault = Fault(service, kind, frozenset(operations), times)
        self._going_on.clear()
        with self._lock:
            self._faults.append(fault)
        try:
            yield
        finally:
            with self._lock:
                self._faults.remove(fault)
            self._going_on.set()

    def take_fault(self, service: str, operation: str) -> str | None:
        """Return what goes wrong with a request."""
        with self._lock:
            for fault in self._faults:
                if fault.service == service and fault.left and (not fault.operations or operation in fault.operations):
                    fault.left -= 1
                    self.failed[service] += 1
                    return fault.kind
        return None

    def hang(self) -> None:
        """Wait until nothing hangs any more."""
        self._going_on.wait(60)

    def let_go(self) -> None:
        self._going_on.set()


@contextmanager
def between(url: str) -> Iterator[Between]:
    """Stand before a server until the context ends."""
    server = _Proxy(("127.0.0.1", 0), _Handler)
    server.netloc = urlsplit(url).netloc
    server.proxy = Between(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy.let_go()
        server.shutdown()
        thread.join()
        server.server_close()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    netloc: str
    proxy: Between

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def _handle(self) -> None:
        server = cast(_Proxy, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        service, operation = self._asked()
        match server.proxy.take_fault(service, operation):
            case None:
                self._hand_on(server, service, body)
            case "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "hang":
                server.proxy.hang()
                self.close_connection = True
            case kind:
                self._fail(service, kind)

    def _asked(self) -> tuple[str, str]:
        target, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
        service = next((_TARGETS[name] for name in _TARGETS if target.startswith(name)), "s3")
        return service, operation or self.command

    def _fail(self, service: str, kind: str) -> None:
        status, code = _ANSWERS[kind][service == "s3"]
        said = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        if service != "s3":
            said = json.dumps({"__type": f"com.amazonaws.dynamodb#{code}", "message": "injected"}).encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    def _hand_on(self, server: _Proxy, service: str, body: bytes) -> None:
        with closing(http.client.HTTPConnection(server.netloc, timeout=60)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            if answer.headers.get("Content-Length") is None and answer.status not in (204, 304):
                self._send(server, service, [answer.read()])
                return
            if answer.headers.get("Content-Length") is not None:
                self.send_header("Content-Length", answer.headers["Content-Length"])
            self.end_headers()
            self._copy(server, service, iter(lambda: answer.read(_PIECE), b""))

    def _send(self, server: _Proxy, service: str, pieces: list[bytes]) -> None:
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.end_headers()
        self._copy(server, service, iter(pieces))

    def _copy(self, server: _Proxy, service: str, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            server.proxy.received[service] += len(piece)
            self.wfile.write(piece)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815  # http.server's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""
