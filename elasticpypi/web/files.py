"""`/packages/`: the files, and the core metadata beside them (PEP 658)."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from elasticpypi.config import Permission
from elasticpypi.index import FoundFile, Index
from elasticpypi.names import normalize_name
from elasticpypi.web.auth import current_principal
from elasticpypi.web.simple import redirect_within

_CHUNK_BYTES = 64 * 1024  # the server keeps a few of them for each reader that stalls
_METADATA_SUFFIX = ".metadata"


def file_downloads(index: Index) -> Blueprint:
    """Return the routes of files and their core metadata."""
    files = Blueprint("files", __name__)

    @files.get("/packages/<name>/<filename>")
    def download(name: str, filename: str) -> Response:
        normalized = normalize_name(name)
        current_principal().require(Permission.READ, normalized)
        if name != normalized:
            return redirect_within(f"../{normalized}/{quote(filename, safe='')}")
        if filename.endswith(_METADATA_SUFFIX):
            return _core_metadata(index, index.find_file(normalized, filename.removesuffix(_METADATA_SUFFIX)))
        return _file(index, index.find_file(normalized, filename))

    return files


def _file(index: Index, found: FoundFile) -> Response:
    response = Response(mimetype="application/octet-stream", direct_passthrough=True)
    response.content_length = found.file.size
    response.last_modified = found.file.upload_time
    response.headers["Accept-Ranges"] = "bytes"
    _make_cacheable(response, found.file.sha256, index)
    if request.method == "HEAD":  # answered from the catalog
        response.make_conditional(request)
        return response
    stream = index.open_file(found)
    response.response = FileWrapper(stream, _CHUNK_BYTES)
    in_bytes = request.headers.get("Range", "").startswith("bytes=")  # other units are to be ignored
    try:
        response.make_conditional(request, accept_ranges=in_bytes, complete_length=found.file.size)
    except RequestedRangeNotSatisfiable:
        stream.close()
        raise
    return response


def _core_metadata(index: Index, found: FoundFile) -> Response:
    body = index.core_metadata(found)
    response = Response(body, mimetype="text/plain")
    _make_cacheable(response, found.file.core_metadata_sha256 or "", index)
    response.make_conditional(request)
    return response


def _make_cacheable(response: Response, sha256: str, index: Index) -> None:
    """Name the bytes by their digest, and let clients keep them, for good where a filename never changes its bytes."""
    response.set_etag(sha256)
    response.headers["Cache-Control"] = (
        "private, max-age=0" if index.overwrite else "private, max-age=31536000, immutable"
    )
    response.headers["Vary"] = "Authorization"
    response.headers["X-Content-Type-Options"] = "nosniff"
