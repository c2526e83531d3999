"""The least that a page can cost behind granian: a callable with all answers in a dictionary.

It checks the credentials, tells compressed from plain, and answers 304; it knows nothing of names, forms or changes.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bench.contestants import CREDENTIALS
from bench.servers import follow_main_process, run_granian


def stored_pages(root: Path) -> WSGIApplication:
    """Return a callable that answers the files below `root`."""
    follow_main_process()
    bodies = {f"/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    tags = {path: f'"{hashlib.sha256(body).hexdigest()}"' for path, body in bodies.items()}
    known = CREDENTIALS["Authorization"]

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_AUTHORIZATION") != known:
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        gzipped = environ.get("HTTP_ACCEPT_ENCODING") == "gzip"
        path = environ["PATH_INFO"] + (".gz" if gzipped else "")
        headers = [("ETag", tags[path]), ("Vary", "Accept-Encoding")]
        if environ.get("HTTP_IF_NONE_MATCH") == tags[path]:
            start_response("304 Not Modified", headers)
            return []
        headers += [("Content-Encoding", "gzip")] if gzipped else []
        start_response("200 OK", [*headers, ("Content-Length", str(len(bodies[path])))])
        return [bodies[path]]

    return answer


if __name__ == "__main__":
    run_granian(functools.partial(stored_pages, Path(sys.argv[1])), int(sys.argv[2]))
