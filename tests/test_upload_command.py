"""`elasticpypi upload`: what it checks, what it sends, and how it goes on when something breaks."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import random
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from elasticpypi.client.files import CheckedFile, check_file
from elasticpypi.client.uploads import IndexClient
from elasticpypi.errors import ElasticpypiError, UploadFailedError
from elasticpypi.index import Added
from elasticpypi.index_url import IndexUrl, parse_index_url
from tests.cutting import cutting
from tests.dists import make_sdist, make_wheel
from tests.running import RunningServer, bare_environment, free_port, run_command, serving, wait_for

MIB = 2**20
ACME = "acme-1.0-py3-none-any.whl"
PASSWORD = "no-secret-of-anybody"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "dist", "acme", "1.0")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", os.devnull)


def make_large_wheel(directory: Path, *, size_mib: int = 6) -> Path:
    return make_wheel(directory, "large", "1.0", extra_files={"large.bin": random.Random(1).randbytes(size_mib * MIB)})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def staged(server: RunningServer) -> list[int]:
    """Return the sizes of what is on its way in."""
    return [path.stat().st_size for path in (server.files / ".elasticpypi" / "uploads").iterdir()]


# The command -------------------------------------------------------------------------------------------------------


def test_files_are_uploaded_and_the_command_can_be_repeated(server: RunningServer, wheel: Path, home: Path) -> None:
    sdist = make_sdist(wheel.parent, "bolt", "2.0")
    upload = ("upload", wheel, sdist, "--url", server.url_with_credentials)
    first = run_command(*upload, home=home)
    assert (first.returncode, first.stdout) == (0, f"created: {wheel}\ncreated: {sdist}\n")
    assert first.stderr == "".join(f"sending {path.name} ({path.stat().st_size:,} bytes)\n" for path in (wheel, sdist))
    assert [server.listing("acme"), server.listing("bolt")] == [
        {wheel.name: sha256(wheel)},
        {sdist.name: sha256(sdist)},
    ]
    again = run_command(*upload, home=home)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"unchanged: {wheel}\nunchanged: {sdist}\n", "")


def test_programs_read_the_outcome_as_json(server: RunningServer, wheel: Path, home: Path) -> None:
    sdist = make_sdist(wheel.parent, "acme", "1.0")
    server.upload(sdist)
    answer = run_command("upload", wheel, sdist, "--url", server.url_with_credentials, "--json", home=home)
    assert (answer.returncode, json.loads(answer.stdout)) == (
        0,
        {
            "files": [
                {"file": str(wheel), "status": "created", "message": None},
                {"file": str(sdist), "status": "unchanged", "message": None},
            ]
        },
    )


def test_a_bar_shows_the_progress_on_a_terminal(server: RunningServer, wheel: Path, home: Path) -> None:
    terminal, inner = pty.openpty()
    command = [sys.executable, "-m", "elasticpypi", "upload", str(wheel), "--url", server.url_with_credentials]
    environment = bare_environment(home, {"TERM": "xterm"})
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=inner, check=True, timeout=60)
    os.close(inner)
    shown = b""
    while data := read_terminal(terminal):
        shown += data
    os.close(terminal)
    assert done.returncode == 0
    assert f"{wheel.name}  [####" in shown.decode()
    assert "100%" in shown.decode()


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where nobody writes any more
        return b""


def netrc(server: RunningServer, home: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    path = home / "netrc"
    path.write_text(f"machine 127.0.0.1 login {server.username} password {server.password}\n")
    path.chmod(0o600)
    return {"NETRC": str(path), "ELASTICPYPI_URL": f"{server.url}/simple/"}


def variables(server: RunningServer, _home: Path) -> dict[str, str]:
    return {
        "ELASTICPYPI_URL": f"{server.url}/legacy/",
        "ELASTICPYPI_USERNAME": server.username,
        "ELASTICPYPI_PASSWORD": server.password,
    }


def password_alone(server: RunningServer, _home: Path) -> dict[str, str]:
    url = server.url.replace("//", f"//{server.username}@")
    return {"ELASTICPYPI_URL": url, "ELASTICPYPI_PASSWORD": server.password}


def test_credentials_come_from_several_places_and_are_never_printed(
    server: RunningServer, tmp_path: Path, home: Path
) -> None:
    for number, give in enumerate((netrc, variables, password_alone)):
        wheel = make_wheel(tmp_path, "acme", f"{number}.0")
        answer = run_command("upload", wheel, home=home, extra=give(server, home))
        assert (answer.returncode, answer.stdout) == (0, f"created: {wheel}\n"), answer.stderr
        assert server.password not in answer.stdout + answer.stderr
    assert len(server.listing("acme") or {}) == 3


def test_wrong_credentials_end_it_at_once(server: RunningServer, wheel: Path, home: Path) -> None:
    missing = "Error: This index needs a username and a password; give them in the URL, or in a netrc file.\n"
    wrong = "Error: The username or the password is wrong, or the token has been revoked or has expired.\n"
    for user, sentence in (("", missing), (f"admin:{PASSWORD}@", wrong)):
        answer = run_command("upload", wheel, "--url", server.url.replace("//", f"//{user}"), home=home)
        assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", sentence)


def test_a_name_that_is_taken_stops_it_before_anything_is_sent(
    server: RunningServer, wheel: Path, home: Path, tmp_path: Path
) -> None:
    server.upload(make_wheel(tmp_path / "old", "bolt", "1.0", description="old"))
    taken = make_wheel(wheel.parent, "bolt", "1.0", description="new")
    answer = run_command("upload", wheel, taken, "--url", server.url_with_credentials, "--json", home=home)
    assert answer.returncode == 1
    assert [(file["file"], file["status"]) for file in json.loads(answer.stdout)["files"]] == [
        (str(wheel), "not-sent"),
        (str(taken), "failed"),
    ]
    assert answer.stderr.startswith(f"Error: {taken}: File already exists: {taken.name} is taken by other bytes")
    assert answer.stderr.endswith("\n2 of 2 files were not uploaded\n")
    assert server.listing("acme") is None


def test_a_bad_file_among_good_ones_stops_it_before_anything_is_sent(
    server: RunningServer, wheel: Path, home: Path
) -> None:
    broken = wheel.with_name("bolt-1.0-py3-none-any.whl")
    broken.write_bytes(wheel.read_bytes())
    text = wheel.with_name("notes.txt")
    text.write_text("no distribution")
    answer = run_command("upload", wheel, broken, text, "--url", server.url_with_credentials, home=home)
    assert (answer.returncode, answer.stdout) == (1, "")
    lines = answer.stderr.splitlines()
    assert lines[0].startswith(f"Error: {broken}: bolt-1.0-py3-none-any.whl: its acme-1.0.dist-info is not that of")
    assert lines[1].startswith(f"Error: {text}: 'notes.txt' is not the filename of a wheel, sdist or egg")
    assert lines[2:] == ["3 of 3 files were not uploaded"]
    assert (server.projects(), staged(server)) == ([], [])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.parent, "it is a directory: name the files in it, for instance"),
        (lambda path: path.with_name("none-1.0.tar.gz"), "it cannot be read (No such file or directory)"),
        (lambda path: make_wheel(path.parent / "b", description="other"), "has the same name: give one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    wheel: Path, home: Path, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    answer = run_command("upload", wheel, make(wheel), "--data", tmp_path / "data", home=home)
    assert (answer.returncode, answer.stdout, words in answer.stderr) == (1, "", True), answer.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "https://pypi.example.org/", "--data", "data"), "two different indexes"),
        (("--url", f"ftp://me:{PASSWORD}@pypi.example.org/"), "the URL given is not the http or https URL of an index"),
        ((), "there is no index here"),
    ],
)
def test_where_to_must_be_said(
    wheel: Path, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], words: str
) -> None:
    home.mkdir()
    monkeypatch.chdir(home)
    answer = run_command("upload", wheel, *arguments, home=home, extra={"PYTHONPATH": str(Path(__file__).parents[1])})
    assert (answer.returncode, answer.stdout, words in answer.stderr) == (2, "", True), answer.stderr
    assert PASSWORD not in answer.stderr
    assert not (home / "data").exists()


def test_without_a_server_files_go_straight_into_the_directory(wheel: Path, home: Path, tmp_path: Path) -> None:
    upload = ("upload", wheel, wheel, "--data", tmp_path / "data")
    first = run_command(*upload, home=home, extra={"ELASTICPYPI_URL": "http://127.0.0.1:9/"})
    assert (first.returncode, first.stdout) == (0, f"created: {wheel}\n"), first.stderr
    assert (tmp_path / "data" / "files" / "acme" / wheel.name).read_bytes() == wheel.read_bytes()
    assert run_command(*upload, home=home).stdout == f"unchanged: {wheel}\n"
    other = make_wheel(tmp_path / "other", "acme", "1.0", description="other")
    answer = run_command("upload", other, "--data", tmp_path / "data", home=home)
    assert (answer.returncode, "File already exists" in answer.stderr) == (1, True)


def test_many_files_go_into_the_directory_at_once(home: Path, tmp_path: Path) -> None:
    files = [make_wheel(tmp_path, f"acme-{number % 3}", f"{number}.0") for number in range(30)]
    answer = run_command("upload", *files, "--data", tmp_path / "data", "--parallel", "8", home=home)
    assert (answer.returncode, answer.stdout) == (0, "".join(f"created: {file}\n" for file in files)), answer.stderr


def test_beside_a_server_what_goes_into_its_directory_is_listed_at_once(
    server: RunningServer, wheel: Path, home: Path
) -> None:
    assert run_command("upload", wheel, "--data", server.data, home=home).returncode == 0
    assert server.listing("acme") == {wheel.name: sha256(wheel)}


# Broken connections ------------------------------------------------------------------------------------------------


@contextmanager
def client_of(server: RunningServer, url: str, wait: Callable[[float, str], None]) -> Iterator[IndexClient]:
    with closing(IndexClient(f"{url}/", (server.username, server.password), wait=wait)) as client:
        yield client


def ignore(_position: int) -> None:
    """Show no progress."""


def do_not_wait(_seconds: float, _problem: str) -> None:
    """Try again at once."""


def test_after_a_broken_connection_only_the_rest_is_sent(server: RunningServer, tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path))
    waits: list[float] = []

    def wait(seconds: float, _problem: str) -> None:
        waits.append(seconds)
        arrived = sum(proxy.passed) - len(proxy.passed) * MIB // 4  # what is no bytes of the file is much less
        wait_for(lambda: staged(server)[0] >= arrived)

    with cutting(server.port, [2 * MIB, MIB, MIB]) as proxy, client_of(server, proxy.url, wait) as client:
        assert client.upload(file, ignore) is Added.CREATED
        assert proxy.limits == []
        assert sum(proxy.passed) < file.size + MIB
    assert waits == [1.0, 1.0, 1.0]  # each time something had arrived
    assert server.listing("large") == {file.filename: file.sha256}
    assert staged(server) == []


def test_after_a_kill_and_a_new_start_only_the_rest_is_sent(tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path))
    data, home = tmp_path / "data", tmp_path / "home"
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(data, "--workers", "2", home=home))]
        proxy = stack.enter_context(cutting(servers[0].port))

        def kill(_position: int) -> None:
            if len(servers) == 1 and staged(servers[0])[0] > file.size // 3:
                servers[0].kill()
                servers.append(stack.enter_context(serving(data, "--workers", "2", home=home)))
                kept.extend(staged(servers[1]))
                proxy.target = servers[1].port

        kept: list[int] = []
        client = stack.enter_context(client_of(servers[0], proxy.url, do_not_wait))
        assert client.upload(file, kill) is Added.CREATED
        assert kept[0] > file.size // 3
        assert proxy.passed[-1] < file.size - kept[0] + MIB // 4
        assert servers[1].listing("large") == {file.filename: file.sha256}
        assert staged(servers[1]) == []


def test_a_command_that_was_killed_is_taken_up_by_the_next_one(
    server: RunningServer, tmp_path: Path, home: Path
) -> None:
    path = make_large_wheel(tmp_path)
    with cutting(server.port, [4 * MIB]) as proxy:
        url = server.url_with_credentials.replace(str(server.port), str(proxy.port))
        command = [sys.executable, "-m", "elasticpypi", "upload", str(path), "--url", url]
        first = subprocess.Popen(command, env=bare_environment(home), stderr=subprocess.PIPE, text=True)
        assert first.stderr is not None
        said = [first.stderr.readline() for _ in range(2)]
        first.kill()
        first.communicate()
        assert said[1] == f"{path.name}: the connection broke, or there was none; trying again in 1 s\n"
        wait_for(lambda: staged(server)[0] > 3 * MIB)
        second = run_command("upload", path, "--url", url, home=home)
        assert (second.returncode, second.stdout) == (0, f"created: {path}\n")
        assert sum(proxy.passed[1:]) < path.stat().st_size - 3 * MIB + MIB // 4
    assert server.listing("large") == {path.name: sha256(path)}


def test_two_uploads_of_the_same_file_at_once_end_well(tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path, size_mib=20))
    started = threading.Barrier(2)

    def wait_for_the_other(_seconds: float, _problem: str) -> None:
        before = staged(server)
        wait_for(lambda: staged(server), lambda now: now != before or not now)

    def upload(_: int) -> Added:
        with client_of(server, server.url, wait_for_the_other) as client:
            client.has(file)
            started.wait()
            return client.upload(file, ignore)

    with serving(tmp_path / "data", "--workers", "2", home=tmp_path / "home") as server:
        with ThreadPoolExecutor(2) as pool:
            assert set(pool.map(upload, range(2))) <= {Added.CREATED, Added.UNCHANGED}
        assert server.listing("large") == {file.filename: file.sha256}
        assert staged(server) == []


# Answers -----------------------------------------------------------------------------------------------------------


Answer = tuple[int, Mapping[str, str], object]  # status, headers, body


@dataclass(slots=True)
class Script:
    """An index that answers as it is told."""

    answers: list[tuple[int, Mapping[str, str], bytes]]  # status, headers, body; the last one again and again
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, bytes
    authorization: str = ""


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, Script]]:
    """Serve a script; what is no bytes is answered as JSON."""
    bodies = [
        (status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())
        for status, headers, body in answers
    ]
    script = Script(bodies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"] or 0)
            self.rfile.read(length)
            script.requests.append((self.command, self.path, length))
            script.authorization = self.headers.get("Authorization", "")
            status, headers, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", script
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def answering_raw(answer: bytes) -> Iterator[str]:
    """Answer one request with these bytes."""

    def answer_once() -> None:
        connection, _ = listener.accept()
        with connection:
            while b"}" not in connection.recv(65536):  # the end of the body
                pass
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def slot(received: int = 0, part_bytes: int = 32 * MIB, prefix: str = "uploads") -> Answer:
    urls = {"parts-url": f"{prefix}/x", "finish-url": f"{prefix}/x/finish"}
    return (201, {}, {"received": received, "part-bytes": part_bytes, **urls})


CREATED: Answer = (201, {}, {"status": "created"})
TEXT = {"Content-Type": "text/plain; charset=utf-8"}


def upload(file: CheckedFile, *answers: Answer) -> tuple[Added | str, list[float], Script]:
    """Return what came of it, how long was waited each time, and what was asked for."""
    waits: list[float] = []
    with (
        answering(*answers) as (url, script),
        closing(IndexClient(url, None, wait=lambda seconds, _: waits.append(seconds))) as client,
    ):
        try:
            return client.upload(file, ignore), waits, script
        except ElasticpypiError as error:
            return f"{type(error).__name__}: {error}", waits, script


@pytest.fixture
def file(wheel: Path) -> CheckedFile:
    return check_file(wheel)


def test_patience_has_an_end_and_honours_retry_after(file: CheckedFile) -> None:
    outcome, waits, _ = upload(file, (503, {"Retry-After": "5", **TEXT}, b"the index is being built\n"))
    sentence = "the index is being built; it was tried for a minute. The same command goes on where it stopped"
    assert (outcome, waits) == (f"UploadFailedError: {sentence}", [5.0, 5.0, 5.0, 8.0, 16.0, 30.0])


@pytest.mark.parametrize("value", ["3600", "99999999999999999999"])
def test_nobody_waits_for_an_hour(file: CheckedFile, value: str) -> None:
    busy = (429, {"Retry-After": value}, b"")
    assert upload(file, busy, (200, {}, {"status": "unchanged"}))[:2] == (Added.UNCHANGED, [60.0])


def test_bytes_that_arrive_renew_the_patience(file: CheckedFile) -> None:
    bad: Answer = (502, {}, b"")
    answers = [slot(), bad, slot(), bad, slot(10), bad, slot(20), (200, {}, {}), CREATED]
    assert upload(file, *answers)[:2] == (Added.CREATED, [1.0, 2.0, 1.0])


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_what_passes_is_tried_again(file: CheckedFile, status: int) -> None:
    answers = [(status, {}, b""), slot(), (status, {}, b""), slot(), (200, {}, {}), (status, {}, b""), slot(file.size)]
    assert upload(file, *answers, CREATED)[:2] == (Added.CREATED, [1.0, 2.0, 4.0])


def test_an_upload_that_is_elsewhere_or_over_begins_again(file: CheckedFile) -> None:
    elsewhere: Answer = (409, {}, {"received": 10, "message": "go on"})
    over: Answer = (404, {}, b"")
    answers = [slot(), elsewhere, slot(10), over, slot(), (200, {}, {}), over, (200, {}, {"status": "unchanged"})]
    outcome, _, script = upload(file, *answers)
    assert outcome is Added.UNCHANGED
    assert [size for method, _, size in script.requests if method == "PATCH"] == [file.size, file.size - 10, file.size]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "UploadRefusedError"),
        (401, "UploadFailedError"),
        (403, "UploadRefusedError"),
        (409, "UploadRefusedError"),
        (500, "UploadFailedError"),
        (507, "UploadFailedError"),
    ],
)
def test_what_does_not_pass_stops_it_with_the_sentence_of_the_index(file: CheckedFile, status: int, error: str) -> None:
    refusal = (status, {"Content-Type": "application/json"}, {"message": "That \x1b[31mis\nno good."})
    for answers in ([refusal], [slot(), refusal], [slot(), (200, {}, {}), refusal]):
        assert upload(file, *answers)[:2] == (f"{error}: That [31mis no good.", [])


def test_what_an_index_says_beside_its_sentence_is_made_safe_too(file: CheckedFile) -> None:
    moved: Answer = (308, {"Location": "https://other.example.org/\x1b[31m"}, b"")
    assert upload(file, moved)[0] == (
        "UploadFailedError: the index is elsewhere: give the URL that https://other.example.org/[31m belongs to"
    )
    with (
        answering_raw(b"HTTP/1.1 500 Not \x1b]0;good\x07\r\nContent-Length: 0\r\n\r\n") as url,
        closing(IndexClient(url, None, wait=do_not_wait)) as client,
        pytest.raises(UploadFailedError) as caught,
    ):
        client.has(file)
    assert str(caught.value) == "the index, or a proxy before it, answers 500 Not ]0;good"


def test_a_proxy_that_takes_small_bodies_only_gets_smaller_parts(tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path, size_mib=3))
    too_large: Answer = (413, {"Content-Type": "text/html"}, b"<html>")
    good: Answer = (200, {}, {})
    outcome, waits, script = upload(file, slot(), too_large, slot(), too_large, slot(), good, good, CREATED)
    parts = [size for method, _, size in script.requests if method == "PATCH"]
    assert (outcome, waits) == (Added.CREATED, [])
    assert parts == [file.size, file.size, 2 * MIB, file.size - 2 * MIB]


def test_bodies_too_small_to_be_of_use_end_it(file: CheckedFile) -> None:
    outcome, waits, _ = upload(file, slot(part_bytes=1), (413, {}, b""))
    assert (str(outcome), waits) == (
        "UploadRefusedError: the index, or a proxy before it, answers 413 Request Entity Too Large",
        [],
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, b"not here"), "use 'twine upload --repository-url'"),
        ((405, {}, b""), "use 'twine upload --repository-url'"),
        ((200, {}, b"<html>Welcome"), "use 'twine upload --repository-url'"),
        (slot(prefix="http://elsewhere.example.org"), "use 'twine upload --repository-url'"),
        (slot(-1), "use 'twine upload --repository-url'"),
        (slot(10**9), "use 'twine upload --repository-url'"),
        ((201, {}, b'{"received": Infinity}'), "use 'twine upload --repository-url'"),
        ((201, {}, b"[" * 100_000), "use 'twine upload --repository-url'"),
        ((308, {"Location": "https://other.example.org/api/v1/uploads"}, b""), "give the URL that https://other.exa"),
    ],
)
def test_what_is_no_such_index_is_named(file: CheckedFile, answer: Answer, words: str) -> None:
    outcome, waits, script = upload(file, answer)
    assert (str(outcome).startswith("UploadFailedError: "), words in str(outcome), waits) == (True, True, []), outcome
    assert len(script.requests) == 1


def test_an_index_that_is_not_there_is_waited_for(file: CheckedFile) -> None:
    waits: list[float] = []
    url = f"http://127.0.0.1:{free_port()}/"
    with (
        closing(IndexClient(url, None, wait=lambda seconds, _: waits.append(seconds))) as client,
        pytest.raises(UploadFailedError, match=r"^the connection broke, or there was none; it was tried for a minute"),
    ):
        client.has(file)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


def test_a_file_that_becomes_shorter_is_named(wheel: Path) -> None:
    file = check_file(wheel)
    wheel.write_bytes(b"short")
    assert upload(file, slot(), CREATED)[0] == (
        "UploadFailedError: the file has become shorter while it was sent; build it again"
    )


def test_credentials_arrive_as_utf_8(file: CheckedFile) -> None:
    with (
        answering((200, {}, {"status": "unchanged"})) as (url, script),
        closing(IndexClient(url, ("jürgen", "пароль"), wait=do_not_wait)) as client,
    ):
        assert client.has(file)
    assert b64decode(script.authorization.removeprefix("Basic ")).decode() == "jürgen:пароль"


URLS: list[tuple[str, IndexUrl]] = [
    ("https://pypi.example.org", IndexUrl("https://pypi.example.org/")),
    ("https://pypi.example.org/simple/", IndexUrl("https://pypi.example.org/")),
    ("http://pypi.example.org:8080/dev/legacy", IndexUrl("http://pypi.example.org:8080/dev/")),
    ("http://pypi.example.org/simple-things/?x=1#y", IndexUrl("http://pypi.example.org/simple-things/")),
    ("http://me:p%40ss@[::1]:5000/", IndexUrl("http://[::1]:5000/", "me", "p@ss")),
    ("https://me@pypi.example.org/", IndexUrl("https://pypi.example.org/", "me", None)),
]


@pytest.mark.parametrize(("text", "expected"), URLS)
def test_the_url_of_an_index_is_read_in_every_form(text: str, expected: IndexUrl) -> None:
    assert parse_index_url(text) == expected


@pytest.mark.parametrize("text", ["", "pypi.example.org", "ftp://x/", "https://", "http://[/", "http://x:port/"])
def test_what_is_no_url_of_an_index_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not the http or https URL of an index$"):
        parse_index_url(text)


def test_a_refusal_names_no_secret() -> None:
    assert "p@ss" not in repr(parse_index_url("https://me:p%40ss@pypi.example.org/"))
