"""However reconcilers interleave while objects come and go: the catalog ends equal to the storage."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elasticpypi.catalog import Catalog, Write
from elasticpypi.catalog.documents import DocumentsCatalog
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.digests import hex_digest
from elasticpypi.errors import ConflictError
from elasticpypi.indexer import Failed, Known, reconcile, reconcile_all
from elasticpypi.metadata import read_core_metadata
from elasticpypi.model import Decisions, Entry, File, Rejection, Status
from elasticpypi.names import NormalizedName, parse_filename
from elasticpypi.storage import Storage
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.sync import SyncReport, find_drift, sync
from tests.aws import Cloud
from tests.dists import make_core_metadata, make_wheel
from tests.documents import DirectoryDocuments
from tests.examples import examples
from tests.scheduler import Choice, Interleaved, Pace, Task, Tasks, switching_point

SPAM = NormalizedName("spam")
CANONICAL = "spam/spam-1-py3-none-any.whl"
FLAT = "spam-1-py3-none-any.whl"
OTHER = "spam/spam-2-py3-none-any.whl"
FILES = (CANONICAL, FLAT, OTHER)
DECISIONS = "spam/project.json"
KEYS = (*FILES, DECISIONS)


REQUIREMENTS = (">=3.9", ">=3.10")  # of the two wheels that each version has
DESCRIPTIONS = {">=3.9": "", ">=3.10": hashlib.sha256(b"spam").hexdigest()}  # so that they differ in size


def build_wheel(version: str, requires_python: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        description = DESCRIPTIONS[requires_python]
        path = make_wheel(Path(directory), "spam", version, requires_python=requires_python, description=description)
        return path.read_bytes()


WHEELS = {version: [build_wheel(version, each) for each in REQUIREMENTS] for version in ("1", "2")}
VARIANTS: dict[str, list[bytes]] = {
    CANONICAL: [*WHEELS["1"], b"no zip"],
    FLAT: [*WHEELS["1"], b"no zip"],
    OTHER: [*WHEELS["2"], b"no zip"],
    DECISIONS: [b'{"status": "archived"}', b'{"yanked": {"1": "bad"}}', b"{", b"[]"],
}
BROKEN = 2  # the variant of a wheel
UNREADABLE = 2  # the first such variant of the decisions
GOOD_DECISIONS = [
    Decisions(Status.ARCHIVED),
    Decisions(yanked={"1": "bad"}),
    Decisions(),  # what remains of a project
    Decisions(Status.QUARANTINED, "its project.json cannot be read"),
]
# What may be known of a file, written down without the code under test: sha256, size, and two facts of its METADATA.
PROVEN = {
    (
        hashlib.sha256(data).hexdigest(),
        len(data),
        requires_python,
        hashlib.sha256(
            make_core_metadata(
                "spam", version, requires_python=requires_python, description=DESCRIPTIONS[requires_python]
            )
        ).hexdigest(),
    )
    for version, wheels in WHEELS.items()
    for data, requires_python in zip(wheels, REQUIREMENTS, strict=True)
}


class Hand(Protocol):
    """What people do to a storage behind the back of the index."""

    def put(self, key: str, data: bytes, *, same_mtime: bool = False, in_place: bool = False) -> None:
        """Put an object; `same_mtime` carries the time of its predecessor over, where there is such a thing."""

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""

    def hide(self) -> None:
        """Take the whole project away."""

    def show(self) -> None:
        """Bring it back as it was, in place of what has come meanwhile."""

    def keys(self) -> set[str]:
        """Return the keys that there are."""


class HandInDirectory:
    """A `Hand` for `FilesystemStorage`."""

    def __init__(self, root: Path, aside: Path) -> None:
        self._root = root
        self._aside = aside
        self._times = itertools.count(1_700_000_000_000_000_000, 1_000_000_000)
        self._mtimes: dict[str, int] = {}
        self._seen: set[tuple[str, int, int, int]] = set()
        aside.mkdir()

    def put(self, key: str, data: bytes, *, same_mtime: bool = False, in_place: bool = False) -> None:
        path = self._root / key
        path.parent.mkdir(exist_ok=True)
        draft = path if in_place else self._aside / "draft"
        draft.write_bytes(data)
        mtime = self._mtimes.get(key) if same_mtime else None
        self._mtimes[key] = mtime = next(self._times) if mtime is None else mtime
        if not in_place:
            draft.replace(path)
        while True:  # a clock of the file system may stand still for milliseconds
            os.utime(path, ns=(mtime, mtime))
            status = path.stat()
            seen = (key, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if seen not in self._seen:
                self._seen.add(seen)
                return

    def remove(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def hide(self) -> None:
        if (self._root / "spam").exists() and not (self._aside / "spam").exists():
            (self._root / "spam").rename(self._aside / "spam")

    def show(self) -> None:
        if (self._aside / "spam").exists():
            shutil.rmtree(self._root / "spam", ignore_errors=True)
            (self._aside / "spam").rename(self._root / "spam")

    def keys(self) -> set[str]:
        return {key for key in KEYS if (self._root / key).exists()}


class HandInBucket:
    """A `Hand` for `S3Storage`, where nothing is written in place and every write has a time of its own."""

    def __init__(self, cloud: Cloud, bucket: str) -> None:
        self._s3 = cloud.aws.s3
        self._bucket = bucket
        self._hidden: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, *, same_mtime: bool = False, in_place: bool = False) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)

    def remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def hide(self) -> None:
        if not self._hidden:
            self._hidden = {
                key: self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read() for key in self._project()
            }
            self._empty()

    def show(self) -> None:
        if self._hidden:
            self._empty()
            for key, data in self._hidden.items():
                self.put(key, data)
            self._hidden = {}

    def keys(self) -> set[str]:
        found = self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return {obj["Key"] for obj in found} & set(KEYS)

    def _project(self) -> set[str]:
        return self.keys() - {FLAT}

    def _empty(self) -> None:
        for key in self._project():
            self.remove(key)


class Settled:
    """A storage in which no object is too young: a test does not wait."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def is_settled(self, obj: object) -> bool:
        return True


class Watched:
    """A catalog that is looked at after every write: revisions and generations, and whether rows are of one piece."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._pages: dict[int, object] = {}
        self._revision = 0  # the highest so far
        self.had_file = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        if self.put_all([Write(before, after, core_metadata)]):
            raise ConflictError(after.key)

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        root, generations = self._root(), [self._catalog.entry(write.after.key).generation for write in writes]
        contents = self._contents()
        conflicts = self._catalog.put_all(writes)
        for write, generation in zip(writes, generations, strict=True):
            if write not in conflicts:
                assert self._catalog.entry(write.after.key).generation > generation
                self._check_piece(write.after)
        self._check_revision(contents)
        self._check_root(root)
        return conflicts

    def _root(self) -> tuple[int, bool]:
        return self._catalog.root_revision(), self._catalog.revision(SPAM) is not None

    def _contents(self) -> object:
        project = self._catalog.project(SPAM)
        return None if project is None else [(entry.key, entry.content) for entry in project.entries]

    def _check_piece(self, after: Entry) -> None:
        self.had_file |= isinstance(after.content, File | Rejection)
        if isinstance(after.content, File):
            file = after.content
            assert (file.sha256, file.size, file.requires_python, file.core_metadata_sha256) in PROVEN

    def _check_revision(self, before: object) -> None:
        contents, revision = self._contents(), self._catalog.revision(SPAM)
        if revision is None:
            assert contents is None
            return
        assert revision > self._revision if contents != before else revision == self._revision
        assert self._pages.setdefault(revision, contents) == contents
        self._revision = revision

    def _check_root(self, before: tuple[int, bool]) -> None:
        after = self._root()
        assert after[0] > before[0] if after[1] != before[1] else after[0] == before[0]


@dataclass(frozen=True)
class Adapters:
    """A pair of adapters over storage and catalog that are empty."""

    hand: Hand
    storage: Storage
    catalog: Catalog
    open_empty_catalog: Callable[[], Catalog]


def make_empty_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        SqliteCatalog(Path(directory, "catalog")).close()
        return Path(directory, "catalog").read_bytes()


# Where nothing waits for a disk, if the system has such a place.
MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)
EMPTY_SQLITE = make_empty_sqlite()


@contextmanager
def open_local(_: pytest.FixtureRequest) -> Iterator[Adapters]:
    """SQLite and a directory."""
    catalogs: list[Catalog] = []
    with open_directory() as (directory, hand, storage):

        def open_empty_catalog() -> Catalog:
            path = directory / f"catalog-{len(catalogs)}"
            path.write_bytes(EMPTY_SQLITE)
            catalogs.append(SqliteCatalog(path))
            return catalogs[-1]

        yield Adapters(hand, storage, open_empty_catalog(), open_empty_catalog)
        for catalog in catalogs:
            catalog.close()


@contextmanager
def open_documents(_: pytest.FixtureRequest) -> Iterator[Adapters]:
    """Documents in one directory, files in another."""
    numbers = itertools.count()
    with open_directory() as (directory, hand, storage):

        def open_empty_catalog() -> Catalog:
            return DocumentsCatalog(DirectoryDocuments(directory / f"catalog-{next(numbers)}"))

        yield Adapters(hand, storage, open_empty_catalog(), open_empty_catalog)


@contextmanager
def open_mixed(request: pytest.FixtureRequest) -> Iterator[Adapters]:
    """DynamoDB and a directory."""
    open_empty_catalog = table_maker(request.getfixturevalue("cloud"))
    with open_directory() as (_, hand, storage):
        yield Adapters(hand, storage, open_empty_catalog(), open_empty_catalog)


@contextmanager
def open_aws(request: pytest.FixtureRequest) -> Iterator[Adapters]:
    """DynamoDB and S3."""
    cloud: Cloud = request.getfixturevalue("cloud")
    bucket, open_empty_catalog = cloud.make_bucket(), table_maker(cloud)
    storage = S3Storage(cloud.aws, bucket)
    yield Adapters(HandInBucket(cloud, bucket), storage, open_empty_catalog(), open_empty_catalog)


@contextmanager
def open_directory() -> Iterator[tuple[Path, Hand, Storage]]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        storage = FilesystemStorage(directory / "files")
        storage.initialise()
        yield directory, HandInDirectory(directory / "files", directory / "aside"), storage


def table_maker(cloud: Cloud) -> Callable[[], Catalog]:
    return lambda: DynamoDBCatalog(cloud.aws, cloud.make_table())


# Each takes seconds where a directory takes milliseconds.
ON_AWS = [
    pytest.param(open_mixed, id="dynamodb", marks=pytest.mark.heavy),
    pytest.param(open_aws, id="aws", marks=pytest.mark.heavy),
]
ADAPTERS = [pytest.param(open_local, id="local"), pytest.param(open_documents, id="documents"), *ON_AWS]


class World:
    """One storage, one catalog, and the tasks at work between them."""

    def __init__(self, adapters: Adapters, tasks: Tasks) -> None:
        self.hand = adapters.hand
        self.tasks = tasks
        self._catalog = adapters.catalog
        self._storage = cast("Storage", Settled(adapters.storage))
        self._open_empty_catalog = adapters.open_empty_catalog
        self._watched = Watched(adapters.catalog)
        self.catalog = cast("Catalog", Interleaved("catalog", self._watched))
        self.storage = cast("Storage", Interleaved("storage", self._storage))
        self._is_given_up = False  # by taking its project.json away when it had no file

    def put(self, key: str, variant: int = 0, *, same_mtime: bool = False, in_place: bool = False) -> None:
        self.hand.put(key, VARIANTS[key][variant], same_mtime=same_mtime, in_place=in_place)

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.hand.remove(key)
            self._is_given_up |= key == DECISIONS and not self.hand.keys()

    def hide(self) -> None:
        self.hand.hide()
        self._is_given_up |= not self.hand.keys()

    def show(self) -> None:
        self.hand.show()
        self._is_given_up |= not self.hand.keys()

    def upload(self, key: str, variant: int) -> None:
        """Do as an upload through the index does, when nothing lies under the key."""
        data, parsed = VARIANTS[key][variant], parse_filename(key.rpartition("/")[2])
        with self.storage.receive() as incoming:
            incoming.write(data)
            core_metadata = read_core_metadata(incoming.stream, parsed)
            sha256 = hex_digest(incoming.stream, "sha256")
            try:
                stored = incoming.publish(key)
            except ConflictError:
                return
        reconcile(self.catalog, self.storage, key, known=Known(stored.fingerprint, sha256, core_metadata))

    def reconcile(self, key: str) -> Task:
        """Start a reconciler, which does not run yet."""
        return self.tasks.start(f"reconcile {key}", lambda: reconcile(self.catalog, self.storage, key))

    def reconcile_all(self, *keys: str) -> Task:
        """Start a reconciler of several keys, which does not run yet; none of them may fail."""

        def run() -> None:
            outcomes = list(reconcile_all(self.catalog, self.storage, keys, looks_at_once=1))
            assert [outcome for outcome in outcomes if isinstance(outcome, Failed)] == []

        return self.tasks.start("reconcile all", run)

    def sync(self, *, check: bool = False) -> SyncReport:
        if check:
            return find_drift(self.catalog, self.storage)
        return sync(self.catalog, self.storage, looks_at_once=1)

    def learn(self, *keys: str) -> None:
        """Reconcile keys one after the other."""
        for key in keys:
            reconcile(self.catalog, self.storage, key)

    def check(self) -> None:
        """Compare the catalog with the storage, now that all is done."""
        report = self.sync(check=True)
        present = self.hand.keys()
        assert report == SyncReport(unchanged=len(present))
        root = self._catalog.root()
        assert [project.name for project in root.projects] == [SPAM][: len(present)]
        assert root.revision == self._catalog.root_revision()
        rebuilt = self._open_empty_catalog()
        sync(rebuilt, self._storage)
        for key in KEYS:
            assert_same_content(self._catalog.entry(key), rebuilt.entry(key))
            assert self._catalog.core_metadata(key) == rebuilt.core_metadata(key)
        if self._watched.had_file and not self._is_given_up:
            assert present, "a project of ours has neither a file nor a project.json"
        self._is_given_up = self._is_given_up and not present


def assert_same_content(entry: Entry, rebuilt: Entry) -> None:
    content, expected = entry.content, rebuilt.content
    if isinstance(content, Decisions) and isinstance(expected, Decisions) and expected.problem is not None:
        # The last good decisions stay, of which a rebuild knows nothing.
        assert content.problem == expected.problem
        last_good = Decisions(content.status, content.status_reason, content.yanked, content.deleted)
        assert last_good in GOOD_DECISIONS
    else:
        assert content == expected


@dataclass(frozen=True)
class Put:
    key: str
    variant: int
    same_mtime: bool = False
    in_place: bool = False
    calls: int = 1

    def happen(self, world: World) -> None:
        world.put(self.key, self.variant, same_mtime=self.same_mtime, in_place=self.in_place)
        for _ in range(self.calls):
            world.reconcile(self.key)


@dataclass(frozen=True)
class Remove:
    key: str
    calls: int = 1

    def happen(self, world: World) -> None:
        world.remove(self.key)
        for _ in range(self.calls):
            world.reconcile(self.key)


@dataclass(frozen=True)
class RemoveAll:
    """Files go together, and one reconciler hears of all of them."""

    keys: tuple[str, ...]

    def happen(self, world: World) -> None:
        world.remove(*self.keys)
        world.reconcile_all(*self.keys)


@dataclass(frozen=True)
class Hide:
    def happen(self, world: World) -> None:
        world.hide()
        for key in KEYS:
            world.reconcile(key)


@dataclass(frozen=True)
class Show:
    def happen(self, world: World) -> None:
        world.show()
        world.reconcile_all(*KEYS)


@dataclass(frozen=True)
class Upload:
    key: str
    variant: int

    def happen(self, world: World) -> None:
        world.tasks.start(f"upload {self.key}", lambda: world.upload(self.key, self.variant))


@dataclass(frozen=True)
class Sync:
    check: bool

    def happen(self, world: World) -> None:
        world.tasks.start("sync", lambda: world.sync(check=self.check))


class Change(Protocol):
    """Something that happens to the storage, and the calls that it causes."""

    def happen(self, world: World) -> None: ...


# Mostly one file, so that its reconcilers meet.
FILE_KEYS = st.sampled_from([CANONICAL, CANONICAL, CANONICAL, OTHER, FLAT])
CALLS = st.sampled_from([1, 1, 1, 2])
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(Put, FILE_KEYS, st.sampled_from([0, 1, 0, 1, BROKEN]), st.booleans(), st.booleans(), CALLS),
    st.builds(Put, FILE_KEYS, st.integers(0, 1), st.booleans(), st.just(value=False), st.just(1)),
    st.builds(Remove, FILE_KEYS, CALLS),
    st.builds(Remove, FILE_KEYS, st.just(1)),
    st.builds(Put, st.just(DECISIONS), st.integers(0, 3), st.booleans(), st.booleans(), CALLS),
    st.builds(Remove, st.just(DECISIONS), CALLS),
    st.builds(Upload, st.sampled_from([CANONICAL, OTHER]), st.integers(0, 1)),
    st.builds(RemoveAll, st.sampled_from([FILES, (CANONICAL, OTHER), KEYS])),
    st.builds(Sync, st.booleans()),
    st.just(Hide()),
    st.just(Show()),
)
# Between the parts of a history everything comes to rest.
# Races that few histories hold; the schedules are drawn for these too.
MEETINGS: list[list[list[Change]]] = [
    [[Put(CANONICAL, 0), Remove(CANONICAL)]],
    [[Put(CANONICAL, 0), Put(CANONICAL, 1)]],
    [[Put(CANONICAL, 0), Put(CANONICAL, 1, in_place=True)]],
    [[Put(CANONICAL, 0)], [Put(CANONICAL, 1), Put(CANONICAL, 0, same_mtime=True)]],
    [[Put(CANONICAL, 0)], [Hide(), Show()]],
    [[Put(CANONICAL, 0), Put(OTHER, 0)], [Remove(CANONICAL), Remove(OTHER)]],
    [[Put(CANONICAL, 0), Put(DECISIONS, 0)], [Remove(DECISIONS), Remove(CANONICAL)]],
    [[Put(CANONICAL, 0), Put(OTHER, 0)], [RemoveAll((CANONICAL, OTHER)), Remove(CANONICAL)]],
]
HISTORIES = st.sampled_from(MEETINGS) | st.lists(st.lists(CHANGES, min_size=2, max_size=4), min_size=1, max_size=3)
TASKS = (0, 0, 1, 1, 2, 2, 3, 4)
PACES = (Pace.STEP, Pace.WRITE, Pace.WRITE, Pace.END)
# A byte for a choice, which costs hypothesis least; zeros, to which it shrinks, never switch.
CHOICES = st.binary(min_size=60, max_size=120).map(
    lambda data: [Choice(TASKS[byte % 8], PACES[byte // 8 % 4]) for byte in data]
)
WRITES = frozenset({"catalog.put", "catalog.put_all", "storage.write_document", "storage.receive.publish"})


@pytest.fixture(params=ADAPTERS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with request.param(request) as adapters, Tasks() as tasks:
        yield World(adapters, tasks)


@pytest.mark.many_examples
@pytest.mark.timeout(900)
@settings(
    max_examples=examples(150, 3000), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(HISTORIES, CHOICES)
def test_the_catalog_ends_equal_to_the_storage(
    request: pytest.FixtureRequest, history: list[list[Change]], choices: list[Choice]
) -> None:
    with open_local(request) as adapters:
        run_history(adapters, history, choices)


@pytest.mark.many_examples
@pytest.mark.timeout(900)
@settings(max_examples=examples(30, 500), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, CHOICES)
def test_the_catalog_in_documents_ends_equal_to_the_storage(
    request: pytest.FixtureRequest, history: list[list[Change]], choices: list[Choice]
) -> None:
    with open_documents(request) as adapters:
        run_history(adapters, history, choices)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("open_adapters", ON_AWS)
@settings(max_examples=examples(6, 20), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, CHOICES)
def test_the_catalog_ends_equal_to_the_storage_on_aws(
    request: pytest.FixtureRequest,
    open_adapters: Callable[[pytest.FixtureRequest], Any],
    history: list[list[Change]],
    choices: list[Choice],
) -> None:
    with open_adapters(request) as adapters:
        run_history(adapters, history, choices)


def run_history(adapters: Adapters, history: list[list[Change]], choices: list[Choice]) -> None:
    with Tasks() as tasks:
        world = World(adapters, tasks)
        remaining = iter(choices)
        for part in history:
            tasks.start("the world", partial(happen, part, world))
            tasks.run_all(remaining, writes=WRITES)
            world.check()


def happen(changes: list[Change], world: World) -> None:
    for change in changes:
        switching_point("the world")
        change.happen(world)


def test_whoever_saw_an_object_before_it_went_does_not_bring_it_back(world: World) -> None:
    world.put(CANONICAL)
    early = world.reconcile(CANONICAL)
    early.run_until("catalog.put")
    world.remove(CANONICAL)
    world.learn(CANONICAL)
    early.finish()
    world.check()


def test_whoever_missed_an_object_before_it_came_back_does_not_forget_it(world: World) -> None:
    world.put(CANONICAL)
    world.put(DECISIONS)
    world.learn(CANONICAL, DECISIONS)
    world.hide()
    early = world.reconcile(CANONICAL)
    early.run_until("catalog.put")
    world.show()
    world.learn(*KEYS)
    early.finish()
    world.check()


def test_whoever_read_older_bytes_does_not_put_them_over_newer_ones(world: World) -> None:
    world.put(CANONICAL, 0)
    early = world.reconcile(CANONICAL)
    early.run_until("catalog.put")
    world.put(CANONICAL, 1)
    world.learn(CANONICAL)
    early.finish()
    world.check()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("point", "time"),
    [
        ("storage.open", 1),
        ("storage.open, reading", 1),
        ("storage.open, reading", 2),
        ("storage.upload_time", 1),
        ("catalog.put", 1),
    ],
)
def test_bytes_replaced_while_they_are_read_give_no_mixed_row(
    world: World, point: str, time: int, *, in_place: bool
) -> None:
    world.put(CANONICAL, 0)
    early = world.reconcile(CANONICAL)
    early.run_until(point, time=time)
    world.put(CANONICAL, 1, in_place=in_place)
    early.finish()
    world.learn(CANONICAL)
    world.check()


@pytest.mark.parametrize("keys", [(CANONICAL, OTHER), (OTHER, CANONICAL), (CANONICAL, FLAT)])
@pytest.mark.parametrize("point", ["catalog.has_files", "catalog.put"])
def test_when_two_last_files_go_at_once_the_project_stays_ours(world: World, keys: tuple[str, str], point: str) -> None:
    for key in keys:
        world.put(key)
    world.learn(*keys)
    world.remove(*keys)
    tasks = [world.reconcile(key) for key in keys]
    for task in tasks:
        task.run_until(point)
    for task in tasks:
        task.finish()
    assert world.hand.keys() == {DECISIONS}
    world.check()


def test_when_project_json_goes_before_the_last_file_the_project_stays_ours(world: World) -> None:
    world.put(CANONICAL)
    world.put(DECISIONS)
    world.learn(CANONICAL, DECISIONS)
    world.remove(DECISIONS, CANONICAL)
    world.learn(CANONICAL, DECISIONS)  # the second event comes first
    assert world.hand.keys() == {DECISIONS}
    world.check()


def test_a_rebuild_gives_the_upload_time_although_other_bytes_were_there_in_between(world: World) -> None:
    world.put(CANONICAL, 1)
    slow = world.reconcile(CANONICAL)
    slow.run_until("storage.upload_time")
    world.put(CANONICAL, 0)
    world.learn(CANONICAL)
    slow.finish()
    world.check()


@pytest.mark.parametrize("first", [FLAT, CANONICAL])
def test_one_filename_under_two_keys_has_two_rows(world: World, first: str) -> None:
    second = CANONICAL if first == FLAT else FLAT
    world.put(first, 0)
    world.put(second, 1)
    early = world.reconcile(first)
    early.run_until("catalog.put")
    world.learn(second)
    world.remove(second)
    early.finish()
    world.learn(second)
    world.check()


def test_decisions_edited_while_they_are_read_are_read_again(world: World) -> None:
    world.put(CANONICAL)
    world.put(DECISIONS, 0)
    early = world.reconcile(DECISIONS)
    early.run_until("storage.read_document")
    world.put(DECISIONS, 1)
    world.learn(CANONICAL)
    early.finish()
    world.check()


@pytest.mark.parametrize(("point", "time"), [("catalog.put", 1), ("catalog.has_files", 1), ("catalog.put", 2)])
def test_when_the_last_files_go_in_two_batches_at_once_the_project_stays_ours(
    world: World, point: str, time: int
) -> None:
    for key in FILES:
        world.put(key)
    world.learn(*FILES)
    world.remove(*FILES)
    tasks = [world.reconcile_all(CANONICAL, OTHER), world.reconcile_all(OTHER, FLAT)]
    for task in tasks:
        task.run_until(point, time=time)
    for task in tasks:
        task.finish()
    assert world.hand.keys() == {DECISIONS}
    world.check()


def test_of_several_keys_only_those_that_met_a_conflict_begin_again(world: World) -> None:
    for key in FILES:
        world.put(key)
    early = world.reconcile_all(*FILES)
    early.run_until("catalog.put_all")
    world.put(OTHER, 1)
    world.learn(OTHER)
    early.run_until("catalog.entry")  # the one key
    early.finish()
    world.check()


@pytest.mark.parametrize(
    "point", ["catalog.put_all", "catalog.has_files", "storage.write_document", "catalog.entry", "catalog.put"]
)
def test_whoever_crashes_while_the_last_files_go_leaves_the_project_ours(world: World, point: str) -> None:
    for key in FILES:
        world.put(key)
    world.learn(*FILES)
    world.remove(*FILES)
    crashing = world.reconcile_all(*FILES)
    crashing.run_until(point)
    crashing.cancel()
    world.learn(*KEYS)
    assert world.hand.keys() == {DECISIONS}
    world.check()


def test_project_json_is_there_before_the_last_row_goes(world: World) -> None:
    world.put(CANONICAL)
    world.learn(CANONICAL)
    world.remove(CANONICAL)
    crashing = world.reconcile(CANONICAL)
    crashing.run_until("catalog.put")
    crashing.cancel()
    assert world.hand.keys() == {DECISIONS}
    world.learn(*KEYS)
    world.check()
