"""A build: all projects compared with what the last build has noted, or with all that lies in the output."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from elasticpypi.errors import ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX
from elasticpypi.static_site import CoreMetadataPlace
from elasticpypi.static_site.changelog import Entry, entries_of
from elasticpypi.static_site.keeping import Keeper, SiteReport, portions
from elasticpypi.static_site.lists import list_projects, strangers
from elasticpypi.static_site.looking import Listing
from elasticpypi.static_site.marking import marked_names
from elasticpypi.static_site.noting import Noted, Notes, read_notes, write_notes, write_packages
from elasticpypi.static_site.pages import fingerprint, fixed_documents, metadata_paths, package_lines
from elasticpypi.static_site.putting import take_away
from elasticpypi.static_site.rounds import Round, Trust, begin, clean, complete, described_project

_THOROUGH = Trust(is_thorough=True)


class Build:
    """One build."""

    def __init__(self, keeper: Keeper, deadline: float, progress: Callable[[SiteReport], None] | None) -> None:
        self._keeper = keeper
        self._work = keeper.work
        self._deadline = deadline
        self._progress = progress
        self._fingerprint = fingerprint(keeper.work.options)
        self._marks: Mapping[NormalizedName, str] = {}
        self._lines: dict[NormalizedName, bytes] = {}  # of projects that were read
        self._done: set[NormalizedName] = set()

    def run(self, *, everything: bool) -> SiteReport:
        """Build; what is done when time is over stays."""
        notes = read_notes(self._work.output)
        is_first = notes.written is None and next(self._work.output.list(STATE_PREFIX), None) is None
        with_packages = self._work.with_packages or notes.with_packages
        self._work = self._keeper.work = replace(self._work, is_first=is_first, with_packages=with_packages)
        is_usable = notes.is_complete and notes.fingerprint == self._fingerprint
        marked = set(marked_names(self._work.output))
        self._marks = self._work.source.marks()
        if not is_usable:
            notes = replace(notes, is_complete=False, cursor=None, packages=None, projects={})
        if everything or not is_usable:
            return self._look_at_everything(notes, marked, everything=everything)
        return self._follow(notes, marked)

    def _follow(self, notes: Notes, marked: set[NormalizedName]) -> SiteReport:
        """Write what the source has noted otherwise than the last build."""
        known = notes.projects
        changed = [
            name
            for name, mark in self._marks.items()
            if name in marked or name not in known or known[name].mark != mark
        ]
        # What came by an event since the last build, and has gone without one, is known from the lists alone.
        listed = strangers(self._work.output, self._marks)
        gone = sorted(name for name in {*known, *marked, *listed} if name not in self._marks)
        self._done = set(self._marks) - set(changed)
        is_partial = self._update(changed + gone, lambda name: Trust(name not in known, name not in known))
        if not is_partial:
            self._keeper.paging.repack()
            if list_projects(self._work, came=self._done, gone=gone, is_whole=True, is_built=True):
                self._keeper.paging.show()
        return self._finish(notes, is_partial=is_partial, cursor=notes.cursor)

    def _update(self, names: Iterable[NormalizedName], trust: Callable[[NormalizedName], Trust]) -> bool:
        """Keep projects current until time is over; return whether it is."""
        remaining = list(names)
        for together in self._keeper.update(remaining, trust, seen=self._see):
            self._done.update(name for name in together if name in self._marks and name not in self._keeper.failed)
            for name in together:
                if name in self._done and name not in self._lines:
                    self._lines[name] = self._read_lines(name)  # another run has written it already
            self._tell()
            remaining = remaining[len(together) :]
            if remaining and self._is_late():
                return True
        return False

    def _look_at_everything(self, notes: Notes, marked: set[NormalizedName], *, everything: bool) -> SiteReport:
        work, cursor = self._work, notes.cursor if everything else None
        names = [name for name in self._marks if cursor is None or name > cursor]
        before = frozenset() if work.is_alone else self._keeper.paging.keys()
        is_empty = notes.written is None and next(iter(work.output.list()), None) is None
        listing = Listing([] if is_empty else work.output.list(), self._marks, with_packages=work.with_packages)
        notes = replace(notes, is_complete=False, fingerprint=self._fingerprint, with_packages=work.with_packages)
        notes = replace(notes, written=write_notes(work.output, notes))
        passage = _Passage(self._keeper, listing, self._is_late, self._see)
        is_partial = passage.go(names, self._tell)
        self._done |= passage.done
        is_end = not is_partial  # the way past all projects may have begun in an earlier build
        is_unknown = cache(self._is_unknown)
        self._keeper.paging.rebuild(
            passage.entries,
            lambda name: name in passage.done or name in passage.gone or (is_end and is_unknown(name)),
            before=before,
            look_anyway=True,
        )
        found = () if work.is_first else listing.names()
        gone = sorted({*found, *notes.projects, *marked, *passage.gone} - (self._marks.keys() - passage.gone))
        list_projects(
            work,
            came=passage.done,
            gone=gone,
            is_whole=is_end,
            is_built=is_end,
            look_anyway=True,
        )
        if not is_partial:
            is_partial = self._update([*passage.again, *gone], lambda _: _THOROUGH)
        if not work.is_first:
            self._remove_superfluous(listing, passage, is_end=is_end)
        if is_end and not is_partial and not self._keeper.failed:
            is_metadata_there = work.options.core_metadata is CoreMetadataPlace.OUTPUT
            notes = replace(notes, with_packages=is_metadata_there)
        last = passage.last if everything and is_partial else None
        stale = passage.seen - self._done
        return self._finish(notes, is_partial=is_partial, cursor=last, stale=stale)

    def _remove_superfluous(self, listing: Listing, passage: _Passage, *, is_end: bool) -> None:
        """Remove core metadata that is of no file, and at the end of the way what is of no project."""
        fixed = {document.path for document in fixed_documents(self._work.options)}
        found = [
            written
            for path, written in listing.others.items()
            if is_end and path not in fixed and not path.startswith(("simple/index.", "changelog/"))
        ]
        for path, written in listing.elsewhere.items():
            if path in passage.elsewhere:
                continue
            owner = described_project(path)
            if owner in passage.done or (is_end and self._is_unknown(owner)):
                found.append(written)
        for written in found:
            try:
                take_away(self._work.output, written, self._work.tally)
            except ConflictError:
                continue  # somebody has just written it

    def _is_unknown(self, name: NormalizedName | None) -> bool:
        return name is None or (name not in self._marks and self._work.source.mark(name) is None)

    def _finish(
        self,
        notes: Notes,
        *,
        is_partial: bool,
        cursor: NormalizedName | None,
        stale: Container[NormalizedName] = frozenset(),
    ) -> SiteReport:
        """Write `packages.json`, and note for the next build what need not be looked at again."""
        noted = {name: each for name, each in notes.projects.items() if name in self._marks and name not in stale}
        names = {*noted, *self._done}
        token, sizes = write_packages(
            self._work.output, notes, iter(names), self._lines, self._read_lines, self._work.tally
        )
        projects = {
            name: Noted(self._marks[name], sizes[name]) if name in self._lines or name not in noted else noted[name]
            for name in sorted(names)
        }
        after = Notes(notes.written, self._fingerprint, True, token, notes.with_packages, cursor, projects)
        if after != notes:
            write_notes(self._work.output, after)
        return self._keeper.report(is_partial=is_partial)

    def _see(self, step: Round) -> None:
        if step.project is not None:
            self._lines[step.name] = package_lines(step.project, self._work.options)

    def _read_lines(self, name: NormalizedName) -> bytes:
        project = self._work.source.project(name)
        return b"" if project is None else package_lines(project, self._work.options)

    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._keeper.report())


class _Passage:
    """A way past all projects, one after the other, on which all that lies there is looked at."""

    def __init__(
        self, keeper: Keeper, listing: Listing, is_late: Callable[[], bool], see: Callable[[Round], None]
    ) -> None:
        self.done: set[NormalizedName] = set()
        self.gone: set[NormalizedName] = set()  # since the projects were listed; nothing is removed yet
        self.again: dict[NormalizedName, Trust] = {}  # somebody else is at work
        self.seen: set[NormalizedName] = set()
        self.entries: list[Entry] = []
        self.elsewhere: set[str] = set()  # core metadata below other paths than its project's
        self.last: NormalizedName | None = None
        self._keeper = keeper
        self._listing = listing
        self._is_late = is_late
        self._see = see

    def go(self, names: Sequence[NormalizedName], tell: Callable[[], None]) -> bool:
        """Go on until time is over, but for some projects in any case; return whether it is."""
        for together in portions(names, self._keeper.work.output.at_once):
            if self.seen and self._is_late():
                return True
            for name, step in zip(together, self._keeper.each(self._write, together), strict=True):
                self._note(name, step)
            tell()
        return False

    def _write(self, name: NormalizedName) -> Round | None:
        return self._keeper.attempt(name, lambda: self._rewrite(name), frozenset(), self.again)

    def _rewrite(self, name: NormalizedName) -> Round | None:
        trust = Trust(is_thorough=True, there=self._listing.of(name), elsewhere=self._listing.elsewhere)
        step = begin(self._keeper.work, name, trust)
        if step is not None and step.project is not None:
            complete(self._keeper.work, step)
            clean(self._keeper.work, step)
        return step

    def _note(self, name: NormalizedName, step: Round | None) -> None:
        self.seen.add(name)
        self.last = name
        self._keeper.projects += 1
        if step is None:
            return
        self._see(step)
        if step.project is None:
            self.gone.add(name)
            return
        self.done.add(name)
        self.entries += entries_of(step.project)
        beside = f"packages/{name}/"
        self.elsewhere.update(
            path for path in metadata_paths(step.project, self._keeper.work.options) if not path.startswith(beside)
        )
