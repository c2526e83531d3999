"""`elasticpypi why`: what clients get for a name, where it comes from, and what of it is held back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from elasticpypi.cli.look import minute
from elasticpypi.cli.options import configured_index, data_option, json_option, print_json, project_argument
from elasticpypi.names import normalize_name

_MOST_OF_A_REASON = 20  # files, unless all are asked for
_NEWEST = 5  # releases


@click.command(short_help="Explain what clients get for a name, and from where.")
@project_argument
@click.option("--all", "every", is_flag=True, help="Name all files that are held back, not the newest of each reason.")
@json_option
@data_option
def why(project: str, every: bool, as_json: bool, data: Path | None) -> None:
    """Explain whose project PROJECT is: ours, or what each upstream has of it, and what of that is held back and why.

    Exits with 1 where clients get nothing.
    """
    name = normalize_name(project)
    with configured_index(data, existing=True) as index:
        document = index.why(name)
        ours = index.describe(name, in_quarantine=False) if document["is-ours"] else None
    if as_json:
        print_json(document)
    else:
        for line in [*_tell(document, None if every else _MOST_OF_A_REASON), *_tell_ours(ours)]:
            click.echo(line)
    if not _is_found(document, ours):
        sys.exit(1)


def _is_found(document: Mapping[str, Any], ours: Mapping[str, Any] | None) -> bool:
    """Whether clients get a file, or are sent elsewhere."""
    if ours is not None:
        return bool(ours["releases"])
    listings = [asked["listing"] for asked in document["asked"] if asked["listing"] is not None]
    is_sent = any(asked["sent-to"] is not None for asked in document["asked"])
    return is_sent or any(listing["file-count"] for listing in listings)


def _tell_ours(ours: Mapping[str, Any] | None) -> Iterable[str]:
    if ours is None:
        return
    if ours["status"] != "active":
        reason = f" ({ours['status-reason']})" if ours["status-reason"] else ""
        yield f"  its status is {ours['status']}{reason}"
    files = sum(len(release["files"]) for release in ours["releases"])
    yield f"  clients get {_count(files)}" if files else "  clients get none of its files, and nobody else's"


def _tell(document: Mapping[str, Any], most: int | None) -> Iterable[str]:
    name, pattern = document["name"], document["own-pattern"]
    if document["is-ours"]:
        yield f"{name} is ours: what is ours is never taken from elsewhere"
    elif pattern is not None:
        yield f"{name} is not here, and no upstream is asked for it: {pattern!r} in 'own_names' keeps the name for us"
    elif not document["asked"]:
        yield f"{name} is not here, and no upstream is configured"
    else:
        yield f"{name} is not ours"
    for asked in document["asked"]:
        yield from _tell_asked(asked, most)


def _tell_asked(asked: Mapping[str, Any], most: int | None) -> Iterable[str]:
    sent_to = "" if asked["sent-to"] is None else f", to {asked['sent-to']}"
    yield f"the upstream {asked['upstream']!r} {asked['outcome']}{sent_to}"
    if asked["fails"]:
        yield "  so clients are told to come again: another upstream's word is not taken instead"
    if asked["listing"] is not None:
        yield from _tell_listing(asked["listing"], most)


def _tell_listing(listing: Mapping[str, Any], most: int | None) -> Iterable[str]:
    checked = "never yet" if listing["checked"] is None else minute(listing["checked"])
    if listing["stale"] is None:
        yield f"  as of {checked}"
    else:
        yield f"  as of {checked}, and not since: it {listing['stale']}"
    if listing["status"] != "active":
        reason = f" ({listing['status-reason']})" if listing["status-reason"] else ""
        yield f"  its status is {listing['status']}{reason}"
    yield _tell_files(listing)
    yield from _tell_held_back(listing["held-back"], most)
    yield from _tell_left_out(listing["left-out"], most)


def _tell_files(listing: Mapping[str, Any]) -> str:
    if not listing["file-count"]:
        return "  clients get none of its files"
    newest = list(islice(dict.fromkeys(file["version"] for file in listing["files"]), _NEWEST))
    kept = f", {listing['kept-count']:,} of them kept here" if listing["kept-count"] else ""
    return f"  clients get {_count(listing['file-count'])}{kept}; the newest releases: {', '.join(newest)}"


def _tell_held_back(held_back: Iterable[Mapping[str, Any]], most: int | None) -> Iterable[str]:
    """Yield what is held back, by the reason."""
    by_reason = sorted(held_back, key=itemgetter("reason"))  # which leaves those of a reason as they are, newest first
    for reason, group in groupby(by_reason, key=itemgetter("reason")):
        files = list(group)
        are = "is held back: it" if len(files) == 1 else "are held back: each"
        yield f"  {_count(len(files))} {are} {reason}"
        for file in files[:most]:
            yield f"    {file['filename']}{_tell_times(file)}"
        yield from _tell_others(len(files), most)


def _tell_times(file: Mapping[str, Any]) -> str:
    times = [("uploaded", file["upload-time"]), ("until", file["until"])]
    told = ", ".join(f"{word} {minute(time)}" for word, time in times if time is not None)
    return f"  ({told})" if told else ""


def _tell_left_out(left_out: list[Mapping[str, Any]], most: int | None) -> Iterable[str]:
    if left_out:
        yield f"  left out of its page: {len(left_out):,}"
    for file in left_out[:most]:
        yield f"    {file['filename']} {file['reason']}"
    yield from _tell_others(len(left_out), most)


def _tell_others(count: int, most: int | None) -> Iterable[str]:
    if most is not None and count > most:
        yield f"    and {count - most:,} more (--all names them)"


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files:,} files"
