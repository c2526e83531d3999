from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticpypi.errors import ArchiveError, StorageError
from elasticpypi.metadata import CoreMetadata, read_core_metadata, verify_archive
from elasticpypi.names import parse_filename
from tests.dists import make_core_metadata, make_egg, make_sdist, make_wheel, tar_bytes, zip_bytes

WHEEL = "acme-1.0-py3-none-any.whl"
INFO = "acme-1.0.dist-info"
SUFFIXES = [".tar.gz", ".tar.bz2", ".tar.xz", ".zip"]
MIB = 1 << 20
NOISE = random.Random(1).randbytes(3 * MIB)  # what compression cannot make smaller


def read(filename: str, data: bytes) -> CoreMetadata | None:
    return read_core_metadata(io.BytesIO(data), parse_filename(filename))


def verify(filename: str, data: bytes) -> None:
    verify_archive(io.BytesIO(data), parse_filename(filename))


def refusal(operation: Callable[[str, bytes], object], filename: str, data: bytes) -> str:
    with pytest.raises(ArchiveError) as caught:
        operation(filename, data)
    assert caught.value.filename == filename
    return caught.value.reason


class CountingStream(io.BytesIO):
    """A stream that counts its reads and what they returned."""

    reads = 0
    returned = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.returned += len(data)
        return data


# Wheels and sdists as they should be


@pytest.mark.parametrize(
    ("name", "version", "requires_python"),
    [
        ("acme", "1.0", None),
        ("acme", "1.0", ">=3.8,<4"),
        ("acme", "1.0", "  >=3.8 "),
        ("Acme.Tools-X", "1.0+local.1", "~=3.9"),
    ],
)
@pytest.mark.parametrize("kind", [".whl", *SUFFIXES])
def test_reads_core_metadata_byte_for_byte(
    tmp_path: Path, kind: str, name: str, version: str, requires_python: str | None
) -> None:
    description = "Grüße\r\nName: other\n"
    if kind == ".whl":
        path = make_wheel(tmp_path, name, version, requires_python=requires_python, description=description)
    else:
        path = make_sdist(
            tmp_path, name, version, requires_python=requires_python, description=description, suffix=kind
        )
    raw = make_core_metadata(
        name,
        version,
        requires_python=requires_python,
        description=description,
        metadata_version="2.1" if kind == ".whl" else "2.2",
    )
    stripped = requires_python.strip() if requires_python else None
    assert read(path.name, path.read_bytes()) == CoreMetadata(raw, stripped)
    verify(path.name, path.read_bytes())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_finds_pkg_info_at_the_end_of_an_sdist(tmp_path: Path, suffix: str) -> None:
    path = make_sdist(
        tmp_path, suffix=suffix, pkg_info_last=True, extra_files={"noise": NOISE[: MIB * 5 // 4], "a/PKG-INFO": b""}
    )
    core_metadata = read(path.name, path.read_bytes())
    assert core_metadata is not None
    assert core_metadata.raw == make_core_metadata("acme", "1.0", metadata_version="2.2")
    verify(path.name, path.read_bytes())


def test_equal_versions_and_names_in_other_spellings_agree() -> None:
    raw = make_core_metadata("A.C_me", "1.0.0")
    data = zip_bytes({"A.C_me-1.0.0.dist-info/METADATA": raw})
    assert read("a_c_me-1.0-py3-none-any.whl", data) == CoreMetadata(raw, None)


@pytest.mark.parametrize("pack", [zip_bytes, lambda files: gzip.compress(tar_bytes(files))], ids=["zip", "tar"])
def test_an_sdist_may_begin_with_the_directory_it_was_packed_in(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    data = pack({"./acme-1.0/PKG-INFO": PKG_INFO})
    filename = "acme-1.0.zip" if data.startswith(b"PK") else "acme-1.0.tar.gz"
    assert read(filename, data) == CoreMetadata(PKG_INFO, None)


def test_an_egg_has_no_core_metadata_but_its_directory_is_verified(tmp_path: Path) -> None:
    path = make_egg(tmp_path)
    assert read(path.name, path.read_bytes()) is None
    verify(path.name, path.read_bytes())
    assert "truncated or not a zip" in refusal(verify, path.name, path.read_bytes()[:-1])


def test_a_wheel_with_zip64_records_and_a_comment_is_read(tmp_path: Path) -> None:
    data = make_wheel(tmp_path).read_bytes()
    assert read(WHEEL, zip64(data)) == read(WHEEL, data)
    verify(WHEEL, zip64(data))
    assert read(WHEEL, data[:-2] + b"\2\0hi") == read(WHEEL, data)


def test_a_wheel_written_to_a_pipe_is_read() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

    pipe, raw = Pipe(), make_core_metadata("acme", "1.0")
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{INFO}/METADATA", raw)
        with archive.open("big", "w", force_zip64=True) as member:
            member.write(b"x")
    assert read(WHEEL, pipe.getvalue()) == CoreMetadata(raw, None)


def test_what_the_builders_make_can_be_installed_and_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()

    def make_all(directory: Path) -> list[Path]:
        sdists = [make_sdist(directory, "s" + suffix.replace(".", "-"), suffix=suffix) for suffix in SUFFIXES]
        return [make_wheel(directory, "My-Wheel"), *sdists]

    paths = make_all(tmp_path)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in make_all(tmp_path / "again")]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    done = subprocess.run([*pip, "--no-cache-dir", "--target", tmp_path / "target", *paths], check=False, stderr=-1)
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in (tmp_path / "target").glob("*.py")}
    assert installed == {"my_wheel.py", "s_tar_gz.py", "s_tar_bz2.py", "s_tar_xz.py", "s_zip.py"}


# Requests and memory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1),  # everything in the tail
        ({"noise": NOISE}, 1),  # METADATA still in the tail
        ({f"{INFO}/METADATA": make_core_metadata("acme", "1.0"), "noise": NOISE}, 2),
        ({f"{INFO}/METADATA": make_core_metadata("acme", "1.0"), **{f"{i:0999}": NOISE[:999] for i in range(1999)}}, 4),
    ],
    ids=["small", "metadata last", "metadata first", "metadata first, large directory"],
)
def test_a_wheel_takes_one_to_four_reads(files: dict[str, bytes], expected: int) -> None:
    stream = CountingStream(zip_bytes(files | {f"{INFO}/METADATA": make_core_metadata("acme", "1.0")}))
    assert read_core_metadata(stream, parse_filename(WHEEL))
    assert stream.reads == expected
    assert stream.returned < 6 * MIB


def test_an_sdist_is_read_no_further_than_pkg_info(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, extra_files={"noise": NOISE})
    stream = CountingStream(path.read_bytes())
    assert read_core_metadata(stream, parse_filename(path.name))
    assert (stream.reads, stream.returned) == (1, 256 * 1024)


def peak_memory(operation: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        operation()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


ZEROS = bytes(32 * MIB)
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}


@pytest.mark.parametrize(
    ("suffix", "operation"),
    [
        (".tar.gz", read),
        pytest.param(".tar.gz", verify, marks=pytest.mark.heavy),
        pytest.param(".tar.bz2", verify, marks=pytest.mark.heavy),
        pytest.param(".tar.xz", verify, marks=pytest.mark.heavy),
    ],
)
def test_a_tar_bomb_is_refused_in_little_memory(suffix: str, operation: Callable[[str, bytes], object]) -> None:
    pack = PACK[suffix]
    bomb = pack(header("zeros", 2 << 30)) + pack(ZEROS) * 33

    def explode() -> None:
        assert "no distribution is compressed like that" in refusal(operation, f"acme-1.0{suffix}", bomb)

    assert peak_memory(explode) < 24 * MIB


def test_a_zip_bomb_is_refused() -> None:
    files = {"acme-1.0/PKG-INFO": make_core_metadata("acme", "1.0"), "acme-1.0/zeros": ZEROS}
    data = zip_bytes(files)
    lie = edit(data, b"PK\1\2", "acme-1.0/zeros", 24, struct.pack("<L", 2 << 30))
    assert "no distribution is compressed like that" in refusal(verify, "acme-1.0.zip", lie)
    lie = edit(data, b"PK\1\2", "acme-1.0/zeros", 24, struct.pack("<L", 10))
    assert "Bad CRC-32" in refusal(verify, "acme-1.0.zip", lie)
    assert peak_memory(lambda: verify("acme-1.0.zip", data)) < 4 * MIB


@pytest.mark.parametrize(
    "suffix",
    [
        ".tar.gz",
        pytest.param(".tar.bz2", marks=pytest.mark.heavy),
        pytest.param(".tar.xz", marks=pytest.mark.heavy),
        ".zip",
    ],
)
def test_verifying_takes_constant_memory(tmp_path: Path, suffix: str) -> None:
    many = {f"f{i}": b"" for i in range(2000)}
    path = make_sdist(tmp_path, suffix=suffix, extra_files={"noise": NOISE, "zeros": ZEROS, **many})
    data = path.read_bytes()
    peak = peak_memory(lambda: verify(path.name, data))
    assert peak < (24 if suffix == ".tar.xz" else 12) * MIB  # xz has a dictionary of 8 MiB


def test_verifying_does_not_hold_the_members_of_a_tar() -> None:
    data = gzip.compress(b"".join(header(f"f{i}", 0) for i in range(4000)) + GOOD_TAR, 1)
    assert peak_memory(lambda: verify("acme-1.0.tar.gz", data)) < 3 * MIB


@pytest.mark.parametrize(
    ("count", "length", "reason"),
    [
        pytest.param(65_536, 210, "overlap", marks=pytest.mark.heavy),
        (65_537, 9, "more than 65536 members"),
        (65_536, 250, "zip directory has"),
    ],
)
def test_a_zip_directory_does_not_get_the_memory_it_claims(count: int, length: int, reason: str) -> None:
    sizes = [1 << 31] * 3
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, *sizes, length, *[0] * 6)
    directory = b"".join(entry + (b"%d" % i).rjust(length, b"\xb1") for i in range(count))
    counts = [count & 0xFFFF] * 2
    data = directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *counts, len(directory), 0, 0)

    def try_verifying() -> None:
        assert reason in refusal(verify, WHEEL, data)

    assert peak_memory(try_verifying) < 120 * MIB


@pytest.mark.parametrize(
    ("tar", "reason"),
    [
        (header("long", 1 << 33, tarfile.GNUTYPE_LONGNAME) + ZEROS, "headers"),
        (header("pax", 1 << 33, tarfile.XHDTYPE) + ZEROS, "headers"),
        (header("pax", 1 << 33, tarfile.XGLTYPE) + ZEROS, "headers"),
        ((header("long", 1, tarfile.GNUTYPE_LONGNAME) + b"a".ljust(512, b"\0")) * 9999, "headers"),
        (
            b"".join(
                header("pax", 40_000, tarfile.XGLTYPE)
                + f"40000 k{i:04}=".encode().ljust(39_999, b"v")
                + b"\n".ljust(449, b"\0")
                + header("f", 0)
                for i in range(9)
            ),
            "global headers",
        ),
        (
            header("sparse", 0, tarfile.GNUTYPE_SPARSE)[:482]
            + b"\1"
            + header("", 0)[483:]
            + (b"7" * 504 + b"\1").ljust(512, b"\0") * 99_999,
            "",
        ),
    ],
    ids=["long name", "pax", "global pax", "nested long names", "many global pax", "sparse map"],
)
def test_tar_headers_do_not_get_the_memory_they_claim(tar: bytes, reason: str) -> None:
    data = gzip.compress(header("first", 0) + tar, 1)

    def try_reading() -> None:
        assert reason in refusal(read, "acme-1.0.tar.gz", data)

    assert peak_memory(try_reading) < 4 * MIB


def test_an_xz_dictionary_beyond_the_limit_is_refused() -> None:
    data = lzma.compress(tar_bytes({"acme-1.0/PKG-INFO": b""}))
    # The block header claims a dictionary of 1 GiB (0x24 in place of 0x16), which no encoder had to allocate.
    block = data[12:20].replace(b"\x21\x01\x16", b"\x21\x01\x24")
    assert block != data[12:20]
    data = data[:12] + block + struct.pack("<L", zlib.crc32(block)) + data[24:]
    assert "emory" in refusal(read, "acme-1.0.tar.xz", data)


# Refusals


def wheel_files(core_metadata: bytes | None = None, info: str = INFO) -> dict[str, bytes]:
    return {
        "acme.py": b"",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\n",
        f"{info}/METADATA": make_core_metadata("acme", "1.0") if core_metadata is None else core_metadata,
        f"{info}/RECORD": b"",
    }


def zip_twice(files: dict[str, bytes], again: str) -> bytes:
    """Return a zip in which one name stands twice."""
    data = zip_bytes({**files, again[:-1] + "?": b"other"})
    return data.replace(again[:-1].encode() + b"?", again.encode())


def edit(data: bytes, signature: bytes, name: str, offset: int, value: bytes) -> bytes:
    """Return a zip with other bytes in a header of the member called `name`."""
    at = -1
    while True:
        at = data.index(signature, at + 1)
        if data[at:][46 if signature == b"PK\1\2" else 30 :].startswith(name.encode()):
            return data[: at + offset] + value + data[at + offset + len(value) :]


def zip64(data: bytes, *, shift: int = 0) -> bytes:
    """Return a zip with a zip64 end, in which the directory lies `shift` bytes further than it does."""
    count, length, start = struct.unpack("<H2L", data[-12:-2])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start + shift)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1)
    return data[:-22] + record + locator + data[-22:-14] + b"\xff\xff" * 2 + b"\xff" * 8 + b"\0\0"


METADATA = f"{INFO}/METADATA"
GOOD = zip_bytes(wheel_files())

BROKEN_WHEELS = {
    "empty": (b"", "truncated or not a zip"),
    "gzip": (gzip.compress(GOOD), "truncated or not a zip"),
    "bytes before": (b"#!/bin/sh\n" + GOOD, "not where the end"),
    "bytes after": (GOOD + b"\0", "after the end"),
    "cut": (GOOD[:-1], "truncated or not a zip"),
    "no dist-info": (zip_bytes({"acme.py": b""}), "no .dist-info"),
    "nested dist-info": (zip_bytes({f"a/{METADATA}": b""}), "no .dist-info"),
    "two dist-infos": (zip_bytes({**wheel_files(), "b-1.dist-info/METADATA": b""}), "more than one"),
    "two dist-infos, one empty": (zip_bytes({**wheel_files(), "b-1.dist-info/": b""}), "more than one"),
    "other dist-info": (zip_bytes(wheel_files(info="other-1.0.dist-info")), "not that of the project"),
    "longer dist-info": (zip_bytes(wheel_files(info="acmeother-1.0.dist-info")), "not that of the project"),
    "no METADATA": (zip_bytes({f"{INFO}/WHEEL": b""}), "no METADATA"),
    "METADATA twice": (zip_twice(wheel_files(), METADATA), "twice"),
    "METADATA twice with NUL": (zip_twice({**wheel_files(), "x": b""}, f"{METADATA}\0"), "two ways"),
    "METADATA with backslash": (zip_bytes({**wheel_files(), f"{INFO}\\METADATA": b""}), "two ways"),
    "METADATA is a directory": (zip_bytes({f"{METADATA}/": b""}), "no METADATA"),
    "METADATA is a symlink": (
        edit(GOOD, b"PK\1\2", METADATA, 38, struct.pack("<L", 0o120777 << 16)),
        "not a regular file",
    ),
    "encrypted": (edit(GOOD, b"PK\1\2", METADATA, 8, b"\1\0"), "encrypted"),
    "bzip2": (edit(GOOD, b"PK\1\2", METADATA, 10, b"\x0c\0"), "method 12"),
    "unknown compression": (edit(GOOD, b"PK\1\2", METADATA, 10, b"\x63\0"), "method 99"),
    "huge": (zip_bytes(wheel_files(b"\n" * (16 * MIB + 1))), "more than 16777216"),
    "huge, it says": (edit(GOOD, b"PK\1\2", METADATA, 24, b"\xff\xff\xff\x7f"), "more than 16777216"),
    "size": (edit(GOOD, b"PK\1\2", METADATA, 24, b"\x01\0\0\0"), "Bad CRC-32"),
    "size 0": (edit(GOOD, b"PK\1\2", METADATA, 24, bytes(4)), "Bad CRC-32"),
    "larger size": (edit(GOOD, b"PK\1\2", METADATA, 24, b"\xff\xff\0\0"), "bytes, not 65535"),
    "checksum": (edit(GOOD, b"PK\1\2", METADATA, 16, b"abcd"), "Bad CRC-32"),
    "other local name": (edit(GOOD, b"PK\3\4", METADATA, 30, b"b"), "differ"),
    "overlapping": (edit(GOOD, b"PK\1\2", METADATA, 20, struct.pack("<L", len(GOOD) // 2)), "overlap"),
    "version of zip": (edit(GOOD, b"PK\1\2", METADATA, 6, b"\x40"), "zip file version 6.4"),
    "outside": (edit(GOOD, b"PK\1\2", METADATA, 42, struct.pack("<L", len(GOOD))), "overlap"),
    "count": (GOOD[:-12] + b"\3\0" + GOOD[-10:], "not as long"),
    "zip64 elsewhere": (zip64(GOOD, shift=1), "Bad magic number"),
    "zip64 disagrees": (zip64(GOOD)[:-6] + b"\1\0\0\0\0\0", "not where the end"),
    "zip64 missing": (GOOD[:-6] + b"\xff" * 4 + b"\0\0", "overlap"),
    "huge directory": (
        bytes(65 * MIB) + GOOD[-22:-10] + struct.pack("<2LH", 65 * MIB, 0, 0),
        "zip directory has",
    ),
}


@pytest.mark.parametrize("case", BROKEN_WHEELS)
def test_a_wheel_that_is_broken_or_means_two_things_is_refused(case: str) -> None:
    data, reason = BROKEN_WHEELS[case]
    assert reason in refusal(read, WHEEL, data)


def test_members_that_share_their_bytes_are_refused() -> None:
    data = zip_bytes(wheel_files() | {"noise": NOISE[:9999]})
    count, length, start = struct.unpack("<H2L", data[-12:-2])
    entry = data[data.rindex(b"PK\1\2") : -22]
    end = struct.pack("<2H2LH", count + 1, count + 1, length + len(entry), start, 0)
    assert "overlap" in refusal(read, WHEEL, data[:-22] + entry + data[-22:-14] + end)


def test_a_second_name_of_metadata_is_refused() -> None:
    """Python 3.12 and newer go by the Unicode path field, older ones by the name."""
    buffer = io.BytesIO(GOOD)
    with zipfile.ZipFile(buffer, "a") as archive:
        member = zipfile.ZipInfo("harmless")
        path = METADATA.encode()
        member.extra = struct.pack("<2HBL", 0x7075, 5 + len(path), 1, zlib.crc32(b"harmless")) + path
        archive.writestr(member, b"")
    assert "two ways" in refusal(read, WHEEL, buffer.getvalue())


@pytest.mark.parametrize("missing", ["METADATA", "WHEEL", "RECORD"])
def test_a_wheel_without_a_required_file_does_not_verify(missing: str) -> None:
    files = wheel_files()
    del files[f"{INFO}/{missing}"]
    assert f"no {missing}" in refusal(verify, WHEEL, zip_bytes(files))


@pytest.mark.parametrize("name", ["WHEEL", "RECORD"])
def test_a_wheel_with_a_required_file_twice_does_not_verify(name: str) -> None:
    assert "twice" in refusal(verify, WHEEL, zip_twice(wheel_files(), f"{INFO}/{name}"))


def test_a_wheel_with_any_unreadable_member_does_not_verify() -> None:
    assert "encrypted" in refusal(verify, WHEEL, edit(GOOD, b"PK\1\2", "acme.py", 8, b"\1\0"))
    assert "method 14" in refusal(verify, WHEEL, edit(GOOD, b"PK\1\2", "acme.py", 10, b"\x0e\0"))


@pytest.mark.parametrize(
    ("core_metadata", "reason"),
    [
        (b"", "no Name"),
        (b"\nName: acme\nVersion: 1.0\n", "no Name"),
        (b"Version: 1.0\n", "no Name"),
        (b"Name: acme\n", "no Version"),
        (b"Name: acme\n\nVersion: 1.0\n", "no Version"),
        (b"Name: acme\r\rVersion: 1.0\n", "no Version"),
        (b"Name: acme\nName: acme\nVersion: 1.0\n", "Name 2 times"),
        (b"Name: acme\nVersion: 1.0\nVERSION: 1.0\n", "Version 2 times"),
        (b"Name: acme\nVersion: 1.0\nRequires-Python: >3\nRequires-Python: >4\n", "Requires-Python 2 times"),
        (b"Name: other\nVersion: 1.0\n", "name 'other', its filename 'acme'"),
        (b"Name: acme\nVersion: 1.1\n", "version '1.1', its filename '1.0'"),
        (b"Name: acme\nVersion: 1.0+local\n", "version '1.0+local', its filename '1.0'"),
        (b"Name: acme\nVersion: new\n", "version 'new', its filename '1.0'"),
        (b"Name: acm\xe9\nVersion: 1.0\n", "Name in its core metadata has characters outside ASCII"),
        ("Name: acmé\nVersion: 1.0\n".encode(), "Name in its core metadata has characters outside ASCII"),
        (b"Name: acme\nVersion: 1.0\nRequires-Python: \xff\n", "Requires-Python in its core metadata has characters"),
        (b"Name: acme\nVersion: 1.0\nRequires-Python: " + b">" * 1025, "more than 1024 characters"),
        (b"Name: acme\nVersion: 1.0\n" + b"a:\r" * 100_000, "lines of headers"),
    ],
)
@pytest.mark.parametrize("filename", [WHEEL, "acme-1.0.tar.gz", "acme-1.0.zip"])
def test_core_metadata_that_does_not_fit_the_filename_is_refused(
    filename: str, core_metadata: bytes, reason: str
) -> None:
    files = {"acme-1.0/PKG-INFO": core_metadata}
    data = {
        WHEEL: zip_bytes(wheel_files(core_metadata)),
        "acme-1.0.tar.gz": gzip.compress(tar_bytes(files)),
        "acme-1.0.zip": zip_bytes(files),
    }
    assert reason in refusal(read, filename, data[filename])


def test_a_description_is_not_parsed() -> None:
    """Name and Version are headers, whatever the description holds, a multipart message for instance."""
    raw = b"Name: acme\nVersion: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\nName: x\n\n" * 99_999
    assert read(WHEEL, zip_bytes(wheel_files(raw))) == CoreMetadata(raw, None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("operation", [read, verify])
@pytest.mark.parametrize(
    "path", ["PKG-INFO", "/PKG-INFO", "acme-1.0/src/PKG-INFO", "acme-1.0/PKG-INFO.txt", "../PKG-INFO"]
)
def test_an_sdist_without_pkg_info_in_its_top_level_directory_is_refused(
    suffix: str, operation: Callable[[str, bytes], object], path: str
) -> None:
    files = {path: make_core_metadata("acme", "1.0")}
    data = zip_bytes(files) if suffix == ".zip" else PACK[suffix](tar_bytes(files))
    assert "no PKG-INFO" in refusal(operation, f"acme-1.0{suffix}", data)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("operation", [read, verify])
def test_a_pkg_info_that_is_no_file_is_refused(kind: bytes, operation: Callable[[str, bytes], object]) -> None:
    data = gzip.compress(header("acme-1.0/PKG-INFO", 0, kind) + bytes(1024))
    assert "not a regular file" in refusal(operation, "acme-1.0.tar.gz", data)


def test_a_sparse_pkg_info_is_refused() -> None:
    data = gzip.compress(header("acme-1.0/PKG-INFO", 0, tarfile.GNUTYPE_SPARSE) + bytes(1024))
    assert "not a regular file" in refusal(read, "acme-1.0.tar.gz", data)


@pytest.mark.parametrize(
    ("mode", "name", "reason"), [(0o120777, "PKG-INFO", "not a regular file"), (0o100644, "PKG-INFO/", "no PKG-INFO")]
)
def test_a_pkg_info_that_is_no_file_is_refused_in_a_zip(mode: int, name: str, reason: str) -> None:
    data = zip_bytes({f"acme-1.0/{name}": b"x"})
    data = edit(data, b"PK\1\2", f"acme-1.0/{name}", 38, struct.pack("<L", mode << 16))
    assert reason in refusal(read, "acme-1.0.zip", data)


def tar_with_pkg_info(size: int, contents: bytes) -> bytes:
    return header("acme-1.0/PKG-INFO", size) + contents


PKG_INFO = make_core_metadata("acme", "1.0")
LONG_TAR = tar_bytes({"acme-1.0/PKG-INFO": PKG_INFO, "acme-1.0/noise": NOISE[:200_000]})
GOOD_TAR = tar_bytes({"acme-1.0/PKG-INFO": PKG_INFO, "acme-1.0/acme.py": b"x" * 600})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b""), "empty file"),
        (b"", "empty file"),
        (GOOD_TAR, "corrupt or of another format"),
        (bz2.compress(GOOD_TAR), "corrupt or of another format"),
        (zip_bytes({"acme-1.0/PKG-INFO": PKG_INFO}), "corrupt or of another format"),
        (gzip.compress(b"no tar" * 999), "corrupt or of another format"),
        (gzip.compress(tar_with_pkg_info(16 * MIB + 1, b"")), "more than 16777216"),
        (gzip.compress(tar_with_pkg_info(9999, PKG_INFO)), "truncated"),
        (gzip.compress(header("x", -1024) + bytes(1024)), ""),
        (gzip.compress(header("x", 1 << 62) + bytes(1024)), "unexpected end of data"),
    ],
    ids=["empty", "no bytes", "no gzip", "bzip2", "zip", "no tar", "huge", "short", "negative", "endless"],
)
@pytest.mark.parametrize("operation", [read, verify])
def test_a_broken_tar_is_refused(data: bytes, reason: str, operation: Callable[[str, bytes], object]) -> None:
    assert reason in refusal(operation, "acme-1.0.tar.gz", data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(LONG_TAR)[:-1], "ended before"),
        (gzip.compress(LONG_TAR)[:-8], "ended before"),
        (gzip.compress(LONG_TAR)[:-8] + bytes(8), "corrupt"),
        (gzip.compress(LONG_TAR) + b"garbage", "corrupt"),
        (gzip.compress(LONG_TAR[:1024]), "truncated"),
        (gzip.compress(LONG_TAR[:1100]), "truncated"),
        (gzip.compress(LONG_TAR[:1800]), "unexpected end of data"),
        (gzip.compress(LONG_TAR[:1024] + b"?" * 9999), "truncated or corrupt"),
        (gzip.compress(LONG_TAR[:1024] + LONG_TAR), "PKG-INFO twice"),
    ],
    ids=["cut", "no trailer", "checksum", "garbage", "no end", "half header", "half file", "bad header", "twice"],
)
def test_an_sdist_that_is_broken_after_pkg_info_does_not_verify(data: bytes, reason: str) -> None:
    assert read("acme-1.0.tar.gz", data) == CoreMetadata(PKG_INFO, None)
    assert reason in refusal(verify, "acme-1.0.tar.gz", data)


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_streams_one_after_another_are_one_tar(suffix: str) -> None:
    data = PACK[suffix](GOOD_TAR[:700]) + PACK[suffix](GOOD_TAR[700:])
    verify(f"acme-1.0{suffix}", data)
    assert read(f"acme-1.0{suffix}", data) == CoreMetadata(PKG_INFO, None)


def test_every_member_of_a_zip_sdist_is_checked() -> None:
    files = {"acme-1.0/PKG-INFO": PKG_INFO, "acme-1.0/a": NOISE[:300_000]}
    data = zip_bytes(files)
    at = data.index(NOISE[1000:1100])
    broken = data[:at] + b"\0" + data[at + 1 :]
    assert read("acme-1.0.zip", broken) == CoreMetadata(PKG_INFO, None)
    assert "Bad CRC-32 for file 'acme-1.0/a'" in refusal(verify, "acme-1.0.zip", broken)
    assert "twice" in refusal(verify, "acme-1.0.zip", zip_twice(files, "acme-1.0/PKG-INFO"))


# The stream's own errors


class FailingStream(io.BytesIO):
    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__(data)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0 or size == 0:
            raise self._error
        return super().read(1000)


@pytest.mark.parametrize("error", [OSError("disk"), StorageError("away"), EOFError("eof"), ValueError("closed")])
@pytest.mark.parametrize("filename", [WHEEL, *(f"acme-1.0{suffix}" for suffix in SUFFIXES)])
@pytest.mark.parametrize("operation", [read_core_metadata, verify_archive])
def test_an_error_of_the_stream_is_not_taken_for_one_of_the_archive(
    filename: str, error: Exception, operation: Callable[..., object]
) -> None:
    noise = {"noise": NOISE[:5000]}
    is_zip = filename.endswith((".whl", ".zip"))
    data = zip_bytes(noise | wheel_files()) if is_zip else PACK[filename[8:]](tar_bytes(noise))
    with pytest.raises(type(error)) as caught:
        operation(FailingStream(data, error), parse_filename(filename))
    assert caught.value is error


def test_short_reads_of_the_stream_are_completed(tmp_path: Path) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(7 if size is None or size > 0 else 0)

    for path in (make_wheel(tmp_path), make_sdist(tmp_path), make_sdist(tmp_path, suffix=".zip")):
        parsed = parse_filename(path.name)
        assert read_core_metadata(Slow(path.read_bytes()), parsed) == read(path.name, path.read_bytes())
        verify_archive(Slow(path.read_bytes()), parsed)


# Chance


def attempt(filename: str, data: bytes) -> CoreMetadata | None:
    """Return what is read from a file that verifies, None for one that is refused; no other error may arise."""
    try:
        core_metadata = read(filename, data)
    except ArchiveError:
        core_metadata = None
    try:
        verify(filename, data)
    except ArchiveError:
        return None
    return core_metadata


FILES = {
    WHEEL: GOOD,
    "acme-1.0.zip": zip_bytes({"acme-1.0/PKG-INFO": PKG_INFO, "acme-1.0/acme.py": b"x"}),
    "acme-1.0.tar.gz": gzip.compress(GOOD_TAR, mtime=0),
    "acme-1.0.tar.bz2": bz2.compress(GOOD_TAR),
    "acme-1.0.tar.xz": lzma.compress(GOOD_TAR),
}
FLIPS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=4)


def flip(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    flipped = bytearray(data)
    for at, mask in flips:
        flipped[at % len(data)] ^= mask
    return bytes(flipped)


@given(st.sampled_from([*FILES, "acme-1.0-py3.11.egg"]), st.binary(max_size=2000))
def test_random_bytes_are_refused(filename: str, data: bytes) -> None:
    assert attempt(filename, data) is None


@given(st.sampled_from(list(FILES)), st.integers(0, 1 << 16))
@settings(deadline=None)
def test_a_truncated_file_is_refused(filename: str, length: int) -> None:
    data = FILES[filename]
    assert attempt(filename, data[: length % len(data)]) is None


@given(st.sampled_from(list(FILES)), FLIPS)
@settings(deadline=None, max_examples=200)
def test_a_flipped_byte_is_refused_or_changes_nothing(filename: str, flips: list[tuple[int, int]]) -> None:
    assert attempt(filename, flip(FILES[filename], flips)) in (None, read(filename, FILES[filename]))


def test_where_a_wheel_with_a_wrong_bit_is_accepted_zipfile_reads_the_same() -> None:
    for at in range(len(GOOD)):
        data = flip(GOOD, [(at, 1 << at % 8)])
        if core_metadata := attempt(WHEEL, data):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert archive.read(METADATA) == core_metadata.raw, at


@given(FLIPS)
@settings(deadline=None, max_examples=200)
def test_where_a_wheel_is_accepted_zipfile_reads_the_same(flips: list[tuple[int, int]]) -> None:
    data = flip(GOOD, flips)
    if core_metadata := attempt(WHEEL, data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.namelist().count(METADATA) == 1
            assert archive.read(METADATA) == core_metadata.raw


@given(FLIPS, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(deadline=None, max_examples=200)
def test_broken_tar_headers_raise_nothing_else(flips: list[tuple[int, int]], tar_format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tar_format) as archive:
        member = tarfile.TarInfo("n" * 300)
        member.pax_headers = {"comment": "c"}
        archive.addfile(member)
        member = tarfile.TarInfo("acme-1.0/PKG-INFO")
        member.size = len(PKG_INFO)
        archive.addfile(member, io.BytesIO(PKG_INFO))
    tar = bytearray(flip(buffer.getvalue()[:4096], flips))
    for start in range(0, len(tar), 512):  # otherwise most flips end at the checksum
        block = tar[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            tar[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    attempt("acme-1.0.tar.gz", gzip.compress(bytes(tar) + bytes(1024), 1))
