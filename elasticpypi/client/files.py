"""Files that are to be uploaded, read as an index will read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from elasticpypi.digests import hex_digest
from elasticpypi.errors import UploadFailedError
from elasticpypi.index import prove_alone
from elasticpypi.names import ParsedFilename, parse_filename

Progress = Callable[[int], None]  # is told how many bytes of a file have been sent

_CHUNK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was read and found good."""

    path: Path
    parsed: ParsedFilename
    size: int  # bytes
    sha256: str

    @property
    def filename(self) -> str:
        return self.parsed.filename


def check_file(path: Path) -> CheckedFile:
    """Read a file as an index will; raise InvalidFilenameError or InvalidUploadError where it would be refused."""
    parsed = parse_filename(path.name)
    with path.open("rb") as stream:
        sha256 = hex_digest(stream, "sha256")
        size = stream.tell()
        prove_alone(path.name, stream, sha256)
    return CheckedFile(path, parsed, size, sha256)


class Part:
    """A part of a file as the body of a request, which tells how far it has come."""

    def __init__(self, stream: BinaryIO, offset: int, size: int, progress: Progress) -> None:
        """`progress` is told positions in the file."""
        stream.seek(offset)
        self._stream = stream
        self._position = offset
        self._end = offset + size
        self._size = size
        self._progress = progress

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # by which requests knows that this is to be streamed
        return iter(lambda: self.read(_CHUNK_BYTES), b"")

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._position
        data = self._stream.read(left if size < 0 else min(size, left))
        if left and not data:
            raise UploadFailedError("the file has become shorter while it was sent; build it again")
        self._position += len(data)
        self._progress(self._position)
        return data
