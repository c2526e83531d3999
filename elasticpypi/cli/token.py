"""`elasticpypi token`: make, list and revoke tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from elasticpypi.cli.credentials import has_credentials, with_credentials
from elasticpypi.cli.options import (
    actor,
    configured_index,
    data_option,
    data_path,
    json_option,
    print_json,
    read_settings,
)
from elasticpypi.config import Permission, check_projects
from elasticpypi.errors import ConfigError
from elasticpypi.index import Token, describe_token


@click.group(short_help="Make, list and revoke tokens.")
def token() -> None:
    """Make, list and revoke tokens: secrets for programs, with the username __token__."""


@token.command(short_help="Make a token and print it.")
@click.argument("name")
@click.option(
    "--permission",
    type=click.Choice([permission.value for permission in Permission]),
    default=Permission.READ.value,
    show_default=True,
    help="What it allows; each includes those before it.",
)
@click.option("--project", "projects", multiple=True, help="Limit it to projects that fit a pattern; may be repeated.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires; if not given, it never does.")
@click.option("--owner", help="Configured user whose token it is: it never allows more than that user may do.")
@json_option
@data_option
def create(
    name: str,
    permission: str,
    projects: tuple[str, ...],
    days: int | None,
    owner: str | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Make a token and print it, this once: it is kept nowhere.

    NAME says what it is for. Clients send it as the password of the user __token__.
    """
    try:
        patterns = check_projects(projects or ("*",))
    except ValueError as error:
        raise click.BadParameter(f"it {error}.", param_hint="--project") from error
    if owner is not None:
        _check_is_user(owner, data)
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    with configured_index(data, existing=True) as index:
        made, secret = index.tokens.create(
            name, by=actor(), permission=Permission(permission), projects=patterns, owner=owner, expires=expires
        )
    if as_json:
        print_json(describe_token(made) | {"token": secret})
        return
    click.echo(f"The token {made.id} is made; the username that goes with it is __token__.", err=True)
    click.echo(secret)


@token.command("list", short_help="List the tokens.")
@click.option("--owner", help="Only those of this user.")
@json_option
@data_option
def list_tokens(owner: str | None, as_json: bool, data: Path | None) -> None:
    """List the tokens, the oldest first; what a token itself is, nobody can be told."""
    with configured_index(data, existing=True) as index:
        found = index.tokens.find_all(owner)
    if as_json:
        print_json({"tokens": [describe_token(each) for each in found]})
        return
    for each in found:
        click.echo(f"{each.id}  {each.name}  ({', '.join(_facts(each))})")


@token.command(short_help="Revoke a token.")
@click.argument("token_id", metavar="ID")
@json_option
@data_option
def revoke(token_id: str, as_json: bool, data: Path | None) -> None:
    """Revoke a token, by its id: servers notice it within ten seconds."""
    with configured_index(data, existing=True) as index:
        revoked = index.tokens.revoke(token_id, by=actor())
    if as_json:
        print_json(describe_token(revoked))
    else:
        click.echo(f"revoked: {revoked.id}  {revoked.name}")


def _check_is_user(owner: str, data: Path | None) -> None:
    settings = read_settings(data)
    place = data_path(settings, data)
    if settings.bucket is None and has_credentials(place):
        settings, _ = with_credentials(settings, place)
    known = [user.username for user in settings.all_users]
    if owner not in known:
        raise ConfigError(
            f"there is no user {owner!r}, whose token it could be; known are {', '.join(known) or 'none'}"
        )


def _facts(token: Token) -> list[str]:
    return [
        token.permission.value,
        "all projects" if "*" in token.projects else " ".join(token.projects),
        "the index's" if token.owner is None else f"of {token.owner}",
        f"made {token.created:%Y-%m-%d}",
        "never used" if token.last_used is None else f"used {token.last_used:%Y-%m-%d %H:00}",
        *(() if token.expires is None else (f"expires {token.expires:%Y-%m-%d %H:%M} UTC",)),
    ]
