"""A small object's way through the bucket, as an upload and a download go it."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from contextlib import suppress

from elasticpypi.aws import AWS
from elasticpypi.deployment import Deployment, Result
from elasticpypi.errors import ConflictError, ObjectMissingError, StorageError
from elasticpypi.names import RESERVED_PREFIX
from elasticpypi.storage.s3 import S3Storage

_TIMEOUT_SECONDS = 10.0


def check_round_trip(aws: AWS, names: Deployment) -> Result:
    """Write, read, download by a signed URL and remove an object, among those that the lifecycle rules clear."""
    storage = S3Storage(aws, names.bucket)
    key, data = f"{RESERVED_PREFIX}uploads/doctor{secrets.token_hex(16)}", secrets.token_bytes(64)
    try:
        fingerprint = storage.write_document(key, data, replacing=None).fingerprint
        try:
            if storage.read_document(key).data != data:
                return Result("an object that was written just now has other bytes", "try again, and report it to AWS")
            problem = _download(storage, key, fingerprint, data)
        finally:
            with suppress(ObjectMissingError, ConflictError):
                storage.remove(key, fingerprint=fingerprint)
    except StorageError as error:
        return Result(str(error), "mend that, and run `elasticpypi doctor` again")
    return problem or Result("an object was written, read, downloaded by a signed URL and removed")


def _download(storage: S3Storage, key: str, fingerprint: str, data: bytes) -> Result | None:
    """Get the object as a client does; return what is wrong, without the URL, which is a secret."""
    try:
        with urllib.request.urlopen(storage.download(key, fingerprint).url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - it is https, S3's own
            if answer.read() == data:
                return None
            return Result("the bytes of a signed URL are others than were written", "is there a proxy in between?")
    except urllib.error.HTTPError as error:
        remedy = "set this machine's clock; allow s3:GetObject; look what the bucket's policy denies"
        return Result(f"S3 refuses a signed URL of ours ({error.code} {error.reason})", remedy)
    except OSError as error:
        found = f"a signed URL cannot be fetched from here ({error})"
        return Result(found, "let clients reach the bucket's host through proxy and firewall: pip gets files there")
