"""An index on AWS for measurements: moto's server on loopback, a bucket, a table, the variables of its functions."""

from __future__ import annotations

import base64
import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.wheels import wheel_file, wheel_name
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.index import Index
from elasticpypi.storage.s3 import S3Storage
from tests.aws import REGION, Cloud, running_cloud
from tests.aws_events import s3_event, s3_record
from tests.gateway import http_event, rest_event

PROJECT = "acme"
CREDENTIALS = ("Authorization", "Basic " + base64.b64encode(b"admin:secret").decode())
# What pip sends.
READING = (
    CREDENTIALS,
    ("Accept", "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"),
    ("Accept-Encoding", "gzip, deflate"),
)
EVENTS = {"rest": rest_event, "http": http_event}


@dataclass(frozen=True, slots=True)
class CloudIndex:
    """An index whose project PROJECT has `files` files."""

    cloud: Cloud
    bucket: str
    table: str
    queue_url: str
    files: int
    index: Index = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its functions, the same for all."""
        return {
            **self.cloud.environment,
            "AWS_REGION": REGION,
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "ELASTICPYPI_REGION": REGION,
            "ELASTICPYPI_BUCKET": self.bucket,
            "ELASTICPYPI_TABLE": self.table,
            "ELASTICPYPI_USERNAME": "admin",
            "ELASTICPYPI_PASSWORD": "secret",
            "QUEUE_URL": self.queue_url,
            "LANG": "C.UTF-8",
        }

    def put(self, key: str, content: bytes) -> None:
        """Put an object into the bucket, as anybody may."""
        self.cloud.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=content)


@contextmanager
def running_index(directory: Path, *, files: int = 10) -> Iterator[CloudIndex]:
    """Run a cloud with an index, looked through once and with its page kept, until the context ends."""
    with running_cloud(directory) as cloud:
        bucket, table = cloud.make_bucket(), cloud.make_table()
        index = Index(DynamoDBCatalog(cloud.aws, table), S3Storage(cloud.aws, bucket))
        queue_url = cloud.aws.sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex[:12]}")["QueueUrl"]
        made = CloudIndex(cloud, bucket, table, queue_url, files, index)
        for number in range(files):
            name = wheel_name(PROJECT, f"1.{number}")
            made.put(f"{PROJECT}/{name}", wheel_bytes(name, directory))
        index.sync()
        yield made


def wheel_bytes(name: str, directory: Path, *, size: int = 20_000) -> bytes:
    """Return a valid wheel of that name, of a little more than `size` bytes."""
    path = directory / name
    wheel_file(path, size)
    content = path.read_bytes()
    path.unlink()
    return content


def queue_event(bucket: str, *keys: str) -> dict[str, Any]:
    """Return the event of a batch: for each key a message that it was put just now."""
    return {
        "Records": [
            {
                "messageId": str(uuid.uuid4()),
                "receiptHandle": "handle",
                "body": json.dumps(s3_event(s3_record(key, bucket=bucket, time=_now()))),
                "attributes": {},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:events",
                "awsRegion": REGION,
            }
            for key in keys
        ]
    }


def page_event(gateway: str, *headers: tuple[str, str]) -> Mapping[str, Any]:
    """Return the event of a request for the project's page."""
    return EVENTS[gateway](path=f"/simple/{PROJECT}/", headers=[*READING, *headers])


def unpack(bundle: Path, directory: Path) -> int:
    """Unpack a bundle; return how many bytes it has then."""
    with zipfile.ZipFile(io.BytesIO(bundle.read_bytes())) as archive:
        archive.extractall(directory)
        return sum(info.file_size for info in archive.infolist())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
