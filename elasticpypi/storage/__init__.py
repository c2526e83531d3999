"""The storage: where the bytes lie, and the only truth.

Adapters: `storage.filesystem`, `storage.s3`. Every adapter passes the same contract tests (tests/test_storage.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import BinaryIO, Protocol

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it lies in the storage now."""

    key: str
    size: int  # bytes
    fingerprint: str  # opaque; another one whenever the object was written again
    sha256: str | None = None  # lowercase hex, where the storage itself has proven it for the whole object


@dataclass(frozen=True, slots=True)
class Document:
    """A small object that was read whole, with the fingerprint that belongs to these bytes."""

    data: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Bytes that the application sends itself; the caller closes the stream, which stands at their start."""

    stream: BinaryIO


@dataclass(frozen=True, slots=True)
class SignedURL:
    """Where a client gets the bytes itself, for a while and without credentials: a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedPut:
    """A request by which a client brings bytes to the storage itself: PUT, just these headers, just these bytes."""

    url: str = field(repr=False)
    headers: Mapping[str, str]
    offset: int  # of the first byte
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """An upload that was begun and not published yet."""

    received: int  # bytes that have come in
    puts: tuple[SignedPut, ...] | None = None  # what is still to be brought (some of it); None: send it through us


class Incoming(Protocol):
    """An object on its way in: written, read back for checking, then published or dropped. Invisible until then."""

    stream: BinaryIO  # for reading back what was written; seekable
    size: int  # bytes that had come in already, when `receive` went on with an upload that was begun before
    sha256: str | None  # lowercase hex of all of them, where the storage itself has proven it

    def write(self, data: bytes, /) -> int:
        """Add to the end; raise StorageFullError where there is no more room."""

    def publish(self, key: str, *, replacing: str | None = None) -> StoredObject:
        """Make the bytes visible under `key`, whole, durably and once.

        `replacing` is the fingerprint of the object that this one takes the place of, None where there must be none.
        Raise ConflictError where that is not (or no longer) so.
        """

    def drop(self) -> None:
        """Forget the bytes, should they not have been published."""


class Storage(Protocol):
    """Where the bytes lie. Any method may raise StorageError when the storage cannot be reached or read.

    Keys are strings of parts joined by "/". Strongly consistent: who looks after a write sees it.
    """

    @property
    def upload_origin(self) -> str | None:
        """Where signed requests bring bytes, as a browser names it ("https://host"); None: they come through us.

        No request.
        """

    def stat(self, key: str) -> StoredObject:
        """Look at an object; raise ObjectMissingError if there is none."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what lies under a prefix, in the order of the keys' UTF-8 bytes, `.elasticpypi/` left out."""

    def is_settled(self, obj: StoredObject) -> bool:
        """Whether nobody is still writing the object, as far as the storage can tell."""

    def open(self, obj: StoredObject) -> AbstractContextManager[BinaryIO]:
        """Open just this object for seeking and reading.

        Whoever reads of it gets ObjectMissingError or BusyError, at the latest when the context ends, where it is gone
        or another one now; UnreadableObjectError where this one object refuses to be read.
        """

    def upload_time(self, obj: StoredObject, sha256: str) -> datetime:
        """Return when these bytes came to lie under this key, by the storage's own clock (aware, UTC)."""

    def receive(self, *, resuming: str | None = None) -> AbstractContextManager[Incoming]:
        """Begin an object; what is not published when the context ends leaves no trace.

        With the token of an upload that was begun, go on at its end: what was written stays when the context ends,
        unless it is published or dropped. Raise ObjectMissingError where no such upload was begun (or nothing has come
        of it, as in `received`), BusyError where two that go on with it would be in each other's way. Where the bytes
        come by signed requests they are not: of several that publish it at once one does, and `write` raises
        StorageError. Whether all bytes are there, the caller tells by `size` before it reads any.
        """

    def begin(self, token: str, *, size: int, sha256: str) -> Slot:
        """Begin an upload of so many bytes in parts, unless that was done before; return what has come of it.

        The token is made of lowercase letters and digits, and whoever knows it may go on with the upload. It stands for
        these bytes: another size or digest comes with another token.
        """

    def received(self, token: str) -> int:
        """Return how many bytes of an upload have come in; raise ObjectMissingError where it was not begun.

        That it was begun may be remembered only from the first byte on.
        """

    def remove_abandoned(self) -> None:
        """Remove what uploads left behind whose process died, and those begun that got no byte for 24 hours.

        In parts by signed requests: those begun 24 hours ago.
        """

    def read_document(self, key: str) -> Document:
        """Read a small object (at most 16 MiB) whole; raise ObjectMissingError if there is none."""

    def write_document(
        self, key: str, data: bytes, *, replacing: str | None, headers: Mapping[str, str] = NO_HEADERS
    ) -> StoredObject:
        """Write a small object under the condition that `Incoming.publish` describes.

        `headers` (Content-Type, Content-Encoding) are what whoever gets it by a signed URL is told.
        """

    def remove(self, key: str, *, fingerprint: str) -> None:
        """Remove just this object, durably.

        Raise ObjectMissingError if there is none, ConflictError if it is another one now (the same bytes written once
        more, between looking and removing, may count as this one).
        """

    def notes(self, about: str | None = None) -> Iterator[str]:
        """Yield the keys of the documents below `.elasticpypi/` that nobody could make anew, and of kept files, sorted.

        All of them, or those on the object under the key `about`. What is on its way in is not among them.
        """

    def free_bytes(self) -> int | None:
        """Return how much room there is; None where there is no bound."""

    def download(self, key: str, fingerprint: str) -> LocalFile | SignedURL:
        """Say how a client gets the bytes; raise ObjectMissingError or BusyError where they are known to be others now.

        A signed URL costs no request, and stays the same for some minutes.
        """

    def check(self) -> None:
        """Look at something small; raise StorageError if that fails."""
