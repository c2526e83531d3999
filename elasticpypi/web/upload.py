"""`POST /legacy/` and `/simple/`: the upload API as twine, uv, poetry, pdm and hatch speak it.

Specification: warehouse's documentation, "Upload API". The file streams from the socket to where the storage keeps
what is on its way in, hashed as it passes.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, cast

from flask import Blueprint, request
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from elasticpypi.config import Permission
from elasticpypi.errors import InvalidUploadError
from elasticpypi.index import Added, Claim, Incoming, Index
from elasticpypi.names import parse_filename, parse_key
from elasticpypi.web.errors import sentence
from elasticpypi.web.observe import note_added
from elasticpypi.web.present import current_principal

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

_PATHS = ("/legacy/", "/legacy", "/simple/", "/simple")  # no uploader follows a redirect to the slash
_FORM_BYTES = 16 * 2**20  # a description may be long
_FORM_PARTS = 10_000  # classifiers and dependencies come as a part each
_DIGESTS = {"sha256": "sha256_digest", "blake2_256": "blake2_256_digest", "md5": "md5_digest"}
_ANSWERS = {
    Added.CREATED: "{} is stored and listed.",
    Added.UNCHANGED: "{} was there already with the same bytes; nothing has changed.",
    Added.REPLACED: "{} has replaced other bytes.",
}


def file_uploads(index: Index) -> Blueprint:
    """Return the routes that take uploads."""
    uploads = Blueprint("upload", __name__)

    def upload() -> Response:
        principal = current_principal()
        principal.require(Permission.UPLOAD)
        with ExitStack() as stack:
            form, content = _read_form(_Receiver(index, stack))
            claim = _claim(form, content.filename)
            principal.require(Permission.UPLOAD, parse_filename(claim.filename).project)
            added = index.add(content.incoming, claim, sha256=content.sha256)
        note_added(request.environ, added)
        return sentence(200, _ANSWERS[added].format(claim.filename))

    for path in _PATHS:
        uploads.add_url_rule(path, view_func=upload, methods=["POST"])
    return uploads


class _Content(io.RawIOBase):
    """Where Werkzeug writes the file's bytes: to the storage, past sha256. It writes and rewinds, nothing else."""

    def __init__(self, filename: str, incoming: Incoming) -> None:
        self.filename = filename
        self.incoming = incoming
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:  # type: ignore[override]  # Werkzeug hands over bytes only
        self._hash.update(data)
        return self.incoming.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return 0


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
        return cast(IO[bytes], _Content(filename, self._stack.enter_context(self._index.receive())))


def _read_form(receiver: _Receiver) -> tuple[MultiDict[str, str], _Content]:
    if request.mimetype != "multipart/form-data":
        raise InvalidUploadError(f"an upload comes as multipart/form-data, not as {request.mimetype or 'nothing'!r}")
    parser = FormDataParser(receiver, max_form_memory_size=_FORM_BYTES, max_form_parts=_FORM_PARTS, silent=False)
    try:
        _, form, files = parser.parse(
            get_input_stream(request.environ), request.mimetype, request.content_length, request.mimetype_params
        )
    except ValueError as error:
        raise InvalidUploadError(f"the form cannot be read: {error}") from error
    content = cast(object, files["content"].stream) if "content" in files else None
    if not isinstance(content, _Content):
        raise InvalidUploadError("the form has no file called 'content' with the name of a wheel, sdist or egg")
    return form, content


def _claim(form: MultiDict[str, str], filename: str) -> Claim:
    if form.get(":action") != "file_upload":
        raise InvalidUploadError(f"':action' in the form is {form.get(':action')!r}, not 'file_upload'")
    for field in ("name", "version", "filetype"):
        if not form.get(field):
            raise InvalidUploadError(f"{field!r} is missing in the form")
    return Claim(
        filename=filename,
        name=form["name"],
        version=form["version"],
        filetype=form["filetype"],
        digests={algorithm: form[field] for algorithm, field in _DIGESTS.items() if form.get(field)},
        requires_python=form.get("requires_python") or None,
    )
