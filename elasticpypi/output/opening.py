"""Outputs by their names: a directory, or a bucket with or without a prefix."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from elasticpypi.errors import ConfigError
from elasticpypi.output import Output

if TYPE_CHECKING:
    from elasticpypi.aws import AWS

_S3 = "s3://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"(?!xn--)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # Amazon's rule
_EXAMPLE = "name a directory or, for example, s3://acme-pypi-pages/python"


def open_output(place: str, connect: Callable[[], AWS]) -> Output:
    """Return the output that a place names, `s3://BUCKET/PREFIX` or a path; ConfigError. No request is made.

    `connect` is asked for AWS where it is needed: to import its client takes as long as many a build.
    """
    if place.startswith(_S3):
        return _open_bucket(place, connect)
    if not place or "\0" in place or _SCHEME.match(place):
        raise ConfigError(f"the index cannot be written to {place!r}: {_EXAMPLE}")
    from elasticpypi.output.directory import DirectoryOutput

    return DirectoryOutput(Path(place))


def _open_bucket(place: str, connect: Callable[[], AWS]) -> Output:
    bucket, _, prefix = place.removeprefix(_S3).partition("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise ConfigError(f"{place!r} names no bucket: {_EXAMPLE}")
    parts = prefix.removesuffix("/").split("/") if prefix else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ConfigError(f"{place!r} has a prefix with an empty part, '.' or '..': {_EXAMPLE}")
    from elasticpypi.output.s3 import S3Output

    return S3Output(connect(), bucket, "/".join(parts))
