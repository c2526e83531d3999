"""Keeps a local index equal to its directory while it serves: files dropped in by hand, changed or removed.

On AWS events do that; there it only fills a catalog that is new.

However many processes serve one data directory, one of them watches; when it ends, another takes over.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchfiles import watch

from elasticpypi.cli.progress import Throttle
from elasticpypi.errors import ElasticpypiError
from elasticpypi.index import Index, SyncReport
from elasticpypi.names import RESERVED_PREFIX, parse_key

_TICK_MILLISECONDS = 250  # how often files that were still being written are looked at again
_DEBOUNCE_MILLISECONDS = 200
_RETRY_SECONDS = 1.0
_SETTLING_SECONDS = 3.0  # for files that are being written while a new catalog is filled
_PROGRESS_SECONDS = 10.0
_COMPLETING_SECONDS = 60.0
# In ticks. The watch stands before the first one; that of a new directory follows an event of its own.
_PROBE_BEGINS, _PROBE_GOES_ON, _PROBE_ENDS = 1, 3, 20
_SYNC_SECONDS = 15 * 60.0  # should the system lose an event
_log = logging.getLogger(__name__)


def start_watching(index: Index, data: Path) -> None:
    """Watch from a thread of its own, as long as the process lives."""
    threading.Thread(target=_watch_for_ever, args=(index, data), name="watch", daemon=True).start()


def start_completing(index: Index) -> None:
    """Fill a catalog that does not know the whole storage yet, from a thread of its own."""
    threading.Thread(target=_complete, args=(index,), name="complete", daemon=True).start()


def _complete(index: Index) -> None:
    while True:
        try:
            if index.is_complete() or not (failed := index.sync(progress=_Progress().log).failed):
                return
            _log.error("not all files can be read (%s); looking again in a minute", ", ".join(list(failed)[:3]))
        except ElasticpypiError as error:
            _log.error("the catalog could not be filled, which is tried again in a minute: %s", error)
        time.sleep(_COMPLETING_SECONDS)


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
        _log.error(
            "the directory cannot be watched (%s); it is looked through again and again instead",
            error.strerror or error,
        )
        _poll(index, root)


def _watch(index: Index, root: Path) -> None:
    """Sync, follow the changes, and sync again now and then; returns when another directory takes this one's place."""
    changes, probe = _Changes(index, root), _Probe(root / RESERVED_PREFIX)
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
        probe.check({path for _, path in events})
        changes.note(Path(path) for _, path in events)
        changes.settle()
        if _identity(root) != watched:
            return
        if time.monotonic() > until:  # by the same watch: to put a new one on many directories takes seconds
            changes.look_again()
            until = time.monotonic() + _SYNC_SECONDS


class _Probe:
    """Finds out whether the system gives us another watch: when it has no more, it says so to nobody.

    Makes a directory and, a little later, a file in it, of which there is an event only if the directory is watched.
    """

    def __init__(self, place: Path) -> None:
        self._directory = place / "watch-probe"
        self._file = self._directory / "file"
        self._ticks = 0
        self._is_good = False

    def check(self, paths: set[str]) -> None:
        """Look at the events of one tick; raise OSError when those of the probe are overdue."""
        self._ticks += 1
        if self._ticks == _PROBE_BEGINS:
            shutil.rmtree(self._directory, ignore_errors=True)  # of a process that was killed
            self._directory.mkdir()
        elif self._ticks == _PROBE_GOES_ON:
            self._file.touch()
        elif not self._is_good and str(self._file) in paths:
            self._is_good = True
            shutil.rmtree(self._directory)
        elif not self._is_good and self._ticks > _PROBE_ENDS:
            shutil.rmtree(self._directory)
            raise OSError(
                errno.ENOSPC, "the system has no more watches for us: raise fs.inotify.max_user_watches with sysctl"
            )


def _identity(root: Path) -> tuple[int, int]:
    """Tell the directory that lies there now from another one: a volume may come and go."""
    status = root.stat()
    return status.st_dev, status.st_ino


def _poll(index: Index, root: Path) -> None:
    """Do without a watcher for as long as `_watch` would have watched."""
    until = time.monotonic() + _SYNC_SECONDS
    while time.monotonic() < until:
        began = time.monotonic()
        _Changes(index, root).settle()
        # A large directory takes long to look through: a tenth of the time, not all of it.
        time.sleep(max(_RETRY_SECONDS, 9 * (time.monotonic() - began)))


class _Progress:
    """Logs how far a sync has come that takes long: until the first one has ended, the index answers nobody."""

    def __init__(self) -> None:
        self._throttle = Throttle(_PROGRESS_SECONDS)

    def log(self, report: SyncReport) -> None:
        if self._throttle.is_due():
            _log.info("looking through the files: %d so far, %d of them new or changed", report.seen, report.drift)


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

    def look_again(self) -> None:
        """Have the next `settle` look at all there is."""
        self._synced = False

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
        report = self._index.sync(prefix=prefix, patience_seconds=patience, progress=_Progress().log)
        self._pending.update(report.unsettled)
        if report.drift:
            _log.info(
                "synced: %d added, %d changed, %d removed", len(report.added), len(report.changed), len(report.removed)
            )
        for key, reason in report.failed.items():
            _log.error("%s: %s", key, reason)
