"""`elasticpypi doctor` on AWS: quiet where all is as `sls deploy` makes it, else a finding with its remedy; `--fix`.

Where moto is not AWS: it has no IAM (what is denied is denied here by a hook), tells nothing of a bucket in another
region, forgets a notification for EventBridge and how rules treat small objects, knows no metric of its queues, lets
rules with and without a filter stand side by side, and has nothing behind an API's address.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.config import Config
from botocore.exceptions import ClientError

from elasticpypi.aws import AWS
from elasticpypi.cli.doctor import examine
from elasticpypi.deployment import Deployment, Result, api, bucket, events, table
from elasticpypi.deployment.examine import examine as examine_deployment
from elasticpypi.finding import Finding
from tests.aws import REGION, Cloud
from tests.dists import make_wheel
from tests.health import answering
from tests.running import free_port, run_command
from tests.site import Account

QUEUE = "arn:aws:sqs:eu-central-1:123456789012:elasticpypi-dev-events"
OTHER = "arn:aws:sqs:eu-central-1:123456789012:somebody-else"
OURS = "elasticpypi-pypi-dev"
AGAIN = "correct that, and run `elasticpypi doctor` again"


@dataclass(frozen=True)
class Stack:
    """Bucket, table and queues in an account, and the configuration that names them."""

    cloud: Cloud
    service: str
    bucket: str
    table: str
    config: Path
    stage: str = "dev"

    @property
    def aws(self) -> AWS:
        return self.cloud.aws

    @property
    def names(self) -> Deployment:
        url = json.loads(self.config.read_text()).get("url")
        return Deployment(self.bucket, self.table, f"{self.service}-{self.stage}", url=url)

    def sync(self) -> None:
        Account(self.cloud, self.bucket, self.table).open(overwrite=False).sync()

    def findings(self, *, fix: bool = False, data: Path | None = None) -> list[Finding]:
        return list(examine({"ELASTICPYPI_CONFIG": str(self.config)}, data, fix=fix))

    def problems(self, *, fix: bool = False) -> list[Finding]:
        return [finding for finding in self.findings(fix=fix) if finding.remedy is not None]

    def run(self, *arguments: str | Path, home: Path, **variables: str) -> Any:
        extra = {**self.cloud.environment, "ELASTICPYPI_CONFIG": str(self.config), **variables}
        return run_command(*arguments, home=home, extra=extra)

    def make_queues(self) -> str:
        """Make queue and dead-letter queue as the template does, and return the queue's ARN."""
        self.aws.sqs.create_queue(QueueName=self.names.dead_letter_queue)
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "s3.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": "*",
                    "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{self.bucket}"}},
                }
            ],
        }
        url = self.aws.sqs.create_queue(QueueName=self.names.queue, Attributes={"Policy": json.dumps(policy)})
        return self.aws.sqs.get_queue_attributes(QueueUrl=url["QueueUrl"], AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]

    def make_stack(self, **outputs: str) -> None:
        """Make the stack, of which nothing but its outputs is looked at."""
        template = {
            "Resources": {"Nothing": {"Type": "AWS::SNS::Topic"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        # Not that of `aws`, which is impatient: moto imports most of itself at the first request.
        config = Config(read_timeout=60, retries={"total_max_attempts": 1})
        cloudformation = boto3.client("cloudformation", region_name=REGION, config=config)
        cloudformation.create_stack(StackName=self.names.stack, TemplateBody=json.dumps(template))

    def make_table(self, *, keys: tuple[str, ...] = ("pk", "sk")) -> None:
        self.aws.dynamodb.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            KeySchema=[
                {"AttributeName": name, "KeyType": kind}  # type: ignore[typeddict-item]
                for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
        )

    def make_bucket(self) -> None:
        self.aws.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})  # type: ignore[typeddict-item]

    def configure(self, **changes: object) -> None:
        self.config.write_text(json.dumps({**json.loads(self.config.read_text()), **changes}))

    def remedies(self, *, fix: bool = False) -> dict[str, str | None]:
        """Return what is to be done, by check."""
        return {finding.check: finding.remedy for finding in self.problems(fix=fix)}

    def notify(self, *notifications: dict[str, Any]) -> None:
        self.aws.s3.put_bucket_notification_configuration(
            Bucket=self.bucket,
            NotificationConfiguration={"QueueConfigurations": notifications},  # type: ignore[typeddict-item]
        )

    def notifications(self) -> list[Any]:
        found = self.aws.s3.get_bucket_notification_configuration(Bucket=self.bucket)
        return list(found.get("QueueConfigurations", []))


@pytest.fixture
def account(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A configuration of which there is nothing in the account yet."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    service = f"pypi-{uuid.uuid4().hex[:8]}"
    stack = Stack(cloud, service, f"{service}-files", f"{service}-table", tmp_path / "config.json")
    document = {
        "service": service,
        "stage": "dev",
        "bucket": stack.bucket,
        "table": stack.table,
        "profile": None,
        "username": "alice",
        "password": "wonder",
    }
    stack.config.touch(mode=0o600)
    stack.config.write_text(json.dumps(document))
    return stack


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """Where something answers as a healthy index does."""
    with answering() as url:
        yield url


@pytest.fixture
def bare(account: Stack, api_url: str) -> Stack:
    """Bucket and table as somebody might have made them by hand, all else as deployed."""
    account.make_bucket()
    account.make_table()
    account.make_queues()
    account.configure(url=api_url)
    return account


@pytest.fixture
def deployed(bare: Stack) -> Stack:
    """All of it as it should be."""
    bare.sync()
    assert [finding.check for finding in bare.problems(fix=True)] == []
    return bare


def test_a_healthy_deployment(deployed: Stack, api_url: str) -> None:
    found = [finding for finding in deployed.findings() if finding.check != "queue"]  # the look itself makes events
    assert found == [
        Finding("configuration", str(deployed.config)),
        Finding("passwords", "none that others know"),
        Finding("region", REGION),
        Finding("credentials", "those of arn:aws:sts::123456789012:user/moto"),
        Finding("bucket", f"{deployed.bucket!r} in {REGION}"),
        Finding("bucket's privacy", "nobody can make it public"),
        Finding("bucket's versioning", "on"),
        Finding("bucket's encryption", "AES256, as S3 does by itself"),
        Finding("bucket's lifecycle", "what uploads and pages leave behind is cleared"),
        Finding("bucket's CORS", "browsers may send files to it"),
        Finding("objects", "an object was written, read, downloaded by a signed URL and removed"),
        Finding("notifications", "the queue hears of every object"),
        Finding("table", f"{deployed.table!r} is ACTIVE"),
        Finding("table's time-to-live", "by 'expires'"),
        Finding("table's backups", "point-in-time recovery is on"),
        Finding("items", "an item was written, read and removed"),
        Finding("dead letters", "empty"),
        Finding("API", f"{api_url} answers"),
        Finding("catalog and storage", "both can be read"),
        Finding("sync", "catalog and storage agree"),
        Finding("files", "each one is listed"),
    ]


def test_nothing_is_left_behind(deployed: Stack) -> None:
    deployed.findings()
    assert deployed.aws.s3.list_objects_v2(Bucket=deployed.bucket)["KeyCount"] == 0
    left = deployed.aws.dynamodb.query(
        TableName=deployed.table,
        KeyConditionExpression="pk = :doctor",
        ExpressionAttributeValues={":doctor": {"S": "doctor"}},
    )
    assert left["Items"] == []


# What is not deployed ----------------------------------------------------------------------------------------------


def test_nothing_is_deployed_yet(account: Stack) -> None:
    assert account.problems() == [
        Finding(
            "bucket",
            f"there is no bucket {account.bucket!r}",
            "`npx sls deploy` makes it; if that was done, correct 'bucket', or 'profile' for another account",
        ),
        Finding(
            "table",
            f"there is no table {account.table!r} in {REGION}",
            "`npx sls deploy` makes it; if that was done, correct 'table', 'region' or 'profile'",
        ),
        Finding(
            "queue",
            f"there is no queue '{account.service}-dev-events': this is not deployed yet",
            "run `npx sls deploy`",
        ),
        Finding("API", f"there is no stack '{account.service}-dev'", "run `npx sls deploy`"),
    ]


def test_a_table_of_somebody_else(account: Stack) -> None:
    account.aws.dynamodb.create_table(
        TableName=account.table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    problem = next(finding for finding in account.problems() if finding.check == "table")
    assert problem.found == f"{account.table!r} has the keys id (N), and not pk (S), sk (S)"


TAKE_OVER = 'add "take_over": true to the configuration, run `npx sls deploy`, and then `elasticpypi doctor --fix`'


def test_after_the_stack_was_removed(account: Stack) -> None:
    account.make_bucket()
    account.make_table()
    remedy = f"{account.bucket!r} is there already, and `npx sls deploy` would fail to make it: {TAKE_OVER}"
    found = account.remedies()
    assert {check: found.get(check) for check in ("bucket", "notifications", "table", "queue", "API")} == {
        "bucket": None,
        "notifications": remedy,
        "table": None,
        "queue": remedy,
        "API": remedy,
    }


def test_a_bucket_is_there_and_nothing_else(account: Stack) -> None:
    account.make_bucket()
    assert account.remedies()["table"] == f"{TAKE_OVER}, which makes it"


def test_a_bucket_and_a_table_of_somebody_else_are_there(account: Stack) -> None:
    account.make_bucket()
    account.make_table(keys=("id",))
    assert account.remedies()["table"] == f"name another one in 'table', {TAKE_OVER}, which makes it"


def test_a_table_is_there_and_nothing_else(account: Stack) -> None:
    account.make_table()
    assert account.remedies()["queue"] == (
        f"name another one in 'table', for {account.table!r} is there already, and run `npx sls deploy`, "
        "which makes both"
    )


def test_a_deployed_stack_makes_a_table_of_another_name(bare: Stack) -> None:
    bare.configure(table=f"{bare.table}-2")
    assert bare.remedies()["table"] == (
        "`npx sls deploy` makes it; if that was done, correct 'table', 'region' or 'profile'"
    )


def test_what_is_taken_over_has_to_be_there(account: Stack) -> None:
    account.configure(take_over=True)
    assert account.remedies() == {
        "bucket": f"make it with `aws s3 mb s3://{account.bucket} --region {REGION}`; if there is one, correct "
        "'bucket', or 'profile' for another account",
        "table": "run `elasticpypi doctor --fix`, which makes an empty one, or correct 'table', 'region' or 'profile'",
        "queue": "run `npx sls deploy`, and then `elasticpypi doctor --fix`",
        "API": "run `npx sls deploy`, and then `elasticpypi doctor --fix`",
    }


def test_a_table_is_made_for_a_bucket_that_is_taken_over(bare: Stack) -> None:
    bare.aws.dynamodb.delete_table(TableName=bare.table)
    assert [finding for finding in bare.findings(fix=True) if finding.check == "table" and finding.mended] == []
    bare.configure(take_over=True)
    mended = {finding.check: finding.mended for finding in bare.findings(fix=True) if finding.mended}
    assert mended["table"] == "an empty one was made"
    assert {"table's time-to-live", "table's backups"} <= mended.keys()
    bare.sync()
    assert bare.problems() == []


def test_a_table_of_somebody_else_where_all_is_taken_over(bare: Stack) -> None:
    bare.aws.dynamodb.delete_table(TableName=bare.table)
    bare.make_table(keys=("id",))
    bare.configure(take_over=True)
    remedy = "name another one in 'table', run `npx sls deploy`, and then `elasticpypi doctor --fix`, which makes it"
    assert bare.remedies()["table"] == remedy


def test_a_command_says_that_a_table_has_other_keys(account: Stack, tmp_path: Path) -> None:
    account.make_bucket()
    account.make_table(keys=("id",))
    answer = account.run("list", home=tmp_path / "home")
    assert answer.returncode == 1
    assert "probably because it has other keys than ours: run `elasticpypi doctor`" in answer.stderr


def test_a_catalog_that_is_not_complete(bare: Stack) -> None:
    problem = Finding("catalog", "it does not know all files yet", "run `elasticpypi sync`, which brings them in")
    assert problem in bare.problems()


def test_another_region(deployed: Stack) -> None:
    def elsewhere(parsed: dict[str, Any], **_: object) -> None:
        parsed["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] = "us-west-2"

    aws = AWS(region=REGION)
    aws.s3.meta.events.register("after-call.s3.HeadBucket", elsewhere)
    result = bucket.check_bucket(aws, deployed.names)
    assert result.found == f"{deployed.bucket!r} lies in us-west-2, and this is configured for {REGION}"
    assert result.remedy == 'write "region": "us-west-2" into the configuration'


# What is mended ----------------------------------------------------------------------------------------------------


def test_all_that_can_be_mended_is(bare: Stack) -> None:
    bare.sync()
    before = bare.problems()
    assert [finding.check for finding in before] == [
        "bucket's privacy",
        "bucket's versioning",
        "bucket's lifecycle",
        "bucket's CORS",
        "notifications",
        "table's time-to-live",
        "table's backups",
    ]
    assert [finding.check for finding in before if "`elasticpypi doctor --fix`" not in (finding.remedy or "")] == []
    mended = [finding for finding in bare.findings(fix=True) if finding.mended is not None]
    assert [(finding.check, finding.found) for finding in mended] == [
        (finding.check, finding.found) for finding in before
    ]
    again = bare.findings(fix=True)
    assert [finding for finding in again if finding.remedy or finding.mended] == []


def test_nothing_is_mended_unasked(bare: Stack) -> None:
    bare.findings()
    assert bare.notifications() == []
    assert "Status" not in bare.aws.s3.get_bucket_versioning(Bucket=bare.bucket)
    described = bare.aws.dynamodb.describe_time_to_live(TableName=bare.table)["TimeToLiveDescription"]
    assert described["TimeToLiveStatus"] == "DISABLED"


def test_rules_of_others_stay(bare: Stack) -> None:
    logs = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}}
    ours = {"ID": "elasticpypi-uploads", "Status": "Disabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 1}}
    bare.aws.s3.put_bucket_lifecycle_configuration(
        Bucket=bare.bucket,
        LifecycleConfiguration={"Rules": [ours, logs]},  # type: ignore[list-item]
    )
    assert bucket.check_lifecycle(bare.aws, bare.names).found == (
        "rules are missing or others: elasticpypi-pages, elasticpypi-parts, elasticpypi-uploads"
    )
    bare.findings(fix=True)
    rules = bare.aws.s3.get_bucket_lifecycle_configuration(Bucket=bare.bucket)["Rules"]
    assert rules[:2] == [{"ID": "elasticpypi-uploads", **bucket.LIFECYCLE["elasticpypi-uploads"]}, logs]
    assert {rule["ID"] for rule in rules} == {"logs", *bucket.LIFECYCLE}


def test_rules_with_a_prefix_of_the_old_kind_get_a_filter() -> None:
    logs = {"ID": "logs", "Status": "Enabled", "Prefix": "logs/", "Expiration": {"Days": 7}}
    tagged = {"ID": "tagged", "Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}}
    uploads = dict(bucket.LIFECYCLE["elasticpypi-uploads"])
    ours = {"ID": "elasticpypi-uploads", "Prefix": uploads.pop("Filter")["Prefix"], **uploads}
    merged = bucket.merge_lifecycle([logs, tagged, ours])
    assert merged[:2] == [
        {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}},
        tagged,
    ]
    assert [rule for rule in merged if "Prefix" in rule or "Filter" not in rule] == []
    assert [rule["ID"] for rule in merged] == [
        "logs",
        "tagged",
        "elasticpypi-uploads",
        "elasticpypi-parts",
        "elasticpypi-pages",
    ]


def test_how_small_objects_are_treated_stays_as_it_is(bare: Stack) -> None:
    sent = {}
    aws = AWS(region=REGION)

    def tell(parsed: dict[str, Any], **_: object) -> None:
        parsed.update(Rules=[], TransitionDefaultMinimumObjectSize="varies_by_storage_class")
        parsed.pop("Error", None)

    def keep(params: dict[str, Any], **_: object) -> None:
        sent.update(params)

    aws.s3.put_bucket_lifecycle_configuration(  # so that the answer is one, which moto leaves that out of
        Bucket=bare.bucket,
        LifecycleConfiguration={"Rules": [{"ID": "x", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]},
    )
    aws.s3.meta.events.register("after-call.s3.GetBucketLifecycleConfiguration", tell)
    aws.s3.meta.events.register("before-parameter-build.s3.PutBucketLifecycleConfiguration", keep)
    mend = bucket.check_lifecycle(aws, bare.names).mend
    assert mend is not None
    mend()
    assert sent["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"


HEADERS = ["if-none-match", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm"]


@pytest.mark.parametrize(
    ("methods", "headers", "is_enough"),
    [
        (["PUT"], HEADERS, True),
        (["GET", "PUT"], ["*"], True),
        (["PUT"], ["If-None-Match", "X-Amz-*"], True),
        (["PUT"], HEADERS[1:], False),
        (["PUT"], None, False),
        (["GET"], ["*"], False),
    ],
)
def test_rules_that_let_a_page_upload(
    bare: Stack, methods: list[str], headers: list[str] | None, *, is_enough: bool
) -> None:
    rule: dict[str, Any] = {"ID": "own", "AllowedMethods": methods, "AllowedOrigins": ["https://pypi.example.org"]}
    rule |= {} if headers is None else {"AllowedHeaders": headers}
    old = {"ID": "elasticpypi-uploads", "AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
    bare.aws.s3.put_bucket_cors(Bucket=bare.bucket, CORSConfiguration={"CORSRules": [old, rule]})  # type: ignore[list-item]
    assert (bucket.check_cors(bare.aws, bare.names).remedy is None) is is_enough
    bare.findings(fix=True)
    rules = bare.aws.s3.get_bucket_cors(Bucket=bare.bucket)["CORSRules"]
    assert [*map(plain_rule, rules)] == [*map(plain_rule, [old, rule] if is_enough else [rule, bucket.CORS])]


def plain_rule(rule: Any) -> dict[str, Any]:
    """Return a rule without what moto adds to it: empty lists, and zero."""
    return {name: value for name, value in rule.items() if value}


def test_a_deployment_alone_has_no_page_that_sends_files(bare: Stack) -> None:
    names = dataclasses.replace(bare.names, is_alone=True)
    assert bucket.check_cors(bare.aws, names) == Result("there is no page that sends files to it")


@pytest.mark.parametrize(
    ("default", "found", "is_problem"),
    [
        ({"SSEAlgorithm": "AES256"}, "AES256", False),
        ({"SSEAlgorithm": "aws:kms"}, "aws:kms", False),
        ({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/aws/s3"}, "aws:kms", False),
        ({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:aws:kms:eu-central-1:1:alias/aws/s3"}, "aws:kms", False),
        (
            {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:aws:kms:eu-central-1:1:key/abc"},
            "aws:kms by the key arn:aws:kms:eu-central-1:1:key/abc, which the functions' roles may not use",
            True,
        ),
    ],
)
def test_a_key_of_the_account_s_own(bare: Stack, default: Any, found: str, is_problem: bool) -> None:
    bare.aws.s3.put_bucket_encryption(
        Bucket=bare.bucket,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    result = bucket.check_encryption(bare.aws, bare.names)
    assert result.found == found
    named = result.remedy is not None and {"kms:Decrypt", "kms:GenerateDataKey"} <= set(result.remedy.split())
    assert named is is_problem


def test_a_bucket_that_its_policy_makes_public(bare: Stack) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bare.bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    bare.aws.s3.put_bucket_policy(Bucket=bare.bucket, Policy=policy)
    assert bucket.check_privacy(bare.aws, bare.names).found == "its policy makes it public"


def test_a_time_to_live_by_another_attribute(bare: Stack) -> None:
    bare.aws.dynamodb.update_time_to_live(
        TableName=bare.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "gone"}
    )
    result = table.check_time_to_live(bare.aws, bare.names)
    assert (result.found, result.mend) == ("ENABLED, by 'gone'", None)


def test_the_template_sets_what_is_asked_for() -> None:
    properties = read_properties("bucket-owned.yml", "Bucket")
    assert properties["PublicAccessBlockConfiguration"] == bucket.BLOCKS
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert {each["Event"] for each in properties["NotificationConfiguration"]["QueueConfigurations"]} == {
        *events.EVENTS
    }
    (cors,) = properties["CorsConfiguration"]["CorsRules"]
    names = {"Id": "ID", "MaxAge": "MaxAgeSeconds"}
    assert {names.get(name, name): value for name, value in cors.items()} == bucket.CORS
    rules = {rule.pop("Id"): rule for rule in properties["LifecycleConfiguration"]["Rules"]}
    for name, ours in bucket.LIFECYCLE.items():
        expected = {key: value for key, value in ours.items() if key not in ("Filter", "Expiration")}
        if ours["Filter"]["Prefix"]:
            expected["Prefix"] = ours["Filter"]["Prefix"]
        if "Expiration" in ours:
            expected["ExpirationInDays"] = ours["Expiration"]["Days"]
        assert rules[name] == expected
    table_properties = read_properties("table-owned.yml", "Table")
    keys = {key["KeyType"]: key["AttributeName"] for key in table_properties["KeySchema"]}
    assert keys == {kind: name for kind, (name, _) in table.KEYS.items()}
    assert table_properties["TimeToLiveSpecification"] == {"AttributeName": table.TIME_TO_LIVE, "Enabled": True}


def read_properties(filename: str, resource: str) -> dict[str, Any]:
    text = (Path(__file__).parent.parent / "deploy" / "resources" / filename).read_text()
    properties: dict[str, Any] = yaml.load(text, Loader=_Template)["Resources"][resource]["Properties"]
    return properties


class _Template(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's own tags, which say where values come from, as nothing."""


_Template.add_multi_constructor("!", lambda *_: None)


# Notifications -----------------------------------------------------------------------------------------------------


def notification(arn: str = QUEUE, *, name: str = "made-by-cloudformation", **others: Any) -> dict[str, Any]:
    return {"Id": name, "QueueArn": arn, "Events": list(events.EVENTS), **others}


def filtered(name: str, value: str) -> dict[str, Any]:
    return {"Filter": {"Key": {"FilterRules": [{"Name": name, "Value": value}]}}}


@pytest.mark.parametrize(
    ("notifications", "expected"),
    [
        ([], False),
        ([notification()], True),
        ([notification(name=OURS)], True),
        ([notification(name=event, Events=[event]) for event in events.EVENTS], True),  # as CloudFormation has them
        ([notification(OTHER, name=OURS)], False),
        ([notification(Events=["s3:ObjectCreated:*", "s3:ObjectRemoved:*"])], False),
        ([notification(**filtered("Suffix", ".whl"))], False),
        ([notification(**filtered("Prefix", ""))], True),
        ([notification(OTHER, Events=["s3:TestEvent"]), notification()], True),
    ],
)
def test_whether_the_queue_hears_of_every_object(notifications: list[dict[str, Any]], expected: bool) -> None:
    assert events.tells_all({"QueueConfigurations": notifications}, QUEUE) is expected


@pytest.mark.parametrize(
    ("present", "overlap"),
    [
        ({}, None),
        ({"EventBridgeConfiguration": {}}, None),
        ({"QueueConfigurations": [notification()]}, None),
        ({"QueueConfigurations": [notification(OTHER, name=OURS)]}, None),  # of a queue that is gone
        ({"QueueConfigurations": [notification(OTHER, name="elasticpypi-pypi-prod")]}, OTHER),  # of another stage
        ({"QueueConfigurations": [notification(OTHER, Events=["s3:ObjectRestore:*"])]}, None),
        ({"QueueConfigurations": [notification(OTHER, Events=["s3:ObjectCreated:Put"])]}, OTHER),
        ({"QueueConfigurations": [notification(OTHER, **filtered("prefix", "logs/"))]}, OTHER),
        ({"TopicConfigurations": [{"Id": "t", "TopicArn": "arn:t", "Events": ["s3:ObjectRemoved:*"]}]}, "arn:t"),
        (
            {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": "arn:l", "Events": ["s3:ObjectCreated:*"]}]},
            "arn:l",
        ),
    ],
)
def test_notifications_that_cannot_stand_beside_ours(present: dict[str, Any], overlap: str | None) -> None:
    assert events.find_overlap(present, QUEUE, name=OURS) == overlap


def test_notifications_of_others_stay() -> None:
    restored = notification(OTHER, name="restored", Events=["s3:ObjectRestore:*"])
    topic = {"Id": "t", "TopicArn": "arn:t", "Events": ["s3:ReducedRedundancyLostObject"]}
    function = {"Id": "f", "LambdaFunctionArn": "arn:f", "Events": ["s3:ObjectTagging:*"]}
    present = {
        "QueueConfigurations": [notification(**filtered("suffix", ".whl")), restored],
        "TopicConfigurations": [topic],
        "LambdaFunctionConfigurations": [function],
        "EventBridgeConfiguration": {},
    }
    assert events.merge_notifications(present, QUEUE, name=OURS) == {
        "QueueConfigurations": [restored, notification(name=OURS)],
        "TopicConfigurations": [topic],
        "LambdaFunctionConfigurations": [function],
        "EventBridgeConfiguration": {},
    }


def test_a_notification_is_merged_into_the_bucket_s_own(bare: Stack) -> None:
    arn = bare.make_queues()
    other = bare.aws.sqs.create_queue(QueueName=f"{bare.service}-other")["QueueUrl"]
    other_arn = bare.aws.sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    restored = notification(other_arn, name="restored", Events=["s3:ObjectRestore:*"])
    bare.notify(restored)
    bare.findings(fix=True)
    assert bare.notifications() == [restored, notification(arn, name=f"elasticpypi-{bare.service}-dev")]


def test_two_stages_of_one_bucket(bare: Stack) -> None:
    bare.findings(fix=True)
    (first,) = bare.notifications()
    bare.configure(stage="prod")
    other = Stack(bare.cloud, bare.service, bare.bucket, bare.table, bare.config, stage="prod")
    other.make_queues()
    problem = next(finding for finding in bare.problems(fix=True) if finding.check == "notifications")
    assert problem.found.startswith(f"those events go to {first['QueueArn']} already")
    assert bare.notifications() == [first]


def test_an_overlap_is_told_and_left(bare: Stack) -> None:
    arn = bare.make_queues()
    taken = notification(arn.replace("-events", "-other"), name="other", Events=["s3:ObjectCreated:*"])
    bare.aws.sqs.create_queue(QueueName=f"{bare.service}-dev-other")
    bare.notify(taken)
    problem = next(finding for finding in bare.problems(fix=True) if finding.check == "notifications")
    assert problem.found == f"those events go to {taken['QueueArn']} already, and S3 tells only one of the same event"
    assert bare.notifications() == [taken]


# The queue ---------------------------------------------------------------------------------------------------------

SEND = {
    "Effect": "Allow",
    "Principal": {"Service": "s3.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": QUEUE,
    "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::files"}, "StringEquals": {"aws:SourceAccount": "1"}},
}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (SEND, True),
        ([SEND], True),
        (SEND | {"Action": ["SQS:SendMessage"], "Principal": {"Service": ["s3.amazonaws.com"]}}, True),
        (SEND | {"Action": "sqs:*", "Principal": "*"}, True),
        (SEND | {"Condition": {"ArnLike": {"aws:sourcearn": ["arn:aws:s3:::other", "arn:aws:s3:::file"]}}}, False),
        (SEND | {"Condition": {"ArnLike": {"aws:sourcearn": ["arn:aws:s3:::other", "arn:aws:s3:::fil*"]}}}, True),
        (SEND | {"Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}}, False),
        (SEND | {"Effect": "Deny"}, False),
        (SEND | {"Action": "sqs:ReceiveMessage"}, False),
        (SEND | {"Principal": {"AWS": "123456789012"}}, False),
    ],
)
def test_who_may_send(statement: object, expected: bool) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    assert events.may_send(policy, "arn:aws:s3:::files") is expected


def test_a_queue_without_a_policy_takes_nothing(bare: Stack) -> None:
    url = bare.aws.sqs.get_queue_url(QueueName=bare.names.queue)["QueueUrl"]
    bare.aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    result = events.check_queue(bare.aws, bare.names)
    assert result.found == f"its policy does not let {bare.bucket!r} send to it"


def test_messages_that_wait(bare: Stack) -> None:
    url = bare.aws.sqs.get_queue_url(QueueName=bare.names.queue)["QueueUrl"]
    for _ in range(3):
        bare.aws.sqs.send_message(QueueUrl=url, MessageBody="{}")
    bare.aws.sqs.receive_message(QueueUrl=url)
    assert events.check_queue(bare.aws, bare.names).found == "2 messages wait, 1 are being worked on"
    bare.aws.client("cloudwatch").put_metric_data(  # as SQS does on AWS
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": bare.names.queue}],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=3),
                "Value": 3600.0,
            }
        ],
    )
    result = events.check_queue(bare.aws, bare.names)
    assert result.found == "2 messages wait, 1 are being worked on, the oldest for 60 minutes"
    assert result.remedy is not None
    assert f"/aws/lambda/{bare.names.indexer}" in result.remedy


def test_dead_letters(deployed: Stack) -> None:
    url = deployed.aws.sqs.get_queue_url(QueueName=deployed.names.dead_letter_queue)["QueueUrl"]
    arn = deployed.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    deployed.aws.sqs.send_message(QueueUrl=url, MessageBody="{}")
    assert deployed.problems() == [
        Finding(
            "dead letters",
            "1 messages failed for good",
            f"read in the log group /aws/lambda/{deployed.names.indexer} why, mend that, and have them tried again: "
            f"`aws sqs start-message-move-task --source-arn {arn} --region {REGION}`",
        )
    ]
    names = dataclasses.replace(deployed.names, profile="of work")
    assert f"--source-arn {arn} --region {REGION} --profile 'of work'`" in str(
        events.check_dead_letters(deployed.aws, names).remedy
    )


# The API -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "found", "remedy"),
    [
        (200, b"ok\n", "answers", None),
        (200, b"<p>Log in", "is answered by something else", "correct 'url', or look at the proxy in between"),
        (503, b"no", "answers 503", "do what is said of catalog and storage here; else read in the log group "),
        (403, b"no", "answers 403", "correct 'url' if there is one, and its mapping to the API; else run `npx sls"),
    ],
)
def test_what_the_api_answers(account: Stack, status: int, body: bytes, found: str, remedy: str | None) -> None:
    with answering(status, body) as url:
        account.make_stack(IndexUrl=url)
        result = api.check_api(account.aws, account.names)
    assert result.found == f"{url} {found}"
    assert (result.remedy is None) is (remedy is None)
    assert str(result.remedy).startswith(str(remedy))


def test_the_configured_address_is_asked(bare: Stack) -> None:
    with answering(path="/pypi/health") as url:
        bare.configure(url=url.rstrip("/"))
        assert Finding("API", f"{url} answers") in bare.findings()
    problem = next(finding for finding in bare.problems() if finding.check == "API")
    assert problem.found.startswith(f"{url} cannot be reached from here (")


def test_an_answer_that_is_none(bare: Stack) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    result = api.check_api(bare.aws, dataclasses.replace(bare.names, url=url))
    assert result.found.startswith(f"{url} cannot be reached from here (")
    assert result.remedy == "look at 'url', network, proxy and firewall"


def test_a_stack_that_does_not_say_where_its_api_is(account: Stack) -> None:
    account.make_stack()
    result = api.check_api(account.aws, account.names)
    assert result.found == f"the stack '{account.service}-dev' does not say where its API is"
    assert result.remedy == "run `npx sls deploy`"


# What may not be done ----------------------------------------------------------------------------------------------


@contextmanager
def denied(aws: AWS, service: str, operation: str) -> Iterator[None]:
    """Have AWS refuse an operation, as it does where no policy allows it."""
    client = aws.client(service)

    def refuse(**_: object) -> None:
        error = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
        raise ClientError(error, operation)  # type: ignore[arg-type]

    client.meta.events.register(f"before-call.{service}.{operation}", refuse)
    try:
        yield
    finally:
        client.meta.events.unregister(f"before-call.{service}.{operation}", refuse)


@pytest.mark.parametrize(
    ("service", "operation", "check", "action"),
    [
        ("s3", "GetBucketVersioning", "bucket's versioning", "s3:GetBucketVersioning"),
        ("s3", "GetPublicAccessBlock", "bucket's privacy", "s3:GetBucketPublicAccessBlock"),
        ("s3", "GetBucketEncryption", "bucket's encryption", "s3:GetEncryptionConfiguration"),
        ("s3", "GetBucketLifecycleConfiguration", "bucket's lifecycle", "s3:GetLifecycleConfiguration"),
        ("s3", "GetBucketCors", "bucket's CORS", "s3:GetBucketCORS"),
        ("s3", "GetBucketNotificationConfiguration", "notifications", "s3:GetBucketNotification"),
        ("dynamodb", "DescribeTable", "table", "dynamodb:DescribeTable"),
        ("dynamodb", "DescribeTimeToLive", "table's time-to-live", "dynamodb:DescribeTimeToLive"),
        ("dynamodb", "DescribeContinuousBackups", "table's backups", "dynamodb:DescribeContinuousBackups"),
        ("dynamodb", "PutItem", "items", "dynamodb:PutItem"),
        ("sqs", "GetQueueAttributes", "queue", "sqs:GetQueueAttributes"),
    ],
)
def test_what_may_not_be_done_is_named(service: str, operation: str, check: str, action: str, deployed: Stack) -> None:
    with denied(deployed.aws, service, operation):
        found = [finding for finding in examine_deployment(deployed.aws, deployed.names) if finding.remedy is not None]
    named = Finding(
        check,
        f"these credentials may not do {action}",
        f"allow {action} to who runs this, or name another 'profile'",
    )
    assert named in found
    assert {finding.check for finding in found} <= {check, "notifications", "dead letters"}


def test_that_the_address_may_not_be_read_is_named(account: Stack) -> None:
    with denied(account.aws, "cloudformation", "DescribeStacks"):
        found = {finding.check: finding.found for finding in examine_deployment(account.aws, account.names)}
    assert found["API"] == "these credentials may not do cloudformation:DescribeStacks"


def test_what_may_not_be_mended_is_named(bare: Stack) -> None:
    with denied(bare.aws, "s3", "PutBucketVersioning"):
        found = {finding.check: finding for finding in examine_deployment(bare.aws, bare.names, fix=True)}
    assert found["bucket's versioning"].found == (
        "off: what is overwritten or deleted is lost, and these credentials may not do s3:PutBucketVersioning"
    )
    assert found["bucket's versioning"].remedy is not None
    assert found["bucket's lifecycle"].mended is not None


@pytest.mark.parametrize(
    ("code", "found"),
    [("ExpiredToken", "they have expired"), ("InvalidClientTokenId", "AWS does not know them")],
)
def test_credentials_that_do_not_hold(code: str, found: str, deployed: Stack) -> None:
    aws = AWS(region=REGION)

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetCallerIdentity")

    aws.client("sts").meta.events.register("before-call.sts.GetCallerIdentity", refuse)
    (problem,) = examine_deployment(aws, deployed.names)
    assert (problem.check, problem.found) == ("credentials", found)
    assert problem.remedy is not None


def test_no_credentials_at_all(account: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert account.problems() == [
        Finding(
            "credentials",
            "there are none",
            "name a profile of ~/.aws/config in 'profile', make one with `aws configure`, or set AWS_PROFILE",
        )
    ]


def test_no_region(account: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert [(finding.check, finding.remedy) for finding in account.problems()] == [("AWS", AGAIN)]


# The command -------------------------------------------------------------------------------------------------------


def test_the_command(deployed: Stack, tmp_path: Path) -> None:
    answer = deployed.run("doctor", home=tmp_path / "home")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert [line for line in answer.stdout.splitlines() if not line.startswith("ok ")] == []
    deployed.aws.s3.put_bucket_versioning(Bucket=deployed.bucket, VersioningConfiguration={"Status": "Suspended"})
    problem = "problem  bucket's versioning: off: what is overwritten or deleted is lost. Remedy: run "
    answer = deployed.run("doctor", home=tmp_path / "home")
    assert answer.returncode == 1
    assert problem in answer.stdout
    answer = deployed.run("doctor", "--fix", "--json", home=tmp_path / "home")
    assert answer.returncode == 0
    mended = [finding for finding in json.loads(answer.stdout) if finding["mended"]]
    assert [finding["check"] for finding in mended] == ["bucket's versioning"]


def test_files_that_are_not_as_the_catalog_has_them(deployed: Stack, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    deployed.aws.s3.put_object(Bucket=deployed.bucket, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
    found = f"catalog and storage differ in acme/{wheel.name}"
    assert deployed.problems() == [Finding("sync", found, "run `elasticpypi sync`")]
    deployed.aws.s3.put_object(Bucket=deployed.bucket, Key=f"acme/{wheel.name}", Body=b"no wheel")
    deployed.sync()
    assert [finding.check for finding in deployed.problems()] == ["files"]


def test_a_fix_in_a_directory(tmp_path: Path) -> None:
    assert Finding("--fix", "there is nothing in a directory that it could mend") in list(
        examine({}, tmp_path, fix=True)
    )
