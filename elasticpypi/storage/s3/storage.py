"""The storage in an S3 bucket: a key is an object's key, and files may be put there by anybody who is allowed to.

Below `.elasticpypi/` lie our own things:

    uploads/<token>     what is on its way in by signed requests
    pages/…             pages that are too large for the catalog: made anew when they are missing
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256 as sha256_of
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError

from elasticpypi.aws import AWS
from elasticpypi.errors import ConflictError, ObjectMissingError, StorageError, UnreadableObjectError
from elasticpypi.names import RESERVED_PREFIX
from elasticpypi.storage import NO_HEADERS, Document, SignedURL, Slot, StoredObject
from elasticpypi.storage.s3.bucket import STAGING_PREFIX, Bucket, is_key, make_fingerprint, modified_at
from elasticpypi.storage.s3.incoming import Draft, Limits, Staged, drop_staged, find_staged, open_draft
from elasticpypi.storage.s3.multipart import abort_upload, begin_upload, divide, find_upload, sign_missing
from elasticpypi.storage.s3.reading import ObjectReader

# What `notes` leaves out, whole directories of it without reading through them.
_PASSING = (STAGING_PREFIX, f"{RESERVED_PREFIX}pages/", f"{RESERVED_PREFIX}watch-probe/")
_PASSING_KEYS = {f"{RESERVED_PREFIX}lock", f"{RESERVED_PREFIX}backup.json"}
_LAST = "~"  # comes after every character that our own keys are made of
_ABANDONED = timedelta(hours=24)
_DOCUMENT_BYTES = 16 * 2**20
_DOCUMENT_ATTEMPTS = 3
_PUT_SECONDS = 3600  # in which a signed request must begin
_PUTS = 100  # signed at once
# A download is signed for the beginning of ten minutes, so that the same URL comes again in them, and may begin until
# twenty minutes after their end.
_WINDOW_SECONDS = 600
_DOWNLOAD_SECONDS = 1800


class S3Storage:
    """A `Storage` in a bucket."""

    def __init__(
        self, aws: AWS, bucket: str, *, limits: Limits | None = None, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._bucket = Bucket(aws, bucket)
        self._limits = limits or Limits()
        self._clock = clock or _now

    @property
    def upload_origin(self) -> str:
        return self._bucket.origin

    def check(self) -> None:
        self._bucket.check()

    def stat(self, key: str) -> StoredObject:
        return self._bucket.head(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._list(prefix, (RESERVED_PREFIX,))

    def _list(self, prefix: str, left_out: tuple[str, ...]) -> Iterator[StoredObject]:
        """Yield what lies under a prefix, jumping over what begins with one of some others."""
        if prefix.startswith(left_out):
            return
        jumped: set[str] = set()
        after: str | None = ""
        while after is not None:
            start, after = after, None
            for obj in self._bucket.list(prefix, after=start):
                over = next((other for other in left_out if obj.key.startswith(other)), None)
                if over is None:
                    if is_key(obj.key):
                        yield obj
                elif over not in jumped:
                    jumped.add(over)
                    after = over + _LAST
                    break

    def is_settled(self, obj: StoredObject) -> bool:
        return True  # an object appears when all of it is there

    @contextmanager
    def open(self, obj: StoredObject) -> Iterator[BinaryIO]:
        with ObjectReader(self._bucket, lambda: obj) as reader:
            yield cast(BinaryIO, reader)

    def upload_time(self, obj: StoredObject, sha256: str) -> datetime:
        return modified_at(obj.fingerprint)

    def receive(self, *, resuming: str | None = None) -> AbstractContextManager[Draft | Staged]:
        return open_draft(self._bucket, self._limits) if resuming is None else self._resume(_staging_key(resuming))

    @contextmanager
    def _resume(self, key: str) -> Iterator[Staged]:
        staged = Staged(self._bucket, self._limits, self._find(key))
        with staged.stream:
            yield staged

    def _find(self, key: str) -> Any:
        try:
            return find_staged(self._bucket, key)
        except ObjectMissingError:
            upload = find_upload(self._bucket, key)
            if upload is not None:
                return upload
            return find_staged(self._bucket, key)  # perhaps completed between the two

    def begin(self, token: str, *, size: int, sha256: str) -> Slot:
        key = _staging_key(token)
        try:
            staged = find_staged(self._bucket, key)
        except ObjectMissingError:
            pass
        else:
            if staged.size == size and staged.sha256 in (sha256, None):
                return Slot(size, ())
            drop_staged(self._bucket, key, in_parts=True)
        if size > self._limits.single_bytes:
            return self._begin_in_parts(key, size)
        put = self._bucket.sign_put(key, offset=0, size=size, valid_seconds=_PUT_SECONDS, sha256=sha256)
        return Slot(0, (put,))

    def _begin_in_parts(self, key: str, size: int) -> Slot:
        upload = find_upload(self._bucket, key)
        if upload is None:
            begin_upload(self._bucket, key)
            upload = find_upload(self._bucket, key)  # others may have begun it too: all take the same one
        if upload is None:
            raise ObjectMissingError("the upload")
        division = divide(size, self._limits.part_bytes)
        received, puts = sign_missing(self._bucket, upload, division, most=_PUTS, valid_seconds=_PUT_SECONDS)
        return Slot(received, puts)

    def received(self, token: str) -> int:
        size: int = self._find(_staging_key(token)).size
        return size

    def remove_abandoned(self) -> None:
        """Remove what was staged and never finished; a lifecycle rule of the bucket does so too."""
        limit = self._clock() - _ABANDONED
        permission = "s3:ListBucketMultipartUploads"
        for page in self._bucket.pages("list_multipart_uploads", permission=permission, Prefix=STAGING_PREFIX):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] < limit:
                    abort_upload(self._bucket, upload["Key"], upload["UploadId"])
        for obj in self._bucket.list(STAGING_PREFIX):
            if modified_at(obj.fingerprint) < limit:
                self._bucket.delete(obj.key)

    def read_document(self, key: str) -> Document:
        for _ in range(_DOCUMENT_ATTEMPTS):
            found = self._bucket.get(key)
            with closing(found["Body"]) as body:
                if found["ContentLength"] > _DOCUMENT_BYTES:
                    size = found["ContentLength"]
                    raise UnreadableObjectError(key, f"it has {size} bytes, at most {_DOCUMENT_BYTES} are read")
                try:
                    data = body.read()
                except (BotoCoreError, OSError):
                    continue  # the connection broke
                return Document(data, make_fingerprint(found["ETag"], found["LastModified"]))
        raise StorageError("the connection to S3 breaks again and again; try again in a moment")

    def write_document(
        self, key: str, data: bytes, *, replacing: str | None, headers: Mapping[str, str] = NO_HEADERS
    ) -> StoredObject:
        digest = sha256_of(data).hexdigest()
        return self._bucket.put(
            key, io.BytesIO(data), size=len(data), sha256=digest, replacing=replacing, headers=headers
        )

    def remove(self, key: str, *, fingerprint: str) -> None:
        if self.stat(key).fingerprint != fingerprint:
            raise ConflictError(key)
        self._bucket.delete(key, fingerprint=fingerprint)

    def notes(self, about: str | None = None) -> Iterator[str]:
        # None is about one object: the time at which it came is S3's own.
        if about is None:
            for obj in self._list(RESERVED_PREFIX, _PASSING):
                if obj.key not in _PASSING_KEYS and not obj.key.endswith(".new"):
                    yield obj.key

    def free_bytes(self) -> int | None:
        return None

    def download(self, key: str, fingerprint: str) -> SignedURL:
        if not is_key(key):
            raise ObjectMissingError(key)
        now = int(self._clock().timestamp())
        start = datetime.fromtimestamp(now - now % _WINDOW_SECONDS, UTC)
        return SignedURL(self._bucket.sign_get(key, at=start, valid_seconds=_DOWNLOAD_SECONDS))


def _staging_key(token: str) -> str:
    return f"{STAGING_PREFIX}{token}"


def _now() -> datetime:
    return datetime.now(UTC)
