"""What an upstream's page of a project says, whether it is JSON or HTML.

Specifications: simple repository API (PEP 503, 629, 658, 691, 714, 792), its forms alone: what is said may be nonsense.
`pypi_simple` reads what is said of each file, when it is asked to: one that is described wrongly hides no others. What
belongs to no file is looked at here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urljoin

from elasticpypi.errors import InvalidNameError
from elasticpypi.names import MAX_NAME, FileKey, NormalizedName, normalize_name, parse_key, parse_version

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

MOST_URL = 8000  # characters
_MAJOR_VERSION = 1
_MOST_SECONDS = 10.0  # of a processor; 5,000 files take less than half of one
_MOST_VALUES = 1_000_000  # in JSON, each of which takes far more memory than it has bytes
_MOST_FILES = 50_000  # the largest project of PyPI has less than half of that
_MOST_TEXTS = 20  # pieces of a link's text
_PIECE = 4096  # characters of HTML that are read without a look at the clock
_MOST_REASON = 1000  # characters of what people have written, which is cut there
_LINK = frozenset(  # the attributes that say something of a file
    ("href", "data-gpg-sig", "data-requires-python", "data-yanked", "data-core-metadata", "data-dist-info-metadata",
     "data-provenance")
)  # fmt: skip
_SAID = frozenset(("pypi:repository-version", "pypi:project-status", "pypi:project-status-reason"))
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Said:
    """What a page says, whatever its form."""

    base: str  # URL that others are relative to
    files: Iterable[tuple[str, Callable[[], DistributionPackage]]]  # filename, and what is said of it; it may raise
    status: str | None = None
    status_reason: str | None = None


# JSON ----------------------------------------------------------------------------------------------------------------


def read_json(name: NormalizedName, body: bytes, url: str) -> Said:
    """Read a page in JSON; raise ValueError where it is none of the project."""
    # Before each value stands one of these; those within strings are counted as well, which are few.
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise no_page(f"it has more than {_MOST_VALUES} values")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise no_page("it is not JSON") from error
    meta, called, files = _fields(document)
    _check_version(meta.get("api-version"))
    if called != name:
        raise no_page(f"it is that of another project, {shown(called)!r}")
    status, reason = _status_in(document, meta)
    return Said(url, (_entry(number, file) for number, file in enumerate(files)), status, reason)


def _fields(document: Any) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Return what a page must have: `meta`, the name, normalised, and the files."""
    if not isinstance(document, dict):
        raise no_page("it is not a JSON object")
    meta, called, files = document.get("meta"), document.get("name"), document.get("files")
    if not isinstance(meta, dict):
        raise no_page("it has no 'meta'")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise no_page("its 'files' are no list of objects")
    _check_number(files)
    try:
        return meta, normalize_name(called if isinstance(called, str) else ""), files
    except InvalidNameError as error:
        raise no_page("its 'name' is not that of a project") from error


def _status_in(*places: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the project's status and the reason for it; None where none is given."""
    # An object beside `meta`, as PyPI has it. The specification can also be read so that it is within.
    said: Any = next((place["project-status"] for place in places if place.get("project-status") is not None), {})
    if not isinstance(said, dict):
        raise no_page("its 'project-status' is no object")
    status, reason = said.get("status"), said.get("reason")
    if not isinstance(status, str | None) or not isinstance(reason, str | None):
        raise no_page("its 'project-status' does not consist of strings")
    return status, reason


def _entry(number: int, file: Mapping[str, Any]) -> tuple[str, Callable[[], DistributionPackage]]:
    filename = file.get("filename")
    return filename if isinstance(filename, str) else f"files[{number}]", partial(_package_of_entry, file)


def _package_of_entry(file: Mapping[str, Any]) -> DistributionPackage:
    from pypi_simple import DistributionPackage

    fields = dict(file)
    if "core-metadata" not in fields:
        fields["core-metadata"] = fields.get("dist-info-metadata")  # its name before PEP 714
    # What we mend ourselves: it has no place there for half a character, nor for a URL that is relative.
    provenance, yanked = fields.pop("provenance", None), fields.get("yanked")
    if isinstance(yanked, str):
        fields["yanked"] = cut(yanked) or True
    package = DistributionPackage.from_json_data(fields)
    package.provenance_url = provenance if isinstance(provenance, str) else None
    return package


# HTML ----------------------------------------------------------------------------------------------------------------


class _Reader(HTMLParser):
    """Finds links, and what a page says of itself.

    The readers of `pypi_simple` take time with the square of the number of links that are not closed.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base: str | None = None
        self.said: dict[str, str] = {}  # in elements such as <meta name="pypi:repository-version">
        self.links: list[tuple[dict[str, str], list[str]]] = []  # attributes, and the text in pieces
        self._is_open = False  # the last link

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in reversed(attrs)}  # the first of a name counts
        if tag == "a":
            self._is_open = "href" in found
            if self._is_open:
                self.links.append(({name: value for name, value in found.items() if name in _LINK}, []))
                _check_number(self.links)
        elif tag == "base" and self.base is None:
            self.base = found.get("href")
        elif tag == "meta" and found.get("name") in _SAID and "content" in found:
            self.said.setdefault(found["name"], found["content"])

    def handle_endtag(self, tag: str) -> None:
        self._is_open = self._is_open and tag != "a"

    def handle_data(self, data: str) -> None:
        if self._is_open and len(self.links[-1][1]) < _MOST_TEXTS:
            self.links[-1][1].append(data)


def read_html(name: NormalizedName, body: bytes, url: str, clock: Callable[[], float]) -> Said:
    """Read a page in HTML, whose project nobody names; raise ValueError where it is of another version of the API."""
    # All that counts is ASCII, but for reasons that people have written, and those are in UTF-8 nearly everywhere.
    text = body.decode("utf-8-sig", errors="replace")
    reader = _Reader()
    for start in in_time(range(0, len(text), _PIECE), clock):
        reader.feed(text[start : start + _PIECE])
    # It is not closed: what has no end is no link, and to look for one again can take very long.
    _check_version(reader.said.get("pypi:repository-version", "1.0"))
    try:
        base = url if reader.base is None else urljoin(url, reader.base)
    except ValueError as error:
        raise no_page("its 'base' is no URL") from error
    return Said(
        base,
        (_link(name, number, *link) for number, link in enumerate(reader.links)),
        reader.said.get("pypi:project-status"),
        reader.said.get("pypi:project-status-reason"),
    )


def _link(
    name: NormalizedName, number: int, attributes: dict[str, str], texts: Iterable[str]
) -> tuple[str, Callable[[], DistributionPackage]]:
    """Return the name of a file and what is said of it; lists of what lies in a directory shorten long names."""
    text, leads_to = "".join(texts).strip(), last_part(attributes["href"])
    is_shortened = not isinstance(parse_key(text), FileKey) and isinstance(parse_key(leads_to), FileKey)
    filename = leads_to if is_shortened else text or f"links[{number}]"
    return filename, partial(_package_of_link, name, attributes, filename)


def _package_of_link(name: NormalizedName, attributes: dict[str, str], filename: str) -> DistributionPackage:
    from pypi_simple import DistributionPackage, Link

    if "data-core-metadata" not in attributes and "data-dist-info-metadata" in attributes:
        attributes = {**attributes, "data-core-metadata": attributes["data-dist-info-metadata"]}  # PEP 714
    return DistributionPackage.from_link(Link(filename, attributes["href"], {**attributes}), name)


# All that is said -----------------------------------------------------------------------------------------------------


def _check_number(files: Sized) -> None:
    if len(files) > _MOST_FILES:
        raise no_page(f"it lists more than {_MOST_FILES} files")


def _check_version(version: object) -> None:
    """Raise ValueError where a page belongs to another major version of the API; what minor ones add is left alone."""
    found = parse_version(version) if isinstance(version, str) else None
    if found is None:
        raise no_page("it does not say of which version of the API it is")
    if (found.epoch, found.major) > (0, _MAJOR_VERSION):
        raise no_page(f"it is of version {found} of the API, and {_MAJOR_VERSION} is known here")


def cut(text: str | None) -> str | None:
    """Return the beginning of what people have written, without what cannot be printed; None for nothing."""
    beginning = (text or "")[:_MOST_REASON]
    if not beginning.isprintable():
        beginning = "".join(character if character.isprintable() else " " for character in beginning)
    return beginning.strip() or None


def shown(text: str) -> str:
    """Return a text as it can be shown in a line."""
    beginning = text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…"
    return beginning if beginning.isprintable() else ascii(beginning)[1:-1]


def last_part(url: str) -> str:
    """Return what a URL leads to: the last part of its path."""
    return unquote(url[:MOST_URL].partition("#")[0].partition("?")[0].rpartition("/")[2])


def in_time(items: Iterable[_T], clock: Callable[[], float]) -> Iterator[_T]:
    """Yield items until they take too long by the clock, in seconds."""
    until = clock() + _MOST_SECONDS
    for item in items:
        if clock() > until:
            raise no_page(f"it takes more than {_MOST_SECONDS:.0f} seconds to read")
        yield item


def no_page(reason: str) -> ValueError:
    """Return the error for what is no page."""
    return ValueError(f"is no page of the simple API: {reason}")
