"""All looks at a deployment, in an order in which the first problem is the one to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from botocore.exceptions import BotoCoreError, ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import Deployment, Result, account, api, bucket, events, objects, table
from elasticpypi.finding import Finding

_Check = Callable[[AWS, Deployment], Result]
# What has to be there before anything else about it can be looked at, and the rest, by what a person calls it.
_BUCKET: tuple[tuple[str, _Check], ...] = (
    ("bucket's privacy", bucket.check_privacy),
    ("bucket's versioning", bucket.check_versioning),
    ("bucket's encryption", bucket.check_encryption),
    ("bucket's lifecycle", bucket.check_lifecycle),
    ("bucket's CORS", bucket.check_cors),
    ("objects", objects.check_round_trip),
    ("notifications", events.check_notifications),
)
_TABLE: tuple[tuple[str, _Check], ...] = (
    ("table's time-to-live", table.check_time_to_live),
    ("table's backups", table.check_backups),
    ("items", table.check_round_trip),
)
_QUEUE: tuple[tuple[str, _Check], ...] = (("dead letters", events.check_dead_letters),)
_DENIED = {"AccessDenied", "AccessDeniedException", "AccessDeniedFault", "UnauthorizedOperation", "403", "Forbidden"}
# Operations -> what IAM calls them.
_ACTIONS = {
    "CreateTable": "dynamodb:CreateTable",
    "DeleteItem": "dynamodb:DeleteItem",
    "DescribeContinuousBackups": "dynamodb:DescribeContinuousBackups",
    "DescribeStacks": "cloudformation:DescribeStacks",
    "DescribeTable": "dynamodb:DescribeTable",
    "DescribeTimeToLive": "dynamodb:DescribeTimeToLive",
    "GetBucketCors": "s3:GetBucketCORS",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "GetBucketPolicyStatus": "s3:GetBucketPolicyStatus",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetItem": "dynamodb:GetItem",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "GetQueueUrl": "sqs:GetQueueUrl",
    "HeadBucket": "s3:ListBucket",
    "PutBucketCors": "s3:PutBucketCORS",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "PutBucketVersioning": "s3:PutBucketVersioning",
    "PutItem": "dynamodb:PutItem",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "UpdateContinuousBackups": "dynamodb:UpdateContinuousBackups",
    "UpdateTimeToLive": "dynamodb:UpdateTimeToLive",
}


def examine(aws: AWS, names: Deployment, *, fix: bool = False) -> Iterator[Finding]:
    """Yield what each look has shown; what cannot be looked at without something that is missing is left out.

    With `fix`, what can be mended without harm is: nothing that others have set is taken away.
    """
    credentials = _look("credentials", lambda aws, _: account.check_credentials(aws), aws, names, fix=fix)
    yield credentials
    if credentials.remedy is not None:
        return
    yield from _look_at_all("bucket", bucket.check_bucket, _BUCKET, aws, names, fix=fix)
    if not names.is_alone:
        yield from _look_at_all("table", table.check_table, _TABLE, aws, names, fix=fix)
    yield from _look_at_all("queue", events.check_queue, _QUEUE, aws, names, fix=fix)
    if not names.is_alone:
        yield _look("API", api.check_api, aws, names, fix=fix)


def _look_at_all(
    name: str, first: _Check, others: tuple[tuple[str, _Check], ...], aws: AWS, names: Deployment, *, fix: bool
) -> Iterator[Finding]:
    found = _look(name, first, aws, names, fix=fix)
    yield found
    if found.remedy is None:
        for other, check in others:
            yield _look(other, check, aws, names, fix=fix)


def _look(name: str, check: _Check, aws: AWS, names: Deployment, *, fix: bool) -> Finding:
    """Look at one thing; that it may not be looked at, or mended, is a finding like any other."""
    seen: Finding | None = None
    try:
        result = check(aws, names)
        seen = Finding(name, result.found, result.remedy)
        if fix and result.mend is not None:
            return replace(seen, remedy=None, mended=result.mend())
    except ClientError as error:
        return _failed(name, error, seen)
    except BotoCoreError as error:
        return Finding(
            name, f"AWS cannot be asked: {error}", "look at the network, and at 'region' and AWS_ENDPOINT_URL"
        )
    return seen


def _failed(name: str, error: ClientError, seen: Finding | None) -> Finding:
    before = "" if seen is None else f"{seen.found}, and "
    if error_code(error) not in _DENIED:
        message = error.response.get("Error", {}).get("Message") or error_code(error)
        return Finding(name, f"{before}AWS refuses {error.operation_name}: {message}", "do as it says, and try again")
    action = _ACTIONS.get(error.operation_name, error.operation_name)
    found = f"{before}these credentials may not do {action}"
    return Finding(name, found, f"allow {action} to who runs this, or name another 'profile'")
