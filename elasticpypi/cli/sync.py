"""`elasticpypi sync`: makes the catalog equal to the storage, or tells where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elasticpypi.cli.options import configured_index, data_option
from elasticpypi.index import Index, SyncReport

_SETTLING_SECONDS = 10.0  # for files that are being copied
_CHECK_SECONDS = 3.0  # for a server to index what was dropped just now


@click.command()
@click.option("--check", is_flag=True, help="Only report; exit with 1 if catalog and storage differ.")
@data_option
def sync(check: bool, data: Path | None) -> None:
    """Make the catalog equal to the storage."""
    with configured_index(data, may_create=not check) as index:
        if check:
            report = index.find_drift(patience_seconds=_CHECK_SECONDS)
        else:
            report = index.sync(patience_seconds=_SETTLING_SECONDS)
        _print_report(index, report, check=check)
    if report.failed or report.unsettled or (check and report.drift):
        sys.exit(1)


def _print_report(index: Index, report: SyncReport, *, check: bool) -> None:
    tense = "not yet " if check else ""
    by_word = {"added": report.added, "changed": report.changed, "removed": report.removed}
    for word, keys in by_word.items():
        for key in keys:
            click.echo(f"{tense}{word}: {key}")
    for key, reason in report.failed.items():
        click.echo(f"failed: {key}: {reason}", err=True)
    for key in report.unsettled:
        click.echo(f"still being written: {key}", err=True)
    for entry in index.problems():
        click.echo(f"problem: {entry.key}: {entry.problem}", err=True)
    counts = [f"{len(keys)} {tense}{word}" for word, keys in by_word.items()]
    click.echo(", ".join([f"{report.unchanged} unchanged", *counts]))
