"""The pages that people read: the list of projects, a project, and what there is instead of a page that is missing.

What they show of a project, others have written into its core metadata, and may be hostile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, starmap
from typing import Any

from markupsafe import Markup

from elasticpypi.names import NormalizedName
from elasticpypi.presenting import describe_size, project_links, read_asset
from elasticpypi.simple import UP_FROM_PROJECT, escape_all, one_hash, templates
from elasticpypi.static_site import SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.urls import from_people, is_relative

_FOLDER = "site"
_SHORT_DIGEST = 12  # characters, beside which the whole stands in a title


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
        links=list(project_links(info)),
        releases=Markup("\n".join(starmap(_shown_release, _releases(project.name, releases)))),  # noqa: S704  # they are escaped
    )


def missing_page(options: SiteOptions) -> bytes:
    """Render what a web server answers where there is no page: at any depth, so that nothing in it is relative."""
    return render("404.html", title=options.title, frame=frame(options, up=options.url))


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
    style = read_asset("site.css").decode() if up is None else ""
    return template.render(title=options.title, up=up, logo=logo, logo_width=options.logo_width, style=style)


def escape_rows(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Escape rows of one length for HTML."""
    escaped = escape_all([text for row in rows for text in row])
    return list(zip(*[iter(escaped)] * len(rows[0]), strict=True)) if rows else []


def _releases(
    name: NormalizedName, releases: Mapping[str, Sequence[SiteFile]]
) -> Iterator[tuple[str, str, bool, list[tuple[str, ...]]]]:
    """Yield, the highest first, releases: version, the day it began, whether all of it is yanked, its files.

    All texts are escaped.
    """
    rows = iter(escape_rows([_file(name, file) for files in releases.values() for file in files]))
    heads = escape_rows([(version, _day(files)) for version, files in releases.items()])
    shown = [
        (head, files, list(islice(rows, len(files)))) for head, files in zip(heads, releases.values(), strict=True)
    ]
    for (version, day), files, escaped in reversed(shown):
        yield version, day, all(file.document.get("yanked", False) is not False for file in files), escaped


def _shown_release(version: str, day: str, all_yanked: bool, files: Sequence[tuple[str, ...]]) -> str:
    """Return a release's section, out of texts that are escaped; a template takes several times as long."""
    badge = ' <span class="badge">yanked</span>' if all_yanked else ""
    began = f' <time datetime="{day}">{day}</time>' if day else ""
    return (
        f'      <section class="release{" yanked" if all_yanked else ""}">\n'
        f'        <h3 id="{version}">{version}{badge}{began}</h3>\n'
        '        <ul class="files">\n'
        f"{''.join(starmap(_shown_file, files))}"
        "        </ul>\n"
        "      </section>"
    )


def _shown_file(
    filename: str,
    url: str,
    size: str,
    time: str,
    shown_time: str,
    digest: str,
    short: str,
    requires_python: str,
    yanked: str,
    reason: str,
    uploaded_by: str,
) -> str:
    about = "".join(
        (
            f"<span>{size}</span>" if size else "",
            f'<time datetime="{time}">{shown_time} UTC</time>' if time else "",
            f"<span>by {uploaded_by}</span>" if uploaded_by else "",
            f"<span>Python {requires_python}</span>" if requires_python else "",
            f'<span class="digest" title="{digest}">{short}</span>' if digest else "",
        )
    )
    yank = f'<span class="yank"><span class="badge">yanked</span> {reason}</span>' if yanked else ""
    return f'          <li><a href="{url}">{filename}</a>\n            <span class="about">{about}</span>{yank}</li>\n'


def _day(files: Sequence[SiteFile]) -> str:
    """Return the day on which the first of some files came; "" where none is known."""
    return min((file.document["upload-time"][:10] for file in files if "upload-time" in file.document), default="")


def _file(name: NormalizedName, file: SiteFile) -> tuple[str, ...]:
    """Return what is shown of a file; "" of what is not."""
    document = file.document
    time, yanked = document.get("upload-time") or "", document.get("yanked", False)
    digest = one_hash(document["hashes"]) or ""
    algorithm, _, value = digest.partition("=")
    return (
        document["filename"],
        from_people(name, document["url"]),
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
