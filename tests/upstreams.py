"""An upstream on loopback, well-behaved until it is told otherwise; what it was asked for is remembered.

    with running_upstream() as upstream:
        upstream.add(make_wheel(tmp_path, "spam", "1.0"))
        with upstream.behaving("500"):
            ...

Its files are those that were added; what its pages say of them can be anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.errors import InvalidFilenameError
from elasticpypi.names import parse_filename
from tests.listening import Listener

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html; charset=utf-8"
LONG_AGO = "2020-02-20T20:20:20.000000Z"
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
_FOREVER_SECONDS = 60.0  # that nothing is waited for in vain: the client gives up long before
_DRIP_SECONDS = 0.05
_PIECE = b"<!-- more -->" * 5000
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sent:
    """What is answered."""

    body: bytes
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Project:
    """A project of an upstream."""

    name: str  # as its page has it
    files: list[dict[str, Any]] = field(default_factory=list)  # entries of the page, as JSON has them
    status: dict[str, str] | None = None


class FakeUpstream:
    """What answers; attributes may be changed while it does."""

    def __init__(self) -> None:
        self.projects: dict[str, Project] = {}  # by the name in the URL
        self.documents: dict[str, Sent] = {}  # path -> files, and pages that are to be sent just so
        self.forms: tuple[str, ...] = (JSON, HTML)  # the last is for those who accept none of them
        self.page_headers: dict[str, str] = {}  # Cache-Control, Last-Modified
        self.has_etags = True
        self.credentials: tuple[str, str] | None = None  # None: everybody may ask
        self.asked: list[Asked] = []
        self.released = threading.Event()  # ends what hangs, drips and is endless
        self._behaviours: dict[str, Behaviour] = {}  # beginning of a path -> what is done in place of an answer
        self._running = ExitStack()
        self._port = 0  # any, the first time

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def base(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://{self.netloc}"

    @property
    def url(self) -> str:
        """The simple API, as an index of ours is told of it."""
        return f"{self.base}/simple/"

    def configured(self, **changes: Any) -> Upstream:
        """Return what an index of ours is configured with: a proxy of this, but for the changes."""
        usual: dict[str, Any] = {"name": "fake", "url": self.url, "mode": UpstreamMode.PROXY, "private": True}
        if self.credentials is not None:
            usual["username"], usual["password"] = self.credentials
        return Upstream(**(usual | changes))

    # What it has ------------------------------------------------------------------------------------------------------

    def add(
        self,
        file: Path,
        *,
        under: str | None = None,
        says: Mapping[str, Any] = _NOTHING,
        core_metadata: bytes | None = None,
        provenance: bytes | None = None,
    ) -> dict[str, Any]:
        """List a file, and return what the page says of it.

        `under` is the project's name in the URL (None: the file's). `says` replaces keys of its entry, None leaves one
        out. `core_metadata` is what lies beside it (None: a wheel's own).
        """
        name = under or parse_filename(file.name).project
        path, data = f"/files/{file.name}", file.read_bytes()
        self.documents[path] = Sent(data)
        entry: dict[str, Any] = {
            "filename": file.name,
            "url": f"../..{path}".replace("+", "%2B"),
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            "size": len(data),
            "upload-time": LONG_AGO,
            "yanked": False,
        }
        beside = _core_metadata_of(file) if core_metadata is None else core_metadata
        if beside is not None:
            self.documents[f"{path}.metadata"] = Sent(beside)
            entry["core-metadata"] = {"sha256": hashlib.sha256(beside).hexdigest()}
        if provenance is not None:
            self.documents[f"{path}.provenance"] = Sent(provenance, "application/vnd.pypi.integrity.v1+json")
            entry["provenance"] = f"{self.base}{path}.provenance"
        entry = {key: value for key, value in (entry | dict(says)).items() if value is not None}
        self.project(name).files.append(entry)
        return entry

    def project(self, name: str) -> Project:
        """Return a project, made where there is none."""
        return self.projects.setdefault(name, Project(name))

    def remove(self, name: str) -> None:
        """Forget a project; its files stay."""
        del self.projects[name]

    def add_page(self, name: str, body: bytes | str, content_type: str = HTML) -> None:
        """Send just this as a project's page."""
        sent = body.encode() if isinstance(body, str) else body
        self.documents[f"/simple/{name}/"] = Sent(sent, content_type)

    # What it was asked ------------------------------------------------------------------------------------------------

    def paths(self, beginning: str = "/") -> list[str]:
        """Return the paths that were asked for, in order."""
        return [asked.path for asked in list(self.asked) if asked.path.startswith(beginning)]

    def take(self) -> list[Asked]:
        """Return what was asked since the last call."""
        taken = list(self.asked)
        del self.asked[: len(taken)]
        return taken

    # How it behaves ---------------------------------------------------------------------------------------------------

    @contextmanager
    def behaving(self, behaviour: str | Behaviour, *, at: str = "/") -> Iterator[None]:
        """Do something else, by its name in BEHAVIOURS, where a path begins so, until the context ends."""
        if behaviour == "down":
            with self._down():
                yield
            return
        self.released.clear()
        self._behaviours[at] = BEHAVIOURS[behaviour] if isinstance(behaviour, str) else behaviour
        try:
            yield
        finally:
            del self._behaviours[at]
            self.released.set()

    @contextmanager
    def _down(self) -> Iterator[None]:
        """Listen no more, and end all connections: whoever comes is refused."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer until the context ends."""
        self._start()
        try:
            yield
        finally:
            self.released.set()
            self._stop()

    def _start(self) -> None:
        listener = _Listener(self, port=self._port)  # always the same one
        self._port = listener.server_port
        self._running.enter_context(listener.running())

    def _stop(self) -> None:
        self._running.close()

    # Answering --------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> None:
        self.asked.append(Asked(request.command, request.path, {k.lower(): v for k, v in request.headers.items()}))
        for beginning, behaviour in list(self._behaviours.items()):
            if request.path.startswith(beginning):
                behaviour(self, request)
                return
        request.send(self.find(request))

    def find(self, request: Request) -> Sent:
        """Return what a well-behaved one answers."""
        if self.credentials is not None and request.headers["Authorization"] != _basic(*self.credentials):
            return Sent(b"who are you?", "text/plain", 401, {"WWW-Authenticate": 'Basic realm="fake"'})
        path = unquote(request.path)
        if path in self.documents:
            return self._conditionally(request, self.documents[path])
        name = path.removeprefix("/simple/").removesuffix("/")
        if path == f"/simple/{name}/" and name in self.projects:
            return self._conditionally(request, self.page(name, request.headers["Accept"]))
        return Sent(b"404 Not Found", "text/plain", 404)

    def page(self, name: str, accept: str | None) -> Sent:
        """Return a project's page in the form that is liked best."""
        liked = next((form for form in self.forms if form.partition(";")[0] in (accept or "")), self.forms[-1])
        project = self.projects[name]
        body = render_json(project) if liked == JSON else render_html(project)
        return Sent(body, liked, headers=dict(self.page_headers))

    def _conditionally(self, request: Request, sent: Sent) -> Sent:
        if not request.path.startswith("/simple/"):
            return sent
        etag = f'"{hashlib.sha256(sent.body).hexdigest()[:16]}"'
        headers = dict(sent.headers) | ({"ETag": etag} if self.has_etags else {})
        modified = headers.get("Last-Modified")
        known = self.has_etags and request.headers["If-None-Match"] == etag
        if known or (modified is not None and request.headers["If-Modified-Since"] == modified):
            return Sent(b"", sent.content_type, 304, headers)
        return Sent(sent.body, sent.content_type, sent.status, headers)


def render_json(project: Project) -> bytes:
    """Return a project's page as PyPI has it."""
    versions = {str(parse_filename(entry["filename"]).version) for entry in project.files if _is_file(entry)}
    document: dict[str, Any] = {
        "meta": {"api-version": "1.4", "_last-serial": 1},
        "name": project.name,
        "versions": sorted(versions),
        "files": project.files,
    }
    if project.status is not None:
        document["project-status"] = project.status
    return json.dumps(document).encode()


def _is_file(entry: Mapping[str, Any]) -> bool:
    with suppress(InvalidFilenameError):
        return bool(parse_filename(entry.get("filename", "")))
    return False


def render_html(project: Project) -> bytes:
    """Return the same as HTML, which says less."""
    head = ['<meta name="pypi:repository-version" content="1.4">']
    for key, value in (project.status or {}).items():
        name = "project-status" if key == "status" else "project-status-reason"
        head.append(f'<meta name="pypi:{name}" content="{html.escape(value)}">')
    lines = [_anchor(entry) for entry in project.files]
    title = f"<title>Links for {html.escape(project.name)}</title>"
    return "\n".join(
        ["<!DOCTYPE html>", "<html><head>", *head, title, "</head><body>", *lines, "</body></html>"]
    ).encode()


def _anchor(entry: Mapping[str, Any]) -> str:
    digest = entry.get("hashes", {}).get("sha256")
    attributes = {"href": entry["url"] + (f"#sha256={digest}" if digest else "")}
    if "requires-python" in entry:
        attributes["data-requires-python"] = entry["requires-python"]
    if entry.get("yanked"):
        attributes["data-yanked"] = "" if entry["yanked"] is True else entry["yanked"]
    if entry.get("core-metadata"):
        attributes["data-core-metadata"] = f"sha256={entry['core-metadata']['sha256']}"
    if "provenance" in entry:
        attributes["data-provenance"] = entry["provenance"]
    written = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a {written}>{html.escape(entry['filename'])}</a><br>"


def _core_metadata_of(file: Path) -> bytes | None:
    if file.suffix != ".whl":
        return None
    with zipfile.ZipFile(file) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@contextmanager
def running_upstream() -> Iterator[FakeUpstream]:
    """Run an upstream that has nothing yet until the context ends."""
    upstream = FakeUpstream()
    with upstream.running():
        yield upstream


# Behaviours -----------------------------------------------------------------------------------------------------------


def send(status: int, body: bytes = b"", content_type: str = "text/plain", **headers: str) -> Behaviour:
    """Return what always answers so; keyword arguments are headers, `retry_after` for Retry-After."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return lambda _, request: request.send(Sent(body, content_type, status, named))


def redirect(location: str) -> Behaviour:
    """Return what sends everybody elsewhere."""
    return send(302, location=location)


def redirect_below(base: str) -> Behaviour:
    """Return what sends everybody to the same path of another server."""
    return lambda _, request: request.send(Sent(b"", "text/plain", 302, {"Location": base + request.path}))


def _redirect_to_itself(_: FakeUpstream, request: Request) -> None:
    request.send(Sent(b"", "text/plain", 302, {"Location": request.path}))


def _hang(upstream: FakeUpstream, request: Request) -> None:
    upstream.released.wait(_FOREVER_SECONDS)
    request.close_connection = True


def _reset(_: FakeUpstream, request: Request) -> None:
    """End the connection as a server does that dies."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()


def _speak_no_http(_: FakeUpstream, request: Request) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    request.close_connection = True


def _go_on_for_ever(upstream: FakeUpstream, request: Request) -> None:
    """Send a good page without an end."""
    _begin(request, HTML if request.path.startswith("/simple/") else "application/octet-stream")
    while not upstream.released.is_set():
        request.wfile.write(_PIECE)


def _drip(upstream: FakeUpstream, request: Request) -> None:
    """Send what was asked for, a byte at a time."""
    sent = upstream.find(request)
    _begin(request, sent.content_type)
    for place in range(len(sent.body)):
        request.wfile.write(sent.body[place : place + 1])
        if upstream.released.wait(_DRIP_SECONDS):
            return


def _begin(request: Request, content_type: str) -> None:
    """Begin an answer that ends with the connection."""
    request.send_response_only(200)
    request.send_header("Content-Type", content_type)
    request.send_header("Connection", "close")
    request.end_headers()
    request.close_connection = True


def _stop_half_way(upstream: FakeUpstream, request: Request) -> None:
    """Send half of what was announced."""
    sent = upstream.find(request)
    request.send(Sent(sent.body, sent.content_type, sent.status, sent.headers), of=len(sent.body) // 2)


def _send_changed(change: Callable[[bytes], bytes]) -> Behaviour:
    def answer(upstream: FakeUpstream, request: Request) -> None:
        sent = upstream.find(request)
        request.send(Sent(change(sent.body), sent.content_type, sent.status, sent.headers))

    return answer


def _send_page(make: Callable[[Project], Sent]) -> Behaviour:
    """Return what makes something of the project that is asked for, whatever the client accepts."""

    def answer(_: FakeUpstream, request: Request) -> None:
        request.send(make(Project(unquote(request.path).removeprefix("/simple/").removesuffix("/"))))

    return answer


_LOGIN = b'<!DOCTYPE html><html><body><form action="/login" method="post"><input name="user"></form></body></html>'
Behaviour = Callable[[FakeUpstream, "Request"], None]
# What nobody can take for an answer.
FAILURES: Mapping[str, Behaviour | None] = {
    "down": None,  # nobody listens
    "reset": _reset,
    "slow": _hang,
    "no HTTP": _speak_no_http,
    "401": send(401, www_authenticate='Basic realm="fake"'),
    "403": send(403),
    "429": send(429, retry_after="60"),
    "500": send(500),
    "503": send(503, retry_after="60"),
    "an empty body": send(200, content_type=HTML),
    "an empty body as JSON": send(200, content_type=JSON),
    "HTML without links": _send_page(lambda project: Sent(render_html(project), HTML)),
    "a login page": send(200, _LOGIN, HTML),
    "a login page behind a redirect": lambda _, request: request.send(
        Sent(_LOGIN, HTML)
        if request.path == "/simple/login"
        else Sent(b"", status=302, headers={"Location": "../login"})
    ),
    "JSON of something else": send(200, b'{"error": "maintenance"}', "application/json"),
    "JSON that ends early": send(200, b'{"meta": {"api-version": "1.0"}, "name": "spam", "files": [', JSON),
    "plain text": send(200, b"down for maintenance"),
}
# What says that it has no such project, or nothing of it.
ABSENCES: Mapping[str, Behaviour] = {
    "404": send(404),
    "410": send(410),
    "JSON without files": _send_page(lambda project: Sent(render_json(project), JSON)),
}
# What would keep a client busy, lead it astray or fill its memory.
ATTACKS: Mapping[str, Behaviour] = {
    "endless": _go_on_for_ever,
    "a slow drip": _drip,
    "a stop half-way": _stop_half_way,
    "a redirect to itself": _redirect_to_itself,
    "a redirect to the metadata service": redirect(METADATA_SERVICE),
}
# Bytes other than the page's.
WRONG_BYTES: Mapping[str, Behaviour] = {
    "shorter": _send_changed(lambda body: body[:-1]),
    "longer": _send_changed(lambda body: body + b"\0"),
    "other bytes": _send_changed(lambda body: bytes(255 - byte for byte in body)),
    "one other byte": _send_changed(lambda body: body[:-1] + bytes([255 - body[-1]])),
    "nothing": _send_changed(lambda _: b""),
}
BEHAVIOURS: Mapping[str, Behaviour] = {
    name: behaviour
    for name, behaviour in {**FAILURES, **ABSENCES, **ATTACKS, **WRONG_BYTES}.items()
    if behaviour is not None
}


# The server -----------------------------------------------------------------------------------------------------------


class _Listener(Listener):
    def __init__(self, upstream: FakeUpstream, *, port: int) -> None:
        super().__init__(Request, port=port)
        self.upstream = upstream


class Request(BaseHTTPRequestHandler):
    """A request that is being answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart, and clients would wait 40 ms for the second
    timeout = 60

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        cast(_Listener, self.server).upstream.answer(self)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # http.server's names

    def send(self, sent: Sent, *, of: int | None = None) -> None:
        """Answer, with only so many bytes of the body, and the connection's end then, where `of` says so."""
        length = {} if sent.status == 304 else {"Content-Length": str(len(sent.body))}
        self.send_response_only(sent.status)
        for name, value in ({"Content-Type": sent.content_type} | dict(sent.headers) | length).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent.body[:of])
        if of is not None:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""
