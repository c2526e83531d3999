"""Files of gigabytes pass through the server in constant memory, in and out."""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import re
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests

from tests.dists import make_core_metadata
from tests.running import RunningServer, bare_environment, serving, upload_form, wait_for

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
LIMIT_KB = 150 * 1024
PAYLOAD_BYTES = 2**31 + 2**20  # over 2 GiB, so that nothing that counts in 31 bits passes
CHUNK_BYTES = 2**20
STALLED_READERS = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Large:
    path: Path
    sha256: str


def make_large_wheel(directory: Path, name: str = "huge", *, payload_bytes: int = PAYLOAD_BYTES) -> Large:
    """Write a wheel with one stored member of random-like bytes, which no compression would shrink."""
    stem = f"{name}-1.0"
    path = directory / f"{stem}-py3-none-any.whl"
    block = random.Random(1).randbytes(CHUNK_BYTES - 8)
    digest = hashlib.sha256()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        with wheel.open(f"{name}.bin", "w", force_zip64=True) as member:
            for number in range(payload_bytes // CHUNK_BYTES):
                piece = number.to_bytes(8, "big") + block
                digest.update(piece)
                member.write(piece)
        record = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        wheel.writestr(f"{stem}.dist-info/METADATA", make_core_metadata(name, "1.0"))
        wheel.writestr(
            f"{stem}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(
            f"{stem}.dist-info/RECORD",
            f"{name}.bin,sha256={record},{payload_bytes // CHUNK_BYTES * CHUNK_BYTES}\n"
            f"{stem}.dist-info/METADATA,,\n{stem}.dist-info/WHEEL,,\n{stem}.dist-info/RECORD,,\n",
        )
    with path.open("rb") as stream:
        return Large(path, hashlib.file_digest(stream, "sha256").hexdigest())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    made = make_large_wheel(tmp_path_factory.mktemp("large"))
    yield made
    made.path.unlink()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose files do not outlive the test: they are large."""
    with serving(tmp_path / "data", home=tmp_path / "home") as running:
        yield running
    for path in (tmp_path / "data" / "files").rglob("*.whl"):
        path.unlink()


def peaks_kb(server: RunningServer) -> list[int]:
    """Return the peak resident memory that each process of the server has had until now."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in server.processes()]
    return [int(found[1]) for status in statuses if (found := re.search(r"VmHWM:\s+(\d+) kB", status))]


def assert_memory_is_small(server: RunningServer, after: str, *, since: float | None = None) -> None:
    peaks = peaks_kb(server)
    seconds = "" if since is None else f" in {time.monotonic() - since:.1f} s"
    _log.warning("%s%s: peak %.0f MB (largest %.0f MB)", after, seconds, sum(peaks) / 1024, max(peaks) / 1024)
    assert len(peaks) >= 2
    assert sum(peaks) < LIMIT_KB, (after, peaks)


def upload_by_stream(server: RunningServer, large: Large) -> tuple[int, str]:
    """Post a file as curl does: with a length, in pieces."""
    filename = large.path.name
    boundary = "elasticpypi"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in (upload_form(filename) | {"sha256_digest": large.sha256}).items()
    ]
    head = (
        "".join(parts) + f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    pair = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=600)
    try:
        connection.putrequest("POST", "/legacy/")
        connection.putheader("Authorization", f"Basic {pair}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(head) + large.path.stat().st_size + len(tail)))
        connection.endheaders(head)
        with large.path.open("rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                connection.send(piece)
        connection.send(tail)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def download_digest(server: RunningServer, filename: str) -> str:
    digest = hashlib.sha256()
    with requests.get(
        f"{server.url}/packages/huge/{filename}",
        auth=(server.username, server.password),
        stream=True,
        timeout=600,
    ) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_content(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def test_two_gigabytes_by_twine_and_back_by_pip(server: RunningServer, large: Large, tmp_path: Path) -> None:
    def run(*command: str | Path) -> None:
        answer = subprocess.run(
            [sys.executable, "-m", *command],
            env=bare_environment(tmp_path / "home", {"TMPDIR": str(tmp_path)}),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr

    twine = ("twine", "upload", "--non-interactive", "--disable-progress-bar", "--repository-url")
    credentials = ("-u", server.username, "-p", server.password)
    begun = time.monotonic()
    run(*twine, f"{server.url}/legacy/", *credentials, large.path)
    assert_memory_is_small(server, "twine upload of 2 GB", since=begun)
    assert server.listing("huge") == {large.path.name: large.sha256}

    begun = time.monotonic()
    status, text = upload_by_stream(server, large)
    assert (status, "nothing has changed" in text) == (200, True)
    assert_memory_is_small(server, "the same 2 GB again", since=begun)
    assert server.listing("huge") == {large.path.name: large.sha256}

    begun = time.monotonic()
    run("pip", "download", "--no-deps", "--no-cache-dir", "--dest", tmp_path, "--index-url", server.index_url, "huge")
    downloaded = tmp_path / large.path.name
    assert downloaded.stat().st_size == large.path.stat().st_size
    downloaded.unlink()
    assert_memory_is_small(server, "pip download of 2 GB", since=begun)


def test_two_gigabytes_by_stream_and_back(server: RunningServer, large: Large) -> None:
    begun = time.monotonic()
    status, text = upload_by_stream(server, large)
    assert (status, "stored" in text) == (200, True)
    assert_memory_is_small(server, "streamed upload of 2 GB", since=begun)
    assert server.listing("huge") == {large.path.name: large.sha256}

    begun = time.monotonic()
    assert download_digest(server, large.path.name) == large.sha256
    assert_memory_is_small(server, "streamed download of 2 GB", since=begun)

    size = large.path.stat().st_size
    with large.path.open("rb") as stream:
        for asked, start, stop in (
            ("bytes=0-99", 0, 100),
            ("bytes=-100", size - 100, size),
            (f"bytes={2**31 - 50}-{2**31 + 49}", 2**31 - 50, 2**31 + 50),
            (f"bytes={size - 7}-", size - 7, size),
        ):
            answer = server.fetch(f"/packages/huge/{large.path.name}", headers={"Range": asked})
            stream.seek(start)
            assert (answer.status_code, answer.content) == (206, stream.read(stop - start)), asked
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert server.fetch(f"/packages/huge/{large.path.name}", headers={"Range": f"bytes={size}-"}).status_code == 416
    assert_memory_is_small(server, "ranges")


def test_readers_that_stall_cost_no_memory(server: RunningServer, large: Large) -> None:
    assert upload_by_stream(server, large)[0] == 200
    pair = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
    request = (
        f"GET /packages/huge/{large.path.name} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n\r\n".encode()
    )
    with ExitStack() as stack:
        for _ in range(STALLED_READERS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        # Whoever reads ahead for them has read gigabytes before one client that does not stall has got its own.
        assert download_digest(server, large.path.name) == large.sha256
        assert_memory_is_small(server, f"{STALLED_READERS} stalled readers and one that is not")
        assert server.fetch("/simple/huge/").status_code == 200
    wait_for(lambda: server.fetch("/simple/huge/").status_code, lambda status: status == 200)


def test_several_large_uploads_at_once(server: RunningServer, tmp_path: Path) -> None:
    wheels = [make_large_wheel(tmp_path, f"large{number}", payload_bytes=200 * CHUNK_BYTES) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda wheel: upload_by_stream(server, wheel)[0], wheels))
    assert answers == [200] * 8
    for number, wheel in enumerate(wheels):
        assert server.listing(f"large{number}") == {wheel.path.name: wheel.sha256}
        wheel.path.unlink()
    assert_memory_is_small(server, "eight uploads of 200 MB at once")


def test_what_has_been_dropped_is_indexed_in_constant_memory(server: RunningServer, large: Large) -> None:
    place = server.files / large.path.name
    begun = time.monotonic()
    place.hardlink_to(large.path)
    wait_for(lambda: server.listing("huge"), bool, seconds=120)
    assert server.listing("huge") == {large.path.name: large.sha256}
    assert_memory_is_small(server, "2 GB dropped", since=begun)
