"""`elasticpypi backup` and `elasticpypi restore`: all that an index holds, in one file and back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from elasticpypi.cli.options import actor, configured_index, data_option, json_option, print_json
from elasticpypi.cli.progress import CountedStream
from elasticpypi.errors import BackupError

if TYPE_CHECKING:
    from elasticpypi.index import Index

_STANDARD_STREAM = Path("-")
_file_argument = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))


@click.command(short_help="Write all that an index holds to one file.")
@_file_argument
@json_option
@data_option
def backup(file: Path, as_json: bool, data: Path | None) -> None:
    """Write all that an index holds to FILE, a tar; "-" for standard output.

    The index may be served and changed meanwhile. Files, what people have decided about them, when they were first
    seen and the trusted publishers are in it. Not in it are the catalog, which is made anew, the credentials, and the
    ledger: tokens, the audit trail, counts of downloads.
    """
    with configured_index(data, existing=True) as index, _writing(file) as stream:
        report = index.backup(CountedStream(stream, "written").as_stream())
    for key, reason in report.left_out.items():
        click.echo(f"left out: {key}: {reason}", err=True)
    if as_json:
        document = {"files": report.files, "bytes": report.size, "left-out": report.left_out}
        print_json(document, err=file == _STANDARD_STREAM)
    else:
        click.echo(f"{report.files} files, {report.size} bytes", err=file == _STANDARD_STREAM)
    sys.exit(1 if report.left_out else 0)


@click.command(short_help="Put back what a backup holds.")
@_file_argument
@json_option
@data_option
def restore(file: Path, as_json: bool, data: Path | None) -> None:
    """Put back what the backup FILE holds; "-" for standard input.

    Into a new data directory or bucket, or into one that is being served. What lies there already stays: the same
    content is skipped, another is reported.
    """
    with _reading(file) as stream, configured_index(data, may_create=True) as index, _naming_publishers(index):
        report = index.restore(CountedStream(stream, "read").as_stream(), by=actor())
    for key, reason in report.problems.items():
        click.echo(f"not restored: {key}: {reason}", err=True)
    if as_json:
        print_json({"restored": report.restored, "present": report.present, "not-restored": report.problems})
    else:
        click.echo(f"{report.restored} restored, {report.present} there already, {len(report.problems)} not restored")
    sys.exit(1 if report.problems else 0)


@contextmanager
def _naming_publishers(index: Index) -> Iterator[None]:
    """Say who may publish afterwards and might not before, lest nobody notices it."""
    before = index.publishers.trusted()
    try:
        yield
    finally:  # a backup that ends too early may have brought some
        for publisher in index.publishers.trusted().values():
            if publisher.id not in before:
                named = f"{publisher.id}  {publisher.source}"
                click.echo(f"may publish here now: {named} (`elasticpypi publisher list` and `remove`)", err=True)


@contextmanager
def _writing(file: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is whole and lies on the disk; BackupError where that cannot be."""
    try:
        if file == _STANDARD_STREAM:
            if sys.stdout.isatty():
                raise click.UsageError("a backup is nothing for a terminal: name a file, or redirect the output")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        if file.exists() and not file.is_file():  # a device or a pipe, in whose place no file must come
            with file.open("wb") as stream:
                yield stream
            return
        descriptor, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(descriptor)
            Path(name).replace(file)
            _synchronise(file.absolute().parent)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise BackupError(f"{file} cannot be written ({error.strerror}); name another place") from error


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    if file == _STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise BackupError(f"{file} cannot be read ({error.strerror}): correct the name") from error
    with stream:
        yield stream
