"""What `devpi-export` writes: `dataindex.json`, and beside it the files of each index.

Read are the dump versions 1 and 2, which devpi-server writes since its release 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from elasticpypi.errors import ConfigError, SourceError
from elasticpypi.importing import SourceFile, SourceProject
from elasticpypi.importing.local import content_below, reading

_DUMP_VERSIONS = ("1", "2")
_RELEASE_FILE = "releasefile"
_OTHERS = {"doczip": "documentation is not kept", "toxresult": "test results are not kept"}


@dataclass(frozen=True, slots=True)
class DevpiExport:
    """A `Source` in a directory that devpi-export wrote; one of its indexes."""

    root: Path
    index: str  # "USER/NAME"
    entries: tuple[Mapping[str, Any], ...]  # its files
    versions: Mapping[str, Mapping[str, Any]]  # project -> version -> metadata

    @property
    def name(self) -> str:
        return f"devpi {self.root.absolute().name} {self.index}"

    def projects(self) -> Iterator[SourceProject]:
        files: list[SourceFile] = []
        skipped, failed = dict[str, str](), dict[str, str]()
        for entry in self.entries:
            path = str(entry.get("relpath"))
            if entry.get("type") != _RELEASE_FILE:
                skipped[path] = _OTHERS.get(str(entry.get("type")), "it is of a kind that is not known")
                continue
            try:
                files.append(self._file(entry, path))
            except SourceError as error:
                failed[path] = str(error)
        yield SourceProject(tuple(files), skipped=skipped, failed=failed)

    def _file(self, entry: Mapping[str, Any], path: str) -> SourceFile:
        content = content_below(self.root, path)
        fields = _mapping(entry.get("entrymapping"))
        file = SourceFile(content.path.name, content, _digests(fields), upload_time=_upload_time(entry, fields))
        version = _mapping(_mapping(self.versions.get(str(entry.get("projectname")))).get(str(entry.get("version"))))
        yanked = version.get("yanked")
        return replace(file, yanked=yanked) if isinstance(yanked, bool | str) else file


def open_export(root: Path, index: str | None) -> DevpiExport:
    """Read an export, and find the index in it; None for the only one with files.

    Raise SourceError where this is no export, ConfigError where there is no such index or it is not the only one.
    """
    document = _read(root / "dataindex.json")
    indexes = {name: _mapping(dump) for name, dump in _mapping(document.get("indexes")).items()}
    with_files = sorted(name for name, dump in indexes.items() if dump.get("files"))
    chosen = index or (with_files[0] if len(with_files) == 1 else "")
    if chosen not in indexes:
        found = ", ".join(with_files) or "none"
        raise ConfigError(
            f"name one index of the export with --index: those with files are {found}"
            if index is None
            else f"the export has no index {index!r}; those with files are {found}"
        )
    dump = indexes[chosen]
    entries = tuple(_mapping(entry) for entry in _sequence(dump.get("files")))
    return DevpiExport(root, chosen, entries, _mapping(dump.get("projects")))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with reading(path):
            document = _mapping(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON: is it an export of devpi, and is it whole?") from error
    version = str(document.get("dumpversion"))
    if version not in _DUMP_VERSIONS:
        raise SourceError(f"{path} is of dump version {version}; known are {', '.join(_DUMP_VERSIONS)}")
    return document


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _digests(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return all digests; `md5` and `hash_spec` are what older releases wrote."""
    algorithm, _, digest = str(fields.get("hash_spec", "")).partition("=")
    found = {"md5": fields.get("md5"), algorithm: digest, **_mapping(fields.get("hashes"))}
    return {name: value for name, value in found.items() if name and isinstance(value, str)}


def _upload_time(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> datetime | None:
    """Return when the file was uploaded first, as its log says; else the time that devpi gave it."""
    for event in _sequence(entry.get("log")):
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            year, month, day, hour, minute, second = event["when"]
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        return parsedate_to_datetime(fields["last_modified"]).replace(tzinfo=UTC)  # HTTP's times are all GMT
    return None
