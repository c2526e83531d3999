"""Pages of projects that an upstream has, in the form that `simple` renders.

Specifications: simple repository API (PEP 691, 700, 714, 740, 792).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elasticpypi.model import Status, format_time
from elasticpypi.simple import API_VERSION, API_VERSION_WITHOUT_SIZES
from elasticpypi.upstream.model import Listing, UpstreamFile


def describe_listing(listing: Listing) -> dict[str, Any]:
    """Return a project's page as JSON has it, but for its files; it has none where upstream has quarantined it."""
    page = listing.page
    files = () if page.status is Status.QUARANTINED else listing.shown
    status: dict[str, str] = {"status": page.status}
    if page.status_reason is not None:
        status["reason"] = page.status_reason
    has_sizes = all(file.size is not None for file in files)
    return {
        "meta": {"api-version": API_VERSION if has_sizes else API_VERSION_WITHOUT_SIZES},
        "name": listing.name,
        "project-status": status,
        "versions": list(dict.fromkeys(file.version for file in files)),
    }


def describe_upstream_file(file: UpstreamFile, url: str) -> dict[str, Any]:
    """Return a file as a page has it in JSON; what upstream does not say is not there."""
    core_metadata = file.core_metadata
    said = {
        "size": file.size,
        "upload-time": None if file.upload_time is None else format_time(file.upload_time),
        "requires-python": file.requires_python,
        "provenance": file.provenance,
    }
    return {
        "filename": file.filename,
        "url": url,
        "hashes": dict(file.hashes),
        "yanked": file.yanked,
        "core-metadata": dict(core_metadata) if isinstance(core_metadata, Mapping) else core_metadata,
        **{key: value for key, value in said.items() if value is not None},
    }
