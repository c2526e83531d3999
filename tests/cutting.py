"""A proxy whose connections break, as those of a train do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK_BYTES = 64 * 1024


@dataclass(slots=True)
class CuttingProxy:
    """Hands on what comes, to whichever port is its target now."""

    port: int
    target: int
    limits: list[int]  # bytes from the client that the next connections let through before they break; then all pass
    passed: list[int] = field(default_factory=list)  # bytes that each connection has let through from the client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def cutting(target: int, limits: Sequence[int] = ()) -> Iterator[CuttingProxy]:
    """Put a proxy before a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CuttingProxy(listener.getsockname()[1], target, list(limits))
        connections: list[tuple[socket.socket, threading.Thread]] = []
        accepting = threading.Thread(target=_accept, args=(listener, proxy, connections))
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for client, thread in connections:
                _shut(client)  # what a client has not closed itself
                thread.join()


def _accept(
    listener: socket.socket, proxy: CuttingProxy, connections: list[tuple[socket.socket, threading.Thread]]
) -> None:
    with suppress(OSError):  # when it is shut down
        while True:
            client, _ = listener.accept()
            connections.append((client, threading.Thread(target=_hand_on, args=(client, proxy))))
            connections[-1][1].start()


def _hand_on(client: socket.socket, proxy: CuttingProxy) -> None:
    limit = proxy.limits.pop(0) if proxy.limits else None
    number = len(proxy.passed)
    proxy.passed.append(0)
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", proxy.target)) as server:
        back = threading.Thread(target=_copy_back, args=(server, client))
        back.start()
        try:
            while limit is None or proxy.passed[number] < limit:
                left = _BLOCK_BYTES if limit is None else min(_BLOCK_BYTES, limit - proxy.passed[number])
                data = client.recv(left)
                if not data:
                    break
                proxy.passed[number] += len(data)
                server.sendall(data)
        finally:
            _shut(server)
            _shut(client)
            back.join()


def _copy_back(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(_BLOCK_BYTES):
            client.sendall(data)
    _shut(client)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
