"""The files of upstreams that are kept: where their bytes lie, and what their pages said of them.

Below `.elasticpypi/upstream/<project>/`, where they make no name ours:

    kept.json                           "files": filename -> whose file it is, and as what
                                        "quarantined-by": the upstreams that have quarantined the project
    <sha256>/<filename>                 the bytes; whoever finds a key taken finds the same ones under it
    <sha256>/<its sha256>.metadata      core metadata of theirs (PEP 658), likewise
    <sha256>/<filename>.provenance      and the provenance (PEP 740)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson

from elasticpypi.errors import (
    BusyError,
    ConflictError,
    InvalidFilenameError,
    ObjectMissingError,
    StorageError,
    UnreadableObjectError,
)
from elasticpypi.names import RESERVED_PREFIX, NormalizedName, parse_filename
from elasticpypi.storage import Storage
from elasticpypi.upstream.formats import dump_kept, load_kept
from elasticpypi.upstream.model import KeptFile

_ATTEMPTS = 20
_LARGEST_DOCUMENT = 16 * 2**20  # bytes, some 20,000 files; more cannot be read back (`Storage.read_document`)
_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a project."""

    files: Mapping[str, KeptFile] = field(default_factory=dict)  # by filename
    # Names of upstreams whose last page said so: the files of theirs are not given out, page or no page.
    quarantined_by: frozenset[str] = frozenset()


class KeptFiles:
    """What is known of the files that are kept."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, project: NormalizedName) -> Kept:
        """Return what is kept of a project, with one read.

        UnreadableObjectError where that cannot be read: a file that was used once is not lost without a word.
        """
        return self._read(project)[0]

    def add(self, project: NormalizedName, kept: KeptFile) -> KeptFile:
        """Remember that a file is kept whose bytes lie here; return what is remembered under its name.

        That is another file where other bytes were kept first: they stay. Whatever others add at the same time stays.
        """
        filename = kept.file.filename
        if not _has_sha256(kept):
            raise ValueError(f"of {filename!r} no sha256 is known")
        lasting = _without_queries(kept)

        def change(known: Kept) -> Kept:
            return known if filename in known.files else replace(known, files={**known.files, filename: lasting})

        return self._change(project, change).files[filename]

    def mark_quarantined(self, project: NormalizedName, upstream: str, *, is_quarantined: bool) -> None:
        """Remember whether an upstream has quarantined a project of which something is kept."""

        def change(known: Kept) -> Kept:
            if not known.files or (upstream in known.quarantined_by) is is_quarantined:
                return known
            return replace(known, quarantined_by=known.quarantined_by ^ {upstream})

        self._change(project, change)

    def _change(self, project: NormalizedName, change: Callable[[Kept], Kept]) -> Kept:
        """Write what becomes of what is known, unless it stays as it is; return it."""
        for _ in range(_ATTEMPTS):
            try:
                known, fingerprint = self._read(project)
                changed = change(known)
                if changed is not known:
                    data = _format(project, changed)
                    self._storage.write_document(_document_key(project), data, replacing=fingerprint)
            except (BusyError, ConflictError):
                continue
            return changed
        raise BusyError(_document_key(project))

    def _read(self, project: NormalizedName) -> tuple[Kept, str | None]:
        key = _document_key(project)
        try:
            document = self._storage.read_document(key)
        except ObjectMissingError:
            return Kept(), None
        try:
            return _load(project, orjson.loads(document.data)), document.fingerprint
        except (ValueError, KeyError, TypeError, AttributeError, InvalidFilenameError) as error:
            raise UnreadableObjectError(key, "it is not as it was written; put it back from a backup") from error


def file_key(project: NormalizedName, sha256: str, filename: str) -> str:
    """Return where bytes lie; `filename` is one that was parsed, `sha256` 64 lowercase hex digits."""
    if _is_sha256(sha256) is None:
        raise ValueError(f"{sha256!r} is not a sha256")
    return f"{RESERVED_PREFIX}upstream/{project}/{sha256}/{filename}"


def core_metadata_key(project: NormalizedName, sha256: str, own_sha256: str) -> str:
    """Return where core metadata of such a file lies, which has a sha256 of its own.

    By that, what an upstream says of a file is never taken for what somebody has found in it.
    """
    if _is_sha256(own_sha256) is None:
        raise ValueError(f"{own_sha256!r} is not a sha256")
    return file_key(project, sha256, f"{own_sha256}.metadata")


def provenance_key(project: NormalizedName, sha256: str, filename: str) -> str:
    """Return where its provenance lies."""
    return f"{file_key(project, sha256, filename)}.provenance"


def _document_key(project: NormalizedName) -> str:
    return f"{RESERVED_PREFIX}upstream/{project}/kept.json"


def _has_sha256(kept: KeptFile) -> bool:
    return _is_sha256(kept.file.sha256 or "") is not None


def _load(project: NormalizedName, document: Any) -> Kept:
    """Read what `_format` wrote. People may have changed it, so that nothing in it is taken for granted."""
    if document.keys() - {"files", "quarantined-by"}:
        raise ValueError("it has a key that nobody wrote")
    files = {filename: load_kept(fields) for filename, fields in document["files"].items()}
    strange = next((filename for filename, kept in files.items() if not _is_sound(project, filename, kept)), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no file of the project")
    quarantined_by = document["quarantined-by"]
    if not (isinstance(quarantined_by, list) and all(isinstance(name, str) for name in quarantined_by)):
        raise TypeError("names of upstreams were written, and something else is there")
    return Kept(files, frozenset(quarantined_by))


def _is_sound(project: NormalizedName, filename: str, kept: KeptFile) -> bool:
    said = (kept.file.filename, project, kept.file.version)
    return said == (filename, *_parse(filename)) and _has_sha256(kept)


@lru_cache(maxsize=16_384)  # all of them are looked at each time that one is added
def _parse(filename: str) -> tuple[NormalizedName, str]:
    parsed = parse_filename(filename)
    return parsed.project, str(parsed.version)


def _without_queries(kept: KeptFile) -> KeptFile:
    """Return a file without what only a signed URL has: nobody needs that later, and backups are copied around."""
    file = kept.file
    provenance = None if file.provenance is None else _without_query(file.provenance)
    return replace(kept, file=replace(file, url=_without_query(file.url), provenance=provenance))


def _without_query(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _format(project: NormalizedName, kept: Kept) -> bytes:
    # A line for each file, which people may want to find or to remove.
    lines = (orjson.dumps(name) + b": " + orjson.dumps(dump_kept(kept.files[name])) for name in sorted(kept.files))
    names = orjson.dumps(sorted(kept.quarantined_by))
    data = b'{"files": {\n' + b",\n".join(lines) + b'\n}, "quarantined-by": ' + names + b"}\n"
    if len(data) > _LARGEST_DOCUMENT:
        raise StorageError(
            f"no more files of {project!r} can be kept: {_document_key(project)} would have more than "
            f"{_LARGEST_DOCUMENT} bytes; narrow 'allow-files' of the upstream"
        )
    return data
