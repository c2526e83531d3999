"""The catalog in documents, on a directory and on a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from elasticpypi.errors import ConflictError, ObjectMissingError
from elasticpypi.storage import Document
from elasticpypi.storage.filesystem import FilesystemStorage


class DirectoryDocuments:
    """`catalog.documents.Documents` in a directory, which is quicker than a bucket."""

    def __init__(self, root: Path) -> None:
        self.storage = FilesystemStorage(root)
        self.storage.initialise()

    def read_document(self, key: str) -> Document:
        return self.storage.read_document(key)

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> str:
        return self.storage.write_document(key, data, replacing=replacing).fingerprint

    def remove_document(self, key: str) -> None:
        with suppress(ObjectMissingError, ConflictError):
            self.storage.remove(key, fingerprint=self.storage.stat(key).fingerprint)

    def list_documents(self, prefix: str) -> Iterator[str]:
        return (key for key in self.storage.notes() if key.startswith(prefix))
