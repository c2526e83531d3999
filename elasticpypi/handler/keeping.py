"""What a function does for the index that lies in a bucket as static files.

An event has the pages of its project written, a schedule has all of them compared. Until the catalog knows the whole
storage, what it lacks may be there all the same, and no page is touched: the comparison that follows writes them all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from elasticpypi.errors import ElasticpypiError, UnavailableError
from elasticpypi.handler.logs import Lines
from elasticpypi.handler.trying import NO_TIME, PAUSES, tries
from elasticpypi.index import Index
from elasticpypi.names import NormalizedName

_AT_A_TIME = 50  # projects: what is written about all of them together is written so often
_MOST_LINES = 100  # about projects that failed
# Documents: a site that lacks more by what is noted alone has just been made, and is looked at whole the next time.
_MOST_BEHIND = 1000
GO_ON = {"go_on": "build"}  # the message that has a comparison go on where it stopped
_log = logging.getLogger(__name__)


class Report(Protocol):
    """What a site says of its work; `static_site.site.SiteReport`."""

    @property
    def written(self) -> int:
        """Documents that are others now, or new."""

    @property
    def removed(self) -> int:
        """Documents that are gone."""

    @property
    def failed(self) -> Mapping[NormalizedName, str]:
        """Projects that could not be written, each with the reason."""

    @property
    def is_partial(self) -> bool:
        """Whether time was over; the next run goes on where this one has stopped."""


class StaticSite(Protocol):
    """An index as static files; `static_site.site.Site`."""

    def update(self, names: Sequence[NormalizedName], *, deadline: float) -> Report:
        """Write the pages of projects as they are now, of those that are begun by a time of `time.monotonic()`."""

    def build(self, *, everything: bool, deadline: float) -> Report:
        """Write all pages that are not as they should be, until a time of `time.monotonic()`."""


class SiteKeeper:
    """Keeps a site current, and writes down what it did."""

    def __init__(
        self,
        site: StaticSite,
        index: Index,
        lines: Lines,
        *,
        send: Callable[[Mapping[str, Any]], None] | None = None,
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`send` puts a message on the queue, which has an unfinished comparison go on; None: the schedule does."""
        self._site = site
        self._index = index
        self._lines = lines
        self._send = send
        self._pauses = pauses
        self._clock = clock

    def update(self, happened: Mapping[NormalizedName, float | None], until: float) -> Mapping[NormalizedName, str]:
        """Write the pages of projects; return why some of them have to come again.

        `happened` has for each project when its event was, in seconds since 1970, as far as that is known.
        """
        problems = dict.fromkeys(happened, NO_TIME)
        counts = {"SiteWritten": 0, "SiteRemoved": 0}
        at_a_time = _AT_A_TIME
        for _ in tries(self._pauses, until):
            again = False
            for names in _portions(list(problems), at_a_time):
                if time.monotonic() >= until:
                    break
                try:
                    if not self._is_ready():
                        return {}
                    report = self._site.update(names, deadline=until)
                except UnavailableError as error:
                    problems |= dict.fromkeys(names, str(error))
                    again = True
                except Exception as error:  # noqa: BLE001  # whatever it is, other messages are not to suffer
                    problems |= dict.fromkeys(names, self._say_why(error))
                    again = again or len(names) > 1
                else:
                    for name in names:
                        del problems[name]
                    problems |= {name: str(reason) for name, reason in report.failed.items()}
                    counts["SiteWritten"] += report.written
                    counts["SiteRemoved"] += report.removed
            if not again:
                break
            at_a_time = 1  # one that cannot be written is not to keep others from it
        self._report_update(happened, problems, counts)
        return problems

    def build(self, until: float) -> Mapping[str, object]:
        """Compare all pages with what they should be, as far as time allows; return what was found, in numbers.

        First all that is noted to have changed, then whatever lies there: what is wrong by then, somebody else has
        changed, and it is drift. Raise what the site raises where it cannot be written at all.
        """
        if not self._is_ready():
            return {"waiting": True}
        began = time.monotonic()
        behind = self._site.build(everything=False, deadline=until)
        reports, drift = [behind], None
        if not behind.is_partial and behind.written <= _MOST_BEHIND:
            whole = self._site.build(everything=True, deadline=until)
            reports.append(whole)
            drift = whole.written + whole.removed
        failed = {name: reason for report in reports for name, reason in report.failed.items()}
        for name in list(failed)[:_MOST_LINES]:
            self._lines.write("page", {"project": name, "outcome": "failed", "reason": str(failed[name])})
        written, removed = sum(each.written for each in reports), sum(each.removed for each in reports)
        partial = reports[-1].is_partial
        found = {"written": written, "removed": removed, "failed": len(failed), "drift": drift, "partial": partial}
        metrics = {"SiteWritten": written, "SiteRemoved": removed, "SiteFailed": len(failed)}
        metrics |= {} if drift is None else {"SiteDrift": drift}
        self._lines.write("site", {"seconds": round(time.monotonic() - began, 3), **found}, metrics=metrics)
        if partial and self._send is not None:
            self._send(GO_ON)
        return found

    def _is_ready(self) -> bool:
        ready = self._index.is_complete()
        if not ready:
            self._lines.write("site", {"waiting": True, "reason": "the catalog does not know the whole bucket yet"})
        return ready

    def _say_why(self, error: Exception) -> str:
        if not isinstance(error, ElasticpypiError):
            _log.error("pages could not be written in a way that nobody has foreseen", exc_info=error)
        return str(error)

    def _report_update(
        self,
        happened: Mapping[NormalizedName, float | None],
        problems: Mapping[NormalizedName, str],
        counts: Mapping[str, int],
    ) -> None:
        for name in list(problems)[:_MOST_LINES]:
            self._lines.write("page", {"project": name, "outcome": "failed", "reason": problems[name]})
        metrics: dict[str, float | Sequence[float]] = {name: count for name, count in counts.items() if count}
        if problems:
            metrics["SiteFailed"] = len(problems)
        if metrics:
            now = self._clock()
            lags = [max(now - at, 0.0) for name, at in happened.items() if at is not None and name not in problems]
            if counts["SiteWritten"] and lags:
                metrics["SiteLag"] = round(max(lags), 3)
            self._lines.write("site", {"projects": len(happened), "failed": len(problems)}, metrics=metrics)


def _portions(names: list[NormalizedName], size: int) -> Iterator[list[NormalizedName]]:
    for first in range(0, len(names), size):
        yield names[first : first + size]
