"""Eight clients that ask a server for one thing as fast as they can, with wrk."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from bench.processes import process_tree, processor_seconds

CONNECTIONS = 8
_REPORT = """\
done = function(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients got out of a server; the processor time says it even where others use the machine too."""

    rate: float  # requests per second
    p50: float  # milliseconds
    p99: float  # milliseconds
    processor: float  # microseconds per request, of all processes of the server


def has_wrk() -> bool:
    """Whether there is a program to make load with."""
    return shutil.which("wrk") is not None


def measure_load(pid: int, url: str, headers: Mapping[str, str], seconds: float) -> Load:
    """Load the server whose first process is `pid`; RuntimeError where it answers with errors or not at all."""
    before = processor_seconds(process_tree(pid))
    done = _run_wrk(url, headers, seconds)
    used = processor_seconds(process_tree(pid)) - before
    count = done["requests"]
    if done["errors"] or not count:
        raise RuntimeError(f"{url}: {count} answers and {done['errors']} errors in {seconds} s")
    return Load(count / done["microseconds"] * 1e6, done["p50"] / 1e3, done["p99"] / 1e3, used / count * 1e6)


def _run_wrk(url: str, headers: Mapping[str, str], seconds: float) -> dict[str, int]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "report.lua")
        script.write_text(_REPORT)
        done = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=True)
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


def median_load(loads: Iterable[Load]) -> Load:
    """Return the median of each number."""
    taken = list(loads)
    return Load(*(statistics.median(getattr(load, field.name) for load in taken) for field in fields(Load)))


def format_rate(rate: float) -> str:
    """Return a number of requests per second as people read it."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
