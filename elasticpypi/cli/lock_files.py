"""Lock files: what they say of the packages that come from an index, and which others there are.

Specifications: `pylock.toml` (PEP 751); for `uv.lock` uv's documentation, and what uv writes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.version import Version

from elasticpypi.cli.requirements_files import Skipped, read_text
from elasticpypi.errors import InvalidNameError, SourceError
from elasticpypi.names import NormalizedName, normalize_name, parse_version

_UV_LOCK_VERSION = 1
# Where uv says that a package comes from -> how we say it.
_UV_SOURCES = {
    "directory": "comes from a directory",
    "editable": "comes from a directory",
    "git": "comes from version control",
    "path": "comes from a file",
    "url": "comes from a URL",
    "virtual": "comes from a directory",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Locked:
    """A release that a lock file takes from an index."""

    name: NormalizedName
    version: Version | None  # None: the lock file does not say
    files: Mapping[str, str | None]  # filename -> sha256, None where there is no digest; empty: all of the release
    source: str  # "uv.lock"


def read_pylock(path: Path) -> Iterator[Locked | Skipped]:
    """Yield the packages of a `pylock.toml`; SourceError if it is none."""
    try:
        lock = Pylock.from_dict(_read_toml(path))
    except PylockValidationError as error:
        raise SourceError(f"{path} cannot be read as a lock file ({error}): write it anew") from error
    for package in lock.packages:
        reason = _direct(package)
        if reason is not None:
            yield Skipped(str(path), package.name, reason)
        else:
            yield Locked(package.name, package.version, _pylock_files(path, package), str(path))


def read_uv_lock(path: Path) -> Iterator[Locked | Skipped]:
    """Yield the packages of a `uv.lock`; SourceError if it is none, or of a version that is not known."""
    document = _read_toml(path)
    version = document.get("version")
    if version != _UV_LOCK_VERSION:
        raise SourceError(
            f"{path} is of version {version!r}, and only {_UV_LOCK_VERSION} can be read: write a pylock.toml with "
            "`uv export --format pylock.toml`, and name that"
        )
    packages = document.get("package", [])
    for number, package in enumerate(packages if isinstance(packages, list) else [packages], start=1):
        yield _read_uv_package(path, number, package)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SourceError(f"{path} is not TOML ({error}): write it anew") from error


def _direct(package: Package) -> str | None:
    """Return why a package of a `pylock.toml` comes from no index; None where it does."""
    if package.directory is not None:
        return "comes from a directory"
    if package.vcs is not None:
        return "comes from version control"
    if package.archive is not None:
        return "comes from a file" if package.archive.url is None else "comes from a URL"
    return None


def _pylock_files(path: Path, package: Package) -> dict[str, str | None]:
    files = dict[str, str | None]()
    for file in (*(package.wheels or ()), *((package.sdist,) if package.sdist else ())):
        where = f"{path}, package {package.name!r}"
        filename = file.name or _filename(where, file.path or file.url or "")
        algorithm = "sha256" if "sha256" in file.hashes else next(iter(file.hashes))  # each file has one
        files[filename] = _sha256(where, algorithm, file.hashes[algorithm])
    return files


def _read_uv_package(path: Path, number: int, package: object) -> Locked | Skipped:
    match package:
        case {"name": str(name), "version": str(version), "source": {"registry": str()}, **rest}:
            where = f"{path}, package {name!r}"
            return Locked(_name(where, name), _version(where, version), dict(_uv_files(where, rest)), str(path))
        case {"name": str(name), "source": {**source}} if "registry" not in source:
            reason = next((reason for kind, reason in _UV_SOURCES.items() if kind in source), "comes from no index")
            return Skipped(str(path), name, reason)
        case _:
            raise SourceError(f"{path}, package {number}: it has no name, version and source; lock again")


def _uv_files(where: str, package: Mapping[Any, Any]) -> Iterator[tuple[str, str | None]]:
    wheels = package.get("wheels", [])
    files = list(wheels) if isinstance(wheels, list) else [wheels]
    for file in [*files, package["sdist"]] if "sdist" in package else files:
        match file:
            case {"url": str(place), "hash": str(digest)} | {"path": str(place), "hash": str(digest)}:
                yield _filename(where, place), _sha256(where, *digest.split(":", 1))
            case {"url": str(place)} | {"path": str(place)} if "hash" not in file:
                yield _filename(where, place), None
            case _:
                raise SourceError(f"{where}: a file of it has no URL and no path; lock again")


def _name(where: str, name: str) -> NormalizedName:
    try:
        return normalize_name(name)
    except InvalidNameError as error:
        raise SourceError(f"{where}: {error}") from error


def _version(where: str, version: str) -> Version:
    parsed = parse_version(version)
    if parsed is None:
        raise SourceError(f"{where}: {version[:80]!r} is no version; lock again")
    return parsed


def _filename(where: str, place: str) -> str:
    """Return the last part of a URL, or of a path as any system writes it."""
    try:
        filename = unquote(urlsplit(place).path) if "://" in place else place
    except ValueError:
        filename = ""
    filename = re.split(r"[/\\]", filename)[-1]
    if not filename:
        raise SourceError(f"{where}: a URL of it ends with no filename; lock again")
    return filename


def _sha256(where: str, algorithm: str, digest: str = "") -> str:
    if algorithm != "sha256":
        raise SourceError(
            f"{where}: it has no sha256, but {algorithm[:20]!r}; lock again from an index that has sha256"
        )
    if not _SHA256.fullmatch(digest.lower()):
        raise SourceError(f"{where}: what it has as a sha256 is none; lock again")
    return digest.lower()
