"""A real `sls deploy` against moto, and the deployed functions: unpacked from the deployed zip, run by themselves."""

from __future__ import annotations

import fnmatch
import io
import json
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.aws import REGION, Cloud
from tests.aws_events import failed_messages
from tests.programs import require

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("worker_main.py")
FUNCTIONS = ("api", "events", "sync")
ALONE = ("site",)
ACCOUNT = "123456789012"  # moto's
# What this machine runs, not what Lambda does.
FOR_THIS_MACHINE = ("--param=python=host", "--param=architecture=host")
_PROJECT = ("serverless.yml", "package.json", "requirements.txt", "docs/examples/cloudfront-function.js")
_OTHERS = ("AWS_", "ELASTICPYPI_", "SLS_", "PYTHON")
_LINKED = ("node_modules", ".venv")


@dataclass(frozen=True)
class Project:
    """A copy of what is needed to deploy, so that nothing is written into the checkout, and its configuration."""

    directory: Path
    cloud: Cloud
    configuration: Mapping[str, Any]

    def sls(self, *arguments: str, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `npx sls …` to its end."""
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.directory,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @property
    def program(self) -> str:
        return str(self.directory / "node_modules" / ".bin" / "sls")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables of this process, so that pip finds its index, with the cloud's."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        return {
            **inherited,
            **self.cloud.environment,
            "SLS_AWS_MONITORING_FREQUENCY": "200",  # milliseconds
            "SLS_NOTIFICATIONS_MODE": "off",
            "NODE_NO_WARNINGS": "1",
            **(extra or {}),
        }

    def configure(self, **changes: Any) -> Project:
        """Write the configuration, with changes, and return the project that has it; None leaves a key out."""
        merged = {**self.configuration, **changes}
        document = {key: value for key, value in merged.items() if value is not None or key == "profile"}
        (self.directory / "elasticpypi" / "config.json").write_text(json.dumps(document))
        return replace(self, configuration=document)

    def template(self) -> dict[str, Any]:
        """Return the template that `sls package` or `sls deploy` left behind."""
        path = self.directory / ".serverless" / "cloudformation-template-update-stack.json"
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document


def make_project(directory: Path, cloud: Cloud, **configuration: Any) -> Project:
    """Copy the project and configure it with names of its own; skip the test where Node is not installed."""
    require("node")
    if not (ROOT / "node_modules" / "osls").is_dir():
        reason = "osls is not installed: run `npm ci`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    directory.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "config.json")
    for name in ("elasticpypi", "deploy"):
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    for name in _PROJECT:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)
    for name in _LINKED:
        (directory / name).symlink_to(ROOT / name)
    packages = ROOT / ".cache" / "bundle"
    packages.mkdir(parents=True, exist_ok=True)
    (directory / ".cache").mkdir()
    (directory / ".cache" / "bundle").symlink_to(packages)
    name = f"pypi-{uuid.uuid4().hex[:8]}"
    document = {
        "service": name,
        "stage": "/dev",
        "bucket": f"{name}-files",
        "table": f"{name}-catalog",
        "profile": None,
        "username": "admin",
        "password": "secret",
        "overwrite": False,
        "region": REGION,
        **configuration,
    }
    return Project(directory, cloud, document).configure()


@dataclass(frozen=True)
class Deployment:
    """What `sls deploy` has made."""

    project: Project
    code: Path  # the bundle, unpacked
    template: Mapping[str, Any] = field(repr=False)

    @property
    def cloud(self) -> Cloud:
        return self.project.cloud

    @property
    def stage(self) -> str:
        return str(self.project.configuration["stage"]).removeprefix("/")

    @property
    def name(self) -> str:
        """What the names of functions and queues begin with."""
        return f"{self.project.configuration['service']}-{self.stage}"

    @property
    def bucket(self) -> str:
        return str(self.project.configuration["bucket"])

    @property
    def table(self) -> str:
        return str(self.project.configuration["table"])

    @property
    def output_bucket(self) -> str | None:
        """The bucket with the static files, if there are any."""
        found: str | None = self.project.configuration.get("output_bucket")
        return found

    @property
    def scheduled(self) -> str:
        """The function that a schedule calls."""
        return "sync" if "table" in self.project.configuration else "site"

    @cached_property
    def queue_url(self) -> str:
        """The queue that carries the bucket's events."""
        return self.cloud.aws.sqs.get_queue_url(QueueName=f"{self.name}-events")["QueueUrl"]

    @cached_property
    def dead_queue_url(self) -> str:
        return self.cloud.aws.sqs.get_queue_url(QueueName=f"{self.name}-events-dead")["QueueUrl"]

    @cached_property
    def outputs(self) -> dict[str, str]:
        stacks = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    @cached_property
    def gateway_responses(self) -> dict[str, dict[str, Any]]:
        """What a REST API answers by itself, by type, as the template has it."""
        return {
            resource["Properties"]["ResponseType"]: resource["Properties"]
            for resource in self.template["Resources"].values()
            if resource["Type"] == "AWS::ApiGateway::GatewayResponse"
        }

    def client(self, service: str) -> Any:
        """A client for any service of this cloud."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.cloud.environment.items():
                patch.setenv(name, value)
            return self.cloud.aws.client(service)

    def function(self, name: str) -> dict[str, Any]:
        """Return the configuration of a function as it is deployed: api, events or sync."""
        configuration: dict[str, Any] = self.client("lambda").get_function_configuration(
            FunctionName=f"{self.name}-{name}"
        )
        return configuration

    def policy(self, name: str) -> list[dict[str, Any]]:
        """Return the statements of a function's own role."""
        role = self.function(name)["Role"].rpartition("/")[2]
        iam = self.client("iam")
        statements = []
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            statements += iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]["Statement"]
        return statements

    def may(self, name: str, action: str, resource: str) -> bool:
        """Say whether a function's role allows an action on a resource."""
        return any(
            any(fnmatch.fnmatchcase(action, pattern) for pattern in _list(statement["Action"]))
            and any(fnmatch.fnmatchcase(resource, pattern) for pattern in _list(statement["Resource"]))
            for statement in self.policy(name)
            if statement["Effect"] == "Allow"
        )

    def carry(self, worker: Worker, *, size: int = 10) -> int:
        """Take messages from the queue to the function `events`, as its event source does; return how many there were.

        What the function reports as failed stays in the queue.
        """
        sqs, carried = self.cloud.aws.sqs, 0
        while messages := sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=size, AttributeNames=["All"]
        ).get("Messages"):
            records = [sqs_record(message, self.queue_url) for message in messages]
            failed = failed_messages(worker.invoke({"Records": records}))
            for message in messages:
                if message["MessageId"] not in failed:
                    sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
            carried += len(messages)
        return carried

    @contextmanager
    def worker(self, name: str, *, extra: Mapping[str, str] | None = None) -> Iterator[Worker]:
        """Run a function, alone, until the context ends."""
        configuration = self.function(name)
        environment = {
            **configuration["Environment"]["Variables"],
            "AWS_LAMBDA_FUNCTION_NAME": configuration["FunctionName"],
            "AWS_REGION": REGION,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            **self.cloud.environment,
            **(extra or {}),
        }
        log = self.project.directory / f"{name}-{uuid.uuid4().hex[:8]}.log"
        worker = Worker(self.code, configuration["Handler"], environment, log, float(configuration["Timeout"]))
        try:
            worker.start()
            yield worker
        finally:
            worker.stop()


class FunctionError(Exception):
    """A function ended in an exception, as Lambda reports it to who invoked it."""

    def __init__(self, error: Mapping[str, str]) -> None:
        super().__init__(f"{error['type']}: {error['message']}\n{error['trace']}")
        self.type = error["type"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of AWS that a function has made."""

    service: str
    operation: str
    named: Mapping[str, Any]  # bucket, key, table and the like

    def permissions(self) -> list[tuple[str, str]]:
        """Return the actions that the caller needs, each with its resource."""
        if self.service == "s3":
            return self._of_s3()
        if self.service == "dynamodb":
            table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{self.named['TableName']}"
            actions = _TRANSACTION if self.operation == "TransactWriteItems" else {self.operation: self.operation}
            wanted = self.named["Actions"] if self.operation == "TransactWriteItems" else [self.operation]
            return [(f"dynamodb:{actions[action]}", table) for action in wanted]
        queue = self.named["QueueUrl"].rpartition("/")[2]
        return [(f"{self.service}:{self.operation}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")]

    def _of_s3(self) -> list[tuple[str, str]]:
        bucket = f"arn:aws:s3:::{self.named['Bucket']}"
        if self.operation in _OF_BUCKETS:
            return [(f"s3:{_OF_BUCKETS[self.operation]}", bucket)]
        needed = [(f"s3:{_OF_OBJECTS[self.operation]}", f"{bucket}/{self.named['Key']}")]
        if "CopySource" in self.named:
            source = self.named["CopySource"]
            needed.append(("s3:GetObject", f"arn:aws:s3:::{source['Bucket']}/{source['Key']}"))
        return needed


# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
_OF_BUCKETS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}
_OF_OBJECTS = {
    "HeadObject": "GetObject",
    "GetObject": "GetObject",
    "PutObject": "PutObject",
    "CopyObject": "PutObject",
    "DeleteObject": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "ListParts": "ListMultipartUploadParts",
}
_TRANSACTION = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


class Worker:
    """A process that runs one handler of a bundle with nothing else to import, one event at a time."""

    def __init__(self, code: Path, handler: str, environment: Mapping[str, str], log: Path, seconds: float) -> None:
        self._command = [sys.executable, "-I", "-S", str(WORKER), str(code), handler]
        self._code = code
        self._environment = dict(environment)
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()
        self.log = log  # what the function prints: its log group
        self.modules: frozenset[str] = frozenset()  # that it has imported before its first event
        self.calls: list[Call] = []  # of AWS, by all events

    def start(self) -> None:
        """Import the handler; FunctionError if that fails."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._code,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        self.modules = frozenset(self._receive()["modules"])

    def __call__(self, event: Any, context: object = None) -> Any:
        """Have an event handled and return the result; FunctionError if the handler raises."""
        return self.invoke(event)

    def invoke(self, event: Any, *, seconds: float | None = None) -> Any:
        """Have an event handled, in so many seconds as the function has, or fewer."""
        with self._lock:
            assert self._process is not None
            assert self._process.stdin is not None
            asked = {"event": event, "request_id": str(uuid.uuid4()), "seconds": seconds or self._seconds}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return self._receive()["result"]

    def peak_memory(self) -> int:
        """Return the most bytes that the process has had in memory so far."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()

    def _receive(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FunctionError({"type": "Runtime.ExitError", "message": self.log.read_text()[-2000:], "trace": ""})
        document: dict[str, Any] = json.loads(line)
        self.calls += [Call(*call) for call in document.get("calls", ())]
        if "error" in document:
            raise FunctionError(document["error"])
        return document


@contextmanager
def deployed(cloud: Cloud, directory: Path, *, gateway: str = "rest", **configuration: Any) -> Iterator[Deployment]:
    """Deploy with functions that this machine runs; further keywords are configuration.

    The bucket has been looked through once, as `sls deploy` has it done on AWS.
    """
    project = make_project(directory / "project", cloud, gateway=gateway, **configuration)
    deployment = deploy(project, directory / "code")
    with deployment.worker(deployment.scheduled) as sync:
        sync.invoke({})
    yield deployment


def deploy(project: Project, code: Path, *arguments: str) -> Deployment:
    """Run `sls deploy` and unpack what it has deployed into an empty directory."""
    ran = project.sls("deploy", *FOR_THIS_MACHINE, *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    deployment = Deployment(project, code, project.template())
    function = f"{'Api' if deployment.scheduled == 'sync' else 'Site'}LambdaFunction"
    placed = deployment.template["Resources"][function]["Properties"]["Code"]
    stored = deployment.outputs["ServerlessDeploymentBucketName"]
    content = project.cloud.aws.s3.get_object(Bucket=stored, Key=placed["S3Key"])["Body"].read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(code)
    return deployment


def sqs_record(message: Mapping[str, Any], queue_url: str) -> dict[str, Any]:
    """Return a message as a function gets it."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue_url.rpartition('/')[2]}",
        "awsRegion": REGION,
    }


def _list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
