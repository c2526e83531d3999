"""Asks another index: whatever it does, it costs so much time, so much memory and so many threads, and no more.

Specifications: HTTP (RFC 9110), its caching (RFC 9111) and Basic credentials (RFC 7617), simple repository API.
"""

from __future__ import annotations

import math
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

import elasticpypi
from elasticpypi.config import Upstream
from elasticpypi.errors import UpstreamError
from elasticpypi.upstream.bodies import read_body
from elasticpypi.upstream.hosts import Origin, is_among, read_origin
from elasticpypi.upstream.model import NotOurs
from elasticpypi.upstream.outages import Breaker, OutageError
from elasticpypi.upstream.patience import Deadline, Flow

if TYPE_CHECKING:
    from elasticpypi.upstream.connecting import Connections, Reply

_SIMPLE = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_AS_IT_LIES = {"Accept": "*/*", "Accept-Encoding": "identity"}
_BUSY = "has too many pages under way just now; try again in a moment"
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_NO_SUCH_METHOD = (405, 501)
_MOST_REDIRECTS = 5
_PIECE = 64 * 1024  # bytes
_MIB = 1024 * 1024
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)
_LONGEST_VALIDATOR = 1024  # characters


@dataclass(frozen=True, slots=True)
class Validators:
    """What upstream recognises a page by (RFC 9110, section 8.8)."""

    etag: str | None = None
    modified: str | None = None  # as its Last-Modified spells it


@dataclass(frozen=True, slots=True)
class Answer:
    """A page as it came."""

    url: str  # where it was in the end: what its links are relative to
    content_type: str  # empty: upstream does not say
    body: bytes
    validators: Validators
    fresh_seconds: int | None  # None: upstream does not say


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A page is still what it was when it had these validators."""

    fresh_seconds: int | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upstream may cost."""

    page_seconds: float = 10  # for a page or a small document, with the wait for its turn, and until a file begins
    page_bytes: int = 32 * _MIB  # unpacked
    connect_seconds: float = 3  # for each address of a host
    idle_seconds: float = 20  # without a byte of a file
    grace_seconds: float = 60  # after which a file has to have come at the least rate
    least_rate: int = 16 * 1024  # bytes of a file for each second that we wait for it
    pages_at_once: int = 16
    pages_waiting: int = 64  # for their turn; the others are told at once, lest a slow upstream hold every thread
    files_at_once: int = 96  # as many as downloads of our own: readers that stall are no worse than with those
    failure_seconds: float = 10  # for which a host that nobody has reached is left alone


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is coming; its bytes are those that lie upstream, once."""

    size: int | None  # bytes; None: upstream does not say
    _read: Callable[[int], bytes] = field(repr=False)

    def pieces(self) -> Iterator[bytes]:
        """Yield up to 64 KiB at a time, as they come; raise UpstreamError where they break off or take too long."""
        while piece := self._read(_PIECE):
            yield piece


def may_be_asked(upstream: Upstream, url: str) -> bool:
    """Whether a URL leads to a host of this upstream, plainly, without credentials and not around its TLS."""
    origin = read_origin(url)
    return origin is not None and is_among(origin, upstream)


class Fetcher:
    """Asks one upstream; thread-safe. Everything raises UpstreamError where there is no answer that says something."""

    def __init__(
        self, upstream: Upstream, *, limits: Limits = Limits(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` tells the seconds for which a host that fails is left alone; the other times are real ones."""
        self._upstream = upstream
        self._limits = limits
        self._clock = clock
        self._origin = read_origin(upstream.url)
        self._breakers: dict[Origin, Breaker] = {}
        self._pages = threading.BoundedSemaphore(limits.pages_at_once)
        self._waiting = threading.BoundedSemaphore(limits.pages_waiting)
        self._files = threading.BoundedSemaphore(limits.files_at_once)
        self._connecting = threading.Lock()
        self._opened: Connections | None = None

    def page(self, name: NotOurs, validators: Validators = Validators()) -> Answer | Unchanged | None:
        """Return a project's page; None where upstream has no such project.

        With validators it may be that the page is unchanged.
        """
        known = {"If-None-Match": validators.etag, "If-Modified-Since": validators.modified}
        conditions = {header: value for header, value in known.items() if value is not None}
        headers = {"Accept": _SIMPLE, "Accept-Encoding": "gzip", **conditions}
        with self._asked(f"{self._upstream.url}{name}/", headers) as asked:
            if asked.reply.status == 304 and conditions:
                asked.reply.drain()
                return Unchanged(_read_max_age(asked.reply))
            if not self._is_there(asked.reply):
                return None
            return self._read_page(asked)

    def document(self, url: str, *, most_bytes: int) -> bytes | None:
        """Return what lies at a URL beside a file (its core metadata, its provenance); None where nothing does."""
        with self._asked(url, _AS_IT_LIES) as asked:
            return self._read_all(asked, most_bytes) if self._is_there(asked.reply) else None

    @contextmanager
    def file(self, url: str, *, until: float | None = None) -> Iterator[Download]:
        """Begin to download a file, for as long as the context lasts; leaving it early ends the connection.

        At `until`, by `time.monotonic()`, it has to be there (None: it may take as long as it keeps coming).
        """
        until = math.inf if until is None else until
        self._check(url)
        if not self._files.acquire(blocking=False):
            raise self._error("has too many files under way just now; try again in a moment")
        try:
            deadline = Deadline(self._limits.page_seconds, until=until)
            with self._following("GET", url, _AS_IT_LIES, deadline) as asked:
                if not self._is_there(asked.reply):
                    raise self._error("no longer has the file")
                asked.reply.be_patient(self._flow(until))
                yield Download(asked.reply.size, asked.reply.read)
        finally:
            self._files.release()

    def check(self) -> None:
        """Find out whether upstream would answer; that it lists nothing at its root says nothing about projects."""
        status = self._status("HEAD")
        if status in _NO_SUCH_METHOD:
            status = self._status("GET")
        if status >= 400 and status not in _GONE:
            raise self._refusal(status)

    def _status(self, method: str) -> int:
        deadline = Deadline(self._limits.page_seconds)
        headers = {"Accept": _SIMPLE, "Accept-Encoding": "identity"}
        with self._following(method, self._upstream.url, headers, deadline) as asked:
            asked.reply.drain()
            return asked.reply.status

    # Turns -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _asked(self, url: str, headers: Mapping[str, str]) -> Iterator[_Asked]:
        """Ask for a page or a small document, when its turn has come."""
        self._check(url)
        deadline = Deadline(self._limits.page_seconds)
        if not self._pages.acquire(blocking=False):
            self._wait_for_turn(deadline)
        try:
            with self._following("GET", url, headers, deadline) as asked:
                yield asked
        finally:
            self._pages.release()

    def _wait_for_turn(self, deadline: Deadline) -> None:
        if not self._waiting.acquire(blocking=False):
            raise self._error(_BUSY)
        try:
            # Who would have next to no time left does not ask: to fail at that would look as if upstream were down.
            if not self._pages.acquire(timeout=max(0.0, deadline.left - self._limits.connect_seconds)):
                raise self._error(_BUSY)
        finally:
            self._waiting.release()

    # Requests ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _following(self, method: str, url: str, headers: Mapping[str, str], deadline: Deadline) -> Iterator[_Asked]:
        """Ask, and follow redirects to where upstream may lead."""
        for _ in range(_MOST_REDIRECTS + 1):
            asked = self._send(method, url, headers, deadline)
            with closing(asked.reply) as reply:
                location = reply.header("Location") if reply.status in _REDIRECTS else None
                if location is None:
                    yield asked
                    return
                reply.drain()
            url = self._resolve(url, location)
        raise self._error(f"redirects more than {_MOST_REDIRECTS} times")

    def _send(self, method: str, url: str, headers: Mapping[str, str], deadline: Deadline) -> _Asked:
        origin = self._origin_of(url)
        breaker = self._breaker(origin)
        breaker.enter()
        sent = {"User-Agent": f"elasticpypi/{elasticpypi.__version__}", **headers, **self._credentials(origin)}
        try:
            reply = self._connections().ask(method, url, sent, deadline)
        except OutageError as error:
            if not deadline.was_too_short:
                breaker.fail(error)
            raise
        # It answers, so it is well: how long the rest of an answer takes says nothing about the next one.
        breaker.succeed()
        return _Asked(url, reply)

    def _credentials(self, origin: Origin) -> Mapping[str, str]:
        """Return the header with our credentials, which the host of the upstream's own URL gets and no other one."""
        if self._upstream.username is None or origin != self._origin:
            return {}
        pair = f"{self._upstream.username}:{self._upstream.password or ''}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def _resolve(self, url: str, location: str) -> str:
        """Return where a redirect leads to; `_send` looks whether it is asked."""
        try:
            return urldefrag(urljoin(url, location)).url
        except ValueError as error:
            raise self._error("redirects to what is no URL") from error

    def _origin_of(self, url: str) -> Origin:
        origin = read_origin(url)
        if origin is None:
            raise self._error("leads to what is not plainly an http or https URL without credentials")
        if is_among(origin, self._upstream):
            return origin
        if origin.scheme == "http" and self._upstream.url.startswith("https:"):
            raise self._error(f"leads to {origin}, although it is itself asked with TLS")
        raise self._error(f"leads to {origin}, which is not among its 'hosts'")

    def _check(self, url: str) -> None:
        """Raise UpstreamError for a URL that is not asked, or whose host is left alone just now."""
        self._breaker(self._origin_of(url)).check()

    def _breaker(self, origin: Origin) -> Breaker:
        found = self._breakers.get(origin)
        return found or self._breakers.setdefault(origin, Breaker(self._limits.failure_seconds, self._clock))

    def _connections(self) -> Connections:
        with self._connecting:
            if self._opened is None:
                from elasticpypi.upstream.connecting import Connections

                limits = self._limits
                most = limits.pages_at_once + limits.files_at_once
                self._opened = Connections(self._upstream, connect_seconds=limits.connect_seconds, most_idle=most)
            return self._opened

    # Answers -----------------------------------------------------------------------------------------------------

    def _is_there(self, reply: Reply) -> bool:
        """Whether an answer is what was asked for; False: there is no such thing. Raise UpstreamError for others."""
        if reply.status in _GONE:
            reply.drain()
            return False
        if reply.status != 200:
            raise self._refusal(reply.status)
        return True

    def _refusal(self, status: int) -> UpstreamError:
        if status in (401, 403):
            ours = "refuses our credentials" if self._upstream.username is not None else "asks for credentials"
            return self._error(f"{ours} ({status})")
        return self._error(f"answers {status}")

    def _read_page(self, asked: _Asked) -> Answer:
        reply = asked.reply
        validators = Validators(_read_validator(reply, "ETag"), _read_validator(reply, "Last-Modified"))
        body = self._read_all(asked, self._limits.page_bytes)
        return Answer(asked.url, reply.header("Content-Type") or "", body, validators, _read_max_age(reply))

    def _read_all(self, asked: _Asked, most_bytes: int) -> bytes:
        pieces = iter(lambda: asked.reply.read(_PIECE), b"")
        try:
            return read_body(pieces, asked.reply.header("Content-Encoding") or "", most_bytes)
        except ValueError as error:
            raise self._error(str(error)) from error

    def _flow(self, until: float) -> Flow:
        limits = self._limits
        return Flow(
            idle_seconds=limits.idle_seconds,
            grace_seconds=limits.grace_seconds,
            least_rate=limits.least_rate,
            until=until,
        )

    def _error(self, reason: str) -> UpstreamError:
        return UpstreamError(self._upstream.name, reason)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of a request: an answer that is no redirect."""

    url: str
    reply: Reply


# Headers and what they say -------------------------------------------------------------------------------------------


def _read_validator(reply: Reply, header: str) -> str | None:
    value = reply.header(header)
    return value if value and len(value) <= _LONGEST_VALIDATOR else None


def _read_max_age(reply: Reply) -> int | None:
    found = _MAX_AGE.search(reply.header("Cache-Control") or "")
    return None if found is None else int(found[1])
