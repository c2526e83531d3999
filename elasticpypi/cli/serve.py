"""`elasticpypi serve`: the local server's command."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from elasticpypi.cli.options import data_directory, data_option, read_settings


@click.command(short_help="Serve an index from here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of processes.")
@click.option("--access-log/--no-access-log", default=True, help="Whether each request is a line on standard output.")
@click.option(
    "--behind-proxy",
    is_flag=True,
    help="Take the address that the proxy wrote last in X-Forwarded-For for the client's: in the log, and for whose "
    "wrong passwords count together.",
)
@data_option
def serve(host: str, port: int, workers: int, access_log: bool, behind_proxy: bool, data: Path | None) -> None:
    """Serve an index from a directory, which is made if it is not there.

    Where the configuration names a bucket and a table, and --data is not given, serve those from here: uploads go into
    the bucket. What others put there is seen once the deployed indexer, or `elasticpypi sync`, has seen it.
    """
    from elasticpypi.cli.server import Watched, run_server  # the other commands need no server

    settings = read_settings(data)
    watched = Watched(access_log=access_log, behind_proxy=behind_proxy)
    with ExitStack() as stack:
        if settings.bucket is None:
            place = data_directory(settings, data)
        else:  # nothing of the index lies here, but its processes count their requests together
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elasticpypi-")))
        run_server(settings, place, host=host, port=port, workers=workers, watched=watched)
