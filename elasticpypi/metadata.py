"""Core metadata as a wheel or sdist carries it, read from archives that may be hostile.

Specifications: core metadata (PEP 566, 643), wheels (PEP 427), sdists (PEP 517, 625). Nothing is extracted, and no
name inside is trusted.
"""

from __future__ import annotations

import email.parser
import email.policy
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO

from packaging.utils import canonicalize_name

from elasticpypi.archives import tars, zips
from elasticpypi.archives.source import CHUNK, MAX_BEFORE_PKG_INFO, Source, check_size, refuse, refusing_corrupt
from elasticpypi.names import Kind, ParsedFilename, same_version

MAX_HEADER_LINES = 100_000  # before the description; half a second of work
MAX_REQUIRES_PYTHON = 1024  # characters

_WHEEL_MUST_HAVE = ("METADATA", "WHEEL", "RECORD")
_NO_PKG_INFO = "it has no PKG-INFO in its top-level directory, which every sdist must have"


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """The core metadata of one file, whose name and version agree with its filename."""

    raw: bytes  # byte for byte as in the archive
    requires_python: str | None  # stripped, otherwise verbatim; None where there is no such field


def read_core_metadata(stream: BinaryIO, parsed: ParsedFilename) -> CoreMetadata | None:
    """Read METADATA of a wheel or PKG-INFO of an sdist; None for an egg, which is listed without core metadata.

    The stream may be a remote object, each `read` of which is a request. A zip takes one, the last MiB, or up to four
    where the directory is larger or METADATA lies elsewhere. A tar is read forwards up to PKG-INFO, in
    reads of 1 MiB, and refused where that has not begun within the first GiB. Raise ArchiveError with the reason where
    the file is broken, hostile, has no core metadata, or has some that disagree with its filename. Errors of the stream
    itself pass through.
    """
    if parsed.kind is Kind.EGG:
        return None
    with refusing_corrupt(stream, parsed) as source:
        if _is_tar(parsed):
            return _parse(next(_tar_pkg_infos(source, parsed, within=MAX_BEFORE_PKG_INFO)), parsed)
        return _read_zip(zips.open_zip(source), parsed)


def _read_zip(archive: zipfile.ZipFile, parsed: ParsedFilename) -> CoreMetadata:
    wheel = parsed.kind is Kind.WHEEL
    member = _find_in_dist_info(archive, parsed, "METADATA") if wheel else _find_pkg_info(archive)
    check_size(member.file_size, member.filename)
    return _parse(b"".join(zips.unpack(archive, member)), parsed)


def verify_archive(stream: BinaryIO, parsed: ParsedFilename) -> CoreMetadata | None:
    """Check that an archive is whole, what an upload must pass, and return what `read_core_metadata` does.

    An sdist is unpacked to its end in constant memory, at most 1 GiB or 200 times its size. Of a wheel the directory is
    checked: every member lies in the file, is readable, and METADATA, WHEEL and RECORD are there once; that takes one
    or two reads. Of an egg only the directory is checked. Raise ArchiveError with the reason.
    """
    with refusing_corrupt(stream, parsed) as source:
        if _is_tar(parsed):
            (pkg_info,) = _tar_pkg_infos(source, parsed)
            return _parse(pkg_info, parsed)
        archive = zips.open_zip(source)
        for member in archive.infolist():
            zips.check_readable(archive, member)
        if parsed.kind is Kind.EGG:
            return None
        if parsed.kind is Kind.WHEEL:
            for name in _WHEEL_MUST_HAVE:
                _find_in_dist_info(archive, parsed, name)
        else:
            _find_pkg_info(archive)
            zips.unpack_all(archive, source)
        return _read_zip(archive, parsed)


def _is_tar(parsed: ParsedFilename) -> bool:
    return parsed.kind is Kind.SDIST and not parsed.filename.endswith(".zip")


def _is_pkg_info(name: str) -> bool:
    directory, _, rest = name.removeprefix("./").partition("/")
    return rest == "PKG-INFO" and directory not in {"", ".", ".."}


# Only headers are parsed: email would read the description as a multipart message where a header says so.
_END_OF_HEADERS = re.compile(rb"(?:\r\n|\n|\r(?!\n))[\r\n]")


def _parse(raw: bytes, parsed: ParsedFilename) -> CoreMetadata:
    end = _END_OF_HEADERS.search(raw)
    headers = raw[: end.end()] if end else raw
    if headers.count(b"\n") + headers.count(b"\r") > MAX_HEADER_LINES:
        refuse(f"its core metadata has more than {MAX_HEADER_LINES} lines of headers")
    # Not packaging.metadata.parse_email: it takes minutes for 100,000 different fields, and 37 ms to import.
    message = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(headers)
    name, version, requires_python = (_field(message, key) for key in ("Name", "Version", "Requires-Python"))
    if name is None or version is None:
        refuse(f"its core metadata has no {'Version' if name else 'Name'}")
    if canonicalize_name(name) != parsed.project:
        refuse(f"its core metadata has the name {name!r}, its filename {parsed.project!r}")
    if not same_version(version, str(parsed.version)):
        refuse(f"its core metadata has the version {version!r}, its filename {str(parsed.version)!r}")
    if requires_python is not None and len(requires_python) > MAX_REQUIRES_PYTHON:
        refuse(f"Requires-Python in its core metadata has more than {MAX_REQUIRES_PYTHON} characters")
    return CoreMetadata(raw, requires_python)


def _field(message: Message[str, str], key: str) -> str | None:
    """Return the value of a field that may stand there once."""
    values = message.get_all(key, [])
    if len(values) > 1:
        refuse(f"its core metadata has {key} {len(values)} times")
    if not values:
        return None
    # email wraps what is not ASCII into an object of its own; none of these fields may be anything else.
    if not isinstance(values[0], str):
        refuse(f"{key} in its core metadata has characters outside ASCII")
    return values[0].strip()


def _find_in_dist_info(archive: zipfile.ZipFile, parsed: ParsedFilename, name: str) -> zipfile.ZipInfo:
    """Return this file of the one top-level `.dist-info` directory, which must be that of the project."""
    roots = {member.filename.partition("/")[0] for member in archive.infolist()}
    directories = sorted(root for root in roots if root.endswith(".dist-info"))
    if not directories:
        refuse("it has no .dist-info directory, which every wheel must have")
    if len(directories) > 1:
        refuse(f"it has more than one .dist-info directory: {', '.join(directories[:5])}")
    # Compared as pip does; the version is compared in METADATA.
    if not f"{canonicalize_name(directories[0].removesuffix('.dist-info'))}-".startswith(f"{parsed.project}-"):
        refuse(f"its {directories[0]} is not that of the project {parsed.project!r} in its filename")
    found = [member for member in archive.infolist() if member.filename == f"{directories[0]}/{name}"]
    return _only(found, name) if found else refuse(f"it has no {name}, which every wheel must have")


def _find_pkg_info(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if _is_pkg_info(member.filename)]
    return _only(found, "PKG-INFO") if found else refuse(_NO_PKG_INFO)


def _only(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    """Return the member; of two, some readers take the first and others the last."""
    if len(members) > 1:
        refuse(f"it has {name} {'twice' if len(members) == 2 else f'{len(members)} times'}")
    if stat.S_IFMT(members[0].external_attr >> 16) not in (0, stat.S_IFREG):
        refuse(f"{members[0].filename} is not a regular file")
    return members[0]


def _tar_pkg_infos(source: Source, parsed: ParsedFilename, *, within: int | None = None) -> Iterator[bytes]:
    """Yield the contents of PKG-INFO in the top-level directory, then go on to the end and refuse a second one.

    Refuse one that has not begun within so many unpacked bytes.
    """
    stream, found = tars.open_tar(source, parsed), False
    if within is not None:
        stream.refused_from = within, f"it has no PKG-INFO in the first {within} bytes that it unpacks to"
    for member in tars.members(stream):
        if not _is_pkg_info(member.name):
            continue
        if found:
            refuse("it has PKG-INFO twice")
        if not member.isreg() or member.issparse():
            refuse(f"{member.name} is not a regular file")
        check_size(member.size, member.name)
        found, stream.refused_from = True, None
        contents = stream.read_contents(member.size)
        if len(contents) < member.size:
            refuse("it is truncated")
        yield contents
    if not found:
        refuse(_NO_PKG_INFO)
    while stream.read_contents(CHUNK):  # the checksum is at the end
        pass
