"""Which files stand on which page of the changelog, kept in the output.

`.elasticpypi/changelog/index.json` names the pages from the oldest with the entry each begins with; a page's entries
lie in a document whose name is used once. Entries are read, changed and written back on condition, so that no change
is lost; what is rendered of them is looked at again once it is written. A file is put where it belongs, without moving
others: pages between the oldest and the newest may have more or fewer than they should until `repack`. Whoever begins
pages or packs them anew notes from which one on they are unfinished: if he is killed, the next who comes by finishes.
"""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from elasticpypi.errors import BusyError, ConflictError
from elasticpypi.names import NormalizedName
from elasticpypi.output import STATE_PREFIX, Output, Written
from elasticpypi.static_site import SiteOptions
from elasticpypi.static_site.changelog import (
    IN_FEED,
    PER_PAGE,
    Entry,
    changelog_document,
    changelog_path,
    dump_entry,
    feed_document,
    parse_entry,
)
from elasticpypi.static_site.putting import ATTEMPTS, Tally, look_again, put, take_away

Key = tuple[str, NormalizedName, str]  # (time, project, filename)

_PREFIX = f"{STATE_PREFIX}changelog/"
_INDEX_PATH = f"{_PREFIX}index.json"
_PAGES_PREFIX = "changelog/page"
_FROM_THE_BEGINNING: Key = ("", NormalizedName(""), "")
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Place:
    first: Key  # what stands before it in order stands on an older page
    identifier: str


@dataclass(frozen=True, slots=True)
class _Index:
    written: Written | None
    places: tuple[_Place, ...]
    is_untidy: bool  # some page has more or fewer entries than it should, and `repack` has something to do
    unfinished: int | None = None  # somebody is at work on the pages from this one on, or was killed; None: nobody


@dataclass(frozen=True, slots=True)
class _Page:
    written: Written | None
    entries: Mapping[Key, Entry]


def key_of(entry: Entry) -> Key:
    """Return what an entry is known by."""
    return entry.time, entry.project, entry.filename


class Paging:
    """The changelog of one site. Methods raise BusyError where others change it all the time."""

    def __init__(self, output: Output, options: SiteOptions, tally: Tally, *, per_page: int = PER_PAGE) -> None:
        self._output = output
        self._options = options
        self._tally = tally
        self._per_page = per_page
        self._suspect: set[int] = set()  # pages that were written and shown by an attempt that came to nothing

    def update(self, entries: Collection[Entry], drop: Collection[Key]) -> None:
        """Have these entries in the changelog and those not; to do it twice is to do it once."""
        if entries or drop:
            self._again(lambda: self._update(entries, drop))

    def show(self) -> None:
        """Render the newest page and the feed, whatever they are."""
        self._again(lambda: self._show_newest(self._read_index()))

    def _show_newest(self, index: _Index) -> None:
        last = len(index.places) - 1
        self._show(index, {last: self._read_page(index.places[last])})

    def keys(self) -> frozenset[int]:
        """Return what is there now, for `rebuild`: hashes of keys, which are small."""
        index = self._read_index()
        return frozenset(hash(key) for place in index.places for key in self._read_page(place).entries)

    def rebuild(
        self,
        entries: Collection[Entry],
        is_of: Callable[[NormalizedName], bool],
        *,
        before: frozenset[int] = frozenset(),
        look_anyway: bool = False,
    ) -> None:
        """Have of the projects `is_of` just these entries, the others' as they are, on exact pages.

        `before`: what was there before the projects were read; what others did to the changelog since then is newer.
        `look_anyway`: pages, too, that need not have changed.
        """
        kept = {key_of(entry): entry for entry in entries}
        self._again(lambda: self._rebuild(kept, is_of, before, look_anyway=look_anyway))

    def repack(self) -> None:
        """Have a full thousand entries on every page but the newest."""
        index = self._read_index()
        if index.is_untidy or index.unfinished is not None:
            self._again(lambda: self._rebuild({}, lambda _: False, frozenset(), look_anyway=False))

    def _again(self, attempt: Callable[[], None]) -> None:
        for _ in range(ATTEMPTS):
            try:
                return attempt()
            except (ConflictError, BusyError):
                continue
        raise BusyError(_INDEX_PATH)

    def _update(self, entries: Collection[Entry], drop: Collection[Key]) -> None:
        index = self._read_index()
        pages, wanted = self._apply(index, entries, drop)
        last = len(index.places) - 1
        overflow = self._overflow(index, wanted)
        # From here on pages are written, the newer first: what moves to a newer one is there before it goes here.
        if overflow:
            index = self._extend(index, overflow)
        changed = [number for number in pages if list(pages[number].entries) != list(wanted[number])]
        if not index.is_untidy and any(n < last or not self._is_in_order(wanted[n], n) for n in changed):
            index = self._write_index(replace(index, is_untidy=True))
        self._suspect.update(pages)
        shown: dict[int, _Page] = {}
        for number in sorted(pages, reverse=True):
            page = pages[number]
            if page.entries != wanted[number]:
                page = self._write_page(index.places[number], wanted[number], replacing=page.written)
            shown[number] = page
        if overflow:
            shown |= {n: self._read_page(index.places[n]) for n in range(max(last - 1, 0), len(index.places))}
        self._show(index, shown)
        self._suspect.clear()
        if index.unfinished is not None:
            self._write_index(replace(index, unfinished=None))

    def _is_in_order(self, entries: Mapping[Key, Entry], number: int) -> bool:
        """Whether so many entries may be on the newest page, which is the one with this number."""
        return len(entries) <= self._per_page and (bool(entries) or number == 0)

    def _apply(
        self, index: _Index, entries: Iterable[Entry], drop: Iterable[Key]
    ) -> tuple[dict[int, _Page], dict[int, dict[Key, Entry]]]:
        """Return the pages that are concerned, as they are and as they should be."""
        firsts = [place.first for place in index.places]
        pages: dict[int, _Page] = {}
        wanted: dict[int, dict[Key, Entry]] = {}

        def page_of(key: Key) -> dict[Key, Entry]:
            return page_at(max(bisect_right(firsts, key) - 1, 0))

        def page_at(number: int) -> dict[Key, Entry]:
            if number not in pages:
                pages[number] = self._read_page(index.places[number])
                wanted[number] = {}
                for at, entry in pages[number].entries.items():
                    # What belongs to a newer page was left here by somebody who was killed, or came in between.
                    is_here = number + 1 == len(firsts) or at < firsts[number + 1]
                    (wanted[number] if is_here else page_of(at)).setdefault(at, entry)
            return wanted[number]

        last = len(firsts) - 1
        for number in {*self._suspect, last} if self._suspect else ():
            page_at(min(number, last))
        for number in range(len(firsts) if index.unfinished is None else index.unfinished, len(firsts)):
            page_at(number)
        for key in drop:
            page_of(key).pop(key, None)
        for entry in entries:
            page_of(key_of(entry))[key_of(entry)] = entry
        return pages, {number: dict(sorted(wanted[number].items())) for number in wanted}

    def _overflow(self, index: _Index, wanted: dict[int, dict[Key, Entry]]) -> list[dict[Key, Entry]]:
        """Take off the newest page what does not fit, and return it, in pages."""
        last = len(index.places) - 1
        if len(wanted.get(last, ())) <= self._per_page:
            return []
        first, *others = self._in_pages(wanted[last])
        wanted[last] = first
        return others

    def _in_pages(self, entries: Mapping[Key, Entry]) -> list[dict[Key, Entry]]:
        """Return entries that are in order in pages, which are one at least."""
        items = list(entries.items())
        return [dict(items[n : n + self._per_page]) for n in range(0, max(len(items), 1), self._per_page)]

    def _extend(self, index: _Index, pages: Iterable[Mapping[Key, Entry]]) -> _Index:
        added = tuple(self._new_page(entries) for entries in pages)
        unfinished = len(index.places) - 1 if index.unfinished is None else index.unfinished
        return self._write_index(replace(index, places=index.places + added, unfinished=unfinished))

    def _new_page(self, entries: Mapping[Key, Entry]) -> _Place:
        place = _Place(next(iter(entries), _FROM_THE_BEGINNING), uuid.uuid4().hex)
        self._write_page(place, entries, replacing=None)
        return place

    def _rebuild(
        self,
        entries: Mapping[Key, Entry],
        is_of: Callable[[NormalizedName], bool],
        before: frozenset[int],
        *,
        look_anyway: bool,
    ) -> None:
        index = self._read_index()
        pages = [self._read_page(place) for place in index.places]
        present = {key: entry for page in pages for key, entry in page.entries.items()}
        wanted = {
            key: entry for key, entry in present.items() if not is_of(key[1]) or self._is_newer(key, before, False)
        }
        wanted |= {
            key: entry for key, entry in entries.items() if key in present or not self._is_newer(key, before, True)
        }
        chunks = self._in_pages(dict(sorted(wanted.items())))
        places = tuple(
            index.places[n]
            if n < len(pages) and list(pages[n].entries.items()) == list(chunk.items()) and pages[n].written is not None
            else self._new_page(chunk)
            for n, chunk in enumerate(chunks)
        )
        is_in_order = places == index.places and not index.is_untidy and index.unfinished is None
        if index.written is None or not is_in_order:
            # The two newest, too: the last of them moves to another path when one comes or goes.
            newest = max(min(len(places), len(index.places)) - 2, 0)
            changed = (n for n, (now, old) in enumerate(zip(places, index.places, strict=False)) if now != old)
            first = min(next(changed, newest), newest, newest if index.unfinished is None else index.unfinished)
            old = index.places
            index = self._write_index(_Index(index.written, places, is_untidy=True, unfinished=first))
            for place, page in zip(old, pages, strict=True):
                if place not in places:
                    self._drop_page(place, page)
        else:
            first = len(places) - 1
        for n in range(0 if look_anyway else first, len(places)):
            self._show(index, {n: self._read_page(index.places[n])}, is_last=False)
        self._show(index, {})
        self._remove_superfluous(len(places))
        if index.unfinished is not None:
            self._write_index(replace(index, is_untidy=False, unfinished=None))

    def _is_newer(self, key: Key, before: frozenset[int], was_there: bool) -> bool:
        """Whether it is somebody else's doing since then that a key is there, or is not."""
        return not self._output.is_exclusive and (hash(key) in before) is was_there

    def _drop_page(self, place: _Place, page: _Page) -> None:
        """Remove a page that is no longer one, but nothing that has been done to it meanwhile."""
        while page.written is not None:
            try:
                self._output.remove(page.written)
            except ConflictError:
                present = self._read_page(place)
                came = [entry for key, entry in present.entries.items() if page.entries.get(key) != entry]
                self.update(came, page.entries.keys() - present.entries.keys())
                page = present
            else:
                return

    def _remove_superfluous(self, pages: int) -> None:
        """Remove pages for people that are not among so many, and what is left of those that somebody was making."""
        expected = {changelog_path(number, pages=pages) for number in range(1, pages + 1)}
        for written in list(self._output.list(_PAGES_PREFIX)):
            if written.path not in expected:
                take_away(self._output, written, self._tally)

    def _show(self, index: _Index, pages: Mapping[int, _Page], *, is_last: bool = True) -> None:
        """Render pages, and the feed when it is the last time; ConflictError where they have changed since."""
        count = len(index.places)
        read = dict(pages)
        if is_last:
            for number in range(count - 1, -1, -1):
                if sum(len(page.entries) for at, page in read.items() if at > number) >= IN_FEED:
                    break
                if number not in read:
                    read[number] = self._read_page(index.places[number])
        documents = [
            changelog_document(_newest_first([page]), number=number + 1, pages=count, options=self._options)
            for number, page in sorted(pages.items())
        ]
        if is_last:
            newest = _newest_first(page for _, page in sorted(read.items()))[:IN_FEED]
            documents.append(feed_document(newest, self._options))
        for document in documents:
            put(self._output, document, self._output.look(document.path), self._tally)
        if not self._output.is_exclusive:
            for number, page in read.items():
                look_again(self._output, _path(index.places[number]), page.written)
            look_again(self._output, _INDEX_PATH, index.written)

    def _read_index(self) -> _Index:
        found = self._output.read(_INDEX_PATH)
        if found is None:
            return self._nothing(None)
        try:
            document = json.loads(found[0])
            places = tuple(_Place((at[0], at[1], at[2]), identifier) for at, identifier in document["pages"])
            if not places:
                return self._nothing(found[1])
            return _Index(found[1], places, document["untidy"], document["unfinished"])
        except (ValueError, TypeError, KeyError, IndexError):
            return self._nothing(found[1])

    def _nothing(self, written: Written | None) -> _Index:
        """Return an index of one page, which is empty, and which the index does not know yet."""
        return _Index(written, (_Place(_FROM_THE_BEGINNING, "first"),), is_untidy=written is not None)

    def _write_index(self, index: _Index) -> _Index:
        document = {
            "id": uuid.uuid4().hex,
            "pages": [[place.first, place.identifier] for place in index.places],
            "untidy": index.is_untidy,
            "unfinished": index.unfinished,
        }
        data = json.dumps(document, ensure_ascii=False).encode()
        return replace(index, written=self._output.write(_INDEX_PATH, data, _JSON, replacing=index.written))

    def _read_page(self, place: _Place) -> _Page:
        found = self._output.read(_path(place))
        if found is None:
            return _Page(None, {})
        try:
            entries = [parse_entry(line) for line in found[0].splitlines()]
        except ValueError:
            entries = []  # a build that looks at everything has it right again
        return _Page(found[1], {key_of(entry): entry for entry in entries})

    def _write_page(self, place: _Place, entries: Mapping[Key, Entry], *, replacing: Written | None) -> _Page:
        data = "".join([f"{dump_entry(entry)}\n" for entry in entries.values()]).encode()
        return _Page(self._output.write(_path(place), data, "application/x-ndjson", replacing=replacing), entries)


def _path(place: _Place) -> str:
    return f"{_PREFIX}{place.identifier}"


def _newest_first(pages: Iterable[_Page]) -> list[Entry]:
    return [entry for page in pages for entry in page.entries.values()][::-1]
