"""What is known of the files that are kept from upstreams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest

from elasticpypi.errors import StorageError, UnreadableObjectError
from elasticpypi.names import NormalizedName
from elasticpypi.storage import Storage
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.upstream.kept import Kept, KeptFiles, core_metadata_key, file_key, provenance_key
from elasticpypi.upstream.model import KeptFile, UpstreamFile
from tests.aws import Cloud, counting
from tests.storages import ADAPTERS, objects_in, open_storage

ACME = NormalizedName("acme")
DOCUMENT = ".elasticpypi/upstream/acme/kept.json"
A, B = "a" * 64, "b" * 64


def make_kept(filename: str = "acme-1.0.tar.gz", *, sha256: str = A, upstream: str = "pypi", **more: Any) -> KeptFile:
    url, version = f"https://files.example.org/{filename}", filename.removesuffix(".tar.gz").rpartition("-")[2]
    return KeptFile(upstream, UpstreamFile(filename, url, version, {"sha256": sha256}, **more))


@pytest.fixture(params=ADAPTERS)
def storage(request: pytest.FixtureRequest) -> Storage:
    return open_storage(request)


@pytest.fixture
def kept(storage: Storage) -> KeptFiles:
    return KeptFiles(storage)


def test_nothing_is_kept_at_first(kept: KeptFiles) -> None:
    assert kept.read(ACME).files == {}


def test_what_was_added_is_known_to_everybody(kept: KeptFiles, storage: Storage) -> None:
    first, second = make_kept(), make_kept("acme-2.0.tar.gz", sha256=B, upstream="other", size=7, yanked="broken")
    assert [kept.add(ACME, each) for each in (first, second)] == [first, second]
    assert KeptFiles(storage).read(ACME).files == {"acme-1.0.tar.gz": first, "acme-2.0.tar.gz": second}
    assert kept.read(NormalizedName("acme-tools")).files == {}


def test_each_file_has_a_line(kept: KeptFiles, storage: Storage) -> None:
    for filename in ("acme-2.0.tar.gz", "acme-1.0.tar.gz"):
        kept.add(ACME, make_kept(filename))
    text = storage.read_document(DOCUMENT).data.decode()
    assert [line.partition(": {")[0] for line in text.splitlines()] == [
        '{"files"',
        '"acme-1.0.tar.gz"',
        '"acme-2.0.tar.gz"',
        '}, "quarantined-by": []}',
    ]


def test_what_is_quarantined_is_known_until_it_is_not(kept: KeptFiles, storage: Storage) -> None:
    kept.mark_quarantined(ACME, "pypi", is_quarantined=True)
    assert (kept.read(ACME), objects_in(storage)) == (Kept(), [])  # nobody needs to know it of what is not kept
    first, second = make_kept(), make_kept("acme-2.0.tar.gz")
    kept.add(ACME, first)
    for upstream in ("pypi", "other", "pypi"):
        kept.mark_quarantined(ACME, upstream, is_quarantined=True)
    kept.add(ACME, second)
    files = {each.file.filename: each for each in (first, second)}
    assert KeptFiles(storage).read(ACME) == Kept(files, frozenset({"other", "pypi"}))
    kept.mark_quarantined(ACME, "pypi", is_quarantined=False)
    assert KeptFiles(storage).read(ACME) == Kept(files, frozenset({"other"}))


def test_what_signs_a_url_is_not_remembered(kept: KeptFiles) -> None:
    file = make_kept(provenance="https://files.example.org/p").file
    signed = replace(file, url=f"{file.url}?token=secret#part", provenance=f"{file.provenance}?token=secret#part")
    assert kept.add(ACME, KeptFile("pypi", signed)) == KeptFile("pypi", file)
    assert kept.read(ACME).files == {file.filename: KeptFile("pypi", file)}


@pytest.mark.parametrize("other", [make_kept(sha256=B), make_kept(upstream="other"), make_kept(size=7)])
def test_the_bytes_that_were_kept_first_stay(kept: KeptFiles, other: KeptFile) -> None:
    first = make_kept()
    kept.add(ACME, first)
    assert kept.add(ACME, other) == first
    assert kept.read(ACME).files == {"acme-1.0.tar.gz": first}


def test_nothing_is_lost_where_many_add_at_once(storage: Storage) -> None:
    files = [make_kept(f"acme-{number}.0.tar.gz") for number in range(8)]
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(lambda file: KeptFiles(storage).add(ACME, file), files))
    assert KeptFiles(storage).read(ACME).files == {file.file.filename: file for file in files}


class Overtaken:
    """A storage in which somebody else writes just before the first write."""

    def __init__(self, storage: Storage, act: Callable[[], object]) -> None:
        self._storage = storage
        self._act: Callable[[], object] | None = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write_document(self, key: str, data: bytes, *, replacing: str | None) -> Any:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._storage.write_document(key, data, replacing=replacing)


@pytest.mark.parametrize("before", [False, True])
def test_what_somebody_else_adds_meanwhile_stays(kept: KeptFiles, storage: Storage, *, before: bool) -> None:
    first, other, mine = (make_kept(f"acme-{number}.0.tar.gz") for number in range(3))
    if before:
        kept.add(ACME, first)
    overtaken = Overtaken(storage, lambda: kept.add(ACME, other))
    assert KeptFiles(cast("Storage", overtaken)).add(ACME, mine) == mine
    added = [first, other, mine] if before else [other, mine]
    assert kept.read(ACME).files == {each.file.filename: each for each in added}


def test_of_two_files_with_one_name_that_are_added_at_once_one_is_kept(kept: KeptFiles, storage: Storage) -> None:
    other = make_kept(sha256=B)
    overtaken = Overtaken(storage, lambda: kept.add(ACME, other))
    assert KeptFiles(cast("Storage", overtaken)).add(ACME, make_kept()) == other
    assert kept.read(ACME).files == {"acme-1.0.tar.gz": other}


def document_of(storage: Storage) -> Mapping[str, Any]:
    KeptFiles(storage).add(ACME, make_kept())
    document = storage.read_document(DOCUMENT)
    storage.remove(DOCUMENT, fingerprint=document.fingerprint)
    read: Mapping[str, Any] = json.loads(document.data)
    return read


def written(files: Mapping[str, Any]) -> bytes:
    return json.dumps({"files": files, "quarantined-by": []}).encode()


DAMAGE: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda document: json.dumps(document).encode()[:100],
    "no UTF-8": lambda _: b"\xff",
    "an array": lambda _: b"[]",
    "null": lambda _: b"null",
    "nested too deeply": lambda _: b"[" * 100_000,
    "nothing": lambda _: b"{}",
    "another key": lambda document: json.dumps({**document, "new": 1}).encode(),
    "no fields": lambda _: written({"acme-1.0.tar.gz": {}}),
    "null for a file": lambda _: written({"acme-1.0.tar.gz": None}),
    "another name": lambda document: written({"acme-2.0.tar.gz": document["files"]["acme-1.0.tar.gz"]}),
    "no digest": lambda document: json.dumps(document).encode().replace(A.encode(), b"aa/../aa"),
    "no filename": lambda document: json.dumps(document).encode().replace(b"acme-1.0.tar.gz", b"../kept.json"),
    "a file of another project": lambda document: json.dumps(document).encode().replace(b"acme-1.0", b"eggs-1.0"),
    "another version": lambda document: json.dumps(document).encode().replace(b'"1.0"', b'"not one"'),
    "one name for many": lambda document: json.dumps({**document, "quarantined-by": "pypi"}).encode(),
    "numbers for names": lambda document: json.dumps({**document, "quarantined-by": [1]}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_read_is_not_taken_for_nothing(kept: KeptFiles, storage: Storage, damage: str) -> None:
    data = DAMAGE[damage](document_of(storage))
    storage.write_document(DOCUMENT, data, replacing=None)
    for act in (lambda: kept.read(ACME).files, lambda: kept.add(ACME, make_kept("acme-2.0.tar.gz"))):
        with pytest.raises(UnreadableObjectError, match="put it back from a backup") as caught:
            act()
        assert caught.value.key == DOCUMENT
    assert storage.read_document(DOCUMENT).data == data


def test_a_document_that_would_be_too_large_to_be_read_is_not_written(kept: KeptFiles) -> None:
    large = make_kept(yanked="x" * (16 * 2**20 - 1000))
    kept.add(ACME, large)
    with pytest.raises(StorageError, match="no more files of 'acme' can be kept"):
        kept.add(ACME, make_kept("acme-2.0.tar.gz", yanked="x" * 1000))
    assert kept.read(ACME).files == {"acme-1.0.tar.gz": large}


def test_looking_costs_one_request(cloud: Cloud) -> None:
    kept = KeptFiles(S3Storage(cloud.aws, cloud.make_bucket()))
    kept.add(ACME, make_kept())
    with counting(cloud.aws.s3) as counts:
        kept.read(ACME)
    assert counts == {"GetObject": 1}


def test_a_file_and_what_belongs_to_it_lie_side_by_side() -> None:
    above, filename = f".elasticpypi/upstream/acme/{A}/", "acme-1.0.tar.gz"
    assert file_key(ACME, A, filename) == f"{above}{filename}"
    assert provenance_key(ACME, A, filename) == f"{above}{filename}.provenance"
    assert core_metadata_key(ACME, A, B) == f"{above}{B}.metadata"


@pytest.mark.parametrize("sha256", ["", "a" * 63, "a" * 65, "A" * 64, f"{'a' * 63}/", "../" + "a" * 61, f"{A}\n"])
def test_only_a_sha256_makes_a_key(sha256: str) -> None:
    with pytest.raises(ValueError, match="is not a sha256"):
        file_key(ACME, sha256, "acme-1.0.tar.gz")
    with pytest.raises(ValueError, match="is not a sha256"):
        core_metadata_key(ACME, A, sha256)


def test_a_file_of_which_no_digest_is_known_is_not_kept(kept: KeptFiles) -> None:
    file = make_kept()
    with pytest.raises(ValueError, match="sha256"):
        kept.add(ACME, replace(file, file=replace(file.file, hashes={"md5": "a" * 32})))
    assert kept.read(ACME).files == {}
