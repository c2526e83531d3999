"""The items of the table: what their keys are, and how a row stands in one.

Keys are `pk` and `sk`. The attributes of a row have short names, since a project's page reads all of them: `g`
generation, `f` fingerprint, `v` the project's revision that the content came with (live rows of a project), `c` content
(text, or compressed bytes), `t` the parts that it lies in where it is too large, `m` core metadata is kept, `p` it is a
problem, `expires` a tombstone. A record of the ledger has `c` its text and `w` a signature of its write, a counter `n`
what it has come to, both `expires` when they are gone. Specification: Amazon DynamoDB Developer Guide, "Constraints in
Amazon DynamoDB".
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elasticpypi.catalog.rows import dump_content, load_content
from elasticpypi.errors import CatalogError
from elasticpypi.model import Decisions, Entry, File, Rejection, Status
from elasticpypi.names import DECISIONS_FILENAME, NormalizedName, parse_key, project_of

Item = dict[str, Any]
Key = tuple[str, str]  # pk, sk

SHARDS = 16
LARGEST_BODY = 350 << 10  # 350 KiB; an item may have 400, names and other attributes included
SELF: Key = ("self", "self")
PROBLEMS = "problems"
ROWS = "row#"
_PLAIN = 4096  # characters of content that are not worth compressing
_BROKEN = "a part of its row in the catalog is missing: run `elasticpypi sync`"
_TOMBSTONE_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where the items of a key lie."""

    key: str
    project: NormalizedName | None
    row: Key
    core_metadata: Key
    problem: Key


def place_of(key: str) -> Place:
    """Return the place of a key. A sort key has at most 1,024 bytes, as many as an S3 key: a digest stands for it."""
    named = parse_key(key)
    project = None if named is None else project_of(named)
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    problem = (PROBLEMS, digest)
    if project is None:
        return Place(key, None, (f"key#{key}", ROWS), (f"key#{key}", "metadata#"), problem)
    pk = project_pk(project)
    return Place(key, project, (pk, f"{rows_named(filename_of(key))}{digest}"), (pk, f"metadata#{digest}"), problem)


def project_pk(name: NormalizedName) -> str:
    """Return the partition of a project's rows."""
    return f"project#{name}"


def rows_named(filename: str) -> str:
    """Return what the sort keys of the rows of a filename begin with."""
    return f"{ROWS}{filename}#"


def filename_of(key: str) -> str:
    """Return the last part of a key."""
    return key.rpartition("/")[2]


def project_key(name: NormalizedName) -> Key:
    """Return where a project's revision and counts are."""
    return root_pk(hashlib.sha256(name.encode()).digest()[0] % SHARDS), name


def root_pk(shard: int) -> str:
    """Return the partition of a shard of the projects."""
    return f"root#{shard:02}"


def shard_key(pk: str) -> Key:
    """Return where the counters of a shard are; it sorts before every project."""
    return pk, "!"


def page_key(name: NormalizedName | None, form: str) -> Key:
    """Return where a page is kept (None: of the root)."""
    return f"page#{name or ''}", form


def ledger_pk(kind: str) -> str:
    """Return the partition of the records, or counters, of a kind."""
    return f"ledger#{kind}"


def as_key(key: Key) -> Item:
    """Return a key as the API takes it."""
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def key_of(item: Item) -> Key:
    """Return the key of an item."""
    return item["pk"]["S"], item["sk"]["S"]


def number(item: Mapping[str, Any] | None, name: str) -> int:
    """Return a whole number out of an item; 0 where there is none."""
    return int(item[name]["N"]) if item is not None and name in item else 0


def next_after(counter: int) -> int:
    """Return the number after a generation or revision: later than it, and not before now in µs."""
    return max(counter + 1, time.time_ns() // 1000)


def mark(sort_key: str, revision: int) -> int:
    """Return what an item at a revision adds to the sum that tells readers whether they have seen items of one state.

    Queries are not isolated from transactions: one may see the first half of a write and miss the second. The sum over
    all live items is written with each transaction, so rows that make it up are those of that transaction.
    """
    return int.from_bytes(hashlib.blake2b(f"{sort_key}:{revision}".encode(), digest_size=8).digest())


def is_file(row: Item) -> bool:
    """Whether a row is that of a file, listed or rejected, and not of decisions."""
    return filename_of(row["key"]["S"]) != DECISIONS_FILENAME


def is_live(row: Item) -> bool:
    """Whether a row has content."""
    return "expires" not in row


def dump_row(place: Place, entry: Entry, generation: int, token: str) -> tuple[Item, list[Item]]:
    """Return a row as an item, and the parts in which its content lies, if it is so large."""
    row = as_key(place.row) | {"key": {"S": entry.key}, "g": {"N": str(generation)}, "f": {"S": entry.fingerprint}}
    if entry.content is None:
        return row | {"expires": {"N": str(tombstone_expires())}}, []
    if entry.problem is not None:
        row["p"] = {"BOOL": True}
    text = dump_content(entry.content)
    if len(text) <= _PLAIN:
        return row | {"c": {"S": text}}, []
    attribute, parts = _dump_body(place.row[0], text.encode(), token, "c")
    return row | attribute, parts


def tombstone_expires() -> int:
    """Return when a tombstone of now may go, in seconds since 1970."""
    return int(time.time()) + _TOMBSTONE_SECONDS


def dump_core_metadata(place: Place, body: bytes, token: str) -> tuple[Item, list[Item]]:
    """Return core metadata as an item, and its parts."""
    attribute, parts = _dump_body(place.row[0], body, token, "b")
    return as_key(place.core_metadata) | attribute, parts


def _dump_body(pk: str, body: bytes, token: str, name: str) -> tuple[Item, list[Item]]:
    compressed = zlib.compress(body)
    if len(compressed) <= LARGEST_BODY:
        return {name: {"B": compressed}}, []
    pieces = [compressed[at : at + LARGEST_BODY] for at in range(0, len(compressed), LARGEST_BODY)]
    named = f"{token}.{name}.{len(pieces)}"
    keys = part_keys(pk, named)
    return {"t": {"S": named}}, [as_key(key) | {"b": {"B": piece}} for key, piece in zip(keys, pieces, strict=True)]


def part_keys(pk: str, named: str) -> list[Key]:
    """Return the keys of the parts that an item's `t` (or a row's `m`) names, in order."""
    count = int(named.rpartition(".")[2])
    return [(pk, f"part#{named}#{number:04}") for number in range(count)]


def named_parts(item: Item, *attributes: str) -> list[Key]:
    """Return the keys of all parts that attributes of an item name."""
    pk = item["pk"]["S"]
    return [key for name in attributes if item.get(name, {}).get("S") for key in part_keys(pk, item[name]["S"])]


def load_body(item: Item, name: str, parts: Mapping[Key, Item]) -> bytes | None:
    """Return what `_dump_body` wrote; None where a part is missing, since somebody has written anew meanwhile."""
    if "t" not in item:
        return zlib.decompress(item[name]["B"])
    pieces = [parts.get(key) for key in named_parts(item, "t")]
    return zlib.decompress(b"".join(piece["b"]["B"] for piece in pieces if piece)) if all(pieces) else None


def load_rows(rows: Sequence[Item], parts: Mapping[Key, Item]) -> list[Entry] | None:
    """Read rows; None where a part is missing, since somebody has written anew meanwhile."""
    entries = []
    for row in rows:
        entry = load_row(row, parts)
        if entry is None:
            return None
        entries.append(entry)
    return entries


def load_row(row: Item, parts: Mapping[Key, Item]) -> Entry | None:
    """Read a row; None where a part is missing."""
    try:
        content = _load_content(row, parts) if is_live(row) else None
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise CatalogError(
            f"the catalog's row of {row.get('key')} cannot be read ({error!r}): remove the table, "
            "with which all tokens and the audit trail are lost, deploy again and run `elasticpypi sync`, which fills "
            "the catalog from the storage"
        ) from error
    if content is None and is_live(row):
        return None
    return replace(_without_content(row), fingerprint=row["f"]["S"], content=content)


def load_broken_row(row: Item) -> Entry:
    """Return what stands for a row of which a part stays missing: its object is read anew by whoever compares them.

    Until then it is nothing that could be served or that would let anything be served: what has been decided is lost.
    """
    entry = _without_content(row)
    if is_file(row):
        return replace(entry, content=Rejection(filename_of(entry.key), _BROKEN))
    return replace(entry, content=Decisions(Status.QUARANTINED, "its decisions cannot be read", problem=_BROKEN))


def _without_content(row: Item) -> Entry:
    key = row["key"]["S"]
    return Entry(key, place_of(key).project, number(row, "g"))


def _load_content(row: Item, parts: Mapping[Key, Item]) -> File | Rejection | Decisions | None:
    if "S" in row.get("c", {}):
        return load_content(row["c"]["S"])
    body = load_body(row, "c", parts)
    return None if body is None else load_content(body.decode())


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of at most `size` items."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def weigh(item: Item) -> int:
    """Return about how many bytes an item has."""
    return sum(
        len(name) + (len(value) if isinstance(value, bytes) else len(json.dumps(value)))
        for name, attribute in item.items()
        for value in attribute.values()
    )
