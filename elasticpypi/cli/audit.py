"""`elasticpypi audit`: who has done what."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from elasticpypi.cli.options import configured_index, data_option, json_option, print_json
from elasticpypi.index import Event, Wanted, describe_event
from elasticpypi.names import normalize_name


@click.command(short_help="Show who has done what.")
@click.option("--project", help="Only what was done to this project.")
@click.option("--who", metavar="NAME", help="Only what was done by somebody of this name.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Number of events.")
@json_option
@data_option
def audit(project: str | None, who: str | None, limit: int, as_json: bool, data: Path | None) -> None:
    """Show who has uploaded, yanked, deleted and decided what, and who has made which tokens; the last event first."""
    wanted = Wanted(project=None if project is None else normalize_name(project), who=who)
    with configured_index(data, existing=True) as index:
        events = list(islice(index.audit.walk(wanted), limit))
    if as_json:
        print_json({"events": [describe_event(event) for event in events]})
        return
    for event in events:
        click.echo(_line(event))


def _line(event: Event) -> str:
    who = f"{event.actor.name} ({event.actor.credential})"
    what = [word for word in (event.action, event.project, event.target) if word is not None]
    details = "; ".join(f"{name}: {text}" for name, text in event.details.items())
    line = f"{event.time:%Y-%m-%d %H:%M:%S} UTC  {who}  {' '.join(what)}" + (f"  ({details})" if details else "")
    # What people have written (a reason, the name of a token) must not disturb a terminal.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
