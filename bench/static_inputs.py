"""What the static site is measured with: lists for `--package-list-json`, and the same files in an index of ours.

Ten files a project: a wheel and an sdist of each of five releases.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from bench.indexes import sync
from bench.wheels import wheel_file, wheel_name

FILES_A_PROJECT = 10
_RELEASES = FILES_A_PROJECT // 2
_FIRST_UPLOAD = 1_600_000_000  # seconds since 1970
_BETWEEN_UPLOADS = 997  # seconds
_DONE = "filled"


def project_name(number: int) -> str:
    """Return the normalised name of a project."""
    return f"project-{number:05}"


def write_list(path: Path, files: int, *, more: int = 0) -> None:
    """Write a list with as many files, and `more` wheels that are new in projects which are there."""
    names = [name for number in range(files // FILES_A_PROJECT) for name in _filenames(number)]
    lines = [_line(name, position * 7919 % files) for position, name in enumerate(names)]  # in no order
    lines += [_line(new_wheel(number), files + number) for number in range(more)]
    path.write_text("".join(f"{line}\n" for line in lines))


def new_wheel(number: int) -> str:
    """Return the filename of a release that a project does not have yet."""
    return wheel_name(project_name(number), "9.0")


def make_index(data: Path, files: int) -> None:
    """Fill an index of ours with the files of a list; what an earlier run has left is used again."""
    if not (data / _DONE).exists():
        for number in range(files // FILES_A_PROJECT):
            directory = data / "files" / project_name(number)
            directory.mkdir(parents=True, exist_ok=True)
            for name in _filenames(number):
                if name.endswith(".whl"):
                    wheel_file(directory / name, 0)
                else:
                    _write_sdist(directory / name)
        sync(data)
        (data / _DONE).touch()
    for path in (data / "files").glob("*/*-9.0-*.whl"):
        path.unlink()
    sync(data)


def _filenames(number: int) -> Iterator[str]:
    project = project_name(number)
    for release in range(_RELEASES):
        yield wheel_name(project, f"1.{release}")
        yield f"{project.replace('-', '_')}-1.{release}.tar.gz"


def _line(filename: str, place: int) -> str:
    """Return a line of a list; `place` says how many files were uploaded before."""
    fields = {
        "filename": filename,
        "hash": f"sha256={hashlib.sha256(filename.encode()).hexdigest()}",
        "requires_dist": ["requests>=2.32", "packaging", "click>=8; extra == 'cli'"],
        "requires_python": ">=3.9",
        "upload_timestamp": _FIRST_UPLOAD + place * _BETWEEN_UPLOADS,
        "uploaded_by": "ci",
    }
    return json.dumps(fields)


def _write_sdist(path: Path) -> None:
    stem = path.name.removesuffix(".tar.gz")
    name, _, version = stem.rpartition("-")
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\nRequires-Python: >=3.9\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(f"{stem}/PKG-INFO")
        member.size = len(metadata)
        archive.addfile(member, io.BytesIO(metadata))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
