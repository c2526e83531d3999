"""An object of S3 as a file that can be read anywhere, by few requests and in constant memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from elasticpypi.errors import StorageError
from elasticpypi.storage import StoredObject
from elasticpypi.storage.s3.bucket import Bucket, etag_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SKIPPED_BYTES = 64 * 1024  # rather read over than asked for anew
_ATTEMPTS = 4  # at going on where a connection broke


class ObjectReader(io.RawIOBase):
    """A file over an object that `find` returns, called when something is first read or asked.

    What is read first, or somewhere else, is one request for just these bytes. Whoever reads on from there gets them
    out of a single request for the rest, so that reading all of it takes two requests, whatever the size.
    """

    def __init__(self, bucket: Bucket, find: Callable[[], StoredObject]) -> None:
        self._bucket = bucket
        self._find = find
        self._found: StoredObject | None = None
        self._position = 0
        self._start, self._block = 0, b""  # what was read last
        self._body: Any = None  # a request for the rest, standing at the end of the block

    @property
    def _object(self) -> StoredObject:
        if self._found is None:
            self._found = self._find()
        return self._found

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (self._object.size if start is None else start))
        return self._position

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: ReadableBuffer, /) -> int:
        raise io.UnsupportedOperation("an object is read only")

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._object.size - self._position)
        size = left if size < 0 else min(size, left)
        data = self._overlap(size)
        if len(data) < size:
            data += self._fetch(self._position + len(data), size - len(data))
            self._start, self._block = self._position, data
        self._position += len(data)
        return data

    def close(self) -> None:
        self._stop()
        super().close()

    def _overlap(self, size: int) -> bytes:
        """Return what was read last of the bytes that are asked for: archives are read in blocks that overlap."""
        offset = self._position - self._start
        return self._block[offset : offset + size] if 0 <= offset <= len(self._block) else b""

    def _fetch(self, first: int, size: int) -> bytes:
        skipped = first - self._start - len(self._block)
        if not self._block or not 0 <= skipped <= (0 if self._body is None else _SKIPPED_BYTES):
            self._stop()
            last = first + size - 1
            return self._take(first, size, lambda start: self._ask(start, last))
        data = self._take(first - skipped, skipped + size, self._ask, is_rest=True)
        return data[skipped:]

    def _take(self, first: int, size: int, ask: Callable[[int], Any], *, is_rest: bool = False) -> bytes:
        """Read from a request, asking once more from there where the connection breaks."""
        parts: list[bytes] = []
        attempts = _ATTEMPTS
        body = self._body if is_rest else None
        while size:
            try:
                body = body or ask(first)
                part = body.read(size)
            except (BotoCoreError, OSError):
                part = b""
            if part:
                first, size, attempts = first + len(part), size - len(part), _ATTEMPTS
                parts.append(part)
            else:
                _close(body)
                body, attempts = None, attempts - 1
                if not attempts:
                    raise StorageError("the connection to S3 breaks again and again; try again in a moment")
        if is_rest:
            self._body = body
        else:
            _close(body)
        return b"".join(parts)

    def _ask(self, first: int, last: int | None = None) -> Any:
        obj = self._object
        return self._bucket.get(obj.key, etag=etag_of(obj.fingerprint), first=first, last=last)["Body"]

    def _stop(self) -> None:
        _close(self._body)
        self._body = None


def _close(body: Any) -> None:
    if body is not None:
        with suppress(BotoCoreError, OSError):
            body.close()
