"""A directory with distribution files, as pypiserver serves it: in any folder, hidden ones left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from elasticpypi.errors import SourceError
from elasticpypi.importing import SourceFile, SourceProject
from elasticpypi.importing.local import LocalContent, reading


@dataclass(frozen=True, slots=True)
class PackageDirectory:
    """A `Source` in a directory; the time of a file's last change is what it says of its upload."""

    root: Path

    @property
    def name(self) -> str:
        return f"pypiserver {self.root.absolute().name}"

    def projects(self) -> Iterator[SourceProject]:
        yield SourceProject(tuple(self._file(path) for path in self._paths()))

    def _paths(self) -> Iterator[Path]:
        """Yield the files in the order of their paths; links to files are followed, links to directories are not."""
        for directory, folders, filenames in os.walk(self.root, onerror=_refuse):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            for filename in sorted(filenames):
                path = Path(directory, filename)
                if not filename.startswith(".") and path.is_file():
                    yield path

    def _file(self, path: Path) -> SourceFile:
        with reading(path):
            status = path.stat()
        time = datetime.fromtimestamp(status.st_mtime, UTC)
        return SourceFile(path.name, LocalContent(path), {}, status.st_size, time)


def _refuse(error: OSError) -> None:
    # os.walk would pass over what it may not read, and files would be missing without a word.
    raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error
