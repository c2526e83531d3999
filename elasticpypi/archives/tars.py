"""Tars that may be hostile: read forwards, through streams that grant tarfile no more than an honest one needs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from elasticpypi.archives.source import CHUNK, MAX_TAR_HEADERS, MAX_XZ_MEMORY, Source, check_unpacked, refuse
from elasticpypi.names import ParsedFilename


class Xz:
    """What an .xz unpacks to; unlike lzma.LZMAFile it has a bound on the memory that a header can claim."""

    def __init__(self, source: Source) -> None:
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
                packed = self._source.read(CHUNK) or refuse("it is truncated")
            chunk = self._decompressor.decompress(packed, size)
            packed = b""
        return chunk


class TarStream:
    """The contents of a tar as tarfile wants it: read forwards only, and no more than the headers of a member need."""

    def __init__(self, unpacked: gzip.GzipFile | bz2.BZ2File | Xz, source: Source) -> None:
        self._unpacked = unpacked
        self._source = source
        self._position = 0
        self.granted = MAX_TAR_HEADERS
        self.refused_from: tuple[int, str] | None = None  # the position from which it is, and why
        self.last_read = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Go forwards; past the end, if the tar says so: the next read tells."""
        if position < self._position:
            refuse("a member begins before the end of the one before it")
        while self._position < position and self.read_contents(min(position - self._position, CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Read for tarfile, whatever size a header has claimed."""
        self.granted -= size
        if size < 0 or self.granted < 0:
            refuse(f"a member has more than {MAX_TAR_HEADERS} bytes of headers")
        self.last_read = self.read_contents(size)
        return self.last_read

    def read_contents(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        parts = []
        while size and (part := self._unpacked.read(size)):
            parts.append(part)
            size -= len(part)
            self._position += len(part)
            check_unpacked(self._position, self._source)
            if self.refused_from is not None and self._position > self.refused_from[0]:
                refuse(self.refused_from[1])
        return b"".join(parts)


def open_tar(source: Source, parsed: ParsedFilename) -> TarStream:
    """Open a tar, compressed as its filename says."""
    file = cast(BinaryIO, source)
    if parsed.filename.endswith(".gz"):
        return TarStream(gzip.GzipFile(fileobj=file, mode="rb"), source)
    if parsed.filename.endswith(".bz2"):
        return TarStream(bz2.BZ2File(file), source)
    return TarStream(Xz(source), source)


def members(stream: TarStream) -> Iterator[tarfile.TarInfo]:
    """Yield the members, the stream standing where the contents of each begin."""
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:", encoding="utf-8") as tar:
        while member := tar.next():
            # tarfile keeps all members, and global headers for ever.
            tar.members.clear()  # type: ignore[attr-defined]  # not in typeshed
            if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > MAX_TAR_HEADERS:
                refuse(f"it has more than {MAX_TAR_HEADERS} bytes of global headers")
            stream.granted = MAX_TAR_HEADERS
            yield member
        # tarfile takes a broken header for the end, and so a truncated archive for a shorter one.
        if len(stream.last_read) < tarfile.BLOCKSIZE or any(stream.last_read):
            refuse("it is truncated or corrupt: the mark at the end of a tar is missing")
