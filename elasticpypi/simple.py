"""The pages of the simple repository API: a project, or the root, as JSON and as its HTML projection.

Specifications: PEP 503 (HTML), 592 (yanked), 629 (version), 658 and 714 (core metadata), 691 (JSON), 700 (versions,
sizes, upload times), 740 (provenance), 792 (project status), 833 (HTML stays at 1.4). Keys with an underscore are no
part of them: `_last-serial` is what mirrors such as bandersnatch follow, as on PyPI. Pure: the same arguments give the
same bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from elasticpypi.model import ListedFile, ProjectSnapshot, RootSnapshot, Status, format_time
from elasticpypi.names import NormalizedName

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

API_VERSION = "1.4"
API_VERSION_WITHOUT_SIZES = "1.0"  # from 1.1 on a page must have them (PEP 700)

UP_FROM_PROJECT = "../../"  # from a project's page to the index

# Raise it whenever other bytes come out of the same model: kept pages and clients' caches then are as good as gone.
RENDERER = 2


class Form(StrEnum):
    """The two forms of a page."""

    HTML = "html"
    JSON = "json"


def render_project(project: ProjectSnapshot, form: Form, *, base: str | None = None) -> Iterator[bytes]:
    """Render a project's page, in pieces; without its files, where the project is quarantined.

    Its URLs begin with `base`, the URL of the index with its slash; None: they are relative to `/simple/<project>/`.
    """
    listing = listed_files(project)
    base = UP_FROM_PROJECT if base is None else base
    files = (describe_file(item, file_url(project.name, item.file.filename, base=base)) for item in listing)
    return render_page(describe_project(project, listing), files, form)


def render_page(document: Mapping[str, Any], files: Iterable[Mapping[str, Any]], form: Form) -> Iterator[bytes]:
    """Render a project's page, in pieces, out of what it has as JSON: its keys but "files", and its files.

    Of a file only `filename`, `url` and `hashes` must be there, and those may be empty.
    """
    if form is Form.JSON:
        return _json(document, "files", iter(files))
    return _html("project.html", _html_project(document, files), pieces=_ITEMS // _LINKS)


def render_whole(document: Mapping[str, Any], files: Sequence[Mapping[str, Any]], form: Form) -> bytes:
    """Render what `render_page` does, at once: a third faster where a page is small."""
    if form is Form.JSON:
        return dump({**document, "files": files})
    return _template("project.html").render(_html_project(document, files)).encode()


def render_root(root: RootSnapshot, form: Form, *, base: str | None = None) -> Iterator[bytes]:
    """Render the list of projects, in pieces; its URLs begin with `base` (None: they are relative to `/simple/`)."""
    document = {"meta": {"_last-serial": root.last_serial, "api-version": API_VERSION}}
    if form is Form.JSON:
        projects = ({"_last-serial": project.serial, "name": project.name} for project in root.projects)
        return _json(document, "projects", projects)
    names = (project.name for project in root.projects)
    return _html_root(document, names, "" if base is None else f"{base}simple/")


def render_names(names: Iterable[NormalizedName], form: Form) -> Iterator[bytes]:
    """Render the list of projects as `render_root` does, without serials: it changes where a project comes or goes."""
    document = {"meta": {"api-version": API_VERSION}}
    if form is Form.JSON:
        return _json(document, "projects", ({"name": name} for name in names))
    return _html_root(document, names, "")


def file_url(project: NormalizedName, filename: str, *, base: str) -> str:
    """Return a file's URL; `base` is that of the index, with its slash."""
    return f"{base}packages/{project}/{quote(filename, safe='')}"


def listed_files(project: ProjectSnapshot) -> list[ListedFile]:
    """Return the files that a project's page shows, in its order; none where the project is quarantined."""
    return [] if project.decisions.status is Status.QUARANTINED else project.listing()


def describe_project(project: ProjectSnapshot, listing: Iterable[ListedFile]) -> dict[str, Any]:
    """Return a project's page as JSON has it, but for its files."""
    decisions = project.decisions
    status: dict[str, str] = {"status": decisions.status}
    if decisions.status_reason is not None:
        status["reason"] = decisions.status_reason
    return {
        "meta": {"_last-serial": project.revision, "api-version": API_VERSION},
        "name": project.name,
        "project-status": status,
        "versions": list(dict.fromkeys(item.file.version for item in listing)),
    }


def describe_file(item: ListedFile, url: str) -> dict[str, Any]:
    """Return a file as a page has it in JSON."""
    file = item.file
    document: dict[str, Any] = {
        "filename": file.filename,
        "url": url,
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": format_time(file.upload_time),
        "yanked": item.yanked,
        "core-metadata": False if file.core_metadata_sha256 is None else {"sha256": file.core_metadata_sha256},
    }
    if file.requires_python is not None:
        document["requires-python"] = file.requires_python
    return document


def describe_listed(
    name: NormalizedName, versions: Sequence[str], files: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the page, but for its files, of a project that is known from a list only: active, without a serial.

    Without the size of every file the page says that it is one of an older API.
    """
    has_sizes = all("size" in file for file in files)
    return {
        "meta": {"api-version": API_VERSION if has_sizes else API_VERSION_WITHOUT_SIZES},
        "name": name,
        "project-status": {"status": Status.ACTIVE},
        "versions": list(versions),
    }


# Pages are written piece by piece: all the objects of a page of 100,000 projects take many times what it has in bytes.
_ITEMS = 500
_LINKS = 50  # to files that are put together at once
_SEPARATOR = "\0"  # of texts that are escaped together


def _html_project(document: Mapping[str, Any], files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"document": document, "links": _html_links(iter(files))}


def _html_links(files: Iterator[Mapping[str, Any]]) -> Iterator[Markup]:
    """Yield the links to files, many at a time: a template takes several times as long to put each together."""
    from markupsafe import Markup

    while chunk := list(itertools.islice(files, _LINKS)):
        texts = iter(escape_all([text for file in chunk for text in _html_texts(file)]))
        rows = zip(chunk, texts, texts, texts, texts, texts, texts, strict=True)
        yield Markup("".join(itertools.starmap(_html_link, rows)))  # noqa: S704  # of texts that are escaped


def _html_texts(file: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    """Return what stands in a link to a file; "" where nothing does."""
    url, metadata, yanked = file["url"], file.get("core-metadata", False), file.get("yanked", False)
    fragment = one_hash(file["hashes"])
    return (
        url if fragment is None else f"{url}#{fragment}",
        file.get("requires-python") or "",
        (one_hash(metadata) or "") if isinstance(metadata, Mapping) else "true" if metadata else "",
        yanked if isinstance(yanked, str) else "",
        file.get("provenance") or "",
        file["filename"],
    )


def _html_link(
    file: Mapping[str, Any],
    url: str,
    requires_python: str,
    core_metadata: str,
    reason: str,
    provenance: str,
    filename: str,
) -> str:
    """Return the link to a file, out of texts that are escaped."""
    has_python = file.get("requires-python") is not None
    python = f' data-requires-python="{requires_python}"' if has_python else ""
    metadata = (
        f' data-core-metadata="{core_metadata}" data-dist-info-metadata="{core_metadata}"' if core_metadata else ""
    )
    yanked = f' data-yanked="{reason}"' if reason or file.get("yanked", False) is True else ""
    proven = f' data-provenance="{provenance}"' if provenance else ""
    return f'    <a href="{url}"{python}{metadata}{yanked}{proven}>{filename}</a><br>\n'


def escape_all(texts: Sequence[str]) -> list[str]:
    """Escape texts for HTML, all at once: text by text takes most of the time that a page takes."""
    from markupsafe import escape

    escaped = str(escape(_SEPARATOR.join(texts))).split(_SEPARATOR)
    if len(escaped) != len(texts):  # one of them has it inside, or there is none
        return [str(escape(text)) for text in texts]
    return escaped


def one_hash(hashes: Mapping[str, str]) -> str | None:
    """Return `<algorithm>=<digest>` of sha256, else of what comes first; None where there is none."""
    for algorithm in ("sha256", *hashes):
        if algorithm in hashes:
            return f"{algorithm}={hashes[algorithm]}"
    return None


def _json(document: Mapping[str, Any], key: str, items: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    """Write a document, as its last key a long list."""
    yield dump(document)[:-1] + b"," + dump(key) + b":["
    separator = b""
    while chunk := list(itertools.islice(items, _ITEMS)):
        yield separator + dump(chunk)[1:-1]
        separator = b","
    yield b"]}"


def dump(value: object) -> bytes:
    """Write a value as JSON, as short as it can be; raise UnicodeEncodeError for half a character."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # what it does not know how to write, and numbers of more than 64 bits
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _html_root(document: Mapping[str, Any], names: Iterable[NormalizedName], base: str) -> Iterator[bytes]:
    return _html("root.html", {"document": document, "names": names, "base": base})


def _html(template: str, values: Mapping[str, Any], *, pieces: int = _ITEMS) -> Iterator[bytes]:
    """Render a template, so many of its pieces at a time."""
    stream = _template(template).stream(values)
    stream.enable_buffering(pieces)
    return (piece.encode() for piece in stream)


@cache
def _template(name: str) -> Template:
    return templates().get_template(name)


@cache
def templates() -> Environment:
    """Return where the templates of pages are found; values in them are escaped."""
    # Imported with the first page in HTML: an indexer that renders nothing starts without it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("elasticpypi"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
