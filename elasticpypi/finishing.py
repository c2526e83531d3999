"""Uploads whose last step takes longer than a request may: handed over to somebody else, and asked about afterwards.

What is known of one lies beside its bytes, as a small document, until it is cleared away with them.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from elasticpypi import adding
from elasticpypi.adding import Added
from elasticpypi.audit import Audit
from elasticpypi.catalog import Catalog
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ElasticpypiError,
    InvalidRequestError,
    NotFoundError,
    ObjectMissingError,
    UnavailableError,
)
from elasticpypi.model import UNKNOWN_ACTOR, Actor
from elasticpypi.names import RESERVED_PREFIX, parse_filename
from elasticpypi.storage import Document, Incoming, Storage
from elasticpypi.uploads import claim_by_filename

_ATTEMPTS = 20
# No Lambda function runs longer than 900 s, and a message waits for one: whoever asks then has it begun anew.
_GIVEN_UP_SECONDS = 1200.0
_HEX = re.compile(r"[0-9a-f]{64}")
_RUNNING = "finishing"


@dataclass(frozen=True, slots=True)
class FinishRequest:
    """An upload that is to be finished; whoever was asked to has checked that this principal may."""

    token: str = field(repr=False)  # of the upload, as `Storage.begin` knows it
    filename: str
    size: int  # bytes
    sha256: str
    principal: str
    credential: str = UNKNOWN_ACTOR.credential  # with which the principal came


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of an upload that was handed over: what it has come to, why it is refused, or nothing yet."""

    added: Added | None = None
    error: str | None = None  # the name of one of our errors
    message: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether somebody is still at it."""
        return self.added is None and self.error is None


@contextmanager
def resume(storage: Storage, token: str) -> Iterator[Incoming]:
    """Go on with an upload that was begun; NotFoundError where there is none, or not any more."""
    try:
        with storage.receive(resuming=token) as incoming:
            yield incoming
    except ObjectMissingError as error:
        raise NotFoundError("there is no such upload: it was finished or given up; begin it again") from error


def hand_over(storage: Storage, request: FinishRequest, send: Callable[[Mapping[str, Any]], None]) -> None:
    """Have an upload finished by whoever gets what is sent, unless somebody is at it already."""
    known = _read(storage, request.token)
    now = time.time()
    if known is not None and _is_running(known, now):
        return
    note = json.dumps({"status": _RUNNING, "since": now, "nonce": secrets.token_hex(8)}).encode()
    noted = _write_note(storage, request.token, note, replacing=_fingerprint(known))
    if noted is None:
        return  # somebody else has just done so
    try:
        send(asdict(request))
    except Exception:
        with suppress(ElasticpypiError):
            storage.remove(_key(request.token), fingerprint=noted)
        raise


def _write_note(storage: Storage, token: str, note: bytes, *, replacing: str | None) -> str | None:
    """Write a note of our own; return its fingerprint, None where somebody else was quicker."""
    try:
        return storage.write_document(_key(token), note, replacing=replacing).fingerprint
    except ConflictError:
        # Perhaps ours: a request whose answer was lost is repeated, and finds that it was carried out before.
        known = _read(storage, token)
        return known.fingerprint if known is not None and known.data == note else None


def find_outcome(storage: Storage, token: str) -> Outcome | None:
    """Return what is known of an upload that was handed over; None where none was, or so long ago that it is lost."""
    known = _read(storage, token)
    if known is None:
        return None
    outcome = _outcome(known)
    return None if outcome.is_running and not _is_running(known, time.time()) else outcome


def finish(catalog: Catalog, storage: Storage, request: Mapping[str, Any], *, overwrite: bool, audit: Audit) -> Outcome:
    """Do what `hand_over` has asked for, and remember what it came to; once more changes nothing.

    A refusal is an outcome, too. Raise InvalidRequestError where nobody can tell what is asked for, UnavailableError
    where asking again may help.
    """
    wanted = _read_request(request)
    known = find_outcome(storage, wanted.token)
    if known is not None and not known.is_running:
        return known
    try:
        outcome = Outcome(_finish(catalog, storage, wanted, overwrite=overwrite, audit=audit))
    except UnavailableError:
        raise
    except ElasticpypiError as error:
        outcome = Outcome(error=type(error).__name__, message=str(error))
    return _remember(storage, wanted.token, outcome)


def _finish(catalog: Catalog, storage: Storage, wanted: FinishRequest, *, overwrite: bool, audit: Audit) -> Added:
    claim = claim_by_filename(wanted.filename, wanted.sha256)
    record = audit.recorder(Actor(wanted.principal, wanted.credential))
    try:
        with resume(storage, wanted.token) as incoming:
            return adding.add_resumed(catalog, storage, incoming, claim, overwrite=overwrite, record=record)
    except NotFoundError:
        parsed = parse_filename(wanted.filename)
        if adding.has(catalog, storage, parsed, wanted.sha256, overwrite=overwrite):
            return Added.UNCHANGED  # somebody has finished it, and not come to say so
        raise


def _remember(storage: Storage, token: str, outcome: Outcome) -> Outcome:
    """Keep an outcome; return that of somebody else who was at it too and came first."""
    document = {"status": "refused", "error": outcome.error, "message": outcome.message}
    if outcome.added is not None:
        document = {"status": outcome.added.name.lower()}
    for _ in range(_ATTEMPTS):
        known = _read(storage, token)
        if known is not None and not _outcome(known).is_running:
            return _outcome(known)
        try:
            storage.write_document(_key(token), json.dumps(document).encode(), replacing=_fingerprint(known))
        except (ConflictError, ObjectMissingError):
            continue
        return outcome
    raise BusyError("the upload")


def _key(token: str) -> str:
    return f"{RESERVED_PREFIX}uploads/{token}.json"


def _read(storage: Storage, token: str) -> Document | None:
    try:
        return storage.read_document(_key(token))
    except ObjectMissingError:
        return None


def _fingerprint(known: Document | None) -> str | None:
    return None if known is None else known.fingerprint


def _outcome(known: Document) -> Outcome:
    """Read what is remembered; what is damaged says nothing, as if somebody were still at it."""
    document = _parse(known)
    status = str(document.get("status")).upper()
    if status == "REFUSED":
        return Outcome(error=str(document.get("error")), message=str(document.get("message")))
    return Outcome(Added[status]) if status in Added.__members__ else Outcome()


def _is_running(known: Document, now: float) -> bool:
    since = _parse(known).get("since")
    return _outcome(known).is_running and isinstance(since, float) and now - since < _GIVEN_UP_SECONDS


def _parse(known: Document) -> dict[str, Any]:
    try:
        document = json.loads(known.data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_request(request: Mapping[str, Any]) -> FinishRequest:
    # An elasticpypi that knew of no credential may have sent it.
    token, filename, size, sha256, principal, credential = (
        request.get(named.name, UNKNOWN_ACTOR.credential if named.name == "credential" else None)
        for named in fields(FinishRequest)
    )
    digests_are_good = all(isinstance(digest, str) and _HEX.fullmatch(digest) for digest in (token, sha256))
    names_are_good = all(isinstance(name, str) for name in (filename, principal, credential))
    if not (digests_are_good and names_are_good and isinstance(size, int)):
        raise InvalidRequestError("what is to be finished needs token, filename, size, sha256 and principal")
    return FinishRequest(str(token), str(filename), size, str(sha256), str(principal), str(credential))
