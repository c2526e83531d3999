"""Tokens: secrets that stand for somebody with a permission, limited to some projects and to some time.

    epypi_ + 32 random letters and digits + 6 of a checksum

The prefix and the checksum (CRC-32 of all before it, base 62) are for scanners that look for secrets in what people
publish, and spare us a read for what is no token at all. A token is kept as its SHA-256 alone: 190 bits of chance need
no slow hash. Whoever knows the ledger can therefore use none of them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import string
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from elasticpypi.audit import Action, Audit
from elasticpypi.catalog.ledger import Ledger, Record
from elasticpypi.config import Permission
from elasticpypi.errors import CatalogError, InvalidRequestError, NotFoundError
from elasticpypi.model import Actor, format_time, parse_time

PREFIX = "epypi_"
_KIND = "token"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 32, 6  # characters
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}", re.ASCII)
_ID_DIGITS = 16  # of the digest
_LONGEST_NAME = 100  # characters
_MOST = 100  # of an owner
_AT_ONCE = 1000  # records that are read
_HOUR_SECONDS = 3600
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token, which is not the token itself."""

    id: str  # 16 hex digits
    name: str  # what it is for, in somebody's words
    owner: str | None  # the user whose it is, who can do no less than it; None: nobody's but the index's
    permission: Permission
    projects: tuple[str, ...]  # patterns (fnmatch) of normalised project names
    created: datetime  # aware, UTC
    created_by: str
    expires: datetime | None = None  # aware, UTC; None: never
    last_used: datetime | None = None  # to the hour


class Tokens:
    """The tokens of an index. Every method may raise CatalogError."""

    def __init__(self, ledger: Ledger, audit: Audit, *, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._audit = audit
        self._clock = clock

    def create(
        self,
        name: str,
        *,
        by: Actor,
        permission: Permission,
        projects: tuple[str, ...] = ("*",),
        owner: str | None = None,
        expires: datetime | None = None,
    ) -> tuple[Token, str]:
        """Make a token; return what is known of it, and the token itself, which nobody can find out later.

        Raise InvalidRequestError for a name that is none, a time that has passed, and where the owner has enough.
        """
        _check_name(name)
        if owner is not None and len(self.find_all(owner)) >= _MOST:
            raise InvalidRequestError(f"{owner!r} has {_MOST} tokens already: revoke some that nobody uses")
        now = self._clock()
        if expires is not None and expires.timestamp() <= now:
            raise InvalidRequestError("a token that has expired already is of no use: give a later time", field="days")
        secret = _make_secret()
        digest = _digest(secret)
        token = Token(digest[:_ID_DIGITS], name, owner, permission, projects, _second(now), by.name, expires)
        if not self._ledger.add(_record(token, digest)):
            raise CatalogError("a token has the id of another one, which happens once in ages: try again")
        self._audit.record(by, Action.CREATE_TOKEN, target=token.id, details=_details(token))
        return token, secret

    def find_all(self, owner: str | None = None) -> list[Token]:
        """Return a user's tokens, or (None) all, the oldest first."""
        found = (_load(record)[0] for record in self._records())
        return sorted((token for token in found if owner in (None, token.owner)), key=lambda token: token.created)

    def _records(self) -> Iterator[Record]:
        before = None
        while records := self._ledger.records(_KIND, before=before, limit=_AT_ONCE):
            yield from records
            before = records[-1].id

    def get(self, token_id: str) -> Token:
        """Return what is known of a token; NotFoundError."""
        record = self._ledger.record(_KIND, token_id)
        if record is None:
            raise NotFoundError(f"there is no token {token_id[:_LONGEST_NAME]!r}, or it has expired")
        return _load(record)[0]

    def revoke(self, token_id: str, *, by: Actor) -> Token:
        """Make a token worthless; return what was known of it. NotFoundError."""
        token = self.get(token_id)
        if self._ledger.remove(_KIND, token_id):
            self._audit.record(by, Action.REVOKE_TOKEN, target=token_id, details=_details(token))
        return token

    def find(self, secret: str) -> Token | None:
        """Return what is known of a token that somebody has shown; None where it is none of ours, or has expired.

        One small read, of what has the form of a token; and once an hour a write, that it was used.
        """
        if not is_token(secret):
            return None
        digest = _digest(secret)
        record = self._ledger.record(_KIND, digest[:_ID_DIGITS])
        if record is None:
            return None
        token, kept = _load(record)
        if not hmac.compare_digest(kept, digest):
            return None
        self._note_use(record, token, digest)
        return token

    def _note_use(self, record: Record, token: Token, digest: str) -> None:
        hour = _second(self._clock() // _HOUR_SECONDS * _HOUR_SECONDS)
        if token.last_used is not None and token.last_used >= hour:
            return
        try:
            # On condition that nobody has changed it: what was revoked in between must not come back.
            self._ledger.replace(record, _record(replace(token, last_used=hour), digest))
        except CatalogError as error:  # whoever may read a page need not wait until something can be written
            _log.warning("that a token was used has not been noted: %s", error)


def is_token(text: str) -> bool:
    """Whether a text has the form of a token, checksum included."""
    return _FORM.fullmatch(text) is not None and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def describe_token(token: Token) -> dict[str, Any]:
    """Return what is known of a token, for programs."""
    return {
        "id": token.id,
        "name": token.name,
        "owner": token.owner,
        "permission": token.permission,
        "projects": list(token.projects),
        "created": format_time(token.created),
        "created-by": token.created_by,
        "expires": None if token.expires is None else format_time(token.expires),
        "last-used": None if token.last_used is None else format_time(token.last_used),
    }


def _details(token: Token) -> dict[str, str]:
    described = {"name": token.name, "permission": token.permission.value, "projects": ", ".join(token.projects)}
    return described | ({} if token.owner is None else {"owner": token.owner})


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidRequestError(f"a token needs a name of at most {_LONGEST_NAME} printable characters", field="name")


def _make_secret() -> str:
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return body + _checksum(body)


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _second(time: float) -> datetime:
    return datetime.fromtimestamp(int(time), UTC)


def _record(token: Token, digest: str) -> Record:
    fields = describe_token(token) | {"sha256": digest}
    expires = None if token.expires is None else int(token.expires.timestamp())
    return Record(_KIND, token.id, json.dumps(fields), expires)


def _load(record: Record) -> tuple[Token, str]:
    """Read a record: what is known of a token, and its digest."""
    fields = json.loads(record.text)
    token = Token(
        record.id,
        fields["name"],
        fields["owner"],
        Permission(fields["permission"]),
        tuple(fields["projects"]),
        parse_time(fields["created"]),
        fields["created-by"],
        None if fields["expires"] is None else parse_time(fields["expires"]),
        None if fields["last-used"] is None else parse_time(fields["last-used"]),
    )
    return token, fields["sha256"]
