"""`/packages/`: the files, and the core metadata beside them (PEP 658)."""

from __future__ import annotations

import re
import threading
from typing import BinaryIO
from urllib.parse import quote, unquote

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from elasticpypi.config import Permission
from elasticpypi.errors import UnavailableError
from elasticpypi.index import FoundFile, Index, LocalFile, SignedURL
from elasticpypi.names import normalize_name
from elasticpypi.web.people import show_errors_in_browsers
from elasticpypi.web.present import current_principal, current_session
from elasticpypi.web.simple import redirect_within

_CHUNK_BYTES = 64 * 1024  # the server keeps a few of them for each reader that stalls
DOWNLOADS = 96  # at once in a process: readers that stall must leave threads of the server for pages
_METADATA_SUFFIX = ".metadata"


def file_downloads(index: Index) -> Blueprint:
    """Return the routes of files and their core metadata."""
    files = Blueprint("files", __name__)
    show_errors_in_browsers(files)
    turns = threading.BoundedSemaphore(DOWNLOADS)

    @files.get("/packages/<name>/<filename>")
    def download(name: str, filename: str) -> Response:
        normalized = normalize_name(name)
        current_principal().require(Permission.READ, normalized)
        if name != normalized:
            return redirect_within(f"../{normalized}/{quote(filename, safe='')}")
        filename = unquote(filename)  # simple-repository-server quotes our URLs once more; no filename has a "%"
        if filename.endswith(_METADATA_SUFFIX):
            return _core_metadata(index, index.find_file(normalized, filename.removesuffix(_METADATA_SUFFIX)))
        found = index.find_file(normalized, filename)
        response = _file(index, found, turns)
        if index.downloads.is_on and _is_download(response):
            index.downloads.note(normalized, filename)
        return response

    return files


class _Download(FileWrapper):
    """Bytes on their way to a client, which hold a turn until the server closes them."""

    def __init__(self, stream: BinaryIO, turns: threading.BoundedSemaphore) -> None:
        super().__init__(stream, _CHUNK_BYTES)
        self._turns: threading.BoundedSemaphore | None = turns

    def close(self) -> None:
        super().close()
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release()


def _open_download(index: Index, found: FoundFile, turns: threading.BoundedSemaphore) -> _Download | SignedURL:
    if not turns.acquire(blocking=False):
        raise UnavailableError("too many downloads are under way just now; try again in a moment")
    try:
        download = index.download(found)
        if isinstance(download, LocalFile):
            return _Download(download.stream, turns)
    except BaseException:
        turns.release()
        raise
    turns.release()
    return download


def _file(index: Index, found: FoundFile, turns: threading.BoundedSemaphore) -> Response:
    response = Response(mimetype="application/octet-stream", direct_passthrough=True)
    response.content_length = found.file.size
    response.last_modified = found.file.upload_time
    response.headers["Accept-Ranges"] = "bytes"
    _make_cacheable(response, found.file.sha256, index)
    if request.method == "HEAD":  # answered from the catalog
        response.make_conditional(request)
        return response
    download = _open_download(index, found, turns)
    if isinstance(download, SignedURL):  # it dies, and must not be kept longer than it lives
        return Response(status=302, headers={"Location": download.url, "Cache-Control": "no-store"})
    response.response = download
    try:
        response.make_conditional(request, accept_ranges=_asks_for_one_range(), complete_length=found.file.size)
    except RequestedRangeNotSatisfiable:
        download.close()
        raise
    return response


def _asks_for_one_range() -> bool:
    """Whether there is a Range to be heeded; several at once, other units and nonsense are ignored (RFC 9110, 14.2)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("Range", ""), re.ASCII)
    if match is None or match[0] == "bytes=-":
        return False
    return not (match[1] and match[2]) or int(match[1]) <= int(match[2])


def _is_download(response: Response) -> bool:
    """Whether a client gets a whole file, or its beginning: what looks into an archive asks for its end."""
    if request.method != "GET" or response.status_code not in (200, 206, 302):
        return False
    return response.status_code == 200 or not _asks_for_one_range() or _begins_at_the_start()


def _begins_at_the_start() -> bool:
    return re.match(r"bytes=0+-", request.headers["Range"]) is not None


def _core_metadata(index: Index, found: FoundFile) -> Response:
    body = index.core_metadata(found)
    # Bytes, for nobody promises that they are UTF-8, as which Lambda would read what is called text.
    response = Response(body, mimetype="application/octet-stream")
    _make_cacheable(response, found.file.core_metadata_sha256 or "", index)
    response.make_conditional(request)
    return response


def _make_cacheable(response: Response, sha256: str, index: Index) -> None:
    """Name the bytes by their digest, and let clients keep them, for good where a filename never changes its bytes."""
    response.set_etag(sha256)
    # What a browser keeps of a session would stay there after it has ended.
    is_kept = not index.overwrite and current_session() is None
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if is_kept else "private, max-age=0"
    response.headers["Vary"] = "Authorization, Cookie"
    response.headers["X-Content-Type-Options"] = "nosniff"
