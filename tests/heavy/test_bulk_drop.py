"""Ten thousand files at once, half of them of one project, while DynamoDB is throttled: all of them are listed."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.catalog import Counts
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index
from elasticpypi.model import Entry
from elasticpypi.names import NormalizedName
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud, counting
from tests.aws_events import Invocation, failed_messages, s3_event, s3_record, sqs_event, sqs_message
from tests.dists import make_wheel
from tests.dynamodb_rules import enforce, faults

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]

FILES = 10_000
OTHER_PROJECTS = 500
AT_ONCE = 4  # invocations, as the event source's concurrency is bounded
MAX_RECEIVE_COUNT = 5  # then a message goes to the dead-letter queue
FAULT_EVERY = 11  # calls of DynamoDB, that are throttled though botocore has tried again
BULK = NormalizedName("bulk")


@dataclass
class Queue:
    """A queue as Lambda's event source reads it: any order, and what fails comes again a few times."""

    messages: deque[tuple[int, dict[str, Any]]]  # how often it was received, and the message
    dead: list[dict[str, Any]] = field(default_factory=list)
    received: Counter[int] = field(default_factory=Counter)  # how often, of messages that are done
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _under_way: int = 0

    def take(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """Return some messages; none where there are none now."""
        with self._lock:
            taken = [self.messages.popleft() for _ in range(min(most, len(self.messages)))]
            self._under_way += len(taken)
        return taken

    def put_back(self, taken: list[tuple[int, dict[str, Any]]], failed: set[str]) -> None:
        """Have what failed come again, or end where somebody looks at it."""
        with self._lock:
            self._under_way -= len(taken)
            for count, message in taken:
                if message["messageId"] not in failed:
                    self.received[count + 1] += 1
                elif count + 1 == MAX_RECEIVE_COUNT:
                    self.dead.append(message)
                else:
                    self.messages.append((count + 1, message))

    def is_done(self) -> bool:
        """Whether nothing is left, nor under way."""
        with self._lock:
            return not self.messages and not self._under_way


def names() -> Iterator[tuple[str, str]]:
    """Yield project and version of each file."""
    for number in range(FILES // 2):
        yield BULK, f"{number}.0"
    for number in range(FILES - FILES // 2):
        yield f"other-{number % OTHER_PROJECTS}", f"{number // OTHER_PROJECTS}.0"


def drop(cloud: Cloud, bucket: str, directory: Path) -> list[str]:
    """Put all files into the bucket; return their keys."""

    def put(named: tuple[str, str]) -> str:
        wheel = make_wheel(directory, *named)
        key = f"{named[0]}/{wheel.name}"
        cloud.aws.s3.put_object(Bucket=bucket, Key=key, Body=wheel.read_bytes())
        wheel.unlink()
        return key

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(put, names()))


def entries_of(catalog: DynamoDBCatalog, name: NormalizedName) -> tuple[Entry, ...]:
    """Return all that is known of a project that has files."""
    project = catalog.project(name)
    assert project is not None
    return project.entries


def test_a_bulk_drop_is_listed_whole_while_dynamodb_is_throttled(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    enforce(cloud.aws.dynamodb)
    keys = drop(cloud, bucket, tmp_path)
    notes = io.StringIO()
    catalog = DynamoDBCatalog(cloud.aws, table)
    index = Index(catalog, S3Storage(cloud.aws, bucket))
    batches = Batches(index, Lines(service="acme", stage="dev", stream=notes), bucket=bucket)
    messages = [(0, sqs_message(s3_event(s3_record(key, bucket=bucket)))) for key in keys]
    order = random.Random(20261122)
    order.shuffle(messages)
    queue = Queue(deque(messages))

    def work(seed: int) -> None:
        sizes = random.Random(seed)
        while not queue.is_done():
            taken = queue.take(sizes.choice([10, 20, 50, 100]))
            if taken:
                answer = batches.handle(sqs_event(*(message for _, message in taken)), Invocation(300_000))
                queue.put_back(taken, failed_messages(answer))
            else:
                time.sleep(0.01)  # as long as another one may still give some back

    began = time.monotonic()
    with (
        counting(cloud.aws.s3) as asked_s3,
        counting(cloud.aws.dynamodb) as asked_dynamodb,
        faults(cloud.aws.dynamodb, every=FAULT_EVERY) as failed,
        ThreadPoolExecutor(AT_ONCE) as invocations,
    ):
        list(invocations.map(work, range(AT_ONCE)))
    seconds = time.monotonic() - began

    assert queue.dead == []
    assert failed
    # By project: to scan so large a table moto takes longer than a client of ours waits.
    listed = catalog.root().projects
    assert len(listed) == OTHER_PROJECTS + 1
    known = [entry.key for project in listed for entry in entries_of(catalog, project.name)]
    assert sorted(known) == sorted(keys)  # each once
    bulk = catalog.project(BULK)
    assert bulk is not None
    assert len(bulk.listing()) == FILES // 2
    assert catalog.counts() == Counts(projects=OTHER_PROJECTS + 1, files=FILES, problems=0)
    with capsys.disabled():
        print(  # noqa: T201 (the rate is what one runs it for, too)
            f"\n{FILES} files in {seconds:.0f} s, {FILES / seconds:.0f} a second with {AT_ONCE} invocations at once; "
            f"calls per file: S3 {asked_s3.total() / FILES:.2f}, DynamoDB {asked_dynamodb.total() / FILES:.2f}; "
            f"{len(failed)} calls throttled; messages by how often they came: {dict(sorted(queue.received.items()))}"
        )
