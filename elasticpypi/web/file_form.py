"""A form with a file in it, which streams from the socket to where the storage keeps what is on its way in.

It is hashed as it passes, and neither kept in memory nor written to a temporary file besides. Specification: RFC 7578.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, cast

from flask import request
from werkzeug.formparser import FormDataParser
from werkzeug.wsgi import get_input_stream

from elasticpypi.errors import InvalidUploadError, NoFileError
from elasticpypi.index import Incoming, Index
from elasticpypi.names import parse_key

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

CONTENT = "content"  # what the field of the file is called
_FORM_BYTES = 16 * 2**20  # a description may be long
_FORM_PARTS = 10_000  # classifiers and dependencies come as a part each


class Content(io.RawIOBase):
    """Where Werkzeug writes the file's bytes: to the storage, past sha256. It writes and rewinds, nothing else."""

    def __init__(self, filename: str, incoming: Incoming) -> None:
        self.filename = filename
        self.incoming = incoming
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of what was written, lowercase hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:  # type: ignore[override]  # Werkzeug hands over bytes only
        self._hash.update(data)
        return self.incoming.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return 0


def receive_form(index: Index, stack: ExitStack) -> tuple[MultiDict[str, str], Content]:
    """Read the present request's form; the file's bytes stay, to be added, until the stack is closed.

    Raise InvalidUploadError where it is no such form, NoFileError where it is without a distribution file.
    """
    if request.mimetype != "multipart/form-data":
        raise InvalidUploadError(f"an upload comes as multipart/form-data, not as {request.mimetype or 'nothing'!r}")
    parser = FormDataParser(
        _Receiver(index, stack), max_form_memory_size=_FORM_BYTES, max_form_parts=_FORM_PARTS, silent=False
    )
    try:
        _, form, files = parser.parse(
            get_input_stream(request.environ), request.mimetype, request.content_length, request.mimetype_params
        )
    except ValueError as error:
        raise InvalidUploadError(f"the form cannot be read: {error}") from error
    content = cast(object, files[CONTENT].stream) if CONTENT in files else None
    if not isinstance(content, Content):
        raise NoFileError(CONTENT)
    return form, content


class _Nowhere(io.RawIOBase):
    """Where the bytes of file parts go that nobody has asked for (signatures, attestations)."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return 0


class _Receiver:
    """Gives Werkzeug's form parser a place for each file part; the first distribution file is the content."""

    def __init__(self, index: Index, stack: ExitStack) -> None:
        self._index = index
        self._stack = stack
        self._has_content = False

    def __call__(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self._has_content or filename is None or parse_key(filename) is None:
            return cast(IO[bytes], _Nowhere())
        self._has_content = True
        return cast(IO[bytes], Content(filename, self._stack.enter_context(self._index.receive())))
