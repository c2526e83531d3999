"""The benchmark of tokens and pages runs to its end on a small index, and says what the goal has come to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def test_it_measures_both_credentials_and_every_page() -> None:
    command = [sys.executable, "-m", "bench.people", "--quick"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if re.match(r"\| .* [\d,.]+ \|$", line)]
    assert rows == [
        "a password, checked before",
        "a token",
        "the list of projects",
        "search for a part of all names",
        "search for a part of a few names",
        "search for what there is not",
        "a project of one file",
        "a project of 100 releases",
        "the feed of all",
    ]
    assert re.search(r"^Ratio of the rates, .* Goal (met|\*\*missed\*\*)\.$", done.stdout, re.MULTILINE)
