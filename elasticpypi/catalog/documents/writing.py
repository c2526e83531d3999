"""What becomes of a project's document when rows of it are replaced, all those that nobody else was quicker with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from elasticpypi.catalog import Write
from elasticpypi.catalog.documents.formats import (
    Head,
    Project,
    Row,
    compress,
    core_metadata_document,
    make_row,
    next_after,
)


@dataclass(slots=True)
class _Prepared:
    """A row that is to be replaced: by the same one in every attempt, so that one that was made unnoticed is known."""

    write: Write
    generation: int
    token: str | None  # of its new core metadata
    made: Row | None = None  # in the last attempt
    replaced: str | None = None  # the token of the core metadata that this attempt leaves behind

    @property
    def key(self) -> str:
        return self.write.after.key

    @property
    def differs(self) -> bool:
        return self.write.after.content != self.write.before.content

    def make(self, present: Row | None) -> Row:
        """Return the new row in place of the present one."""
        kept = None if present is None else present.core_metadata
        self.made = make_row(self.write.after, self.generation, self.token if self.differs else kept)
        self.replaced = kept if kept != self.made.core_metadata else None
        return self.made


class Replacement:
    """Replaces rows in their document: called with what it says, until what comes of that is written."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._all = [_Prepared(write, next_after(write.before.generation), _token_for(write)) for write in writes]
        self._pending = self._all
        self._lost: list[_Prepared] = []
        self.head = Head()  # of the project, when all is done

    @property
    def lost(self) -> list[Write]:
        """The writes that met a conflict."""
        return [each.write for each in self._lost]

    @property
    def core_metadata(self) -> list[tuple[str, bytes]]:
        """The documents to be written before: no row names one that is not there."""
        return [
            (core_metadata_document(each.key, each.token), compress(each.write.core_metadata))
            for each in self._all
            if each.token is not None and each.write.core_metadata is not None
        ]

    @property
    def left_over(self) -> Iterator[str]:
        """The documents to be removed afterwards: those that no row names any more, or ever did."""
        for each in self._all:
            token = each.token if any(each is lost for lost in self._lost) else each.replaced
            if token is not None:
                yield core_metadata_document(each.key, token)

    def is_outdated(self, project: Project | None) -> bool:
        """Whether a document that was read before cannot be the one in which the rows are as they were read."""
        project = project or Project()
        return any(_is_stale(each, project) for each in self._pending)

    def __call__(self, project: Project | None) -> Project | None:
        """Return the document with the new rows; None where there are none to be written."""
        project = project or Project()
        stale = [each for each in self._pending if _is_stale(each, project)]
        self._pending = [each for each in self._pending if not _is_stale(each, project)]
        # What is there as an attempt has made it was written although no answer said so.
        self._lost += [each for each in stale if each.made is None or project.rows.get(each.key) != each.made]
        self.head = project.head
        if not self._pending:
            return None
        rows = [each.make(project.rows.get(each.key)) for each in self._pending]
        changed = project.replacing(rows, differs=any(each.differs for each in self._pending))
        self.head = changed.head
        return changed


def _is_stale(prepared: _Prepared, project: Project) -> bool:
    return project.generation(prepared.key) != prepared.write.before.generation


def _token_for(write: Write) -> str | None:
    if write.core_metadata is None or write.after.content is None or write.after.content == write.before.content:
        return None
    return secrets.token_hex(8)
