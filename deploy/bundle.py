"""Builds the one zip that all functions run from: our package, what it imports, and bytecode for both.

It is made for Lambda whatever machine makes it: pip chooses wheels by platform and version, a Python of the target's
version compiles them. Equal inputs give equal bytes. Needs nothing but pip and the standard library.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bundle"
HOST = "host"  # in place of an architecture or a version: this machine's, as tests run it
FORMAT = "1"  # of what is kept in the cache; another one is made anew

# The C libraries of Lambda's images (Amazon Linux 2023 has glibc 2.34) run wheels that were made for these.
_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_ON_LAMBDA = "/var/task"  # where the zip is unpacked there, which tracebacks name

# What a function never runs, so that it is not there to be loaded by mistake either.
_NOT_OURS = (
    "__main__.py",
    "catalog/sqlite/*",
    "cli/*",
    "client/*",
    "config*.json",
    "deployment/*",
    "handler/local.py",
    "importing/*",
    "output/directory.py",
    "static_site/of_lists.py",
    "storage/filesystem.py",
)
_OURS = (".py", ".html", ".json", ".css", ".js", ".svg", ".xml")
# Of other people's packages: programs, types, tests, what describes a package but METADATA and WHEEL, which
# importlib.metadata and we read; what is for dateutil's own time zones, for Werkzeug's debugger, for binding C to
# Python (cryptography is bound already), for other forms of documents than HTML, for those who still write for
# pydantic 1. And boto3, a sixth of a start: botocore makes the same clients, and boto3's own resources and transfers
# are used nowhere.
_NOT_NEEDED = (
    "bin/*",
    "*.pyi",
    "*/py.typed",
    "*.c",
    "*/test/*",
    "*/tests/*",
    "*/__pycache__/*",
    "boto3/*",
    "boto3-*.dist-info/*",
    "cffi/*",
    "charset_normalizer/cli/*",
    "dateutil/zoneinfo/*.tar.gz",
    "docutils/writers/latex2e/*",
    "docutils/writers/odf_odt/*",
    "docutils/writers/s5_html/*",
    "docutils/writers/xetex/*",
    "pycparser/*",
    "pydantic/deprecated/*",
    "pydantic/experimental/*",
    "pydantic/mypy.py",
    "pydantic/v1/*",
    "s3transfer/*",
    "s3transfer-*.dist-info/*",
    "werkzeug/debug/shared/*",
)
_OF_DIST_INFO = ("METADATA", "WHEEL")
# The models of AWS's services that the functions talk to, in their only version of use. botocore reads them whole when
# a client is made: without what is written for people or about operations that we do not use, and not compressed twice,
# in a third of the time (docs/aws.md).
_SERVICES = {"dynamodb": "2012-08-10", "s3": "2006-03-01", "sqs": "2012-11-05"}
# Which operations we use, our sources say: those whose name occurs there. And those that botocore itself needs, to find
# out in which region a bucket is, and to talk to directory buckets.
_OF_BOTOCORE = {"HeadBucket", "CreateSession"}
_MODELS = ("service-2.", "endpoint-rule-set-1.", "paginators-1.")


class BundleError(Exception):
    """The bundle cannot be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a bundle is made for."""

    architecture: str  # a key of _MACHINES
    version: tuple[int, int]  # of CPython

    @property
    def dotted(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def parse_target(architecture: str, version: str) -> Target:
    """Return the target that the names stand for, HOST for this machine's; raise BundleError for an unknown one."""
    if architecture == HOST:
        machine = platform.machine().lower()
        architecture = {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)
    if architecture not in _MACHINES:
        raise BundleError(f"no function runs on {architecture!r}: choose one of {', '.join(_MACHINES)}")
    if version == HOST:
        return Target(architecture, sys.version_info[:2])
    major, _, minor = version.removeprefix("python").partition(".")
    if major != "3" or not minor.isdigit():
        raise BundleError(f"{version!r} is no version of Python: write for example 3.13")
    return Target(architecture, (3, int(minor)))


def build_bundle(target: Target, output: Path) -> str | None:
    """Write the bundle for a target; return a warning where it could not be made as it should be."""
    interpreter = find_python(target.version)
    CACHE.mkdir(parents=True, exist_ok=True)
    packages = _packages(target, interpreter)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        tree = Path(name) / "tree"
        shutil.copytree(packages, tree)
        _copy_ours(tree / "elasticpypi")
        _restrict_operations(tree)
        if interpreter is not None:
            _compile(tree, "elasticpypi", interpreter)
        packed = Path(name) / "bundle.zip"
        _pack(tree, packed)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(packed, output)
    if interpreter is not None:
        return None
    return (
        f"no Python {target.dotted} was found, so the bundle has no bytecode and functions start more slowly: install "
        f'one, or choose with "runtime" a version that is here'
    )


# What others have written -----------------------------------------------------------------------------------------


def _packages(target: Target, interpreter: str | None) -> Path:
    """Return the directory with the pinned packages for a target, compiled, which is made once for the same pins."""
    pins = (ROOT / "requirements.txt").read_bytes()
    recipe = Path(__file__).read_bytes()
    digest = hashlib.sha256(
        b"\0".join([FORMAT.encode(), f"{target!r} {interpreter}".encode(), recipe, pins])
    ).hexdigest()
    kept = CACHE / f"packages-{digest[:16]}"
    if kept.is_dir():
        return kept
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        made = Path(name) / "packages"
        _install(target, made)
        _reduce(made)
        if interpreter is not None:
            _compile(made, "", interpreter)
        try:
            made.rename(kept)
        except OSError:
            if not kept.is_dir():  # somebody else was quicker
                raise
    return kept


def _install(target: Target, directory: Path) -> None:
    platforms = [f"{name}_{_MACHINES[target.architecture]}" for name in _PLATFORMS]
    chosen = [part for name in platforms for part in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-user"]
    ran = subprocess.run(  # noqa: S603 -- our own arguments
        [
            *pip,
            *("--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:"),
            *("--requirement", str(ROOT / "requirements.txt"), "--target", str(directory)),
            *("--implementation", "cp", "--python-version", _release(target), *chosen),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise BundleError(f"pip could not get the packages of requirements.txt: {_last_error(ran.stderr)}")


def _release(target: Target) -> str:
    """Return the release of Python that packages are to be for, as far as one is known.

    pip holds the markers of pins against the Python that it runs on, and what packages require against what it is told,
    of which it takes 3.11 for 3.11.0: so both have to be the same, where they are to be of the same version.
    """
    return ".".join(map(str, sys.version_info[:3])) if target.version == sys.version_info[:2] else target.dotted


def _last_error(text: str) -> str:
    """Return what a program says last, and the last warning: pip knows of no versions where it reaches no index."""
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no reason given"]
    error = errors[-1].removeprefix("ERROR: ")
    warnings = [line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING: ")]
    return f"{error} ({warnings[-1]})" if warnings and warnings[-1] not in error else error


def _reduce(directory: Path) -> None:
    for path in _files(directory):
        if not _is_needed(path.relative_to(directory).as_posix()):
            path.unlink()
    data = directory / "botocore" / "data"
    for path in _files(data):
        parts = path.relative_to(data).parts
        if len(parts) > 1 and not _is_model(parts):
            path.unlink()
    for service, version in _SERVICES.items():
        for path in _files(data / service / version):
            _write_model(path)
    _restrict_endpoints(data / "endpoints.json")
    _remove_empty(directory)


def _is_needed(path: str) -> bool:
    directory, _, name = path.rpartition("/")
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in _NOT_NEEDED):
        return False
    return name in _OF_DIST_INFO or not directory.split("/")[0].endswith(".dist-info")


def _is_model(parts: tuple[str, ...]) -> bool:
    return _SERVICES.get(parts[0]) == parts[1] and parts[-1].startswith(_MODELS)


def _write_model(path: Path) -> None:
    """Write a model again, without documentation and not compressed, since the zip is."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    path.unlink()
    _write_json(path.with_name(path.name.removesuffix(".gz")), _without_documentation(json.loads(content)))


def _without_documentation(document: Any) -> Any:
    if isinstance(document, dict):
        return {
            # Empty, because botocore reads that of some parameters.
            key: "" if key == "documentation" and isinstance(value, str) else _without_documentation(value)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [_without_documentation(value) for value in document]
    return document


def _restrict_endpoints(path: Path) -> None:
    document = json.loads(path.read_bytes())
    for partition in document["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in (*_SERVICES, "sts") if name in services}
    _write_json(path, document)


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")


def _remove_empty(directory: Path) -> None:
    for path in sorted((path for path in directory.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


# Ours ---------------------------------------------------------------------------------------------------------------


def _copy_ours(target: Path) -> None:
    source = ROOT / "elasticpypi"
    for path in _files(source):
        name = path.relative_to(source).as_posix()
        if path.suffix in _OURS and not any(fnmatch.fnmatchcase(name, p) for p in _NOT_OURS):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _restrict_operations(tree: Path) -> None:
    """Leave out of the models the operations that our sources do not name."""
    names = _names(tree / "elasticpypi")
    for service, version in _SERVICES.items():
        path = tree / "botocore" / "data" / service / version / "service-2.json"
        model = json.loads(path.read_bytes())
        model["operations"] = {
            name: operation
            for name, operation in model["operations"].items()
            if method_name(name) in names or name in _OF_BOTOCORE
        }
        shapes = _shapes(model["operations"], model["shapes"])
        model["shapes"] = {name: shape for name, shape in model["shapes"].items() if name in shapes}
        _write_json(path, model)


def _names(directory: Path) -> set[str]:
    """Return all attributes and texts in the sources, among them operations: `client.get_item`, `"get_item"`."""
    nodes = [node for path in directory.rglob("*.py") for node in ast.walk(ast.parse(path.read_bytes()))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def method_name(operation: str) -> str:
    """Return the name of a client's method for an operation: `get_item` for GetItem."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", operation).lower()


def _shapes(document: Any, shapes: Mapping[str, Any]) -> set[str]:
    """Return the names of all shapes that a part of a model leads to."""
    found: set[str] = set()
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = part.get("shape")
            if isinstance(name, str) and name not in found:
                found.add(name)
                waiting.append(shapes[name])
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return found


def find_python(version: tuple[int, int]) -> str | None:
    """Return a CPython of that version, whose bytecode Lambda's understands; None where there is none."""
    name = f"python{version[0]}.{version[1]}"
    candidates = [sys.executable, *_on_path(name), *_of_managers(name), *_on_path("python3")]
    return next((path for path in candidates if _is_python(path, version)), None)


def _on_path(name: str) -> Iterator[str]:
    for directory in os.get_exec_path():
        found = shutil.which(name, path=directory)
        if found:
            yield found


def _of_managers(name: str) -> list[str]:
    """Return the interpreters that pyenv and uv keep beside the PATH."""
    home = Path.home()
    places = (
        (home / ".pyenv" / "versions", f"*/bin/{name}"),
        (home / ".local" / "share" / "uv" / "python", f"cpython-*/bin/{name}"),
    )
    return [str(path) for directory, pattern in places for path in sorted(directory.glob(pattern))]


def _is_python(path: str, version: tuple[int, int]) -> bool:
    """Say whether a program runs (a shim may not) and is what its name says, a final release."""
    program = "import sys; print(sys.implementation.name, *sys.version_info[:2], sys.version_info.releaselevel)"
    try:
        ran = subprocess.run(  # noqa: S603 -- an interpreter
            [path, "-I", "-S", "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.stdout.split() == ["cpython", *map(str, version), "final"]


def _compile(tree: Path, below: str, interpreter: str) -> None:
    """Compile all sources below a part of a tree ("": all of it), as they will lie on Lambda.

    The bytecode is taken as it is, since no time and no hash is looked at again.
    """
    ran = subprocess.run(  # noqa: S603 -- our own arguments
        [
            *(interpreter, "-I", "-S", "-m", "compileall", "-q", "-j", "1"),
            *("--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", _ON_LAMBDA, str(tree / below)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BundleError(f"{interpreter} could not compile the packages: {_last_error(ran.stdout + ran.stderr)}")


def _pack(tree: Path, packed: Path) -> None:
    """Write the zip: sorted, with one time and one mode for every file."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(_files(tree), key=lambda path: path.relative_to(tree).as_posix()):
            info = zipfile.ZipInfo(path.relative_to(tree).as_posix(), (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes(), compresslevel=6)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def main(arguments: list[str] | None = None) -> int:
    """Build a bundle as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bundle", description=__doc__)
    parser.add_argument("--architecture", default="arm64", help="arm64 (the default), x86_64 or host")
    parser.add_argument("--python", default="3.13", help="version of Python, 3.13 by default, or host")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "bundle.zip")
    options = parser.parse_args(arguments)
    try:
        target = parse_target(options.architecture, options.python)
        warning = build_bundle(target, options.output)
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if warning:
        sys.stderr.write(f"{warning}\n")
    size = options.output.stat().st_size
    sys.stdout.write(f"{options.output}: {size:,} bytes for Python {target.dotted} on {target.architecture}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
