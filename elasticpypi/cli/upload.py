"""`elasticpypi upload`: files to an index over HTTP, or straight into a local one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import click

from elasticpypi.cli.options import DEFAULT_DATA, configured_index, data_option, json_option, print_json, read_settings
from elasticpypi.client import (
    CheckedFile,
    IndexClient,
    Progress,
    check_file,
    netrc_credentials,
)
from elasticpypi.digests import hex_digest
from elasticpypi.errors import ConfigError, ElasticpypiError, UploadFailedError
from elasticpypi.index import Added, Index, claim_by_filename
from elasticpypi.index_url import IndexUrl, parse_index_url
from elasticpypi.passwords import is_hash

_CHUNK_BYTES = 1024 * 1024
_FAILED, _NOT_SENT = "failed", "not-sent"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What has become of a file, as `--json` prints it."""

    file: str  # as it was named
    status: str  # created, unchanged, replaced, failed or not-sent
    message: str | None = None  # why it failed


class _Destination(Protocol):
    """Where files go."""

    def has(self, file: CheckedFile) -> bool:
        """Whether a file is there already; raise what `upload` would raise, as far as it can be known before."""

    def upload(self, file: CheckedFile, progress: Progress) -> Added:
        """Bring a file there."""


@click.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--url", help="The index, https://[USER:PASSWORD@]HOST/PREFIX/; ELASTICPYPI_URL if that is set.")
@data_option
@json_option
def upload(paths: tuple[Path, ...], url: str | None, data: Path | None, as_json: bool) -> None:
    """Upload wheels and sdists of any size.

    Every FILE is checked before the first one is sent. After a broken connection it goes on where it stopped, and the
    same command can be repeated at any time. Without --url and ELASTICPYPI_URL the files go straight into the local
    index that the configuration or --data names.

    Credentials are taken from the URL, else from ELASTICPYPI_USERNAME and ELASTICPYPI_PASSWORD, else from ~/.netrc,
    else they are asked for.
    """
    if url is not None and data is not None:
        raise click.UsageError("--url and --data name two different indexes: give one of them.")
    files, outcomes = _read_files(paths)
    if not outcomes:
        with _destination(url if data is not None or url else os.environ.get("ELASTICPYPI_URL"), data) as destination:
            outcomes = _upload(files, destination)
    _report(outcomes, as_json=as_json)


def _report(outcomes: list[_Outcome], *, as_json: bool) -> None:
    if as_json:
        print_json({"files": [asdict(outcome) for outcome in outcomes]})
    for outcome in outcomes:
        if outcome.message is not None:
            click.echo(f"Error: {outcome.file}: {outcome.message}", err=True)
        elif not as_json and outcome.status != _NOT_SENT:
            click.echo(f"{outcome.status}: {outcome.file}")
    failed = [outcome for outcome in outcomes if outcome.status in (_FAILED, _NOT_SENT)]
    if failed:
        click.echo(f"{len(failed)} of {len(outcomes)} files were not uploaded", err=True)
        sys.exit(1)


# Before anything is sent -----------------------------------------------------------------------------------------


def _read_files(paths: tuple[Path, ...]) -> tuple[list[CheckedFile], list[_Outcome]]:
    """Return the files if all of them are good, else no files and the outcome of each."""
    files: list[CheckedFile] = []
    problems: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            files.append(_read_file(path, files))
        except ElasticpypiError as error:
            problems[path] = str(error)
    if not problems:
        return files, []
    return [], [_Outcome(str(path), *_failed(problems.get(path))) for path in dict.fromkeys(paths)]


def _failed(problem: str | None) -> tuple[str, str | None]:
    return (_NOT_SENT, None) if problem is None else (_FAILED, problem)


def _read_file(path: Path, others: list[CheckedFile]) -> CheckedFile:
    if path.is_dir():
        raise UploadFailedError(f"it is a directory: name the files in it, for instance {path}/*")
    try:
        file = check_file(path)
    except OSError as error:
        raise UploadFailedError(f"it cannot be read ({error.strerror}): correct the name") from error
    twin = next((other for other in others if other.filename == file.filename), None)
    if twin is not None:
        raise UploadFailedError(f"{twin.path} has the same name: give one of them")
    return file


# Where the files go ----------------------------------------------------------------------------------------------


@contextmanager
def _destination(url: str | None, data: Path | None) -> Iterator[_Destination]:
    if url is not None:
        where = _parse_url(url)
        credentials = _credentials(where.url, where.username, where.password)
        with closing(IndexClient(where.url, credentials, wait=_wait)) as client:
            yield client
        return
    if data is None and read_settings(data).data is None and not DEFAULT_DATA.is_dir():
        raise ConfigError("there is no index here: name one with --url, with ELASTICPYPI_URL or with --data")
    with configured_index(data, may_create=True) as index:
        if not index.is_complete():
            index.sync()
        yield _LocalIndex(index)


def _credentials(url: str, username: str | None, password: str | None) -> tuple[str, str] | None:
    """Return what to sign in with: from the URL, the variables, a netrc file, or whoever sits at the terminal."""
    named = os.environ.get("ELASTICPYPI_USERNAME")
    if password is None and (username is None or named in (None, username)):
        password = os.environ.get("ELASTICPYPI_PASSWORD")
    username = username or named
    if username is None and (found := netrc_credentials(url)) is not None:
        username, password = found
    elif password is not None and password == os.environ.get("ELASTICPYPI_PASSWORD") and _is_hash(password):
        raise ConfigError(
            "ELASTICPYPI_PASSWORD is a hash, with which nobody can sign in: give the password itself, "
            "in the URL or in ~/.netrc"
        )
    if sys.stdin.isatty():
        username = username or click.prompt(f"Username for {url}", err=True)
        password = password if password is not None else click.prompt("Password", hide_input=True, err=True)
    return None if username is None else (username, password or "")


def _is_hash(password: str) -> bool:
    try:
        return is_hash(password)
    except ValueError:
        return True  # what is left of one


def _parse_url(text: str) -> IndexUrl:
    try:
        return parse_index_url(text)
    except ValueError as error:  # not repeated: it may carry a password
        raise ConfigError(f"the URL given {error}; write for example https://pypi.example.org/") from error


def _wait(seconds: float, problem: str) -> None:
    click.echo(f"{problem}; trying again in {seconds:.0f} s", err=True)
    time.sleep(seconds)


class _LocalIndex:
    """An index in a directory of this machine, whether or not it is being served."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def has(self, file: CheckedFile) -> bool:
        return self._index.has(file.parsed, file.sha256)

    def upload(self, file: CheckedFile, progress: Progress) -> Added:
        with self._index.receive() as incoming, file.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                incoming.write(chunk)
                progress(stream.tell())
            claim = claim_by_filename(file.filename, file.sha256)
            return self._index.add(incoming, claim, sha256=hex_digest(incoming.stream, "sha256"))


# Sending ---------------------------------------------------------------------------------------------------------


def _upload(files: list[CheckedFile], destination: _Destination) -> list[_Outcome]:
    """Send the files that are not there yet, if all of them will be taken; stop where one is not."""
    present: dict[Path, bool] = {}
    problems: dict[Path, str] = {}
    for file in files:
        try:
            present[file.path] = destination.has(file)
        except UploadFailedError:
            raise  # as it would for every other file
        except ElasticpypiError as error:
            problems[file.path] = str(error)
    if problems:
        return [_Outcome(str(file.path), *_failed(problems.get(file.path))) for file in files]
    return list(_send(files, present, destination))


def _send(files: list[CheckedFile], present: dict[Path, bool], destination: _Destination) -> Iterator[_Outcome]:
    failed = False
    for file in files:
        if failed:
            yield _Outcome(str(file.path), _NOT_SENT)
        elif present[file.path]:
            yield _Outcome(str(file.path), Added.UNCHANGED.name.lower())
        else:
            try:
                with _progress(file) as progress:
                    added = destination.upload(file, progress)
                yield _Outcome(str(file.path), added.name.lower())
            except ElasticpypiError as error:
                failed = True
                yield _Outcome(str(file.path), _FAILED, str(error))


@contextmanager
def _progress(file: CheckedFile) -> Iterator[Callable[[int], None]]:
    """Show how much of a file has been sent: a bar on a terminal, else one line."""
    if not sys.stderr.isatty():
        click.echo(f"sending {file.filename} ({file.size:,} bytes)", err=True)
        yield lambda _: None
        return
    with click.progressbar(length=file.size, label=file.filename, file=sys.stderr) as bar:
        yield lambda position: bar.update(position - bar.pos)
