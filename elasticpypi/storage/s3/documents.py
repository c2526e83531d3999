"""Small objects of a bucket as `catalog.documents` wants them: each read or written with one request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from botocore.exceptions import BotoCoreError

from elasticpypi.aws import AWS
from elasticpypi.errors import StorageError
from elasticpypi.storage import Document
from elasticpypi.storage.s3.bucket import Bucket, condition

_ATTEMPTS = 3


class S3Documents:
    """The objects of a bucket; each has bytes that no other one under its key has ever had.

    So the ETag alone tells them apart, which S3's conditions take, and no second request has to ask for the time.
    """

    def __init__(self, aws: AWS, bucket: str, *, named_by: str = "'output_bucket'") -> None:
        """Errors about the bucket's name say what it is `named_by`."""
        self._bucket = Bucket(aws, bucket, named_by=named_by)

    def read_document(self, key: str) -> Document:
        """Read one; ObjectMissingError."""
        for _ in range(_ATTEMPTS):
            found = self._bucket.get(key)
            with closing(found["Body"]) as body:
                try:
                    return Document(body.read(), _fingerprint(found["ETag"]))
                except (BotoCoreError, OSError):
                    continue  # the connection broke
        raise StorageError("the connection to S3 breaks again and again; try again in a moment")

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> str:
        """Write one in place of that with this fingerprint (None: there must be none), and return its own.

        ConflictError, which after an answer that was lost may be with oneself.
        """

        def write() -> str:
            written = self._bucket.client_for(len(data)).put_object(
                Bucket=self._bucket.name, Key=key, Body=data, **condition(replacing)
            )
            return written["ETag"]

        return _fingerprint(self._bucket.decide(key, write, permission="s3:PutObject"))

    def remove_document(self, key: str) -> None:
        """Remove one, whatever it is; nothing where there is none."""
        self._bucket.delete(key)

    def list_documents(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a prefix."""
        return (obj.key for obj in self._bucket.list(prefix))


def _fingerprint(etag: str) -> str:
    """Return an ETag as `storage.s3.bucket` has it in fingerprints, without the time that it has beside it."""
    return f"{etag.strip(chr(34))}-0"
