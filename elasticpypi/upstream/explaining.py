"""What clients get for a name, and why, for programs: `/api/v1/projects/<project>/upstream`, `elasticpypi why --json`.

elasticpypi/web/openapi.json describes it. What upstreams say is hostile: of each text there is the beginning, on one
line, without what would move a cursor. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from elasticpypi.model import format_time
from elasticpypi.names import NormalizedName
from elasticpypi.presenting import one_line
from elasticpypi.upstream.model import Asked, Elsewhere, HeldBack, Listing, UpstreamFile

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def explain(
    name: NormalizedName, asked: Iterable[Asked], *, is_ours: bool, own_pattern: str | None, most: int | None
) -> dict[str, Any]:
    """Return what has come of a name; of what has no bound, the first `most` (None: all), with their number."""
    return {
        "name": name,
        "is-ours": is_ours,
        "own-pattern": own_pattern,
        "asked": [_describe_asked(each, most) for each in asked],
    }


def _describe_asked(asked: Asked, most: int | None) -> dict[str, Any]:
    found = asked.found
    return {
        "upstream": asked.upstream.name,
        "mode": asked.upstream.mode,
        "outcome": _line(asked.outcome),
        "answers": found is not None,
        "fails": asked.fails,
        "sent-to": found.url if isinstance(found, Elsewhere) else None,
        "listing": _describe_listing(found, most) if isinstance(found, Listing) else None,
    }


def _describe_listing(listing: Listing, most: int | None) -> dict[str, Any]:
    page, left_out = listing.page, list(listing.page.left_out.items())
    return {
        "status": page.status,
        "status-reason": None if page.status_reason is None else _line(page.status_reason),
        "checked": format_time(datetime.fromtimestamp(listing.checked, UTC)) if listing.checked else None,
        "stale": None if listing.stale is None else _line(listing.stale),
        "file-count": len(listing.shown),
        "kept-count": sum(listing.keeps(file) for file in listing.shown),
        "files": [_describe_file(listing, file) for file in listing.newest[:most]],
        "held-back-count": len(listing.held_back),
        "held-back": [_describe_held_back(held) for held in listing.newest_held_back[:most]],
        "left-out-count": len(left_out),
        "left-out": [{"filename": _line(filename), "reason": _line(reason)} for filename, reason in left_out[:most]],
    }


def _describe_file(listing: Listing, file: UpstreamFile) -> dict[str, Any]:
    return _describe_any(file) | {
        "size": file.size,
        "yanked": _line(file.yanked) if isinstance(file.yanked, str) else file.yanked,
        "kept": listing.keeps(file),
    }


def _describe_held_back(held: HeldBack) -> dict[str, Any]:
    return _describe_any(held.file) | {"reason": _line(held.reason), "until": _time(held.until)}


def _describe_any(file: UpstreamFile) -> dict[str, Any]:
    return {"filename": file.filename, "version": file.version, "upload-time": _time(file.upload_time)}


def _time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else _UNPRINTABLE for character in one_line(text))
