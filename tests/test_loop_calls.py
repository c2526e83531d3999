"""What AWS is asked for: the calls of each operation are counted in the deployed functions, and do not grow.

Everything is measured in an index of one small project, and in a project of 500 files whose rows do not fit into one
page of a query. docs/aws.md quotes the table.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.aws_events import s3_record
from tests.clients import Account
from tests.deployed import Call, Deployment
from tests.dists import make_wheel
from tests.gateway import RestGateway
from tests.loop import IndexOnAws, Pool, running_on_aws
from tests.running import wait_for

pytestmark = pytest.mark.timeout(600)  # seconds: 500 files are put and indexed first
FILES = 500
# As long as they may be: rows of such files have some 2 kB, and take two pages of a query.
LONG = ">=3.8," + ",".join(f"!=3.{number}" for number in range(100, 225))
DEEP = "/".join("d" * 250 for _ in range(3))


@dataclass(frozen=True)
class Scene:
    """An index, and one project in it."""

    index: IndexOnAws
    directory: Path
    numbers: Iterator[int] = field(repr=False)

    def make_wheel(self) -> Path:
        """Make a wheel of a version that is not there yet."""
        return make_wheel(self.directory, "acme", f"2.{next(self.numbers)}")

    def put_wheel(self) -> Path:
        """Put one into the bucket, and have it listed."""
        wheel = self.make_wheel()
        self.index.put(f"acme/{wheel.name}", wheel.read_bytes())
        wait_for(lambda: wheel.name in (self.index.listing("acme") or ()))
        self.index.settle()
        return wheel

    def row_pages(self) -> int:
        """Return in how many pages of a query the project's rows come."""
        pages = self.index.deployment.cloud.aws.dynamodb.get_paginator("query").paginate(
            TableName=self.index.places.table,
            KeyConditionExpression="#pk = :pk AND begins_with(#sk, :sk)",
            ExpressionAttributeNames={"#pk": "pk", "#sk": "sk"},
            ExpressionAttributeValues={":pk": {"S": "project#acme"}, ":sk": {"S": "row#"}},
        )
        return len(list(pages))

    @contextmanager
    def counting(self, pool: Pool) -> Iterator[list[Call]]:
        """Yield what a function asks AWS for, complete when the context ends."""
        self.index.settle()
        made: list[Call] = []
        before = len(pool.calls)
        yield made
        made += pool.calls[before:]


@pytest.fixture(
    scope="module", params=[1, pytest.param(FILES, marks=pytest.mark.heavy)], ids=["one file", f"{FILES} files"]
)
def scene(
    request: pytest.FixtureRequest, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("calls")
    with running_on_aws(deployment, directory, workers=1) as index:
        for number in range(request.param):
            wheel = make_wheel(directory, "acme", f"1.{number}", requires_python=LONG)
            index.put(f"{DEEP}/{wheel.name}", wheel.read_bytes())
        index.settle(seconds=300)
        assert len(index.listing("acme") or ()) == request.param
        yield Scene(index, directory, itertools.count())


def operations(calls: Iterable[Call]) -> list[str]:
    return [f"{call.service} {call.operation}" for call in calls]


# Answers --------------------------------------------------------------------------------------------------------------

REVISION = "dynamodb BatchGetItem"  # two items: the project's counters, and whether the catalog is complete
STORED_PAGE = "dynamodb GetItem"
ROW_AND_DECISIONS = ["dynamodb Query", "dynamodb GetItem", "dynamodb GetItem"]
PAGE, FILE = "/simple/acme/", "/packages/acme/acme-1.0-py3-none-any.whl"
HTML = {"Accept": "text/html"}
# What is asked for a second time, the first one having made what is kept -> status, calls.
ANSWERS: dict[str, tuple[str, str, dict[str, str], int, list[str]]] = {
    "page": ("GET", PAGE, {}, 200, [REVISION]),
    "page, HTML": ("GET", PAGE, HTML, 200, [REVISION]),
    "page, HEAD": ("HEAD", PAGE, {}, 200, [REVISION]),
    "page, unchanged": ("GET", PAGE, {"If-None-Match": ""}, 304, [REVISION]),
    "root": ("GET", "/simple/", {}, 200, [REVISION]),
    "root, unchanged": ("GET", "/simple/", {"If-None-Match": ""}, 304, [REVISION]),
    "download": ("GET", FILE, {}, 302, ROW_AND_DECISIONS),
    "core metadata": ("GET", f"{FILE}.metadata", {}, 200, [*ROW_AND_DECISIONS, "dynamodb GetItem"]),
    "no such project": ("GET", "/simple/other/", {}, 404, [REVISION, REVISION]),
    "no such file": ("GET", "/packages/acme/acme-9.tar.gz", {}, 404, ["dynamodb Query", "dynamodb GetItem"]),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_takes_as_many_calls_whatever_the_size(scene: Scene, what: str) -> None:
    method, path, headers, status, expected = ANSWERS[what]
    first = scene.index.fetch(path, method=method, follow=False, **{k: v for k, v in headers.items() if v})
    headers = {name: value or first.headers["ETag"] for name, value in headers.items()}
    with scene.counting(scene.index.api) as calls:
        answer = scene.index.fetch(path, method=method, follow=False, **headers)
    assert (answer.status_code, operations(calls)) == (status, expected)


def test_a_stored_page_takes_a_cold_process_two_calls(scene: Scene) -> None:
    page = scene.index.fetch(PAGE).content
    deployment = scene.index.deployment
    with (
        deployment.worker("api", extra=scene.index.places.variables) as cold,
        RestGateway(cold, stage=deployment.stage) as gateway,
    ):
        index = Account(gateway.url, scene.index.username, scene.index.password)
        assert index.get(PAGE) == page
        assert operations(cold.calls) == [REVISION, STORED_PAGE]


def test_the_first_read_after_a_change_queries_each_megabyte_once_and_stores_the_page(scene: Scene) -> None:
    scene.index.fetch(PAGE)
    wheel = scene.make_wheel()
    scene.index.put(f"acme/{wheel.name}", wheel.read_bytes())
    wait_for(lambda: bool(scene.index.pump.batches) and not scene.index.waiting())
    with scene.counting(scene.index.api) as calls:
        answer = scene.index.fetch(PAGE)
    assert wheel.name in answer.text
    pages = scene.row_pages()
    assert pages == (1 if len(answer.json()["files"]) < FILES else 2)
    made = operations(calls)
    read, stored = made[: 3 + pages], made[3 + pages :]
    assert read == [
        REVISION,
        STORED_PAGE,  # which is of another revision
        REVISION,  # with the rows, so that both are of one state
        *["dynamodb Query"] * pages,
    ]
    # On condition that nobody has stored a later one. What took more than a second is not called complete unasked.
    assert stored in (["dynamodb PutItem"], ["dynamodb GetItem", "dynamodb PutItem"])


# Files ----------------------------------------------------------------------------------------------------------------

LOOK = ["dynamodb GetItem", "s3 HeadObject"]
WRITE = ["dynamodb BatchGetItem", "dynamodb TransactWriteItems"]
INDEX = [*LOOK, "s3 GetObject", *WRITE]
LIMIT = 6  # of either service, for one file


def test_a_file_is_indexed_with_two_calls_of_s3_and_three_of_dynamodb(scene: Scene) -> None:
    with scene.counting(scene.index.events) as calls:
        scene.put_wheel()
    assert operations(calls) == INDEX
    by_service = Counter(call.service for call in calls)
    assert max(by_service.values()) <= LIMIT


def test_an_event_that_says_nothing_new_takes_two_calls_and_a_write(scene: Scene) -> None:
    wheel = scene.put_wheel()
    event = {"Records": [s3_record(f"acme/{wheel.name}", bucket=scene.index.places.bucket)]}
    with scene.counting(scene.index.events) as calls:
        scene.index.events(event)
    assert operations(calls) == [*LOOK, "dynamodb UpdateItem"]


def test_a_removed_file_takes_no_more(scene: Scene) -> None:
    wheel = scene.put_wheel()
    with scene.counting(scene.index.events) as calls:
        scene.index.remove(f"acme/{wheel.name}")
        wait_for(lambda: wheel.name not in (scene.index.listing("acme") or ()))
        scene.index.settle()
    by_service = Counter(call.service for call in calls)
    assert max(by_service.values()) <= LIMIT, operations(calls)


def test_an_upload_is_checked_written_and_indexed(scene: Scene) -> None:
    wheel = scene.make_wheel()
    # Without its event, which might come in between: then both look once more.
    with scene.counting(scene.index.api) as calls, scene.index.pump.paused():
        assert scene.index.upload(wheel).status_code == 200
    assert operations(calls) == [
        "dynamodb GetItem",  # is it there already
        "dynamodb Query",
        "dynamodb GetItem",
        "dynamodb GetItem",
        "s3 PutObject",  # on condition that nothing is there
        "s3 HeadObject",
        *LOOK,
        *WRITE,
        "dynamodb PutItem",  # who has done it
    ]
