"""Documents in memory: found by their digest, and never more than there is room for."""

from __future__ import annotations

from elasticpypi.upstream.recent import RecentDocuments


def test_a_document_is_found_by_its_digest() -> None:
    recent = RecentDocuments(160)
    recent.add("one", b"1")
    assert (recent.get("one"), recent.get("two")) == (b"1", None)


def test_those_that_came_first_go_first() -> None:
    recent = RecentDocuments(160)
    for number in range(17):
        recent.add(f"{number}", bytes(10))
    assert [number for number in range(17) if recent.get(f"{number}") is None] == [0]


def test_a_document_takes_its_room_once() -> None:
    recent = RecentDocuments(160)
    for _ in range(100):
        recent.add("same", bytes(10))
    for number in range(15):
        recent.add(f"{number}", bytes(10))
    assert recent.get("same") == bytes(10)


def test_a_large_document_does_not_drive_out_the_others() -> None:
    recent = RecentDocuments(160)
    recent.add("small", bytes(10))
    recent.add("large", bytes(11))
    assert (recent.get("small"), recent.get("large")) == (bytes(10), None)
