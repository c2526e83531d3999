"""`/packages/`: the files, and the core metadata beside them (PEP 658)."""

from __future__ import annotations

import threading
from functools import partial
from urllib.parse import quote, unquote

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from elasticpypi.config import Permission
from elasticpypi.errors import NotFoundError
from elasticpypi.index import FoundFile, Index, SignedURL
from elasticpypi.names import normalize_name
from elasticpypi.web.people import show_errors_in_browsers
from elasticpypi.web.present import current_principal
from elasticpypi.web.sending import asks_for_one_range, is_download, make_cacheable, open_in_turn, redirect_to_bytes
from elasticpypi.web.simple import redirect_within
from elasticpypi.web.upstream_files import KeepLater, UpstreamDownloads

DOWNLOADS = 96  # at once in a process: readers that stall must leave threads of the server for pages
_METADATA_SUFFIX = ".metadata"


def file_downloads(index: Index, *, can_stream: bool = True, keep_later: KeepLater | None = None) -> Blueprint:
    """Return the routes of files and what lies beside them; `can_stream`, `keep_later` as for `UpstreamDownloads`."""
    files = Blueprint("files", __name__)
    show_errors_in_browsers(files)
    turns = threading.BoundedSemaphore(DOWNLOADS)
    upstream = UpstreamDownloads(index, turns, can_stream=can_stream, keep_later=keep_later)

    @files.get("/packages/<name>/<filename>")
    def download(name: str, filename: str) -> Response:
        normalized = normalize_name(name)
        current_principal().require(Permission.READ, normalized)
        if name != normalized:
            return redirect_within(f"../{normalized}/{quote(filename, safe='')}")
        filename = unquote(filename)  # simple-repository-server quotes our URLs once more; no filename has a "%"
        try:
            if filename.endswith(_METADATA_SUFFIX):
                return _core_metadata(index, index.find_file(normalized, filename.removesuffix(_METADATA_SUFFIX)))
            response = _file(index, index.find_file(normalized, filename), turns)
        except NotFoundError:
            not_ours = index.locate(normalized) if index.has_upstreams else None
            if not_ours is None or isinstance(not_ours, int):
                raise
            return upstream.answer(not_ours, filename)
        if index.downloads.is_on and is_download(response):
            index.downloads.note(normalized, filename)
        return response

    return files


def _file(index: Index, found: FoundFile, turns: threading.BoundedSemaphore) -> Response:
    response = Response(mimetype="application/octet-stream", direct_passthrough=True)
    response.content_length = found.file.size
    response.last_modified = found.file.upload_time
    response.headers["Accept-Ranges"] = "bytes"
    make_cacheable(response, found.file.sha256, for_good=not index.overwrite)
    if request.method == "HEAD":  # answered from the catalog
        response.make_conditional(request)
        return response
    download = open_in_turn(turns, partial(index.download, found))
    if isinstance(download, SignedURL):
        return redirect_to_bytes(download)
    response.response = download
    try:
        response.make_conditional(request, accept_ranges=asks_for_one_range(), complete_length=found.file.size)
    except RequestedRangeNotSatisfiable:
        download.close()
        raise
    return response


def _core_metadata(index: Index, found: FoundFile) -> Response:
    body = index.core_metadata(found)
    # Bytes, for nobody promises that they are UTF-8, as which Lambda would read what is called text.
    response = Response(body, mimetype="application/octet-stream")
    make_cacheable(response, found.file.core_metadata_sha256 or "", for_good=not index.overwrite)
    response.make_conditional(request)
    return response
