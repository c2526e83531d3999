"""One project written anew: a round, in the steps in which several projects go together.

`begin` marks the project, reads it and writes all but its page in JSON; `complete` writes that page, which is the
record of what was completed, and `clean` removes what is superfluous. Any step may raise ConflictError or BusyError:
somebody else is at work, and a new round is to begin that trusts nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elasticpypi.errors import BusyError, ConflictError, InvalidFilenameError, InvalidNameError
from elasticpypi.names import NormalizedName, parse_filename
from elasticpypi.output import Output, Written
from elasticpypi.static_site import CoreMetadataPlace, Document, SiteOptions, SiteProject, Source
from elasticpypi.static_site.changelog import Entry, entries_of, entry_keys
from elasticpypi.static_site.marking import Mark, find_mark, is_marked, remove_mark, set_mark
from elasticpypi.static_site.pages import (
    changed_versions,
    metadata_documents,
    metadata_paths,
    paths_of_page,
    project_documents,
    project_paths,
)
from elasticpypi.static_site.paging import Key, key_of
from elasticpypi.static_site.putting import Tally, put, take_away

_LOOKS = 24  # at so many documents one by one; more are looked at by listing
_PACKAGES = "packages"
_TOPS = ("simple", "pypi", "project", _PACKAGES)
METADATA = ".metadata"


@dataclass(frozen=True, slots=True)
class Work:
    """What a round works with."""

    source: Source
    output: Output
    options: SiteOptions
    beside: Output | None
    tally: Tally
    with_packages: bool  # what lies below `packages/` is the site's own; else it may be a pool of files
    is_first: bool = False  # nothing that lies there is the site's own
    are_built: Callable[[], bool] = lambda: True  # whether all pages that lie there are of the same options

    @property
    def is_alone(self) -> bool:
        """Whether nobody else writes meanwhile."""
        return self.output.is_exclusive

    def metadata_output(self) -> Output:
        """Return where core metadata is written."""
        if self.options.core_metadata is CoreMetadataPlace.BESIDE and self.beside is not None:
            return self.beside
        return self.output


@dataclass(frozen=True, slots=True)
class Trust:
    """What a round is told of what lies there."""

    is_thorough: bool = False  # nothing is to be trusted
    is_unknown: bool = False  # a build that was killed may have written the pages, and nothing into the changelog
    touched: frozenset[tuple[str, str]] = frozenset()  # as in `Mark`: by an earlier round of ours
    there: Mapping[str, Written] | None = None  # all of it, as it was before the source was first read; None: unknown
    elsewhere: Mapping[str, Written] | None = None  # core metadata below other paths than the project's, likewise


@dataclass(frozen=True, slots=True)
class Round:
    """One project between two steps."""

    name: NormalizedName
    project: SiteProject | None  # None: it is gone
    record: Written | None  # what the page in JSON is to replace
    last: Document | None  # the page in JSON; None: the project is gone
    superfluous: list[tuple[Output, Written]]
    is_listed: bool  # nothing is to be done about the lists of projects
    mark: Mark | None  # None: nobody can come in between, and that we are at work is noted elsewhere
    entries: list[Entry]  # to be in the changelog
    drop: set[Key]  # not to be there

    @property
    def touched(self) -> frozenset[tuple[str, str]]:
        """What another round has to look at in the changelog if this one comes to nothing."""
        return frozenset() if self.mark is None else self.mark.touched


@dataclass(frozen=True, slots=True)
class _There:
    """What lies there of a project, as far as it is concerned."""

    pages: dict[str, Written]
    metadata: dict[str, Written]


def record_path(name: NormalizedName) -> str:
    """Return where the page lies that is written last."""
    return f"simple/{name}/index.json"


def begin(work: Work, name: NormalizedName, trust: Trust) -> Round | None:
    """Write all of a project but what other steps write; None where all is as it should be, which small reads show."""
    is_marking = not (work.is_alone and trust.there is not None)
    mark = find_mark(work.output, name) if is_marking else None
    is_ours = mark is not None or not work.is_first
    page, record = _read_record(work, name, trust)
    is_trusting = mark is None and not trust.is_thorough and (page is None) is (record is None)
    present = work.source.mark(name) if trust.there is None else None
    if is_trusting and present == (None if page is None else _serial(page)):
        return None
    is_trusting = is_trusting and work.are_built()
    project = work.source.project(name)
    entries: list[Entry] = []
    drop: set[Key] = set()
    if is_marking:  # else who builds it all makes the changelog of what all rounds have read
        entries, drop = _changelog(project, name, page, trust.touched | (mark.touched if mark else frozenset()))
        if trust.is_unknown and project is not None:
            entries = entries_of(project)
        touched = frozenset((time, filename) for time, _, filename in drop | {key_of(entry) for entry in entries})
        mark = set_mark(work.output, name, replacing=mark, touched=touched)
    old, old_metadata = (set(), set()) if page is None else paths_of_page(page, work.options)
    new, new_metadata = _paths(work, project)
    documents, metadata, concerned = _documents(work, project, page if is_trusting else None)
    there = _look(
        work,
        name,
        trust,
        ({document.path for document in documents} | old - new) - {record_path(name)},
        (new_metadata if concerned is None else concerned) | old_metadata - new_metadata,
        is_thorough=not is_trusting,
    )
    if trust.there is None and work.source.mark(name) != present:
        raise ConflictError(name)  # what was looked at may be newer than what was read
    announced = set(old_metadata) if is_trusting else set()
    for document in metadata:
        put(work.metadata_output(), document, there.metadata.get(document.path), work.tally)
        announced.add(document.path)
    if not new_metadata <= announced:
        raise BusyError(name)  # a file is another one by now
    last = documents.pop() if documents else None
    for document in documents:
        put(work.output, document, there.pages.get(document.path), work.tally)
    pages = sorted(
        there.pages.keys() - new - {record_path(name)}, key=lambda path: (path.startswith("packages/"), path)
    )
    superfluous = [] if record is None or project is not None else [(work.output, record)]
    superfluous += [(work.output, there.pages[path]) for path in pages]
    superfluous += [
        (work.metadata_output(), there.metadata[path]) for path in sorted(there.metadata.keys() - new_metadata)
    ]
    is_listed = is_trusting and page is not None and project is not None
    return Round(name, project, record, last, superfluous if is_ours else [], is_listed, mark, entries, drop)


def complete(work: Work, step: Round) -> None:
    """Write the page in JSON: with it the project is as it should be, but for what is superfluous."""
    if step.last is not None:
        put(work.output, step.last, step.record, work.tally)


def clean(work: Work, step: Round) -> None:
    """Remove what is superfluous, pages before what they name, and the mark."""
    if step.mark is not None and not work.is_alone and not is_marked(work.output, step.name, step.mark):
        raise ConflictError(step.name)
    for output, written in step.superfluous:
        take_away(output, written, work.tally)
    if step.mark is not None:
        remove_mark(work.output, step.name, step.mark)


def project_of(path: str) -> NormalizedName | None:
    """Return which project a page, or core metadata where its key is the canonical one, belongs to; None: none."""
    top, _, rest = path.partition("/")
    name, slash, _ = rest.partition("/")
    if not slash or top not in _TOPS or (top == "packages" and not path.endswith(METADATA)):
        return None
    return NormalizedName(name)


def described_project(path: str) -> NormalizedName | None:
    """Return the project of the file that core metadata is of, as the file is named; None where that says nothing."""
    try:
        return parse_filename(path.rpartition("/")[2].removesuffix(METADATA)).project
    except (InvalidFilenameError, InvalidNameError):
        return None


def _read_record(work: Work, name: NormalizedName, trust: Trust) -> tuple[Mapping[str, Any] | None, Written | None]:
    """Return the old page in JSON, None where there is none that can be used, and what it is known by."""
    if trust.there is not None and record_path(name) not in trust.there:
        return None, None
    found = work.output.read(record_path(name))
    if found is None:
        return None, None
    try:
        page = json.loads(found[0])
        paths_of_page(page, work.options)
        entry_keys(page)
        return (page if page["name"] == name else None), found[1]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, found[1]


def _serial(page: Mapping[str, Any]) -> str:
    return str(page["meta"].get("_last-serial"))


def _says_all(page: Mapping[str, Any]) -> bool:
    """Whether a page shows all that its project's documents are made of; lists also say what no page shows."""
    return "_last-serial" in page["meta"]


def _changelog(
    project: SiteProject | None,
    name: NormalizedName,
    page: Mapping[str, Any] | None,
    touched: frozenset[tuple[str, str]],
) -> tuple[list[Entry], set[Key]]:
    """Return what is to be in the changelog, out of what has changed, and what is not."""
    before = set() if page is None else set(entry_keys(page))
    after = {} if project is None else {key_of(entry): entry for entry in entries_of(project)}
    concerned = (before ^ after.keys()) | {(time, name, filename) for time, filename in touched}
    if page is not None and not _says_all(page):
        concerned |= after.keys()
    return [after[key] for key in sorted(concerned & after.keys())], concerned - after.keys()


def _documents(
    work: Work, project: SiteProject | None, page: Mapping[str, Any] | None
) -> tuple[list[Document], Iterable[Document], set[str] | None]:
    """Return pages, core metadata, and the paths of these; the old page says which releases have changed.

    Without one it is all of them, core metadata is read one by one, and its paths are those of the project (None).
    """
    if project is None:
        return [], [], None
    versions = None if page is None or not _says_all(page) else changed_versions(page, project)
    pages = list(project_documents(project, work.options, versions=versions))
    metadata = metadata_documents(project, work.options, versions=versions)
    if versions is None:
        return pages, metadata, None
    changed = list(metadata)
    return pages, changed, {document.path for document in changed}


def _paths(work: Work, project: SiteProject | None) -> tuple[set[str], set[str]]:
    if project is None:
        return set(), set()
    return project_paths(project, work.options), metadata_paths(project, work.options)


def _look(
    work: Work, name: NormalizedName, trust: Trust, pages: set[str], metadata: set[str], *, is_thorough: bool
) -> _There:
    """Look at these documents; at all of the project where there are many, or when nothing is to be trusted."""
    is_among_pages = work.metadata_output() is work.output
    there = _There({}, {})
    if trust.there is not None or is_thorough or len(pages) + len(metadata) > _LOOKS:
        for path, written in (_list(work, name) if trust.there is None else trust.there).items():
            if is_among_pages and path in metadata:
                there.metadata[path] = written
            elif not path.startswith("packages/") or _is_of(path, name):
                there.pages[path] = written
        there.pages.pop(record_path(name), None)
        pages = set()
        if is_among_pages:
            metadata = {path for path in metadata if not path.startswith(f"packages/{name}/")}
            if trust.elsewhere is not None:
                there.metadata.update((path, trust.elsewhere[path]) for path in metadata if path in trust.elsewhere)
                metadata = set()
    for output, paths, found in ((work.output, pages, there.pages), (work.metadata_output(), metadata, there.metadata)):
        looked = ((path, output.look(path)) for path in sorted(paths))
        found.update((path, written) for path, written in looked if written is not None)
    return there


def _list(work: Work, name: NormalizedName) -> dict[str, Written]:
    tops = [top for top in _TOPS if work.with_packages or top != _PACKAGES]
    found = itertools.chain.from_iterable(work.output.list(f"{top}/{name}/") for top in tops)
    return {written.path: written for written in found if project_of(written.path) == name}


def _is_of(path: str, name: NormalizedName) -> bool:
    """Whether core metadata is that of a file of a project: a key may begin with another project's name."""
    return described_project(path) in (name, None)
