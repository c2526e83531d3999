"""The table, as serverless.yml makes it: its keys, its time-to-live, and a recovery to any moment of the last weeks."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import DEPLOY, FIX, Deployment, Result
from elasticpypi.deployment.stack import TAKE_OVER, must_be_taken_over

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

KEYS = {"HASH": ("pk", "S"), "RANGE": ("sk", "S")}
TIME_TO_LIVE = "expires"
_READY = {"ACTIVE", "UPDATING"}  # one that is being updated serves as before
_ROUND_TRIP_SECONDS = 3600  # after which DynamoDB removes what a look that was interrupted has left


def check_table(aws: AWS, names: Deployment) -> Result:
    """Look whether the table is there, and has the keys that the catalog uses."""
    try:
        table = aws.dynamodb.describe_table(TableName=names.table)["Table"]
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return _missing(aws, names)
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = {key["KeyType"]: (key["AttributeName"], types[key["AttributeName"]]) for key in table["KeySchema"]}
    if keys != KEYS:
        shown = ", ".join(f"{name} ({kind})" for name, kind in keys.values())
        found = f"{names.table!r} has the keys {shown}, and not pk (S), sk (S)"
        return Result(found, _another(aws, names))
    if table["TableStatus"] not in _READY:
        return Result(f"{names.table!r} is {table['TableStatus']}", "wait until it is ACTIVE")
    return Result(f"{names.table!r} is {table['TableStatus']}")


def _missing(aws: AWS, names: Deployment) -> Result:
    found = f"there is no table {names.table!r} in {aws.region}"
    if names.take_over:
        remedy = f"run {FIX}, which makes an empty one, or correct 'table', 'region' or 'profile'"
        return Result(found, remedy, lambda: _make(aws, names))
    if must_be_taken_over(aws, names):
        return Result(found, f"{TAKE_OVER}, which makes it")
    return Result(found, f"{DEPLOY} makes it; if that was done, correct 'table', 'region' or 'profile'")


def _another(aws: AWS, names: Deployment) -> str:
    """Return how a table of our own takes the place of one that cannot be ours."""
    if names.take_over:
        return f"name another one in 'table', run {DEPLOY}, and then {FIX}, which makes it"
    if must_be_taken_over(aws, names):
        return f"name another one in 'table', {TAKE_OVER}, which makes it"
    return f"name one of our own in 'table', which {DEPLOY} makes; `elasticpypi sync` fills it"


def _make(aws: AWS, names: Deployment) -> str:
    aws.dynamodb.create_table(
        TableName=names.table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in KEYS.values()],  # type: ignore[typeddict-item]
        KeySchema=[{"AttributeName": name, "KeyType": which} for which, (name, _) in KEYS.items()],  # type: ignore[typeddict-item]
    )
    waiting = {"Delay": 1, "MaxAttempts": 60}  # seconds; AWS takes some
    aws.dynamodb.get_waiter("table_exists").wait(TableName=names.table, WaiterConfig=waiting)  # type: ignore[arg-type]
    return "an empty one was made"


def check_time_to_live(aws: AWS, names: Deployment) -> Result:
    """Look whether DynamoDB removes the tombstones that have served their time."""
    described = aws.dynamodb.describe_time_to_live(TableName=names.table)["TimeToLiveDescription"]
    if described["TimeToLiveStatus"] in ("ENABLED", "ENABLING") and described["AttributeName"] == TIME_TO_LIVE:
        return Result(f"by {TIME_TO_LIVE!r}")
    if described["TimeToLiveStatus"] != "DISABLED":
        found = f"{described['TimeToLiveStatus']}, by {described.get('AttributeName')!r}"
        return Result(found, f"switch that off, wait an hour, as DynamoDB wants, and run {FIX}")

    def mend() -> str:
        wanted = {"Enabled": True, "AttributeName": TIME_TO_LIVE}
        aws.dynamodb.update_time_to_live(TableName=names.table, TimeToLiveSpecification=wanted)  # type: ignore[arg-type]
        return f"it is on now, by {TIME_TO_LIVE!r}"

    return Result("off: tombstones stay for ever", f"run {FIX}, which switches it on", mend)


def check_backups(aws: AWS, names: Deployment) -> Result:
    """Look whether the table can be had as it was at any moment of the last 35 days."""
    described = aws.dynamodb.describe_continuous_backups(TableName=names.table)["ContinuousBackupsDescription"]
    if described.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED":
        return Result("point-in-time recovery is on")

    def mend() -> str:
        aws.dynamodb.update_continuous_backups(
            TableName=names.table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        return "point-in-time recovery is on now"

    return Result("point-in-time recovery is off", f"run {FIX}, which switches it on", mend)


def check_round_trip(aws: AWS, names: Deployment) -> Result:
    """Write, read and remove an item."""
    key: dict[str, AttributeValueTypeDef] = {"pk": {"S": "doctor"}, "sk": {"S": secrets.token_hex(16)}}
    expires: dict[str, AttributeValueTypeDef] = {TIME_TO_LIVE: {"N": str(int(time.time()) + _ROUND_TRIP_SECONDS)}}
    aws.dynamodb.put_item(TableName=names.table, Item=key | expires)
    read = aws.dynamodb.get_item(TableName=names.table, Key=key, ConsistentRead=True).get("Item")
    aws.dynamodb.delete_item(TableName=names.table, Key=key)
    if read != key | expires:
        return Result("an item that was written just now was read as another one", "try again, and report it to AWS")
    return Result("an item was written, read and removed")
