"""Core metadata as a wheel or sdist carries it, read from archives that may be hostile.

Specifications: core metadata (PEP 566, 643), wheels (PEP 427), sdists (PEP 517, 625), zip (APPNOTE.TXT 6.3.10).

Zip directories are read here and not by zipfile, which allocates a kilobyte for each entry that a file claims and
accepts archives that other readers understand differently: whatever is accepted here, zipfile reads the same.
Tar headers are read by tarfile, from a stream that grants no more than a header needs.
"""

from __future__ import annotations

import bz2
import email.parser
import email.policy
import lzma
import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO, NoReturn, Protocol, cast

from packaging.utils import canonicalize_name

from elasticpypi.errors import ArchiveError
from elasticpypi.names import Kind, ParsedFilename, same_version

__all__ = ["CoreMetadata", "read_core_metadata", "verify_archive"]

MAX_CORE_METADATA = 16 << 20  # 16 MiB
MAX_CORE_METADATA_HEADERS = 100_000  # lines before the description; half a second of work
MAX_REQUIRES_PYTHON = 1024  # characters
MAX_ZIP_DIRECTORY = 64 << 20  # 64 MiB, about half a million members
MAX_TAR_HEADERS = 64 << 10  # 64 KiB for all the headers of one member
MAX_XZ_MEMORY = 72 << 20  # 72 MiB; what `xz -9` makes takes 65
MAX_UNPACKED = 1 << 30  # 1 GiB, or if that is more:
MAX_RATIO = 200  # unpacked bytes for each packed one

ZIP_TAIL = 256 << 10  # 256 KiB: of most wheels the whole directory, and METADATA too, which is recommended to be last
READ_AHEAD = 1 << 20  # 1 MiB
MAX_FORWARD_READ = 4 << 20  # 4 MiB; reads of a tar begin at ZIP_TAIL and double up to this
CHUNK = 64 << 10  # 64 KiB

_WHEEL_MUST_HAVE = ("METADATA", "WHEEL", "RECORD")
_NO_PKG_INFO = "it has no PKG-INFO in its top-level directory, which every sdist must have"

# What the libraries raise on broken bytes; bz2 raises OSError.
_CORRUPT = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(ValueError, ArithmeticError, LookupError, RecursionError),
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

    The stream may be a remote object, each `read` of which is a request. A zip takes one to three reads: its last
    256 KiB; the rest of the directory, if that is larger (1 MiB a read); METADATA, unless it was among the former.
    A tar is read forwards from its start up to PKG-INFO, in reads of 256 KiB that double up to 4 MiB.

    Raise ArchiveError with the reason where the file is broken, hostile, has no core metadata, or has some that
    disagree with its filename. Errors of the stream itself pass through.
    """
    if parsed.kind is Kind.EGG:
        return None
    with _refusing_corrupt(stream, parsed) as source:
        if parsed.kind is Kind.WHEEL:
            raw = _read_zip_metadata(source, lambda members: _find_in_dist_info(members, parsed, ("METADATA",))[0])
        elif parsed.filename.endswith(".zip"):
            raw = _read_zip_metadata(source, _find_pkg_info)
        else:
            raw = _read_tar_metadata(source, parsed)
        return _parse(raw, parsed)


def verify_archive(stream: BinaryIO, parsed: ParsedFilename) -> None:
    """Check that an archive is whole: what an upload must pass beyond `read_core_metadata`.

    An sdist is unpacked to its end in constant memory, at most 1 GiB or 200 times its size. Of a wheel the directory is
    checked: every member lies in the file, is readable, and METADATA, WHEEL and RECORD are there once; that takes one
    or two reads. Of an egg only the directory is checked.

    Raise ArchiveError with the reason. Errors of the stream itself pass through.
    """
    with _refusing_corrupt(stream, parsed) as source:
        if parsed.kind is Kind.SDIST and not parsed.filename.endswith(".zip"):
            _verify_tar(source, parsed)
            return
        archive = _open_zip(source)
        if parsed.kind is Kind.SDIST:
            _find_pkg_info(_unpacked(archive))
        elif parsed.kind is Kind.WHEEL:
            _find_in_dist_info(_readable(archive), parsed, _WHEEL_MUST_HAVE)
        else:
            for _ in _readable(archive):
                pass


# Refusing


class _RefusedError(Exception):
    """Carries the reason to `_refusing_corrupt`, which knows the filename."""


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)


class _Source:
    """A stream that remembers its own error, so that it is not taken for one of the archive."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size: int | None = None
        self.failure: Exception | None = None
        self.bytes_read = 0

    def size(self) -> int:
        if self._size is None:
            with self._remembering_failure():
                self._size = self._stream.seek(0, 2)
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Read `length` bytes, fewer only at the end of the stream; nothing is asked for beyond it."""
        length = min(length, self.size() - offset)
        parts = []
        with self._remembering_failure():
            self._stream.seek(offset)
            while length > 0 and (part := self._stream.read(length)):
                parts.append(part)
                length -= len(part)
                self.bytes_read += len(part)
        return b"".join(parts)

    @contextmanager
    def _remembering_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = error
            raise


@contextmanager
def _refusing_corrupt(stream: BinaryIO, parsed: ParsedFilename) -> Iterator[_Source]:
    """Translate every error that an archive can cause to ArchiveError."""
    source = _Source(stream)
    try:
        yield source
    except _RefusedError as error:
        raise ArchiveError(parsed.filename, str(error)) from error
    except _CORRUPT as error:
        if error is source.failure:
            raise
        raise ArchiveError(
            parsed.filename, f"it is corrupt or of another format than its name says: {error}"
        ) from error


# Fields


# Only headers are parsed: email would read the description as a multipart message where a header says so.
_END_OF_HEADERS = re.compile(rb"(?:\r\n|\n|\r(?!\n))[\r\n]")


def _parse(raw: bytes, parsed: ParsedFilename) -> CoreMetadata:
    end = _END_OF_HEADERS.search(raw)
    headers = raw[: end.end()] if end else raw
    if headers.count(b"\n") + headers.count(b"\r") > MAX_CORE_METADATA_HEADERS:
        _refuse(f"its core metadata has more than {MAX_CORE_METADATA_HEADERS} lines of headers")
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


def _check_size(size: int, what: str) -> None:
    if size > MAX_CORE_METADATA:
        _refuse(f"{what} has {size} bytes, more than {MAX_CORE_METADATA}")


def _is_pkg_info(name: str) -> bool:
    directory, _, rest = name.removeprefix("./").partition("/")
    return rest == "PKG-INFO" and directory not in {"", ".", ".."}


# Decompression


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib in the manner of bz2 and lzma."""

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


_RAW_DEFLATE, _GZIP = -15, 31  # wbits
_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    ".gz": lambda: _Zlib(_GZIP),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY),
}


def _decompress_one(decompressor: _Decompressor, data: bytes, blocks: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """Yield what `data` and the blocks after it decompress to, in chunks; return what follows the end in its block."""
    while True:
        chunk = decompressor.decompress(data, CHUNK)
        if chunk:
            yield chunk
        if decompressor.eof:
            return decompressor.unused_data
        data = next(blocks, b"") if decompressor.needs_input else b""
        if not data and not chunk:
            _refuse("it is truncated")


def _decompress(blocks: Iterator[bytes], new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Yield the contents in chunks; compressed streams may follow each other, with zeros between and after them."""
    data = next(blocks, b"")
    while data:
        rest = yield from _decompress_one(new(), data, blocks)
        data = rest.lstrip(b"\0")
        while not data and (block := next(blocks, b"")):
            data = block.lstrip(b"\0")


def _bound(chunks: Iterator[bytes], source: _Source) -> Iterator[bytes]:
    unpacked = 0
    for chunk in chunks:
        unpacked += len(chunk)
        _check_unpacked(unpacked, source.bytes_read)
        yield chunk


def _check_unpacked(unpacked: int, packed: int) -> None:
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed):
        _refuse(f"it unpacks to {unpacked} bytes or more, {packed} packed: no distribution is compressed like that")


def _read_forwards(source: _Source) -> Iterator[bytes]:
    """Yield a stream in small blocks, from reads that grow."""
    offset, length = 0, ZIP_TAIL
    while data := source.read_at(offset, length):
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]
        offset += len(data)
        length = min(2 * length, MAX_FORWARD_READ)


# Tars


class _TarStream:
    """The contents of a tar as tarfile wants it: read forwards only, and no more than the headers of a member need."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._start = 0  # of what is left of the chunk
        self._position = 0
        self._granted = MAX_TAR_HEADERS
        self.last_read = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Go forwards; past the end, if the tar says so: the next read tells."""
        if position < self._position:
            _refuse("a member begins before the end of the one before it")
        while self._position < position and self._next(position - self._position):
            pass

    def read(self, size: int) -> bytes:
        """Read for tarfile, whatever size a header has claimed."""
        self._granted -= size
        if size < 0 or self._granted < 0:
            _refuse(f"a member has more than {MAX_TAR_HEADERS} bytes of headers")
        self.last_read = self.read_contents(size)
        return self.last_read

    def grant_headers(self) -> None:
        self._granted = MAX_TAR_HEADERS

    def read_contents(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        parts = []
        while size and (part := self._next(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _next(self, size: int) -> bytes:
        if self._start == len(self._chunk):
            self._chunk, self._start = next(self._chunks, b""), 0
        part = self._chunk[self._start : self._start + size]
        self._start += len(part)
        self._position += len(part)
        return part


def _open_tar(source: _Source, parsed: ParsedFilename) -> _TarStream:
    new = _DECOMPRESSORS["." + parsed.filename.rpartition(".")[2]]
    return _TarStream(_bound(_decompress(_read_forwards(source), new), source))


def _tar_members(stream: _TarStream) -> Iterator[tarfile.TarInfo]:
    """Yield the members, the stream standing where the contents of each begin."""
    with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r:", encoding="utf-8") as tar:
        while member := tar.next():
            # tarfile keeps all members, and global headers for ever.
            tar.members.clear()  # type: ignore[attr-defined]  # not in typeshed
            if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > MAX_TAR_HEADERS:
                _refuse(f"it has more than {MAX_TAR_HEADERS} bytes of global headers")
            stream.grant_headers()
            yield member
        # tarfile takes a broken header for the end, and so a truncated archive for a shorter one.
        if len(stream.last_read) < tarfile.BLOCKSIZE or any(stream.last_read):
            _refuse("it is truncated or corrupt: the mark at the end of a tar is missing")


def _tar_pkg_infos(stream: _TarStream) -> Iterator[bytes]:
    """Yield the contents of each PKG-INFO in the top-level directory."""
    for member in _tar_members(stream):
        if not _is_pkg_info(member.name):
            continue
        if not member.isreg() or member.issparse():
            _refuse(f"{member.name} is not a regular file")
        _check_size(member.size, member.name)
        contents = stream.read_contents(member.size)
        if len(contents) < member.size:
            _refuse("it is truncated")
        yield contents


def _read_tar_metadata(source: _Source, parsed: ParsedFilename) -> bytes:
    for contents in _tar_pkg_infos(_open_tar(source, parsed)):
        return contents
    raise _RefusedError(_NO_PKG_INFO)


def _verify_tar(source: _Source, parsed: ParsedFilename) -> None:
    stream = _open_tar(source, parsed)
    count = sum(1 for _ in _tar_pkg_infos(stream))
    if not count:
        _refuse(_NO_PKG_INFO)
    if count > 1:
        _refuse(f"it has PKG-INFO {count} times")
    while stream.read_contents(CHUNK):  # the checksum is at the end
        pass


# Zips

_END = struct.Struct("<4s4H2LH")  # end of central directory record
_END64_LOCATOR = struct.Struct("<4sLQL")  # zip64 end of central directory locator
_END64 = struct.Struct("<4sQ2H2L4Q")  # zip64 end of central directory record
_ENTRY = struct.Struct("<4s6H3L5H2L")  # central directory header
_LOCAL = struct.Struct("<4s5H3L2H")  # local file header

_UTF8_NAME, _SIZES_FOLLOW = 0x0800, 0x0008  # flags
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000 | 0x0020  # the last: patched data, which no installer reads either
_STORED, _DEFLATED = 0, 8  # methods
_MAX_ZIP_VERSION = 63  # tenths; as in zipfile
_ZIP64_EXTRA, _NAME_EXTRA = 0x0001, 0x7075
_IN_ZIP64, _COUNT_IN_ZIP64 = 0xFFFFFFFF, 0xFFFF


class _Window:
    """A stream of which the tail and the block that was read last are kept."""

    def __init__(self, source: _Source, size: int, tail: bytes) -> None:
        self._source = source
        self.size = size
        self.tail = tail
        self._block_start, self._block = 0, b""

    def load(self, offset: int, length: int) -> None:
        """Make sure that these bytes are there, in one read."""
        if self._kept(offset, length) is None:
            self._block_start, self._block = offset, self._source.read_at(offset, length)

    def bytes_at(self, offset: int, length: int) -> bytes:
        if self._kept(offset, length) is None:
            self.load(offset, max(length, READ_AHEAD))
        data = self._kept(offset, length)
        if data is None:
            _refuse("it is truncated")
        return data

    def _kept(self, offset: int, length: int) -> bytes | None:
        for start, data in ((self._block_start, self._block), (self.size - len(self.tail), self.tail)):
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        return None

    def twin(self) -> _Window:
        """Return a second window, so that directory and contents can be read in turns."""
        return _Window(self._source, self.size, self.tail)


@dataclass(frozen=True, slots=True)
class _Zip:
    """Where the directory of a zip lies, which is also where the contents end."""

    window: _Window
    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of the directory."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    offset: int  # of the local header
    mode: int  # of the file system; 0 where there is none


def _open_zip(source: _Source) -> _Zip:
    size = source.size()
    tail = source.read_at(max(0, size - ZIP_TAIL), ZIP_TAIL)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        _refuse("it is truncated or not a zip: the end of a zip is missing")
    _, _, _, _, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        _refuse("it has bytes after the end of the zip")
    end = size - len(tail) + at
    if tail[:at][-_END64_LOCATOR.size :].startswith(b"PK\6\7"):
        end -= _END64_LOCATOR.size + _END64.size
        count, length, start = _widen_end(tail[:at], end, (count, length, start))
    # With bytes before the zip, readers disagree on what offsets count from.
    if start + length != end:
        _refuse("its zip directory is not where the end of the zip says")
    if length > MAX_ZIP_DIRECTORY:
        _refuse(f"its zip directory has {length} bytes, more than {MAX_ZIP_DIRECTORY}")
    return _Zip(_Window(source, size, tail), start, end, count)


def _widen_end(tail: bytes, offset: int, narrow: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return count, length and start of the directory from the zip64 record, which must lie at `offset`."""
    _, _, claimed_offset, _ = _END64_LOCATOR.unpack(tail[-_END64_LOCATOR.size :])
    record = tail[: -_END64_LOCATOR.size][-_END64.size :]
    if claimed_offset != offset or not record.startswith(b"PK\6\6"):
        _refuse("its zip64 record is not where the end of the zip says")
    _, _, _, _, _, _, _, count, length, start = _END64.unpack(record)
    for value, wide, unknown in zip(
        narrow, (count, length, start), (_COUNT_IN_ZIP64, _IN_ZIP64, _IN_ZIP64), strict=True
    ):
        if value not in (wide, unknown):
            _refuse("its zip64 record disagrees with the end of the zip")
    return count, length, start


def _zip_members(archive: _Zip) -> Iterator[_Member]:
    """Yield the directory, having checked that its members lie side by side between the start and the directory."""
    position, count, taken = archive.start, 0, 0
    while position < archive.end:
        member, position = _read_entry(archive, position)
        count += 1
        least = _LOCAL.size + len(member.raw_name) + member.packed_size
        taken += least
        if member.offset + least > archive.start or taken > archive.start:
            _refuse("its members overlap each other or the zip directory")
        yield member
    if position != archive.end or count & _COUNT_IN_ZIP64 != archive.count & _COUNT_IN_ZIP64:
        _refuse("its zip directory has not the length that the end of the zip says")


def _read_entry(archive: _Zip, position: int) -> tuple[_Member, int]:
    """Read one entry; return it and the position of the next."""
    fields = _ENTRY.unpack(archive.window.bytes_at(position, _ENTRY.size))
    signature, _, needs, flags, method, _, _, crc, packed_size, size, *lengths, _, _, attributes, offset = fields
    if signature != b"PK\1\2":
        _refuse("its zip directory is corrupt")
    if needs & 0xFF > _MAX_ZIP_VERSION:
        _refuse(f"it needs version {needs & 0xFF} of zip; installers read up to {_MAX_ZIP_VERSION}")
    rest = archive.window.bytes_at(position + _ENTRY.size, sum(lengths))
    raw_name, extra = rest[: lengths[0]], rest[lengths[0] : lengths[0] + lengths[1]]
    name, extras = raw_name.decode("utf-8" if flags & _UTF8_NAME else "cp437"), _read_extras(extra)
    _check_name(name, extras)
    size, packed_size, offset = _widen((size, packed_size, offset), extras)
    member = _Member(name, raw_name, flags, method, crc, packed_size, size, offset, attributes >> 16)
    return member, position + _ENTRY.size + sum(lengths)


def _check_name(name: str, extras: dict[int, bytes]) -> None:
    """Refuse names of metadata that readers understand differently."""
    # zipfile cuts names at NUL; on Windows it takes backslashes for slashes; from Python 3.12 on it obeys _NAME_EXTRA.
    names = name.encode() + extras.get(_NAME_EXTRA, b"")
    if "\0" in name or ((b".dist-info" in names or b"PKG-INFO" in names) and (b"\\" in names or _NAME_EXTRA in extras)):
        _refuse(f"the name of its member {name!r} can be read in two ways")


def _read_extras(data: bytes) -> dict[int, bytes]:
    extras: dict[int, bytes] = {}
    while len(data) >= 4:  # tag and length
        tag, length = struct.unpack_from("<2H", data)
        if 4 + length > len(data):
            _refuse("an extra field in its zip directory is truncated")
        extras.setdefault(tag, data[4 : 4 + length])
        data = data[4 + length :]
    return extras


def _widen(narrow: tuple[int, ...], extras: dict[int, bytes]) -> list[int]:
    """Return the values, with those that stand in the zip64 field instead taken from there, in order."""
    wide = extras.get(_ZIP64_EXTRA)
    values = []
    for value in narrow:
        if value == _IN_ZIP64 and wide is not None:
            values.append(struct.unpack_from("<Q", wide)[0])
            wide = wide[8:]
        else:
            values.append(value)
    return values


def _check_readable(member: _Member) -> None:
    if member.flags & _ENCRYPTED:
        _refuse(f"{member.name} is encrypted or patched")
    # Installers have dropped or never had the other methods: https://github.com/astral-sh/uv/pull/18927
    if member.method not in (_STORED, _DEFLATED):
        _refuse(f"{member.name} is compressed by method {member.method}; installers read stored (0) and deflated (8)")


def _readable(archive: _Zip) -> Iterator[_Member]:
    for member in _zip_members(archive):
        _check_readable(member)
        yield member


def _unpacked(archive: _Zip) -> Iterator[_Member]:
    """Yield the members, each after it was unpacked and found whole."""
    window, claimed = archive.window.twin(), 0
    for member in _zip_members(archive):
        claimed += member.size
        _check_unpacked(claimed, window.size)
        for _ in _unpack(archive, window, member):
            pass
        yield member


def _unpack(archive: _Zip, window: _Window, member: _Member) -> Iterator[bytes]:
    """Yield the contents of a member in chunks; refuse it where size or checksum are not those of the directory."""
    _check_readable(member)
    blocks = _packed_blocks(archive, window, member)
    chunks = blocks if member.method == _STORED else _decompress_one(_Zlib(_RAW_DEFLATE), next(blocks, b""), blocks)
    size = crc = 0
    for chunk in chunks:
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if size > member.size:
            break
        yield chunk
    if (size, crc) != (member.size, member.crc):
        _refuse(f"{member.name} is corrupt: it has not the size and checksum that the zip directory says")


def _packed_blocks(archive: _Zip, window: _Window, member: _Member) -> Iterator[bytes]:
    position = _contents_offset(window, member)
    end = position + member.packed_size
    if end > archive.start:
        _refuse(f"{member.name} overlaps the zip directory")
    while position < end:
        yield window.bytes_at(position, min(CHUNK, end - position))
        position += CHUNK


def _contents_offset(window: _Window, member: _Member) -> int:
    """Return where the contents begin; refuse a local header that says something else than the directory.

    Some readers go by the one, some by the other.
    """
    header = window.bytes_at(member.offset, _LOCAL.size)
    signature, _, flags, method, _, _, crc, packed_size, size, *lengths = _LOCAL.unpack(header)
    rest = window.bytes_at(member.offset + _LOCAL.size, sum(lengths))
    raw_name, extra = rest[: lengths[0]], rest[lengths[0] :]
    agrees = signature == b"PK\3\4" and raw_name == member.raw_name and method == member.method
    if agrees and not flags & _SIZES_FOLLOW:
        size, packed_size = _widen((size, packed_size), _read_extras(extra))
        agrees = (crc, packed_size, size) == (member.crc, member.packed_size, member.size)
    if not agrees or flags & _ENCRYPTED:
        _refuse(f"{member.name} disagrees with the zip directory")
    return member.offset + _LOCAL.size + len(rest)


def _read_zip_metadata(source: _Source, find: Callable[[Iterator[_Member]], _Member]) -> bytes:
    archive = _open_zip(source)
    member = find(_zip_members(archive))
    _check_size(max(member.size, member.packed_size), member.name)
    # One read for header and contents; the header may have a few more bytes than the directory tells.
    length = _LOCAL.size + len(member.raw_name) + member.packed_size + 64
    archive.window.load(member.offset, min(length, archive.start - member.offset))
    return b"".join(_unpack(archive, archive.window, member))


def _find_in_dist_info(members: Iterator[_Member], parsed: ParsedFilename, names: tuple[str, ...]) -> list[_Member]:
    """Return these files of the one top-level `.dist-info` directory, which must be that of the project."""
    directories: set[str] = set()
    found: dict[str, _Member] = {}
    for member in members:
        directory, _, rest = member.name.partition("/")
        if not directory.endswith(".dist-info"):
            continue
        directories.add(directory)
        if len(directories) > 1:
            _refuse(f"it has more than one .dist-info directory: {', '.join(sorted(directories))}")
        if rest in _WHEEL_MUST_HAVE:
            _check_once(member, found.get(rest))
            found[rest] = member
    if not directories:
        _refuse("it has no .dist-info directory, which every wheel must have")
    _check_dist_info_name(directories.pop(), parsed)
    missing = [name for name in names if name not in found]
    if missing:
        _refuse(f"its .dist-info directory has no {missing[0]}, which every wheel must have")
    return [found[name] for name in names]


def _check_dist_info_name(directory: str, parsed: ParsedFilename) -> None:
    """Compare the name as pip does; the version is compared in METADATA."""
    if not f"{canonicalize_name(directory.removesuffix('.dist-info'))}-".startswith(f"{parsed.project}-"):
        _refuse(f"its {directory} is not that of the project {parsed.project!r} in its filename")


def _check_once(member: _Member, earlier: _Member | None) -> None:
    if earlier is not None:
        _refuse(f"it has {member.name} twice")
    if member.name.endswith("/") or stat.S_IFMT(member.mode) not in (0, stat.S_IFREG):
        _refuse(f"{member.name} is not a regular file")


def _find_pkg_info(members: Iterator[_Member]) -> _Member:
    found: _Member | None = None
    for member in members:
        if _is_pkg_info(member.name.removesuffix("/")):
            _check_once(member, found)
            found = member
    if found is None:
        _refuse(_NO_PKG_INFO)
    return found
