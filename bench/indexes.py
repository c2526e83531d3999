"""Indexes to measure: directories of wheels, and the catalogs that `elasticpypi sync` makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.scenarios import LARGE_PROJECT, Sizes, page_project
from bench.wheels import add_wheels

USERNAME, PASSWORD = "reader", "secret"
_DONE = "filled"


def environment() -> dict[str, str]:
    """Return the environment of our own commands: no settings but credentials."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ELASTICPYPI_")}
    return kept | {"ELASTICPYPI_USERNAME": USERNAME, "ELASTICPYPI_PASSWORD": PASSWORD}


def small_project(number: int) -> str:
    """Return the name of one of the projects that have a single wheel."""
    return f"project-{number:06}"


def make_main_index(data: Path, sizes: Sizes) -> None:
    """Fill an index with the projects of all scenarios; what an earlier run has left is used again."""
    files = data / "files"
    if not (data / _DONE).exists():
        for count in sizes.pages:
            add_wheels(files / page_project(count), page_project(count), count)
        add_wheels(files / LARGE_PROJECT, LARGE_PROJECT, 1, size=sizes.download)
        add_small_projects(data, sizes.projects - len(sizes.pages) - 1)
        (data / _DONE).touch()
    try:
        sync(data)
    except RuntimeError:  # the catalog of another version
        (data / "catalog.sqlite").unlink()
        sync(data)


def add_small_projects(data: Path, count: int) -> None:
    """Write projects of one small wheel each."""
    for number in range(count):
        add_wheels(data / "files" / small_project(number), small_project(number), 1)


def sync(data: Path) -> float:
    """Run `elasticpypi sync` and return how many seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "elasticpypi", "sync", "--data", str(data)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2_000:]}")
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class SyncTimes:
    """How long `sync` takes over an index of small wheels."""

    files: int
    first_seconds: float
    again_seconds: float  # when nothing has changed


def measure_sync(data: Path, count: int) -> SyncTimes:
    """Fill an index in the empty directory `data`."""
    add_small_projects(data, count)
    time.sleep(1.5)  # until the last file is settled
    return SyncTimes(count, sync(data), sync(data))
