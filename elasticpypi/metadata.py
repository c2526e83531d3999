"""Core metadata as a wheel or sdist carries it, read from archives that may be hostile.

Specifications: core metadata (PEP 566, 643), wheels (PEP 427), sdists (PEP 517, 625). Nothing is extracted, no name
inside is trusted, and zipfile and tarfile read through streams that grant them no more than an honest archive needs.
"""

from __future__ import annotations

import bz2
import email.parser
import email.policy
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO, NoReturn, cast

from packaging.utils import canonicalize_name

from elasticpypi.errors import ArchiveError
from elasticpypi.names import Kind, ParsedFilename, same_version

MAX_CORE_METADATA = 16 << 20  # 16 MiB
MAX_HEADER_LINES = 100_000  # before the description; half a second of work
MAX_REQUIRES_PYTHON = 1024  # characters
MAX_ZIP_DIRECTORY = 16 << 20  # 16 MiB
MAX_ZIP_MEMBERS = 65_536  # for which zipfile takes 60 MB
MAX_TAR_HEADERS = 64 << 10  # 64 KiB for all the headers of one member
MAX_XZ_MEMORY = 72 << 20  # 72 MiB; what `xz -9` makes takes 65
MAX_UNPACKED = 1 << 30  # 1 GiB, or if that is more:
MAX_RATIO = 200  # unpacked bytes for each packed one

READ_AHEAD = 1 << 20  # 1 MiB: of most wheels the whole directory, and METADATA too, which should be last
CHUNK = 64 << 10  # 64 KiB

_WHEEL_MUST_HAVE = ("METADATA", "WHEEL", "RECORD")
_NO_PKG_INFO = "it has no PKG-INFO in its top-level directory, which every sdist must have"

# What the libraries raise on broken bytes; bz2 and gzip raise OSError.
_CORRUPT = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(ValueError, ArithmeticError, LookupError, RuntimeError),
)


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """The core metadata of one file; `name` and `version` as written there."""

    raw: bytes  # byte for byte as in the archive
    name: str
    version: str
    requires_python: str | None  # stripped, otherwise verbatim; None where there is no such field


def read_core_metadata(stream: BinaryIO, parsed: ParsedFilename) -> CoreMetadata | None:
    """Read METADATA of a wheel or PKG-INFO of an sdist; None for an egg, which is listed without core metadata.

    The stream may be a remote object, each `read` of which is a request. A zip takes one, the last MiB, or up to four
    where the directory is larger or METADATA lies elsewhere. A tar is read forwards up to PKG-INFO, in
    reads of 1 MiB. Raise ArchiveError with the reason where the file is broken, hostile, has no core metadata, or has
    some that disagree with its filename. Errors of the stream itself pass through.
    """
    if parsed.kind is Kind.EGG:
        return None
    with _refusing_corrupt(stream, parsed) as source:
        if _is_tar(parsed):
            return _parse(next(_tar_pkg_infos(source, parsed)), parsed)
        archive = _open_zip(source)
        wheel = parsed.kind is Kind.WHEEL
        member = _find_in_dist_info(archive, parsed, "METADATA") if wheel else _find_pkg_info(archive)
        _check_size(member.file_size, member.filename)
        return _parse(b"".join(_unpack(archive, member)), parsed)


def verify_archive(stream: BinaryIO, parsed: ParsedFilename) -> None:
    """Check that an archive is whole: what an upload must pass beyond `read_core_metadata`.

    An sdist is unpacked to its end in constant memory, at most 1 GiB or 200 times its size. Of a wheel the directory is
    checked: every member lies in the file, is readable, and METADATA, WHEEL and RECORD are there once; that takes one
    or two reads. Of an egg only the directory is checked. Raise ArchiveError with the reason.
    """
    with _refusing_corrupt(stream, parsed) as source:
        if _is_tar(parsed):
            for _ in _tar_pkg_infos(source, parsed):
                pass
            return
        archive = _open_zip(source)
        for member in archive.infolist():
            _check_readable(archive, member)
        if parsed.kind is Kind.WHEEL:
            for name in _WHEEL_MUST_HAVE:
                _find_in_dist_info(archive, parsed, name)
        elif parsed.kind is Kind.SDIST:
            _find_pkg_info(archive)
            _unpack_all(archive, source)


def _is_tar(parsed: ParsedFilename) -> bool:
    return parsed.kind is Kind.SDIST and not parsed.filename.endswith(".zip")


class _RefusedError(Exception):
    """Carries the reason to `_refusing_corrupt`, which knows the filename."""


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)


class _Source(io.RawIOBase):
    """A stream as zipfile and the decompressors want it, which needs few reads and remembers its own error."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0
        self._start, self._block = 0, b""  # what was read last
        self.size = stream.seek(0, io.SEEK_END)
        self.failure: Exception | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if position < 0:
            raise OSError("an offset lies before the start of the file")
        self._position = position
        return position

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self.size - self._position)
        size = min(size, left) if size >= 0 else left
        if size > MAX_ZIP_DIRECTORY:  # nothing else is read at once
            _refuse(f"its zip directory has {size} bytes, more than {MAX_ZIP_DIRECTORY}")
        if self._position < self._start or self._position + size > self._start + len(self._block):
            self._load(size)
        start = self._position - self._start
        data = self._block[start : start + size]
        self._position += len(data)
        if data.count(b"PK\1\2") > MAX_ZIP_MEMBERS:  # each entry of a directory begins so
            _refuse(f"it has more than {MAX_ZIP_MEMBERS} members")
        return data

    def _load(self, size: int) -> None:
        """Read the block that begins here or, near the end, where a zip has its directory, somewhat earlier."""
        self._start = max(0, min(self._position, self.size - READ_AHEAD))
        left = min(max(self._position + size - self._start, READ_AHEAD), self.size - self._start)
        self._block, parts = b"", []
        try:
            self._stream.seek(self._start)
            while left and (part := self._stream.read(left)):
                parts.append(part)
                left -= len(part)
        except Exception as error:
            self.failure = error
            raise
        self._block = b"".join(parts)


@contextmanager
def _refusing_corrupt(stream: BinaryIO, parsed: ParsedFilename) -> Iterator[_Source]:
    """Translate every error that an archive can cause to ArchiveError."""
    source = _Source(stream)
    try:
        yield source
    except (_RefusedError, *_CORRUPT) as error:
        if source.failure is not None:  # zipfile takes some for errors of the archive
            raise source.failure from None
        corrupt = "" if isinstance(error, _RefusedError) else "it is corrupt or of another format than its name says: "
        raise ArchiveError(parsed.filename, f"{corrupt}{error}") from error


def _check_unpacked(unpacked: int, source: _Source) -> None:
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * source.size):
        _refuse(f"it unpacks from {source.size} bytes to {unpacked} or more: no distribution is compressed like that")


def _check_size(size: int, name: str) -> None:
    if size > MAX_CORE_METADATA:
        _refuse(f"{name} has {size} bytes, more than {MAX_CORE_METADATA}")


def _is_pkg_info(name: str) -> bool:
    directory, _, rest = name.removeprefix("./").partition("/")
    return rest == "PKG-INFO" and directory not in {"", ".", ".."}


# Only headers are parsed: email would read the description as a multipart message where a header says so.
_END_OF_HEADERS = re.compile(rb"(?:\r\n|\n|\r(?!\n))[\r\n]")


def _parse(raw: bytes, parsed: ParsedFilename) -> CoreMetadata:
    end = _END_OF_HEADERS.search(raw)
    headers = raw[: end.end()] if end else raw
    if headers.count(b"\n") + headers.count(b"\r") > MAX_HEADER_LINES:
        _refuse(f"its core metadata has more than {MAX_HEADER_LINES} lines of headers")
    # Not packaging.metadata.parse_email: it takes minutes for 100,000 different fields, and 37 ms to import.
    message = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(headers)
    name, version, requires_python = (_field(message, key) for key in ("Name", "Version", "Requires-Python"))
    if name is None or version is None:
        _refuse(f"its core metadata has no {'Version' if name else 'Name'}")
    if canonicalize_name(name) != parsed.project:
        _refuse(f"its core metadata has the name {name!r}, its filename {parsed.project!r}")
    if not same_version(version, str(parsed.version)):
        _refuse(f"its core metadata has the version {version!r}, its filename {str(parsed.version)!r}")
    if requires_python is not None and len(requires_python) > MAX_REQUIRES_PYTHON:
        _refuse(f"Requires-Python in its core metadata has more than {MAX_REQUIRES_PYTHON} characters")
    return CoreMetadata(raw, name, version, requires_python)


def _field(message: Message[str, str], key: str) -> str | None:
    """Return the value of a field that may stand there once."""
    values = message.get_all(key, [])
    if len(values) > 1:
        _refuse(f"its core metadata has {key} {len(values)} times")
    if not values:
        return None
    # email wraps what is not ASCII into an object of its own; none of these fields may be anything else.
    if not isinstance(values[0], str):
        _refuse(f"{key} in its core metadata has characters outside ASCII")
    return values[0].strip()


# Zips


def _open_zip(source: _Source) -> zipfile.ZipFile:
    """Open a zip; refuse one whose end and names other readers than zipfile could understand differently."""
    try:
        archive = zipfile.ZipFile(cast(BinaryIO, source))
    except zipfile.BadZipFile as error:
        raise _RefusedError(f"it is truncated or not a zip: {error}") from error
    source.seek(-22 - len(archive.comment), io.SEEK_END)
    signature, count, start, comment = struct.unpack("<4s6xH4xLH", source.read(22))
    if signature != b"PK\5\6" or comment != len(archive.comment):
        _refuse("it has bytes after the end of the zip, or its end is truncated")
    if start not in (archive.start_dir, 0xFFFFFFFF) or count not in (len(archive.infolist()) & 0xFFFF, 0xFFFF):
        _refuse("its zip directory is not where the end of the zip says, or not as long")
    if sum(30 + len(member.filename) + member.compress_size for member in archive.infolist()) > archive.start_dir:
        _refuse("its members overlap each other")
    for member in archive.infolist():
        # zipfile cuts names at NUL, Windows takes \ for /, and from Python 3.12 on an extra field can hold the name.
        if "\0" in member.orig_filename or ".dist-info\\" in member.orig_filename or b".dist-info/" in member.extra:
            _refuse(f"the name of its member {member.orig_filename!r} can be read in two ways")
    return archive


def _check_readable(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x2061:
        _refuse(f"{member.filename} is encrypted or patched")
    # Installers have dropped or never had the other methods: https://github.com/astral-sh/uv/pull/18927
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse(f"{member.filename} is compressed by method {member.compress_type}, which installers do not read")
    if member.header_offset < 0 or member.header_offset + member.compress_size > archive.start_dir:
        _refuse(f"{member.filename} overlaps the zip directory")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the contents of a member in chunks; zipfile checks that there are no more, and their checksum."""
    _check_readable(archive, member)
    size = 0
    with archive.open(member) as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            yield chunk
    if size != member.file_size:
        _refuse(f"{member.filename} is corrupt: it has {size} bytes, not {member.file_size}")


def _unpack_all(archive: zipfile.ZipFile, source: _Source) -> None:
    _check_unpacked(sum(member.file_size for member in archive.infolist()), source)
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):  # forwards
        for _ in _unpack(archive, member):
            pass


def _find_in_dist_info(archive: zipfile.ZipFile, parsed: ParsedFilename, name: str) -> zipfile.ZipInfo:
    """Return this file of the one top-level `.dist-info` directory, which must be that of the project."""
    roots = {member.filename.partition("/")[0] for member in archive.infolist()}
    directories = sorted(root for root in roots if root.endswith(".dist-info"))
    if not directories:
        _refuse("it has no .dist-info directory, which every wheel must have")
    if len(directories) > 1:
        _refuse(f"it has more than one .dist-info directory: {', '.join(directories[:5])}")
    # Compared as pip does; the version is compared in METADATA.
    if not f"{canonicalize_name(directories[0].removesuffix('.dist-info'))}-".startswith(f"{parsed.project}-"):
        _refuse(f"its {directories[0]} is not that of the project {parsed.project!r} in its filename")
    found = [member for member in archive.infolist() if member.filename == f"{directories[0]}/{name}"]
    return _only(found, name) if found else _refuse(f"it has no {name}, which every wheel must have")


def _find_pkg_info(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if _is_pkg_info(member.filename)]
    return _only(found, "PKG-INFO") if found else _refuse(_NO_PKG_INFO)


def _only(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    """Return the member; of two, some readers take the first and others the last."""
    if len(members) > 1:
        _refuse(f"it has {name} {'twice' if len(members) == 2 else f'{len(members)} times'}")
    if stat.S_IFMT(members[0].external_attr >> 16) not in (0, stat.S_IFREG):
        _refuse(f"{members[0].filename} is not a regular file")
    return members[0]


# Tars


class _Xz:
    """What an .xz unpacks to; unlike lzma.LZMAFile it has a bound on the memory that a header can claim."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        chunk = packed = b""
        while not chunk:
            if self._decompressor.eof:  # another stream may follow
                packed = self._decompressor.unused_data or self._source.read(CHUNK)
                if not packed:
                    return b""
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)
            elif self._decompressor.needs_input:
                packed = self._source.read(CHUNK) or _refuse("it is truncated")
            chunk = self._decompressor.decompress(packed, size)
            packed = b""
        return chunk


class _TarStream:
    """The contents of a tar as tarfile wants it: read forwards only, and no more than the headers of a member need."""

    def __init__(self, unpacked: gzip.GzipFile | bz2.BZ2File | _Xz, source: _Source) -> None:
        self._unpacked = unpacked
        self._source = source
        self._position = 0
        self.granted = MAX_TAR_HEADERS
        self.last_read = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Go forwards; past the end, if the tar says so: the next read tells."""
        if position < self._position:
            _refuse("a member begins before the end of the one before it")
        while self._position < position and self.read_contents(min(position - self._position, CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Read for tarfile, whatever size a header has claimed."""
        self.granted -= size
        if size < 0 or self.granted < 0:
            _refuse(f"a member has more than {MAX_TAR_HEADERS} bytes of headers")
        self.last_read = self.read_contents(size)
        return self.last_read

    def read_contents(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        parts = []
        while size and (part := self._unpacked.read(size)):
            parts.append(part)
            size -= len(part)
            self._position += len(part)
            _check_unpacked(self._position, self._source)
        return b"".join(parts)


def _open_tar(source: _Source, parsed: ParsedFilename) -> _TarStream:
    file = cast(BinaryIO, source)
    if parsed.filename.endswith(".gz"):
        return _TarStream(gzip.GzipFile(fileobj=file, mode="rb"), source)
    if parsed.filename.endswith(".bz2"):
        return _TarStream(bz2.BZ2File(file), source)
    return _TarStream(_Xz(source), source)


def _tar_members(stream: _TarStream) -> Iterator[tarfile.TarInfo]:
    """Yield the members, the stream standing where the contents of each begin."""
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:", encoding="utf-8") as tar:
        while member := tar.next():
            # tarfile keeps all members, and global headers for ever.
            tar.members.clear()  # type: ignore[attr-defined]  # not in typeshed
            if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > MAX_TAR_HEADERS:
                _refuse(f"it has more than {MAX_TAR_HEADERS} bytes of global headers")
            stream.granted = MAX_TAR_HEADERS
            yield member
        # tarfile takes a broken header for the end, and so a truncated archive for a shorter one.
        if len(stream.last_read) < tarfile.BLOCKSIZE or any(stream.last_read):
            _refuse("it is truncated or corrupt: the mark at the end of a tar is missing")


def _tar_pkg_infos(source: _Source, parsed: ParsedFilename) -> Iterator[bytes]:
    """Yield the contents of PKG-INFO in the top-level directory, then go on to the end and refuse a second one."""
    stream, found = _open_tar(source, parsed), False
    for member in _tar_members(stream):
        if not _is_pkg_info(member.name):
            continue
        if found:
            _refuse("it has PKG-INFO twice")
        if not member.isreg() or member.issparse():
            _refuse(f"{member.name} is not a regular file")
        _check_size(member.size, member.name)
        found = True
        contents = stream.read_contents(member.size)
        if len(contents) < member.size:
            _refuse("it is truncated")
        yield contents
    if not found:
        _refuse(_NO_PKG_INFO)
    while stream.read_contents(CHUNK):  # the checksum is at the end
        pass
