"""The very bytes that our server answers, as static files for nginx; and that every server answers what is asked."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from bench.contestants import NGINX, OURS, Server
from bench.scenarios import Scenario, Target


def copy_pages(ours: Server, asked: Iterable[Scenario], root: Path) -> None:
    """Write each answer where nginx looks for it, the compressed ones beside the others."""
    for scenario in asked:
        source, path = OURS.path(scenario), NGINX.path(scenario)
        if source is None or path is None or scenario.conditional or scenario.target is Target.FILE:
            continue
        body = ours.fetch(source, scenario.accepts())[2]
        directory = root / "metadata" if scenario.target is Target.CORE_METADATA else root
        target = directory / path.removeprefix("/files/").removeprefix("/")
        target = target.with_name(target.name + ".gz") if scenario.gzipped else target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)


def request_headers(server: Server, scenario: Scenario) -> dict[str, str]:
    """Return the headers of a request, after a look at the answer: RuntimeError if it is not what was asked for."""
    path = server.kind.path(scenario)
    headers = {**server.kind.headers, **scenario.accepts()}
    status, answered, body = server.fetch(path or "/", headers)
    _check(server, scenario, status, answered.get("Content-Encoding"), body)
    if scenario.conditional:
        headers["If-None-Match"] = answered["ETag"]
        status, _, body = server.fetch(path or "/", headers)
        if status != 304 or body:
            raise RuntimeError(f"{server.kind.name}, {scenario.label}: {status}")
    return headers


def _check(server: Server, scenario: Scenario, status: int, encoding: str | None, body: bytes) -> None:
    if status != 200 or not body:
        raise RuntimeError(f"{server.kind.name}, {scenario.label}: {status}")
    if (encoding == "gzip") != scenario.gzipped:
        raise RuntimeError(f"{server.kind.name}, {scenario.label}: Content-Encoding is {encoding}")
    plain = gzip.decompress(body) if scenario.gzipped else body
    name = scenario.project.replace("-", "_").encode()  # as in the filenames
    if scenario.target is Target.PAGE and plain.count(name) < int(scenario.project.rpartition("-")[2]):
        raise RuntimeError(f"{server.kind.name}, {scenario.label}: the page does not name all files")
