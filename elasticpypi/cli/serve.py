"""`elasticpypi serve`: the local server's command."""

from __future__ import annotations

from pathlib import Path

import click

from elasticpypi.cli.options import data_directory, data_option, read_settings


@click.command(short_help="Serve an index from a directory.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of processes.")
@click.option("--access-log/--no-access-log", default=True, help="Whether each request is a line on standard output.")
@click.option("--behind-proxy", is_flag=True, help="Log the address that the proxy wrote last in X-Forwarded-For.")
@data_option
def serve(host: str, port: int, workers: int, access_log: bool, behind_proxy: bool, data: Path | None) -> None:
    """Serve an index from a directory, which is made if it is not there."""
    from elasticpypi.cli.server import Watched, run_server  # the other commands need no server

    settings = read_settings(data)
    watched = Watched(access_log=access_log, behind_proxy=behind_proxy)
    run_server(settings, data_directory(settings, data), host=host, port=port, workers=workers, watched=watched)
