"""The servers that are compared: how each is started, and what it has under which path."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.indexes import PASSWORD, USERNAME, environment
from bench.processes import end, free_port, process_tree
from bench.scenarios import Form, Scenario, Target
from bench.wheels import wheel_name

PEERS = Path(__file__).parent.parent / ".peers/bin"
CREDENTIALS = {"Authorization": "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()}
_START_SECONDS = 60
_POLLING_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of server can be asked for."""

    name: str
    paths: Mapping[Target, str]
    forms: frozenset[Form] = frozenset(Form)
    compresses: bool = True
    revalidates: bool = True  # answers 304
    headers: Mapping[str, str] = field(default_factory=dict)

    def path(self, scenario: Scenario) -> str | None:
        """Return the path to ask for; None where such a server cannot do what the scenario asks."""
        if scenario.form is not None and scenario.form not in self.forms:
            return None
        if (scenario.gzipped and not self.compresses) or (scenario.conditional and not self.revalidates):
            return None
        template = self.paths.get(scenario.target)
        filename = wheel_name(scenario.project, "1.0")
        return template and template.format(project=scenario.project, form=scenario.form, filename=filename)


OURS = Kind(
    "elasticpypi",
    {
        Target.PAGE: "/simple/{project}/",
        Target.ROOT: "/simple/",
        Target.CORE_METADATA: "/packages/{project}/{filename}.metadata",
        Target.FILE: "/packages/{project}/{filename}",
    },
    headers=CREDENTIALS,
)
NGINX = Kind(
    "nginx",
    {
        Target.PAGE: "/{form}/{project}",
        Target.ROOT: "/{form}/-root",
        Target.CORE_METADATA: "/files/{project}/{filename}.metadata",
        Target.FILE: "/files/{project}/{filename}",
    },
)
PROXPI = Kind(
    "proxpi",
    {
        Target.PAGE: "/index/{project}/",
        Target.ROOT: "/index/",
        Target.CORE_METADATA: "/index/{project}/{filename}.metadata",
        Target.FILE: "/index/{project}/{filename}",
    },
    revalidates=False,
)
PYPISERVER = Kind(
    "pypiserver",
    {Target.PAGE: "/simple/{project}/", Target.ROOT: "/simple/", Target.FILE: "/packages/{filename}"},
    forms=frozenset({Form.HTML}),
    compresses=False,
    revalidates=False,
)
_PAGES: tuple[Target, ...] = (Target.PAGE, Target.ROOT)
FLOOR = Kind("floor", {target: NGINX.paths[target] for target in _PAGES}, headers=CREDENTIALS)
KINDS = (OURS, NGINX, FLOOR, PROXPI, PYPISERVER)


@dataclass(frozen=True, slots=True)
class Server:
    """A started server."""

    kind: Kind
    port: int
    main: subprocess.Popen[bytes]
    started_seconds: float  # until the first answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetch(self, path: str, headers: Mapping[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask once, with the credentials where the server wants some; return status, headers and body."""
        return fetch(self.port, path, {**self.kind.headers, **headers})


def fetch(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask once on a new connection; return status, headers and body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)) as client:
        client.request("GET", path, headers=dict(headers))
        response = client.getresponse()
        return response.status, response.headers, response.read()


@contextlib.contextmanager
def elasticpypi(data: Path, first: str, logs: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Serve `data` as `elasticpypi serve` does by default, or with further settings in its environment."""
    port = free_port()
    command = [sys.executable, "-m", "elasticpypi", "serve", "--port", str(port), "--data", str(data)]
    with _running(OURS, command, environment() | dict(settings or {}), port, first, logs) as server:
        yield server


@contextlib.contextmanager
def nginx(root: Path, files: Path, first: str, logs: Path) -> Iterator[Server]:
    """Serve the pages below `root`, compressed beforehand too, and the wheels below `files`, from one process.

    Installers find all of it, as JSON, where an index of ours has it: below /simple/ and /packages/.
    """
    port = free_port()
    configuration = logs / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_NGINX.format(user=user, logs=logs, root=root, files=files, port=port))
    command = [find_nginx() or "nginx", "-c", str(configuration), "-e", str(logs / "nginx-error.log")]
    with _running(NGINX, command, dict(os.environ), port, first, logs) as server:
        yield server


def find_nginx() -> str | None:
    """Return nginx's path; it may lie where only root looks for programs."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {logs}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log {logs}/nginx-access.log;
  client_body_temp_path {logs}/nginx-body;
  proxy_temp_path {logs}/nginx-proxy;
  fastcgi_temp_path {logs}/nginx-fastcgi;
  uwsgi_temp_path {logs}/nginx-uwsgi;
  scgi_temp_path {logs}/nginx-scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    types {{ }}
    location /json/ {{ default_type application/vnd.pypi.simple.v1+json; gzip_static on; }}
    location /html/ {{ default_type text/html; gzip_static on; }}
    location /simple/ {{ rewrite ^/simple/$ /json/-root last; rewrite ^/simple/([^/]+)/$ /json/$1 last; }}
    location /packages/ {{ rewrite ^/packages/(.+)$ /files/$1 last; }}
    location /files/ {{ default_type application/octet-stream; alias {files}/; }}
    location ~ ^/files/(.*[.]metadata)$ {{ default_type text/plain; root {root}/metadata; try_files /$1 =404; }}
  }}
}}
"""


@contextlib.contextmanager
def floor(root: Path, first: str, logs: Path) -> Iterator[Server]:
    """Serve the pages below `root` from a dictionary, behind the server that elasticpypi has."""
    port = free_port()
    command = [sys.executable, "-m", "bench.floor", str(root), str(port)]
    with _running(FLOOR, command, dict(os.environ), port, first, logs) as server:
        yield server


@contextlib.contextmanager
def proxpi(upstream: str, first: str, logs: Path) -> Iterator[Server]:
    """Serve the index at `upstream`, with the server and the two threads of proxpi's own image."""
    port = free_port()
    cache = logs / "proxpi-cache"
    settings = {"PROXPI_INDEX_URL": upstream, "PROXPI_CACHE_DIR": str(cache)}
    command = [str(PEERS / "gunicorn"), "--bind", f"127.0.0.1:{port}", "--threads", "2", "--preload"]
    command += ["--access-logfile", "-", "--logger-class", "proxpi.server._GunicornLogger", "proxpi.server:app"]
    with _running(PROXPI, command, os.environ | settings, port, first, logs) as server:
        yield server


@contextlib.contextmanager
def pypiserver(files: Path, first: str, logs: Path, *, method: str = "gunicorn") -> Iterator[Server]:
    """Serve the wheels below `files`.

    By default under gunicorn, where it is four times as fast, since its cache is not emptied whenever a file is opened
    there. But then it never sees a file that is dropped: `method="auto"` does.
    """
    port = free_port()
    command = [str(PEERS / "pypi-server"), "run", "--port", str(port), "--interface", "127.0.0.1", "--server", method]
    command += ["--authenticate", ".", "--passwords", ".", "--disable-fallback", str(files)]
    settings = {"GUNICORN_CMD_ARGS": "--threads 8 --timeout 300"}
    with _running(PYPISERVER, command, os.environ | settings, port, first, logs) as server:
        yield server


@contextlib.contextmanager
def _running(
    kind: Kind, command: list[str], settings: Mapping[str, str], port: int, first: str, logs: Path
) -> Iterator[Server]:
    """Start a server, wait until it answers `first` with 200, and end what is left of it."""
    began = time.perf_counter()
    path = logs / f"{kind.name}-{port}.log"
    with path.open("wb") as log:
        main = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
    try:
        if not _answers(kind, main, port, first):
            raise RuntimeError(f"{kind.name} does not answer {first}: {path.read_text()[-2_000:]}")
        yield Server(kind, port, main, time.perf_counter() - began)
    finally:
        left = process_tree(main.pid)
        main.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            main.wait(20)
        end(left)
        main.wait()


def _answers(kind: Kind, main: subprocess.Popen[bytes], port: int, path: str) -> bool:
    """Wait until the server answers the path with 200; false if it never does."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and main.poll() is None:
        with contextlib.suppress(OSError):
            if fetch(port, path, {**kind.headers, "Accept": "text/html"})[0] == 200:
                return True
        time.sleep(_POLLING_SECONDS)
    return False
