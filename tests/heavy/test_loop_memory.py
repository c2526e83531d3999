"""A wheel of a gigabyte, put into the bucket as one object: what the deployed indexer reads of it, and its memory."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests import dists
from tests.between import Between, between
from tests.deployed import Deployment
from tests.loop import IndexOnAws, running_on_aws
from tests.running import wait_for

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
GIB, MIB = 2**30, 2**20
MORE_MEMORY = 24 * MIB  # than a wheel of some kilobytes takes, at most
LARGE = "large-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with a gigabyte of a model in it, not compressed."""
    directory = tmp_path_factory.mktemp("large")
    path = dists.make_wheel(directory, "large")
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive,
        archive.open("model.bin", "w", force_zip64=True) as f,
    ):
        for number in range(1024):
            f.write(number.to_bytes(4, "little") * (MIB // 4))
    return path


@pytest.fixture(scope="module")
def proxy(deployment: Deployment) -> Iterator[Between]:
    with between(deployment.cloud.url) as running:
        yield running


@pytest.fixture
def index(deployment: Deployment, proxy: Between, tmp_path: Path) -> Iterator[IndexOnAws]:
    with running_on_aws(deployment, tmp_path, workers=1, extra={"AWS_ENDPOINT_URL": proxy.url}) as running:
        for number in range(3):
            small = dists.make_wheel(tmp_path, "small", f"1.{number}")
            running.put(f"small/{small.name}", small.read_bytes())
        wait_for(lambda: len(running.listing("small") or ()) == 3)
        running.settle()
        yield running


def patient_client(deployment: Deployment) -> Any:
    config = Config(read_timeout=300, retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
    return boto3.client(
        "s3",
        endpoint_url=deployment.cloud.url,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=config,
    )


def digest_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def put_with_checksum(index: IndexOnAws, path: Path) -> None:
    checksum = base64.b64encode(digest_of(path)).decode()
    with path.open("rb") as body:
        patient_client(index.deployment).put_object(
            Bucket=index.places.bucket,
            Key=f"large/{path.name}",
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
        )


def put_in_parts(index: IndexOnAws, path: Path) -> None:
    """Put it as the aws command does: then S3 knows a checksum of checksums at best."""
    s3, place = patient_client(index.deployment), {"Bucket": index.places.bucket, "Key": f"large/{path.name}"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    parts = []
    with path.open("rb") as stream:
        for number, piece in enumerate(iter(lambda: stream.read(128 * MIB), b""), start=1):
            sent = s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=piece)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


@pytest.mark.parametrize(
    ("put", "at_least", "at_most"),
    [(put_with_checksum, 0, MIB), (put_in_parts, GIB, GIB + 64 * MIB)],
    ids=["sha256 known to S3", "sha256 unknown"],
)
def test_a_gigabyte_is_indexed_in_constant_memory(
    index: IndexOnAws, proxy: Between, wheel: Path, put: Any, at_least: int, at_most: int
) -> None:
    (worker,) = index.events.workers
    before, read_before = worker.peak_memory(), proxy.received["s3"]
    put(index, wheel)
    wait_for(lambda: index.listing("large"), seconds=300)
    index.settle(seconds=300)
    more, read = worker.peak_memory() - before, proxy.received["s3"] - read_before
    print(f"{put.__name__}: {before / MIB:.1f} MiB, {more / MIB:.1f} MiB more, {read:,} bytes read")  # noqa: T201
    assert index.listing("large") == {LARGE: digest_of(wheel).hex()}
    assert at_least <= read < at_most
    assert more < MORE_MEMORY
