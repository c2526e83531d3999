"""The output in an S3 bucket, or below a prefix of its keys, to be served by S3 itself or through CloudFront."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

from botocore.exceptions import BotoCoreError

from elasticpypi.aws import AWS
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    ObjectMissingError,
    OutputError,
    StorageError,
    UnwritableDocumentError,
)
from elasticpypi.output import STATE_PREFIX, Written
from elasticpypi.storage import StoredObject
from elasticpypi.storage.s3.bucket import Bucket, etag_of, is_key

# pip, uv and poetry then ask whether a page is still the same, and are answered with a 304; with any other age, they
# would not see a file that has just come. CloudFront, too, asks S3 and gives out nothing old when S3 does not answer.
_CACHE_CONTROL = "max-age=0, must-revalidate"
_LAST = "\U0010ffff"  # comes after every other character
_READING_ATTEMPTS = 3


class S3Output:
    """An `Output` in a bucket."""

    at_once = 16
    is_exclusive = False

    def __init__(self, aws: AWS, bucket: str, prefix: str = "") -> None:
        """Keys begin with the prefix and a slash, which it may end in already."""
        self._bucket = Bucket(aws, bucket, named_by="'output_bucket' or --output")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        # Whether ETags are the MD5 of the bytes, which they are unless the bucket is encrypted with a key of KMS.
        self._is_etag_md5: bool | None = None

    def list(self, prefix: str = "") -> Iterator[Written]:
        with _translated():
            for obj in self._without_state(prefix):
                if is_key(obj.key):  # others, such as "folders" made by hand, are no documents
                    yield Written(obj.key.removeprefix(self._prefix), obj.size, etag_of(obj.fingerprint))

    def _without_state(self, prefix: str) -> Iterator[StoredObject]:
        """Yield what lies under a prefix, jumping over our state, of which there may be thousands."""
        state = self._prefix + STATE_PREFIX
        if prefix.startswith(STATE_PREFIX):
            yield from self._bucket.list(self._prefix + prefix)
            return
        for obj in self._bucket.list(self._prefix + prefix):
            if obj.key.startswith(state):
                break
            yield obj
        else:
            return
        yield from self._bucket.list(self._prefix + prefix, after=state + _LAST)

    def look(self, path: str) -> Written | None:
        key = self._key(path)
        with _translated():
            try:
                found = self._bucket.ask("head_object", key, permission="s3:GetObject")
            except ObjectMissingError:
                return None
        return Written(path, found["ContentLength"], found["ETag"])

    def holds(self, written: Written, data: bytes) -> bool:
        if written.size != len(data):
            return False
        if _has_etag(data, written.token):
            return True
        if self._is_etag_md5 and not _is_in_parts(written.token):
            return False
        found = self._get(written.path, etag=written.token)
        if found is None:
            raise BusyError(written.path)
        self._learn(*found)
        return found[0] == data

    def _learn(self, data: bytes, written: Written) -> None:
        if not _is_in_parts(written.token):
            self._is_etag_md5 = _has_etag(data, written.token)

    def read(self, path: str) -> tuple[bytes, Written] | None:
        return self._get(path)

    def _get(self, path: str, *, etag: str | None = None) -> tuple[bytes, Written] | None:
        """Return a document; BusyError where it is another than the one with an ETag."""
        key = self._key(path)
        with _translated():
            for _ in range(_READING_ATTEMPTS):
                try:
                    found = self._bucket.get(key, etag=etag)
                except ObjectMissingError:
                    return None
                with closing(found["Body"]) as body:
                    try:
                        data = body.read()
                    except (BotoCoreError, OSError):
                        continue  # the connection broke
                return data, Written(path, len(data), found["ETag"])
        raise OutputError("the connection to S3 breaks again and again; try again in a moment")

    def write(self, path: str, data: bytes, content_type: str, *, replacing: Written | None) -> Written:
        key = self._key(path)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": replacing.token}

        def put() -> str:
            written = self._bucket.client_for(len(data)).put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=data,
                ContentType=_with_charset(content_type),
                CacheControl=_CACHE_CONTROL,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                **condition,
            )
            return written["ETag"]

        with _translated(path):
            etag = self._bucket.decide(key, put, permission="s3:PutObject and s3:GetObject")
        written = Written(path, len(data), etag)
        self._learn(data, written)
        return written

    def remove(self, written: Written) -> None:
        key = self._key(written.path)

        def delete() -> None:
            client = self._bucket.client
            client.delete_object(Bucket=self._bucket.name, Key=key, IfMatch=written.token)

        with _translated(written.path):
            try:
                self._bucket.decide(key, delete, permission="s3:DeleteObject and s3:GetObject")
            except ConflictError:
                if self.look(written.path) is not None:  # S3 answers alike where it is gone
                    raise

    def exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _key(self, path: str) -> str:
        key = self._prefix + path
        if not is_key(key):
            raise UnwritableDocumentError(
                f"{key!r:.200} cannot be a key in S3: correct the name that it comes from, or shorten it"
            )
        return key


def _with_charset(content_type: str) -> str:
    if content_type.startswith("text/") and "charset" not in content_type:
        return f"{content_type}; charset=utf-8"
    return content_type


def _has_etag(data: bytes, etag: str) -> bool:
    return etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _is_in_parts(etag: str) -> bool:
    """Whether an object was put together from parts, by somebody else: its ETag is made of theirs."""
    return "-" in etag


@contextmanager
def _translated(path: str | None = None) -> Iterator[None]:
    """Have errors of the bucket be those of the output; a conflict is about a path."""
    try:
        yield
    except StorageError as error:
        raise OutputError(str(error)) from error
    except ConflictError as error:
        if path is None:
            raise
        raise ConflictError(path) from error
