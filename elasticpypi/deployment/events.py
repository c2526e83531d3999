"""How the indexer hears of objects: the bucket's notification, the queue, and the queue of what failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from elasticpypi.aws import AWS
from elasticpypi.deployment import DEPLOY, FIX, Deployment, Result, named_on_the_command_line
from elasticpypi.deployment.stack import find_queue, how_to_deploy

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import NotificationConfigurationTypeDef

EVENTS = ("s3:LifecycleExpiration:*", "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
_DESTINATIONS = {  # kinds of notification configurations -> what they call their destination
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
_LATE_SECONDS = 900.0


# The queue ---------------------------------------------------------------------------------------------------------


def check_queue(aws: AWS, names: Deployment) -> Result:
    """Look whether the queue is there, takes what the bucket sends, and is emptied."""
    queue = find_queue(aws, names.queue)
    if queue is None:
        return Result(f"there is no queue {names.queue!r}: this is not deployed yet", how_to_deploy(aws, names))
    _, attributes = queue
    partition = attributes["QueueArn"].split(":")[1]  # another one in China
    if not may_send(attributes.get("Policy"), f"arn:{partition}:s3:::{names.bucket}"):
        return Result(f"its policy does not let {names.bucket!r} send to it", f"run {DEPLOY}, which sets the policy")
    waiting, in_hand = _count(attributes), int(attributes["ApproximateNumberOfMessagesNotVisible"])
    found = f"{waiting} messages wait, {in_hand} are being worked on"
    age = _oldest_seconds(aws, names.queue) if waiting or in_hand else None
    if age is not None and age > _LATE_SECONDS:
        found = f"{found}, the oldest for {age / 60:.0f} minutes"
        logs = f"/aws/lambda/{names.indexer}"
        return Result(found, f"read in the log group {logs} what keeps the indexer, and whether it runs at all")
    return Result(found)


def check_dead_letters(aws: AWS, names: Deployment) -> Result:
    """Look whether messages failed for good."""
    queue = find_queue(aws, names.dead_letter_queue)
    if queue is None:
        return Result(f"there is no queue {names.dead_letter_queue!r}", how_to_deploy(aws, names))
    _, attributes = queue
    failed = _count(attributes)
    if failed:
        where = named_on_the_command_line(names, aws.region)
        move = f"`aws sqs start-message-move-task --source-arn {attributes['QueueArn']}{where}`"
        remedy = f"read in the log group /aws/lambda/{names.indexer} why, mend that, and have them tried again: {move}"
        return Result(f"{failed} messages failed for good", remedy)
    return Result("empty")


def _count(attributes: Mapping[str, str]) -> int:
    return int(attributes["ApproximateNumberOfMessages"])


def _oldest_seconds(aws: AWS, queue: str) -> float | None:
    """Return the age of the oldest message as CloudWatch knows it, a minute or two late; None where it knows none."""
    now = datetime.now(UTC)
    try:
        points = aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue}],
            StartTime=now - timedelta(minutes=10),
            EndTime=now,
            Period=60,  # seconds
            Statistics=["Maximum"],
        )["Datapoints"]
    except ClientError:
        return None  # who may not read metrics sees the number of messages all the same
    return max(points, key=lambda point: point["Timestamp"])["Maximum"] if points else None


def may_send(policy: str | None, bucket: str) -> bool:
    """Whether a queue's policy lets S3 send for a bucket, given by its ARN."""
    statements = json.loads(policy)["Statement"] if policy else []
    return any(_lets_send(statement, bucket) for statement in _listed(statements))


def _lets_send(statement: Mapping[str, Any], bucket: str) -> bool:
    principal = statement.get("Principal")
    services = _listed(principal.get("Service")) if isinstance(principal, Mapping) else _listed(principal)
    actions = {action.lower() for action in _listed(statement.get("Action"))}
    return (
        statement.get("Effect") == "Allow"
        and bool({"s3.amazonaws.com", "*"}.intersection(services))
        and bool({"sqs:sendmessage", "sqs:*", "*"} & actions)
        and all(any(fnmatchcase(bucket, pattern) for pattern in _listed(patterns)) for patterns in _sources(statement))
    )


def _sources(statement: Mapping[str, Any]) -> Iterator[object]:
    """Yield the patterns of each condition on the bucket that sends."""
    for condition in statement.get("Condition", {}).values():
        for key, patterns in condition.items():
            if key.lower() == "aws:sourcearn":
                yield patterns


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


# The bucket's notification -----------------------------------------------------------------------------------------


def check_notifications(aws: AWS, names: Deployment) -> Result:
    """Look whether the bucket tells the queue of every object that comes or goes."""
    queue = find_queue(aws, names.queue)
    if queue is None:
        return Result("there is no queue to which they could go", how_to_deploy(aws, names))
    arn = queue[1]["QueueArn"]
    present = _notifications(aws, names)
    if tells_all(present, arn):
        return Result("the queue hears of every object")
    other = find_overlap(present, arn, name=names.notification)
    if other is not None:
        found = f"those events go to {other} already, and S3 tells only one of the same event"
        return Result(found, f"take them from there (EventBridge can have them besides), and run {FIX}")

    def mend() -> str:
        # S3 knows no condition on this: what somebody else writes between the two requests would be lost.
        merged = merge_notifications(_notifications(aws, names), arn, name=names.notification)
        aws.s3.put_bucket_notification_configuration(Bucket=names.bucket, NotificationConfiguration=merged)
        return f"{names.notification!r} is among them now; others are as they were"

    return Result("the queue does not hear of every object", f"run {FIX}, which adds what is missing", mend)


def _notifications(aws: AWS, names: Deployment) -> dict[str, Any]:
    answer = aws.s3.get_bucket_notification_configuration(Bucket=names.bucket)
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def tells_all(present: Mapping[str, Any], arn: str) -> bool:
    """Whether the queue hears of every object, by whatever ids: CloudFormation makes up its own."""
    told: set[str] = set()
    for each in present.get("QueueConfigurations", []):
        if each["QueueArn"] == arn and not _filters(each):
            told.update(each["Events"])
    return told >= set(EVENTS)


def find_overlap(present: Mapping[str, Any], arn: str, *, name: str) -> str | None:
    """Return the destination, other than the queue, of a notification that S3 would not have beside ours.

    "Configurations on the same bucket cannot share a common event type" where the prefixes and suffixes of both fit the
    same key (S3 User Guide, "Configuring event notifications using object key name filtering"); ours has none.
    """
    for kind, destination in _DESTINATIONS.items():
        for each in present.get(kind, []):
            if not _is_ours(each, arn, name) and any(
                _overlap(event, ours) for event in each["Events"] for ours in EVENTS
            ):
                return str(each[destination])
    return None


def merge_notifications(present: Mapping[str, Any], arn: str, *, name: str) -> NotificationConfigurationTypeDef:
    """Return what is there with ours in it: S3 replaces all of them at once."""
    others = [each for each in present.get("QueueConfigurations", []) if not _is_ours(each, arn, name)]
    ours = {"Id": name, "QueueArn": arn, "Events": list(EVENTS)}
    return cast("NotificationConfigurationTypeDef", {**present, "QueueConfigurations": [*others, ours]})


def _is_ours(notification: Mapping[str, Any], arn: str, name: str) -> bool:
    return notification.get("Id") == name or notification.get("QueueArn") == arn


def _filters(notification: Mapping[str, Any]) -> list[Any]:
    """Return the rules of a notification that limit it to some keys; one with an empty value limits nothing."""
    rules = notification.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return [rule for rule in rules if rule.get("Value")]


def _overlap(event: str, ours: str) -> bool:
    """Whether an event type, such as s3:ObjectCreated:Put, is among those of ours."""
    return fnmatchcase(event, ours)
