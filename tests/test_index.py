"""What holds for an index when the machine below it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from elasticpypi.catalog import Catalog
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.config import Settings, Upstream, UpstreamMode
from elasticpypi.errors import BusyError, CatalogError, StorageError
from elasticpypi.index import Index, open_index
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.storage.filesystem import FilesystemStorage
from tests.dists import make_wheel

ACME = NormalizedName("acme")


class FullCatalog:
    """A catalog on a disk that has no room for pages."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def keep_page(self, *_: object) -> None:
        raise CatalogError("database or disk is full")


def test_a_page_that_cannot_be_kept_is_served(tmp_path: Path) -> None:
    make_wheel(tmp_path / "data" / "files", "acme", "1.0")
    open_index(Settings(), data=tmp_path / "data").close()
    catalog = SqliteCatalog(tmp_path / "data" / "catalog.sqlite")
    index = Index(cast("Catalog", FullCatalog(catalog)), FilesystemStorage(tmp_path / "data" / "files"))
    index.sync(patience_seconds=10)
    assert index.project_page(ACME, Form.JSON, index.project_revision(ACME)).body
    assert index.root_page(Form.HTML, index.root_revision(Form.HTML)).body
    index.close()


def test_core_metadata_is_never_that_of_other_bytes_than_were_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    wheel = make_wheel(data / "files", "acme", "1.0", description="old")
    index = open_index(Settings(), data=data)
    index.sync(patience_seconds=10)
    found = index.find_file(ACME, wheel.name)
    assert b"old" in index.core_metadata(found)
    make_wheel(data / "files", "acme", "1.0", description="new")
    index.reconcile(wheel.name)
    with pytest.raises(BusyError):
        index.core_metadata(found)
    index.close()


@pytest.mark.parametrize("catalog_goes", [False, True])
def test_a_volume_that_is_not_mounted_is_no_empty_index(tmp_path: Path, *, catalog_goes: bool) -> None:
    data = tmp_path / "data"
    make_wheel(data / "files", "acme", "1.0")
    index = open_index(Settings(), data=data)
    index.sync(patience_seconds=10)
    index.close()
    shutil.rmtree(data / "files")
    (data / "files").mkdir()  # the mount point
    if catalog_goes:
        for file in data.glob("catalog.sqlite*"):
            file.unlink()
    index = open_index(Settings(), data=data)
    with pytest.raises(StorageError, match="is its volume mounted"):
        index.sync()
    with pytest.raises(StorageError, match="is its volume mounted"):
        index.check()
    index.close()


def test_who_only_looks_makes_no_storage(tmp_path: Path) -> None:
    index = open_index(Settings(), data=tmp_path / "data", may_create=False)
    with pytest.raises(StorageError):
        index.find_drift()
    index.close()
    assert not (tmp_path / "data" / "files").exists()


def test_what_a_volume_keeps_for_itself_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_wheel(data / "files" / "lost+found", "acme", "1.0")
    index = open_index(Settings(), data=data)
    report = index.sync(patience_seconds=10)
    assert report.added == []
    index.close()


def test_a_filename_that_is_not_text_stops_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    wheel = make_wheel(data / "files", "acme", "1.0")
    Path(os.fsdecode(os.fsencode(data / "files") + b"/n\xff-1.0.zip")).touch()
    index = open_index(Settings(), data=data)
    assert index.sync(patience_seconds=10).added == [wheel.name]
    index.close()


def test_a_name_that_appears_while_the_catalog_is_made_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    upstream = Upstream("other", "https://pypi.example.org/simple/", UpstreamMode.PROXY)  # nobody is asked here
    index = open_index(Settings(upstreams=(upstream,)), data=data)
    make_wheel(data / "files", "acme", "1.0")
    is_complete = SqliteCatalog.is_complete

    def is_complete_by_then(catalog: SqliteCatalog) -> bool:
        """Let the catalog be made between two looks at it."""
        monkeypatch.setattr(SqliteCatalog, "is_complete", is_complete)
        index.sync(patience_seconds=10)
        return is_complete(catalog)

    monkeypatch.setattr(SqliteCatalog, "is_complete", is_complete_by_then)
    assert isinstance(index.locate(ACME), int)
    assert not isinstance(index.locate(NormalizedName("spam")), int)
    index.close()
