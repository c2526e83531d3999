"""The lines that a Lambda writes, read as CloudWatch reads them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from elasticpypi.audit import EVENT_LOGGER, Action, Audit
from elasticpypi.catalog.ledger import NoLedger
from elasticpypi.handler.logs import FailedSignIn, Lines, write_log_records
from elasticpypi.model import Actor

NOW = 1_795_000_000.1234


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    return Lines(service="acme-pypi", stage="dev", stream=stream, clock=lambda: NOW)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read each line; all of them are ASCII and JSON."""
    text = stream.getvalue()
    assert text.isascii()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def check_metrics(line: dict[str, Any]) -> dict[str, Any]:
    """Read the metrics of a line by the rules of the embedded metric format; return them with their units."""
    directive = line["_aws"]
    assert isinstance(directive["Timestamp"], int)
    (told,) = directive["CloudWatchMetrics"]
    assert told["Namespace"] == "elasticpypi"
    for dimensions in told["Dimensions"]:
        assert {name: line[name] for name in dimensions} == {"service": "acme-pypi", "stage": "dev"}
    found = {}
    for metric in told["Metrics"]:
        values = line[metric["Name"]]
        assert len(values if isinstance(values, list) else [values]) <= 100
        assert all(isinstance(value, int | float) for value in (values if isinstance(values, list) else [values]))
        found[metric["Name"]] = (values, metric["Unit"])
    return found


def write_request(lines: Lines, **changes: Any) -> None:
    given: dict[str, Any] = {
        "method": "GET",
        "path": "/simple/acme/",
        "status": 200,
        "size": 1234,
        "seconds": 0.01234567,
        "principal": "alice",
        "request_id": "b3c1f0a2",
    }
    lines.write_request(**given | changes)


def test_a_request_is_one_line_that_counts_it(lines: Lines, stream: io.StringIO) -> None:
    write_request(lines)
    (line,) = read(stream)
    assert check_metrics(line) == {"Requests": (1, "Count"), "Errors": (0, "Count")}
    told = {name: value for name, value in line.items() if name not in ("_aws", "Requests", "Errors")}
    assert told == {
        "kind": "request",
        "time": 1795000000.123,
        "method": "GET",
        "path": "/simple/acme/",
        "status": 200,
        "bytes": 1234,
        "seconds": 0.0123,
        "principal": "alice",
        "request_id": "b3c1f0a2",
        "service": "acme-pypi",
        "stage": "dev",
    }
    assert line["_aws"]["Timestamp"] == 1795000000123


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (404, 0), (500, 1), (503, 1)])
def test_what_we_cannot_answer_is_an_error(lines: Lines, stream: io.StringIO, status: int, errors: int) -> None:
    write_request(lines, status=status, principal=None)
    (line,) = read(stream)
    assert line["Errors"] == errors
    assert "principal" not in line


@pytest.mark.parametrize(
    ("username", "expected"),
    [("alice", {"address": "192.0.2.7", "username": "alice"}), ("", {"address": "192.0.2.7"})],
)
def test_wrong_credentials_are_told_of_in_the_line_of_their_request(
    lines: Lines, stream: io.StringIO, username: str, expected: dict[str, str]
) -> None:
    write_request(lines, status=401, principal=None, failed=FailedSignIn("192.0.2.7", username))
    (line,) = read(stream)
    assert check_metrics(line) == {"Requests": (1, "Count"), "Errors": (0, "Count"), "FailedSignIns": (1, "Count")}
    assert {name: line[name] for name in ("address", "username") if name in line} == expected


def test_an_object_is_one_line(lines: Lines, stream: io.StringIO) -> None:
    lines.write_object("acme/acme-1.tar.gz", "rejected", project="acme", reason="it is truncated", lag_seconds=1.23456)
    lines.write_object("acme/acme-2.tar.gz", "removed", project="acme")
    assert read(stream) == [
        {
            "kind": "object",
            "time": 1795000000.123,
            "key": "acme/acme-1.tar.gz",
            "outcome": "rejected",
            "project": "acme",
            "reason": "it is truncated",
            "lag": 1.235,
        },
        {
            "kind": "object",
            "time": 1795000000.123,
            "key": "acme/acme-2.tar.gz",
            "outcome": "removed",
            "project": "acme",
        },
    ]


def test_metrics_of_many_objects_come_in_lines_that_cloudwatch_takes(lines: Lines, stream: io.StringIO) -> None:
    lags = [number / 7 for number in range(250)]
    lines.write_metrics({"Indexed": 250}, lags_seconds=lags)
    found = [check_metrics(line) for line in read(stream)]
    assert found[0]["Indexed"] == (250, "Count")
    assert [value for each in found for value in each["Lag"][0]] == [round(lag, 3) for lag in lags]
    assert {each["Lag"][1] for each in found} == {"Seconds"}


@pytest.mark.parametrize(
    "hostile",
    [
        'acme-1.whl\n{"kind": "request"}',
        "acme\r\n-1.whl",
        "acme\u2028-1.whl\u0085",
        'acme"-1.whl\\',
        "acme\ud800-1.whl",
        "\x1b[31macme\x00",
        "ä" * 100_000,
    ],
)
def test_nothing_that_others_choose_breaks_a_line(lines: Lines, stream: io.StringIO, hostile: str) -> None:
    lines.write_object(hostile, "rejected", reason=hostile)
    write_request(lines, method=hostile, path=hostile, principal=hostile)
    assert [line["kind"] for line in read(stream)] == ["object", "request"]
    assert all(len(line) < 256 * 1024 for line in stream.getvalue().splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=SECRET%2F2026&X-Amz-Date=2026&X-Amz-Signature=SECRET",
        "cannot reach 'https://b/k?x-amz-security-token=SECRET'",
        "Authorization: Basic SECRET==",
        "bearer SECRET",
    ],
)
def test_no_line_has_a_secret(lines: Lines, stream: io.StringIO, text: str) -> None:
    lines.write_object("acme/acme-1.whl", "failed", reason=text)
    assert "SECRET" not in stream.getvalue()


def test_a_path_comes_without_its_query(lines: Lines, stream: io.StringIO) -> None:
    write_request(lines, path="/search?q=something")
    assert read(stream)[0]["path"] == "/search"


@contextmanager
def logging_to(lines: Lines) -> Iterator[None]:
    """Let the log go to these lines until the context ends."""
    loggers = [logging.getLogger(), logging.getLogger(EVENT_LOGGER)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        write_log_records(lines)
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate


def test_warnings_of_all_modules_become_lines(lines: Lines, stream: io.StringIO) -> None:
    with logging_to(lines):
        logging.getLogger("botocore").warning("slow\n%s", "down")
        logging.getLogger("botocore").info("not told")
        try:
            raise KeyError("what")
        except KeyError:
            logging.getLogger("elasticpypi").exception("it broke")
    first, second = read(stream)
    assert first == {
        "kind": "log",
        "time": 1795000000.123,
        "level": "WARNING",
        "logger": "botocore",
        "message": "slow\ndown",
    }
    assert second["message"].startswith("it broke\nTraceback (most recent call last):\n")
    assert second["message"].endswith("KeyError: 'what'")


def test_events_of_the_audit_trail_become_lines_each_once(lines: Lines, stream: io.StringIO) -> None:
    with logging_to(lines):
        Audit(NoLedger()).record(
            Actor("alice", "password"),
            Action.YANK,
            project="acme",
            target="1.0",
            details={"reason": "found\nBearer SECRET", "more": "x" * 10_000},
        )
    event, problem = read(stream)
    assert len(event.pop("details").pop("more")) <= 4001
    assert event | {"id": ""} == {
        "kind": "audit",
        "time": 1795000000.123,
        "id": "",
        "who": "alice",
        "credential": "password",
        "action": "yank",
        "project": "acme",
        "target": "1.0",
    }
    assert (problem["kind"], problem["level"], problem["logger"]) == ("log", "ERROR", "elasticpypi.audit")
    assert "SECRET" not in stream.getvalue()
