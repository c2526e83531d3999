"""Files of which no core metadata is announced, whatever their source says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from elasticpypi.names import NormalizedName
from elasticpypi.static_site import SiteProject, Source

_MARK = "undescribed"  # so that what was written otherwise is written anew


class Undescribed:
    """A `Source` that says of another one's files all but their core metadata."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def list_mark(self) -> str:
        return self._source.list_mark()

    def marks(self) -> Mapping[NormalizedName, str]:
        return {name: f"{mark} {_MARK}" for name, mark in self._source.marks().items()}

    def mark(self, name: NormalizedName) -> str | None:
        mark = self._source.mark(name)
        return None if mark is None else f"{mark} {_MARK}"

    def project(self, name: NormalizedName) -> SiteProject | None:
        found = self._source.project(name)
        if found is None:
            return None
        files = [replace(file, document={**file.document, "core-metadata": False}) for file in found.files]
        return replace(found, files=files)
