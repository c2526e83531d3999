"""What one upstream has of a project: from memory, from the catalog, or asked for, and old where it does not answer."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import orjson

from elasticpypi.config import Upstream
from elasticpypi.errors import UnavailableError, UpstreamError
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.cached import CachedPage, PageCache
from elasticpypi.upstream.describing import describe_listing, describe_upstream_file
from elasticpypi.upstream.fetching import Answer, Fetcher, Unchanged
from elasticpypi.upstream.flights import Flights
from elasticpypi.upstream.kept import Kept, KeptFiles
from elasticpypi.upstream.model import KeptFile, Listing, NotOurs, UpstreamPage
from elasticpypi.upstream.rules import hold_back, next_change

STALE_SECONDS = 3 * 86_400.0  # for which a page is shown that upstream cannot be asked for again
_LEAST_FRESH_SECONDS = 60.0  # whatever upstream says: a build asks for the same project again and again
_MOST_FRESH_SECONDS = 600.0
_MISSING_SECONDS = 60.0  # for which a project that upstream does not have is not asked for again
_FAILURE_SECONDS = 10.0  # likewise after a failure
_PATIENCE_SECONDS = 12.0  # until somebody else has asked
_SHOWN_MEANWHILE_SECONDS = 1200.0  # how old a page may be that is shown while somebody else asks
MOST_ASKING = 64  # threads that ask any upstream or wait; those of the server are more, and pages of ours need some
_MOST_FILES = 30_000  # in memory, each of which takes about a kilobyte
_MOST_NAMES = 5_000
_STILL_QUARANTINED = UpstreamPage((), Status.QUARANTINED, "so it was when upstream last had a page of it")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """What was found out about a project, and until when that holds, by the clock."""

    until: float
    listing: Listing | None = None  # None: there is none
    cached: CachedPage | None = None
    error: UpstreamError | None = None  # why nothing could be found out

    @property
    def files(self) -> int:
        """How much memory it takes, in files."""
        return 0 if self.cached is None else len(self.cached.page.files) + len(self.cached.page.left_out)


class Source:
    """One upstream whose pages come through us; thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        fetcher: Fetcher,
        cache: PageCache,
        kept: KeptFiles,
        *,
        flights: Flights,
        clock: Callable[[], float],
    ) -> None:
        """`flights` are those of all upstreams."""
        self.upstream = upstream
        self._fetcher = fetcher
        self._cache = cache
        self._kept = kept
        self._clock = clock
        self._flights = flights
        self._states: dict[NormalizedName, _State] = {}
        self._files = 0
        self._changing = threading.Lock()

    def find(self, name: NotOurs) -> Listing | None:
        """Return what our clients may see of a project; None where upstream has none of this name.

        Raise UpstreamError where upstream does not say, and what it last said is too old.
        """
        state = self._states.get(name)
        if state is not None and self._clock() < state.until:
            return _answer(state)
        listing = None if state is None else state.listing
        is_recent = listing is not None and self._clock() - listing.checked < _SHOWN_MEANWHILE_SECONDS
        patience_seconds = 0 if is_recent else _PATIENCE_SECONDS
        with self._flights.turn(self.upstream.name, name, patience_seconds=patience_seconds) as has_turn:
            if not has_turn:
                if is_recent:
                    return listing
                raise UpstreamError(
                    self.upstream.name, "is asked by too many, or answers slowly; try again in a moment"
                )
            state = self._states.get(name)
            if state is None or self._clock() >= state.until:
                state = self._find_out(name, None if state is None else state.cached)
                self._remember(name, state)
        return _answer(state)

    def look_again(self, name: NormalizedName) -> None:
        """Find out anew what is shown of a project, without asking upstream again: something of it was kept."""
        with self._changing:
            state = self._states.get(name)
            if state is not None:
                self._states[name] = replace(state, until=-math.inf)

    # Finding out ---------------------------------------------------------------------------------------------------

    def _find_out(self, name: NotOurs, cached: CachedPage | None) -> _State:
        cached = self._newest(name, cached)
        if cached is not None and self._clock() < cached.checked + cached.fresh_seconds:
            return self._show(name, cached)
        try:
            return self._ask(name, cached)
        except UpstreamError as error:
            _log.warning("%s: %s", name, error)
            return self._do_without(name, cached, error)

    def _newest(self, name: NotOurs, cached: CachedPage | None) -> CachedPage | None:
        """Return what is kept of a page, which another process may have asked for since."""
        if cached is None:
            return self._cache.find(name)
        checked = self._cache.checked(name)
        if checked is None:
            return cached
        if checked.revision == cached.revision:
            return replace(cached, checked=checked.at, fresh_seconds=checked.fresh_seconds)
        return self._cache.find(name) or cached

    def _ask(self, name: NotOurs, cached: CachedPage | None) -> _State:
        answer = self._fetcher.page(name) if cached is None else self._fetcher.page(name, cached.validators)
        match answer:
            case Unchanged() if cached is not None:
                cached = self._cache.confirm(name, cached, fresh_seconds=_fresh(answer.fresh_seconds))
                return self._show(name, cached, is_sent=True)
            case Answer():
                page = self._read(name, answer)
                fresh_seconds = _fresh(answer.fresh_seconds)
                cached = self._cache.keep(name, page, answer.validators, fresh_seconds=fresh_seconds)
                return self._show(name, cached, is_sent=True)
            case None:
                return self._miss(name, cached)
            case _:
                raise UpstreamError(self.upstream.name, "says that a page is unchanged that it has never sent")

    def _miss(self, name: NotOurs, cached: CachedPage | None) -> _State:
        """Return what is shown of a project that upstream does not have.

        One that it had a short while ago is still its own, with nothing in it: perhaps somebody has made a mistake, and
        the next upstream's project of this name is another one.
        """
        if cached is not None:
            self._cache.forget(name)
        is_its_own = cached is not None or self._was_here(name)  # also where the catalog could take no note of it
        kept = self._read_kept(name)
        listing = self._list(name, self._without_page(kept), self._clock(), kept=kept)
        return _State(self._clock() + _MISSING_SECONDS, listing if listing.kept or is_its_own else None)

    def _was_here(self, name: NotOurs) -> bool:
        """Whether upstream had a project a short while ago that it no longer has."""
        checked = self._cache.checked(name)
        return checked is not None and checked.revision is None and self._clock() - checked.at < STALE_SECONDS

    def _read(self, name: NotOurs, answer: Answer) -> UpstreamPage:
        from elasticpypi.upstream.reading import read_page  # which a page that is cached does without

        try:
            return read_page(name, answer.body, content_type=answer.content_type, url=answer.url)
        except ValueError as error:
            raise UpstreamError(self.upstream.name, f"has sent what {error}") from error

    def _show(self, name: NotOurs, cached: CachedPage, *, is_sent: bool = False) -> _State:
        """Return what is shown of a page, until it has to be asked for again or something on it is old enough.

        A page without files is one, too: the next upstream is not asked for a project that this one has. `is_sent`
        says whether upstream has just sent or confirmed it.
        """
        kept = self._read_kept(name)
        is_quarantined = cached.page.status is Status.QUARANTINED
        if is_quarantined or is_sent:
            self._mark(name, kept, is_quarantined=is_quarantined)
        listing = self._list(name, cached.page, cached.checked, kept=kept)
        return _State(_until(cached, listing), listing, cached)

    def _do_without(self, name: NotOurs, cached: CachedPage | None, error: UpstreamError) -> _State:
        """Return what was last said, where that is not too old, or at least what was kept; else the error."""
        until = self._clock() + _FAILURE_SECONDS
        is_recent = cached is not None and self._clock() - cached.checked < STALE_SECONDS
        kept = self._read_kept(name)
        page, checked = self._without_page(kept), 0.0
        if cached is not None and is_recent and page.status is not Status.QUARANTINED:
            page, checked = cached.page, cached.checked
        listing = self._list(name, page, checked, kept=kept, stale=error.reason)
        # That upstream had nothing is no answer any more.
        is_answer = listing.shown or page.status is Status.QUARANTINED
        return _State(until, listing, cached) if is_answer else _State(until, None, cached, error)

    def _list(
        self, name: NotOurs, page: UpstreamPage, checked: float, *, kept: Kept, stale: str | None = None
    ) -> Listing:
        now = datetime.fromtimestamp(self._clock(), UTC)
        state = self._states.get(name)
        before = None if state is None else state.listing
        if before is not None and _holds_still(before, page, kept.files, now):
            return replace(before, checked=checked, stale=stale)
        shown, held_back = hold_back(self.upstream, name, page, kept.files, now=now)
        listing = Listing(self.upstream, name, page, shown, held_back, kept.files, checked, stale)
        return replace(listing, digest=_digest(listing))

    def _read_kept(self, name: NotOurs) -> Kept:
        """Return what is kept of this upstream's files."""
        if not self.upstream.keep:
            return Kept()
        kept = self._kept.read(name)
        ours = {filename: each for filename, each in kept.files.items() if each.upstream == self.upstream.name}
        return replace(kept, files=ours)

    def _without_page(self, kept: Kept) -> UpstreamPage:
        """Return what stands for a page that there is not: it does not say that a quarantine is over."""
        return _STILL_QUARANTINED if kept.files and self.upstream.name in kept.quarantined_by else UpstreamPage(())

    def _mark(self, name: NotOurs, kept: Kept, *, is_quarantined: bool) -> None:
        if not kept.files or (self.upstream.name in kept.quarantined_by) is is_quarantined:
            return
        try:
            self._kept.mark_quarantined(name, self.upstream.name, is_quarantined=is_quarantined)
        except UnavailableError as error:  # the page itself says it until it is asked for again, and then it is tried
            _log.warning("%s: it is not remembered yet whether it is quarantined: %s", name, error)

    def _remember(self, name: NotOurs, state: _State) -> None:
        with self._changing:
            before = self._states.pop(name, None)
            self._states[name] = state
            self._files += state.files - (0 if before is None else before.files)
            while (self._files > _MOST_FILES or len(self._states) > _MOST_NAMES) and len(self._states) > 1:
                self._files -= self._states.pop(next(iter(self._states))).files


def may_be_asked_for(upstream: Upstream, name: str) -> str | None:
    """Return why an upstream is not asked for a project, by its patterns; None where it is."""
    denied = next((pattern for pattern in upstream.deny if fnmatchcase(name, pattern)), None)
    if denied is not None:
        return f"{denied!r} in its 'deny' matches"
    if not any(fnmatchcase(name, pattern) for pattern in upstream.allow):
        return "nothing in its 'allow' matches"
    return None


def _answer(state: _State) -> Listing | None:
    if state.error is not None:  # another one for each who asks: threads add their tracebacks
        raise UpstreamError(state.error.upstream, state.error.reason)
    return state.listing


def _fresh(said: float | None) -> float:
    return min(max(said or 0.0, _LEAST_FRESH_SECONDS), _MOST_FRESH_SECONDS)


def _holds_still(before: Listing, page: UpstreamPage, kept: Mapping[str, KeptFile], now: datetime) -> bool:
    """Whether all that is shown of a page is as it was before: a page that is unchanged costs no more than asking."""
    change = next_change(before.held_back)
    return before.page is page and before.kept == kept and (change is None or now < change)


def _until(cached: CachedPage, listing: Listing) -> float:
    change = next_change(listing.held_back)
    return min(cached.checked + cached.fresh_seconds, math.inf if change is None else change.timestamp())


def _digest(listing: Listing) -> str:
    """Return what tells a page from another one: equal where all that is shown is equal, in every process."""
    files = [describe_upstream_file(file, file.url) for file in listing.shown]
    shown = [describe_listing(listing), files, sorted(listing.kept), listing.upstream.brings_files]
    return hashlib.sha256(orjson.dumps(shown)).hexdigest()
