"""What is too large for one request to S3, in parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from elasticpypi.errors import ConflictError, ObjectMissingError, StorageError
from elasticpypi.storage import SignedPut, StoredObject
from elasticpypi.storage.s3.bucket import Bucket, condition, etag_of

MAX_PARTS = 10_000
_MIB = 2**20
_COPYING = 8  # parts at once; S3 copies each, so that they cost us nothing


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has come."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was begun and not completed."""

    key: str
    id: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return sum(part.size for part in self.parts)


def find_upload(bucket: Bucket, key: str) -> Upload | None:
    """Return the upload to a key; of several, the same one for everybody."""
    found = [
        (upload["Initiated"], upload["UploadId"])
        for page in bucket.pages("list_multipart_uploads", permission="s3:ListBucketMultipartUploads", Prefix=key)
        for upload in page.get("Uploads", ())
        if upload["Key"] == key
    ]
    if not found:
        return None
    _, upload_id = min(found)
    try:
        return Upload(key, upload_id, tuple(_list_parts(bucket, key, upload_id)))
    except ObjectMissingError:
        return None  # completed or aborted since


def _list_parts(bucket: Bucket, key: str, upload_id: str) -> Iterator[Part]:
    permission = "s3:ListMultipartUploadParts"
    for page in bucket.pages("list_parts", key=key, permission=permission, Key=key, UploadId=upload_id):
        for part in page.get("Parts", ()):
            yield Part(part["PartNumber"], part["Size"], part["ETag"])


def begin_upload(bucket: Bucket, key: str) -> str:
    """Begin a multipart upload and return its id."""
    upload_id: str = bucket.ask("create_multipart_upload", key)["UploadId"]
    return upload_id


def abort_upload(bucket: Bucket, key: str, upload_id: str) -> None:
    """Forget an upload, if it is still there."""
    with suppress(ObjectMissingError):
        bucket.ask("abort_multipart_upload", key, permission="s3:AbortMultipartUpload", UploadId=upload_id)


def complete_upload(bucket: Bucket, upload: Upload) -> None:
    """Make an object of the parts that have come; ObjectMissingError where somebody else has just done so."""
    parts = _listed(upload.parts)
    bucket.ask("complete_multipart_upload", upload.key, size=upload.size, UploadId=upload.id, MultipartUpload=parts)


@dataclass(frozen=True, slots=True)
class Division:
    """How so many bytes are cut into parts."""

    size: int
    part_bytes: int

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield number, offset and size of each part."""
        for offset in range(0, self.size, self.part_bytes):
            yield offset // self.part_bytes + 1, offset, min(self.part_bytes, self.size - offset)


def divide(size: int, part_bytes: int) -> Division:
    """Cut into parts of `part_bytes`, or larger ones (whole MiB) where those were too many."""
    least = -(-size // MAX_PARTS)
    return Division(size, max(part_bytes, -(-least // _MIB) * _MIB))


def sign_missing(
    bucket: Bucket, upload: Upload, division: Division, *, most: int, valid_seconds: int
) -> tuple[int, tuple[SignedPut, ...]]:
    """Return how many bytes have come as they should, and the first requests that bring the others."""
    come = {(part.number, part.size) for part in upload.parts}
    received = 0
    puts: list[SignedPut] = []
    for number, offset, size in division.parts():
        if (number, size) in come:
            received += size
        elif len(puts) < most:
            request = {"offset": offset, "size": size, "valid_seconds": valid_seconds}
            puts.append(bucket.sign_part(upload.key, upload.id, number, **request))
    return received, tuple(puts)


def send_in_parts(
    bucket: Bucket, key: str, stream: IO[bytes], division: Division, *, replacing: str | None
) -> StoredObject:
    """Write an object out of a stream, part after part; ConflictError."""

    def send(upload_id: str) -> Iterator[Part]:
        stream.seek(0)
        for number, _, size in division.parts():
            body = io.BytesIO(stream.read(size))
            sent = bucket.ask("upload_part", key, size=division.size, UploadId=upload_id, PartNumber=number, Body=body)
            yield Part(number, size, sent["ETag"])

    return _write(bucket, key, send, size=division.size, replacing=replacing)


def copy_in_parts(
    bucket: Bucket, source: StoredObject, key: str, division: Division, *, replacing: str | None
) -> StoredObject:
    """Copy an object of any size; ConflictError, and as `Bucket.source_lost` says."""

    def copy(upload_id: str) -> Iterator[Part]:
        def copy_part(part: tuple[int, int, int]) -> Part:
            number, offset, size = part
            copied = bucket.ask(
                "upload_part_copy",
                key,
                size=source.size,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": bucket.name, "Key": source.key},
                CopySourceIfMatch=etag_of(source.fingerprint),
                CopySourceRange=f"bytes={offset}-{offset + size - 1}",
            )
            return Part(number, size, copied["CopyPartResult"]["ETag"])

        with ThreadPoolExecutor(_COPYING) as pool:
            yield from pool.map(copy_part, division.parts())

    try:
        return _write(bucket, key, copy, size=source.size, replacing=replacing)
    except (ConflictError, ObjectMissingError) as error:
        raise bucket.source_lost(source, key, replacing=replacing) or ConflictError(key) from error


def _write(
    bucket: Bucket, key: str, bring: Callable[[str], Iterator[Part]], *, size: int, replacing: str | None
) -> StoredObject:
    upload_id = begin_upload(bucket, key)
    with _aborted_on_error(bucket, key, upload_id):
        parts = tuple(bring(upload_id))

        def complete() -> str:
            etag: str = (
                bucket.client_for(size)
                .complete_multipart_upload(
                    Bucket=bucket.name,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload=_listed(parts),
                    **condition(replacing),
                )
                .get("ETag", "")
            )
            return etag

        return bucket.write_on_condition(key, complete)


@contextmanager
def _aborted_on_error(bucket: Bucket, key: str, upload_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(StorageError):  # what made it fail tells more; a lifecycle rule removes it
            abort_upload(bucket, key, upload_id)
        raise


def _listed(parts: tuple[Part, ...]) -> Any:
    return {"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]}
