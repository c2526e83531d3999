"""A `sync` in the time that a function has, and a line about what it found; then the same for the static files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elasticpypi.handler.logs import Lines
from elasticpypi.handler.trying import Context, deadline
from elasticpypi.index import Index

if TYPE_CHECKING:
    from elasticpypi.handler.keeping import SiteKeeper

# Of the function's time: what was begun comes to an end in it.
_RESERVE_SECONDS = 120.0
_MOST_LINES = 100  # about keys that failed
SYNC_ON = {"go_on": "sync"}  # the message that has a sync go on where it stopped


class Scheduled:
    """Syncs an index, and its static files if there are any."""

    def __init__(
        self,
        index: Index,
        lines: Lines,
        *,
        site: SiteKeeper | None = None,
        send: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """`send` puts a message on the queue, which has an unfinished sync go on; None: the next night does."""
        self._index = index
        self._lines = lines
        self._site = site
        self._send = send

    def handle(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Make the catalog equal to the storage, as far as time allows; with `{"check": true}` only look.

        Return what was found, in numbers.
        """
        check = event.get("check") is True
        return self._run(deadline(context, reserve_seconds=_RESERVE_SECONDS), check=check)

    def go_on(self, until: float) -> None:
        """Go on where the last run has stopped, until a time of `time.monotonic()`."""
        self._run(min(until, time.monotonic() + max(until - time.monotonic() - _RESERVE_SECONDS, 0)), check=False)

    def _run(self, until: float, *, check: bool) -> dict[str, Any]:
        # Until the catalog knows the whole storage, what it lacks is no sign of lost events.
        was_complete = self._index.is_complete()
        report = self._index.find_drift(deadline=until) if check else self._index.sync(deadline=until)
        for key in list(report.failed)[:_MOST_LINES]:
            self._lines.write_object(key, "failed", reason=report.failed[key])
        found: dict[str, Any] = {
            "check": check,
            "added": len(report.added),
            "changed": len(report.changed),
            "removed": len(report.removed),
            "failed": len(report.failed),
            "unchanged": report.unchanged,
            # Time was over: the next run goes on where this one has stopped.
            "partial": report.is_partial,
        }
        self._lines.write("sync", found, metrics={"Drift": report.drift} if was_complete else None)
        if check:
            return found
        if report.is_partial:
            if self._send is not None:
                self._send(SYNC_ON)
        elif self._site is not None:
            found["site"] = self._site.build(until)
        return found
