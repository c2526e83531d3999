"""The audit trail: who has done what, when, and with which credential.

Each event is written to the log, and then kept in the ledger for as long as the settings say. What has been done is
not undone where it cannot be kept: then the log says so, and has the event.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Protocol

from elasticpypi.catalog.ledger import Ledger, Record
from elasticpypi.errors import CatalogError, ConfigError, InvalidRequestError
from elasticpypi.model import Actor, format_time, parse_time
from elasticpypi.names import NormalizedName

# Whoever configures the log gives these events, each a line of JSON, a handler of their own.
EVENT_LOGGER = "elasticpypi.events"
_KIND = "audit"
_DAY_SECONDS = 86_400
_LONGEST = 2000  # characters of one text
_ID = re.compile(r"[0-9]{16}-[0-9a-f]{8}", re.ASCII)
_MOST_READ = 5000  # events that are looked through at once, for those that are asked for
_READ_AT_ONCE = 500
_events = logging.getLogger(EVENT_LOGGER)
_log = logging.getLogger(__name__)


class Action(StrEnum):
    """What somebody may do that is remembered."""

    UPLOAD = "upload"
    REPLACE = "replace"  # by an upload of other bytes, where the settings allow it
    YANK = "yank"
    UNYANK = "unyank"
    DELETE = "delete"
    STATUS = "status"
    CREATE_TOKEN = "create-token"  # noqa: S105
    REVOKE_TOKEN = "revoke-token"  # noqa: S105
    ADD_PUBLISHER = "add-publisher"
    REMOVE_PUBLISHER = "remove-publisher"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody has done."""

    id: str  # sorts by time
    time: datetime  # aware, UTC
    actor: Actor
    action: str  # an `Action`, or one that a later version knows
    project: str | None = None  # normalised name
    target: str | None = None  # a version, a filename, the id of a token or publisher
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for."""

    project: NormalizedName | None = None  # None: of all, and of none
    who: str | None = None  # the actor's name; None: anybody's
    is_visible: Callable[[NormalizedName], bool] | None = None  # which projects' alone may be seen; None: everything

    def includes(self, event: Event) -> bool:
        """Whether an event is asked for, and may be seen."""
        if self.project not in (None, event.project) or self.who not in (None, event.actor.name):
            return False
        return self.is_visible is None or (event.project is not None and self.is_visible(NormalizedName(event.project)))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Some events, the last one first, and where to go on."""

    events: tuple[Event, ...]
    next: str | None  # the id before which there may be more; None where there are none


class Recorder(Protocol):
    """Writes down what a certain actor has done just now."""

    def __call__(
        self,
        action: Action,
        *,
        project: str | None = None,
        target: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None: ...


class Audit:
    """Writes events down, and finds them again."""

    def __init__(self, ledger: Ledger, *, keep_days: int = 365, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._keep_seconds = keep_days * _DAY_SECONDS
        self._clock = clock

    def recorder(self, actor: Actor) -> Recorder:
        """Return what writes down the deeds of somebody."""
        return partial(self.record, actor)

    def record(
        self,
        actor: Actor,
        action: Action,
        *,
        project: str | None = None,
        target: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Write down what was done just now."""
        now = self._clock()
        number = f"{int(now * 1_000_000):016}-{secrets.token_hex(4)}"
        event = Event(number, datetime.fromtimestamp(now, UTC), actor, action, project, target, _cut(details or {}))
        described = describe_event(event)
        _events.info("%s", json.dumps({"kind": _KIND, **described}), extra={"event": described})
        try:
            self._ledger.add(Record(_KIND, number, json.dumps(described), int(now) + self._keep_seconds))
        except (CatalogError, ConfigError) as error:
            _log.error("an event was not kept in the audit trail: %s", error)

    def events(self, *, before: str | None = None, limit: int) -> list[Event]:
        """Return the last events, the last one first, at most so many; those from the id `before` on are left out."""
        return [_load(record) for record in self._ledger.records(_KIND, before=before, limit=limit)]

    def find(self, wanted: Wanted, *, before: str | None = None, limit: int) -> Excerpt:
        """Return the last events of those that are asked for, at most so many; `before` as for `events`.

        No more than 5000 events are looked through: then there may be none among them, and more to be asked for.
        Raise InvalidRequestError where `before` is no id.
        """
        if before is not None and not _ID.fullmatch(before):
            raise InvalidRequestError(f"{before[:40]!r} is not the id of an event")
        found, last, seen = list[Event](), before, 0
        for event in islice(self._walk(before, at_once=min(limit + 1, _READ_AT_ONCE)), _MOST_READ):
            seen += 1
            if wanted.includes(event):
                if len(found) == limit:
                    return Excerpt(tuple(found), last)
                found.append(event)
            last = event.id
        return Excerpt(tuple(found), last if seen == _MOST_READ else None)

    def walk(self, wanted: Wanted) -> Iterator[Event]:
        """Yield all events that are asked for, the last one first, read as they are taken."""
        return filter(wanted.includes, self._walk(None, at_once=_READ_AT_ONCE))

    def _walk(self, before: str | None, *, at_once: int) -> Iterator[Event]:
        while events := self.events(before=before, limit=at_once):
            yield from events
            if len(events) < at_once:
                return
            before, at_once = events[-1].id, _READ_AT_ONCE


def describe_event(event: Event) -> dict[str, Any]:
    """Return an event as it is kept, logged and given to programs."""
    return {
        "id": event.id,
        "time": format_time(event.time),
        "who": event.actor.name,
        "credential": event.actor.credential,
        "action": event.action,
        "project": event.project,
        "target": event.target,
        "details": dict(event.details),
    }


def _load(record: Record) -> Event:
    fields = json.loads(record.text)
    return Event(
        record.id,
        parse_time(fields["time"]),
        Actor(fields["who"], fields["credential"]),
        fields["action"],
        fields["project"],
        fields["target"],
        fields["details"],
    )


def _cut(details: Mapping[str, str]) -> dict[str, str]:
    return {name: text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for name, text in details.items()}
