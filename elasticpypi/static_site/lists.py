"""The lists of all projects, kept current.

What is listed is read from the list for clients and changed by the names of those that came and went: a run knows of
these alone that their pages are there. Whether they are still to be listed is asked of the source when the lists have
been taken over: who reads it later finds that, and lists what he knows. `.elasticpypi/root.json` says who has written
the lists last, or is about to: its bytes never come twice, so that whoever ends last has had them for himself (as
`marking` has it for a project).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from elasticpypi.errors import BusyError, ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX, Output, Written
from elasticpypi.static_site import SiteOptions, Source
from elasticpypi.static_site.pages import fingerprint, fixed_documents, root_documents
from elasticpypi.static_site.putting import ATTEMPTS, put
from elasticpypi.static_site.rounds import Work, project_of, record_path

STATE_PATH = f"{STATE_PREFIX}root.json"
_LIST_PATH = "simple/index.json"
_ASKED = 64  # the source is asked about so many projects one by one, about all of them where it is about more


@dataclass(frozen=True, slots=True)
class _State:
    written: Written | None
    fingerprint: str | None = None
    names: str | None = None  # digest of those listed; None: somebody is about to write, or was killed
    built: str | None = None  # fingerprint of the options under which all projects were written


def list_projects(
    work: Work,
    *,
    came: Collection[NormalizedName],
    gone: Collection[NormalizedName],
    is_whole: bool = False,
    is_built: bool = False,
    look_anyway: bool = False,
) -> bool:
    """List what has come and no longer what is gone, where the source says so; write nothing where nothing changes.

    `is_whole`: what came is all that there is, so that where just these are listed nothing need be read, and the
    source is asked about what is listed besides. `is_built`: all projects are written with these options; it is noted
    for `are_built`. `look_anyway`: trust nothing that lies there.
    Return whether the site is new, or another one by its options; what is always there is written then.
    """
    for _ in range(ATTEMPTS):
        state = _read_state(work.output)
        ours = fingerprint(work.options)
        is_settled = not look_anyway and state.fingerprint == ours and state.names is not None
        is_settled = is_settled and (state.built == ours or not is_built)
        if is_settled and is_whole and state.names == _digest(sorted(came)):
            return False
        listed = _listed(work.output)
        if is_settled and listed is not None and set(came) <= listed and listed.isdisjoint(gone):
            return False
        try:
            # Where nothing is noted yet, there are no pages of other options.
            built = ours if is_built or state.written is None else state.built
            _rewrite(work, replace(state, built=built), came, gone, is_whole=is_whole)
        except (ConflictError, BusyError):
            look_anyway = True
        else:
            return state.fingerprint != ours
    raise BusyError(STATE_PATH)


def are_built(output: Output, options: SiteOptions) -> bool:
    """Whether all projects were written with these options; else nothing of an old page is to be trusted."""
    state = _read_state(output)
    return state.written is None or state.built == fingerprint(options)


def strangers(output: Output, names: Collection[NormalizedName]) -> set[NormalizedName]:
    """Return what is listed and not among these names."""
    state = _read_state(output)
    return set() if state.names == _digest(sorted(names)) else _shown(output, state) - set(names)


def _rewrite(
    work: Work,
    state: _State,
    came: Collection[NormalizedName],
    gone: Collection[NormalizedName],
    *,
    is_whole: bool,
) -> None:
    output = work.output
    working = output.write(STATE_PATH, _format(None, None, state.built), "application/json", replacing=state.written)
    for document in fixed_documents(work.options):
        put(output, document, output.look(document.path), work.tally)
    there = {path: output.look(path) for path in ("simple/index.html", "index.html", _LIST_PATH)}
    came, listed = set(came), _shown(output, state)
    uncertain = (came - listed) | (listed - came if is_whole else listed.intersection(gone))
    names = sorted(((listed | came) - uncertain) | _present(work.source, uncertain))
    for document in root_documents(names, work.options):
        put(output, document, there[document.path], work.tally)
    after = _format(fingerprint(work.options), _digest(names), state.built)
    output.write(STATE_PATH, after, "application/json", replacing=working)


def _listed(output: Output) -> set[NormalizedName] | None:
    """Return what the list for clients names; None where it is missing or cannot be read."""
    found = output.read(_LIST_PATH)
    try:
        return None if found is None else {project["name"] for project in json.loads(found[0])["projects"]}
    except (ValueError, TypeError, KeyError):
        return None


def _shown(output: Output, state: _State) -> set[NormalizedName]:
    """Return what the list names, or should, where it was lost or damaged: the projects whose pages are complete."""
    listed = _listed(output)
    if listed is not None or state.written is None:
        return listed or set()
    found = ((written.path, project_of(written.path)) for written in output.list("simple/"))
    return {name for path, name in found if name is not None and path == record_path(name)}


def _present(source: Source, names: Collection[NormalizedName]) -> set[NormalizedName]:
    """Return those that the source has now."""
    if len(names) > _ASKED:
        marks = source.marks()
        return {name for name in names if name in marks}
    return {name for name in names if source.mark(name) is not None}


def _digest(names: Sequence[NormalizedName]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _format(written_with: str | None, names: str | None, built: str | None) -> bytes:
    return json.dumps({"id": uuid.uuid4().hex, "fingerprint": written_with, "names": names, "built": built}).encode()


def _read_state(output: Output) -> _State:
    found = output.read(STATE_PATH)
    if found is None:
        return _State(None)
    try:
        document = json.loads(found[0])
        return _State(found[1], document["fingerprint"], document["names"], document["built"])
    except (ValueError, TypeError, KeyError):
        return _State(found[1])
