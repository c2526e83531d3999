"""`elasticpypi build`: writes the index as static files, from our own catalog or from the lists of dumb-pypi."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from elasticpypi.cli.options import configured_index, data_option, data_path, json_option, print_json, read_settings
from elasticpypi.cli.progress import Throttle
from elasticpypi.config import CORE_METADATA_PLACES, Settings, check_packages_url, check_reference
from elasticpypi.index_url import parse_index_url
from elasticpypi.static_site import CoreMetadataPlace, SiteOptions, Source
from elasticpypi.static_site.opening import open_listed_site, open_site, output_place, site_options

if TYPE_CHECKING:
    from elasticpypi.static_site.site import SiteReport

_SETTLING_SECONDS = 10.0  # for files that are being copied
_Progress = Callable[["SiteReport"], None]
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _check_url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return parse_index_url(value).url
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.isprintable():
        raise click.BadParameter("it has a control character")
    return value or None  # as good as not given


def _check_link(check: Callable[[str], None], _: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not value:
        raise click.BadParameter("it is empty")
    try:
        check(value)
    except ValueError as error:
        raise click.BadParameter(f"it {error}") from error
    return value


def _looks(command: _Command) -> _Command:
    """Add the options that take the place of a key of the configuration, each under the key's name."""
    for option in reversed(
        (
            click.option(
                "--packages-url",
                metavar="URL",
                callback=partial(_check_link, check_packages_url),
                help="What links to files begin with, absolute or relative to a project's page; by default the "
                "index's own packages/ beside the pages.",
            ),
            click.option("--url", "output_url", metavar="URL", callback=_check_url, help="Where the pages are found."),
            click.option("--title", metavar="TEXT", callback=_check_text, help="Title of the pages for people."),
            click.option(
                "--logo",
                metavar="URL",
                callback=partial(_check_link, check_reference),
                help="Image on the pages for people.",
            ),
            click.option(
                "--logo-width", metavar="PIXELS", type=click.IntRange(0, 10_000), help="Its width; 0: as it is."
            ),
            click.option(
                "--core-metadata",
                type=click.Choice(CORE_METADATA_PLACES),
                help="Where clients find core metadata: among the pages, beside the files, or nowhere. "
                "By default among the pages, but nowhere with --packages-url, and as a list says with a list.",
            ),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class _List:
    """A list for dumb-pypi, as the options name it."""

    stream: BinaryIO
    as_json: bool


_file = click.File("rb")


def _lists(command: _Command) -> _Command:
    """Add dumb-pypi's inputs."""
    for name, words in reversed(
        (
            ("--package-list", "Build from a list of filenames, one a line; - is standard input."),
            ("--package-list-json", "Build from JSON objects, one a line; - is standard input."),
            ("--previous-package-list", "What the list was the last time; the output itself knows that better."),
            ("--previous-package-list-json", "Likewise with JSON objects."),
        )
    ):
        command = click.option(name, metavar="FILE", type=_file, help=words)(command)
    return command


@click.command()
@click.option(
    "--output",
    "--output-dir",
    "place",
    metavar="DIR|s3://BUCKET/PREFIX",
    help="Where to write; by default the output_bucket of the configuration.",
)
@_lists
@_looks
@click.option("--no-per-release-json", is_flag=True, help="Leave out /pypi/<project>/<version>/json.")
@click.option(
    "--no-generate-timestamp",
    is_flag=True,
    expose_value=False,
    help="For dumb-pypi's sake: no page ever says when it was made.",
)
@click.option("--everything", is_flag=True, help="Look at all that lies there, and mend what is not as it should be.")
@click.option("--strict", is_flag=True, help="Exit with 1 if a file was skipped or rejected.")
@click.option("--quiet", is_flag=True, help="Print problems only, as cron wants it.")
@json_option
@data_option
def build(
    place: str | None,
    *,
    no_per_release_json: bool,
    everything: bool,
    strict: bool,
    quiet: bool,
    as_json: bool,
    data: Path | None,
    **given: Any,
) -> None:
    """Write the index as files that any web server serves, or S3 itself.

    Only what has changed is written, and what is gone is removed. It can be repeated at any time, beside a server and
    beside another build, and goes on where it was interrupted.
    """
    listed, previous = _pick("package_list", given), _pick("previous_package_list", given)
    given = {key: value for key, value in given.items() if value is not None}
    settings = replace(read_settings(data), **given)
    place = place or output_place(settings)
    if place is None:
        raise click.UsageError("Say where to write: --output DIR or --output s3://BUCKET/PREFIX.")
    if listed is None:
        if previous is not None:
            raise click.UsageError("A previous list goes with --package-list or --package-list-json.")
        build_it = partial(_build_index, data=data)
    else:
        _check_list(listed, previous, settings, {"data": data, **given})
        build_it = partial(_build_list, listed=listed)
    skipped = _Skipped()
    options = site_options(settings, per_release_json=not no_per_release_json)
    report = build_it(settings, place, options, skipped, everything=everything, progress=_Lines(quiet=quiet).show)
    _tell(report, skipped, as_json=as_json, quiet=quiet)
    if report.failed or (strict and skipped.files):
        sys.exit(1)


def _build_index(
    settings: Settings,
    place: str,
    options: SiteOptions,
    skipped: _Skipped,
    *,
    data: Path | None,
    everything: bool,
    progress: _Progress,
) -> SiteReport:
    with configured_index(data, existing=True) as index:
        if not index.is_complete():
            index.sync(patience_seconds=_SETTLING_SECONDS)
        site = open_site(settings, index, place=place, data=data_path(settings, data), options=options)
        report = site.build(everything=everything, progress=progress)
        for entry in index.problems():
            skipped.add("rejected", entry.key, entry.problem or "")
        return report


def _build_list(
    settings: Settings,
    place: str,
    options: SiteOptions,
    skipped: _Skipped,
    *,
    listed: _List,
    everything: bool,
    progress: _Progress,
) -> SiteReport:
    from elasticpypi.static_site.of_lists import read_list
    from elasticpypi.static_site.undescribed import Undescribed

    source: Source = read_list(
        listed.stream,
        as_json=listed.as_json,
        packages_url=settings.packages_url or "",
        report=lambda line: skipped.add("skipped", line.name, line.reason),
    )
    if settings.core_metadata == CoreMetadataPlace.NONE:
        source = Undescribed(source)
    # Whatever a list announces is beside the files, and nothing of it is ours to write.
    options = replace(options, core_metadata=CoreMetadataPlace.NONE)
    site = open_listed_site(settings, source, place=place, options=options)
    return site.build(everything=everything, progress=progress)


# Lists -----------------------------------------------------------------------------------------------------------


def _pick(name: str, given: dict[str, Any]) -> _List | None:
    """Take a list's two options out of what is given, and return the one that is used."""
    plain, as_json = given.pop(name), given.pop(f"{name}_json")
    if plain is not None and as_json is not None:
        option = f"--{name.replace('_', '-')}"
        raise click.UsageError(f"{option} and {option}-json name two lists: give one of them.")
    if as_json is not None:
        return _List(as_json, as_json=True)
    return None if plain is None else _List(plain, as_json=False)


def _check_list(listed: _List, previous: _List | None, settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise UsageError for what does not go with a list.

    The previous one has nothing more to say: what an output was made of is noted there.
    """
    if settings.packages_url is None:
        raise click.UsageError("A list does not say where its files are: add --packages-url URL.")
    if given.get("data") is not None:
        raise click.UsageError("--data and a list name two different sources: give one of them.")
    if given.get("core_metadata", "none") != "none":
        raise click.UsageError("A list says itself of which files there is core metadata: --core-metadata can be none.")
    if previous is not None and previous.stream is listed.stream:
        raise click.UsageError("Standard input cannot be both lists.")


# What it says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Skipped:
    """What no page shows; each is told of at once."""

    files: list[tuple[str, str]] = field(default_factory=list)  # name or key, reason

    def add(self, verb: str, name: str, reason: str) -> None:
        self.files.append((name, reason))
        click.echo(f"{verb}: {name}: {reason}", err=True)


class _Lines:
    """Writes a line of progress now and then, unless it is to be quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_quiet = quiet
        self._throttle = Throttle()

    def show(self, report: SiteReport) -> None:
        if not self._is_quiet and self._throttle.is_due():
            done, written = _count(report.projects, "project"), _count(report.written, "document")
            click.echo(f"{done} so far, {written} written", err=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _tell(report: SiteReport, skipped: _Skipped, *, as_json: bool, quiet: bool) -> None:
    for name, reason in report.failed.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    if as_json:
        left_out = [{"file": name, "reason": reason} for name, reason in skipped.files]
        print_json({**asdict(report), "skipped": left_out})
        return
    if quiet:
        return
    counts = [f"{report.written} written", f"{report.removed} removed", f"{report.unchanged} unchanged"]
    counts += [f"{len(report.failed)} failed"] if report.failed else []
    counts += [f"{_count(len(skipped.files), 'file')} left out"] if skipped.files else []
    click.echo(", ".join(counts))
