"""`elasticpypi serve`: its first start, several processes on one index, its end, and what it says in a bad hour."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.dists import make_wheel
from tests.running import JSON, RunningServer, is_running, serving, wait_for

KNOWN = ("/simple/", "/simple/acme/", "/packages/acme/acme-1.0-py3-none-any.whl")
MADE = re.compile(
    r"""elasticpypi \S+ serves (?P<index>\S+) from (?P<data>.+)

Credentials were made for 'admin'; they are kept in (?P<kept>.+)\. Paste:

  (?P<pip>pip install --index-url \S+ PROJECT)
  (?P<uv>uv pip install --default-index \S+ PROJECT)
  (?P<twine>twine upload --repository-url \S+ -u \S+ -p \S+ dist/\*)

"""
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pages(server: RunningServer) -> dict[str, bytes]:
    """Return the bytes of what is known, as it must be."""
    answers = {path: server.fetch(path) for path in KNOWN}
    assert {answer.status_code for answer in answers.values()} == {200}, answers
    return {path: answer.content for path, answer in answers.items()}


def without_serial(pages: dict[str, bytes]) -> dict[str, object]:
    """Return pages without the revisions, which no rebuilt catalog repeats."""
    return {path: re.sub(rb'"_last-serial":\d+', b"", body) for path, body in pages.items()}


@contextmanager
def no_watcher(data: Path) -> Iterator[Callable[[], None]]:
    """Keep every server from looking through its storage, until the context ends or the function is called."""
    with (data / "watch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def remove_catalog(data: Path, pattern: str = "catalog.sqlite*") -> None:
    """Remove the catalog as a person would, who does not stop the server; its lock may stay or go."""
    for path in data.glob(pattern):
        path.unlink(missing_ok=True)


def assert_unavailable(response: requests.Response) -> None:
    assert response.status_code == 503, (response.url, response.status_code, response.text)
    assert int(response.headers["Retry-After"]) > 0


# The first start -------------------------------------------------------------------------------------------------


def test_the_first_start_makes_credentials_and_the_second_prints_none(tmp_path: Path) -> None:
    data, home = tmp_path / "new" / "data", tmp_path / "home"
    with serving(data, home=home) as server:
        printed = MADE.match(server.output())
        assert printed is not None, server.output()
        first = server
        assert server.fetch("/simple/").status_code == 200
        assert server.stop() == 0
    kept = data / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert json.loads(kept.read_text()) == {"username": "admin", "password": first.password}
    assert len(first.password) >= 20
    assert printed.groupdict() == {
        "index": f"{first.url}/simple/",
        "data": str(data),
        "kept": str(kept),
        "pip": f"pip install --index-url {first.index_url} PROJECT",
        "uv": f"uv pip install --default-index {first.index_url} PROJECT",
        "twine": f"twine upload --repository-url {first.url}/legacy/ -u admin -p {first.password} dist/*",
    }

    with serving(data, home=home) as server:
        assert server.password == first.password
        assert first.password not in server.output()
        assert f"The credentials are in {kept}." in server.output()
        assert server.fetch("/simple/").status_code == 200


def test_configured_credentials_are_neither_kept_nor_printed(tmp_path: Path) -> None:
    extra = {"ELASTICPYPI_USERNAME": "alice", "ELASTICPYPI_PASSWORD": "wonder:länd"}
    with serving(tmp_path / "data", home=tmp_path / "home", extra=extra) as server:
        assert requests.get(f"{server.url}/simple/", timeout=60).status_code == 401
        pair = base64.b64encode("alice:wonder:länd".encode()).decode()
        answer = requests.get(f"{server.url}/simple/", headers={"Authorization": f"Basic {pair}"}, timeout=60)
        assert answer.status_code == 200
        assert "wonder" not in server.output()
        assert "The credentials are in the configuration." in server.output()
        assert not (tmp_path / "data" / "credentials.json").exists()


def test_servers_that_start_at_once_have_the_same_credentials(tmp_path: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        servers = list(
            pool.map(
                lambda number: stack.enter_context(serving(tmp_path / "data", home=tmp_path / f"home-{number}")),
                range(4),
            )
        )
        assert len({server.password for server in servers}) == 1
        assert [server.fetch("/simple/").status_code for server in servers] == [200] * 4
        assert sum(server.password in server.output() for server in servers) == 1


# Several processes -----------------------------------------------------------------------------------------------


def test_every_worker_shows_what_one_has_accepted(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2", home=tmp_path / "home") as server:
        assert len(server.processes()) >= 3
        for number in range(5):
            wheel = make_wheel(tmp_path, version=f"1.{number}")
            assert server.upload(wheel).status_code == 200
            for _ in range(10):  # each on a connection of its own, which goes to one of the workers
                assert (server.listing("acme") or {}).get(wheel.name) == sha256(wheel)
                assert server.fetch(f"/packages/acme/{wheel.name}").content == wheel.read_bytes()


def test_servers_may_share_a_data_directory(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    wheels = [make_wheel(tmp_path, version=f"1.{number}") for number in range(8)]
    with serving(data, home=home) as one, serving(data, home=home) as other, ThreadPoolExecutor(8) as pool:
        turns = [(one, other), (other, one)] * 4
        statuses = pool.map(lambda turn, wheel: turn[0].upload(wheel).status_code, turns, wheels)
        assert list(statuses) == [200] * 8
        expected = {wheel.name: sha256(wheel) for wheel in wheels}
        assert one.listing("acme") == other.listing("acme") == expected
        # All of them at both, at the same time: whoever comes second finds the same bytes there.
        again = pool.map(lambda turn, wheel: turn[1].upload(wheel).status_code, turns, wheels)
        assert list(again) == [200] * 8
        assert one.listing("acme") == expected


def test_what_a_killed_server_has_counted_goes_with_the_next_start_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, home=home) as killed:
        (left,) = data.glob(".traffic-*")
        killed.kill()
    assert left.is_dir()
    with serving(data, home=home):
        (living,) = data.glob(".traffic-*")
        assert living != left
        with serving(data, home=home):
            assert living in data.glob(".traffic-*")
            assert len(list(data.glob(".traffic-*"))) == 2
    assert list(data.glob(".traffic-*")) == []


def test_of_different_bytes_under_one_name_one_wins(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    wheels = []
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        wheels.append(make_wheel(tmp_path / str(number), description=str(number)))
    with serving(data, home=home) as one, serving(data, home=home) as other, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda server, wheel: server.upload(wheel).status_code, [one, other] * 4, wheels))
        assert sorted(statuses) == [200] + [409] * 7
        winner = wheels[statuses.index(200)]
        assert one.listing("acme") == other.listing("acme") == {winner.name: sha256(winner)}
        assert one.fetch(KNOWN[2]).content == winner.read_bytes()


# The end ---------------------------------------------------------------------------------------------------------


def to_the_first(server: RunningServer, number: signal.Signals) -> None:
    server.process.send_signal(number)


def to_all(server: RunningServer, number: signal.Signals) -> None:
    """As a terminal does on Ctrl-C, and systemd by default."""
    for pid in server.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("send", [to_the_first, to_all])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_it(
    tmp_path: Path, number: signal.Signals, send: Callable[[RunningServer, signal.Signals], None], workers: str
) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, "--workers", workers, home=home) as server:
        wheel = make_wheel(tmp_path)
        assert server.upload(wheel).status_code == 200
        processes = server.processes()
        send(server, number)
        assert server.process.wait(60) == 0, server.output()
        assert [pid for pid in processes if is_running(pid)] == []
        assert "Traceback" not in server.output()
    with serving(data, home=home) as server:
        assert server.listing("acme") == {wheel.name: sha256(wheel)}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_when_the_first_process_is_killed_the_others_go_as_well(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path / "data", "--workers", workers, home=tmp_path / "home") as server:
        processes = server.processes()
        try:
            server.process.kill()
            wait_for(lambda: [pid for pid in processes if is_running(pid)], lambda left: not left)
        finally:
            for pid in processes[1:]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_an_upload_that_has_begun_is_finished(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    wheel = make_wheel(tmp_path, extra_files={"acme.bin": os.urandom(2**20)})
    with serving(data, home=home) as server, begun_upload(server, wheel, half=True) as (connection, rest):
        wait_for(lambda: any((server.files / ".elasticpypi/uploads").iterdir()))
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(server))
        connection.sendall(rest)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), (answer, server.output())
        assert server.process.wait(60) == 0
    with serving(data, home=home) as server:
        assert server.listing("acme") == {wheel.name: sha256(wheel)}


def test_an_upload_whose_client_goes_away_leaves_nothing(server: RunningServer, tmp_path: Path) -> None:
    uploads = server.files / ".elasticpypi/uploads"
    with begun_upload(server, make_wheel(tmp_path, extra_files={"acme.bin": os.urandom(2**20)}), half=True):
        wait_for(lambda: any(uploads.iterdir()))
    wait_for(lambda: not any(uploads.iterdir()))
    assert server.listing("acme") is None
    assert "Traceback" not in server.output()


@pytest.mark.heavy  # half a minute of waiting
def test_an_upload_that_never_ends_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    wheel = make_wheel(tmp_path, extra_files={"acme.bin": os.urandom(2**20)})
    with serving(data, home=home) as server, begun_upload(server, wheel, half=True):
        wait_for(lambda: any((server.files / ".elasticpypi/uploads").iterdir()))
        processes = server.processes()
        assert server.stop() == 0
        assert [pid for pid in processes if is_running(pid)] == []
    with serving(data, home=home) as server:
        assert server.listing("acme") is None
        assert server.upload(wheel).status_code == 200


@contextmanager
def begun_upload(server: RunningServer, wheel: Path, *, half: bool) -> Iterator[tuple[socket.socket, bytes]]:
    """Send a part of an upload; yield the connection and the rest."""
    request = server.prepare_upload(wheel.name, wheel.read_bytes())
    assert isinstance(request.body, bytes)
    head = "".join(f"{name}: {value!s}\r\n" for name, value in request.headers.items())
    message = "".join(["POST /legacy/ HTTP/1.1\r\nHost: 127.0.0.1\r\n", head, "\r\n"]).encode() + request.body
    middle = len(message) // 2 if half else 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(message[:middle])
        yield connection, message[middle:]


def refuses(server: RunningServer) -> bool:
    """Whether the server takes no new connections any more."""
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


# Who knows nothing says so ---------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """The data directory of an index that has run, and its pages."""
    with serving(tmp_path / "data", home=tmp_path / "home") as server:
        assert server.upload(make_wheel(tmp_path)).status_code == 200
        assert server.upload(make_wheel(tmp_path, "other")).status_code == 200
        known = pages(server)
        assert server.stop() == 0
    return tmp_path / "data", known


def test_until_the_first_sync_has_ended_nothing_is_said_to_be_missing(
    stopped: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    data, known = stopped
    remove_catalog(data)
    with no_watcher(data) as let_go, serving(data, home=tmp_path / "home", healthy=False) as server:
        for path in (*KNOWN, f"{KNOWN[2]}.metadata", "/simple/unheard-of/", "/packages/unheard-of/unheard_of-1.zip"):
            assert_unavailable(server.fetch(path))
            assert_unavailable(server.fetch(path, method="HEAD"))
            assert_unavailable(server.fetch(path, headers={"Accept": "text/html"}))
        assert_unavailable(server.upload(make_wheel(tmp_path, "late")))
        assert_unavailable(server.fetch("/health"))
        let_go()
        wait_for(lambda: server.fetch("/health").status_code, lambda status: status == 200)
        assert without_serial(pages(server)) == without_serial(known)
        assert server.listing("unheard-of") is None
        assert server.listing("late") is None


@pytest.mark.parametrize("removed", ["catalog.sqlite", "catalog.sqlite*"])
def test_a_catalog_that_is_removed_while_serving_is_made_anew(tmp_path: Path, removed: str) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, "--workers", "2", home=home) as server:
        wheels = [make_wheel(tmp_path, f"acme-{number}") for number in range(20)]
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda wheel: server.upload(wheel).status_code, wheels)) == {200}
        for _ in range(3):
            for path in server.files.glob("acme-*/*.whl"):
                path.touch()  # the same bytes, but as young as if somebody were still writing them
            remove_catalog(data, removed)

            def ask() -> requests.Response:
                response = server.fetch("/simple/")
                if response.status_code != 200:
                    assert_unavailable(response)
                    project = server.fetch("/simple/acme-7/")
                    assert project.status_code in (200, 503)
                return response

            answer = wait_for(ask, lambda response: response.status_code == 200)
            assert len(answer.json()["projects"]) == 20
            for wheel, number in zip(wheels, range(20), strict=True):
                assert server.listing(f"acme-{number}") == {wheel.name: sha256(wheel)}
        late = make_wheel(tmp_path, "late")
        wait_for(lambda: server.upload(late).status_code, lambda status: status == 200)
        assert server.listing("late") == {late.name: sha256(late)}


def test_the_end_of_one_server_does_not_touch_the_new_catalog_of_another(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, home=home) as one:
        with serving(data, home=home) as other:
            first = make_wheel(tmp_path, version="1.0")
            assert other.upload(first).status_code == 200
            remove_catalog(data)
            wait_for(lambda: {s.fetch("/simple/").status_code for s in (one, other)}, lambda found: found == {200})
            second = make_wheel(tmp_path, version="2.0")
            assert one.upload(second).status_code == 200
            assert other.stop() == 0
        third = make_wheel(tmp_path, version="3.0")
        assert one.upload(third).status_code == 200
        expected = {wheel.name: sha256(wheel) for wheel in (first, second, third)}
        assert one.listing("acme") == expected
        with serving(data, home=home) as newcomer:
            assert newcomer.listing("acme") == expected


def empty(files: Path) -> None:
    """Leave an empty directory, as the mount point of a volume that is not there."""
    files.mkdir()


def nothing(files: Path) -> None:
    """Leave nothing at all."""


@pytest.mark.parametrize("leave", [empty, nothing])
def test_a_storage_that_goes_away_while_serving_empties_nothing(tmp_path: Path, leave: Callable[[Path], None]) -> None:
    with serving(tmp_path / "data", home=tmp_path / "home") as server:
        wheel = make_wheel(tmp_path)
        assert server.upload(wheel).status_code == 200
        away = server.data / "away"
        server.files.rename(away)
        leave(server.files)
        wait_for(lambda: server.fetch("/health").status_code, lambda status: status == 503)
        for _ in range(20):
            assert_unavailable(server.fetch(KNOWN[2]))
            page = server.fetch("/simple/acme/")
            assert page.status_code == 503 or len(page.json()["files"]) == 1
        assert_unavailable(server.upload(make_wheel(tmp_path, "late")))
        assert not (server.files / ".elasticpypi").exists()

        if server.files.exists():
            server.files.rmdir()
        away.rename(server.files)
        wait_for(lambda: server.fetch("/health").status_code, lambda status: status == 200)
        assert server.listing("acme") == {wheel.name: sha256(wheel)}
        dropped = make_wheel(server.files, "dropped")
        wait_for(lambda: server.listing("dropped"))
        assert server.listing("dropped") == {dropped.name: sha256(dropped)}


@pytest.mark.parametrize("leave", [empty, nothing])
def test_a_storage_that_comes_after_the_start_is_watched(
    stopped: tuple[Path, dict[str, bytes]], tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    data, known = stopped
    files, away = data / "files", data / "away"
    files.rename(away)
    leave(files)
    with serving(data, home=tmp_path / "home", healthy=False) as server:
        assert_unavailable(server.fetch("/health"))
        assert_unavailable(server.fetch(KNOWN[2]))
        page = server.fetch("/simple/acme/")
        assert page.status_code == 503 or len(page.json()["files"]) == 1
        if files.exists():
            files.rmdir()
        away.rename(files)
        wait_for(lambda: server.fetch("/health").status_code, lambda status: status == 200)
        assert pages(server) == known
        make_wheel(files, "dropped")
        wait_for(lambda: server.listing("dropped"))


def test_strangers_get_nothing_but_health(server: RunningServer) -> None:
    for path in (*KNOWN, "/", "/legacy/", "/simple/unheard-of/"):
        response = requests.get(server.url + path, headers={"Accept": JSON}, timeout=60)
        assert (response.status_code, response.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert requests.get(f"{server.url}/health", timeout=60).status_code == 200


def test_clients_that_say_nothing_keep_nobody_waiting(server: RunningServer) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\n")
        assert server.fetch("/simple/").status_code == 200
