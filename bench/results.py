"""What one run of the benchmark has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.indexes import SyncTimes
from bench.load import Load
from bench.publish import Published
from bench.scenarios import Scenario, Sizes, Target


@dataclass(slots=True)
class Results:
    """Numbers by scenario and server; a server that cannot do a thing is missing there."""

    sizes: Sizes
    loads: dict[Scenario, dict[str, Load]] = field(default_factory=dict)
    uploads: dict[str, Load] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes, with the main index and after the load
    starts: dict[str, float] = field(default_factory=dict)  # seconds until the first page
    published: list[Published] = field(default_factory=list)
    sync: SyncTimes | None = None
    skipped: list[str] = field(default_factory=list)  # sentences
    load_average: float = 0  # of the machine, before it began

    @property
    def index_files(self) -> int:
        """The number of files in the main index."""
        return self.sizes.projects - len(self.sizes.pages) + sum(self.sizes.pages)

    def ratios(self, server: str, choose: Callable[[Scenario], bool], number: str = "rate") -> dict[str, float]:
        """Return our number divided by that of another server, by scenario."""
        return {
            scenario.label: getattr(loads["elasticpypi"], number) / getattr(loads[server], number)
            for scenario, loads in self.loads.items()
            if choose(scenario) and server in loads and "elasticpypi" in loads and getattr(loads[server], number)
        }


def is_full_page(scenario: Scenario) -> bool:
    """Whether a project's page is sent as a whole."""
    return scenario.target is Target.PAGE and not scenario.conditional


def is_full_root(scenario: Scenario) -> bool:
    """Whether the list of projects is sent as a whole."""
    return scenario.target is Target.ROOT and not scenario.conditional


def is_revalidation(scenario: Scenario) -> bool:
    """Whether the answer is 304."""
    return scenario.conditional
