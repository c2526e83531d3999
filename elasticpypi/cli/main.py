"""`elasticpypi`: the commands. Exit codes: 0 done, 1 found a problem, 2 wrong usage or configuration."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import elasticpypi
from elasticpypi.errors import ConfigError, ElasticpypiError, NotFoundError, NotReadyError

# Command -> module below elasticpypi.cli, and function. Imported when it is called: some need much, most little.
_COMMANDS = {
    "serve": "serve:serve",
    "upload": "upload:upload",
    "sync": "sync:sync",
    "build": "build:build",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "import": "importing:import_files",
    "mirror": "mirror:mirror",
    "doctor": "doctor:doctor",
    "list": "look:list_projects",
    "show": "look:show",
    "why": "why:why",
    "yank": "decisions:yank",
    "unyank": "decisions:unyank",
    "delete": "decisions:delete",
    "status": "decisions:status",
    "token": "token:token",
    "publisher": "publisher:publisher",
    "audit": "audit:audit",
    "downloads": "downloads:downloads",
    "completion": "completion:completion",
    "hash-password": "hash_password:hash_password",
}


# What to do, where the sentence is said to clients as well.
_REMEDIES: dict[type[ElasticpypiError], str] = {
    NotFoundError: " (`elasticpypi list` and `elasticpypi show` name what there is)",
    NotReadyError: ", or run `elasticpypi sync` if no server is at it",
}
# What names that which a command was looking for, where it is no project.
_LISTS = {"token": " (`elasticpypi token list` names them)", "publisher": " (`elasticpypi publisher list` names them)"}


class _Group(click.Group):
    """Imports a command when it is called, and prints our errors as the one sentence that they are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"elasticpypi.cli.{module}"), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except ElasticpypiError as error:
            click.echo(f"Error: {error}{_remedy(error, ctx.invoked_subcommand)}", err=True)
            sys.exit(1)


def _remedy(error: ElasticpypiError, command: str | None) -> str:
    if isinstance(error, NotFoundError) and command in _LISTS:
        return _LISTS[command]
    return _REMEDIES.get(type(error), "")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(elasticpypi.__version__, prog_name="elasticpypi")
def main() -> None:
    """Run a private Python package index that you own."""
