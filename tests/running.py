"""Runs the real `elasticpypi` command as a subprocess, cut off from the configuration of the machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests
from packaging.utils import parse_sdist_filename, parse_wheel_filename

T = TypeVar("T")
JSON = "application/vnd.pypi.simple.v1+json"
PATIENCE_SECONDS = 30.0  # until something that must happen has happened; far more than it takes
_POLLING_SECONDS = 0.02
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
# What clients and our own commands would listen to: their settings must come from the test alone.
_LISTENED_TO = ("PIP_", "UV_", "PDM_", "POETRY_", "HATCH_", "TWINE_", "ELASTICPYPI_", "PYTHON", "VIRTUAL_ENV")


def bare_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings for Python, pip, uv and the like, whose home is an empty directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LISTENED_TO)}
    home.mkdir(parents=True, exist_ok=True)
    isolated = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CONFIG_DIRS": str(home / "config-dirs"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "share"),
        "XDG_STATE_HOME": str(home / "state"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "NETRC": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "NO_COLOR": "1",
    }
    return environment | isolated | dict(extra or {})


def run_command(
    *arguments: str | Path, home: Path, extra: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `elasticpypi` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "elasticpypi", *map(str, arguments)],
        env=bare_environment(home, extra),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class RunningServer:
    """An `elasticpypi serve` that answers."""

    process: subprocess.Popen[str]
    port: int
    data: Path
    log: Path  # its standard output and error
    username: str
    password: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_credentials(self) -> str:
        return f"http://{self.username}:{self.password}@127.0.0.1:{self.port}"

    @property
    def index_url(self) -> str:
        return f"{self.url_with_credentials}/simple/"

    @property
    def files(self) -> Path:
        return self.data / "files"

    def output(self) -> str:
        return self.log.read_text()

    def fetch(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask with the credentials, on a connection of its own; pages come as JSON."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.url + path,
                auth=(self.username, self.password),
                headers={"Accept": JSON, "Connection": "close", **(headers or {})},
                timeout=60,
            )

    def upload(self, path: Path) -> requests.Response:
        """Post a wheel or an sdist, as twine does."""
        request = self.prepare_upload(path.name, path.read_bytes())
        with requests.Session() as session:
            session.trust_env = False
            return session.send(request, timeout=60)

    def prepare_upload(self, filename: str, data: bytes) -> requests.PreparedRequest:
        return requests.Request(
            "POST",
            f"{self.url}/legacy/",
            auth=(self.username, self.password),
            data=upload_form(filename),
            files={"content": (filename, data)},
            headers={"Connection": "close"},
        ).prepare()

    def listing(self, project: str) -> dict[str, str] | None:
        """Return what a project's page lists, filename to sha256; None where there is no such project."""
        return read_listing(self.fetch(f"/simple/{project}/"))

    def projects(self) -> list[str]:
        response = self.fetch("/simple/")
        assert response.status_code == 200, (response.status_code, response.text)
        return [project["name"] for project in response.json()["projects"]]

    def processes(self) -> list[int]:
        """Return the ids of all processes of the server, the first one first."""
        return process_tree(self.process.pid)

    def kill(self) -> None:
        """End every process at once, as a power cut would."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(_STOP_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_SECONDS)


def read_listing(response: requests.Response) -> dict[str, str] | None:
    """Return what a project's page lists, filename to sha256; None where it says that there is no such project."""
    if response.status_code == 404:
        return None
    assert response.status_code == 200, (response.status_code, response.text)
    return {file["filename"]: file["hashes"]["sha256"] for file in response.json()["files"]}


def upload_form(filename: str) -> dict[str, str]:
    """Return the fields that every uploader sends."""
    if filename.endswith(".whl"):
        name, version, _, _ = parse_wheel_filename(filename)
    else:
        name, version = parse_sdist_filename(filename)
    return {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": name,
        "version": str(version),
        "filetype": "bdist_wheel" if filename.endswith(".whl") else "sdist",
    }


def process_tree(pid: int) -> list[int]:
    """Return a process and all that it has started, as far as they run."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    tree = [pid]
    for process in tree:
        tree.extend(children.get(process, []))
    return tree


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(ask: Callable[[], T], is_good: Callable[[T], bool] = bool, *, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again and again until the answer is good, and return it; AssertionError with the last one if time is up."""
    until = time.monotonic() + seconds
    while not is_good(answer := ask()):
        assert time.monotonic() < until, f"still, after {seconds} seconds: {answer!r:.500}"
        time.sleep(_POLLING_SECONDS)
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    data: Path,
    *arguments: str,
    home: Path,
    extra: Mapping[str, str] | None = None,
    healthy: bool = True,
    before: Sequence[str] = (),
    local: bool = True,
) -> Iterator[RunningServer]:
    """Serve `data` on a free port until the context ends; credentials come from `extra` or are made by the server.

    `before` is a command that runs the server as its own last act. Unless `local`, the index lies where `extra` says.
    It answers when the context begins; unless `healthy` is false, it also has looked through its storage.
    """
    port = free_port()
    log = home / f"server-{port}.log"
    environment = bare_environment(home, extra)
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                "elasticpypi",
                "serve",
                "--port",
                str(port),
                *(["--data", str(data)] if local else []),
                *arguments,
            ],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        _wait_until_it_answers(process, port, log, healthy=healthy)
        username, password = environment.get("ELASTICPYPI_USERNAME"), environment.get("ELASTICPYPI_PASSWORD")
        if username is None or password is None:
            made = json.loads((data / "credentials.json").read_text())
            username, password = made["username"], made["password"]
        yield RunningServer(process, port, data, log, username, password)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_answers(process: subprocess.Popen[str], port: int, log: Path, *, healthy: bool) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if not healthy:
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(_POLLING_SECONDS)
    raise AssertionError(f"the server does not answer:\n{log.read_text()}")
