"""`/api/v1/uploads`: files of any size, in parts, each of which goes on where the last one stopped.

`Upload-Offset` and PATCH are those of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload): unlike
Content-Range, which RFC 9110 defines for partial PUT only, they need not know how long the part will be. Nothing is
remembered between requests but the bytes: the id of an upload says what it is to become, and only together with the
name of the principal does it say where its bytes lie.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import InvalidRequestError, InvalidUploadError, NotFoundError
from elasticpypi.index import Added, Index, claim_by_filename
from elasticpypi.names import ParsedFilename, parse_filename
from elasticpypi.web.auth import current_principal
from elasticpypi.web.bodies import read_json_object
from elasticpypi.web.observe import note_added

PART_BYTES = 32 * 2**20  # proxies refuse bodies that are too large, and what one keeps to itself is lost when it breaks
_CHUNK_BYTES = 256 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"([0-9a-f]{64})\.([0-9]{1,15})\.(.+)", re.ASCII)
_MOST_BYTES = 10**15 - 1


@dataclass(frozen=True, slots=True)
class _Slot:
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

    def describe(self, **more: object) -> dict[str, object]:
        return {"filename": self.parsed.filename, "project": self.parsed.project, "size": self.size, **more}


def resumable_uploads(index: Index) -> Blueprint:
    """Return the routes that take a file in parts."""
    uploads = Blueprint("api_uploads", __name__)

    @uploads.post("/api/v1/uploads")
    def begin() -> Response:
        current_principal().require(Permission.UPLOAD)
        slot = _read_slot(read_json_object())
        if index.has(slot.parsed, slot.sha256):
            return _added(slot, Added.UNCHANGED)
        received = index.begin(slot.token, size=slot.size, sha256=slot.sha256).received
        url = f"uploads/{quote(slot.id, safe='')}"  # relative: it holds under any prefix and behind any proxy
        where = {"id": slot.id, "parts-url": url, "finish-url": f"{url}/finish", "part-bytes": PART_BYTES}
        return _answer(200 if received else 201, slot.describe(received=received, **where))

    @uploads.get("/api/v1/uploads/<slot_id>")
    def tell(slot_id: str) -> Response:
        slot = _find_slot(slot_id)
        return _answer(200, slot.describe(received=_received(index, slot)))

    @uploads.patch("/api/v1/uploads/<slot_id>")
    def append(slot_id: str) -> Response:
        return _append(index, _find_slot(slot_id))

    @uploads.post("/api/v1/uploads/<slot_id>/finish")
    def finish(slot_id: str) -> Response:
        return _finish(index, _find_slot(slot_id))

    return uploads


def _append(index: Index, slot: _Slot) -> Response:
    """Add the request's body to the upload; whatever arrives before the connection breaks, stays."""
    end, received = _offset(), _received(index, slot)
    if end != received:
        return _wrong_offset(slot, received)
    while end < slot.size and (chunk := request.stream.read(min(_CHUNK_BYTES, slot.size - end))):
        # Held for no longer than this, so that a connection that hangs keeps nobody from going on by another.
        with index.resume(slot.token) as incoming:
            if incoming.size != end:
                return _wrong_offset(slot, incoming.size)
            end += incoming.write(chunk)
    if end == slot.size and request.stream.read(1):
        raise InvalidUploadError(f"there are more bytes than the {slot.size} that were announced")
    return _answer(200, slot.describe(received=end))


def _finish(index: Index, slot: _Slot) -> Response:
    if index.received(slot.token) is None and index.has(slot.parsed, slot.sha256):
        return _added(slot, Added.UNCHANGED)  # finished before, by a request whose answer was lost
    with index.resume(slot.token) as incoming:
        if incoming.size != slot.size:
            return _wrong_offset(slot, incoming.size)
        added = index.add_resumed(incoming, claim_by_filename(slot.parsed.filename, slot.sha256))
    return _added(slot, added)


def _read_slot(document: Any) -> _Slot:
    if not isinstance(document, dict):
        raise InvalidRequestError("an upload begins with a JSON object of filename, size and sha256")
    filename, size, sha256 = (document.get(key) for key in ("filename", "size", "sha256"))
    if not isinstance(filename, str):
        raise InvalidRequestError("'filename' is missing or not a string")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
        raise InvalidRequestError("'size' is missing or not a number of bytes")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise InvalidRequestError("'sha256' is missing or not 64 lowercase hex digits")
    return _permitted_slot(filename, size, sha256)


def _find_slot(slot_id: str) -> _Slot:
    match = _ID.fullmatch(slot_id)
    if match is None:
        raise NotFoundError("there is no such upload")
    return _permitted_slot(match[3], int(match[2]), match[1])


def _permitted_slot(filename: str, size: int, sha256: str) -> _Slot:
    principal = current_principal()
    principal.require(Permission.UPLOAD)
    parsed = parse_filename(filename)
    principal.require(Permission.UPLOAD, parsed.project)
    return _Slot(parsed, size, sha256, principal)


def _received(index: Index, slot: _Slot) -> int:
    received = index.received(slot.token)
    if received is None:
        raise NotFoundError("there is no such upload: it was finished or given up; begin it again")
    return received


def _offset() -> int:
    value = request.headers.get("Upload-Offset", "")
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise InvalidRequestError("the header Upload-Offset is missing or not a number of bytes")
    return int(value)


def _wrong_offset(slot: _Slot, received: int) -> Response:
    message = f"{received} of {slot.size} bytes are here: go on with the next one"
    return _answer(409, {"status": 409, "error": "wrong-offset", "message": message, "received": received})


def _added(slot: _Slot, added: Added) -> Response:
    note_added(request.environ, added)
    document = slot.describe(status=added.name.lower(), version=str(slot.parsed.version))
    return _answer(201 if added is Added.CREATED else 200, document)


def _answer(status: int, document: dict[str, object]) -> Response:
    response = jsonify(document)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response
