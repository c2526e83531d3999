"""Who answers for a name that is not ours, and with which page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from elasticpypi.catalog import Catalog
from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.errors import NotFoundError, UpstreamError
from elasticpypi.kept_pages import Page, compress
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.simple import RENDERER, UP_FROM_PROJECT, Form, file_url, render_page
from elasticpypi.storage import Storage
from elasticpypi.upstream.cached import PageCache
from elasticpypi.upstream.describing import describe_listing, describe_upstream_file
from elasticpypi.upstream.fetching import Fetcher, Limits
from elasticpypi.upstream.files import UpstreamFiles, say_why
from elasticpypi.upstream.flights import Flights
from elasticpypi.upstream.kept import KeptFiles
from elasticpypi.upstream.model import REVISION_DIGITS, Asked, Elsewhere, Listing, NotOurs, UpstreamFile
from elasticpypi.upstream.source import MOST_ASKING, Source, may_be_asked_for


class Upstreams:
    """The other indexes that are asked for names that are not ours, in the order of the configuration.

    The first one that has a project answers for it alone, and one that does not say ends the search: to take the next
    one's word instead would let an outage decide whose files are installed.
    """

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        upstreams: Sequence[Upstream] = (),
        *,
        own_names: Sequence[str] = (),
        url: str | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`own_names` are patterns of names that nobody is ever asked for; `url` is where clients find our index.

        `clock` gives seconds since 1970.
        """
        self._url = url
        self._upstreams = tuple(upstreams)
        self._own_names = tuple(own_names)
        self._fetchers = {
            upstream.name: Fetcher(upstream, limits=limits or Limits(), clock=clock) for upstream in upstreams
        }
        kept, flights = KeptFiles(storage), Flights(MOST_ASKING, share=_share(len(upstreams)))
        self.files = UpstreamFiles(
            storage,
            kept,
            lambda upstream: self._fetchers[upstream.name],
            flights=flights,
            notice=lambda found: self._sources[found.upstream.name].look_again(found.project),
        )
        self._sources = {
            upstream.name: Source(
                upstream,
                self._fetchers[upstream.name],
                PageCache(catalog, storage, upstream, clock=clock),
                kept,
                flights=flights,
                clock=clock,
            )
            for upstream in upstreams
        }

    @property
    def are_configured(self) -> bool:
        """Whether there is any."""
        return bool(self._upstreams)

    def find(self, name: NotOurs) -> Listing | Elsewhere:
        """Return what clients get for a project: what they may see of it, or where they are sent.

        Raise NotFoundError where nobody has it or may be asked for it, UpstreamError where one does not say.
        """
        for asked in self._ask(name):
            if asked.found is not None:
                return asked.found
        raise NotFoundError(f"there is no project {name!r}")

    def explain(self, name: NotOurs) -> Iterator[Asked]:
        """Yield what comes of each upstream in turn, up to the one that answers, or does not say."""
        try:
            yield from self._ask(name)
        except UpstreamError as error:
            upstream = next(each for each in self._upstreams if each.name == error.upstream)
            yield Asked(upstream, error.reason, fails=True)

    def own_pattern(self, name: NormalizedName) -> str | None:
        """Return the pattern by which a name is ours, whether or not there is such a project; None where none is."""
        return next((pattern for pattern in self._own_names if fnmatchcase(name, pattern)), None)

    def page(self, listing: Listing, form: Form, *, at_most: int | None) -> Page:
        """Return the page of a project that upstream has, as `Index.project_page` does.

        Raise NotFoundError where there is no file that clients may see, unless upstream has quarantined the project:
        an empty page would say that there are none.
        """
        body = compress(self.render(listing, form))
        tag = f"upstream.{listing.digest[:REVISION_DIGITS]}.{RENDERER}.{form}"
        return Page(listing.revision, tag, body if at_most is None or len(body) <= at_most else None)

    def render(self, listing: Listing, form: Form, *, base: str | None = None) -> Iterator[bytes]:
        """Render a page, as `simple.render_project` does."""
        check_shown(listing)
        base = UP_FROM_PROJECT if base is None else base
        files = (self._describe(listing, file, base) for file in listing.shown)
        return render_page(describe_listing(listing), files, form)

    def _describe(self, listing: Listing, file: UpstreamFile, base: str) -> dict[str, Any]:
        """Return a file as our page has it; of what comes through us the provenance does, too.

        Its URL has to be a whole one (PEP 740): without ours it is upstream's, of which credentials of ours would be
        needed in some cases, and then nobody is told of it.
        """
        upstream = listing.upstream
        if upstream.brings_files and file.provenance is not None:
            if self._url is not None:
                ours = file_url(listing.name, file.filename, base=f"{self._url.rstrip('/')}/")
                file = replace(file, provenance=f"{ours}.provenance")
            elif upstream.username is not None:
                file = replace(file, provenance=None)
        return describe_upstream_file(file, listing.url_of(file, base=base))

    def keep(
        self,
        name: NotOurs,
        filename: str,
        *,
        sha256: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Bring a file here that clients may see, and keep it, unless it lies here already; as `UpstreamFiles.bring`.

        NotFoundError, ForbiddenError where it is held back, UpstreamError where it has another `sha256` by now.
        """
        listing = self.find(name)
        if isinstance(listing, Elsewhere):
            raise NotFoundError(
                f"the upstream {listing.upstream.name!r} has its files to itself: its mode is 'redirect'"
            )
        found = self.files.find(listing, filename)
        if sha256 not in (None, found.sha256):
            raise UpstreamError(listing.upstream.name, f"has replaced {filename} meanwhile; try again")
        self.files.bring(found, progress=progress)

    def look_again(self, name: NotOurs) -> None:
        """Show from now on what was kept of a project since its listing was made."""
        for source in self._sources.values():
            source.look_again(name)

    def check(self) -> Mapping[str, UpstreamError | None]:
        """Return what is wrong with each upstream, by its name; None where it answers."""
        return {name: _check(fetcher) for name, fetcher in self._fetchers.items()}

    def _ask(self, name: NotOurs) -> Iterator[Asked]:
        own = self.own_pattern(name)
        if own is not None:
            raise NotFoundError(
                f"there is no project {name!r}, and {own!r} in 'own_names' keeps others from being asked"
            )
        for upstream in self._upstreams:
            reason = may_be_asked_for(upstream, name)
            if reason is not None:
                yield Asked(upstream, f"is not asked: {reason}")
                continue
            if upstream.mode is UpstreamMode.REDIRECT:
                yield Asked(upstream, "is where clients are sent", Elsewhere(upstream, f"{upstream.url}{name}/"))
                return
            listing = self._sources[upstream.name].find(name)
            if listing is None:
                yield Asked(upstream, "has no such project")
                continue
            yield Asked(upstream, "answers", listing)
            return


def _share(upstreams: int) -> int:
    """Return how many of the places one upstream may take: all of them where it is the only one."""
    return MOST_ASKING if upstreams < 2 else MOST_ASKING * 3 // 4


def check_shown(listing: Listing) -> None:
    """Raise NotFoundError where a project has no file that clients may see, with the reason of the newest one."""
    if listing.shown or listing.page.status is Status.QUARANTINED:
        return
    left = [say_why(held) for held in listing.newest_held_back]
    left += [f"{filename} {reason}" for filename, reason in listing.page.left_out.items()]
    many = f"its {len(left)} files are held back, such as" if len(left) > 1 else "its only file is held back:"
    raise NotFoundError(
        f"the project {listing.name!r} of the upstream {listing.upstream.name!r} is not here: {many} {left[0]}"
        if left
        else f"the upstream {listing.upstream.name!r} has no file of the project {listing.name!r}"
    )


def _check(fetcher: Fetcher) -> UpstreamError | None:
    try:
        fetcher.check()
    except UpstreamError as error:
        return error
    return None
