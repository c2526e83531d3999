"""Runs the real clients as subprocesses: an empty home, no configuration but the test's, no way to any other index.

Besides: a proxy that records what they ask for, and readers of pages and of files that share no code with ours.
"""

from __future__ import annotations

import email
import hashlib
import http.client
import importlib.metadata
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote, urlsplit

import requests
from packaging.utils import NormalizedName, canonicalize_name
from pypi_simple import ProjectPage

from tests.listening import Listener
from tests.running import bare_environment

JSON = "application/vnd.pypi.simple.v1+json"
_BIN = Path(sys.executable).parent
_NOWHERE = "http://127.0.0.1:9"  # the port of "discard", at which nobody listens
_CUT_OFF = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), _NOWHERE),
    "no_proxy": "127.0.0.1",
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    "UV_PYTHON_DOWNLOADS": "never",
    "POETRY_VIRTUALENVS_IN_PROJECT": "true",
    "PDM_CHECK_UPDATE": "false",
    # Output that a test can search: sentences stay on one line.
    "COLUMNS": "1000",
    "TERM": "dumb",
}
_TIMEOUT_SECONDS = 110.0
_AS_IT_IS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """Where an index is, and as whom to use it."""

    url: str  # without a slash at the end
    username: str
    password: str

    @property
    def index_url(self) -> str:
        """The simple API, with the credentials in the URL."""
        parts = urlsplit(self.url)
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return parts._replace(netloc=f"{user}@{parts.netloc}").geturl() + "/simple/"

    def get(self, path: str, accept: str = JSON) -> bytes:
        """Return the body at a path."""
        answer = self._ask(path, accept)
        answer.raise_for_status()
        return answer.content

    def status(self, path: str) -> int:
        """Return the status that a path has."""
        return self._ask(path, JSON).status_code

    def _ask(self, path: str, accept: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = (self.username, self.password)
            return session.get(self.url + path, headers={"Accept": accept}, timeout=30)

    def page(self, project: str) -> Any:
        """Return a project's page, read as JSON."""
        return json.loads(self.get(f"/simple/{project}/"))

    def listed(self, project: str) -> dict[str, str]:
        """Return the files on a project's page: filename to sha256; none where there is no page."""
        answer = self._ask(f"/simple/{project}/", JSON)
        if answer.status_code == 404:
            return {}
        answer.raise_for_status()
        return {file["filename"]: file["hashes"]["sha256"] for file in answer.json()["files"]}


class Server(Protocol):
    """An index that answers, wherever it runs."""

    @property
    def url(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def port(self) -> int: ...

    @property
    def files(self) -> Path:
        """Where its files are, or a copy of them."""


def account(server: Server, username: str | None = None, password: str | None = None) -> Account:
    """Return an account at a server, its main one if no other is named."""
    return Account(server.url, username or server.username, password or server.password)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a command."""

    code: int
    output: str  # standard output and error

    @property
    def succeeded(self) -> bool:
        return self.code == 0

    def says(self, text: str) -> bool:
        """Whether a text is in the output, however the client has broken its lines."""
        return text in " ".join(self.output.split())


@dataclass(frozen=True, slots=True)
class Desk:
    """An empty home, and a directory in which one project is worked on; each client's caches are its own."""

    root: Path
    project_name: str = "project"  # several projects may share a home

    @property
    def project(self) -> Path:
        path = self.root / self.project_name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def dist(self) -> Path:
        """Where the files lie that are to be published."""
        path = self.project / "dist"
        path.mkdir(exist_ok=True)
        return path

    def make_environment(self) -> Path:
        """Make the project's virtual environment, if there is none, and return its interpreter."""
        environment = self.project / ".venv"
        if not environment.exists():
            made = self.run(_BIN / "uv", "venv", "--quiet", "--python", sys.executable, environment)
            assert made.succeeded, made.output
        return environment / "bin" / "python"

    def run(self, *command: str | Path, extra: Mapping[str, str] | None = None) -> Outcome:
        """Run a command in the project's directory to its end."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.project,
            env=bare_environment(self.root / "home", {**_CUT_OFF, **(extra or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)

    def pip(self, *arguments: str | Path) -> Outcome:
        """Run pip for the project's virtual environment, which has none of its own."""
        return self.run(sys.executable, "-m", "pip", "--python", self.make_environment(), *arguments)

    def uv(self, *arguments: str | Path) -> Outcome:
        """Run uv; `pip` commands find the project's virtual environment."""
        self.make_environment()
        return self.run(_BIN / "uv", *arguments)

    def installed(self) -> dict[NormalizedName, str]:
        """Return what the virtual environment holds: normalised project names to versions."""
        (site_packages,) = self.make_environment().parent.parent.glob("lib/python*/site-packages")
        found = importlib.metadata.distributions(path=[str(site_packages)])
        return {canonicalize_name(each.name): each.version for each in found}


# Upload --------------------------------------------------------------------------------------------------------------

_Files = Sequence[Path]


def _twine(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    where = ("--repository-url", index.url + path, "-u", index.username, "-p", index.password)
    return desk.run(_BIN / "twine", "upload", "--non-interactive", "--disable-progress-bar", *where, *options, *files)


def _verbose_twine(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    return _twine(desk, index, path, files, "--verbose", *options)


def _uv(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    where = ("--publish-url", index.url + path, "-u", index.username, "-p", index.password)
    return desk.run(_BIN / "uv", "publish", "--trusted-publishing", "never", *where, *options, *files)


def _poetry(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    _write_publishing_project(desk, files)
    where = ("-r", "ours", "-u", index.username, "-p", index.password)
    extra = {"POETRY_REPOSITORIES_OURS_URL": index.url + path}
    return desk.run(_BIN / "poetry", "publish", "--no-interaction", *where, *options, extra=extra)


def _pdm(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    _write_publishing_project(desk, files)
    where = ("-r", index.url + path, "-u", index.username, "-P", index.password)
    return desk.run(_BIN / "pdm", "publish", "--no-build", *where, *options)


def _hatch(desk: Desk, index: Account, path: str, files: _Files, *options: str) -> Outcome:
    where = ("-r", index.url + path, "-u", index.username, "-a", index.password)
    return desk.run(_BIN / "hatch", "publish", "--no-prompt", *where, *options, *files)


# Client -> what uploads files to a path of an index. Poetry and pdm take all of the project's `dist`.
UPLOADERS: Mapping[str, Callable[..., Outcome]] = {
    "twine": _twine,
    "twine --verbose": _verbose_twine,
    "uv": _uv,
    "poetry": _poetry,
    "pdm": _pdm,
    "hatch": _hatch,
}


def _write_publishing_project(desk: Desk, files: _Files) -> None:
    desk.make_environment()
    assert sorted(files) == sorted(desk.dist.iterdir())
    name, version = files[0].name.split("-")[:2]
    lines = ["[project]", f'name = "{name}"', f'version = "{version.removesuffix(".tar.gz")}"']
    desk.project.joinpath("pyproject.toml").write_text("\n".join([*lines, 'requires-python = ">=3.11"', ""]))


# Install -------------------------------------------------------------------------------------------------------------


def _pip_install(desk: Desk, index: Account, *requirements: str) -> Outcome:
    return desk.pip("install", "--index-url", index.index_url, *requirements)


def _uv_install(desk: Desk, index: Account, *requirements: str) -> Outcome:
    return desk.uv("pip", "install", "--default-index", index.index_url, *requirements)


def _poetry_add(desk: Desk, index: Account, *requirements: str) -> Outcome:
    desk.make_environment()
    source = f'[[tool.poetry.source]]\nname = "ours"\nurl = "{index.url}/simple/"\npriority = "primary"\n'
    _write_installing_project(desk, f"[tool.poetry]\npackage-mode = false\n\n{source}")
    credentials = {"USERNAME": index.username, "PASSWORD": index.password}
    extra = {f"POETRY_HTTP_BASIC_OURS_{key}": value for key, value in credentials.items()}
    return desk.run(_BIN / "poetry", "add", "--no-interaction", *requirements, extra=extra)


def _pdm_add(desk: Desk, index: Account, *requirements: str) -> Outcome:
    desk.make_environment()
    source = f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{index.index_url}"\n'  # the name replaces its default
    _write_installing_project(desk, f"[tool.pdm]\ndistribution = false\n\n{source}")
    return desk.run(_BIN / "pdm", "add", *requirements)


# Client -> what installs requirements (and options) from an index into the desk's virtual environment.
INSTALLERS: Mapping[str, Callable[..., Outcome]] = {
    "pip": _pip_install,
    "uv": _uv_install,
    "poetry": _poetry_add,
    "pdm": _pdm_add,
}


def _write_installing_project(desk: Desk, tool: str) -> None:
    path = desk.project / "pyproject.toml"
    if not path.exists():
        head = '[project]\nname = "application"\nversion = "1.0"\nrequires-python = ">=3.11,<4"\n'
        path.write_text(f"{head}\n{tool}")


# Watching ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that a client has sent, and how it was answered; names of headers are in lower case."""

    method: str
    path: str  # below the server's URL
    request: Mapping[str, str]
    status: int
    response: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recorder:
    """A proxy in front of a server."""

    url: str
    exchanges: list[Exchange] = field(default_factory=list)
    to_cut: set[str] = field(default_factory=set)  # paths whose next answer ends half-way

    def take(self) -> list[Exchange]:
        """Return what has been seen since the last call."""
        seen = self.exchanges.copy()
        del self.exchanges[: len(seen)]
        return seen


@contextmanager
def recording(server_url: str, *, adding: Mapping[str, str] = _AS_IT_IS) -> Iterator[Recorder]:
    """Put a proxy in front of a server that hands on everything as it is, and remembers all but the bodies.

    `adding` are headers that it adds to requests, in place of those that they have.
    """
    proxy = _Proxy(server_url, adding)
    with proxy.running():
        yield proxy.recorder


class _Proxy(Listener):
    def __init__(self, server_url: str, adding: Mapping[str, str]) -> None:
        super().__init__(_Handler)
        self.adding = adding
        parts = urlsplit(server_url)
        self.netloc, self.prefix = parts.netloc, parts.path
        self.recorder = Recorder(f"http://127.0.0.1:{self.server_port}{self.prefix}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        proxy = cast(_Proxy, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        answer, content = self._hand_on(proxy, body)
        request = {name.lower(): value for name, value in self.headers.items()}
        response = {name.lower(): value for name, value in answer.getheaders()}
        path = self.path.removeprefix(proxy.prefix)
        proxy.recorder.exchanges.append(Exchange(self.command, path, request, answer.status, response))
        self.send_response_only(answer.status)
        for name, value in response.items():
            if name not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if answer.status != 304:
            length = response.get("content-length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
        self.end_headers()
        if path in proxy.recorder.to_cut:
            proxy.recorder.to_cut.remove(path)
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)

    def _hand_on(self, proxy: _Proxy, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        with closing(http.client.HTTPConnection(proxy.netloc, timeout=60)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            kept = [(name, value) for name, value in self.headers.items() if name not in proxy.adding]
            for name, value in (*kept, *proxy.adding.items()):
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer, answer.read()

    do_HEAD = do_POST = do_GET  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be said of a distribution file; None where it has no such thing."""

    filename: str
    sha256: str
    size: int | None
    requires_python: str | None
    core_metadata_sha256: str | None


def facts_of(file: Path) -> Facts:
    """Read a wheel or sdist with the standard library."""
    core_metadata = core_metadata_of(file)
    requires_python: str | None = email.message_from_bytes(core_metadata)["Requires-Python"]
    return Facts(
        filename=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        size=file.stat().st_size,
        requires_python=requires_python,
        core_metadata_sha256=hashlib.sha256(core_metadata).hexdigest() if file.suffix == ".whl" else None,
    )


def core_metadata_of(file: Path) -> bytes:
    """Return METADATA of a wheel, PKG-INFO of an sdist."""
    if file.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if _is_core_metadata(name))
            return archive.read(name)
    with tarfile.open(file) as tar:
        member = tar.extractfile(next(member for member in tar if _is_core_metadata(member.name)))
        assert member is not None
        return member.read()


def _is_core_metadata(path: str) -> bool:
    directory, _, name = path.removeprefix("./").partition("/")
    return name == ("METADATA" if directory.endswith(".dist-info") else "PKG-INFO")


def facts_on(page: ProjectPage) -> dict[str, Facts]:
    """Return what a page says of its files, as pypi-simple reads it."""
    return {
        package.filename: Facts(
            filename=package.filename,
            sha256=package.digests["sha256"],
            size=package.size,
            requires_python=package.requires_python,
            core_metadata_sha256=(package.metadata_digests or {}).get("sha256"),
        )
        for package in page.packages
    }


def wait_until(condition: Callable[[], bool], *, seconds: float = 20.0, what: str) -> None:
    """Ask again and again until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"still not after {seconds} seconds: {what}"
        time.sleep(0.05)
