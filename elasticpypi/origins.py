"""Where imported files come from: what their sources claim about them, kept beside the files and believed by nobody.

One document for each project, `.elasticpypi/origins/<project>.json`: filename to sha256, upload time and source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from elasticpypi.errors import BusyError, ConflictError, ObjectMissingError, UnreadableObjectError
from elasticpypi.model import Origin, format_time, parse_time
from elasticpypi.names import RESERVED_PREFIX, NormalizedName
from elasticpypi.storage import Storage

_ATTEMPTS = 20


def read_origins(storage: Storage, project: NormalizedName) -> dict[str, Origin]:
    """Return what is known of a project's imported files, by filename."""
    return _read(storage, _key(project))[0]


def keep_origins(storage: Storage, project: NormalizedName, origins: Mapping[str, Origin]) -> None:
    """Add origins to those that are kept, filename by filename; whatever others add at the same time stays."""
    key = _key(project)
    for _ in range(_ATTEMPTS):
        try:
            kept, fingerprint = _read(storage, key)
            storage.write_document(key, _format(kept | dict(origins)), replacing=fingerprint)
        except (BusyError, ConflictError):
            continue
        return
    raise BusyError(key)


def _key(project: NormalizedName) -> str:
    return f"{RESERVED_PREFIX}origins/{project}.json"


def _read(storage: Storage, key: str) -> tuple[dict[str, Origin], str | None]:
    try:
        document = storage.read_document(key)
    except ObjectMissingError:
        return {}, None
    try:
        found = {filename: _parse(fields) for filename, fields in json.loads(document.data).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableObjectError(key, "it is not as it was written; remove it, and import again") from error
    return found, document.fingerprint


def _parse(fields: Mapping[str, Any]) -> Origin:
    time = fields["upload-time"]
    return Origin(fields["sha256"], None if time is None else parse_time(time), fields["source"])


def _format(origins: Mapping[str, Origin]) -> bytes:
    document = {
        filename: {
            "sha256": origin.sha256,
            "upload-time": None if origin.upload_time is None else format_time(origin.upload_time),
            "source": origin.source,
        }
        for filename, origin in origins.items()
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
