"""Projects kept current, several at a time: what they have in common is written once for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ElasticpypiError,
    UnavailableError,
    UnreadableObjectError,
    UnwritableDocumentError,
)
from elasticpypi.names import NormalizedName
from elasticpypi.static_site.lists import list_projects
from elasticpypi.static_site.paging import Paging
from elasticpypi.static_site.putting import ATTEMPTS
from elasticpypi.static_site.rounds import Round, Trust, Work, begin, clean, complete

T = TypeVar("T")
R = TypeVar("R")

_OF_ONE = (UnreadableObjectError, UnwritableDocumentError)  # others need not suffer
_NO_TIME = "there was no time left for it"
_TOGETHER = 50  # projects whose changes go into the changelog and the lists together


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a run has done so far, in numbers of documents."""

    projects: int = 0  # that were looked at
    written: int = 0
    removed: int = 0
    unchanged: int = 0  # those that were compared and left
    failed: Mapping[NormalizedName, str] = field(default_factory=dict)  # projects that could not be written, and why
    is_partial: bool = False  # time was over; the next build goes on where this one has stopped


class Keeper:
    """One run."""

    def __init__(self, work: Work, per_page: int, pause: Callable[[int], None], *, deadline: float = math.inf) -> None:
        """`pause` waits before an attempt, which it is told the number of, from 1.

        After `deadline`, a time of `time.monotonic()`, no project is begun in `update`: they fail.
        """
        self.work = work
        self._deadline = deadline
        self.paging = Paging(work.output, work.options, work.tally, per_page=per_page)
        self.failed: dict[NormalizedName, str] = {}
        self.projects = 0
        self._pause = pause

    def report(self, *, is_partial: bool = False) -> SiteReport:
        """Say what has been done so far."""
        tally = self.work.tally
        return SiteReport(
            self.projects, tally.written, tally.removed, tally.unchanged, dict(self.failed), is_partial=is_partial
        )

    def update(
        self,
        names: Iterable[NormalizedName],
        trust: Callable[[NormalizedName], Trust] = lambda _: Trust(),
        *,
        seen: Callable[[Round], None] = lambda _: None,
    ) -> Iterator[Sequence[NormalizedName]]:
        """Write projects as they are now; yield those that are done together. `seen` is told of each that was read."""
        for together in portions(list(dict.fromkeys(names)), _TOGETHER):
            self._keep_current({name: trust(name) for name in together}, seen)
            self.projects += len(together)
            yield together

    def each(self, step: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Do one thing for each of several, at once where that is worth it, and return what came of it, in order.

        What the first of them raises, in order, is raised when all that were begun have come to their end.
        """
        at_once = min(self.work.output.at_once, len(items))
        if at_once <= 1:
            return [step(item) for item in items]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(step, items))

    def _keep_current(self, pending: dict[NormalizedName, Trust], seen: Callable[[Round], None]) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(attempt)
            again: dict[NormalizedName, Trust] = {}
            self._go_through(pending, again, seen)
            if not again:
                return
            pending = again
        for name in pending:
            self.failed[name] = str(BusyError(name))

    def _go_through(
        self,
        pending: Mapping[NormalizedName, Trust],
        again: dict[NormalizedName, Trust],
        seen: Callable[[Round], None],
    ) -> None:
        def start(name: NormalizedName) -> Round | None:
            if time.monotonic() >= self._deadline:
                self.failed[name] = _NO_TIME
                return None
            return self.attempt(name, lambda: begin(self.work, name, pending[name]), pending[name].touched, again)

        rounds = [each for each in self.each(start, list(pending)) if each is not None]
        self.paging.update(
            [entry for each in rounds for entry in each.entries], [key for each in rounds for key in each.drop]
        )
        rounds = self._step(complete, rounds, again)
        came = [each.name for each in rounds if each.project is not None and not each.is_listed]
        gone = [each.name for each in rounds if each.project is None]
        if (came or gone) and list_projects(self.work, came=came, gone=gone):
            self.paging.show()
        for each in self._step(clean, rounds, again):
            seen(each)

    def _step(
        self, step: Callable[[Work, Round], None], rounds: Sequence[Round], again: dict[NormalizedName, Trust]
    ) -> list[Round]:
        def go(each: Round) -> Round | None:
            def do() -> Round:
                step(self.work, each)
                return each

            return self.attempt(each.name, do, each.touched, again)

        return [each for each in self.each(go, rounds) if each is not None]

    def attempt(
        self,
        name: NormalizedName,
        step: Callable[[], R],
        touched: frozenset[tuple[str, str]],
        again: dict[NormalizedName, Trust],
    ) -> R | None:
        """Do something for one project; note where it is to begin again, or has failed while others need not."""
        try:
            return step()
        except (ConflictError, BusyError):
            again[name] = Trust(is_thorough=True, touched=touched)
        except ElasticpypiError as error:
            if isinstance(error, UnavailableError) and not isinstance(error, _OF_ONE):
                raise
            self.failed[name] = str(error)
        return None


def portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield items in their order, so many at a time."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
