"""What people decide about a project: written to its `project.json`, which is the truth, and then indexed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from elasticpypi.audit import Action, Recorder
from elasticpypi.catalog import Catalog
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    DecisionsError,
    InvalidRequestError,
    NotFoundError,
    ObjectMissingError,
)
from elasticpypi.indexer import object_fingerprint, reconcile
from elasticpypi.model import (
    Decisions,
    Entry,
    File,
    ProjectSnapshot,
    Status,
    format_decisions,
    parse_decisions,
)
from elasticpypi.names import NormalizedName, decisions_key, same_version
from elasticpypi.storage import Storage

_ATTEMPTS = 20


def yank(
    catalog: Catalog, storage: Storage, project: ProjectSnapshot, target: str, reason: str, *, record: Recorder
) -> list[str]:
    """Yank a release or a file (PEP 592), `""` for no reason; return the filenames that are yanked by it.

    Raise NotFoundError where the project has no such version or filename.
    """
    _check_text(reason)
    found = _files(project, target)
    name = _as_written(found, target)

    def change(decisions: Decisions) -> Decisions:
        others = {other: why for other, why in decisions.yanked.items() if not same_version(other, name)}
        return replace(decisions, yanked=others | {name: reason})

    before, after = change_decisions(catalog, storage, project.name, change)
    if after != before:
        record(Action.YANK, project=project.name, target=name, details={"reason": reason} if reason else {})
    return [file.filename for file in found]


def unyank(catalog: Catalog, storage: Storage, project: ProjectSnapshot, target: str, *, record: Recorder) -> list[str]:
    """Take back the yank of a release, its files' own ones included, or of a file; return what was yanked by it.

    Raise NotFoundError where the project has no such version or filename, DecisionsError where a file is yanked with
    its whole release.
    """
    found = _files(project, target)
    filenames = {file.filename for file in found}
    yanked = [item.file.filename for item in project.listing() if item.yanked is not False]

    def change(decisions: Decisions) -> Decisions:
        return replace(
            decisions,
            yanked={
                name: why
                for name, why in decisions.yanked.items()
                if name not in filenames and not same_version(name, target)
            },
        )

    before, after = change_decisions(catalog, storage, project.name, change)
    if after != before:
        record(Action.UNYANK, project=project.name, target=_as_written(found, target))
    still = [version for version in after.yanked if target in filenames and _bears(project, target, version)]
    if still:
        raise DecisionsError(f"{target} is yanked with its release: unyank {still[0]}")
    return [filename for filename in yanked if filename in filenames]


def set_status(
    catalog: Catalog,
    storage: Storage,
    project: ProjectSnapshot,
    status: Status,
    reason: str | None,
    *,
    record: Recorder,
) -> None:
    """Give a project a status (PEP 792) and its reason."""
    _check_text(reason or "")
    before, after = change_decisions(
        catalog, storage, project.name, lambda decisions: replace(decisions, status=status, status_reason=reason)
    )
    if after != before:
        details = {"status": status.value} | ({"reason": reason} if reason else {})
        record(Action.STATUS, project=project.name, details=details)


def delete(
    catalog: Catalog,
    storage: Storage,
    project: ProjectSnapshot,
    target: str | None,
    *,
    record: Recorder,
    recorded: set[str],
) -> list[str]:
    """Remove a file, a release or (target None) all files of a project from the storage; return the filenames.

    Their names are remembered first, with the sha256 that they keep belonging to. The project's name stays ours.
    `recorded` has the filenames whose deletion an earlier attempt has written down, and gets those of this one. Raise
    NotFoundError where there is no such file or version, ConflictError where something is replaced just now.
    """
    files = [item.file for item in project.listing()]
    listed = {id(file) for file in files}
    # The served ones last: what lies in their shadow must not come out of it for a moment.
    entries = sorted(_entries(project, target), key=lambda entry: id(entry.content) in listed)
    filenames = {_filename(entry) for entry in entries}
    deleted = {file.filename: file.sha256 for file in files if file.filename in filenames}

    def change(decisions: Decisions) -> Decisions:
        return replace(decisions, deleted={**decisions.deleted, **deleted})

    change_decisions(catalog, storage, project.name, change)
    # Before anything goes: should only some of it go, it was still asked for.
    if filenames - recorded:
        named = ", ".join(sorted(filenames - recorded))
        record(Action.DELETE, project=project.name, target=target, details={"filenames": named})
        recorded |= filenames
    for entry in entries:
        _remove(storage, entry)
        reconcile(catalog, storage, entry.key)
    return sorted(filenames)


def find_filenames(project: ProjectSnapshot, target: str | None) -> list[str]:
    """Return the filenames, sorted, that `delete` removes; raise NotFoundError where there is no such thing."""
    return sorted({_filename(entry) for entry in _entries(project, target)})


def change_decisions(
    catalog: Catalog, storage: Storage, name: NormalizedName, change: Callable[[Decisions], Decisions]
) -> tuple[Decisions, Decisions]:
    """Write a project's `project.json` anew, on condition that nobody else has meanwhile, and index it.

    Return what it was and what it is. Raise DecisionsError where the present one cannot be read: what it decides must
    not be lost.
    """
    key = decisions_key(name)
    first: Decisions | None = None
    for _ in range(_ATTEMPTS):
        try:
            before, fingerprint = _read(storage, key)
            # As it was at first: what is written once more because the answer was lost, was written by us.
            first = before if first is None else first
            after = change(before)
            if fingerprint is None or after != before:
                storage.write_document(key, format_decisions(after), replacing=fingerprint)
        except (BusyError, ConflictError, ObjectMissingError):
            continue
        reconcile(catalog, storage, key)
        return first, after
    raise BusyError(key)


def _check_text(reason: str) -> None:
    try:
        reason.encode()
    except UnicodeEncodeError as error:  # half a character, which JSON and a shell can name
        raise InvalidRequestError("the reason is no text: it contains half a character") from error


def _read(storage: Storage, key: str) -> tuple[Decisions, str | None]:
    try:
        document = storage.read_document(key)
    except ObjectMissingError:
        return Decisions(), None
    try:
        return parse_decisions(document.data), document.fingerprint
    except ValueError as error:
        raise DecisionsError(f"{key} cannot be read, so nothing can be decided: mend it first ({error})") from error


def _remove(storage: Storage, entry: Entry) -> None:
    try:
        present = storage.stat(entry.key)
        seen = object_fingerprint(entry.fingerprint)
        if seen and present.fingerprint != seen:
            raise ConflictError(entry.key)
        storage.remove(entry.key, fingerprint=present.fingerprint)
    except ObjectMissingError:
        pass  # somebody else has removed it


def _files(project: ProjectSnapshot, target: str) -> list[File]:
    """Return the files that a filename or a version names."""
    files = [item.file for item in project.listing()]
    found = [file for file in files if file.filename == target]
    found = found or [file for file in files if same_version(file.version, target)]
    if not found:
        raise NotFoundError(f"the project {project.name!r} has no release and no file {target!r}")
    return found


def _as_written(found: Iterable[File], target: str) -> str:
    """Return how a target is written in `project.json`: a filename as it is, a version normalised."""
    return next((file.version for file in found if file.filename != target), target)


def _bears(project: ProjectSnapshot, filename: str, version: str) -> bool:
    return any(
        item.file.filename == filename and same_version(item.file.version, version) for item in project.listing()
    )


def _entries(project: ProjectSnapshot, target: str | None) -> list[Entry]:
    """Return the rows of files, rejected ones and those in the shadow of another key included."""
    entries = [entry for entry in project.entries if not isinstance(entry.content, Decisions)]
    found = [entry for entry in entries if target in (None, _filename(entry))]
    if not found and target is not None:
        found = [e for e in entries if isinstance(e.content, File) and same_version(e.content.version, target)]
    if not found:
        what = "no files" if target is None else f"no release and no file {target!r}"
        raise NotFoundError(f"the project {project.name!r} has {what}")
    return found


def _filename(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]
