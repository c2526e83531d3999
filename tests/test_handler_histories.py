"""Whatever becomes of the events of a history: the catalog ends as a `sync` of what the bucket holds would make it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elasticpypi.catalog import Catalog, Write
from elasticpypi.errors import CatalogError, StorageError
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index
from elasticpypi.model import Decisions, Entry
from elasticpypi.storage import Storage
from elasticpypi.sync import sync
from tests.aws_events import BUCKET, Invocation, failed_messages, s3_event, s3_record, sqs_event, sqs_message
from tests.dists import make_wheel
from tests.examples import examples
from tests.test_reconcile_interleaved import Adapters, open_aws, open_local


def wheels(name: str, version: str) -> list[bytes]:
    """Return two wheels of one name, and what is none."""
    with tempfile.TemporaryDirectory() as made:
        built = [
            make_wheel(Path(made), name, version, requires_python=requires).read_bytes()
            for requires in (">=3.9", ">=3.10")
        ]
    return [*built, b"no zip"]


SPAM = wheels("spam", "1")
CONTENTS: dict[str, list[bytes]] = {
    "spam/spam-1-py3-none-any.whl": SPAM,
    "spam-1-py3-none-any.whl": SPAM,  # a flat bucket's
    "Spam pub/spam-1-py3-none-any.whl": SPAM,
    "spam/spam-1+a.b-py3-none-any.whl": wheels("spam", "1+a.b"),
    "eggs/eggs-2-py3-none-any.whl": wheels("eggs", "2"),
    "spam/project.json": [b'{"status": "archived"}', b'{"yanked": {"1": "bad"}}', b"{"],
    ".elasticpypi/uploads/0123": [b"1", b"2", b"3"],
    "readme.txt": [b"1", b"2", b"3"],
}


@dataclass
class World:
    """A bucket that people change, and the catalog that events keep."""

    storage: Storage
    catalog: Catalog
    open_empty_catalog: Callable[[], Catalog]
    put: Callable[[str, bytes], object]
    remove: Callable[[str], object]
    queue: list[list[dict[str, Any]]] = field(default_factory=list)  # the records of each message
    refusing: set[str] = field(default_factory=set)  # keys that cannot be asked about now
    throttled: bool = False  # whether the catalog takes no write now

    def __post_init__(self) -> None:
        index = Index(cast("Catalog", _Throttled(self)), cast("Storage", _Refusing(self)))
        lines = Lines(service="acme", stage="dev", stream=io.StringIO())
        self._batches = Batches(index, lines, bucket=BUCKET, pauses=())

    def hear(self, messages: list[list[dict[str, Any]]]) -> None:
        """Hand over a batch; what fails goes back to the queue's end."""
        batch = [sqs_message(s3_event(*records), identifier=str(place)) for place, records in enumerate(messages)]
        failed = failed_messages(self._batches.handle(sqs_event(*batch), Invocation()))
        assert failed == set() or self.refusing or self.throttled
        self.queue += [messages[int(place)] for place in failed]

    def check(self) -> None:
        """Compare with what a new catalog would know."""
        rebuilt = self.open_empty_catalog()
        sync(rebuilt, self.storage)
        keys = [known.key for known in rebuilt.known_keys()]
        assert [known.key for known in self.catalog.known_keys()] == keys
        for key in keys:
            assert comparable(self.catalog.entry(key)) == comparable(rebuilt.entry(key))
            assert self.catalog.core_metadata(key) == rebuilt.core_metadata(key)


def comparable(entry: Entry) -> Entry:
    """Return what two catalogs must agree on: where decisions cannot be read, the last good ones stay."""
    content = entry.content
    if isinstance(content, Decisions) and content.problem is not None:
        content = Decisions(problem=content.problem)
    return replace(entry, generation=0, content=content)


class _Refusing:
    """A storage that cannot be asked about some keys, and tells of what the indexer writes itself."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.storage, name)

    def stat(self, key: str) -> Any:
        if key in self._world.refusing:
            raise StorageError("the storage is slow")
        return self._world.storage.stat(key)

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> Any:
        written = self._world.storage.write_document(key, data, replacing=replacing)
        notify(self._world, key, "ObjectCreated:Put", Telling.ONCE)
        return written


class _Throttled:
    """A catalog that takes no write now and then."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.catalog, name)

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        self._check()
        self._world.catalog.put(before, after, core_metadata=core_metadata)

    def put_all(self, writes: list[Write]) -> list[Write]:
        self._check()
        return self._world.catalog.put_all(writes)

    def _check(self) -> None:
        if self._world.throttled:
            raise CatalogError("the catalog is throttled")


class Telling(Enum):
    """How S3 tells of something."""

    ONCE = auto()
    TWICE = auto()
    WITH_THE_LAST = auto()  # in one message


class Step(Protocol):
    """Something that happens."""

    def happen(self, world: World) -> None: ...


@dataclass(frozen=True)
class Put:
    key: str
    variant: int
    telling: Telling

    def happen(self, world: World) -> None:
        world.put(self.key, CONTENTS[self.key][self.variant])
        notify(world, self.key, "ObjectCreated:Put", self.telling)


@dataclass(frozen=True)
class Remove:
    key: str
    telling: Telling

    def happen(self, world: World) -> None:
        world.remove(self.key)
        notify(world, self.key, "ObjectRemoved:DeleteMarkerCreated", self.telling)


@dataclass(frozen=True)
class Hear:
    """A batch of the queue, in any order, while some things do not work."""

    places: tuple[int, ...]
    refusing: frozenset[str]
    throttled: bool

    def happen(self, world: World) -> None:
        messages = [world.queue.pop(place % len(world.queue)) for place in self.places if world.queue]
        world.refusing, world.throttled = set(self.refusing), self.throttled
        if messages:
            world.hear(messages)
        world.refusing, world.throttled = set(), False


def notify(world: World, key: str, name: str, telling: Telling) -> None:
    record = s3_record(key, name=name)
    if telling is Telling.WITH_THE_LAST and world.queue:
        world.queue[-1].append(record)
    else:
        world.queue += [[record] for _ in range(2 if telling is Telling.TWICE else 1)]


KEYS = st.sampled_from(list(CONTENTS))
TELLING = st.sampled_from(Telling)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Put, KEYS, st.sampled_from([0, 1, 0, 1, 2]), TELLING),
    st.builds(Remove, KEYS, TELLING),
    st.builds(
        Hear,
        st.lists(st.integers(0, 30), min_size=1, max_size=8).map(tuple),
        st.frozensets(KEYS, max_size=2),
        st.sampled_from([False, False, True]),
    ),
)
HISTORIES = st.tuples(st.lists(STEPS, min_size=3, max_size=20), st.randoms(use_true_random=False))


class _Settled:
    """A storage in which no object is too young."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def is_settled(self, obj: object) -> bool:
        return True


def run(adapters: Adapters, history: tuple[list[Step], Any]) -> None:
    steps, random = history
    storage, hand = cast("Storage", _Settled(adapters.storage)), adapters.hand
    world = World(storage, adapters.catalog, adapters.open_empty_catalog, hand.put, hand.remove)
    for step in steps:
        step.happen(world)
    while world.queue:
        random.shuffle(world.queue)
        batch, world.queue[:] = world.queue[:5], world.queue[5:]
        world.hear(batch)
    world.check()


UNHURRIED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@pytest.mark.many_examples
@pytest.mark.timeout(600)
@settings(max_examples=examples(100, 2000), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HISTORIES)
def test_the_catalog_ends_as_a_sync_would_make_it(
    request: pytest.FixtureRequest, history: tuple[list[Step], Any]
) -> None:
    with open_local(request) as adapters:
        run(adapters, history)


@pytest.mark.many_examples
@pytest.mark.timeout(600)
@settings(max_examples=examples(8, 100), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HISTORIES)
def test_the_catalog_ends_as_a_sync_would_make_it_on_aws(
    request: pytest.FixtureRequest, history: tuple[list[Step], Any]
) -> None:
    with open_aws(request) as adapters:
        run(adapters, history)
