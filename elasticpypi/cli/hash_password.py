"""`elasticpypi hash-password`: a hash to stand in the configuration."""

from __future__ import annotations

import sys

import click

from elasticpypi.auth import hash_password as make_hash


@click.command("hash-password", short_help="Print a hash for the configuration.")
@click.option("--password", help="The password; if it is not given it is asked for, or read from standard input.")
def hash_password(password: str | None) -> None:
    """Print a hash that can stand in the configuration in place of a password."""
    if password is None:
        password = _ask() if sys.stdin.isatty() else sys.stdin.readline().removesuffix("\n")
    if not password.strip():
        raise click.UsageError("The password is empty: nobody could be configured with it.")
    click.echo(make_hash(password))


def _ask() -> str:
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return answer
