"""Trouble in AWS, between the deployed functions and it: a retry or a 503, never an empty page or a lost file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.between import KINDS, Between, between
from tests.deployed import Deployment
from tests.dists import make_wheel
from tests.loop import IndexOnAws, running_on_aws
from tests.running import wait_for

# The timeout in seconds: clients of AWS try again and again.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
GATEWAY_SECONDS = 12.0  # so that a test of it need not wait for 29


@pytest.fixture(scope="module")
def proxy(deployment: Deployment) -> Iterator[Between]:
    with between(deployment.cloud.url) as running:
        yield running


@pytest.fixture(scope="module")
def index(deployment: Deployment, proxy: Between, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexOnAws]:
    directory = tmp_path_factory.mktemp("trouble")
    extra = {"AWS_ENDPOINT_URL": proxy.url}
    with running_on_aws(deployment, directory, extra=extra, seconds=GATEWAY_SECONDS) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest, index: IndexOnAws, tmp_path: Path) -> str:
    """A project of the test's own with one file."""
    name = "acme-" + "".join(letter for letter in request.node.name if letter.isalnum())[-60:].lower()
    put(index, name, "1.0", tmp_path)
    wait_for(lambda: index.listing(name), seconds=60)
    index.settle()
    return name


def put(index: IndexOnAws, name: str, version: str, directory: Path) -> str:
    wheel = make_wheel(directory, name, version)
    index.put(f"{name}/{wheel.name}", wheel.read_bytes())
    return wheel.name


# What passes by itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_passes_at_once_is_not_seen(
    index: IndexOnAws, proxy: Between, name: str, tmp_path: Path, kind: str
) -> None:
    with proxy.failing("dynamodb", kind, times=2):
        assert len(index.listing(name) or ()) == 1
    before = proxy.failed["dynamodb"], proxy.failed["s3"]
    with proxy.failing("dynamodb", kind, times=2), proxy.failing("s3", kind, times=2):
        put(index, name, "2.0", tmp_path)
        wait_for(lambda: len(index.listing(name) or ()) == 2, seconds=60)
    index.settle()
    assert (proxy.failed["dynamodb"], proxy.failed["s3"]) == (before[0] + 2, before[1] + 2)
    assert index.waiting(dead=True) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_comes_through(index: IndexOnAws, proxy: Between, name: str, tmp_path: Path, kind: str) -> None:
    wheel = make_wheel(tmp_path, name, "2.0")
    with proxy.failing("s3", kind, "PUT", times=2):
        assert index.upload(wheel).status_code == 200
    assert len(index.listing(name) or ()) == 2


# What lasts -----------------------------------------------------------------------------------------------------------

LASTING = [("dynamodb", "throttle"), ("dynamodb", "error"), ("dynamodb", "reset")]


@pytest.mark.parametrize(("service", "kind"), LASTING)
def test_a_page_that_cannot_be_read_is_a_503(
    index: IndexOnAws, proxy: Between, name: str, service: str, kind: str
) -> None:
    with proxy.failing(service, kind):
        answer = index.fetch(f"/simple/{name}/")
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True), answer.text
    assert len(index.listing(name) or ()) == 1


def test_what_never_answers_is_a_503_of_the_gateway(index: IndexOnAws, proxy: Between, name: str) -> None:
    with proxy.failing("dynamodb", "hang"):
        answer = index.fetch(f"/simple/{name}/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    wait_for(lambda: index.fetch(f"/simple/{name}/").status_code == 200, seconds=60)
    assert len(index.listing(name) or ()) == 1


@pytest.mark.parametrize("kind", ["throttle", "error"])
def test_an_upload_that_cannot_be_written_is_a_503_and_can_be_repeated(
    index: IndexOnAws, proxy: Between, name: str, tmp_path: Path, kind: str
) -> None:
    wheel = make_wheel(tmp_path, name, "2.0")
    with proxy.failing("s3", kind, "PUT"):
        answer = index.upload(wheel)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
    assert len(index.listing(name) or ()) == 1
    assert index.upload(wheel).status_code == 200
    assert len(index.listing(name) or ()) == 2


@pytest.mark.parametrize(
    ("service", "kind", "operations"),
    [
        ("dynamodb", "throttle", ("TransactWriteItems",)),
        ("dynamodb", "unavailable", ()),
        ("s3", "unavailable", ("GET",)),
        ("s3", "reset", ("HEAD",)),
    ],
)
def test_a_file_that_comes_in_the_midst_of_it_is_listed_afterwards(
    index: IndexOnAws, proxy: Between, name: str, tmp_path: Path, service: str, kind: str, operations: tuple[str, ...]
) -> None:
    before = proxy.failed[service]
    with proxy.failing(service, kind, *operations):
        put(index, name, "2.0", tmp_path)
        wait_for(lambda: proxy.failed[service] >= before + 6, seconds=60)
    wait_for(lambda: len(index.listing(name) or ()) == 2, seconds=120)
    index.settle()
    assert index.waiting(dead=True) == 0


def test_what_fails_for_good_ends_in_the_dead_letter_queue(index: IndexOnAws) -> None:
    index.deployment.cloud.aws.sqs.send_message(QueueUrl=index.places.queue_url, MessageBody="not JSON")
    wait_for(lambda: index.waiting(dead=True), seconds=60)
    index.settle()
    index.deployment.cloud.aws.sqs.purge_queue(QueueUrl=index.places.dead_queue_url)
