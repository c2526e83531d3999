"""`elasticpypi downloads`: how often files were downloaded."""

from __future__ import annotations

from pathlib import Path

import click

from elasticpypi.cli.options import configured_index, data_option, json_option, print_json, project_argument
from elasticpypi.index import DOWNLOADS_KEPT_DAYS, describe_downloads
from elasticpypi.names import normalize_name


@click.command(short_help="Show how often files were downloaded.")
@project_argument
@click.option(
    "--days",
    type=click.IntRange(1, DOWNLOADS_KEPT_DAYS),
    default=30,
    show_default=True,
    help="Of how many days, the present one (UTC) included.",
)
@json_option
@data_option
def downloads(project: str, days: int, as_json: bool, data: Path | None) -> None:
    """Show how often the files of a project were downloaded, where the configuration has `count_downloads`."""
    with configured_index(data, existing=True) as index:
        name = index.snapshot(normalize_name(project)).name
        found, is_on = index.downloads.of(name, days=days), index.downloads.is_on
    if as_json:
        print_json(describe_downloads(found) | {"counting": is_on})
        return
    for filename, counts in found.files.items():
        click.echo(f"{sum(counts.values()):8,}  {filename}")
    click.echo(f"{found.total:8,}  in {days} days")
    if not is_on:
        click.echo("Downloads are not counted now: set `count_downloads` to true in the configuration.", err=True)
