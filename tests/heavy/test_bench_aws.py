"""The benchmark of the AWS shape runs to its end, and says what every goal has come to and what everything costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.aws_prices import Bill, item_bytes, written_units

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run everything once."""
    directory = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench.aws", "--quick", "--output", str(directory)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (directory / "benchmarks-aws.md").read_text()


def rows(report: str, title: str) -> dict[str, list[str]]:
    section = report.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_every_kind_of_start_is_measured(report: str) -> None:
    starts = rows(report, "Cold starts")
    assert [bool(re.search(r"met\b", row[-1])) for row in starts.values()] == [False, False, True, True, True]
    assert all(float(row[0].removesuffix(" ms").replace(",", "")) > 0 for row in starts.values())


def test_a_page_costs_one_read_and_its_gateway(report: str) -> None:
    pages = rows(report, "What a million page hits cost")
    assert list(pages) == [
        *("page", "page, unchanged (304)", "page, first of a process", "CodeArtifact", "the first elasticpypi")
    ]
    rest, http = (float(price.removeprefix("$")) for price in pages["page"][-2:])
    assert rest - http == pytest.approx(2.5)
    assert rows(report, "The functions' calls of AWS")["page"] == ["1 dynamodb BatchGetItem"]


def test_an_upload_has_its_price_whoever_sends_it(report: str) -> None:
    uploads = rows(report, "What a thousand uploads cost")
    assert list(uploads) == ["twine", "elasticpypi upload"]
    assert all(float(price.removeprefix("$")) > 0 for row in uploads.values() for price in row[-2:])


def test_a_bill_adds_up() -> None:
    bill = Bill(requests=1_000_000)
    bill.add_invocation(0.0101)
    read = {"RequestItems": {"table": {"Keys": [], "ConsistentRead": True}}}
    bill.add_call("dynamodb", "BatchGetItem", read, {"Responses": {"table": [{"a": {"S": "x" * 5000}}]}})
    bill.add_call("s3", "PutObject", {}, {})
    bill.add_call("s3", "DeleteObject", {}, {})
    assert (bill.seconds, bill.read_units, bill.s3_writes, bill.s3_reads) == (0.011, 2.0, 1, 0)
    expected = 3.5 + (0.20 + 2 * 0.125 + 5.0) / 1e6 + 0.011 * 0.0000133334
    assert bill.cost("rest") == pytest.approx(expected)
    assert bill.cost("http") == pytest.approx(expected - 2.5)


def test_a_transaction_writes_each_item_twice() -> None:
    item = {"pk": {"S": "p"}, "body": {"B": "." * 1500}}
    assert item_bytes(item) == 2 + 1 + 4 + 1500
    assert written_units("PutItem", {"Item": item}) == 2
    assert written_units("TransactWriteItems", {"TransactItems": [{"Put": {"Item": item}}, {"Delete": {}}]}) == 6
    assert written_units("GetItem", {}) == 0
