"""`/packages/` of names that are not ours: files of upstreams that come through us, and what lies beside them.

A server sends them while it gets them. What stands behind a gateway cannot: there, clients get what lies in the storage
by a signed URL, and what does not yet is copied there first, or taken from upstream by the client itself.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from elasticpypi.errors import NotFoundError, QueueError, UnavailableError, UpstreamError
from elasticpypi.index import LARGEST_COPY, Elsewhere, Index, LocalFile, NotOurs, SignedURL
from elasticpypi.web.sending import (
    SentFile,
    SentStream,
    asks_for_one_range,
    is_download,
    make_cacheable,
    open_in_turn,
    redirect_to_bytes,
)

if TYPE_CHECKING:
    from elasticpypi.index import FoundUpstreamFile, UpstreamStream

KeepLater = Callable[[Mapping[str, Any]], None]
_METADATA_SUFFIX, _PROVENANCE_SUFFIX = ".metadata", ".provenance"
_PROVENANCE_TYPE = "application/vnd.pypi.integrity.v1+json"  # as PyPI has it
# What is copied while a client waits, for which a gateway leaves it 29 seconds.
_AT_ONCE_BYTES = 32 * 2**20
_AT_ONCE_SECONDS = 20.0
_log = logging.getLogger(__name__)


class UpstreamDownloads:
    """Answers requests for the files of upstreams."""

    def __init__(
        self, index: Index, turns: threading.BoundedSemaphore, *, can_stream: bool, keep_later: KeepLater | None
    ) -> None:
        """`can_stream` says whether an answer may be sent while it is made; `keep_later` is as for `create_app`."""
        self._index = index
        self._turns = turns
        self._can_stream = can_stream
        self._keep_later = keep_later

    def answer(self, name: NotOurs, filename: str) -> Response:
        """Answer a request for a file of a project, or for what lies beside one.

        Raise NotFoundError, ForbiddenError where the file is held back, UpstreamError.
        """
        until = time.monotonic() + _AT_ONCE_SECONDS
        listing = self._index.upstreams.find(name)
        if isinstance(listing, Elsewhere):
            raise NotFoundError(f"the files of {name!r} are not here: clients are sent to {listing.upstream.name!r}")
        files = self._index.upstreams.files
        if filename.endswith(_METADATA_SUFFIX):
            return self._core_metadata(files.find(listing, filename.removesuffix(_METADATA_SUFFIX)))
        if filename.endswith(_PROVENANCE_SUFFIX):
            return self._provenance(files.find(listing, filename.removesuffix(_PROVENANCE_SUFFIX)))
        response = self._file(files.find(listing, filename), until)
        if self._index.downloads.is_on and is_download(response):
            self._index.downloads.note(name, filename)
        return response

    def _file(self, found: FoundUpstreamFile, until: float) -> Response:
        response = Response(mimetype="application/octet-stream", direct_passthrough=True)
        response.automatically_set_content_length = False  # it would be that of no body, where the page has no size
        if found.file.size is not None:
            response.content_length = found.file.size
        response.last_modified = found.file.upload_time
        make_cacheable(response, found.sha256, for_good=found.is_kept)
        if found.is_kept:
            response.headers["Accept-Ranges"] = "bytes"
        response.make_conditional(request)
        if request.method == "HEAD" or response.status_code == 304:  # answered from upstream's page
            return response
        sent = open_in_turn(self._turns, partial(self._open, found, until))
        if isinstance(sent, SignedURL):
            return redirect_to_bytes(sent)
        return _send(response, sent)

    def _open(self, found: FoundUpstreamFile, until: float) -> LocalFile | SignedURL | UpstreamStream:
        files = self._index.upstreams.files
        here = files.download(found)
        if here is not None:
            return here
        if self._can_stream:
            return files.stream(found)
        if found.upstream.username is None:
            self._try_to_hand_over(found)
            return SignedURL(found.file.url)
        return self._copied(found, until)

    def _copied(self, found: FoundUpstreamFile, until: float) -> LocalFile | SignedURL:
        """Copy a file that only we can get, if it is small enough; else have it copied, and raise UnavailableError.

        NotFoundError where nobody could copy it: to come again would not help.
        """
        files, size = self._index.upstreams.files, found.file.size
        if size is not None and size > LARGEST_COPY:
            raise NotFoundError(
                f"{found.file.filename} is too large to be copied ({size} bytes, and {LARGEST_COPY} at the most): get "
                "it from the upstream itself"
            )
        here = None
        if size is not None and size <= _AT_ONCE_BYTES:
            try:
                files.bring(found, deadline=until)
                here = files.download(found)
            except UpstreamError:
                if time.monotonic() < until:
                    raise
        if here is None:
            self._hand_over(found)
            raise UnavailableError(f"{found.file.filename} is being copied; try again in a moment")
        return here

    def _try_to_hand_over(self, found: FoundUpstreamFile) -> None:
        try:
            self._hand_over(found)
        except QueueError as error:  # the client gets its file all the same, and the next one has it kept
            _log.warning("%s is not kept this time: %s", found.file.filename, error)

    def _hand_over(self, found: FoundUpstreamFile) -> None:
        """Have a file copied by whoever has more time, unless it is too large for anybody."""
        if self._keep_later is not None and (found.file.size or 0) <= LARGEST_COPY:
            self._keep_later(
                {
                    "project": found.project,
                    "filename": found.file.filename,
                    "upstream": found.upstream.name,
                    "sha256": found.sha256,
                    "size": found.file.size,
                }
            )

    def _core_metadata(self, found: FoundUpstreamFile) -> Response:
        body = self._index.upstreams.files.core_metadata(found)
        return _document(body, "application/octet-stream", for_good=found.is_kept)

    def _provenance(self, found: FoundUpstreamFile) -> Response:
        body = self._index.upstreams.files.provenance(found)
        return _document(body, _PROVENANCE_TYPE, for_good=False)


def _send(response: Response, sent: SentFile | SentStream) -> Response:
    """Let a response have its bytes; of those that lie here a client may ask for a part."""
    response.response = sent
    if isinstance(sent, SentStream):
        if sent.size is not None:
            response.content_length = sent.size
        return response
    response.headers["Accept-Ranges"] = "bytes"
    size = response.content_length = sent.file.seek(0, io.SEEK_END)
    sent.file.seek(0)
    try:
        response.make_conditional(request, accept_ranges=asks_for_one_range(), complete_length=size)
    except RequestedRangeNotSatisfiable:
        sent.close()
        raise
    return response


def _document(body: bytes, mimetype: str, *, for_good: bool) -> Response:
    response = Response(body, mimetype=mimetype)
    make_cacheable(response, hashlib.sha256(body).hexdigest(), for_good=for_good)
    response.make_conditional(request)
    return response
