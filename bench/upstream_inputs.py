"""The index that is resolved from: projects that depend on each other, each with many releases.

The first one depends on ten others (a fan), each of which begins a chain, with some links between the chains. A
resolver has to read every project's page and the core metadata of its newest release.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.wheels import core_metadata, wheel_file, wheel_name

_CHAINS = 10
_LINKED = 3  # of as many projects, one depends on two others
_DESCRIPTION = "\n" + "What it does and how it is used, at length, as authors like to tell.\n" * 60  # 4 kB


def project_names(count: int, releases: Sequence[int]) -> list[str]:
    """Return the names of the projects, the one on top first; each ends with the number of its releases."""
    return [f"part-{number:02}-{releases[number % len(releases)]}" for number in range(count)]


def add_projects(files: Path, metadata: Path, projects: Sequence[str]) -> int:
    """Write the wheels of all releases below `files`, and their core metadata below `metadata`; return how many."""
    count = 0
    for number, project in enumerate(projects):
        directories = [place / project for place in (files, metadata)]
        for directory in directories:
            directory.mkdir(parents=True)
        for release in range(int(project.rpartition("-")[2])):
            filename, version = wheel_name(project, f"1.{release}"), f"1.{release}"
            text = _core_metadata(projects, number, version)
            wheel_file(directories[0] / filename, 0, metadata=text)
            (directories[1] / f"{filename}.metadata").write_text(text)
            count += 1
    return count


def _core_metadata(projects: Sequence[str], number: int, version: str) -> str:
    needed = [f"Requires-Dist: {projects[each]} >=1.1\n" for each in _needed(number) if each < len(projects)]
    return core_metadata(projects[number].replace("-", "_"), version) + "".join(needed) + _DESCRIPTION


def _needed(number: int) -> Iterator[int]:
    """Yield the numbers of the projects that one depends on, some of which there may not be."""
    if number == 0:
        yield from range(1, 1 + _CHAINS)
    else:
        yield number + _CHAINS
        if number % _LINKED == 0:
            yield number + _CHAINS - 1
