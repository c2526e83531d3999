"""The files of upstreams that come through us: found, given out, kept, with what lies beside them."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import orjson

from elasticpypi.config import Upstream
from elasticpypi.errors import (
    ArchiveError,
    BusyError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    ObjectMissingError,
    StorageError,
    UnavailableError,
    UpstreamError,
)
from elasticpypi.metadata import read_core_metadata
from elasticpypi.model import Status
from elasticpypi.names import Kind, parse_filename
from elasticpypi.storage import LocalFile, SignedURL, Storage
from elasticpypi.upstream.fetching import Download, Fetcher
from elasticpypi.upstream.flights import Flights
from elasticpypi.upstream.kept import KeptFiles, core_metadata_key, provenance_key
from elasticpypi.upstream.model import HeldBack, KeptFile, Listing, UpstreamFile
from elasticpypi.upstream.recent import RecentDocuments
from elasticpypi.upstream.transfers import Copy, FoundUpstreamFile, Proof, UpstreamStream, publish, refuse_bytes

_MOST_CORE_METADATA_BYTES = 5 * 2**20
_MOST_PROVENANCE_BYTES = 10 * 2**20
_RECENT_BYTES = 8 * 2**20  # of core metadata, in each process: what a resolver asks for, others ask for as well
_LEAST_SECONDS = 1.0  # that have to be left where a document is asked for
_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
_log = logging.getLogger(__name__)


class UpstreamFiles:
    """Gives out the files of upstreams, and keeps them. Every method may raise UnavailableError."""

    def __init__(
        self,
        storage: Storage,
        kept: KeptFiles,
        fetchers: Callable[[Upstream], Fetcher],
        *,
        flights: Flights,
        notice: Callable[[FoundUpstreamFile], None] = lambda _: None,
    ) -> None:
        """`flights` has the places of all who wait for any upstream: a slow one takes no more threads than those.

        `notice` is told of each file that has just been kept.
        """
        self._storage = storage
        self._kept = kept
        self._fetchers = fetchers
        self._flights = flights
        self._notice = notice
        self._recent = RecentDocuments(_RECENT_BYTES)

    def find(self, listing: Listing, filename: str) -> FoundUpstreamFile:
        """Return a file that clients may have.

        Raise ForbiddenError where it is held back, NotFoundError where there is none, or where it does not come
        through us.
        """
        if listing.page.status is Status.QUARANTINED:
            raise ForbiddenError(
                f"the upstream {listing.upstream.name!r} has quarantined the project {listing.name!r}: its files "
                "cannot be downloaded for now"
            )
        file = next((file for file in listing.shown if file.filename == filename), None)
        held = next((held for held in listing.held_back if held.file.filename == filename), None)
        if file is None and held is not None:
            raise ForbiddenError(say_why(held))
        if file is None:
            raise NotFoundError(f"the project {listing.name!r} has no file {filename!r}")
        if not listing.upstream.brings_files or _is_sha256(file.sha256 or "") is None:
            raise NotFoundError(
                f"the files of the upstream {listing.upstream.name!r} do not come through this index: {filename} is "
                f"where the page of {listing.name!r} says"
            )
        return FoundUpstreamFile(listing.upstream, listing.name, file, listing.keeps(file))

    def download(self, found: FoundUpstreamFile) -> LocalFile | SignedURL | None:
        """Say how a client gets bytes that lie here; None where they do not."""
        try:
            download = self._storage.download(found.key, self._storage.stat(found.key).fingerprint)
        except ObjectMissingError:
            return None
        if not found.is_kept:  # whoever brought them has not come to say so, or our listing is older than that
            self._try_to_remember(found)
        return download

    def stream(self, found: FoundUpstreamFile) -> UpstreamStream:
        """Begin to bring a file to a client, and keep it on the way where files are kept.

        Raise UpstreamError where upstream does not begin to send what its page says.
        """
        return UpstreamStream(found, self._pass_on)

    def bring(
        self,
        found: FoundUpstreamFile,
        *,
        deadline: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Bring a file here with what belongs beside it, unless that was done before; where files are kept, keep it.

        `progress` is told of each piece how many bytes it has. Raise UpstreamError where upstream does not send what
        its page says, or not until the deadline (by `time.monotonic()`).
        """
        is_here = self._lies_here(found)
        if not is_here:
            self._copy(found, deadline, progress)
        if not (is_here and found.is_kept):
            self._remember(found, deadline)

    def core_metadata(self, found: FoundUpstreamFile) -> bytes:
        """Return a file's core metadata, as announced; NotFoundError where none is announced for it."""
        if not found.file.core_metadata:
            raise NotFoundError(f"there is no core metadata for {found.file.filename!r}")
        announced = core_metadata_sha256(found.file)
        if announced is None:  # only what is proven may stand for upstream's word
            return self._fetch_core_metadata(found)
        data = self._recent.get(announced)
        if data is None:
            data = self._find_core_metadata(found, announced)
            self._recent.add(announced, data)
        return data

    def provenance(self, found: FoundUpstreamFile) -> bytes:
        """Return the provenance of a file, a JSON document; NotFoundError where none is announced for it."""
        kept = self._read(provenance_key(found.project, found.sha256, found.file.filename)) if found.is_kept else None
        return self._fetch_provenance(found) if kept is None else kept

    # Bytes ---------------------------------------------------------------------------------------------------------

    def _pass_on(self, found: FoundUpstreamFile, stream: UpstreamStream) -> Generator[bytes, None, None]:
        """Yield a file piece by piece, and keep it when all of it has passed, even if nobody asks for an end."""
        proof, is_whole = Proof(found), False
        storage = self._storage if found.upstream.keep else None
        with self._begun(found) as download, Copy(storage, found) as copy:
            stream.size = proof.agree(download.size)
            try:
                for piece in proof.pieces(download.pieces()):
                    copy.write(piece)
                    is_whole = proof.is_given
                    yield piece
            finally:
                if is_whole and copy.publish():
                    self._try_to_remember(found)

    def _copy(self, found: FoundUpstreamFile, deadline: float | None, progress: Callable[[int], None] | None) -> None:
        proof = Proof(found)
        with self._begun(found, until=deadline) as download, self._storage.receive() as incoming:
            proof.agree(download.size)
            for piece in proof.pieces(download.pieces()):
                incoming.write(piece)
                if progress is not None:
                    progress(len(piece))
            publish(incoming, found)

    @contextmanager
    def _begun(self, found: FoundUpstreamFile, *, until: float | None = None) -> Iterator[Download]:
        """Begin to download a file; it takes a place until it comes, and then one of what upstream's files may have."""
        with ExitStack() as stack:
            with self._place(found.upstream):
                download = stack.enter_context(self._fetchers(found.upstream).file(found.file.url, until=until))
            yield download

    @contextmanager
    def _place(self, upstream: Upstream) -> Iterator[None]:
        with self._flights.place(upstream.name) as has_place:
            if not has_place:
                raise UpstreamError(upstream.name, "is asked by too many just now; try again in a moment")
            yield

    def _lies_here(self, found: FoundUpstreamFile) -> bool:
        try:
            self._storage.stat(found.key)
        except ObjectMissingError:
            return False
        return True

    # Keeping -------------------------------------------------------------------------------------------------------

    def _try_to_remember(self, found: FoundUpstreamFile) -> None:
        try:
            self._remember(found)
        except UnavailableError as error:
            _log.warning("it is not remembered yet that %s is kept: %s", found.file.filename, error)

    def _remember(self, found: FoundUpstreamFile, deadline: float | None = None) -> None:
        """Remember that a file is kept whose bytes lie here, when what belongs beside it lies here, too.

        Without its provenance, or an sdist without core metadata, a file is as good as before.
        """
        file = found.file
        if not found.upstream.keep or file.filename in self._kept.read(found.project).files:
            return
        core_metadata = self._keep_core_metadata(found, deadline)
        provenance = file.provenance if self._keep_provenance(found, deadline) else None
        file = replace(file, core_metadata=core_metadata, provenance=provenance)
        self._kept.add(found.project, KeptFile(found.upstream.name, file))
        self._notice(found)

    def _keep_core_metadata(self, found: FoundUpstreamFile, deadline: float | None) -> bool | Mapping[str, str]:
        """Have a file's core metadata lie here, and return how it is announced from now on.

        What upstream says is in a wheel decides for good what is installed beside it: so the wheel itself is asked.
        Of an sdist it takes a build to know.
        """
        if parse_filename(found.file.filename).kind is Kind.WHEEL:
            return self._extract_core_metadata(found)
        announced = core_metadata_sha256(found.file)
        if announced is None:
            return False
        try:
            if self._read_core_metadata(found) is None:
                _check_time(found, deadline)
                data = self._fetch_core_metadata(found)
                self._write(core_metadata_key(found.project, found.sha256, announced), data)
        except UpstreamError as error:
            _log.warning("%s is kept without its core metadata: %s", found.file.filename, error)
            return False
        return {"sha256": announced}

    def _extract_core_metadata(self, found: FoundUpstreamFile) -> bool | Mapping[str, str]:
        try:
            with self._storage.open(self._storage.stat(found.key)) as stream:
                own = read_core_metadata(stream, parse_filename(found.file.filename))
        except ArchiveError as error:
            _log.warning("%s is kept without its core metadata: %s", found.file.filename, error)
            return False
        except ObjectMissingError as error:  # somebody has just removed it
            raise BusyError(found.key) from error
        if own is None:
            return False
        sha256 = hashlib.sha256(own.raw).hexdigest()
        self._write(core_metadata_key(found.project, found.sha256, sha256), own.raw)
        return {"sha256": sha256}

    def _keep_provenance(self, found: FoundUpstreamFile, deadline: float | None) -> bool:
        """Bring a file's provenance here, if there is one, and tell whether it is."""
        if found.file.provenance is None:
            return False
        key = provenance_key(found.project, found.sha256, found.file.filename)
        try:
            if self._read(key) is None:
                _check_time(found, deadline)
                self._write(key, self._fetch_provenance(found))
        except (UpstreamError, NotFoundError) as error:
            _log.warning("%s is kept without its provenance: %s", found.file.filename, error)
            return False
        return True

    # Documents -----------------------------------------------------------------------------------------------------

    def _read_core_metadata(self, found: FoundUpstreamFile) -> bytes | None:
        """Return the core metadata that lies here, if it is what is announced now."""
        announced = core_metadata_sha256(found.file)
        if announced is None:
            return None
        data = self._read(core_metadata_key(found.project, found.sha256, announced))
        return data if data is not None and hashlib.sha256(data).hexdigest() == announced else None

    def _find_core_metadata(self, found: FoundUpstreamFile, announced: str) -> bytes:
        """Return core metadata from here, or else from upstream, so that it lies here from now on."""
        data = self._read_core_metadata(found)
        if data is None:
            data = self._fetch_core_metadata(found)
            self._try_to_write(core_metadata_key(found.project, found.sha256, announced), data)
        return data

    def _fetch_core_metadata(self, found: FoundUpstreamFile) -> bytes:
        filename, announced = found.file.filename, core_metadata_sha256(found.file)
        parts = urlsplit(found.file.url)
        url = parts._replace(path=f"{parts.path}.metadata").geturl()
        data = self._fetch(found.upstream, url, most_bytes=_MOST_CORE_METADATA_BYTES)
        if data is None:
            raise UpstreamError(found.upstream.name, f"has no core metadata for {filename}, though its page says so")
        sha256 = hashlib.sha256(data).hexdigest()
        if announced not in (None, sha256):
            raise refuse_bytes(found, "the core metadata of ", came=sha256, announced=announced)
        return data

    def _fetch_provenance(self, found: FoundUpstreamFile) -> bytes:
        filename, url = found.file.filename, found.file.provenance
        data = None if url is None else self._fetch(found.upstream, url, most_bytes=_MOST_PROVENANCE_BYTES)
        if data is None:
            raise NotFoundError(f"there is no provenance for {filename!r}")
        try:
            orjson.loads(data)
        except ValueError as error:
            raise UpstreamError(found.upstream.name, f"has sent a provenance for {filename} that is no JSON") from error
        return data

    def _fetch(self, upstream: Upstream, url: str, *, most_bytes: int) -> bytes | None:
        with self._place(upstream):
            return self._fetchers(upstream).document(url, most_bytes=most_bytes)

    def _read(self, key: str) -> bytes | None:
        try:
            return self._storage.read_document(key).data
        except ObjectMissingError:
            return None

    def _write(self, key: str, data: bytes) -> None:
        try:
            self._storage.write_document(key, data, replacing=None)
        except ConflictError:
            _log.debug("%s lies there already", key)

    def _try_to_write(self, key: str, data: bytes) -> None:
        try:
            self._write(key, data)
        except StorageError as error:  # a reader needs no room on a disk that is full
            _log.warning("a document of an upstream was not kept: %s", error)


def core_metadata_sha256(file: UpstreamFile) -> str | None:
    """Return the digest that is announced for a file's core metadata; None where none is, or none that could be."""
    sha256 = None if isinstance(file.core_metadata, bool) else file.core_metadata.get("sha256")
    return sha256 if sha256 is not None and _is_sha256(sha256) else None


def _check_time(found: FoundUpstreamFile, deadline: float | None) -> None:
    if deadline is not None and deadline - time.monotonic() < _LEAST_SECONDS:
        raise UpstreamError(found.upstream.name, "is not asked for it: there is no time left")


def say_why(held: HeldBack) -> str:
    """Return the sentence about a file that is held back."""
    until = "" if held.until is None else f"; it can be had from {held.until:%Y-%m-%d %H:%M} UTC on"
    return f"{held.file.filename} {held.reason}{until}"
