"""Builders of real distribution files: pip can install what they make, and equal arguments give equal bytes.

Each takes the directory to write to, None for a new temporary one, and returns the path of the file.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

_NO_FILES: Mapping[str, bytes] = {}

# The whole build backend of the sdists: it packs what lies beside PKG-INFO, without network and without setuptools.
_BACKEND = """\
import base64, hashlib, pathlib, zipfile


def _field(core_metadata, key):
    return next(line.split(": ", 1)[1] for line in core_metadata.splitlines() if line.startswith(key + ": "))


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    root = pathlib.Path(".")
    core_metadata = (root / "PKG-INFO").read_text(encoding="utf-8")
    name = _field(core_metadata, "Name").lower().replace("-", "_").replace(".", "_")
    stem = name + "-" + _field(core_metadata, "Version")
    files = {str(path): path.read_bytes() for path in sorted(root.glob("*.py"))}
    wheel = "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[stem + ".dist-info/WHEEL"] = wheel.encode()
    files[stem + ".dist-info/METADATA"] = core_metadata.encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\\n"
    files[stem + ".dist-info/RECORD"] = (record + stem + ".dist-info/RECORD,,\\n").encode()
    filename = stem + "-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / filename, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return filename
"""

_PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["_build"]
"""


def make_core_metadata(
    name: str, version: str, *, requires_python: str | None = None, description: str = "", metadata_version: str = "2.1"
) -> bytes:
    """Return METADATA or PKG-INFO; the name and version stand there as given."""
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}", "Summary: For tests"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    return ("\n".join([*lines, "", ""]) + description).encode()


def make_wheel(
    directory: Path | None,
    name: str = "acme",
    version: str = "1.0",
    *,
    requires_python: str | None = None,
    tag: str = "py3-none-any",
    description: str = "",
    core_metadata: bytes | None = None,
    extra_files: Mapping[str, bytes] = _NO_FILES,
) -> Path:
    """Write a wheel with one module, called like the project, and `extra_files` (path in the wheel to contents).

    `core_metadata` is METADATA as it is; it is made from the other arguments where it is not given.
    """
    stem = f"{_escape(name)}-{version}"
    if core_metadata is None:
        core_metadata = make_core_metadata(name, version, requires_python=requires_python, description=description)
    wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    files = {
        f"{_escape(name)}.py": _module(version),
        **extra_files,
        f"{stem}.dist-info/WHEEL": wheel.encode(),
        f"{stem}.dist-info/METADATA": core_metadata,
    }
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    return _write(directory, f"{stem}-{tag}.whl", zip_bytes(files))


def make_sdist(
    directory: Path | None,
    name: str = "acme",
    version: str = "1.0",
    *,
    requires_python: str | None = None,
    suffix: str = ".tar.gz",
    description: str = "",
    extra_files: Mapping[str, bytes] = _NO_FILES,
    pkg_info_last: bool = False,
) -> Path:
    """Write an sdist that pip builds offline; `suffix` is .tar.gz, .tar.bz2, .tar.xz or .zip.

    PKG-INFO comes first, as setuptools has it, or last, as hatch does. `extra_files` lie in the top-level directory.
    """
    stem = f"{_escape(name)}-{version}"
    core_metadata = make_core_metadata(
        name, version, requires_python=requires_python, description=description, metadata_version="2.2"
    )
    files = {
        "pyproject.toml": _PYPROJECT.encode(),
        "_build/backend.py": _BACKEND.encode(),
        f"{_escape(name)}.py": _module(version),
        **extra_files,
    }
    pkg_info = {"PKG-INFO": core_metadata}
    files = {**files, **pkg_info} if pkg_info_last else {**pkg_info, **files}
    return _write(directory, stem + suffix, _PACK[suffix]({f"{stem}/{path}": data for path, data in files.items()}))


def make_egg(
    directory: Path | None,
    name: str = "acme",
    version: str = "1.0",
    *,
    python: str = "py3.11",
    requires_python: str | None = None,
    extra_files: Mapping[str, bytes] = _NO_FILES,
) -> Path:
    """Write an egg with one module."""
    files = {
        "EGG-INFO/PKG-INFO": make_core_metadata(name, version, requires_python=requires_python),
        "EGG-INFO/top_level.txt": f"{_escape(name)}\n".encode(),
        f"{_escape(name)}.py": _module(version),
        **extra_files,
    }
    return _write(directory, f"{_escape(name)}-{version.replace('-', '_')}-{python}.egg", zip_bytes(files))


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of these files, without times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, on every platform
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed tar of these files, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


_PACK: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    ".zip": zip_bytes,
    ".tar.gz": lambda files: gzip.compress(tar_bytes(files), mtime=0),
    ".tar.bz2": lambda files: bz2.compress(tar_bytes(files)),
    ".tar.xz": lambda files: lzma.compress(tar_bytes(files)),
}


def _escape(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _module(version: str) -> bytes:
    return f'__version__ = "{version}"\n'.encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _write(directory: Path | None, filename: str, data: bytes) -> Path:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    path = (directory or Path(tempfile.mkdtemp(prefix="elasticpypi-dists-"))) / filename
    path.write_bytes(data)
    return path
