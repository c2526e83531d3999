"""How long AWS is waited for: less than API Gateway waits for us, and as long as S3 takes to copy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from elasticpypi import aws as limits
from elasticpypi.aws import AWS
from elasticpypi.catalog.dynamodb import DynamoDBCatalog, table, writing
from elasticpypi.errors import CatalogError, QueueError, StorageError
from elasticpypi.queue import send_message
from elasticpypi.storage import StoredObject
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.storage.s3.bucket import Bucket
from elasticpypi.storage.s3.multipart import copy_in_parts, divide
from elasticpypi.web.errors import answer_error
from tests.aws import CREDENTIALS, REGION, Cloud

_GATEWAY_SECONDS = 29
_INDEXER_SECONDS = 900
_LATE_SECONDS = 0.9  # and more than the shortened limit of what is answered at once
_XML = {
    "uploads": "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>",
    "copy": '<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>',
    "part": '<CopyPartResult><ETag>"e"</ETag></CopyPartResult>',
    "complete": '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>',
}


class StandIn(ThreadingHTTPServer):
    """An AWS that copies slowly, or never answers."""

    daemon_threads = True
    is_silent = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.ended = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked[self.command] += 1
        _, _, query = self.path.partition("?")
        kind = "part" if "partNumber" in query else "uploads" if query.startswith("uploads") else "complete"
        kind = kind if query and "x-id=CopyObject" not in query else "copy"
        body = b"" if self.command == "HEAD" else _XML[kind].encode()
        if self.server.is_silent:
            self.server.ended.wait(60)
            self.close_connection = True
            return
        if body and kind != "uploads":
            self.server.ended.wait(_LATE_SECONDS)
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 21:30:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = _answer  # noqa: N815  # http.server's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    yield server
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


SOURCE = "acme/large.zip"
SIZES = [("some megabytes", 9 << 20), ("half a gigabyte", 512 << 20), ("more", 1 << 30)]


@pytest.mark.parametrize("size", [size for _, size in SIZES], ids=[name for name, _ in SIZES])
def test_a_copy_is_waited_for(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setitem(limits._CONFIG, "read_timeout", 0.5)  # noqa: SLF001
    source = StoredObject(SOURCE, size, "e-1")
    assert Bucket(AWS(region=REGION), "bucket").copy(source, "acme/copy.zip", replacing=None).key == "acme/copy.zip"
    assert stand_in.asked["PUT"] == 1


def test_parts_of_a_copy_are_waited_for(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits._CONFIG, "read_timeout", 0.5)  # noqa: SLF001
    source = StoredObject(SOURCE, 6 << 30, "e-1")
    bucket, division = Bucket(AWS(region=REGION), "bucket"), divide(source.size, 1 << 30)
    assert copy_in_parts(bucket, source, "acme/copy.zip", division, replacing=None).key == "acme/copy.zip"
    assert (stand_in.asked["PUT"], stand_in.asked["POST"]) == (6, 2)


def test_what_is_never_answered_is_an_error_after_few_attempts(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.is_silent = True
    for config in (limits._CONFIG, limits._WRITING, limits._COPYING):  # noqa: SLF001
        monkeypatch.setitem(config, "read_timeout", 0.05)
    aws = AWS(region=REGION)
    with pytest.raises(CatalogError, match="cannot be reached"):
        DynamoDBCatalog(aws, "table").check()
    with pytest.raises(StorageError, match="cannot be reached"):
        S3Storage(aws, "bucket").stat(SOURCE)
    assert stand_in.asked == {"POST": 3, "HEAD": 3}
    for _, size in SIZES:
        with pytest.raises(StorageError, match="cannot be reached"):
            Bucket(aws, "bucket").copy(StoredObject(SOURCE, size, "e-1"), "acme/copy.zip", replacing=None)
    assert stand_in.asked["PUT"] == 2 + 2 + 3


def _longest(client: object) -> float:
    """Return for how many seconds a client waits at most for one answer: attempts, and pauses of up to 1, 2, … s."""
    config = client.meta.config  # type: ignore[attr-defined]
    attempts = config.retries["total_max_attempts"]
    longest: float = attempts * max(config.read_timeout, config.connect_timeout) + 2 ** (attempts - 1) - 1
    return longest


def test_whatever_hangs_is_told_before_api_gateway_gives_up(cloud: Cloud) -> None:
    aws = cloud.aws
    ours = max(table._PATIENCE_SECONDS, writing._WRITING_SECONDS)  # noqa: SLF001
    for client in (aws.dynamodb, aws.s3, aws.sqs):
        assert _longest(client) <= 15
        assert ours + 1 + _longest(client) < _GATEWAY_SECONDS
    assert _longest(aws.s3_writing) + 2 < _GATEWAY_SECONDS
    assert aws.s3_copying.meta.config.read_timeout == 240  # type: ignore[attr-defined]
    assert _longest(aws.s3_copying) < _INDEXER_SECONDS


def test_clients_are_not_told_of_the_queue(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(QueueError, match="the queue takes no messages") as caught:
        send_message(cloud.aws, f"{cloud.url}/123456789012/queue-of-nobody", {})
    answer = answer_error(caught.value, "/api/v1/uploads/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "SQS" not in answer.get_data(as_text=True).replace("sqs", "SQS")
    assert "sqs:SendMessage" in caplog.text
