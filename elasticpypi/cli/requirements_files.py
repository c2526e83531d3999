"""Requirements files as pip documents them ("Requirements File Format"), read without fetching anything.

What needs no index (directories, URLs, version control) is told apart, and what could only be guessed is an error.
"""

from __future__ import annotations

import argparse
import codecs
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from elasticpypi.errors import SourceError

_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTIONS = re.compile(r"(?:^|(?<=\s))-")  # where they begin; a name, a specifier or a marker has no such hyphen
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_PLACE = re.compile(r"\.|[^\s;=<>!~]*[/\\]")  # a path or a URL: there is a slash before any specifier or marker
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma", ".tlz")
# Of a requirement, beside --hash: they say how it is built, which we do not do.
_BUILD_OPTIONS = ("-C", "--config-setting", "--global-option", "--build-option", "--install-option")


@dataclass(frozen=True, slots=True)
class Required:
    """A line that asks an index for a project, or limits what another one asks for."""

    requirement: Requirement
    sha256s: frozenset[str]  # of the files that are allowed; empty: all are
    is_constraint: bool
    source: str  # "requirements.txt, line 3"


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is wanted of no index."""

    source: str  # "requirements.txt, line 3"
    text: str  # what is skipped, with nothing of a URL but scheme and host
    reason: str  # the rest of a sentence that begins with it: "comes from a directory"


@dataclass(frozen=True, slots=True)
class _Line:
    """A line as it is meant: continued where it ends with a backslash, without comments."""

    path: Path
    number: int  # of its first line in the file
    text: str

    @property
    def source(self) -> str:
        return f"{self.path}, line {self.number}"

    def error(self, sentence: str) -> SourceError:
        return SourceError(f"{self.source}: {sentence}")


def read_requirements(path: Path) -> Iterator[Required | Skipped]:
    """Yield the lines of a requirements file, and in their places those of the files that it names with -r and -c.

    Options for the index and for pip itself say nothing of what is wanted, and are passed over. SourceError, with the
    line, where something cannot be read as it is meant.
    """
    yield from _read(path, read_text(path), is_constraint=False, within=(path.resolve(),))


def read_text(path: Path) -> str:
    """Return what a file says; with a byte order mark it may be UTF-16, which is what PowerShell writes."""
    try:
        data = path.read_bytes()
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): correct its name or its permissions") from error
    except UnicodeError as error:
        raise SourceError(f"{path} is no text in UTF-8: name a requirements file, or save it as UTF-8") from error


def _read(path: Path, text: str, *, is_constraint: bool, within: tuple[Path, ...]) -> Iterator[Required | Skipped]:
    """Yield the lines of one file; `within` are the files that have led to it, and itself."""
    for line in _lines(path, text):
        begin = _OPTIONS.search(line.text)
        requirement = line.text[: begin.start()].rstrip() if begin else line.text
        options, others = _read_options(line, line.text[begin.start() :] if begin else "")
        if requirement:
            _check_options(line, options, others)
            yield _read_requirement(line, requirement, _digests(line, options.hash), is_constraint=is_constraint)
        elif options.editable:
            yield Skipped(line.source, *_direct(options.editable[0]))
        elif options.hash:
            raise line.error("--hash stands there alone: end the line before it with a backslash")
        for name in options.requirement:
            yield from _read_named(line, name, is_constraint=False, within=within)
        for name in options.constraint:
            yield from _read_named(line, name, is_constraint=True, within=within)


def _lines(path: Path, text: str) -> Iterator[_Line]:
    begun, first = list[str](), 0
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        first = first if begun else number
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            begun.append(line.removesuffix("\\"))
            if number < len(lines):
                continue
        else:  # a comment ends what it stands in, even where the line before it goes on
            begun.append(f" {line}" if is_comment else line)
        whole = _COMMENT.sub("", "".join(begun)).strip()
        begun = []
        if whole:
            yield _Line(path, first, whole)


def _read_options(line: _Line, text: str) -> tuple[argparse.Namespace, list[str]]:
    """Return the options that matter here, and the words of all others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-r", "--requirement", action="append", default=[])
    parser.add_argument("-c", "--constraint", action="append", default=[])
    parser.add_argument("-e", "--editable", action="append", default=[])
    parser.add_argument("--hash", action="append", default=[])
    try:
        return parser.parse_known_args(shlex.split(text))
    except (ValueError, argparse.ArgumentError) as error:
        raise line.error("the options are cut off: close the quotation, or give the last option its value") from error


def _check_options(line: _Line, options: argparse.Namespace, others: list[str]) -> None:
    """Refuse what could be a limit to what is allowed, written wrongly."""
    unknown = [word.partition("=")[0] for word in others if word.startswith("-")]
    unknown = [word for word in unknown if not word.startswith(_BUILD_OPTIONS)]
    if unknown or options.requirement or options.constraint or options.editable:
        word = unknown[0] if unknown else "-r, -c or -e"
        raise line.error(f"{word} cannot stand behind a requirement: give it a line of its own, or remove it")


def _read_requirement(line: _Line, text: str, sha256s: frozenset[str], *, is_constraint: bool) -> Required | Skipped:
    if _PLACE.match(text) is None and not _is_archive(text.partition(";")[0]):
        requirement = _parse(line, text)
        if requirement.url is None:
            return Required(requirement, sha256s, is_constraint, line.source)
    return Skipped(line.source, *_direct(text))


def _parse(line: _Line, text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        _check_variables(line, text)
        what = "it" if "://" in text else repr(text[:80])  # there may be a password in it
        raise line.error(f"{what} is no requirement: write for example acme==1.0") from error


def _digests(line: _Line, hashes: list[str]) -> frozenset[str]:
    """Return the digests of `--hash` options, of which all must be such as an index's page has."""
    digests = set[str]()
    for each in hashes:
        algorithm, _, digest = each.partition(":")
        _check_variables(line, each)
        if algorithm != "sha256":
            raise line.error(f"--hash is of {algorithm[:20]!r}: write the file anew with sha256, which indexes have")
        if not _SHA256.fullmatch(digest.lower()):
            raise line.error("--hash=sha256: is not followed by 64 hexadecimal digits: write the file anew")
        digests.add(digest.lower())
    return frozenset(digests)


def _read_named(
    line: _Line, name: str, *, is_constraint: bool, within: tuple[Path, ...]
) -> Iterator[Required | Skipped]:
    """Yield the lines of a file that another one names, relative to itself."""
    _check_variables(line, name)
    if "://" in name:
        raise line.error("it names a URL, and nothing is fetched to be read: save it as a file, and name that")
    path = line.path.parent / name
    if path.resolve() in within:
        raise line.error(f"{path} leads back to itself: remove this line")
    try:
        text = read_text(path)
    except SourceError as error:
        raise line.error(str(error)) from error
    yield from _read(path, text, is_constraint=is_constraint, within=(*within, path.resolve()))


def _check_variables(line: _Line, text: str) -> None:
    variable = _VARIABLE.search(text)
    if variable is not None:
        raise line.error(f"{variable[0]} is a variable, and none is read: write what it stands for")


# What no index has ---------------------------------------------------------------------------------------------------


def _is_archive(text: str) -> bool:
    return text.partition("[")[0].rstrip().lower().endswith(_ARCHIVES)


def _direct(text: str) -> tuple[str, str]:
    """Return how to name it, and why an index is not asked for it; a URL may have credentials in it."""
    name, at, where = text.partition("@")
    is_named = bool(at) and "://" not in name
    where = (where if is_named else text).strip()
    scheme, is_url, _ = where.partition("://")
    if is_url and scheme.lower() != "file":
        reason = "comes from version control" if "+" in scheme else "comes from a URL"
        return name.strip() if is_named else f"{scheme}://{_host(where)}/…", reason
    reason = "comes from a file" if _is_archive(where) else "comes from a directory"
    return name.strip() if is_named else where, reason


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
