"""Events of S3 and of the queue, in every shape that AWS sends, and what the indexer makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.errors import EventFailedError, StorageError, UnreadableObjectError
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.logs import Lines
from elasticpypi.handler.scheduled import Scheduled
from elasticpypi.index import Added, Index, Outcome
from elasticpypi.model import File, Rejection, Status
from elasticpypi.names import NormalizedName
from elasticpypi.storage import Storage
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud, counting
from tests.aws_events import (
    BUCKET,
    TIME,
    Invocation,
    failed_messages,
    s3_event,
    s3_record,
    s3_test_event,
    sqs_event,
    sqs_message,
)
from tests.dists import make_sdist, make_wheel

ACME = NormalizedName("acme")
WHEEL = "acme/acme-1.0-py3-none-any.whl"
SDIST = "acme/acme-2.0.tar.gz"
DECISIONS = "acme/project.json"
KEEP = {"project": "spam", "filename": "spam-1.0.tar.gz", "upstream": "pypi", "sha256": "ab" * 32}
NOW = 1_795_348_803.5  # three seconds and a half after TIME


class Failing:
    """A storage that cannot be asked about some keys, and counts how often it is asked about each."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.errors: dict[str, Exception] = {}
        self.mends = False  # whether each error comes once
        self.looks: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def is_settled(self, obj: object) -> bool:
        return True  # as on S3

    def stat(self, key: str) -> Any:
        self.looks.append(key)
        if key in self.errors:
            raise self.errors.pop(key) if self.mends else self.errors[key]
        return self._storage.stat(key)


class Scene:
    """An index whose storage is told of by events, the way S3 does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "files"
        storage = FilesystemStorage(self.files)
        storage.initialise()
        self.failing = Failing(storage)
        self.catalog = SqliteCatalog(directory / "catalog.sqlite")
        self.index = Index(self.catalog, cast("Storage", self.failing))
        lines = Lines(service="acme-pypi", stage="dev", clock=lambda: NOW)
        self.batches = Batches(self.index, lines, bucket=BUCKET, pauses=(0.001,), clock=lambda: NOW)
        self.scheduled = Scheduled(self.index, lines)
        self.context = Invocation()

    def put(self, key: str, data: bytes | Path) -> None:
        path = self.files / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())

    def put_wheel(self, key: str, version: str = "1.0", *, name: str = "acme") -> None:
        self.put(key, make_wheel(self.directory / "made", name, version))

    def remove(self, key: str) -> None:
        (self.files / key).unlink()

    def hear(self, *messages: Mapping[str, Any]) -> set[str]:
        """Hand over a batch; return the messages that come again."""
        return failed_messages(self.batches.handle(sqs_event(*messages), self.context))

    def known(self) -> list[str]:
        return [known.key for known in self.catalog.known_keys()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.catalog.close()


def lines_of(capsys: pytest.CaptureFixture[str], kind: str) -> list[dict[str, Any]]:
    """Return what was written since this was last asked."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines if line["kind"] == kind]


# What an event may look like ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "ObjectRestore:Completed"]
)
@pytest.mark.parametrize("direct", [False, True])
def test_an_object_that_came_is_listed(scene: Scene, name: str, *, direct: bool) -> None:
    scene.put_wheel(WHEEL)
    notification = s3_event(s3_record(WHEEL, name=name))
    if direct:
        assert scene.batches.handle(notification, scene.context) is None
    else:
        assert scene.hear(sqs_message(notification)) == set()
    assert isinstance(scene.catalog.entry(WHEEL).content, File)


@pytest.mark.parametrize(
    "name",
    [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
    ],
)
def test_an_object_that_went_is_removed(scene: Scene, name: str) -> None:
    scene.put_wheel(WHEEL)
    scene.index.reconcile(WHEEL)
    scene.remove(WHEEL)
    assert scene.hear(sqs_message(s3_event(s3_record(WHEEL, name=name)))) == set()
    assert scene.catalog.entry(WHEEL).content is None
    assert scene.known() == [DECISIONS]  # the name stays ours


def test_removing_an_old_version_removes_nothing(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    scene.index.reconcile(WHEEL)
    scene.hear(sqs_message(s3_event(s3_record(WHEEL, name="ObjectRemoved:Delete", version="3sL4kqtJlcpXroDTDmJ"))))
    assert scene.known() == [WHEEL]


@pytest.mark.parametrize(
    "key",
    [
        "acme/acme-1.0+local.1-py3-none-any.whl",
        "some folder/acme-1.0-py3-none-any.whl",
        "größe/acme-1.0-py3-none-any.whl",
        "a%2Fb/acme-1.0-py3-none-any.whl",
        "a=b&c/acme-1.0-py3-none-any.whl",
    ],
)
def test_keys_are_decoded_once(scene: Scene, key: str) -> None:
    scene.put_wheel(key, "1.0+local.1" if "+local" in key else "1.0")
    assert scene.hear(sqs_message(s3_event(s3_record(key)))) == set()
    assert scene.known() == [key]
    assert isinstance(scene.catalog.entry(key).content, File)


def test_several_records_and_messages_are_all_carried_out(scene: Scene, tmp_path: Path) -> None:
    scene.put_wheel(WHEEL)
    scene.put(SDIST, make_sdist(tmp_path, version="2.0"))
    scene.put(DECISIONS, b'{"status": "archived"}')
    scene.put_wheel("eggs/eggs-1.0-py3-none-any.whl", name="eggs")
    first = sqs_message(s3_event(s3_record(WHEEL), s3_record(SDIST)))
    second = sqs_message(s3_event(s3_record(DECISIONS), s3_record("eggs/eggs-1.0-py3-none-any.whl")))
    assert scene.hear(first, second) == set()
    assert scene.known() == [WHEEL, SDIST, DECISIONS, "eggs/eggs-1.0-py3-none-any.whl"]
    project = scene.catalog.project(ACME)
    assert project is not None
    assert project.decisions.status is Status.ARCHIVED


def test_a_key_is_looked_at_once_a_batch(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    again = s3_event(s3_record(WHEEL), s3_record(WHEEL, name="ObjectRemoved:Delete", sequencer="00"))
    assert scene.hear(sqs_message(again), sqs_message(again), sqs_message(s3_event(s3_record(WHEEL)))) == set()
    assert scene.failing.looks == [WHEEL]


def test_what_lies_where_nothing_is_indexed_costs_nothing(scene: Scene) -> None:
    keys = [
        ".elasticpypi/uploads/0123",
        ".elasticpypi/pages/acme/html.gz",
        "readme.txt",
        "acme/notes/project.json",
        f"{WHEEL}.metadata",  # which static files may have beside them, written by ourselves
    ]
    assert scene.hear(*[sqs_message(s3_event(s3_record(key))) for key in keys]) == set()
    assert scene.failing.looks == []


def test_the_test_events_of_s3_ask_for_nothing(scene: Scene) -> None:
    assert scene.hear(sqs_message(s3_test_event()), sqs_message(s3_event())) == set()
    assert scene.batches.handle(s3_test_event(), scene.context) is None


def test_objects_of_another_bucket_are_none_of_ours(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put_wheel(WHEEL)
    message = sqs_message(s3_event(s3_record(WHEEL, bucket="other")), identifier="m1")
    assert scene.hear(message) == set()
    assert scene.known() == []
    assert lines_of(capsys, "ignored") == [{"kind": "ignored", "message": "m1", "reason": "it is about 'other'"}]


# What fails -----------------------------------------------------------------------------------------------------------

MALFORMED: list[object] = [
    "",
    "not JSON",
    "[" * 100_000,
    "[]",
    "null",
    '"text"',
    {"something": "else"},
    {"Records": "none"},
    {"Records": [{"eventSource": "aws:s3"}]},
    {"Records": [None]},
    {"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": {"key": 7}}}]},
    {"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": {"key": "%ff.whl"}}}]},
    {"finish": "this"},
    {"keep": "this"},
    {"keep": {}},
    {"keep": KEEP | {"project": "Spam"}},
    {"keep": KEEP | {"project": "../spam"}},
    {"keep": KEEP | {"filename": None}},
    {"keep": KEEP | {"upstream": 7}},
    {"keep": KEEP | {"sha256": "ab"}},
    {"keep": KEEP | {"sha256": "../" + "a" * 61}},
]


@pytest.mark.parametrize("body", MALFORMED)
def test_what_nobody_understands_ends_where_somebody_looks_at_it(
    scene: Scene, capsys: pytest.CaptureFixture[str], body: object
) -> None:
    scene.put_wheel(WHEEL)
    bad = sqs_message(body, identifier="bad")
    assert scene.hear(bad, sqs_message(s3_event(s3_record(WHEEL)))) == {"bad"}
    assert scene.known() == [WHEEL]
    (line,) = lines_of(capsys, "refused")
    assert line["message"] == "bad"


def test_a_record_that_nobody_understands_leaves_the_others_of_its_message_alone(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    assert scene.hear(sqs_message(s3_event({"s3": {}}, s3_record(WHEEL)), identifier="bad")) == {"bad"}
    assert scene.known() == [WHEEL]


@pytest.mark.parametrize("error", [StorageError("the network is down"), KeyError("a mistake of ours")])
def test_what_fails_comes_again_and_nothing_else(scene: Scene, error: Exception) -> None:
    keys = [WHEEL, "acme/acme-3.0-py3-none-any.whl", "eggs/eggs-1.0-py3-none-any.whl"]
    for key, version, name in zip(keys, ("1.0", "3.0", "1.0"), ("acme", "acme", "eggs"), strict=True):
        scene.put_wheel(key, version, name=name)
    scene.failing.errors[WHEEL] = error
    messages = [sqs_message(s3_event(s3_record(key)), identifier=key) for key in keys]
    both = sqs_message(s3_event(s3_record(keys[1]), s3_record(WHEEL)), identifier="both")
    assert scene.hear(*messages, both) == {WHEEL, "both"}
    assert scene.known() == sorted(keys[1:])
    scene.failing.errors.clear()
    assert scene.hear(messages[0], both) == set()
    assert scene.known() == sorted(keys)


def test_what_cannot_be_done_now_is_tried_again_before_it_goes_back(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    error = StorageError("the network is down")
    scene.failing.errors[WHEEL] = error
    scene.failing.mends = True
    assert scene.hear(sqs_message(s3_event(s3_record(WHEEL)))) == set()
    assert scene.failing.looks == [WHEEL, WHEEL]
    scene.failing.errors[WHEEL] = KeyError("a mistake of ours")
    assert len(scene.hear(sqs_message(s3_event(s3_record(WHEEL))))) == 1


def test_an_archive_that_is_broken_is_done_with(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put(WHEEL, b"no zip")
    assert scene.hear(sqs_message(s3_event(s3_record(WHEEL)))) == set()
    assert isinstance(scene.catalog.entry(WHEEL).content, Rejection)
    (line,) = lines_of(capsys, "object")
    assert (line["outcome"], line["project"]) == ("rejected", "acme")
    assert "zip" in line["reason"]


def test_a_notification_without_a_queue_is_sent_again_where_it_fails(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    scene.failing.errors[WHEEL] = StorageError("the network is down")
    with pytest.raises(EventFailedError, match="the network is down"):
        scene.batches.handle(s3_event(s3_record(WHEEL)), scene.context)
    with pytest.raises(EventFailedError, match="neither a notification"):
        scene.batches.handle({"version": "2.0"}, scene.context)


def test_what_time_is_left_for_is_done_and_the_rest_comes_again(scene: Scene) -> None:
    keys = [f"project-{number}/project_{number}-1.0-py3-none-any.whl" for number in range(40)]
    for number, key in enumerate(keys):
        scene.put_wheel(key, name=f"project-{number}")
    scene.context.milliseconds = 0
    messages = {key: sqs_message(s3_event(s3_record(key)), identifier=key) for key in keys}
    readme = sqs_message(s3_event(s3_record("readme.txt")))
    left = scene.hear(*messages.values(), readme)
    assert 0 < len(left) < len(keys)
    assert scene.known() == sorted(set(keys) - left)
    scene.context.milliseconds = 60_000
    assert scene.hear(*[messages[key] for key in left]) == set()
    assert scene.known() == sorted(keys)


# Uploads that take long -----------------------------------------------------------------------------------------------


class Finishing:
    """An index of which only `finish_upload` is asked."""

    def __init__(self, answer: Outcome | Exception) -> None:
        self.answer = answer
        self.asked: list[Mapping[str, Any]] = []

    def reconcile_all(self, keys: Mapping[str, object], **_: object) -> Iterator[Any]:
        assert not keys
        return iter(())

    def finish_upload(self, request: Mapping[str, Any]) -> Outcome:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


REQUEST = {"token": "ab" * 32, "filename": "acme-1.0.tar.gz", "size": 7, "sha256": "cd" * 32, "principal": "alice"}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Outcome(Added.CREATED), {"outcome": "created"}),
        (
            Outcome(error="AlreadyExistsError", message="File already exists"),
            {"outcome": "refused", "reason": "File already exists"},
        ),
    ],
)
def test_an_upload_is_finished(capsys: pytest.CaptureFixture[str], answer: Outcome, line: dict[str, str]) -> None:
    index = Finishing(answer)
    batches = Batches(cast("Index", index), Lines(service="acme-pypi", stage="dev"), bucket=BUCKET, pauses=(0.001,))
    assert failed_messages(batches.handle(sqs_event(sqs_message({"finish": REQUEST})), Invocation())) == set()
    assert index.asked == [REQUEST]
    told = {"kind": "upload", "filename": "acme-1.0.tar.gz", "principal": "alice"}
    assert lines_of(capsys, "upload") == [told | line]


@pytest.mark.parametrize("error", [StorageError("the network is down"), KeyError("a mistake of ours")])
def test_an_upload_that_cannot_be_finished_now_comes_again(error: Exception) -> None:
    index = Finishing(error)
    batches = Batches(cast("Index", index), Lines(service="acme-pypi", stage="dev"), bucket=BUCKET, pauses=(0.001,))
    message = sqs_message({"finish": REQUEST}, identifier="m1")
    assert failed_messages(batches.handle(sqs_event(message), Invocation())) == {"m1"}
    assert len(index.asked) == (2 if isinstance(error, StorageError) else 1)


def test_an_upload_waits_for_an_invocation_that_has_time() -> None:
    index = Finishing(Outcome(Added.CREATED))
    batches = Batches(cast("Index", index), Lines(service="acme-pypi", stage="dev"), bucket=BUCKET, pauses=(0.001,))
    message = sqs_message({"finish": REQUEST}, identifier="m1")
    assert failed_messages(batches.handle(sqs_event(message), Invocation(milliseconds=0))) == {"m1"}
    assert index.asked == []


def test_uploads_are_finished_after_the_rest_and_as_far_as_time_allows() -> None:
    index = Finishing(Outcome(Added.CREATED))
    batches = Batches(cast("Index", index), Lines(service="acme-pypi", stage="dev"), bucket=BUCKET, pauses=(0.001,))
    sizes = {"huge": 30 * 10**9, "small": 7, "large": 10**9, "odd": "7"}
    messages = [sqs_message({"finish": REQUEST | {"size": size}}, identifier=name) for name, size in sizes.items()]
    assert failed_messages(batches.handle(sqs_event(*messages), Invocation(milliseconds=200_000))) == {"huge"}
    assert [request["size"] for request in index.asked] == ["7", 7, 10**9]
    assert failed_messages(batches.handle(sqs_event(messages[0]), Invocation(milliseconds=200_000))) == set()


# What is told ---------------------------------------------------------------------------------------------------------


def test_each_object_is_told_of_with_its_lag(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put_wheel(WHEEL)
    scene.put("acme/acme-0.tar.gz", b"no tar")
    later = TIME.replace("12:00:00", "12:00:02")
    records = [s3_record(WHEEL, time=later), s3_record(WHEEL), s3_record("acme/acme-0.tar.gz", time="soon")]
    scene.hear(sqs_message(s3_event(*records)))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {line["key"]: (line["outcome"], line.get("lag")) for line in lines if line["kind"] == "object"}
    assert told == {WHEEL: ("listed", 3.5), "acme/acme-0.tar.gz": ("rejected", None)}
    (metrics,) = [line for line in lines if line["kind"] == "metrics"]
    assert {name: metrics[name] for name in ("Indexed", "Rejected", "Lag")} == {
        "Indexed": 1,
        "Rejected": 1,
        "Lag": [3.5],
    }
    scene.hear(sqs_message(s3_event(*records)))
    assert [line["outcome"] for line in lines_of(capsys, "object")] == ["unchanged", "unchanged"]


def test_decisions_and_removals_are_told_of(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put_wheel(WHEEL)
    scene.put(DECISIONS, b"{}")
    scene.hear(sqs_message(s3_event(s3_record(WHEEL), s3_record(DECISIONS))))
    scene.remove(WHEEL)
    scene.put(DECISIONS, b"{")
    scene.hear(sqs_message(s3_event(s3_record(WHEEL), s3_record(DECISIONS))))
    told = [(line["key"], line["outcome"]) for line in lines_of(capsys, "object")]
    assert sorted(told) == sorted(
        [(WHEEL, "listed"), (DECISIONS, "decided"), (WHEEL, "removed"), (DECISIONS, "decided")]
    )


# The schedule ---------------------------------------------------------------------------------------------------------


def test_the_schedule_repairs_and_tells_what_was_missed(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put_wheel(WHEEL)
    found = {
        "check": True, "added": 1, "changed": 0, "removed": 0, "failed": 0, "unchanged": 0, "partial": False
    }  # fmt: skip
    assert scene.scheduled.handle({"check": True}, scene.context) == found
    assert scene.known() == []
    assert scene.scheduled.handle({"detail-type": "Scheduled Event"}, scene.context) == found | {"check": False}
    assert scene.known() == [WHEEL]
    assert scene.catalog.is_complete()
    first, second = lines_of(capsys, "sync")
    assert "Drift" not in first | second  # nothing was known until then, so no event was lost
    scene.remove(WHEEL)
    assert scene.scheduled.handle({}, scene.context)["removed"] == 1
    (third,) = lines_of(capsys, "sync")
    assert third["Drift"] == 1


def test_the_schedule_stops_in_time_and_goes_on_next_time(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.put_wheel(WHEEL)
    scene.context.milliseconds = 0
    assert scene.scheduled.handle({}, scene.context)["partial"] is True
    assert not scene.catalog.is_complete()
    scene.context.milliseconds = 900_000
    assert scene.scheduled.handle({}, scene.context)["partial"] is False
    assert scene.catalog.is_complete()
    assert [line["partial"] for line in lines_of(capsys, "sync")] == [True, False]


def test_a_check_stops_in_time_too(scene: Scene) -> None:
    scene.put_wheel(WHEEL)
    scene.context.milliseconds = 0
    found = scene.scheduled.handle({"check": True}, scene.context)
    assert (found["added"], found["partial"]) == (0, True)


def test_the_schedule_tells_which_keys_failed(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.put_wheel(WHEEL)
    scene.index.reconcile(WHEEL)
    scene.put(WHEEL, b"other")

    def refuse(obj: Any) -> Any:
        raise UnreadableObjectError(obj.key, "permission denied")

    monkeypatch.setattr(scene.failing, "open", refuse, raising=False)
    assert scene.scheduled.handle({}, scene.context)["failed"] == 1
    (line,) = lines_of(capsys, "object")
    assert (line["key"], line["outcome"]) == (WHEEL, "failed")


# The functions as Lambda starts them ----------------------------------------------------------------------------------

# What an indexer has no use for, or not yet, and a cold start would wait for.
NEEDLESS = [
    "bs4",
    "click",
    "elasticpypi.backup",
    "elasticpypi.catalog.documents",
    "elasticpypi.catalog.sqlite",
    "elasticpypi.handler.keeping",
    "elasticpypi.output",
    "elasticpypi.static_site",
    "elasticpypi.storage.filesystem",
    "elasticpypi.upstream.connecting",
    "elasticpypi.web",
    "flask",
    "granian",
    "jinja2",
    "prometheus_client",
    "pydantic",
    "pypi_simple",
    "requests",
    "sqlite3",
    "watchfiles",
    "werkzeug",
]
PROGRAM = """
import importlib, json, sys
from tests.aws_events import Invocation
module = importlib.import_module(sys.argv[1])
imported = sorted(sys.modules)
print(json.dumps({"answer": module.handle(json.loads(sys.argv[2]), Invocation()), "imported": imported}))
"""


def run_function(
    module: str, event: Mapping[str, Any], environment: Mapping[str, str], *, expect: int = 0
) -> tuple[list[dict[str, Any]], str]:
    """Start a function and hand it one event; return the JSON lines that it wrote, and its standard error."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, json.dumps(event)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == expect, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr


def variables(cloud: Cloud, bucket: str, table: str) -> dict[str, str]:
    return {**cloud.environment, "ELASTICPYPI_BUCKET": bucket, "ELASTICPYPI_TABLE": table}


UPSTREAMS = '[{"url": "https://pypi.example.org/simple/", "mode": "proxy", "keep": true}]'


@pytest.mark.parametrize("more", [{}, {"ELASTICPYPI_UPSTREAMS": UPSTREAMS}], ids=["alone", "with upstreams"])
def test_the_indexer_keeps_a_table_current_and_imports_what_it_needs(
    cloud: Cloud, tmp_path: Path, more: Mapping[str, str]
) -> None:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    cloud.aws.s3.put_object(Bucket=bucket, Key=WHEEL, Body=make_wheel(tmp_path).read_bytes())
    event = sqs_event(sqs_message(s3_event(s3_record(WHEEL, bucket=bucket))))
    lines, _ = run_function("elasticpypi.handler.events", event, {**variables(cloud, bucket, table), **more})
    assert [line["outcome"] for line in lines if line.get("kind") == "object"] == ["listed"]
    assert lines[-1]["answer"] == {"batchItemFailures": []}
    assert [name for name in NEEDLESS if name in lines[-1]["imported"]] == []
    assert isinstance(DynamoDBCatalog(cloud.aws, table).entry(WHEEL).content, File)


def test_the_scheduled_sync_finds_what_events_have_missed(cloud: Cloud, tmp_path: Path) -> None:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    cloud.aws.s3.put_object(Bucket=bucket, Key=WHEEL, Body=make_wheel(tmp_path).read_bytes())
    lines, _ = run_function("elasticpypi.handler.sync", {"source": "aws.events"}, variables(cloud, bucket, table))
    assert (lines[-1]["answer"]["added"], lines[-1]["answer"]["partial"]) == (1, False)
    assert [name for name in NEEDLESS if name in lines[-1]["imported"]] == []
    assert DynamoDBCatalog(cloud.aws, table).is_complete()


@pytest.mark.parametrize("module", ["elasticpypi.handler.events", "elasticpypi.handler.sync"])
def test_a_function_that_is_told_nothing_does_not_start(cloud: Cloud, module: str) -> None:
    _, error = run_function(module, {}, cloud.environment, expect=1)
    assert "ELASTICPYPI_BUCKET" in error.splitlines()[-1]


def test_a_batch_on_aws_takes_few_calls(cloud: Cloud, tmp_path: Path) -> None:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    index = Index(DynamoDBCatalog(cloud.aws, table), S3Storage(cloud.aws, bucket))
    batches = Batches(index, Lines(service="acme-pypi", stage="dev"), bucket=bucket)
    keys = [f"acme/acme-{number}.0-py3-none-any.whl" for number in range(11)]
    for number, key in enumerate(keys):
        wheel = make_wheel(tmp_path, version=f"{number}.0").read_bytes()
        cloud.aws.s3.put_object(Bucket=bucket, Key=key, Body=wheel, ChecksumAlgorithm="SHA256")

    def hear(*told: str) -> tuple[int, int]:
        messages = [sqs_message(s3_event(s3_record(key, bucket=bucket))) for key in told]
        with counting(cloud.aws.s3) as s3, counting(cloud.aws.dynamodb) as dynamodb:
            assert failed_messages(batches.handle(sqs_event(*messages), Invocation())) == set()
        return s3.total(), dynamodb.total()

    hear(keys[0])  # with which the table begins
    one, ten = hear(keys[1]), hear(*keys[1:])
    assert one[0] <= 6
    assert one[1] <= 6
    assert ten[0] <= 10 * one[0]
    assert ten[1] <= one[1] + 2  # read together and written together
