"""`elasticpypi`: the commands. Exit codes: 0 done, 1 found a problem, 2 wrong usage or configuration."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

import elasticpypi
from elasticpypi.auth import hash_password as make_hash
from elasticpypi.config import Settings, load_settings
from elasticpypi.errors import ConfigError, ElasticpypiError
from elasticpypi.index import Index, SyncReport, open_index

_DEFAULT_DATA = Path("data")
_CONFIG_PATH = Path(elasticpypi.__file__).with_name("config.json")
_SETTLING_SECONDS = 10.0  # for files that are being copied
_CHECK_SECONDS = 3.0  # for a server to index what was dropped just now


class _Group(click.Group):
    """Prints our errors as the one sentence that they are."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except ElasticpypiError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


_data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a local index (files and catalog); makes the command local whatever is configured.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(elasticpypi.__version__, prog_name="elasticpypi")
def main() -> None:
    """Run a private Python package index that you own."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of processes.")
@_data_option
def serve(host: str, port: int, workers: int, data: Path | None) -> None:
    """Serve an index from a directory, which is made if it is not there."""
    from elasticpypi.cli.serve import run_server  # the other commands need no server

    settings = read_settings(data)
    run_server(settings, data_directory(settings, data), host=host, port=port, workers=workers)


@main.command()
@click.option("--check", is_flag=True, help="Only report; exit with 1 if catalog and storage differ.")
@_data_option
def sync(check: bool, data: Path | None) -> None:
    """Make the catalog equal to the storage."""
    settings = read_settings(data)
    with closing(open_index(settings, data=data_directory(settings, data), may_create=not check)) as index:
        if check:
            report = index.find_drift(patience_seconds=_CHECK_SECONDS)
        else:
            report = index.sync(patience_seconds=_SETTLING_SECONDS)
        _print_report(index, report, check=check)
    if report.failed or report.unsettled or (check and report.drift):
        sys.exit(1)


@main.command("hash-password")
@click.password_option(help="The password; asked for if it is not given.")
def hash_password(password: str) -> None:
    """Print a hash that can stand in the configuration in place of a password."""
    click.echo(make_hash(password))


def read_settings(data: Path | None) -> Settings:
    """Read the configuration that this process is given; with a data directory the index is a local one."""
    return load_settings(environ=os.environ, default_path=_CONFIG_PATH, local=data is not None)


def data_directory(settings: Settings, data: Path | None) -> Path:
    """Return where a local index lies: as the command says, else as configured, else `data`; make the directory."""
    path = (data or (Path(settings.data) if settings.data else _DEFAULT_DATA)).absolute()
    if settings.bucket is not None:
        return path  # not a local index
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be the data directory ({error.strerror}): name with --data one that this process may write"
        ) from error
    return path


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
