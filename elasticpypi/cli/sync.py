"""`elasticpypi sync`: makes the catalog equal to the storage, or tells where it is not."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from elasticpypi.cli.options import configured_index, data_option, json_option, print_json
from elasticpypi.cli.progress import Throttle
from elasticpypi.index import Index, SyncReport

_SETTLING_SECONDS = 10.0  # for files that are being copied
_CHECK_SECONDS = 3.0  # for a server to index what was dropped just now


@click.command()
@click.option("--check", is_flag=True, help="Only report; exit with 1 if catalog and storage differ.")
@json_option
@data_option
def sync(check: bool, as_json: bool, data: Path | None) -> None:
    """Make the catalog equal to the storage."""
    with configured_index(data, may_create=not check, existing=check) as index:
        if check:
            report = index.find_drift(patience_seconds=_CHECK_SECONDS)
        else:
            report = index.sync(patience_seconds=_SETTLING_SECONDS, progress=_Lines().show)
        if as_json:
            problems = {entry.key: entry.problem for entry in index.problems()}
            print_json({"check": check, **asdict(report), "problems": problems})
        else:
            _print_report(index, report, check=check)
    if report.failed or report.unsettled or (check and report.drift):
        sys.exit(1)


class _Lines:
    """Writes a line of progress now and then."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._throttle = Throttle()

    def show(self, report: SyncReport) -> None:
        if self._throttle.is_due():
            rate = report.seen / (time.monotonic() - self._began)
            click.echo(
                f"{report.seen:,} files so far, {report.drift:,} of them new or changed; {rate:,.0f}/s", err=True
            )


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
