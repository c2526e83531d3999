"""Uploads straight to the bucket: the routes that sign and finish them, and the command, on S3 and DynamoDB."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client, TestResponse

from elasticpypi import finishing
from elasticpypi.auth import Authenticator
from elasticpypi.aws import AWS
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.client.at_once import run_at_once
from elasticpypi.client.files import check_file
from elasticpypi.client.uploads import IndexClient
from elasticpypi.errors import InvalidRequestError, StorageError
from elasticpypi.index import Added, FinishRequest, Index, Outcome
from elasticpypi.names import NormalizedName
from elasticpypi.storage import Storage
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.storage.s3.incoming import Limits
from elasticpypi.web.app import create_app
from tests.aws import REGION, Cloud, counting
from tests.cutting import CuttingProxy, cutting
from tests.dists import make_sdist, make_wheel
from tests.gateway import HttpGateway, RestGateway
from tests.running import bare_environment, run_command
from tests.site import USERS
from tests.test_handler_api import make_handler
from tests.test_web_api import check_described

MIB = 2**20
UPLOADS = "/api/v1/uploads"
STAGING = ".elasticpypi/uploads/"
SMALL = Limits(single_bytes=6 * MIB, part_bytes=5 * MIB, copied_part_bytes=5 * MIB)  # less, and S3 takes no parts
AUTH = ("writer", "secret")


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def make_large_wheel(directory: Path, size_mib: float, *, name: str = "large") -> Path:
    data = random.Random(name).randbytes(int(size_mib * MIB))
    return make_wheel(directory, name, "1.0", extra_files={"large.bin": data})


def make_large_sdist(directory: Path) -> Path:
    """Make one that takes longer than a request."""
    return make_sdist(directory, "large", "1.0", extra_files={"large.bin": random.Random(1).randbytes(33 * MIB)})


# An index on AWS ----------------------------------------------------------------------------------------------------


@dataclass
class World:
    """An index in a bucket and a table, and its application under a stage's prefix."""

    cloud: Cloud
    bucket: str
    aws: AWS
    index: Index
    handed_over: list[Mapping[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, bytes
    url: str = ""

    def app(self, *, finish_later: bool = False) -> Any:
        app = create_app(
            self.index, Authenticator(USERS), finish_later=self.handed_over.append if finish_later else None
        )

        def noting(environ: Any, start_response: Any) -> Any:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], size))
            return app(environ, start_response)

        return DispatcherMiddleware(NotFound(), {"/dev": noting})

    def listing(self, project: str) -> dict[str, str]:
        snapshot = self.index.snapshot(NormalizedName(project))
        return {item.file.filename: item.file.sha256 for item in snapshot.listing()}

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count what AWS is asked for until the context ends."""
        total: Counter[str] = Counter()
        with counting(self.aws.s3) as of_s3, counting(self.aws.dynamodb) as of_dynamodb:
            yield total
            total.update(of_s3 + of_dynamodb)

    def stored(self) -> list[str]:
        found = self.cloud.aws.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [obj["Key"] for obj in found]

    def unfinished(self) -> int:
        """Return how many bytes of files in parts have come."""
        s3, size = self.cloud.aws.s3, 0
        for upload in s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []):
            found = s3.list_parts(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            size += sum(part["Size"] for part in found.get("Parts", []))
        return size


def make_world(cloud: Cloud, *, limits: Limits | None = None, endpoint: str | None = None) -> World:
    """Make an index; `endpoint` is where signed requests go instead."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        aws = AWS(region=REGION)
        for name in ("dynamodb", "s3", "s3_writing", "s3_copying"):
            getattr(aws, name)  # made while the variables are set
        assert aws.credentials() is not None
    aws.s3_endpoint = endpoint or aws.s3_endpoint
    bucket = cloud.make_bucket()
    index = Index(DynamoDBCatalog(aws, cloud.make_table()), S3Storage(aws, bucket, limits=limits))
    index.sync()
    return World(cloud, bucket, aws, index)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object, **__: object) -> None:
        """Say nothing."""


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """Serve an application on a port of this machine."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(world: World, *, finish_later: bool = False) -> Iterator[World]:
    with listening(world.app(finish_later=finish_later)) as port:
        world.url = f"http://writer:secret@127.0.0.1:{port}/dev/"
        yield world


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with serving(make_world(cloud)) as served:
        yield served


@contextmanager
def cut_world(cloud: Cloud, limits: list[int]) -> Iterator[tuple[World, CuttingProxy]]:
    """Serve an index of small parts whose storage is reached over connections that break."""
    with (
        cutting(int(cloud.url.rpartition(":")[2]), limits) as proxy,
        serving(make_world(cloud, limits=SMALL, endpoint=proxy.url)) as world,
    ):
        yield world, proxy


def upload(world: World, *arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    return run_command("upload", *arguments, "--url", world.url, home=home)


# The command --------------------------------------------------------------------------------------------------------


def test_files_go_straight_to_the_bucket_and_repeating_it_is_free(world: World, tmp_path: Path, home: Path) -> None:
    files = [make_wheel(tmp_path, "acme", f"{number}.0") for number in range(6)]
    files.append(make_sdist(tmp_path, "acme", "1!1.0+local.1"))
    first = upload(world, *files, home=home)
    assert (first.returncode, first.stdout) == (0, "".join(f"created: {file}\n" for file in files)), first.stderr
    assert first.stderr == "".join(f"sending {file.name} ({file.stat().st_size:,} bytes)\n" for file in files)
    assert world.listing("acme") == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert world.stored() == sorted(f"acme/{file.name}" for file in files)
    assert {method for method, _, _ in world.requests} == {"POST"}
    assert max(size for _, _, size in world.requests) < 300
    again = upload(world, *files, home=home)
    assert (again.returncode, again.stdout, again.stderr) == (
        0,
        "".join(f"unchanged: {file}\n" for file in files),
        "",
    )


def test_other_bytes_are_refused_before_they_are_sent(world: World, tmp_path: Path, home: Path) -> None:
    old = make_wheel(tmp_path / "old", "acme", "1.0", description="old")
    upload(world, old, home=home)
    new = make_wheel(tmp_path / "new", "acme", "1.0", description="new")
    answer = upload(world, new, home=home)
    assert (answer.returncode, "File already exists" in answer.stderr) == (1, True)
    assert world.listing("acme") == {old.name: hashlib.sha256(old.read_bytes()).hexdigest()}
    assert world.stored() == [f"acme/{old.name}"]


def test_without_a_server_files_go_into_the_configured_bucket(cloud: Cloud, tmp_path: Path, home: Path) -> None:
    files = [make_wheel(tmp_path, "acme", "1.0"), make_large_wheel(tmp_path, 9)]
    bucket, table = cloud.make_bucket(), cloud.make_table()
    named = {"BUCKET": bucket, "TABLE": table, "REGION": REGION, "USERNAME": "admin", "PASSWORD": "secret"}
    settings = {f"ELASTICPYPI_{name}": value for name, value in named.items()}
    for status in ("created", "unchanged"):
        answer = run_command("upload", *files, home=home, extra={**cloud.environment, **settings})
        assert (answer.returncode, answer.stdout) == (0, "".join(f"{status}: {file}\n" for file in files)), (
            answer.stderr
        )
    found = cloud.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [obj["Key"] for obj in found] == [f"acme/{files[0].name}", f"large/{files[1].name}"]


def test_large_files_go_in_parts(cloud: Cloud, tmp_path: Path, home: Path) -> None:
    files = [make_large_wheel(tmp_path, 12, name="large"), make_large_wheel(tmp_path, 6.5, name="larger")]
    with serving(make_world(cloud, limits=SMALL)) as world:
        answer = upload(world, *files, "--parallel", "2", home=home)
        assert answer.stdout == "".join(f"created: {file}\n" for file in files), answer.stderr
        assert world.listing("large") == {files[0].name: hashlib.sha256(files[0].read_bytes()).hexdigest()}
        assert world.stored() == [f"large/{files[0].name}", f"larger/{files[1].name}"]
        assert world.unfinished() == 0


def test_after_broken_connections_only_missing_parts_are_sent(cloud: Cloud, tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path, 18))
    waits: list[str] = []
    with cut_world(cloud, [100 * MIB, 100 * MIB, MIB, 2 * MIB]) as (world, proxy):
        url = world.url.replace("writer:secret@", "")
        with closing(IndexClient(url, AUTH, wait=lambda _, problem: waits.append(problem))) as client:
            assert client.upload(file, lambda _: None) is Added.CREATED
        assert sum(proxy.passed) < file.size + 4 * MIB
        assert world.listing("large") == {file.filename: file.sha256}
    assert waits == [f"{file.filename}: the connection broke, or there was none"]


def test_a_command_that_was_killed_is_taken_up_by_the_next_one(cloud: Cloud, tmp_path: Path, home: Path) -> None:
    path = make_large_wheel(tmp_path, 18)
    with cut_world(cloud, [100 * MIB, 100 * MIB, MIB, MIB]) as (world, proxy):
        command = [sys.executable, "-m", "elasticpypi", "upload", str(path), "--url", world.url]
        first = subprocess.Popen(command, env=bare_environment(home), stderr=subprocess.PIPE, text=True)
        assert first.stderr is not None
        said = [first.stderr.readline() for _ in range(2)]
        first.kill()
        first.communicate()
        assert said[1].startswith(f"{path.name}: the connection broke, or there was none; trying again in 1 s")
        arrived = world.unfinished()
        assert arrived >= 8 * MIB
        assert world.stored() == []
        before = sum(proxy.passed)
        second = upload(world, path, home=home)
        assert (second.returncode, second.stdout) == (0, f"created: {path}\n"), second.stderr
        assert sum(proxy.passed) - before < path.stat().st_size - arrived + MIB
        assert world.stored() == [f"large/{path.name}"]


def test_two_uploads_of_the_same_file_at_once_end_well(cloud: Cloud, tmp_path: Path) -> None:
    file = check_file(make_large_wheel(tmp_path, 12))
    started = threading.Barrier(2)
    outcomes: list[Added] = []
    with serving(make_world(cloud, limits=SMALL)) as world:
        url = world.url.replace("writer:secret@", "")

        def send_file(_: int) -> None:
            with closing(IndexClient(url, AUTH, wait=lambda _seconds, _problem: None)) as client:
                client.has(file)
                started.wait()
                outcomes.append(client.upload(file, lambda _: None))

        run_at_once(send_file, range(2), threads=2)
        assert set(outcomes) <= {Added.CREATED, Added.UNCHANGED}
        assert world.listing("large") == {file.filename: file.sha256}
        assert [key for key in world.stored() if not key.startswith(STAGING)] == [f"large/{file.filename}"]


# What takes longer than a request -----------------------------------------------------------------------------------


@contextmanager
def working(world: World) -> Iterator[None]:
    """Do what is handed over, as the indexer does for the queue; everything twice."""
    ending = threading.Event()

    def work() -> None:
        done = 0
        while not ending.is_set():
            if done < len(world.handed_over):
                message = json.loads(json.dumps(world.handed_over[done]))
                assert world.index.finish_upload(message) == world.index.finish_upload(message)
                done += 1
            ending.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_the_command_waits_for_what_takes_longer_than_a_request(cloud: Cloud, tmp_path: Path, home: Path) -> None:
    sdist = make_large_sdist(tmp_path)
    with serving(make_world(cloud), finish_later=True) as world, working(world):
        answer = upload(world, sdist, home=home)
        assert (answer.returncode, answer.stdout) == (0, f"created: {sdist}\n"), answer.stderr
        assert f"{sdist.name}: the index is still checking it; trying again in 3 s" in answer.stderr
        assert world.listing("large") == {sdist.name: hashlib.sha256(sdist.read_bytes()).hexdigest()}
        assert len(world.handed_over) == 1
        assert [key for key in world.stored() if not key.endswith(".json")] == [f"large/{sdist.name}"]


@pytest.mark.parametrize("gateway", [RestGateway, HttpGateway])
def test_it_goes_through_both_gateways(
    cloud: Cloud, tmp_path: Path, home: Path, large_sdist: Path, gateway: type[RestGateway | HttpGateway]
) -> None:
    files = [make_large_wheel(tmp_path, 7), make_sdist(tmp_path, "acme", "1!1.0+local.1"), large_sdist]
    world = make_world(cloud)
    handler = make_handler(world.index, finish_later=world.handed_over.append)
    with gateway(handler) as front, working(world):
        world.url = front.url.replace("//", "//writer:secret@") + "/simple/"
        first = upload(world, *files, home=home)
        assert (first.returncode, first.stdout) == (0, "".join(f"created: {file}\n" for file in files)), first.stderr
        again = upload(world, *files, home=home)
        assert (again.returncode, again.stdout) == (0, "".join(f"unchanged: {file}\n" for file in files))
        assert max(len(request.body) for request, _ in front.seen) < 300
    assert list(world.listing("acme")) == [files[1].name]
    assert sorted(world.listing("large")) == sorted([files[0].name, files[2].name])
    assert len(world.handed_over) == 1


@dataclass(frozen=True)
class Sender:
    """Somebody who uploads one file to an index on AWS, without the command."""

    world: World
    client: Client
    path: Path

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def url(self) -> str:
        return f"{UPLOADS}/{self.sha256}.{len(self.data)}.{self.path.name}"

    def begin(self) -> TestResponse:
        document = {"filename": self.path.name, "size": len(self.data), "sha256": self.sha256}
        return self.ask("POST", UPLOADS, json=document)

    def put(self) -> None:
        begun = self.begin().json
        assert begun is not None
        for put in begun["puts"]:
            body = self.data[put["offset"] : put["offset"] + put["size"]]
            assert requests.request(put["method"], put["url"], data=body, headers=put["headers"], timeout=60).ok

    def tell(self) -> TestResponse:
        return self.ask("GET", self.url)

    def finish(self) -> TestResponse:
        return self.ask("POST", f"{self.url}/finish")

    def ask(self, method: str, url: str, **options: Any) -> TestResponse:
        response = self.client.open(f"/dev{url}", method=method, auth=AUTH, **options)
        check_described(method, url, response)
        return response


def make_sender(world: World, path: Path, *, finish_later: bool = False) -> Sender:
    return Sender(world, Client(world.app(finish_later=finish_later)), path)


@pytest.fixture(scope="module")
def large_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_large_sdist(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def late(cloud: Cloud, large_sdist: Path) -> Sender:
    """Somebody whose upload has arrived, and was handed over."""
    sender = make_sender(make_world(cloud), large_sdist, finish_later=True)
    sender.put()
    answer = sender.finish()
    assert (answer.status_code, answer.json, answer.headers["Retry-After"]) == (
        202,
        {"filename": large_sdist.name, "project": "large", "size": len(sender.data), "status": "finishing"},
        "3",
    )
    return sender


def test_it_is_handed_over_once_and_asked_about(late: Sender) -> None:
    assert [late.tell().status_code, late.finish().status_code, late.begin().json["puts"]] == [202, 202, []]  # type: ignore[index]
    (message,) = late.world.handed_over
    assert {**message, "token": ""} == {
        "token": "",
        "filename": late.path.name,
        "size": len(late.data),
        "sha256": late.sha256,
        "principal": "writer",
        "credential": "password",
    }
    assert late.world.index.finish_upload(message) == Outcome(Added.CREATED)
    with late.world.counting() as again:
        assert late.world.index.finish_upload(message) == Outcome(Added.CREATED)
    assert again == {"GetObject": 1}
    done = late.tell()
    assert done.json is not None
    assert (done.status_code, done.json["status"]) == (201, "created")
    assert late.begin().json["status"] == late.finish().json["status"] == "unchanged"  # type: ignore[index]


def test_a_refusal_is_told_and_the_name_stays_free(late: Sender) -> None:
    world = late.world
    world.cloud.aws.s3.put_object(Bucket=world.bucket, Key="large/project.json", Body=b'{"status": "archived"}')
    world.index.reconcile("large/project.json")
    outcome = world.index.finish_upload(world.handed_over[0])
    assert (outcome.added, outcome.error) == (None, "ForbiddenError")
    refusal = late.tell()
    assert refusal.json is not None
    assert (refusal.status_code, refusal.json["error"]) == (403, "forbidden")
    assert "is archived: it takes no new files" in refusal.json["message"]
    world.cloud.aws.s3.put_object(Bucket=world.bucket, Key="large/project.json", Body=b"{}")
    world.index.reconcile("large/project.json")
    late.put()
    assert late.finish().status_code == 202
    assert world.index.finish_upload(world.handed_over[1]) == Outcome(Added.CREATED)


class Unavailable:
    """A storage that is away, just when somebody wants to read what is staged."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def receive(self, **_: object) -> Any:
        raise StorageError("S3 is away")


def test_what_may_pass_leaves_the_message_to_come_again(late: Sender) -> None:
    index, (message,) = late.world.index, late.world.handed_over
    storage = S3Storage(late.world.cloud.aws, late.world.bucket)
    broken = Index(index._catalog, Unavailable(storage))  # noqa: SLF001
    with pytest.raises(StorageError):
        broken.finish_upload(message)
    assert late.tell().status_code == 202
    assert index.finish_upload(message) == Outcome(Added.CREATED)


def test_who_cannot_hand_over_remembers_nothing(cloud: Cloud, large_sdist: Path) -> None:
    world = make_world(cloud)

    def fail(_: object) -> None:
        raise StorageError("the queue is away")

    app = create_app(world.index, Authenticator(USERS), finish_later=fail)
    sender = Sender(world, Client(DispatcherMiddleware(NotFound(), {"/dev": app})), large_sdist)
    sender.put()
    answer = sender.finish()
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    told = sender.tell()
    assert told.json is not None
    assert (told.status_code, told.json["received"]) == (200, len(sender.data))


def test_what_somebody_else_has_finished_is_done(late: Sender) -> None:
    other = make_sender(late.world, late.path)
    assert other.finish().status_code == 201
    assert late.world.index.finish_upload(late.world.handed_over[0]) == Outcome(Added.UNCHANGED)
    assert late.tell().status_code == 200


def test_a_message_that_was_lost_is_sent_again(late: Sender) -> None:
    token = late.world.handed_over[0]["token"]
    long_ago = json.dumps({"status": "finishing", "since": 1.0}).encode()
    late.world.cloud.aws.s3.put_object(Bucket=late.world.bucket, Key=f"{STAGING}{token}.json", Body=long_ago)
    told = late.tell()  # so that whoever polls begins again
    assert told.json is not None
    assert (told.status_code, told.json["received"]) == (200, len(late.data))
    assert [late.finish().status_code, len(late.world.handed_over)] == [202, 2]
    assert late.tell().status_code == 202


class Repeating:
    """A storage that makes a request again whose answer was lost, and finds that it was carried out before."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> Any:
        for _ in range(2):
            written = self._storage.write_document(key, data, replacing=replacing)
        return written


def test_a_note_whose_answer_was_lost_is_followed_by_its_message(cloud: Cloud) -> None:
    storage = Repeating(S3Storage(cloud.aws, cloud.make_bucket()))
    sent: list[Mapping[str, Any]] = []
    request = FinishRequest("ab" * 32, "acme-1.0.tar.gz", 7, "cd" * 32, "writer")
    for _ in range(2):
        finishing.hand_over(cast("Storage", storage), request, sent.append)
    assert [message["token"] for message in sent] == [request.token]


@pytest.mark.parametrize(
    ("filename", "size", "status"),
    [
        ("acme-1.0-py3-none-any.whl", 41 * 10**9, 400),
        ("acme-1.0-py3-none-any.whl", 39 * 10**9, 201),
        ("acme-1.0.tar.gz", 21 * 10**9, 400),
    ],
)
def test_what_nobody_has_the_time_to_finish_does_not_begin(world: World, filename: str, size: int, status: int) -> None:
    client = Client(world.app(finish_later=True))
    document = {"filename": filename, "size": size, "sha256": "ab" * 32}
    answer = client.post(f"/dev{UPLOADS}", json=document, auth=AUTH)
    assert answer.status_code == status, answer.text
    assert status == 201 or "that Lambda has the time to check and to copy" in answer.text


@pytest.mark.parametrize(
    "change",
    [{"token": "../x"}, {"token": None}, {"sha256": "x"}, {"filename": 1}, {"size": "1"}, {"principal": None}],
)
def test_what_nobody_asked_for_is_not_finished(world: World, change: dict[str, object]) -> None:
    good = {"token": "0" * 64, "filename": "acme-1.0.tar.gz", "size": 1, "sha256": "0" * 64, "principal": "writer"}
    with pytest.raises(InvalidRequestError, match="needs token, filename, size, sha256 and principal"):
        world.index.finish_upload({**good, **change})
    assert world.index.finish_upload(good).error == "NotFoundError"


def test_without_anybody_to_finish_later_it_is_done_at_once(cloud: Cloud, large_sdist: Path) -> None:
    sender = make_sender(make_world(cloud), large_sdist)
    sender.put()
    assert [sender.finish().status_code, sender.tell().status_code] == [201, 404]


# The routes ---------------------------------------------------------------------------------------------------------


def test_a_slot_says_where_the_bytes_go(world: World, tmp_path: Path) -> None:
    sender = make_sender(world, make_wheel(tmp_path, "acme", "1.0"))
    begun = sender.begin()
    document = begun.json
    assert document is not None
    (put,) = document.pop("puts")
    size = len(sender.data)
    url = f"uploads/{sender.sha256}.{size}.{sender.path.name}"
    assert (begun.status_code, document) == (
        201,
        {
            "filename": sender.path.name,
            "project": "acme",
            "size": size,
            "id": url.removeprefix("uploads/"),
            "received": 0,
            "status-url": url,
            "finish-url": f"{url}/finish",
        },
    )
    assert (put["method"], put["offset"], put["size"], put["headers"]["If-None-Match"]) == ("PUT", 0, size, "*")
    assert [sender.tell().status_code, sender.finish().status_code] == [404, 404]
    sender.put()
    assert [sender.begin().json["puts"], sender.tell().json["received"]] == [[], size]  # type: ignore[index]
    assert world.stored() != [f"acme/{sender.path.name}"]
    assert sender.finish().status_code == 201
    assert world.stored() == [f"acme/{sender.path.name}"]


def test_an_upload_asks_for_little(world: World, tmp_path: Path) -> None:
    sender = make_sender(world, make_wheel(tmp_path, "acme", "1.0"))
    sender.begin()
    with world.counting() as begun:
        sender.begin()
    sender.put()
    with world.counting() as finished:
        assert sender.finish().status_code == 201
    assert begun == {"HeadObject": 1, "GetItem": 2, "Query": 1}
    assert finished == {
        "HeadObject": 3,  # what is staged; what has been stored; what is there to be indexed
        "GetObject": 1,
        "CopyObject": 1,
        "DeleteObject": 1,
        "GetItem": 4,
        "Query": 1,
        "BatchGetItem": 1,
        "TransactWriteItems": 1,
    }


def test_bytes_that_come_through_us_are_sent_elsewhere(cloud: Cloud, tmp_path: Path) -> None:
    sender = make_sender(make_world(cloud, limits=SMALL), make_large_wheel(tmp_path, 7))
    sender.begin()
    answer = sender.ask("PATCH", sender.url, data=b"bytes", headers={"Upload-Offset": "0"})
    assert (answer.status_code, "the bytes go straight to the storage" in answer.text) == (400, True)
    assert sender.finish().status_code == 409  # nothing has come


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"no archive"), "not a zip"),
        (lambda path: path.write_bytes(make_wheel(None, "bolt", "1.0").read_bytes()), "not that of the project"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_burns_no_name(
    world: World, tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "acme-1.0-py3-none-any.whl"
    make(path)
    sender = make_sender(world, path)
    sender.put()
    answer = sender.finish()
    assert (answer.status_code, words in answer.text) == (400, True), answer.text
    assert (sender.tell().status_code, world.stored()) == (404, [])
    good = make_sender(world, make_wheel(tmp_path / "good", "acme", "1.0"))
    good.put()
    assert [good.finish().status_code, list(world.listing("acme"))] == [201, [path.name]]


def test_the_upload_of_somebody_else_is_not_there(world: World, tmp_path: Path) -> None:
    sender = make_sender(world, make_wheel(tmp_path, "acme", "1.0"))
    sender.put()
    answers = [
        sender.client.open(f"/dev{sender.url}", method="GET", auth=(user, "secret")) for user in ("admin", "reader")
    ]
    assert [answer.status_code for answer in answers] == [404, 403]
