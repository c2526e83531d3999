"""docs/running.md: the index as a service, behind real proxies under a prefix, and how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.clients import Account, Desk
from tests.dists import make_sdist, make_wheel
from tests.programs import require
from tests.running import JSON, RunningServer, bare_environment, free_port, serving, wait_for

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = DOCS / "examples"
BIN = Path(sys.executable).parent
COMMAND = "/usr/local/lib/elasticpypi/bin/elasticpypi"  # as the examples have it
TLS = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tests"
    " -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca-key.pem -out ca.pem",
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1"
    " -keyout key.pem -out request.pem",
    "openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions"
    " -out certificate.pem",
)
EXTENSIONS = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"


# Behind a proxy --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy in front of a server, which gives it a prefix."""

    url: str  # with the prefix, without a slash at the end
    server: RunningServer
    trusted: Mapping[str, str]  # variables that make clients trust its certificate

    @property
    def account(self) -> Account:
        return Account(self.url, self.server.username, self.server.password)

    def fetch(self, path: str, **headers: str) -> requests.Response:
        auth = (self.server.username, self.server.password)
        verify = self.trusted.get("REQUESTS_CA_BUNDLE", True)
        return requests.get(self.url + path, auth=auth, headers=headers, verify=verify, timeout=60)


@contextmanager
def running(command: list[str | Path], url: str, directory: Path, *, verify: str | bool = True) -> Iterator[None]:
    """Run a proxy until the context ends; it answers when the context begins."""
    log = directory / "log"
    with log.open("w") as output:
        environment = bare_environment(directory / "home")
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or answers(url, verify))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str, verify: str | bool) -> bool:
    try:
        return requests.get(url, verify=verify, timeout=5).ok
    except requests.ConnectionError:
        return False


def with_replaced(text: str, pairs: Mapping[str, str]) -> str:
    """Replace what a test needs otherwise, each at least once; first what a value of ours may be like."""
    for old, new in pairs.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(server: RunningServer, directory: Path) -> Iterator[Front]:
    """Run nginx with TLS and the example."""
    program, port = require("nginx"), free_port()
    require("openssl")
    (directory / "extensions").write_text(EXTENSIONS)
    for line in TLS:
        subprocess.run(shlex.split(line), cwd=directory, check=True, capture_output=True)
    example = with_replaced(
        (EXAMPLES / "nginx.conf").read_text(),
        {
            "127.0.0.1:5000": f"127.0.0.1:{server.port}",
            "listen 443": f"listen 127.0.0.1:{port}",
            "/etc/ssl/pypi.example.com": str(directory),
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    configuration = directory / "nginx.conf"
    head = f"daemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
    configuration.write_text(f"{head}http {{\naccess_log off;\n{paths}{example}}}\n")
    certificate = str(directory / "ca.pem")
    trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE"), certificate)
    url = f"https://127.0.0.1:{port}/pypi"
    command: list[str | Path] = [program, "-p", directory, "-e", "stderr", "-c", configuration]
    with running(command, f"{url}/health", directory, verify=certificate):
        yield Front(url, server, trusted)


@contextmanager
def caddy(server: RunningServer, directory: Path) -> Iterator[Front]:
    """Run Caddy with the example, without TLS: there is no authority on loopback that it could ask."""
    program, port = require("caddy"), free_port()
    example = with_replaced(
        (EXAMPLES / "Caddyfile").read_text(),
        {"127.0.0.1:5000": f"127.0.0.1:{server.port}", "pypi.example.com {": f"http://127.0.0.1:{port} {{"},
    )
    configuration = directory / "Caddyfile"
    configuration.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{example}")
    url = f"http://127.0.0.1:{port}/pypi"
    command: list[str | Path] = [program, "run", "--adapter", "caddyfile", "--config", configuration]
    with running(command, f"{url}/health", directory):
        yield Front(url, server, {})


@pytest.fixture(params=[nginx, caddy])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Front]:
    directory = tmp_path / "proxy"
    directory.mkdir()
    directory.chmod(0o755)
    with (
        serving(tmp_path / "data", "--behind-proxy", home=tmp_path / "home") as server,
        request.param(server, directory) as opened,
    ):
        yield opened


def test_real_clients_publish_and_install_under_the_prefix(front: Front, tmp_path: Path) -> None:
    account, desk = front.account, Desk(tmp_path / "desk")
    credentials = ("-u", account.username, "-p", account.password)
    # Larger than what nginx takes by default; and a version whose "+" has to survive both ways.
    wheel = make_wheel(desk.dist, "Acme.Tools", "1.0+local.1", extra_files={"noise.bin": os.urandom(3 * 2**20)})
    sdist = make_sdist(desk.dist, "other")
    twine = desk.run(
        BIN / "twine", "upload", "--non-interactive", "--repository-url", f"{account.url}/legacy/",
        *credentials, wheel, extra=front.trusted,
    )  # fmt: skip
    assert twine.succeeded, twine.output
    uv = desk.run(
        BIN / "uv", "publish", "--trusted-publishing", "never", "--publish-url", f"{account.url}/legacy/",
        "--check-url", f"{account.url}/simple/", *credentials, sdist, extra=front.trusted,
    )  # fmt: skip
    assert uv.succeeded, uv.output
    python = desk.make_environment()
    pip = desk.run(
        sys.executable, "-m", "pip", "--python", python, "install", "--index-url", account.index_url,
        "acme-tools", "other", extra=front.trusted,
    )  # fmt: skip
    assert pip.succeeded, pip.output
    assert desk.installed() == {"acme-tools": "1.0+local.1", "other": "1.0"}
    again = Desk(tmp_path / "again")
    again.make_environment()
    uv = again.run(
        BIN / "uv", "pip", "install", "--default-index", account.index_url, "Acme_Tools", "other", extra=front.trusted
    )
    assert uv.succeeded, uv.output
    assert again.installed() == desk.installed()
    assert {line.split(" ")[1] for line in front.server.output().splitlines() if " /legacy/ " in line} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("path", "lands"),
    [
        ("", "/"),
        ("/project/Acme.Tools", "/project/acme-tools/"),
        ("/simple", "/simple/"),
        ("/simple/Acme.Tools", "/simple/acme-tools/"),
        ("/simple/Acme.Tools/", "/simple/acme-tools/"),
        ("/packages/Acme.Tools/acme_tools-1.0%2Blocal.1-py3-none-any.whl", None),
    ],
)
def test_redirects_stay_under_the_prefix(front: Front, tmp_path: Path, path: str, lands: str | None) -> None:
    wheel = make_wheel(tmp_path, "Acme.Tools", "1.0+local.1")
    assert front.server.upload(wheel).status_code == 200
    answer = front.fetch(path, Accept=JSON)
    assert answer.status_code == 200, (answer.url, answer.text)
    assert answer.history != []
    landed = urlsplit(answer.url)
    assert landed._replace(path="", fragment="").geturl() == front.url.removesuffix("/pypi")
    if lands is None:
        assert landed.path == f"/pypi/packages/acme-tools/{wheel.name.replace('+', '%2B')}"
        assert answer.content == wheel.read_bytes()
    else:
        assert landed.path == f"/pypi{lands}"


def test_trusted_publishing_is_found_at_the_root_of_the_host(front: Front) -> None:
    root = front.url.removesuffix("/pypi")
    verify = front.trusted.get("REQUESTS_CA_BUNDLE", True)
    answer = requests.get(f"{root}/_/oidc/audience", verify=verify, timeout=60)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not-enabled")
    answer = requests.post(f"{root}/_/oidc/mint-token", json={"token": "x"}, verify=verify, timeout=60)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid-publisher")


def test_unchanged_pages_and_parts_of_files_come_through(front: Front, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert front.server.upload(wheel).status_code == 200
    page = front.fetch("/simple/acme/", Accept=JSON)
    tag = page.headers["ETag"]
    assert front.fetch("/simple/acme/", **{"Accept": JSON, "If-None-Match": tag}).status_code == 304
    part = front.fetch(f"/packages/acme/{wheel.name}", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, wheel.read_bytes()[10:20])


# What a client may make up, and (path, as it is logged, status) where it does.
MADE_UP = [
    {"X-Forwarded-For": "198.51.100.1"},
    {"X_Forwarded_For": "198.51.100.1"},
    {"x_forwarded-FOR": "198.51.100.1", "X-Forwarded_For": "198.51.100.2"},
    {"X-Forwarded-For": "198.51.100.1", "X_Forwarded_For": "198.51.100.2"},
]
ASKED = [("/pypi/simple/made-up/", "/simple/made-up/", 401), ("/_/oidc/audience", "/_/oidc/audience", 404)]


def test_the_logged_address_is_the_client_s_and_not_one_that_it_makes_up(front: Front) -> None:
    url = urlsplit(front.url)
    assert url.port is not None
    source = ("127.0.0.2", 0)  # on Linux all of 127.0.0.0/8 is this machine
    if front.trusted:
        context = ssl.create_default_context(cafile=front.trusted["SSL_CERT_FILE"])
        connection: HTTPConnection = HTTPSConnection("127.0.0.1", url.port, source_address=source, context=context)
    else:
        connection = HTTPConnection("127.0.0.1", url.port, source_address=source)
    with closing(connection):
        for path, logged, status in ASKED:
            for headers in MADE_UP:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == status
            lines = wait_for(partial(_lines_about, front.server, logged), lambda found: len(found) == len(MADE_UP))
            assert [line.split(" ")[1:3] for line in lines] == [["127.0.0.2", "-"]] * len(MADE_UP)


def _lines_about(server: RunningServer, path: str) -> list[str]:
    return [line for line in server.output().splitlines() if f" {path} " in line]


# As a service ----------------------------------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = require("systemd-analyze")
    units = [path for path in EXAMPLES.iterdir() if path.suffix in (".service", ".timer")]
    assert len(units) == 3
    for unit in units:
        text = unit.read_text().replace(COMMAND, str(BIN / "elasticpypi"))
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [program, "verify", "--man=no", *(tmp_path / unit.name for unit in units)],
        env=bare_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_of_the_unit_serves(tmp_path: Path) -> None:
    unit = (EXAMPLES / "elasticpypi.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, serve, *arguments = shlex.split(line)
    assert (program, serve, arguments[:2]) == (COMMAND, "serve", ["--data", "${STATE_DIRECTORY}"])
    with serving(tmp_path / "data", *arguments[2:], home=tmp_path / "home") as server:
        assert server.fetch("/simple/").status_code == 200
        assert server.stop() == 0


def test_the_command_of_the_backup_makes_one(server: RunningServer, tmp_path: Path) -> None:
    unit = (EXAMPLES / "elasticpypi-backup.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    # What systemd does to a line before it runs it (systemd.service(5), systemd.unit(5)).
    line = line.replace("$$", "$").replace("%%", "%").replace(COMMAND, str(BIN / "elasticpypi"))
    line = line.replace("/var/lib/elasticpypi", str(server.data)).replace("/var/backups/elasticpypi", str(tmp_path))
    environment = bare_environment(tmp_path / "home")
    subprocess.run(shlex.split(line), env=environment, check=True, capture_output=True)
    (backup,) = tmp_path.glob("*.tar")
    assert re.fullmatch(r"\w+\.tar", backup.name)


def test_every_example_is_on_a_page() -> None:
    pages = "".join(path.read_text() for path in DOCS.glob("*.md"))
    assert [path.name for path in EXAMPLES.iterdir() if f"examples/{path.name}" not in pages] == []


# The end ---------------------------------------------------------------------------------------------------------

LARGE = 32 * 2**20  # bytes, more than sockets hold


def begin_download(server: RunningServer, path: str) -> Callable[[], bytes]:
    """Ask for a file and read the head of the answer; what is returned reads the rest."""
    session = requests.Session()
    session.trust_env = False
    auth = (server.username, server.password)
    answer = session.get(server.url + path, auth=auth, headers={"Connection": "close"}, stream=True, timeout=60)
    first = answer.raw.read(1000)

    def read_rest() -> bytes:
        with session, answer:
            return bytes(first + answer.raw.read())

    return read_rest


def begin_upload(server: RunningServer, wheel: Path) -> Callable[[], bytes]:
    """Send half of an upload; what is returned sends the rest and returns the answer."""
    request = server.prepare_upload(wheel.name, wheel.read_bytes())
    body = request.body
    assert isinstance(body, bytes)
    head = "".join(f"{name}: {value!s}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    middle = len(body) // 2
    connection.sendall(f"POST /legacy/ HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body[:middle])

    def send_rest() -> bytes:
        with connection:
            connection.sendall(body[middle:])
            return b"".join(iter(lambda: connection.recv(65536), b""))

    return send_rest


def is_refused(server: RunningServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_in_progress_is_finished_and_logged(tmp_path: Path, workers: str) -> None:
    large = make_wheel(tmp_path, "large", extra_files={"noise.bin": os.urandom(LARGE)})
    late = make_wheel(tmp_path, "late", extra_files={"noise.bin": os.urandom(2**20)})
    home = tmp_path / "home"
    with serving(tmp_path / "data", "--workers", workers, home=home) as server:
        assert server.upload(large).status_code == 200
        path = f"/packages/large/{large.name}"
        read_rest = begin_download(server, path)
        send_rest = begin_upload(server, late)
        wait_for(lambda: any((server.files / ".elasticpypi/uploads").iterdir()))
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: is_refused(server))
        answers: list[bytes] = []
        thread = threading.Thread(target=lambda: answers.append(send_rest()))
        thread.start()
        assert read_rest() == large.read_bytes()
        thread.join()
        assert answers[0].startswith(b"HTTP/1.1 200 "), server.output()
        assert server.process.wait(60) == 0
        lines = [line.split(" ")[3:7] for line in server.output().splitlines() if " HTTP" not in line]
        assert ["GET", path, "200", str(large.stat().st_size)] in lines
        assert [line[:3] for line in lines].count(["POST", "/legacy/", "200"]) == 2
    with serving(tmp_path / "data", home=home) as server:
        assert list(server.listing("late") or {}) == [late.name]
