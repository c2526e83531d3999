"""Digests of streams, in constant memory."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

_CHUNK_BYTES = 1024 * 1024


def hex_digest(stream: BinaryIO, algorithm: str) -> str:
    """Return the lowercase hex digest of a stream from its start: "sha256", "md5" or "blake2_256" (of 32 bytes)."""
    is_blake2 = algorithm == "blake2_256"
    digest = hashlib.blake2b(digest_size=32) if is_blake2 else hashlib.new(algorithm, usedforsecurity=False)
    stream.seek(0)
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
