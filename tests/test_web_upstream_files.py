"""`/packages/` of names that are not ours: files of an upstream, and what lies beside them."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from werkzeug.test import Client, TestResponse

from elasticpypi.auth import Authenticator
from elasticpypi.config import write_upstream
from elasticpypi.errors import QueueError, UpstreamError
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.gateway import LARGEST_ANSWER
from elasticpypi.handler.logs import Lines
from elasticpypi.index import LARGEST_COPY
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.fetching import Limits
from elasticpypi.web.app import create_app
from elasticpypi.web.files import DOWNLOADS
from tests.aws_events import BUCKET, Invocation, failed_messages, sqs_event, sqs_message
from tests.dists import make_wheel
from tests.running import serving
from tests.site import USERS, Clock, Outside, Site
from tests.upstreams import FakeUpstream, running_upstream

pytestmark = pytest.mark.both_worlds
WHEEL = "spam-1.0-py3-none-any.whl"
PATH = f"/packages/spam/{WHEEL}"
PROVENANCE = b'{"version": 1, "attestation_bundles": []}'
KEPT = "private, max-age=31536000, immutable"
NOISE = {"noise.bin": hashlib.shake_256(b"noise").digest(400_000)}


@dataclass(slots=True)
class Scene:
    """An index, and its upstream with a project."""

    site: Site
    upstream: FakeUpstream
    wheel: Path
    clock: Clock = field(default_factory=Clock)
    opened: list[Site] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return self.wheel.read_bytes()

    @property
    def entry(self) -> dict[str, Any]:
        """What upstream's page says of the wheel, to be changed before anybody asks."""
        return self.upstream.project("spam").files[0]

    def open(self, *, keep: bool = True, **changes: Any) -> Site:
        """Open the index as a new process does that streams, wherever the index lies."""
        configured = self.upstream.configured(keep=keep, **changes)
        limits = Limits(page_seconds=5, idle_seconds=5)
        outside = Outside((configured,), own_names=("own-*",), limits=limits, clock=self.clock)
        opened = self.site.reopen(outside=outside)
        streaming = create_app(opened.index, Authenticator(USERS, tokens=opened.index.tokens))
        opened = replace(opened, client=Client(streaming))
        self.opened.append(opened)
        return opened

    def asked_for_files(self) -> list[str]:
        return [asked.path for asked in self.upstream.take() if asked.path.startswith("/files/")]


@pytest.fixture
def scene(site: Site, tmp_path: Path) -> Iterator[Scene]:
    with running_upstream() as upstream:
        wheel = make_wheel(tmp_path / "upstream", "spam", "1.0", extra_files=NOISE)
        upstream.add(wheel, provenance=PROVENANCE)
        made = Scene(site, upstream, wheel)
        yield made
        for opened in made.opened:
            opened.index.close()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# A server that streams -----------------------------------------------------------------------------------------------


def test_a_file_comes_as_it_is_and_next_time_from_here(scene: Scene) -> None:
    site = scene.open()
    first = site.get(PATH)
    assert (first.status_code, first.data) == (200, scene.data)
    told = ("Content-Type", "Content-Length", "ETag", "Cache-Control", "X-Content-Type-Options")
    assert {name: first.headers[name] for name in told} == {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(scene.data)),
        "ETag": f'"{sha256_of(scene.data)}"',
        "Cache-Control": "private, max-age=0",
        "X-Content-Type-Options": "nosniff",
    }
    assert scene.asked_for_files() == [f"/files/{WHEEL}", f"/files/{WHEEL}.provenance"]
    with scene.upstream.behaving("down"):
        for again in (site, scene.open()):
            assert again.download(PATH) == scene.data


@pytest.mark.only_in_a_directory
def test_a_file_that_is_kept_is_like_one_of_ours(scene: Scene) -> None:
    scene.open().get(PATH)
    site = scene.open()
    whole, part = site.get(PATH), site.get(PATH, range="bytes=-9")
    assert (whole.status_code, whole.data, whole.headers["Cache-Control"]) == (200, scene.data, KEPT)
    assert (part.status_code, part.data) == (206, scene.data[-9:])
    assert site.get(PATH, range="bytes=9999999-").status_code == 416
    assert site.get(PATH, method="HEAD").headers["Accept-Ranges"] == "bytes"
    assert [site.get(PATH, range="bytes=9999999-").status_code for _ in range(DOWNLOADS)] == [416] * DOWNLOADS
    assert site.get(PATH).status_code == 200  # no turn was lost


def test_a_part_of_what_does_not_lie_here_is_the_whole(scene: Scene) -> None:
    answer = scene.open().get(PATH, range="bytes=0-9")
    assert (answer.status_code, answer.data) == (200, scene.data)
    assert "Accept-Ranges" not in answer.headers


@pytest.mark.parametrize("says", [{}, {"size": None}])
def test_head_is_answered_from_the_page(scene: Scene, says: Mapping[str, Any]) -> None:
    if "size" in says:
        del scene.entry["size"]
    site = scene.open()
    head = site.get(PATH, method="HEAD")
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers.get("Content-Length") == (None if says else str(len(scene.data)))
    assert head.headers["ETag"] == f'"{sha256_of(scene.data)}"'
    assert scene.asked_for_files() == []
    assert site.get(PATH).data == scene.data


def test_what_a_client_has_already_is_not_asked_for(scene: Scene) -> None:
    answer = scene.open().get(PATH, if_none_match=f'"{sha256_of(scene.data)}"')
    assert (answer.status_code, answer.data) == (304, b"")
    assert scene.asked_for_files() == []


def test_what_lies_beside_a_file_comes_through_us(scene: Scene) -> None:
    site = scene.open()
    core_metadata, provenance = site.get(f"{PATH}.metadata"), site.get(f"{PATH}.provenance")
    assert core_metadata.data == scene.upstream.documents[f"/files/{WHEEL}.metadata"].body
    assert core_metadata.headers["Content-Type"] == "application/octet-stream"
    assert core_metadata.headers["ETag"] == f'"{scene.entry["core-metadata"]["sha256"]}"'
    assert (provenance.data, provenance.mimetype) == (PROVENANCE, "application/vnd.pypi.integrity.v1+json")
    for answer in (core_metadata, provenance):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in (f"{PATH}.metadata", f"{PATH}.provenance"):
        assert site.get(path, if_none_match=site.get(path).headers["ETag"]).status_code == 304


def test_credentials_stay_here(scene: Scene) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    site = scene.open(keep=False)
    answers = [site.get(path) for path in (PATH, f"{PATH}.metadata", f"{PATH}.provenance")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].data == scene.data
    assert "the-secret" not in str([dict(answer.headers) for answer in answers])
    assert {key for key in site.place.list_keys() if key.endswith(".whl")} == set()


# What is not given out -----------------------------------------------------------------------------------------------


def test_what_does_not_come_through_us_is_not_here(scene: Scene) -> None:
    answer = scene.open(keep=False).get(PATH)
    assert answer.status_code == 404
    assert "do not come through this index" in answer.text
    assert scene.asked_for_files() == []


@pytest.mark.parametrize("path", ["spam/spam-2.0.tar.gz", "spam/spam-2.0.tar.gz.metadata", "eggs/eggs-1.0.tar.gz"])
def test_what_upstream_does_not_have_is_not_here(scene: Scene, path: str) -> None:
    assert scene.open().get(f"/packages/{path}").status_code == 404
    assert scene.asked_for_files() == []


@pytest.mark.parametrize("suffix", ["", ".metadata", ".provenance"])
def test_a_file_of_a_name_that_is_ours_is_never_asked_for(scene: Scene, tmp_path: Path, suffix: str) -> None:
    scene.site.drop(make_wheel(tmp_path, "spam", "2.0"), "spam/spam-2.0-py3-none-any.whl")
    site = scene.open()
    assert site.get(f"{PATH}{suffix}").status_code == 404
    assert site.get(f"{PATH}{suffix}", method="HEAD").status_code == 404
    scene.site.place.remove("spam/spam-2.0-py3-none-any.whl")
    scene.site.index.reconcile("spam/spam-2.0-py3-none-any.whl")
    assert site.get(f"{PATH}{suffix}").status_code == 404
    assert scene.upstream.take() == []


def test_nobody_is_asked_for_an_own_name_or_by_strangers(scene: Scene, tmp_path: Path) -> None:
    scene.upstream.add(make_wheel(tmp_path, "own-tools", "1.0"))
    site = scene.open()
    own = "/packages/own-tools/own_tools-1.0-py3-none-any.whl"
    statuses = [
        site.get(own).status_code,
        site.get(PATH, user=None).status_code,
        site.get(PATH, user="guest").status_code,
    ]
    assert statuses == [404, 401, 403]
    assert scene.upstream.take() == []


def test_a_file_that_is_held_back_says_why(scene: Scene) -> None:
    site = scene.open(min_age_days=36_500)
    answer = site.get(PATH)
    assert answer.status_code == 403
    assert answer.text.startswith(f"{WHEEL} is younger than 36500 days; it can be had from ")
    assert site.get(f"{PATH}.metadata").status_code == 403
    assert scene.asked_for_files() == []


def test_a_file_of_a_project_that_upstream_has_quarantined_is_forbidden(scene: Scene) -> None:
    site = scene.open()
    assert site.get(PATH).status_code == 200
    scene.upstream.project("spam").status = {"status": "quarantined"}
    scene.clock.turn(seconds=601)
    answers = [site.get(path) for path in (PATH, f"{PATH}.metadata")]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert "has quarantined the project 'spam'" in answers[0].text


@pytest.mark.parametrize("behaviour", ["down", "500", "404", "429"])
def test_what_cannot_be_had_now_is_a_503(scene: Scene, behaviour: str) -> None:
    site = scene.open()
    site.get("/simple/spam/")
    with scene.upstream.behaving(behaviour, at="/files/"):
        for path in (PATH, f"{PATH}.metadata"):
            answer = site.get(path)
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
            assert "the upstream 'fake'" in answer.text
            assert scene.upstream.netloc not in answer.text or behaviour == "down"


# What is wrong, and who stalls ---------------------------------------------------------------------------------------


def stream_of(site: Site) -> TestResponse:
    credentials = b64encode(b"admin:secret").decode()
    return site.client.open(PATH, headers={"Authorization": f"Basic {credentials}"}, buffered=False)


def test_a_wrong_file_breaks_off(scene: Scene) -> None:
    site = scene.open()
    with scene.upstream.behaving("one other byte", at=f"/files/{WHEEL}"), closing(stream_of(site)) as answer:
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(scene.data)
        got: list[bytes] = []
        with pytest.raises(UpstreamError, match="other bytes"):
            got.extend(cast("Iterator[bytes]", answer.response))
    assert 0 < len(b"".join(got)) < len(scene.data)
    assert site.get(PATH).data == scene.data


@pytest.mark.only_in_a_directory
@pytest.mark.parametrize("says", [{}, {"size": None}], ids=["size known", "size unknown"])
def test_a_server_ends_the_connection_before_a_wrong_file_is_whole(
    scene: Scene, tmp_path: Path, says: Mapping[str, Any]
) -> None:
    if says:
        del scene.entry["size"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"upstreams": [write_upstream(scene.upstream.configured(keep=True))]}))
    variables = {"ELASTICPYPI_CONFIG": str(config)}
    with serving(tmp_path / "served", home=tmp_path / "home", extra=variables) as server:
        with scene.upstream.behaving("one other byte", at=f"/files/{WHEEL}"), pytest.raises(requests.RequestException):
            server.fetch(PATH)
        assert server.fetch(PATH).content == scene.data


@pytest.mark.only_in_a_directory
def test_clients_that_stall_leave_room_for_others(scene: Scene) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    site = scene.open(keep=False)
    stalled = [stream_of(site) for _ in range(Limits().files_at_once)]
    refused = site.get(PATH)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    for answer in stalled:
        answer.close()
        answer.close()  # a server may do so twice
    assert [site.get(PATH).data == scene.data for _ in range(DOWNLOADS + 1)] == [True] * (DOWNLOADS + 1)


def test_downloads_are_counted(scene: Scene) -> None:
    site = scene.open()
    site.index.downloads.is_on = True
    for path, method in ((PATH, "HEAD"), (f"{PATH}.metadata", "GET"), (PATH, "GET"), (PATH, "GET")):
        site.get(path, method=method)
    site.index.downloads.flush()
    counted = site.index.downloads.of(NormalizedName("spam"))
    assert (list(counted.files), counted.total) == ([WHEEL], 2)


# Behind a gateway ----------------------------------------------------------------------------------------------------


class Queue:
    """Where work is handed over."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.error: QueueError | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    def carry_out(self, site: Site) -> None:
        """Let the indexer do what it is asked for."""
        messages = [sqs_message({"keep": message}) for message in self.messages]
        batches = Batches(site.index, Lines(service="acme", stage="dev"), bucket=BUCKET, pauses=())
        assert failed_messages(batches.handle(sqs_event(*messages), Invocation())) == set()
        self.messages.clear()


@pytest.fixture
def queue() -> Queue:
    return Queue()


def ask(site: Site, queue: Queue, path: str = PATH, **headers: str) -> TestResponse:
    """Ask as through a gateway, which carries no streams."""
    authenticator = Authenticator(USERS, tokens=site.index.tokens)
    app = create_app(site.index, authenticator, keep_later=queue.send, largest_answer=LARGEST_ANSWER)
    credentials = b64encode(b"admin:secret").decode()
    return Client(app).get(path, headers={"Authorization": f"Basic {credentials}", **headers})


def follow(answer: TestResponse) -> bytes:
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store"), answer.text
    with requests.Session() as session:
        session.trust_env = False
        return session.get(answer.headers["Location"], timeout=60).content


def request_for(scene: Scene) -> dict[str, Any]:
    return {
        "project": "spam",
        "filename": WHEEL,
        "upstream": "fake",
        "sha256": sha256_of(scene.data),
        "size": len(scene.data),
    }


def get_kept(site: Site, queue: Queue) -> bytes:
    """Return a file that lies here, which only a bucket gives out by a URL."""
    answer = ask(site, queue)
    return answer.data if answer.status_code == 200 else follow(answer)


def test_behind_a_gateway_clients_go_to_upstream_until_a_copy_lies_here(scene: Scene, queue: Queue) -> None:
    site = scene.open()
    for _ in range(2):
        assert follow(ask(site, queue)) == scene.data
    assert queue.messages == [request_for(scene)] * 2
    queue.carry_out(scene.open())
    scene.upstream.take()
    with scene.upstream.behaving("down"):
        assert get_kept(site, queue) == scene.data
        assert get_kept(scene.open(), queue) == scene.data
    assert queue.messages == []


def test_a_queue_that_takes_nothing_keeps_nobody_from_a_file(
    scene: Scene, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.error = QueueError("the queue takes no messages")
    assert follow(ask(scene.open(), queue)) == scene.data
    assert f"{WHEEL} is not kept this time: the queue takes no messages" in caplog.text


def test_behind_a_gateway_what_only_we_can_get_is_copied_at_once_where_it_is_small(scene: Scene, queue: Queue) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    site = scene.open(keep=False)
    assert get_kept(site, queue) == scene.data
    scene.asked_for_files()
    assert get_kept(site, queue) == scene.data
    assert (scene.asked_for_files(), queue.messages) == ([], [])


@pytest.mark.parametrize("size", [None, 33 * 2**20])
def test_behind_a_gateway_what_only_we_can_get_comes_later_where_it_may_be_large(
    scene: Scene, queue: Queue, size: int | None
) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    scene.entry.pop("size")
    if size is not None:
        scene.entry["size"] = size
    site = scene.open(keep=False)
    answer = ask(site, queue)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert answer.text == f"{WHEEL} is being copied; try again in a moment\n"
    assert queue.messages == [request_for(scene) | {"size": size}]
    if size is None:
        queue.carry_out(scene.open(keep=False))
        assert get_kept(site, queue) == scene.data


@pytest.mark.parametrize("credentials", [None, ("us", "the-secret")], ids=["for everybody", "for us"])
def test_behind_a_gateway_nobody_is_asked_to_copy_what_is_too_large(
    scene: Scene, queue: Queue, credentials: tuple[str, str] | None
) -> None:
    scene.upstream.credentials = credentials
    scene.entry["size"] = size = LARGEST_COPY + 1
    answer = ask(scene.open(keep=credentials is None), queue)
    assert (answer.status_code, queue.messages) == (302 if credentials is None else 404, [])
    if credentials is not None:
        assert f"{WHEEL} is too large to be copied ({size} bytes, and 3500000000 at the most)" in answer.text


def test_behind_a_gateway_a_queue_that_takes_nothing_is_told_of(scene: Scene, queue: Queue) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    scene.entry.pop("size")
    queue.error = QueueError("the queue takes no messages")
    assert ask(scene.open(), queue).status_code == 503


def test_behind_a_gateway_a_wrong_file_is_a_503(scene: Scene, queue: Queue) -> None:
    scene.upstream.credentials = ("us", "the-secret")
    site = scene.open(keep=False)
    with scene.upstream.behaving("one other byte", at=f"/files/{WHEEL}"):
        answer = ask(site, queue)
    assert (answer.status_code, queue.messages) == (503, [])
    assert not [key for key in site.place.list_keys() if key.endswith(".whl")]


def test_behind_a_gateway_what_lies_beside_a_file_comes_at_once(scene: Scene, queue: Queue) -> None:
    site = scene.open()
    assert ask(site, queue, f"{PATH}.metadata").data == scene.upstream.documents[f"/files/{WHEEL}.metadata"].body
    assert ask(site, queue, f"{PATH}.provenance").data == PROVENANCE
    assert queue.messages == []
