"""`elasticpypi publisher`: register, list and remove trusted publishers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from elasticpypi.cli.options import actor, configured_index, data_option, json_option, print_json, read_settings
from elasticpypi.errors import InvalidRequestError
from elasticpypi.index import Provider, Publisher, describe_publisher, make_publisher

_PLACEHOLDER = "https://pypi.example.com/"
_OPTIONS: Mapping[str | None, str] = {"projects": "--project"}  # those that are not called as the field is


@click.group(short_help="Register, list and remove trusted publishers.")
def publisher() -> None:
    """Register, list and remove trusted publishers: CI jobs that publish without a stored secret."""


@publisher.command(short_help="Register a publisher.")
@click.argument("provider", type=click.Choice([provider.value for provider in Provider]))
@click.option("--repository", required=True, help="owner/name; at GitLab group/subgroup/project.")
@click.option(
    "--workflow", required=True, help="GitHub: file in .github/workflows, as release.yml; GitLab: .gitlab-ci.yml."
)
@click.option("--environment", help="Environment that the job has to run in; if not given, any or none.")
@click.option("--owner-id", help="Number of the owner (GitLab: namespace), who then cannot be replaced by a namesake.")
@click.option("--issuer", help="URL that its ID tokens come from, for a GitHub or GitLab of your own.")
@click.option(
    "--project",
    "projects",
    multiple=True,
    required=True,
    help="Project, or pattern of projects, that it may publish; may be repeated.",
)
@json_option
@data_option
def add(
    provider: str,
    repository: str,
    workflow: str,
    environment: str | None,
    owner_id: str | None,
    issuer: str | None,
    projects: tuple[str, ...],
    as_json: bool,
    data: Path | None,
) -> None:
    """Register a publisher, and print what its workflow needs."""
    try:
        wanted = make_publisher(
            Provider(provider),
            repository=repository,
            workflow=workflow,
            environment=environment,
            owner_id=owner_id,
            issuer=issuer,
            projects=projects,
        )
    except InvalidRequestError as error:
        raise click.BadParameter(f"{error}.", param_hint=_OPTIONS.get(error.field, f"--{error.field}")) from error
    with configured_index(data, existing=True) as index:
        registered = index.publishers.add(wanted, by=actor())
        audience = index.publishers.audience()
    if as_json:
        print_json(describe_publisher(registered) | {"audience": audience})
        return
    click.echo(f"The publisher {registered.id} is registered; its ID tokens are made for {audience}.", err=True)
    url = read_settings(data).url
    if url is None:
        url = _PLACEHOLDER
        click.echo(f"{url} stands for the address of your index, as nothing has configured its `url`.", err=True)
    click.echo(_workflow(registered, f"{url.rstrip('/')}/legacy/", audience))


@publisher.command("list", short_help="List the publishers.")
@json_option
@data_option
def list_publishers(as_json: bool, data: Path | None) -> None:
    """List the publishers, the oldest first."""
    with configured_index(data, existing=True) as index:
        found = index.publishers.registered()
    if as_json:
        described = [describe_publisher(each) for each in found.publishers.values()]
        print_json({"audience": found.audience, "publishers": described})
        return
    for each in found.publishers.values():
        click.echo(f"{each.id}  {each.source}  ({', '.join(_facts(each))})")


@publisher.command(short_help="Remove a publisher.")
@click.argument("publisher_id", metavar="ID")
@json_option
@data_option
def remove(publisher_id: str, as_json: bool, data: Path | None) -> None:
    """Remove a publisher, by its id; tokens that its jobs have got live for at most 15 minutes."""
    with configured_index(data, existing=True) as index:
        removed = index.publishers.remove(publisher_id, by=actor())
    if as_json:
        print_json(describe_publisher(removed))
    else:
        click.echo(f"removed: {removed.id}  {removed.source}")


def _facts(each: Publisher) -> list[str]:
    return [
        each.workflow,
        *(() if each.environment is None else (f"environment {each.environment}",)),
        *(() if each.owner_id is None else (f"owner {each.owner_id}",)),
        f"from {each.issuer}",
        f"publishes {' '.join(each.projects)}",
    ]


# What stands in the workflow -------------------------------------------------------------------------------------


def _workflow(each: Publisher, url: str, audience: str) -> str:
    match each.provider:
        case Provider.GITHUB:
            return _for_github(each, url)
        case Provider.GITLAB:
            return _for_gitlab(each, url, audience)


def _for_github(each: Publisher, url: str) -> str:
    environment = "" if each.environment is None else f"\n    environment: {json.dumps(each.environment)}"
    return f"""\
# .github/workflows/{each.workflow}
on:
  release:
    types: [published]
jobs:
  publish:
    runs-on: ubuntu-latest{environment}
    permissions:
      contents: read
      id-token: write
    steps:
      - uses: actions/checkout@v6
      - uses: astral-sh/setup-uv@v7
      - run: uv build
      - run: uv publish --trusted-publishing always --publish-url {url}"""


def _for_gitlab(each: Publisher, url: str, audience: str) -> str:
    environment = "" if each.environment is None else f"\n  environment: {json.dumps(each.environment)}"
    variable = f"{audience.upper().replace('-', '_')}_ID_TOKEN"
    return f"""\
# {each.workflow}
publish:
  image: ghcr.io/astral-sh/uv:python3.13-bookworm{environment}
  rules:
    - if: $CI_COMMIT_TAG
  id_tokens:
    {variable}:
      aud: {audience}
  script:
    - uv build
    - uv publish --trusted-publishing always --publish-url {url}"""
