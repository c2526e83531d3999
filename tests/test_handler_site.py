"""What functions do for static files: which messages come again, what is compared when, and what is written down."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.config import Settings
from elasticpypi.errors import OutputError
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.keeping import GO_ON, SiteKeeper
from elasticpypi.handler.logs import Lines
from elasticpypi.handler.scheduled import SYNC_ON, Scheduled
from elasticpypi.index import Failed, Index, Reconciled, open_index
from elasticpypi.names import NormalizedName
from elasticpypi.output.directory import DirectoryOutput
from elasticpypi.static_site import SiteOptions
from elasticpypi.static_site.keeping import SiteReport
from elasticpypi.static_site.of_index import IndexSource
from elasticpypi.static_site.site import Site
from tests.aws import Cloud
from tests.aws_events import Invocation, failed_messages, s3_event, s3_record, sqs_event, sqs_message
from tests.dists import make_wheel

NOW = 1_790_000_000.0
TIME = "2026-09-21T14:13:20.000Z"  # the same
BUCKET = "acme-files"


@dataclass
class Troubled:
    """A site of which some projects cannot be written."""

    site: Site
    broken: dict[NormalizedName, Exception | str] = field(default_factory=dict)
    updates: list[list[NormalizedName]] = field(default_factory=list)
    builds: list[bool] = field(default_factory=list)

    def update(self, names: Iterable[NormalizedName], *, deadline: float) -> SiteReport:
        names = list(names)
        self.updates.append(names)
        for name in names:
            reason = self.broken.get(name)
            if isinstance(reason, Exception):
                raise reason
        report = self.site.update((name for name in names if name not in self.broken), deadline=deadline)
        failed = {name: str(self.broken[name]) for name in names if name in self.broken}
        return SiteReport(report.projects, report.written, report.removed, report.unchanged, failed)

    def build(self, *, everything: bool, deadline: float) -> SiteReport:
        self.builds.append(everything)
        return self.site.build(everything=everything, deadline=deadline)


class Scene:
    """An index in a directory, a site of it in another one, and the handlers of both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index: Index = open_index(Settings(), data=directory / "data")
        options = SiteOptions()
        self.output = directory / "site"
        self.site = Troubled(Site(IndexSource(self.index, options), DirectoryOutput(self.output), options))
        self.sent: list[Mapping[str, Any]] = []
        self.log = io.StringIO()
        lines = Lines(service="acme", stage="dev", stream=self.log, clock=lambda: NOW)
        self.keeper = SiteKeeper(
            self.site, self.index, lines, send=self.sent.append, pauses=(0.001,), clock=lambda: NOW + 7
        )
        self.scheduled = Scheduled(self.index, lines, site=self.keeper, send=self.sent.append)
        work = {"build": self.keeper.build, "sync": self.scheduled.go_on}
        self.batches = Batches(self.index, lines, bucket=BUCKET, site=self.keeper, long_work=work, pauses=(0.001,))

    def put(self, project: str, version: str = "1.0") -> Mapping[str, Any]:
        """Put a wheel into the storage; return the message about it."""
        wheel = make_wheel(self.directory / "made", project, version)
        path = self.directory / "data" / "files" / project / wheel.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wheel.read_bytes())
        return sqs_message(s3_event(s3_record(f"{project}/{wheel.name}", bucket=BUCKET, time=TIME)), identifier=project)

    def add(self, project: str) -> None:
        """Have the catalog know a wheel, and no page: as an upload does whose event has not come yet."""
        self.put(project)
        self.index.reconcile(f"{project}/{project.replace('-', '_')}-1.0-py3-none-any.whl")

    def hear(self, *messages: Mapping[str, Any]) -> set[str]:
        return failed_messages(self.batches.handle(sqs_event(*messages), Invocation()))

    def listed(self, project: str) -> list[str] | None:
        path = self.output / "simple" / project / "index.json"
        return [file["filename"] for file in json.loads(path.read_bytes())["files"]] if path.exists() else None

    def lines(self, kind: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in found if line["kind"] == kind]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.index.sync()  # from then on it knows the whole storage
    yield scene
    scene.index.close()


def test_a_batch_writes_the_pages_of_its_projects_once(scene: Scene) -> None:
    assert scene.hear(scene.put("acme"), scene.put("acme", "2.0"), scene.put("bolt")) == set()
    assert [sorted(names) for names in scene.site.updates] == [["acme", "bolt"]]
    assert len(scene.listed("acme") or ()) == 2
    (line,) = scene.lines("site")
    assert (line["projects"], line["failed"]) == (2, 0)
    assert line["SiteWritten"] > 4
    assert line["SiteLag"] == 7.0


def test_pages_are_written_though_the_row_was_right_already(scene: Scene) -> None:
    scene.add("acme")
    assert scene.hear(scene.put("acme")) == set()
    assert scene.listed("acme") is not None


def test_what_is_written_beside_the_files_leads_to_nothing(scene: Scene) -> None:
    """Or each page would have the next one written, for ever."""
    keys = ["acme/acme-1.0-py3-none-any.whl.metadata", ".elasticpypi/site/acme"]
    assert scene.hear(*[sqs_message(s3_event(s3_record(key, bucket=BUCKET))) for key in keys]) == set()
    assert scene.site.updates == []
    assert scene.log.getvalue() == ""


FAILURES = [OutputError("the bucket is away"), ValueError("nobody has foreseen this"), "it is another one by now"]


@pytest.mark.parametrize("reason", FAILURES, ids=["unavailable", "unforeseen", "reported"])
def test_only_messages_of_projects_that_could_not_be_written_come_again(
    scene: Scene, reason: Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.site.broken[NormalizedName("bolt")] = reason
    assert scene.hear(scene.put("acme"), scene.put("bolt"), scene.put("cord")) == {"bolt"}
    assert scene.listed("acme") is not None
    assert scene.listed("cord") is not None
    (line,) = scene.lines("page")
    assert (line["project"], line["reason"]) == ("bolt", str(reason))
    assert scene.lines("site")[0]["SiteFailed"] == 1
    assert bool(caplog.records) == isinstance(reason, ValueError)
    scene.site.broken.clear()
    assert scene.hear(scene.put("bolt")) == set()
    assert scene.listed("bolt") is not None


def test_what_nobody_understands_keeps_no_page_from_being_written(scene: Scene) -> None:
    records = json.loads(scene.put("acme")["body"])["Records"]
    assert scene.hear(sqs_message(s3_event(*records, {"of": "something else"}), identifier="odd")) == {"odd"}
    assert scene.listed("acme") is not None


def test_without_time_nothing_is_written_and_everything_comes_again(scene: Scene) -> None:
    name = NormalizedName("acme")
    assert list(scene.keeper.update({name: None}, time.monotonic() - 1)) == [name]
    assert scene.site.updates == []


def test_slow_objects_leave_time_for_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    until: list[float] = []
    reconcile_all = scene.index.reconcile_all

    def watch(keys: Iterable[str], *, deadline: float) -> Iterator[Reconciled | Failed]:
        until.append(deadline)
        return reconcile_all(keys, deadline=deadline)

    monkeypatch.setattr(scene.index, "reconcile_all", watch)
    end = time.monotonic() + Invocation().milliseconds / 1000
    assert scene.hear(scene.put("acme")) == set()
    assert end - until[0] > 20 + 10  # seconds: of the last twenty nobody uses any on purpose


def test_the_schedule_compares_everything_and_tells_drift_from_what_was_behind(scene: Scene) -> None:
    scene.add("acme")
    found = scene.scheduled.handle({}, Invocation())["site"]
    assert found["written"] > 4
    assert (found["drift"], found["partial"]) == (0, False)
    assert scene.site.builds == [False, True]
    (scene.output / "simple" / "acme" / "index.html").write_text("by hand")
    (scene.output / "pypi" / "acme" / "json").unlink()
    assert scene.scheduled.handle({}, Invocation())["site"]["drift"] == 2
    assert [line["SiteDrift"] for line in scene.lines("site")] == [0, 2]
    assert scene.scheduled.handle({}, Invocation())["site"]["drift"] == 0
    assert scene.sent == []


def test_a_check_writes_nothing(scene: Scene) -> None:
    scene.put("acme")
    assert "site" not in scene.scheduled.handle({"check": True}, Invocation())
    assert scene.site.builds == []


def test_what_takes_longer_than_a_run_is_sent_on_and_done(scene: Scene) -> None:
    for number in range(5):
        scene.add(f"acme-{number}")
    assert scene.keeper.build(time.monotonic())["partial"] is True
    assert scene.sent == [GO_ON]
    for _ in range(20):
        if not scene.sent:
            break
        assert scene.hear(sqs_message(scene.sent.pop())) == set()
    assert [number for number in range(5) if scene.listed(f"acme-{number}") is None] == []
    scene.scheduled.go_on(time.monotonic())
    assert scene.sent == [SYNC_ON]


def test_nothing_is_written_until_the_catalog_knows_the_whole_storage(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    try:
        assert scene.hear(scene.put("acme")) == set()
        assert scene.keeper.build(math.inf) == {"waiting": True}
        assert (scene.site.updates, scene.site.builds) == ([], [])
        assert not scene.output.exists()
    finally:
        scene.index.close()


def test_work_that_fails_comes_again_and_nothing_else_with_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> SiteReport:
        raise OutputError("the bucket is away")

    monkeypatch.setattr(scene.site, "build", fail)
    work = sqs_message(GO_ON, identifier="work")
    assert scene.hear(scene.put("acme"), work) == {"work"}
    assert scene.listed("acme") is not None


@pytest.mark.parametrize("body", [{"go_on": "home"}, {"go_on": ["build"]}, {"go_on": None}])
def test_work_that_nobody_knows_is_refused(scene: Scene, body: object) -> None:
    assert scene.hear(sqs_message(body, identifier="odd")) == {"odd"}
    assert len(scene.lines("refused")) == 1


# On AWS ---------------------------------------------------------------------------------------------------------------

PROGRAM = """
import importlib, json, sys
from tests.aws import Cloud
from tests.aws_events import Invocation
module = importlib.import_module(sys.argv[1])
for event in json.loads(sys.argv[2]):
    print(json.dumps({"answer": module.handle(event, Invocation(int(sys.argv[3])))}))
"""
NIGHTLY = {"source": "aws.events", "detail-type": "Scheduled Event"}


def run_function(
    module: str, events: Iterable[Mapping[str, Any]], environment: Mapping[str, str], *, milliseconds: int = 60_000
) -> list[Any]:
    """Start a function, hand it one event after the other, and return its answers."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, json.dumps(list(events)), str(milliseconds)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [line["answer"] for line in map(json.loads, ran.stdout.splitlines()) if "answer" in line]


@pytest.mark.heavy
@pytest.mark.parametrize("has_table", [True, False], ids=["beside an API", "alone"])
def test_functions_on_aws_write_pages_by_events_in_any_shape_and_by_the_schedule(
    cloud: Cloud, tmp_path: Path, *, has_table: bool
) -> None:
    files, pages, s3 = cloud.make_bucket(), cloud.make_bucket(), cloud.aws.s3
    environment = {**cloud.environment, "ELASTICPYPI_BUCKET": files, "ELASTICPYPI_OUTPUT_BUCKET": pages}
    environment |= {"ELASTICPYPI_TABLE": cloud.make_table()} if has_table else {}
    told, scheduled = ("events", "sync") if has_table else ("site", "site")

    def listed() -> list[str]:
        found = s3.get_object(Bucket=pages, Key="simple/acme/index.json")["Body"].read()
        return [file["filename"].split("-")[1] for file in json.loads(found)["files"]]

    def put(version: str) -> Mapping[str, Any]:
        wheel = make_wheel(tmp_path, "acme", version)
        s3.put_object(Bucket=files, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
        return s3_event(s3_record(f"acme/{wheel.name}", bucket=files))

    put("1.0")  # which no event tells of
    (found,) = run_function(f"elasticpypi.handler.{scheduled}", [NIGHTLY], environment)
    assert (found["added"], found["site"]["failed"], found["site"]["partial"]) == (1, 0, False)
    assert listed() == ["1.0"]
    events = [put("2.0"), sqs_event(sqs_message(put("3.0"))), sqs_event(sqs_message(GO_ON))]
    nothing_failed: Mapping[str, Any] = {"batchItemFailures": []}
    assert run_function(f"elasticpypi.handler.{told}", events, environment) == [None, nothing_failed, nothing_failed]
    assert listed() == ["1.0", "2.0", "3.0"]
    (found,) = run_function(f"elasticpypi.handler.{scheduled}", [NIGHTLY], environment)
    assert (found["added"], found["site"]["written"], found["site"]["drift"]) == (0, 0, 0)


def test_a_sync_that_pages_wait_for_goes_on_at_once(cloud: Cloud, tmp_path: Path) -> None:
    files, pages, queue = cloud.make_bucket(), cloud.make_bucket(), cloud.aws.sqs.create_queue(QueueName="going-on")
    environment = {**cloud.environment, "ELASTICPYPI_BUCKET": files, "ELASTICPYPI_TABLE": cloud.make_table()}
    environment |= {"ELASTICPYPI_OUTPUT_BUCKET": pages, "QUEUE_URL": queue["QueueUrl"]}
    wheel = make_wheel(tmp_path, "acme", "1.0")
    cloud.aws.s3.put_object(Bucket=files, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
    (found,) = run_function("elasticpypi.handler.sync", [NIGHTLY], environment, milliseconds=0)
    assert found["partial"] is True
    (message,) = cloud.aws.sqs.receive_message(QueueUrl=queue["QueueUrl"])["Messages"]
    event = sqs_event(sqs_message(json.loads(message["Body"])))
    (told,) = run_function("elasticpypi.handler.events", [event], environment, milliseconds=900_000)
    assert told == {"batchItemFailures": []}
    page = cloud.aws.s3.get_object(Bucket=pages, Key="simple/acme/index.json")["Body"].read()
    assert [file["filename"] for file in json.loads(page)["files"]] == [wheel.name]
