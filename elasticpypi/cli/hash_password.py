"""`elasticpypi hash-password`: a hash to stand in the configuration."""

from __future__ import annotations

import click

from elasticpypi.auth import hash_password as make_hash


@click.command("hash-password")
@click.password_option(help="The password; asked for if it is not given.")
def hash_password(password: str) -> None:
    """Print a hash that can stand in the configuration in place of a password."""
    click.echo(make_hash(password))
