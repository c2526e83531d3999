"""A `sync` in the time that a function has, and a line about what it found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elasticpypi.handler.batch import Context, deadline
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index

# Of the function's time: what was begun comes to an end in it.
_RESERVE_SECONDS = 120.0
_MOST_LINES = 100  # about keys that failed


class Scheduled:
    """Syncs an index."""

    def __init__(self, index: Index, lines: Lines) -> None:
        self._index = index
        self._lines = lines

    def handle(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Make the catalog equal to the storage, as far as time allows; with `{"check": true}` only look.

        Return what was found, in numbers.
        """
        check = event.get("check") is True
        until = deadline(context, reserve_seconds=_RESERVE_SECONDS)
        # Until the catalog knows the whole storage, what it lacks is no sign of lost events.
        was_complete = self._index.is_complete()
        report = self._index.find_drift(deadline=until) if check else self._index.sync(deadline=until)
        for key in list(report.failed)[:_MOST_LINES]:
            self._lines.write_object(key, "failed", reason=report.failed[key])
        found = {
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
        return found
