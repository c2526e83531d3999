"""A site's documents: what is written of a project, of the list of projects, and what is always there.

The pages for clients are those of the dynamic index (`simple`, `legacy_json`). Pure: the same arguments give the same
bytes, in which there is no time and nothing else that was not asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from elasticpypi import legacy_json, simple
from elasticpypi.errors import InvalidFilenameError
from elasticpypi.names import NormalizedName, parse_filename
from elasticpypi.presenting import ASSETS, read_asset
from elasticpypi.simple import UP_FROM_PROJECT, Form, dump
from elasticpypi.static_site import CoreMetadataPlace, Document, SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.people import index_page, missing_page, project_page
from elasticpypi.static_site.urls import file_url, packages_base, page_url

# Raise it whenever other bytes come out of the same project: every site is then written anew by its next build.
PAGES = 1

HTML = "text/html; charset=utf-8"
JSON = "application/json"
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
CORE_METADATA = "text/plain; charset=utf-8"

_UP_FROM_RELEASE = "../../../"  # from a release's document to the site
_NO_REASON = "yanked"  # for who takes an empty reason for none, and the file for good: dumb-pypi does


def fingerprint(options: SiteOptions) -> str:
    """Return what two builds have in common that write the same bytes of the same projects."""
    said = json.dumps([PAGES, simple.RENDERER, asdict(options)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def project_documents(
    project: SiteProject, options: SiteOptions, *, versions: Collection[str] | None = None
) -> Iterator[Document]:
    """Yield a project's pages in the order in which they are to be written; its page in JSON comes last.

    Of releases only those among `versions` (None: all), and none where the options say so.
    """
    name = project.name
    releases = legacy_json.group(project.files)
    listed = {version: _legacy_files(name, files, options) for version, files in releases.items()}
    infos = {}
    if options.per_release_json:
        for version, files in releases.items():
            if versions is None or version in versions:
                infos[version] = _info(project, version, files)
                yield _release_document(name, infos[version], listed[version], options)
    latest = legacy_json.latest_version(releases)
    info = infos.get(latest or "") or _info(project, latest, releases.get(latest or "", []))
    yield _legacy_project(project, info, listed, options)
    yield Document(f"project/{name}/index.html", HTML, project_page(project, options, releases, info))
    documents = [file.document for file in project.files]
    for form, path, content_type in (
        (Form.HTML, f"simple/{name}/index.html", HTML),
        (Form.JSON, f"simple/{name}/index.json", SIMPLE_JSON),
    ):
        yield Document(path, content_type, simple.render_whole(project.document, documents, form))


def metadata_documents(
    project: SiteProject, options: SiteOptions, *, versions: Collection[str] | None = None
) -> Iterator[Document]:
    """Yield the core metadata of a project's files (of releases among `versions`; None: all), as the options say where.

    Nothing where the source has none by now, though it is announced: the file was replaced since, and is looked at
    again.
    """
    for file in project.files:
        if (versions is None or file.version in versions) and _has_metadata(file, options):
            body = project.core_metadata(file)
            if body is not None:
                yield Document(_metadata_path(file.path, options), CORE_METADATA, body)


def project_paths(project: SiteProject, options: SiteOptions) -> set[str]:
    """Return where a project's pages lie."""
    return _paths(project.name, project.document["versions"], options)


def metadata_paths(project: SiteProject, options: SiteOptions) -> set[str]:
    """Return where the core metadata of a project's files lie."""
    return {_metadata_path(file.path, options) for file in project.files if _has_metadata(file, options)}


def paths_of_page(page: Mapping[str, Any], options: SiteOptions) -> tuple[set[str], set[str]]:
    """Return both out of an old `simple/<project>/index.json`; ValueError where its files were at another URL."""
    name: NormalizedName = page["name"]
    described = (file for file in page["files"] if options.core_metadata is not CoreMetadataPlace.NONE)
    metadata = {
        _metadata_path(_path_of(file["url"], options), options) for file in described if file.get("core-metadata")
    }
    return _paths(name, page["versions"], options), metadata


def changed_versions(page: Mapping[str, Any], project: SiteProject) -> set[str]:
    """Return of which of a project's releases the files are not just those of an old page, those that are gone too."""
    before = {file["filename"]: file for file in page["files"]}
    changed = {file.version for file in project.files if before.pop(file.document["filename"], None) != file.document}
    gone = {_version_of(filename) for filename in before}
    if None in gone:  # a name that an earlier version of us could read: whose release it was nobody knows
        return changed | {*page["versions"], *project.document["versions"]}
    return changed | {version for version in gone if version is not None}


def root_documents(names: Sequence[NormalizedName], options: SiteOptions) -> Iterator[Document]:
    """Yield the lists of all projects, for clients and for people."""
    yield Document("simple/index.html", HTML, b"".join(simple.render_names(names, Form.HTML)))
    yield Document("simple/index.json", SIMPLE_JSON, b"".join(simple.render_names(names, Form.JSON)))
    yield Document("index.html", HTML, index_page(names, options))


def fixed_documents(options: SiteOptions) -> Iterator[Document]:
    """Yield what is there whatever the projects are."""
    for name, content_type in ASSETS.items():
        yield Document(f"assets/{name}", content_type, read_asset(name))
    yield Document("404.html", HTML, missing_page(options))


def package_lines(project: SiteProject, options: SiteOptions) -> bytes:
    """Return a project's lines of `packages.json`: its files as dumb-pypi's lists have them, in the page's order.

    A list announces core metadata beside the files, so where it lies among the pages nothing is said of it.
    """
    is_described = options.core_metadata is not CoreMetadataPlace.OUTPUT
    return b"".join([_package_line(file, is_described=is_described) + b"\n" for file in project.files])


def _info(project: SiteProject, version: str | None, files: Sequence[SiteFile]) -> dict[str, Any]:
    described = legacy_json.find_described(files)
    body = None if described is None or described.described_by is None else project.core_metadata(described)
    return legacy_json.describe_release(project.name, version, files, body)


def _legacy_files(name: NormalizedName, files: Sequence[SiteFile], options: SiteOptions) -> bytes:
    urls = ((file.document, file.document["url"]) for file in files)
    return legacy_json.render_files(
        (document, file_url(name, url, options, up=UP_FROM_PROJECT)) for document, url in urls
    )


def _legacy_project(
    project: SiteProject, info: Mapping[str, Any], listed: Mapping[str, bytes], options: SiteOptions
) -> Document:
    name, serial = project.name, project.document["meta"].get("_last-serial")
    links = legacy_json.describe_links(page_url(name, options, up=UP_FROM_PROJECT))
    return Document(f"pypi/{name}/json", JSON, legacy_json.render_project({**info, **links}, serial, listed))


def _release_document(name: NormalizedName, info: Mapping[str, Any], files: bytes, options: SiteOptions) -> Document:
    """Return a release's document, which lies one part deeper than the project's, out of the latter's files.

    Rendering them again would take as long as all the rest. No other text can be taken for the URL's beginning:
    in a JSON string a quotation mark never stands without its backslash.
    """
    links = legacy_json.describe_links(page_url(name, options, up=_UP_FROM_RELEASE))
    deeper = files.replace(b'"url":"%b' % UP_FROM_PROJECT.encode(), b'"url":"%b' % _UP_FROM_RELEASE.encode())
    return Document(_release_path(name, info["version"]), JSON, legacy_json.render_release({**info, **links}, deeper))


def _paths(name: NormalizedName, versions: Sequence[str], options: SiteOptions) -> set[str]:
    releases = versions if options.per_release_json else ()
    return {
        *(_release_path(name, version) for version in releases),
        f"pypi/{name}/json",
        f"project/{name}/index.html",
        f"simple/{name}/index.html",
        f"simple/{name}/index.json",
    }


def _release_path(name: NormalizedName, version: str) -> str:
    return f"pypi/{name}/{version}/json"


def _has_metadata(file: SiteFile, options: SiteOptions) -> bool:
    return (
        options.core_metadata is not CoreMetadataPlace.NONE
        and file.described_by is not None
        and bool(file.document.get("core-metadata"))
    )


def _metadata_path(path: str, options: SiteOptions) -> str:
    return f"{path}.metadata" if options.core_metadata is CoreMetadataPlace.BESIDE else f"packages/{path}.metadata"


def _path_of(url: str, options: SiteOptions) -> str:
    """Return what `SiteFile.path` was of a file with this URL."""
    base = packages_base(options)
    if not url.startswith(base):
        raise ValueError(f"{url} does not begin with {base}")
    return unquote(url.removeprefix(base))


def _version_of(filename: str) -> str | None:
    try:
        return str(parse_filename(filename).version)
    except InvalidFilenameError:
        return None


def _package_line(file: SiteFile, *, is_described: bool) -> bytes:
    document = file.document
    yanked, metadata = document.get("yanked", False), is_described and document.get("core-metadata", False)
    time = document.get("upload-time")
    line = {
        "filename": document["filename"],
        "hash": simple.one_hash(document["hashes"]),
        "requires_python": document.get("requires-python"),
        "requires_dist": None if file.requires_dist is None else list(file.requires_dist),
        "upload_timestamp": None if time is None else _seconds(time),
        "uploaded_by": file.uploaded_by,
        "yanked_reason": None if yanked is False else yanked if yanked and isinstance(yanked, str) else _NO_REASON,
        "core_metadata": simple.one_hash(metadata) if isinstance(metadata, Mapping) else "true" if metadata else None,
    }
    return dump({key: value for key, value in line.items() if value is not None})


def _seconds(time: str) -> float:
    seconds = datetime.fromisoformat(time).timestamp()
    return int(seconds) if seconds.is_integer() else seconds
