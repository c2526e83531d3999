"""Files of a source that lie on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from elasticpypi.digests import hex_digest
from elasticpypi.errors import SourceError

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalContent:
    """A `Content` in a file."""

    path: Path

    @contextmanager
    def read(self) -> Iterator[Iterator[bytes]]:
        with reading(self.path), self.path.open("rb") as stream:
            yield iter(lambda: stream.read(_CHUNK_BYTES), b"")

    def sha256(self) -> str:
        with reading(self.path), self.path.open("rb") as stream:
            return hex_digest(stream, "sha256")


def content_below(root: Path, relative: str) -> LocalContent:
    """Return the file at a path that somebody else has written down; SourceError where it leads out of the root."""
    path = root / relative
    with reading(path):
        if "\0" in relative or not path.resolve().is_relative_to(root.resolve()):
            raise SourceError(f"{relative!r} leads out of {root}, so it is not read")
    return LocalContent(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a path into SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
