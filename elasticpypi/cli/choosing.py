"""Which of the files that an upstream has are wanted, and what is wanted that it has not.

Specification: which versions a specifier allows, pre-releases among them (PEP 440), and when a yanked file will do
(PEP 592).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from elasticpypi.cli.wanted import Wanted
from elasticpypi.index import HeldBack, Listing, UpstreamFile
from elasticpypi.model import Status


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of a project that are wanted."""

    files: tuple[UpstreamFile, ...]  # by version, then filename
    problems: tuple[str, ...]  # a sentence for each thing that is wanted and cannot be had


def choose(listing: Listing, wanted: Wanted) -> Choice:
    """Choose the files that are named, else those of the newest release that fits.

    A file that is named fits with the digest that is said of it. Where none is named and there are digests, only files
    that have one of them fit, and each digest must be that of a file.
    """
    if listing.page.status is Status.QUARANTINED:
        return Choice((), (f"its project is quarantined by the upstream {listing.upstream.name!r}; try again later",))
    shown = [file for file in listing.shown if _fits(file, wanted)]
    here = {file.filename for file in shown}  # a file that is kept, whatever its upstream has in its place
    held_back = [held for held in listing.held_back if held.file.filename not in here and _fits(held.file, wanted)]
    if not wanted.files:
        release = _newest(shown, wanted) or _newest((held.file for held in held_back), wanted)
        shown = [file for file in shown if Version(file.version) == release and _may_be_taken(file, wanted)]
        held_back = [held for held in held_back if Version(held.file.version) == release]
    problems = [*map(_why, held_back), *_missing(listing, wanted)]
    if not (shown or problems):
        problems = [_nothing(wanted)]
    return Choice(tuple(shown), tuple(problems))


def _fits(file: UpstreamFile, wanted: Wanted) -> bool:
    if wanted.files:
        return file.filename in wanted.files and wanted.files[file.filename] in (None, file.sha256)
    return not wanted.sha256s or file.sha256 in wanted.sha256s


def _newest(files: Iterable[UpstreamFile], wanted: Wanted) -> Version | None:
    versions = {Version(file.version) for file in files if _may_be_taken(file, wanted)}
    return max((wanted.specifier or SpecifierSet()).filter(versions), default=None)


def _may_be_taken(file: UpstreamFile, wanted: Wanted) -> bool:
    """Whether a file is not yanked, or of a version that is wanted whatever has become of it."""
    return not file.yanked or any(
        each.operator in ("==", "===") and not each.version.endswith(".*") for each in wanted.specifier or ()
    )


def _missing(listing: Listing, wanted: Wanted) -> Iterator[str]:
    """Yield what the upstream has not, of what is wanted by name or digest."""
    files = [*listing.shown, *(held.file for held in listing.held_back)]
    for filename, locked in sorted(wanted.files.items()):
        digests = {file.sha256 for file in files if file.filename == filename}
        if not digests:
            yield f"{filename} is not there (any more): lock again"
        elif locked is not None and digests == {None}:
            yield f"{filename} has no sha256 on the upstream's page that could be held against that of {wanted.source}"
        elif locked is not None and locked not in digests:
            yield (
                f"{filename} has another sha256 on the upstream's page than {wanted.source} says: "
                "find out why before you lock again"
            )
    if not wanted.files:
        for sha256 in sorted(wanted.sha256s - {file.sha256 for file in files}):
            yield f"no file has the sha256 {sha256}: if it was not removed, find out who has changed it"


def _nothing(wanted: Wanted) -> str:
    if wanted.specifier is None:
        return f"there is no release of {wanted.name}"
    return f"no release of {wanted.name} fits {wanted.specifier}: correct the version"


def _why(held: HeldBack) -> str:
    until = "" if held.until is None else f", until {held.until:%Y-%m-%d %H:%M} UTC"
    return f"{held.file.filename} {held.reason}{until}"
