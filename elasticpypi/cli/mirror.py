"""`elasticpypi mirror`: fetches what requirements and lock files name from upstreams, and keeps it."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from elasticpypi.cli.choosing import choose
from elasticpypi.cli.options import configured_index, data_option, json_option, print_json
from elasticpypi.cli.wanted import Needs, Wanted, read_wanted
from elasticpypi.client.at_once import run_at_once
from elasticpypi.errors import ConfigError, ElasticpypiError
from elasticpypi.index import Elsewhere, Index, Listing, NotOurs
from elasticpypi.names import NormalizedName

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_FETCHED, _UNCHANGED, _FAILED, _NOT_FETCHED = "fetched", "unchanged", "failed", "not-fetched"


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is wanted, and can be had."""

    project: NotOurs
    filename: str
    sha256: str | None = field(compare=False)  # as upstream's page says
    size: int | None = field(compare=False)  # bytes; None: the page does not say
    source: str = field(compare=False)  # who wants it first: "requirements.txt, line 3"


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something that is wanted and cannot be had."""

    project: NormalizedName
    source: str  # who wants it
    message: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A project of an upstream whose files are kept."""

    name: NotOurs
    listing: Listing


@dataclass(frozen=True, slots=True)
class _Report:
    """What has become of all that is wanted; in the order in which it is."""

    statuses: dict[_File, str]  # fetched, unchanged, failed or not-fetched
    ours: list[NormalizedName]
    problems: list[_Problem]

    def files(self, status: str) -> list[_File]:
        """Return the files of which this has become."""
        return [file for file, its_status in self.statuses.items() if its_status == status]


@click.command()
@click.option(
    "-r",
    "--requirement",
    "paths",
    metavar="FILE",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A requirements file, uv.lock, pylock.toml or pylock.*.toml; can be given several times.",
)
@click.option(
    "--parallel", metavar="N", type=click.IntRange(1, 32), default=4, show_default=True, help="Fetch so many at once."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@data_option
@json_option
def mirror(paths: tuple[Path, ...], *, parallel: int, dry_run: bool, data: Path | None, as_json: bool) -> None:
    """Fetch files from upstream ahead of time, and keep them.

    What a lock file names is fetched as it says; for a requirement all files of the newest release that it allows, or
    those that have one of its digests. That is for every platform, and without dependencies: a lock file has them all.
    Every file is held against its digest, and what lies here already is left alone.

    Only upstreams with "keep" in the configuration are fetched from. Exits with 1 if something could not be had;
    everything else is fetched all the same.
    """
    needs = read_wanted(paths)
    with configured_index(data, may_create=not dry_run, existing=dry_run) as index:
        if not index.has_upstreams:
            raise ConfigError("there is no upstream to fetch from: name one in 'upstreams' of the configuration")
        index.complete()
        report = _mirror(index, needs.wanted, parallel=parallel, dry_run=dry_run)
    if as_json:
        _print_json(needs, report, dry_run=dry_run)
    else:
        _print_report(needs, report)
    if report.problems:
        sys.exit(1)


def _print_json(needs: Needs, report: _Report, *, dry_run: bool) -> None:
    print_json(
        {
            "dry_run": dry_run,
            "files": [{**asdict(file), "status": status} for file, status in report.statuses.items()],
            "ours": report.ours,
            "skipped": [asdict(each) for each in needs.skipped],
            "problems": [asdict(problem) for problem in report.problems],
        }
    )


def _print_report(needs: Needs, report: _Report) -> None:
    counts = []
    for status, word in ((_FETCHED, "fetched"), (_NOT_FETCHED, "not yet fetched")):
        files = report.files(status)
        for file in files:
            click.echo(f"{word}: {file.filename}{_size(file)}")
        if files or status == _FETCHED:
            counts.append(f"{len(files)} {word}")
    for name in report.ours:
        click.echo(f"ours already: {name}")
    for each in needs.skipped:
        click.echo(f"skipped: {each.text}: {each.reason} ({each.source})", err=True)
    for problem in report.problems:
        click.echo(f"problem: {problem.project}: {problem.message} ({problem.source})", err=True)
    counts += [f"{len(report.files(_UNCHANGED))} unchanged", f"{len(report.ours)} ours already"]
    click.echo(", ".join([*counts, f"{len(needs.skipped)} skipped", f"{len(report.problems)} problems"]))


def _size(file: _File) -> str:
    return "" if file.size is None else f" ({file.size:,} bytes)"


# Finding out what is to be done --------------------------------------------------------------------------------------


def _mirror(index: Index, wanted: Iterable[Wanted], *, parallel: int, dry_run: bool) -> _Report:
    found, problems = _look(index, wanted, parallel)
    report = _Report({}, [], [])
    for each in wanted:
        if each.name in problems:
            report.problems.append(_Problem(each.name, each.source, problems[each.name]))
        elif each.name in found:
            _add(report, found[each.name], each)
        elif each.name not in report.ours:
            report.ours.append(each.name)
    if not dry_run:
        _fetch(index, report, parallel)
    return report


def _look(
    index: Index, wanted: Iterable[Wanted], parallel: int
) -> tuple[dict[NormalizedName, _Found], dict[NormalizedName, str]]:
    """Return the projects that are found and those that are not, with the reason; in neither are those of ours."""
    found, problems = dict[NormalizedName, _Found](), dict[NormalizedName, str]()

    def look(name: NormalizedName) -> None:
        where = index.locate(name)
        if isinstance(where, int):
            return
        try:
            found[name] = _Found(where, _find(index, where))
        except ElasticpypiError as error:
            problems[name] = str(error)

    run_at_once(look, dict.fromkeys(each.name for each in wanted), threads=parallel)
    return found, problems


def _find(index: Index, name: NotOurs) -> Listing:
    """Return what can be had of a project; raise ConfigError where its upstream's files are not kept."""
    found = index.upstreams.find(name)
    if isinstance(found, Elsewhere):
        raise ConfigError(
            f'files of {found.upstream.name!r} are not kept: its mode has to be "proxy", with "keep": true'
        )
    if not found.upstream.keep:
        raise ConfigError(f'files of {found.upstream.name!r} are not kept: add "keep": true to it')
    return found


def _add(report: _Report, found: _Found, wanted: Wanted) -> None:
    choice = choose(found.listing, wanted)
    report.problems.extend(_Problem(wanted.name, wanted.source, message) for message in choice.problems)
    for chosen in choice.files:
        file = _File(found.name, chosen.filename, chosen.sha256, chosen.size, wanted.source)
        report.statuses.setdefault(file, _UNCHANGED if _is_kept(found.listing, file) else _NOT_FETCHED)


def _is_kept(listing: Listing, file: _File) -> bool:
    kept = listing.kept.get(file.filename)
    return kept is not None and kept.file.sha256 == file.sha256


# Fetching ------------------------------------------------------------------------------------------------------------


def _fetch(index: Index, report: _Report, parallel: int) -> None:
    """Fetch the files that are not here yet, whatever becomes of the others."""
    files = report.files(_NOT_FETCHED)
    problems: dict[_File, str] = {}

    def fetch(file: _File) -> None:
        try:
            index.upstreams.keep(file.project, file.filename, sha256=file.sha256, progress=shown.receive)
        except ElasticpypiError as error:
            problems[file] = str(error)

    with _showing(files) as shown:
        run_at_once(fetch, shown.announced(files), threads=parallel)
    problems |= _find_replaced(index, [file for file in files if file not in problems])
    for file in files:
        report.statuses[file] = _FAILED if file in problems else _FETCHED
        if file in problems:
            report.problems.append(_Problem(file.project, file.source, problems[file]))


def _find_replaced(index: Index, files: Iterable[_File]) -> dict[_File, str]:
    """Return the files of which other bytes are kept than were chosen: upstream's page has changed since."""
    by_project = defaultdict[NotOurs, list[_File]](list)
    for file in files:
        by_project[file.project].append(file)
    problems: dict[_File, str] = {}
    for project, its_files in by_project.items():
        index.upstreams.look_again(project)
        try:
            listing = _find(index, project)
        except ElasticpypiError as error:
            problems |= dict.fromkeys(its_files, str(error))
            continue
        for file in its_files:
            if not _is_kept(listing, file):
                problems[file] = f"{file.filename} was replaced by its upstream meanwhile: try again"
    return problems


class _Shown:
    """Shows how much has been fetched: one bar for all files on a terminal, else a line for each that is begun."""

    def __init__(self, bar: ProgressBar[int] | None) -> None:
        self._bar = bar
        self._turn = threading.Lock()

    def announced(self, files: Iterable[_File]) -> Iterator[_File]:
        for file in files:
            if self._bar is None:
                click.echo(f"fetching {file.filename}{_size(file)}", err=True)
            yield file

    def receive(self, count: int) -> None:
        """Take note that so many bytes more have come."""
        if self._bar is not None:
            with self._turn:
                self._bar.update(count)


@contextmanager
def _showing(files: list[_File]) -> Iterator[_Shown]:
    sizes = [file.size for file in files if file.size is not None]
    if not files or len(sizes) < len(files) or not sys.stderr.isatty():
        yield _Shown(None)
        return
    label = files[0].filename if len(files) == 1 else f"{len(files)} files"
    steps = max(1, sum(sizes) // 1000)
    with click.progressbar(length=sum(sizes), label=label, file=sys.stderr, update_min_steps=steps) as bar:
        yield _Shown(bar)
