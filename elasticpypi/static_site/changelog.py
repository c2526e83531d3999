"""What came when: the entries of a site's changelog, its pages and its feed.

Specification: Atom (RFC 4287). Pure: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticpypi.names import NormalizedName
from elasticpypi.simple import dump
from elasticpypi.static_site import Document, SiteOptions, SiteProject
from elasticpypi.static_site.people import escape_rows, frame, render
from elasticpypi.static_site.urls import from_site, is_relative

PER_PAGE = 1000  # entries
IN_FEED = 100  # entries

FEED_PATH = "changelog/feed.xml"

_HTML = "text/html; charset=utf-8"
_ATOM = "application/atom+xml; charset=utf-8"
_UP = "../"  # from the changelog to the site
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not even escaped
_NO_TIME = "1970-01-01T00:00:00Z"  # Atom wants one of everything
_IDS = uuid.UUID("5e1e94f6-9ac4-4b0e-9df1-6f8cf0f0f3b8")  # of which the entries' identifiers are made


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A file that came; entries are ordered from the oldest to the newest, those without a time first."""

    time: str  # as `upload-time` in the simple API, "" where it is unknown
    project: NormalizedName
    filename: str
    version: str = ""
    url: str = ""  # of the file: relative to the site, or absolute
    uploaded_by: str = ""  # "" where nobody says so


def entries_of(project: SiteProject) -> list[Entry]:
    """Return what the changelog says of a project, in the order of its files."""
    name = project.name
    return [
        Entry(
            file.document.get("upload-time") or "",
            name,
            file.document["filename"],
            file.version,
            from_site(name, file.document["url"]),
            file.uploaded_by or "",
        )
        for file in project.files
    ]


def entry_keys(page: Mapping[str, Any]) -> list[tuple[str, NormalizedName, str]]:
    """Return what no two entries share, (time, project, filename), of the files of an old `simple/<p>/index.json`."""
    return [(file.get("upload-time") or "", page["name"], file["filename"]) for file in page["files"]]


def dump_entry(entry: Entry) -> str:
    """Write an entry as a line of JSON, without its end."""
    return dump([entry.time, entry.project, entry.filename, entry.version, entry.url, entry.uploaded_by])


def parse_entry(line: str | bytes) -> Entry:
    """Read what `dump_entry` writes; raise ValueError for anything else."""
    values = json.loads(line)
    if not (isinstance(values, list) and len(values) == 6 and all(isinstance(value, str) for value in values)):
        raise ValueError("a line of the changelog is not a list of six strings")
    return Entry(*values)


def changelog_path(number: int, *, pages: int) -> str:
    """Return where a page of the changelog lies; they are numbered from 1, the oldest, and the newest is the index."""
    return "changelog/index.html" if number >= pages else f"changelog/page{number}.html"


def changelog_document(entries: Sequence[Entry], *, number: int, pages: int, options: SiteOptions) -> Document:
    """Render one of so many pages of the changelog; the newest entry comes first.

    A page names the next newer one, and nothing else of what came later: where a page begins, the two before are
    rewritten, which are the index until then and the one that named it; all others stay.
    """
    data = render(
        "changelog.html",
        title=options.title,
        frame=frame(options, up=_UP),
        number=number,
        entries=escape_rows([_row(entry) for entry in entries]),
        newer=_link(number + 1, pages) if number < pages else None,
        older=f"page{number - 1}.html" if number > 1 else None,
    )
    return Document(changelog_path(number, pages=pages), _HTML, data)


def _link(number: int, pages: int) -> str:
    return "./" if number >= pages else f"page{number}.html"


def _row(entry: Entry) -> tuple[str, ...]:
    shown = entry.time[:16].replace("T", " ")
    url = f"{_UP}{entry.url}" if is_relative(entry.url) else entry.url
    return entry.time, shown, entry.project, entry.version, entry.filename, url, entry.uploaded_by


def feed_document(newest: Sequence[Entry], options: SiteOptions) -> Document:
    """Render the feed of the newest entries, the newest first; its links are absolute where the site's URL is known."""
    base = _UP if options.url is None else options.url
    data = render(
        "feed.xml",
        id=uuid.uuid5(_IDS, options.title).urn if options.url is None else f"{options.url}{FEED_PATH}",
        options=options,
        base=base,
        updated=newest[0].time or _NO_TIME if newest else _NO_TIME,
        entries=list(_feed_entries(newest, base)),
    )
    return Document(FEED_PATH, _ATOM, _NOT_IN_XML.sub("", data.decode()).encode())


def _feed_entries(entries: Sequence[Entry], base: str) -> Iterator[tuple[Entry, str, str, str]]:
    """Yield entries with their identifier, time and the project's page."""
    for entry in entries:
        identifier = uuid.uuid5(_IDS, f"{entry.project}/{entry.filename}/{entry.time}")
        yield entry, identifier.urn, entry.time or _NO_TIME, f"{base}project/{entry.project}/"
