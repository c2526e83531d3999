"""The loop closed: HTTP through a gateway to the deployed API, the bucket's events through a queue to the indexer.

    with running_on_aws(deployment, tmp_path) as index:
        index.put("acme/acme-1.0-py3-none-any.whl", wheel.read_bytes())
        wait_for(lambda: index.listing("acme"))

Both functions are those of the deployed zip, in processes that have nothing else to import; the pump does what Lambda's
event source does. What runs here is also held against the policies: a call that a function's role does not allow fails
the context at its end.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.aws_events import failed_messages
from tests.deployed import Call, Deployment, Worker, sqs_record
from tests.gateway import HttpGateway, RestGateway, read_gateway_responses
from tests.policies import is_allowed
from tests.running import JSON, read_listing, upload_form, wait_for

_BATCH = 50  # as in serverless.yml
_RECEIVED_AT_ONCE = 10
_BREATH_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Places:
    """What the functions work on."""

    bucket: str
    table: str
    queue_url: str
    dead_queue_url: str
    output_bucket: str | None = None  # with the static files

    @property
    def variables(self) -> dict[str, str]:
        """What tells the functions of them."""
        site = {} if self.output_bucket is None else {"ELASTICPYPI_OUTPUT_BUCKET": self.output_bucket}
        return {
            "ELASTICPYPI_BUCKET": self.bucket,
            "ELASTICPYPI_TABLE": self.table,
            "QUEUE_URL": self.queue_url,
            **site,
        }


def deployed_places(deployment: Deployment) -> Places:
    """Return what was deployed."""
    return Places(
        deployment.bucket,
        deployment.table,
        deployment.queue_url,
        deployment.dead_queue_url,
        deployment.output_bucket,
    )


def make_places(deployment: Deployment) -> Places:
    """Make others of the same kind, empty: a deployment takes half a minute."""
    cloud, original = deployment.cloud, deployed_places(deployment)
    sqs, s3 = cloud.aws.sqs, cloud.aws.s3
    bucket, table = cloud.make_bucket(), cloud.make_table()
    dead_queue = sqs.create_queue(QueueName=f"{bucket}-events-dead")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=original.queue_url, AttributeNames=["All"])["Attributes"]
    redrive = {**json.loads(attributes["RedrivePolicy"]), "deadLetterTargetArn": _arn(sqs, dead_queue)}
    made = sqs.create_queue(
        QueueName=f"{bucket}-events",
        Attributes={"VisibilityTimeout": attributes["VisibilityTimeout"], "RedrivePolicy": json.dumps(redrive)},
    )["QueueUrl"]
    notified: Any = s3.get_bucket_notification_configuration(Bucket=original.bucket)["QueueConfigurations"]
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": _arn(sqs, made), "Events": entry["Events"]} for entry in notified]
        },
    )
    output_bucket = None if original.output_bucket is None else cloud.make_bucket()
    return Places(bucket, table, made, dead_queue, output_bucket)


def _arn(sqs: Any, queue_url: str) -> str:
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    arn: str = attributes["QueueArn"]
    return arn


def read_document(deployment: Deployment, bucket: str, path: str) -> bytes | None:
    """Return an object's bytes, None where there is none."""
    s3 = deployment.cloud.aws.s3
    try:
        return s3.get_object(Bucket=bucket, Key=path)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def forget_messages(deployment: Deployment, queue_url: str) -> None:
    """Take all messages from a queue, as if they had been lost."""
    sqs = deployment.cloud.aws.sqs
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


class Pool:
    """Instances of a function: each has one event at a time."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self._idle: queue.Queue[Worker] = queue.Queue()
        for worker in workers:
            self._idle.put(worker)

    def __call__(self, event: Any, context: object = None) -> Any:
        worker = self._idle.get()
        try:
            return worker.invoke(event)
        finally:
            self._idle.put(worker)

    @property
    def calls(self) -> list[Call]:
        """What all of them have asked AWS for."""
        return [call for worker in self.workers for call in worker.calls]


class Pump:
    """Carries messages from the queue to a function, as Lambda's event source does, until it is stopped."""

    def __init__(self, deployment: Deployment, places: Places, function: Pool) -> None:
        self._sqs = deployment.cloud.aws.sqs
        self._places = places
        self._function = function
        self._stopping = threading.Event()
        self._at_work = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="pump")
        self.errors: list[Exception] = []  # that ended whole batches
        self.batches: list[int] = []  # messages of each

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._at_work:
                batch = self._receive()
                if batch:
                    self._carry(batch)
            time.sleep(_BREATH_SECONDS)  # a lock is not fair: who waits for it has a chance

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Carry nothing until the context ends."""
        with self._at_work:
            yield

    def _receive(self) -> list[Any]:
        batch: list[Any] = []
        while len(batch) < _BATCH:
            received = self._sqs.receive_message(
                QueueUrl=self._places.queue_url,
                MaxNumberOfMessages=_RECEIVED_AT_ONCE,
                WaitTimeSeconds=0 if batch else 1,
                AttributeNames=["All"],
            ).get("Messages", [])
            batch += received
            if not received:
                break
        return batch

    def _carry(self, batch: list[Any]) -> None:
        """Hand a batch over; what has failed stays in the queue, and is seen again when its time has come."""
        self.batches.append(len(batch))
        url = self._places.queue_url
        try:
            answer = self._function({"Records": [sqs_record(message, url) for message in batch]})
            failed = failed_messages(answer)
        except Exception as error:  # noqa: BLE001  # whatever a function raises
            self.errors.append(error)
            failed = {message["MessageId"] for message in batch}
        for message in batch:
            if message["MessageId"] not in failed:
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            else:  # half an hour later
                self._sqs.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )


@dataclass(frozen=True)
class IndexOnAws:
    """An index on AWS that answers."""

    deployment: Deployment
    places: Places
    gateway: RestGateway | HttpGateway
    api: Pool
    events: Pool
    sync: Worker  # which has run once, and ended
    pump: Pump
    files: Path  # what `put_files` puts into the bucket
    username: str = "admin"
    password: str = field(default="secret", repr=False)

    @property
    def url(self) -> str:
        return self.gateway.url

    def document(self, path: str) -> bytes | None:
        """Return a document among the static files; None where there is none."""
        return read_document(self.deployment, self.places.output_bucket or "", path)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def put(self, key: str, data: bytes) -> None:
        """Write an object, as somebody does who knows nothing of an index."""
        self.deployment.cloud.aws.s3.put_object(Bucket=self.places.bucket, Key=key, Body=data)

    def put_files(self) -> None:
        """Put all of `files` into the bucket."""
        for path in sorted(self.files.rglob("*")):
            if path.is_file():
                self.put(path.relative_to(self.files).as_posix(), path.read_bytes())

    def remove(self, key: str) -> None:
        self.deployment.cloud.aws.s3.delete_object(Bucket=self.places.bucket, Key=key)

    def list_keys(self) -> set[str]:
        """Return the keys of all objects, our own included."""
        pages = self.deployment.cloud.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=self.places.bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def waiting(self, *, dead: bool = False) -> int:
        """Return how many messages are in the queue, or in the one for what has failed too often."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.places.dead_queue_url if dead else self.places.queue_url
        attributes = self.deployment.cloud.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(map(int, attributes["Attributes"].values()))

    def settle(self, *, seconds: float = 60) -> None:
        """Wait until all events have been carried out."""
        wait_for(self.waiting, lambda count: count == 0, seconds=seconds)

    def fetch(self, path: str, *, method: str = "GET", follow: bool = True, **headers: str) -> requests.Response:
        """Ask with the credentials; keyword arguments are headers, `if_none_match` for If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.url + path,
                auth=(self.username, self.password),
                headers={"Accept": JSON, "Connection": "close"} | named,
                allow_redirects=follow,
                timeout=60,
            )

    def upload(self, path: Path) -> requests.Response:
        """Post a wheel or an sdist, as twine does."""
        with requests.Session() as session:
            session.trust_env = False
            return session.post(
                f"{self.url}/legacy/",
                auth=(self.username, self.password),
                data=upload_form(path.name),
                files={"content": (path.name, path.read_bytes())},
                headers={"Connection": "close"},
                timeout=60,
            )

    def listing(self, project: str) -> dict[str, str] | None:
        """Return what a project's page lists, filename to sha256; None where there is no such project."""
        return read_listing(self.fetch(f"/simple/{project}/"))

    def logs(self) -> str:
        """Return what the functions have printed."""
        return "".join(worker.log.read_text() for worker in (*self.api.workers, *self.events.workers))

    def forbidden(self) -> list[tuple[str, str, str]]:
        """Return function, action and resource of the calls that a policy does not allow."""
        found = []
        made = {"api": self.api.calls, "events": self.events.calls, "sync": self.sync.calls}
        for name, calls in made.items():
            statements = self.deployment.policy(name)
            needed = {permission for call in calls for permission in call.permissions()}
            for action, resource in sorted(needed):
                if not is_allowed(statements, action, self._as_deployed(resource)):
                    found.append((name, action, resource))
        return found

    def _as_deployed(self, resource: str) -> str:
        """Return a resource under the name that it has in the deployment."""
        ours, theirs = self.places, deployed_places(self.deployment)
        names = (
            *(((ours.output_bucket, theirs.output_bucket),) if ours.output_bucket and theirs.output_bucket else ()),
            (ours.bucket, theirs.bucket),
            (ours.table, theirs.table),
            (ours.queue_url.rpartition("/")[2], theirs.queue_url.rpartition("/")[2]),
        )
        kind, _, name = resource.rpartition(":")
        for own, deployed in names:
            for candidate in (own, f"table/{own}"):
                if name == candidate or name.startswith(f"{own}/"):
                    return f"{kind}:{name.replace(own, deployed, 1)}"
        return resource


_numbers = itertools.count(1)


@contextmanager
def running_on_aws(
    deployment: Deployment,
    directory: Path,
    *,
    gateway: str = "rest",
    places: Places | None = None,
    users: Sequence[Mapping[str, Any]] = (),
    workers: int = 2,
    extra: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Iterator[IndexOnAws]:
    """Run an index of a deployment's functions, with events, until the context ends; by default in places of its own.

    `seconds` is what the gateway waits for the API (None: as long as the real one).
    """
    places = places or make_places(deployment)
    variables = {**places.variables, **(extra or {})}
    api_variables = {**variables, "ELASTICPYPI_USERS": json.dumps(list(users))} if users else variables
    files = directory / f"files-{next(_numbers)}"
    files.mkdir(parents=True)
    with ExitStack() as stack:
        with deployment.worker("sync", extra=variables) as sync:
            sync.invoke({})  # as `sls deploy` has it done
        api = Pool([stack.enter_context(deployment.worker("api", extra=api_variables)) for _ in range(workers)])
        events = Pool([stack.enter_context(deployment.worker("events", extra=variables))])
        waiting = {} if seconds is None else {"seconds": seconds}
        if gateway == "rest":
            responses = read_gateway_responses(deployment.template)
            front: RestGateway | HttpGateway = RestGateway(api, stage=deployment.stage, responses=responses, **waiting)
        else:
            front = HttpGateway(api, **waiting)
        stack.enter_context(front)
        pump = stack.enter_context(Pump(deployment, places, events))
        index = IndexOnAws(deployment, places, front, api, events, sync, pump, files)
        yield index
        assert index.forbidden() == []
