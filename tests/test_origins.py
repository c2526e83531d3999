"""What sources claim about imported files is kept beside the files, filename by filename."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from elasticpypi.errors import UnreadableObjectError
from elasticpypi.model import Origin
from elasticpypi.names import NormalizedName
from elasticpypi.origins import keep_origins, read_origins
from elasticpypi.storage.filesystem import FilesystemStorage

ACME = NormalizedName("acme")
FIRST = Origin("aa", datetime(2020, 1, 2, 3, 4, 5, 678901, UTC), "https://example.com/simple/")
SECOND = Origin("bb", None, "devpi export root/dev")


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    opened = FilesystemStorage(tmp_path / "files")
    opened.initialise()
    return opened


def test_origins_are_read_as_they_were_kept(storage: FilesystemStorage, tmp_path: Path) -> None:
    assert read_origins(storage, ACME) == {}
    keep_origins(storage, ACME, {"one": FIRST, "two": FIRST})
    keep_origins(storage, ACME, {"two": SECOND})
    assert read_origins(storage, ACME) == {"one": FIRST, "two": SECOND}
    assert read_origins(storage, NormalizedName("other")) == {}
    assert json.loads((tmp_path / "files" / ".elasticpypi" / "origins" / "acme.json").read_text()) == {
        "one": {"sha256": "aa", "upload-time": "2020-01-02T03:04:05.678901Z", "source": "https://example.com/simple/"},
        "two": {"sha256": "bb", "upload-time": None, "source": "devpi export root/dev"},
    }


def test_what_several_keep_at_once_is_all_kept(storage: FilesystemStorage) -> None:
    names = [str(number) for number in range(8)]
    threads = [threading.Thread(target=keep_origins, args=(storage, ACME, {name: FIRST})) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_origins(storage, ACME) == dict.fromkeys(names, FIRST)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"one": {}}',
        '{"one": "aa"}',
        '{"one": {"sha256": "aa", "upload-time": "today", "source": "here"}}',
    ],
)
def test_a_damaged_document_is_no_empty_one(text: str, storage: FilesystemStorage) -> None:
    storage.write_document(".elasticpypi/origins/acme.json", text.encode(), replacing=None)
    with pytest.raises(UnreadableObjectError, match="remove it"):
        read_origins(storage, ACME)
    with pytest.raises(UnreadableObjectError, match="remove it"):
        keep_origins(storage, ACME, {"one": FIRST})
