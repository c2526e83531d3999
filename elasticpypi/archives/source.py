"""What every archive is read through: few reads of its stream, limits on what it may claim, and one error for it."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NoReturn

from elasticpypi.errors import ArchiveError
from elasticpypi.names import ParsedFilename

MAX_CORE_METADATA = 16 << 20  # 16 MiB
MAX_ZIP_DIRECTORY = 16 << 20  # 16 MiB
MAX_ZIP_MEMBERS = 65_536  # for which zipfile takes 60 MB
MAX_TAR_HEADERS = 64 << 10  # 64 KiB for all the headers of one member
MAX_XZ_MEMORY = 72 << 20  # 72 MiB; what `xz -9` makes takes 65
MAX_UNPACKED = 1 << 30  # 1 GiB, or if that is more:
MAX_RATIO = 200  # unpacked bytes for each packed one
# 1 GiB unpacked, in which PKG-INFO of an sdist must have come: setuptools writes it first, but flit, hatchling and
# poetry write it last, behind whatever data there is. Without a bound, a dump of a database would be read to its end.
MAX_BEFORE_PKG_INFO = 1 << 30

READ_AHEAD = 256 << 10  # 256 KiB: of most wheels the whole directory, and METADATA too, which should be last
CHUNK = 64 << 10  # 64 KiB

# What the libraries raise on broken bytes; bz2 and gzip raise OSError.
_CORRUPT = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(ValueError, ArithmeticError, LookupError, RuntimeError),
)


class RefusedError(Exception):
    """Carries the reason to `refusing_corrupt`, which knows the filename."""


def refuse(reason: str) -> NoReturn:
    """Refuse the archive for this reason, within `refusing_corrupt`."""
    raise RefusedError(reason)


class Source(io.RawIOBase):
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
            refuse(f"its zip directory has {size} bytes, more than {MAX_ZIP_DIRECTORY}")
        if self._position < self._start or self._position + size > self._start + len(self._block):
            self._load(size)
        start = self._position - self._start
        data = self._block[start : start + size]
        self._position += len(data)
        if data.count(b"PK\1\2") > MAX_ZIP_MEMBERS:  # each entry of a directory begins so
            refuse(f"it has more than {MAX_ZIP_MEMBERS} members")
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
def refusing_corrupt(stream: BinaryIO, parsed: ParsedFilename) -> Iterator[Source]:
    """Translate every error that an archive can cause to ArchiveError."""
    source = Source(stream)
    try:
        yield source
    except (RefusedError, *_CORRUPT) as error:
        if source.failure is not None:  # zipfile takes some for errors of the archive
            raise source.failure from None
        corrupt = "" if isinstance(error, RefusedError) else "it is corrupt or of another format than its name says: "
        raise ArchiveError(parsed.filename, f"{corrupt}{error}") from error


def check_unpacked(unpacked: int, source: Source) -> None:
    """Refuse an archive that has unpacked to so many bytes, if it is too small for that."""
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * source.size):
        refuse(f"it unpacks from {source.size} bytes to {unpacked} or more: no distribution is compressed like that")


def check_size(size: int, name: str) -> None:
    """Refuse core metadata of so many bytes, if that is too many."""
    if size > MAX_CORE_METADATA:
        refuse(f"{name} has {size} bytes, more than {MAX_CORE_METADATA}")
