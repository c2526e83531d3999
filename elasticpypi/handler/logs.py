"""What a Lambda writes down: a JSON line for each request and object, and metrics in the same lines.

A metric costs no request of ours: CloudWatch reads it out of a line that says which of its keys are metrics ("Embedded
metric format" in the CloudWatch user guide). What clients send can break no line, since JSON escapes it and all lines
are ASCII; what is long is cut. No line has a secret: paths come without their query, and of a signed URL, should one
come along in an error of somebody else's, nothing is kept that makes it work.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from elasticpypi.audit import EVENT_LOGGER

NAMESPACE = "elasticpypi"
# CloudWatch takes as many values of a metric in one line.
_MAX_VALUES = 100
_LONGEST = 4000  # characters of one text
_UNITS = {"Lag": "Seconds", "SiteLag": "Seconds"}  # all others are counts
_SECRET = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|(?:Basic|Bearer)\s+)[^\s&\"'<>\\]+", re.IGNORECASE
)
Values = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class FailedSignIn:
    """Credentials that somebody has sent, and that were wrong."""

    address: str  # of the client
    username: str  # as it was given; "" where it is none that we know: it may be a password


class Lines:
    """Writes the lines of one function."""

    def __init__(
        self,
        *,
        service: str,
        stage: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stream` is standard output where it is None; `clock` gives seconds since 1970."""
        self._dimensions = {"service": service, "stage": stage}
        self._stream = stream
        self._clock = clock

    def write_request(
        self,
        *,
        method: str,
        path: str,
        status: int,
        size: int,
        seconds: float,
        principal: str | None,
        request_id: str | None,
        failed: FailedSignIn | None = None,
    ) -> None:
        """Write the line of a request and count it; `path` is without the query, `size` that of the answer's body."""
        fields = {
            "method": method,
            "path": path.partition("?")[0],
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 4),
            "principal": principal,
            "request_id": request_id,
        }
        metrics = {"Requests": 1, "Errors": int(status >= 500)}
        if failed is not None:
            fields |= {"address": failed.address, "username": failed.username or None}
            metrics |= {"FailedSignIns": 1}
        self.write("request", fields, metrics=metrics)

    def write_object(
        self,
        key: str,
        outcome: str,
        *,
        project: str | None = None,
        reason: str | None = None,
        lag_seconds: float | None = None,
    ) -> None:
        """Write the line of an object; `lag_seconds` is the time from its event to its place on the page."""
        lag = None if lag_seconds is None else round(lag_seconds, 3)
        self.write("object", {"key": key, "outcome": outcome, "project": project, "reason": reason, "lag": lag})

    def write_metrics(self, counts: Mapping[str, int], *, lags_seconds: Sequence[float] = ()) -> None:
        """Write nothing but metrics: how many of what, and the time that each object took to be seen."""
        lags = [round(lag, 3) for lag in lags_seconds]
        self.write("metrics", {}, metrics={**counts, **({"Lag": lags[:_MAX_VALUES]} if lags else {})})
        for first in range(_MAX_VALUES, len(lags), _MAX_VALUES):
            self.write("metrics", {}, metrics={"Lag": lags[first : first + _MAX_VALUES]})

    def write(self, kind: str, fields: Mapping[str, object], *, metrics: Mapping[str, Values] | None = None) -> None:
        """Write a line; fields that are None are left out."""
        now = self._clock()
        document: dict[str, object] = {"kind": kind, "time": round(now, 3)}
        document |= {name: _cut(value) for name, value in fields.items() if value is not None}
        if metrics:
            document |= {**self._dimensions, **metrics, "_aws": _directive(metrics, now, self._dimensions)}
        # In one piece: each write may become a line of its own.
        (self._stream or sys.stdout).write(json.dumps(document, separators=(",", ":")) + "\n")


def _cut(value: object) -> object:
    """Take secrets out of a text, and the middle out of one that is too long; the same with those of a mapping."""
    if isinstance(value, Mapping):
        return {name: _cut(each) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    text = _SECRET.sub(r"\1***", value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _directive(metrics: Mapping[str, Values], now: float, dimensions: Mapping[str, str]) -> Mapping[str, object]:
    """Say which keys of the line are metrics, and what they are broken down by."""
    return {
        "Timestamp": int(now * 1000),
        "CloudWatchMetrics": [
            {
                "Namespace": NAMESPACE,
                "Dimensions": [list(dimensions)],
                "Metrics": [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in metrics],
            }
        ],
    }


class _EventHandler(logging.Handler):
    """Writes the events of the audit trail as lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        event = dict(getattr(record, "event", {}))
        event.pop("time", None)  # each line has its own
        self._lines.write("audit", event)


class _Handler(logging.Handler):
    """Writes log records as lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"level": record.levelname, "logger": record.name, "message": self.format(record)}
        self._lines.write("log", fields)


def write_log_records(lines: Lines) -> None:
    """Let warnings and errors of all modules, and the events of the audit trail, become such lines.

    Instead of what Lambda makes of them.
    """
    root = logging.getLogger()
    root.handlers[:] = [_Handler(lines)]
    root.setLevel(logging.WARNING)
    events = logging.getLogger(EVENT_LOGGER)
    events.handlers[:] = [_EventHandler(lines)]
    events.setLevel(logging.INFO)
    events.propagate = False
