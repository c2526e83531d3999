"""What the indexer does with an event: a batch of the queue's messages, or a notification of S3 by itself.

"Event message structure" in the S3 user guide, "Using Lambda with Amazon SQS" in Lambda's. A notification is a hint:
that something was put, removed or restored under a key, of whichever version, only leads to a look at the object as it
is now. Therefore neither the kind of an event matters here nor its order (`sequencer`): to leave out an event that
seems to be older would save a look, but trust the notifications of a key to be complete.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from elasticpypi.errors import ElasticpypiError, EventFailedError, UnavailableError
from elasticpypi.handler.copying import Copies, KeepRequest, read_keep_request
from elasticpypi.handler.logs import Lines
from elasticpypi.handler.trying import NO_TIME, PAUSES, Context, deadline, tries
from elasticpypi.index import Failed, Index, Outcome, Reconciled
from elasticpypi.model import Decisions, File, Rejection
from elasticpypi.names import NormalizedName, parse_key, project_of

if TYPE_CHECKING:
    from elasticpypi.handler.keeping import SiteKeeper

_FINISHED_BYTES = 25_000_000  # of an upload in a second, at the least: it is read, unpacked and copied
_COPIED_BYTES = 5_000_000  # of an upstream's file in a second: what it takes longer for comes again
_RESERVE_SECONDS = 20.0  # of the function's time, in which what was begun comes to an end
_FOR_THE_SITE = 0.3  # of the time, where pages are written after what objects say
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Message:
    """A message, and what it asks for."""

    identifier: str
    keys: dict[str, float | None] = field(default_factory=dict)  # key -> when it happened, in seconds since 1970
    finish: Mapping[str, Any] | None = None
    keep: KeepRequest | None = None
    goes_on: str | None = None  # which work has to go on where it stopped
    problem: str | None = None  # why it has to come again


class Batches:
    """Carries out what events ask for."""

    def __init__(
        self,
        index: Index,
        lines: Lines,
        *,
        bucket: str,
        site: SiteKeeper | None = None,
        long_work: Mapping[str, Callable[[float], object]] = MappingProxyType({}),
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`site` is kept current, too; `long_work` can be told by name to go on until a time of `time.monotonic()`."""
        self._index = index
        self._lines = lines
        self._bucket = bucket
        self._site = site
        self._long_work = long_work
        self._pauses = pauses
        self._clock = clock
        self._copies = Copies(index, lines, pauses=pauses)

    def handle(self, event: Mapping[str, Any], context: Context) -> dict[str, Any] | None:
        """Do what an event asks for; of a batch return the messages that have to come again.

        EventFailedError where the event is no batch, and has to come again as a whole.
        """
        records = event.get("Records")
        if isinstance(records, list) and records and records[0].get("eventSource") == "aws:sqs":
            messages = [self._read_body(record["messageId"], record["body"]) for record in records]
            self._carry_out(messages, context)
            failed = [{"itemIdentifier": message.identifier} for message in messages if message.problem is not None]
            return {"batchItemFailures": failed}
        message = _Message("event")
        self._read(message, event)
        self._carry_out([message], context)
        if message.problem is not None:
            raise EventFailedError(message.problem)
        return None

    # Reading ------------------------------------------------------------------------------------------------------

    def _read_body(self, identifier: str, body: str) -> _Message:
        message = _Message(identifier)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(message, "its body is not JSON")
        else:
            self._read(message, document)
        return message

    def _read(self, message: _Message, document: object) -> None:
        match document:
            case {"Records": [*records]}:
                for record in records:
                    self._read_record(message, record)
            case {"Event": "s3:TestEvent"}:
                pass  # S3 tries out whether it may send
            case {"finish": dict(request)}:
                message.finish = request
            case {"keep": dict(request)}:
                message.keep = read_keep_request(request)
                if message.keep is None:
                    self._refuse(message, "what is to be kept needs project, filename, upstream and sha256")
            case {"go_on": str(work)} if work in self._long_work:
                message.goes_on = work
            case _:
                self._refuse(message, "it is neither a notification of S3 nor work to be done")

    def _read_record(self, message: _Message, record: object) -> None:
        match record:
            case {"s3": {"bucket": {"name": self._bucket}, "object": {"key": str(encoded)}}, **rest}:
                try:
                    key = unquote_plus(encoded, errors="strict")
                except ValueError:
                    self._refuse(message, "it names a key that is not UTF-8")
                else:
                    if parse_key(key) is not None:
                        message.keys[key] = _seconds(rest.get("eventTime"))
            case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str()}}}:
                self._lines.write("ignored", {"message": message.identifier, "reason": f"it is about {bucket!r}"})
            case _:
                self._refuse(message, "it has a record that is no notification of S3")

    def _refuse(self, message: _Message, problem: str) -> None:
        """Have a message come again, which leads to the dead-letter queue: somebody has to look at it."""
        message.problem = problem
        self._lines.write("refused", {"message": message.identifier, "reason": problem})

    # Doing --------------------------------------------------------------------------------------------------------

    def _carry_out(self, messages: Iterable[_Message], context: Context) -> None:
        until = deadline(context, reserve_seconds=_RESERVE_SECONDS)
        messages = list(messages)
        share = 0.0 if self._site is None else _FOR_THE_SITE * (until - time.monotonic())
        problems = self._reconcile(_happened(messages), until - share)
        for message in messages:
            for key in message.keys:
                message.problem = problems.get(key, message.problem)
        self._update_site(messages, problems, until)
        # Last, and the smallest first: what is not finished in time is stopped with the whole batch.
        finishing = [(_size(message.finish), message) for message in messages if message.finish is not None]
        for number, (size, message) in enumerate(sorted(finishing, key=lambda each: each[0])):
            fits = time.monotonic() + size / _FINISHED_BYTES < until
            message.problem = self._finish(message.finish or {}, until) if fits or number == 0 else NO_TIME
        self._copy(messages, until)
        self._go_on(messages, until)

    def _copy(self, messages: Sequence[_Message], until: float) -> None:
        """Copy files of upstreams, each once, in the same order."""
        wanted = sorted({m.keep for m in messages if m.keep is not None}, key=lambda keep: keep.size)
        problems: dict[KeepRequest, str | None] = {}
        for number, keep in enumerate(wanted):
            fits = time.monotonic() + keep.size / _COPIED_BYTES < until
            problems[keep] = self._copies.bring(keep, until) if fits or number == 0 else NO_TIME
        for message in messages:
            if message.keep is not None:
                message.problem = problems[message.keep]

    def _update_site(self, messages: Sequence[_Message], failed: Mapping[str, str], until: float) -> None:
        """Write the pages of all projects that messages name: also of those whose rows were right already.

        An upload through the API has changed its row before its event came. Keys that failed come again, and their
        projects with them.
        """
        if self._site is None:
            return
        happened = _happened_to_projects({key: at for key, at in _happened(messages).items() if key not in failed})
        problems = self._site.update(happened, until) if happened else {}
        for message in messages:
            reasons = (problems.get(name) for name in map(_project, message.keys) if name is not None)
            message.problem = message.problem or next(filter(None, reasons), None)

    def _go_on(self, messages: Sequence[_Message], until: float) -> None:
        """Do each long work that has to go on once, however often it is asked for."""
        for work in sorted({message.goes_on for message in messages if message.goes_on is not None}):
            problem = None
            try:
                self._long_work[work](until)
            except Exception as error:  # noqa: BLE001 (the messages beside it are not to suffer, and it is told of)
                problem = str(error)
                self._lines.write("went on", {"work": work, "outcome": "failed", "reason": problem})
                if not isinstance(error, ElasticpypiError):
                    _log.exception("%s failed in a way that nobody has foreseen", work)
            for message in messages:
                if message.goes_on == work:
                    message.problem = problem

    def _reconcile(self, happened: Mapping[str, float | None], until: float) -> Mapping[str, str]:
        """Reconcile keys, each once; return why some of them have to come again."""
        problems = dict.fromkeys(happened, NO_TIME)
        counts: Counter[str] = Counter()
        lags: list[float] = []
        waiting: Iterable[str] = happened
        for _ in tries(self._pauses, until):
            again = []
            for outcome in self._index.reconcile_all(waiting, deadline=until):
                if isinstance(outcome, Failed):
                    problems[outcome.key] = str(outcome.error)
                    self._report_failure(outcome)
                    again += [outcome.key] if isinstance(outcome.error, UnavailableError) else []
                else:
                    del problems[outcome.key]
                    counts[outcome_of(outcome)] += 1
                    lag = self._report(outcome, happened[outcome.key])
                    lags += [] if lag is None else [lag]
            if not again:
                break
            waiting = again
        self._count(counts | {"failed": len(problems)}, lags)
        return problems

    def _count(self, counts: Mapping[str, int], lags: list[float]) -> None:
        metrics = {name: counts[what] for name, what in _METRICS.items() if counts.get(what)}
        if metrics or lags:
            self._lines.write_metrics(metrics, lags_seconds=lags)

    def _report(self, outcome: Reconciled, happened: float | None) -> float | None:
        """Write a key's line; return how long it took since it happened, None where that is not known."""
        what = outcome_of(outcome)
        lag = None if happened is None or what == _UNCHANGED else max(self._clock() - happened, 0.0)
        entry = outcome.after
        reason = entry.problem if what != _UNCHANGED else None
        self._lines.write_object(entry.key, what, project=entry.project, reason=reason, lag_seconds=lag)
        return lag

    def _report_failure(self, failed: Failed) -> None:
        self._lines.write_object(failed.key, "failed", reason=str(failed.error))
        if not isinstance(failed.error, ElasticpypiError):
            _log.error("%s failed in a way that nobody has foreseen", failed.key, exc_info=failed.error)

    def _finish(self, request: Mapping[str, Any], until: float) -> str | None:
        """Finish an upload; return why it has to be tried again."""
        problem = NO_TIME
        for _ in tries(self._pauses, until):
            if time.monotonic() >= until:
                break
            try:
                self._report_upload(request, self._index.finish_upload(request))
            except Exception as error:  # noqa: BLE001 (the messages beside it are not to suffer, and it is told of)
                problem = str(error)
                self._lines.write("upload", {"outcome": "failed", "reason": problem})
                if not isinstance(error, ElasticpypiError):
                    _log.exception("an upload failed in a way that nobody has foreseen")
                if not isinstance(error, UnavailableError):
                    break
            else:
                return None
        return problem

    def _report_upload(self, request: Mapping[str, Any], outcome: Outcome) -> None:
        what = "refused" if outcome.added is None else outcome.added.name.lower()
        told = {"filename": request.get("filename"), "principal": request.get("principal")}
        self._lines.write("upload", told | {"outcome": what, "reason": outcome.message})


_UNCHANGED = "unchanged"
_METRICS = {"Indexed": "listed", "Rejected": "rejected", "Removed": "removed", "Failed": "failed"}


def outcome_of(reconciled: Reconciled) -> str:
    """Return in a word what has come of a key."""
    before, after = reconciled.before.content, reconciled.after.content
    if before == after:
        return _UNCHANGED
    match after:
        case None:
            return "removed"
        case File():
            return "listed"
        case Rejection():
            return "rejected"
        case Decisions():
            return "decided"


def _happened(messages: Iterable[_Message]) -> dict[str, float | None]:
    """Return when each key was first spoken of."""
    happened: dict[str, float | None] = {}
    for message in messages:
        for key, at in message.keys.items():
            known = happened.get(key)
            happened[key] = at if known is None else known if at is None else min(known, at)
    return happened


def _project(key: str) -> NormalizedName | None:
    named = parse_key(key)
    return None if named is None else project_of(named)


def _happened_to_projects(happened: Mapping[str, float | None]) -> dict[NormalizedName, float | None]:
    """Return when each project was first spoken of, given that of each key."""
    found: dict[NormalizedName, float | None] = {}
    for key, at in happened.items():
        project = _project(key)
        if project is not None:
            known = found.get(project)
            found[project] = at if known is None else known if at is None else min(known, at)
    return found


def _size(request: Mapping[str, Any]) -> int:
    size = request.get("size")
    return size if isinstance(size, int) else 0


def _seconds(event_time: object) -> float | None:
    try:
        return datetime.fromisoformat(event_time).timestamp() if isinstance(event_time, str) else None
    except ValueError:
        return None
