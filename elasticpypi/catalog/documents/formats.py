"""What stands in the documents: a project with its rows, a shard of the root, a kept page, who the catalog is.

A document is one gzip stream (without a time, so that equal content gives equal bytes) of a line of JSON, its head, and
a body, so that a revision is read without reading thousands of rows. The head of whatever is replaced on condition
counts its writes: S3 knows a document by its bytes, and so they never repeat.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from elasticpypi.catalog.rows import dump_content, load_content
from elasticpypi.model import Entry
from elasticpypi.names import DECISIONS_FILENAME, NormalizedName, parse_key, project_of

PREFIX = ".elasticpypi/catalog/"
SELF = f"{PREFIX}self.json"
PROJECTS = f"{PREFIX}projects/"
NAMELESS = f"{PREFIX}nameless/"
SHARDS = 16
_SUFFIX = ".json.gz"
_GZIP_LEVEL = 1  # a document is written more often than its size matters
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # 16: with a gzip header
_HEAD_BYTES = 1024  # in which every head ends
_TOMBSTONE_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it stands in its project's document; its content is text until somebody asks for it."""

    key: str
    generation: int
    fingerprint: str
    content: str | None = None  # catalog.rows; None: a tombstone
    is_problem: bool = False
    core_metadata: str | None = None  # what names the document of its core metadata
    expires: int | None = None  # seconds since 1970, tombstones only

    @property
    def is_live(self) -> bool:
        """Whether something lies under the key."""
        return self.content is not None

    @property
    def is_file(self) -> bool:
        """Whether it is a live one of a file, listed or rejected."""
        return self.is_live and not self.key.endswith(f"/{DECISIONS_FILENAME}")

    def entry(self, project: NormalizedName | None) -> Entry:
        """Return it as the catalog's protocol has it."""
        content = None if self.content is None else load_content(self.content)
        return Entry(self.key, project, self.generation, self.fingerprint, content)


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a project without its rows, and what the root says of it."""

    revision: int = 0
    live: int = 0  # rows
    files: int = 0  # listed or rejected
    problems: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A project's document (or one of rows without a project): the truth about it, tombstones included."""

    head: Head = field(default_factory=Head)
    rows: Mapping[str, Row] = field(default_factory=dict)  # by key
    writes: int = 0

    def generation(self, key: str) -> int:
        """Return the generation of a row; 0 where there is none."""
        return self.rows[key].generation if key in self.rows else 0

    def live_rows(self) -> Iterable[Row]:
        """Return what is no tombstone, in any order."""
        return (row for row in self.rows.values() if row.is_live)

    def replacing(self, rows: Iterable[Row], *, differs: bool) -> Project:
        """Return the document with other rows; its revision moves where content `differs`."""
        now = time.time_ns() // 1_000_000_000
        kept = {key: row for key, row in self.rows.items() if row.expires is None or row.expires >= now}
        kept |= {row.key: row for row in rows}
        live = [row for row in kept.values() if row.is_live]
        head = Head(
            next_after(self.head.revision) if differs else self.head.revision,
            len(live),
            sum(row.is_file for row in live),
            sum(row.is_problem for row in live),
        )
        return Project(head, kept, self.writes + 1)


@dataclass(frozen=True, slots=True)
class ShardHead:
    """The counters of a shard, whose sums over all shards are the root's revisions."""

    revision: int = 0  # grows when a project comes or goes
    serial: int = 0  # grows with every change


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the root: the projects in it as their documents were, those that have gone included."""

    head: ShardHead
    projects: Mapping[str, Head] = field(default_factory=dict)
    writes: int = 0

    def knows(self, name: str, head: Head) -> bool:
        """Whether it has heard of this revision of a project, or of a later one."""
        return self._known(name).revision >= head.revision

    def telling(self, name: str, head: Head) -> Shard:
        """Return the shard that has heard of a project's revision."""
        comes_or_goes = bool(self._known(name).live) != bool(head.live)
        counters = ShardHead(self.head.revision + comes_or_goes, self.head.serial + 1)
        return Shard(counters, {**self.projects, name: head}, self.writes + 1)

    def begun_now(self) -> Shard:
        """Return the shard with its counters at the time of now, unless they are there already."""
        now = _now()
        counters = ShardHead(max(self.head.revision, now), max(self.head.serial, now))
        return self if counters == self.head else replace(self, head=counters, writes=self.writes + 1)

    def _known(self, name: str) -> Head:
        return self.projects.get(name, Head())


def new_shard() -> Shard:
    """Return a shard that has heard of nothing.

    It begins at the time of now: in the place of a former one, it repeats nothing that that one has said.
    """
    return Shard(ShardHead(_now(), _now()))


@dataclass(frozen=True, slots=True)
class Itself:
    """What tells this catalog from others."""

    identity: str
    is_complete: bool


def next_after(counter: int) -> int:
    """Return the number after a generation or revision: later than it, and not before now in µs."""
    return max(counter + 1, _now())


def _now() -> int:
    return time.time_ns() // 1000


def make_row(after: Entry, generation: int, core_metadata: str | None) -> Row:
    """Return the row that an entry becomes."""
    if after.content is None:
        expires = time.time_ns() // 1_000_000_000 + _TOMBSTONE_SECONDS
        return Row(after.key, generation, after.fingerprint, expires=expires)
    return Row(
        after.key,
        generation,
        after.fingerprint,
        dump_content(after.content),
        is_problem=after.problem is not None,
        core_metadata=core_metadata,
    )


# Where documents lie ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where the row of a key is."""

    project: NormalizedName | None
    document: str


def place_of(key: str) -> Place:
    """Return the place of a key: its project's document, or one of those for rows of which no project is known."""
    named = parse_key(key)
    project = None if named is None else project_of(named)
    if project is None:
        return Place(None, f"{NAMELESS}{_shard_of(key):02}{_SUFFIX}")
    return Place(project, project_document(project))


def project_document(name: NormalizedName) -> str:
    """Return where a project is."""
    return f"{PROJECTS}{name}{_SUFFIX}"


def project_in(document: str) -> NormalizedName | None:
    """Return the project that a document is about; None for one of rows without a project."""
    if not document.startswith(PROJECTS):
        return None
    return NormalizedName(document.removeprefix(PROJECTS).removesuffix(_SUFFIX))


def shard_documents() -> list[str]:
    """Return where the root is."""
    return [_shard_document(number) for number in range(SHARDS)]


def shard_document(name: NormalizedName) -> str:
    """Return where the part of the root is to which a project belongs."""
    return _shard_document(_shard_of(name))


def page_document(name: NormalizedName | None, form: str) -> str:
    """Return where a page is kept (None: of the root)."""
    return f"{PREFIX}pages/{'root' if name is None else f'project/{name}'}/{form}.gz"


def core_metadata_document(key: str, token: str) -> str:
    """Return where core metadata is that was written with a row: once, so that no two writers share it."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{PREFIX}core-metadata/{digest}-{token}.gz"


def _shard_document(number: int) -> str:
    return f"{PREFIX}root/{number:02}{_SUFFIX}"


def _shard_of(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0] % SHARDS


# Reading and writing: whoever reads raises ValueError, LookupError, TypeError or zlib.error for what is damaged -----


def dump_project(project: Project) -> bytes:
    """Write a project."""
    head = project.head
    rows = [
        [
            row.key,
            row.generation,
            row.fingerprint,
            row.content,
            int(row.is_problem),
            row.core_metadata,
            row.expires,
        ]
        for _, row in sorted(project.rows.items())
    ]
    return _pack([project.writes, head.revision, head.live, head.files, head.problems], rows)


def load_project(data: bytes) -> Project:
    """Read what `dump_project` wrote."""
    (writes, *head), rows = _unpack(data)
    return Project(
        Head(*head),
        {
            key: Row(key, generation, fingerprint, content, bool(is_problem), token, expires)
            for key, generation, fingerprint, content, is_problem, token, expires in rows
        },
        writes,
    )


def load_project_head(data: bytes) -> Head:
    """Read the head alone."""
    return Head(*_unpack_head(data)[1:])


def dump_shard(shard: Shard) -> bytes:
    """Write a shard."""
    heads = {
        name: [head.revision, head.live, head.files, head.problems] for name, head in sorted(shard.projects.items())
    }
    return _pack([shard.writes, shard.head.revision, shard.head.serial], heads)


def load_shard(data: bytes) -> Shard:
    """Read what `dump_shard` wrote."""
    (writes, *head), heads = _unpack(data)
    return Shard(ShardHead(*head), {name: Head(*of) for name, of in heads.items()}, writes)


def load_shard_head(data: bytes) -> ShardHead:
    """Read the counters alone."""
    return ShardHead(*_unpack_head(data)[1:])


def dump_itself(itself: Itself) -> bytes:
    """Write what a catalog is."""
    return json.dumps({"identity": itself.identity, "complete": itself.is_complete}).encode()


def load_itself(data: bytes) -> Itself:
    """Read what `dump_itself` wrote."""
    document = json.loads(data)
    return Itself(document["identity"], document["complete"])


def dump_page(revision: int, body: bytes | None) -> bytes:
    """Write a page, which is compressed already."""
    return json.dumps([revision, body is not None]).encode() + b"\n" + (body or b"")


def load_page(data: bytes) -> tuple[int, bytes | None]:
    """Read what `dump_page` wrote."""
    head, _, body = data.partition(b"\n")
    revision, has_body = json.loads(head)
    return revision, body if has_body else None


def compress(data: bytes) -> bytes:
    """Return a gzip stream, the same for the same bytes."""
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()


def decompress(data: bytes) -> bytes:
    """Return what `compress` was given; zlib.error for a stream that is damaged, or not there to its end."""
    decompressor = zlib.decompressobj(wbits=_GZIP_WINDOW)
    found = decompressor.decompress(data)
    if not decompressor.eof:
        raise zlib.error("the stream is incomplete")
    return found


def _pack(head: Sequence[int], body: Any) -> bytes:
    return compress(b"\n".join(json.dumps(part, separators=(",", ":")).encode() for part in (head, body)))


def _unpack(data: bytes) -> tuple[Any, Any]:
    head, _, body = decompress(data).partition(b"\n")
    return json.loads(head), json.loads(body)


def _unpack_head(data: bytes) -> Any:
    head, newline, _ = zlib.decompressobj(wbits=_GZIP_WINDOW).decompress(data, _HEAD_BYTES).partition(b"\n")
    if not newline:
        raise ValueError("its head has no end")
    return json.loads(head)
