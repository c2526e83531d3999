"""An AWS on loopback: moto's server in a process of its own, and buckets and tables as a deployment makes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.aws import AWS
from tests import dynamodb_rules
from tests.running import free_port, wait_for

REGION = "eu-central-1"
# Of nobody: moto takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}


@dataclass(frozen=True)
class Cloud:
    """A running moto server."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes boto3, the aws command and osls talk to it, and to nothing else."""
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def aws(self) -> AWS:
        """Clients of it, in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            aws = AWS(region=REGION)
            for name in ("dynamodb", "s3", "s3_writing", "s3_copying", "sqs"):
                client = getattr(aws, name)  # made while the variables are set
                if name.startswith("s3"):
                    client.meta.events = aws.s3.meta.events  # whoever counts or answers means all of them
            dynamodb_rules.enforce(aws.dynamodb)
            return aws

    def make_bucket(self) -> str:
        """Make a versioned bucket, as a deployment does, and return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.aws.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})  # type: ignore[typeddict-item]
        self.aws.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def make_table(self) -> str:
        """Make a table with the keys of `catalog.dynamodb`, and return its name."""
        name = f"table-{uuid.uuid4().hex[:12]}"
        self.aws.dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        return name


@contextmanager
def counting(client: Any) -> Iterator[Counter[str]]:
    """Count the operations that a client is asked for until the context ends, by name; retries count once."""
    counts: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        counts[model.name] += 1

    client.meta.events.register("before-call", count)
    try:
        yield counts
    finally:
        client.meta.events.unregister("before-call", count)


@contextmanager
def running_cloud(directory: Path) -> Iterator[Cloud]:
    """Run a moto server until the context ends."""
    port = free_port()
    with (directory / f"moto-{port}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.moto_server", "-H", "127.0.0.1", "-p", str(port)],
            cwd=Path(__file__).parents[1],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            | CREDENTIALS
            | {"MOTO_DISABLE_GLOBAL_CORS": "true"},  # else every answer lets every page in, whatever a bucket says
        )
    try:
        cloud = Cloud(f"http://127.0.0.1:{port}")
        wait_for(lambda: _answers(port), seconds=60)
        yield cloud
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
