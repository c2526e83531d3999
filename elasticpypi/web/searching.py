"""The names of projects, as far as somebody may see them, and those among them in which a text comes."""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.index import Index
from elasticpypi.names import MAX_NAME, NormalizedName
from elasticpypi.simple import Form

MOST_HITS = 100
_SCOPES = 16  # of which the names are kept in memory, in each process: 3 MB each at 100,000 projects
_AFTER_ALL = "\x7f"  # sorts behind every character that a name has


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    names: Sequence[NormalizedName]  # at most `MOST_HITS`: what is called so, what begins so, and all others, by name
    count: int  # of all hits


class Names:
    """The names that somebody sees, sorted."""

    def __init__(self, names: Sequence[NormalizedName]) -> None:
        self.all = names
        self._joined = "\n".join(["", *names, ""])

    def search(self, query: str) -> Found:
        """Return the names that contain a text, which is normalised as a name is, but for its ends."""
        wanted = re.sub(r"[-_.\s]+", "-", query.strip().lower())
        if not wanted or len(wanted) > MAX_NAME:
            return Found((), 0)
        begin = bisect_left(self.all, wanted)
        names = list(self.all[begin : min(bisect_left(self.all, wanted + _AFTER_ALL), begin + MOST_HITS)])
        others = self._containing(wanted)
        while len(names) < MOST_HITS and (name := next(others, None)) is not None:
            if not name.startswith(wanted):
                names.append(name)
        return Found(names, self._count(wanted))

    def _containing(self, wanted: str) -> Iterator[NormalizedName]:
        at = self._joined.find(wanted)
        while at >= 0:
            end = self._joined.index("\n", at)
            yield NormalizedName(self._joined[self._joined.rindex("\n", 0, at) + 1 : end])
            at = self._joined.find(wanted, end)

    def _count(self, wanted: str) -> int:
        """Count the lines that contain a text: the places where it comes, but for those on the line of the last one."""
        between = self._joined.split(wanted)[1:]
        return len([None for text in between if "\n" in text])


class VisibleNames:
    """Remembers the names that principals see, as long as no project comes or goes; thread-safe."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[str, ...], tuple[int, Names]] = {}  # by scope; the one used last comes last
        self._changing = threading.Lock()

    def of(self, principal: Principal) -> Names:
        """Return the names that a principal sees, after one small read."""
        principal.require(Permission.READ)
        revision = self._index.root_revision(Form.HTML)
        known = self._find(revision, principal.scope)
        if known is not None:
            return known
        root = self._index.root()
        every = (project.name for project in root.projects)
        names = Names(tuple(name for name in every if principal.may(Permission.READ, name)))
        with self._changing:
            self._known[principal.scope] = (root.revision, names)
            while len(self._known) > _SCOPES:
                del self._known[next(iter(self._known))]
        return names

    def _find(self, revision: int, scope: tuple[str, ...]) -> Names | None:
        with self._changing:
            known = self._known.pop(scope, None)
            if known is None or known[0] != revision:
                return None
            self._known[scope] = known
            return known[1]
