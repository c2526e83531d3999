"""What is kept of pages and files reads back as it was, and nothing else does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from elasticpypi.model import Status
from elasticpypi.upstream.formats import dump_file, dump_kept, dump_page, load_file, load_kept, load_page
from elasticpypi.upstream.model import KeptFile, UpstreamFile, UpstreamPage

BARE = UpstreamFile("spam-1.0.zip", "https://example.org/spam-1.0.zip", "1.0", {})
FULL = UpstreamFile(
    "spam-1.0-py3-none-any.whl",
    "https://example.org/spam-1.0-py3-none-any.whl?signed",
    "1.0",
    {"sha256": "a" * 64, "md5": "b" * 32},
    12,
    datetime(2020, 2, 20, 20, 20, 20, 202020, UTC),
    ">=3.8",
    "leaks & <worse>",
    {"sha256": "c" * 64},
    "https://example.org/provenance",
)


def through_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


@pytest.mark.parametrize(
    "page",
    [
        UpstreamPage(()),
        UpstreamPage((BARE,), Status.QUARANTINED, "malware", {"x": "is no file"}),
        UpstreamPage((BARE, FULL, UpstreamFile("a", "b", "1", {}, 0, yanked=True, core_metadata=True))),
    ],
    ids=["empty", "quarantined", "files"],
)
def test_a_page_reads_back_as_it_was(page: UpstreamPage) -> None:
    assert load_page(through_json(dump_page(page))) == page


def test_a_kept_file_reads_back_as_it_was() -> None:
    kept = KeptFile("pypi", FULL)
    assert load_kept(through_json(dump_kept(kept))) == kept


def test_times_read_back_in_utc() -> None:
    time = load_file(dump_file(FULL)).upload_time
    assert time is not None
    assert time.tzinfo is UTC


def test_defaults_take_no_room() -> None:
    assert dump_file(BARE) == {
        "filename": "spam-1.0.zip",
        "url": "https://example.org/spam-1.0.zip",
        "version": "1.0",
        "hashes": {},
    }


FILE, PAGE, KEPT = dump_file(FULL), dump_page(UpstreamPage((FULL,))), dump_kept(KeptFile("pypi", FULL))
NOTHING: tuple[Any, ...] = (None, [], "x", {}, {"other": 1})
STRANGE: list[tuple[Callable[[Any], object], Any]] = [
    *itertools.product((load_file, load_page, load_kept), NOTHING),
    *((load_file, FILE | {key: 1.5}) for key in FILE),
    *(
        (load_file, {name: value for name, value in FILE.items() if name != key})
        for key in ("filename", "url", "version", "hashes")
    ),
    (load_file, FILE | {"size": True}),
    (load_file, FILE | {"size": -1}),
    (load_file, FILE | {"upload-time": "2020-02-20"}),
    (load_file, FILE | {"hashes": {"sha256": None}}),
    (load_file, FILE | {"core-metadata": {"sha256": 1}}),
    (load_file, FILE | {"new": 1}),
    (load_page, PAGE | {"files": {}}),
    (load_page, PAGE | {"files": [1]}),
    (load_page, PAGE | {"status": "frozen"}),
    (load_page, PAGE | {"status-reason": 1}),
    (load_page, PAGE | {"left-out": {"x": 1}}),
    (load_page, PAGE | {"new": 1}),
    (load_kept, KEPT | {"upstream": None}),
    (load_kept, KEPT | {"file": None}),
    (load_kept, KEPT | {"new": 1}),
]


@pytest.mark.parametrize(("load", "document"), STRANGE)
def test_anything_else_is_refused(load: Callable[[Any], object], document: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        load(document)
