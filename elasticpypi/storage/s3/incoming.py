"""Objects on their way into a bucket: through us, or brought to a staging key by signed requests."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from elasticpypi.errors import ObjectMissingError, StorageError, StorageFullError
from elasticpypi.storage import StoredObject
from elasticpypi.storage.s3.bucket import Bucket
from elasticpypi.storage.s3.multipart import (
    Upload,
    abort_upload,
    complete_upload,
    copy_in_parts,
    divide,
    find_upload,
    send_in_parts,
)
from elasticpypi.storage.s3.reading import ObjectReader

# What fits through API Gateway stays in memory.
_MEMORY_BYTES = 8 * 2**20
_BEGUN_AT_ONCE = 10  # uploads to one key; a lifecycle rule removes what is left


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on S3 wants parts, and how large ours are."""

    single_bytes: int = 5 * 2**30  # of one request that writes or copies
    part_bytes: int = 64 * 2**20
    copied_part_bytes: int = 128 * 2**20  # copied in seconds


class Draft:
    """An `Incoming` through us, in memory or, where it is larger, in a temporary file."""

    def __init__(self, bucket: Bucket, limits: Limits, stream: BinaryIO) -> None:
        self._bucket = bucket
        self._limits = limits
        self.stream = stream
        self.size = 0
        self.sha256: str | None = None
        self._written = 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        with _translated():
            self.stream.seek(self._written)
            written = self.stream.write(data)
        self._digest.update(data)
        self._written += written
        return written

    def publish(self, key: str, *, replacing: str | None = None) -> StoredObject:
        if self._written > self._limits.single_bytes:
            division = divide(self._written, self._limits.part_bytes)
            return send_in_parts(self._bucket, key, self.stream, division, replacing=replacing)
        digest = self._digest.hexdigest()
        return self._bucket.put(key, self.stream, size=self._written, sha256=digest, replacing=replacing)

    def drop(self) -> None:
        pass  # nobody else can see it, and it goes when the context ends


@contextmanager
def open_draft(bucket: Bucket, limits: Limits) -> Iterator[Draft]:
    """Begin an object that comes through us."""
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as stream:
        yield Draft(bucket, limits, cast(BinaryIO, stream))


class Staged:
    """An `Incoming` whose bytes lie under a staging key. Several may publish it at once: S3 decides which one does."""

    def __init__(self, bucket: Bucket, limits: Limits, found: StoredObject | Upload) -> None:
        self._bucket = bucket
        self._limits = limits
        self._key = found.key
        self._found = found
        self._is_over = False
        self.size = found.size
        self.sha256 = found.sha256 if isinstance(found, StoredObject) else None
        self.stream = cast(BinaryIO, ObjectReader(bucket, self._complete))

    def _complete(self) -> StoredObject:
        """Return the object, made of its parts when somebody first asks for it: whoever finds some missing does not."""
        if isinstance(self._found, Upload):
            with suppress(ObjectMissingError):  # somebody else has completed it
                complete_upload(self._bucket, self._found)
            self._found = find_staged(self._bucket, self._key)
        return self._found

    def write(self, data: bytes, /) -> int:
        raise StorageError("the bytes of this upload go straight to S3: ask for a slot, and send them where it says")

    def publish(self, key: str, *, replacing: str | None = None) -> StoredObject:
        source = self._complete()
        if source.size > self._limits.single_bytes:
            division = divide(source.size, self._limits.copied_part_bytes)
            published = copy_in_parts(self._bucket, source, key, division, replacing=replacing)
        else:
            published = self._bucket.copy(source, key, replacing=replacing)
        with suppress(StorageError):  # it is done; what is left is removed by `remove_abandoned` or a lifecycle rule
            self.drop()
        return published

    def drop(self) -> None:
        if not self._is_over:
            drop_staged(self._bucket, self._key, in_parts=self.size > self._limits.single_bytes or self.sha256 is None)
            self._is_over = True


def drop_staged(bucket: Bucket, key: str, *, in_parts: bool) -> None:
    """Remove what lies under a staging key; `in_parts` says that it may do so in parts."""
    with suppress(ObjectMissingError):
        bucket.delete(key)
    if in_parts:
        for _ in range(_BEGUN_AT_ONCE):
            upload = find_upload(bucket, key)
            if upload is None:
                break
            abort_upload(bucket, key, upload.id)


def find_staged(bucket: Bucket, key: str) -> StoredObject:
    """Look at a staged object; ObjectMissingError, without the key, which is a secret."""
    try:
        return bucket.head(key)
    except ObjectMissingError as error:
        raise ObjectMissingError("the upload") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"there is no room for an upload: make some in {tempfile.gettempdir()}") from error
        raise StorageError(f"an upload cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from error
