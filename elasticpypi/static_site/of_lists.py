"""A site made of the lists that dumb-pypi is fed with: a filename on each line, or a JSON object on each line.

Nothing but the list is read, so what it does not say (sizes, sometimes digests and times) no page says either. A line
that cannot be used is reported and left out, never guessed. Lines are kept as they are and read again when their
project is asked for: a list of 100,000 files takes little more memory than it has bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from types import NoneType
from typing import Any
from urllib.parse import quote

import orjson
from packaging.version import Version

from elasticpypi.errors import ElasticpypiError, InvalidFilenameError
from elasticpypi.model import format_time
from elasticpypi.names import MAX_NAME, NormalizedName, parse_filename
from elasticpypi.simple import describe_listed
from elasticpypi.static_site import SiteFile, SiteProject

_SHOWN = 60  # characters of a line that has no filename


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line of a list that no page shows."""

    name: str  # the filename; where none can be read, how the line begins
    reason: str


class _RefusedError(ElasticpypiError):
    """A line cannot be used; the message says why."""


class ListSource:
    """A `Source` in the lines of a list."""

    def __init__(self, projects: Mapping[NormalizedName, Sequence[bytes]], *, as_json: bool, packages_url: str) -> None:
        """`projects`: the lines of each, all of which can be used, and no two of which are of the same file."""
        self._projects = projects
        self._as_json = as_json
        self._packages_url = packages_url.rstrip("/")
        self._marks: dict[NormalizedName, str] | None = None

    def list_mark(self) -> str:
        return _digest(name.encode() for name in sorted(self._projects))

    def marks(self) -> Mapping[NormalizedName, str]:
        if self._marks is None:
            self._marks = {name: _digest(sorted(self._projects[name])) for name in sorted(self._projects)}
        return self._marks

    def mark(self, name: NormalizedName) -> str | None:
        lines = self._projects.get(name)
        return None if lines is None else _digest(sorted(lines))

    def project(self, name: NormalizedName) -> SiteProject | None:
        lines = self._projects.get(name)
        if lines is None:
            return None
        found = sorted(map(self._file, _fields(lines, as_json=self._as_json)), key=itemgetter(0))
        files = [file for _, file in found]
        versions = list(dict.fromkeys(file.version for file in files))
        document = describe_listed(name, versions, (file.document for file in files))
        return SiteProject(name, document, files, _no_core_metadata)

    def _file(self, fields: Mapping[str, Any]) -> tuple[tuple[Version, str], SiteFile]:
        """Return what a file is sorted by, and the file."""
        filename = fields["filename"]
        _, text = _place(filename)
        version, normalized = _version(text)
        document: dict[str, Any] = {
            "filename": filename,
            "url": f"{self._packages_url}/{filename if _UNQUOTED.fullmatch(filename) else quote(filename, safe='')}",
            "hashes": _hashes(fields.get("hash")),
        }
        if fields.get("upload_timestamp") is not None:
            document["upload-time"] = format_time(datetime.fromtimestamp(fields["upload_timestamp"], UTC))
        document["yanked"] = fields.get("yanked_reason") or False
        document["core-metadata"] = _core_metadata(fields.get("core_metadata"))
        if fields.get("requires_python"):
            document["requires-python"] = fields["requires_python"]
        file = SiteFile(
            document,
            normalized,
            filename,
            uploaded_by=fields.get("uploaded_by"),
            requires_dist=fields.get("requires_dist"),
        )
        return (version, filename), file


def read_list(
    lines: Iterable[bytes], *, as_json: bool, packages_url: str, report: Callable[[Skipped], None]
) -> ListSource:
    """Read a list; each line that cannot be used is reported, empty ones are none.

    Where several lines name the same file the last one counts, and those before that say something else are reported.
    `packages_url` is absolute, or relative to a project's page.
    """
    projects: dict[NormalizedName, list[bytes]] = {}
    repeated: dict[NormalizedName, None] = {}
    seen: set[int] = set()  # filenames themselves would take as much memory as all else
    for line, fields in _parse_all((line for line in map(bytes.strip, lines) if line), as_json=as_json):
        try:
            if isinstance(fields, _RefusedError):
                raise fields
            _check(line, fields)
            project, _ = _place(fields["filename"])
        except (_RefusedError, InvalidFilenameError) as error:
            report(_skipped(line, fields, error))
            continue
        projects.setdefault(project, []).append(line)
        known = hash(fields["filename"])
        if known in seen:
            repeated[project] = None
        seen.add(known)
    for project in repeated:
        projects[project] = _last_of_each(projects[project], report, as_json=as_json)
    return ListSource(projects, as_json=as_json, packages_url=packages_url)


def _last_of_each(lines: Sequence[bytes], report: Callable[[Skipped], None], *, as_json: bool) -> list[bytes]:
    last: dict[str, bytes] = {}
    for line, fields in zip(lines, _fields(lines, as_json=as_json), strict=True):
        filename = fields["filename"]
        if last.setdefault(filename, line) != line:
            report(Skipped(filename, "a later line says something else of it, which is what counts"))
            last[filename] = line
    return [*last.values()]


def _skipped(line: bytes, fields: object, error: ElasticpypiError) -> Skipped:
    named = fields.get("filename") if isinstance(fields, dict) else None
    reason = error.reason if isinstance(error, InvalidFilenameError) else str(error)
    if isinstance(named, str):
        return Skipped(_printable(named), reason)
    text = line.decode("utf-8", "replace")
    return Skipped(_printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"), reason)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


# Lines -----------------------------------------------------------------------------------------------------------


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")  # a filename with a backslash is refused


def _fields(lines: Sequence[bytes], *, as_json: bool) -> list[dict[str, Any]]:
    """Return what stands in lines that can be used."""
    if not as_json:
        return [{"filename": _decode(line)} for line in lines]
    return list(map(_loads, lines))


def _parse_all(lines: Iterator[bytes], *, as_json: bool) -> Iterator[tuple[bytes, dict[str, Any] | _RefusedError]]:
    """Yield each line with what stands in it, or why it cannot be read."""
    for line in lines:
        yield line, _try_parse(line) if as_json else {"filename": _decode(line)}


def _try_parse(line: bytes) -> dict[str, Any] | _RefusedError:
    try:
        return _parse(line)
    except _RefusedError as error:
        return error


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # which reads half characters and numbers that are none, and says better what is wrong


def _parse(line: bytes) -> dict[str, Any]:
    try:
        fields = _loads(line)
    except (ValueError, RecursionError) as error:
        raise _RefusedError("the line is not JSON") from error
    if not isinstance(fields, dict):
        raise _RefusedError("the line is not a JSON object")
    return fields


# What the keys hold, and how a message calls it; null is as good as none.
_KEYS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "filename": ((str,), "a string"),
    "hash": ((str,), "a string"),
    "requires_dist": ((list,), "a list of strings"),
    "requires_python": ((str,), "a string"),
    "upload_timestamp": ((int, float), "a number of seconds"),
    "uploaded_by": ((str,), "a string"),
    "yanked_reason": ((str,), "a string"),
    "core_metadata": ((str,), "a string"),
}
_HASH = re.compile(r"[a-z0-9_]+=[0-9a-fA-F]+")
_TIMES = (-62_135_596_800, 253_402_300_799)  # the years 1 to 9999, in seconds


def _check(line: bytes, fields: Mapping[str, Any]) -> None:
    """Raise _RefusedError where something of a line cannot be shown."""
    _check_kinds((*fields, *map(type, fields.values())))
    dependencies = fields.get("requires_dist")
    if dependencies and not all(isinstance(dependency, str) for dependency in dependencies):
        raise _RefusedError("its 'requires_dist' is not a list of strings")
    if fields.get("hash") and not _HASH.fullmatch(fields["hash"]):
        raise _RefusedError("its 'hash' is not like sha256=0123456789abcdef…")
    metadata = fields.get("core_metadata")
    if metadata and metadata != "true" and not _HASH.fullmatch(metadata):
        raise _RefusedError("its 'core_metadata' is neither 'true' nor like sha256=0123456789abcdef…")
    timestamp = fields.get("upload_timestamp")
    if timestamp is not None and not _TIMES[0] <= timestamp <= _TIMES[1]:
        raise _RefusedError("its 'upload_timestamp' is no number of seconds since 1970")
    if b"\\u" in line and _has_half_characters(fields):
        raise _RefusedError("it has half a character (a lone surrogate), which no page can show")


@lru_cache(maxsize=1000)  # the lines of a list are much alike
def _check_kinds(shape: tuple[Any, ...]) -> None:
    """Check the keys of a line and the types of their values, the ones after the others."""
    half = len(shape) // 2
    kinds = dict(zip(shape[:half], shape[half:], strict=True))
    for key, kind in kinds.items():
        if key not in _KEYS:
            raise _RefusedError(f"the key {key!r} is unknown; known are {', '.join(_KEYS)}")
        possible, wanted = _KEYS[key]
        if kind not in (*possible, NoneType):
            raise _RefusedError(f"its {key!r} is not {wanted}")
    if kinds.get("filename") is not str:
        raise _RefusedError("the line has no 'filename'")


def _has_half_characters(fields: object) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _hashes(named: str | None) -> dict[str, str]:
    algorithm, _, digest = (named or "").partition("=")
    return {algorithm: digest.lower()} if digest else {}


def _core_metadata(named: str | None) -> bool | dict[str, str]:
    return True if named == "true" else _hashes(named) or False


def _no_core_metadata(_: SiteFile) -> bytes | None:
    return None


# Filenames -------------------------------------------------------------------------------------------------------

# The commonest names, of which `parse_filename` would say the same in ten times as long.
_UNQUOTED = re.compile(r"[A-Za-z0-9_.~-]*")  # what a URL has as it is
_PLAIN = re.compile(
    r"(?P<wheel>[A-Za-z0-9]+(?:[._][A-Za-z0-9]+)*)-(?P<of_wheel>[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?)"
    r"-(?:py|cp|pp)[0-9]+(?:\.(?:py|cp|pp)[0-9]+)*-[a-z0-9]+(?:_[a-z0-9]+)*-[a-z0-9]+(?:_[a-z0-9]+)*\.whl"
    r"|(?P<sdist>[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*)-(?P<of_sdist>[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?)"
    r"(?:\.tar\.gz|\.zip)"
)


def _place(filename: str) -> tuple[NormalizedName, str]:
    """Return a file's project and version; InvalidFilenameError where they cannot be read."""
    found = _PLAIN.fullmatch(filename) if len(filename) <= MAX_NAME else None
    if found is None:
        parsed = parse_filename(filename)
        return parsed.project, str(parsed.version)
    wheel, of_wheel, sdist, of_sdist = found.groups()
    name = (wheel or sdist).lower().replace("_", "-").replace(".", "-")
    return NormalizedName(name), of_wheel or of_sdist


@lru_cache(maxsize=10_000)
def _version(text: str) -> tuple[Version, str]:
    version = Version(text)
    return version, str(version)


# Marks -----------------------------------------------------------------------------------------------------------


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(parts), digest_size=16).hexdigest()
