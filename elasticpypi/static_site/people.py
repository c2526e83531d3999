"""The pages that people read: the list of projects, a project, and what there is instead of a page that is missing.

What they show of a project, others have written into its core metadata, and may be hostile.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files as resources
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from elasticpypi.names import NormalizedName
from elasticpypi.simple import UP_FROM_PROJECT, one_hash, templates
from elasticpypi.static_site import SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.urls import is_relative

_FOLDER = "site"
_SCHEMES = ("http", "https")
_SEPARATOR = "\0"  # of texts that are escaped together
_SHORT_DIGEST = 12  # characters, beside which the whole stands in a title
_MOST_LINKS = 50  # to what a project says is its own


def index_page(names: Sequence[NormalizedName], options: SiteOptions) -> bytes:
    """Render the list of projects."""
    return render("index.html", names=names, title=options.title, frame=frame(options, up=""))


def project_page(
    project: SiteProject, options: SiteOptions, releases: Mapping[str, Sequence[SiteFile]], info: Mapping[str, Any]
) -> bytes:
    """Render a project; `info` is what the legacy JSON API says of its latest release."""
    return render(
        "project.html",
        title=options.title,
        frame=frame(options, up=UP_FROM_PROJECT),
        index_url=None if options.url is None else f"{options.url}simple/",
        name=project.name,
        status=project.document["project-status"],
        info=info,
        links=list(_links(info)),
        releases=list(_releases(releases)),
    )


def missing_page(options: SiteOptions) -> bytes:
    """Render what a web server answers where there is no page: at any depth, so that nothing in it is relative."""
    return render("404.html", title=options.title, frame=frame(options, up=options.url))


def asset(name: str) -> bytes:
    """Return a style sheet or script as it is sent."""
    return resources("elasticpypi").joinpath("templates", _FOLDER, name).read_bytes()


def render(template: str, **values: object) -> bytes:
    """Render one of the site's templates."""
    return templates().get_template(f"{_FOLDER}/{template}").render(values).encode()


@lru_cache(maxsize=8)  # of the few that a build has
def frame(options: SiteOptions, *, up: str | None) -> str:
    """Return what begins all pages from which `up` leads to the site; None: nothing relative does."""
    logo = options.logo
    if logo is not None and is_relative(logo):
        logo = None if up is None else f"{up}{logo}"
    template = templates().get_template(f"{_FOLDER}/frame.html")
    style = asset("site.css").decode() if up is None else ""
    return template.render(title=options.title, up=up, logo=logo, logo_width=options.logo_width, style=style)


def escape_rows(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Escape rows of one length for HTML, all at once: text by text takes most of the time that a page takes."""
    texts = [text for row in rows for text in row]
    escaped = html.escape(_SEPARATOR.join(texts)).split(_SEPARATOR)
    if len(escaped) != len(texts):  # one of them has it inside
        escaped = [html.escape(text) for text in texts]
    return list(zip(*[iter(escaped)] * len(rows[0]), strict=True)) if rows else []


def _releases(releases: Mapping[str, Sequence[SiteFile]]) -> Iterator[tuple[str, str, bool, list[tuple[str, ...]]]]:
    """Yield, the highest first, releases: version, the day it began, whether all of it is yanked, its files.

    All texts are escaped.
    """
    rows = iter(escape_rows([_file(file) for files in releases.values() for file in files]))
    heads = escape_rows([(version, _day(files)) for version, files in releases.items()])
    shown = [
        (head, files, list(islice(rows, len(files)))) for head, files in zip(heads, releases.values(), strict=True)
    ]
    for (version, day), files, escaped in reversed(shown):
        yield version, day, all(file.document.get("yanked", False) is not False for file in files), escaped


def _day(files: Sequence[SiteFile]) -> str:
    """Return the day on which the first of some files came; "" where none is known."""
    return min((file.document["upload-time"][:10] for file in files if "upload-time" in file.document), default="")


def _file(file: SiteFile) -> tuple[str, ...]:
    """Return what is shown of a file; "" of what is not."""
    document = file.document
    time, yanked = document.get("upload-time") or "", document.get("yanked", False)
    digest = one_hash(document["hashes"]) or ""
    algorithm, _, value = digest.partition("=")
    return (
        document["filename"],
        document["url"],
        describe_size(document.get("size")),
        time,
        time[:16].replace("T", " "),
        digest,
        f"{algorithm} {value[:_SHORT_DIGEST]}…" if digest else "",
        document.get("requires-python") or "",
        "" if yanked is False else "yanked",
        yanked if isinstance(yanked, str) else "",
        file.uploaded_by or "",
    )


def describe_size(size: int | None) -> str:
    """Write a number of bytes for people; "" where it is unknown."""
    if size is None:
        return ""
    if size < 1000:
        return f"{size} B"
    value, units = float(size), iter(("kB", "MB", "GB", "TB"))
    unit = ""
    while value >= 999.5 and (following := next(units, None)) is not None:
        value, unit = value / 1000, following
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def _links(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield label and URL of what a project says is its own, each URL once; only what a browser asks a server for."""
    said = [("Homepage", info["home_page"]), ("Download", info["download_url"]), *(info["project_urls"] or {}).items()]
    urls: set[str] = set()
    for label, url in said:
        if url is not None and url not in urls and _is_web(url) and len(urls) < _MOST_LINKS:
            urls.add(url)
            yield label or url, url


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.hostname) and url.isprintable() and " " not in url
