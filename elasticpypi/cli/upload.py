"""`elasticpypi upload`: files to an index over HTTP, or straight into a local one."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from elasticpypi.cli.options import (
    DEFAULT_DATA,
    actor,
    configured_index,
    data_option,
    json_option,
    print_json,
    read_settings,
)
from elasticpypi.client.at_once import run_at_once
from elasticpypi.client.files import CheckedFile, Progress, check_file
from elasticpypi.client.uploads import IndexClient, netrc_credentials
from elasticpypi.digests import hex_digest
from elasticpypi.errors import ConfigError, ElasticpypiError, UploadFailedError
from elasticpypi.index import Added, Index, claim_by_filename
from elasticpypi.index_url import IndexUrl, parse_index_url
from elasticpypi.passwords import is_hash

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

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
@click.option(
    "--parallel", metavar="N", type=click.IntRange(1, 32), default=4, show_default=True, help="Send so many at once."
)
@data_option
@json_option
def upload(paths: tuple[Path, ...], url: str | None, parallel: int, data: Path | None, as_json: bool) -> None:
    """Upload wheels and sdists of any size.

    Every FILE is checked before the first one is sent. After a broken connection it goes on where it stopped, and the
    same command can be repeated at any time. An index on AWS has the bytes sent straight to its bucket.

    Without --url and ELASTICPYPI_URL the files go straight into the index that the configuration or --data names.

    Credentials are taken from the URL, else from ELASTICPYPI_USERNAME and ELASTICPYPI_PASSWORD, else from ~/.netrc,
    else they are asked for.
    """
    if url is not None and data is not None:
        raise click.UsageError("--url and --data name two different indexes: give one of them.")
    files, outcomes = _read_files(paths)
    if not outcomes:
        with _destination(url if data is not None or url else os.environ.get("ELASTICPYPI_URL"), data) as destination:
            outcomes = _upload(files, destination, parallel)
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
    settings = read_settings(data)
    if data is None and settings.data is None and settings.bucket is None and not DEFAULT_DATA.is_dir():
        raise ConfigError("there is no index here: name one with --url, with ELASTICPYPI_URL or with --data")
    with configured_index(data, may_create=True) as index:
        index.complete()
        yield _ConfiguredIndex(index)


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
    start = "\n" if sys.stderr.isatty() else ""  # not behind the bar
    click.echo(f"{start}{problem}; trying again in {seconds:.0f} s", err=True)
    time.sleep(seconds)


class _ConfiguredIndex:
    """The index that the configuration names, whether or not it is being served."""

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
            return self._index.add(incoming, claim, sha256=hex_digest(incoming.stream, "sha256"), by=actor())


# Sending ---------------------------------------------------------------------------------------------------------


def _upload(files: list[CheckedFile], destination: _Destination, parallel: int) -> list[_Outcome]:
    """Send the files that are not there yet, if all of them will be taken; begin no more where one is not."""
    present: dict[Path, bool] = {}
    problems: dict[Path, str] = {}

    def look(file: CheckedFile) -> None:
        try:
            present[file.path] = destination.has(file)
        except UploadFailedError:
            raise  # as it would for every other file
        except ElasticpypiError as error:
            problems[file.path] = str(error)

    run_at_once(look, files, threads=parallel)
    if problems:
        return [_Outcome(str(file.path), *_failed(problems.get(file.path))) for file in files]
    sent = _send([file for file in files if not present[file.path]], destination, parallel)
    unchanged = {path: (Added.UNCHANGED.name.lower(), None) for path, is_present in present.items() if is_present}
    return [_Outcome(str(file.path), *(unchanged | sent).get(file.path, (_NOT_SENT, None))) for file in files]


def _send(files: list[CheckedFile], destination: _Destination, parallel: int) -> dict[Path, tuple[str, str | None]]:
    """Send files, and return the status and the problem of those that were begun."""
    outcomes: dict[Path, tuple[str, str | None]] = {}

    def send(file: CheckedFile) -> None:
        try:
            added = destination.upload(file, progress.of(file))
            outcomes[file.path] = added.name.lower(), None
        except ElasticpypiError as error:
            outcomes[file.path] = _failed(str(error))
            raise

    with _showing(files) as progress, suppress(ElasticpypiError):
        run_at_once(send, progress.announced(files), threads=parallel)
    return outcomes


class _Shown:
    """Shows how much has been sent: one bar for all files on a terminal, else a line for each that is begun."""

    def __init__(self, bar: ProgressBar[int] | None) -> None:
        self._bar = bar
        self._turn = threading.Lock()
        self._positions: dict[Path, int] = {}

    def announced(self, files: Iterable[CheckedFile]) -> Iterator[CheckedFile]:
        for file in files:
            if self._bar is None:
                click.echo(f"sending {file.filename} ({file.size:,} bytes)", err=True)
            yield file

    def of(self, file: CheckedFile) -> Progress:
        """Return what is told how many bytes of a file have been sent."""

        def progress(position: int) -> None:
            if self._bar is not None:
                with self._turn:
                    self._positions[file.path] = position
                    self._bar.update(sum(self._positions.values()) - self._bar.pos)

        return progress


@contextmanager
def _showing(files: list[CheckedFile]) -> Iterator[_Shown]:
    if not files or not sys.stderr.isatty():
        yield _Shown(None)
        return
    size = sum(file.size for file in files)
    label = files[0].filename if len(files) == 1 else f"{len(files)} files"
    steps = max(1, size // 1000)
    with click.progressbar(length=size, label=label, file=sys.stderr, update_min_steps=steps) as bar:
        yield _Shown(bar)
