"""`elasticpypi list`, `show`: what is in the index."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from elasticpypi.cli.options import configured_index, data_option, json_option, print_json, project_argument
from elasticpypi.names import normalize_name


@click.command("list", short_help="List the projects.")
@click.argument("pattern", default="*")
@json_option
@data_option
def list_projects(pattern: str, as_json: bool, data: Path | None) -> None:
    """List the projects, or those whose normalised name fits a PATTERN such as 'acme-*'."""
    with configured_index(data, existing=True) as index:
        projects = [project for project in index.root().projects if fnmatchcase(project.name, pattern)]
    if as_json:
        print_json({"projects": [{"name": project.name, "serial": project.serial} for project in projects]})
    else:
        for project in projects:
            click.echo(project.name)


@click.command(short_help="Show a project, its releases and files.")
@project_argument
@json_option
@data_option
def show(project: str, as_json: bool, data: Path | None) -> None:
    """Show a project: its status, releases and files, and what was rejected."""
    with configured_index(data, existing=True) as index:
        document = index.describe(normalize_name(project))
    if as_json:
        print_json(document)
    else:
        _print_project(document)


def _print_project(document: dict[str, Any]) -> None:
    reason = f" ({document['status-reason']})" if document["status-reason"] else ""
    click.echo(f"{document['name']}: {document['status']}{reason}")
    if document["problem"]:
        click.echo(f"problem: project.json cannot be read: {document['problem']}")
    for release in reversed(document["releases"]):
        click.echo(f"\n{release['version']}")
        for file in release["files"]:
            _print_file(file)
    for rejected in document["rejected"]:
        click.echo(f"\nrejected: {rejected['key']}: {rejected['reason']}")
    if document["deleted"]:
        click.echo(f"\ndeleted: {', '.join(sorted(document['deleted']))}")


def _print_file(file: dict[str, Any]) -> None:
    facts = [f"{file['size']:,} bytes", f"uploaded {minute(file['upload-time'])}"]
    if file["requires-python"]:
        facts.append(f"Python {file['requires-python']}")
    if file["yanked"] is not False:
        facts.append("yanked" if file["yanked"] is True else f"yanked: {file['yanked']}")
    click.echo(f"  {file['filename']}  ({', '.join(facts)})")
    click.echo(f"    sha256 {file['sha256']}")
    if file["origin"]:
        since = f", there since {minute(file['origin']['upload-time'])}" if file["origin"]["upload-time"] else ""
        click.echo(f"    imported from {file['origin']['source']}{since}")


def minute(time: str) -> str:
    """Return a time as people read it: 2026-11-22 18:20 UTC."""
    return f"{time[:10]} {time[11:16]} UTC"
