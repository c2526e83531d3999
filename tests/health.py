"""A stand-in for a deployed API, which nothing answers for on moto: all that it says is the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def answering(status: int = 200, body: bytes = b"ok\n", *, path: str = "/dev/health") -> Iterator[str]:
    """Answer GET of a path until the context ends, and anything else with 404; yield the URL of the index."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == path else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path.removesuffix('health')}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
