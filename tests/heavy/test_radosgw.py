"""Signed URLs and conditions, held against an S3 that checks them: Ceph's gateway (16.2, as Debian 12 has it).

What it does not do as S3 does: it knows no checksums; it ignores conditions on copies, on completing uploads and on
deleting, and If-None-Match on a versioned bucket. tests/test_storage_s3.py has those, on moto, which in turn checks no
signature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import requests

from elasticpypi.aws import AWS
from elasticpypi.errors import ConflictError, ObjectMissingError
from elasticpypi.storage import SignedPut, SignedURL, StoredObject
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.storage.s3.incoming import Limits
from tests.heavy.test_large_upload import make_large_wheel
from tests.radosgw import Gateway, running_gateway

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
KEY = "acme/acme-1.0+local-py3-none-any.whl"
TOKEN = "0123abcd"
DATA = b"some bytes"
PART = 5 * 2**20
LARGE = random.Random(4).randbytes(2 * PART + 1000)
_numbers = count()
_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("radosgw")) as running:
        yield running


@pytest.fixture(scope="module")
def aws(gateway: Gateway) -> AWS:
    return gateway.open()


@pytest.fixture
def bucket(aws: AWS) -> str:
    name = f"bucket-{next(_numbers)}"
    aws.s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def storage(aws: AWS, bucket: str) -> S3Storage:
    return S3Storage(aws, bucket, limits=Limits(PART, PART, PART))


def ask(method: str, url: str, data: bytes | None = None, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, data=data, headers=named, timeout=60)


def publish(storage: S3Storage, key: str = KEY, data: bytes = DATA, *, replacing: str | None = None) -> StoredObject:
    with storage.receive() as incoming:
        incoming.write(data)
        return incoming.publish(key, replacing=replacing)


def url_of(storage: S3Storage, key: str = KEY) -> str:
    download = storage.download(key, "")
    assert isinstance(download, SignedURL)
    return download.url


@pytest.mark.parametrize("key", [KEY, "a b/ä,;=@:~_-.zip", "a/%2B.zip", "a/+.zip", "a/\U0001f600.zip"])
def test_a_signed_url_gives_the_bytes(storage: S3Storage, key: str) -> None:
    publish(storage, key)
    answer = ask("GET", url_of(storage, key))
    assert (answer.status_code, answer.content) == (200, DATA)
    part = ask("GET", url_of(storage, key), Range="bytes=5-")
    assert (part.status_code, part.content) == (206, b"bytes")


def shift(hours: int) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("GET", lambda url: url.replace("acme-1.0", "acme-1.1")),
        ("GET", lambda url: url.replace("X-Amz-Expires=1800", "X-Amz-Expires=18000")),
        ("GET", lambda url: url[:-1] + ("0" if url[-1] != "0" else "1")),
        ("GET", lambda url: url.partition("?")[0]),
        ("GET", lambda url: url + "&response-content-type=text/html"),
        ("PUT", lambda url: url),
        ("DELETE", lambda url: url),
        ("HEAD", lambda url: url),
    ],
    ids=["key", "expiry", "signature", "unsigned", "more", "PUT", "DELETE", "HEAD"],
)
def test_a_signed_url_gives_nothing_else(storage: S3Storage, method: str, change: Callable[[str], str]) -> None:
    publish(storage)
    publish(storage, KEY.replace("1.0", "1.1"))
    assert ask(method, change(url_of(storage)), b"" if method == "PUT" else None).status_code == 403
    assert storage.read_document(KEY).data == DATA


def test_a_signed_url_expires(aws: AWS, bucket: str) -> None:
    publish(S3Storage(aws, bucket))
    old = S3Storage(aws, bucket, clock=shift(-1))
    assert ask("GET", url_of(old)).status_code == 403


def begin(storage: S3Storage, data: bytes = DATA) -> tuple[SignedPut, ...]:
    puts = storage.begin(TOKEN, size=len(data), sha256=hashlib.sha256(data).hexdigest()).puts
    assert puts is not None
    return puts


def send(put: SignedPut, data: bytes) -> int:
    body = data[put.offset : put.offset + put.size]
    return ask("PUT", put.url, body, **put.headers).status_code


def test_a_signed_request_stages_an_upload_once(storage: S3Storage) -> None:
    (put,) = begin(storage)
    assert send(put, DATA) == 200
    assert send(put, DATA) == 412
    assert storage.received(TOKEN) == len(DATA)
    with storage.receive(resuming=TOKEN) as incoming:
        assert incoming.stream.read() == DATA
        incoming.publish(KEY)
    assert storage.read_document(KEY).data == DATA
    with pytest.raises(ObjectMissingError):
        storage.received(TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": None},
        {"If-None-Match": "other"},
        {"x-amz-checksum-sha256": None},
        {"x-amz-checksum-sha256": "00"},
    ],
    ids=str,
)
def test_a_signed_request_takes_no_other_headers(storage: S3Storage, headers: dict[str, str | None]) -> None:
    (put,) = begin(storage)
    changed = {name: value for name, value in {**put.headers, **headers}.items() if value is not None}
    assert send(replace(put, headers=changed), DATA) == 403
    with pytest.raises(ObjectMissingError):
        storage.received(TOKEN)


@pytest.mark.parametrize("data", [DATA + b"!", DATA[:-1], b""])
def test_a_signed_request_takes_no_other_length(storage: S3Storage, data: bytes) -> None:
    (put,) = begin(storage)
    assert ask("PUT", put.url, data, **{**put.headers, "Content-Length": str(len(data))}).status_code == 403
    with pytest.raises(ObjectMissingError):
        storage.received(TOKEN)


def test_an_upload_in_parts_is_staged_by_signed_requests(aws: AWS, bucket: str, storage: S3Storage) -> None:
    puts = begin(storage, LARGE)
    assert [put.size for put in puts] == [PART, PART, 1000]
    other = ask("PUT", puts[0].url.replace("partNumber=1", "partNumber=2"), LARGE[:PART], **puts[0].headers)
    assert other.status_code == 403
    assert send(puts[0], LARGE) == 200
    assert [put.offset for put in begin(storage, LARGE)] == [PART, 2 * PART]
    assert [send(put, LARGE) for put in begin(storage, LARGE)] == [200, 200]
    with storage.receive(resuming=TOKEN) as incoming:
        assert incoming.size == len(LARGE)
        obj = incoming.publish(KEY)
    with storage.open(obj) as stream:
        assert stream.read() == LARGE
    assert aws.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_conditional_writes(storage: S3Storage) -> None:
    first = publish(storage)
    with pytest.raises(ConflictError):
        publish(storage, KEY, b"never")
    second = publish(storage, KEY, b"other", replacing=first.fingerprint)
    for key in (KEY, "acme/none.zip"):
        with pytest.raises(ConflictError):
            publish(storage, key, b"never", replacing=first.fingerprint)
    assert storage.stat(KEY) == second
    storage.remove(KEY, fingerprint=second.fingerprint)
    assert list(storage.list()) == []
    assert publish(storage).size == len(DATA)


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_publishers_at_once_one_wins(storage: S3Storage, *, is_there: bool) -> None:
    replacing = publish(storage).fingerprint if is_there else None

    def try_to_publish(number: int) -> bytes | None:
        data = f"{number:04}".encode() * 1000
        try:
            publish(storage, KEY, data, replacing=replacing)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(8) as pool:
        winners = [data for data in pool.map(try_to_publish, range(8)) if data is not None]
    assert [storage.read_document(KEY).data] == winners


def test_an_object_is_read_anywhere(storage: S3Storage) -> None:
    obj = publish(storage, KEY, LARGE)
    with storage.open(obj) as stream:
        assert stream.seek(-1000, os.SEEK_END) == len(LARGE) - 1000
        assert stream.read() == LARGE[-1000:]
        stream.seek(0)
        assert b"".join(iter(lambda: stream.read(2**20), b"")) == LARGE


READING = """
import json, re, sys
from pathlib import Path
from botocore.response import StreamingBody
from elasticpypi.aws import AWS
from elasticpypi.digests import hex_digest
from elasticpypi.metadata import read_core_metadata
from elasticpypi.names import parse_filename
from elasticpypi.storage.s3 import S3Storage

aws, read, sizes, requests = AWS(), StreamingBody.read, [0], [0]
def count_bytes(self, amt=None):
    data = read(self, amt)
    sizes[0] += len(data)
    return data
def count_requests(**_):
    requests[0] += 1
StreamingBody.read = count_bytes
for client in (aws.s3, aws.s3_writing, aws.s3_copying):
    client.meta.events.register("before-call", count_requests)

def note():
    kb = int(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
    return {"bytes": sizes[0], "requests": requests[0], "kb": kb}

storage = S3Storage(aws, sys.argv[1])
obj = storage.stat(sys.argv[2])
before = note()
with storage.open(obj) as stream:
    metadata = read_core_metadata(stream, parse_filename(obj.key))
    told = note()
    sha256 = hex_digest(stream, "sha256")
print(json.dumps([before, told, note(), metadata.raw.decode(), sha256]))
"""


def test_a_wheel_of_a_gigabyte_is_read_in_constant_memory(
    gateway: Gateway, bucket: str, aws: AWS, tmp_path: Path
) -> None:
    large = make_large_wheel(tmp_path, payload_bytes=2**30)
    with S3Storage(aws, bucket).receive() as incoming, large.path.open("rb") as stream:
        while chunk := stream.read(2**20):
            incoming.write(chunk)
        incoming.publish(large.path.name)
    done = subprocess.run(
        [sys.executable, "-c", READING, bucket, large.path.name],
        env=os.environ | gateway.environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, told, hashed, metadata, sha256 = json.loads(done.stdout)
    _log.info("memory before %s kB, after %s kB", before["kb"], hashed["kb"])
    assert "Name: huge" in metadata
    assert (told["requests"] - before["requests"], told["bytes"]) == (1, 256 * 1024)  # all there is to do on S3
    assert (sha256, hashed["requests"] - told["requests"]) == (large.sha256, 2)
    assert hashed["kb"] - before["kb"] < 16 * 1024
