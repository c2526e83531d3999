"""Compare WSGI servers on what an index asks of them: pages, uploads, downloads, slow clients, shutdown.

`python -m bench.servers` starts each server with the same small app and prints a Markdown table; with
`--app elasticpypi` it starts the real one, for pages, uploads and slow clients. It reads /proc, so it runs on Linux,
and talks to 127.0.0.1 only. What the numbers led to is told in docs/servers.md.
"""

import argparse
import base64
import contextlib
import functools
import hashlib
import http.client
import importlib.metadata
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import IO, cast
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import requests
from werkzeug.formparser import FormDataParser

from bench.load import Load, has_wrk, measure_load, median_load
from bench.processes import (
    end,
    free_port,
    is_alive,
    process_tree,
    processor_seconds,
    status_bytes,
    written_bytes,
)
from bench.wheels import CHUNK, wheel_file

CREDENTIALS = base64.b64encode(b"reader:secret").decode()
PAGE = b"<!DOCTYPE html>".ljust(3_000, b"x")
BOUNDARY = b"between-the-parts"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
FORM_TAIL = b"\r\n--%s--\r\n" % BOUNDARY
LARGE_FILE = 2 * 1024**3  # 2 GiB, sparse
THREADS = 128  # more than the slow clients below, where a server gives each a thread
ROUNDS = 3


# The stand-in app: the costs of an index without its rules.


class HashedFile:
    """The file part of a form, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.began = time.time()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def seek(self, position: int) -> None:
        """Werkzeug rewinds what it has written: the end of the part."""
        self._file.close()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def stand_in(data: Path) -> WSGIApplication:
    """Make the app, with its files in the directory `data`."""
    routes: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
        "/page": get_page,
        "/upload": functools.partial(post_upload, data),
        "/count": functools.partial(post_count, data),
        "/download": functools.partial(get_download, data),
        "/refuse": refuse,
    }

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return routes[environ["PATH_INFO"]](environ, start_response)

    return app


def get_page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    known = {f"Basic {CREDENTIALS}": "reader"}
    if environ.get("HTTP_AUTHORIZATION") not in known:
        return answer(start_response, "401 Unauthorized", b"")
    return answer(start_response, "200 OK", PAGE)


def post_upload(data: Path, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Store the form's file and say its hash and when its first bytes came.

    Without `wsgi.input_terminated` Werkzeug counts against Content-Length, and so sees a client that went away.
    """
    parts: list[HashedFile] = []

    def open_part(*_: object, **__: object) -> IO[bytes]:
        parts.append(HashedFile(data / f"upload-{threading.get_ident()}"))
        return cast(IO[bytes], parts[-1])

    environ.pop("wsgi.input_terminated", None)
    FormDataParser(stream_factory=open_part, silent=False).parse_from_environ(environ)
    reply = {"sha256": parts[0].hexdigest(), "began": parts[0].began}
    return answer(start_response, "200 OK", json.dumps(reply).encode())


def post_count(data: Path, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body as it comes and leave in the file `count` what happened."""
    seen = 0
    try:
        while chunk := environ["wsgi.input"].read(CHUNK):
            seen += len(chunk)
    except Exception as error:
        (data / "count").write_text(f"{type(error).__name__}")
        raise
    (data / "count").write_text(f"an ordinary end of the body after {seen / 1e6:.0f} MB")
    return answer(start_response, "200 OK", b"")


def get_download(data: Path, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    size = int(query["size"][0])
    file = (data.parent / "large").open("rb")
    start_response("200 OK", [("Content-Length", str(size)), ("Content-Type", "application/octet-stream")])
    if "wrapper" in query and size == LARGE_FILE and "wsgi.file_wrapper" in environ:
        return cast(Iterable[bytes], environ["wsgi.file_wrapper"](file, CHUNK))
    return read_file(file, size)


def read_file(file: IO[bytes], size: int) -> Iterator[bytes]:
    with file:
        for position in range(0, size, CHUNK):
            yield file.read(min(CHUNK, size - position))


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer what the query asks for, without a look at the body."""
    return answer(start_response, parse_qs(environ["QUERY_STRING"])["status"][0], b"the reason")


def answer(start_response: StartResponse, status: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
    return [body]


def sparse_file(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


# The real app.


def elasticpypi(data: Path) -> WSGIApplication:
    """Open an index in `data` that has one project with one small file."""
    from elasticpypi.auth import Authenticator
    from elasticpypi.config import Settings
    from elasticpypi.index import open_index
    from elasticpypi.web.app import create_app

    settings = Settings(username="reader", password="secret")
    wheel = data / "files/small/small-1-py3-none-any.whl"
    if not wheel.exists():
        wheel.parent.mkdir(parents=True)
        wheel_file(wheel, 1_000)
    index = open_index(settings, data=data)
    index.sync(patience_seconds=10)
    return create_app(index, Authenticator(settings.all_users, tokens=index.tokens))


@dataclass(frozen=True, slots=True)
class App:
    """What runs under the servers, and how a client asks it."""

    make: Callable[[Path], WSGIApplication]
    page: str
    upload: str
    make_upload: Callable[[Path, int], None]

    @property
    def form_head(self) -> bytes:
        fields = {":action": "file_upload", "name": "large", "version": "1", "filetype": "bdist_wheel"}
        part = f"--{BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="
        text = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
        kind = "Content-Type: application/octet-stream"
        return f'{text}{part}"content"; filename="large-1-py3-none-any.whl"\r\n{kind}\r\n\r\n'.encode()


APPS = {
    "stand-in": App(stand_in, "/page", "/upload", sparse_file),
    "elasticpypi": App(elasticpypi, "/simple/small/", "/legacy/", wheel_file),
}


# The servers, each with the settings that suit an index best.


def serve_granian(app: str, data: Path, port: int) -> None:
    run_granian(functools.partial(load_in_worker, app, data), port)


def run_granian(load: Callable[[], WSGIApplication], port: int) -> None:
    """Serve what `load` makes in the worker process, with the settings of `elasticpypi serve`."""
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server

    server = Server(
        target="bench",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        blocking_threads=THREADS,
        backpressure=512,
        http1_settings=HTTP1Settings(header_read_timeout=30_000),
        workers_kill_timeout=30,
        log_level=LogLevels.error,
    )
    server.serve(target_loader=load, wrap_loader=False)


def load_in_worker(app: str, data: Path) -> WSGIApplication:
    follow_main_process()
    return APPS[app].make(data)


def follow_main_process() -> None:
    """Keep granian's worker process away from the terminal's signals, but not from the main process.

    Ctrl-C reaches a whole process group. A worker that gets it besides the main process's SIGTERM may hang in its
    signal handler until it is killed.
    """
    os.setpgid(0, 0)
    threading.Thread(target=stop_with_parent, daemon=True).start()


def stop_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def serve_waitress(app: str, data: Path, port: int) -> None:
    import waitress  # type: ignore[import-untyped]  # it has no types

    waitress.serve(
        APPS[app].make(data),
        host="127.0.0.1",
        port=port,
        threads=THREADS,
        connection_limit=1_000,
        max_request_body_size=2**40,
    )


def serve_gunicorn(app: str, data: Path, port: int) -> None:
    arguments = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", str(THREADS)]
    arguments += ["--workers", "1", "--keep-alive", "30", "--timeout", "30", "--graceful-timeout", "30"]
    target = f"bench.servers:load_under_gunicorn({app!r}, {str(data)!r})"
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--log-level", "error", *arguments, target])


def load_under_gunicorn(app: str, data: str) -> WSGIApplication:
    return APPS[app].make(Path(data))


SERVERS: dict[str, Callable[[str, Path, int], None]] = {
    "waitress": serve_waitress,
    "gunicorn": serve_gunicorn,
    "granian": serve_granian,
}


# A server under measurement: its processes and what the kernel says of them.


@dataclass(frozen=True, slots=True)
class Running:
    """A started server; `processes` are the main one and all its descendants."""

    name: str
    app: App
    port: int
    data: Path
    main: subprocess.Popen[bytes]
    started_seconds: float

    def processes(self) -> list[int]:
        return process_tree(self.main.pid)

    def forget_peak(self) -> None:
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def running(name: str, app: str, data: Path) -> Iterator[Running]:
    """Start a server, wait for its first answer, and end what is left of it."""
    port = free_port()
    data = data / name
    data.mkdir(exist_ok=True)
    began = time.perf_counter()
    processes: list[int] = []
    with (data / "log").open("ab") as log:
        main = subprocess.Popen(start_command(name, app, data, port), stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_answer(main, port, APPS[app].page)
        server = Running(name, APPS[app], port, data, main, time.perf_counter() - began)
        processes = server.processes()
        yield server
        processes += server.processes()
    finally:
        end([*processes, main.pid])
        main.wait()


def start_command(name: str, app: str, data: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "bench.servers", "--serve", name, "--app", app]
    return [*command, "--data", str(data), "--port", str(port)]


def wait_for_answer(main: subprocess.Popen[bytes], port: int, page: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and main.poll() is None:
        with contextlib.suppress(OSError):
            get_page_once(port, page)
            return
        time.sleep(0.005)
    raise RuntimeError(f"the server on port {port} does not answer")


# Clients.


def connect(port: int, timeout: float = 60) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout)


def request_head(method: str, path: str, length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Basic {CREDENTIALS}"]
    if length is not None:
        lines += [f"Content-Length: {length}", f"Content-Type: {FORM_TYPE}"]
    return "\r\n".join([*lines, "\r\n"]).encode()


def get_page_once(port: int, page: str) -> None:
    with connect(port, timeout=5) as client:
        client.sendall(request_head("GET", page))
        if not client.recv(64).startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"no answer to {page}")


def read_response(client: socket.socket) -> tuple[int, str, bytes]:
    """Read status, reason and body; a connection that ends early raises `http.client.HTTPException` or `OSError`."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.reason, response.read()


def send_form(client: socket.socket, app: App, file: Path, *, pause_seconds: float = 0) -> None:
    """Post a file; with a pause after every MiB."""
    head, size = app.form_head, file.stat().st_size
    client.sendall(request_head("POST", app.upload, len(head) + size + len(FORM_TAIL)) + head)
    with file.open("rb") as stream:
        while block := stream.read(1024**2):
            client.sendall(block)
            time.sleep(pause_seconds)
    client.sendall(FORM_TAIL)


# Measurements: each gives the cells of a server's column, by row.

Cells = dict[str, str]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"


def measure_pages(servers: list[Running], seconds: int) -> dict[str, Cells]:
    """Ask all servers in turns, so that a busy moment of the machine hits each, and compare medians."""
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    for _ in range(ROUNDS):
        for server in servers:
            loads[server.name].append(load_pages(server, seconds))
    medians = {name: median_load(taken) for name, taken in loads.items()}
    first = medians[servers[0].name]
    return {
        name: {
            f"Page, 8 connections ({'wrk' if has_wrk() else 'Python'}): requests/s": f"{load.rate:,.0f}",
            "as a ratio": f"{load.rate / first.rate:.1f}",
            "99th percentile": f"{load.p99:.1f} ms",
            "processor time per page": f"{load.processor:.0f} µs",
            "pages per processor second, as a ratio": f"{first.processor / load.processor:.1f}",
        }
        for name, load in medians.items()
    }


def load_pages(server: Running, seconds: int) -> Load:
    if has_wrk():
        url = f"http://127.0.0.1:{server.port}{server.app.page}"
        return measure_load(server.main.pid, url, {"Authorization": f"Basic {CREDENTIALS}"}, seconds)
    return load_with_threads(server, seconds)


def load_with_threads(server: Running, seconds: int) -> Load:
    """The same without wrk; Python is then the slower side, so only ratios mean something."""
    durations: list[float] = []

    def ask() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as client:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                began = time.perf_counter()
                client.request("GET", server.app.page, headers={"Authorization": f"Basic {CREDENTIALS}"})
                client.getresponse().read()
                durations.append(time.perf_counter() - began)

    before = processor_seconds(server.processes())
    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    used = processor_seconds(server.processes()) - before
    centiles = statistics.quantiles(durations, n=100)
    return Load(len(durations) / seconds, centiles[49] * 1e3, centiles[98] * 1e3, used / len(durations) * 1e6)


def measure_start(server: Running) -> Cells:
    time.sleep(0.5)
    return {
        "Start to first page": f"{server.started_seconds * 1000:.0f} ms",
        "memory then (resident, all processes)": megabytes(status_bytes(server.processes(), "VmRSS")),
    }


def measure_upload(server: Running, file: Path) -> Cells:
    server.forget_peak()
    size = file.stat().st_size
    processor, written, began = processor_seconds(server.processes()), written_bytes(server.processes()), time.time()
    with connect(server.port, timeout=600) as client:
        send_form(client, server.app, file)
        sent = time.time() - began
        status, reason, body = read_response(client)
    ended = time.time() - began
    if status != 200:
        raise RuntimeError(f"{server.name} answered the upload with {status} {reason}")
    cells = {
        f"Upload of {size / 1e9:.1f} GB": f"{ended:.1f} s",
        "processor time": f"{processor_seconds(server.processes()) - processor:.1f} s",
        "peak memory of an upload": megabytes(status_bytes(server.processes(), "VmHWM")),
        "written to disk": f"{(written_bytes(server.processes()) - written) / size:.1f} × the file",
    }
    if server.app is APPS["stand-in"]:
        first = json.loads(body)["began"] - began
        cells["app has the first bytes after"] = f"{first:.2f} s (all sent after {sent:.1f} s)"
    return cells


def measure_download(server: Running, size: int, wrapper: bool) -> Cells:
    """Read a little, stop for three seconds, read on: what has the server taken into memory meanwhile?"""
    server.forget_peak()
    written = written_bytes(server.processes())
    began = time.perf_counter()
    with connect(server.port) as client:
        client.sendall(request_head("GET", f"/download?size={size}" + "&wrapper=1" * wrapper))
        received = len(client.recv(CHUNK))
        time.sleep(3)
        peak = status_bytes(server.processes(), "VmHWM")
        while chunk := client.recv(CHUNK):
            received += len(chunk)
            if received >= size:
                break
    at_end = status_bytes(server.processes(), "VmHWM")
    kind = "file_wrapper" if wrapper else "an iterator"
    return {
        f"Download of {size / 1e9:.1f} GB by {kind}, client pausing 3 s": f"{time.perf_counter() - began - 3:.1f} s",
        f"peak memory ({kind})": f"{megabytes(peak)} in the pause, {megabytes(at_end)} at the end",
        f"written to disk ({kind})": megabytes(written_bytes(server.processes()) - written),
    }


def measure_slow_clients(server: Running, count: int, start: bytes, label: str) -> Cells:
    """Let `count` clients send one byte every tenth of a second, and ask for pages beside them for five seconds."""
    stop = threading.Event()
    clients = [connect(server.port) for _ in range(count)]

    def trickle() -> None:
        for client in clients:
            client.sendall(start)
        while not stop.wait(0.1):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"a")

    slow = threading.Thread(target=trickle)
    slow.start()
    time.sleep(1)
    durations = ask_for_pages(server, seconds=5)
    memory = status_bytes(server.processes(), "VmRSS")
    stop.set()
    slow.join()
    for client in clients:
        client.close()
    cell = f"{statistics.median(durations):.1f} ms, worst {max(durations):.0f} ms" if durations else "no answer in 5 s"
    return {f"Page beside {count} slow {label}": cell, f"memory beside {count} slow {label}": megabytes(memory)}


def ask_for_pages(server: Running, seconds: float) -> list[float]:
    """Ask on a new connection each time; give the milliseconds of those answered."""
    durations = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        began = time.perf_counter()
        with contextlib.suppress(OSError):
            get_page_once(server.port, server.app.page)
            durations.append((time.perf_counter() - began) * 1000)
        time.sleep(0.02)
    return durations


def measure_protocol(server: Running) -> Cells:
    return {
        "Own reason phrase reaches the client": reason_of(server.port),
        "Keep-alive": keeps_alive(server.port),
        "`Expect: 100-continue`": expects(server.port),
        "401 before a body of 50 MB is read: seen by requests": seen_refusals(server.port, "401 Unauthorized"),
        "413 likewise": seen_refusals(server.port, "413 Content Too Large"),
        "Client leaves in the middle of an upload: the app sees": leave_upload(server),
        "Second server on the same port": start_second(server),
    }


def reason_of(port: int) -> str:
    with connect(port) as client:
        client.sendall(request_head("GET", "/refuse?status=400%20File%20exists"))
        reason = read_response(client)[1]
    return "yes" if reason == "File exists" else f"no: {reason}"


def keeps_alive(port: int) -> str:
    with connect(port) as client:
        for _ in range(2):
            client.sendall(request_head("GET", "/page"))
            if read_response(client)[0] != 200:
                return "no"
    return "yes"


def expects(port: int) -> str:
    head = request_head("POST", "/count", 5).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with connect(port, timeout=2) as client:
        client.sendall(head)
        with contextlib.suppress(TimeoutError):
            return "yes" if client.recv(64).startswith(b"HTTP/1.1 100") else "no"
    return "no"


def seen_refusals(port: int, status: str, attempts: int = 10) -> str:
    seen = 0
    for _ in range(attempts):
        with contextlib.suppress(requests.ConnectionError):
            url = f"http://127.0.0.1:{port}/refuse"
            response = requests.post(url, params={"status": status}, data=io.BytesIO(bytes(50_000_000)), timeout=30)
            seen += response.status_code == int(status[:3])
    return f"{seen} of {attempts}"


def leave_upload(server: Running) -> str:
    report = server.data / "count"
    report.unlink(missing_ok=True)
    with connect(server.port) as client:
        client.sendall(request_head("POST", "/count", 100_000_000) + bytes(10_000_000))
        time.sleep(0.5)
    time.sleep(1)
    return report.read_text() if report.exists() else "nothing: it is not called"


def start_second(server: Running) -> str:
    command = start_command(server.name, "stand-in", server.data, server.port)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as second:
        try:
            return f"refused, exit code {second.wait(10)}"
        except subprocess.TimeoutExpired:
            second.terminate()
            return "both run and share the connections"


def measure_shutdown(server: Running, number: signal.Signals, work: str) -> Cells:
    """Signal in the middle of a transfer of two seconds: is it finished, and what is left?

    SIGINT goes to the process group, as Ctrl-C in a terminal does; SIGTERM to the main process.
    """
    outcome: list[str] = []
    transfer_slowly = {"upload": upload_slowly, "download": download_slowly}[work]
    transfer = threading.Thread(target=lambda: outcome.append(transfer_slowly(server)))
    transfer.start()
    time.sleep(0.7)
    processes = server.processes()
    began = time.perf_counter()
    if number is signal.SIGINT:
        os.killpg(server.main.pid, number)
    else:
        server.main.send_signal(number)
    try:
        code = f"exit code {server.main.wait(15)} after {time.perf_counter() - began:.1f} s"
    except subprocess.TimeoutExpired:
        code = "still running after 15 s"
    left = [pid for pid in processes[1:] if is_alive(pid)]
    end(processes)
    transfer.join()
    return {f"{number.name} during {work}": f"{outcome[0]}; {code}" + f"; {len(left)} workers left" * bool(left)}


def upload_slowly(server: Running) -> str:
    file = server.data / "to-upload"
    server.app.make_upload(file, 20 * 1024**2)
    with connect(server.port, timeout=20) as client:
        try:
            send_form(client, server.app, file, pause_seconds=0.1)
            return "finished" if read_response(client)[0] == 200 else "refused"
        except (OSError, http.client.HTTPException):
            return "cut off"


def download_slowly(server: Running, size: int = 200_000_000) -> str:
    received = 0
    with connect(server.port, timeout=20) as client, contextlib.suppress(OSError):
        client.sendall(request_head("GET", f"/download?size={size}"))
        while received < size and (chunk := client.recv(CHUNK)):
            received += len(chunk)
            time.sleep(2 * len(chunk) / size)
    return "finished" if received >= size else "cut off"


def measure_kill(server: Running) -> Cells:
    """Kill the main process outright: do its workers notice?"""
    processes = server.processes()
    server.main.kill()
    server.main.wait()
    time.sleep(3)
    left = [pid for pid in processes[1:] if is_alive(pid)]
    return {"Main process killed": f"{len(left)} of {len(processes) - 1} workers still serve after 3 s"}


# The table.


def measure(app: str, data: Path, names: list[str], upload_bytes: int, seconds: int) -> dict[str, Cells]:
    """Take every measurement of every server, each row on all servers before the next."""
    sparse_file(data / "large", LARGE_FILE)
    APPS[app].make_upload(data / "upload", upload_bytes)
    with contextlib.ExitStack() as stack:
        columns = measure_pages([stack.enter_context(running(name, app, data)) for name in names], seconds)
    for step in [
        *steps_of_any_app(APPS[app], data / "upload"),
        *(steps_of_the_stand_in() if app == "stand-in" else []),
    ]:
        for name in names:
            with running(name, app, data) as server:
                columns[name].update(step(server))
            print(".", end="", file=sys.stderr, flush=True)
    return columns


Step = Callable[[Running], Cells]


def steps_of_any_app(app: App, upload: Path) -> list[Step]:
    slow_head = request_head("GET", app.page)[:-2] + b"X-Slow: "
    slow_body = request_head("POST", app.upload, 1_000_000) + app.form_head
    return [
        measure_start,
        functools.partial(measure_upload, file=upload),
        functools.partial(measure_slow_clients, count=100, start=slow_head, label="headers"),
        functools.partial(measure_slow_clients, count=50, start=slow_body, label="bodies"),
    ]


def steps_of_the_stand_in() -> list[Step]:
    return [
        functools.partial(measure_download, size=LARGE_FILE, wrapper=False),
        functools.partial(measure_download, size=LARGE_FILE, wrapper=True),
        measure_protocol,
        *(
            functools.partial(measure_shutdown, number=number, work=work)
            for number in (signal.SIGTERM, signal.SIGINT)
            for work in ("upload", "download")
        ),
        measure_kill,
    ]


def print_table(columns: dict[str, Cells]) -> None:
    names = list(columns)
    print("\n| |", " | ".join(names), "|")
    print("|---|", "---|" * len(names), sep="")
    for row in columns[names[0]]:
        print(f"| {row} |", " | ".join(columns[name].get(row, "") for name in names), "|")


def print_circumstances(names: list[str], load: float) -> None:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    print(f"\n{os.cpu_count()} cores, load average {load:.1f} before it began; {python}, {', '.join(versions)}.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.servers", description=__doc__)
    parser.add_argument("--app", choices=APPS, default="stand-in")
    parser.add_argument("--upload-bytes", type=int, default=2_000_000_000)
    parser.add_argument("--seconds", type=int, default=5, help="of load on the page, each of three times")
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.serve:
        SERVERS[arguments.serve](arguments.app, arguments.data, arguments.port)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        print_table(measure(arguments.app, data, arguments.only, arguments.upload_bytes, arguments.seconds))
    print_circumstances(arguments.only, load)


if __name__ == "__main__":
    main()
