"""`elasticpypi import`: brings in what another index has, from its directory, export, list or pages."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from elasticpypi.cli.options import (
    actor,
    configured_index,
    data_option,
    data_path,
    json_option,
    print_json,
    read_settings,
)
from elasticpypi.importing import Source
from elasticpypi.importing.run import Report, Watcher
from elasticpypi.importing.run import import_files as bring_in
from elasticpypi.index import Index, is_index
from elasticpypi.names import normalize_name

_LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal
_BAR_WIDTH = 20  # together with the numbers and an item's first characters it fits a terminal of 80
_ITEM_WIDTH = 30
_NAMED = 5  # examples of what is skipped for one reason
_Command = TypeVar("_Command", bound=Callable[..., Any])
_directory = click.Path(exists=True, file_okay=False, path_type=Path)


def _options(command: _Command) -> _Command:
    """Add what every kind of source takes."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only say what would come in; nothing is fetched.")
    return data_option(dry_run(json_option(command)))


@click.group(name="import")
def import_files() -> None:
    """Bring in the files of another index.

    Digests are verified, the rules are those of any upload, and what is here already is left alone: it can be
    repeated at any time, and goes on where it was interrupted. Exits with 1 if a file could not come in.
    """


@import_files.command("pypiserver")
@click.argument("directory", type=_directory)
@_options
def import_directory(directory: Path, **options: Any) -> None:
    """Bring in a DIRECTORY of wheels and sdists, as pypiserver has it."""
    from elasticpypi.importing.directory import PackageDirectory

    _run(PackageDirectory(directory), **options)


@import_files.command("devpi")
@click.argument("directory", type=_directory)
@click.option("--index", metavar="USER/NAME", help="Which index of the export, if more than one has files.")
@_options
def import_export(directory: Path, index: str | None, **options: Any) -> None:
    """Bring in one index of the DIRECTORY that devpi-export wrote."""
    from elasticpypi.importing.devpi import open_export

    _run(open_export(directory, index), **options)


@import_files.command("dumb-pypi")
@click.argument("package_list", metavar="LIST", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--packages-url", metavar="URL", help="URL or directory of the files; by default where LIST lies.")
@_options
def import_list(package_list: Path, packages_url: str | None, **options: Any) -> None:
    """Bring in the files of a LIST for dumb-pypi's --package-list or --package-list-json."""
    from elasticpypi.importing.dumb_pypi import PackageList

    try:
        lines = tuple(package_list.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{package_list} cannot be read as text", param_hint="LIST") from error
    _run(PackageList(lines, packages_url or str(package_list.parent)), **options)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        # Not repeated: there may be a password in it.
        raise click.BadParameter("it is not like https://USER:PASSWORD@host/simple/", param_hint="URL")


@import_files.command("index")
@click.argument("url")
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@_options
def import_index(url: str, projects: tuple[str, ...], **options: Any) -> None:
    """Bring in the PROJECTs of the index at URL, as pip would take it; all of them if none is named."""
    from elasticpypi.importing.simple_index import SimpleIndex  # its libraries take a third of a second

    _check_url(url)
    _run(SimpleIndex(url, tuple(dict.fromkeys(map(normalize_name, projects)))), **options)


def _run(source: Source, *, data: Path | None, dry_run: bool, as_json: bool) -> None:
    report = Report()
    try:
        with _index(data, dry_run=dry_run) as index, _watching() as watcher:
            index.complete()
            bring_in(index, source, watcher, report, dry_run=dry_run, by=actor())
    except BaseException:
        if report.imported:  # what has come in has come in, whatever has stopped the rest
            _print_report(source, report, dry_run=dry_run, as_json=as_json)
        raise
    _print_report(source, report, dry_run=dry_run, as_json=as_json)
    if report.failed:
        sys.exit(1)


@contextmanager
def _index(data: Path | None, *, dry_run: bool) -> Iterator[Index]:
    """Open the index; where there is none yet, a dry run compares with an empty one and leaves nothing behind."""
    with ExitStack() as stack:
        settings = read_settings(data)
        if dry_run and settings.bucket is None and not is_index(data_path(settings, data)):
            data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(configured_index(data, may_create=True))


def _print_report(source: Source, report: Report, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"source": source.name, "dry_run": dry_run, **asdict(report)})
        return
    tense = "not yet " if dry_run else ""
    for filename in report.imported:
        click.echo(f"{tense}imported: {filename}")
    for filename in report.yanked:
        click.echo(f"yanked: {filename}")
    for project, status in report.statuses.items():
        click.echo(f"{status}: {project}")
    for line in _skipped_lines(report):
        click.echo(line, err=True)
    for filename, reason in report.failed.items():
        click.echo(f"failed: {filename}: {reason}", err=True)
    counts = [f"{len(report.imported)} {tense}imported", f"{len(report.unchanged)} unchanged"]
    click.echo(", ".join([*counts, f"{len(report.skipped)} skipped", f"{len(report.failed)} failed"]))


def _skipped_lines(report: Report) -> Iterator[str]:
    """Yield a line for each reason, with the first few that it holds for."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for filename, reason in report.skipped.items():
        by_reason[reason].append(filename)
    for reason, filenames in by_reason.items():
        more = f" and {len(filenames) - _NAMED} more" if len(filenames) > _NAMED else ""
        yield f"skipped: {', '.join(filenames[:_NAMED])}{more}: {reason}"


@contextmanager
def _watching() -> Iterator[Watcher]:
    """Show progress on standard error: a bar on a terminal, a line now and then anywhere else."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with click.progressbar(length=1, file=sys.stderr, show_pos=True, width=_BAR_WIDTH, item_show_func=_shown) as bar:
        yield _Bar(bar)


class _Lines:
    """A `Watcher` that writes a line now and then."""

    def __init__(self) -> None:
        self._expected = self._projects = self._done = 0
        self._next = time.monotonic()

    def expect(self, files: int, projects: int) -> None:
        self._expected += files
        self._projects = projects

    def receive(self, filename: str, size: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINE_SECONDS
        more = f" and {self._projects} more projects" if self._projects else ""
        click.echo(f"{self._done} of {self._expected} files{more} are done; now {_item(filename, size)}", err=True)

    def finish(self) -> None:
        self._done += 1


class _Bar:
    """A `Watcher` that moves a progress bar; a project whose files are not known yet counts as one file."""

    def __init__(self, bar: Any) -> None:  # a click.progressbar, whose class click does not name in public
        self._bar = bar
        self._expected = 0

    def expect(self, files: int, projects: int) -> None:
        self._expected += files
        self._bar.length = self._expected + projects

    def receive(self, filename: str, size: int) -> None:
        self._bar.current_item = _item(filename, size)
        self._bar.render_progress()

    def finish(self) -> None:
        self._bar.update(1)


def _shown(item: object) -> str | None:
    return None if item is None else str(item)[:_ITEM_WIDTH]


def _item(filename: str, size: int) -> str:
    return f"{size / 2**20:.0f} MiB of {filename}" if size >= 2**20 else filename
