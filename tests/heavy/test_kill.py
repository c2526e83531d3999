"""`kill -9` at any instant leaves whole files or nothing, and a catalog that agrees with the storage soon after."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.dists import make_wheel
from tests.heavy.test_large_upload import make_large_wheel
from tests.running import RunningServer, bare_environment, run_command, serving, wait_for

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]
ROUNDS = 30
CLIENTS = 4
SMALL_FILES = 25  # for each client and round
LARGE_BYTES = 50 * 2**20
FILES_TO_SYNC = 300
SYNC_ROUNDS = 15
_log = logging.getLogger(__name__)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(slots=True)
class Accepted:
    """What the clients of one round have been told: filename to sha256."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    files: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, digest: str) -> None:
        with self.lock:
            self.files[path.name] = digest


def upload_all(server: RunningServer, paths: list[Path], accepted: Accepted) -> None:
    """Upload until the server has gone."""
    for path in paths:
        digest = sha256(path)
        try:
            answer = server.upload(path)
        except requests.RequestException:
            return
        assert answer.status_code == 200, (answer.status_code, answer.text)
        accepted.add(path, digest)


def make_files(directory: Path, number: int) -> list[list[Path]]:
    """Return what each client uploads: one large file among many small ones, no name twice."""
    lists = []
    for client in range(CLIENTS):
        small = [make_wheel(directory, f"small{number}", f"1.{client}.{index}") for index in range(SMALL_FILES)]
        large = make_large_wheel(directory, f"large{number}x{client}", payload_bytes=LARGE_BYTES).path
        lists.append([*small[: client * 2], large, *small[client * 2 :]])
    return lists


def assert_whole(server: RunningServer, accepted: dict[str, str], sent: dict[str, str]) -> int:
    """Whatever is listed has the bytes that were sent, and what was accepted is listed; return the number of files."""
    listed: dict[str, str] = {}
    for project in server.projects():
        for filename, digest in (server.listing(project) or {}).items():
            body = server.fetch(f"/packages/{project}/{filename}").content
            assert hashlib.sha256(body).hexdigest() == digest == sent[filename], filename
            listed[filename] = digest
    assert {name: listed.get(name) for name in accepted} == accepted
    return len(listed)


def assert_agrees(data: Path, home: Path) -> None:
    """The catalog is what the storage says, soon after the start."""
    wait_for(
        lambda: run_command("sync", "--check", "--data", data, home=home),
        lambda answer: (answer.returncode, answer.stderr) == (0, ""),
    )


def visible_files(data: Path) -> list[Path]:
    return [path for path in (data / "files").rglob("*.whl") if ".elasticpypi" not in path.parts]


@contextmanager
def killed_at(server: RunningServer, instant: float) -> Iterator[None]:
    """Kill the server at an instant of `time.monotonic`, whatever the context does meanwhile."""

    def kill() -> None:
        wait_for(lambda: time.monotonic() >= instant)
        server.kill()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        yield
        killing.result()


def test_uploads_interrupted_at_random_instants(tmp_path: Path) -> None:
    rng = random.Random(20)
    data, home = tmp_path / "data", tmp_path / "home"
    counts = []
    for number in range(ROUNDS):
        outside = tmp_path / f"outside-{number}"
        outside.mkdir()
        lists = make_files(outside, number)
        sent = {path.name: sha256(path) for paths in lists for path in paths}
        accepted = Accepted()
        workers = rng.choice(["1", "2"])
        with serving(data, "--workers", workers, home=home) as server:
            with ThreadPoolExecutor(CLIENTS) as pool, killed_at(server, time.monotonic() + rng.uniform(0.02, 2.0)):
                clients = [pool.submit(upload_all, server, paths, accepted) for paths in lists]
            for client in clients:
                client.result()

        for path in visible_files(data):  # before anything has mended anything
            assert sha256(path) == sent[path.name], path
        leftovers = list((data / "files" / ".elasticpypi" / "uploads").iterdir())
        with serving(data, home=home) as server:
            # Already now, while the sync of the start may be under way.
            listed = assert_whole(server, accepted.files, sent)
            assert_agrees(data, home)
            assert assert_whole(server, accepted.files, sent) == len(visible_files(data)) >= listed
            counts.append((len(accepted.files), listed, len(leftovers)))
            # An interrupted upload can be done again.
            for path in {path.name: path for paths in lists for path in paths[-2:]}.values():
                assert server.upload(path).status_code == 200
            assert server.stop() == 0

        for path in leftovers:  # as if it had been a minute ago
            os.utime(path, (time.time() - 600, time.time() - 600))
        shutil.rmtree(outside)
        for directory in (data / "files").iterdir():
            if directory.name != ".elasticpypi":
                shutil.rmtree(directory)
        answer = run_command("sync", "--data", data, home=home)
        assert (answer.returncode, answer.stderr) == (0, "")
        assert list((data / "files" / ".elasticpypi" / "uploads").iterdir()) == []
        for directory in (data / "files").iterdir():
            if directory.name != ".elasticpypi":
                shutil.rmtree(directory)  # what only says that the project is ours
        assert run_command("sync", "--data", data, home=home).returncode == 0
    _log.warning("accepted, listed, left over in each round: %s", counts)
    assert any(accepted for accepted, _, _ in counts)
    assert any(leftovers for _, _, leftovers in counts)


def test_a_first_sync_interrupted_at_random_instants(tmp_path: Path) -> None:
    rng = random.Random(300)
    data, home = tmp_path / "data", tmp_path / "home"
    files = data / "files"
    for number in range(FILES_TO_SYNC):
        directory = files / f"deep-{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        make_wheel(directory, f"acme-{number % 50}", f"1.{number}")
    sent = {path.name: sha256(path) for path in visible_files(data)}
    assert len(sent) == FILES_TO_SYNC
    assert run_command("sync", "--data", data, home=home).returncode == 0
    interrupted = 0
    for number in range(SYNC_ROUNDS):
        if number % 3 == 0:  # the other rounds go on with what the one before has left
            for path in data.glob("catalog.sqlite*"):
                path.unlink()
        if number % 2:
            _sync_and_kill(data, home, rng.uniform(0.3, 2.0))
            continue
        with serving(data, home=home, healthy=False) as server:
            instant = time.monotonic() + rng.uniform(0.0, 1.0)
            while time.monotonic() < instant:
                interrupted += _ask_once(server)
            server.kill()
    with serving(data, home=home) as server:
        assert assert_whole(server, sent, sent) == FILES_TO_SYNC
        assert_agrees(data, home)
    assert interrupted


def _ask_once(server: RunningServer) -> bool:
    """Ask for what must be there, and tell whether the answer was that it cannot be said yet."""
    answer = server.fetch("/simple/acme-49/")
    if answer.status_code == 200:
        assert len(answer.json()["files"]) == FILES_TO_SYNC // 50
        return False
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    return True


def _sync_and_kill(data: Path, home: Path, seconds: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "elasticpypi", "sync", "--data", str(data)],
        env=bare_environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        instant = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= instant or process.poll() is not None)
        process.kill()
