"""The client of direct uploads: what it makes of what an index and its storage answer, and what it gives away."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from elasticpypi.client.at_once import run_at_once
from elasticpypi.client.direct import read_puts
from elasticpypi.client.files import CheckedFile, check_file
from elasticpypi.client.uploads import IndexClient
from elasticpypi.errors import ElasticpypiError
from elasticpypi.index import Added
from tests.dists import make_wheel
from tests.running import bare_environment
from tests.test_direct_upload import AUTH, UPLOADS, listening
from tests.test_upload_command import read_terminal


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", os.devnull)


SECRET = "X-Amz-Signature=5ec4e7"
Answer = tuple[int, Mapping[str, str], object]
CREATED: Answer = (201, {}, {"status": "created"})


@dataclass
class Script:
    """An index and its storage that answer as they are told."""

    puts: list[Answer]  # what the storage answers; 200 after them
    finishes: list[Answer] = field(default_factory=lambda: [CREATED])  # what follows; the last one again and again
    parts: int = 1
    at_once: int = 100  # how many requests are signed at once
    port: int = 0
    arrived: set[int] = field(default_factory=set)
    seen: list[Request] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None  # happens while the storage is being asked

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        body = request.get_data()
        self.asked.append(request.method)
        if request.method == "PUT":
            self.seen.append(request)
            self.meanwhile()
            answer: Answer = self.puts.pop(0) if self.puts else (200, {}, b"")
            if answer[0] == 200:
                self.arrived.add(int(request.args["part"]))
        elif request.path == UPLOADS:
            answer = (200, {}, self._slot(json.loads(body)["size"]))
        else:
            answer = self.finishes.pop(0) if len(self.finishes) > 1 else self.finishes[0]
        status, headers, said = answer
        text = said if isinstance(said, bytes) else json.dumps(said).encode()
        return Response(text, status, dict(headers))(environ, start_response)

    def _slot(self, size: int) -> dict[str, object]:
        least = -(-size // self.parts)
        puts = [
            {
                "method": "PUT",
                "url": f"http://127.0.0.1:{self.port}/bucket?part={number}&{SECRET}",
                "headers": {"x-given": str(number)},
                "offset": number * least,
                "size": min(least, size - number * least),
            }
            for number in range(self.parts)
        ]
        missing = [put for number, put in enumerate(puts) if number not in self.arrived]
        received = size - sum(int(str(put["size"])) for put in missing)
        urls = {"status-url": "uploads/x", "finish-url": "uploads/x/finish"}
        return {"received": received, "puts": missing[: self.at_once], **urls}


def send(file: CheckedFile, script: Script) -> tuple[Added | str, list[tuple[float, str]]]:
    """Return what came of it, and what was waited for."""
    waits: list[tuple[float, str]] = []
    with ExitStack() as stack:
        script.port = stack.enter_context(listening(script))
        client = IndexClient(
            f"http://127.0.0.1:{script.port}/", AUTH, wait=lambda seconds, problem: waits.append((seconds, problem))
        )
        stack.enter_context(closing(client))
        try:
            return client.upload(file, lambda _: None), waits
        except ElasticpypiError as error:
            return f"{type(error).__name__}: {error}", waits


@pytest.fixture
def file(tmp_path: Path) -> CheckedFile:
    return check_file(make_wheel(tmp_path, "acme", "1.0"))


def s3_error(status: int, code: str, message: str = "A sentence.") -> Answer:
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, {"Content-Type": "application/xml"}, document.encode()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (s3_error(403, "AccessDenied", "Request has expired"), "403 AccessDenied: Request has expired"),
        (s3_error(400, "ExpiredToken"), "400 ExpiredToken: A sentence"),
        (s3_error(409, "ConditionalRequestConflict"), "409 ConditionalRequestConflict: A sentence"),
        (s3_error(412, "PreconditionFailed"), "412 PreconditionFailed: A sentence"),
        (s3_error(500, "InternalError", "Try\x1b[31m again &amp; again"), "500 InternalError: Try[31m again & again"),
        ((403, {}, b""), "403 FORBIDDEN"),
    ],
)
def test_what_passes_is_tried_with_a_new_signature(file: CheckedFile, answer: Answer, sentence: str) -> None:
    script = Script([answer])
    assert send(file, script) == (Added.CREATED, [(1.0, f"{file.filename}: the storage answers {sentence}")])
    assert script.asked == ["POST", "PUT", "POST", "PUT", "POST"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (s3_error(400, "BadDigest", "The digest is another."), "400 BadDigest: The digest is another"),
        ((404, {}, b""), None),
        ((501, {}, SECRET.encode()), "501 NOT IMPLEMENTED"),
        ((307, {"Location": f"http://127.0.0.1:1/?{SECRET}"}, b""), "307 TEMPORARY REDIRECT"),
    ],
)
def test_what_does_not_pass_ends_it_and_no_secret_is_told(
    file: CheckedFile, answer: Answer, sentence: str | None
) -> None:
    outcome, waits = send(file, Script([answer] * 10))
    if sentence is None:
        assert "; it was tried for a minute. The same command goes on where it stopped" in str(outcome)
    else:
        expected = f"UploadFailedError: the storage answers {sentence}; ask whoever runs the index"
        assert (outcome, waits) == (expected, [])
    assert SECRET not in str(outcome) + str(waits)


@pytest.mark.parametrize("url", [f"http://127.0.0.1:1/?{SECRET}", f"https://me:{SECRET}@[::1]:1/?{SECRET}"])
def test_a_storage_that_is_not_there_is_named_without_the_secret(file: CheckedFile, url: str) -> None:
    class Elsewhere(Script):
        def _slot(self, size: int) -> dict[str, object]:
            slot = super()._slot(size)
            slot["puts"][0]["url"] = url  # type: ignore[index]
            return slot

    outcome, waits = send(file, Elsewhere([]))
    assert str(outcome).startswith("UploadFailedError: the connection broke, or there was none; it was tried for")
    assert SECRET not in str(outcome) + str(waits)


def test_the_storage_gets_the_headers_given_and_no_credentials(
    file: CheckedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    script = Script([])
    assert send(file, script)[0] is Added.CREATED
    (request,) = script.seen
    assert {name.lower() for name, _ in request.headers} - {"host", "accept-encoding", "user-agent"} == {
        "content-length",
        "x-given",
    }
    assert request.content_length == file.size


def test_parts_are_sent_as_they_are_signed(file: CheckedFile) -> None:
    script = Script([], parts=7, at_once=3)
    assert send(file, script) == (Added.CREATED, [])
    assert sorted(request.args["part"] for request in script.seen) == list("0123456")
    assert sum(request.content_length or 0 for request in script.seen) == file.size
    assert script.asked.count("POST") == 4


def test_parts_that_never_arrive_end_it(file: CheckedFile) -> None:
    class Losing(Script):
        def _slot(self, size: int) -> dict[str, object]:
            self.arrived.clear()
            return super()._slot(size)

    outcome, waits = send(file, Losing([], parts=2, at_once=1))
    assert str(outcome).startswith("UploadFailedError: what was sent has not arrived")
    assert len(waits) == 6


FINISHING: Answer = (202, {"Retry-After": "3"}, {"status": "finishing"})


def test_the_end_is_waited_for(file: CheckedFile) -> None:
    outcome, waits = send(file, Script([], [FINISHING] * 4 + [CREATED]))
    assert (outcome, [seconds for seconds, _ in waits]) == (Added.CREATED, [3.0, 3.0, 5.0, 10.0])
    assert {problem for _, problem in waits} == {f"{file.filename}: the index is still checking it"}


def test_the_wait_has_an_end(file: CheckedFile) -> None:
    outcome, waits = send(file, Script([], [FINISHING]))
    assert outcome == (
        "UploadFailedError: the index has all bytes, but has been checking them for 20 minutes: "
        "the same command later tells what has become of it"
    )
    assert 20 * 60 <= sum(seconds for seconds, _ in waits) < 22 * 60


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([(503, {}, b""), CREATED], Added.CREATED),
        ([FINISHING, (503, {}, b""), FINISHING, CREATED], Added.CREATED),
        ([FINISHING, (404, {}, b""), CREATED], Added.CREATED),
        ([FINISHING, (200, {}, {"received": 1}), CREATED], Added.CREATED),
        ([FINISHING, (400, {}, {"message": "it is broken"})], "UploadRefusedError: it is broken"),
    ],
)
def test_whatever_a_finish_answers_is_understood(
    file: CheckedFile, answers: list[Answer], outcome: Added | str
) -> None:
    script = Script([], answers)
    assert send(file, script)[0] == outcome
    assert len(script.seen) == 1  # the bytes are sent once


# On a terminal ------------------------------------------------------------------------------------------------------


def test_one_bar_shows_the_progress_of_several_files(tmp_path: Path) -> None:
    files = [make_wheel(tmp_path, name, "1.0") for name in ("acme", "bolt", "nut")]
    script = Script([(503, {}, b"")])
    terminal, inner = pty.openpty()
    with listening(script) as port:
        script.port = port
        command = [
            sys.executable,
            "-m",
            "elasticpypi",
            "upload",
            *map(str, files),
            "--url",
            f"http://127.0.0.1:{port}/",
        ]
        environment = bare_environment(tmp_path / "home", {"TERM": "xterm"})
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=inner, check=True, timeout=60)
    os.close(inner)
    shown = b""
    while data := read_terminal(terminal):
        shown += data
    os.close(terminal)
    text = shown.decode()
    assert "3 files  [####" in text
    assert "100%" in text
    (line,) = [line for line in text.splitlines() if "trying again in" in line]
    assert line.startswith(tuple(file.name for file in files))


def test_who_interrupts_it_does_not_wait_for_the_bytes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    asked, ended = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        ended.wait(60)

    script = Script([], meanwhile=hang)
    with listening(script) as port:
        script.port = port
        command = [sys.executable, "-m", "elasticpypi", "upload", str(wheel), "--url", f"http://127.0.0.1:{port}/"]
        process = subprocess.Popen(command, env=bare_environment(tmp_path / "home"), stderr=subprocess.PIPE, text=True)
        try:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            ended.set()
            process.kill()
    assert (process.returncode, said.splitlines()[-1]) == (1, "Aborted!")


# What is refused ----------------------------------------------------------------------------------------------------


GOOD = {"method": "PUT", "url": "https://s3.example.org/x", "headers": {"a": "b"}, "offset": 0, "size": 5}


@pytest.mark.parametrize(
    ("change", "index_url"),
    [
        ({"url": "http://s3.example.org/x"}, "https://pypi.example.org/"),
        ({"url": "file:///etc/passwd"}, "http://pypi.example.org/"),
        ({"url": 1}, "https://pypi.example.org/"),
        ({"method": "DELETE"}, "https://pypi.example.org/"),
        ({"headers": {"a": 1}}, "https://pypi.example.org/"),
        ({"offset": -1}, "https://pypi.example.org/"),
        ({"offset": 6}, "https://pypi.example.org/"),
        ({"size": 0}, "https://pypi.example.org/"),
        ({"size": "5"}, "https://pypi.example.org/"),
    ],
)
def test_requests_of_another_kind_are_not_made(change: dict[str, object], index_url: str) -> None:
    assert len(read_puts([GOOD], index_url=index_url, size=10)) == 1
    with pytest.raises(ValueError, match=r"expected|no "):
        read_puts([GOOD | change], index_url=index_url, size=10)


def test_nothing_more_is_begun_after_an_error() -> None:
    both, failing, done = threading.Barrier(2), [threading.current_thread()], []

    def work(number: int) -> None:
        done.append(number)
        if number == 0:
            failing[0] = threading.current_thread()
        both.wait()
        if number == 0:
            raise ValueError("of no use")
        failing[0].join()

    with pytest.raises(ValueError, match="of no use"):
        run_at_once(work, range(5), threads=2)
    assert sorted(done) == [0, 1]
