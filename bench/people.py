"""Measure what people add: what a token costs pip beside a password, and how fast pages and search are.

python -m bench.people            # 100,000 projects; writes docs/benchmarks-people.md
python -m bench.people --quick    # a few, printed
"""

from __future__ import annotations

import argparse
import base64
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import CREDENTIALS, Server, elasticpypi
from bench.indexes import add_small_projects, environment, small_project, sync
from bench.load import CONNECTIONS, Load, format_rate, has_wrk, measure_load, median_load
from bench.processes import wait_until_idle
from bench.wheels import add_wheels

ROOT = Path(__file__).parent.parent
_PROJECT, _FILES = "page-10", 10
_MANY, _MANY_FILES = "page-100", 100
_GOAL = 0.95  # of the rate that a password has
_JSON = "application/vnd.pypi.simple.v1+json"
_BROWSER = "text/html,application/xhtml+xml"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    projects: int = 100_000
    rounds: int = 7
    seconds: float = 4.0  # of load in each round
    searches: int = 30


QUICK = Sizes(projects=50, rounds=1, seconds=1.0, searches=3)


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a page takes that people look at."""

    what: str
    milliseconds: float  # median
    size: int  # bytes of the last answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few projects, and the result is printed")
    quick = parser.parse_args(arguments).quick
    if not has_wrk():
        print("wrk is not there: what a token costs is not measured (apt install wrk)", file=sys.stderr)
    report = measure(QUICK if quick else Sizes())
    print(report)
    if not quick:
        (ROOT / "docs" / "benchmarks-people.md").write_text(report)


def measure(sizes: Sizes) -> str:
    """Fill an index, serve it, and return the report."""
    with tempfile.TemporaryDirectory(prefix="elasticpypi-bench-") as name:
        work = Path(name)
        data = work / "data"
        add_wheels(data / "files" / _PROJECT, _PROJECT, _FILES)
        add_wheels(data / "files" / _MANY, _MANY, _MANY_FILES)
        add_small_projects(data, sizes.projects)
        time.sleep(1.5)  # until the last file is settled
        sync(data)
        token = _make_token(data)
        with elasticpypi(data, f"/simple/{_PROJECT}/", work) as server:
            wait_until_idle(server.main.pid)
            loads = _compare(server, token, sizes) if has_wrk() else None
            timed = _time_pages(server, sizes)
    return _report(sizes, loads, timed)


def _make_token(data: Path) -> str:
    command = [sys.executable, "-m", "elasticpypi", "token", "create", "bench", "--data", str(data)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _compare(server: Server, token: str, sizes: Sizes) -> tuple[Load, Load]:
    """Load a page by turns with a password and with a token."""
    by_token = {"Authorization": "Basic " + base64.b64encode(f"__token__:{token}".encode()).decode()}
    taken: tuple[list[Load], list[Load]] = ([], [])
    url = f"{server.url}/simple/{_PROJECT}/"
    for _ in range(sizes.rounds):
        for loads, headers in zip(taken, (CREDENTIALS, by_token), strict=True):
            asked = {**headers, "Accept": _JSON, "Accept-Encoding": "gzip"}
            loads.append(measure_load(server.main.pid, url, asked, sizes.seconds))
    return median_load(taken[0]), median_load(taken[1])


def _time_pages(server: Server, sizes: Sizes) -> list[Timed]:
    """Ask for pages one after the other, as a person does."""
    last = small_project(sizes.projects - 1)
    paths: list[tuple[str, Callable[[int], str]]] = [
        ("the list of projects", lambda _: "/"),
        ("search for a part of all names", lambda _: "/search?q=project"),
        ("search for a part of a few names", lambda number: f"/search?q={number % 100:02}99"),
        ("search for what there is not", lambda number: f"/search?q=none{number}"),
        ("a project of one file", lambda _: f"/project/{last}/"),
        (f"a project of {_MANY_FILES} releases", lambda _: f"/project/{_MANY}/"),
        ("the feed of all", lambda _: "/feed.xml"),
    ]
    return [_time(server, what, path, sizes.searches) for what, path in paths]


def _time(server: Server, what: str, path: Callable[[int], str], times: int) -> Timed:
    taken, size = [], 0
    for number in range(times):
        began = time.perf_counter()
        status, _, body = server.fetch(path(number), {"Accept": _BROWSER})
        taken.append((time.perf_counter() - began) * 1000)
        size = len(body)
        if status != 200:
            raise RuntimeError(f"{path(number)}: {status}")
    return Timed(what, statistics.median(taken), size)


def _report(sizes: Sizes, loads: tuple[Load, Load] | None, timed: Sequence[Timed]) -> str:
    lines = [
        "# Benchmarks of what people add",
        "",
        "Made by `python -m bench.people`, on the machine and in the minute in which it ran; only ratios last.",
        "",
    ]
    if loads is not None:
        password, token = loads
        ratio = token.rate / password.rate
        lines += [
            "## A token beside a password",
            "",
            f"A page of {_FILES} files as JSON, compressed, {CONNECTIONS} connections, by turns in {sizes.rounds} "
            f"rounds of {sizes.seconds:.0f} s; medians. The goal is {_GOAL}.",
            "",
            "| credentials | requests per second | ms, median | ms, 99 % | µs of processor per request |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {format_rate(load.rate)} | {load.p50:.2f} | {load.p99:.2f} | {load.processor:.1f} |"
                for name, load in (("a password, checked before", password), ("a token", token))
            ),
            "",
            f"Ratio of the rates: {ratio:.3f}, of the processor time: {token.processor / password.processor:.3f}. "
            f"Goal {'met' if ratio >= _GOAL else '**missed**'}.",
            "",
        ]
    lines += [
        f"## Pages, in an index of {sizes.projects:,} projects",
        "",
        f"One request after the other, each on a connection of its own, {sizes.searches} times.",
        "",
        "| page | ms, median | bytes |",
        "|---|---|---|",
        *(f"| {each.what} | {each.milliseconds:.1f} | {each.size:,} |" for each in timed),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
