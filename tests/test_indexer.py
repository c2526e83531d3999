"""`reconcile` and `sync`, from real files to rows and pages."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from elasticpypi.catalog import Catalog, Write
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.errors import CatalogError, ConflictError, StorageError, UnreadableObjectError
from elasticpypi.indexer import Failed, Known, Reconciled, object_fingerprint, reconcile, reconcile_all
from elasticpypi.metadata import CoreMetadata
from elasticpypi.model import Decisions, Entry, File, ListedFile, Rejection, Status, format_decisions
from elasticpypi.names import Kind, NormalizedName
from elasticpypi.simple import Form, render_project
from elasticpypi.storage import Storage, StoredObject
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.sync import SyncReport, find_drift, sync
from tests.dists import make_core_metadata, make_egg, make_sdist, make_wheel

ACME = NormalizedName("acme")
WHEEL = "acme/acme-1.0-py3-none-any.whl"
FLAT = "acme-1.0-py3-none-any.whl"
SDIST = "acme/acme-2.0.tar.gz"
DECISIONS = "acme/project.json"


class Counted:
    """A storage that counts calls, finds every object settled but those named, and may refuse to read some."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.calls: Counter[str] = Counter()
        self.unsettled: set[str] = set()
        self.unreadable: set[str] = set()
        self.failing: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._storage, name)

    def is_settled(self, obj: Any) -> bool:
        return obj.key not in self.unsettled

    def stat(self, key: str) -> Any:
        if key in self.failing:
            raise StorageError("the network is down")
        return self._storage.stat(key)

    def open(self, obj: Any) -> Any:
        self.calls["open"] += 1
        if obj.key in self.unreadable:
            raise UnreadableObjectError(obj.key, "permission denied")
        return self._storage.open(obj)

    def read_document(self, key: str) -> Any:
        self.calls["read_document"] += 1
        if key in self.unreadable:
            raise UnreadableObjectError(key, "permission denied")
        return self._storage.read_document(key)


class Scene:
    """A directory, a catalog, and what a test does with them."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "files"
        self._database = directory / "catalog.sqlite"
        directory_storage = FilesystemStorage(self.root)
        directory_storage.initialise()
        self.counted = Counted(directory_storage)
        self.storage = cast("Storage", self.counted)
        self.catalog: Catalog = SqliteCatalog(self._database)

    def put(self, key: str, data: bytes | Path) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
        return path

    def remove(self, key: str) -> None:
        (self.root / key).unlink()

    def learn(self, *keys: str) -> list[Entry | None]:
        return [reconcile(self.catalog, self.storage, key) for key in keys]

    def content(self, key: str) -> File | Rejection | Decisions | None:
        return self.catalog.entry(key).content

    def sync(self, *, prefix: str = "") -> SyncReport:
        return sync(self.catalog, self.storage, prefix=prefix)

    def find_drift(self) -> SyncReport:
        return find_drift(self.catalog, self.storage)

    def pages(self) -> dict[str, bytes]:
        """Render every page of every project."""
        pages: dict[str, bytes] = {}
        for listed in self.catalog.root().projects:
            project = self.catalog.project(listed.name)
            assert project is not None
            project = replace(project, revision=0)  # which a catalog made anew never repeats
            pages |= {f"{listed.name} {form}": b"".join(render_project(project, form)) for form in Form}
        return pages

    def listing(self) -> list[ListedFile]:
        project = self.catalog.project(ACME)
        return [] if project is None else project.listing()

    def rows(self) -> dict[str, object]:
        """Return all that the catalog says, generations included."""
        known = [self.catalog.entry(known.key) for known in self.catalog.known_keys()]
        return {"root": self.catalog.root_revision(), "revision": self.catalog.revision(ACME), "rows": known}

    def lose_catalog(self) -> None:
        self.catalog.close()
        self._database.unlink()
        self.catalog = SqliteCatalog(self._database)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.catalog.close()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, requires_python=">=3.9")


def file_of(scene: Scene, key: str, path: Path, **facts: Any) -> File:
    """Return what is expected to be known of a file; its upload time is asked of the storage."""
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    time = scene.storage.upload_time(scene.storage.stat(key), sha256)
    return File(filename=key.rpartition("/")[2], size=len(data), sha256=sha256, upload_time=time, **facts)


def test_a_wheel_is_known_with_its_core_metadata(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    (entry,) = scene.learn(WHEEL)
    core_metadata = make_core_metadata("acme", "1.0", requires_python=">=3.9")
    expected = file_of(
        scene,
        WHEEL,
        wheel,
        version="1.0",
        kind=Kind.WHEEL,
        requires_python=">=3.9",
        core_metadata_sha256=hashlib.sha256(core_metadata).hexdigest(),
    )
    known = scene.catalog.entry(WHEEL)
    assert known.content == expected
    assert entry is not None
    assert (entry.key, entry.project, entry.content) == (WHEEL, ACME, expected)
    assert object_fingerprint(known.fingerprint) == scene.storage.stat(WHEEL).fingerprint
    assert scene.catalog.core_metadata(WHEEL) == core_metadata


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("pkg_info_last", [False, True])
def test_an_sdist_announces_no_core_metadata_though_it_is_kept(
    scene: Scene, tmp_path: Path, suffix: str, *, pkg_info_last: bool
) -> None:
    sdist = make_sdist(tmp_path, suffix=suffix, requires_python=">=3.8", pkg_info_last=pkg_info_last)
    key = f"acme/acme-1.0{suffix}"
    scene.put(key, sdist)
    scene.learn(key)
    expected = file_of(scene, key, sdist, version="1.0", kind=Kind.SDIST, requires_python=">=3.8")
    kept = make_core_metadata("acme", "1.0", requires_python=">=3.8", metadata_version="2.2")
    assert (scene.content(key), scene.catalog.core_metadata(key)) == (expected, kept)


def test_an_egg_is_known_by_its_name_only(scene: Scene, tmp_path: Path) -> None:
    egg = make_egg(tmp_path, "acme", "1.0", requires_python=">=2.7")
    key = f"acme/{egg.name}"
    scene.put(key, egg)
    scene.learn(key)
    assert scene.content(key) == file_of(scene, key, egg, version="1.0", kind=Kind.EGG)


def test_a_legacy_sdist_name_is_read_as_packaging_does(scene: Scene, tmp_path: Path) -> None:
    sdist = make_sdist(tmp_path, "Acme.Tools", "1.0")
    key = "old/Acme.Tools-1.0.tar.gz"
    scene.put(key, sdist)
    scene.learn(key)
    expected = file_of(scene, key, sdist, version="1.0", kind=Kind.SDIST)
    assert scene.catalog.entries_named(NormalizedName("acme-tools"), "Acme.Tools-1.0.tar.gz") == [
        scene.catalog.entry(key)
    ]
    assert scene.content(key) == expected


ODD_NAMES = [
    ("acme-1.0.whl", "Invalid wheel filename (wrong number of parts): 'acme-1.0'"),
    ("acme/acme-x.y.tar.gz", "Invalid sdist filename (invalid version)"),
    ("acme/acme.zip", "Invalid sdist filename"),
    ("acme/a b-1.0.zip", "it contains a character that no such filename has"),
]


@pytest.mark.parametrize(("key", "reason"), ODD_NAMES)
def test_a_name_that_cannot_be_read_is_rejected_with_its_reason(scene: Scene, key: str, reason: str) -> None:
    scene.put(key, b"")
    scene.learn(key)
    entry = scene.catalog.entry(key)
    assert isinstance(entry.content, Rejection)
    assert (entry.project, entry.content.filename) == (None, key.rpartition("/")[2])
    assert entry.content.reason.startswith(reason)
    assert list(scene.catalog.problems()) == [entry]
    assert scene.pages() == {}
    assert scene.counted.calls["open"] == 0


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (WHEEL, b""),
        (WHEEL, b"no zip"),
        ("acme/acme-1.0.tar.gz", b"no gzip"),
        ("acme/acme-1.0.tar.xz", b""),
        ("other/other-1.0-py3-none-any.whl", None),  # that of another project
        ("acme/acme-9.0-py3-none-any.whl", None),  # that of another version
    ],
)
def test_a_file_that_cannot_be_trusted_is_rejected_and_not_listed(
    scene: Scene, wheel: Path, key: str, data: bytes | None
) -> None:
    scene.put(key, wheel if data is None else data)
    scene.learn(key)
    entry = scene.catalog.entry(key)
    assert isinstance(entry.content, Rejection)
    assert entry.project == key.partition("/")[0]
    assert entry.content.reason
    assert list(scene.catalog.problems()) == [entry]
    assert b"href" not in scene.pages()[f"{entry.project} html"]


def test_a_rejected_file_that_is_mended_is_listed(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, b"no zip")
    scene.learn(WHEEL)
    scene.put(WHEEL, wheel)
    scene.learn(WHEEL)
    assert [item.file.filename for item in scene.listing()] == [wheel.name]
    assert list(scene.catalog.problems()) == []


@pytest.mark.parametrize(
    "key",
    [
        "readme.txt",
        ".elasticpypi/uploads/x.whl",
        "a/.hidden/x.whl",
        "project.json",
        "a/b/project.json",
        "a//b.whl",
        "x.whl.metadata",
    ],
)
def test_a_key_that_names_nothing_is_ignored(scene: Scene, key: str) -> None:
    assert scene.learn(key) == [None]
    assert scene.catalog.entry(key) == Entry(key, None)


def test_a_file_that_goes_is_forgotten(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.learn(WHEEL)
    scene.remove(WHEEL)
    scene.learn(WHEEL)
    assert scene.catalog.entry(WHEEL).content is None
    assert scene.catalog.core_metadata(WHEEL) is None
    assert scene.listing() == []


def test_the_canonical_key_is_served_then_the_smallest(scene: Scene, tmp_path: Path) -> None:
    for index, key in enumerate(["b/" + FLAT, FLAT, WHEEL, "a/" + FLAT]):
        scene.put(key, make_wheel(tmp_path, description=f"{index}"))
        scene.learn(key)
    served = []
    for key in [WHEEL, "a/" + FLAT, FLAT, "b/" + FLAT]:
        (item,) = scene.listing()
        served.append(item.file == scene.content(key))
        scene.remove(key)
        scene.learn(key)
    assert served == [True] * 4
    assert scene.listing() == []


@pytest.mark.parametrize(
    ("name", "reason", "expected"),
    [
        ("1.0", "broken", {"1.0": "broken", "2.0": False}),
        ("1", "broken", {"1.0": "broken", "2.0": False}),
        ("v1.0.0", "broken", {"1.0": "broken", "2.0": False}),
        ("1.0", "", {"1.0": True, "2.0": False}),
        ("acme-1.0-py3-none-any.whl", "bad build", {"1.0": "bad build", "2.0": False}),
        ("acme-2.0.tar.gz", "", {"1.0": False, "2.0": True}),
        ("3.0", "other", {"1.0": False, "2.0": False}),
    ],
)
def test_releases_and_files_are_yanked(
    scene: Scene, wheel: Path, tmp_path: Path, name: str, reason: str, expected: dict[str, bool | str]
) -> None:
    scene.put(WHEEL, wheel)
    scene.put(SDIST, make_sdist(tmp_path, version="2.0"))
    scene.put(DECISIONS, format_decisions(Decisions(yanked={name: reason})))
    scene.learn(WHEEL, SDIST, DECISIONS)
    assert {item.file.version: item.yanked for item in scene.listing()} == expected


@pytest.mark.parametrize("status", Status)
def test_a_status_is_shown_and_a_quarantined_project_lists_nothing(scene: Scene, wheel: Path, status: Status) -> None:
    scene.put(WHEEL, wheel)
    scene.put(DECISIONS, format_decisions(Decisions(status, "because")))
    scene.learn(WHEEL, DECISIONS)
    page = scene.pages()["acme json"]
    assert f'"project-status":{{"status":"{status}","reason":"because"}}'.encode() in page
    assert (wheel.name.encode() in page) == (status is not Status.QUARANTINED)


def test_deleted_names_are_remembered(scene: Scene) -> None:
    scene.put(DECISIONS, b'{"deleted": {"acme-3.zip": "' + b"AB" * 32 + b'"}}')
    scene.learn(DECISIONS)
    assert scene.content(DECISIONS) == Decisions(deleted={"acme-3.zip": "ab" * 32})


def test_decisions_that_cannot_be_read_leave_the_last_good_ones(scene: Scene) -> None:
    good = Decisions(Status.DEPRECATED, "use zeta", {"1": "bad"})
    scene.put(DECISIONS, format_decisions(good))
    scene.learn(DECISIONS)
    problem = "project.json is not a JSON object"
    scene.put(DECISIONS, b"[]")
    scene.learn(DECISIONS)
    scene.learn(DECISIONS)
    assert scene.content(DECISIONS) == Decisions(good.status, good.status_reason, good.yanked, {}, problem)
    assert [entry.problem for entry in scene.catalog.problems()] == [problem]
    scene.put(DECISIONS, format_decisions(good))
    scene.learn(DECISIONS)
    assert scene.content(DECISIONS) == good
    assert list(scene.catalog.problems()) == []


def test_decisions_that_cannot_be_read_quarantine_in_a_rebuild_until_they_are_mended(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.put(DECISIONS, b"[]")
    scene.sync()
    assert scene.content(DECISIONS) == Decisions(
        Status.QUARANTINED, "its project.json cannot be read", problem="project.json is not a JSON object"
    )
    assert b'"files":[]' in scene.pages()["acme json"]
    scene.put(DECISIONS, b"{}")
    scene.sync()
    assert scene.content(DECISIONS) == Decisions()
    assert [item.file.filename for item in scene.listing()] == [wheel.name]


@pytest.mark.parametrize("data", [None, b"no zip"])
def test_when_its_last_file_goes_a_project_stays_ours(scene: Scene, wheel: Path, data: bytes | None) -> None:
    scene.put(WHEEL, data or wheel)
    scene.learn(WHEEL)
    assert not (scene.root / DECISIONS).exists()
    scene.remove(WHEEL)
    scene.learn(WHEEL)
    assert (scene.root / DECISIONS).read_bytes() == format_decisions(Decisions())
    assert scene.content(DECISIONS) == Decisions()
    pages = scene.pages()
    assert b'"files":[]' in pages["acme json"]
    scene.lose_catalog()
    scene.sync()
    assert scene.pages() == pages


def test_the_decisions_that_are_there_remain_when_the_last_file_goes(scene: Scene, wheel: Path) -> None:
    good = Decisions(Status.ARCHIVED)
    scene.put(WHEEL, wheel)
    scene.put(DECISIONS, format_decisions(good))
    scene.learn(WHEEL)  # but not of the decisions
    scene.remove(WHEEL)
    scene.learn(WHEEL)
    assert scene.content(DECISIONS) == good


def test_while_a_project_has_files_none_is_written(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.put(FLAT, wheel)
    scene.learn(WHEEL, FLAT)
    scene.remove(WHEEL)
    scene.learn(WHEEL)
    assert not (scene.root / DECISIONS).exists()


def test_a_name_of_which_no_file_was_ever_seen_is_not_ours(scene: Scene) -> None:
    scene.learn(WHEEL, DECISIONS)
    assert not (scene.root / "acme").exists()
    assert (scene.pages(), scene.catalog.root_revision()) == ({}, 0)


def fill(scene: Scene, directory: Path) -> None:
    """Put a bit of everything there."""
    scene.put(WHEEL, make_wheel(directory, requires_python=">=3.9"))
    scene.put(FLAT, make_wheel(directory, description="other bytes"))
    scene.put(SDIST, make_sdist(directory, version="2.0"))
    scene.put("zeta-1.0.zip", make_sdist(directory, "zeta", suffix=".zip"))
    scene.put("deep/er/zeta-2.0.tar.xz", make_sdist(directory, "zeta", "2.0", suffix=".tar.xz"))
    scene.put("acme/acme-3.0.zip", b"no zip")
    scene.put("x.whl", b"")
    scene.put("readme.txt", b"")
    scene.put(DECISIONS, b'{"yanked": {"2": "bad"}, "status": "deprecated"}')
    scene.put("zeta/project.json", b"{")
    scene.put("empty/project.json", b"{}")


ALL_KEYS = sorted(
    [
        *(WHEEL, FLAT, SDIST, DECISIONS, "acme/acme-3.0.zip", "x.whl"),
        *("zeta-1.0.zip", "deep/er/zeta-2.0.tar.xz", "zeta/project.json", "empty/project.json"),
    ]
)


def test_sync_finds_everything_once(scene: Scene, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    assert scene.sync() == SyncReport(added=ALL_KEYS)
    assert scene.catalog.is_complete()
    rows, calls = scene.rows(), scene.counted.calls.copy()
    assert scene.sync() == SyncReport(unchanged=len(ALL_KEYS))
    assert scene.rows() == rows
    assert (scene.counted.calls - calls)["open"] == (scene.counted.calls - calls)["read_document"] == 0


def test_sync_on_a_catalog_that_was_lost_gives_the_same_pages(scene: Scene, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    scene.sync()
    pages, metadata = scene.pages(), scene.catalog.core_metadata(WHEEL)
    assert set(pages) == {f"{name} {form}" for name in ("acme", "zeta", "empty") for form in Form}
    scene.lose_catalog()
    assert not scene.catalog.is_complete()
    scene.sync()
    assert (scene.pages(), scene.catalog.core_metadata(WHEEL)) == (pages, metadata)


def test_what_is_unchanged_is_not_read_again(scene: Scene, wheel: Path, tmp_path: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.put(SDIST, make_sdist(tmp_path, version="2.0"))
    scene.put(DECISIONS, b"{}")
    scene.learn(WHEEL, SDIST, DECISIONS)
    revision = scene.catalog.revision(ACME)
    assert (scene.counted.calls["open"], scene.counted.calls["read_document"]) == (2, 1)
    scene.learn(WHEEL, SDIST, DECISIONS)
    assert (scene.counted.calls["open"], scene.counted.calls["read_document"]) == (2, 1)
    assert scene.catalog.revision(ACME) == revision
    scene.put(WHEEL, make_wheel(tmp_path, description="longer"))
    scene.sync()
    assert (scene.counted.calls["open"], scene.counted.calls["read_document"]) == (3, 1)


def test_what_somebody_has_proven_already_is_not_read_again(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    fingerprint = scene.storage.stat(WHEEL).fingerprint
    raw = make_core_metadata("acme", "1.0", requires_python=">=3.9")
    known = Known(fingerprint, hashlib.sha256(wheel.read_bytes()).hexdigest(), CoreMetadata(raw, ">=3.9"))
    reconcile(scene.catalog, scene.storage, WHEEL, known=known)
    assert scene.counted.calls["open"] == 0
    content = scene.content(WHEEL)
    scene.lose_catalog()
    scene.learn(WHEEL)
    assert scene.content(WHEEL) == content


def test_what_was_proven_of_other_bytes_is_not_believed(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    reconcile(scene.catalog, scene.storage, WHEEL, known=Known("other", "00" * 32, None))
    content = scene.content(WHEEL)
    assert isinstance(content, File)
    assert content.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_sync_repairs_and_check_only_reports(scene: Scene, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    scene.sync()
    scene.remove(FLAT)
    scene.put("acme/acme-4.0.tar.gz", make_sdist(tmp_path, version="4.0"))
    scene.put(DECISIONS, b"{}")
    expected = SyncReport(
        added=["acme/acme-4.0.tar.gz"], changed=[DECISIONS], removed=[FLAT], unchanged=len(ALL_KEYS) - 2
    )
    rows, files = scene.rows(), sorted(scene.root.rglob("*"))
    assert scene.find_drift() == expected
    assert expected.drift == 3
    assert (scene.rows(), sorted(scene.root.rglob("*"))) == (rows, files)
    assert scene.sync() == expected
    assert scene.find_drift() == SyncReport(unchanged=len(ALL_KEYS))


def test_check_alone_makes_no_catalog_complete(scene: Scene) -> None:
    scene.find_drift()
    assert not scene.catalog.is_complete()


def test_sync_below_a_prefix_leaves_the_rest(scene: Scene, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    below = [key for key in ALL_KEYS if key.startswith("acme/")]
    assert scene.sync(prefix="acme/") == SyncReport(added=below)
    assert [known.key for known in scene.catalog.known_keys()] == below
    assert not scene.catalog.is_complete()


def test_files_that_are_still_written_are_left(scene: Scene, tmp_path: Path, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.put(SDIST, make_sdist(tmp_path, version="2.0"))
    scene.counted.unsettled = {WHEEL}
    assert scene.sync() == SyncReport(added=[SDIST], unsettled=[WHEEL])
    assert scene.content(WHEEL) is None
    assert not scene.catalog.is_complete()  # or its name would be taken for nobody's
    scene.counted.unsettled = set()
    assert scene.sync() == SyncReport(added=[WHEEL], unchanged=1)
    assert scene.catalog.is_complete()


def test_files_that_settle_while_they_are_waited_for_are_put_down_as_what_they_are(
    scene: Scene, tmp_path: Path, wheel: Path
) -> None:
    scene.put(WHEEL, wheel)
    scene.sync()
    scene.put(WHEEL, make_wheel(tmp_path / "other", description="other"))
    scene.put(SDIST, make_sdist(tmp_path, version="2.0"))
    gone = scene.put("acme-3.0.zip", b"")

    def asked_for_the_first_time(obj: StoredObject) -> bool:
        if obj.key in asked:
            return False
        asked.add(obj.key)
        gone.unlink(missing_ok=True)
        return True

    asked: set[str] = set()
    scene.counted.is_settled = lambda obj: not asked_for_the_first_time(obj)  # type: ignore[method-assign]
    report = sync(scene.catalog, scene.storage, patience_seconds=10)
    assert report == SyncReport(added=[SDIST], changed=[WHEEL])


def test_a_known_file_that_is_written_again_stays_as_it_was_known(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.sync()
    before = scene.catalog.entry(WHEEL)
    scene.put(WHEEL, b"half")
    scene.counted.unsettled = {WHEEL}
    assert scene.sync() == SyncReport(unsettled=[WHEEL])
    assert scene.catalog.entry(WHEEL) == before


def test_a_file_that_cannot_be_read_is_rejected_until_it_can(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.counted.unreadable = {WHEEL}
    assert scene.sync() == SyncReport(added=[WHEEL])
    assert scene.content(WHEEL) == Rejection(wheel.name, "permission denied")
    assert scene.sync() == scene.find_drift() == SyncReport(unchanged=1)
    scene.counted.unreadable = set()
    assert scene.sync() == SyncReport(changed=[WHEEL])
    assert isinstance(scene.content(WHEEL), File)


@pytest.mark.parametrize("key", [WHEEL, DECISIONS])
def test_what_is_known_stays_known_while_it_cannot_be_read(scene: Scene, wheel: Path, key: str) -> None:
    scene.put(WHEEL, wheel)
    scene.put(DECISIONS, b"{}")
    scene.sync()
    before = scene.catalog.entry(key)
    scene.put(key, b"something else")
    scene.counted.unreadable = {key}
    with pytest.raises(UnreadableObjectError):
        scene.learn(key)
    assert scene.sync() == SyncReport(failed={key: f"{key} cannot be read: permission denied"}, unchanged=1)
    assert scene.catalog.entry(key) == before


def test_decisions_that_could_never_be_read_quarantine(scene: Scene) -> None:
    scene.put(DECISIONS, b"{}")
    scene.counted.unreadable = {DECISIONS}
    scene.learn(DECISIONS)
    assert scene.content(DECISIONS) == Decisions(
        Status.QUARANTINED, "its project.json cannot be read", problem="permission denied"
    )


def test_an_error_while_looking_is_never_gone(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.learn(WHEEL)
    before = scene.catalog.entry(WHEEL)
    scene.counted.failing = {WHEEL}
    with pytest.raises(StorageError, match="the network is down"):
        scene.learn(WHEEL)
    assert scene.catalog.entry(WHEEL) == before


def test_a_volume_that_is_not_there_removes_nothing(scene: Scene, wheel: Path, tmp_path: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.sync()
    rows = scene.rows()
    scene.root.rename(tmp_path / "elsewhere")
    scene.root.mkdir()
    with pytest.raises(StorageError, match="is its volume mounted"):
        scene.sync()
    with pytest.raises(StorageError, match="is its volume mounted"):
        scene.learn(WHEEL)
    assert scene.rows() == rows


class Writes:
    """A catalog that remembers which rows were written together, and with how much core metadata."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.together: list[tuple[set[str], int]] = []
        self.failing = "-"  # a project

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def put(self, before: Entry, after: Entry, *, core_metadata: bytes | None = None) -> None:
        if self.put_all([Write(before, after, core_metadata)]):
            raise ConflictError(after.key)

    def put_all(self, writes: Sequence[Write]) -> list[Write]:
        assert len({write.after.project for write in writes}) == 1
        if writes[0].after.project == self.failing:
            raise CatalogError("the catalog is throttled")
        self.together.append(
            ({write.after.key for write in writes}, sum(len(write.core_metadata or b"") for write in writes))
        )
        return self._catalog.put_all(writes)


@pytest.fixture
def writes(scene: Scene) -> Writes:
    return Writes(scene.catalog)


def together(scene: Scene, writes: Writes, keys: Iterable[str], **options: Any) -> list[Reconciled | Failed]:
    return list(reconcile_all(cast("Catalog", writes), scene.storage, keys, **options))


def test_rows_of_one_project_are_written_together(scene: Scene, writes: Writes, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    outcomes = together(scene, writes, [*ALL_KEYS, *reversed(ALL_KEYS), "readme.txt", ".elasticpypi/pages/x.whl"])
    assert sorted(outcome.key for outcome in outcomes) == sorted(ALL_KEYS)
    assert not any(isinstance(outcome, Failed) for outcome in outcomes)
    projects = {scene.catalog.entry(key).project for key in ALL_KEYS}
    assert len(writes.together) == len(projects)
    rows = scene.rows()
    assert scene.sync() == SyncReport(unchanged=len(ALL_KEYS))
    assert scene.rows() == rows


def test_each_key_without_a_project_is_written_by_itself(scene: Scene, writes: Writes) -> None:
    for key in ("_-1.whl", "a/_-1.whl", "acme-1.0.zip"):
        scene.put(key, b"")
    outcomes = together(scene, writes, ["_-1.whl", "a/_-1.whl", "acme-1.0.zip"])
    assert [isinstance(outcome, Reconciled) for outcome in outcomes] == [True] * 3
    assert len(writes.together) == 3


def test_what_was_there_and_what_is_come_with_each_outcome(scene: Scene, writes: Writes, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    (came,) = together(scene, writes, [WHEEL])
    scene.remove(WHEEL)
    (went,) = together(scene, writes, [WHEEL])
    assert isinstance(came, Reconciled)
    assert isinstance(went, Reconciled)
    assert (came.before.content, went.before.content) == (None, came.after.content)
    assert isinstance(came.after.content, File)
    assert went.after.content is None


@pytest.mark.parametrize("looks_at_once", [1, 4])
def test_a_key_or_a_project_that_fails_leaves_the_others_alone(
    scene: Scene, writes: Writes, tmp_path: Path, looks_at_once: int
) -> None:
    fill(scene, tmp_path)
    scene.counted.failing = {SDIST}
    writes.failing = "zeta"
    outcomes = together(scene, writes, ALL_KEYS, looks_at_once=looks_at_once)
    failed = {outcome.key: str(outcome.error) for outcome in outcomes if isinstance(outcome, Failed)}
    zeta = {key for key in ALL_KEYS if "zeta" in key}
    assert zeta
    assert failed == {SDIST: "the network is down"} | dict.fromkeys(zeta, "the catalog is throttled")
    assert [known.key for known in scene.catalog.known_keys()] == sorted(set(ALL_KEYS) - failed.keys())


def test_rows_that_cannot_be_read_fail_their_keys(scene: Scene, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Sequence[str]) -> list[Entry]:
        raise CatalogError("the catalog is throttled")

    scene.put(WHEEL, wheel)
    monkeypatch.setattr(scene.catalog, "entries", refuse)
    outcomes = list(reconcile_all(scene.catalog, scene.storage, [WHEEL, SDIST]))
    assert [(outcome.key, isinstance(outcome, Failed)) for outcome in outcomes] == [(WHEEL, True), (SDIST, True)]


def test_many_files_with_much_core_metadata_are_not_held_together(scene: Scene, writes: Writes, tmp_path: Path) -> None:
    mebibyte = 2**20
    keys = [f"acme/acme-{number}.0-py3-none-any.whl" for number in range(16)]
    for number, key in enumerate(keys):
        scene.put(key, make_wheel(tmp_path, version=f"{number}.0", description="x" * 3 * mebibyte))
    together(scene, writes, keys, looks_at_once=4)
    assert set().union(*(written for written, _ in writes.together)) == set(keys)
    assert max(size for _, size in writes.together) < (8 + 4 * 3 + 1) * mebibyte


def test_what_was_seen_is_written_while_others_take_long(
    scene: Scene, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"acme-{number}.zip" for number in range(8)]
    for key in keys:
        scene.put(key, b"")
    monkeypatch.setattr("elasticpypi.indexer._WAITING_SECONDS", -1.0)  # so that each look takes too long
    together(scene, writes, keys, looks_at_once=2)
    assert [len(written) for written, _ in writes.together] == [2, 2, 2, 2]


def test_at_the_deadline_nothing_new_is_begun_but_something_is_done(scene: Scene, writes: Writes) -> None:
    keys = [f"acme-{number}.zip" for number in range(100)]
    for key in keys:
        scene.put(key, b"")
    done = together(scene, writes, keys, deadline=0.0)
    assert 0 < len(done) < len(keys)
    assert [known.key for known in scene.catalog.known_keys()] == sorted(outcome.key for outcome in done)
    assert len(together(scene, writes, keys)) == len(keys)


def test_sync_writes_what_differs_together(scene: Scene, writes: Writes, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    sync(cast("Catalog", writes), scene.storage)
    assert len(writes.together) == len({scene.catalog.entry(key).project for key in ALL_KEYS})


def test_sync_that_has_no_time_left_goes_on_next_time(scene: Scene, tmp_path: Path) -> None:
    fill(scene, tmp_path)
    report = sync(scene.catalog, scene.storage, deadline=0.0)
    assert (report.is_partial, report.seen) == (True, 0)
    assert not scene.catalog.is_complete()
    assert sync(scene.catalog, scene.storage) == SyncReport(added=ALL_KEYS)
    assert scene.catalog.is_complete()


@pytest.mark.parametrize("error", [StorageError("S3 has no time"), KeyError("a mistake of ours")])
def test_what_fails_about_one_key_ends_no_sync(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stat(key: str) -> Any:
        if key == WHEEL:
            raise error
        return present(key)

    fill(scene, tmp_path)
    present = scene.counted.stat
    monkeypatch.setattr(scene.counted, "stat", stat)
    report = scene.sync()
    assert list(report.failed) == [WHEEL]
    assert report.added == [key for key in ALL_KEYS if key != WHEEL]
    assert not scene.catalog.is_complete()  # whether its project is ours, nobody knows
    monkeypatch.undo()
    assert scene.sync() == SyncReport(added=[WHEEL], unchanged=len(ALL_KEYS) - 1)
    assert scene.catalog.is_complete()


def test_a_storage_that_is_away_ends_a_sync(scene: Scene, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise StorageError("there is no bucket")

    scene.put(WHEEL, wheel)
    scene.counted.failing = {WHEEL}
    monkeypatch.setattr(scene.counted, "check", refuse, raising=False)
    with pytest.raises(StorageError, match="there is no bucket"):
        scene.sync()


def test_an_object_that_refuses_even_to_be_looked_at_is_known_and_the_catalog_complete(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(key: str) -> Any:
        if key in (WHEEL, DECISIONS):
            raise UnreadableObjectError(key, "its key is not ours")
        return present(key)

    fill(scene, tmp_path)
    present = scene.counted.stat
    monkeypatch.setattr(scene.counted, "stat", stat)
    assert scene.sync() == SyncReport(added=ALL_KEYS)
    assert scene.catalog.is_complete()
    assert scene.content(WHEEL) == Rejection(WHEEL.partition("/")[2], "its key is not ours")
    assert isinstance(scene.content(DECISIONS), Decisions)
    assert scene.sync() == scene.find_drift() == SyncReport(unchanged=len(ALL_KEYS))
    monkeypatch.undo()
    assert scene.sync() == SyncReport(changed=[WHEEL, DECISIONS], unchanged=len(ALL_KEYS) - 2)


def test_a_known_file_that_cannot_be_read_keeps_no_catalog_incomplete(scene: Scene, wheel: Path) -> None:
    scene.put(WHEEL, wheel)
    scene.learn(WHEEL)
    scene.put(WHEEL, b"other")
    scene.counted.unreadable = {WHEEL}
    assert list(scene.sync().failed) == [WHEEL]
    assert scene.catalog.is_complete()


def test_what_others_index_during_the_scan_is_no_drift(
    scene: Scene, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_late(prefix: str) -> Iterator[StoredObject]:
        scene.put(WHEEL, wheel)
        scene.learn(WHEEL)
        yield from present(prefix)

    present = scene.storage.list
    monkeypatch.setattr(scene.counted, "list", list_late, raising=False)
    assert scene.sync() == SyncReport(unchanged=1)


class Slow:
    """A storage on which each read of a large object takes a while, by a clock of its own.

    It stands still until the small object beside it was read, which has as much time as it needs.
    """

    def __init__(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._storage = storage
        self._small_was_read = threading.Event()
        self.now = 1000.0
        monkeypatch.setattr("elasticpypi.indexer.time.monotonic", lambda: self.now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    @contextmanager
    def open(self, obj: Any) -> Iterator[Any]:
        is_large = obj.size > 2**20
        if is_large:
            assert self._small_was_read.wait(60)
        with self._storage.open(obj) as stream:
            yield SlowStream(self, stream, seconds=100.0 if is_large else 0.0)
        if not is_large:
            self._small_was_read.set()


class SlowStream:
    def __init__(self, storage: Slow, stream: Any, seconds: float) -> None:
        self._storage, self._stream, self._seconds = storage, stream, seconds

    def seek(self, *where: int) -> Any:
        return self._stream.seek(*where)

    def read(self, size: int) -> Any:
        self._storage.now += self._seconds
        return self._stream.read(size)


@pytest.mark.parametrize(("seconds", "reason"), [(150.0, None), (450.0, "it takes longer to read than a function may")])
def test_an_object_that_takes_all_the_time_fails_alone(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, reason: str | None
) -> None:
    large, small = "acme/acme-9.0-py3-none-any.whl", "acme/acme-8.0-py3-none-any.whl"
    data = random.Random(1).randbytes(6 * 2**20)
    scene.put(large, make_wheel(tmp_path, version="9.0", extra_files={"data": data}))
    scene.put(small, make_wheel(tmp_path, version="8.0"))
    slow = Slow(scene.storage, monkeypatch)
    report = sync(scene.catalog, cast("Storage", slow), deadline=slow.now + seconds, looks_at_once=2)
    assert isinstance(scene.content(small), File)
    if reason is None:
        assert (report.added, list(report.failed)) == ([small], [large])
        assert "not read to its end in time" in report.failed[large]
        assert not scene.catalog.is_complete()
    else:
        content = scene.content(large)
        assert isinstance(content, Rejection)
        assert reason in content.reason
        assert scene.catalog.is_complete()


def test_a_large_tar_without_pkg_info_is_not_read_to_its_end(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elasticpypi.metadata.MAX_BEFORE_PKG_INFO", 2**20)
    with tarfile.open(tmp_path / "dump.tar.gz", "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("dump.sql")
        member.size = 8 * 2**20
        tar.addfile(member, io.BytesIO(random.Random(1).randbytes(member.size)))
    key = "db-2024.11.01.tar.gz"
    scene.put(key, tmp_path / "dump.tar.gz")
    read: list[int] = []
    opened = scene.counted._storage.open  # noqa: SLF001

    @contextmanager
    def counting(obj: Any) -> Iterator[Any]:
        with opened(obj) as stream:
            yield stream
            read.append(stream.tell())

    monkeypatch.setattr(scene.counted, "open", counting)
    scene.learn(key)
    content = scene.content(key)
    assert isinstance(content, Rejection)
    assert "no PKG-INFO in the first 1048576 bytes" in content.reason
    sdist = scene.put("acme/acme-3.0.tar.gz", make_sdist(tmp_path, version="3.0"))
    scene.learn("acme/acme-3.0.tar.gz")
    assert isinstance(scene.content("acme/acme-3.0.tar.gz"), File), sdist
