"""The catalog: what we know about the files in the storage. It is derived: `sync` can make it anew.

Adapters: `catalog.sqlite`, `catalog.dynamodb`, `catalog.documents`. Every adapter passes the same contract tests
(tests/test_catalog.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from elasticpypi.model import Entry, ProjectSnapshot, RootSnapshot
from elasticpypi.names import NormalizedName


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that the catalog has something to say about, and the fingerprint of the object it was read from."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a catalog knows."""

    projects: int
    files: int  # listed or rejected, under each key
    problems: int  # files that were rejected, decisions that cannot be read


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A rendered page as it was kept: gzip-compressed, of one revision."""

    revision: int
    body: bytes | None  # None: it was too large for the catalog, and lies in the storage


@dataclass(frozen=True, slots=True)
class Write:
    """A row to be replaced, as `Catalog.put` takes it."""

    before: Entry
    after: Entry
    core_metadata: bytes | None = None


class Catalog(Protocol):
    """What an index knows. Any method may raise CatalogError when the catalog cannot be reached or read."""

    largest_page: int | None
    """How many bytes a page may have that is kept here; None where there is no bound."""

    def entry(self, key: str) -> Entry:
        """Return the row of a key, tombstones included; generation 0 where there is none."""

    def entries(self, keys: Sequence[str]) -> list[Entry]:
        """Return the rows of several keys, in their order, each as `entry` does."""

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        """Replace the row read as `before` by `after` (`content` None: a tombstone), in one transaction.

        Raise ConflictError if the row's generation is no longer `before.generation`. The new generation is
        `max(before.generation + 1, now in µs)`. If the content differs, the project's revision becomes at least
        `max(revision + 1, now in µs)`, and the root's grows if the project comes or goes with this row; if it does
        not, only the generation moves, which makes every other writer look again. `core_metadata` is kept byte for
        byte with the row; without it, a row whose content differs loses what was kept. The row's project is that of its
        key (`names.project_of`).
        """

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        """Do as `put` for rows of one project (different keys), together as far as that goes.

        Return those that met a conflict and were not written; the others were.
        """

    def project(self, name: NormalizedName) -> ProjectSnapshot | None:
        """Return all live rows of a project and the revision that they belong to; None if there is no live row."""

    def entries_named(self, name: NormalizedName, filename: str) -> list[Entry]:
        """Return the live rows of a project whose key ends in this filename, sorted by key."""

    def has_files(self, name: NormalizedName, *, besides: str) -> bool:
        """Whether a project has a live row of a file, listed or rejected, under another key; one small read."""

    def revision(self, name: NormalizedName) -> int | None:
        """Return a project's revision with one small read; None if the project has no live row."""

    def root(self) -> RootSnapshot:
        """Return all projects with a live row."""

    def root_revision(self) -> int:
        """Return the root's revision with one small read; 0 before the first project."""

    def serials_revision(self) -> int:
        """Return the revision of the list of projects with their serials: it grows with every change of anything.

        One small read; 0 before the first change.
        """

    def core_metadata(self, key: str) -> bytes | None:
        """Return the core metadata kept with a row."""

    def known_keys(self, prefix: str = "") -> Iterator[KnownKey]:
        """Yield live rows by key, in the order of the keys' UTF-8 bytes; rows may change meanwhile."""

    def problems(self) -> Iterator[Entry]:
        """Yield the rows of files that were rejected and of decisions that cannot be read, by key."""

    def counts(self) -> Counts:
        """Count what is known. It may look through all of it: for a look now and then, not for every request."""

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        """Return the page kept under a project (None: the root) and form, whatever its revision."""

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        """Keep a page, unless one of a later revision is kept already."""

    def identity(self) -> str:
        """Return what tells this catalog from one that takes its place."""

    def is_complete(self) -> bool:
        """Whether a full `sync` has come to its end on this catalog: only then does "not there" mean anything."""

    def mark_complete(self, identity: str) -> None:
        """Remember that a full `sync` has come to its end, unless the catalog is no longer that on which it began."""

    def check(self) -> None:
        """Read something small; raise CatalogError if that fails."""

    def close(self) -> None:
        """Give back what is held open."""
