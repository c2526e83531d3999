"""What `catalog.dynamodb` alone must meet: counted calls, throttling, half-visible transactions, large items."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from elasticpypi.aws import AWS
from elasticpypi.catalog import Catalog, Counts, KeptPage, Write
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.catalog.dynamodb.items import project_key
from elasticpypi.catalog.dynamodb.table import Patience
from elasticpypi.errors import CatalogError, ConflictError, NotFoundError, NotReadyError
from elasticpypi.index import Index
from elasticpypi.model import Decisions, Entry, File, Rejection, Status, format_decisions
from elasticpypi.names import NormalizedName
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud, counting
from tests.dynamodb_rules import RefusedError, faults, half_answers, small_pages
from tests.running import free_port
from tests.test_catalog import ACME, DECISIONS, FILE, KEY, OTHER_FILE, REJECTION, ZETA, names, put, put_many

HUNDREDS = [f"acme/acme-{number}.zip" for number in range(300)]


@pytest.fixture
def client(cloud: Cloud) -> Any:
    return cloud.aws.dynamodb


@pytest.fixture
def table(cloud: Cloud) -> str:
    return cloud.make_table()


@pytest.fixture
def catalog(cloud: Cloud, table: str) -> DynamoDBCatalog:
    return DynamoDBCatalog(cloud.aws, table)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait no longer for what does not pass."""
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.table._PATIENCE_SECONDS", 0.1)


def items(client: Any, table: str, pk: str) -> list[dict[str, Any]]:
    """Return what lies in a partition."""
    found: list[dict[str, Any]] = client.query(
        TableName=table,
        KeyConditionExpression="#pk = :pk",
        ExpressionAttributeNames={"#pk": "pk"},
        ExpressionAttributeValues={":pk": {"S": pk}},
        ConsistentRead=True,
    )["Items"]
    return found


def replace_content(catalog: Catalog, key: str, content: File | Rejection | Decisions | None) -> Callable[[], None]:
    before = catalog.entry(key)
    return lambda: catalog.put(before, replace(before, project=ACME, content=content), core_metadata=b"metadata")


def take_warm_revision(catalog: Catalog) -> None:
    assert catalog.revision(ACME) is not None
    assert catalog.is_complete()


WRITE = {"BatchGetItem": 1, "TransactWriteItems": 1}
CALLS: list[tuple[str, Callable[[Catalog], Callable[[], object]], dict[str, int]]] = [
    ("a warm page", lambda c: lambda: take_warm_revision(c), {"BatchGetItem": 1}),
    ("the root, warm", lambda c: lambda: (c.root_revision(), c.is_complete()), {"BatchGetItem": 1}),
    ("the root as JSON, warm", lambda c: lambda: (c.serials_revision(), c.is_complete()), {"BatchGetItem": 1}),
    ("a kept page", lambda c: lambda: c.page(ACME, "html"), {"GetItem": 1}),
    ("keeping a page", lambda c: lambda: c.keep_page(ACME, "html", KeptPage(1, b"")), {"PutItem": 1}),
    ("a project", lambda c: lambda: (c.project(ACME), c.is_complete()), {"BatchGetItem": 1, "Query": 1}),
    ("the root", lambda c: c.root, {"Query": 16}),
    ("a row", lambda c: lambda: c.entry(KEY), {"GetItem": 1}),
    ("a hundred rows", lambda c: lambda: c.entries(HUNDREDS[:100]), {"BatchGetItem": 1}),
    ("the rows of a filename", lambda c: lambda: c.entries_named(ACME, FILE.filename), {"Query": 1}),
    ("other files", lambda c: lambda: c.has_files(ACME, besides=KEY), {"BatchGetItem": 1}),
    ("core metadata", lambda c: lambda: c.core_metadata(KEY), {"GetItem": 1}),
    ("completeness", lambda c: c.is_complete, {"GetItem": 1}),
    ("a check", lambda c: c.check, {"GetItem": 1}),
    ("a changed row", lambda c: replace_content(c, KEY, OTHER_FILE), WRITE),
    ("a removed row", lambda c: replace_content(c, KEY, None), WRITE),
    ("a new row", lambda c: replace_content(c, "acme-1.zip", REJECTION), WRITE),
    ("an unchanged row", lambda c: replace_content(c, KEY, FILE), {"UpdateItem": 1}),
    ("a tombstone, again", lambda c: replace_content(c, "acme-1.zip", None), {"UpdateItem": 1}),
    ("a tombstone where there was nothing", lambda c: replace_content(c, "acme-2.zip", None), {"PutItem": 1}),
    (
        "thirty rows",
        lambda c: lambda: put_many(c, [f"flat/acme-{number}.zip" for number in range(30)]),
        WRITE,
    ),
]


@pytest.mark.parametrize("files", [1, 300])
def test_calls_are_few_whatever_the_number_of_files(
    catalog: DynamoDBCatalog, client: Any, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.adapter._COMPLETE_SECONDS", 60.0)  # this machine may be slow
    put(catalog, KEY, core_metadata=b"metadata")
    put_many(catalog, HUNDREDS[: files - 1])
    catalog.mark_complete(catalog.identity())
    counted = {}
    for name, prepare, _ in CALLS:
        act, before = prepare(catalog), catalog.entry(KEY)
        with counting(client) as counts:
            act()
        counted[name] = dict(counts)
        if catalog.entry(KEY).content != before.content:
            put(catalog, KEY, core_metadata=b"metadata")
        put(catalog, "acme-1.zip", None)
    assert counted == {name: calls for name, _, calls in CALLS}


def fill(catalog: Catalog) -> None:
    put(catalog, KEY, core_metadata=b"metadata")
    put_many(catalog, HUNDREDS[:40])
    put(catalog, "zeta/project.json", DECISIONS, project=ZETA)
    put(catalog, HUNDREDS[0], None)
    catalog.keep_page(ACME, "html", KeptPage(1, b"page"))
    catalog.mark_complete(catalog.identity())


READS: list[Callable[[Catalog], object]] = [
    lambda c: c.entry(KEY),
    lambda c: c.entries([*HUNDREDS, KEY]),
    lambda c: c.project(ACME),
    lambda c: c.entries_named(ACME, FILE.filename),
    lambda c: c.has_files(ACME, besides=KEY),
    lambda c: c.revision(ACME),
    lambda c: [c.root().revision, c.root().projects],
    lambda c: c.root_revision(),
    lambda c: c.serials_revision(),
    lambda c: c.core_metadata(KEY),
    lambda c: list(c.known_keys()),
    lambda c: list(c.problems()),
    lambda c: c.counts(),
    lambda c: c.page(ACME, "html"),
    lambda c: c.identity(),
    lambda c: c.is_complete(),
    lambda c: c.check(),
]
WRITES: list[Callable[[Catalog], object]] = [
    lambda c: put(c, KEY, OTHER_FILE),
    lambda c: put(c, KEY, None),
    lambda c: c.put(Entry("acme-9.zip", None), Entry("acme-9.zip", ACME)),
    lambda c: put_many(c, HUNDREDS[40:50]),
    lambda c: c.keep_page(ZETA, "html", KeptPage(1, b"page")),
    lambda c: c.mark_complete("identity"),
]


def test_what_is_throttled_now_and_then_is_asked_again(catalog: DynamoDBCatalog, client: Any) -> None:
    with faults(client, every=3) as failed:
        fill(catalog)
        for write in WRITES:
            write(catalog)
    expected = [read(catalog) for read in READS]
    assert catalog.counts() == Counts(projects=2, files=49, problems=1)
    with faults(client, every=2) as failed_reads:
        assert [read(catalog) for read in READS] == expected
    assert {"TransactWriteItems", "BatchGetItem", "PutItem"} <= set(failed)
    assert {"GetItem", "BatchGetItem", "Query", "Scan"} <= set(failed_reads)


def test_what_is_always_throttled_is_an_error_and_never_empty(
    catalog: DynamoDBCatalog, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(catalog)
    hurry(monkeypatch)
    for act in [*READS, *WRITES]:
        with faults(client) as failed, pytest.raises(CatalogError, match="too busy: try again"):
            act(catalog)
        assert failed


def test_keys_that_were_left_out_are_asked_for_again(catalog: DynamoDBCatalog, client: Any) -> None:
    fill(catalog)
    expected = [read(catalog) for read in READS]
    with half_answers(client):
        assert [read(catalog) for read in READS] == expected


def test_answers_are_read_to_their_last_page(catalog: DynamoDBCatalog, client: Any) -> None:
    fill(catalog)
    projects = [NormalizedName(f"p{number}") for number in range(40)]
    for project in projects:
        put(catalog, f"{project}/{project}-1.zip", REJECTION, project=project)
    expected = [read(catalog) for read in READS]
    with small_pages(client, 3), counting(client) as counts:
        assert [read(catalog) for read in READS] == expected
        assert names(catalog) == sorted([*projects, ACME, ZETA])
    assert min(counts["Query"], counts["Scan"]) > 16


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ResourceNotFoundException", "there is no table"),
        ("AccessDeniedException", "the credentials do not allow"),
        ("ExpiredTokenException", "AWS does not accept the credentials"),
        ("ValidationException", "probably because it has other keys than ours: run `elasticpypi doctor`"),
        ("InternalServerError", "cannot be used now: InternalServerError"),
    ],
)
def test_an_error_of_dynamodb_is_a_sentence(catalog: DynamoDBCatalog, client: Any, code: str, sentence: str) -> None:
    fill(catalog)
    for act in [*READS, *WRITES]:
        with faults(client, code=code), pytest.raises(CatalogError, match=sentence):
            act(catalog)


def test_a_table_that_is_not_there_is_an_error(cloud: Cloud) -> None:
    catalog = DynamoDBCatalog(cloud.aws, "missing")
    for act in [*READS, *WRITES]:
        with pytest.raises(
            CatalogError, match=r"there is no table 'missing' in eu-central-1: run `elasticpypi doctor`"
        ):
            act(catalog)


def test_a_dynamodb_that_cannot_be_reached_is_an_error(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    catalog = DynamoDBCatalog(AWS(region="eu-central-1"), "table")
    with pytest.raises(CatalogError, match=r"the table 'table' cannot be reached in eu-central-1: .*; try again"):
        catalog.check()


def test_many_writers_of_one_project_all_succeed(catalog: DynamoDBCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.writing._WRITING_SECONDS", 60.0)  # this machine may be slow
    revisions: list[int] = []

    def write(number: int) -> None:
        put_many(catalog, [f"acme/acme-{number}.{minor}.zip" for minor in range(3)])
        revisions.append(catalog.revision(ACME) or 0)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(48)))
    project = catalog.project(ACME)
    assert project is not None
    assert len(project.entries) == 48 * 3
    assert project.revision == max(revisions)
    assert catalog.counts() == Counts(projects=1, files=48 * 3, problems=0)


def test_readers_see_a_write_whole_or_not_at_all(catalog: DynamoDBCatalog) -> None:
    pairs = [(f"acme/acme-1.{number}.zip", f"acme/acme-2.{number}.zip") for number in range(20)]
    ended = threading.Event()

    def write() -> None:
        for pair in pairs:
            put_many(catalog, pair)
        ended.set()

    seen: dict[int, set[str]] = {}
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not ended.is_set() and not writing.done():
            project = catalog.project(ACME)
            if project is not None:
                keys = {entry.key for entry in project.entries}
                assert seen.setdefault(project.revision, keys) == keys
                assert all((first in keys) == (second in keys) for first, second in pairs)
        writing.result()
    assert seen


def tear(client: Any, table: str, pk: str, sort_key_begins: str) -> dict[str, Any]:
    """Take an item away, as if a transaction that has begun to show had not written it yet."""
    item = next(item for item in items(client, table, pk) if item["sk"]["S"].startswith(sort_key_begins))
    client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    return item


@pytest.mark.parametrize(
    ("pk", "sort_key", "read"),
    [
        ("project#acme", "row#acme-1-py3", lambda c: c.project(ACME)),
        (project_key(ACME)[0], "acme", lambda c: c.root().projects),
    ],
)
def test_half_of_a_write_is_waited_for(
    catalog: DynamoDBCatalog, client: Any, table: str, pk: str, sort_key: str, read: Callable[[Catalog], object]
) -> None:
    put(catalog, KEY)
    put(catalog, "acme-1.zip")
    expected = read(catalog)
    item = tear(client, table, pk, sort_key)
    queries = itertools.count()

    def complete(**_: Any) -> None:
        if next(queries) == 10:
            client.put_item(TableName=table, Item=item)

    client.meta.events.register("before-call.dynamodb.Query", complete)
    try:
        assert read(catalog) == expected
    finally:
        client.meta.events.unregister("before-call.dynamodb.Query", complete)
    assert next(queries) > 10


def test_rows_that_stay_other_than_they_were_counted_are_an_error(
    catalog: DynamoDBCatalog, client: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(catalog, KEY)
    put(catalog, "acme-1.zip")
    tear(client, table, "project#acme", "row#acme-1-py3")
    hurry(monkeypatch)
    with pytest.raises(CatalogError, match=r"do not agree .* run `elasticpypi sync`"):
        catalog.project(ACME)


def test_a_project_that_never_rests_is_read_all_the_same(
    catalog: DynamoDBCatalog, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.adapter._SETTLING_SECONDS", 0.1)
    put(catalog, KEY)
    begun = catalog.revision(ACME) or 0
    numbers = itertools.count()

    def write(model: Any, **_: Any) -> None:
        if model.name == "Query" and not writing.locked():
            with writing:
                put(catalog, f"acme/acme-{next(numbers)}.zip")

    writing = threading.Lock()
    client.meta.events.register("before-call.dynamodb", write)
    try:
        project = catalog.project(ACME)
    finally:
        client.meta.events.unregister("before-call.dynamodb", write)
    assert project is not None
    # It promises no change that it may lack.
    assert project.revision == begun
    assert len(project.entries) > 1


def test_a_table_in_place_of_another_is_not_complete_and_repeats_no_revision(
    cloud: Cloud, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = DynamoDBCatalog(cloud.aws, table)
    first = catalog.identity()
    for _ in range(3):
        put(catalog, KEY)
        put(catalog, KEY, None)
    put(catalog, KEY)
    catalog.mark_complete(first)
    before = (catalog.revision(ACME) or 0, catalog.root_revision(), catalog.serials_revision())
    assert catalog.is_complete()
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.adapter._COMPLETE_SECONDS", 60.0)
    assert catalog.revision(ACME)
    schema = cloud.aws.dynamodb.describe_table(TableName=table)["Table"]
    cloud.aws.dynamodb.delete_table(TableName=table)
    cloud.aws.dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=schema["AttributeDefinitions"],
        KeySchema=schema["KeySchema"],
    )
    assert catalog.is_complete()  # that was read with the revision
    assert catalog.entries_named(ACME, FILE.filename) == []
    assert not catalog.is_complete()
    assert catalog.project(ACME) is None
    assert not catalog.is_complete()
    put(catalog, KEY)
    assert catalog.identity() != first
    catalog.mark_complete(first)
    assert not catalog.is_complete()
    after = (catalog.revision(ACME) or 0, catalog.root_revision(), catalog.serials_revision())
    assert all(new > old for new, old in zip(after, before, strict=True))


def test_of_many_that_ask_for_the_identity_all_get_the_same(cloud: Cloud, table: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: DynamoDBCatalog(cloud.aws, table).identity(), range(8)))) == 1


@pytest.mark.parametrize("size", [300_000, 400_000, 3_000_000])
def test_core_metadata_that_no_item_holds_lies_in_parts(
    catalog: DynamoDBCatalog, client: Any, table: str, size: int
) -> None:
    old, new = os.urandom(size), os.urandom(size)
    put(catalog, KEY, FILE, core_metadata=old)
    assert catalog.core_metadata(KEY) == old
    put(catalog, KEY, OTHER_FILE, core_metadata=new)
    assert catalog.core_metadata(KEY) == new
    put(catalog, KEY, None)
    assert catalog.core_metadata(KEY) is None
    assert [item["sk"]["S"][:4] for item in items(client, table, "project#acme")] == ["row#"]


@pytest.mark.parametrize("deleted", [100, 3_000, 30_000])
def test_decisions_that_no_item_holds_lie_in_parts(
    catalog: DynamoDBCatalog, client: Any, table: str, deleted: int
) -> None:
    digests = {
        f"acme-{number}-py3-none-any.whl": hashlib.sha256(f"{number}".encode()).hexdigest() for number in range(deleted)
    }
    decisions = Decisions(deleted=digests, problem="broken")
    entry = put(catalog, "acme/project.json", decisions)
    put(catalog, KEY)
    project = catalog.project(ACME)
    assert project is not None
    assert entry.content == project.decisions == decisions
    assert list(catalog.problems()) == [entry]
    assert catalog.entries_named(ACME, "project.json") == [entry]
    put(catalog, "acme/project.json", replace(decisions, problem=None))
    put(catalog, "acme/project.json", None)
    assert {item["sk"]["S"][:4] for item in items(client, table, "project#acme")} == {"row#"}


def test_a_write_that_comes_too_late_leaves_no_parts(catalog: DynamoDBCatalog, client: Any, table: str) -> None:
    stale = catalog.entry(KEY)
    put(catalog, KEY)
    with pytest.raises(ConflictError):
        catalog.put(stale, replace(stale, content=FILE), core_metadata=os.urandom(1_000_000))
    assert [item["sk"]["S"][:4] for item in items(client, table, "project#acme")] == ["row#"]


def test_a_write_whose_answer_was_lost_is_taken_for_done(catalog: DynamoDBCatalog, client: Any) -> None:
    old, new = os.urandom(400_000), os.urandom(1_000_000)
    put(catalog, KEY, core_metadata=old)
    tokens: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        tokens.append(json.loads(params["body"])["ClientRequestToken"])

    def lose(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        if len(tokens) == 1:  # done, and then there was no time any more
            http_response.status_code = 400
            parsed.clear()
            parsed["Error"] = {"Code": "ThrottlingException", "Message": "injected"}

    events = client.meta.events
    events.register("before-call.dynamodb.TransactWriteItems", note)
    events.register("after-call.dynamodb.TransactWriteItems", lose)
    try:
        put(catalog, KEY, OTHER_FILE, core_metadata=new)
    finally:
        events.unregister("before-call.dynamodb.TransactWriteItems", note)
        events.unregister("after-call.dynamodb.TransactWriteItems", lose)
    assert len(tokens) == 2
    assert len(set(tokens)) == 1  # which is how DynamoDB knows; the row says so where it has forgotten
    assert catalog.entry(KEY).content == OTHER_FILE
    assert catalog.core_metadata(KEY) == new


MANY = {f"acme-{number}-py3-none-any.whl": hashlib.sha256(b"%d" % number).hexdigest() for number in range(30_000)}


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_row_of_which_a_part_stays_missing_lets_nothing_pass_and_is_mended(
    cloud: Cloud, catalog: DynamoDBCatalog, client: Any, table: str, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.dynamodb.adapter._MISSING_SECONDS", 0.05)
    hurry(monkeypatch)
    storage = S3Storage(cloud.aws, cloud.make_bucket())
    index, key, decisions = Index(catalog, storage), "acme/project.json", Decisions(deleted=MANY)
    written = storage.write_document(key, format_decisions(decisions), replacing=None)
    index.sync()
    tear(client, table, "project#acme", "part#")
    broken = catalog.entry(key)
    assert isinstance(broken.content, Decisions)
    assert (broken.content.status, broken.fingerprint) == (Status.QUARANTINED, "")
    assert [known.fingerprint for known in catalog.known_keys()] == [""]
    assert list(catalog.problems()) == []  # it was none when it was written
    for read in (lambda: index.snapshot(ACME), lambda: index.find_file(ACME, "project.json")):
        with pytest.raises(CatalogError):
            read()
    if is_gone:
        storage.remove(key, fingerprint=written.fingerprint)
    index.sync()
    project = catalog.project(ACME)
    assert (None if project is None else project.decisions) == (None if is_gone else decisions)
    assert catalog.counts() == Counts(projects=not is_gone, files=0, problems=0)


@pytest.mark.parametrize("filename", ["a" * 1020 + ".whl", "\u00e9" * 600])
def test_what_is_longer_than_a_filename_is_not_there(cloud: Cloud, catalog: DynamoDBCatalog, filename: str) -> None:
    index = Index(catalog, S3Storage(cloud.aws, cloud.make_bucket()))
    with pytest.raises(NotReadyError):
        index.find_file(ACME, filename)
    catalog.mark_complete(catalog.identity())
    with pytest.raises(NotFoundError, match="has no file"):
        index.find_file(ACME, filename)


def test_pauses_differ_among_copies_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for _ in range(2):
        random.seed(1)  # as a snapshot that is restored brings the same generator again
        Patience("too busy").wait()
    assert pauses[0] != pauses[1]


def test_of_rows_written_together_those_that_changed_meanwhile_are_told(catalog: DynamoDBCatalog) -> None:
    writes = [Write(Entry(key, None), Entry(key, ACME, content=FILE), b"metadata") for key in HUNDREDS[:70]]
    theirs = {writes[number].after.key: put(catalog, writes[number].after.key, REJECTION) for number in (0, 40, 69)}
    assert catalog.put_all(writes) == [writes[number] for number in (0, 40, 69)]
    contents = {entry.key: entry for entry in catalog.entries(HUNDREDS[:70])}
    assert {key: contents[key] for key in theirs} == theirs
    assert sum(entry.content == FILE for entry in contents.values()) == 67
    project = catalog.project(ACME)
    assert project is not None
    assert len(project.entries) == 70


def test_the_largest_page_is_kept_and_a_larger_one_is_marked(catalog: DynamoDBCatalog) -> None:
    assert catalog.largest_page is not None
    page = KeptPage(7, os.urandom(catalog.largest_page))
    catalog.keep_page(ACME, "html", page)
    assert catalog.page(ACME, "html") == page
    marker = KeptPage(8, None)
    catalog.keep_page(ACME, "html", marker)
    catalog.keep_page(ACME, "html", page)
    assert catalog.page(ACME, "html") == marker


def test_tombstones_expire_and_rows_do_not(catalog: DynamoDBCatalog, client: Any, table: str) -> None:
    def expires() -> list[int]:
        found = items(client, table, "project#acme")
        return [int(item["expires"]["N"]) for item in found if "expires" in item]

    put(catalog, KEY)
    assert expires() == []
    for _ in range(2):  # the second changes nothing, and lives longer
        put(catalog, KEY, None)
        assert len(expires()) == 1
        assert 23 * 3600 < expires()[0] - time.time() < 25 * 3600
    put(catalog, KEY)
    assert expires() == []


def test_mirrors_are_told_no_serial_that_a_write_under_way_may_come_to_have(catalog: DynamoDBCatalog) -> None:
    put(catalog, KEY)
    root = catalog.root()
    assert root.last_serial == root.projects[0].serial - 60_000_000  # µs
    assert catalog.root() == root  # equal revisions stand for equal pages


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("get_item", {"Key": {"pk": {"S": ""}, "sk": {"S": "x"}}}),
    ("get_item", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}}),
    ("get_item", {"Key": {"pk": {"S": "x"}, "sk": {"S": "é" * 513}}}),
    ("put_item", {"Item": {"pk": {"S": "x"}}}),
    ("put_item", {"Item": {"pk": {"S": "x"}, "sk": {"S": "x"}, "b": {"B": b"x" * (400 << 10)}}}),
    ("put_item", {"Item": {"pk": {"S": "x"}, "sk": {"S": "x"}, "n": {"N": "1" * 39}}}),
    (
        "put_item",
        {
            "Item": {"pk": {"S": "x"}, "sk": {"S": "x"}},
            "ConditionExpression": "attribute_not_exists(pk)",
            "ExpressionAttributeValues": {":unused": {"S": "x"}},
        },
    ),
    ("put_item", {"Item": {"pk": {"S": "x"}, "sk": {"S": "x"}}, "ConditionExpression": "attribute_exists(#pk)"}),
    (
        "update_item",
        {
            "Key": {"pk": {"S": "x"}, "sk": {"S": "x"}},
            "UpdateExpression": "SET status = :status",
            "ExpressionAttributeValues": {":status": {"S": "x"}},
        },
    ),
    (
        "update_item",
        {
            "Key": {"pk": {"S": "x"}, "sk": {"S": "x"}},
            "UpdateExpression": "SET #sk = :sk",
            "ExpressionAttributeNames": {"#sk": "sk"},
            "ExpressionAttributeValues": {":sk": {"S": "x"}},
        },
    ),
    ("scan", {}),
    (
        "query",
        {
            "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :sk)",
            "ExpressionAttributeNames": {"#pk": "pk", "#sk": "sk"},
            "ExpressionAttributeValues": {":pk": {"S": "x"}, ":sk": {"S": "x" * 1025}},
        },
    ),
    (
        "query",
        {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "x" * 2049}}},
    ),
]


@pytest.mark.parametrize(("operation", "arguments"), REFUSED)
def test_what_dynamodb_refuses_is_refused_here(
    client: Any, table: str, operation: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(RefusedError):
        getattr(client, operation)(TableName=table, **arguments)


@pytest.mark.parametrize("count", [2, 101])
def test_batches_and_transactions_are_refused_as_dynamodb_does(client: Any, table: str, count: int) -> None:
    keys = [{"pk": {"S": "x"}, "sk": {"S": "same" if count == 2 else str(number)}} for number in range(count)]
    with pytest.raises(RefusedError):
        client.batch_get_item(RequestItems={table: {"Keys": keys}})
    with pytest.raises(RefusedError):
        client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": key}} for key in keys]})
    with pytest.raises(RefusedError):
        client.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": key}} for key in keys])
