"""The index as static files, kept current by the deployed functions: by events, and by the nightly comparison."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from elasticpypi.names import NormalizedName
from tests.aws import REGION, Cloud
from tests.aws_events import s3_event, s3_record, sqs_event, sqs_message
from tests.clients import UPLOADERS, Desk, account
from tests.deployed import Deployment, FunctionError, Worker, deployed
from tests.dists import make_wheel
from tests.loop import IndexOnAws, forget_messages, running_on_aws
from tests.running import JSON, run_command
from tests.static_serving import Bucket, CloudFront, function, listening

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]  # seconds: a run of `sls`, and many of the functions
HTML = "text/html"


@pytest.fixture(scope="module")
def with_site(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("with_site")
    with deployed(cloud, directory, output_bucket=f"{cloud.make_bucket()}-pages") as made:
        yield made


@pytest.fixture(scope="module")
def index(with_site: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexOnAws]:
    """One for all tests, which have projects of their own."""
    with running_on_aws(with_site, tmp_path_factory.mktemp("index"), workers=1) as running:
        yield running


def listed(index: IndexOnAws, project: str) -> dict[str, Any] | None:
    """What the static page lists, filename to file; None where there is no page."""
    found = index.document(f"simple/{project}/index.json")
    return None if found is None else {file["filename"]: file for file in json.loads(found)["files"]}


def check_pages(index: IndexOnAws, project: str) -> None:
    """Both forms of a project's page have to be what the API answers."""
    for path, accept in (("index.html", HTML), ("index.json", JSON)):
        assert index.document(f"simple/{project}/{path}") == index.fetch(f"/simple/{project}/", accept=accept).content


def put_wheel(index: IndexOnAws, directory: Path, project: str = "acme", version: str = "1.0") -> str:
    """Put a wheel into the bucket; return its key."""
    wheel = make_wheel(directory, project, version)
    index.put(f"{project}/{wheel.name}", wheel.read_bytes())
    return f"{project}/{wheel.name}"


def documents(index: IndexOnAws) -> dict[str, bytes]:
    """Return all that is given out, by path."""
    s3, bucket = index.deployment.cloud.aws.s3, index.places.output_bucket or ""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key: index.document(key) or b"" for key in keys if not key.startswith(".elasticpypi/")}


# Events --------------------------------------------------------------------------------------------------------------


def test_what_happens_to_a_file_happens_to_its_static_page(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name, "1.0")
    uploaded = index.upload(wheel)
    assert uploaded.status_code == 200, uploaded.text
    key = put_wheel(index, tmp_path, name, "2.0")
    index.settle()
    assert set(listed(index, name) or ()) == {wheel.name, key.rpartition("/")[2]}
    check_pages(index, name)
    assert name.encode() in (index.document("simple/index.html") or b"")

    yanked = index.deployment.cloud.aws.s3.put_object(
        Bucket=index.places.bucket, Key=f"{name}/project.json", Body=json.dumps({"yanked": {"1.0": "broken"}}).encode()
    )
    assert yanked
    index.settle()
    assert (listed(index, name) or {})[wheel.name]["yanked"] == "broken"

    index.remove(key)
    index.settle()
    assert set(listed(index, name) or ()) == {wheel.name}
    assert index.document(f"packages/{key}.metadata") is None
    assert index.document(f"pypi/{name}/2.0/json") is None
    assert not [line for worker in index.events.workers for line in worker.lines() if line["kind"] == "log"]


def test_pip_installs_through_cloudfront_with_the_credentials_of_the_index(
    index: IndexOnAws, desk: Desk, tmp_path: Path
) -> None:
    put_wheel(index, tmp_path / "made", "acme-pages")
    index.settle()
    code = index.deployment.template["Resources"]["SiteRequests"]["Properties"]["FunctionCode"]
    cloud, allowed = index.deployment.cloud, ("s3:GetObject", "s3:ListBucket")
    output = Bucket(cloud, index.places.output_bucket or "", allowed)
    source = Bucket(cloud, index.places.bucket, allowed)
    with function(code, tmp_path) as running, listening(CloudFront(running, output, source)) as url:
        assert requests.get(f"{url}/simple/", timeout=30).status_code == 401
        assert requests.get(f"{url}/simple/", auth=("admin", "secret"), timeout=30).status_code == 200
        place = url.replace("://", "://admin:secret@")
        installed = desk.pip("install", "--index-url", f"{place}/simple/", "acme-pages")
        assert installed.succeeded, installed.output
    assert desk.installed()[NormalizedName("acme-pages")] == "1.0"


def test_what_people_decide_by_command_is_on_the_static_page(index: IndexOnAws, desk: Desk, name: str) -> None:
    files = [make_wheel(desk.dist, name, version) for version in ("1.0", "2.0")]
    sent = UPLOADERS["twine"](desk, account(index), "/legacy/", files)
    assert sent.succeeded, sent.output
    variables = {**index.deployment.cloud.environment, **index.places.variables}
    variables |= {"ELASTICPYPI_REGION": REGION, "ELASTICPYPI_USERNAME": "admin", "ELASTICPYPI_PASSWORD": "secret"}
    del variables["QUEUE_URL"]
    for decided in (("yank", name, "1.0", "--reason", "broken"), ("delete", name, "2.0", "--yes")):
        ran = run_command(*decided, home=desk.root / "home", extra=variables)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    index.settle()
    assert {filename: file["yanked"] for filename, file in (listed(index, name) or {}).items()} == {
        files[0].name: "broken"
    }
    check_pages(index, name)


def test_two_functions_at_the_same_project_lose_nothing(index: IndexOnAws, name: str, tmp_path: Path) -> None:
    variables = index.places.variables
    with index.pump.paused():
        keys = [put_wheel(index, tmp_path, name, f"{number}.0") for number in range(1, 13)]
        events = [s3_event(s3_record(key, bucket=index.places.bucket)) for key in keys]
        with (
            index.deployment.worker("events", extra=variables) as one,
            index.deployment.worker("events", extra=variables) as other,
            ThreadPoolExecutor(2) as pool,
        ):
            list(pool.map(lambda each: [each[0].invoke(event) for event in each[1]], ((one, events), (other, events))))
        assert set(listed(index, name) or ()) == {key.rpartition("/")[2] for key in keys}
    index.settle()


def test_who_is_killed_is_made_good_by_the_message_that_comes_again(
    index: IndexOnAws, name: str, tmp_path: Path
) -> None:
    key = put_wheel(index, tmp_path, name)
    index.settle()
    with index.pump.paused():
        later = [put_wheel(index, tmp_path, name, f"{number}.0") for number in range(2, 6)]
        event = s3_event(*(s3_record(each, bucket=index.places.bucket) for each in later))
        for seconds in (0.05, 0.15, 0.3):
            with index.deployment.worker("events", extra=index.places.variables) as worker:
                kill_after(worker, seconds, event)
    index.settle()
    assert set(listed(index, name) or ()) == {each.rpartition("/")[2] for each in (key, *later)}
    check_pages(index, name)


def kill_after(worker: Worker, seconds: float, event: Any) -> None:
    from threading import Timer

    timer = Timer(seconds, worker.stop)
    timer.start()
    try:
        worker.invoke(event)
    except (FunctionError, OSError, ValueError):
        pass  # which is what was wanted
    finally:
        timer.join()


# The comparison ------------------------------------------------------------------------------------------------------


def test_the_nightly_comparison_repairs_what_others_have_done_and_says_so(index: IndexOnAws, tmp_path: Path) -> None:
    s3, bucket = index.deployment.cloud.aws.s3, index.places.output_bucket or ""
    for project in ("acme", "bolt", "cord"):
        put_wheel(index, tmp_path, project)
    index.settle()
    with index.deployment.worker("sync", extra=index.places.variables) as sync:
        found = sync.invoke({})["site"]
        assert (found["failed"], found["drift"], found["partial"]) == (0, 0, False)
        right = documents(index)
        assert "packages.json" in right
        s3.put_object(Bucket=bucket, Key="simple/acme/index.html", Body=b"<!-- by hand -->")
        s3.put_object(Bucket=bucket, Key="simple/evil/index.html", Body=b"<a href='https://evil.example/evil-1.0.zip'>")
        s3.delete_object(Bucket=bucket, Key="simple/bolt/index.json")
        s3.delete_object(Bucket=bucket, Key="packages/cord/cord-1.0-py3-none-any.whl.metadata")
        found = sync.invoke({})["site"]
        assert documents(index) == right
        assert found["drift"] >= 4
        assert sync.invoke({})["site"]["drift"] == 0
        (line,) = [line for line in sync.lines() if line["kind"] == "site" and line["drift"] == found["drift"]]
        assert line["SiteDrift"] == found["drift"]


def test_a_comparison_without_time_goes_on_by_itself(index: IndexOnAws, tmp_path: Path) -> None:
    for number in range(20):
        put_wheel(index, tmp_path, f"many-{number}")
    index.settle()
    with index.pump.paused():
        clear(index)
        with index.deployment.worker("events", extra=index.places.variables) as events:
            asked = sqs_event(sqs_message({"go_on": "build"}))
            assert events.invoke(asked, seconds=0.4) == {"batchItemFailures": []}
            assert [line["partial"] for line in events.lines() if line["kind"] == "site"] == [True]
        assert index.waiting() == 1  # it has sent itself on
    index.settle()
    assert [number for number in range(20) if listed(index, f"many-{number}") is None] == []


def clear(index: IndexOnAws) -> None:
    s3, bucket = index.deployment.cloud.aws.s3, index.places.output_bucket or ""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=found["Key"])


def test_no_page_is_touched_until_the_catalog_knows_the_whole_bucket(
    index: IndexOnAws, name: str, tmp_path: Path
) -> None:
    put_wheel(index, tmp_path, name, "1.0")
    index.settle()
    right = documents(index)
    table = index.deployment.cloud.make_table()  # as after a loss of it
    with index.pump.paused():
        key = put_wheel(index, tmp_path, name, "2.0")
        variables = index.places.variables | {"ELASTICPYPI_TABLE": table}
        with index.deployment.worker("events", extra=variables) as events:
            events.invoke(s3_event(s3_record(key, bucket=index.places.bucket)))
        assert documents(index) == right
        with index.deployment.worker("sync", extra=variables) as sync:
            sync.invoke({})
        assert len(listed(index, name) or ()) == 2
    index.settle()


# What it costs -------------------------------------------------------------------------------------------------------


def test_one_new_file_costs_as_many_requests_whatever_the_size_of_the_index(index: IndexOnAws, tmp_path: Path) -> None:
    counts = []
    with (
        index.pump.paused(),
        index.deployment.worker("sync", extra=index.places.variables) as sync,
        index.deployment.worker("events", extra=index.places.variables) as events,
    ):
        for size in (2, 12):
            for number in range(size):
                put_wheel(index, tmp_path, f"other-{number}")
                put_wheel(index, tmp_path, f"acme-{size}", f"{number}.0")
            sync.invoke({})
            key = put_wheel(index, tmp_path, f"acme-{size}", "100.0")
            before = len(events.calls)
            events.invoke(s3_event(s3_record(key, bucket=index.places.bucket)))
            made = events.calls[before:]
            assert listed(index, f"acme-{size}") is not None
            counts.append(Counter(call.operation for call in made if call.service == "s3"))
        forget_messages(index.deployment, index.places.queue_url)
    assert counts[0] == counts[1]
    assert "ListObjectsV2" not in counts[0]
    assert counts[0].total() < 50
