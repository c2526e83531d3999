"""Pages and files of upstreams as JSON values, for what is kept of them.

Keys are those of the simple API (PEP 691, 700, 740); what has its default is left out. What was not written here is
refused with ValueError, KeyError or TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from elasticpypi.model import Status, format_time, parse_time
from elasticpypi.upstream.model import KeptFile, UpstreamFile, UpstreamPage

_T = TypeVar("_T")
_PAGE_KEYS = frozenset({"files", "status", "status-reason", "left-out"})
_FILE_KEYS = frozenset(
    {
        "filename",
        "url",
        "version",
        "hashes",
        "size",
        "upload-time",
        "requires-python",
        "yanked",
        "core-metadata",
        "provenance",
    }
)
_KEPT_KEYS = frozenset({"upstream", "file"})


def dump_page(page: UpstreamPage) -> dict[str, Any]:
    """Return a page as JSON values."""
    document: dict[str, Any] = {"files": [dump_file(file) for file in page.files], "status": str(page.status)}
    if page.status_reason is not None:
        document["status-reason"] = page.status_reason
    if page.left_out:
        document["left-out"] = dict(page.left_out)
    return document


def load_page(document: Any) -> UpstreamPage:
    """Read what `dump_page` wrote."""
    _check_keys(document, _PAGE_KEYS)
    return UpstreamPage(
        tuple(map(load_file, _read(document["files"], list))),
        Status(document["status"]),
        _read_optional(document, "status-reason"),
        _read_texts(document.get("left-out", {})),
    )


def dump_file(file: UpstreamFile) -> dict[str, Any]:
    """Return a file as JSON values."""
    said = {
        "size": file.size,
        "upload-time": None if file.upload_time is None else format_time(file.upload_time),
        "requires-python": file.requires_python,
        "yanked": file.yanked,
        "core-metadata": dict(file.core_metadata) if isinstance(file.core_metadata, Mapping) else file.core_metadata,
        "provenance": file.provenance,
    }
    return {
        "filename": file.filename,
        "url": file.url,
        "version": file.version,
        "hashes": dict(file.hashes),
        **{key: value for key, value in said.items() if value is not None and value is not False},
    }


def load_file(document: Any) -> UpstreamFile:
    """Read what `dump_file` wrote."""
    _check_keys(document, _FILE_KEYS)
    time = document.get("upload-time")
    return UpstreamFile(
        filename=_read(document["filename"], str),
        url=_read(document["url"], str),
        version=_read(document["version"], str),
        hashes=_read_texts(document["hashes"]),
        size=_read_size(document.get("size")),
        upload_time=None if time is None else parse_time(time),
        requires_python=_read_optional(document, "requires-python"),
        yanked=_read_yanked(document.get("yanked", False)),
        core_metadata=_read_core_metadata(document.get("core-metadata", False)),
        provenance=_read_optional(document, "provenance"),
    )


def dump_kept(kept: KeptFile) -> dict[str, Any]:
    """Return a file that lies here as JSON values."""
    return {"upstream": kept.upstream, "file": dump_file(kept.file)}


def load_kept(document: Any) -> KeptFile:
    """Read what `dump_kept` wrote."""
    _check_keys(document, _KEPT_KEYS)
    return KeptFile(_read(document["upstream"], str), load_file(document["file"]))


def _check_keys(document: Any, known: frozenset[str]) -> None:
    if not _is(document, dict) or not known.issuperset(document):
        raise ValueError("it is no object, or has a key that nobody wrote")


def _read(value: Any, kind: type[_T]) -> _T:
    if not _is(value, kind):
        raise TypeError(f"{kind.__name__} was written, and {type(value).__name__} is there")
    return cast(_T, value)


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind  # for `isinstance`, a bool is a number


def _read_optional(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return None if value is None else _read(value, str)


def _read_texts(value: Any) -> dict[str, str]:
    for text in _read(value, dict).values():
        _read(text, str)
    return cast(dict[str, str], value)


def _read_size(value: Any) -> int | None:
    if value is not None and _read(value, int) < 0:
        raise ValueError(f"{value} is no number of bytes")
    return cast(int | None, value)


def _read_yanked(value: Any) -> bool | str:
    return cast(bool, value) if _is(value, bool) else _read(value, str)


def _read_core_metadata(value: Any) -> bool | dict[str, str]:
    return cast(bool, value) if _is(value, bool) else _read_texts(value)
