"""How what is missing comes to be: the stack makes bucket and table anew, and fails where they are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from botocore.exceptions import ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import DEPLOY, FIX, Deployment

# They stay when a stack is removed, so this is also how one comes back.
TAKE_OVER = f'add "take_over": true to the configuration, run {DEPLOY}, and then {FIX}'
_NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


def find_queue(aws: AWS, name: str) -> tuple[str, Mapping[str, str]] | None:
    """Return a queue's URL and attributes; None where there is none."""
    try:
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return url, cast(Mapping[str, str], found)
    except ClientError as error:
        if error_code(error) in _NO_QUEUE:
            return None
        raise


def how_to_deploy(aws: AWS, names: Deployment) -> str:
    """Return what to do where the queues are missing, which means that there is no stack."""
    if names.take_over:
        return f"run {DEPLOY}, and then {FIX}"
    if _has_bucket(aws, names):
        return f"{names.bucket!r} is there already, and {DEPLOY} would fail to make it: {TAKE_OVER}"
    if not names.is_alone and _answers(lambda: aws.dynamodb.describe_table(TableName=names.table)):
        return f"name another one in 'table', for {names.table!r} is there already, and run {DEPLOY}, which makes both"
    return f"run {DEPLOY}"


def must_be_taken_over(aws: AWS, names: Deployment) -> bool:
    """Whether no deployment can make the table, because the bucket is there and not of a stack that is."""
    return not names.take_over and not _is_deployed(aws, names) and _has_bucket(aws, names)


def _has_bucket(aws: AWS, names: Deployment) -> bool:
    return _answers(lambda: aws.s3.head_bucket(Bucket=names.bucket))


def _is_deployed(aws: AWS, names: Deployment) -> bool:
    try:
        return find_queue(aws, names.queue) is not None
    except ClientError:
        return True  # may be: the look at the queue says why that is not known


def _answers(ask: Callable[[], object]) -> bool:
    """Whether AWS tells of something; that it may not be asked for is told where it is looked at itself."""
    try:
        ask()
    except ClientError:
        return False
    return True
