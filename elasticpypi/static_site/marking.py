"""Marks of those at work on a project: one document each, whose bytes no other run writes again.

On S3 a condition on a page is one on its bytes, which may be there a second time: a page goes back to what it was when
a file comes and goes. A mark never does. Who finds somebody else's trusts nothing that lies there and takes it over;
whose was taken over learns it at the end, and begins again. So whoever ends last has had the project for himself.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from elasticpypi.errors import ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX, Output, Written

_PREFIX = f"{STATE_PREFIX}site/"
_JSON = "application/json"
_NOTHING: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of somebody who is at work on a project, or was until he was killed."""

    written: Written
    touched: frozenset[tuple[str, str]]  # (time, filename) of what he may have done to the changelog


def find_mark(output: Output, name: NormalizedName) -> Mark | None:
    """Return the mark that lies there; one that cannot be read is one of which nothing is known."""
    found = output.read(_path(name))
    return None if found is None else Mark(found[1], _parse(found[0]))


def set_mark(
    output: Output, name: NormalizedName, *, replacing: Mark | None, touched: frozenset[tuple[str, str]]
) -> Mark:
    """Set a mark of one's own in place of just that one; ConflictError."""
    before = None if replacing is None else replacing.written
    return Mark(_write(output, name, touched, replacing=before), touched)


def remove_mark(output: Output, name: NormalizedName, mark: Mark) -> None:
    """Take one's own mark away; ConflictError where somebody has taken it over."""
    # To remove what is gone already is no error: that nobody came in between shows only where something is written.
    last = _write(output, name, _NOTHING, replacing=mark.written)
    try:
        output.remove(last)
    except ConflictError:
        return  # whoever took it over from here on has found everything done


def is_marked(output: Output, name: NormalizedName, mark: Mark) -> bool:
    """Whether one's own mark still lies there."""
    return output.look(_path(name)) == mark.written


def marked_names(output: Output) -> Iterator[NormalizedName]:
    """Yield the projects that somebody is at work on, or was when he was killed."""
    for written in output.list(_PREFIX):
        yield NormalizedName(written.path.removeprefix(_PREFIX))


def _path(name: NormalizedName) -> str:
    return f"{_PREFIX}{name}"


def _write(
    output: Output, name: NormalizedName, touched: frozenset[tuple[str, str]], *, replacing: Written | None
) -> Written:
    document = {"id": uuid.uuid4().hex, "touched": sorted(touched)}
    return output.write(_path(name), json.dumps(document).encode(), _JSON, replacing=replacing)


def _parse(data: bytes) -> frozenset[tuple[str, str]]:
    try:
        return frozenset((str(time), str(filename)) for time, filename in json.loads(data)["touched"])
    except (ValueError, TypeError, KeyError):
        return _NOTHING
