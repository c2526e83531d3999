"""A site kept current: by events, which name projects, and by builds, which compare all of them.

Why it ends as the source has it, whoever else is at work, as long as nobody is killed: each document is written on
condition that it is the one that was looked at while the source was as it was read. Conditions on S3 are about bytes,
which may come a second time; so every run also leaves a mark (`marking`) whose bytes never do. Two runs at the same
project find each other: who comes second sees the first one's mark, who was first sees that his is gone, or that the
page which is written last and bears a serial is another one. Either then trusts nothing that lies there.

Why a reader finds what a page names: core metadata is written before the pages, a project's pages before the lists of
projects, and both are removed after them. That holds at every moment for a project at which one run is at work; where
two meet, one may remove what the other has just found to be there, and writes it again before it ends.

Whoever is killed leaves his mark behind, or the notes of a build that is not complete, and the next run that comes by
looks at all that lies there. Only a stale write of somebody who is killed right after it, while others were at work at
the same project, stays until a build looks at everything.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial

from elasticpypi.names import NormalizedName
from elasticpypi.output import Output
from elasticpypi.static_site import CoreMetadataPlace, SiteOptions, Source
from elasticpypi.static_site.building import Build
from elasticpypi.static_site.changelog import PER_PAGE
from elasticpypi.static_site.keeping import Keeper, SiteReport
from elasticpypi.static_site.lists import are_built
from elasticpypi.static_site.putting import Tally
from elasticpypi.static_site.rounds import Work

__all__ = ["Site", "SiteReport", "wait"]

_PAUSE_SECONDS = 0.05


def wait(attempt: int) -> None:
    """Wait before another attempt, longer each time, and not as long as others do."""
    time.sleep(random.uniform(0, _PAUSE_SECONDS * min(2**attempt, 64)))  # noqa: S311  # nobody guards anything by it


class Site:
    """An index written as files. Methods raise UnavailableError where source or output fail as a whole."""

    def __init__(
        self,
        source: Source,
        output: Output,
        options: SiteOptions,
        *,
        beside: Output | None = None,
        per_page: int = PER_PAGE,
        pause: Callable[[int], None] = wait,
    ) -> None:
        """`beside`: the storage of the files, where core metadata is to lie there."""
        self._source = source
        self._output = output
        self._options = options
        self._beside = beside
        self._per_page = per_page
        self._pause = pause

    def update(self, names: Iterable[NormalizedName], *, deadline: float = math.inf) -> SiteReport:
        """Write projects that may have changed, come or gone; the cost does not depend on the size of the index.

        Those that are not begun by `deadline`, a time of `time.monotonic()`, are among the failed ones.
        """
        with self._output.exclusively():
            keeper = self._start(deadline)
            keeper.work = replace(keeper.work, are_built=cache(partial(are_built, self._output, self._options)))
            for _ in keeper.update(names):
                pass
            return keeper.report()

    def build(
        self,
        *,
        everything: bool = False,
        deadline: float = math.inf,
        progress: Callable[[SiteReport], None] | None = None,
    ) -> SiteReport:
        """Write all that has changed since the last build; `everything`: look at every document that lies there.

        Paths that a site uses are the site's own: what else lies under them is removed when everything is looked at.
        The first build removes nothing, and below `packages/` only core metadata among the pages is the site's own.
        Time is over at `deadline`, a time of `time.monotonic()`; what is done by then stays.
        """
        with self._output.exclusively():
            return Build(self._start(), deadline, progress).run(everything=everything)

    def _start(self, deadline: float = math.inf) -> Keeper:
        with_packages = self._options.core_metadata is CoreMetadataPlace.OUTPUT
        work = Work(self._source, self._output, self._options, self._beside, Tally(), with_packages)
        return Keeper(work, self._per_page, self._pause, deadline=deadline)
