"""`DynamoDBCatalog`: what the table says, put together."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from elasticpypi.aws import AWS
from elasticpypi.catalog import Counts, KeptPage, KnownKey, Write
from elasticpypi.catalog.dynamodb.items import (
    LARGEST_BODY,
    PROBLEMS,
    ROWS,
    SELF,
    SHARDS,
    Item,
    Key,
    as_key,
    filename_of,
    is_file,
    is_live,
    load_body,
    load_broken_row,
    load_row,
    load_rows,
    mark,
    named_parts,
    number,
    page_key,
    place_of,
    project_key,
    project_pk,
    root_pk,
    rows_named,
    shard_key,
)
from elasticpypi.catalog.dynamodb.table import Patience, Table, add_to_attributes, when
from elasticpypi.catalog.dynamodb.writing import put_all
from elasticpypi.errors import ConflictError
from elasticpypi.model import Entry, ListedProject, ProjectSnapshot, RootSnapshot
from elasticpypi.names import NormalizedName

_SHARD_KEYS = [shard_key(root_pk(shard)) for shard in range(SHARDS)]
_COMPLETE_SECONDS = 1.0  # for which an answer about completeness holds that came with the last read
_MISSING_SECONDS = 2.0  # after which a part that is missing will not come
_SETTLING_SECONDS = 2.0  # after which every half of a write that was seen is whole
_LONGEST_WRITE = 60_000_000  # µs: no write takes longer from its number to its end, retries and clocks included
_PAGE_SECONDS = 30 * 24 * 60 * 60  # after which a page is forgotten, those of former renderers too


class DynamoDBCatalog:
    """A `Catalog` in a table with the keys `pk` and `sk` and the time to live `expires`."""

    largest_page: int | None = LARGEST_BODY

    def __init__(self, aws: AWS, table: str) -> None:
        self._table = Table(aws, table)
        self._seen = _Seen()

    def entry(self, key: str) -> Entry:
        (entry,) = self.entries([key])
        return entry

    def entries(self, keys: Sequence[str]) -> list[Entry]:
        places = [place_of(key).row for key in keys]
        patience = Patience(self._table.busy, _MISSING_SECONDS)
        while True:
            found = self._get(places)
            rows = [found[place] for place in places if place in found]
            parts = self._parts(rows)
            loaded = [load_row(row, parts) for row in rows]
            if all(loaded) or patience.is_over:
                entries = [entry or load_broken_row(row) for row, entry in zip(rows, loaded, strict=True)]
                by_key = {entry.key: entry for entry in entries}
                return [by_key.get(key) or Entry(key, None) for key in keys]
            patience.wait()

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        if self.put_all([Write(before, after, core_metadata)]):
            raise ConflictError(after.key)

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        return put_all(self._table, writes)

    def project(self, name: NormalizedName) -> ProjectSnapshot | None:
        key = project_key(name)

        def read() -> tuple[Item | None, list[Item]]:
            head = self._get_with_self([key]).get(key)
            return head, self._rows(name) if number(head, "live") else []

        patience = Patience(self._table.busy)
        while True:
            head, rows = self._read_settled(read, f"the rows of the project {name!r}", "v")
            entries = self._load(rows)
            if entries is not None:
                break
            patience.wait()
        if not number(head, "live"):
            return None
        return ProjectSnapshot(name, number(head, "revision"), tuple(sorted(entries, key=lambda entry: entry.key)))

    def entries_named(self, name: NormalizedName, filename: str) -> list[Entry]:
        patience = Patience(self._table.busy)
        while True:
            entries = self._load(self._rows(name, filename))
            if entries is not None:
                return sorted(
                    # A filename may begin with another and its "#".
                    (entry for entry in entries if filename_of(entry.key) == filename),
                    key=lambda entry: entry.key,
                )
            patience.wait()

    def has_files(self, name: NormalizedName, *, besides: str) -> bool:
        project, row = project_key(name), place_of(besides).row
        found = self._get([project, row])
        itself = row in found and is_live(found[row]) and is_file(found[row])
        return number(found.get(project), "files") > itself

    def revision(self, name: NormalizedName) -> int | None:
        key = project_key(name)
        item = self._get_with_self([key]).get(key)
        return number(item, "revision") if number(item, "live") else None

    def root(self) -> RootSnapshot:
        revision = serials_revision = 0
        projects: list[ListedProject] = []
        for pk, _ in _SHARD_KEYS:
            head, items = self._read_settled(
                lambda pk=pk: self._shard(pk),  # type: ignore[misc]
                f"the projects of the shard {pk!r}",
                "revision",
            )
            revision += number(head, "revision")
            serials_revision += number(head, "serial")
            projects += [ListedProject(NormalizedName(item["sk"]["S"]), number(item, "revision")) for item in items]
        # By the latest change and not by the clock: equal revisions stand for equal pages. No write that is still under
        # way has a number from before that.
        last = max((project.serial for project in projects), default=_LONGEST_WRITE) - _LONGEST_WRITE
        return RootSnapshot(revision, serials_revision, last, tuple(sorted(projects, key=lambda each: each.name)))

    def root_revision(self) -> int:
        return self._sum_of_shards("revision")

    def serials_revision(self) -> int:
        return self._sum_of_shards("serial")

    def core_metadata(self, key: str) -> bytes | None:
        patience = Patience(self._table.busy)
        while True:
            item = self._table.get(place_of(key).core_metadata)
            if item is None:
                return None
            body = load_body(item, "b", self._parts([item]))
            if body is not None:
                return body
            patience.wait()

    def known_keys(self, prefix: str = "") -> Iterator[KnownKey]:
        # All of them in memory, which for 100,000 takes 25 MB: a table has no order across its partitions.
        rows = [row for row in self._table.scan_rows(ROWS) if row["key"]["S"].startswith(prefix)]
        in_parts = [row for row in rows if "t" in row]  # of which there are few
        parts = self._parts(in_parts)
        broken = {row["key"]["S"] for row in in_parts if not all(key in parts for key in named_parts(row, "t"))}
        found = [
            # One of which a part is missing was read from no object, so that it is read anew.
            KnownKey(row["key"]["S"], "" if row["key"]["S"] in broken else row["f"]["S"])
            for row in rows
        ]
        yield from sorted(found, key=lambda known: known.key)  # code points have the order of their UTF-8 bytes

    def problems(self) -> Iterator[Entry]:
        keys = sorted(item["key"]["S"] for item in self._table.query(PROBLEMS))
        return (entry for entry in self.entries(keys) if entry.problem is not None)

    def counts(self) -> Counts:
        projects = files = 0
        for pk, _ in _SHARD_KEYS:
            _, items = self._shard(pk)
            projects += len(items)
            files += sum(number(item, "files") for item in items)
        problems = list(self.problems())
        # What has no project was rejected, and is counted with no project.
        return Counts(projects, files + sum(entry.project is None for entry in problems), len(problems))

    def page(self, name: NormalizedName | None, form: str) -> KeptPage | None:
        item = self._table.get(page_key(name, form))
        if item is None:
            return None
        return KeptPage(number(item, "revision"), item["b"]["B"] if "b" in item else None)

    def keep_page(self, name: NormalizedName | None, form: str, page: KeptPage) -> None:
        revision = {"N": str(page.revision)}
        item = as_key(page_key(name, form)) | {
            "revision": revision,
            "expires": {"N": str(int(time.time()) + _PAGE_SECONDS)},
        }
        if page.body is not None:
            item["b"] = {"B": page.body}
        self._table.put(
            item,
            condition={
                "ConditionExpression": "attribute_not_exists(#pk) OR #revision < :revision",
                "ExpressionAttributeNames": {"#pk": "pk", "#revision": "revision"},
                "ExpressionAttributeValues": {":revision": revision},
            },
        )

    def identity(self) -> str:
        patience = Patience(self._table.busy)
        while True:
            item = self._table.get(SELF)
            if item is not None:
                identity: str = item["identity"]["S"]
                return identity
            if self._make_self():
                patience.wait()

    def is_complete(self) -> bool:
        complete = self._seen.take()
        return _is_complete(self._table.get(SELF)) if complete is None else complete

    def mark_complete(self, identity: str) -> None:
        self._table.update(SELF, {"complete": {"BOOL": True}}, condition=when(identity={"S": identity}))

    def check(self) -> None:
        self._get_with_self([])

    def close(self) -> None:
        """Do nothing: clients are closed with the process."""

    def _get(self, keys: Sequence[Key]) -> dict[Key, Item]:
        if len(keys) != 1:
            return self._table.get_all(keys)
        item = self._table.get(keys[0])
        return {} if item is None else {keys[0]: item}

    def _get_with_self(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Read items, and with them whether the catalog is complete, which the caller is going to ask next."""
        found = self._get([*keys, SELF])
        self._seen.put(complete=_is_complete(found.get(SELF)))
        return found

    def _sum_of_shards(self, name: str) -> int:
        found = self._get_with_self(_SHARD_KEYS)
        return sum(number(found.get(key), name) for key in _SHARD_KEYS)

    def _rows(self, name: NormalizedName, filename: str | None = None) -> list[Item]:
        beginning = ROWS if filename is None else rows_named(filename)
        return [row for row in self._table.query(project_pk(name), beginning) if is_live(row)]

    def _shard(self, pk: str) -> tuple[Item | None, list[Item]]:
        """Return the counters of a shard, and its projects that have live rows."""
        head = None
        projects = []
        for item in self._table.query(pk):
            if item["sk"]["S"] == shard_key(pk)[1]:
                head = item
            elif number(item, "live"):
                projects.append(item)
        return head, projects

    def _read_settled(
        self, read: Callable[[], tuple[Item | None, list[Item]]], what: str, revision: str
    ) -> tuple[Item | None, list[Item]]:
        """Read a head and the items that it counts until they are of one state (see `items.mark`).

        Where they change faster than they can be read, the head is that of some seconds before, so that it promises no
        change that the items may lack.
        """
        patience = Patience(
            f"{what} do not agree with what the table {self._table.name!r} counts: if that lasts, remove the table, "
            "with which all tokens and the audit trail are lost, deploy again and run `elasticpypi sync`, which fills "
            "the catalog from the storage"
        )
        first: tuple[float, Item | None] | None = None
        while True:
            begun = time.monotonic()
            head, items = read()
            if sum(mark(item["sk"]["S"], number(item, revision)) for item in items) == number(head, "x"):
                return head, items
            if first is None:
                first = time.monotonic(), head
            elif begun - first[0] >= _SETTLING_SECONDS and head != first[1]:
                return first[1], items
            patience.wait()

    def _load(self, rows: Sequence[Item]) -> list[Entry] | None:
        """Read rows with their parts; None where they must be read anew."""
        return load_rows(rows, self._parts(rows))

    def _parts(self, items: Sequence[Item]) -> dict[Key, Item]:
        keys = [key for item in items for key in named_parts(item, "t")]
        return self._table.get_all(keys) if keys else {}

    def _make_self(self) -> list[str]:
        """Make the item that tells this table from another; return the reasons where that was not done.

        The counters of all shards begin at the time of now: in a table that takes another's place, none repeats.
        """
        now = time.time_ns() // 1000
        itself = as_key(SELF) | {"identity": {"S": secrets.token_hex(16)}}
        begin = add_to_attributes(revision=now, serial=now)
        return self._table.transact(
            [
                {"Put": {"Item": itself, **when(pk=None)}},
                *({"Update": {"Key": as_key(key), **begin}} for key in _SHARD_KEYS),
            ]
        )


class _Seen(threading.local):
    """Whether the catalog was complete when this thread last read something, for the question that follows at once."""

    complete: tuple[bool, float] | None = None

    def put(self, *, complete: bool) -> None:
        self.complete = complete, time.monotonic()

    def take(self) -> bool | None:
        """Return the answer once; None where there is none, or it is too old."""
        seen, self.complete = self.complete, None
        return seen[0] if seen is not None and time.monotonic() - seen[1] <= _COMPLETE_SECONDS else None


def _is_complete(item: Item | None) -> bool:
    return item is not None and "complete" in item
