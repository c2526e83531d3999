"""How a row's content is written as text in a catalog: JSON, one object, its `is` saying what it is."""

from __future__ import annotations

import json
from typing import Any

from elasticpypi.model import Decisions, File, Rejection, Status, format_time, parse_time
from elasticpypi.names import Kind


def dump_content(content: File | Rejection | Decisions) -> str:
    """Write the content of an entry."""
    fields: dict[str, Any]
    match content:
        case File():
            fields = {
                "is": "file",
                "filename": content.filename,
                "version": content.version,
                "kind": content.kind,
                "size": content.size,
                "sha256": content.sha256,
                "upload_time": format_time(content.upload_time),
                "requires_python": content.requires_python,
                "core_metadata_sha256": content.core_metadata_sha256,
            }
        case Rejection():
            fields = {"is": "rejection", "filename": content.filename, "reason": content.reason}
        case Decisions():
            fields = {
                "is": "decisions",
                "status": content.status,
                "status_reason": content.status_reason,
                "yanked": dict(content.yanked),
                "deleted": dict(content.deleted),
                "problem": content.problem,
            }
    return json.dumps(fields, separators=(",", ":"))


def load_content(text: str) -> File | Rejection | Decisions:
    """Read what `dump_content` wrote."""
    fields = json.loads(text)
    match fields.pop("is"):
        case "file":
            return File(
                **fields | {"kind": Kind(fields["kind"]), "upload_time": parse_time(fields["upload_time"])},
            )
        case "rejection":
            return Rejection(**fields)
        case _:
            return Decisions(**fields | {"status": Status(fields["status"])})
