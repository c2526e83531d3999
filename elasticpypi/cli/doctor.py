"""`elasticpypi doctor`: checks the configuration and what it points at, and says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from elasticpypi.cli.doctor_aws import check_deployment
from elasticpypi.cli.doctor_local import check_directory, is_public, public, quoted
from elasticpypi.cli.doctor_upstreams import check_upstreams
from elasticpypi.cli.options import CONFIG_PATH, data_option, data_path, json_option, print_json
from elasticpypi.config import CONFIG_VARIABLE, VARIABLE_PREFIX, Settings, User, load_settings
from elasticpypi.errors import CatalogError, ConfigError, ElasticpypiError, NotReadyError
from elasticpypi.finding import Finding
from elasticpypi.index import Index, open_index
from elasticpypi.model import Decisions, Entry
from elasticpypi.passwords import is_hash

_CHECK_SECONDS = 3.0  # for a server, or the indexer, to index what was dropped just now
_AGAIN = "correct that, and run `elasticpypi doctor` again"
EXAMPLE_PASSWORDS = {"something-secretive", "another-secret", "a-third-secret"}  # those of the documentation


@click.command(short_help="Check everything, and say what to do.")
@click.option("--fix", is_flag=True, help="On AWS, mend what can be mended without harm, and say what was done.")
@data_option
@json_option
def doctor(fix: bool, data: Path | None, as_json: bool) -> None:
    """Check the configuration and what it points at, and say what to do.

    Changes nothing but with --fix, and may be run while the index is in use. Exits with 1 if there is a problem.
    """
    findings = []
    for finding in examine(os.environ, data, patience_seconds=_CHECK_SECONDS, fix=fix):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.remedy for finding in findings):
        sys.exit(1)


def _print_finding(finding: Finding) -> None:
    found = finding.found if finding.found.endswith("?") else f"{finding.found}."
    if finding.mended is not None:
        click.echo(f"mended   {finding.check}: {found} Done: {finding.mended}.")
    elif finding.advice is not None:
        click.echo(f"note     {finding.check}: {found} Better: {finding.advice}.")
    elif finding.remedy is None:
        click.echo(f"ok       {finding.check}: {found}")
    else:
        click.echo(f"problem  {finding.check}: {found} Remedy: {finding.remedy}.")


def examine(
    environ: Mapping[str, str], data: Path | None, *, patience_seconds: float = 0, fix: bool = False
) -> Iterator[Finding]:
    """Yield what each check finds, from the configuration to the files; what cannot be checked any more is left out.

    `patience_seconds` is how long a difference between catalog and storage has to last to be a problem.
    """
    try:
        settings = load_settings(environ=environ, default_path=CONFIG_PATH, local=data is not None)
    except ConfigError as error:
        yield Finding("configuration", str(error), _AGAIN)
        return
    config = Path(environ.get(CONFIG_VARIABLE, CONFIG_PATH))
    yield Finding("configuration", str(config) if config.exists() else "none but variables and defaults")
    yield from _check_passwords(settings, config, environ)
    if settings.bucket is not None:
        yield from _check_aws(settings, settings.bucket, settings.table, patience_seconds, fix=fix)
    else:
        if fix:
            yield Finding("--fix", "there is nothing in a directory that it could mend")
        yield from _check_local(settings, data_path(settings, data), patience_seconds)


# Configuration -----------------------------------------------------------------------------------------------------


def _check_passwords(settings: Settings, config: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    problems = []
    for user in settings.all_users:
        if user.password in EXAMPLE_PASSWORDS:
            found = f"{user.username!r} has the password of the documentation's example"
            remedy = "choose another; `elasticpypi hash-password` makes a hash of it"
            problems.append(Finding("passwords", found, remedy))
    if any(not is_hash(user.password) for user in _users_in_file(settings, environ)) and is_public(config):
        problems.append(public("passwords", config))
    yield from problems or [Finding("passwords", "none that others know")]


def _users_in_file(settings: Settings, environ: Mapping[str, str]) -> Iterator[User]:
    """Yield the users whose passwords stand in the configuration file, and not in a variable."""
    in_variables = {name.removeprefix(VARIABLE_PREFIX) for name in environ if name.startswith(VARIABLE_PREFIX)}
    for user in settings.all_users:
        key = "USERS" if user in settings.users else "PASSWORD"
        if key not in in_variables:
            yield user


# The index, where it lies ------------------------------------------------------------------------------------------


def _check_local(settings: Settings, data: Path, patience_seconds: float) -> Iterator[Finding]:
    for finding in check_directory(settings, data):
        yield finding
        if finding.check == "data directory" and finding.remedy is not None:
            return
    sync = f"`elasticpypi sync --data {quoted(data)}`"
    catalog = data / "catalog.sqlite"
    if not catalog.exists():  # opening would make it
        remedy = f"start the server, or run {sync}, which makes it anew from the files"
        yield Finding("catalog", f"there is none in {data}", remedy)
        return
    try:
        yield from _check_index(settings, data, sync, patience_seconds)
    except NotReadyError:
        yield Finding("catalog", "it does not know all files yet", f"let the server finish, or run {sync}")
    except CatalogError as error:
        remedy = f"stop the server, remove {catalog}, and run {sync}, which makes it anew from the files"
        yield Finding("catalog", str(error), remedy)
    except ElasticpypiError as error:
        remedy = "mount its volume, let this user read it, or `elasticpypi restore` a backup"
        yield Finding("storage", str(error), remedy)


def _check_aws(
    settings: Settings, bucket: str, table: str | None, patience_seconds: float, *, fix: bool
) -> Iterator[Finding]:
    is_there = True
    for finding in check_deployment(settings, bucket=bucket, table=table, fix=fix):
        yield finding
        is_there = is_there and not (finding.check in ("AWS", "credentials", "bucket", "table") and finding.remedy)
    if not is_there:
        return
    sync = "`elasticpypi sync`"
    try:
        yield from _check_index(settings, Path(), sync, patience_seconds)
    except NotReadyError:
        yield Finding("catalog", "it does not know all files yet", f"run {sync}, which brings them in")
    except ElasticpypiError as error:
        yield Finding("catalog and storage", str(error), _AGAIN)


def _check_index(settings: Settings, data: Path, sync: str, patience_seconds: float) -> Iterator[Finding]:
    with closing(open_index(settings, data=data, may_create=False)) as index:
        index.check()
        yield Finding("catalog and storage", "both can be read")
        yield _check_drift(index, sync, patience_seconds)
        yield from _check_files(index)
        yield from check_upstreams(settings, index)


def _check_drift(index: Index, sync: str, patience_seconds: float) -> Finding:
    report = index.find_drift(patience_seconds=patience_seconds)
    keys = [*report.added, *report.changed, *report.removed, *report.failed]
    if keys:
        others = f" and {len(keys) - 1} more" if keys[1:] else ""
        return Finding("sync", f"catalog and storage differ in {keys[0]}{others}", f"run {sync}")
    return Finding("sync", "catalog and storage agree")


def _check_files(index: Index) -> Iterator[Finding]:
    problems = [*map(_rejected, index.problems()), *map(_hidden, index.hidden_files())]
    yield from problems or [Finding("files", "each one is listed")]


def _rejected(entry: Entry) -> Finding:
    if isinstance(entry.content, Decisions):
        found = f"{entry.key} cannot be read ({entry.problem}): what it said before holds, if it ever said anything"
        return Finding("decisions", found, "mend the file; the README shows how one looks")
    return Finding(
        "files", f"{entry.key} is not listed: {entry.problem}", "put a whole file in its place, or remove it"
    )


def _hidden(entry: Entry) -> Finding:
    found = f"{entry.key} is not served, because other bytes under the same filename are"
    return Finding("files", found, "remove whichever of the two is wrong")
