"""The benchmark of the static site runs to its end on tiny indexes, and says what every goal has come to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.contestants import PEERS
from bench.static_inputs import FILES_A_PROJECT
from bench.static_report import DUMB_PYPI, EVENT, OF_INDEX, OURS
from bench.static_site import QUICK
from bench.used import measure

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run everything once."""
    assert (PEERS / "dumb-pypi").exists()
    directory = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench.static_site", "--quick", "--output", str(directory)]
    command += ["--kept", str(directory / "kept")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (directory / "kept").iterdir()) == ["static-100", "static-300"]
    return (directory / "benchmarks-static.md").read_text()


def rows(report: str, title: str) -> list[list[str]]:
    section = report.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("title", "names"),
    [("Full builds", [DUMB_PYPI, OURS, OF_INDEX]), ("One more file", [DUMB_PYPI, OURS, OF_INDEX, EVENT])],
)
def test_each_has_its_numbers_at_each_size(report: str, title: str, names: list[str]) -> None:
    found = rows(report, title)
    assert [row[1] for row in found] == names * len(QUICK.rounds)
    assert [row[0] for row in found[:: len(names)]] == [f"{files:,}" for files in QUICK.rounds]
    assert [row for row in found if row[2].startswith("0.0 ") or row[5] == "0"] == []


def test_a_full_build_writes_all_pages_and_one_more_file_those_of_its_project(report: str) -> None:
    def written(title: str, name: str) -> list[int]:
        return [int(row[5].replace(",", "")) for row in rows(report, title) if row[1] == name]

    fewest = [files // FILES_A_PROJECT * 7 for files in QUICK.rounds]  # dumb-pypi's for each project of five releases
    for name in (DUMB_PYPI, OURS, OF_INDEX):
        assert all(count > least for count, least in zip(written("Full builds", name), fewest, strict=True))
    assert len(set(written("One more file", EVENT))) == 1


def test_every_goal_has_an_outcome(report: str) -> None:
    assert [row[-1] in ("yes", "**no**") for row in rows(report, "Goals")] == [True] * 3


def test_memory_is_that_of_the_command_and_not_of_who_measures_it() -> None:
    kept = b"." * 200_000_000
    small = measure([sys.executable, "-I", "-S", "-c", "print('.' * 1000)"], {})
    large = measure([sys.executable, "-I", "-S", "-c", "print(len('.' * 100_000_000))"], {})
    assert small.memory < 50_000_000 < 100_000_000 < large.memory < len(kept)


def test_processor_time_is_what_was_computed_and_not_what_was_waited_for() -> None:
    used = measure([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1)"], {})
    assert used.processor < 0.5 < 1 < used.wall


def test_a_command_that_fails_is_told_with_what_it_says() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        measure([sys.executable, "-I", "-S", "-c", "import sys; sys.exit('no such thing')"], {})
