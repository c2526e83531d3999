"""Counts of downloads, by file and day, of an index whose settings ask for them.

A download costs no write of its own. A server counts in memory, and writes what has come together now and then; where
nothing runs between requests, as on Lambda, one download in some is taken for all of them.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from elasticpypi.catalog.ledger import Ledger
from elasticpypi.errors import CatalogError, ConfigError
from elasticpypi.names import NormalizedName

KEPT_DAYS = 400
_DAY_SECONDS = 86_400
_MOST_WAITING = 10_000  # counters that wait to be written; what would make more of them is not counted
_log = logging.getLogger(__name__)
_Waiting = tuple[NormalizedName, str, str]  # project, day as 2026-11-22, filename


@dataclass(frozen=True, slots=True)
class ProjectDownloads:
    """How often the files of a project were downloaded in the last days."""

    project: NormalizedName
    days: int  # today, by UTC, included
    files: Mapping[str, Mapping[date, int]]  # by filename, then by day, without those on which there was none

    @property
    def total(self) -> int:
        """Downloads of all files on all of these days."""
        return sum(sum(days.values()) for days in self.files.values())


class Downloads:
    """Counts downloads, and tells how many there were."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        is_on: bool = False,
        clock: Callable[[], float] = time.time,
        below: Callable[[int], int] = secrets.randbelow,  # a snapshot of a process has the same chance in its copies
    ) -> None:
        """`clock` gives seconds since 1970; `below(n)` chooses one of n."""
        self.is_on = is_on
        self._ledger = ledger
        self._clock = clock
        self._below = below
        self._one_in = 1
        self._waiting = Counter[_Waiting]()
        self._lost = 0  # downloads that were not counted, since too much was waiting
        self._counting = threading.Lock()

    def sample(self, one_in: int) -> None:
        """Take from now on one download in so many for all of them."""
        self._one_in = one_in

    def note(self, project: NormalizedName, filename: str) -> None:
        """Count a download, which `flush` will write."""
        if self._one_in > 1 and self._below(self._one_in):
            return
        self._add(Counter({(project, self._today().isoformat(), filename): self._one_in}))

    def flush(self) -> None:
        """Write what was counted; where that fails, say so in the log and keep it for the next time."""
        if not self._waiting and not self._lost:
            return
        with self._counting:
            waiting, self._waiting = self._waiting, Counter()
            lost, self._lost = self._lost, 0
        if lost:
            _log.warning("%d downloads are not counted: too many others were waiting to be written", lost)
        try:
            self._write(waiting)
        except (CatalogError, ConfigError) as error:
            _log.warning("downloads have not been written down, and are kept for the next time: %s", error)
            self._add(waiting)

    def of(self, project: NormalizedName, *, days: int = 30) -> ProjectDownloads:
        """Return how often the files of a project were downloaded in the last days; CatalogError."""
        today = self._today()
        first = today - timedelta(days=days - 1)
        files = defaultdict[str, dict[date, int]](dict)
        for month in _months(first, today):
            for number, count in self._ledger.counters(_kind(project), prefix=month).items():
                day, _, filename = number.partition("#")
                if first <= date.fromisoformat(day) <= today:
                    files[filename][date.fromisoformat(day)] = count
        return ProjectDownloads(project, days, {name: dict(sorted(files[name].items())) for name in sorted(files)})

    def _add(self, counted: Counter[_Waiting]) -> None:
        with self._counting:
            for key, count in counted.items():
                if key in self._waiting or len(self._waiting) < _MOST_WAITING:
                    self._waiting[key] += count
                else:
                    self._lost += count

    def _write(self, waiting: Counter[_Waiting]) -> None:
        """Write counters, and take from `waiting` what is written: the rest is there if that fails."""
        expires = int(self._clock()) + KEPT_DAYS * _DAY_SECONDS
        by_project = defaultdict[NormalizedName, list[_Waiting]](list)
        for key in waiting:
            by_project[key[0]].append(key)
        for project, keys in by_project.items():
            additions = {f"{day}#{filename}": waiting[project, day, filename] for _, day, filename in keys}
            self._ledger.count(_kind(project), additions, expires=expires)
            for key in keys:
                del waiting[key]

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()


def describe_downloads(found: ProjectDownloads) -> dict[str, Any]:
    """Return counts of downloads, for programs."""
    files = [
        {
            "filename": filename,
            "total": sum(days.values()),
            "days": {day.isoformat(): count for day, count in days.items()},
        }
        for filename, days in found.files.items()
    ]
    return {"project": found.project, "days": found.days, "total": found.total, "files": files}


def _kind(project: NormalizedName) -> str:
    return f"downloads#{project}"


def _months(first: date, last: date) -> list[str]:
    """Return what the days from one to another begin with, each month once: 2026-11, 2026-12."""
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]
