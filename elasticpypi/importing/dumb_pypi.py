"""The lists that dumb-pypi is fed with: a filename on each line, or a JSON object (`--package-list-json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from elasticpypi.errors import SourceError
from elasticpypi.importing import Content, SourceFile, SourceProject
from elasticpypi.importing.local import content_below
from elasticpypi.importing.remote import RemoteContent, open_session, server_of, without_credentials


@dataclass(frozen=True, slots=True)
class PackageList:
    """A `Source` in the lines of a list, with the files below a directory or a URL."""

    lines: tuple[str, ...]
    files: str  # path of a directory, or an http(s) URL

    @property
    def name(self) -> str:
        is_remote = _is_url(self.files)
        return f"dumb-pypi {server_of(self.files) if is_remote else Path(self.files).absolute().name}"

    def projects(self) -> Iterator[SourceProject]:
        session = open_session(self.files)
        base = without_credentials(self.files).rstrip("/")

        def content(filename: str) -> Content:
            if _is_url(base):
                return RemoteContent(session, f"{base}/{quote(filename)}")
            return content_below(Path(self.files), filename)

        files, failed = list[SourceFile](), dict[str, str]()
        for number, line in _numbered(self.lines):
            try:
                fields = _fields(line)
                files.append(_file(fields, content(fields["filename"])))
            except SourceError as error:
                failed[f"line {number}"] = str(error)
        with session:
            yield SourceProject(tuple(files), failed=failed)


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())


def _fields(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {"filename": line}
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError("it begins as a JSON object and is none") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("filename"), str):
        raise SourceError("it has no filename")
    return fields


def _file(fields: dict[str, Any], content: Content) -> SourceFile:
    algorithm, _, digest = str(fields.get("hash") or "").partition("=")
    return SourceFile(
        fields["filename"],
        content,
        {algorithm: digest} if digest else {},
        upload_time=_time(fields.get("upload_timestamp")),
        yanked=str(fields.get("yanked_reason") or "") or False,
    )


def _time(timestamp: object) -> datetime | None:
    if isinstance(timestamp, int | float):
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(timestamp, UTC)
    return None
