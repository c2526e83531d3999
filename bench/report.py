"""The report of a run: docs/benchmarks.md, with the chart beside it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import elasticpypi
from bench.chart import draw
from bench.contestants import KINDS, PEERS, find_nginx
from bench.goals import format_ratio, outcomes
from bench.load import CONNECTIONS, Load, format_rate
from bench.publish import Published
from bench.results import Results

NOTES = Path(__file__).with_name("notes.md")


def write_report(results: Results, directory: Path) -> None:
    """Write benchmarks.md and benchmarks.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "benchmarks.svg").write_text(draw(results.loads))
    (directory / "benchmarks.md").write_text(markdown(results))


def markdown(results: Results) -> str:
    """Return the report."""
    parts = [
        _introduction(results),
        _goals(results),
        _loads(results),
        _uploads(results),
        _starts(results),
        _publishing(results),
        _sync(results),
        NOTES.read_text(),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts if part)


def _introduction(results: Results) -> str:
    sizes = results.sizes
    skipped = "".join(f"\n**{sentence}**\n" for sentence in results.skipped)
    return f"""\
# Benchmarks

Written by `make bench` (`python -m bench.peers`), on {time.strftime("%Y-%m-%d")}. All servers run at the same time on
one machine ({os.cpu_count()} cores, which clients and servers share; load average {results.load_average:.1f} before it
began) and are asked in turns, {sizes.rounds} rounds of {sizes.seconds:g} s each; every number is a median. Other
machines have other numbers: read the ratios.
{skipped}
Who takes part, as pinned in `requirements*.txt` and `peers-requirements.txt`: {", ".join(versions())}.

- **elasticpypi**: `elasticpypi serve` as it comes, one process, SQLite and a directory. Every request bears
  credentials, which are checked. It is the only one here of which that is so.
- **nginx**: one process, static files: the very bytes that elasticpypi answers, also compressed beforehand.
- **floor**: the least that a page could cost us: the same granian with a callable of a few lines that finds the
  credentials and the same bytes in dictionaries.
- **proxpi**: under gunicorn with two threads, as its own image has it; elasticpypi is its upstream, its cache is warm.
- **pypiserver**: with its cache, under gunicorn, where it is fastest. It looks through all its files for each answer,
  so it is given only the directory of the project that is asked for; for its start, its memory (without load) and for
  publishing, one directory with everything. No JSON, no compression.

The index as static files, beside dumb-pypi, is in [benchmarks-static.md](benchmarks-static.md); with another index
behind it, in [benchmarks-upstream.md](benchmarks-upstream.md); cold starts and costs on AWS are in
[benchmarks-aws.md](benchmarks-aws.md).

proxpi and pypiserver answer an unchanged page in full; only elasticpypi and nginx say 304.

![Requests per second by scenario and server](benchmarks.svg)
"""


def versions(peers: Sequence[str] = ("proxpi", "pypiserver", "gunicorn")) -> Iterator[str]:
    """Yield what takes part, each with its version."""
    yield f"elasticpypi {elasticpypi.__version__} with granian {importlib.metadata.version('granian')}"
    yield f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if nginx := find_nginx():
        text = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
        yield text.strip().rpartition(" ")[2].replace("/", " ")
    if (PEERS / "python").exists():
        ours = [sys.executable, "-m", "pip", "--python", str(PEERS / "python"), "--disable-pip-version-check"]
        command = [*ours, "list", "--format", "freeze"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        installed = dict(line.split("==") for line in text.splitlines() if line.count("==") == 1)
        yield from (f"{name} {installed[name]}" for name in peers)


def _goals(results: Results) -> str:
    rows = [(each.goal, each.measured, "yes" if each.met else "**no**") for each in outcomes(results)]
    return _section("Goals", table(("Goal, as a ratio of elasticpypi to the other", "Measured", "Met"), rows))


def _loads(results: Results) -> str:
    """One row for each scenario and server; ratios are elasticpypi's rate divided by the other's."""
    rows = []
    for scenario, loads in results.loads.items():
        ours = loads["elasticpypi"]
        for name, load in loads.items():
            label = scenario.label if name == "elasticpypi" else ""
            rows.append((label, name, *_cells(load), format_ratio(ours.rate / load.rate)))
    head = ("Asked for", "of", "requests/s", "p50", "p99", "processor per request", "elasticpypi is … times as fast")
    index = f"{results.index_files:,} files in {results.sizes.projects:,} projects"
    text = f"{CONNECTIONS} connections; the index has {index}."
    return _section("Pages and downloads", text, table(head, rows))


def _cells(load: Load) -> tuple[str, ...]:
    return (
        format_rate(load.rate),
        f"{load.p50:,.2f} ms",
        f"{load.p99:,.2f} ms",
        f"{load.processor:,.0f} µs",
    )


def _uploads(results: Results) -> str:
    rows = [(name, *_cells(load)) for name, load in results.uploads.items()]
    head = ("To", "uploads/s", "p50", "p99", "processor per upload")
    text = "Small wheels (20 kB), one after the other on one connection. elasticpypi checks, hashes and indexes each."
    return _section("Uploads", text, table(head, rows))


def _starts(results: Results) -> str:
    names = [kind.name for kind in KINDS if kind.name in {*results.starts, *results.memory}]
    rows = [
        (
            name,
            f"{results.starts[name] * 1e3:,.0f} ms" if name in results.starts else "",
            f"{results.memory[name] / 1e6:,.0f} MB" if name in results.memory else "",
        )
        for name in names
    ]
    head = ("Of", "start until the first page", "memory after the load")
    text = f"With the index of {results.index_files:,} files; pages that processes share count once."
    return _section("Cold start and memory", text, table(head, rows))


def _publishing(results: Results) -> str:
    rows = [_publishing_row(each) for each in results.published]
    head = ("To", "", "files in the index", "median", "p99", "median after the answer", "times")
    text = (
        "From the first byte of the upload until the project's page names the file, whose project has one other file. "
        "A dropped file is copied into the directory. pypiserver sees those only under its own server."
    )
    return _section("Publish until visible", text, table(head, rows))


def _publishing_row(each: Published) -> Sequence[str]:
    milliseconds = (f"{value:,.1f} ms" for value in (each.median, each.p99, each.median_from_answer))
    return (
        each.server,
        "dropped" if each.dropped else "posted",
        f"{each.files:,}",
        *milliseconds,
        str(len(each.times)),
    )


def _sync(results: Results) -> str:
    if results.sync is None:
        return ""
    files, first, again = results.sync.files, results.sync.first_seconds, results.sync.again_seconds
    text = (
        f"`elasticpypi sync` of {files:,} small wheels: {first:.1f} s, {files / first:,.0f} per second; "
        f"again when nothing had changed: {again:.1f} s."
    )
    return f"## Sync\n\n{text}\n"


def _section(title: str, *texts: str) -> str:
    return "" if not texts[-1] else "\n\n".join([f"## {title}", *texts]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; nothing where there are no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]) if lines else ""
