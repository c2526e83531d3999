"""`/metrics`: numbers for Prometheus, for administrators; those of all worker processes together.

Each process keeps its counters in memory and writes them, whenever they have changed, whole into a file of its own in a
directory that all of them share. Whoever is asked adds the files up; those of a process that has ended stay, so that no
counter ever falls.

Specification: Prometheus, "Exposition formats" and "Metric and label naming".
"""

from __future__ import annotations

import json
import os
import platform
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import elasticpypi
from elasticpypi.config import Permission
from elasticpypi.errors import ForbiddenError, UnavailableError
from elasticpypi.index import Counts, Index
from elasticpypi.web.observe import Exchange, Observer
from elasticpypi.web.present import current_principal

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
_FIXED_ROUTES = {
    "/simple": "simple-root",
    "/simple/": "simple-root",
    "/legacy": "upload",
    "/legacy/": "upload",
    "/health": "health",
    "/metrics": "metrics",
}
_SIMPLE_ROOT = "simple-root"
_REFUSALS = {"400": "invalid", "401": "forbidden", "403": "forbidden", "409": "taken", "507": "full"}
# Upper bounds in seconds; a page that is kept takes less than the first, an upload of a gigabyte a few.
_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_COUNTED_SECONDS = 15.0  # counts of a large catalog take a while; several Prometheus may ask


def route_of(method: str, path: str) -> str:
    """Return which of few routes a request takes, found or not."""
    route = _FIXED_ROUTES.get(path)
    if route is not None:
        return "upload" if route == _SIMPLE_ROOT and method == "POST" else route
    if path.startswith("/simple/"):
        return "simple-project"
    if path.startswith("/packages/"):
        return "core-metadata" if path.endswith(".metadata") else "file"
    if path.startswith("/api/"):
        return "api"
    return "legacy-json" if path.startswith("/pypi/") else _OTHER


@dataclass(slots=True)
class Answers:
    """Answers of one route, method and status."""

    number: int = 0
    size: int = 0  # bytes of all of them
    seconds: float = 0.0  # of all of them
    within: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))  # by bound, the last one without


@dataclass(slots=True)
class Traffic:
    """What was asked and answered."""

    answers: defaultdict[tuple[str, str, str], Answers] = field(default_factory=lambda: defaultdict(Answers))
    uploads: Counter[str] = field(default_factory=Counter)  # by outcome
    failed_sign_ins: int = 0

    def count(self, exchange: Exchange) -> None:
        """Add one exchange."""
        method, status, seconds = exchange.method, exchange.status, exchange.seconds
        route = route_of(method, exchange.path)
        answers = self.answers[route, method if method in _METHODS else _OTHER, status]
        answers.number += 1
        answers.size += exchange.size
        answers.seconds += seconds
        answers.within[bisect_left(_BOUNDS, seconds)] += 1
        self.failed_sign_ins += exchange.failed is not None
        if exchange.added is not None:
            self.uploads[exchange.added.name.lower()] += 1
        elif route == "upload" and method == "POST":
            self.uploads[_REFUSALS.get(status, "failed")] += 1

    def add(self, document: Any) -> None:
        """Add what another process has written."""
        for *key, number, size, seconds, within in document["answers"]:
            answers = self.answers[tuple(key)]
            answers.number += number
            answers.size += size
            answers.seconds += seconds
            answers.within = [sum(pair) for pair in zip(answers.within, within, strict=True)]
        self.uploads.update(document["uploads"])
        self.failed_sign_ins += document["failed_sign_ins"]

    def to_json(self) -> str:
        """Write it down for other processes."""
        # Copies, because another thread may be counting.
        answers = list(self.answers.items())
        rows = [[*key, each.number, each.size, each.seconds, each.within] for key, each in answers]
        return json.dumps({"answers": rows, "uploads": dict(self.uploads), "failed_sign_ins": self.failed_sign_ins})


class SharedTraffic:
    """The traffic of this process, and of all that share its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own = Traffic()
        self._path = directory / f"{os.getpid()}-{time.time_ns()}.json"
        self._write()

    def __call__(self, exchanges: Sequence[Exchange]) -> None:
        """Count these exchanges."""
        for exchange in exchanges:
            self._own.count(exchange)
        self._write()

    def total(self) -> Traffic:
        """Return the traffic of all processes together."""
        total = Traffic()
        total.add(json.loads(self._own.to_json()))
        for path in self._directory.glob("*.json"):
            if path != self._path:
                total.add(json.loads(path.read_bytes()))
        return total

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        with suppress(OSError):  # on a full disk the other processes see our last numbers for a while
            draft.write_text(self._own.to_json())
            draft.replace(self._path)


def metrics_page(index: Index, observer: Observer, traffic: SharedTraffic) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Numbers(index, traffic))

    @blueprint.get("/metrics")
    def answer() -> Response:
        principal = current_principal()
        principal.require(Permission.ADMIN)
        if not principal.sees_everything:
            raise ForbiddenError(f"{principal.name!r} is limited to some projects, and the metrics are of all of them")
        observer.flush()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"})

    return blueprint


class _Numbers(Collector):
    """Reads the numbers when they are asked for."""

    def __init__(self, index: Index, traffic: SharedTraffic) -> None:
        self._index = index
        self._traffic = traffic
        self._counts: Counts | None = None
        self._until = 0.0

    def describe(self) -> list[Metric]:
        """Return nothing: the names are ours alone."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _traffic_metrics(self._traffic.total())
        info = GaugeMetricFamily("elasticpypi_info", "Which program this is.", labels=["version", "python"])
        info.add_metric([elasticpypi.__version__, platform.python_version()], 1)
        yield info
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        healthy = _gauge("healthy", "1 while catalog and storage can be used and are complete, else 0.", 0)
        try:
            counts = self._count()
            free_bytes = self._index.free_bytes()
            yield _gauge("catalog_complete", "1 once the catalog knows the whole storage.", self._index.is_complete())
            yield _gauge("projects", "Projects, those without files included.", counts.projects)
            yield _gauge("files", "Files in the storage, listed or rejected.", counts.files)
            yield _gauge("problems", "Rejected files and project.json that cannot be read.", counts.problems)
            if free_bytes is not None:
                yield _gauge("storage_free_bytes", "Room on the volume of the storage.", free_bytes)
            self._index.check()
            healthy = _gauge("healthy", healthy.documentation, 1)
        except UnavailableError:
            pass  # which is what the last number says
        yield healthy

    def _count(self) -> Counts:
        if self._counts is None or time.monotonic() > self._until:
            self._counts = self._index.counts()
            self._until = time.monotonic() + _COUNTED_SECONDS
        return self._counts


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"elasticpypi_{name}", documentation, value=value)


def _traffic_metrics(traffic: Traffic) -> Iterator[Metric]:
    requests = CounterMetricFamily("elasticpypi_requests", "Requests answered.", labels=["route", "method", "status"])
    sizes: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    within: dict[str, Counter[int]] = defaultdict(Counter)
    for (route, method, status), answers in sorted(traffic.answers.items()):
        requests.add_metric([route, method, status], answers.number)
        sizes[route] += answers.size
        seconds[route] += answers.seconds
        within[route].update(dict(enumerate(answers.within)))
    yield requests
    yield _counter("response_bytes", "Bytes of answers, as announced.", "route", sizes)
    yield _counter("uploads", "Uploads by what they came to.", "outcome", traffic.uploads)
    yield CounterMetricFamily(
        "elasticpypi_failed_sign_ins", "Requests with wrong credentials.", value=traffic.failed_sign_ins
    )
    histogram = HistogramMetricFamily(
        "elasticpypi_request_seconds", "Seconds from a request to the beginning of its answer.", labels=["route"]
    )
    bounds = [*map(str, _BOUNDS), "+Inf"]
    for route, numbers in within.items():
        cumulated = accumulate(numbers[place] for place in range(len(bounds)))
        histogram.add_metric([route], list(zip(bounds, cumulated, strict=True)), seconds[route])
    yield histogram


def _counter(name: str, documentation: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"elasticpypi_{name}", documentation, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
