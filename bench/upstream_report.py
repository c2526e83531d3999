"""The report of the benchmark of upstreams: docs/benchmarks-upstream.md."""

from __future__ import annotations

import importlib.metadata
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.goals import Outcome, format_ratio
from bench.load import CONNECTIONS, Load, format_rate
from bench.report import table, versions
from bench.resolving import Installer

_MOST = 1.5  # times as long as from the upstream itself


class Way(StrEnum):
    """What is asked for the upstream's projects."""

    ITSELF = "the upstream itself"
    PROXY = "elasticpypi"
    KEEP = "elasticpypi, `keep`"
    PROXPI = "proxpi"


@dataclass(frozen=True, slots=True)
class Case:
    """What everybody is resolved from with, again and again."""

    label: str
    installer: Installer
    rounds: int
    rest_seconds: float = 0  # before each round


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    projects: int = 60
    releases: tuple[int, ...] = (20, 35, 60, 100, 200)  # of the projects, in turns
    cases: tuple[Case, ...] = (
        Case("uv", Installer.UV, 30),
        Case("pip", Installer.PIP, 6),
        Case("uv, after a minute", Installer.UV, 3, rest_seconds=61),
    )
    load_rounds: int = 3
    seconds: float = 2  # of load, in each round


@dataclass(frozen=True, slots=True)
class Resolved:
    """What resolving has taken by one way, in all rounds."""

    seconds: tuple[float, ...]
    processor: float  # seconds for each resolve, of the server that is asked
    behind: float  # likewise of the upstream behind it


@dataclass(frozen=True, slots=True)
class Behind:
    """What was found with one upstream."""

    upstream: str
    files: str  # a sentence about where its files come from
    first: Mapping[Way, float]  # seconds that uv has taken while nothing was cached
    resolved: Mapping[str, Mapping[Way, Resolved]]  # by the label of the case
    loads: Mapping[str, Mapping[Way, Load]]  # by what was asked for; none where there is nothing to make load with

    def ratios(self, label: str, way: Way) -> list[float]:
        """Return, round by round, how many times as long it took as from the upstream itself."""
        found = self.resolved[label]
        pairs = zip(found[way].seconds, found[Way.ITSELF].seconds, strict=True)
        return [seconds / itself for seconds, itself in pairs]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything."""

    sizes: Sizes
    files: int
    load_average: float
    found: Sequence[Behind]


def markdown(measured: Measured) -> str:
    """Return the report."""
    sizes = measured.sizes
    goals = [(each.goal, each.measured, "yes" if each.met else "**no**") for each in outcomes(measured)]
    return f"""\
# Benchmarks of upstreams

Written by `make bench` (`python -m bench.upstream`), on {time.strftime("%Y-%m-%d")}. Clients and servers run on one
machine ({os.cpu_count()} cores, load average {measured.load_average:.1f} before it began), where an upstream is as near
as it can be: one that is an ocean away hides what is measured here. Other machines have other numbers: read the ratios.

Who takes part: {", ".join(_participants())}.

An upstream has {measured.files:,} wheels of {sizes.projects} projects, {min(sizes.releases)} to {max(sizes.releases)}
of each, with core metadata of 4 kB. The first project depends on ten, and these on the others in chains, so that a
resolver needs every page and the core metadata of every newest release. Everybody resolves it by turns, the order
turned round each time, with `uv pip compile` and `pip install --dry-run`, which begin with an empty cache. A ratio
compares two resolves of the same round.

- **elasticpypi** is an index of ours with the upstream as `"mode": "proxy"`; **`keep`** is one that keeps files as well
  and has them. Both check credentials and write an access log.
- **proxpi**: under gunicorn with two threads, as its own image has it.

All of them have installed the project once before they are measured, so that what they cache is there; the goals are
for that. We believe a page for a minute where upstream does not say that it may be longer, as these do not: "after a
minute" is a resolve for which each page has to be asked for again. proxpi believes its pages for half an hour.

## Goals

{table(("Goal", "Measured", "Met"), goals)}
{"".join(_section(each, sizes) for each in measured.found)}"""


def outcomes(measured: Measured) -> Iterator[Outcome]:
    """Yield the goals and what came of them."""
    goals = {
        Way.PROXY: f"a resolve through `proxy`: at most {_MOST} times as long as from the upstream itself",
        Way.KEEP: "and with `keep`",
    }
    for way, goal in goals.items():
        medians = {
            f"{case.label}, {behind.upstream}": statistics.median(behind.ratios(case.label, way))
            for behind in measured.found
            for case in measured.sizes.cases
            if not case.rest_seconds
        }
        texts = (f"{median:.2f} ({name})" for name, median in medians.items())
        yield Outcome(goal, "; ".join(texts), max(medians.values()) <= _MOST)


def _participants() -> Iterator[str]:
    yield from versions(("proxpi", "gunicorn"))
    for name in ("uv", "pip"):
        yield f"{name} {importlib.metadata.version(name)}"


def _section(behind: Behind, sizes: Sizes) -> str:
    rounds = "; ".join(f"{case.label}: {case.rounds}" for case in sizes.cases)
    first = ", ".join(f"{way} {seconds * 1e3:,.0f} ms" for way, seconds in behind.first.items())
    return f"""
## Upstream: {behind.upstream}

{behind.files}

Rounds: {rounds}.
Times are medians, the quartiles are those of the ratios; the processor's time is the mean, of all processes of a
server.

{table(_RESOLVES, _resolves(behind))}

The first resolve with uv, once, while nothing was cached: {first}.
{_loads(behind, sizes)}"""


_RESOLVES = ("With", "from", "time", "times the upstream itself", "quartiles", "processor", "the upstream's behind it")


def _resolves(behind: Behind) -> Iterator[Sequence[str]]:
    for label, found in behind.resolved.items():
        for way, each in found.items():
            ratios = behind.ratios(label, way)
            lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
            yield (
                label if way is Way.ITSELF else "",
                way,
                f"{statistics.median(each.seconds) * 1e3:,.0f} ms",
                f"{median:.2f}",
                f"{lower:.2f} to {upper:.2f}",
                f"{each.processor * 1e3:,.0f} ms",
                "" if way is Way.ITSELF else f"{each.behind * 1e3:,.0f} ms",
            )


def _loads(behind: Behind, sizes: Sizes) -> str:
    if not behind.loads:
        return ""
    return f"""
A page, by itself: {CONNECTIONS} connections, {sizes.load_rounds} rounds of {sizes.seconds:g} s by turns; medians.

{table(_LOADS, _load_rows(behind))}
"""


_LOADS = ("Asked for", "of", "requests/s", "p50", "p99", "processor", "times the upstream's rate", "times proxpi's")


def _load_rows(behind: Behind) -> Iterator[Sequence[str]]:
    for label, loads in behind.loads.items():
        for way, load in loads.items():
            proxpi = loads.get(Way.PROXPI)
            yield (
                label if way is Way.ITSELF else "",
                way,
                format_rate(load.rate),
                f"{load.p50:,.2f} ms",
                f"{load.p99:,.2f} ms",
                f"{load.processor:,.0f} µs",
                format_ratio(load.rate / loads[Way.ITSELF].rate),
                "" if proxpi is None else format_ratio(load.rate / proxpi.rate),
            )
