"""Keeps a local index equal to its directory while it serves: files dropped in by hand, changed or removed.

However many processes serve one data directory, one of them watches; when it ends, another takes over.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchfiles import watch

from elasticpypi.errors import ElasticpypiError
from elasticpypi.index import Index
from elasticpypi.names import parse_key

_TICK_MILLISECONDS = 250  # how often files that were still being written are looked at again
_DEBOUNCE_MILLISECONDS = 200
_RETRY_SECONDS = 1.0
_SETTLING_SECONDS = 3.0  # for files that are being written while a new catalog is filled
_SYNC_SECONDS = 15 * 60.0  # should the system lose an event
_log = logging.getLogger(__name__)


def start_watching(index: Index, data: Path) -> None:
    """Watch from a thread of its own, as long as the process lives."""
    threading.Thread(target=_watch_for_ever, args=(index, data), name="watch", daemon=True).start()


def _watch_for_ever(index: Index, data: Path) -> None:
    said = ""
    with _only_watcher(data / "watch.lock"):
        while True:
            try:
                _follow(index, data / "files")
            except (ElasticpypiError, OSError, RuntimeError) as error:
                # The thread outlives whatever one file does to the watcher; its next round begins with a sync.
                if str(error) != said:
                    _log.error("watching begins anew: %s", error)
                said = str(error)
                time.sleep(_RETRY_SECONDS)


@contextmanager
def _only_watcher(lock: Path) -> Iterator[None]:
    """Wait until no other process watches, and keep the others waiting."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _follow(index: Index, root: Path) -> None:
    try:
        _watch(index, root)
    except OSError as error:  # no room for another inotify watch, for instance
        _log.error("the directory cannot be watched (%s); it is looked through again and again instead", error)
        _poll(index, root)


def _watch(index: Index, root: Path) -> None:
    """Sync once, then follow the changes; returns when it is time to sync again."""
    changes = _Changes(index, root)
    watched = _identity(root)
    until = time.monotonic() + _SYNC_SECONDS
    # The watch stands before the sync, so that nothing falls between the two.
    for events in watch(
        root,
        watch_filter=None,
        debounce=_DEBOUNCE_MILLISECONDS,
        rust_timeout=_TICK_MILLISECONDS,
        yield_on_timeout=True,
        raise_interrupt=False,
        ignore_permission_denied=True,
    ):
        changes.note(Path(path) for _, path in events)
        changes.settle()
        if time.monotonic() > until or _identity(root) != watched:
            return


def _identity(root: Path) -> tuple[int, int]:
    """Tell the directory that lies there now from another one: a volume may come and go."""
    status = root.stat()
    return status.st_dev, status.st_ino


def _poll(index: Index, root: Path) -> None:
    """Do without a watcher for as long as `_watch` would have watched."""
    until = time.monotonic() + _SYNC_SECONDS
    while time.monotonic() < until:
        _Changes(index, root).settle()
        time.sleep(_RETRY_SECONDS)


class _Changes:
    """The keys that have changed and are not yet settled."""

    def __init__(self, index: Index, root: Path) -> None:
        self._index = index
        self._root = root
        self._pending: set[str] = set()
        self._reported: dict[str, str] = {}  # why a key is still pending, so that the log says it once
        self._synced = False  # since this watch stands

    def note(self, paths: Iterator[Path]) -> None:
        """Remember what a batch of events names: keys, and what lies below directories."""
        for path in paths:
            key = path.relative_to(self._root).as_posix()
            if any(part.startswith(".") for part in key.split("/")):
                continue  # our own, and what rsync and the like write before they rename it
            if parse_key(key) is not None:
                self._pending.add(key)
            elif path.is_dir() or not path.exists():
                # A directory that came or went with all that is in it, of which there may be no events.
                self._sync(f"{key}/")

    def settle(self) -> None:
        """Index those keys that nobody is writing any more; the first time, and for a new catalog, all there is."""
        if not (self._synced and self._index.is_complete()):
            self._sync("")
            self._synced = True
        for key in sorted(self._pending):
            try:
                if self._index.reconcile_settled(key):
                    self._pending.discard(key)
                    self._reported.pop(key, None)
            except ElasticpypiError as error:  # it stays pending
                if self._reported.get(key) != str(error):
                    _log.error("%s", error)
                self._reported[key] = str(error)

    def _sync(self, prefix: str) -> None:
        # A new catalog is not taken for complete while it may lack files that were stored just now.
        patience = 0.0 if self._index.is_complete() else _SETTLING_SECONDS
        report = self._index.sync(prefix=prefix, patience_seconds=patience)
        self._pending.update(report.unsettled)
        if report.drift:
            _log.info(
                "synced: %d added, %d changed, %d removed", len(report.added), len(report.changed), len(report.removed)
            )
        for key, reason in report.failed.items():
            _log.error("%s: %s", key, reason)
