"""Copies files of upstreams into the storage, which the API sends word of: it has no time for it itself.

That somebody was sent elsewhere for a file is no reason by itself: by now its name may be ours, or what clients see of
it another file. So everything is looked up anew.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticpypi.errors import ElasticpypiError, ForbiddenError, NotFoundError, UnavailableError, UpstreamError
from elasticpypi.handler.logs import Lines
from elasticpypi.handler.trying import NO_TIME, tries
from elasticpypi.index import LARGEST_COPY, Elsewhere, Index
from elasticpypi.names import NormalizedName, is_normalized_name

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
# How long a file may take at the most: others in the queue wait for it.
_BEGIN_SECONDS = 60.0
_LEAST_RATE = 1_000_000  # bytes in a second
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeepRequest:
    """A file of an upstream that is to lie here."""

    project: NormalizedName
    filename: str
    upstream: str
    sha256: str
    size: int  # bytes; 0: nobody knows


def read_keep_request(document: Mapping[str, Any]) -> KeepRequest | None:
    """Return what is asked for; None where nobody can tell."""
    match document:
        case {"project": str(project), "filename": str(filename), "upstream": str(upstream), "sha256": str(sha256)}:
            if not (is_normalized_name(project) and _is_sha256(sha256)):
                return None
            size = size if isinstance(size := document.get("size"), int) else 0
            return KeepRequest(NormalizedName(project), filename, upstream, sha256, size)
    return None


class Copies:
    """Copies what is asked for, and writes down what it did."""

    def __init__(self, index: Index, lines: Lines, *, pauses: Sequence[float]) -> None:
        self._index = index
        self._lines = lines
        self._pauses = pauses

    def bring(self, request: KeepRequest, until: float) -> str | None:
        """Copy a file unless it lies here; return why that has to be tried again.

        That upstream does not send what it should is no reason: whoever downloads the file next asks for it anew.
        """
        problem = NO_TIME
        until = min(until, time.monotonic() + _BEGIN_SECONDS + max(request.size, 0) / _LEAST_RATE)
        for _ in tries(self._pauses, until):
            if time.monotonic() >= until:
                break
            try:
                self._bring(request, until)
            except (NotFoundError, ForbiddenError, UpstreamError) as error:
                self._report(request, "dropped", str(error))
                return None
            except Exception as error:  # noqa: BLE001 (the messages beside it are not to suffer, and it is told of)
                problem = str(error)
                self._report(request, "failed", problem)
                if not isinstance(error, ElasticpypiError):
                    _log.exception("a file of an upstream could not be copied in a way that nobody has foreseen")
                if not isinstance(error, UnavailableError):
                    break
            else:
                return None
        return problem

    def _bring(self, request: KeepRequest, until: float) -> None:
        if request.size > LARGEST_COPY:
            self._report(request, "dropped", _say_too_large(request.size))
            return
        name = self._index.locate(request.project)
        if isinstance(name, int):
            self._report(request, "dropped", "the name is ours")
            return
        listing = self._index.upstreams.find(name)
        if isinstance(listing, Elsewhere) or listing.upstream.name != request.upstream:
            self._report(request, "dropped", f"clients now get the project from {listing.upstream.name!r}")
            return
        found = self._index.upstreams.files.find(listing, request.filename)
        if found.sha256 != request.sha256:
            self._report(request, "dropped", "upstream now lists other bytes under this name")
            return
        if found.file.size is not None and found.file.size > LARGEST_COPY:
            self._report(request, "dropped", _say_too_large(found.file.size))
            return
        self._index.upstreams.files.bring(found, deadline=until)
        self._report(request, "kept")

    def _report(self, request: KeepRequest, outcome: str, reason: str | None = None) -> None:
        told = {"project": request.project, "filename": request.filename, "upstream": request.upstream}
        self._lines.write("kept", told | {"outcome": outcome, "reason": reason})


def _say_too_large(size: int) -> str:
    return f"it is too large to be copied: {size} bytes, and {LARGEST_COPY} at the most"
