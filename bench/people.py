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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    rounds: int = 20
    seconds: float = 2.0  # of load in each round, for each of both
    searches: int = 30


QUICK = Sizes(projects=50, rounds=1, seconds=1.0, searches=3)


@dataclass(frozen=True, slots=True)
class Compared:
    """A page loaded with a password and with a token, by turns; ratios are of the token to the password beside it."""

    password: Load  # medians
    token: Load
    rate: float  # median of the ratios
    processor: float


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
    """Fill indexes, serve them, and return the report."""
    with tempfile.TemporaryDirectory(prefix="elasticpypi-bench-") as name:
        # By itself and first: the disk is busy for a while with the many files of the other.
        compared = _compare(Path(name) / "small", sizes) if has_wrk() else None
        timed = _time_pages(Path(name) / "large", sizes)
    return _report(sizes, compared, timed)


@contextmanager
def _serve(data: Path, *, projects: int) -> Iterator[Server]:
    """Serve an index with two projects of several files, and many of one."""
    add_wheels(data / "files" / _PROJECT, _PROJECT, _FILES)
    add_wheels(data / "files" / _MANY, _MANY, _MANY_FILES)
    add_small_projects(data, projects)
    time.sleep(1.5)  # until the last file is settled
    sync(data)
    with elasticpypi(data, f"/simple/{_PROJECT}/", data) as server:
        wait_until_idle(server.main.pid)
        yield server


def _make_token(data: Path) -> str:
    command = [sys.executable, "-m", "elasticpypi", "token", "create", "bench", "--data", str(data)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _compare(data: Path, sizes: Sizes) -> Compared:
    """Load a page by turns with a password and with a token, each of them first in every other round."""
    with _serve(data, projects=0) as server:
        by_token = base64.b64encode(f"__token__:{_make_token(data)}".encode()).decode()
        asked = [CREDENTIALS, {"Authorization": f"Basic {by_token}"}]
        taken: list[list[Load]] = [[], []]
        for number in range(sizes.rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                headers = {**asked[which], "Accept": _JSON, "Accept-Encoding": "gzip"}
                url = f"{server.url}/simple/{_PROJECT}/"
                taken[which].append(measure_load(server.main.pid, url, headers, sizes.seconds))
    pairs = list(zip(*taken, strict=True))
    return Compared(
        median_load(taken[0]),
        median_load(taken[1]),
        statistics.median(token.rate / password.rate for password, token in pairs),
        statistics.median(token.processor / password.processor for password, token in pairs),
    )


def _time_pages(data: Path, sizes: Sizes) -> list[Timed]:
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
    with _serve(data, projects=sizes.projects) as server:
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


def _report(sizes: Sizes, compared: Compared | None, timed: Sequence[Timed]) -> str:
    lines = [
        "# Benchmarks of what people add",
        "",
        "Made by `python -m bench.people`, on the machine and in the minute in which it ran; only ratios last.",
        "",
    ]
    if compared is not None:
        lines += [
            "## A token beside a password",
            "",
            f"A page of {_FILES} files as JSON, compressed, {CONNECTIONS} connections, by turns in {sizes.rounds} "
            f"rounds of {sizes.seconds:.0f} s for each; medians. The goal is {_GOAL} of the rate.",
            "",
            "| credentials | requests per second | ms, median | ms, 99 % | µs of processor per request |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {format_rate(load.rate)} | {load.p50:.2f} | {load.p99:.2f} | {load.processor:.1f} |"
                for name, load in (("a password, checked before", compared.password), ("a token", compared.token))
            ),
            "",
            f"Ratio of the rates, median of all rounds: {compared.rate:.3f}; of the processor time: "
            f"{compared.processor:.3f}. Goal {'met' if compared.rate >= _GOAL else '**missed**'}.",
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
