"""The requests to one bucket, each a method, with S3's errors as ours.

Specification: the S3 API reference; on conditions, "Add preconditions to S3 operations with conditional requests" in
the user guide.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from elasticpypi.aws import AWS, error_code
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ElasticpypiError,
    ObjectMissingError,
    StorageError,
    UnreadableObjectError,
)
from elasticpypi.names import RESERVED_PREFIX
from elasticpypi.storage import NO_HEADERS, SignedPut, StoredObject
from elasticpypi.storage.s3.signing import Credentials, object_url, sign_url

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")
MAX_KEY_BYTES = 1024
STAGING_PREFIX = f"{RESERVED_PREFIX}uploads/"  # of keys that go on with the token of an upload, which is a secret
# Up to so many bytes S3 reads or writes at once, and so many while a client of API Gateway waits (`AWS.s3_writing`).
_AT_ONCE_BYTES = 8 * 2**20
_WAITING_BYTES = 512 * 2**20
_RACES = 5  # attempts at a conditional request that S3 could not decide
_PARAMETERS = {"Content-Type": "ContentType", "Content-Encoding": "ContentEncoding"}
_GONE = {"NoSuchKey", "NoSuchUpload", "NotFound", "404"}
_RACE = {"ConditionalRequestConflict", "OperationAborted"}
# What is wrong with the credentials, not with what they may do. HEAD has no body and says 400 or 403 for all of it.
_CREDENTIALS = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}


class _RaceError(ConflictError):
    """S3 could not tell who was first: to be tried again."""


class Bucket:
    """One bucket. Methods that take a key raise StorageError like all of `Storage`, and what they say besides."""

    def __init__(self, aws: AWS, name: str, *, named_by: str = "'bucket'") -> None:
        """Errors about the name say what it is `named_by`."""
        self._aws = aws
        self.name = name
        self._named_by = named_by
        self._is_known_to_exist = False

    @property
    def client(self) -> S3Client:
        """What makes the requests."""
        return self._aws.s3

    @property
    def origin(self) -> str:
        """The beginning of every signed URL (RFC 6454)."""
        parts = urlsplit(self._url_of(""))
        return f"{parts.scheme}://{parts.netloc}"

    def client_for(self, size: int) -> S3Client:
        """Return what makes requests that S3 answers when it has read or written so many bytes."""
        if size <= _AT_ONCE_BYTES:
            return self._aws.s3
        return self._aws.s3_writing if size <= _WAITING_BYTES else self._aws.s3_copying

    def check(self) -> None:
        """Make sure that the bucket is there and may be listed: else what is missing in it looks forbidden."""
        try:
            with self._translated("", "s3:ListBucket"):
                self.client.head_bucket(Bucket=self.name)
        except ObjectMissingError as error:
            raise self._no_bucket() from error
        self._is_known_to_exist = True

    def head(self, key: str) -> StoredObject:
        """Look at an object; ObjectMissingError."""
        if not is_key(key):
            raise ObjectMissingError(key)
        try:
            with self._translated(key, "s3:GetObject"):
                found = self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
        except ObjectMissingError:
            # The answer is the same where there is no such bucket. One that holds objects cannot be removed.
            if not self._is_known_to_exist:
                self.check()
            raise
        fingerprint = make_fingerprint(found["ETag"], found["LastModified"])
        return StoredObject(key, found["ContentLength"], fingerprint, _proven_sha256(found))

    def get(self, key: str, *, etag: str | None = None, first: int = 0, last: int | None = None) -> Any:
        """Ask for the bytes from `first` to `last`, both included; ObjectMissingError, BusyError if it is another."""
        if not is_key(key):
            raise ObjectMissingError(key)
        parameters: dict[str, Any] = {"Bucket": self.name, "Key": key}
        if etag is not None:
            parameters["IfMatch"] = etag
        if first or last is not None:
            parameters["Range"] = f"bytes={first}-{'' if last is None else last}"
        try:
            with self._translated(key, "s3:GetObject"):
                return self.client.get_object(**parameters)
        except ConflictError as error:
            raise BusyError(name_of(key)) from error

    def put(
        self,
        key: str,
        body: IO[bytes],
        *,
        size: int,
        sha256: str,
        replacing: str | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> StoredObject:
        """Write an object in one request, which S3 holds against its digest; ConflictError."""
        named = {_PARAMETERS[name]: value for name, value in headers.items()}

        def write() -> str:
            body.seek(0)
            written = self.client_for(size).put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentLength=size,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_base64(sha256),
                **condition(replacing),
                **named,  # type: ignore[arg-type]
            )
            return written["ETag"]

        return self.write_on_condition(key, write)

    def copy(self, source: StoredObject, key: str, *, replacing: str | None) -> StoredObject:
        """Copy an object of at most 5 GB, whose sha256 S3 computes; ConflictError, and as `source_lost` says."""

        def copy() -> str:
            copied = self.client_for(source.size).copy_object(
                Bucket=self.name,
                Key=key,
                CopySource={"Bucket": self.name, "Key": source.key},
                CopySourceIfMatch=etag_of(source.fingerprint),
                ChecksumAlgorithm="SHA256",
                MetadataDirective="REPLACE",  # else an uploader could have it given out as of another encoding
                **condition(replacing),
            )
            return copied["CopyObjectResult"]["ETag"]

        try:
            return self.write_on_condition(key, copy)
        except ConflictError as error:
            raise self.source_lost(source, key, replacing=replacing) or error from error

    def source_lost(self, source: StoredObject, key: str, *, replacing: str | None) -> ElasticpypiError | None:
        """Return what has become of the source of a copy that was refused; None where that was due to the target.

        S3 gives the same answers for both. Where both have changed it is the target: somebody else has published.
        """
        try:
            present = etag_of(self.head(key).fingerprint)
        except ObjectMissingError:
            present = None
        if present != (None if replacing is None else etag_of(replacing)):
            return None
        try:
            found = self.head(source.key)
        except ObjectMissingError:
            return ObjectMissingError(name_of(source.key))
        return None if etag_of(found.fingerprint) == etag_of(source.fingerprint) else BusyError(name_of(source.key))

    def write_on_condition(self, key: str, write: Callable[[], str]) -> StoredObject:
        """Let `write`, which returns the ETag, write an object; return it as it lies there. ConflictError."""
        if not is_key(key):
            raise ObjectMissingError(key)
        etag = self.decide(key, write, permission="s3:PutObject and s3:GetObject")
        try:
            found = self.head(key)
        except ObjectMissingError as error:
            raise ConflictError(key) from error
        # Ceph tells no ETag of an object in parts.
        if etag and etag.strip('"') != etag_of(found.fingerprint).strip('"'):
            raise ConflictError(key)  # ours was replaced already, and what is known of its bytes is not true of these
        return found

    def decide(self, key: str, act: Callable[[], T], *, permission: str) -> T:
        """Return what a conditional request returns, made again where S3 cannot tell who was first; ConflictError."""
        for _ in range(_RACES):
            try:
                with self._translated(key, permission):
                    return act()
            except _RaceError:
                continue
            except ObjectMissingError as error:  # so says If-Match where there is nothing
                raise ConflictError(key) from error
        raise ConflictError(key)

    def delete(self, key: str, *, fingerprint: str | None = None) -> None:
        """Remove what lies under a key, with a fingerprint just this object; ObjectMissingError, ConflictError."""
        condition: dict[str, Any] = {} if fingerprint is None else {"IfMatch": etag_of(fingerprint)}
        with self._translated(key, "s3:DeleteObject"):
            self.client.delete_object(Bucket=self.name, Key=key, **condition)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """List what lies under a prefix and comes after a key, in the order of the keys' UTF-8 bytes."""
        for page in self.pages("list_objects_v2", Prefix=prefix, StartAfter=after):
            for found in page.get("Contents", ()):
                fingerprint = make_fingerprint(found["ETag"], found["LastModified"])
                yield StoredObject(found["Key"], found["Size"], fingerprint)

    def pages(self, operation: str, *, key: str = "", permission: str = "s3:ListBucket", **parameters: Any) -> Any:
        """Yield the pages of an operation that lists; ObjectMissingError."""
        with self._translated(key, permission):
            paginator = self.client.get_paginator(operation)  # type: ignore[call-overload]
            yield from paginator.paginate(Bucket=self.name, **parameters)

    def ask(
        self, operation: str, key: str, *, permission: str = "s3:PutObject", size: int = 0, **parameters: Any
    ) -> Any:
        """Make another request about a key, for which S3 reads or writes so many bytes; ObjectMissingError."""
        with self._translated(key, permission):
            return getattr(self.client_for(size), operation)(Bucket=self.name, Key=key, **parameters)

    def sign_get(self, key: str, *, at: datetime, valid_seconds: int) -> str:
        """Return a URL for the bytes; no request."""
        return self._sign("GET", key, at=at, valid_seconds=valid_seconds)

    def sign_put(self, key: str, *, offset: int, size: int, valid_seconds: int, sha256: str | None = None) -> SignedPut:
        """Let somebody write an object that is not there yet, with just these bytes."""
        headers = {"Content-Length": str(size)}
        if sha256 is not None:
            # The name of the algorithm changes nothing for S3, but its stand-ins note the digest only then.
            headers |= {"If-None-Match": "*", "x-amz-checksum-sha256": _base64(sha256)}
            headers |= {"x-amz-sdk-checksum-algorithm": "SHA256"}
        url = self._sign("PUT", key, at=datetime.now(UTC), valid_seconds=valid_seconds, headers=headers)
        return SignedPut(url, headers, offset, size)

    def sign_part(self, key: str, upload: str, number: int, *, offset: int, size: int, valid_seconds: int) -> SignedPut:
        """Let somebody write one part of a multipart upload, of just this size."""
        headers = {"Content-Length": str(size)}
        query = {"partNumber": str(number), "uploadId": upload}
        now = datetime.now(UTC)
        url = self._sign("PUT", key, at=now, valid_seconds=valid_seconds, headers=headers, query=query)
        return SignedPut(url, headers, offset, size)

    def _sign(self, method: str, key: str, **request: Any) -> str:
        try:
            credentials = self._aws.credentials()
        except BotoCoreError as error:
            raise _unreachable(error) from error
        if credentials is None or credentials.access_key is None or credentials.secret_key is None:
            raise _unreachable(NoCredentialsError())
        signer = Credentials(credentials.access_key, credentials.secret_key, credentials.token)
        return sign_url(method, self._url_of(key), region=self._aws.region, credentials=signer, **request)

    def _url_of(self, key: str) -> str:
        return object_url(self.name, key, region=self._aws.region, endpoint=self._aws.s3_endpoint)

    @contextmanager
    def _translated(self, key: str, permission: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._translate(error, key, permission) from error
        except BotoCoreError as error:
            raise _unreachable(error) from error

    def _translate(self, error: ClientError, key: str, permission: str) -> ElasticpypiError:
        code, status = error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        named = name_of(key)
        if code == "NoSuchBucket":
            return self._no_bucket()
        if code in _GONE or (status == 404 and not code):
            return ObjectMissingError(named)
        if code in _RACE:
            return _RaceError(named)
        if status == 412:
            return ConflictError(named)
        if status == 416:
            return BusyError(named)  # it was longer when it was looked at
        if code == "InvalidObjectState":
            return UnreadableObjectError(named, "it lies in an archive of S3; restore it from there")
        return self._refusal(code, status, key, permission)

    def _refusal(self, code: str, status: int, key: str, permission: str) -> StorageError:
        if code in _CREDENTIALS:
            return StorageError(f"S3 does not accept the credentials ({code}): renew them, and look at the clock")
        if status >= 500 or code in ("SlowDown", "RequestTimeout", "Throttling"):
            return StorageError(f"S3 has no time or is out of order ({code}); try again in a moment")
        if status in (400, 403) and permission == "s3:GetObject" and not key.startswith(RESERVED_PREFIX):
            self.check()  # which raises where it is not about this object alone
            return UnreadableObjectError(
                key,
                f"S3 refuses it ({code}), but not the bucket: allow s3:GetObject and kms:Decrypt, or write it again "
                "without a key or an owner of its own",
            )
        if status == 403:
            return StorageError(
                f"S3 refuses access to the bucket {self.name!r}: allow {permission}, "
                "and s3:ListBucket, without which what is missing looks forbidden"
            )
        return StorageError(
            f"S3 refuses a request to the bucket {self.name!r} ({code}): check credentials, bucket and region"
        )

    def _no_bucket(self) -> StorageError:
        return StorageError(f"there is no bucket {self.name!r}: make it, or correct {self._named_by}")


def is_key(key: str) -> bool:
    """Whether a key names an object that we use: programs change "." and ".." on the way, S3 takes 1024 bytes."""
    if any(part in ("", ".", "..") or "\0" in part for part in key.split("/")):
        return False
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def name_of(key: str) -> str:
    """Return what errors call an object."""
    return "the upload" if key.startswith(STAGING_PREFIX) else key


def make_fingerprint(etag: str, last_modified: datetime) -> str:
    """Return what tells one version of an object from another, the same in every answer of S3.

    The ETag tells other bytes, the time (whole seconds, since a header has no more) that the same were written again.
    """
    return f"{etag.strip(chr(34))}-{int(last_modified.timestamp())}"


def etag_of(fingerprint: str) -> str:
    """Return the ETag that a fingerprint holds, quoted as requests have it."""
    return f'"{fingerprint.rpartition("-")[0]}"'


def modified_at(fingerprint: str) -> datetime:
    """Return the time that a fingerprint holds."""
    return datetime.fromtimestamp(int(fingerprint.rpartition("-")[2]), UTC)


def _proven_sha256(found: Mapping[str, Any]) -> str | None:
    """Return the digest of all bytes; that of an object in parts is one of its parts' digests."""
    checksum, etag = found.get("ChecksumSHA256", ""), found["ETag"].strip('"')
    if found.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in etag:
        return None
    try:
        digest = base64.b64decode(checksum, validate=True)
    except binascii.Error:  # a checksum of checksums says how many there were
        return None
    return digest.hex() if len(digest) == 32 else None


def condition(replacing: str | None) -> dict[str, Any]:
    """Return the parameters of a write that `Incoming.publish` describes."""
    return {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": etag_of(replacing)}


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _unreachable(error: BotoCoreError) -> StorageError:
    if isinstance(error, NoCredentialsError):
        return StorageError("there are no credentials for AWS: log in, or name a 'profile' that has some")
    # Its text may hold a URL with the token of an upload.
    return StorageError(
        f"S3 cannot be reached ({type(error).__name__}): try again in a moment, or look at credentials and network"
    )
