"""Compare `elasticpypi build` with dumb-pypi: full builds, and one more file, in indexes of several sizes.

Both are fed with the same list and run in turns. Written to docs/benchmarks-static.md; with `--quick` it is printed,
unless `--output` names a directory. The indexes of ours are kept between runs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bench.contestants import PEERS
from bench.indexes import environment
from bench.static_inputs import make_index, new_wheel, project_name, write_list
from bench.static_report import BUILD, DUMB_PYPI, EVENT, OF_INDEX, OURS, Measured, Measurement, Sizes, markdown
from bench.used import Used, measure
from bench.wheels import wheel_file
from elasticpypi.config import Settings
from elasticpypi.index import open_index
from elasticpypi.names import NormalizedName
from elasticpypi.static_site.opening import open_site

ROOT = Path(__file__).parent.parent
QUICK = Sizes(rounds={100: 1, 300: 1}, events=2)
_PACKAGES_URL = "../../packages/"
_Tree = Mapping[str, tuple[int, int, int]]  # path -> inode, time of change, bytes


def main() -> None:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.static_site", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny indexes and one round, to see that all works")
    parser.add_argument("--output", type=Path, help="directory to write benchmarks-static.md to")
    parser.add_argument("--kept", type=Path, default=ROOT / ".cache/bench", help="directory of what is kept")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    output = arguments.output or (None if arguments.quick else ROOT / "docs")
    if not (PEERS / "dumb-pypi").exists():
        sys.exit("dumb-pypi is not installed: make .peers/installed")
    load_average, kept = os.getloadavg()[0], arguments.kept.absolute()
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as name:
        work = Path(name)
        _warm_up(work)
        found = [each for files in sizes.rounds for each in _measure_size(files, sizes, work, kept)]
    text = markdown(Measured(sizes, load_average, found))
    if output is None:
        print(text)
    else:
        output.mkdir(parents=True, exist_ok=True)
        (output / "benchmarks-static.md").write_text(text)


def _warm_up(work: Path) -> None:
    """Run both once, so that there is bytecode for each."""
    write_list(work / "warm.json", 10)
    for builder in (_ours, _dumb_pypi):
        measure(builder(work / "warm.json", work / "warm", None), environment())
        shutil.rmtree(work / "warm")


def _measure_size(files: int, sizes: Sizes, work: Path, kept: Path) -> Iterator[Measurement]:
    place = work / str(files)
    place.mkdir()
    yield from _measure_lists(files, sizes, place)
    data = kept / f"static-{files}"
    make_index(data, files)
    yield from _measure_index(files, sizes, data, place)
    shutil.rmtree(place)


# From lists ----------------------------------------------------------------------------------------------------------


def _ours(listed: Path, output: Path, previous: Path | None) -> list[str]:
    return _with_lists([sys.executable, "-m", "elasticpypi", "build"], listed, output, previous)


def _dumb_pypi(listed: Path, output: Path, previous: Path | None) -> list[str]:
    return _with_lists([str(PEERS / "dumb-pypi")], listed, output, previous)


def _with_lists(command: Sequence[str], listed: Path, output: Path, previous: Path | None) -> list[str]:
    options = ["--package-list-json", str(listed), "--packages-url", _PACKAGES_URL, "--output-dir", str(output)]
    return [*command, *options, *([] if previous is None else ["--previous-package-list-json", str(previous)])]


_BUILDERS: Mapping[str, Callable[[Path, Path, Path | None], list[str]]] = {OURS: _ours, DUMB_PYPI: _dumb_pypi}


def _measure_lists(files: int, sizes: Sizes, place: Path) -> Iterator[Measurement]:
    """Build anew in each round, in turns, then add one file after the other to what the last round has made."""
    lists = [place / f"list-{more}.json" for more in range(sizes.rounds[files] + 1)]
    for more, path in enumerate(lists):
        write_list(path, files, more=more)
    full: dict[str, list[Used]] = {name: [] for name in _BUILDERS}
    for _ in range(sizes.rounds[files]):
        for name, builder in _BUILDERS.items():
            shutil.rmtree(place / name, ignore_errors=True)
            full[name].append(measure(builder(lists[0], place / name, None), environment()))
    for name, runs in full.items():
        yield _say(_measurement(BUILD, name, files, runs, {}, _scan(place / name)))
    more_runs: dict[str, list[Used]] = {name: [] for name in _BUILDERS}
    trees = {}
    for previous, listed in itertools.pairwise(lists):
        for name, builder in _BUILDERS.items():
            before = _scan(place / name)
            more_runs[name].append(measure(builder(listed, place / name, previous), environment()))
            trees[name] = before, _scan(place / name)
    for name, runs in more_runs.items():
        yield _say(_measurement("", name, files, runs, *trees[name]))


# From an index of ours -----------------------------------------------------------------------------------------------


def _measure_index(files: int, sizes: Sizes, data: Path, place: Path) -> Iterator[Measurement]:
    """Build the site of an index, then add files: each once with the command, and as an event does it."""
    output = place / "of-index"
    command = [sys.executable, "-m", "elasticpypi", "build", "--data", str(data), "--output", str(output)]
    full = measure(command, environment())
    yield _say(_measurement(BUILD, OF_INDEX, files, [full], {}, _scan(output)))
    settings = Settings()
    events, commands = [], []
    with closing(open_index(settings, data=data)) as index:
        site = open_site(settings, index, place=str(output), data=data)
        for number in range(sizes.events):
            before = _scan(output) if number + 1 == sizes.events else {}
            key = _drop(data, number)
            processor, wall = time.process_time(), time.perf_counter()
            index.reconcile(key)
            report = site.update([NormalizedName(project_name(number))])
            events.append(Used(time.process_time() - processor, time.perf_counter() - wall, 0))
            if report.failed:
                raise RuntimeError(f"the event has failed: {report.failed}")
        event = _measurement("", EVENT, files, events, before, _scan(output))
        for number in range(sizes.events, sizes.events + sizes.rounds[files]):
            index.reconcile(_drop(data, number))
            before = _scan(output)
            commands.append(measure(command, environment()))
        yield _say(_measurement("", OF_INDEX, files, commands, before, _scan(output)))
    yield _say(event)


def _drop(data: Path, number: int) -> str:
    """Put a new wheel among the files and return its key."""
    key = f"{project_name(number)}/{new_wheel(number)}"
    wheel_file(data / "files" / key, 0)
    return key


# What came of it -----------------------------------------------------------------------------------------------------


def _scan(output: Path) -> _Tree:
    found, directories = {}, [str(output)]
    while directories:
        with os.scandir(directories.pop()) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    status = entry.stat(follow_symlinks=False)
                    found[entry.path] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def _measurement(what: str, name: str, files: int, runs: Sequence[Used], before: _Tree, after: _Tree) -> Measurement:
    """Return the medians of some runs, and what the last one has written."""
    written = [status[2] for path, status in after.items() if before.get(path) != status]
    median = Used(
        statistics.median(run.processor for run in runs),
        statistics.median(run.wall for run in runs),
        round(statistics.median(run.memory for run in runs)),
    )
    return Measurement(what, name, files, median, len(written), sum(written))


def _say(found: Measurement) -> Measurement:
    used = found.used
    print(
        f"{found.files:,} files, {found.what or 'one more file'}, {found.name}: {used.processor:.3f} s of processor, "
        f"{used.wall:.3f} s, {used.memory / 1e6:.0f} MB, {found.written_files:,} files written",
        file=sys.stderr,
    )
    return found


if __name__ == "__main__":
    main()
