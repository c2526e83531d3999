"""Adding a file: what has come in is checked, stored and indexed, so that the next reader sees it."""

from __future__ import annotations

from enum import Enum, auto

from elasticpypi.audit import Action, Recorder
from elasticpypi.catalog import Catalog
from elasticpypi.digests import hex_digest
from elasticpypi.errors import (
    AlreadyExistsError,
    ConflictError,
    ElasticpypiError,
    ForbiddenError,
    NotReadyError,
    ObjectMissingError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from elasticpypi.indexer import Known, reconcile
from elasticpypi.model import Decisions, Entry, File, Rejection, Status, served_entry
from elasticpypi.names import NormalizedName, ParsedFilename, canonical_key, decisions_key
from elasticpypi.storage import Incoming, Slot, Storage
from elasticpypi.uploads import Claim, Proof, prove

_ATTEMPTS = 20


class Added(Enum):
    """What an upload has come to."""

    CREATED = auto()
    UNCHANGED = auto()  # the same bytes were there already
    REPLACED = auto()


_ACTIONS = {Added.CREATED: Action.UPLOAD, Added.REPLACED: Action.REPLACE}


def begin(storage: Storage, token: str, *, size: int, sha256: str) -> Slot:
    """Do as `Storage.begin`; raise StorageFullError where the rest has no room."""
    slot = storage.begin(token, size=size, sha256=sha256)
    free = storage.free_bytes()
    if free is not None and free < size - slot.received:
        raise StorageFullError(
            f"the storage has room for {free} bytes, but {size - slot.received} are to come: make room"
        )
    return slot


def has(catalog: Catalog, storage: Storage, parsed: ParsedFilename, sha256: str, *, overwrite: bool) -> bool:
    """Whether these bytes are there already under their name; else raise what `add` would without reading them."""
    _check_may_change(catalog, parsed.project, parsed.filename, sha256, overwrite=overwrite)
    present = _served_entry(catalog, parsed.project, parsed.filename)
    check_complete(catalog)
    seen = None if present is None else reconcile(catalog, storage, present.key)
    if seen is None or not isinstance(seen.content, File):
        return False
    if seen.content.sha256 != sha256 and not overwrite:
        raise AlreadyExistsError(parsed.filename)
    return seen.content.sha256 == sha256


def add(
    catalog: Catalog,
    storage: Storage,
    incoming: Incoming,
    claim: Claim,
    *,
    sha256: str,
    overwrite: bool,
    record: Recorder,
) -> Added:
    """Check what has come in, store it and index it.

    `sha256` is that of the bytes received. Raise InvalidUploadError, AlreadyExistsError, or ForbiddenError where
    the project is archived or quarantined.
    """
    check_complete(catalog)
    proof = prove(claim, incoming.stream, sha256)
    for _ in range(_ATTEMPTS):
        added = _try_to_add(catalog, storage, incoming, proof, overwrite=overwrite)
        if added in _ACTIONS:
            project, details = proof.parsed.project, {"sha256": proof.sha256}
            record(_ACTIONS[added], project=project, target=proof.parsed.filename, details=details)
        if added is not None:
            return added
    key = canonical_key(proof.parsed.project, claim.filename)
    raise StorageError(f"{key} cannot be stored: something lies there that is no file; remove it, or try again")


def add_resumed(
    catalog: Catalog, storage: Storage, incoming: Incoming, claim: Claim, *, overwrite: bool, record: Recorder
) -> Added:
    """Do as `add` with an upload that was begun, and forget it, unless asking again may help."""
    try:
        sha256 = incoming.sha256 or hex_digest(incoming.stream, "sha256")
        added = add(catalog, storage, incoming, claim, sha256=sha256, overwrite=overwrite, record=record)
    except UnavailableError:
        raise
    except ElasticpypiError:
        incoming.drop()
        raise
    incoming.drop()
    return added


def check_complete(catalog: Catalog) -> None:
    """Raise NotReadyError where the catalog does not know the whole storage.

    One that has just been made knows nothing: "not found" would send installers to another index. Asked after what was
    read, lest a new catalog take the place of a complete one in between.
    """
    if not catalog.is_complete():
        raise NotReadyError


def _try_to_add(
    catalog: Catalog, storage: Storage, incoming: Incoming, proof: Proof, *, overwrite: bool
) -> Added | None:
    """Publish what has come in, unless it may not be; None where others were quicker: then ask all of it anew."""
    name, filename = proof.parsed.project, proof.parsed.filename
    key = canonical_key(name, filename)
    # Looked up in this order, a deletion shows in one of them: it is written down before the file goes.
    present = _served_entry(catalog, name, filename)
    _check_may_change(catalog, name, filename, proof.sha256, overwrite=overwrite)
    check_complete(catalog)
    if present is not None and isinstance(present.content, File):
        seen = reconcile(catalog, storage, present.key)
        if seen is None or seen.content != present.content:
            return None  # what the catalog said was out of date
        if present.content.sha256 == proof.sha256:
            return Added.UNCHANGED
        if not overwrite:
            raise AlreadyExistsError(filename)
    try:
        stored = incoming.publish(key, replacing=_fingerprint_at(storage, key) if overwrite else None)
    except ConflictError:
        # Something lies there that the catalog did not know, or it has just come.
        seen = reconcile(catalog, storage, key)
        if seen is not None and isinstance(seen.content, Rejection) and not overwrite:
            raise AlreadyExistsError(filename) from None
        return None
    reconcile(catalog, storage, key, known=Known(stored.fingerprint, proof.sha256, proof.core_metadata))
    return Added.CREATED if present is None else Added.REPLACED


def _check_may_change(catalog: Catalog, name: NormalizedName, filename: str, sha256: str, *, overwrite: bool) -> None:
    content = catalog.entry(decisions_key(name)).content
    decided = content if isinstance(content, Decisions) else Decisions()
    if decided.status in (Status.ARCHIVED, Status.QUARANTINED):
        raise ForbiddenError(f"the project {name!r} is {decided.status.value}: it takes no new files")
    if decided.deleted.get(filename, sha256) != sha256 and not overwrite:
        raise AlreadyExistsError(filename, deleted=True)


def _served_entry(catalog: Catalog, name: NormalizedName, filename: str) -> Entry | None:
    return served_entry(catalog.entries_named(name, filename))


def _fingerprint_at(storage: Storage, key: str) -> str | None:
    try:
        return storage.stat(key).fingerprint
    except ObjectMissingError:
        return None
