"""Documents as the catalog wants them: read several at once, replaced on condition, their errors the catalog's."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from elasticpypi.catalog.documents.formats import PREFIX
from elasticpypi.errors import BusyError, CatalogError, ConflictError, ObjectMissingError, StorageError

LARGEST_DOCUMENT = 15 * 2**20  # bytes; a storage reads 16 MiB
_AT_ONCE = 16
_IN_HAND = 256  # documents that wait to be taken, when all are read
_LOCKS = 64
_REMEMBERED = 64
_REMEMBERED_BYTES = 2 * 2**20  # of documents, compressed; in memory they take some ten times as much
_PATIENCE_SECONDS = 12.0
_SHORTEST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_chance = random.SystemRandom()  # a generator in memory is the same in every copy of a snapshot
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class FoundDocument(Protocol):
    """A document that was read."""

    @property
    def data(self) -> bytes:
        """Its bytes."""

    @property
    def fingerprint(self) -> str:
        """What tells it from any other that has lain or will lie there: its bytes never repeat."""


class Documents(Protocol):
    """Small objects under keys. Any method may raise StorageError; strongly consistent."""

    def read_document(self, key: str) -> FoundDocument:
        """Read one; ObjectMissingError, and BusyError where it is replaced meanwhile."""

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> str:
        """Write one in place of that with this fingerprint (None: there must be none); return its own. ConflictError.

        Where the answer is lost and the request repeated, a conflict may be with oneself.
        """

    def remove_document(self, key: str) -> None:
        """Remove one, whatever it is; nothing where there is none."""

    def list_documents(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a prefix, in any order."""


@dataclass(frozen=True, slots=True)
class Seen(Generic[_T]):
    """What a document said, and what it is known by; None for both where there was none."""

    content: _T | None = None
    fingerprint: str | None = None


class Store:
    """The documents of one catalog."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._memory = _Memory()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def read(self, key: str, load: Callable[[bytes], _T]) -> _T | None:
        """Read a document; None where there is none."""
        return self._read(key, load)[0].content

    def read_to_change(self, key: str, load: Callable[[bytes], _T]) -> _T | None:
        """Do as `read`, and remember it for a change that is likely to follow."""
        seen, size = self._read(key, load)
        self._memory.put(key, seen, size)
        return seen.content

    def read_all(self, keys: Iterable[str], read: Callable[[str], _T]) -> Iterator[tuple[str, _T]]:
        """Yield what `read` returns for each key, in their order, several of them at the same time."""
        rest = iter(keys)
        some = list(islice(rest, _IN_HAND))
        if len(some) == 1:
            yield some[0], read(some[0])
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(some) or 1)) as threads:
            while some:
                yield from zip(some, threads.map(read, some), strict=True)
                some = list(islice(rest, _IN_HAND))

    def recall(self, key: str, *, younger_than_seconds: float) -> Any:
        """Return what a document said when it was read or written here a short while ago; None where it was not."""
        seen = self._memory.find(key, younger_than_seconds)
        return None if seen is None else seen.content

    def list(self, prefix: str) -> list[str]:
        """Return the keys under a prefix, sorted."""
        with _translated():
            return sorted(self._documents.list_documents(prefix))

    def put_all(self, documents: Sequence[tuple[str, bytes]]) -> None:
        """Write documents that nobody else writes, at the same time."""
        if len(documents) == 1:
            self._put(*documents[0])
        elif documents:
            with ThreadPoolExecutor(min(_AT_ONCE, len(documents))) as threads:
                list(threads.map(lambda document: self._put(*document), documents))

    def remove_all(self, keys: Iterable[str]) -> None:
        """Remove documents that nothing names any more; left behind, they cost their room and nothing else."""
        try:
            for key in keys:
                with _translated():
                    self._documents.remove_document(key)
        except CatalogError as error:
            _log.warning("documents of the catalog that nothing needs were left behind: %s", error)

    def change(
        self,
        key: str,
        load: Callable[[bytes], _T],
        dump: Callable[[_T], bytes],
        change: Callable[[_T | None], _T | None],
        is_outdated: Callable[[_T | None], bool] = lambda _: False,
    ) -> None:
        """Replace a document by what `change` makes of it (of None where there is none), on condition, until it is so.

        `change` returns None where nothing is to be written. It is tried first with what was remembered, which others
        may have replaced, unless that `is_outdated`. Writers of this process wait for each other, those of others make
        it begin again; CatalogError where that lasts too long.
        """
        patience = Patience(f"the catalog's document {key} is written by too many at once; try again in a moment")
        with self._locks[hash(key) % _LOCKS]:
            remembered: Seen[_T] | None = self._memory.find(key)
            if remembered is not None and is_outdated(remembered.content):
                remembered = None
            while True:
                seen = remembered or self._read(key, load)[0]
                changed = change(seen.content)
                if changed is None:
                    return
                data = dump(changed)
                try:
                    fingerprint = self._write(key, data, seen.fingerprint)
                except ConflictError:
                    self._memory.forget(key)
                    if remembered is None:
                        patience.wait()
                    remembered = None
                else:
                    self._memory.put(key, Seen(changed, fingerprint), len(data))
                    return

    def _read(self, key: str, load: Callable[[bytes], _T]) -> tuple[Seen[_T], int]:
        """Read a document; return how many bytes it has, too."""
        patience = Patience(f"the catalog's document {key} changes faster than it can be read; try again in a moment")
        while True:
            try:
                with _translated():
                    found = self._documents.read_document(key)
            except ObjectMissingError:
                return Seen(), 0
            except BusyError:
                patience.wait()
            else:
                with _damage_is_an_error(key):
                    return Seen(load(found.data), found.fingerprint), len(found.data)

    def _put(self, key: str, data: bytes) -> None:
        try:
            self._write(key, data, None)
        except ConflictError:
            return  # by a request that was repeated because its answer was lost

    def _write(self, key: str, data: bytes, replacing: str | None) -> str:
        if len(data) > LARGEST_DOCUMENT:
            raise CatalogError(
                f"the catalog's document {key} would have {len(data)} bytes, of which at most {LARGEST_DOCUMENT} can "
                "be read again: an index with such a project needs a 'table' in its configuration"
            )
        with _translated():
            return self._documents.write_document(key, data, replacing=replacing)


class _Memory:
    """Documents that were read or written here lately, with which a change is tried before they are read again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Seen[Any], int, float]] = OrderedDict()  # with size and time
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, key: str, younger_than_seconds: float = math.inf) -> Seen[Any] | None:
        with self._lock:
            seen, _, at = self._kept.get(key, (None, 0, 0.0))
            if seen is None or time.monotonic() - at > younger_than_seconds:
                return None
            self._kept.move_to_end(key)
            return seen

    def put(self, key: str, seen: Seen[Any], size: int) -> None:
        with self._lock:
            self._drop(key)
            self._kept[key] = seen, size, time.monotonic()
            self._bytes += size
            while len(self._kept) > 1 and (self._bytes > _REMEMBERED_BYTES or len(self._kept) > _REMEMBERED):
                self._drop(next(iter(self._kept)))

    def forget(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        if key in self._kept:
            self._bytes -= self._kept.pop(key)[1]


class Patience:
    """Pauses between attempts, longer each time and by chance, so that those who met do not meet again."""

    def __init__(self, given_up: str) -> None:
        self._given_up = given_up
        self._until = time.monotonic() + _PATIENCE_SECONDS
        self._pause = _SHORTEST_PAUSE

    def wait(self) -> None:
        """Pause; raise CatalogError with the sentence where it has lasted too long."""
        if time.monotonic() >= self._until:
            raise CatalogError(self._given_up)
        time.sleep(_chance.uniform(0, self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise CatalogError(f"the catalog's documents cannot be used: {error}") from error


@contextmanager
def _damage_is_an_error(key: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, zlib.error) as error:
        raise CatalogError(
            f"the catalog's document {key} is damaged: remove everything below {PREFIX} and run `elasticpypi sync`, "
            "which makes the catalog anew from the storage"
        ) from error
