"""What came when: the entries of a site's changelog, its pages and its feed.

Specification: Atom (RFC 4287). Pure: the same arguments give the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from typing import Any, NamedTuple

import orjson
from markupsafe import Markup

from elasticpypi.names import NormalizedName
from elasticpypi.presenting import fit_for_xml
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
_NO_TIME = "1970-01-01T00:00:00Z"  # Atom wants one of everything
_STRINGS = [str] * 6  # an entry's
_IDS = uuid.UUID("5e1e94f6-9ac4-4b0e-9df1-6f8cf0f0f3b8")  # of which the entries' identifiers are made


class Entry(NamedTuple):  # made and sorted by the hundred thousand: a third of the time of a dataclass, and smaller
    """A file that came; entries are ordered from the oldest to the newest."""

    time: str  # as `upload-time` in the simple API
    project: NormalizedName
    filename: str
    version: str = ""
    url: str = ""  # of the file: relative to the site, or absolute
    uploaded_by: str = ""  # "" where nobody says so


def entries_of(project: SiteProject) -> list[Entry]:
    """Return what the changelog says of a project, in the order of its files: nothing of those without a time.

    Where they would stand among the others nobody knows, and each new one would rewrite every page.
    """
    name = project.name
    return [
        Entry(
            file.document["upload-time"],
            name,
            file.document["filename"],
            file.version,
            from_site(name, file.document["url"]),
            file.uploaded_by or "",
        )
        for file in project.files
        if file.document.get("upload-time")
    ]


def entry_keys(page: Mapping[str, Any]) -> list[tuple[str, NormalizedName, str]]:
    """Return what no two entries share, (time, project, filename), of the files of an old `simple/<p>/index.json`."""
    return [(file["upload-time"], page["name"], file["filename"]) for file in page["files"] if file.get("upload-time")]


def dump_entry(entry: Entry) -> str:
    """Write an entry as a line of JSON, without its end."""
    return dump([*entry]).decode()


def parse_entry(line: str | bytes) -> Entry:
    """Read what `dump_entry` writes; raise ValueError for anything else."""
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, list) or [*map(type, values)] != _STRINGS:
        raise ValueError("a line of the changelog is not a list of six strings")
    return Entry._make(values)


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
        entries=Markup("\n".join(starmap(_shown, escape_rows([_row(entry) for entry in entries])))),  # noqa: S704
        newer=_link(number + 1, pages) if number < pages else None,
        older=f"page{number - 1}.html" if number > 1 else None,
    )
    return Document(changelog_path(number, pages=pages), _HTML, data)


def _link(number: int, pages: int) -> str:
    return "./" if number >= pages else f"page{number}.html"


def _shown(time: str, shown_time: str, project: str, version: str, filename: str, url: str, uploaded_by: str) -> str:
    """Return the line of an entry, out of texts that are escaped; a template takes several times as long."""
    by = f' <span class="by">by {uploaded_by}</span>' if uploaded_by else ""
    return (
        f'        <li><time datetime="{time}">{shown_time} UTC</time>'
        f' <a href="../project/{project}/">{project}</a> {version}{by}'
        f' <a class="filename" href="{url}">{filename}</a></li>'
    )


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
        updated=newest[0].time if newest else _NO_TIME,
        entries=list(_feed_entries(newest, base)),
    )
    return Document(FEED_PATH, _ATOM, fit_for_xml(data.decode()).encode())


def _feed_entries(entries: Sequence[Entry], base: str) -> Iterator[tuple[Entry, str, str, str]]:
    """Yield entries with their identifier, time and the project's page."""
    for entry in entries:
        identifier = uuid.uuid5(_IDS, f"{entry.project}/{entry.filename}/{entry.time}")
        yield entry, identifier.urn, entry.time, f"{base}project/{entry.project}/"
