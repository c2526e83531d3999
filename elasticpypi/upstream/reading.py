"""Reads the page that an upstream has of a project, JSON or HTML, believing as little of it as can be.

Specifications: simple repository API (PEP 503, 592, 658, 691, 700, 714, 740, 792). A file of which something wrong is
said is left out by itself.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urldefrag, urljoin

from packaging.version import Version

from elasticpypi.errors import InvalidFilenameError
from elasticpypi.model import Status
from elasticpypi.names import MAX_NAME, NormalizedName, ParsedFilename, parse_filename
from elasticpypi.upstream.forms import MOST_URL, Said, cut, in_time, last_part, no_page, read_html, read_json, shown
from elasticpypi.upstream.hosts import read_origin
from elasticpypi.upstream.model import UpstreamFile, UpstreamPage

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

_JSON = ("application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json")
_HTML = ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html", "text/html")
_MOST_TAGS = 1000  # that a wheel's filename may stand for; the tags in it multiply
_MOST_REQUIRES_PYTHON = 1024  # characters
_MOST_LEFT_OUT = 1000  # files that are remembered
_MOST_SIZE = 2**63 - 1  # bytes
_MOST_DIGEST = 256  # hex digits, of an algorithm that we do not know
_AT_ONCE = 2  # pages that a process reads: the worst of them take much memory, and all of a processor
_TURN_SECONDS = 10.0  # that a page waits for its turn
_turns = threading.BoundedSemaphore(_AT_ONCE)
_is_algorithm = re.compile(r"[a-z0-9_]{1,32}").fullmatch
_is_hex = re.compile(r"(?:[0-9a-f]{2})+").fullmatch
# An origin, and what follows it: printable ASCII, but for what parsers of URLs disagree about.
_is_plain_url = re.compile(r"(https?://[^/?#]+)/[!$-;=?-\[\]-~]*").fullmatch
_DIGEST_DIGITS = {
    name: 2 * hashlib.new(name, usedforsecurity=False).digest_size for name in hashlib.algorithms_guaranteed
}


@dataclass(slots=True)
class _Sorted:
    """What on a page is a file of the project, and what is none."""

    files: dict[str, tuple[Version, UpstreamFile]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    _ambiguous: set[str] = field(default_factory=set)

    def add(self, version: Version, file: UpstreamFile) -> None:
        """Take a file; where the page has others of its name, nobody knows which one is meant."""
        _, first = self.files.setdefault(file.filename, (version, file))
        if not _are_same(file, first):
            self._ambiguous.add(file.filename)
            self.leave_out(file.filename, "is listed more than once, as different files")

    def leave_out(self, filename: str, reason: str) -> None:
        if len(self.left_out) < _MOST_LEFT_OUT:
            self.left_out[shown(filename)] = reason

    def in_order(self) -> tuple[UpstreamFile, ...]:
        """Return the files, by version, then filename."""
        clear = [pair for filename, pair in self.files.items() if filename not in self._ambiguous]
        return tuple(file for _, file in sorted(clear, key=lambda pair: (pair[0], pair[1].filename)))


def read_page(
    name: NormalizedName, body: bytes, *, content_type: str, url: str, clock: Callable[[], float] = time.thread_time
) -> UpstreamPage:
    """Read a project's page, which has come from a URL, when its turn has come.

    Raise ValueError with the rest of a sentence where it is none ("is no page of the simple API: it is not JSON"), or
    reading it takes too many seconds by `clock`.
    """
    if not _turns.acquire(timeout=_TURN_SECONDS):
        raise ValueError("could not be read yet: other pages are being read; try again in a moment")
    try:
        return _read_page(name, body, content_type=content_type, url=url, clock=clock)
    finally:
        _turns.release()


def _read_page(
    name: NormalizedName, body: bytes, *, content_type: str, url: str, clock: Callable[[], float]
) -> UpstreamPage:
    form = content_type.partition(";")[0].strip().lower()
    try:
        if form in _JSON:
            said = read_json(name, body, url)
        elif form in _HTML:
            said = read_html(name, body, url, clock)
        else:
            raise no_page(f"its content type is {shown(form)!r}" if form else "it has no content type")
        found = _sort_out(name, said, clock)
    except RecursionError as error:
        raise no_page("it is nested too deeply") from error
    status = _read_status(said.status)
    # A page for people, to sign in on perhaps, is not to be taken for a project that is empty, or is not there.
    if form in _HTML and not found.files and status is not Status.QUARANTINED:
        raise no_page("it has no link to a file of the project")
    return UpstreamPage(found.in_order(), status, cut(said.status_reason), found.left_out)


def _read_status(said: str | None) -> Status:
    try:
        return Status.ACTIVE if said is None else Status(said)
    except ValueError as error:  # it may be one under which nothing should be installed
        raise no_page(f"the project has the status {shown(said or '')!r}, which is not known here") from error


# Files ---------------------------------------------------------------------------------------------------------------


def _sort_out(name: NormalizedName, said: Said, clock: Callable[[], float]) -> _Sorted:
    found = _Sorted()
    for filename, describe in in_time(said.files, clock):
        try:
            parsed = _parse(name, filename)
            found.add(parsed.version, _read_file(parsed, _describe(describe), said.base))
        except ValueError as error:
            found.leave_out(filename, str(error))
    return found


def _parse(name: NormalizedName, filename: str) -> ParsedFilename:
    """Read a filename; raise ValueError with the rest of a sentence where it is none of the project."""
    if math.prod(part.count(".") + 1 for part in filename[:MAX_NAME].split("-")[-3:]) > _MOST_TAGS:
        raise ValueError(f"stands for more than {_MOST_TAGS} combinations of tags")
    try:
        parsed = parse_filename(filename)
    except InvalidFilenameError as error:
        raise ValueError(f"is not the filename of a wheel, sdist or egg: {error.reason}") from error
    if parsed.project != name:
        raise ValueError(f"belongs to another project, {parsed.project!r}")
    return parsed


def _describe(describe: Callable[[], DistributionPackage]) -> DistributionPackage:
    try:
        return describe()
    except ValueError as error:
        raise ValueError("is not described as the simple API has it") from error


def _read_file(parsed: ParsedFilename, package: DistributionPackage, base: str) -> UpstreamFile:
    """Return a file; raise ValueError with the rest of a sentence where something is wrong that matters."""
    url = _resolve(package.url, base)
    if url is None:
        raise ValueError("has no URL that can be asked for")
    if last_part(url) != parsed.filename:  # by which installers go, whatever the page calls it
        raise ValueError("has a URL that leads to a file of another name")
    return UpstreamFile(
        filename=parsed.filename,
        url=url,
        version=str(parsed.version),
        hashes=_read_hashes(package.digests),
        size=package.size if package.size is not None and 0 <= package.size <= _MOST_SIZE else None,
        upload_time=_read_time(package.upload_time),
        requires_python=_read_requires_python(package.requires_python),
        yanked=(cut(package.yanked_reason) or True) if package.is_yanked else False,
        core_metadata=_read_core_metadata(package),
        provenance=None if package.provenance_url is None else _resolve(package.provenance_url, base),
    )


def _are_same(file: UpstreamFile, other: UpstreamFile) -> bool:
    """Whether two entries of a filename mean the same bytes."""
    if file is other or (file.sha256 is not None and file.sha256 == other.sha256):
        return True
    return (file.url, file.hashes) == (other.url, other.hashes)


def _resolve(url: str, base: str) -> str | None:
    """Return a URL that begins with http or https, without a fragment; None where it is none, or has credentials."""
    url = url.strip(string.whitespace)
    if len(url) > MOST_URL:
        return None
    plain = _is_plain_url(url)  # nearly all of them are: the rest here takes most of the time that a page takes
    if plain is None and url.isprintable():
        try:
            url = quote(urldefrag(urljoin(base, url)).url, safe=string.punctuation)
        except ValueError:
            return None
        plain = _is_plain_url(url)
    return url if plain is not None and _is_origin(plain[1]) else None


@lru_cache(maxsize=64)
def _is_origin(text: str) -> bool:
    return read_origin(f"{text}/") is not None


def _read_hashes(digests: Mapping[str, str]) -> dict[str, str]:
    """Return those digests that can be some; raise ValueError where that of sha256 is none."""
    lowered = {name: digest.lower() for name, digest in digests.items()}
    good = {name: digest for name, digest in lowered.items() if _is_digest(name, digest)}
    if "sha256" in lowered and "sha256" not in good:
        raise ValueError("has a sha256 that is none")
    return good


def _is_digest(algorithm: str, digest: str) -> bool:
    digits = _DIGEST_DIGITS.get(algorithm, 0)  # 0: there is no such algorithm, or its digests have any length
    is_length = len(digest) == digits if digits else len(digest) <= _MOST_DIGEST
    return is_length and bool(_is_algorithm(algorithm)) and bool(_is_hex(digest))


def _read_core_metadata(package: DistributionPackage) -> bool | dict[str, str]:
    """Return whether there is a file of core metadata, or its digests; one that is announced wrongly is as none."""
    if not package.has_metadata or not package.metadata_digests:
        return bool(package.has_metadata)
    try:
        return _read_hashes(package.metadata_digests) or False
    except ValueError:
        return False


def _read_time(said: datetime | None) -> datetime | None:
    if said is None:
        return None
    try:
        return said.replace(tzinfo=said.tzinfo or UTC).astimezone(UTC)
    except OverflowError:  # at either end of all time
        return None


def _read_requires_python(said: str | None) -> str | None:
    if said is not None and (len(said) > _MOST_REQUIRES_PYTHON or not said.isprintable()):
        raise ValueError("has a 'requires-python' that is none")
    return said or None
