"""What the last build has noted for the next one, and `packages.json`, of which only what has changed is made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field

from elasticpypi.errors import ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX, Output, Written
from elasticpypi.static_site import Document
from elasticpypi.static_site.putting import Tally, put

PACKAGES_PATH = "packages.json"

_PATH = f"{STATE_PREFIX}site.json"
_JSON = "application/json"
_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Noted:
    """A project as the last build has left it."""

    mark: str  # the source's, from before it was read
    size: int  # bytes of its lines in packages.json


@dataclass(frozen=True, slots=True)
class Notes:
    """What the last build has noted."""

    written: Written | None = None
    fingerprint: str | None = None  # of the options
    is_complete: bool = False  # else it is running, or was killed
    packages: str | None = None  # the token of packages.json
    with_packages: bool = False  # core metadata of ours may lie below `packages/`
    cursor: NormalizedName | None = None  # a look at everything came so far when its time was over
    projects: Mapping[NormalizedName, Noted] = field(default_factory=dict)


def read_notes(output: Output) -> Notes:
    """Return what is noted; what cannot be read is as good as nothing."""
    found = output.read(_PATH)
    if found is None:
        return Notes()
    try:
        document = json.loads(found[0])
        projects = {NormalizedName(name): Noted(*noted) for name, noted in document["projects"].items()}
        return Notes(
            found[1],
            document["fingerprint"],
            document["complete"],
            document["packages"],
            document["with_packages"],
            document["cursor"],
            projects,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return Notes(found[1])


def write_notes(output: Output, notes: Notes) -> Written | None:
    """Write in place of what was read; None where another build has come first, whose notes are as good."""
    document = {
        "fingerprint": notes.fingerprint,
        "complete": notes.is_complete,
        "packages": notes.packages,
        "with_packages": notes.with_packages,
        "cursor": notes.cursor,
        "projects": {name: [noted.mark, noted.size] for name, noted in notes.projects.items()},
    }
    try:
        return output.write(_PATH, json.dumps(document).encode(), _JSON, replacing=notes.written)
    except ConflictError:
        return None


def write_packages(
    output: Output,
    notes: Notes,
    names: Iterator[NormalizedName],
    lines: Mapping[NormalizedName, bytes],
    read_lines: Callable[[NormalizedName], bytes],
    tally: Tally,
) -> tuple[str | None, dict[NormalizedName, int]]:
    """Write the lines of all files; return the document's token, and how many bytes are each project's.

    `lines` are those that have been read; others are copied from where the notes say that they lie, and read where
    the document is another one by now. The token is None where somebody else was faster.
    """
    there = output.look(PACKAGES_PATH)
    is_known = there is not None and there.token == notes.packages
    wanted = set(names)
    if is_known and not lines and notes.projects.keys() == wanted:
        return notes.packages, {name: noted.size for name, noted in notes.projects.items()}
    old = output.read(PACKAGES_PATH) if is_known else None
    is_usable = old is not None and old[1] == there and len(old[0]) == sum(n.size for n in notes.projects.values())
    known = notes.projects if is_usable else {}
    sizes = {name: known[name].size for name in wanted & known.keys() - lines.keys()}
    read = {name: lines[name] if name in lines else read_lines(name) for name in wanted - sizes.keys()}
    data = b"".join(_splice(old[0] if old is not None else b"", known, sizes, read))
    sizes |= {name: len(block) for name, block in read.items()}
    try:
        put(output, Document(PACKAGES_PATH, _LINES, data), there, tally)
    except ConflictError:
        return None, sizes
    written = output.look(PACKAGES_PATH)
    return (None if written is None or written.size != len(data) else written.token), sizes


def _splice(
    data: bytes,
    known: Mapping[NormalizedName, Noted],
    kept: Container[NormalizedName],
    read: Mapping[NormalizedName, bytes],
) -> Iterator[bytes | memoryview]:
    """Yield lines in the order of the names, those of projects that follow each other and are kept as one piece."""
    view, begin, end = memoryview(data), 0, 0
    for name in sorted({*known, *read}):
        size = known[name].size if name in known else 0
        if name in kept:
            end += size
            continue
        yield view[begin:end]
        begin = end = end + size
        yield read.get(name, b"")
    yield view[begin:end]
