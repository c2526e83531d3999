"""Measure the AWS shape: cold starts of the packaged functions, and what page hits and uploads cost at list prices.

Everything runs here, against moto's server. Written to docs/benchmarks-aws.md; with `--quick` it is printed, unless
`--output` names a directory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.aws_cold import API, EMPTY, INDEXER, INDEXER_AGAIN, REFERENCE, Starts, measure_starts
from bench.aws_cost import Usage, measure_pages, measure_uploads
from bench.aws_index import running_index, unpack
from bench.aws_prices import MEMORY_GIGABYTES, OTHERS
from deploy.bundle import HOST, build_bundle, parse_target

ROOT = Path(__file__).parent.parent
# What a start may take at most, as a part of the first reference.
_GOALS = {API: 1.0, INDEXER_AGAIN: 0.5, INDEXER: 0.5}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 15
    pages: int = 300
    uploads: int = 20


QUICK = Sizes(rounds=1, pages=3, uploads=2)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything."""

    sizes: Sizes
    load_average: float
    packed_bytes: int
    unpacked_bytes: int
    files: int
    starts: Mapping[str, Starts]
    pages: Sequence[Usage]
    uploads: Sequence[Usage]


def main() -> None:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.aws", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of everything, to see that all works")
    parser.add_argument("--output", type=Path, help="directory to write benchmarks-aws.md to")
    arguments = parser.parse_args()
    output = arguments.output or (None if arguments.quick else ROOT / "docs")
    report = markdown(measure(QUICK if arguments.quick else Sizes()))
    if output is None:
        print(report)
    else:
        (output / "benchmarks-aws.md").write_text(report)


def measure(sizes: Sizes) -> Measured:
    """Package for this machine, and measure what was packaged."""
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bundle, code = directory / "bundle.zip", directory / "code"
        build_bundle(parse_target(HOST, HOST), bundle)
        unpacked_bytes = unpack(bundle, code)
        with running_index(directory) as index:
            return Measured(
                sizes,
                load_average,
                bundle.stat().st_size,
                unpacked_bytes,
                index.files,
                measure_starts(index, code, directory, rounds=sizes.rounds),
                measure_pages(index, code, directory, count=sizes.pages),
                measure_uploads(index, code, directory, count=sizes.uploads),
            )


def markdown(measured: Measured) -> str:
    """Return the report."""
    parts = (_introduction(measured), _starts(measured), _pages(measured), _uploads(measured), _calls(measured))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _introduction(measured: Measured) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"""\
# Benchmarks of the AWS shape

Written by `make bench` (`python -m bench.aws`), on {time.strftime("%Y-%m-%d")}, with Python {python} on a machine
with {os.cpu_count()} cores (load average {measured.load_average:.1f} before it began). **It is not a Lambda**, which
with 1 GB of memory has about half a core once it has started; DynamoDB and S3 are moto's server on the same machine,
whose answers take some milliseconds of the same cores. Read the ratios, and the calls, which are what they are on AWS.

The functions run from the bundle that `sls deploy` would deploy, packaged for this machine and unpacked, with nothing
else to import: {measured.packed_bytes / 1e6:.1f} MB, unpacked {measured.unpacked_bytes / 1e6:.1f} MB with its bytecode.
"""


def _starts(measured: Measured) -> str:
    reference = measured.starts[REFERENCE]
    rows = [
        (
            starts.name,
            f"{starts.median * 1e3:,.0f} ms",
            f"{starts.median / reference.median:.2f}",
            f"{starts.processor * 1e3:,.0f} ms",
            f"{starts.processor / reference.processor:.2f}",
            _outcome(name, starts.median / reference.median),
        )
        for name in (EMPTY, REFERENCE, API, INDEXER_AGAIN, INDEXER)
        for starts in (measured.starts[name],)
    ]
    head = ("", "until answered", "ratio", "processor", "ratio", "goal")
    return f"""\
## Cold starts

From the spawn of a process until it has answered its first event; medians of {measured.sizes.rounds} rounds, in each of
which everyone starts once. The processor time beside it is that of the process alone, without moto's. Ratios are to the
first reference: what a function takes that begins with `import flask, boto3` and two clients (DynamoDB and S3), from
packages as pip installs them, with valid bytecode, and then answers without a call. The API answers with a page of
{measured.files} files that is kept; the indexer gets a batch of one message, about a file that it knows, or a wheel of
20 kB that it does not.

{_table(head, rows)}

What an indexer's start is made of, roughly: two fifths is importing botocore with urllib3 and all that these import, a
quarter our own modules (half of it making dataclasses), a seventh the two clients, a tenth the interpreter, the rest is
other modules and the calls. Half of the first reference is out of reach without another client than botocore's.
"""


def _outcome(name: str, ratio: float) -> str:
    goal = _GOALS.get(name)
    return "" if goal is None else f"{'met' if ratio < goal else '**not met**'} (below {goal:g})"


def _pages(measured: Measured) -> str:
    rows = [
        (usage.name, *_used(usage), f"${usage.cost('rest') * 1e6:.2f}", f"${usage.cost('http') * 1e6:.2f}")
        for usage in measured.pages
    ]
    rows += [(name, "", "", "", "", f"${price:.2f}", "") for name, price in OTHERS.items()]
    head = ("", "Lambda", "read units", "write units", "S3 and SQS", "a million, REST API", "HTTP API")
    return f"""\
## What a million page hits cost

List prices (`bench/aws_prices.py`), without free tier, traffic, storage and logs. Calls are counted; DynamoDB's units
are computed from the sizes of the items that were read and written; Lambda is billed for the time measured here, each
invocation rounded up to a millisecond, at {MEMORY_GIGABYTES:g} GB on arm64. moto's own time is in it.

{_table(head, rows)}
"""


def _uploads(measured: Measured) -> str:
    rows = [
        (usage.name, *_used(usage), f"${usage.cost('rest') * 1e3:.3f}", f"${usage.cost('http') * 1e3:.3f}")
        for usage in measured.uploads
    ]
    head = ("", "Lambda", "read units", "write units", "S3 and SQS", "a thousand, REST API", "HTTP API")
    return f"""\
## What a thousand uploads cost

Wheels of 20 kB through a REST API, {measured.sizes.uploads} in one run of the command; each file's events then go to
the indexer, one file at a time. Numbers are for one file, all requests of the client and the indexer's look included.

{_table(head, rows)}
"""


def _used(usage: Usage) -> tuple[str, ...]:
    bill, count = usage.bill, usage.count
    return (
        f"{bill.invocations / count:.3g} × {bill.seconds / bill.invocations * 1e3:.1f} ms",
        f"{bill.read_units / count:.3g}",
        f"{bill.write_units / count:.3g}",
        f"{bill.s3_writes / count:.3g} PUT, {bill.s3_reads / count:.3g} GET, {bill.messages / count:.3g} SQS",
    )


def _calls(measured: Measured) -> str:
    rows = [
        (
            usage.name,
            ", ".join(f"{calls / usage.count:.3g} {name}" for name, calls in Counter(usage.bill.calls).items()),
        )
        for usage in (*measured.pages, *measured.uploads)
    ]
    return f"## The functions' calls of AWS\n\nFor one of each, on average.\n\n{_table(('', 'calls'), rows)}\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


if __name__ == "__main__":
    main()
