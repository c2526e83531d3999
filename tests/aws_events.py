"""Builders of what AWS hands to a Lambda function, and of what comes with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

BUCKET = "acme-files"
TIME = "2026-11-22T12:00:00.000Z"
_numbers = itertools.count(1)


@dataclass
class Invocation:
    """A context: an invocation that has so much time left, always."""

    milliseconds: int = 60_000
    aws_request_id: str = "b3c1f0a2"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def s3_record(
    key: str,
    *,
    bucket: str = BUCKET,
    name: str = "ObjectCreated:Put",
    time: str = TIME,
    size: int | None = 1024,
    version: str | None = None,
    sequencer: str = "00657D1B0F",
) -> dict[str, Any]:
    """Return one record of a notification; removals have neither size nor ETag, and the key comes form-encoded."""
    described: dict[str, Any] = {"key": quote_plus(key, safe="/"), "sequencer": sequencer}
    if name.startswith("ObjectCreated") and size is not None:
        described |= {"size": size, "eTag": "d41d8cd98f00b204e9800998ecf8427e"}
    if version is not None:
        described["versionId"] = version
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": time,
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AROAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"x-amz-request-id": "EXAMPLE123456789", "x-amz-id-2": "EXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "elasticpypi",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "EXAMPLE"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": described,
        },
    }


def s3_event(*records: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notification, as a function gets it without a queue, and a queue as a message's body."""
    return {"Records": list(records)}


def s3_test_event(*, bucket: str = BUCKET) -> dict[str, Any]:
    """Return what S3 sends when notifications are set up."""
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": TIME,
        "Bucket": bucket,
        "RequestId": "EXAMPLE123456789",
        "HostId": "EXAMPLE",
    }


def sqs_message(body: object, *, identifier: str | None = None) -> dict[str, Any]:
    """Return one message of a batch; a body that is no text becomes JSON."""
    return {
        "messageId": identifier or f"message-{next(_numbers)}",
        "receiptHandle": "EXAMPLE",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795000000000",
            "SenderId": "AIDAEXAMPLE",
            "ApproximateFirstReceiveTimestamp": "1795000000001",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:acme-dev-events",
        "awsRegion": "eu-central-1",
    }


def sqs_event(*messages: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch of messages, as a function gets it from a queue."""
    return {"Records": list(messages)}


def failed_messages(answer: Mapping[str, Any] | None) -> set[str]:
    """Return which messages of a batch come again."""
    assert answer is not None
    assert set(answer) == {"batchItemFailures"}
    identifiers = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
    assert len(identifiers) == len(set(identifiers))
    return set(identifiers)
