"""What we want of the numbers, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.results import Results, is_full_page, is_full_root, is_revalidation
from bench.scenarios import Scenario

_PUBLISH_MILLISECONDS = 5.0
_FLAT = 1.5  # between the smallest index and the largest


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and what came of it."""

    goal: str
    measured: str
    met: bool


def outcomes(results: Results) -> Iterator[Outcome]:
    """Yield the goals of which this run has measured both sides."""
    yield from _at_least(results, "a project page of any size: ten times proxpi", "proxpi", is_full_page, 10)
    yield from _at_least(results, "a project page of any size: half of nginx", "nginx", is_full_page, 0.5)
    yield from _at_least(results, "304: half of nginx", "nginx", is_revalidation, 0.5)
    root = f"the root of {results.sizes.projects:,} projects: five times proxpi"
    yield from _at_least(results, root, "proxpi", is_full_root, 5)
    yield from _processor(results)
    yield from _memory(results)
    yield from _publishing(results)


def _at_least(
    results: Results, goal: str, server: str, choose: Callable[[Scenario], bool], wanted: float
) -> Iterator[Outcome]:
    ratios = results.ratios(server, choose)
    if ratios:
        worst = min(ratios, key=lambda label: ratios[label])
        best = max(ratios.values())
        yield Outcome(goal, f"{format_ratio(ratios[worst])} ({worst}) to {format_ratio(best)}", ratios[worst] >= wanted)


def _processor(results: Results) -> Iterator[Outcome]:
    ratios = results.ratios("proxpi", is_full_page, "processor")
    if ratios:
        worst = max(ratios, key=lambda label: ratios[label])
        goal = "processor per request for a project page: at most a tenth of proxpi's"
        yield Outcome(
            goal,
            f"{format_ratio(ratios[worst])} ({worst}) to {format_ratio(min(ratios.values()))}",
            ratios[worst] <= 0.1,
        )


def _memory(results: Results) -> Iterator[Outcome]:
    if {"elasticpypi", "proxpi"} <= results.memory.keys():
        ours, theirs = (results.memory[name] / 1e6 for name in ("elasticpypi", "proxpi"))
        goal = f"memory with {results.index_files:,} files: below proxpi's"
        yield Outcome(goal, f"{ours:.0f} MB, proxpi {theirs:.0f} MB", ours < theirs)


def _publishing(results: Results) -> Iterator[Outcome]:
    medians = {
        each.files: each.median for each in results.published if each.server == "elasticpypi" and not each.dropped
    }
    if medians:
        goal = f"publish until visible: under {_PUBLISH_MILLISECONDS:.0f} ms"
        slowest = max(medians.values())
        yield Outcome(goal, f"{slowest:.1f} ms at most", slowest < _PUBLISH_MILLISECONDS)
        growth = medians[max(medians)] / medians[min(medians)]
        goal = f"and flat from {min(medians):,} to {max(medians):,} files"
        yield Outcome(goal, f"{growth:.2f} times as long (up to {_FLAT} counts as flat)", growth <= _FLAT)


def format_ratio(ratio: float) -> str:
    """Return a ratio with two digits that mean something."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
