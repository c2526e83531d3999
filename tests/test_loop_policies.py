"""What the functions' roles do not allow, and how policies are read here.

That they allow what the functions do, every loop of the tests holds at its end (`tests.loop`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.names import NormalizedName
from elasticpypi.publishers import KEY
from elasticpypi.upstream.kept import file_key
from tests.deployed import ACCOUNT, FUNCTIONS, Call, Deployment
from tests.dists import make_wheel
from tests.loop import IndexOnAws, deployed_places, running_on_aws
from tests.policies import is_allowed
from tests.running import wait_for

pytestmark = pytest.mark.timeout(300)
BUCKET = "arn:aws:s3:::acme-files"
WHEEL = f"{BUCKET}/acme/acme-1.0-py3-none-any.whl"


# How policies are read ------------------------------------------------------------------------------------------------


def statement(effect: str = "Allow", action: Any = "s3:GetObject", resource: Any = f"{BUCKET}/*", **more: Any) -> Any:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


PREFIX = {"StringLike": {"s3:prefix": ["acme/*", "bolt/*"]}}
ACCOUNTS = "aws:PrincipalAccount"
ALL_BUT_OURS = statement("Deny", Condition={"StringNotEquals": {ACCOUNTS: ["1", "2"]}})
# (statements, action, resource, context, whether it is allowed)
EVALUATED: list[tuple[list[Any], str, str, dict[str, str], bool]] = [
    ([], "s3:GetObject", WHEEL, {}, False),
    ([statement()], "s3:GetObject", WHEEL, {}, True),
    ([statement()], "s3:getobject", WHEEL, {}, True),
    ([statement()], "s3:GetObjectVersion", WHEEL, {}, False),
    ([statement()], "s3:GetObject", BUCKET, {}, False),
    ([statement()], "s3:GetObject", "arn:aws:s3:::acme-files-2/acme", {}, False),
    ([statement(action=["s3:Get*", "s3:Put?bject"])], "s3:PutObject", WHEEL, {}, True),
    ([statement(resource=f"{BUCKET}/[a]cme/*")], "s3:GetObject", WHEEL, {}, False),
    ([statement(action="*", resource="*")], "iam:PassRole", "arn:aws:iam::1:role/any", {}, True),
    ([statement(), statement("Deny", "s3:*", WHEEL)], "s3:GetObject", WHEEL, {}, False),
    ([statement("Deny", "s3:*", WHEEL), statement()], "s3:GetObject", f"{BUCKET}/other", {}, True),
    ([statement(Condition=PREFIX)], "s3:GetObject", WHEEL, {"s3:prefix": "bolt/1"}, True),
    ([statement(Condition=PREFIX)], "s3:GetObject", WHEEL, {"s3:prefix": "other/1"}, False),
    ([statement(Condition=PREFIX)], "s3:GetObject", WHEEL, {}, False),
    ([statement(), ALL_BUT_OURS], "s3:GetObject", WHEEL, {ACCOUNTS: "2"}, True),
    ([statement(), ALL_BUT_OURS], "s3:GetObject", WHEEL, {ACCOUNTS: "3"}, False),
    ([statement(), ALL_BUT_OURS], "s3:GetObject", WHEEL, {}, False),  # who is of no account is not of these
]


@pytest.mark.parametrize(("statements", "action", "resource", "context", "expected"), EVALUATED)
def test_a_policy_is_read_as_iam_does(
    statements: list[Any], action: str, resource: str, context: Mapping[str, str], expected: bool
) -> None:
    assert is_allowed(statements, action, resource, context) is expected


@pytest.mark.parametrize(
    "unknown", [{"NotAction": "s3:*"}, {"NotResource": "*"}, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}]
)
def test_what_is_not_known_here_is_no_silent_yes(unknown: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        is_allowed([statement(**unknown)], "s3:GetObject", WHEEL, {"aws:SecureTransport": "true"})


# What the roles do not allow ------------------------------------------------------------------------------------------

# Action -> resources, by their names below.
FORBIDDEN_TO_ALL = {
    "s3:DeleteBucket": "bucket",
    "s3:DeleteObjectVersion": "object",
    "s3:GetObject": "other object",
    "s3:ListAllMyBuckets": "everything",
    "s3:ListBucket": "other bucket",
    "s3:PutBucketNotification": "bucket",
    "s3:PutBucketPolicy": "bucket",
    "s3:PutBucketVersioning": "bucket",
    "s3:PutLifecycleConfiguration": "bucket",
    "s3:PutObject": "other object",
    "dynamodb:CreateTable": "table",
    "dynamodb:DeleteTable": "table",
    "dynamodb:GetItem": "other table",
    "dynamodb:PutItem": "other table",
    "dynamodb:UpdateTable": "table",
    "iam:PassRole": "everything",
    "lambda:InvokeFunction": "everything",
    "lambda:UpdateFunctionCode": "everything",
    "logs:DeleteLogGroup": "log",
    "sqs:DeleteQueue": "queue",
    "sqs:PurgeQueue": "queue",
    "sqs:ReceiveMessage": "dead queue",
    "sqs:SendMessage": "dead queue",
    "sts:AssumeRole": "everything",
}
FORBIDDEN = {
    "api": {"dynamodb:Scan": "table", "sqs:ReceiveMessage": "queue", "sqs:DeleteMessage": "queue"},
    "events": {"dynamodb:Scan": "table", "sqs:SendMessage": "queue", "s3:DeleteObject": "object"},
    "sync": {
        "sqs:SendMessage": "queue",
        "sqs:ReceiveMessage": "queue",
        "sqs:DeleteMessage": "queue",
        "s3:PutObject": "object",
        "s3:DeleteObject": "object",
    },
}
# (function, action, resource, whether it is allowed): who may publish is up to the API, what lies beside it is not.
ABOUT_PUBLISHERS = [
    ("api", "s3:PutObject", "publishers", True),
    ("events", "s3:PutObject", "publishers", False),
    ("events", "s3:DeleteObject", "publishers", False),
    ("events", "s3:GetObject", "publishers", True),
    ("events", "s3:PutObject", "note", True),
    ("events", "s3:DeleteObject", "note", True),
    ("sync", "s3:PutObject", "publishers", False),
    ("sync", "s3:DeleteObject", "publishers", False),
    ("sync", "s3:DeleteObject", "note", True),
]


# Likewise: what is kept of upstreams comes here by the API and the indexer, and nothing that runs by itself removes it.
ABOUT_UPSTREAMS = [
    ("api", "s3:GetObject", "kept", True),
    ("api", "s3:PutObject", "kept", True),
    ("events", "s3:GetObject", "kept", True),
    ("events", "s3:PutObject", "kept", True),
    ("events", "s3:AbortMultipartUpload", "kept", True),
    ("events", "s3:DeleteObject", "kept", False),
    ("sync", "s3:PutObject", "kept", False),
    ("sync", "s3:DeleteObject", "kept", False),
]


@pytest.fixture(scope="module")
def resources(deployment: Deployment) -> dict[str, str]:
    here = f"eu-central-1:{ACCOUNT}"
    bucket, table = f"arn:aws:s3:::{deployment.bucket}", f"arn:aws:dynamodb:{here}:table/{deployment.table}"
    queue = f"arn:aws:sqs:{here}:{deployment.name}-events"
    return {
        "bucket": bucket,
        "object": f"{bucket}/acme/acme-1.0-py3-none-any.whl",
        "publishers": f"{bucket}/{KEY}",
        "note": f"{bucket}/.elasticpypi/uploads/0123456789abcdef",
        "kept": f"{bucket}/{file_key(NormalizedName('spam'), '0' * 64, 'spam-1.0-py3-none-any.whl')}",
        "other bucket": f"{bucket}-2",
        "other object": f"{bucket}-2/acme/acme-1.0-py3-none-any.whl",
        "table": table,
        "other table": f"{table}-2",
        "queue": queue,
        "dead queue": f"{queue}-dead",
        "log": f"arn:aws:logs:{here}:log-group:/aws/lambda/{deployment.name}-api",
        "everything": "*",
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_nothing_else(deployment: Deployment, resources: dict[str, str], function: str) -> None:
    statements = deployment.policy(function)
    allowed = [
        (action, resource)
        for action, resource in [*FORBIDDEN_TO_ALL.items(), *FORBIDDEN[function].items()]
        if is_allowed(statements, action, resources[resource])
    ]
    assert allowed == []


@pytest.mark.parametrize(("function", "action", "resource", "expected"), ABOUT_PUBLISHERS)
def test_who_may_publish_is_up_to_the_api_alone(
    deployment: Deployment, resources: dict[str, str], function: str, action: str, resource: str, expected: bool
) -> None:
    assert is_allowed(deployment.policy(function), action, resources[resource]) is expected


@pytest.mark.parametrize(("function", "action", "resource", "expected"), ABOUT_UPSTREAMS)
def test_what_is_kept_of_upstreams_stays(
    deployment: Deployment, resources: dict[str, str], function: str, action: str, resource: str, expected: bool
) -> None:
    assert is_allowed(deployment.policy(function), action, resources[resource]) is expected


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_missing_object_is_missing_and_not_forbidden(
    deployment: Deployment, resources: dict[str, str], function: str
) -> None:
    # "HeadObject", "GetObject" in the S3 API reference: without s3:ListBucket S3 says 403 of what is not there.
    assert is_allowed(deployment.policy(function), "s3:ListBucket", resources["bucket"])


# The deployed places themselves ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexOnAws]:
    """The functions as they are deployed, told nothing else."""
    places = deployed_places(deployment)
    with running_on_aws(deployment, tmp_path_factory.mktemp("policies"), places=places) as running:
        yield running


def test_a_call_that_is_not_allowed_is_noticed(index: IndexOnAws, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme-policed")
    index.put(f"acme-policed/{wheel.name}", wheel.read_bytes())
    wait_for(lambda: index.listing("acme-policed"), lambda found: set(found or ()) == {wheel.name})
    index.settle()
    assert index.forbidden() == []
    call = index.events.workers[0].calls[-1]
    index.events.workers[0].calls.append(Call("dynamodb", "Scan", call.named))
    assert [name for name, action, _ in index.forbidden() if action == "dynamodb:Scan"] == ["events"]
    index.events.workers[0].calls.pop()
