"""What a page hit and an upload cost: the calls that the packaged functions make, and how long they take when warm.

Real twine and the real `elasticpypi upload` go through a gateway on loopback; the events that S3 would send of their
files then go to the indexer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.aws_index import CloudIndex, page_event, queue_event, wheel_bytes
from bench.aws_prices import Bill
from bench.wheels import wheel_name
from tests.gateway import RestGateway
from tests.running import bare_environment

_WORKER = Path(__file__).with_name("aws_worker.py")
TWINE, DIRECT = "twine", "elasticpypi upload"


class Function:
    """A function of the bundle in a process of its own; what it uses is put on a bill."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.bill = Bill()
        self.seconds: list[float] = []  # of each invocation

    def __call__(self, event: Any, context: object = None) -> Any:
        """Have an event handled."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.bill.add_invocation(answer["seconds"])
        self.seconds.append(answer["seconds"])
        for call in answer["calls"]:
            self.bill.add_call(*call)
        return answer["result"]

    def begin_again(self) -> None:
        """Begin a new bill."""
        self.bill, self.seconds = Bill(), []


@contextmanager
def running_function(name: str, code: Path, environment: Mapping[str, str], log: Path) -> Iterator[Function]:
    """Run a function until the context ends."""
    command = [sys.executable, "-I", "-S", str(_WORKER), str(code), f"elasticpypi.handler.{name}.handle"]
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=dict(environment), text=True
        ) as process,
    ):
        try:
            yield Function(process)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Usage:
    """What one of something has used, on average."""

    name: str
    count: int
    bill: Bill
    seconds: float  # median of an invocation

    def cost(self, gateway: str) -> float:
        """Return what one costs, in dollars."""
        return self.bill.cost(gateway) / self.count


def measure_pages(index: CloudIndex, code: Path, directory: Path, *, count: int) -> list[Usage]:
    """Measure hits on a page that is in memory, whole and unchanged, and the first hit of a process."""
    with running_function("api", code, index.environment, directory / "api.log") as api:
        answer = api(page_event("rest"))
        assert answer["statusCode"] == 200, answer
        api.bill.requests = 1
        first = Usage("page, first of a process", 1, api.bill, api.seconds[0])
        tag = answer["multiValueHeaders"]["ETag"][0]
        whole = _repeat(api, "page", count, lambda: page_event("rest"))
        unchanged = _repeat(api, "page, unchanged (304)", count, lambda: page_event("rest", ("If-None-Match", tag)))
    return [whole, unchanged, first]


def _repeat(function: Function, name: str, count: int, make: Callable[[], Mapping[str, Any]]) -> Usage:
    function.begin_again()
    for _ in range(count):
        function(make())
    function.bill.requests = count
    return Usage(name, count, function.bill, statistics.median(function.seconds))


def measure_uploads(index: CloudIndex, code: Path, directory: Path, *, count: int) -> list[Usage]:
    """Measure uploads of so many wheels of 20 kB, by twine and by `elasticpypi upload`, with the indexer's part."""
    with (
        running_function("api", code, index.environment, directory / "api.log") as api,
        running_function("events", code, index.environment, directory / "events.log") as events,
    ):
        api(page_event("rest"))
        return [_upload(name, index, api, events, directory, count=count) for name in (TWINE, DIRECT)]


def _upload(name: str, index: CloudIndex, api: Function, events: Function, directory: Path, *, count: int) -> Usage:
    project = f"by-{name.split()[0]}"
    names = [wheel_name(project, f"1.{number}") for number in range(count + 1)]
    with RestGateway(api) as gateway:
        _run(name, gateway.url, directory, names[:1])  # warms up
        api.begin_again()
        events.begin_again()
        gateway.seen.clear()
        _run(name, gateway.url, directory, names[1:])
        api.bill.requests = len(gateway.seen)
    bill, seconds = api.bill, api.seconds
    api.begin_again()
    for filename in names[1:]:
        key = f"{project}/{filename}"
        # Put under a key of its own, copied, and removed: most likely in two batches, and nothing comes of the first.
        batches = [[key]] if name == TWINE else [[".elasticpypi/uploads/token"], [key, ".elasticpypi/uploads/token"]]
        bill.s3_writes += name == DIRECT  # the client's own PUT
        for batch in batches:
            events(queue_event(index.bucket, *batch))
            bill.messages += len(batch) + 2  # sent each, received and deleted together
    _add(bill, events.bill)
    return Usage(name, count, bill, statistics.median(seconds))


def _add(bill: Bill, other: Bill) -> None:
    for name in ("invocations", "seconds", "read_units", "write_units", "s3_writes", "s3_reads", "messages", "calls"):
        setattr(bill, name, getattr(bill, name) + getattr(other, name))


def _run(name: str, url: str, directory: Path, names: list[str]) -> None:
    work = directory / f"files-{time.monotonic_ns()}"
    work.mkdir()
    for filename in names:
        (work / filename).write_bytes(wheel_bytes(filename, directory))
    files = [str(work / filename) for filename in names]
    account = ["--username", "admin", "--password", "secret"]
    twine = ["twine", "upload", "--non-interactive", "--disable-progress-bar", "--repository-url", f"{url}/legacy/"]
    direct = ["elasticpypi", "upload", "--url", f"{url.replace('://', '://admin:secret@')}/"]
    command = [*twine, *account, *files] if name == TWINE else [*direct, *files]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=bare_environment(directory / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} did not upload: {done.stdout[-1000:]} {done.stderr[-1000:]}")
