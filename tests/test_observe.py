"""The request log and `/metrics`: what is put down about requests, and what never is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.datastructures import MultiDict
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

from elasticpypi.auth import Authenticator, Principal
from elasticpypi.config import Permission, Settings, User
from elasticpypi.index import EVENT_LOGGER, Index, open_index
from elasticpypi.model import parse_time
from elasticpypi.web.access_log import AccessLog, format_line, log_failed_sign_ins
from elasticpypi.web.app import create_app
from elasticpypi.web.metrics import SharedTraffic, Traffic, metrics_page, route_of
from elasticpypi.web.observe import Exchange, Observer
from tests.dists import make_wheel
from tests.running import RunningServer, serving, wait_for
from tests.signing_in import Visitor
from tests.site import USERS, Site, upload_form

CLIENT = {"REMOTE_ADDR": "127.0.0.1"}
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
LIMITED = User("limited", "secret", Permission.ADMIN, ("acme-*",))
ALICE = Principal("alice", Permission.READ)
EXCHANGE = Exchange(
    1795372801.123456, 0.0001234, "192.0.2.7", ALICE, "GET", "/simple/acme/", "200", 1234, "pip/26.3", None
)


@dataclass(frozen=True, slots=True)
class Watched:
    """An application that is observed by hand, and what was seen."""

    index: Index
    observer: Observer
    client: Client
    traffic: SharedTraffic
    exchanges: list[Exchange] = field(default_factory=list)

    def ask(self, path: str, *, user: str | None = "admin", method: str = "GET", **headers: str) -> TestResponse:
        auth = None if user is None else (user, "secret")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(path, method=method, auth=auth, headers=named, environ_overrides=CLIENT, buffered=True)

    def seen(self) -> list[Exchange]:
        self.observer.flush()
        return self.exchanges

    def lines(self) -> list[list[str]]:
        """Return the lines of the log but for their times and durations."""
        lines = [format_line(exchange).split(" ", 8) for exchange in self.seen()]
        return [[*line[1:7], line[8].rstrip("\n")] for line in lines]

    def metrics(self) -> dict[str, float]:
        """Return what `/metrics` says, as a reader of its own reads it: "name label=value …" to number."""
        return read_metrics(self.ask("/metrics").text)


def read_metrics(text: str) -> dict[str, float]:
    return {
        " ".join([sample.name, *(f"{label}={value}" for label, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def watching(data: Path, counters: Path, *, behind_proxy: bool = False) -> Iterator[Watched]:
    counters.mkdir(exist_ok=True)
    traffic, exchanges = SharedTraffic(counters), list[Exchange]()
    observer = Observer(traffic, exchanges.extend, behind_proxy=behind_proxy)
    with closing(open_index(Settings(), data=data)) as index:
        index.sync()
        app = create_app(
            index,
            Authenticator((*USERS, LIMITED)),
            observer=observer,
            metrics=metrics_page(index, observer, traffic),
        )
        yield Watched(index, observer, Client(app), traffic, exchanges)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with watching(tmp_path / "data", tmp_path / "counters") as each:
        yield each


# Lines -----------------------------------------------------------------------------------------------------------


def test_a_line_has_its_fields_in_order() -> None:
    expected = '2026-11-22T18:40:01.123Z 192.0.2.7 alice GET /simple/acme/ 200 1234 0.000123 "pip/26.3"\n'
    assert format_line(EXCHANGE) == expected


@pytest.mark.parametrize(
    ("change", "word", "expected"),
    [
        ({"path": "/a\r\n2026-11-22 forged"}, 4, "/a%0D%0A2026-11-22%20forged"),
        ({"path": '/ä%25"\\\x00\x7f'.encode().decode("latin-1")}, 4, "/%C3%A4%2525%22%5C%00%7F"),
        ({"path": "/acme+local~1,(x)"}, 4, "/acme+local~1,(x)"),
        ({"path": ""}, 4, "-"),
        ({"method": "GET\n"}, 3, "GET%0A"),
        ({"address": "1.2.3.4 evil"}, 1, "1.2.3.4%20evil"),
        ({"principal": Principal("Zoë Müller", Permission.READ)}, 2, "Zo%C3%AB%20M%C3%BCller"),
        ({"principal": None}, 2, "-"),
        ({"agent": 'a"b\\c\n\x7fü'}, 8, '"a\\"b\\\\c\\n\\u007f\\u00fc"'),
    ],
)
def test_what_a_client_sends_breaks_no_line(change: dict[str, object], word: int, expected: str) -> None:
    line = format_line(EXCHANGE._replace(**change))  # type: ignore[arg-type]  # each of its own type
    assert line.isascii()
    assert line.removesuffix("\n").isprintable()
    assert line.removesuffix("\n").split(" ", 8)[word] == expected


def test_a_line_is_never_longer_than_what_a_pipe_keeps_together() -> None:
    long = EXCHANGE._replace(
        address="ü" * 100,
        principal=Principal("\U0001f600" * 1000, Permission.READ),
        method=" " * 20,
        path="ü" * 2000,
        agent="ü" * 200,
        size=10**19,
        seconds=10**9,
    )
    line = format_line(long)
    assert 3500 < len(line) < 4096
    assert len(line.split(" ")) == 9


def test_of_what_a_client_sends_no_more_is_kept_than_is_needed(watched: Watched) -> None:
    environ = {"REMOTE_ADDR": "1" * 1000, "HTTP_USER_AGENT": "x" * 400_000}
    watched.client.open(f"/{'p' * 400_000}", method="M" * 1000, environ_overrides=environ)
    (exchange,) = watched.seen()
    kept = [exchange.address, exchange.method, exchange.path, exchange.agent]
    assert kept == ["1" * 100, "M" * 20, f"/{'p' * 1999}", "x" * 200]


def test_each_request_is_a_line(watched: Watched, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    form, auth = MultiDict(upload_form(wheel)), ("writer", "secret")
    watched.client.post("/legacy/", data=form, auth=auth, environ_overrides=CLIENT)
    page = watched.ask("/simple/acme/", user="reader", accept_encoding="gzip", user_agent="pip/26.3")
    watched.ask("/simple/acme/", if_none_match=page.headers["ETag"], accept_encoding="gzip")
    watched.ask("/simple/acme/", method="HEAD")
    watched.ask(f"/packages/acme/{wheel.name}")
    watched.ask("/health", user=None)
    watched.ask("/nothing?token=secret")
    agent = '"werkzeug/3'
    lines = [[agent if word.startswith(agent) else word for word in line] for line in watched.lines()]
    assert lines == [
        ["127.0.0.1", "writer", "POST", "/legacy/", "200", lines[0][5], '"-"'],
        ["127.0.0.1", "reader", "GET", "/simple/acme/", "200", str(len(page.data)), '"pip/26.3"'],
        ["127.0.0.1", "admin", "GET", "/simple/acme/", "304", "0", '"-"'],
        ["127.0.0.1", "admin", "HEAD", "/simple/acme/", "200", "0", '"-"'],
        ["127.0.0.1", "admin", "GET", f"/packages/acme/{wheel.name}", "200", str(wheel.stat().st_size), '"-"'],
        ["127.0.0.1", "-", "GET", "/health", "200", "3", '"-"'],
        ["127.0.0.1", "admin", "GET", "/nothing", "404", lines[6][5], '"-"'],
    ]


def test_nothing_is_said_of_credentials_that_are_not_good(watched: Watched) -> None:
    watched.client.get("/simple/?password=hunter2", auth=("hunter2", "hunter2"), headers={"Cookie": "hunter2"})
    (line,) = watched.lines()
    assert line[:5] == ["-", "-", "GET", "/simple/", "401"]
    assert "hunter2" not in " ".join(line)


def try_to_sign_in(watched: Watched) -> None:
    """Give credentials, some of which are wrong, in all ways that there are."""
    for credentials in (("admin", "wrong"), ("hunter2", "secret"), ("__token__", "hunter2"), ("admin", "secret")):
        watched.client.get("/simple/", auth=credentials, environ_overrides=CLIENT)
    watched.client.get("/simple/", environ_overrides=CLIENT)
    watched.client.get("/simple/", headers={"Authorization": "Bearer hunter2"}, environ_overrides=CLIENT)
    watched.client.get("/health", auth=("admin", "hunter2"), environ_overrides=CLIENT)
    visitor = Visitor(watched.client, **CLIENT)
    visitor.sign_in("reader", "hunter2")
    visitor.sign_in("hunter2", "reader")
    visitor.sign_in("reader", "secret")


def test_wrong_credentials_are_events_that_tell_no_more_than_a_username_of_ours(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    try_to_sign_in(watched)
    log_failed_sign_ins(watched.seen())
    told = [json.loads(record.getMessage()) for record in caplog.records if record.name == EVENT_LOGGER]
    assert [(line["username"], line["method"], line["path"]) for line in told] == [
        ("admin", "GET", "/simple/"),
        (None, "GET", "/simple/"),
        ("__token__", "GET", "/simple/"),
        (None, "GET", "/simple/"),
        ("reader", "POST", "/login"),
        (None, "POST", "/login"),
    ]
    assert {(line["kind"], line["address"]) for line in told} == {("failed-sign-in", "127.0.0.1")}
    assert all(parse_time(line["time"]) for line in told)
    assert "hunter2" not in caplog.text


def test_wrong_credentials_are_counted_and_kept_nowhere(watched: Watched) -> None:
    assert watched.metrics()["elasticpypi_failed_sign_ins_total"] == 0
    try_to_sign_in(watched)
    assert watched.metrics()["elasticpypi_failed_sign_ins_total"] == 6
    assert watched.index.audit.events(limit=10) == []


def test_a_failed_sign_in_is_one_line_whatever_the_client_sends(caplog: pytest.LogCaptureFixture) -> None:
    log_failed_sign_ins([EXCHANGE._replace(failed="", path='/a\n"{ä', address="1.2.3.4\r\n")])
    (record,) = caplog.records
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
    assert json.loads(record.getMessage()) == {
        "kind": "failed-sign-in",
        "time": "2026-11-22T18:40:01.123456Z",
        "address": "1.2.3.4\r\n",
        "username": None,
        "method": "GET",
        "path": '/a\n"{ä',
    }


def test_an_application_that_fails_is_a_500() -> None:
    def fail(_environ: object, _start_response: object) -> list[bytes]:
        raise ZeroDivisionError

    exchanges = list[Exchange]()
    observer = Observer(exchanges.extend)
    with pytest.raises(ZeroDivisionError):
        Client(observer.wrap(fail)).get("/")
    observer.flush()
    assert [exchange.status for exchange in exchanges] == ["500"]


@pytest.mark.parametrize(("behind_proxy", "address"), [(False, "127.0.0.1"), (True, "192.0.2.7")])
def test_the_address_is_the_one_that_the_proxy_wrote_and_only_if_there_is_one(
    tmp_path: Path, behind_proxy: bool, address: str
) -> None:
    with watching(tmp_path / "data", tmp_path / "counters", behind_proxy=behind_proxy) as watched:
        watched.ask("/simple/", x_forwarded_for="198.51.100.1, 192.0.2.7")
        watched.ask("/simple/")
        assert [line[0] for line in watched.lines()] == [address, "127.0.0.1"]


# Writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Something that may always be written to."""
    with Path(os.devnull).open("wb") as stream:
        yield stream.fileno()


def test_lines_are_written_whole_several_at_once(descriptor: int) -> None:
    written: list[bytes] = []

    def write(_descriptor: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    AccessLog(descriptor, write=write)([EXCHANGE] * 100)
    line = format_line(EXCHANGE).encode()
    assert b"".join(written) == line * 100
    assert {len(block) <= 4096 and block.endswith(b"\n") for block in written} == {True}
    assert len(written) < 5


def test_a_place_that_takes_little_at_once_gets_all_of_it(descriptor: int) -> None:
    written = bytearray()

    def write(_descriptor: int, data: bytes) -> int:
        written.extend(data[:7])
        return len(data[:7])

    AccessLog(descriptor, write=write)([EXCHANGE] * 3)
    assert bytes(written) == format_line(EXCHANGE).encode() * 3


def test_a_log_that_nobody_takes_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        AccessLog(writer)([EXCHANGE])
    finally:
        os.close(writer)


def test_lines_that_nobody_reads_are_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.web.access_log._PATIENCE_SECONDS", 0.0)
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        full = 0
        with suppress(BlockingIOError):
            while True:
                full += os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        log = AccessLog(writer)
        log([EXCHANGE] * 100)
        log([EXCHANGE])
        for _ in range(full // 4096):
            os.read(reader, 4096)
        log([EXCHANGE])
        log([EXCHANGE])
        expected = "# 101 lines are lost: nobody read them\n" + 2 * format_line(EXCHANGE)
        assert os.read(reader, 4096).decode() == expected
    finally:
        os.close(reader)
        os.close(writer)


def test_a_watcher_that_is_stuck_does_not_keep_the_process_from_ending() -> None:
    code = """
import threading
from werkzeug.test import Client
from werkzeug.wrappers import Response
from elasticpypi.web import observe
observe._ENDING_SECONDS = 0.01
observer = observe.Observer(lambda exchanges: threading.Event().wait())
Client(observer.wrap(Response("fine"))).get("/")
observer.start()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_watcher_that_is_stuck_does_not_hold_up_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.web.observe._PATIENCE_SECONDS", 0.0)
    going, stuck = threading.Event(), threading.Event()

    def watch(_exchanges: object) -> None:
        stuck.set()
        going.wait(60)

    observer = Observer(watch)
    Client(observer.wrap(Response("fine"))).get("/")
    thread = threading.Thread(target=observer.flush)
    thread.start()
    try:
        assert stuck.wait(60)
        observer.flush()
    finally:
        going.set()
        thread.join()


# Metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/simple/", "simple-root"),
        ("GET", "/simple", "simple-root"),
        ("POST", "/simple/", "upload"),
        ("POST", "/legacy", "upload"),
        ("GET", "/simple/acme/", "simple-project"),
        ("GET", "/packages/acme/acme-1.0.zip", "file"),
        ("GET", "/packages/acme/acme-1.0.whl.metadata", "core-metadata"),
        ("POST", "/api/v1/uploads", "api"),
        ("GET", "/pypi/acme/json", "legacy-json"),
        ("GET", "/health", "health"),
        ("GET", "/metrics", "metrics"),
        ("GET", "/", "other"),
        ("GET", "/wp-login.php", "other"),
    ],
)
def test_a_route_is_one_of_few(method: str, path: str, route: str) -> None:
    assert route_of(method, path) == route


def test_requests_are_counted(watched: Watched) -> None:
    for _ in range(3):
        watched.ask("/simple/", accept_encoding="identity")
    length = int(watched.ask("/simple/", method="HEAD", accept_encoding="identity").headers["Content-Length"])
    watched.ask("/simple/unknown/")
    watched.ask("/simple/", user=None)
    watched.client.open("/whatever", method="BREW", auth=("admin", "secret"))
    found = watched.metrics()
    assert {name: value for name, value in found.items() if name.startswith("elasticpypi_requests_total")} == {
        "elasticpypi_requests_total method=GET route=simple-root status=200": 3,
        "elasticpypi_requests_total method=HEAD route=simple-root status=200": 1,
        "elasticpypi_requests_total method=GET route=simple-project status=404": 1,
        "elasticpypi_requests_total method=GET route=simple-root status=401": 1,
        "elasticpypi_requests_total method=other route=other status=404": 1,
    }
    refusal = len(watched.ask("/simple/", user=None).data)
    assert found["elasticpypi_response_bytes_total route=simple-root"] == 3 * length + refusal
    assert found["elasticpypi_request_seconds_count route=simple-root"] == 5
    assert found["elasticpypi_request_seconds_bucket le=+Inf route=simple-root"] == 5
    assert found["elasticpypi_request_seconds_bucket le=60.0 route=simple-root"] == 5
    assert 0 < found["elasticpypi_request_seconds_sum route=simple-root"] < 60
    assert found["elasticpypi_request_seconds_bucket le=0.0005 route=simple-root"] <= 5


def test_uploads_are_counted_by_outcome(watched: Watched, tmp_path: Path) -> None:
    def upload(file: Path, user: str | None = "writer", fields: Mapping[str, str | None] | None = None) -> None:
        auth = None if user is None else (user, "secret")
        watched.client.post("/legacy/", data=MultiDict(upload_form(file, fields or {})), auth=auth)

    wheel = make_wheel(tmp_path)
    upload(wheel)
    upload(wheel)
    upload(make_wheel(tmp_path / "other", description="other bytes"))
    upload(make_wheel(tmp_path, version="2.0"), fields={"sha256_digest": "0" * 64})
    upload(wheel, user="reader")
    upload(wheel, user=None)
    found = watched.metrics()
    assert {name: value for name, value in found.items() if name.startswith("elasticpypi_uploads_total")} == {
        "elasticpypi_uploads_total outcome=created": 1,
        "elasticpypi_uploads_total outcome=unchanged": 1,
        "elasticpypi_uploads_total outcome=taken": 1,
        "elasticpypi_uploads_total outcome=invalid": 1,
        "elasticpypi_uploads_total outcome=forbidden": 2,
    }


def test_an_upload_in_parts_is_counted_once(watched: Watched, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    data = wheel.read_bytes()
    slot = {"filename": wheel.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    auth = ("writer", "secret")
    begun = watched.client.post("/api/v1/uploads", json=slot, auth=auth)
    path = f"/api/v1/{begun.json['parts-url']}" if begun.json else ""
    watched.client.patch(path, data=data, headers={"Upload-Offset": "0"}, auth=auth)
    assert watched.client.post(f"{path}/finish", auth=auth).status_code == 201
    outcomes = {
        name: value for name, value in watched.metrics().items() if name.startswith("elasticpypi_uploads_total")
    }
    assert outcomes == {"elasticpypi_uploads_total outcome=created": 1}


GAUGES = ("projects", "files", "problems", "catalog_complete", "healthy")


def gauges(found: Mapping[str, float]) -> list[float | None]:
    return [found.get(f"elasticpypi_{name}") for name in GAUGES]


def test_gauges_say_what_the_index_holds(tmp_path: Path) -> None:
    files = tmp_path / "data" / "files"
    make_wheel(files / "acme")
    make_wheel(files / "acme", version="2.0")
    make_wheel(files, "other")
    (files / "broken-1.0.zip").write_bytes(b"no archive")
    (files / "acme" / "project.json").write_text('{"status": "deprecated"}')
    (files / "other").mkdir()
    (files / "other" / "project.json").write_text("no JSON")
    with closing(open_index(Settings(), data=tmp_path / "data")) as index:
        index.sync(patience_seconds=10)
    with watching(tmp_path / "data", tmp_path / "counters") as watched:
        found = watched.metrics()
        assert gauges(found) == [3, 4, 2, 1, 1]
        assert found["elasticpypi_storage_free_bytes"] > 0
        assert [name for name in found if name.startswith("elasticpypi_info python=3.")] != []


def test_a_storage_that_has_gone_shows_as_not_healthy(watched: Watched, tmp_path: Path) -> None:
    assert gauges(watched.metrics()) == [0, 0, 0, 1, 1]
    files = tmp_path / "data" / "files"
    files.rename(tmp_path / "away")
    assert gauges(watched.metrics())[-1] == 0


@pytest.mark.parametrize(
    ("user", "status"), [(None, 401), ("reader", 403), ("writer", 403), ("limited", 403), ("admin", 200)]
)
def test_metrics_are_for_administrators_of_everything(watched: Watched, user: str | None, status: int) -> None:
    answer = watched.ask("/metrics", user=user)
    assert answer.status_code == status
    assert ("elasticpypi_info" in answer.text) == (status == 200)


def test_prometheus_gets_the_format_that_it_asks_for(watched: Watched) -> None:
    plain = watched.ask("/metrics")
    assert plain.content_type.startswith("text/plain; version=")
    assert plain.headers["Cache-Control"] == "no-store"
    open_metrics = watched.ask("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.content_type.startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_processes_are_added_up_those_that_have_ended_too(tmp_path: Path) -> None:
    first = SharedTraffic(tmp_path)
    first([EXCHANGE, EXCHANGE])
    second = SharedTraffic(tmp_path)
    second([EXCHANGE])
    third = SharedTraffic(tmp_path)
    third([EXCHANGE._replace(failed="", status="401")])
    for each in (first, second, third):
        total = each.total()
        assert total.failed_sign_ins == 1
        del total.answers["simple-project", "GET", "401"]
        ((key, answers),) = total.answers.items()
        assert (key, answers.number, answers.size) == (("simple-project", "GET", "200"), 3, 3 * 1234)
        assert answers.seconds == pytest.approx(3 * EXCHANGE.seconds)
        assert sum(answers.within) == answers.within[0] == 3


def test_adding_up_bears_that_another_thread_counts_meanwhile() -> None:
    @dataclass
    class Meddling:
        """Answers during whose reading others are counted."""

        size: int = 0
        seconds: float = 0.0
        within: tuple[int, ...] = (0,) * 17

        @property
        def number(self) -> int:
            traffic.count(EXCHANGE)
            return 1

    traffic = Traffic()
    traffic.answers["file", "GET", "200"] = Meddling()  # type: ignore[assignment]
    total = Traffic()
    total.add(json.loads(traffic.to_json()))
    assert [(key, answers.number) for key, answers in total.answers.items()] == [(("file", "GET", "200"), 1)]


def test_an_application_without_metrics_has_none(site: Site) -> None:
    assert site.get("/metrics").status_code == 404


def test_the_application_needs_no_prometheus() -> None:
    """A Lambda does not carry it."""
    code = "import sys, elasticpypi.web.app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A server --------------------------------------------------------------------------------------------------------


def logged(server: RunningServer) -> list[list[str]]:
    """Return the lines of requests for pages, split; tests of other requests ask for others."""
    lines = [line.split(" ", 8) for line in server.output().splitlines()]
    return [line for line in lines if TIME.match(line[0]) and line[4].startswith("/simple/")]


def test_all_workers_log_and_count_together(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2", home=tmp_path / "home") as server:
        for number in range(40):  # each on a connection of its own, which goes to one of the workers
            assert server.fetch(f"/simple/unknown-{number}/").status_code == 404
        lines = wait_for(lambda: logged(server), lambda found: len(found) == 40)
        assert sorted(line[4] for line in lines) == sorted(f"/simple/unknown-{number}/" for number in range(40))
        assert {(line[1], line[2], line[3], line[5]) for line in lines} == {("127.0.0.1", "admin", "GET", "404")}
        assert {json.loads(line[8])[:16] for line in lines} == {"python-requests/"}
        name = "elasticpypi_requests_total method=GET route=simple-project status=404"
        wait_for(lambda: read_metrics(server.fetch("/metrics").text).get(name), lambda count: count == 40)
        password = server.password
        assert server.stop() == 0
        assert server.output().count(password) == 3  # in the lines to paste of the first start
    assert list(tmp_path.glob("data/.traffic-*")) == []


def test_events_are_lines_of_json_on_standard_error(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-access-log", home=tmp_path / "home") as server:
        assert server.upload(make_wheel(tmp_path)).status_code == 200
        assert replace(server, password="hunter2").fetch("/simple/").status_code == 401
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.output().splitlines() if '"kind": ' in line]
        told = [(line["kind"], line.get("who"), line.get("action"), line.get("username")) for line in lines]
        assert told == [("audit", "admin", "upload", None), ("failed-sign-in", None, None, "admin")]
        assert "hunter2" not in server.output()


def test_the_log_can_be_turned_off(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-access-log", home=tmp_path / "home") as server:
        assert server.fetch("/simple/unknown/").status_code == 404
        assert server.stop() == 0
        assert logged(server) == []


def test_the_last_lines_are_written_before_the_server_ends(tmp_path: Path) -> None:
    with serving(tmp_path / "data", home=tmp_path / "home") as server:
        assert server.fetch("/simple/last/").status_code == 404
        assert server.stop() == 0
        assert [line[4] for line in logged(server)] == ["/simple/last/"]
