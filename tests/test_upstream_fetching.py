"""An upstream is asked for what we need, and whatever it does instead, that is said in time and at a bounded cost."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509

import elasticpypi
from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.errors import UpstreamError
from elasticpypi.names import NormalizedName
from elasticpypi.upstream import connecting
from elasticpypi.upstream.fetching import Answer, Fetcher, Limits, Unchanged, Validators
from elasticpypi.upstream.model import NotOurs
from tests.issuers import write_certificate
from tests.listening import Listener
from tests.running import PATIENCE_SECONDS, free_port

ACME = NotOurs(NormalizedName("acme"))
PAGE = "/simple/acme/"
JSON = "application/vnd.pypi.simple.v1+json"
SECRET = "X-Amz-Signature=0123456789abcdef"
SHORT = Limits(page_seconds=0.4, connect_seconds=0.2, idle_seconds=0.3)  # for those that never answer
LONG = Limits(page_seconds=PATIENCE_SECONDS, idle_seconds=PATIENCE_SECONDS)
KIB, MIB = 1024, 1024 * 1024
NOT_PUBLIC = "has an address at 127.0.0.1 that is not public; set 'private' in its configuration if that is meant"


class Clock:
    """Seconds that go by when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# A host that does what it is told ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    client: int  # the port that it came from: another one with each connection


Behaviour = Callable[["Request"], None]


@dataclass(slots=True)
class Host:
    """What answers on loopback; everything that it has no behaviour for is not there."""

    url: str  # without a slash at its end
    behaviours: dict[str, Behaviour] = field(default_factory=dict)  # by path
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)  # ends what waits
    gone: threading.Event = field(default_factory=threading.Event)  # set when a client has left what was endless

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def connections(self) -> int:
        return len({asked.client for asked in self.asked})

    def configured(self, **changes: Any) -> Upstream:
        given: dict[str, Any] = {
            "name": "other",
            "url": f"{self.url}/simple/",
            "mode": UpstreamMode.PROXY,
            "private": True,
        }
        return Upstream(**(given | changes))


class _Listener(Listener):
    host: Host


class Request(BaseHTTPRequestHandler):
    """Answers out of the behaviours of its host."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 0

    @property
    def host(self) -> Host:
        return cast(_Listener, self.server).host

    def do_GET(self) -> None:
        self.host.asked.append(Asked(self.command, self.path, dict(self.headers), self.client_address[1]))
        self.host.behaviours.get(self.path, send(b"nothing here", status=404))(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""


def send(body: bytes = b"", *, status: int = 200, **headers: str) -> Behaviour:
    """Return what answers so; keyword arguments are headers, `content_type` for Content-Type."""

    def behave(request: Request) -> None:
        request.send_response_only(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-").title(), value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    return behave


def redirect(location: str, *, status: int = 302) -> Behaviour:
    return send(b"over there", status=status, location=location)


def write(*parts: bytes, ends: bool = True) -> Behaviour:
    """Return what sends just these bytes, and then ends the connection."""

    def behave(request: Request) -> None:
        request.close_connection = ends
        for part in parts:
            request.wfile.write(part)

    return behave


def hang(*parts: bytes) -> Behaviour:
    """Return what sends these bytes, and then nothing until it is released."""

    def behave(request: Request) -> None:
        write(*parts)(request)
        request.host.released.wait(PATIENCE_SECONDS)

    return behave


def drip(begin: bytes, again: bytes, *, seconds: float = 0.01) -> Behaviour:
    """Return what sends something again and again, and never comes to an end."""

    def behave(request: Request) -> None:
        write(begin)(request)
        try:
            while not request.host.released.wait(seconds):
                request.wfile.write(again)
        except OSError:
            request.host.gone.set()

    return behave


def flood(begin: bytes, again: bytes) -> Behaviour:
    return drip(begin, again, seconds=0)


def when_released(then: Behaviour, started: threading.Semaphore) -> Behaviour:
    """Return what says that it was asked, and answers when it is released."""

    def behave(request: Request) -> None:
        started.release()
        request.host.released.wait(PATIENCE_SECONDS)
        then(request)

    return behave


@contextmanager
def hosting(*, port: int = 0, certificate: Path | None = None) -> Iterator[Host]:
    listener = _Listener(Request, port=port)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https"
    host = listener.host = Host(f"{scheme}://127.0.0.1:{listener.server_port}")
    with listener.running():
        try:
            yield host
        finally:
            host.released.set()


@pytest.fixture
def host() -> Iterator[Host]:
    with hosting() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Host]:
    with hosting() as running:
        yield running


@pytest.fixture
def fetcher(host: Host) -> Fetcher:
    return Fetcher(host.configured(), limits=LONG)


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def reason(ask: Callable[[], object]) -> str:
    """Return why there is no answer."""
    with pytest.raises(UpstreamError) as caught:
        ask()
    assert caught.value.upstream == "other"
    assert SECRET not in str(caught.value)
    return caught.value.reason


def download(fetcher: Fetcher, url: str) -> bytes:
    with fetcher.file(url) as coming:
        return b"".join(coming.pieces())


# Pages ---------------------------------------------------------------------------------------------------------------


def test_a_page_comes_with_what_is_said_of_it(host: Host, fetcher: Fetcher) -> None:
    changed = "Fri, 20 Feb 2026 20:20:20 GMT"
    host.behaviours[PAGE] = send(
        b"{}", content_type=JSON, etag='"a"', last_modified=changed, cache_control="public, s-maxage=7, max-age=600"
    )
    assert fetcher.page(ACME) == Answer(f"{host.url}{PAGE}", JSON, b"{}", Validators('"a"', changed), 600)


def test_a_page_is_asked_for_as_an_installer_does(host: Host, fetcher: Fetcher) -> None:
    host.behaviours[PAGE] = send(b"{}")
    assert fetcher.page(ACME) == Answer(f"{host.url}{PAGE}", "", b"{}", Validators(), None)
    assert {name: value for name, value in host.asked[0].headers.items() if name != "Host"} == {
        "User-Agent": f"elasticpypi/{elasticpypi.__version__}",
        "Accept": f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1",
        "Accept-Encoding": "gzip",
    }


@pytest.mark.parametrize("status", [404, 410])
def test_a_project_that_upstream_does_not_have_is_none(host: Host, fetcher: Fetcher, status: int) -> None:
    host.behaviours[PAGE] = send(b"no", status=status)
    assert fetcher.page(ACME) is None


@pytest.mark.parametrize(
    ("validators", "headers"),
    [
        (Validators('W/"a"', None), {"If-None-Match": 'W/"a"'}),
        (Validators(None, "yesterday"), {"If-Modified-Since": "yesterday"}),
        (Validators('"a"', "yesterday"), {"If-None-Match": '"a"', "If-Modified-Since": "yesterday"}),
    ],
)
def test_a_page_that_is_known_may_be_unchanged(
    host: Host, fetcher: Fetcher, validators: Validators, headers: Mapping[str, str]
) -> None:
    host.behaviours[PAGE] = send(status=304, cache_control="max-age=60")
    assert fetcher.page(ACME, validators) == Unchanged(60)
    assert {name: value for name, value in host.asked[0].headers.items() if name.startswith("If-")} == headers


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (304, "answers 304"),  # although nothing is known
        (204, "answers 204"),
        (206, "answers 206"),
        (302, "answers 302"),  # without saying where
        (401, "asks for credentials (401)"),
        (403, "asks for credentials (403)"),
        (429, "answers 429"),
        (500, "answers 500"),
        (503, "answers 503"),
    ],
)
def test_an_answer_that_says_nothing_of_the_project_is_an_error(
    host: Host, fetcher: Fetcher, status: int, expected: str
) -> None:
    host.behaviours[PAGE] = send(status=status)
    assert reason(lambda: fetcher.page(ACME)) == expected
    host.behaviours[PAGE] = send(b"{}")
    assert isinstance(fetcher.page(ACME), Answer)  # it was reached, so it is asked again


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("max-age=0", 0),
        ("Max-Age=60", 60),
        ('private,max-age="60"', 60),
        ("s-maxage=60", None),
        ("no-cache", None),
        ("max-age=-1", None),
        ("max-age=soon", None),
    ],
)
def test_how_long_a_page_is_fresh_is_read(host: Host, fetcher: Fetcher, header: str, expected: int | None) -> None:
    host.behaviours[PAGE] = send(b"{}", cache_control=header)
    page = fetcher.page(ACME)
    assert isinstance(page, Answer)
    assert page.fresh_seconds == expected


def test_a_validator_of_any_length_is_not_kept(host: Host, fetcher: Fetcher) -> None:
    host.behaviours[PAGE] = send(b"{}", etag=f'"{"a" * 5000}"')
    page = fetcher.page(ACME)
    assert isinstance(page, Answer)
    assert page.validators == Validators()


def test_a_page_that_is_packed_is_unpacked(host: Host, fetcher: Fetcher) -> None:
    host.behaviours[PAGE] = send(gzip.compress(b"{}" * 100_000), content_encoding="gzip")
    page = fetcher.page(ACME)
    assert isinstance(page, Answer)
    assert page.body == b"{}" * 100_000


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = "sends more than the 1048576 bytes that are read of such an answer"


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (flood(b"HTTP/1.1 200 OK\r\n\r\n", bytes(KIB)), TOO_LARGE),
        (flood(CHUNKED, b"400\r\n" + bytes(KIB) + b"\r\n"), TOO_LARGE),
        (send(gzip.compress(bytes(100 * MIB)), content_encoding="gzip"), TOO_LARGE),
        (send(b"{}", content_encoding="br"), "answers in an encoding that we have not asked for"),
        (send(gzip.compress(b"{}")[:-1], content_encoding="gzip"), "breaks off in an answer"),
    ],
    ids=["endless", "endless chunks", "gzip bomb", "brotli", "half of gzip"],
)
def test_a_page_that_is_broken_or_too_large_is_refused(host: Host, behaviour: Behaviour, expected: str) -> None:
    host.behaviours[PAGE] = behaviour
    fetcher = Fetcher(host.configured(), limits=Limits(page_seconds=PATIENCE_SECONDS, page_bytes=MIB))
    assert reason(lambda: fetcher.page(ACME)) == expected


@pytest.mark.parametrize(
    "behaviour",
    [
        write(),
        write(b"SSH-2.0-OpenSSH_9.9\r\n"),
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", b"half"),
        write(CHUNKED, b"10\r\nhalf"),
        write(CHUNKED, b"4\r\nhalf\r\n"),
        write(CHUNKED, b"none\r\n"),
        write(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", b"{}"),
        flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        flood(b"HTTP/1.1 200 OK\r\n", bytes(KIB)),
        flood(CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
    ids=[
        "nothing",
        "no HTTP",
        "half",
        "two lengths",
        "half a chunk",
        "half of the chunks",
        "no chunk",
        "no header",
        "endless continuing",
        "endless headers",
        "endless header",
        "endless trailers",
    ],
)
def test_what_is_no_answer_is_an_error(
    host: Host, fetcher: Fetcher, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    host.behaviours[PAGE] = behaviour
    assert reason(lambda: fetcher.page(ACME)) == f"breaks off at {host.url}, or sends what is no answer"
    assert caplog.records == []


# Times ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        hang(),
        hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        drip(b"HTTP/1.1 ", b"2"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"X"),
        drip(CHUNKED, b"1"),
        drip(CHUNKED, b"1\r\nX\r\n"),
        drip(CHUNKED + b"0\r\n", b"X"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
    ],
    ids=["nothing", "half", "status", "headers", "body", "size of a chunk", "chunks", "trailers", "empty gzip"],
)
def test_a_page_has_to_be_there_in_time(host: Host, behaviour: Behaviour) -> None:
    host.behaviours[PAGE] = behaviour
    fetcher = Fetcher(host.configured(), limits=SHORT)
    assert reason(lambda: fetcher.page(ACME)) == "does not answer within 0.4 seconds"


def test_redirects_have_no_time_of_their_own(host: Host) -> None:
    host.behaviours[PAGE] = redirect("/slow")
    host.behaviours["/slow"] = drip(b"HTTP/1.1 302 Found\r\n", b"X")
    fetcher = Fetcher(host.configured(), limits=SHORT)
    assert reason(lambda: fetcher.page(ACME)) == "does not answer within 0.4 seconds"


def test_somebody_who_accepts_a_connection_and_no_tls_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = Host(f"https://127.0.0.1:{silent.getsockname()[1]}").configured()
        expected = f"takes no connection in time at https://127.0.0.1:{silent.getsockname()[1]}"
        assert reason(lambda: Fetcher(upstream, limits=SHORT).page(ACME)) == expected


def test_a_file_begins_in_time(host: Host) -> None:
    host.behaviours["/a.whl"] = drip(b"HTTP/1.1 200 OK\r\n", b"X")
    fetcher = Fetcher(host.configured(), limits=SHORT)
    assert reason(lambda: download(fetcher, f"{host.url}/a.whl")) == "does not answer within 0.4 seconds"


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (hang(b"HTTP/1.1 200 OK\r\n\r\n", b"some"), "has sent nothing of a file for 0.3 seconds"),
        (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"X"), "sends a file at less than 1024 KiB a second"),
        (drip(CHUNKED, b"1"), "sends a file at less than 1024 KiB a second"),
    ],
    ids=["nothing", "drip", "size of a chunk"],
)
def test_a_file_has_to_keep_coming(host: Host, behaviour: Behaviour, expected: str) -> None:
    host.behaviours["/a.whl"] = behaviour
    limits = Limits(idle_seconds=0.3, grace_seconds=0.6, least_rate=MIB)
    assert reason(lambda: download(Fetcher(host.configured(), limits=limits), f"{host.url}/a.whl")) == expected


def test_a_file_may_have_to_be_whole_at_some_time(host: Host) -> None:
    host.behaviours["/a.whl"] = drip(b"HTTP/1.1 200 OK\r\n\r\n", b"X")
    host.behaviours["/none"] = hang()
    fetcher = Fetcher(host.configured(), limits=LONG)
    for path in ("/a.whl", "/none"):
        with (
            pytest.raises(UpstreamError, match="has not sent all of it in time"),
            fetcher.file(f"{host.url}{path}", until=time.monotonic() + 0.4) as coming,
        ):
            list(coming.pieces())
    assert fetcher.page(ACME) is None  # that we have no time is no outage


# Whom it leads to ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://169.254.169.254/latest/meta-data/", "leads to http://169.254.169.254, {foreign}"),
        ("//169.254.169.254/latest/", "leads to http://169.254.169.254, {foreign}"),
        (f"https://evil.example/simple/?{SECRET}", "leads to https://evil.example, {foreign}"),
        ("http://127.0.0.1:1/", "leads to http://127.0.0.1:1, {foreign}"),
        ("http://127.0.0.1/", "leads to http://127.0.0.1, {foreign}"),
        ("http://localhost:{port}/", "leads to http://localhost:{port}, {foreign}"),
        ("http://127.1:{port}/", "leads to http://127.1:{port}, {foreign}"),
        ("http://user:secret@127.0.0.1:{port}/", "{unclear}"),
        ("http://127.0.0.1:{port}\\@evil.example/", "{unclear}"),
        ("file:///etc/passwd", "{unclear}"),
        ("http://[::1/", "redirects to what is no URL"),
        ("/caf\xe9", "{unclear}"),
    ],
)
@pytest.mark.parametrize("status", [301, 308])
def test_a_redirect_to_somewhere_else_is_not_followed(
    host: Host, fetcher: Fetcher, location: str, status: int, expected: str
) -> None:
    port = host.url.rpartition(":")[2]
    host.behaviours[PAGE] = host.behaviours["/a.whl"] = redirect(location.replace("{port}", port), status=status)
    expected = expected.format(
        port=port,
        foreign="which is not among its 'hosts'",
        unclear="leads to what is not plainly an http or https URL without credentials",
    )
    url = f"{host.url}/a.whl"
    assert reason(lambda: fetcher.page(ACME)) == expected
    assert reason(lambda: fetcher.document(url, most_bytes=1)) == expected
    assert reason(lambda: download(fetcher, url)) == expected
    assert host.paths() == [PAGE, "/a.whl", "/a.whl"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_upstream_is_followed(host: Host, fetcher: Fetcher, status: int) -> None:
    host.behaviours[PAGE] = redirect(f"../Acme/?{SECRET}#top", status=status)
    host.behaviours[f"/simple/Acme/?{SECRET}"] = redirect("/there/", status=status)
    host.behaviours["/there/"] = send(b"{}")
    page = fetcher.page(ACME)
    assert isinstance(page, Answer)
    assert (page.url, page.body) == (f"{host.url}/there/", b"{}")
    assert host.connections() == 1


def test_redirects_come_to_an_end(host: Host, fetcher: Fetcher) -> None:
    for number in range(5):
        host.behaviours[f"/{number}"] = redirect(f"/{number + 1}")
    host.behaviours["/5"] = send(b"bytes")
    assert fetcher.document(f"{host.url}/0", most_bytes=5) == b"bytes"
    host.behaviours["/5"] = redirect("/5")
    assert reason(lambda: fetcher.document(f"{host.url}/0", most_bytes=5)) == "redirects more than 5 times"


def test_what_upstream_lists_at_other_hosts_is_not_asked_for(host: Host, fetcher: Fetcher, other: Host) -> None:
    expected = f"leads to {other.url}, which is not among its 'hosts'"
    assert reason(lambda: fetcher.document(f"{other.url}/a.whl.metadata?{SECRET}", most_bytes=9)) == expected
    assert reason(lambda: download(fetcher, f"{other.url}/a.whl?{SECRET}")) == expected
    assert (host.asked, other.asked) == ([], [])


def test_credentials_go_to_the_host_of_the_url_alone(host: Host, other: Host) -> None:
    upstream = host.configured(username="zoë", password="pass:wörd", hosts=(other.url.removeprefix("http://"),))
    host.behaviours[PAGE] = redirect(f"{other.url}/there")
    other.behaviours["/there"] = redirect(f"{host.url}/back")
    host.behaviours["/back"] = send(b"{}")
    fetcher = Fetcher(upstream, limits=LONG)
    assert isinstance(fetcher.page(ACME), Answer)
    assert fetcher.document(f"{other.url}/a.whl.metadata", most_bytes=9) is None
    pair = b64encode("zoë:pass:wörd".encode()).decode()
    assert [asked.headers.get("Authorization") for asked in host.asked] == [f"Basic {pair}"] * 2
    assert [asked.headers.get("Authorization") for asked in other.asked] == [None] * 2


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_are_not_repeated(host: Host, status: int) -> None:
    host.behaviours[PAGE] = send(status=status)
    fetcher = Fetcher(host.configured(username="user", password="s3cret"))
    assert reason(lambda: fetcher.page(ACME)) == f"refuses our credentials ({status})"
    assert "s3cret" not in repr(fetcher.__dict__)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_address_that_is_not_public_is_not_connected_to(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = Host(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}").configured(private=False)
        assert reason(lambda: Fetcher(upstream, limits=LONG).page(ACME)) == NOT_PUBLIC
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_somebody_at_an_address_that_is_not_public_is_sent_nothing(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is reached is looked at as well, whatever the address was that we wanted."""
    found = iter([None, NOT_PUBLIC])
    monkeypatch.setattr(connecting, "refuse_address", lambda *_, **__: next(found))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = Host(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}").configured(private=False)
        assert reason(lambda: Fetcher(upstream, limits=LONG).page(ACME)) == NOT_PUBLIC
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b""


def test_the_environment_names_no_proxy(host: Host, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    host.behaviours[PAGE] = send(b"{}")
    assert isinstance(fetcher.page(ACME), Answer)


def test_with_tls_only_somebody_with_a_good_certificate_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Host
) -> None:
    certificate = write_certificate(x509.IPAddress(ip_address("127.0.0.1")), tmp_path)
    with hosting(certificate=certificate) as host:
        said = reason(lambda: Fetcher(host.configured(), limits=LONG).page(ACME))
        assert said.startswith(f"has no certificate that is good for {host.url}: ")
        assert host.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetcher = Fetcher(host.configured(hosts=(other.url.removeprefix("http://"),)), limits=LONG)
        host.behaviours[PAGE] = send(b"{}")
        assert isinstance(fetcher.page(ACME), Answer)
        assert fetcher.document(f"{host.url}/none", most_bytes=9) is None
        assert host.connections() == 1
        host.behaviours[PAGE] = redirect(f"{other.url}/there")
        assert reason(lambda: fetcher.page(ACME)) == f"leads to {other.url}, although it is itself asked with TLS"
        assert other.asked == []


def test_with_tls_a_slow_answer_is_given_up_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = write_certificate(x509.IPAddress(ip_address("127.0.0.1")), tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with hosting(certificate=certificate) as host:
        host.behaviours[PAGE] = drip(b"HTTP/1.1 200 OK\r\n", b"X")
        fetcher = Fetcher(host.configured(), limits=Limits(page_seconds=1.5))
        assert reason(lambda: fetcher.page(ACME)) == "does not answer within 1.5 seconds"


def test_without_tls_behind_an_https_url_the_reason_is_said(host: Host) -> None:
    host.url = host.url.replace("http:", "https:")
    said = reason(lambda: Fetcher(host.configured(), limits=LONG).page(ACME))
    assert said == f"does not speak TLS as we do at {host.url}"


# Documents and files -------------------------------------------------------------------------------------------------


def test_a_document_comes_as_it_lies_there(host: Host, fetcher: Fetcher) -> None:
    host.behaviours["/a.whl.metadata?v=1"] = send(b"Name: a")
    host.behaviours["/packed"] = send(gzip.compress(b"Name: a"), content_encoding="gzip")
    assert fetcher.document(f"{host.url}/a.whl.metadata?v=1#sha256=00", most_bytes=7) == b"Name: a"
    assert fetcher.document(f"{host.url}/packed", most_bytes=7) == b"Name: a"
    assert fetcher.document(f"{host.url}/none", most_bytes=7) is None
    assert host.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "behaviour",
    [send(b"Name: ab"), send(gzip.compress(b"Name: ab"), content_encoding="gzip")],
    ids=["as it is", "gzip"],
)
def test_a_document_that_is_too_large_is_refused(host: Host, fetcher: Fetcher, behaviour: Behaviour) -> None:
    host.behaviours["/a.whl.metadata"] = behaviour
    said = reason(lambda: fetcher.document(f"{host.url}/a.whl.metadata", most_bytes=7))
    assert said == "sends more than the 7 bytes that are read of such an answer"


@pytest.mark.parametrize(
    ("behaviour", "size"),
    [
        (send(bytes(200 * KIB)), 200 * KIB),
        (send(bytes(200 * KIB), content_encoding="gzip"), 200 * KIB),  # which it is not for us
        (write(CHUNKED, b"32000\r\n" + bytes(200 * KIB) + b"\r\n0\r\n\r\n"), None),
        (write(b"HTTP/1.1 200 OK\r\n\r\n", bytes(200 * KIB)), None),
    ],
    ids=["with its size", "with an encoding", "in chunks", "until the end"],
)
def test_a_file_comes_in_small_pieces_and_as_it_is(
    host: Host, fetcher: Fetcher, behaviour: Behaviour, size: int | None
) -> None:
    host.behaviours["/a.whl"] = redirect("/there.whl")
    host.behaviours["/there.whl"] = behaviour
    with fetcher.file(f"{host.url}/a.whl") as coming:
        pieces = list(coming.pieces())
    assert (coming.size, b"".join(pieces)) == (size, bytes(200 * KIB))
    assert max(map(len, pieces)) <= 64 * KIB
    assert host.asked[1].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "no longer has the file"),
        (410, "no longer has the file"),
        (403, "asks for credentials (403)"),
        (500, "answers 500"),
        (206, "answers 206"),
    ],
)
def test_a_file_that_is_not_there_is_an_error(host: Host, fetcher: Fetcher, status: int, expected: str) -> None:
    host.behaviours["/a.whl"] = send(b"some", status=status)
    assert reason(lambda: download(fetcher, f"{host.url}/a.whl")) == expected


@pytest.mark.parametrize(
    "behaviour",
    [
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half"),
        write(CHUNKED, b"4\r\nhalf\r\n"),
        flood(CHUNKED + b"4\r\nhalf\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["half", "half of the chunks", "endless trailers"],
)
def test_a_file_that_breaks_off_is_not_taken_for_whole(host: Host, fetcher: Fetcher, behaviour: Behaviour) -> None:
    host.behaviours["/a.whl"] = behaviour
    got: list[bytes] = []
    with fetcher.file(f"{host.url}/a.whl") as coming:
        said = reason(lambda: got.extend(coming.pieces()))
    assert said == f"breaks off at {host.url}, or sends what is no answer"
    assert b"".join(got) in (b"", b"half")  # a piece may fail with the end that comes with it


def test_a_file_that_is_left_early_is_not_sent_on(host: Host, fetcher: Fetcher) -> None:
    host.behaviours["/a.whl"] = flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", bytes(KIB))
    with fetcher.file(f"{host.url}/a.whl") as coming:
        assert next(coming.pieces()).strip(b"\0") == b""
    assert host.gone.wait(PATIENCE_SECONDS)


def test_a_connection_with_something_to_come_is_not_used_again(host: Host, fetcher: Fetcher) -> None:
    host.behaviours["/a.whl"] = hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"some")
    with fetcher.file(f"{host.url}/a.whl") as coming:
        assert next(coming.pieces()) == b"some"
    assert fetcher.page(ACME) is None
    assert host.connections() == 2


def test_what_goes_wrong_with_a_file_here_is_not_upstreams_fault(host: Host, fetcher: Fetcher) -> None:
    host.behaviours["/a.whl"] = send(b"bytes")
    with pytest.raises(ConnectionResetError), fetcher.file(f"{host.url}/a.whl"):
        raise ConnectionResetError
    assert download(fetcher, f"{host.url}/a.whl") == b"bytes"


# Connections ---------------------------------------------------------------------------------------------------------


def test_one_connection_serves_one_request_after_the_other(host: Host, fetcher: Fetcher) -> None:
    host.behaviours[PAGE] = send(gzip.compress(b"{}"), content_encoding="gzip")
    host.behaviours["/a.whl"] = send(bytes(MIB))
    host.behaviours["/chunked"] = write(CHUNKED, b"1\r\na\r\n0\r\n\r\n", ends=False)
    fetcher.page(ACME)
    fetcher.page(NotOurs(NormalizedName("none")))
    host.behaviours[PAGE] = send(status=304)
    fetcher.page(ACME, Validators('"a"'))
    assert fetcher.document(f"{host.url}/chunked", most_bytes=9) == b"a"
    fetcher.check()
    assert download(fetcher, f"{host.url}/a.whl") == bytes(MIB)
    fetcher.page(ACME, Validators('"a"'))
    assert (len(host.asked), host.connections()) == (7, 1)


def test_a_connection_that_ends_while_it_is_idle_is_replaced(host: Host, fetcher: Fetcher) -> None:
    """A server may end it just when we ask again: then it was never asked."""
    seen: set[int] = set()

    def answer_once(request: Request) -> None:
        again = request.client_address[1] in seen
        seen.add(request.client_address[1])
        (write() if again else send(b"{}"))(request)

    host.behaviours[PAGE] = answer_once
    for _ in range(3):
        assert isinstance(fetcher.page(ACME), Answer)
    assert (len(host.asked), host.connections()) == (5, 3)


def test_many_threads_ask_at_once(host: Host, fetcher: Fetcher) -> None:
    host.behaviours[PAGE] = send(gzip.compress(b"{}" * 10_000), content_encoding="gzip")
    with threads() as pool:
        pages = list(pool.map(lambda _: fetcher.page(ACME), range(100)))
    assert {page.body for page in pages if isinstance(page, Answer)} == {b"{}" * 10_000}
    assert len(pages) == 100
    assert host.connections() <= 16


def test_to_import_it_is_cheap() -> None:
    script = "import sys, elasticpypi.upstream.fetching; print({'urllib3', 'ssl', 'http.client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# How many at once ----------------------------------------------------------------------------------------------------


def test_pages_wait_for_their_turn_and_only_so_many(host: Host) -> None:
    started = threading.Semaphore(0)
    host.behaviours[PAGE] = when_released(send(b"{}"), started)
    limits = Limits(page_seconds=PATIENCE_SECONDS, pages_at_once=2, pages_waiting=3)
    fetcher = Fetcher(host.configured(), limits=limits)
    with threads() as pool:
        pages: list[Future[Any]] = [pool.submit(fetcher.page, ACME) for _ in range(7)]
        refused: set[Future[Any]] = set()
        while len(refused) < 2:
            refused |= wait(set(pages) - refused, PATIENCE_SECONDS, FIRST_COMPLETED).done
        assert started.acquire(timeout=PATIENCE_SECONDS)
        assert started.acquire(timeout=PATIENCE_SECONDS)
        assert len(host.asked) == 2
        host.released.set()
        for page in refused:
            assert reason(page.result) == "has too many pages under way just now; try again in a moment"
        assert [page.result().body for page in pages if page not in refused] == [b"{}"] * 5


def test_a_page_does_not_wait_for_its_turn_until_no_time_is_left(host: Host) -> None:
    started = threading.Semaphore(0)
    host.behaviours[PAGE] = when_released(send(b"{}"), started)
    limits = Limits(page_seconds=PATIENCE_SECONDS, connect_seconds=PATIENCE_SECONDS, pages_at_once=1)
    fetcher = Fetcher(host.configured(), limits=limits)
    with threads() as pool:
        page = pool.submit(fetcher.page, ACME)
        assert started.acquire(timeout=PATIENCE_SECONDS)
        said = reason(lambda: fetcher.document(f"{host.url}/a", most_bytes=1))
        assert said == "has too many pages under way just now; try again in a moment"
        host.released.set()
        assert isinstance(page.result(), Answer)
    assert fetcher.document(f"{host.url}/a", most_bytes=1) is None


def test_only_so_many_files_come_at_once_and_leave_pages_alone(host: Host) -> None:
    host.behaviours["/a.whl"] = send(b"bytes")
    host.behaviours[PAGE] = send(b"{}")
    url = f"{host.url}/a.whl"
    fetcher = Fetcher(host.configured(), limits=Limits(files_at_once=2, page_seconds=PATIENCE_SECONDS))
    with ExitStack() as files:
        for _ in range(2):
            files.enter_context(fetcher.file(url))
        said = reason(lambda: download(fetcher, url))
        assert said == "has too many files under way just now; try again in a moment"
        assert isinstance(fetcher.page(ACME), Answer)
    for _ in range(3):
        assert download(fetcher, url) == b"bytes"


# Outages -------------------------------------------------------------------------------------------------------------


def test_a_host_that_nobody_reaches_is_left_alone_for_a_while() -> None:
    port, clock = free_port(), Clock()
    upstream = Host(f"http://127.0.0.1:{port}").configured()
    fetcher = Fetcher(upstream, limits=LONG, clock=clock)
    expected = f"cannot be reached at http://127.0.0.1:{port}: Connection refused"
    assert reason(lambda: fetcher.page(ACME)) == expected
    with hosting(port=port) as host:
        host.behaviours[PAGE] = host.behaviours["/a.whl"] = send(b"bytes")
        clock.now += 9.9
        assert reason(lambda: fetcher.page(ACME)) == expected
        assert reason(lambda: fetcher.document(f"{host.url}/a.whl", most_bytes=9)) == expected
        assert reason(lambda: download(fetcher, f"{host.url}/a.whl")) == expected
        assert host.asked == []
        clock.now += 0.1
        assert isinstance(fetcher.page(ACME), Answer)
        assert download(fetcher, f"{host.url}/a.whl") == b"bytes"


def test_a_host_that_does_not_answer_in_time_is_left_alone_too(host: Host) -> None:
    clock = Clock()
    fetcher = Fetcher(host.configured(), limits=SHORT, clock=clock)
    host.behaviours[PAGE] = hang()
    for _ in range(3):
        assert reason(lambda: fetcher.page(ACME)) == "does not answer within 0.4 seconds"
    assert len(host.asked) == 1
    clock.now += 10
    assert fetcher.page(NotOurs(NormalizedName("none"))) is None


@pytest.mark.parametrize(
    "behaviour",
    [drip(b"HTTP/1.1 200 OK\r\n\r\n", b"X"), hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half")],
    ids=["drip", "half"],
)
def test_a_host_that_answers_slowly_is_asked_for_other_things(host: Host, behaviour: Behaviour) -> None:
    fetcher = Fetcher(host.configured(), limits=SHORT)
    host.behaviours[PAGE] = host.behaviours["/a.whl.metadata"] = behaviour
    for ask in (lambda: fetcher.page(ACME), lambda: fetcher.document(f"{host.url}/a.whl.metadata", most_bytes=MIB)):
        assert reason(ask) == "does not answer within 0.4 seconds"
        assert fetcher.page(NotOurs(NormalizedName("none"))) is None


def test_after_an_outage_one_tries_and_the_others_are_told_as_before(host: Host) -> None:
    clock, started = Clock(), threading.Semaphore(0)
    fetcher = Fetcher(host.configured(), limits=SHORT, clock=clock)
    host.behaviours["/slow"] = hang()
    expected = "does not answer within 0.4 seconds"
    assert reason(lambda: fetcher.document(f"{host.url}/slow", most_bytes=1)) == expected
    clock.now += 10
    released = threading.Event()

    def answer_when_released(request: Request) -> None:
        started.release()
        released.wait(PATIENCE_SECONDS)
        send(b"{}")(request)

    host.behaviours[PAGE] = answer_when_released
    with threads() as pool:
        trying = pool.submit(reason, lambda: fetcher.page(ACME))
        assert started.acquire(timeout=PATIENCE_SECONDS)
        assert reason(lambda: fetcher.page(ACME)) == expected
        assert trying.result() == expected
    assert host.paths() == ["/slow", PAGE]
    released.set()
    assert reason(lambda: fetcher.page(ACME)) == expected  # the one who tried has failed
    clock.now += 10
    assert isinstance(fetcher.page(ACME), Answer)
    assert isinstance(fetcher.page(ACME), Answer)


def test_a_host_of_files_that_is_down_leaves_the_pages_alone(host: Host) -> None:
    port = free_port()
    host.behaviours[PAGE] = send(b"{}")
    fetcher = Fetcher(host.configured(hosts=(f"127.0.0.1:{port}",)), limits=LONG)
    for _ in range(2):
        assert "cannot be reached" in reason(lambda: download(fetcher, f"http://127.0.0.1:{port}/a.whl"))
        assert isinstance(fetcher.page(ACME), Answer)


def test_a_name_that_nobody_knows_is_said() -> None:
    upstream = Host("http://upstream.invalid").configured()
    said = reason(lambda: Fetcher(upstream, limits=LONG).page(ACME))
    assert said == "cannot be found: nobody knows an address of http://upstream.invalid"


# What `doctor` asks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_an_upstream_that_answers_at_all_is_well(host: Host, fetcher: Fetcher, status: int) -> None:
    host.behaviours["/simple/"] = send(bytes(MIB), status=status)
    fetcher.check()
    assert [(asked.method, asked.path) for asked in host.asked] == [("HEAD", "/simple/")]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "asks for credentials (401)"), (403, "asks for credentials (403)"), (503, "answers 503")],
)
def test_an_upstream_that_refuses_or_fails_is_not_well(
    host: Host, fetcher: Fetcher, status: int, expected: str
) -> None:
    host.behaviours["/simple/"] = send(status=status)
    assert reason(fetcher.check) == expected


def test_an_upstream_that_knows_no_head_is_asked_once_more(host: Host, fetcher: Fetcher) -> None:
    host.behaviours["/simple/"] = lambda request: (send(status=405) if request.command == "HEAD" else send(b"root"))(
        request
    )
    fetcher.check()
    assert [asked.method for asked in host.asked] == ["HEAD", "GET"]
