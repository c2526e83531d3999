"""moto's server, with what moto 5.2 leaves out of S3: conditions of copies and of completing uploads, wrong digests.

Run as moto.server is. Conditional writes are made one after the other, so that of several at once one wins for sure.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import moto.server
from moto.s3.exceptions import MissingKey, PreconditionFailed, S3ClientError
from moto.s3.responses import S3Response

from tests.moto_cloudformation import Gaps
from tests.moto_dynamodb import mend_dynamodb

_writing = threading.RLock()


def _check_conditions(response: Any) -> None:
    headers, key = response.headers, response.parse_key_name()
    present = response.backend.get_object(response.bucket_name, key)
    if headers.get("If-None-Match") == "*" and present is not None:
        raise PreconditionFailed("If-None-Match")
    if expected := headers.get("If-Match"):
        if present is None:
            raise MissingKey
        _compare(expected, present, "If-Match")
    if expected := headers.get("x-amz-copy-source-if-match"):
        bucket, _, source_key = response.headers["x-amz-copy-source"].lstrip("/").partition("/")
        source = response.backend.get_object(bucket, unquote(source_key))
        if source is not None:
            _compare(expected, source, "x-amz-copy-source-If-Match")


def _check_digest(response: Any) -> None:
    """Refuse a body that is not the one whose digest came with it."""
    expected = response.headers.get("x-amz-checksum-sha256")
    actual = base64.b64encode(hashlib.sha256(response.body or b"").digest()).decode()
    if expected is not None and expected != actual:
        error = S3ClientError("BadDigest", "The SHA256 you specified did not match the calculated checksum.")
        error.code = 400  # type: ignore[assignment]
        raise error


def _compare(expected: str, present: Any, name: str) -> None:
    if expected.strip('"') != present.etag.strip('"'):
        raise PreconditionFailed(name)


def _conditional(operation: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        with _writing:
            _check_conditions(self)
            if operation.__name__ == "put_object":
                _check_digest(self)
            return operation(self, *arguments, **named)

    return checked


def main() -> None:
    mend_dynamodb()
    for name in ("put_object", "copy_object", "delete_object", "upload_part_copy"):
        setattr(S3Response, name, _conditional(getattr(S3Response, name)))
    post = S3Response._key_response_post  # noqa: SLF001

    def complete(self: Any, request: Any, body: bytes, bucket_name: str, query: dict[str, Any], key_name: str) -> Any:
        if not query.get("uploadId"):
            return post(self, request, body, bucket_name, query, key_name)
        with _writing:
            _check_conditions(self)
            return post(self, request, body, bucket_name, query, key_name)

    S3Response._key_response_post = complete  # type: ignore[method-assign]  # noqa: SLF001
    Gaps(int(sys.argv[sys.argv.index("-p") + 1])).close_when_needed()
    moto.server.main(sys.argv[1:])


if __name__ == "__main__":
    main()
