"""The changelog: what came, in pages and as a feed that readers of feeds can read."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urljoin
from uuid import UUID
from xml.etree import ElementTree

import pytest

from elasticpypi.names import NormalizedName
from elasticpypi.simple import describe_listed
from elasticpypi.static_site import SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.changelog import (
    Entry,
    changelog_document,
    changelog_path,
    dump_entry,
    entries_of,
    entry_keys,
    feed_document,
    parse_entry,
)
from elasticpypi.static_site.urls import from_site

ACME = NormalizedName("acme")
ATOM = "{http://www.w3.org/2005/Atom}"
URL = "https://example.org/dev/"
HOSTILE = Entry("2024-01-02T03:04:05.678900Z", ACME, "a&b.whl", '1"', "packages/acme/a%26b.whl", "<b>\0\x08")
PLAIN = Entry("2024-01-01T00:00:00.000000Z", NormalizedName("bolt"), "bolt-1.whl", "1", "https://x/bolt-1.whl")
ROOTED = Entry("2023-01-01T00:00:00.000000Z", ACME, "acme-0.whl", "0", "/files/acme-0.whl")


def project(*files: SiteFile) -> SiteProject:
    documents = [file.document for file in files]
    return SiteProject(ACME, describe_listed(ACME, [file.version for file in files], documents), files, lambda _: None)


def test_entries_say_what_the_files_say() -> None:
    made = project(
        SiteFile({"filename": "a.whl", "url": "../../packages/k/a.whl", "upload-time": "t"}, "1", "k/a.whl"),
        SiteFile({"filename": "b.whl", "url": "https://x/b.whl", "upload-time": "u"}, "2", "b.whl", uploaded_by="jane"),
    )
    entries = entries_of(made)
    assert entries == [
        Entry("t", ACME, "a.whl", "1", "packages/k/a.whl", ""),
        Entry("u", ACME, "b.whl", "2", "https://x/b.whl", "jane"),
    ]
    page = {**made.document, "files": [file.document for file in made.files]}
    assert entry_keys(page) == [(entry.time, entry.project, entry.filename) for entry in entries]


def test_files_without_a_time_are_in_no_changelog() -> None:
    made = project(
        SiteFile({"filename": "a.whl", "url": "a.whl"}, "1", "a.whl"),
        SiteFile({"filename": "b.whl", "url": "b.whl", "upload-time": "t"}, "2", "b.whl"),
    )
    assert [entry.filename for entry in entries_of(made)] == ["b.whl"]
    page = {**made.document, "files": [file.document for file in made.files]}
    assert entry_keys(page) == [("t", ACME, "b.whl")]


def test_entries_are_ordered_by_time_then_name() -> None:
    later = Entry(PLAIN.time, PLAIN.project, "bolt-2.whl")
    assert sorted([HOSTILE, later, PLAIN, ROOTED]) == [ROOTED, PLAIN, later, HOSTILE]


@pytest.mark.parametrize("entry", [HOSTILE, PLAIN, ROOTED])
def test_an_entry_is_read_back_as_it_was_written(entry: Entry) -> None:
    line = dump_entry(entry)
    assert "\n" not in line
    assert parse_entry(line) == entry


@pytest.mark.parametrize("line", ["", "[]", "{}", '["a","b","c","d","e",1]', '["a","b","c","d","e","f","g"]'])
def test_what_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|a list of six strings"):
        parse_entry(line)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("../../packages/acme/a.whl", "packages/acme/a.whl"),
        ("../../../pool/a.whl", "../pool/a.whl"),
        ("../a.whl", "simple/a.whl"),
        ("a.whl", "simple/acme/a.whl"),
        ("/a.whl", "/a.whl"),
        ("//x/a.whl", "//x/a.whl"),
        ("https://x/a.whl", "https://x/a.whl"),
    ],
)
def test_urls_of_a_project_s_page_become_those_of_the_site(url: str, expected: str) -> None:
    assert from_site(ACME, url) == expected
    assert urljoin(URL, expected) == urljoin(f"{URL}simple/acme/", url)


@pytest.mark.parametrize(
    ("number", "pages", "path", "newer", "older"),
    [
        (1, 1, "changelog/index.html", None, None),
        (2, 2, "changelog/index.html", None, "page1.html"),
        (1, 2, "changelog/page1.html", "./", None),
        (1, 3, "changelog/page1.html", "page2.html", None),
        (2, 3, "changelog/page2.html", "./", "page1.html"),
    ],
)
def test_pages_name_their_neighbours(number: int, pages: int, path: str, newer: str | None, older: str | None) -> None:
    document = changelog_document([PLAIN], number=number, pages=pages, options=SiteOptions())
    assert (document.path, changelog_path(number, pages=pages)) == (path, path)
    links = dict(re.findall(r'<a rel="(\w+)" href="([^"]+)"', document.data.decode()))
    assert (links.get("prev"), links.get("next")) == (newer, older)


def test_a_page_depends_on_its_neighbours_only() -> None:
    few, many = (changelog_document([PLAIN], number=3, pages=n, options=SiteOptions()) for n in (5, 500))
    assert few == many


def test_a_page_shows_entries_as_text_in_their_order() -> None:
    page = changelog_document([HOSTILE, PLAIN, ROOTED], number=1, pages=1, options=SiteOptions()).data.decode()
    assert "<b>" not in page
    assert re.findall(r'class="filename" href="([^"]+)">([^<]+)', page) == [
        ("../packages/acme/a%26b.whl", "a&amp;b.whl"),
        ("https://x/bolt-1.whl", "bolt-1.whl"),
        ("/files/acme-0.whl", "acme-0.whl"),
    ]
    assert re.findall(r"<time [^>]+>([^<]+)", page) == [
        "2024-01-02 03:04 UTC",
        "2024-01-01 00:00 UTC",
        "2023-01-01 00:00 UTC",
    ]
    assert page.count('href="../project/acme/"') == 2


def test_a_changelog_of_nothing_says_so() -> None:
    page = changelog_document([], number=1, pages=1, options=SiteOptions()).data
    assert b"Nothing has come yet, or the list that this site is made of has no times." in page


@pytest.mark.parametrize("url", [None, URL])
@pytest.mark.parametrize("entries", [[], [ROOTED], [HOSTILE, PLAIN, ROOTED]])
def test_the_feed_has_all_that_atom_demands(url: str | None, entries: list[Entry]) -> None:
    options = SiteOptions(title="A & B \x0b", url=url)
    document = feed_document(entries, options)
    assert (document.path, document.content_type) == ("changelog/feed.xml", "application/atom+xml; charset=utf-8")
    assert document == feed_document(entries, options)
    feed = ElementTree.fromstring(document.data)
    shown = feed.findall(f"{ATOM}entry")
    assert len(shown) == len(entries)
    assert feed.findtext(f"{ATOM}title", "").startswith("A & B")
    assert feed.findtext(f"{ATOM}author/{ATOM}name", "").startswith("A & B")
    times = [datetime.fromisoformat(element.findtext(f"{ATOM}updated", "")) for element in (feed, *shown)]
    assert times[0] == max(times[1:], default=times[0])
    ids = [element.findtext(f"{ATOM}id", "") for element in (feed, *shown)]
    assert len(set(ids)) == len(ids)
    assert all(identifier.startswith("https://") or UUID(identifier) for identifier in ids)
    links = [link.attrib["href"] for link in feed.iter(f"{ATOM}link")]
    absolute = {urljoin(f"{URL}changelog/feed.xml", link) for link in links}
    assert absolute >= {f"{URL}changelog/", *(f"{URL}project/{entry.project}/" for entry in entries)}
    assert url is None or set(links) == absolute


def test_the_feed_of_another_site_is_another_one() -> None:
    feeds = [feed_document([PLAIN], options).data for options in (SiteOptions(), SiteOptions(title="x"))]
    first, second = (ElementTree.fromstring(feed).findtext(f"{ATOM}id") for feed in feeds)
    assert first != second
