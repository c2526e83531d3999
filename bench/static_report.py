"""The report of the static site's benchmark: docs/benchmarks-static.md."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.goals import Outcome, format_ratio
from bench.static_inputs import FILES_A_PROJECT
from bench.used import Used

OURS = "elasticpypi"
DUMB_PYPI = "dumb-pypi"
OF_INDEX = "elasticpypi, from its index"
EVENT = "elasticpypi, an event"
BUILD = "full build"
_FASTER_BUILD = 3
_FASTER_EVENT = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: Mapping[int, int] = field(default_factory=lambda: {1_000: 5, 10_000: 3, 100_000: 1})  # by number of files
    events: int = 20


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one of them has used for a full build, or for one more file."""

    what: str  # BUILD, or "" for one more file
    name: str
    files: int  # in the index before
    used: Used  # no memory where it is this process that was measured
    written_files: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything."""

    sizes: Sizes
    load_average: float
    found: Sequence[Measurement]

    def find(self, what: str, name: str, files: int) -> Measurement:
        """Return a measurement."""
        return next(each for each in self.found if (each.what, each.name, each.files) == (what, name, files))


def markdown(measured: Measured) -> str:
    """Return the report."""
    return f"""\
# Benchmarks of the static site

Written by `make bench` (`python -m bench.static_site`), on {time.strftime("%Y-%m-%d")}, with dumb-pypi 1.15.0 as
`peers-requirements.txt` has it, on a machine with {os.cpu_count()} cores (load average {measured.load_average:.1f}
before it began). Both run in turns on the same `--package-list-json` of {FILES_A_PROJECT} files a project: wheel and
sdist of each of {FILES_A_PROJECT // 2} releases. Numbers are medians of {_runs(measured.sizes)}, and of
{measured.sizes.events} events each. Other machines have other numbers: read the ratios.

"Times as fast" compares the processor's time, user and system, which is what a core has to do; memory is the largest
process at its highest.

elasticpypi writes more: pages in JSON (PEP 691) beside those in HTML, project pages for people, an Atom feed.

## Goals

{_table(("Goal", "Measured", "Met"), _goal_rows(measured))}

## Full builds

{_table(_HEAD, _rows(measured, BUILD, (DUMB_PYPI, OURS, OF_INDEX)))}

## One more file

In a project that is there. dumb-pypi and `elasticpypi build` are given the list with one line more, and the previous
one. From its own index, `elasticpypi build` finds by itself what has changed. An event, what a function on AWS does
when an object has come, indexes the file (here in SQLite and a directory) and brings its project's pages up to date,
in a process that runs already; dumb-pypi's only way is its whole run.

{_table(_HEAD, _rows(measured, "", (DUMB_PYPI, OURS, OF_INDEX, EVENT)))}
"""


_HEAD = ("Files", "by", "processor", "time", "memory", "files written", "bytes written", "times as fast as dumb-pypi")


def outcomes(measured: Measured) -> Iterator[Outcome]:
    """Yield the goals and what came of them."""
    sizes = list(measured.sizes.rounds)
    ratios = [_ratio(measured, BUILD, OURS, files) for files in sizes]
    yield Outcome(
        f"a full build: at least {_FASTER_BUILD} times as fast, per core, as dumb-pypi",
        _each(sizes, map(format_ratio, ratios)),
        min(ratios) >= _FASTER_BUILD,
    )
    pairs = [[measured.find(BUILD, name, files).used.memory / 1e6 for name in (OURS, DUMB_PYPI)] for files in sizes]
    yield Outcome(
        "and less memory than dumb-pypi",
        _each(sizes, (f"{ours:.0f} MB, dumb-pypi {theirs:.0f} MB" for ours, theirs in pairs)),
        all(ours < theirs for ours, theirs in pairs),
    )
    ratio = _ratio(measured, "", EVENT, max(sizes))
    yield Outcome(
        f"one more file among {max(sizes):,}: an event at least {_FASTER_EVENT} times as fast as dumb-pypi",
        format_ratio(ratio),
        ratio >= _FASTER_EVENT,
    )


def _runs(sizes: Sizes) -> str:
    return ", ".join(
        f"{rounds} run{'s' if rounds > 1 else ''} with {files:,} files" for files, rounds in sizes.rounds.items()
    )


def _goal_rows(measured: Measured) -> Iterator[Sequence[str]]:
    for each in outcomes(measured):
        yield each.goal, each.measured, "yes" if each.met else "**no**"


def _each(sizes: Sequence[int], texts: Iterator[str]) -> str:
    return "; ".join(f"{text} ({files:,} files)" for files, text in zip(sizes, texts, strict=True))


def _ratio(measured: Measured, what: str, name: str, files: int) -> float:
    theirs, ours = (measured.find(what, each, files).used.processor for each in (DUMB_PYPI, name))
    return theirs / ours


def _rows(measured: Measured, what: str, names: Sequence[str]) -> Iterator[Sequence[str]]:
    for files in measured.sizes.rounds:
        for name in names:
            found = measured.find(what, name, files)
            used = found.used
            yield (
                f"{files:,}" if name == names[0] else "",
                name,
                _seconds(used.processor),
                _seconds(used.wall),
                f"{used.memory / 1e6:.0f} MB" if used.memory else "",
                f"{found.written_files:,}",
                f"{found.written_bytes / 1e6:,.1f} MB",
                "" if name == DUMB_PYPI else format_ratio(_ratio(measured, what, name, files)),
            )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])
