"""What projects, files and storage keys are called.

Specifications: names and normalisation (PEP 503), versions (PEP 440), wheel filenames (PEP 427), sdist filenames
(PEP 625), egg filenames (setuptools' documentation, "The Internal Structure of Python Eggs"). `packaging` reads all
of them but eggs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from packaging.utils import (
    InvalidName,
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    is_normalized_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from elasticpypi.errors import InvalidFilenameError, InvalidNameError

__all__ = [
    "MAX_NAME",
    "RESERVED_PREFIX",
    "DecisionsKey",
    "FileKey",
    "Kind",
    "NormalizedName",
    "ParsedFilename",
    "canonical_key",
    "decisions_key",
    "is_normalized_name",
    "is_text",
    "normalize_name",
    "parse_filename",
    "parse_key",
    "parse_version",
    "same_version",
]

RESERVED_PREFIX = ".elasticpypi/"
# Of a filename or a project name. File systems take 255 bytes, some of which we need for names beside it; and the
# tags in a wheel's filename multiply, so that a longer one could stand for millions.
MAX_NAME = 240
DECISIONS_FILENAME = "project.json"

_WHEEL_SUFFIX = ".whl"
_EGG_SUFFIX = ".egg"
# packaging knows the first two only; the others are legacy, and named by the same rule.
_SDIST_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz")


class Kind(StrEnum):
    """The kinds of distribution file."""

    WHEEL = "wheel"
    SDIST = "sdist"
    EGG = "egg"


@dataclass(frozen=True, slots=True)
class ParsedFilename:
    """What a filename says."""

    filename: str
    project: NormalizedName
    version: Version
    kind: Kind


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key whose last part has the ending of a distribution file."""

    key: str
    filename: str


@dataclass(frozen=True, slots=True)
class DecisionsKey:
    """The key of a project's `project.json`."""

    key: str
    project: NormalizedName


def normalize_name(name: str) -> NormalizedName:
    """Return the normalised form of a project name (PEP 503); raise InvalidNameError if it is none."""
    if len(name) > MAX_NAME:
        raise InvalidNameError(f"{name[:20]}…")
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise InvalidNameError(name) from error


def parse_filename(filename: str) -> ParsedFilename:
    """Read project, version and kind from a filename; raise InvalidFilenameError with the reason if that cannot be."""
    if len(filename) > MAX_NAME:
        raise InvalidFilenameError(f"{filename[:20]}…", f"it has more than {MAX_NAME} characters")
    if not (filename.isascii() and filename.isprintable()) or set(filename) & set(" /\\"):
        raise InvalidFilenameError(filename, "it contains a character that no such filename has")
    try:
        if filename.endswith(_WHEEL_SUFFIX):
            name, version, _, _ = parse_wheel_filename(filename)
            kind = Kind.WHEEL
        elif filename.endswith(_SDIST_SUFFIXES):
            name, version = parse_sdist_filename(_stem(filename) + ".tar.gz")
            kind = Kind.SDIST
        elif filename.endswith(_EGG_SUFFIX):
            name, version = _parse_egg_filename(filename)
            kind = Kind.EGG
        else:
            raise InvalidFilenameError(
                filename, "its ending is not one of .whl, .tar.gz, .zip, .tar.bz2, .tar.xz, .egg"
            )
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion) as error:
        reason = str(error).partition(": ")[0] if isinstance(error, InvalidSdistFilename) else str(error)
        raise InvalidFilenameError(filename, reason) from error
    if not is_normalized_name(name):
        raise InvalidFilenameError(filename, f"{name!r} is not a project name")
    return ParsedFilename(filename, name, version, kind)


def _stem(filename: str) -> str:
    for suffix in (_WHEEL_SUFFIX, _EGG_SUFFIX, *_SDIST_SUFFIXES):
        if filename.endswith(suffix):
            return filename.removesuffix(suffix)
    return filename


def _parse_egg_filename(filename: str) -> tuple[NormalizedName, Version]:
    """Read `name-version[-pyX.Y[-platform]].egg`, in which name and version carry "_" where they had "-"."""
    parts = _stem(filename).split("-")
    if not 2 <= len(parts) <= 4:
        raise InvalidFilenameError(filename, "an egg is called name-version[-pyX.Y[-platform]].egg")
    return canonicalize_name(parts[0]), Version(parts[1].replace("_", "-"))


def is_text(name: str) -> bool:
    """Whether a name read from a directory is UTF-8 (others come with lone surrogates)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_key(key: str) -> FileKey | DecisionsKey | None:
    """Tell what an object's key names; None for what the index ignores.

    Ignored are hidden parts (our own `.elasticpypi/`, temporary files of rsync and the like), a volume's `lost+found`,
    and everything that has neither the ending of a distribution file nor the place of a `project.json`.
    """
    parts = key.split("/")
    if any(part.startswith(".") or part in ("", "lost+found") for part in parts):
        return None
    filename = parts[-1]
    if filename.endswith((_WHEEL_SUFFIX, _EGG_SUFFIX, *_SDIST_SUFFIXES)):
        return FileKey(key, filename)
    if len(parts) == 2 and filename == DECISIONS_FILENAME and is_normalized_name(parts[0]):
        return DecisionsKey(key, NormalizedName(parts[0]))
    return None


def project_of(named: FileKey | DecisionsKey) -> NormalizedName | None:
    """Return the project that a key belongs to; None for a filename from which none can be read."""
    if isinstance(named, DecisionsKey):
        return named.project
    try:
        return parse_filename(named.filename).project
    except InvalidFilenameError:
        return None


def canonical_key(project: NormalizedName, filename: str) -> str:
    """Return the key under which we store a file."""
    return f"{project}/{filename}"


def decisions_key(project: NormalizedName) -> str:
    """Return the key of a project's human decisions."""
    return f"{project}/{DECISIONS_FILENAME}"


def parse_version(text: str) -> Version | None:
    """Return the version that a string is (PEP 440); None where it is none, or has more than `MAX_NAME` characters."""
    if len(text) > MAX_NAME:
        return None
    try:
        return Version(text)
    except InvalidVersion:
        return None


def same_version(left: str, right: str) -> bool:
    """Whether two strings are the same version (PEP 440); strings that are no versions equal only themselves."""
    version = parse_version(left)
    return left == right or (version is not None and version == parse_version(right))
