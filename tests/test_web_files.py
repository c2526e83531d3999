"""Downloads, and the core metadata beside them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from elasticpypi.web.files import DOWNLOADS
from tests.dists import make_egg, make_sdist, make_wheel
from tests.site import Site, open_site

WHEEL = "/packages/acme/acme-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(site: Site, tmp_path: Path) -> Path:
    file = make_wheel(tmp_path, "acme", "1.0")
    site.drop(file)
    return file


def test_a_file_comes_back_as_it_was(site: Site, wheel: Path) -> None:
    data = wheel.read_bytes()
    response = site.get(WHEEL)
    assert (response.status_code, response.data) == (200, data)
    assert {name: response.headers[name] for name in ("Content-Type", "Content-Length", "ETag", "Accept-Ranges")} == {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(data)),
        "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
        "Accept-Ranges": "bytes",
    }
    assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert "Content-Encoding" not in response.headers


def test_a_compressed_sdist_is_not_announced_as_an_encoding(site: Site, tmp_path: Path) -> None:
    sdist = make_sdist(tmp_path, "acme", "1.0")
    site.drop(sdist)
    response = site.get("/packages/acme/acme-1.0.tar.gz", accept_encoding="gzip")
    assert response.data == sdist.read_bytes()
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize(
    ("range_", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-20", 206, slice(-20, None)),
        ("bytes=0-99999999", 206, slice(0, None)),
        ("lines=1-2", 200, slice(0, None)),
        ("bytes=0-1,5-6", 200, slice(0, None)),
        ("bytes=5-2", 200, slice(0, None)),
        ("bytes=-", 200, slice(0, None)),
        ("bytes=abc", 200, slice(0, None)),
        (f"bytes={'9' * 5000}-", 200, slice(0, None)),
    ],
)
def test_a_part_can_be_asked_for(site: Site, wheel: Path, range_: str, status: int, part: slice) -> None:
    data = wheel.read_bytes()
    response = site.get(WHEEL, range=range_)
    assert (response.status_code, response.data) == (status, data[part])
    if status == 206:
        first, last, _ = part.indices(len(data))
        assert response.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(data)}"


def test_a_part_that_does_not_exist_is_a_416(site: Site, wheel: Path) -> None:
    assert site.get(WHEEL, range=f"bytes={wheel.stat().st_size}-").status_code == 416


def test_a_part_of_what_has_changed_is_the_whole(site: Site, wheel: Path) -> None:
    response = site.get(WHEEL, range="bytes=0-9", if_range='"another"')
    assert (response.status_code, response.data) == (200, wheel.read_bytes())


@pytest.mark.usefixtures("wheel")
def test_head_says_what_get_would(site: Site) -> None:
    head, get = site.get(WHEEL, method="HEAD"), site.get(WHEEL)
    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(get.headers)


@pytest.mark.usefixtures("wheel")
def test_an_unchanged_file_is_a_304(site: Site) -> None:
    etag = site.get(WHEEL).headers["ETag"]
    response = site.get(WHEEL, if_none_match=etag)
    assert (response.status_code, response.data) == (304, b"")


def test_core_metadata_is_served_byte_for_byte(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0", description="Zeilen\r\nmit ümläuten \N{SNOWMAN}\n")
    site.drop(wheel)
    with zipfile.ZipFile(wheel) as archive:
        expected = archive.read("acme-1.0.dist-info/METADATA")
    response = site.get(f"{WHEEL}.metadata")
    assert response.data == expected
    assert response.headers["ETag"] == f'"{hashlib.sha256(expected).hexdigest()}"'
    assert site.get(f"{WHEEL}.metadata", if_none_match=response.headers["ETag"]).status_code == 304


@pytest.mark.parametrize("make", [make_sdist, make_egg])
def test_what_announces_no_core_metadata_has_none(
    site: Site, tmp_path: Path, make: Callable[[Path, str, str], Path]
) -> None:
    file = make(tmp_path, "acme", "1.0")
    site.drop(file)
    assert site.get(f"/packages/acme/{file.name}").status_code == 200
    assert site.get(f"/packages/acme/{file.name}.metadata").status_code == 404


def test_a_file_in_a_flat_directory_is_served_under_its_project(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "Acme.Tools", "1.0+local.1")
    site.drop(wheel, f"some/where/{wheel.name}")
    response = site.get(f"/packages/acme-tools/{wheel.name.replace('+', '%2B')}")
    assert response.data == wheel.read_bytes()
    assert site.get(f"/packages/bolt/{wheel.name.replace('+', '%2B')}").status_code == 404


def test_the_canonical_key_wins_and_leaves_its_place_to_the_other(site: Site, tmp_path: Path) -> None:
    flat = make_wheel(tmp_path / "a", "acme", "1.0", description="flat")
    canonical = make_wheel(tmp_path / "b", "acme", "1.0", description="canonical")
    site.drop(flat)
    site.drop(canonical, f"acme/{canonical.name}")
    assert site.get(WHEEL).data == canonical.read_bytes()
    (site.data / "files" / "acme" / canonical.name).unlink()
    site.index.reconcile(f"acme/{canonical.name}")
    assert site.get(WHEEL).data == flat.read_bytes()


def test_bytes_that_are_not_indexed_yet_are_never_served_as_the_old_ones(
    site: Site, wheel: Path, tmp_path: Path
) -> None:
    other = make_wheel(tmp_path / "other", "acme", "1.0", description="other")
    (site.data / "files" / wheel.name).write_bytes(other.read_bytes())
    response = site.get(WHEEL)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    site.index.reconcile(wheel.name)
    assert site.get(WHEEL).data == other.read_bytes()


def test_a_file_that_has_just_been_removed_is_a_404(site: Site, wheel: Path) -> None:
    (site.data / "files" / wheel.name).unlink()
    assert site.get(WHEEL).status_code == 404


def test_a_file_that_may_be_replaced_is_not_immutable(tmp_path: Path) -> None:
    site = open_site(tmp_path / "data", overwrite=True)
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    assert site.get(WHEEL).headers["Cache-Control"] == "private, max-age=0"
    site.index.close()


@pytest.mark.parametrize(
    "path",
    [
        "/packages/acme/..%2Fcatalog.sqlite",
        "/packages/acme/%2e%2e/%2e%2e/catalog.sqlite",
        "/packages/..%2f..%2f/credentials.json",
        "/packages/acme/project.json",
        "/packages/acme/.metadata",
        "/packages/acme/acme-1.0-py3-none-any.whl%00",
    ],
)
@pytest.mark.usefixtures("wheel")
def test_nothing_but_listed_files_can_be_had(site: Site, path: str) -> None:
    site.decide("acme", "{}")
    assert site.get(path).status_code == 404


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("reader", 200), ("guest", 403)])
@pytest.mark.parametrize("suffix", ["", ".metadata"])
def test_files_need_permission_for_their_project(
    site: Site, tmp_path: Path, user: str | None, status: int, suffix: str
) -> None:
    wheel = make_wheel(tmp_path, "bolt", "1.0")
    site.drop(wheel)
    assert site.get(f"/packages/bolt/{wheel.name}{suffix}", user=user).status_code == status


@pytest.mark.parametrize(
    ("headers", "mimetype"),
    [
        ({}, "text/plain"),
        ({"accept": "*/*"}, "text/plain"),
        ({"accept": "text/html,application/xhtml+xml,*/*"}, "text/html"),
        ({"sec_fetch_mode": "navigate"}, "text/html"),
    ],
)
def test_a_browser_is_shown_a_page_where_there_is_no_file(site: Site, headers: dict[str, str], mimetype: str) -> None:
    site.decide("acme", "{}")
    site.drop(make_wheel(None, "acme", "1.0"), "acme/acme-1.0-py3-none-any.whl")
    answers = [
        site.get("/packages/acme/acme-2.0.tar.gz", **headers),
        site.get(WHEEL, user="team", method="GET", range="bytes=9999999-", **headers),
        site.get("/packages/bolt/bolt-1.0.tar.gz", user="guest", **headers),
    ]
    assert [answer.status_code for answer in answers] == [404, 416, 403]
    assert {answer.mimetype for answer in answers} == {mimetype}
    assert answers[1].headers["Content-Range"].startswith("bytes */")


def test_what_is_wrong_with_the_machine_is_told_to_the_log_alone(
    site: Site, wheel: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "files").rename(tmp_path / "elsewhere")
    response = site.get(WHEEL)
    assert (response.status_code, response.text) == (503, "the index cannot do its work now; its log says why\n")
    assert wheel.is_file()
    assert str(tmp_path) in caplog.text


@pytest.mark.usefixtures("wheel")
def test_readers_that_stall_leave_room_for_others(site: Site) -> None:
    def begin() -> TestResponse:
        return site.client.get(WHEEL, auth=("admin", "secret"), buffered=False)

    stalled = [begin() for _ in range(DOWNLOADS)]
    refused = begin()
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert site.get("/simple/acme/").status_code == site.get(WHEEL, method="HEAD").status_code == 200
    for response in stalled:
        response.close()
        response.close()  # a server may do so twice
    assert [site.get(WHEEL).status_code for _ in range(200)] == [200] * 200
