"""Zips that may be hostile: opened and checked so that readers agree on them, and unpacked within limits."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from elasticpypi.archives.source import CHUNK, RefusedError, Source, check_unpacked, refuse


def open_zip(source: Source) -> zipfile.ZipFile:
    """Open a zip; refuse one whose end and names other readers than zipfile could understand differently."""
    try:
        archive = zipfile.ZipFile(cast(BinaryIO, source))
    except zipfile.BadZipFile as error:
        raise RefusedError(f"it is truncated or not a zip: {error}") from error
    source.seek(-22 - len(archive.comment), io.SEEK_END)
    signature, count, start, comment = struct.unpack("<4s6xH4xLH", source.read(22))
    if signature != b"PK\5\6" or comment != len(archive.comment):
        refuse("it has bytes after the end of the zip, or its end is truncated")
    if start not in (archive.start_dir, 0xFFFFFFFF) or count not in (len(archive.infolist()) & 0xFFFF, 0xFFFF):
        refuse("its zip directory is not where the end of the zip says, or not as long")
    if sum(30 + len(member.filename) + member.compress_size for member in archive.infolist()) > archive.start_dir:
        refuse("its members overlap each other")
    for member in archive.infolist():
        # zipfile cuts names at NUL, Windows takes \ for /, and from Python 3.12 on an extra field can hold the name.
        if "\0" in member.orig_filename or ".dist-info\\" in member.orig_filename or b".dist-info/" in member.extra:
            refuse(f"the name of its member {member.orig_filename!r} can be read in two ways")
    return archive


def check_readable(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse a member that not every installer can read, or that reaches into the directory."""
    if member.flag_bits & 0x2061:
        refuse(f"{member.filename} is encrypted or patched")
    # Installers have dropped or never had the other methods: https://github.com/astral-sh/uv/pull/18927
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(f"{member.filename} is compressed by method {member.compress_type}, which installers do not read")
    if member.header_offset < 0 or member.header_offset + member.compress_size > archive.start_dir:
        refuse(f"{member.filename} overlaps the zip directory")


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the contents of a member in chunks; zipfile checks that there are no more, and their checksum."""
    check_readable(archive, member)
    size = 0
    with archive.open(member) as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            yield chunk
    if size != member.file_size:
        refuse(f"{member.filename} is corrupt: it has {size} bytes, not {member.file_size}")


def unpack_all(archive: zipfile.ZipFile, source: Source) -> None:
    """Unpack every member, in constant memory, to see that it can be."""
    check_unpacked(sum(member.file_size for member in archive.infolist()), source)
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):  # forwards
        for _ in unpack(archive, member):
            pass
