"""The contract of `Ledger`, on both adapters; then what each alone must meet."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.catalog.dynamodb import DynamoDBCatalog, DynamoDBLedger
from elasticpypi.catalog.ledger import Ledger, NoLedger, Record
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.errors import CatalogError, ConfigError
from elasticpypi.model import Entry, Rejection
from tests.aws import Cloud, counting
from tests.dynamodb_rules import faults, small_pages

NOW = 1_800_000_000
LATER = NOW + 100
RECORD = Record("token", "a1", '{"name": "ci"}')
FLEETING = replace(RECORD, id="a2", expires=LATER)


@dataclass
class Clock:
    """A clock that is set by hand."""

    time: float = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def table(cloud: Cloud) -> str:
    return cloud.make_table()


@pytest.fixture(params=["sqlite", "dynamodb"])
def open_ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Callable[[], Ledger]]:
    """Open the same ledger again and again."""
    opened: list[Ledger] = []
    if request.param == "sqlite":
        path: Path = request.getfixturevalue("path")
        make: Callable[[], Ledger] = lambda: SqliteLedger(path, clock=clock)  # noqa: E731 - one of two
    else:
        cloud: Cloud = request.getfixturevalue("cloud")
        table: str = request.getfixturevalue("table")
        make = lambda: DynamoDBLedger(cloud.aws, table, clock=clock)  # noqa: E731 - one of two

    def open_again() -> Ledger:
        opened.append(make())
        return opened[-1]

    yield open_again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    return open_ledger()


def fill(ledger: Ledger, *ids: str, kind: str = "audit", expires: int | None = None) -> list[Record]:
    """Add records with these ids, and return them."""
    records = [Record(kind, each, json.dumps({"id": each}), expires) for each in ids]
    assert [ledger.add(record) for record in records] == [True] * len(records)
    return records


# Records -----------------------------------------------------------------------------------------------------------


def test_a_new_ledger_has_nothing(ledger: Ledger) -> None:
    assert ledger.record("token", "a1") is None
    assert ledger.records("token", limit=10) == []
    assert ledger.counters("downloads") == {}
    assert not ledger.remove("token", "a1")
    assert not ledger.replace(RECORD, RECORD)
    ledger.count("downloads", {}, expires=LATER)
    assert ledger.counters("downloads") == {}


TEXTS = [
    "{}",
    "",
    '{"name": "é ß \\u0000 中文 \U0001f40d \u202e"}',
    "\x00\x01\x7f\n\r\t'\";--\ufeff\uffff\U0010ffff",
    "x" * (64 << 10),
    "é" * (32 << 10),
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("expires", [None, LATER])
def test_a_record_is_kept_as_it_is(
    open_ledger: Callable[[], Ledger], ledger: Ledger, text: str, expires: int | None
) -> None:
    record = Record("session-secret", "a/b#c: 'd' %_~", text, expires)
    assert ledger.add(record)
    assert open_ledger().record(record.kind, record.id) == record
    assert open_ledger().records(record.kind, limit=2) == [record]
    after = replace(record, text=f"{text} ", expires=None)
    assert ledger.replace(record, after)
    assert open_ledger().record(record.kind, record.id) == after


def test_the_longest_kind_and_id_are_kept(ledger: Ledger) -> None:
    record = Record("k" * 300, "~" * 300, "{}")
    assert ledger.add(record)
    assert ledger.records(record.kind, prefix="~" * 300, limit=1) == [record]
    assert ledger.records(record.kind, before="~" * 300, limit=1) == []


def test_kinds_are_apart(ledger: Ledger) -> None:
    assert ledger.add(RECORD)
    other = replace(RECORD, kind="toke")
    assert ledger.record(other.kind, other.id) is None
    assert ledger.add(other)
    assert ledger.remove("token", "a1")
    assert ledger.records("toke", limit=10) == [other]


def test_a_record_is_added_once(ledger: Ledger) -> None:
    assert ledger.add(RECORD)
    assert not ledger.add(RECORD)
    assert not ledger.add(replace(RECORD, text="other", expires=LATER))
    assert ledger.record("token", "a1") == RECORD


def test_of_several_that_add_the_same_record_at_once_one_does(open_ledger: Callable[[], Ledger]) -> None:
    ledgers = [open_ledger() for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(lambda ledger: ledger.add(RECORD), ledgers)) == [False] * 15 + [True]
    assert ledgers[0].record("token", "a1") == RECORD


def test_of_several_that_replace_a_record_at_once_one_does(open_ledger: Callable[[], Ledger]) -> None:
    ledgers = [open_ledger() for _ in range(16)]
    ledgers[0].add(RECORD)
    after = [replace(RECORD, text=f"{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda ledger, record: ledger.replace(RECORD, record), ledgers, after))
    assert [record for record, is_done in zip(after, done, strict=True) if is_done] == [
        ledgers[0].record("token", "a1")
    ]


@pytest.mark.parametrize(
    "stale",
    [
        replace(RECORD, text='{"name":"ci"}'),
        replace(RECORD, expires=LATER),
        replace(RECORD, id="none"),
        replace(RECORD, kind="none"),
    ],
)
def test_a_record_that_is_another_now_is_not_replaced(ledger: Ledger, stale: Record) -> None:
    ledger.add(RECORD)
    assert not ledger.replace(stale, replace(stale, text="after"))
    assert ledger.record(stale.kind, stale.id) in {RECORD, None}
    assert ledger.record("token", "a1") == RECORD


def test_a_record_is_replaced_whatever_its_expiry(ledger: Ledger) -> None:
    versions = [replace(RECORD, text=f"{expires}", expires=expires) for expires in (None, LATER, LATER + 1, None)]
    ledger.add(versions[0])
    for before, after in pairwise(versions):
        assert not ledger.replace(replace(before, expires=LATER + 9), after)
        assert ledger.replace(before, after)
        assert ledger.record("token", "a1") == after


def test_a_record_that_was_removed_is_gone_and_may_come_again(ledger: Ledger) -> None:
    ledger.add(RECORD)
    assert ledger.remove("token", "a1")
    assert not ledger.remove("token", "a1")
    assert ledger.record("token", "a1") is None
    assert ledger.records("token", limit=1) == []
    assert not ledger.replace(RECORD, RECORD)
    assert ledger.add(RECORD)


# What expires ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("time", "is_there"), [(LATER - 0.001, True), (LATER, False), (LATER + 10**6, False)])
def test_from_its_expiry_on_a_record_is_not_there(ledger: Ledger, clock: Clock, time: float, *, is_there: bool) -> None:
    ledger.add(FLEETING)
    clock.time = time
    assert ledger.record("token", "a2") == (FLEETING if is_there else None)
    assert ledger.records("token", limit=9) == ([FLEETING] if is_there else [])
    assert ledger.add(replace(FLEETING, text="new", expires=None)) is not is_there
    assert ledger.record("token", "a2") == (FLEETING if is_there else replace(FLEETING, text="new", expires=None))


def test_what_has_expired_is_neither_replaced_nor_removed(ledger: Ledger, clock: Clock) -> None:
    ledger.add(FLEETING)
    clock.time = LATER
    assert not ledger.replace(FLEETING, replace(FLEETING, expires=None))
    assert not ledger.remove("token", "a2")
    assert ledger.record("token", "a2") is None


def test_a_record_that_is_given_longer_stays_longer(ledger: Ledger, clock: Clock) -> None:
    ledger.add(FLEETING)
    longer = replace(FLEETING, expires=LATER + 1)
    assert ledger.replace(FLEETING, longer)
    clock.time = LATER
    assert ledger.record("token", "a2") == longer


def test_of_several_that_add_in_the_place_of_an_expired_record_one_does(
    open_ledger: Callable[[], Ledger], clock: Clock
) -> None:
    ledgers = [open_ledger() for _ in range(8)]
    ledgers[0].add(FLEETING)
    clock.time = LATER
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda ledger: ledger.add(replace(FLEETING, expires=LATER + 9)), ledgers))
    assert sorted(done) == [False] * 7 + [True]


def test_expired_records_fill_no_place_in_a_list(ledger: Ledger, clock: Clock) -> None:
    stays = fill(ledger, "100", "101", "110")
    fill(ledger, *(f"1050{number:02}" for number in range(70)), "999", expires=LATER)
    clock.time = LATER
    assert ledger.records("audit", limit=2) == stays[:0:-1]
    assert ledger.records("audit", before="110", limit=2) == stays[1::-1]


# Lists -------------------------------------------------------------------------------------------------------------


def test_the_last_come_first_page_by_page(ledger: Ledger) -> None:
    newest_first = fill(ledger, *(f"{number:03}" for number in range(60)))[::-1]
    assert ledger.records("audit", limit=0) == []
    assert ledger.records("audit", limit=1) == newest_first[:1]
    assert ledger.records("audit", limit=60) == ledger.records("audit", limit=1000) == newest_first
    pages, before = [], None
    while page := ledger.records("audit", before=before, limit=7):
        pages.append(page)
        before = page[-1].id
    assert pages == [newest_first[at : at + 7] for at in range(0, 60, 7)]


IDS = ["!", "A", "B", "a", "a!", "a#1", "a#2", "a#~", "ab", "a~", "b", "~~"]


def test_a_list_may_begin_anywhere_and_be_of_one_prefix(ledger: Ledger) -> None:
    fill(ledger, *reversed(IDS))
    for before, prefix in product([None, "", "!", "a", "a#2", "a#", "a$", "b", "~~~"], ["", "a", "a#"]):
        expected = [each for each in IDS if each.startswith(prefix) and (before is None or each < before)][::-1]
        for limit in (20, 2):
            found = ledger.records("audit", before=before, prefix=prefix, limit=limit)
            assert (before, prefix, [record.id for record in found]) == (before, prefix, expected[:limit])


# Counters ----------------------------------------------------------------------------------------------------------


def test_counters_begin_at_nothing_and_are_added_to(open_ledger: Callable[[], Ledger], ledger: Ledger) -> None:
    ledger.count("downloads", {"acme/2027-01-15": 2, "zeta/2027-01-15": 1}, expires=LATER)
    ledger.count("downloads", {"acme/2027-01-15": 40, "acme/2027-01-16": 5}, expires=LATER)
    ledger.count("other", {"acme/2027-01-15": 9}, expires=LATER)
    found = open_ledger().counters("downloads")
    assert list(found.items()) == [("acme/2027-01-15", 42), ("acme/2027-01-16", 5), ("zeta/2027-01-15", 1)]
    assert ledger.counters("downloads", prefix="acme/") == {"acme/2027-01-15": 42, "acme/2027-01-16": 5}
    assert ledger.counters("downloads", prefix="acme/2027-01-17") == {}
    assert ledger.counters("other", prefix="acme") == {"acme/2027-01-15": 9}


def test_a_counter_is_gone_when_the_last_to_add_has_said(ledger: Ledger, clock: Clock) -> None:
    ledger.count("downloads", {"a": 1, "b": 1}, expires=LATER)
    ledger.count("downloads", {"a": 1}, expires=LATER + 10)
    clock.time = LATER
    assert ledger.counters("downloads") == {"a": 2}
    ledger.count("downloads", {"a": 1, "b": 5}, expires=LATER + 10)
    assert ledger.counters("downloads") == {"a": 3, "b": 5}


def test_no_addition_is_lost_between_threads(open_ledger: Callable[[], Ledger], clock: Clock) -> None:
    ledgers = [open_ledger() for _ in range(8)]
    ledgers[0].count("downloads", {"a": 1000, "b": 1000}, expires=LATER)
    clock.time = LATER  # all find one that has expired

    def count(ledger: Ledger) -> None:
        for _ in range(5):
            ledger.count("downloads", {"a": 1, "b": 2}, expires=LATER + 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, ledgers))
    assert ledgers[0].counters("downloads") == {"a": 40, "b": 80}


# In SQLite ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_file(path: Path, clock: Clock) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path, clock=clock)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    "use", [lambda each: each.record("token", "a1"), lambda each: each.add(RECORD)], ids=["read", "written"]
)
def test_the_file_is_made_when_it_is_first_asked_for_its_owner_alone(
    path: Path, in_file: SqliteLedger, use: Callable[[Ledger], object]
) -> None:
    assert list(path.parent.iterdir()) == []
    use(in_file)
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}
    in_file.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.sqlite", "ledger.sqlite.lock"]


def test_an_addition_is_on_the_disk_before_it_is_answered(in_file: SqliteLedger) -> None:
    in_file.add(RECORD)
    with in_file.pool.lend() as connection:
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]  # FULL


def test_what_has_expired_is_removed_from_the_file_by_writes(path: Path, in_file: SqliteLedger, clock: Clock) -> None:
    fill(in_file, *(f"{number:03}" for number in range(150)), expires=LATER)
    in_file.add(RECORD)
    in_file.count("downloads", {"a": 1}, expires=LATER)

    def rows() -> list[int]:
        connection = sqlite3.connect(path)
        counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("records", "counters")]
        connection.close()
        return counts

    assert rows() == [151, 1]
    clock.time = LATER
    assert in_file.records("audit", limit=10) == []
    assert rows() == [151, 1]
    in_file.add(replace(RECORD, id="b"))
    assert rows() == [52, 0]
    in_file.remove("token", "none")
    assert rows() == [2, 0]


WRITING = """
import sys
from pathlib import Path
from elasticpypi.catalog.ledger import Record
from elasticpypi.catalog.sqlite import SqliteLedger

print("ready", flush=True)
sys.stdin.readline()
ledger = SqliteLedger(Path(sys.argv[1]))
print(sum(ledger.add(Record("once", f"{number}", "{}")) for number in range(20)))
for number in range(20):
    ledger.count("downloads", {"a": 1}, expires=4_000_000_000)
ledger.close()
"""


def test_processes_that_make_the_file_at_once_share_it_and_lose_nothing(path: Path, in_file: SqliteLedger) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITING, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(3)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    added = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        added.append(int(out))
    assert sum(added) == len(in_file.records("once", limit=100)) == 20
    assert in_file.counters("downloads") == {"a": 60}


@pytest.mark.parametrize("removed", [["ledger.sqlite"], ["ledger.sqlite", "ledger.sqlite.lock"], ["ledger.sqlite*"]])
def test_a_file_that_was_removed_while_in_use_is_made_anew(
    path: Path, in_file: SqliteLedger, removed: list[str]
) -> None:
    in_file.add(RECORD)
    for pattern in removed:
        for each in path.parent.glob(pattern):
            each.unlink()
    assert in_file.record("token", "a1") is None
    assert in_file.add(FLEETING)
    other = SqliteLedger(path, clock=Clock())
    assert other.records("token", limit=9) == in_file.records("token", limit=9) == [FLEETING]
    other.close()


def test_a_copy_that_is_put_in_place_while_in_use_is_read_and_nothing_of_the_former_log(
    path: Path, in_file: SqliteLedger, clock: Clock
) -> None:
    fill(in_file, *(f"{number:03}" for number in range(100)))
    in_file.close()  # which writes all to the file itself
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    in_file.remove("audit", "050")
    fill(in_file, *(f"new{number:03}" for number in range(100)))
    assert path.with_name("ledger.sqlite-wal").stat().st_size > 0
    expected = [f"{number:03}" for number in reversed(range(100))]
    copy.replace(path)
    newcomer = SqliteLedger(path, clock=clock)  # as another process, which has not seen the former file
    for ledger in (newcomer, in_file):
        assert [record.id for record in ledger.records("audit", limit=999)] == expected
    assert newcomer.add(RECORD)
    assert in_file.record("token", "a1") == RECORD
    newcomer.close()
    in_file.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_directory_that_was_copied_while_in_use_has_what_its_log_says(
    path: Path, in_file: SqliteLedger, clock: Clock
) -> None:
    in_file.add(RECORD)
    assert RECORD.text.encode() not in path.read_bytes()  # but in the log
    copied = path.parent / "copied"
    copied.mkdir()
    for each in path.parent.glob("ledger.sqlite*"):
        shutil.copy2(each, copied)
    ledger = SqliteLedger(copied / path.name, clock=clock)
    assert ledger.record("token", "a1") == RECORD
    ledger.close()


REMEDY = "put a copy of the file in its place, or remove it, with which all tokens and the audit trail are lost"


def test_a_file_that_is_no_database_is_an_error_with_a_remedy(path: Path, in_file: SqliteLedger) -> None:
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(CatalogError) as caught:
        in_file.record("token", "a1")
    assert str(caught.value) == f"the ledger {path} is damaged (file is not a database): {REMEDY}"


def test_a_damaged_file_is_an_error_with_a_remedy_and_not_an_empty_ledger(path: Path, in_file: SqliteLedger) -> None:
    fill(in_file, *(f"{number:03}" for number in range(200)))
    in_file.count("downloads", {"a": 1}, expires=LATER)
    in_file.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    asks: list[Callable[[], object]] = [
        lambda: in_file.record("audit", "007"),
        lambda: in_file.records("audit", limit=1),
        lambda: in_file.add(RECORD),
        lambda: in_file.replace(RECORD, RECORD),
        lambda: in_file.remove("audit", "007"),
        lambda: in_file.count("downloads", {"a": 1}, expires=LATER),
        lambda: in_file.counters("downloads"),
    ]
    for ask in asks:
        with pytest.raises(CatalogError, match=f"the ledger .* is damaged .*: {REMEDY}"):
            ask()


@pytest.mark.parametrize("version", [0, 2])
def test_another_schema_is_an_error_with_a_remedy(path: Path, in_file: SqliteLedger, version: int) -> None:
    in_file.add(RECORD)
    in_file.close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(CatalogError) as caught:
        in_file.record("token", "a1")
    assert str(caught.value) == (
        f"the ledger {path} has schema {version}, this program needs 1: "
        f"run the elasticpypi that has written it, {REMEDY}"
    )


def test_a_ledger_in_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "volume" / "ledger.sqlite")
    with pytest.raises(CatalogError, match=r"the ledger .* cannot be reached: No such file or directory"):
        ledger.add(RECORD)
    assert list(tmp_path.iterdir()) == []


# In DynamoDB -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(cloud: Cloud) -> Any:
    return cloud.aws.dynamodb


@pytest.fixture
def in_table(cloud: Cloud, table: str, clock: Clock) -> DynamoDBLedger:
    return DynamoDBLedger(cloud.aws, table, clock=clock)


CALLS: list[tuple[str, Callable[[Ledger], object], dict[str, int]]] = [
    ("a record", lambda each: each.record("audit", "000"), {"GetItem": 1}),
    ("no record", lambda each: each.record("audit", "none"), {"GetItem": 1}),
    ("a page of records", lambda each: each.records("audit", limit=50), {"Query": 1}),
    ("the next page", lambda each: each.records("audit", before="060", prefix="0", limit=50), {"Query": 1}),
    ("an empty range", lambda each: each.records("audit", before="0", prefix="01", limit=50), {}),
    ("an addition", lambda each: each.add(RECORD), {"PutItem": 1}),
    ("an addition in vain", lambda each: each.add(RECORD), {"PutItem": 1}),
    ("a replacement", lambda each: each.replace(RECORD, replace(RECORD, text="")), {"PutItem": 1}),
    ("a replacement in vain", lambda each: each.replace(RECORD, RECORD), {"PutItem": 1}),
    ("a removal", lambda each: each.remove("token", "a1"), {"DeleteItem": 1}),
    ("a removal in vain", lambda each: each.remove("token", "a1"), {"DeleteItem": 1}),
    ("counting", lambda each: each.count("downloads", {"a": 1, "b": 2, "c": 3}, expires=LATER), {"UpdateItem": 3}),
    ("counters", lambda each: each.counters("downloads"), {"Query": 1}),
]


def test_calls_are_few_whatever_the_number_of_records(in_table: DynamoDBLedger, client: Any) -> None:
    fill(in_table, *(f"{number:03}" for number in range(70)))
    counted = {}
    for name, act, _ in CALLS:
        with counting(client) as counts:
            act(in_table)
        counted[name] = dict(counts)
    assert counted == {name: calls for name, _, calls in CALLS}


def test_a_counter_that_has_expired_costs_a_request_more(in_table: DynamoDBLedger, client: Any, clock: Clock) -> None:
    in_table.count("downloads", {"a": 5}, expires=LATER)
    clock.time = LATER
    with counting(client) as counts:
        in_table.count("downloads", {"a": 1}, expires=LATER + 9)
    assert (counts, in_table.counters("downloads")) == ({"UpdateItem": 2}, {"a": 1})


def test_dynamodb_is_told_what_may_go(in_table: DynamoDBLedger, client: Any, table: str) -> None:
    in_table.add(FLEETING)
    in_table.add(RECORD)
    in_table.count("downloads", {"a": 3}, expires=LATER)
    found = {}
    for pk, sk in [("ledger#token", "a2"), ("ledger#token", "a1"), ("ledger#downloads", "a")]:
        item = client.get_item(TableName=table, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True)["Item"]
        item.pop("w", None)
        found[sk if pk == "ledger#token" else pk] = item
    assert found == {
        "a2": {"pk": {"S": "ledger#token"}, "sk": {"S": "a2"}, "c": {"S": FLEETING.text}, "expires": {"N": f"{LATER}"}},
        "a1": {"pk": {"S": "ledger#token"}, "sk": {"S": "a1"}, "c": {"S": RECORD.text}},
        "ledger#downloads": {
            "pk": {"S": "ledger#downloads"},
            "sk": {"S": "a"},
            "n": {"N": "3"},
            "expires": {"N": f"{LATER}"},
        },
    }


READS: list[Callable[[Ledger], object]] = [
    lambda each: each.record("audit", "000"),
    lambda each: each.records("audit", limit=30),
    lambda each: each.records("audit", before="030", prefix="0", limit=30),
    lambda each: each.counters("downloads", prefix="d"),
]
COUNT: Callable[[Ledger], object] = lambda each: each.count("downloads", {"d1": 1, "d2": 2}, expires=LATER)  # noqa: E731
WRITES: list[Callable[[Ledger], object]] = [
    lambda each: each.add(RECORD),
    lambda each: each.replace(RECORD, replace(RECORD, text="")),
    lambda each: each.remove("token", "a1"),
]


def test_answers_are_read_to_their_last_page(in_table: DynamoDBLedger, client: Any) -> None:
    fill(in_table, *(f"{number:03}" for number in range(40)))
    in_table.count("downloads", {f"d{number}": number for number in range(9)}, expires=LATER)
    expected = [read(in_table) for read in READS]
    with small_pages(client, 3):
        assert [read(in_table) for read in READS] == expected


def test_what_is_throttled_now_and_then_is_asked_again(in_table: DynamoDBLedger, client: Any) -> None:
    fill(in_table, *(f"{number:03}" for number in range(40)))
    expected = [read(in_table) for read in READS]
    with faults(client, every=2):
        assert [read(in_table) for read in READS] == expected
        assert [write(in_table) for write in WRITES] == [True] * 3
        COUNT(in_table)
    assert in_table.counters("downloads") == {"d1": 1, "d2": 2}


def test_what_is_always_throttled_is_an_error_and_never_empty(
    in_table: DynamoDBLedger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.table._PATIENCE_SECONDS", 0.02)
    for act in [*READS, *WRITES, COUNT]:
        with faults(client), pytest.raises(CatalogError, match="too busy: try again"):
            act(in_table)


AFTER = replace(RECORD, text="after")
TWICE: dict[str, tuple[list[Record], Callable[[Ledger], bool]]] = {
    "added": ([], lambda each: each.add(AFTER)),
    "replaced": ([RECORD], lambda each: each.replace(RECORD, AFTER)),
}


@pytest.mark.parametrize("what", TWICE)
def test_a_write_whose_answer_was_lost_is_taken_for_done(in_table: DynamoDBLedger, client: Any, what: str) -> None:
    before, write = TWICE[what]
    assert [in_table.add(record) for record in before] == [True] * len(before)
    answers = 0

    def lose(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        nonlocal answers
        answers += 1
        if answers == 1:  # done, and then there was no time any more
            http_response.status_code = 400
            parsed.clear()
            parsed["Error"] = {"Code": "ThrottlingException", "Message": "injected"}

    client.meta.events.register("after-call.dynamodb.PutItem", lose)
    try:
        assert write(in_table)
    finally:
        client.meta.events.unregister("after-call.dynamodb.PutItem", lose)
    assert answers == 2
    assert in_table.records("token", limit=9) == [AFTER]
    assert not write(in_table)


def test_the_catalog_in_the_same_table_does_not_see_the_ledger(
    cloud: Cloud, in_table: DynamoDBLedger, table: str
) -> None:
    catalog = DynamoDBCatalog(cloud.aws, table)
    entry = Entry("acme/acme-1.zip", None)
    catalog.put(entry, replace(entry, fingerprint="f", content=Rejection("acme-1.zip", "no zip")))
    before = list(catalog.known_keys()), list(catalog.problems()), catalog.counts(), catalog.root()
    fill(in_table, "row#", "row#acme-1.zip", "acme", "!", kind="token")
    in_table.count("row#", {"row#": 1}, expires=LATER)
    assert (list(catalog.known_keys()), list(catalog.problems()), catalog.counts(), catalog.root()) == before


# None --------------------------------------------------------------------------------------------------------------


def test_where_there_is_no_ledger_nothing_is_found_and_a_write_says_what_to_do() -> None:
    ledger: Ledger = NoLedger()
    assert ledger.record("token", "a1") is None
    assert ledger.records("token", before="b", prefix="a", limit=10) == []
    assert ledger.counters("downloads", prefix="a") == {}
    assert not ledger.remove("token", "a1")
    writes: list[Callable[[], object]] = [
        lambda: ledger.add(RECORD),
        lambda: ledger.replace(RECORD, RECORD),
        lambda: ledger.count("downloads", {"a": 1}, expires=LATER),
    ]
    for write in writes:
        with pytest.raises(ConfigError, match="name a 'table' in the configuration"):
            write()
    ledger.close()
