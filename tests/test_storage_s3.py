"""What S3 alone can meet: its requests, signed URLs, uploads by them, versions, errors. The contract: test_storage."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.auth
import botocore.session
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ConnectTimeoutError
from botocore.response import StreamingBody

from elasticpypi.aws import AWS
from elasticpypi.deployment.bucket import CORS
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ElasticpypiError,
    ObjectMissingError,
    StorageError,
    UnreadableObjectError,
)
from elasticpypi.metadata import read_core_metadata
from elasticpypi.names import parse_filename
from elasticpypi.storage import SignedPut, SignedURL, StoredObject
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.storage.s3.incoming import Limits
from elasticpypi.storage.s3.multipart import divide
from elasticpypi.storage.s3.signing import Credentials, object_url, sign_url
from tests.aws import Cloud, counting
from tests.dists import make_wheel

KEY = "acme/acme-1.zip"
TOKEN = "0123abcd"
STAGED = f".elasticpypi/uploads/{TOKEN}"
MIB = 2**20
LEAST_PART = 5 * MIB  # of S3, and of moto
DATA = b"some bytes"
LARGE = random.Random(4).randbytes(LEAST_PART * 2 + 1000)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    return cloud.make_bucket()


@pytest.fixture
def storage(cloud: Cloud, bucket: str) -> S3Storage:
    return S3Storage(cloud.aws, bucket)


@pytest.fixture
def small(cloud: Cloud, bucket: str) -> S3Storage:
    """A storage to which everything over 5 MiB is too large for one request."""
    return S3Storage(cloud.aws, bucket, limits=Limits(LEAST_PART, LEAST_PART, LEAST_PART))


def publish(storage: S3Storage, key: str = KEY, data: bytes = DATA, *, replacing: str | None = None) -> StoredObject:
    with storage.receive() as incoming:
        incoming.write(data)
        return incoming.publish(key, replacing=replacing)


def send(put: SignedPut, data: bytes, **headers: str) -> int:
    """Make a signed request with its part of the bytes."""
    body = data[put.offset : put.offset + put.size]
    with requests.Session() as session:
        session.trust_env = False
        return session.put(put.url, data=body, headers={**put.headers, **headers}, timeout=30).status_code


def fetch(storage: S3Storage, key: str) -> bytes:
    download = storage.download(key, "")
    assert isinstance(download, SignedURL)
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(download.url, timeout=30)
    assert response.status_code == 200
    return response.content


def stage(storage: S3Storage, data: bytes = DATA, token: str = TOKEN) -> None:
    puts = storage.begin(token, size=len(data), sha256=digest(data)).puts
    assert puts is not None
    assert [send(put, data) for put in puts] == [200] * len(puts)


def finish(storage: S3Storage, key: str = KEY, *, replacing: str | None = None) -> StoredObject:
    with storage.receive(resuming=TOKEN) as incoming:
        return incoming.publish(key, replacing=replacing)


def everything(cloud: Cloud, bucket: str) -> list[str]:
    return [found["Key"] for found in cloud.aws.s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def unfinished(cloud: Cloud, bucket: str) -> list[str]:
    return [upload["Key"] for upload in cloud.aws.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


@contextmanager
def answering(cloud: Cloud, operation: str, answer: Callable[[], Any]) -> Iterator[None]:
    """Have an operation answered by ourselves instead of S3."""

    def respond(**_: Any) -> Any:
        return answer()

    event = f"before-call.s3.{operation}"
    cloud.aws.s3.meta.events.register(event, respond)
    try:
        yield
    finally:
        cloud.aws.s3.meta.events.unregister(event, respond)


class Answer:
    """An answer without a body, as botocore hands it on."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def failure(text: str) -> Callable[[], Any]:
    """Return an answer with a status and a code of S3's, or none at all."""
    status, _, code = text.partition(" ")
    if status == "timeout":
        return unreachable
    parsed = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": int(status)}}
    return lambda: (Answer(int(status)), parsed)


def unreachable() -> Any:
    raise ConnectTimeoutError(endpoint_url=f"https://bucket/{STAGED}")


# Requests


def read_first_and_last(storage: S3Storage, obj: StoredObject) -> None:
    with storage.open(obj) as stream:
        stream.seek(-5, 2)
        assert len(stream.read()) == 5
        stream.seek(0)
        assert len(stream.read(3)) == 3


def read_all(storage: S3Storage, obj: StoredObject) -> None:
    with storage.open(obj) as stream:
        assert len(list(iter(lambda: stream.read(1000), b""))) == -(-obj.size // 1000)


def read_blocks_that_overlap(storage: S3Storage, obj: StoredObject) -> None:
    """As archives are read: each block begins somewhat before the end of the last one, or somewhat after it."""
    with storage.open(obj) as stream:
        for start in (0, 900, 1900, 2900, 4000, 5900):
            stream.seek(start)
            assert len(stream.read(1000)) == 1000


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda storage, _: storage.check(), {"HeadBucket": 1}),
        (lambda storage, _: storage.stat(KEY), {"HeadObject": 1}),
        (lambda storage, _: list(storage.list()), {"ListObjectsV2": 1}),
        (lambda storage, _: list(storage.notes()), {"ListObjectsV2": 1}),
        (lambda storage, _: list(storage.notes(KEY)), {}),
        (lambda storage, _: storage.read_document(KEY), {"GetObject": 1}),
        (
            lambda storage, _: storage.write_document("acme/project.json", b"{}", replacing=None),
            {"PutObject": 1, "HeadObject": 1},
        ),
        (lambda storage, _: publish(storage, "acme/acme-2.zip"), {"PutObject": 1, "HeadObject": 1}),
        (
            lambda storage, obj: storage.remove(KEY, fingerprint=obj.fingerprint),
            {"HeadObject": 1, "DeleteObject": 1},
        ),
        (lambda storage, obj: storage.upload_time(obj, "00" * 32), {}),
        (lambda storage, obj: storage.is_settled(obj), {}),
        (lambda storage, obj: storage.download(KEY, obj.fingerprint), {}),
        (lambda storage, _: storage.free_bytes(), {}),
        (lambda storage, obj: storage.open(obj).__enter__().close(), {}),
        (read_first_and_last, {"GetObject": 2}),
        (read_all, {"GetObject": 2}),
        (read_blocks_that_overlap, {"GetObject": 2}),
        (lambda storage, _: storage.begin(TOKEN, size=4, sha256="00" * 32), {"HeadObject": 1}),
    ],
)
def test_what_each_question_costs(
    cloud: Cloud, storage: S3Storage, ask: Callable[[S3Storage, StoredObject], object], expected: dict[str, int]
) -> None:
    obj = publish(storage, KEY, random.Random(1).randbytes(10_000))
    storage.check()  # else the first object that is missing makes sure once that the bucket is there
    with counting(cloud.aws.s3) as counts:
        ask(storage, obj)
    assert dict(counts) == expected


def test_a_staged_upload_costs_five_requests_and_what_is_read(cloud: Cloud, storage: S3Storage) -> None:
    stage(storage)
    with counting(cloud.aws.s3) as counts, storage.receive(resuming=TOKEN) as incoming:
        assert incoming.stream.read() == DATA
        incoming.publish(KEY)
    assert dict(counts) == {"HeadObject": 2, "GetObject": 1, "CopyObject": 1, "DeleteObject": 1}


def test_an_object_is_read_anywhere(storage: S3Storage) -> None:
    data = random.Random(2).randbytes(200_000)
    obj = publish(storage, KEY, data)
    generator = random.Random(3)
    with storage.open(obj) as stream:
        for _ in range(200):
            start, size = generator.randrange(250_000), generator.choice([0, 1, 1000, 70_000, -1])
            if generator.random() < 0.5:
                start = stream.tell() + generator.choice([0, 0, -500, 500])
            start = max(0, start)
            stream.seek(start)
            assert stream.read(size) == (data[start:] if size < 0 else data[start : start + size])


def test_reading_goes_on_where_a_connection_broke(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(2).randbytes(300_000)
    obj = publish(storage, KEY, data)
    read, calls = StreamingBody.read, []

    def break_off(self: Any, amt: int | None = None) -> bytes:
        calls.append(amt)
        if len(calls) % 3 == 0:
            raise ConnectionResetError
        return read(self, None if amt is None else min(amt, 10_000))

    monkeypatch.setattr(StreamingBody, "read", break_off)
    with storage.open(obj) as stream:
        assert stream.read(1000) + stream.read() == data
    assert len(calls) > 30


def test_a_connection_that_always_breaks_is_an_error(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    obj = publish(storage)

    def break_off(*_: Any) -> bytes:
        raise ConnectionResetError

    monkeypatch.setattr(StreamingBody, "read", break_off)
    with storage.open(obj) as stream, pytest.raises(StorageError, match="again and again; try again"):
        stream.read()
    with pytest.raises(StorageError, match="again and again; try again"):
        storage.read_document(KEY)


def test_a_large_wheel_takes_one_request_for_its_end(
    cloud: Cloud, storage: S3Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path, extra_files={"noise": random.Random(1).randbytes(3 * MIB)})
    obj = publish(storage, path.name, path.read_bytes())
    read, sizes = StreamingBody.read, []

    def note(self: Any, amt: int | None = None) -> bytes:
        data = read(self, amt)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(StreamingBody, "read", note)
    with counting(cloud.aws.s3) as counts, storage.open(obj) as stream:
        assert read_core_metadata(stream, parse_filename(path.name)) is not None
    assert (dict(counts), sum(sizes), obj.sha256) == ({"GetObject": 1}, 256 * 1024, digest(path.read_bytes()))


def test_a_published_upload_is_given_out_as_it_is(storage: S3Storage) -> None:
    """Headers of the request are not signed but for some: an encoding, say, would have clients decode the file."""
    (put,) = storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA)).puts or ()
    assert send(put, DATA, **{"Content-Encoding": "gzip", "Content-Type": "text/html"}) == 200
    finish(storage)
    with requests.Session() as session:
        session.trust_env = False
        got = session.get(storage.download(KEY, "").url, timeout=30)
    assert (got.content, got.headers.get("Content-Encoding")) == (DATA, None)
    assert got.headers.get("Content-Type") != "text/html"


# What S3 knows of an object


def test_s3_proves_what_is_written_in_one_request(storage: S3Storage) -> None:
    assert publish(storage).sha256 == digest(DATA)
    assert storage.stat(KEY).sha256 == digest(DATA)


def test_the_digest_of_parts_proves_nothing(cloud: Cloud, storage: S3Storage, small: S3Storage, bucket: str) -> None:
    obj = publish(small, KEY, LARGE)
    assert (obj.size, obj.sha256, "-3-" in obj.fingerprint) == (len(LARGE), None, True)
    with storage.open(obj) as stream:
        assert digest(stream.read()) == digest(LARGE)
    assert unfinished(cloud, bucket) == []


@pytest.mark.parametrize(
    "parsed",
    [
        {"ChecksumSHA256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=", "ChecksumType": "COMPOSITE"},
        {"ChecksumSHA256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=-3"},
        {
            "ChecksumSHA256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
            "ETag": '"9e107d9d372bb6826bd81d3542a419d6-2"',
        },
        {"ChecksumSHA256": "n4bQgYhMfWWaL+qg"},
        {"ChecksumCRC32": "AAAAAA=="},
    ],
)
def test_what_is_no_digest_of_all_bytes_is_not_taken_for_one(
    cloud: Cloud, storage: S3Storage, parsed: dict[str, str]
) -> None:
    answer = {"ETag": '"9e107d9d"', "ContentLength": 4, "LastModified": datetime.now(UTC)} | parsed
    with answering(cloud, "HeadObject", lambda: (Answer(200), answer)):
        assert storage.stat(KEY).sha256 is None


@pytest.mark.parametrize("key", ["a/a+b.zip", "a/a b.zip", "a/ä.zip", "a/%2B.zip", "a/a,b;c=d&e?f#g.zip", "a/~_-.zip"])
def test_keys_of_any_characters_are_found_again(storage: S3Storage, key: str) -> None:
    obj = publish(storage, key, key.encode())
    (listed,) = storage.list()
    assert (listed.key, listed.fingerprint) == (key, obj.fingerprint)
    assert fetch(storage, key) == key.encode()
    stage(storage)
    assert storage.stat(finish(storage, f"copy/{key}").key).size == len(DATA)


def test_our_own_things_are_jumped_over(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    wanted = ["!.zip", ".elasticpypi-not.zip", "a.zip", "b/b.zip"]
    for key in (*wanted, ".elasticpypi/origins/a.json", *(f".elasticpypi/pages/{n}" for n in range(3))):
        cloud.aws.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    with counting(cloud.aws.s3) as counts:
        assert [obj.key for obj in storage.list()] == wanted
    assert counts == {"ListObjectsV2": 2}
    with counting(cloud.aws.s3) as counts:
        assert list(storage.notes()) == [".elasticpypi/origins/a.json"]
    assert counts == {"ListObjectsV2": 2}


def test_keys_that_no_client_could_ask_for_are_left_out(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    """Such as consoles make for a "folder"."""
    for key in ("acme/", "acme//a.zip", "acme/a.zip"):
        cloud.aws.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [obj.key for obj in storage.list()] == ["acme/a.zip"]


def test_a_long_listing_comes_in_pages(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    expected = [f"a/{number:04}.zip" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: cloud.aws.s3.put_object(Bucket=bucket, Key=key), expected))
    with counting(cloud.aws.s3) as counts:
        assert [obj.key for obj in storage.list("a/")] == expected
    assert counts == {"ListObjectsV2": 2}


# Versions


def versions(cloud: Cloud, bucket: str) -> tuple[int, int]:
    """Return how many versions and how many delete markers there are."""
    found = cloud.aws.s3.list_object_versions(Bucket=bucket)
    return len(found.get("Versions", ())), len(found.get("DeleteMarkers", ()))


def test_what_is_removed_from_a_versioned_bucket_is_missing_and_may_come_again(
    cloud: Cloud, storage: S3Storage, bucket: str
) -> None:
    first = publish(storage)
    second = publish(storage, KEY, b"other", replacing=first.fingerprint)
    storage.remove(KEY, fingerprint=second.fingerprint)
    assert versions(cloud, bucket) == (2, 1)
    assert list(storage.list()) == []
    for ask in (storage.stat, storage.read_document):
        with pytest.raises(ObjectMissingError):
            ask(KEY)
    with pytest.raises(ConflictError):
        publish(storage, KEY, b"never", replacing=second.fingerprint)
    with pytest.raises(ObjectMissingError):
        storage.remove(KEY, fingerprint=second.fingerprint)
    assert publish(storage, KEY, b"third").size == 5


def test_another_object_is_not_removed(cloud: Cloud, storage: S3Storage) -> None:
    first = publish(storage)
    second = publish(storage, KEY, b"other", replacing=first.fingerprint)
    with pytest.raises(ConflictError):
        storage.remove(KEY, fingerprint=first.fingerprint)
    with pytest.raises(ConflictError):  # the same bytes, written earlier
        storage.remove(KEY, fingerprint=f"{second.fingerprint.rpartition('-')[0]}-1")
    # Nor where it comes between looking and removing:
    seen = {"ETag": '"00"', "ContentLength": 4, "LastModified": datetime.now(UTC).replace(microsecond=0)}
    with answering(cloud, "HeadObject", lambda: (Answer(200), seen)):
        fingerprint = storage.stat(KEY).fingerprint
        with pytest.raises(ConflictError):
            storage.remove(KEY, fingerprint=fingerprint)
    assert storage.stat(KEY) == second


def test_what_was_replaced_before_it_was_read_back_is_a_conflict(cloud: Cloud, storage: S3Storage) -> None:
    """Else what is known of our bytes would be believed of others."""
    theirs = {"ETag": '"00"', "ContentLength": 4, "LastModified": datetime.now(UTC)}
    with answering(cloud, "HeadObject", lambda: (Answer(200), theirs)), pytest.raises(ConflictError):
        publish(storage)


@pytest.mark.parametrize("races", [1, 99])
def test_a_race_that_s3_cannot_decide_is_run_again(cloud: Cloud, storage: S3Storage, races: int) -> None:
    left = [failure("409 ConditionalRequestConflict")] * races
    with answering(cloud, "PutObject", lambda: left.pop()() if left else None):
        if races == 1:
            assert publish(storage).size == len(DATA)
        else:
            with pytest.raises(ConflictError):
                publish(storage)


# Signed URLs


def _same(now: datetime) -> datetime:
    return now


def test_a_download_is_the_same_url_for_ten_minutes(cloud: Cloud, bucket: str) -> None:
    start = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)
    times = [start + timedelta(minutes=minutes) for minutes in (0, 5, 9.9, 10, 19)]
    urls = [S3Storage(cloud.aws, bucket, clock=partial(_same, now)).download(KEY, "").url for now in times]
    assert [urls.index(url) for url in urls] == [0, 0, 0, 3, 3]
    query = parse_qs(urlsplit(urls[0]).query)
    assert (query["X-Amz-Date"], query["X-Amz-Expires"]) == (["20261122T213000Z"], ["1800"])


WITH_TOKEN = Credentials("AKIDEXAMPLE", "secret/key+", "token/with+signs==")


@pytest.mark.parametrize("credentials", [WITH_TOKEN, Credentials("AKIDEXAMPLE", "secret")])
@pytest.mark.parametrize("key", ["acme/acme-1.0+local-py3-none-any.whl", "a b/ä~_,;=.zip"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:5000"])
def test_urls_are_signed_as_boto3_signs_them(
    monkeypatch: pytest.MonkeyPatch, credentials: Credentials, key: str, endpoint: str | None
) -> None:
    at = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: at)
    client = boto3.session.Session().client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        config=Config(
            signature_version="s3v4", s3={"addressing_style": "virtual"}, request_checksum_calculation="when_required"
        ),
    )
    theirs = client.generate_presigned_url("get_object", Params={"Bucket": "files-of-acme", "Key": key}, ExpiresIn=1800)
    url = object_url("files-of-acme", key, region="eu-central-1", endpoint=endpoint)
    ours = sign_url("GET", url, region="eu-central-1", credentials=credentials, at=at, valid_seconds=1800)
    assert url == theirs.partition("?")[0]
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)
    put = {"content-length": "10", "if-none-match": "*"}
    params = {"Bucket": "files-of-acme", "Key": key, "ContentLength": 10, "IfNoneMatch": "*"}
    theirs = client.generate_presigned_url("put_object", Params=params, ExpiresIn=60)
    ours = sign_url("PUT", url, region="eu-central-1", credentials=credentials, at=at, valid_seconds=60, headers=put)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)


@pytest.mark.parametrize(
    ("region", "bucket", "endpoint", "expected"),
    [
        ("eu-central-1", "acme", None, "https://acme.s3.eu-central-1.amazonaws.com/a%2Bb/c.zip"),
        ("us-east-1", "acme", None, "https://acme.s3.us-east-1.amazonaws.com/a%2Bb/c.zip"),
        ("cn-north-1", "acme", None, "https://acme.s3.cn-north-1.amazonaws.com.cn/a%2Bb/c.zip"),
        ("eusc-de-east-1", "acme", None, "https://acme.s3.eusc-de-east-1.amazonaws.eu/a%2Bb/c.zip"),
        ("us-gov-west-1", "acme", None, "https://acme.s3.us-gov-west-1.amazonaws.com/a%2Bb/c.zip"),
        ("eu-central-1", "acme.org", None, "https://s3.eu-central-1.amazonaws.com/acme.org/a%2Bb/c.zip"),
        ("eu-central-1", "acme", "http://127.0.0.1:1/", "http://127.0.0.1:1/acme/a%2Bb/c.zip"),
    ],
)
def test_an_object_has_a_url_of_its_region(region: str, bucket: str, endpoint: str | None, expected: str) -> None:
    assert object_url(bucket, "a+b/c.zip", region=region, endpoint=endpoint) == expected


def test_hosts_of_every_partition_end_as_botocore_has_it() -> None:
    partitions = botocore.session.Session().get_component("data_loader").load_data("partitions")["partitions"]
    assert len(partitions) >= 8
    for partition in partitions:
        for region in partition["regions"]:
            if "global" not in region:
                host = f"https://acme.s3.{region}.{partition['outputs']['dnsSuffix']}/key"
                assert object_url("acme", "key", region=region, endpoint=None) == host


def test_a_download_makes_no_client(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    aws = AWS()
    monkeypatch.setattr(aws, "client", None)
    assert S3Storage(aws, "acme").download(KEY, "").url.startswith(f"{cloud.url}/acme/{KEY}?X-Amz-Algorithm=")


def test_signed_urls_are_not_shown(storage: S3Storage) -> None:
    slot = storage.begin(TOKEN, size=4, sha256="00" * 32)
    assert "X-Amz" not in repr(slot) + repr(storage.download(KEY, ""))


def test_without_credentials_nothing_is_signed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    storage = S3Storage(AWS(), "acme")
    with pytest.raises(StorageError, match="there are no credentials"):
        storage.download(KEY, "")
    with pytest.raises(StorageError, match="there are no credentials"):
        storage.check()


# Uploads by signed requests


def test_a_page_of_another_origin_may_send_what_was_signed(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    slot = storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA))
    assert slot.puts is not None
    (signed,) = slot.puts
    own = {name.lower() for name in signed.headers} - {"content-length"}  # which browsers set themselves
    asked = {"Origin": "https://pypi.example.org", "Access-Control-Request-Method": "PUT"}
    asked["Access-Control-Request-Headers"] = ",".join(sorted(own))
    refused = requests.options(signed.url, headers=asked, timeout=60)
    cloud.aws.s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [CORS]})
    allowed = requests.options(signed.url, headers=asked, timeout=60).headers
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert allowed["Access-Control-Allow-Origin"] in ("*", "https://pypi.example.org")
    assert allowed["Access-Control-Allow-Methods"] == "PUT"
    assert {*allowed["Access-Control-Allow-Headers"].split(", ")} == own
    answer = requests.put(signed.url, data=DATA, headers={**signed.headers, "Origin": asked["Origin"]}, timeout=60)
    assert (answer.status_code, "Access-Control-Allow-Origin" in answer.headers) == (200, True)


def test_an_upload_is_staged_by_one_signed_request(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    slot = storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA))
    assert slot.puts is not None
    (put,) = slot.puts
    assert (slot.received, put.offset, put.size) == (0, 0, len(DATA))
    query = parse_qs(urlsplit(put.url).query)
    pinned = "content-length;host;if-none-match;x-amz-checksum-sha256;x-amz-sdk-checksum-algorithm"
    assert query["X-Amz-SignedHeaders"] == [pinned]
    with pytest.raises(ObjectMissingError, match="the upload"):
        storage.received(TOKEN)  # that somebody may send it, S3 does not know
    assert send(put, DATA) == 200
    assert (storage.received(TOKEN), list(storage.list())) == (len(DATA), [])
    assert storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA)).puts == ()
    assert send(put, DATA) == 412
    with storage.receive(resuming=TOKEN) as incoming:
        assert (incoming.size, incoming.sha256, incoming.stream.read()) == (len(DATA), digest(DATA), DATA)
        obj = incoming.publish(KEY)
        incoming.drop()
    assert (storage.stat(KEY), obj.sha256) == (obj, digest(DATA))
    assert everything(cloud, bucket) == [KEY]


@pytest.mark.parametrize("data", [b"same bytes", b"", DATA + b"!"])
def test_other_bytes_than_those_announced_are_not_staged(storage: S3Storage, data: bytes) -> None:
    (put,) = storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA)).puts or ()
    status = send(replace(put, size=len(data)), data, **{"Content-Length": str(len(data))})
    assert status == 400
    with pytest.raises(ObjectMissingError):
        storage.received(TOKEN)


def test_an_upload_in_parts_goes_on_where_it_was_left(cloud: Cloud, small: S3Storage, bucket: str) -> None:
    slot = small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE))
    assert slot.puts is not None
    assert [(put.offset, put.size) for put in slot.puts] == [
        (0, LEAST_PART),
        (LEAST_PART, LEAST_PART),
        (2 * LEAST_PART, 1000),
    ]
    assert small.received(TOKEN) == 0
    assert [send(slot.puts[2], LARGE), send(slot.puts[0], LARGE)] == [200, 200]
    assert small.received(TOKEN) == LEAST_PART + 1000
    with small.receive(resuming=TOKEN) as incoming:
        assert incoming.size == LEAST_PART + 1000  # whoever asks for more finds it unfinished, and leaves it so
    slot = small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE))
    assert slot.puts is not None
    assert (slot.received, [put.offset for put in slot.puts]) == (LEAST_PART + 1000, [LEAST_PART])
    assert send(slot.puts[0], LARGE) == 200
    slot = small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE))
    assert (slot.received, slot.puts) == (len(LARGE), ())
    assert unfinished(cloud, bucket) == [STAGED]
    with small.receive(resuming=TOKEN) as incoming:
        assert (incoming.size, incoming.sha256) == (len(LARGE), None)
        assert digest(incoming.stream.read()) == digest(LARGE)
    assert (small.received(TOKEN), unfinished(cloud, bucket)) == (len(LARGE), [])
    assert small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE)).puts == ()
    obj = finish(small)
    assert (obj.size, small.stat(KEY), everything(cloud, bucket)) == (len(LARGE), obj, [KEY])
    with small.open(obj) as stream:
        assert digest(stream.read()) == digest(LARGE)


def test_uploads_in_parts_are_kept_apart(small: S3Storage) -> None:
    for token in ("ab", "abc"):
        small.begin(token, size=len(LARGE), sha256=digest(LARGE))
    (first, *_) = small.begin("abc", size=len(LARGE), sha256=digest(LARGE)).puts or ()
    assert send(first, LARGE) == 200
    with small.receive(resuming="ab") as incoming:
        incoming.drop()
    with pytest.raises(ObjectMissingError):
        small.received("ab")
    assert small.received("abc") == LEAST_PART
    with pytest.raises(ObjectMissingError):
        small.received("a")


def test_parts_are_published_without_reading_them(small: S3Storage) -> None:
    stage(small, LARGE)
    assert finish(small).size == len(LARGE)


def test_a_large_upload_that_loses_its_place_stays(cloud: Cloud, small: S3Storage, bucket: str) -> None:
    first = publish(small)
    stage(small, LARGE)
    with small.receive(resuming=TOKEN) as incoming:
        with pytest.raises(ConflictError):
            incoming.publish(KEY)
        assert unfinished(cloud, bucket) == []
        assert incoming.publish(KEY, replacing=first.fingerprint).size == len(LARGE)
    assert everything(cloud, bucket) == [KEY]


def test_an_upload_that_loses_its_place_may_still_be_published_elsewhere(storage: S3Storage) -> None:
    first = publish(storage, KEY, b"other")
    stage(storage)
    with pytest.raises(ConflictError):
        finish(storage)
    with pytest.raises(ConflictError):
        finish(storage, "acme/none.zip", replacing=first.fingerprint)
    assert storage.received(TOKEN) == len(DATA)
    assert finish(storage, replacing=first.fingerprint).sha256 == digest(DATA)


def drop(cloud: Cloud, bucket: str) -> None:
    cloud.aws.s3.delete_object(Bucket=bucket, Key=STAGED)


def replace_staged(cloud: Cloud, bucket: str) -> None:
    cloud.aws.s3.put_object(Bucket=bucket, Key=STAGED, Body=LARGE[1:])


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize(("lose", "expected"), [(drop, ObjectMissingError), (replace_staged, BusyError)])
def test_a_source_that_is_gone_or_another_is_no_conflict_about_the_target(
    cloud: Cloud,
    storage: S3Storage,
    small: S3Storage,
    bucket: str,
    lose: Callable[[Cloud, str], None],
    expected: type[ElasticpypiError],
    *,
    is_large: bool,
) -> None:
    chosen = small if is_large else storage
    present = publish(storage, "acme/present.zip")
    for key, replacing in (("acme/none.zip", None), (present.key, present.fingerprint)):
        stage(chosen, LARGE)
        with chosen.receive(resuming=TOKEN) as incoming:
            incoming.stream.read()
            lose(cloud, bucket)
            with pytest.raises(expected, match="the upload") as caught:
                incoming.publish(key, replacing=replacing)
            assert TOKEN not in str(caught.value)
            with pytest.raises(ConflictError, match=r"acme/present\.zip"):  # as when somebody else has finished it
                incoming.publish(present.key)
        assert unfinished(cloud, bucket) == []
        drop(cloud, bucket)


def test_an_upload_that_changes_while_it_is_read_is_told_without_its_token(
    cloud: Cloud, storage: S3Storage, bucket: str
) -> None:
    stage(storage)
    with storage.receive(resuming=TOKEN) as incoming:
        incoming.stream.seek(-1, 2)
        replace_staged(cloud, bucket)
        with pytest.raises(BusyError, match="the upload is changing") as caught:
            incoming.stream.read()
        assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("is_large", [False, True])
def test_an_upload_that_is_dropped_leaves_nothing(
    cloud: Cloud, small: S3Storage, bucket: str, *, is_large: bool
) -> None:
    stage(small, LARGE if is_large else DATA)
    with small.receive(resuming=TOKEN) as incoming:
        incoming.drop()
        incoming.drop()
    assert (everything(cloud, bucket), unfinished(cloud, bucket)) == ([], [])
    for ask in (lambda: small.received(TOKEN), lambda: small.receive(resuming=TOKEN).__enter__()):
        with pytest.raises(ObjectMissingError):
            ask()


def test_other_bytes_under_the_staging_key_are_removed(cloud: Cloud, storage: S3Storage, bucket: str) -> None:
    cloud.aws.s3.put_object(Bucket=bucket, Key=STAGED, Body=b"others")
    assert storage.begin(TOKEN, size=len(DATA), sha256=digest(DATA)).received == 0
    stage(storage)
    assert finish(storage).sha256 == digest(DATA)


def test_an_empty_upload(storage: S3Storage) -> None:
    stage(storage, b"")
    with storage.receive(resuming=TOKEN) as incoming:
        assert (incoming.stream.read(), incoming.publish(KEY).size) == (b"", 0)


def test_bytes_of_a_staged_upload_do_not_come_through_us(storage: S3Storage) -> None:
    stage(storage)
    with storage.receive(resuming=TOKEN) as incoming, pytest.raises(StorageError, match="ask for a slot"):
        incoming.write(b"more")


@pytest.mark.parametrize("is_large", [False, True])
def test_of_many_that_finish_an_upload_at_once_one_publishes_it(small: S3Storage, *, is_large: bool) -> None:
    stage(small, LARGE if is_large else DATA)

    def try_to_finish(_: int) -> bool:
        with suppress(ConflictError, ObjectMissingError):
            finish(small)
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(try_to_finish, range(4))) == 1
    assert small.stat(KEY).size == len(LARGE if is_large else DATA)


def test_two_that_begin_in_parts_at_once_bring_parts_of_one_upload(small: S3Storage) -> None:
    with ThreadPoolExecutor(4) as pool:
        slots = list(pool.map(lambda _: small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE)), range(4)))
    assert small.received(TOKEN) == 0
    last = small.begin(TOKEN, size=len(LARGE), sha256=digest(LARGE))
    assert last.puts is not None
    ids = {parse_qs(urlsplit(put.url).query)["uploadId"][0] for slot in (last,) for put in slot.puts or ()}
    assert len(ids) == 1
    assert all(len(slot.puts or ()) == 3 for slot in slots)
    for put in last.puts:
        send(put, LARGE)
    assert finish(small).size == len(LARGE)


def test_a_large_file_may_come_through_us(cloud: Cloud, small: S3Storage, bucket: str) -> None:
    first = publish(small, KEY, LARGE)
    with pytest.raises(ConflictError):
        publish(small, KEY, LARGE)
    assert publish(small, KEY, LARGE[1:], replacing=first.fingerprint).size == len(LARGE) - 1
    assert unfinished(cloud, bucket) == []


@pytest.mark.parametrize(
    ("size", "part_bytes", "count", "first"),
    [
        (5 * 2**30 + 1, 64 * MIB, 81, 64 * MIB),
        (64 * MIB * 10_000, 64 * MIB, 10_000, 64 * MIB),
        (64 * MIB * 10_000 + 1, 64 * MIB, 9847, 65 * MIB),
        (5 * 2**40, 64 * MIB, 9987, 525 * MIB),
    ],
)
def test_there_are_never_more_than_10000_parts(size: int, part_bytes: int, count: int, first: int) -> None:
    parts = list(divide(size, part_bytes).parts())
    assert (len(parts), parts[0]) == (count, (1, 0, first))
    assert sum(part[2] for part in parts) == size
    assert all(end[1] == start[1] + start[2] for start, end in pairwise(parts))


def test_what_nobody_finished_is_removed_after_a_day(cloud: Cloud, small: S3Storage, bucket: str) -> None:
    publish(small)
    stage(small, DATA, "a")
    small.begin("b", size=len(LARGE), sha256=digest(LARGE))
    with beginning_now(cloud):
        small.remove_abandoned()
        assert (small.received("a"), small.received("b")) == (len(DATA), 0)

        tomorrow = datetime.now(UTC) + timedelta(hours=24, seconds=2)
        S3Storage(cloud.aws, bucket, clock=lambda: tomorrow).remove_abandoned()
    assert (everything(cloud, bucket), unfinished(cloud, bucket)) == ([KEY], [])


@contextmanager
def beginning_now(cloud: Cloud) -> Iterator[None]:
    """Have multipart uploads begin now: to moto, all of them began in 2010."""

    def correct(parsed: dict[str, Any], **_: Any) -> None:
        for upload in parsed.get("Uploads", ()):
            upload["Initiated"] = datetime.now(UTC)

    event = "after-call.s3.ListMultipartUploads"
    cloud.aws.s3.meta.events.register(event, correct)
    try:
        yield
    finally:
        cloud.aws.s3.meta.events.unregister(event, correct)


def test_a_document_is_given_out_with_its_headers(storage: S3Storage) -> None:
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "identity"}
    storage.write_document(".elasticpypi/pages/acme", b"<html>", replacing=None, headers=headers)
    with requests.Session() as session:
        session.trust_env = False
        got = session.get(storage.download(".elasticpypi/pages/acme", "").url, timeout=30)
    assert {name: got.headers.get(name) for name in headers} == headers
    assert list(storage.notes()) == []


# Errors


DENIED = "S3 refuses access to the bucket"
LATER = "try again in a moment"


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        ("403 AccessDenied", UnreadableObjectError, "acme.*refuses it .AccessDenied., but not the bucket: allow"),
        ("400 InvalidRequest", UnreadableObjectError, "without a key or an owner of its own"),
        ("403 InvalidObjectState", UnreadableObjectError, "restore it"),
        ("403 ExpiredToken", StorageError, "ExpiredToken.*renew them"),
        ("403 RequestTimeTooSkewed", StorageError, "look at the clock"),
        ("404 NoSuchBucket", StorageError, "there is no bucket"),
        ("404 NoSuchKey", ObjectMissingError, "has no object"),
        ("412 PreconditionFailed", BusyError, "is changing"),
        ("416 InvalidRange", BusyError, "is changing"),
        ("503 SlowDown", StorageError, LATER),
        ("500 InternalError", StorageError, LATER),
        ("400 RequestTimeout", StorageError, LATER),
        ("400 KMS.DisabledException", UnreadableObjectError, "KMS.DisabledException"),
        ("timeout", StorageError, r"cannot be reached \(ConnectTimeoutError\)"),
    ],
)
def test_errors_of_s3_are_ours_and_name_the_remedy(
    cloud: Cloud, storage: S3Storage, answer: str, expected: type[ElasticpypiError], message: str
) -> None:
    obj = publish(storage)
    with answering(cloud, "GetObject", failure(answer)), storage.open(obj) as stream:
        with pytest.raises(expected, match=message) as caught:
            stream.read()
        assert type(caught.value) is expected
        assert STAGED not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("403 AccessDenied", f"{DENIED} .*s3:ListBucket"),
        ("403 403", DENIED),
        ("400 AuthorizationHeaderMalformed", "check credentials, bucket and region"),
    ],
)
def test_what_is_refused_with_its_bucket_is_not_one_object(
    cloud: Cloud, storage: S3Storage, answer: str, message: str
) -> None:
    publish(storage)
    with (
        answering(cloud, "HeadObject", failure(answer)),
        answering(cloud, "HeadBucket", failure(answer)),
        pytest.raises(StorageError, match=message) as caught,
    ):
        storage.stat(KEY)
    assert type(caught.value) is StorageError


OUTAGES: dict[str, tuple[str, Callable[[S3Storage], object]]] = {
    "stat": ("HeadObject", lambda storage: storage.stat(KEY)),
    "list": ("ListObjectsV2", lambda storage: list(storage.list())),
    "notes": ("ListObjectsV2", lambda storage: [*storage.notes()]),
    "read_document": ("GetObject", lambda storage: storage.read_document(KEY)),
    "write_document": ("PutObject", lambda storage: storage.write_document("a", b"", replacing=None)),
    "remove": ("DeleteObject", lambda storage: storage.remove(KEY, fingerprint=storage.stat(KEY).fingerprint)),
    "check": ("HeadBucket", lambda storage: storage.check()),
    "finish": ("CopyObject", finish),
    "received": ("ListMultipartUploads", lambda storage: storage.received("none")),
    "remove_abandoned": ("ListMultipartUploads", lambda storage: storage.remove_abandoned()),
    "begin": ("HeadObject", lambda storage: storage.begin(TOKEN, size=1, sha256="00" * 32)),
}


@pytest.mark.parametrize("asked", OUTAGES)
@pytest.mark.parametrize("answer", ["503 SlowDown", "403 AccessDenied", "timeout"])
def test_an_outage_is_never_taken_for_nothing_being_there(
    cloud: Cloud, storage: S3Storage, asked: str, answer: str
) -> None:
    operation, ask = OUTAGES[asked]
    publish(storage)
    stage(storage)
    with answering(cloud, operation, failure(answer)), pytest.raises(StorageError):
        ask(storage)


def test_a_bucket_that_is_not_there_is_an_error_and_not_empty(cloud: Cloud) -> None:
    storage = S3Storage(cloud.aws, "bucket-of-nobody")
    for ask in (
        storage.check,
        lambda: storage.stat(KEY),
        lambda: list(storage.list()),
        lambda: storage.read_document(KEY),
        lambda: publish(storage),
        lambda: storage.received(TOKEN),
        lambda: storage.begin(TOKEN, size=4, sha256="00" * 32),
    ):
        with pytest.raises(StorageError, match="there is no bucket 'bucket-of-nobody': make it, or correct 'bucket'"):
            ask()
