"""The benchmark of upstreams runs to its end with a few small projects, and says what the goals have come to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contestants import PEERS, find_nginx
from bench.load import has_wrk
from bench.resolving import Installer
from bench.upstream_report import Way

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def report() -> str:
    """Run everything once."""
    assert (PEERS / "gunicorn").exists()
    assert find_nginx() is not None
    assert has_wrk()
    command = [sys.executable, "-m", "bench.upstream", "--quick"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def labels(report: str, head: str) -> list[tuple[str, str]]:
    """Return the first two cells of all rows of the tables that begin with a cell."""
    tables = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", report, re.MULTILINE)
    cells = [line.strip("|").split("|") for rows in tables for line in rows.splitlines()]
    return [(first.strip(), second.strip()) for first, second, *_ in cells]


def test_each_installer_resolves_from_everybody_before_each_upstream(report: str) -> None:
    everybody = [
        (installer if way is Way.ITSELF else "", way) for installer in (Installer.UV, Installer.PIP) for way in Way
    ]
    assert labels(report, "With") == [*everybody, *everybody]
    assert re.findall("^## Upstream: (.*)$", report, re.MULTILINE) == ["`elasticpypi serve`", "nginx with static files"]


def test_a_page_is_loaded_in_each_form_that_a_server_has(report: str) -> None:
    asked = [
        (f"page of 4 files, {form}" if way is Way.ITSELF else "", way)
        for form in ("JSON", "JSON, gzip", "304")
        for way in Way
        if (form, way) != ("304", Way.PROXPI)
    ]
    assert labels(report, "Asked for") == [*asked, *asked]


def test_every_goal_has_an_outcome(report: str) -> None:
    goals = report.partition("## Goals\n")[2].partition("\n## ")[0]
    outcomes = re.findall(r"^\| (?!Goal )(.+?) \| (.+?) \| (yes|\*\*no\*\*) \|$", goals, re.MULTILINE)
    assert len(outcomes) == 2
    assert all(len(re.findall(r"\d+\.\d\d \((?:uv|pip), ", measured)) == 4 for _, measured, _ in outcomes)
