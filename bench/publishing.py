"""Publish until visible, for indexes of several sizes; and how long `sync` takes to fill one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import contestants
from bench.contest import Run, has_peers
from bench.contestants import Server
from bench.indexes import add_small_projects, measure_sync, small_project, sync
from bench.processes import wait_until_idle
from bench.publish import Published, make_wheels, publish_all

_TURNS = 5
_DROPS = 5  # files are dropped this many times; each may take seconds
_FIRST = f"/simple/{small_project(0)}/"


def measure_publishing(run: Run) -> None:
    """Fill the indexes, then publish to each with each server."""
    indexes = dict(_indexes(run))
    try:
        _publish_to_ours(run, indexes)
    finally:
        for data in indexes.values():
            _take_back(data)
    if has_peers(run):
        for files, data in indexes.items():
            with run.forgiving(f"publishing to pypiserver with {files:,} files"):
                _publish_to_pypiserver(run, files, data)
    for published in run.results.published:
        _say(published)


def _indexes(run: Run) -> Iterator[tuple[int, Path]]:
    """Yield the indexes by the number of their files; the largest is the main one, all have one file a project."""
    sizes = run.results.sizes
    for files in sizes.published:
        data = run.work / f"published-{files}"
        if files == sizes.synced:
            run.results.sync = measure_sync(data, files)
        else:
            add_small_projects(data, files)
            sync(data)
        yield files, data
    yield run.results.index_files, run.main


def _publish_to_ours(run: Run, indexes: dict[int, Path]) -> None:
    """Publish to all sizes in turns, so that a busy moment of the machine hits each."""
    count = run.results.sizes.publications
    with ExitStack() as stack:
        servers = {
            files: stack.enter_context(contestants.elasticpypi(data, _FIRST, run.work))
            for files, data in indexes.items()
        }
        for server in servers.values():
            wait_until_idle(server.main.pid)
        wheels = make_wheels(run.work / "wheels", [small_project(number) for number in range(count)], "2.0")
        taken = {files: Published("elasticpypi", files, dropped=False, times=()) for files in indexes}
        for turn in range(_TURNS):
            for files, server in servers.items():
                taken[files] = taken[files].joined(publish_all(server, wheels[turn::_TURNS], files=files))
        run.results.published += taken.values()
        for files, server in servers.items():
            _drop(run, server, files, indexes[files] / "files", "3.0")


def _drop(run: Run, server: Server, files: int, directory: Path, version: str) -> None:
    wheels = make_wheels(run.work / "wheels", [small_project(number) for number in range(_DROPS)], version)
    run.results.published.append(publish_all(server, wheels, files=files, drop_into=directory))


def _publish_to_pypiserver(run: Run, files: int, data: Path) -> None:
    count = run.results.sizes.publications
    flat = run.flat(data)
    wheels = make_wheels(run.work / "wheels", [small_project(number) for number in range(count)], "2.0")
    with contestants.pypiserver(flat, _FIRST, run.work) as server:
        run.results.published.append(publish_all(server, wheels, files=files))
    with contestants.pypiserver(flat, _FIRST, run.work, method="auto") as server:
        _drop(run, server, files, flat, "3.0")


def _take_back(data: Path) -> None:
    """Remove what was published to the index that is kept."""
    for version in ("2.0", "3.0"):
        for pattern in (f"project_*-{version}-*.whl", f"project-0000[0-9][0-9]/project_*-{version}-*.whl"):
            for path in (data / "files").glob(pattern):
                path.unlink()
    sync(data)


def _say(published: Published) -> None:
    how = "dropped" if published.dropped else "posted"
    print(
        f"{published.server}, {how} to {published.files:,} files: visible after {published.median:.1f} ms, "
        f"99th percentile {published.p99:.1f} ms, {published.median_from_answer:.1f} ms after the answer",
        file=sys.stderr,
    )
