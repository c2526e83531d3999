"""`/api/v1/uploads`: files of any size, straight to the storage where it takes them, else in parts through us.

The storage's own way are the requests in `puts`, signed for just these bytes. In parts, `Upload-Offset` and PATCH are
those of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload): unlike Content-Range, which RFC 9110
defines for partial PUT only, they need not know how long the part will be; each goes on where the last one stopped.

Nothing is remembered between requests but the bytes: the id of an upload says what it is to become, and only together
with the name of the principal does it say where its bytes lie. What takes longer than a request may is handed over,
where there is somebody to take it, and asked about until it is done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Blueprint, request
from werkzeug.wrappers import Response

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import InvalidRequestError, InvalidUploadError, NotFoundError
from elasticpypi.index import Added, FinishRequest, Index, Outcome, Slot, claim_by_filename
from elasticpypi.names import Kind, ParsedFilename, parse_filename
from elasticpypi.web.errors import answer_kept_error
from elasticpypi.web.observe import note_added
from elasticpypi.web.present import answer_json, current_principal, read_json_object

PART_BYTES = 32 * 2**20  # proxies refuse bodies that are too large, and what one keeps to itself is lost when it breaks
_CHUNK_BYTES = 256 * 1024
# What is finished within a request, for which a gateway waits 29 seconds. Of a wheel little is read, but S3 copies it
# (a GB takes it some ten seconds) and may not know its sha256; an sdist is unpacked, on a fraction of a processor.
_AT_ONCE_BYTES = {Kind.WHEEL: 512 * 2**20, Kind.EGG: 512 * 2**20, Kind.SDIST: 32 * 2**20}
# What is finished within the 900 seconds that a Lambda function has. For each GB, S3 takes some ten to copy it, and to
# read it for its sha256, which nobody proves of an object in parts, takes ten more; to unpack an sdist, twenty more.
_LATER_BYTES = {Kind.WHEEL: 40 * 10**9, Kind.EGG: 40 * 10**9, Kind.SDIST: 20 * 10**9}
_RETRY_AFTER_SECONDS = 3
FinishLater = Callable[[Mapping[str, Any]], None]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"([0-9a-f]{64})\.([0-9]{1,15})\.(.+)", re.ASCII)
_MOST_BYTES = 10**15 - 1


@dataclass(frozen=True, slots=True)
class _Upload:
    """A place for the bytes of one file, which are known by size and digest before they come."""

    parsed: ParsedFilename
    size: int
    sha256: str
    principal: Principal

    @property
    def id(self) -> str:
        return f"{self.sha256}.{self.size}.{self.parsed.filename}"

    @property
    def token(self) -> str:
        return hashlib.sha256(f"{self.principal.name}\0{self.id}".encode()).hexdigest()

    def finish_request(self) -> FinishRequest:
        who = self.principal.actor
        return FinishRequest(self.token, self.parsed.filename, self.size, self.sha256, who.name, who.credential)

    def describe(self, **more: object) -> dict[str, object]:
        return {"filename": self.parsed.filename, "project": self.parsed.project, "size": self.size, **more}


def resumable_uploads(index: Index, finish_later: FinishLater | None = None) -> Blueprint:
    """Return the routes that take a file of any size; `finish_later` is as for `create_app`."""
    uploads = Blueprint("api_uploads", __name__)

    @uploads.post("/api/v1/uploads")
    def begin() -> Response:
        current_principal().require(Permission.UPLOAD)
        upload = _read_upload(read_json_object())
        if index.has(upload.parsed, upload.sha256):
            return _added(upload, Added.UNCHANGED)
        if finish_later is not None:
            _check_can_be_finished(upload)
        slot = index.begin(upload.token, size=upload.size, sha256=upload.sha256)
        return answer_json(
            upload.describe(received=slot.received, **_where(upload, slot)), 200 if slot.received else 201
        )

    @uploads.get("/api/v1/uploads/<upload_id>")
    def tell(upload_id: str) -> Response:
        upload = _find_upload(upload_id)
        outcome = None if finish_later is None else index.find_outcome(upload.token)
        if outcome is not None:
            return _answer_outcome(upload, outcome)
        return answer_json(upload.describe(received=_received(index, upload)))

    @uploads.patch("/api/v1/uploads/<upload_id>")
    def append(upload_id: str) -> Response:
        return _append(index, _find_upload(upload_id))

    @uploads.post("/api/v1/uploads/<upload_id>/finish")
    def finish(upload_id: str) -> Response:
        return _finish(index, _find_upload(upload_id), finish_later)

    return uploads


def _check_can_be_finished(upload: _Upload) -> None:
    most = _LATER_BYTES[upload.parsed.kind]
    if upload.size > most:
        raise InvalidUploadError(
            f"{upload.parsed.filename} has {upload.size} bytes, and {most} are all that Lambda has the time to check "
            "and to copy: run `elasticpypi upload` on a machine that is configured with the bucket itself"
        )


def _append(index: Index, upload: _Upload) -> Response:
    """Add the request's body to the upload; whatever arrives before the connection breaks, stays."""
    end, received = _offset(), _received(index, upload)
    if end != received:
        return _wrong_offset(upload, received)
    if index.begin(upload.token, size=upload.size, sha256=upload.sha256).puts is not None:
        raise InvalidRequestError(
            "the bytes go straight to the storage, by the requests in 'puts': begin the upload again"
        )
    while end < upload.size and (chunk := request.stream.read(min(_CHUNK_BYTES, upload.size - end))):
        # Held for no longer than this, so that a connection that hangs keeps nobody from going on by another.
        with index.resume(upload.token) as incoming:
            if incoming.size != end:
                return _wrong_offset(upload, incoming.size)
            end += incoming.write(chunk)
    if end == upload.size and request.stream.read(1):
        raise InvalidUploadError(f"there are more bytes than the {upload.size} that were announced")
    return answer_json(upload.describe(received=end))


def _finish(index: Index, upload: _Upload, finish_later: FinishLater | None) -> Response:
    claim = claim_by_filename(upload.parsed.filename, upload.sha256)
    try:
        with index.resume(upload.token) as incoming:
            if incoming.size != upload.size:
                return _wrong_offset(upload, incoming.size)
            if finish_later is None or upload.size <= _AT_ONCE_BYTES[upload.parsed.kind]:
                return _added(upload, index.add_resumed(incoming, claim, by=upload.principal.actor))
    except NotFoundError:
        if not index.has(upload.parsed, upload.sha256):
            raise
        return _added(upload, Added.UNCHANGED)  # finished before, by a request whose answer was lost
    index.hand_over(upload.finish_request(), finish_later)
    return _answer_outcome(upload, Outcome())


def _where(upload: _Upload, slot: Slot) -> dict[str, object]:
    """Return where the bytes go and what comes then; relative URLs hold under any prefix and behind any proxy."""
    url = f"uploads/{quote(upload.id, safe='')}"
    where: dict[str, object] = {"id": upload.id, "status-url": url, "finish-url": f"{url}/finish"}
    if slot.puts is None:
        return {**where, "parts-url": url, "part-bytes": PART_BYTES}
    puts = [
        {"method": "PUT", "url": put.url, "headers": dict(put.headers), "offset": put.offset, "size": put.size}
        for put in slot.puts
    ]
    return {**where, "puts": puts}


def _read_upload(document: Any) -> _Upload:
    if not isinstance(document, dict):
        raise InvalidRequestError("an upload begins with a JSON object of filename, size and sha256")
    filename, size, sha256 = (document.get(key) for key in ("filename", "size", "sha256"))
    if not isinstance(filename, str):
        raise InvalidRequestError("'filename' is missing or not a string")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
        raise InvalidRequestError("'size' is missing or not a number of bytes")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise InvalidRequestError("'sha256' is missing or not 64 lowercase hex digits")
    return _permitted_upload(filename, size, sha256)


def _find_upload(upload_id: str) -> _Upload:
    match = _ID.fullmatch(upload_id)
    if match is None:
        raise NotFoundError("there is no such upload")
    return _permitted_upload(match[3], int(match[2]), match[1])


def _permitted_upload(filename: str, size: int, sha256: str) -> _Upload:
    principal = current_principal()
    principal.require(Permission.UPLOAD)
    parsed = parse_filename(filename)
    principal.require(Permission.UPLOAD, parsed.project)
    return _Upload(parsed, size, sha256, principal)


def _received(index: Index, upload: _Upload) -> int:
    received = index.received(upload.token)
    if received is None:
        raise NotFoundError("there is no such upload: it was finished or given up; begin it again")
    return received


def _offset() -> int:
    value = request.headers.get("Upload-Offset", "")
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise InvalidRequestError("the header Upload-Offset is missing or not a number of bytes")
    return int(value)


def _wrong_offset(upload: _Upload, received: int) -> Response:
    message = f"{received} of {upload.size} bytes are here: go on with the next one"
    return answer_json({"status": 409, "error": "wrong-offset", "message": message, "received": received}, 409)


def _answer_outcome(upload: _Upload, outcome: Outcome) -> Response:
    """Answer what has become of an upload that was handed over."""
    if outcome.added is not None:
        return _added(upload, outcome.added)
    if outcome.error is not None:
        return answer_kept_error(outcome.error, outcome.message or "", request.path)
    response = answer_json(upload.describe(status="finishing"), 202)
    response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response


def _added(upload: _Upload, added: Added) -> Response:
    note_added(request.environ, added)
    document = upload.describe(status=added.name.lower(), version=str(upload.parsed.version))
    return answer_json(document, 201 if added is Added.CREATED else 200)
