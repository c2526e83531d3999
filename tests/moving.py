"""What the tests of importing share: sources made of files, a web server whose answers are given, a watcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

from elasticpypi.importing import Source, SourceFile, SourceProject
from elasticpypi.importing.local import LocalContent
from elasticpypi.importing.run import Report, import_files
from elasticpypi.index import Index

NO_DIGESTS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Watched:
    """A `Watcher` that remembers what it has seen."""

    events: list[tuple[str | int, ...]] = field(default_factory=list)

    def expect(self, files: int, projects: int) -> None:
        self.events.append(("expect", files, projects))

    def receive(self, filename: str, size: int) -> None:
        self.events.append(("receive", filename, size))

    def finish(self) -> None:
        self.events.append(("finish",))


@dataclass(frozen=True, slots=True)
class Shelf:
    """A `Source` with just these projects."""

    found: tuple[SourceProject, ...]
    name: str = "shelf"

    def projects(self) -> Iterator[SourceProject]:
        yield from self.found


def shelf(*files: SourceFile) -> Shelf:
    """Return a source with these files, of whatever projects."""
    return Shelf((SourceProject(files),))


def on_shelf(path: Path, digests: Mapping[str, str] = NO_DIGESTS, *, yanked: bool | str = False) -> SourceFile:
    """Return a file of a source."""
    return SourceFile(path.name, LocalContent(path), digests, yanked=yanked)


def bring_in(index: Index, source: Source, *, dry_run: bool = False) -> Report:
    """Import a source to its end."""
    report = Report()
    import_files(index, source, Watched(), report, dry_run=dry_run)
    return report


# A web server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers; `missing` bytes of the body are announced and not sent."""

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Web:
    """A server on a free port: path to its answers, of which the last one stays; a callable is asked each time."""

    url: str
    answers: dict[str, list[Answer | Callable[[], Answer]]]
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Authorization
    encodings: dict[str, str | None] = field(default_factory=dict)  # path -> Accept-Encoding

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def put(self, path: str, *answers: Answer | Callable[[], Answer]) -> None:
        self.answers[path] = list(answers)


@contextmanager
def serving_answers() -> Iterator[Web]:
    """Serve until the context ends."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.web
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.web = Web(f"http://127.0.0.1:{self.server_port}", {})


class _Handler(BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self) -> None:
        web = cast(_Server, self.server).web
        web.asked.append((self.path, self.headers["Authorization"]))
        web.encodings[self.path] = self.headers["Accept-Encoding"]
        answers = web.answers.get(self.path, [Answer(status=404)])
        found = answers[0] if len(answers) == 1 else answers.pop(0)
        answer = found if isinstance(found, Answer) else found()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body) + answer.missing))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""
