"""What a project needs from indexes, as requirements files and lock files have it.

Specifications: dependency specifiers (PEP 508), versions and their specifiers (PEP 440).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.pylock import is_valid_pylock_path
from packaging.specifiers import SpecifierSet

from elasticpypi.cli.lock_files import Locked, read_pylock, read_uv_lock
from elasticpypi.cli.requirements_files import Required, Skipped, read_requirements
from elasticpypi.errors import InvalidNameError, SourceError
from elasticpypi.names import NormalizedName, normalize_name

__all__ = ["Needs", "Skipped", "Wanted", "read_wanted"]

_OTHER_FORMATS = (".json", ".lock", ".toml")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files of one release of a project."""

    name: NormalizedName
    specifier: SpecifierSet | None  # which releases will do; None: all of them
    files: Mapping[str, str | None]  # exactly these, filename -> sha256 or None; empty: all files of the release
    sha256s: frozenset[str]  # where no files are named, only those with one of these digests; empty: no restriction
    source: str  # "requirements.txt, line 3"; of more than one, "… and …"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the files that were named ask for, in their order."""

    wanted: tuple[Wanted, ...]
    skipped: tuple[Skipped, ...]


def read_wanted(paths: Iterable[Path]) -> Needs:
    """Read requirements files, and lock files, which their names tell: `uv.lock`, `pylock.toml`, `pylock.*.toml`.

    Files are wanted for every platform, so that no marker leaves out anything, and for no other project than those that
    are named. What several of the files want in the same way is wanted once. SourceError names the file that cannot be
    read, and the line in it.
    """
    wanted, skipped = list[Wanted](), list[Skipped]()
    for path in dict.fromkeys(paths):
        for found in _read(path):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                wanted.append(found)
    return Needs(tuple(_merged(wanted)), tuple(dict.fromkeys(skipped)))


def _read(path: Path) -> Iterator[Wanted | Skipped]:
    if path.name == "uv.lock":
        return _of_lock(read_uv_lock(path))
    if is_valid_pylock_path(path):
        return _of_lock(read_pylock(path))
    if path.suffix in _OTHER_FORMATS:
        raise SourceError(
            f"{path} is of a format that is not read: export a requirements.txt or a pylock.toml from it, "
            "with `uv export`, `poetry export` or `pdm export`, and name that"
        )
    return _of_requirements(list(read_requirements(path)))


def _merged(wanted: Iterable[Wanted]) -> Iterable[Wanted]:
    """Put together what is said of the same releases; what restricts files is never mixed with what does not.

    Lock files that name other files, or other digests for them, each keep their word.
    """
    merged = dict[object, Wanted]()
    for each in wanted:
        key = each.name, each.specifier, frozenset(each.files.items()), bool(each.sha256s)
        first = merged.get(key)
        merged[key] = each if first is None else _both(first, each)
    return merged.values()


def _both(first: Wanted, second: Wanted) -> Wanted:
    return replace(
        first,
        sha256s=first.sha256s | second.sha256s,
        source=first.source if first.source == second.source else f"{first.source} and {second.source}",
    )


# Requirements files --------------------------------------------------------------------------------------------------


def _of_requirements(lines: list[Required | Skipped]) -> Iterator[Wanted | Skipped]:
    """Yield what the lines of a file and of those that it names want; their constraints hold for all of them."""
    constraints = defaultdict[NormalizedName, list[Required]](list)
    for line in lines:
        if isinstance(line, Required) and line.is_constraint:
            constraints[_name(line)].append(line)
    for line in lines:
        if isinstance(line, Skipped):
            yield line
        elif not line.is_constraint:
            yield from _constrained(line, constraints[_name(line)])


def _constrained(line: Required, constraints: Iterable[Required]) -> Iterator[Wanted]:
    """Yield what a line wants under constraints.

    Some may hold in some environments only. There, and everywhere else, other releases may be installed.
    """
    by_marker = defaultdict[str, list[Required]](list)
    for constraint in constraints:
        by_marker[str(constraint.requirement.marker or "")].append(constraint)
    everywhere = _restricted(_wanted(line), by_marker.pop("", []))
    yield everywhere
    for somewhere in by_marker.values():
        restricted = _restricted(everywhere, somewhere)
        if restricted.specifier is not None and not restricted.specifier.is_unsatisfiable():
            yield restricted


def _wanted(line: Required) -> Wanted:
    return Wanted(_name(line), line.requirement.specifier or None, {}, line.sha256s, line.source)


def _restricted(wanted: Wanted, constraints: Iterable[Required]) -> Wanted:
    for constraint in constraints:
        specifier = (wanted.specifier or SpecifierSet()) & constraint.requirement.specifier
        sha256s = wanted.sha256s & constraint.sha256s or wanted.sha256s or constraint.sha256s
        if wanted.sha256s and constraint.sha256s and not wanted.sha256s & constraint.sha256s:
            raise SourceError(
                f"{constraint.source}: it allows none of the digests of {wanted.name} that {wanted.source} has: "
                "write both files anew"
            )
        wanted = replace(wanted, specifier=specifier or None, sha256s=sha256s)
    return wanted


def _name(line: Required) -> NormalizedName:
    try:
        return normalize_name(line.requirement.name)
    except InvalidNameError as error:
        raise SourceError(f"{line.source}: {error}") from error


# Lock files ----------------------------------------------------------------------------------------------------------


def _of_lock(packages: Iterable[Locked | Skipped]) -> Iterator[Wanted | Skipped]:
    for package in packages:
        if isinstance(package, Skipped):
            yield package
        else:
            specifier = None if package.version is None else SpecifierSet(f"=={package.version}")
            yield Wanted(package.name, specifier, package.files, frozenset(), package.source)
