"""The contract of `Catalog`, on every adapter; then what SQLite alone can meet."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from elasticpypi.catalog import Catalog, Counts, KeptPage, KnownKey, Write
from elasticpypi.catalog.changes import Changes, is_quiet
from elasticpypi.catalog.documents import DocumentsCatalog
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.errors import CatalogError, ConflictError
from elasticpypi.model import Decisions, Entry, File, ProjectSnapshot, Rejection, RootSnapshot, Status
from elasticpypi.names import Kind, NormalizedName
from elasticpypi.storage.s3.documents import S3Documents
from tests.aws import Cloud
from tests.documents import DirectoryDocuments
from tests.running import wait_for

ACME, ZETA = NormalizedName("acme"), NormalizedName("zeta")
FUTURE = 32503680000_000000  # the year 3000 in µs
FILE = File(
    filename="acme-1-py3-none-any.whl",
    version="1",
    kind=Kind.WHEEL,
    size=5,
    sha256="ab" * 32,
    upload_time=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    requires_python=">=3.9, é",
    core_metadata_sha256="cd" * 32,
)
OTHER_FILE = replace(FILE, sha256="ef" * 32, requires_python=None, core_metadata_sha256=None)
REJECTION = Rejection("acme-1-py3-none-any.whl", "no zip")
DECISIONS = Decisions(Status.DEPRECATED, "use zeta", {"1": "", "acme-2.zip": "é"}, {"acme-3.zip": "00" * 32}, "broken")
CONTENTS: list[File | Rejection | Decisions] = [FILE, OTHER_FILE, REJECTION, DECISIONS, Decisions()]
KEY = "acme/acme-1-py3-none-any.whl"


def now() -> int:
    return time.time_ns() // 1000


def put(
    catalog: Catalog,
    key: str,
    content: File | Rejection | Decisions | None = FILE,
    *,
    project: NormalizedName | None = ACME,
    fingerprint: str = "f",
    core_metadata: bytes | None = None,
) -> Entry:
    """Write a row as it is now, and return what the catalog then says."""
    before = catalog.entry(key)
    after = Entry(key, project, before.generation, fingerprint, content)
    catalog.put(before, after, core_metadata=core_metadata)
    return catalog.entry(key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


def sqlite_opener(request: pytest.FixtureRequest) -> Callable[[], Catalog]:
    path: Path = request.getfixturevalue("tmp_path") / "catalog.sqlite"
    return lambda: SqliteCatalog(path)


def dynamodb_opener(request: pytest.FixtureRequest) -> Callable[[], Catalog]:
    cloud: Cloud = request.getfixturevalue("cloud")
    table = cloud.make_table()
    return lambda: DynamoDBCatalog(cloud.aws, table)


def directory_opener(request: pytest.FixtureRequest) -> Callable[[], Catalog]:
    path: Path = request.getfixturevalue("tmp_path") / "documents"
    return lambda: DocumentsCatalog(DirectoryDocuments(path))


def bucket_opener(request: pytest.FixtureRequest) -> Callable[[], Catalog]:
    cloud: Cloud = request.getfixturevalue("cloud")
    bucket = cloud.make_bucket()
    return lambda: DocumentsCatalog(S3Documents(cloud.aws, bucket))


ADAPTERS = [
    pytest.param(sqlite_opener, id="sqlite"),
    pytest.param(dynamodb_opener, id="dynamodb"),
    pytest.param(directory_opener, id="documents in a directory"),
    pytest.param(bucket_opener, id="documents in a bucket"),
]


@pytest.fixture(params=ADAPTERS)
def open_catalog(request: pytest.FixtureRequest) -> Iterator[Callable[[], Catalog]]:
    """Open the same catalog again and again."""
    open_one = request.param(request)
    opened: list[Catalog] = []

    def open_again() -> Catalog:
        opened.append(open_one())
        return opened[-1]

    yield open_again
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(open_catalog: Callable[[], Catalog]) -> Catalog:
    return open_catalog()


def names(catalog: Catalog) -> list[str]:
    return [project.name for project in catalog.root().projects]


def test_a_new_catalog_knows_nothing(catalog: Catalog) -> None:
    catalog.check()
    assert catalog.entry(KEY) == Entry(KEY, None, 0, "", None)
    assert catalog.project(ACME) is None
    assert catalog.revision(ACME) is None
    assert catalog.entries_named(ACME, FILE.filename) == []
    assert catalog.root() == RootSnapshot(0, 0, 0, ())
    assert (catalog.root_revision(), catalog.serials_revision()) == (0, 0)
    assert catalog.core_metadata(KEY) is None
    assert list(catalog.known_keys()) == []
    assert list(catalog.problems()) == []
    assert catalog.page(ACME, "html") is None
    assert not catalog.is_complete()


@pytest.mark.parametrize("content", CONTENTS)
def test_a_row_is_kept_as_it_is(
    open_catalog: Callable[[], Catalog], catalog: Catalog, content: File | Rejection | Decisions
) -> None:
    entry = put(catalog, KEY, content, fingerprint="1:x-y")
    assert entry == Entry(KEY, ACME, entry.generation, "1:x-y", content)
    assert open_catalog().entry(KEY) == entry


def test_a_row_without_a_project_is_kept(catalog: Catalog) -> None:
    entry = put(catalog, "x.whl", Rejection("x.whl", "no name"), project=None)
    assert entry == Entry("x.whl", None, entry.generation, "f", Rejection("x.whl", "no name"))
    assert (catalog.root_revision(), names(catalog)) == (0, [])


def test_a_row_is_replaced_only_as_it_was_read(catalog: Catalog) -> None:
    none = catalog.entry(KEY)
    first = put(catalog, KEY)
    revision, root = catalog.revision(ACME), catalog.root_revision()
    for stale in (none, replace(first, generation=first.generation - 1), replace(first, generation=0)):
        with pytest.raises(ConflictError) as caught:
            catalog.put(stale, replace(first, content=REJECTION), core_metadata=b"never")
        assert caught.value.key == KEY
    assert catalog.entry(KEY) == first
    assert catalog.core_metadata(KEY) is None
    assert (catalog.revision(ACME), catalog.root_revision()) == (revision, root)
    catalog.put(first, replace(first, content=REJECTION))
    assert catalog.entry(KEY).content == REJECTION


def test_a_tombstone_is_a_row_too(catalog: Catalog) -> None:
    none = catalog.entry(KEY)
    catalog.put(none, Entry(KEY, ACME))
    tombstone = catalog.entry(KEY)
    assert tombstone == Entry(KEY, ACME, tombstone.generation, "", None)
    with pytest.raises(ConflictError):
        catalog.put(none, Entry(KEY, ACME, content=FILE))
    assert (catalog.project(ACME), catalog.root_revision()) == (None, 0)
    assert list(catalog.known_keys()) == []
    assert put(catalog, KEY).generation > tombstone.generation


@pytest.mark.parametrize("content", [FILE, REJECTION, DECISIONS])
def test_a_row_that_goes_leaves_a_tombstone_only(catalog: Catalog, content: File | Rejection | Decisions) -> None:
    alive = put(catalog, KEY, content, core_metadata=b"m")
    tombstone = put(catalog, KEY, None, fingerprint="")
    assert tombstone == Entry(KEY, ACME, tombstone.generation, "", None)
    assert tombstone.generation > alive.generation
    assert catalog.core_metadata(KEY) is None
    assert catalog.project(ACME) is None
    assert catalog.revision(ACME) is None
    assert catalog.entries_named(ACME, FILE.filename) == []
    assert [*catalog.problems(), *catalog.known_keys(), *catalog.root().projects] == []


def test_generations_are_times_that_never_repeat(catalog: Catalog) -> None:
    early = now()
    generations = [put(catalog, KEY, content).generation for content in (FILE, FILE, None, None, FILE) * 10]
    assert early <= generations[0]
    assert generations[-1] <= now() + len(generations)
    assert generations == sorted(set(generations))


def test_a_revision_moves_if_the_content_differs_and_only_then(catalog: Catalog) -> None:
    early = now()
    put(catalog, KEY, FILE, fingerprint="1")
    first = catalog.revision(ACME)
    assert first is not None
    assert early <= first <= now()
    put(catalog, KEY, FILE, fingerprint="2")
    assert catalog.revision(ACME) == first
    put(catalog, "acme/acme-9.zip", None)
    assert catalog.revision(ACME) == first
    revisions = [first]
    changes: list[tuple[str, File | Rejection | Decisions | None]] = [
        (KEY, replace(FILE, size=6)),
        (KEY, REJECTION),
        (KEY, replace(REJECTION, reason="other")),
        ("acme/project.json", Decisions()),
        ("acme/project.json", Decisions(problem="unreadable")),
        ("acme/project.json", None),
    ]
    for key, content in changes:
        put(catalog, key, content)
        revision = catalog.revision(ACME)
        assert revision is not None
        revisions.append(revision)
    assert revisions == sorted(set(revisions))


def test_projects_have_revisions_of_their_own(catalog: Catalog) -> None:
    put(catalog, KEY)
    revision = catalog.revision(ACME)
    put(catalog, "zeta/zeta-1.zip", project=ZETA)
    put(catalog, "zeta/zeta-2.zip", project=ZETA)
    assert catalog.revision(ACME) == revision


def test_a_revision_never_repeats_although_the_project_was_gone(catalog: Catalog) -> None:
    revisions: list[int] = []
    for _ in range(3):
        put(catalog, KEY)
        revisions.append(catalog.revision(ACME) or 0)
        put(catalog, KEY, None)
    assert revisions == sorted(set(revisions))
    assert revisions[0] > 0


def test_every_change_has_a_serial_of_its_own(catalog: Catalog) -> None:
    ahead = 10 * now()  # as a clock that was set back leaves it
    serials = [catalog.serials_revision()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: ahead * 1000)
        put(catalog, KEY, FILE)
        assert (catalog.revision(ACME) or 0) >= ahead
    for content in (OTHER_FILE, REJECTION, None, FILE):
        for key, project in (("zeta/zeta-1.zip", ZETA), (KEY, ACME)):
            put(catalog, key, content, project=project)
            root = catalog.root()
            serials.append(catalog.serials_revision())
            assert root.serials_revision == serials[-1] > serials[-2]
            assert {listed.name: listed.serial for listed in root.projects}.get(project) == catalog.revision(project)


def test_a_change_that_shows_nowhere_leaves_the_serial(catalog: Catalog) -> None:
    put(catalog, KEY, FILE)
    serial = catalog.serials_revision()
    put(catalog, KEY, FILE, fingerprint="another")
    assert catalog.serials_revision() == serial


def test_the_revision_of_the_root_moves_when_a_project_comes_or_goes_and_only_then(catalog: Catalog) -> None:
    seen: list[tuple[bool, list[str]]] = []
    root = 0
    changes: list[tuple[str, NormalizedName, File | Rejection | Decisions | None]] = [
        (KEY, ACME, FILE),
        (KEY, ACME, OTHER_FILE),
        ("acme-1.zip", ACME, FILE),
        ("zeta/project.json", ZETA, DECISIONS),
        (KEY, ACME, None),
        ("acme-1.zip", ACME, None),
        ("acme-1.zip", ACME, REJECTION),
        ("zeta/project.json", ZETA, None),
    ]
    for key, project, content in changes:
        put(catalog, key, content, project=project)
        revision = catalog.root_revision()
        assert catalog.root().revision == revision >= root
        seen.append((revision > root, names(catalog)))
        root = revision
    assert seen == [
        (True, ["acme"]),
        (False, ["acme"]),
        (False, ["acme"]),
        (True, ["acme", "zeta"]),
        (False, ["acme", "zeta"]),
        (True, ["zeta"]),
        (True, ["acme", "zeta"]),
        (True, ["acme"]),
    ]


def test_a_project_is_all_its_live_rows_by_key(catalog: Catalog) -> None:
    keys = ["é/acme-1.zip", "acme/acme-1.zip", "acme-1.zip", "acme/acme-2.zip", "acme/project.json"]
    entries = {key: put(catalog, key, DECISIONS if key.endswith("json") else FILE) for key in keys}
    put(catalog, "acme/acme-2.zip", None)
    put(catalog, "zeta/zeta-1.zip", project=ZETA)
    live = ("acme-1.zip", "acme/acme-1.zip", "acme/project.json", "é/acme-1.zip")
    revision = catalog.revision(ACME)
    assert revision is not None
    assert catalog.project(ACME) == ProjectSnapshot(ACME, revision, tuple(entries[key] for key in live))


def test_rows_are_found_by_the_last_part_of_their_key(catalog: Catalog) -> None:
    keys = ["b/acme-1.zip", "acme-1.zip", "a/b/acme-1.zip", "a/acme-1.zip"]
    entries = {key: put(catalog, key) for key in keys}
    put(catalog, "a/acme-1.zip", None)
    put(catalog, "c/acme-1.zip.zip")
    put(catalog, "c/xacme-1.zip", project=NormalizedName("xacme"))
    put(catalog, "z/zeta-1.zip", project=ZETA)
    found = catalog.entries_named(ACME, "acme-1.zip")
    assert found == [entries[key] for key in ("a/b/acme-1.zip", "acme-1.zip", "b/acme-1.zip")]


AWKWARD = [
    f"{directory}/acme-1.zip"
    for directory in (
        *("a-b/x", "a.b/x", "a", "a/b", "a/bc", "ab", "B"),
        *("é", "\uffff", "\U0001f600", "\U0001f600/x", "x%_*?[a]"),
    )
]


def test_known_keys_come_in_the_order_of_their_bytes(catalog: Catalog) -> None:
    for key in AWKWARD:
        put(catalog, key, fingerprint=f"of {key}")
    put(catalog, "aa/acme-1.zip", None)
    ordered = sorted(AWKWARD, key=str.encode)
    assert list(catalog.known_keys()) == [KnownKey(key, f"of {key}") for key in ordered]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a-", "é", "\U0001f600", "x%", "A", "zz", "\uffff"])
def test_known_keys_are_those_with_the_prefix(catalog: Catalog, prefix: str) -> None:
    for key in AWKWARD:
        put(catalog, key)
    expected = sorted((key for key in AWKWARD if key.startswith(prefix)), key=str.encode)
    assert [known.key for known in catalog.known_keys(prefix)] == expected


def put_many(catalog: Catalog, keys: Sequence[str], content: File | Rejection = FILE) -> None:
    """Write rows of one project that are not there yet, together."""
    writes = [Write(Entry(key, None), Entry(key, ACME, content=content)) for key in keys]
    assert catalog.put_all(writes) == []


def test_thousands_of_known_keys_are_read_while_rows_change(catalog: Catalog) -> None:
    keys = [f"p/acme-{number:05}.zip" for number in range(2101)]
    put_many(catalog, keys, Rejection("acme.zip", "x" * 400))
    put(catalog, "q/acme-1.zip")
    assert [known.key for known in catalog.known_keys("p/")] == keys
    known = catalog.known_keys()
    begun = [next(known).key]
    put(catalog, keys[0], None)
    put(catalog, keys[-1], None)
    put(catalog, "p/acme-99999.zip")
    begun += [each.key for each in known]
    assert begun == sorted(set(begun))
    # What changes meanwhile may be there or not.
    changed = {keys[0], keys[-1], "p/acme-99999.zip"}
    assert [key for key in begun if key not in changed] == [*keys[1:-1], "q/acme-1.zip"]


def test_the_rows_of_several_keys_come_in_their_order(catalog: Catalog) -> None:
    entries = [put(catalog, "zeta/zeta-1.zip", project=ZETA), Entry("acme-2.zip", None), put(catalog, KEY)]
    tombstone = put(catalog, "acme-1.zip", None)
    assert catalog.entries([]) == []
    assert catalog.entries([*(entry.key for entry in entries), "acme-1.zip", KEY]) == [*entries, tombstone, entries[2]]


def test_rows_are_written_together_but_for_those_that_changed_meanwhile(catalog: Catalog) -> None:
    keys = ["acme-1.zip", KEY, "acme-2.zip", "acme/project.json", "acme-3.zip"]
    writes = [Write(Entry(key, None), Entry(key, ACME, content=FILE), b"new") for key in keys[:2]]
    writes.append(Write(Entry(keys[2], None), Entry(keys[2], ACME)))
    writes.append(Write(Entry(keys[3], None), Entry(keys[3], ACME, content=DECISIONS)))
    present = put(catalog, keys[4], core_metadata=b"old")
    writes.append(Write(present, replace(present, fingerprint="moved", content=FILE)))
    theirs = put(catalog, KEY, REJECTION)
    revision = catalog.revision(ACME) or 0
    assert catalog.put_all(writes) == [writes[1]]
    contents = {entry.key: entry.content for entry in catalog.entries(keys)}
    assert contents == dict(zip(keys, [FILE, REJECTION, None, DECISIONS, FILE], strict=True))
    assert (catalog.entry(KEY), catalog.entry(keys[4]).fingerprint) == (theirs, "moved")
    assert [catalog.core_metadata(key) for key in keys] == [b"new", None, None, None, b"old"]
    project = catalog.project(ACME)
    assert project is not None
    assert project.revision > revision
    assert len(project.entries) == 4


def test_problems_are_rejections_and_unreadable_decisions(catalog: Catalog) -> None:
    put(catalog, "acme-2.zip")
    put(catalog, "zeta/project.json", Decisions(), project=ZETA)
    decisions = put(catalog, "acme/project.json", DECISIONS)
    nameless = put(catalog, "x.whl", Rejection("x.whl", "no name"), project=None)
    rejected = put(catalog, KEY, REJECTION)
    assert list(catalog.problems()) == [rejected, decisions, nameless]
    put(catalog, "x.whl", None, project=None)
    put(catalog, KEY, FILE)
    assert list(catalog.problems()) == [decisions]


def test_projects_files_and_problems_are_counted(catalog: Catalog) -> None:
    assert catalog.counts() == Counts(0, 0, 0)
    put(catalog, "acme/acme-1.0.zip")
    put(catalog, "acme/acme-1.1.zip", REJECTION)
    put(catalog, "acme/project.json", DECISIONS)
    put(catalog, "zeta/project.json", Decisions(), project=ZETA)
    put(catalog, "x.whl", Rejection("x.whl", "no name"), project=None)
    assert catalog.counts() == Counts(projects=2, files=3, problems=3)
    put(catalog, "x.whl", None, project=None)
    put(catalog, "zeta/project.json", None, project=ZETA)
    assert catalog.counts() == Counts(projects=1, files=2, problems=2)


@pytest.mark.parametrize("body", [b"Name: acme\r\n\r\n\xff\x00", b"", b"x" * 2**20])
def test_core_metadata_is_kept_byte_for_byte(catalog: Catalog, body: bytes) -> None:
    put(catalog, KEY, FILE, core_metadata=body)
    assert catalog.core_metadata(KEY) == body
    put(catalog, KEY, FILE, fingerprint="touched")
    assert catalog.core_metadata(KEY) == body
    assert catalog.core_metadata("other") is None


def test_core_metadata_goes_with_the_content_it_belongs_to(catalog: Catalog) -> None:
    put(catalog, KEY, FILE, core_metadata=b"old")
    put(catalog, KEY, replace(FILE, size=6), core_metadata=b"new")
    assert catalog.core_metadata(KEY) == b"new"
    put(catalog, KEY, OTHER_FILE)
    assert catalog.core_metadata(KEY) is None


@pytest.mark.parametrize("name", [None, ACME])
def test_pages_never_go_back(catalog: Catalog, name: NormalizedName | None) -> None:
    put(catalog, KEY)
    old, new = KeptPage(5, b"old\x00"), KeptPage(FUTURE, b"new")
    catalog.keep_page(name, "html", old)
    assert catalog.page(name, "html") == old
    catalog.keep_page(name, "html", new)
    catalog.keep_page(name, "html", old)
    assert catalog.page(name, "html") == new
    assert catalog.page(name, "json") is None
    assert catalog.page(ZETA, "html") is None


def test_the_pages_of_root_and_projects_are_apart(catalog: Catalog) -> None:
    pages = {(name, form): KeptPage(1, f"{name} {form}".encode()) for name in (None, ACME) for form in ("a", "b")}
    for (name, form), page in pages.items():
        catalog.keep_page(name, form, page)
    assert {(name, form): catalog.page(name, form) for name, form in pages} == pages


def test_a_page_is_kept_whatever_the_revision_is_now(catalog: Catalog) -> None:
    put(catalog, KEY)
    page = KeptPage(catalog.revision(ACME) or 0, b"page")
    catalog.keep_page(ACME, "html", page)
    put(catalog, KEY, OTHER_FILE)
    assert catalog.page(ACME, "html") == page


def test_a_catalog_is_complete_once_it_was_said(open_catalog: Callable[[], Catalog], catalog: Catalog) -> None:
    other = open_catalog()
    assert not other.is_complete()
    catalog.mark_complete(catalog.identity())
    catalog.mark_complete(catalog.identity())
    assert [catalog.is_complete(), other.is_complete(), open_catalog().is_complete()] == [True, True, True]


def test_a_catalog_is_not_complete_because_another_one_is(catalog: Catalog) -> None:
    catalog.mark_complete("of another")
    assert not catalog.is_complete()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], False),
        ([KEY], False),
        ([KEY, "acme/project.json"], False),
        ([KEY, "flat/acme-1.zip"], True),
    ],
)
def test_other_files_of_a_project_are_found(catalog: Catalog, keys: list[str], expected: bool) -> None:
    for key in keys:
        put(catalog, key)
    assert catalog.has_files(ACME, besides=KEY) is expected


def test_of_many_threads_that_write_a_row_one_wins(catalog: Catalog) -> None:
    before = catalog.entry(KEY)

    def write(number: int) -> int | None:
        try:
            catalog.put(before, Entry(KEY, ACME, content=replace(FILE, size=number)))
        except ConflictError:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(write, range(64)) if number is not None]
    assert [catalog.entry(KEY).content] == [replace(FILE, size=number) for number in winners]


def test_no_row_is_lost_between_threads(catalog: Catalog) -> None:
    keys = [f"acme/acme-{number}.zip" for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda key: put(catalog, key), keys))
        assert list(pool.map(catalog.entry, keys)) == entries
    project = catalog.project(ACME)
    assert project is not None
    assert {entry.key for entry in project.entries} == set(keys)


COUNTING = """
import sys
from dataclasses import replace
from pathlib import Path
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.errors import ConflictError
from elasticpypi.model import Rejection
from elasticpypi.names import NormalizedName

print("ready", flush=True)
sys.stdin.readline()
catalog = SqliteCatalog(Path(sys.argv[1]))
done = 0
while done < 50:
    before = catalog.entry("counter.whl")
    count = 1 if before.content is None else int(before.content.reason) + 1
    content = Rejection("counter.whl", str(count))
    try:
        catalog.put(before, replace(before, project=NormalizedName("acme"), content=content))
    except ConflictError:
        continue
    done += 1
catalog.close()
"""


def count_together(path: Path, processes: int) -> int:
    """Let processes that start at once each add 50 to a counter; return what it comes to."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * processes
    catalog = SqliteCatalog(path)
    content = catalog.entry("counter.whl").content
    catalog.close()
    assert isinstance(content, Rejection)
    return int(content.reason)


def test_processes_that_make_the_file_at_once_share_it_and_lose_nothing(path: Path) -> None:
    assert count_together(path, 3) == 150
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "catalog.sqlite",
        "catalog.sqlite-changes",
        "catalog.sqlite.lock",
    ]


def test_threads_that_make_the_file_at_once_share_it(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        catalogs = list(pool.map(lambda _: SqliteCatalog(path), range(8)))
    put(catalogs[0], KEY)
    assert [each.entry(KEY).content for each in catalogs] == [FILE] * 8
    for each in catalogs:
        each.close()


REMEDY = "elasticpypi sync"


def test_a_file_that_is_no_database_is_an_error_with_a_remedy(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(CatalogError) as caught:
        SqliteCatalog(path)
    assert str(caught.value) == (
        f"the catalog {path} is damaged (file is not a database): remove it and run `{REMEDY}`, "
        "which makes it anew from the storage"
    )


def test_a_damaged_file_is_an_error_with_a_remedy_and_not_an_empty_catalog(path: Path) -> None:
    catalog = SqliteCatalog(path)
    for number in range(200):
        put(catalog, f"acme/{number}")
    catalog.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    catalog = SqliteCatalog(path)
    for ask in (
        lambda: catalog.entry("acme/7"),
        lambda: catalog.project(ACME),
        lambda: list(catalog.known_keys()),
        lambda: catalog.put(Entry("x", None), Entry("x", None)),
        catalog.check,
    ):
        with pytest.raises(CatalogError, match=REMEDY):
            ask()
    catalog.close()


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_schema_is_an_error_with_a_remedy(path: Path, version: int) -> None:
    SqliteCatalog(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(CatalogError) as caught:
        SqliteCatalog(path)
    assert str(caught.value) == (
        f"the catalog {path} has schema {version}, this program needs 2: "
        f"remove the file and run `{REMEDY}`, which makes it anew from the storage"
    )


def test_an_empty_file_is_an_error_with_a_remedy(path: Path) -> None:
    path.touch()
    with pytest.raises(CatalogError, match=REMEDY):
        SqliteCatalog(path)


def test_a_place_where_no_file_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match="cannot be reached"):
        SqliteCatalog(tmp_path / "file" / "catalog.sqlite")


@pytest.fixture
def pair(path: Path) -> Iterator[tuple[SqliteCatalog, SqliteCatalog]]:
    """Two catalogs over one file, that share no more than two processes would; acme is in it, and it is complete."""
    first, second = SqliteCatalog(path), SqliteCatalog(path)
    put(first, KEY)
    first.mark_complete(first.identity())
    yield first, second
    first.close()
    second.close()


def read_all(catalog: Catalog) -> tuple[int | None, int, int, bool]:
    return catalog.revision(ACME), catalog.root_revision(), catalog.serials_revision(), catalog.is_complete()


def test_what_one_has_written_another_reads_at_once(pair: tuple[SqliteCatalog, SqliteCatalog]) -> None:
    seen = set()
    for number in range(100):
        writer, reader = pair[number % 2], pair[1 - number % 2]
        put(writer, KEY, replace(FILE, size=number))
        root = reader.root()
        assert read_all(reader) == (root.projects[0].serial, root.revision, root.serials_revision, True)
        seen.add(root.serials_revision)
    assert len(seen) == 100


def test_what_has_not_changed_is_not_read_again(
    pair: tuple[SqliteCatalog, SqliteCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reader = pair
    before = read_all(reader)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # no time passes
    monkeypatch.setattr(reader.pool, "take", pytest.fail)
    assert read_all(reader) == before


def test_a_writer_that_dies_before_it_says_so_is_noticed(
    pair: tuple[SqliteCatalog, SqliteCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = pair
    before = read_all(reader)
    with monkeypatch.context() as patch:
        patch.setattr(Changes, "end", lambda *_: None)
        put(writer, KEY, OTHER_FILE)
        for _ in range(2):
            assert read_all(reader)[0] == writer.root().projects[0].serial
        put(writer, KEY, FILE)
        assert read_all(reader) > before
    put(writer, KEY, OTHER_FILE)
    assert read_all(reader)[2] == writer.root().serials_revision


def test_a_transaction_that_fails_changes_nothing(pair: tuple[SqliteCatalog, SqliteCatalog]) -> None:
    writer, reader = pair
    before = read_all(reader)
    with pytest.raises(ConflictError):
        writer.put(Entry(KEY, ACME), Entry(KEY, ACME, content=OTHER_FILE))
    assert read_all(reader) == before
    put(writer, KEY, OTHER_FILE)
    assert read_all(reader) > before


def test_writers_and_readers_at_once_never_read_what_was_before(path: Path) -> None:
    catalogs = [SqliteCatalog(path) for _ in range(3)]
    put(catalogs[0], KEY)

    def write_and_read(catalog: Catalog) -> list[int]:
        stale = []
        for number in range(60):
            key = f"acme/acme-{id(catalog)}.{number}.zip"
            put(catalog, key)
            written = catalog.entry(key).generation
            stale += [written for other in catalogs if (other.revision(ACME) or 0) < written]
        return stale

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write_and_read, catalogs)) == [[], [], []]
    for catalog in catalogs:
        catalog.close()


def test_notes_of_changes_that_were_removed_are_made_anew(
    path: Path, pair: tuple[SqliteCatalog, SqliteCatalog]
) -> None:
    writer, reader = pair
    read_all(reader)
    path.with_name("catalog.sqlite-changes").unlink()
    third = SqliteCatalog(path)
    for catalog in (writer, third):
        put(catalog, KEY, replace(FILE, size=catalog.serials_revision() % 1000))
        wait_for(lambda: {each.revision(ACME) for each in (*pair, third)}, {third.root().projects[0].serial}.__eq__)
    third.close()


def test_a_write_by_notes_that_were_removed_is_seen_all_the_same(
    path: Path, pair: tuple[SqliteCatalog, SqliteCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = pair
    read_all(writer)
    path.with_name("catalog.sqlite-changes").unlink()
    wait_for(lambda: read_all(reader)[0] and path.with_name("catalog.sqlite-changes").exists())
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # the writer never looks around
    put(writer, KEY, OTHER_FILE)
    assert reader.revision(ACME) == writer.root().projects[0].serial


def test_a_writer_that_says_late_that_it_has_ended_takes_nothing_back(path: Path) -> None:
    changes = Changes(path)
    first, second = changes.begin(), changes.begin()
    changes.end(second)
    changes.end(first)
    assert is_quiet(changes.seen())


def test_a_file_that_was_removed_is_made_anew_and_is_not_complete(path: Path) -> None:
    catalog = SqliteCatalog(path)
    put(catalog, KEY)
    catalog.mark_complete(catalog.identity())
    assert catalog.is_complete()
    path.unlink()
    assert catalog.project(ACME) is None
    assert not catalog.is_complete()
    assert catalog.entry(KEY) == Entry(KEY, None)
    put(catalog, "zeta/zeta-1.zip", project=ZETA)
    other = SqliteCatalog(path)
    assert [names(each) for each in (catalog, other)] == [["zeta"], ["zeta"]]
    catalog.close()
    other.close()


def test_a_file_that_was_replaced_is_read_instead(path: Path) -> None:
    replacement = SqliteCatalog(path.with_name("other"))
    put(replacement, KEY)
    replacement.mark_complete(replacement.identity())
    replacement.close()
    catalog = SqliteCatalog(path)
    assert not catalog.is_complete()
    path.with_name("other").replace(path)
    assert catalog.entry(KEY).content == FILE
    assert catalog.is_complete()
    catalog.close()


def test_only_its_owner_reads_the_file(path: Path) -> None:
    SqliteCatalog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_closed_catalog_opens_again(path: Path) -> None:
    catalog = SqliteCatalog(path)
    put(catalog, KEY)
    catalog.close()
    catalog.close()
    assert catalog.entry(KEY).content == FILE
    catalog.close()


def test_pages_of_names_that_are_not_ours_are_forgotten_after_a_month(tmp_path: Path) -> None:
    path, other = tmp_path / "catalog.sqlite", NormalizedName("other")
    catalog = SqliteCatalog(path)
    put(catalog, KEY)
    now = time.time_ns() // 1000
    old, new = KeptPage(now - 31 * 86_400 * 10**6, b"old"), KeptPage(now - 29 * 86_400 * 10**6, b"new")
    for name, form, page in ((ACME, "html", old), (other, "html", old), (other, "json", new)):
        catalog.keep_page(name, form, page)
    catalog.close()
    again = SqliteCatalog(path)
    again.keep_page(NormalizedName("another"), "html", new)
    found = [again.page(ACME, "html"), again.page(other, "html"), again.page(other, "json")]
    assert found == [old, None, new]
    again.close()
