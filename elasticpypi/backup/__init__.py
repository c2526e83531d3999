"""The truth of an index as one tar, written while the index is in use, and put back, also while it is in use.

Every tar program lists and extracts it. Its members, each with its sha256 in the pax header `comment` (POSIX, "pax
Interchange Format"), in an order in which nothing is served for a moment that must not be:

    <project>/project.json      what people have decided
    .elasticpypi/…              notes: when bytes were first seen, where they came from; files kept from upstreams
    <key>                       the files
    <project>/project.json      once more where a file has gone meanwhile, since it remembers whose the name was
    .elasticpypi/backup.json    the end, with the number of members before it

Where a name comes twice the later one counts, as in any tar. The catalog is not in it: it is made anew.
"""

from __future__ import annotations

import re

from elasticpypi.catalog import Catalog
from elasticpypi.digests import hex_digest
from elasticpypi.errors import BusyError, InvalidFilenameError
from elasticpypi.indexer import object_fingerprint
from elasticpypi.model import File
from elasticpypi.names import RESERVED_PREFIX, parse_filename
from elasticpypi.storage import Storage, StoredObject

END = RESERVED_PREFIX + "backup.json"
FORMAT = 1
DIGEST = "sha256:"
_read_kept_key = re.compile(re.escape(RESERVED_PREFIX) + r"upstream/([a-z0-9-]+)/([0-9a-f]{64})/([^/]+)").fullmatch


def prove_file(catalog: Catalog, storage: Storage, key: str) -> tuple[StoredObject, str]:
    """Return a file as it is now and its sha256: what the catalog knows of just this object, else read from it.

    Raise ObjectMissingError, UnreadableObjectError, or BusyError while somebody is writing it.
    """
    obj, entry = storage.stat(key), catalog.entry(key)
    if isinstance(entry.content, File) and object_fingerprint(entry.fingerprint) == obj.fingerprint:
        return obj, entry.content.sha256
    if not storage.is_settled(obj):
        raise BusyError(key)
    with storage.open(obj) as stream:
        return obj, hex_digest(stream, "sha256")


def kept_sha256(key: str) -> str | None:
    """Return the sha256 of a file that was kept from an upstream, as its key says; None where it is no such key."""
    match = _read_kept_key(key)
    try:
        return match[2] if match is not None and parse_filename(match[3]).project == match[1] else None
    except InvalidFilenameError:
        return None
