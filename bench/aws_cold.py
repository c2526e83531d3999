"""Cold starts: from the spawn of a process until it has answered its first event, for our functions and two references.

Each process runs the same interpreter with the same flags and finds nothing but one directory: the unpacked bundle, or
for the reference the packages as pip installs them. Everyone is started once in each round, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.aws_index import PROJECT, CloudIndex, page_event, queue_event, wheel_bytes
from bench.wheels import wheel_name

REFERENCE, EMPTY, API, INDEXER, INDEXER_AGAIN = (
    "`import flask, boto3`, two clients",
    "empty handler",
    "API: a page",
    "indexer: a new file",
    "indexer: a file that it knows",
)
_REFERENCE = """
import flask, boto3
boto3.client("dynamodb"), boto3.client("s3")
"""
_EMPTY = """
def handle(event, context): return {}
"""
# What Lambda's runtime does for each: it gets the event, calls the handler and sends the answer back. Nobody cleans up.
_RUNNER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
{program}
class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self): return 60_000
event = json.load(sys.stdin)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
answers.write(json.dumps({call}))
answers.close()
sys.stdout.flush()
os._exit(0)
"""
_CALL = "handle(event, Context())"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until the answer was read, and those of processor."""

    seconds: float
    processor: float


@dataclass(frozen=True, slots=True)
class Starts:
    """The starts of one kind."""

    name: str
    starts: Sequence[Start]

    @property
    def median(self) -> float:
        return statistics.median(start.seconds for start in self.starts)

    @property
    def processor(self) -> float:
        """The median of the processor time, in which nobody else has a part."""
        return statistics.median(start.processor for start in self.starts)


def measure_starts(index: CloudIndex, code: Path, directory: Path, *, rounds: int) -> dict[str, Starts]:
    """Start everyone so many times, in turns; `code` is the unpacked bundle, `directory` one to work in."""
    full = Path(sysconfig.get_path("purelib"))
    key = f"{PROJECT}/{wheel_name(PROJECT, '1.0')}"
    starts: dict[str, list[Start]] = {name: [] for name in (EMPTY, REFERENCE, API, INDEXER_AGAIN, INDEXER)}
    for number in range(-1, rounds):  # the first round only warms up: caches, and bytecode of the reference
        name = wheel_name(PROJECT, f"2.{number + 1}")
        new = f"{PROJECT}/{name}"
        index.put(new, wheel_bytes(name, directory))
        once = {
            EMPTY: start(_EMPTY, {}, code, index.environment),
            REFERENCE: start(_REFERENCE, {}, full, index.environment, call="{}"),
            API: start(_handler("api"), page_event("rest"), code, index.environment),
            INDEXER_AGAIN: start(_handler("events"), queue_event(index.bucket, key), code, index.environment),
            INDEXER: start(_handler("events"), queue_event(index.bucket, new), code, index.environment),
        }
        start(_handler("api"), page_event("rest"), code, index.environment)  # the page is rendered, and kept
        if number >= 0:
            for kind, taken in once.items():
                starts[kind].append(taken)
    return {name: Starts(name, taken) for name, taken in starts.items()}


def _handler(function: str) -> str:
    return f"from elasticpypi.handler.{function} import handle"


def start(program: str, event: object, path: Path, environment: Mapping[str, str], *, call: str = _CALL) -> Start:
    """Start a process and wait until it has answered; RuntimeError where it answers anything but success."""
    source = _RUNNER.format(program=program, call=call)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", source, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        process.stdin.write(json.dumps(event).encode())
        process.stdin.close()
        answer = process.stdout.read()
        seconds = time.perf_counter() - began
        log = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(answer or b"null")
    if document is None or document.get("statusCode", 200) != 200 or document.get("batchItemFailures"):
        raise RuntimeError(f"a function did not do its work: {document} {log[-2000:]}")
    return Start(seconds, usage.ru_utime + usage.ru_stime)
