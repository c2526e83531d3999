"""A page as an independent parser reads it: its elements, and its text without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_APART = frozenset({"dd", "div", "dt", "h1", "h2", "h3", "li", "p", "small", "td", "th"})  # from the text before them


@dataclass
class Looked:
    """What is on a page."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def find(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Return the attributes of those elements that have these (`class_` for class)."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and found.items() >= wanted.items()]

    @property
    def urls(self) -> list[str]:
        """All that a browser may be led to, or asks for."""
        names = ("href", "src", "action", "formaction", "srcset", "data", "poster")
        return [found[name] for _, found in self.elements for name in names if name in found]

    @property
    def links(self) -> list[str]:
        return [found["href"] for found in self.find("a") if "href" in found]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.looked = Looked()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.looked.elements.append((tag, {name: value or "" for name, value in attrs}))

        if tag in _APART:
            self.looked.text += " "

    def handle_data(self, data: str) -> None:
        self.looked.text += data


def look(page: str) -> Looked:
    """Read a page."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.looked.text = " ".join(reader.looked.text.split())
    return reader.looked
