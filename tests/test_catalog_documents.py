"""What `catalog.documents` alone must meet: counted requests, deaths between two writes, answers that were lost."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elasticpypi.catalog import KnownKey, Write
from elasticpypi.catalog.documents import DocumentsCatalog
from elasticpypi.catalog.documents.formats import project_document, shard_document
from elasticpypi.config import Settings
from elasticpypi.errors import CatalogError, ConflictError, ObjectMissingError
from elasticpypi.index import Index, open_index
from elasticpypi.model import Entry, File, Rejection
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.storage import Document, Storage
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.storage.s3.documents import S3Documents
from elasticpypi.sync import find_drift, sync
from tests.aws import REGION, Cloud, counting
from tests.dists import make_wheel
from tests.documents import DirectoryDocuments
from tests.scheduler import Choice, Interleaved, Tasks
from tests.test_catalog import ACME, FILE, KEY, OTHER_FILE, REJECTION, ZETA, names, put
from tests.test_reconcile_interleaved import CHOICES, MEMORY, Settled

PREFIX = ".elasticpypi/catalog/"


class Noted:
    """Documents that note what is asked of them, and do something before or after a write where a test wants it."""

    def __init__(self, documents: DirectoryDocuments) -> None:
        self._documents = documents
        self.asked: Counter[str] = Counter()
        self.written: list[tuple[str, bytes]] = []
        self.before_write: Callable[[str], None] = lambda _: None
        self.after_write: Callable[[str], None] = lambda _: None

    def read_document(self, key: str) -> Document:
        self.asked["read"] += 1
        return self._documents.read_document(key)

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> str:
        self.asked["write"] += 1
        self.before_write(key)
        fingerprint = self._documents.write_document(key, data, replacing=replacing)
        self.written.append((key, data))
        self.after_write(key)
        return fingerprint

    def remove_document(self, key: str) -> None:
        self.asked["remove"] += 1
        self._documents.remove_document(key)

    def list_documents(self, prefix: str) -> Iterator[str]:
        self.asked["list"] += 1
        return self._documents.list_documents(prefix)


@pytest.fixture
def documents(tmp_path: Path) -> Noted:
    return Noted(DirectoryDocuments(tmp_path))


@pytest.fixture
def catalog(documents: Noted) -> DocumentsCatalog:
    return DocumentsCatalog(documents)


class DeadError(Exception):
    """A process ends here."""


def dying(*keys: str) -> Callable[[str], None]:
    """Let a process die at one of these documents."""

    def die(key: str) -> None:
        if key in keys:
            raise DeadError

    return die


def put_after_entry(catalog: DocumentsCatalog, key: str, content: File | None) -> Callable[[], None]:
    before = catalog.entry(key)
    after = replace(before, project=NormalizedName(key.partition("/")[0]), content=content)
    return lambda: catalog.put(before, after, core_metadata=None if content is None else b"metadata")


def put_thirty(catalog: DocumentsCatalog) -> Callable[[], object]:
    keys = [f"acme/acme-{number}.zip" for number in range(100, 130)]
    writes = [Write(before, replace(before, project=ACME, content=FILE), b"m") for before in catalog.entries([*keys])]
    return lambda: catalog.put_all(writes)


ACME_DOCUMENT, ROOT_DOCUMENT = project_document(ACME), shard_document(ACME)
SITUATIONS: list[tuple[str, Callable[[DocumentsCatalog], Callable[[], object]], dict[str, int]]] = [
    ("revision", lambda catalog: lambda: catalog.revision(ACME), {"read": 1}),
    ("root_revision", lambda catalog: catalog.root_revision, {"read": 16}),
    ("serials_revision", lambda catalog: catalog.serials_revision, {"read": 16}),
    ("root", lambda catalog: catalog.root, {"read": 16}),
    ("is_complete", lambda catalog: catalog.is_complete, {"read": 1}),
    ("project", lambda catalog: lambda: catalog.project(ACME), {"read": 1}),
    ("entry", lambda catalog: lambda: catalog.entry(KEY), {"read": 1}),
    ("entries", lambda catalog: lambda: catalog.entries([KEY, "acme/acme-2.zip"]), {"read": 1}),
    ("has_files", lambda catalog: lambda: catalog.has_files(ACME, besides=KEY), {"read": 1}),
    ("entries_named", lambda catalog: lambda: catalog.entries_named(ACME, FILE.filename), {"read": 1}),
    ("core_metadata", lambda catalog: lambda: catalog.core_metadata(KEY), {"read": 2}),
    ("put what is there", lambda catalog: put_after_entry(catalog, KEY, FILE), {"write": 1, "read": 1}),
    ("put others", lambda catalog: put_after_entry(catalog, KEY, OTHER_FILE), {"write": 3, "read": 1, "remove": 1}),
    ("put a new row", lambda catalog: put_after_entry(catalog, "acme/acme-3.zip", FILE), {"write": 3, "read": 1}),
    ("put a new project", lambda catalog: put_after_entry(catalog, "new/new-1.zip", FILE), {"write": 3, "read": 1}),
    ("put a tombstone", lambda catalog: put_after_entry(catalog, KEY, None), {"write": 2, "read": 1, "remove": 1}),
    ("put_all of 30 rows", put_thirty, {"write": 32, "read": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "expected"), [situation[1:] for situation in SITUATIONS], ids=[s[0] for s in SITUATIONS]
)
@pytest.mark.parametrize("others", [0, 10])
def test_requests_are_few_whatever_the_size_of_the_index(
    documents: Noted, prepare: Callable[[DocumentsCatalog], Callable[[], object]], expected: dict[str, int], others: int
) -> None:
    filler = DocumentsCatalog(documents)
    filler.identity()
    fill(filler, others)
    put(filler, KEY, FILE, core_metadata=b"old")
    put(filler, "acme/acme-2.zip")
    ask = prepare(DocumentsCatalog(documents))  # which remembers nothing
    ask_again = documents.asked.copy()
    ask()
    assert documents.asked - ask_again == Counter(expected)


def fill(catalog: DocumentsCatalog, projects: int) -> None:
    """Put other projects into a catalog, with a file each, and files into a project."""
    for number in range(projects):
        name = NormalizedName(f"other-{number}")
        put(catalog, f"{name}/other-{number}-1.zip", project=name)
    rows = [Entry(f"acme/acme-0.{number}.zip", ACME, content=FILE) for number in range(projects)]
    catalog.put_all([Write(replace(row, content=None), row) for row in rows])


@pytest.mark.parametrize("projects", [10, 60])
def test_a_new_file_costs_as_many_requests_of_s3_whatever_the_size_of_the_index(
    cloud: Cloud, tmp_path: Path, projects: int
) -> None:
    bucket, output = cloud.make_bucket(), cloud.make_bucket()
    index = Index(DocumentsCatalog(S3Documents(cloud.aws, output)), S3Storage(cloud.aws, bucket))
    index.sync()
    fill(DocumentsCatalog(S3Documents(cloud.aws, output)), projects)
    index = Index(DocumentsCatalog(S3Documents(cloud.aws, output)), S3Storage(cloud.aws, bucket))
    wheel = make_wheel(tmp_path, "acme", "7")
    cloud.aws.s3.put_object(Bucket=bucket, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
    with counting(cloud.aws.s3) as counts:
        index.reconcile(f"acme/{wheel.name}")
    # The row; the object and its bytes; its core metadata, the row and, after another look at it, the root.
    assert counts == {"HeadObject": 1, "GetObject": 3, "PutObject": 3}
    with counting(cloud.aws.s3) as counts:
        index.reconcile(f"acme/{wheel.name}")
    assert counts == {"HeadObject": 1, "GetObject": 1, "PutObject": 1}


def test_everything_lies_below_one_prefix(documents: Noted, catalog: DocumentsCatalog) -> None:
    catalog.identity()
    put(catalog, KEY, core_metadata=b"m")
    put(catalog, "x.whl", REJECTION, project=None)
    assert documents.written
    assert all(key.startswith(PREFIX) for key, _ in documents.written)


@pytest.mark.parametrize("content", [FILE, None])
@pytest.mark.parametrize("is_before", [True, False])
def test_who_dies_before_the_root_is_told_leaves_it_to_the_next_write_of_the_project(
    documents: Noted, catalog: DocumentsCatalog, content: File | None, *, is_before: bool
) -> None:
    put(catalog, KEY, FILE if content is None else None)
    put(catalog, "zeta/zeta-1.zip", project=ZETA)
    if is_before:
        documents.before_write = dying(ROOT_DOCUMENT)
    else:
        documents.after_write = dying(ACME_DOCUMENT)
    with pytest.raises(DeadError):
        put(catalog, KEY, content)
    documents.before_write = documents.after_write = dying()
    survivor = DocumentsCatalog(documents)
    revision, entry = survivor.root_revision(), survivor.entry(KEY)
    assert (entry.content, survivor.revision(ACME) is None) == (content, content is None)
    survivor.put(entry, entry)  # as the event's second delivery does, which finds nothing to change
    assert names(survivor) == (["zeta"] if content is None else ["acme", "zeta"])
    assert survivor.root_revision() > revision
    root = {project.name: project.serial for project in survivor.root().projects}
    assert root.get(ACME) == survivor.revision(ACME)


@pytest.mark.parametrize("content", [OTHER_FILE, None])
def test_who_comes_late_to_the_root_takes_nothing_back(
    documents: Noted, catalog: DocumentsCatalog, content: File | None
) -> None:
    other = DocumentsCatalog(documents)

    def overtake(key: str) -> None:
        if key == ROOT_DOCUMENT:
            documents.before_write = dying()
            put(other, KEY, content)

    documents.before_write = overtake
    before = catalog.entry(KEY)
    catalog.put(before, Entry(KEY, ACME, content=FILE))
    listed = [(project.name, project.serial) for project in catalog.root().projects]
    assert listed == ([] if content is None else [(ACME, catalog.revision(ACME))])


def test_a_full_sync_tells_the_root_what_the_dead_have_not(documents: Noted, tmp_path: Path) -> None:
    storage = cast("Storage", Settled(DirectoryDocuments(tmp_path / "files").storage))
    wheel = make_wheel(tmp_path, "acme", "1").read_bytes()
    storage.write_document("acme/acme-1-py3-none-any.whl", wheel, replacing=None)
    catalog = DocumentsCatalog(documents)
    documents.before_write = dying(ROOT_DOCUMENT)
    with pytest.raises(DeadError):
        catalog.identity()
    documents.before_write = dying()
    catalog.identity()
    documents.before_write = dying(ROOT_DOCUMENT)
    assert "DeadError" in sync(catalog, storage).failed["acme/acme-1-py3-none-any.whl"]
    documents.before_write = dying()
    survivor = DocumentsCatalog(documents)
    assert names(survivor) == []
    asked = documents.asked["write"]
    assert find_drift(survivor, storage).unchanged == 1
    assert (documents.asked["write"], names(survivor)) == (asked, [])  # looking changes nothing
    assert sync(survivor, storage).unchanged == 1
    assert names(survivor) == ["acme"]
    assert survivor.is_complete()


def test_a_write_whose_answer_was_lost_is_taken_for_done(documents: Noted, catalog: DocumentsCatalog) -> None:
    put(catalog, KEY, FILE, core_metadata=b"old")
    lost: list[str] = []

    def lose(key: str) -> None:
        if key not in lost:
            lost.append(key)
            raise ConflictError(key)  # the client has asked again, and met its own write

    documents.after_write = lose
    before = catalog.entry(KEY)
    other = Write(Entry("acme/acme-2.zip", None), Entry("acme/acme-2.zip", ACME, content=FILE), b"other")
    assert catalog.put_all([Write(before, replace(before, content=OTHER_FILE), b"new"), other]) == []
    assert {ACME_DOCUMENT, ROOT_DOCUMENT} <= set(lost)
    assert catalog.entry(KEY).content == OTHER_FILE
    assert (catalog.core_metadata(KEY), catalog.core_metadata("acme/acme-2.zip")) == (b"new", b"other")
    assert core_metadata_documents(documents) == 2
    assert [project.serial for project in catalog.root().projects] == [catalog.revision(ACME)]


def core_metadata_documents(documents: Noted) -> int:
    return len(list(documents.list_documents(f"{PREFIX}core-metadata/")))


def test_core_metadata_that_no_row_names_is_removed(documents: Noted, catalog: DocumentsCatalog) -> None:
    stale = put(catalog, KEY, FILE, core_metadata=b"first")
    other = DocumentsCatalog(documents)
    put(other, KEY, OTHER_FILE, core_metadata=b"second")
    with pytest.raises(ConflictError):
        catalog.put(stale, replace(stale, content=REJECTION), core_metadata=b"never")
    assert core_metadata_documents(documents) == 1
    assert other.core_metadata(KEY) == b"second"
    put(other, KEY, OTHER_FILE, fingerprint="touched", core_metadata=b"second")
    assert (core_metadata_documents(documents), other.core_metadata(KEY)) == (1, b"second")
    put(other, KEY, None)
    assert core_metadata_documents(documents) == 0


def test_what_others_write_is_seen_where_something_else_is_remembered(
    documents: Noted, catalog: DocumentsCatalog
) -> None:
    put(catalog, KEY, FILE, core_metadata=b"old")
    assert catalog.core_metadata(KEY) == b"old"
    put(DocumentsCatalog(documents), KEY, OTHER_FILE, core_metadata=b"new")
    assert catalog.core_metadata(KEY) == b"new"
    put(DocumentsCatalog(documents), "acme/acme-2.zip", core_metadata=b"2")
    put(catalog, "acme/acme-3.zip")
    project = catalog.project(ACME)
    assert project is not None
    assert [entry.content for entry in project.entries] == [OTHER_FILE, FILE, FILE]
    assert catalog.core_metadata("acme/acme-2.zip") == b"2"


def test_core_metadata_of_many_files_is_read_without_reading_their_rows_again(
    documents: Noted, catalog: DocumentsCatalog
) -> None:
    put_thirty(catalog)()
    reader = DocumentsCatalog(documents)
    project = reader.project(ACME)
    assert project is not None
    asked = documents.asked["read"]
    assert [reader.core_metadata(entry.key) for entry in project.entries] == [b"m"] * 30
    assert documents.asked["read"] - asked == 30


def test_core_metadata_that_is_missing_is_an_error_and_never_nothing(
    documents: Noted, catalog: DocumentsCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.documents.store._PATIENCE_SECONDS", 0.05)
    put(catalog, KEY, core_metadata=b"m")
    (key,) = documents.list_documents(f"{PREFIX}core-metadata/")
    documents.remove_document(key)
    with pytest.raises(CatalogError, match="elasticpypi sync"):
        catalog.core_metadata(KEY)


def test_no_document_that_is_replaced_ever_has_the_same_bytes_again(
    documents: Noted, catalog: DocumentsCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    for _ in range(3):
        for content in (FILE, OTHER_FILE, None):
            put(catalog, KEY, content)
            put(catalog, KEY, content)
            put(catalog, "x.whl", content and REJECTION, project=None)
    catalog.identity()
    catalog.mark_complete(catalog.identity())
    assert len(documents.written) > 30
    assert max(Counter(documents.written).values()) == 1


def test_what_was_written_with_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    # No time of writing is in a document, and no order of rows.
    entries = [Entry(f"acme/acme-{number}.zip", ACME, content=FILE) for number in range(3)]
    written = []
    for number, ordered in enumerate(itertools.permutations(entries)):
        documents = Noted(DirectoryDocuments(tmp_path / str(number)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
            DocumentsCatalog(documents).put_all([Write(replace(each, content=None), each) for each in ordered])
        written.append(documents.written)
    assert written == written[:1] * 6


def test_a_catalog_in_place_of_another_is_not_complete_and_repeats_no_revision(
    documents: Noted, catalog: DocumentsCatalog
) -> None:
    first = catalog.identity()
    for name in (ACME, ZETA, NormalizedName("other")):
        for content in (FILE, None, FILE):
            put(catalog, f"{name}/{name}-1.zip", content, project=name)
    catalog.mark_complete(first)
    before = (catalog.revision(ACME) or 0, catalog.root_revision(), catalog.serials_revision())
    for key in list(documents.list_documents(PREFIX)):
        documents.remove_document(key)
    assert not catalog.is_complete()
    assert (catalog.project(ACME), names(catalog)) == (None, [])
    assert catalog.identity() != first
    put(catalog, "acme/acme-1.zip")
    catalog.mark_complete(first)
    assert not catalog.is_complete()
    after = (catalog.revision(ACME) or 0, catalog.root_revision(), catalog.serials_revision())
    assert all(new > old for new, old in zip(after, before, strict=True))


def test_of_many_that_ask_for_the_identity_all_get_the_same(documents: Noted) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: DocumentsCatalog(documents).identity(), range(8)))) == 1


def test_tombstones_expire_and_rows_do_not(catalog: DocumentsCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = put(catalog, KEY), "acme/acme-2.zip"
    put(catalog, gone)
    put(catalog, gone, None)
    later = time.time_ns() + 25 * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert catalog.entry(gone).generation > 0
    put(catalog, "acme/acme-3.zip")
    assert (catalog.entry(gone), catalog.entry(KEY)) == (Entry(gone, None), kept)


def test_a_document_that_could_not_be_read_again_is_not_written(
    catalog: DocumentsCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.catalog.documents.store.LARGEST_DOCUMENT", 1000)
    put(catalog, KEY)
    rejected = [Entry(f"acme/acme-{hash(number)}.zip", ACME, content=FILE) for number in range(1000)]
    with pytest.raises(CatalogError, match="needs a 'table'"):
        catalog.put_all([Write(replace(each, content=None), each) for each in rejected])
    assert [known.key for known in catalog.known_keys()] == [KEY]


@pytest.mark.parametrize(("kept", "then"), [(0, b""), (20, b""), (0, b"no gzip"), (0, b"[]")])
@pytest.mark.parametrize("document", [ACME_DOCUMENT, ROOT_DOCUMENT, f"{PREFIX}self.json"])
def test_a_damaged_document_is_an_error_with_a_remedy_and_not_an_empty_catalog(
    documents: Noted, catalog: DocumentsCatalog, document: str, kept: int, then: bytes
) -> None:
    catalog.identity()
    put(catalog, KEY)
    found = documents.read_document(document)
    documents.write_document(document, found.data[:kept] + then, replacing=found.fingerprint)
    ask: dict[str, list[Callable[[], object]]] = {
        ACME_DOCUMENT: [
            lambda: catalog.entry(KEY),
            lambda: catalog.project(ACME),
            lambda: catalog.revision(ACME),
            lambda: list(catalog.known_keys()),
        ],
        ROOT_DOCUMENT: [catalog.root, catalog.root_revision, catalog.counts],
        f"{PREFIX}self.json": [catalog.identity, catalog.is_complete, catalog.check],
    }
    for each in ask[document]:
        with pytest.raises(CatalogError, match=r"remove everything below .* and run `elasticpypi sync`"):
            each()


def test_an_outage_is_an_error_and_never_empty(cloud: Cloud) -> None:
    catalog = DocumentsCatalog(S3Documents(cloud.aws, "no-such-bucket"))
    asked: list[Callable[[], object]] = [
        catalog.check,
        catalog.root,
        catalog.is_complete,
        catalog.identity,
        lambda: catalog.entry(KEY),
        lambda: catalog.revision(ACME),
        lambda: list(catalog.known_keys()),
        lambda: catalog.put(Entry(KEY, ACME), Entry(KEY, ACME, content=FILE)),
    ]
    for ask in asked:
        with pytest.raises(CatalogError) as caught:
            ask()
        assert "there is no bucket 'no-such-bucket': make it, or correct 'output_bucket'" in str(caught.value)


def test_documents_of_a_bucket_are_replaced_as_they_were_read_only(cloud: Cloud) -> None:
    documents, key = S3Documents(cloud.aws, cloud.make_bucket()), f"{PREFIX}self.json"
    with pytest.raises(ObjectMissingError):
        documents.read_document(key)
    with pytest.raises(ConflictError):
        documents.write_document(key, b"0", replacing='"0"-0')
    first = documents.write_document(key, b"1", replacing=None)
    with pytest.raises(ConflictError):
        documents.write_document(key, b"2", replacing=None)
    second = documents.write_document(key, b"3", replacing=first)
    with pytest.raises(ConflictError):
        documents.write_document(key, b"4", replacing=first)
    assert documents.read_document(key) == Document(b"3", second)
    assert list(documents.list_documents(PREFIX)) == [key]
    documents.remove_document(key)
    documents.remove_document(key)
    assert list(documents.list_documents(PREFIX)) == []


def test_an_index_without_a_table_keeps_its_catalog_in_the_output_bucket(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    bucket, output = cloud.make_bucket(), cloud.make_bucket()
    wheel = make_wheel(tmp_path, "acme", "1")
    cloud.aws.s3.put_object(Bucket=bucket, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
    index = open_index(Settings(bucket=bucket, output_bucket=output, region=REGION), data=tmp_path / "data")
    assert index.sync().added == [f"acme/{wheel.name}"]
    assert [project.name for project in index.root().projects] == ["acme"]
    assert index.project_page(ACME, Form.JSON, index.project_revision(ACME)).body
    assert not (tmp_path / "data").exists()
    listed = cloud.aws.s3.list_objects_v2(Bucket=output)["Contents"]
    assert all(obj["Key"].startswith(PREFIX) for obj in listed)
    assert index.find_drift().drift == 0


# Several processes at once, each of which may die -------------------------------------------------------------------

COUNTERS = ["acme/acme-1.zip", "acme/acme-2.zip", "zeta/zeta-1.zip", "x.whl"]


class Mortal:
    """The documents of a process that dies at one of its requests, before or after it is carried out."""

    def __init__(self, documents: DirectoryDocuments, *, requests: int, is_carried_out: bool) -> None:
        self._documents = documents
        self._left = requests
        self._is_carried_out = is_carried_out

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._documents, name)

        def call(*args: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._is_carried_out:
                method(*args, **named)
            if self._left <= 0:
                raise DeadError
            return method(*args, **named)

        return call


def count_up(catalog: DocumentsCatalog, key: str, counted: list[str]) -> None:
    """Add one to the counter that lies under a key, or take it away where it is three."""
    while True:
        before = catalog.entry(key)
        count = int(before.content.reason) if isinstance(before.content, Rejection) else 0
        content = None if count == 3 else Rejection("x", str(count + 1))
        try:
            catalog.put(before, replace(before, content=content), core_metadata=str(count + 1).encode())
        except ConflictError:
            continue
        counted.append(key)
        return


PROCESSES = st.lists(
    st.tuples(st.sampled_from(COUNTERS), st.integers(0, 9), st.booleans()), min_size=2, max_size=5
)  # which counter, the request at which it dies (0: never), whether that is carried out


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PROCESSES, CHOICES, st.booleans())
def test_whoever_dies_among_others_leaves_what_the_next_ones_mend(
    processes: list[tuple[str, int, bool]], choices: list[Choice], is_synced: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, pytest.MonkeyPatch.context() as patch, Tasks() as tasks:
        patch.setattr("elasticpypi.catalog.documents.store._SHORTEST_PAUSE", 0)
        documents, counted = DirectoryDocuments(Path(name)), list[str]()

        def run(key: str, dies_at: int, is_carried_out: bool) -> None:
            mortal = Mortal(documents, requests=dies_at or 1000, is_carried_out=is_carried_out)
            with suppress(DeadError):
                count_up(DocumentsCatalog(Interleaved("documents", mortal)), key, counted)

        for process in processes:
            tasks.start("process", lambda process=process: run(*process))  # type: ignore[misc]
        tasks.run_all(iter(choices), writes={"documents.write_document"})
        check(documents, processes, counted, is_synced=is_synced)


def check(
    documents: DirectoryDocuments, processes: list[tuple[str, int, bool]], counted: list[str], *, is_synced: bool
) -> None:
    survivor = DocumentsCatalog(documents)
    entries = survivor.entries(COUNTERS)
    if is_synced:
        identity = survivor.identity()
        live = [KnownKey(entry.key, entry.fingerprint) for entry in entries if entry.content is not None]
        assert list(survivor.known_keys()) == sorted(live, key=lambda known: known.key)
        survivor.mark_complete(identity)
    else:
        for entry in entries:
            survivor.put(entry, entry)
    started = Counter(key for key, *_ in processes)
    for entry in survivor.entries(COUNTERS):
        count = int(entry.content.reason) if isinstance(entry.content, Rejection) else 0
        # Who has died may have counted or not, who has not has.
        assert count in {done % 4 for done in range(counted.count(entry.key), started[entry.key] + 1)}
        expected = None if entry.content is None else str(count).encode()
        assert survivor.core_metadata(entry.key) == expected
    projects = {name: survivor.revision(name) for name in (ACME, ZETA)}
    assert {each.name: each.serial for each in survivor.root().projects} == {
        name: revision for name, revision in projects.items() if revision is not None
    }
    assert survivor.counts().files == sum(entry.content is not None for entry in entries)
