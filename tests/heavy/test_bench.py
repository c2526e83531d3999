"""The benchmark runs to its end on tiny indexes, measures everything there is to measure, and writes its report."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.contestants import PEERS
from bench.scenarios import QUICK, scenarios
from tests.programs import require

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything once."""
    for program in ("wrk", "nginx"):
        require(program)
    assert (PEERS / "gunicorn").exists()
    directory = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench.peers", "--quick", "--output", str(directory)]
    command += ["--kept", str(directory / "kept")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def tables(output: Path) -> dict[str, list[list[str]]]:
    """Return the rows of each section's table, without its head."""
    sections = (output / "benchmarks.md").read_text().split("\n## ")[1:]
    return {
        section.partition("\n")[0]: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ][2:]
        for section in sections
    }


def test_every_scenario_has_our_numbers(output: Path) -> None:
    measured = {row[0]: row[1:] for row in tables(output)["Pages and downloads"] if row[1] == "elasticpypi"}
    assert list(measured) == [scenario.label for scenario in scenarios(QUICK)]
    assert [label for label, row in measured.items() if float(row[1].replace(",", "")) <= 0] == []


def test_every_scenario_has_the_numbers_of_those_that_can_do_it(output: Path) -> None:
    names = [row[1] for row in tables(output)["Pages and downloads"]]
    # proxpi and pypiserver know no 304, pypiserver no JSON; it is not asked for the root
    assert Counter(names) == {"elasticpypi": 14, "nginx": 14, "floor": 12, "proxpi": 11, "pypiserver": 3}


@pytest.mark.parametrize(
    ("section", "rows"),
    [
        ("Uploads", ["elasticpypi", "pypiserver"]),
        ("Cold start and memory", ["elasticpypi", "nginx", "floor", "proxpi", "pypiserver"]),
        ("Publish until visible", ["elasticpypi"] * 4 + ["pypiserver"] * 4),
    ],
)
def test_everything_else_is_measured_too(output: Path, section: str, rows: list[str]) -> None:
    assert [row[0] for row in tables(output)[section]] == rows


def test_every_goal_has_an_outcome(output: Path) -> None:
    assert [row[-1] in ("yes", "**no**") for row in tables(output)["Goals"]] == [True] * 8


def test_sync_is_timed(output: Path) -> None:
    assert f"`elasticpypi sync` of {QUICK.synced:,} small wheels" in (output / "benchmarks.md").read_text()


def test_the_chart_is_well_formed_and_has_a_bar_for_each_number(output: Path) -> None:
    chart = ElementTree.parse(output / "benchmarks.svg")
    bars = chart.findall(".//{http://www.w3.org/2000/svg}rect")
    legend = 5
    assert len(bars) - legend == len(tables(output)["Pages and downloads"])


def test_nothing_is_left_behind(output: Path) -> None:
    assert [path.name for path in (output / "kept").iterdir()] == ["200-10-100"]
    files = output / "kept/200-10-100/files"
    assert [path for pattern in ("*.whl", "*/*-[2-5].0-*.whl") for path in files.glob(pattern)] == []
