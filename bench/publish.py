"""Publishing: how fast uploads are taken, and how soon a reader sees what was published."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.contestants import OURS, Server
from bench.load import Load
from bench.processes import process_tree, processor_seconds
from bench.scenarios import JSON
from bench.wheels import wheel_file, wheel_name

_BOUNDARY = "between-the-parts"
_PATIENCE_SECONDS = 60.0
_SPENT_SECONDS = 20.0  # on the publications to one server: the slow ones are measured fewer times
_UPLOAD_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Publication:
    """How many milliseconds it took until the page named the new file."""

    from_first_byte: float
    from_answer: float


@dataclass(frozen=True, slots=True)
class Published:
    """Publications to one server."""

    server: str
    files: int  # in the index before
    dropped: bool  # into the directory, and not posted
    times: tuple[Publication, ...]

    def joined(self, other: Published) -> Published:
        """Return these publications and others to the same server."""
        return replace(self, times=self.times + other.times)

    @property
    def median(self) -> float:
        """Milliseconds from the first byte of the upload until the page names the file."""
        return statistics.median(each.from_first_byte for each in self.times)

    @property
    def median_from_answer(self) -> float:
        """Milliseconds from the answer to the upload until the page names the file."""
        return statistics.median(each.from_answer for each in self.times)

    @property
    def p99(self) -> float:
        """Of 50, that is the slowest."""
        ordered = sorted(each.from_first_byte for each in self.times)
        return ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]


def make_wheels(directory: Path, projects: list[str], version: str) -> list[Path]:
    """Write a wheel of each project and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / wheel_name(project, version) for project in projects]
    for path in paths:
        wheel_file(path, _UPLOAD_BYTES)
    return paths


def publish_all(server: Server, wheels: list[Path], *, files: int, drop_into: Path | None = None) -> Published:
    """Publish one wheel after the other and look at its project's page until it is there.

    Each goes to a project of its own that has one file. They are posted, or else copied into a directory.
    """
    times = []
    deadline = time.monotonic() + _SPENT_SECONDS
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_SECONDS)) as client:
        _names(client, server, wheels[0])  # the page as it was: the connection is open, caches are warm
        for wheel in wheels:
            times.append(_publish(client, server, wheel, drop_into))
            if time.monotonic() > deadline:
                break
    return Published(server.kind.name, files, drop_into is not None, tuple(times))


def _publish(client: http.client.HTTPConnection, server: Server, wheel: Path, drop_into: Path | None) -> Publication:
    body, headers = _form(wheel)
    began = time.perf_counter()
    if drop_into is None:
        _post(client, server, body, headers)
    else:
        (drop_into / wheel.name).write_bytes(wheel.read_bytes())
    answered = time.perf_counter()
    while not _names(client, server, wheel):
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            raise RuntimeError(f"{server.kind.name} does not list {wheel.name}")
    seen = time.perf_counter()
    return Publication((seen - began) * 1e3, (seen - answered) * 1e3)


def _names(client: http.client.HTTPConnection, server: Server, wheel: Path) -> bool:
    """Whether the page of the wheel's project names it."""
    project = wheel.name.partition("-")[0].replace("_", "-")
    client.request("GET", f"/simple/{project}/", headers={**server.kind.headers, "Accept": JSON})
    response = client.getresponse()
    body = response.read()
    return response.status == 200 and wheel.name.encode() in body


def _post(client: http.client.HTTPConnection, server: Server, body: bytes, headers: dict[str, str]) -> None:
    path = "/legacy/" if server.kind is OURS else "/"
    client.request("POST", path, body, {**server.kind.headers, **headers})
    response = client.getresponse()
    text = response.read()
    if response.status != 200:
        raise RuntimeError(f"{server.kind.name} answers an upload with {response.status}: {text[:500]!r}")


def _form(wheel: Path) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an upload, as clients send them."""
    name, version = wheel.name.split("-")[:2]
    fields = {":action": "file_upload", "protocol_version": "1", "name": name, "version": version}
    fields |= {"metadata_version": "2.1", "filetype": "bdist_wheel", "pyversion": "py3"}
    part = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
    head = "".join(f'{part}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items())
    head += f'{part}"content"; filename="{wheel.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    body = head.encode() + wheel.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


def post_wheels(server: Server, wheels: list[Path]) -> Load:
    """Post one wheel after the other on one connection."""
    durations = []
    forms = [_form(wheel) for wheel in wheels]
    before = processor_seconds(process_tree(server.main.pid))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_SECONDS)) as client:
        for body, headers in forms:
            began = time.perf_counter()
            _post(client, server, body, headers)
            durations.append(time.perf_counter() - began)
    used = processor_seconds(process_tree(server.main.pid)) - before
    centiles = statistics.quantiles(durations, n=100, method="inclusive")
    return Load(len(durations) / sum(durations), centiles[49] * 1e3, centiles[98] * 1e3, used / len(durations) * 1e6)
