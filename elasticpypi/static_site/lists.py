"""The lists of all projects, kept current.

What is listed is read from the list for clients and changed by the names of those that came and went: a run knows of
these alone that their pages are there. `.elasticpypi/root.json` says who has written it last, or is about to: its bytes
never come twice, so that whoever ends last has had the lists for himself (as `marking` has it for a project).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from elasticpypi.errors import BusyError, ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX, Output, Written
from elasticpypi.static_site.pages import fingerprint, fixed_documents, root_documents
from elasticpypi.static_site.putting import ATTEMPTS, put
from elasticpypi.static_site.rounds import Work

STATE_PATH = f"{STATE_PREFIX}root.json"
_LIST_PATH = "simple/index.json"


@dataclass(frozen=True, slots=True)
class _State:
    written: Written | None
    fingerprint: str | None = None
    names: str | None = None  # digest of those listed; None: somebody is about to write, or was killed


def list_projects(
    work: Work,
    *,
    came: Collection[NormalizedName],
    gone: Collection[NormalizedName],
    is_whole: bool = False,
    look_anyway: bool = False,
    is_there: Callable[[NormalizedName], bool] | None = None,
) -> bool:
    """List what has come and no longer what is gone; nothing is written where nothing changes.

    `is_whole`: what came is all that there is, so that where just these are listed nothing need be read.
    `look_anyway`: trust nothing that lies there. `is_there`: asked about what is listed besides.
    Return whether the site is new, or another one by its options; what is always there is written then.
    """
    for _ in range(ATTEMPTS):
        state = _read_state(work.output)
        is_settled = not look_anyway and state.fingerprint == fingerprint(work.options) and state.names is not None
        if is_settled and is_whole and state.names == _digest(sorted(came)):
            return False
        listed = _listed(work.output)
        if is_settled and listed is not None and set(came) <= listed and listed.isdisjoint(gone):
            return False
        try:
            _rewrite(work, state, came, gone, is_there)
        except (ConflictError, BusyError):
            look_anyway = True
        else:
            return state.fingerprint != fingerprint(work.options)
    raise BusyError(STATE_PATH)


def _rewrite(
    work: Work,
    state: _State,
    came: Collection[NormalizedName],
    gone: Collection[NormalizedName],
    is_there: Callable[[NormalizedName], bool] | None,
) -> None:
    output = work.output
    working = output.write(STATE_PATH, _format(None, None), "application/json", replacing=state.written)
    for document in fixed_documents(work.options):
        put(output, document, output.look(document.path), work.tally)
    there = {path: output.look(path) for path in ("simple/index.html", "index.html", _LIST_PATH)}
    listed = (_listed(output) or set()) - set(came)
    names = sorted((set(came) | {name for name in listed if is_there is None or is_there(name)}) - set(gone))
    for document in root_documents(names, work.options):
        put(output, document, there[document.path], work.tally)
    output.write(STATE_PATH, _format(fingerprint(work.options), _digest(names)), "application/json", replacing=working)


def _listed(output: Output) -> set[NormalizedName] | None:
    """Return what the list for clients names; None where it is missing or cannot be read."""
    found = output.read(_LIST_PATH)
    try:
        return None if found is None else {project["name"] for project in json.loads(found[0])["projects"]}
    except (ValueError, TypeError, KeyError):
        return None


def _digest(names: Sequence[NormalizedName]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _format(written_with: str | None, names: str | None) -> bytes:
    return json.dumps({"id": uuid.uuid4().hex, "fingerprint": written_with, "names": names}).encode()


def _read_state(output: Output) -> _State:
    found = output.read(STATE_PATH)
    if found is None:
        return _State(None)
    try:
        document = json.loads(found[0])
        return _State(found[1], document["fingerprint"], document["names"])
    except (ValueError, TypeError, KeyError):
        return _State(found[1])
