"""Files that are kept from upstreams are in a backup, and come back."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from elasticpypi.backup.restoring import RestoreReport
from tests.dists import make_wheel
from tests.site import Account, Site, open_cloud_site, open_site

pytestmark = pytest.mark.both_worlds
ABOVE = ".elasticpypi/upstream/spam/"
KEPT = f"{ABOVE}kept.json"
FILENAME = "spam-1.0.tar.gz"
METADATA = b"Metadata-Version: 2.1\nName: spam\n\xff"
CORE_METADATA = f"{hashlib.sha256(METADATA).hexdigest()}.metadata"
LARGE = hashlib.shake_256(b"large").digest(17 * 2**20)  # more than a document may have


def key_of(data: bytes, filename: str = FILENAME) -> str:
    return f"{ABOVE}{hashlib.sha256(data).hexdigest()}/{filename}"


def entry_of(data: bytes, filename: str = FILENAME) -> dict[str, object]:
    file = {"filename": filename, "url": f"https://example.org/{filename}", "version": "1.0"}
    return {"upstream": "pypi", "file": file | {"hashes": {"sha256": hashlib.sha256(data).hexdigest()}}}


def kept_json(*kept: bytes) -> bytes:
    names = [f"spam-{number}.0.tar.gz" for number in range(1, len(kept) + 1)]
    return written({name: entry_of(data, name) for name, data in zip(names, kept, strict=True)})


def written(files: Mapping[str, object], *quarantined_by: str) -> bytes:
    return json.dumps({"files": files, "quarantined-by": quarantined_by}).encode()


def objects(data: bytes = LARGE) -> dict[str, bytes]:
    """Return all that lies below `.elasticpypi/` where one file is kept."""
    return {
        key_of(data): data,
        key_of(data, CORE_METADATA): METADATA,
        f"{key_of(data)}.provenance": b'{"version": 1, "attestation_bundles": []}',
        KEPT: kept_json(data),
    }


def put(site: Site, found: Mapping[str, bytes]) -> None:
    for key, data in found.items():
        site.place.put(key, data)


def below(site: Site) -> dict[str, bytes]:
    return {key: site.place.read(key) for key in site.place.list_keys() if key.startswith(ABOVE)}


def back_up(site: Site) -> bytes:
    stream = io.BytesIO()
    assert site.index.backup(stream).left_out == {}
    return stream.getvalue()


def restore(site: Site, backup: bytes) -> RestoreReport:
    return site.index.restore(io.BytesIO(backup))


@contextmanager
def another(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    """Open an empty index in the same world."""
    if isinstance(site.place, Account):
        opened = open_cloud_site(site.place.cloud)
    else:
        opened = open_site(request.getfixturevalue("tmp_path") / "another")
    with closing(opened.index):
        yield opened


def test_kept_files_come_back_byte_for_byte(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> None:
    put(site, objects())
    site.upload(make_wheel(tmp_path))
    backup = back_up(site)
    with another(request, site) as restored:
        report = restore(restored, backup)
        assert (report.problems, below(restored)) == ({}, objects())
        assert [project.name for project in restored.index.root().projects] == ["acme"]  # they make no name ours
        again = restore(restored, backup)
        assert (again.restored, again.present, again.problems) == (0, report.restored, {})


def test_their_bytes_are_counted(site: Site) -> None:
    put(site, objects())
    report = site.index.backup(io.BytesIO())
    assert (report.files, report.size) == (1, len(LARGE))


def test_bytes_come_before_what_says_that_they_are_here(site: Site) -> None:
    put(site, objects(b"data"))
    with tarfile.open(fileobj=io.BytesIO(back_up(site))) as archive:
        assert [name for name in archive.getnames() if name.startswith(ABOVE)] == sorted(objects(b"data"))


def test_bytes_that_have_rotted_are_named_and_never_restored(request: pytest.FixtureRequest, site: Site) -> None:
    put(site, {**objects(b"data"), key_of(b"data"): b"rotten"})
    stream = io.BytesIO()
    report = site.index.backup(stream)
    assert list(report.left_out) == [key_of(b"data")]
    with another(request, site) as restored:
        assert list(restore(restored, stream.getvalue()).problems) == [key_of(b"data")]
        assert below(restored).keys() == objects(b"data").keys() - {key_of(b"data")}


def test_what_is_kept_here_stays_and_the_rest_is_added(request: pytest.FixtureRequest, site: Site) -> None:
    here, there = b"here", [b"there", b"another"]
    put(site, {**{key_of(data): data for data in there}, KEPT: kept_json(*there)})
    backup = back_up(site)
    with another(request, site) as restored:
        put(restored, {key_of(here): here, KEPT: kept_json(here)})
        assert restore(restored, backup).problems == {}
        assert {key for key in below(restored) if key != KEPT} == {key_of(data) for data in (here, *there)}
        known = json.loads(below(restored)[KEPT])
    files = {FILENAME: entry_of(here), "spam-2.0.tar.gz": entry_of(b"another", "spam-2.0.tar.gz")}
    assert known == {"files": files, "quarantined-by": []}


@pytest.mark.parametrize(
    ("here", "there", "both"), [((), ("a",), ["a"]), (("a",), (), ["a"]), (("b",), ("a", "b"), ["a", "b"])]
)
def test_what_was_quarantined_here_or_there_stays_so(
    request: pytest.FixtureRequest, site: Site, here: tuple[str, ...], there: tuple[str, ...], both: list[str]
) -> None:
    files = {FILENAME: entry_of(b"data")}
    put(site, {**objects(b"data"), KEPT: written(files, *there)})
    backup = back_up(site)
    with another(request, site) as restored:
        put(restored, {KEPT: written(files, *here)})
        assert restore(restored, backup).problems == {}
        assert json.loads(below(restored)[KEPT]) == {"files": files, "quarantined-by": both}


def test_what_is_kept_here_stays_as_it_is_where_nobody_can_read_it(request: pytest.FixtureRequest, site: Site) -> None:
    put(site, objects(b"data"))
    backup = back_up(site)
    with another(request, site) as restored:
        put(restored, {KEPT: b'{"files": []}'})
        assert list(restore(restored, backup).problems) == [KEPT]
        assert below(restored)[KEPT] == b'{"files": []}'


@pytest.mark.parametrize("filename", [CORE_METADATA, f"{FILENAME}.provenance"])
def test_what_lies_beside_a_file_here_is_left_and_named(
    request: pytest.FixtureRequest, site: Site, filename: str
) -> None:
    put(site, objects(b"data"))
    backup, key = back_up(site), key_of(b"data", filename)
    with another(request, site) as restored:
        put(restored, {key: b'{"other": 1}'})
        assert restore(restored, backup).problems == {key: "another note lies there already, and was left"}
        assert below(restored) == {**objects(b"data"), key: b'{"other": 1}'}


def made_by_hand(key: str, data: bytes) -> bytes:
    """Return a backup of one member, whatever it is called."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in ((key, data), (".elasticpypi/backup.json", b'{"format": 1, "members": 1}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.pax_headers = {"comment": f"sha256:{hashlib.sha256(content).hexdigest()}"}
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


SHA256 = hashlib.sha256(b"data").hexdigest()


@pytest.mark.parametrize(
    "key",
    [
        key_of(b"other data"),  # not the bytes that it says
        f"{ABOVE}{SHA256}/eggs-1.0.tar.gz",
        f"{ABOVE}{SHA256}/notes.txt",
        f"{ABOVE}{SHA256}/notes.txt.provenance",
        f"{ABOVE}{SHA256}/{FILENAME}.metadata",
        f"{ABOVE}{SHA256}/{CORE_METADATA}",  # not the core metadata that it says
        f"{ABOVE}{SHA256}/..",
        f"{ABOVE}{SHA256}/../{FILENAME}",
        f"{ABOVE}../{SHA256}/{FILENAME}",
        f"{ABOVE}{SHA256.upper()}/{FILENAME}",
        f"{ABOVE}other.json",
        f"{ABOVE}{SHA256}/kept.json",
        ".elasticpypi/upstream/kept.json",
        ".elasticpypi/upstream/Spam/kept.json",
    ],
)
def test_what_is_no_kept_file_is_not_restored(site: Site, key: str) -> None:
    before = site.place.list_keys()
    assert list(restore(site, made_by_hand(key, b"data")).problems) == [key]
    assert site.place.list_keys() == before
