"""What upstream has packed is unpacked as far as it may go, and no further."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator

import pytest

from elasticpypi.upstream.bodies import read_body

MIB = 1024 * 1024
PACKED = gzip.compress(b"some bytes", mtime=0)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[place : place + size] for place in range(0, len(data), size))


@pytest.mark.parametrize(
    ("sent", "encoding", "expected"),
    [
        (b"", "", b""),
        (b"some bytes", "", b"some bytes"),
        (b"some bytes", "identity", b"some bytes"),
        (PACKED, "gzip", b"some bytes"),
        (PACKED, " X-GZip", b"some bytes"),
        (
            gzip.compress(b"some ", mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(b"bytes", mtime=0),
            "gzip",
            b"some bytes",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_is_unpacked_however_it_comes(sent: bytes, encoding: str, expected: bytes, size: int) -> None:
    assert read_body(pieces(sent, size), encoding, 10) == expected


@pytest.mark.parametrize(
    ("sent", "encoding", "reason"),
    [
        (b"some bytes!", "", "sends more than the 10 bytes that are read of such an answer"),
        (
            gzip.compress(b"some bytes!", mtime=0),
            "gzip",
            "sends more than the 10 bytes that are read of such an answer",
        ),
        (PACKED + gzip.compress(b"!", mtime=0), "gzip", "sends more than the 10 bytes that are read of such an answer"),
        (b"some bytes", "br", "answers in an encoding that we have not asked for"),
        (PACKED, "gzip, gzip", "answers in an encoding that we have not asked for"),
        (PACKED[:-1], "gzip", "breaks off in an answer"),
        (b"", "gzip", "breaks off in an answer"),
        (PACKED + PACKED[:5], "gzip", "breaks off in an answer"),
        (b"some bytes", "gzip", "sends gzip that is broken"),
        (PACKED[:-8] + bytes(8), "gzip", "sends gzip that is broken"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_that_is_broken_or_too_large_is_refused(sent: bytes, encoding: str, reason: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_body(pieces(sent, size), encoding, 10)


def test_what_is_small_and_becomes_large_does_not_become_so() -> None:
    bomb = gzip.compress(bytes(100 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="sends more than"):
            read_body([bomb], "gzip", MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB
