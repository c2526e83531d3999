"""The legacy JSON API: a project, or one release of it, with its core metadata.

Specification: PyPI's documentation, "JSON API", and the core metadata specification. bandersnatch mirrors by it.

All of it is made of what a page of the simple API has of the files, so that both say the same. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson
from packaging.version import Version

from elasticpypi import simple
from elasticpypi.errors import NotFoundError
from elasticpypi.model import File, ProjectSnapshot
from elasticpypi.names import NormalizedName, parse_version

if TYPE_CHECKING:
    from email.message import Message

# Key of `info` -> field of the core metadata, of those that stand there once.
_TEXTS = {
    "author": "Author",
    "author_email": "Author-email",
    "description_content_type": "Description-Content-Type",
    "download_url": "Download-URL",
    "home_page": "Home-page",
    "keywords": "Keywords",
    "license": "License",
    "license_expression": "License-Expression",
    "maintainer": "Maintainer",
    "maintainer_email": "Maintainer-email",
    "requires_python": "Requires-Python",
    "summary": "Summary",
}
# Likewise of those that may stand there several times.
_LISTS = {
    "dynamic": "Dynamic",
    "license_files": "License-File",
    "provides_extra": "Provides-Extra",
    "requires_dist": "Requires-Dist",
}
_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys((*_TEXTS, *_LISTS, "platform", "project_urls")),
    "classifiers": [],
    "description": "",
}
_SAME_FOR_ALL: Mapping[str, Any] = {
    "bugtrack_url": None,
    "docs_url": None,
    "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
}


class Described(Protocol):
    """A file of a release."""

    @property
    def document(self) -> Mapping[str, Any]:
        """The file as a page of the simple API has it in JSON."""

    @property
    def version(self) -> str:
        """The version, normalised (PEP 440)."""

    @property
    def requires_dist(self) -> Sequence[str] | None:
        """What a list says that it requires, for whom there is no core metadata; None where nobody says so."""


_F = TypeVar("_F", bound=Described)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of an index, as `Described`."""

    document: Mapping[str, Any]
    version: str
    file: File
    requires_dist: Sequence[str] | None = None


def render(
    project: ProjectSnapshot, asked: str | None, *, core_metadata: Callable[[str], bytes | None], root: str
) -> bytes:
    """Render the release that is `asked` for, or (None) the project: its latest release and all the files.

    `core_metadata` returns what is kept under a key. `root` is the absolute URL of the index, with its slash: clients
    of this API resolve no relative ones. Raise NotFoundError where there is no such release; a project without files
    has no latest one, and is shown.
    """
    releases = group(list_files(project, root=root))
    version = latest_version(releases) if asked is None else find_version(releases, asked)
    if asked is not None and version is None:
        raise NotFoundError(f"the project {project.name!r} has no release {asked!r}")
    here = [] if version is None else releases[version]
    described = find_described(here)
    body = None if described is None else core_metadata(find_key(project, described.file))
    info = describe_release(project.name, version, here, body) | describe_links(f"{root}simple/{project.name}/")
    if asked is not None:
        return render_release(info, _render_listed(here))
    listed = {version: _render_listed(files) for version, files in releases.items()}
    return render_project(info, project.revision, listed)


def list_files(project: ProjectSnapshot, *, root: str) -> list[Listed]:
    """Return the files that a project's page lists, in its order; their URLs begin with `root`."""
    urls = (
        (item, simple.file_url(project.name, item.file.filename, base=root)) for item in simple.listed_files(project)
    )
    return [Listed(simple.describe_file(item, url), item.file.version, item.file) for item, url in urls]


def find_key(project: ProjectSnapshot, file: File) -> str:
    """Return the key under which a file of a project lies."""
    return next(entry.key for entry in project.entries if entry.content is file)


def _render_listed(files: Iterable[Listed]) -> bytes:
    return render_files((file.document, file.document["url"]) for file in files)


def group(files: Iterable[_F]) -> dict[str, list[_F]]:
    """Return the files of each release, in the order in which they come, which is by version."""
    releases: dict[str, list[_F]] = {}
    for file in files:
        releases.setdefault(file.version, []).append(file)
    return releases


def latest_version(releases: Mapping[str, Sequence[Described]]) -> str | None:
    """Return the highest final version of which not all is yanked, else the highest one; None where there is none.

    The releases come by version, as `group` has them.
    """
    offered = [version for version, files in releases.items() if any(_yanked(file) is False for file in files)]
    final = next((version for version in reversed(offered) if not Version(version).is_prerelease), None)
    return final or next(reversed(offered or [*releases]), None)


def _yanked(file: Described) -> bool | str:
    yanked: bool | str = file.document.get("yanked", False)
    return yanked


def find_version(releases: Mapping[str, Sequence[Described]], asked: str) -> str | None:
    """Return a version as it is listed, however it was spelled."""
    wanted = parse_version(asked)
    return None if wanted is None else next((version for version in releases if Version(version) == wanted), None)


def find_described(files: Sequence[_F]) -> _F | None:
    """Return the file whose core metadata describes a release: a wheel, else an sdist."""
    for wanted in ("bdist_wheel", "sdist"):
        for file in files:
            if _package_type(file.document["filename"]) == wanted:
                return file
    return None


def describe_release(
    name: NormalizedName, version: str | None, files: Sequence[Described], core_metadata: bytes | None
) -> dict[str, Any]:
    """Return what is said of a release (None: of a project that has none) with these files, but for its links.

    Without core metadata it is what a list says of the files, of that of which it says most.
    """
    yanked = [_yanked(file) for file in files]
    info = _describe_by_list(files) if core_metadata is None else _describe(core_metadata)
    info["name"] = info.get("name") or name
    info["version"] = version or ""
    info["yanked"] = bool(files) and False not in yanked
    info["yanked_reason"] = min((reason for reason in yanked if isinstance(reason, str)), default=None)
    return info


def describe_links(page: str) -> dict[str, Any]:
    """Return what an `info` says of the URL of the project's page."""
    return {"package_url": page, "project_url": page, "release_url": page}


def render_project(info: Mapping[str, Any], serial: int | None, releases: Mapping[str, bytes]) -> bytes:
    """Render a project out of its latest release's `info`, and what `render_files` gives of each release, by version.

    None as serial where it has none.
    """
    listed = b",".join([b"%b:[%b]" % (simple.dump(version), files) for version, files in releases.items()])
    last_serial = b"" if serial is None else b'"last_serial":%d,' % serial
    urls = releases.get(info["version"], b"")
    return b'{"info":%b,%b"releases":{%b},"urls":[%b],"vulnerabilities":[]}' % (
        _dump_info(info),
        last_serial,
        listed,
        urls,
    )


def render_release(info: Mapping[str, Any], files: bytes) -> bytes:
    """Render a release likewise; it has no serial: that would change with every other release."""
    return b'{"info":%b,"urls":[%b],"vulnerabilities":[]}' % (_dump_info(info), files)


def _dump_info(info: Mapping[str, Any]) -> bytes:
    return orjson.dumps(info, option=orjson.OPT_SORT_KEYS)


def render_files(files: Iterable[tuple[Mapping[str, Any], str]]) -> bytes:
    """Render files, each as a page of the simple API has it and with its URL, to be put into a JSON list."""
    return simple.dump([_describe_file(file, url) for file, url in files])[1:-1]


def _describe_file(file: Mapping[str, Any], url: str) -> dict[str, Any]:
    filename, yanked, uploaded = file["filename"], file.get("yanked", False), file.get("upload-time")
    package_type = _package_type(filename)
    return {
        "comment_text": "",
        "digests": file["hashes"],
        "downloads": -1,
        "filename": filename,
        "has_sig": False,
        "packagetype": package_type,
        "python_version": _python_version(filename, package_type),
        "requires_python": file.get("requires-python"),
        "size": file.get("size"),
        "upload_time": None if uploaded is None else uploaded.partition(".")[0].removesuffix("Z"),
        "upload_time_iso_8601": uploaded,
        "url": url,
        "yanked": yanked is not False,
        "yanked_reason": yanked if isinstance(yanked, str) else None,
    }


def _package_type(filename: str) -> str:
    return "bdist_wheel" if filename.endswith(".whl") else "bdist_egg" if filename.endswith(".egg") else "sdist"


def _python_version(filename: str, package_type: str) -> str:
    """Return what a filename says of Python, "source" for an sdist."""
    match package_type:
        case "bdist_wheel":
            return filename.split("-")[-3]
        case "bdist_egg":
            return "".join(re.findall(r"-py(\d[\d.]*\d)", filename))
        case _:
            return "source"


def _describe_by_list(files: Sequence[Described]) -> dict[str, Any]:
    """Return what lists say: of the file of which they say most, that its two fields belong together."""
    said = [(file.requires_dist, file.document.get("requires-python")) for file in files]
    best = max(said, key=lambda pair: sum(value is not None for value in pair), default=(None, None))
    return {
        **_NOTHING,
        **_SAME_FOR_ALL,
        "requires_dist": None if best[0] is None else list(best[0]),
        "requires_python": best[1],
    }


def _describe(core_metadata: bytes) -> dict[str, Any]:
    message = _parse(core_metadata)
    return {
        **{key: _text(message, name) for key, name in _TEXTS.items()},
        **{key: message.get_all(name) for key, name in _LISTS.items()},
        **_SAME_FOR_ALL,
        "classifiers": message.get_all("Classifier") or [],
        "description": _description(message),
        "name": _text(message, "Name"),
        "platform": ",".join(message.get_all("Platform") or []) or None,
        "project_urls": _project_urls(message.get_all("Project-URL") or []),
    }


def _parse(core_metadata: bytes) -> Message[str, str]:
    # Imported with the first: lists have none, and their command would take an eighth of a second more to start.
    import email.parser
    import email.policy

    # Only headers are parsed: email would read the description as a multipart message where a header says so.
    text = core_metadata.decode("utf-8", "replace")
    return email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)


def _text(message: Message[str, str], name: str) -> str | None:
    value = message.get(name)
    return None if value is None or value.strip() in ("", "UNKNOWN") else value.strip()


def _description(message: Message[str, str]) -> str:
    """Return the description: the body, or in old metadata a field whose lines are indented, with or without a bar."""
    body = message.get_payload()
    if isinstance(body, str) and body.strip():
        return body
    first, *others = message.get("Description", "").splitlines() or [""]
    return "\n".join([first, *(line.removeprefix("       |").removeprefix("        ") for line in others)])


def _project_urls(values: Iterable[str]) -> dict[str, str] | None:
    """Return label -> URL out of `label, URL`."""
    pairs = (value.partition(",") for value in values)
    return {label.strip(): url.strip() for label, _, url in pairs} or None
