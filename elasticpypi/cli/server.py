"""The local server: granian in front of the application (docs/servers.md says why)."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

import elasticpypi
from elasticpypi.auth import Authenticator
from elasticpypi.cli.credentials import with_credentials
from elasticpypi.cli.watch import start_completing, start_watching
from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError, NotReadyError
from elasticpypi.index import EVENT_LOGGER, open_index
from elasticpypi.web.access_log import AccessLog, log_failed_sign_ins
from elasticpypi.web.app import create_app
from elasticpypi.web.metrics import SharedTraffic, metrics_page
from elasticpypi.web.observe import Observer, repeat

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_THREADS = 192  # for each worker; they come and go, and a slow body, or a slow upstream, holds one
_COUNTERS = ".traffic-"
_DOWNLOADS_SECONDS = 60.0  # after which those that were counted are written
_CONNECTIONS = 512  # for each worker
_HEADER_MILLISECONDS = 30_000
_AGAIN_SECONDS = 0.5
_STOP_SECONDS = 30  # for requests in progress when a signal says stop


@dataclass(frozen=True, slots=True)
class Watched:
    """What is put down about the requests."""

    access_log: bool = True  # a line for each, on standard output
    behind_proxy: bool = False  # whether the client's address is the last one in X-Forwarded-For


def run_server(settings: Settings, data: Path, *, host: str, port: int, workers: int, watched: Watched) -> None:
    """Serve until a signal says stop; requests that have begun are finished."""
    settings, made = with_credentials(settings, data)
    # What is wrong is said once, and before anything is served.
    with closing(open_index(settings, data=data)) as index:
        if settings.bucket is not None:
            with suppress(NotReadyError):
                index.check()
    Authenticator(settings.all_users)
    server = Server(
        "elasticpypi",
        address=_free_address(host, port),
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MILLISECONDS),
        websockets=False,
        workers=workers,
        blocking_threads=_THREADS,
        backpressure=_CONNECTIONS,
        workers_kill_timeout=_STOP_SECONDS,
        respawn_failed_workers=True,
        log_level=LogLevels.error,
    )
    # A closed terminal ends the server; granian would take it as the wish for new workers.
    server.on_startup(partial(signal.signal, signal.SIGHUP, server.signal_handler_interrupt))
    server.on_startup(lambda: click.echo(_welcome(settings, data, host=host, port=port, made=made)))
    with _own_counters(data) as counters:
        load = partial(build_application, settings, data, watched, counters, shared=workers > 1)
        server.serve(target_loader=load, wrap_loader=False)


@contextmanager
def _own_counters(data: Path) -> Iterator[Path]:
    """Make the directory in which the processes of this server count; remove those of servers that were killed.

    A directory is locked as long as its server lives, and the data directory while one is made and not locked yet.
    """
    with _locked(data), suppress(OSError):
        for left in data.glob(f"{_COUNTERS}*"):
            with suppress(BlockingIOError, FileNotFoundError), _locked(left, fcntl.LOCK_NB):
                shutil.rmtree(left)
    with ExitStack() as stack:
        with _locked(data):
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix=_COUNTERS, dir=data))
            stack.enter_context(_locked(Path(made)))
        yield Path(made)


@contextmanager
def _locked(directory: Path, how: int = 0) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)


def build_application(
    settings: Settings, data: Path, watched: Watched, counters: Path, *, shared: bool
) -> WSGIApplication:
    """Open the index and return the application; runs in each worker process, of which there may be several."""
    _follow_main_process()
    _return_memory()
    _log_to_standard_error()
    index = open_index(settings, data=data)
    if settings.bucket is None:
        start_watching(index, data)
    else:
        start_completing(index)
    traffic = SharedTraffic(counters)
    log = [AccessLog(sys.stdout.fileno(), shared=shared)] if watched.access_log else []
    observer = Observer(traffic, log_failed_sign_ins, *log, behind_proxy=watched.behind_proxy)
    observer.start()
    if index.downloads.is_on:
        repeat(index.downloads.flush, name="downloads", interval_seconds=_DOWNLOADS_SECONDS)
    metrics = metrics_page(index, observer, traffic)
    app = create_app(
        index,
        Authenticator(settings.all_users, tokens=index.tokens),
        url=settings.url,
        title=settings.title,
        observer=observer,
        metrics=metrics,
    )
    gc.freeze()  # what is there by now stays: looking through it again and again would cost every request
    return app


def _log_to_standard_error() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts every change
    events = logging.getLogger(EVENT_LOGGER)  # lines of JSON, for programs
    events.addHandler(logging.StreamHandler(sys.stderr))
    events.propagate = False


def _return_memory() -> None:
    """Have glibc give back what large pages took: it keeps it otherwise, in an arena for each of many threads."""
    with suppress(AttributeError, OSError):  # macOS and musl have no such call
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 256 * 1024)  # bytes, from which on a block is apart and goes when it is freed


def _follow_main_process() -> None:
    """Let a worker take its signals from the main process alone, and end with it however that ends."""
    # In the terminal's process group it would get Ctrl-C twice, of which granian's workers may hang.
    os.setpgid(0, 0)
    main_process = multiprocessing.parent_process()
    if main_process is not None:
        threading.Thread(target=_stop_after, args=(main_process,), daemon=True).start()


def _stop_after(main_process: multiprocessing.process.BaseProcess) -> None:
    main_process.join()
    while True:  # again: before granian has taken the signal over, it is the main process's and does nothing here
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN_SECONDS)


def _free_address(host: str, port: int) -> str:
    """Return the address of a host; ConfigError if it has none, or if somebody listens there already.

    The kernel would share the port between us and another granian, without a word.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --host and --port"
        ) from error
    return str(address[0])


def _welcome(settings: Settings, data: Path, *, host: str, port: int, made: bool) -> str:
    """Return what to do next, ready to paste; with the password only where it has just been made."""
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    base = f"http://{netloc}"
    place = str(data) if settings.bucket is None else f"the bucket {settings.bucket!r}, by the table {settings.table!r}"
    lines = [f"elasticpypi {elasticpypi.__version__} serves {base}/simple/ from {place}", ""]
    if not made:
        place = f"{data / 'credentials.json'}" if (data / "credentials.json").exists() else "the configuration"
        return "\n".join([*lines, f"The credentials are in {place}.", ""])
    username, password = settings.username or "", settings.password or ""
    with_user = f"http://{quote(username, safe='')}:{quote(password, safe='')}@{netloc}"
    return "\n".join(
        [
            *lines,
            f"Credentials were made for {username!r}; they are kept in {data / 'credentials.json'}. Paste:",
            "",
            f"  pip install --index-url {with_user}/simple/ PROJECT",
            f"  uv pip install --default-index {with_user}/simple/ PROJECT",
            f"  twine upload --repository-url {base}/legacy/ -u {username} -p {password} dist/*",
            "",
            f"Look around, upload and hand out tokens with a browser: {base}/",
            "",
        ]
    )
