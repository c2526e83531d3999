"""`DocumentsCatalog`: what the documents say, put together.

A project's document is the truth about it, and a write is one conditional PUT of it. The root is derived from it: after
that PUT the project's shard is told the new revision, unless it has heard of a later one, so that it matters nothing in
which order two writers come there. Who dies in between leaves the shard behind. Every later write of the project tells
it, those too that change no content, as they come of an event that is delivered again; and a full `sync`, which reads
all documents, tells it at its end. A project is therefore never left out of the root for ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from elasticpypi.catalog import Counts, KeptPage, KnownKey, Write
from elasticpypi.catalog.documents.formats import (
    NAMELESS,
    PROJECTS,
    SELF,
    Head,
    Itself,
    Project,
    Row,
    Shard,
    core_metadata_document,
    decompress,
    dump_itself,
    dump_page,
    dump_project,
    dump_shard,
    load_itself,
    load_page,
    load_project,
    load_project_head,
    load_shard,
    load_shard_head,
    new_shard,
    page_document,
    place_of,
    project_document,
    project_in,
    shard_document,
    shard_documents,
)
from elasticpypi.catalog.documents.store import LARGEST_DOCUMENT, Documents, Patience, Store
from elasticpypi.catalog.documents.writing import Replacement
from elasticpypi.errors import ConflictError
from elasticpypi.model import Entry, ListedProject, ProjectSnapshot, RootSnapshot
from elasticpypi.names import NormalizedName

_LARGEST_PAGE = LARGEST_DOCUMENT - 1024  # its head beside it
_REMEMBERED_SECONDS = 5.0  # for which a row tells where its core metadata is, lest each file's asks for all rows again
_T = TypeVar("_T")


class DocumentsCatalog:
    """A `Catalog` in documents below `.elasticpypi/catalog/`."""

    largest_page: int | None = _LARGEST_PAGE

    def __init__(self, documents: Documents) -> None:
        self._store = Store(documents)
        self._untold: dict[NormalizedName, Head] = {}  # what the last look at everything found missing in the root

    def entry(self, key: str) -> Entry:
        (entry,) = self.entries([key])
        return entry

    def entries(self, keys: Sequence[str]) -> list[Entry]:
        places = {key: place_of(key) for key in keys}
        wanted = dict.fromkeys(place.document for place in places.values())
        found = dict(self._store.read_all(wanted, self._project_to_change))
        return [_entry(found[places[key].document], key, places[key].project) for key in keys]

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        if self.put_all([Write(before, after, core_metadata)]):
            raise ConflictError(after.key)

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        groups: dict[str, list[Write]] = {}
        for write in writes:
            groups.setdefault(place_of(write.after.key).document, []).append(write)
        lost: list[Write] = []
        for document, group in groups.items():
            lost += self._replace(document, group)
        return [write for write in writes if any(write is other for other in lost)]

    def project(self, name: NormalizedName) -> ProjectSnapshot | None:
        project = self._project_to_change(project_document(name))
        if not project.head.live:
            return None
        entries = sorted((row.entry(name) for row in project.live_rows()), key=lambda entry: entry.key)
        return ProjectSnapshot(name, project.head.revision, tuple(entries))

    def entries_named(self, name: NormalizedName, filename: str) -> list[Entry]:
        rows = [row for row in self._rows(name) if row.is_live and row.key.rpartition("/")[2] == filename]
        return sorted((row.entry(name) for row in rows), key=lambda entry: entry.key)

    def has_files(self, name: NormalizedName, *, besides: str) -> bool:
        return any(row.is_file and row.key != besides for row in self._rows(name))

    def revision(self, name: NormalizedName) -> int | None:
        head = self._store.read(project_document(name), load_project_head)
        return head.revision if head is not None and head.live else None

    def root(self) -> RootSnapshot:
        revision = serial = 0
        listed: list[ListedProject] = []
        for shard in self._shards(load_shard):
            revision += shard.head.revision
            serial += shard.head.serial
            listed += [
                ListedProject(NormalizedName(name), head.revision) for name, head in shard.projects.items() if head.live
            ]
        # Of no serial can it be said that all changes up to it are there: who dies leaves one for later.
        return RootSnapshot(revision, serial, 0, tuple(sorted(listed, key=lambda project: project.name)))

    def root_revision(self) -> int:
        return sum(head.revision for head in self._shards(load_shard_head))

    def serials_revision(self) -> int:
        return sum(head.serial for head in self._shards(load_shard_head))

    def core_metadata(self, key: str) -> bytes | None:
        document = place_of(key).document
        project: Project | None = self._store.recall(document, younger_than_seconds=_REMEMBERED_SECONDS)
        patience = Patience(
            f"the core metadata of {key} is missing in the catalog: if that lasts, remove everything below "
            ".elasticpypi/catalog/ and run `elasticpypi sync`, which makes it anew from the storage"
        )
        while True:
            is_fresh = project is None
            project = project or self._project_to_change(document)
            row = project.rows.get(key)
            if row is not None and row.core_metadata is not None:
                body = self._store.read(core_metadata_document(key, row.core_metadata), decompress)
                if body is not None:
                    return body
            if is_fresh:
                if row is None or row.core_metadata is None:
                    return None
                patience.wait()  # replaced in between
            project = None

    def known_keys(self, prefix: str = "") -> Iterator[KnownKey]:
        # All of them in memory, as with a table: documents have no order among their rows.
        found = []
        heads: dict[NormalizedName, Head] = {}
        for name, project in self._everything():
            if name is not None:
                heads[name] = project.head
            found += [KnownKey(row.key, row.fingerprint) for row in project.live_rows() if row.key.startswith(prefix)]
        if not prefix:
            self._untold = self._find_untold(heads)
        yield from sorted(found, key=lambda known: known.key)  # code points have the order of their UTF-8 bytes

    def problems(self) -> Iterator[Entry]:
        documents = self._store.list(NAMELESS) + [
            project_document(NormalizedName(name))
            for shard in self._shards(load_shard)
            for name, head in shard.projects.items()
            if head.problems
        ]
        entries = [
            row.entry(name)
            for name, project in self._read_projects(documents)
            for row in project.live_rows()
            if row.is_problem
        ]
        yield from sorted(entries, key=lambda entry: entry.key)

    def counts(self) -> Counts:
        heads = [head for shard in self._shards(load_shard) for head in shard.projects.values()]
        nameless = (project.head for _, project in self._read_projects(self._store.list(NAMELESS)))
        heads_of_files = [*heads, *nameless]
        return Counts(
            sum(bool(head.live) for head in heads),
            sum(head.files for head in heads_of_files),
            sum(head.problems for head in heads_of_files),
        )

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        found = self._store.read(page_document(name, form), load_page)
        return None if found is None else KeptPage(*found)

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        def replace(kept: tuple[int, bytes | None] | None) -> tuple[int, bytes | None] | None:
            return (page.revision, page.body) if kept is None or kept[0] < page.revision else None

        self._store.change(page_document(name, form), load_page, lambda kept: dump_page(*kept), replace)

    def identity(self) -> str:
        while True:
            itself = self._itself()
            if itself is not None:
                return itself.identity
            # First, so that no catalog has an identity whose counters could repeat those of a former one.
            for document in shard_documents():
                self._store.change(document, load_shard, dump_shard, _begun, _whatever_it_says)
            made = Itself(secrets.token_hex(16), is_complete=False)
            make = partial(_unless_there, made)
            self._store.change(SELF, load_itself, dump_itself, make, _whatever_it_says)

    def is_complete(self) -> bool:
        itself = self._itself()
        return itself is not None and itself.is_complete

    def mark_complete(self, identity: str) -> None:
        for name, head in self._untold.items():
            self._tell(name, head)
        self._untold = {}

        def complete(itself: Itself | None) -> Itself | None:
            if itself is None or itself.identity != identity or itself.is_complete:
                return None
            return Itself(identity, is_complete=True)

        self._store.change(SELF, load_itself, dump_itself, complete, _whatever_it_says)

    def check(self) -> None:
        self._itself()

    def close(self) -> None:
        """Do nothing: what is held open belongs to the documents."""

    def _itself(self) -> Itself | None:
        return self._store.read(SELF, load_itself)

    def _rows(self, name: NormalizedName) -> Iterable[Row]:
        return self._project_to_change(project_document(name)).rows.values()

    def _project_to_change(self, document: str) -> Project:
        return self._store.read_to_change(document, load_project) or Project()

    def _shards(self, load: Callable[[bytes], _T]) -> list[_T]:
        found = self._store.read_all(shard_documents(), lambda document: self._store.read(document, load))
        return [shard for _, shard in found if shard is not None]

    def _everything(self) -> Iterator[tuple[NormalizedName | None, Project]]:
        return self._read_projects(self._store.list(PROJECTS) + self._store.list(NAMELESS))

    def _read_projects(self, documents: Iterable[str]) -> Iterator[tuple[NormalizedName | None, Project]]:
        # Without remembering them, which would push out what is being changed.
        found = self._store.read_all(documents, lambda document: self._store.read(document, load_project))
        for document, project in found:
            if project is not None:
                yield project_in(document), project

    def _replace(self, document: str, group: Sequence[Write]) -> Sequence[Write]:
        replacement = Replacement(group)
        self._store.put_all(replacement.core_metadata)
        self._store.change(document, load_project, dump_project, replacement, replacement.is_outdated)
        name = project_in(document)
        if name is not None and replacement.head.revision:
            self._tell(name, replacement.head)
        self._store.remove_all(replacement.left_over)
        return replacement.lost

    def _tell(self, name: NormalizedName, head: Head) -> None:
        """Let the root know a project's revision, unless it knows a later one."""

        def tell(shard: Shard | None) -> Shard | None:
            shard = shard or new_shard()
            return None if shard.knows(name, head) else shard.telling(name, head)

        self._store.change(shard_document(name), load_shard, dump_shard, tell)

    def _find_untold(self, heads: dict[NormalizedName, Head]) -> dict[NormalizedName, Head]:
        known = {name: head for shard in self._shards(load_shard) for name, head in shard.projects.items()}
        return {name: head for name, head in heads.items() if known.get(name, Head()).revision < head.revision}


def _whatever_it_says(_: object) -> bool:
    """Trust nothing that is remembered: it may be of a catalog that somebody has removed."""
    return True


def _unless_there(made: Itself, present: Itself | None) -> Itself | None:
    return made if present is None else None


def _begun(shard: Shard | None) -> Shard | None:
    if shard is None:
        return new_shard()
    begun = shard.begun_now()
    return None if begun is shard else begun


def _entry(project: Project, key: str, name: NormalizedName | None) -> Entry:
    row = project.rows.get(key)
    return Entry(key, None) if row is None else row.entry(name)
