"""Wheels for benchmarks: valid, and as large or as many as asked."""

from __future__ import annotations

import zipfile
from pathlib import Path

CHUNK = 256 * 1024
_TIME = (1980, 1, 1, 0, 0, 0)  # so that equal names give equal bytes


def wheel_name(project: str, version: str) -> str:
    """Return the filename of a wheel of a normalised project."""
    return f"{project.replace('-', '_')}-{version}-py3-none-any.whl"


def core_metadata(name: str, version: str) -> str:
    """Return the least that a wheel has to say of itself."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.9\n"


def wheel_file(path: Path, size: int, *, metadata: str | None = None) -> None:
    """Write a wheel of `size` bytes and a little more, with the least core metadata where none is given."""
    name, version = path.name.split("-")[:2] if path.suffix == ".whl" else ("large", "1")
    metadata = metadata or core_metadata(name, version)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA", _TIME), metadata)
        wheel = "Wheel-Version: 1.0\nTag: py3-none-any\n"
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/WHEEL", _TIME), wheel)
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/RECORD", _TIME), "")
        with archive.open(zipfile.ZipInfo(f"{name}/data", _TIME), "w", force_zip64=True) as member:
            for position in range(0, size, CHUNK):
                member.write(bytes(min(CHUNK, size - position)))


def add_wheels(directory: Path, project: str, count: int, *, size: int = 0) -> None:
    """Write versions 1.0, 1.1, … of a project into `directory`, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        wheel_file(directory / wheel_name(project, f"1.{number}"), size)
