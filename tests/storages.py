"""Storages on both adapters, for tests of what lies in one."""

from __future__ import annotations

import pytest

from elasticpypi.storage import Storage
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.storage.s3 import S3Storage

ADAPTERS = ["directory", "s3"]


def open_storage(request: pytest.FixtureRequest) -> Storage:
    """Return an empty storage on the adapter that a fixture's parameter names."""
    if request.param == "s3":
        cloud = request.getfixturevalue("cloud")
        return S3Storage(cloud.aws, cloud.make_bucket())
    storage = FilesystemStorage(request.getfixturevalue("tmp_path") / "files")
    storage.initialise()
    return storage


def objects_in(storage: Storage) -> list[str]:
    """Return the keys of all that lies in a storage but notes of its own, sorted."""
    ours = [key for key in storage.notes() if not key.startswith(".elasticpypi/first-seen/")]
    return sorted([*ours, *(obj.key for obj in storage.list())])
