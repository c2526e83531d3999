"""An Atom feed as a strict XML parser reads it. Specification: RFC 4287."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

_ATOM = "{http://www.w3.org/2005/Atom}"


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An entry, with what every one has to have."""

    id: str
    title: str
    updated: str
    link: str


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed likewise."""

    id: str
    title: str
    updated: str
    author: str
    link_to_self: str
    link: str
    entries: list[FeedEntry]


def read_feed(data: bytes) -> Feed:
    """Read a feed; raise ParseError for what is no XML, and fail for what is no feed."""
    root = ElementTree.fromstring(data)  # our own
    assert root.tag == f"{_ATOM}feed"
    assert {element.tag.removeprefix(_ATOM) for element in root.iter()} <= {
        "feed", "id", "title", "updated", "author", "name", "link", "entry", "published",
    }  # fmt: skip
    entries = [
        FeedEntry(_text(entry, "id"), _text(entry, "title"), _time(entry), _link(entry, "alternate"))
        for entry in root.findall(f"{_ATOM}entry")
    ]
    author = root.find(f"{_ATOM}author")
    assert author is not None
    return Feed(
        _text(root, "id"),
        _text(root, "title"),
        _time(root),
        _text(author, "name"),
        _link(root, "self"),
        _link(root, "alternate"),
        entries,
    )


def _text(element: ElementTree.Element, name: str) -> str:
    (found,) = element.findall(f"{_ATOM}{name}")
    assert found.text
    return found.text


def _time(element: ElementTree.Element) -> str:
    text = _text(element, "updated")
    assert datetime.fromisoformat(text).tzinfo is not None
    return text


def _link(element: ElementTree.Element, rel: str) -> str:
    (found,) = (link for link in element.findall(f"{_ATOM}link") if link.get("rel") == rel)
    return str(found.get("href"))
