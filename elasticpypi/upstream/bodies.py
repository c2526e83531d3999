"""Puts the body of an answer together, unpacked, and never more of it than it may have.

Specification: content codings (RFC 9110, section 8.4.1), gzip (RFC 1952).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Protocol

_WITH_GZIP_HEADER = 31  # the `wbits` of zlib


def read_body(pieces: Iterable[bytes], encoding: str, most_bytes: int) -> bytes:
    """Return what was sent in pieces with a Content-Encoding (empty: none).

    Raise ValueError, with the rest of a sentence about who has sent it, where that is broken or too large.
    """
    decoder = _decoder(encoding)
    body = bytearray()
    for piece in pieces:
        body += decoder.decode(piece, most_bytes + 1 - len(body))
        if len(body) > most_bytes:
            raise ValueError(f"sends more than the {most_bytes} bytes that are read of such an answer")
    if not decoder.is_complete:
        raise ValueError("breaks off in an answer")
    return bytes(body)


class _Decoder(Protocol):
    """Takes a body apart as it comes."""

    @property
    def is_complete(self) -> bool:
        """Whether it may end here."""

    def decode(self, piece: bytes, most: int) -> bytes:
        """Return what a piece becomes, or its first `most` bytes; the others are lost, so there is no going on then."""


def _decoder(encoding: str) -> _Decoder:
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Gzip()
        case _:
            raise ValueError("answers in an encoding that we have not asked for")


class _Identity:
    """Bytes as they are."""

    is_complete = True

    def decode(self, piece: bytes, most: int) -> bytes:
        return piece[:most]


class _Gzip:
    """A gzip stream, perhaps of several members; what is small may become large, so it is unpacked bit by bit."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=_WITH_GZIP_HEADER)

    @property
    def is_complete(self) -> bool:
        return self._member.eof

    def decode(self, piece: bytes, most: int) -> bytes:
        decoded = bytearray()
        while piece and len(decoded) < most:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=_WITH_GZIP_HEADER)
            try:
                decoded += self._member.decompress(piece, most - len(decoded))
            except zlib.error as error:
                raise ValueError("sends gzip that is broken") from error
            piece = self._member.unused_data
        return bytes(decoded)
