"""Runs other people's mirrors in front of an index of ours, as subprocesses cut off from the machine's configuration.

They are installed in an environment of their own (`make .peers/installed`). Each gives pip an index without
credentials, and has ours behind it, which asks for some.
"""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.clients import Account
from tests.running import bare_environment, free_port, wait_for

_BIN = Path(__file__).parent.parent / ".peers" / "bin"
_NOWHERE = "http://127.0.0.1:9"  # the port of "discard", at which nobody listens
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_CUT_OFF = {**dict.fromkeys(_PROXIES, _NOWHERE), "no_proxy": "127.0.0.1"}
_NO_PROXIES = dict.fromkeys(_PROXIES, "")
_STOP_SECONDS = 30.0


@contextmanager
def _devpi(ours: Account, home: Path) -> Iterator[str]:
    """Run devpi with an index of the kind "mirror"."""
    directory = home / "devpi"
    _run("devpi-init", "--serverdir", directory, "--no-root-pypi", home=home)
    base = f"http://127.0.0.1:{free_port()}"
    quick = ("--argon2-memory-cost", "64", "--argon2-time-cost", "1")  # else its own secret takes it seven seconds
    command = ("devpi-server", *quick, "--serverdir", directory, "--listen", urlsplit(base).netloc)
    with _running(*command, home=home, answers=f"{base}/+api"):
        token = _ask("POST", f"{base}/+login", {"user": "root", "password": ""})["result"]["password"]
        credentials = b64encode(f"root:{token}".encode()).decode()
        settings = {"type": "mirror", "mirror_url": ours.index_url}
        _ask("PUT", f"{base}/root/ours", settings, {"X-Devpi-Auth": credentials})
        yield f"{base}/root/ours/+simple/"


def _ask(method: str, url: str, document: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, json=document, headers=headers, timeout=30)
    assert answer.ok, answer.text
    return answer.json()


@contextmanager
def _proxpi(ours: Account, home: Path) -> Iterator[str]:
    """Run proxpi, which keeps pages and files."""
    base = f"http://127.0.0.1:{free_port()}"
    settings = {
        "PROXPI_INDEX_URL": ours.index_url,
        "PROXPI_CACHE_DIR": str(home / "proxpi"),
        "PROXPI_DOWNLOAD_TIMEOUT": "30",  # seconds; after that it would send pip to us
    }
    command = ("gunicorn", "--bind", urlsplit(base).netloc, "--threads", "4", "--no-control-socket")
    with _running(*command, "proxpi.server:app", home=home, answers=f"{base}/health", extra=settings):
        yield f"{base}/index/"


@contextmanager
def _simple_repository_server(ours: Account, home: Path) -> Iterator[str]:
    """Run simple-repository-server, which hands on pages and files."""
    netrc = home / "netrc"  # credentials in the URL would do as well
    netrc.write_text(f"machine 127.0.0.1 login {ours.username} password {ours.password}\n")
    netrc.chmod(0o600)
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--stream-http-resources")
    url = f"http://127.0.0.1:{port}/simple/"
    command = ("simple-repository-server", *options, f"{ours.url}/simple/")
    with _running(*command, home=home, answers=url, extra={"NETRC": str(netrc)}):
        yield url


@contextmanager
def _bandersnatch(ours: Account, home: Path) -> Iterator[str]:
    mirror = make_bandersnatch(ours, home)
    mirror.update()
    with mirror.serving() as url:
        yield url


@dataclass(frozen=True, slots=True)
class Bandersnatch:
    """A mirror as plain files."""

    home: Path
    config: Path

    @property
    def web(self) -> Path:
        """What a web server serves."""
        return self.home / "bandersnatch" / "web"

    def update(self) -> None:
        """Bring the mirror up to date."""
        # It takes any proxy it finds, whatever `no_proxy` says.
        _run("bandersnatch", "--config", self.config, "mirror", home=self.home, extra=_NO_PROXIES)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve the files; yield the URL for pip."""
        port = free_port()
        command = ("python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", self.web, port)
        url = f"http://127.0.0.1:{port}/simple/"
        with _running(*map(str, command), home=self.home, answers=url):
            yield url


def make_bandersnatch(ours: Account, home: Path) -> Bandersnatch:
    """Configure a mirror that is still empty."""
    with_credentials = ours.index_url.removesuffix("/simple/")
    settings = {
        "directory": home / "bandersnatch",
        "master": with_credentials,
        "allow-non-https": "true",
        "api-method": "simple",
        "workers": 2,
        # The URLs of files carry no credentials: it takes their paths alone, and asks for them here.
        "download-mirror": with_credentials,
        "download-mirror-no-fallback": "true",
    }
    mirror = Bandersnatch(home, home / "bandersnatch.conf")
    mirror.config.write_text("\n".join(["[mirror]", *(f"{key} = {value}" for key, value in settings.items()), ""]))
    return mirror


# Mirror -> what runs it before an index of ours, with a directory of its own, and yields the URL for pip.
MIRRORS: Mapping[str, Callable[[Account, Path], AbstractContextManager[str]]] = {
    "bandersnatch": _bandersnatch,
    "devpi": _devpi,
    "proxpi": _proxpi,
    "simple-repository-server": _simple_repository_server,
}


@contextmanager
def _running(
    program: str, *arguments: str | Path, home: Path, answers: str, extra: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server, from when it answers at a URL until the context ends."""
    log = home / f"{program}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [_BIN / program, *arguments],
            env=bare_environment(home, {**_CUT_OFF, **(extra or {})}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: process.poll() is not None or _answers(answers))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(program: str, *arguments: str | Path, home: Path, extra: Mapping[str, str] | None = None) -> None:
    """Run a command to its end, which is a good one."""
    done = subprocess.run(
        [_BIN / program, *arguments],
        env=bare_environment(home, {**_CUT_OFF, **(extra or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=5).ok
        except requests.ConnectionError:
            return False
