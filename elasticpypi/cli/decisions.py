"""`elasticpypi yank`, `unyank`, `delete`, `status`: what people decide about a release, a file or a project."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elasticpypi.cli.options import (
    actor,
    configured_index,
    data_option,
    json_option,
    print_json,
    project_argument,
)
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName, normalize_name

_target_argument = click.argument("target", metavar="VERSION|FILENAME")
_LONG_LIST = 20


@click.command(short_help="Yank a release or a file.")
@project_argument
@_target_argument
@click.option("--reason", default="", help="Why; installers show it to who asks for exactly this version.")
@json_option
@data_option
def yank(project: str, target: str, reason: str, as_json: bool, data: Path | None) -> None:
    """Yank a release or a file: installers skip it unless it is pinned."""
    with configured_index(data, existing=True) as index:
        name = normalize_name(project)
        _print_done("yanked", name, index.yank(name, target, reason, by=actor()), as_json=as_json)


@click.command()
@project_argument
@_target_argument
@json_option
@data_option
def unyank(project: str, target: str, as_json: bool, data: Path | None) -> None:
    """Take a yank back."""
    with configured_index(data, existing=True) as index:
        name = normalize_name(project)
        _print_done("not yanked any more", name, index.unyank(name, target, by=actor()), as_json=as_json)


@click.command(short_help="Delete a release, a file, or all files.")
@project_argument
@click.argument("target", metavar="[VERSION|FILENAME]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@data_option
def delete(project: str, target: str | None, yes: bool, as_json: bool, data: Path | None) -> None:
    """Delete a release, a file or (naming neither) all files of a project, for good.

    Their names stay taken: the same bytes may come back, others may not. The name of the project stays yours.
    """
    with configured_index(data, existing=True) as index:
        name = normalize_name(project)
        filenames = index.find_filenames(name, target)
        if not yes:
            for filename in filenames[:_LONG_LIST]:
                click.echo(filename, err=True)
            if len(filenames) > _LONG_LIST:
                click.echo(f"… and {len(filenames) - _LONG_LIST} more", err=True)
            try:
                click.confirm(f"Delete {_count(filenames)} of {name!r} for good?", abort=True, err=True)
            except click.Abort:
                click.echo("Nothing was deleted; with --yes nobody is asked.", err=True)
                sys.exit(1)
        _print_done("deleted", name, index.delete(name, target, by=actor()), as_json=as_json)


@click.command(short_help="Show or change the status of a project.")
@project_argument
@click.argument(
    "new_status", metavar="[STATUS]", required=False, type=click.Choice([status.value for status in Status])
)
@click.option("--reason", help="Why; the simple pages show it.")
@json_option
@data_option
def status(project: str, new_status: str | None, reason: str | None, as_json: bool, data: Path | None) -> None:
    """Show the status of a project, or give it another one.

    STATUS is active, deprecated, archived (takes no new files) or quarantined (lists and serves none).
    """
    if new_status is None and reason is not None:
        raise click.UsageError("--reason comes with a STATUS.")
    with configured_index(data, existing=True) as index:
        name = normalize_name(project)
        if new_status is not None:
            index.set_status(name, Status(new_status), reason, by=actor())
        decided = index.snapshot(name).decisions
    if as_json:
        print_json({"project": name, "status": decided.status, "status-reason": decided.status_reason})
    else:
        click.echo(f"{name}: {decided.status}" + (f" ({decided.status_reason})" if decided.status_reason else ""))


def _print_done(what: str, project: NormalizedName, filenames: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"project": project, "filenames": filenames})
        return
    for filename in filenames:
        click.echo(f"{what}: {filename}")
    if not filenames:
        click.echo("nothing has changed")


def _count(filenames: list[str]) -> str:
    return f"{len(filenames)} file" + ("" if len(filenames) == 1 else "s")
