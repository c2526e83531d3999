"""Rendered HTML, fit for a page of ours: written anew, out of a few elements and attributes, and nothing else.

What a renderer has cleaned already is safe to run; here nothing is left for which a browser asks a server, nothing that
looks like a part of the page around it, and nothing that keyboards and screen readers cannot use. It stays in the
element that it is put into, whatever a browser makes of its tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser

import nh3

ID_PREFIX = "readme-"  # no element of a page but of its README has such an id

_Attributes = dict[str, str]
_SAME = frozenset(
    {"abbr", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
     "dt", "em", "figcaption", "figure", "hr", "i", "kbd", "li", "ol", "p", "pre", "s", "span", "strong", "sub",
     "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "var"}
)  # fmt: skip
# Landmarks and what is obsolete -> what is shown in their place.
_OTHERS = {"acronym": "abbr", "aside": "div", "nav": "div", "section": "div", "tt": "code"}
_VOID = frozenset({"br", "col", "hr"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_TOP_HEADING, _LAST_HEADING = 3, 6  # below the project and the title of the README
_LINK = re.compile(r"https?://[^\s]+|mailto:[^\s]+", re.IGNORECASE)
_ID = re.compile(r"[\w.:-]{1,200}")
_NUMBER = re.compile(r"[0-9]{1,4}")
_TOKENS = {"c": "comment", "k": "keyword", "s": "string", "m": "number"}  # of Pygments' classes, by their first letter
_BEGINNING = {"table": '<div class="wide" tabindex="0"><table'}  # scrolls beside the text
_ENDING = {"table": "</table></div>", "": ""}
_NOTHING = ""  # is written of a span that says nothing, which code is full of
_DROPPED = frozenset({"script", "style", "template", "title"})  # with what is in them
# Reads as a browser does, and writes what came of it; what it leaves out is not written anyway.
_BROWSER = nh3.Cleaner(
    tags=_SAME | _HEADINGS | {"a"},
    attributes={
        "*": {"class", "id"},
        "a": {"href", "rel"},
        "abbr": {"title"},
        "div": {"tabindex"},
        "ol": {"start"},
        "pre": {"tabindex"},
        "td": {"colspan", "rowspan"},
        "th": {"colspan", "rowspan"},
    },
    link_rel=None,
    url_schemes={"http", "https", "mailto"},
)
_MOST_READINGS = 6  # most HTML takes one or two, the strangest that was found three
_DEEPEST = 200  # elements within each other; below a page of ours, Chromium flattens what is deeper than 512
_BLANK_LINES = re.compile(r"(<pre\b[^>]*>)\n+")  # of which each reading takes one away


def clean(html: str) -> tuple[str, int]:
    """Return HTML that is safe to be put into a div of a page, and how many images were left out of it.

    It raises ValueError for HTML that is nested too deeply, or that a browser reads otherwise each time.
    """
    writer = _Writer()
    writer.feed(html)
    writer.close()
    return _settle(writer.finish()), writer.images


def _settle(html: str) -> str:
    """Return HTML that a browser reads as it is written, so that no tag in it ends an element around it.

    A dd ends the dd that it lies in, and the div between them, whose end tag then ends another div. What a parser makes
    of such elements need not come out again when it is written and read (HTML, "Serializing HTML fragments", warning).
    """
    html = _BLANK_LINES.sub(r"\1", html)
    for _ in range(_MOST_READINGS):
        written, html = html, _BROWSER.clean(html)
        if html == written:
            return html
    raise ValueError("a browser reads its HTML otherwise each time")


class _Writer(HTMLParser):
    """Writes what it reads, element by element."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.images = 0
        self._pieces: list[str] = []
        self._open: list[tuple[str, str, int]] = []  # element as it was read, and as written; where its content begins
        self._outline: list[int] = []  # of the heading that was written last: levels as they were read
        self._ids: set[str] = set()
        self._dropped = 0  # elements that are open, of which nothing is shown

    def finish(self) -> str:
        """Return what was written, with what is open ended."""
        while self._open:
            self._end()
        return "".join(self._pieces)

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._pieces.append(escape(data))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag in _DROPPED:
            self._dropped += 1
        elif self._dropped:
            return
        elif tag == "img":
            self.images += 1
            self._pieces.append(f'<span class="left-out">{escape(attributes.get("alt", "").strip() or "image")}</span>')
        elif tag == "input":
            self._pieces.append("☑" if "checked" in attributes else "☐")
        elif tag in _HEADINGS:
            self._start(tag, self._heading(int(tag[1])), attributes)
        elif tag == "a":
            self._start(tag, "a" if _target(attributes) else "span", attributes)
        elif tag in _SAME or tag in _OTHERS:
            self._start(tag, _OTHERS.get(tag, tag), attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._dropped = max(self._dropped - 1, 0)
        elif any(tag == read for read, _, _ in self._open):
            while self._open[-1][0] != tag:
                self._end()
            self._end()

    def _start(self, read: str, written: str, attributes: _Attributes) -> None:
        said = "".join(f' {name}="{escape(value)}"' for name, value in self._attributes(read, written, attributes))
        if written == "span" and not said:
            written = _NOTHING
        self._pieces.append(f"{_BEGINNING.get(written, f'<{written}')}{said}>" if written else "")
        if written not in _VOID:
            if len(self._open) == _DEEPEST:
                raise ValueError(f"more than {_DEEPEST} elements lie within each other")
            self._open.append((read, written, len(self._pieces)))

    def _end(self) -> None:
        read, written, begun = self._open.pop()
        content = "".join(self._pieces[begun:])
        if (read == "a" or read in _HEADINGS) and not content.strip():
            del self._pieces[begun - 1 :]  # nobody could tell where it leads, or what it heads
        else:
            self._pieces.append(_ENDING.get(written, f"</{written}>"))

    def _heading(self, level: int) -> str:
        """Return the element of a heading, one level below that of the part it lies in: none is skipped."""
        while self._outline and self._outline[-1] >= level:
            self._outline.pop()
        self._outline.append(level)
        return f"h{min(_TOP_HEADING - 1 + len(self._outline), _LAST_HEADING)}"

    def _attributes(self, read: str, written: str, attributes: _Attributes) -> Iterator[tuple[str, str]]:
        identifier = attributes.get("id", "").removeprefix("user-content-")
        if _ID.fullmatch(identifier) and identifier not in self._ids:
            self._ids.add(identifier)
            yield "id", ID_PREFIX + identifier
        if written == "a":
            target = _target(attributes)
            yield "href", target
            if not target.startswith("#"):
                yield "rel", "nofollow noopener noreferrer"
        elif written == "pre":
            yield "tabindex", "0"  # it scrolls
        elif read in ("td", "th"):
            yield from _of_cell(attributes)
        elif written == "abbr" and "title" in attributes:
            yield "title", attributes["title"]
        elif written == "ol" and _NUMBER.fullmatch(attributes.get("start", "")):
            yield "start", attributes["start"]
        yield from _class(read, attributes)


def _target(attributes: _Attributes) -> str:
    """Return where a link may lead: to a server, a mailbox or elsewhere in the README; "" where it may not."""
    href = attributes.get("href", "").strip()
    if href.startswith("#"):
        identifier = href[1:].removeprefix("user-content-")
        return f"#{ID_PREFIX}{identifier}" if _ID.fullmatch(identifier) else ""
    return href if _LINK.fullmatch(href) and href.isprintable() else ""


def _of_cell(attributes: _Attributes) -> Iterator[tuple[str, str]]:
    for name in ("colspan", "rowspan"):
        if _NUMBER.fullmatch(attributes.get(name, "")):
            yield name, attributes[name]


def _class(read: str, attributes: _Attributes) -> Iterator[tuple[str, str]]:
    """Yield the class of an element: of those that we give a look, under names of our own."""
    classes = attributes.get("class", "").split()
    if read in ("td", "th") and attributes.get("align") in ("right", "center"):
        yield "class", f"align-{attributes['align']}"
    elif read == "span" and len(classes) == 1 and len(classes[0]) <= 2 and classes[0][0] in _TOKENS:
        yield "class", f"token-{_TOKENS[classes[0][0]]}"
    elif read == "span" and "literal" in classes:
        yield "class", "literal"
    elif "admonition" in classes:
        yield "class", "admonition"
    elif "admonition-title" in classes:
        yield "class", "admonition-title"
