"""The local server: granian in front of the application, with the index in a directory (docs/servers.md says why)."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server import Server

import elasticpypi
from elasticpypi.auth import Authenticator
from elasticpypi.cli.credentials import with_credentials
from elasticpypi.cli.watch import start_watching
from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError
from elasticpypi.index import open_index
from elasticpypi.web.app import create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_THREADS = 64
_KILL_SECONDS = 30


def run_server(settings: Settings, data: Path, *, host: str, port: int, workers: int) -> None:
    """Serve until a signal says stop; requests that have begun are finished."""
    settings, made = with_credentials(settings, data)
    open_index(settings, data=data).close()  # so that what is wrong is said once, and before anything is served
    Authenticator(settings.all_users)
    _check_port_is_free(host, port)
    server = Server(
        "elasticpypi",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=_THREADS,
        http1_settings=HTTP1Settings(),
        websockets=False,
        log_enabled=False,
        workers_kill_timeout=_KILL_SECONDS,
    )
    server.on_startup(lambda: click.echo(_welcome(settings, data, host=host, port=port, made=made)))
    server.serve(target_loader=partial(build_application, settings, data), wrap_loader=False)


def build_application(settings: Settings, data: Path) -> WSGIApplication:
    """Open the index and return the application; runs in each worker process."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts every change
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    index = open_index(settings, data=data)
    start_watching(index, data)
    return create_app(index, Authenticator(settings.all_users))


def _end_with_parent() -> None:
    """End this worker when the process that started it was killed: it would hold the port and serve for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_KILL_SECONDS)
        os._exit(1)


def _check_port_is_free(host: str, port: int) -> None:
    """Raise ConfigError if somebody listens there: the kernel would share the port between us and another granian."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --host and --port"
        ) from error


def _welcome(settings: Settings, data: Path, *, host: str, port: int, made: bool) -> str:
    """Return what to do next, ready to paste; with the password only where it has just been made."""
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    base = f"http://{netloc}"
    lines = [f"elasticpypi {elasticpypi.__version__} serves {base}/simple/ from {data}", ""]
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
        ]
    )
