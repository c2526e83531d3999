"""What several commands share: where the index lies, and how a program reads what they print."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import elasticpypi
from elasticpypi.config import Settings, load_settings
from elasticpypi.errors import ConfigError, ElasticpypiError
from elasticpypi.model import Actor

if TYPE_CHECKING:
    from elasticpypi.index import Index

DEFAULT_DATA = Path("data")
CONFIG_PATH = Path(elasticpypi.__file__).with_name("config.json")

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a local index (files and catalog); makes the command local whatever is configured.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def read_settings(data: Path | None) -> Settings:
    """Read the configuration that this process is given; with a data directory the index is a local one."""
    return load_settings(environ=os.environ, default_path=CONFIG_PATH, local=data is not None)


def data_path(settings: Settings, data: Path | None) -> Path:
    """Return where a local index lies: as the command says, else as configured, else `data`."""
    return (data or (Path(settings.data) if settings.data else DEFAULT_DATA)).absolute()


def data_directory(settings: Settings, data: Path | None) -> Path:
    """Return where a local index lies, and make the directory."""
    path = data_path(settings, data)
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


@contextmanager
def configured_index(data: Path | None, *, may_create: bool = False, existing: bool = False) -> Iterator[Index]:
    """Open the index that the configuration and `--data` name, for as long as a command runs.

    With `existing` there has to be one already: ConfigError if not, and nothing is made.
    """
    from elasticpypi.index import is_index, open_index  # which not every command needs

    settings = read_settings(data)
    if existing and settings.bucket is None and not is_index(data_path(settings, data)):
        raise ConfigError(f"there is no index in {data_path(settings, data)}: name its directory with --data")
    with closing(open_index(settings, data=data_directory(settings, data), may_create=may_create)) as index:
        yield index


def _complete_project(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    try:
        with configured_index(ctx.params.get("data"), existing=True) as index:
            return [project.name for project in index.root().projects if project.name.startswith(incomplete)]
    except ElasticpypiError:
        return []  # a shell that completes has no place for errors


project_argument = click.argument("project", shell_complete=_complete_project)


def actor() -> Actor:
    """Return who runs this command, as the audit trail names them: the user of the operating system."""
    import pwd  # which Windows has not, where files can be uploaded from

    try:  # not by the environment, in which `runuser` and `su` leave the name of who called them
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container whose user has no name
        name = f"uid {os.getuid()}"
    return Actor(name, "command line")


def print_json(document: Any, *, err: bool = False) -> None:
    """Print a document as a program reads it and a person can."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False), err=err)
