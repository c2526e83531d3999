"""The upload API: what is taken, what is refused and with which words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dists import make_egg, make_sdist, make_wheel
from tests.site import Site, upload_form

pytestmark = pytest.mark.both_worlds

Maker = Callable[..., Path]
ACME = "acme-1.0-py3-none-any.whl"


def stored(site: Site) -> list[str]:
    """Return the keys of everything that lies in the storage, what is on its way in included."""
    return sorted(key for key in site.place.list_keys() if "first-seen" not in key and not key.endswith("/lock"))


@pytest.mark.parametrize("path", ["/legacy/", "/legacy", "/simple/", "/simple"])
def test_an_upload_is_listed_at_once(site: Site, tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    response = site.upload(wheel, path=path)
    assert (response.status_code, response.text) == (200, f"{ACME} is stored and listed.\n")
    assert [file["filename"] for file in site.json("/simple/acme/")["files"]] == [ACME]
    assert stored(site) == [f"acme/{ACME}"]


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("Acme.Tools", make_wheel, {}),
        ("Acme.Tools", make_sdist, {}),
        ("acme", make_sdist, {"suffix": ".zip"}),
        ("acme", make_sdist, {"suffix": ".tar.bz2"}),
        ("acme", make_sdist, {"suffix": ".tar.xz"}),
        ("acme", make_egg, {}),
    ],
)
def test_every_kind_of_file_is_taken(
    site: Site, tmp_path: Path, name: str, make: Maker, options: dict[str, str]
) -> None:
    file = make(tmp_path, name, "1.0", **options)
    assert site.upload(file).status_code == 200
    project = "acme-tools" if name == "Acme.Tools" else "acme"
    assert stored(site) == [f"{project}/{file.name}"]


def test_the_same_bytes_again_change_nothing(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.upload(wheel)
    before = site.get("/simple/acme/").headers["ETag"]
    response = site.upload(wheel)
    assert (response.status_code, "nothing has changed" in response.text) == (200, True)
    assert site.get("/simple/acme/").headers["ETag"] == before


@pytest.mark.parametrize("key", [f"acme/{ACME}", ACME, f"elsewhere/{ACME}"])
def test_other_bytes_under_a_taken_name_are_refused(site: Site, tmp_path: Path, key: str) -> None:
    old = make_wheel(tmp_path / "old", "acme", "1.0", description="old")
    site.drop(old, key)
    response = site.upload(make_wheel(tmp_path / "new", "acme", "1.0", description="new"))
    assert response.status_code == 409
    assert "already exist" in response.text
    assert "already exist" in response.status
    assert site.download(f"/packages/acme/{ACME}") == old.read_bytes()
    assert stored(site) == [key]


def test_what_lies_there_unknown_to_the_catalog_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    old = make_wheel(tmp_path / "old", "acme", "1.0", description="old")
    site.place.put(f"acme/{ACME}", old.read_bytes())
    assert site.upload(make_wheel(tmp_path / "new", "acme", "1.0", description="new")).status_code == 409
    assert site.upload(old).status_code == 200
    site.place.put(f"acme/{ACME}", b"broken")
    assert site.upload(old).status_code == 409
    assert site.place.read(f"acme/{ACME}") == b"broken"


def test_a_file_that_was_removed_by_hand_can_be_uploaded_again(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.upload(wheel)
    site.place.remove(f"acme/{ACME}")
    assert site.upload(wheel).text == f"{ACME} is stored and listed.\n"
    assert site.download(f"/packages/acme/{ACME}") == wheel.read_bytes()


@pytest.mark.parametrize("key", [f"acme/{ACME}", ACME])
def test_overwrite_replaces(site: Site, tmp_path: Path, key: str) -> None:
    site = site.reopen(overwrite=True)
    site.drop(make_wheel(tmp_path / "old", "acme", "1.0", description="old"), key)
    new = make_wheel(tmp_path / "new", "acme", "1.0", description="new")
    response = site.upload(new)
    assert (response.status_code, response.text) == (200, f"{ACME} has replaced other bytes.\n")
    assert site.download(f"/packages/acme/{ACME}") == new.read_bytes()
    site.index.close()


@pytest.mark.parametrize(("overwrite", "status"), [(False, 409), (True, 200)])
def test_a_deleted_name_belongs_to_the_bytes_it_had(site: Site, tmp_path: Path, overwrite: bool, status: int) -> None:
    site = site.reopen(overwrite=overwrite)
    site.decide("acme", f'{{"deleted": {{"{ACME}": "{"0" * 64}"}}}}')
    response = site.upload(make_wheel(tmp_path, "acme", "1.0"))
    assert response.status_code == status
    assert ("already exist" in response.text) is not overwrite
    site.index.close()


@pytest.mark.parametrize(("status", "answer"), [("archived", 403), ("quarantined", 403), ("deprecated", 200)])
def test_the_status_of_a_project_can_forbid_uploads(site: Site, tmp_path: Path, status: str, answer: int) -> None:
    site.decide("acme", f'{{"status": "{status}"}}')
    assert site.upload(make_wheel(tmp_path, "acme", "1.0")).status_code == answer


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({":action": "submit"}, "':action' in the form is 'submit', not 'file_upload'"),
        ({":action": None}, "':action' in the form is None"),
        ({"name": None}, "'name' is missing in the form"),
        ({"version": ""}, "'version' is missing in the form"),
        ({"filetype": None}, "'filetype' is missing in the form"),
        ({"filetype": "sdist"}, "the form says filetype 'sdist'"),
        ({"filetype": "bdist_wininst"}, "known are bdist_wheel, sdist, bdist_egg"),
        ({"name": "bolt"}, "the form says name 'bolt', the filename"),
        ({"name": "_"}, "'_' is not a project name"),
        ({"version": "2.0"}, "the form says version '2.0', the filename"),
        ({"requires_python": ">=3.9"}, "the form says requires_python '>=3.9', the metadata"),
        ({"sha256_digest": "0" * 64}, "the sha256 digest in the form is 0000"),
        ({"blake2_256_digest": "0" * 64}, "the blake2_256 digest in the form is 0000"),
        ({"md5_digest": "0" * 32}, "the md5 digest in the form is 0000"),
    ],
)
def test_a_form_that_disagrees_is_refused_with_the_reason(
    site: Site, tmp_path: Path, fields: dict[str, str | None], words: str
) -> None:
    response = site.upload(make_wheel(tmp_path, "acme", "1.0"), fields=fields)
    assert response.status_code == 400
    assert words in response.text
    assert words in response.status
    assert stored(site) == []
    assert site.get("/simple/acme/").status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "ACME"},
        {"version": "1.0.0"},
        {"sha256_digest": None, "blake2_256_digest": None},
        {"md5_digest": ""},
        {"requires_python": ""},
        {"attestations": "[]", "something_new": "x" * 1000},
        {"description": "x" * 2_000_000},
    ],
)
def test_what_does_not_disagree_is_taken(site: Site, tmp_path: Path, fields: dict[str, str | None]) -> None:
    assert site.upload(make_wheel(tmp_path, "acme", "1.0"), fields=fields).status_code == 200


def test_the_order_of_the_fields_does_not_matter(site: Site, tmp_path: Path) -> None:
    form = upload_form(make_wheel(tmp_path, "acme", "1.0"))
    assert site.post(reversed(form)).status_code == 200


def test_other_files_in_the_form_are_left_out(site: Site, tmp_path: Path) -> None:
    form = upload_form(make_wheel(tmp_path, "acme", "1.0"))
    signature = ("gpg_signature", (io.BytesIO(b"signature"), f"{ACME}.asc"))
    assert site.post([signature, *form]).status_code == 200
    assert stored(site) == [f"acme/{ACME}"]


@pytest.mark.parametrize("data", [b"", b"not an archive"])
@pytest.mark.parametrize("filename", [ACME, "acme-1.0.tar.gz", "acme-1.0.zip"])
def test_a_broken_archive_is_refused(site: Site, tmp_path: Path, data: bytes, filename: str) -> None:
    file = tmp_path / filename
    file.write_bytes(data)
    response = site.upload(file)
    assert response.status_code == 400
    assert response.text.startswith(f"{filename}: it ")
    assert stored(site) == []


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_a_truncated_archive_is_refused(site: Site, tmp_path: Path, make: Maker) -> None:
    file = make(tmp_path, "acme", "1.0", extra_files={"acme.bin": bytes(range(256)) * 400})
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    assert site.upload(file).status_code == 400
    assert stored(site) == []


def test_metadata_that_belongs_to_another_project_is_refused(site: Site, tmp_path: Path) -> None:
    file = make_wheel(tmp_path, "acme", "1.0").rename(tmp_path / "bolt-1.0-py3-none-any.whl")
    response = site.upload(file)
    assert response.status_code == 400
    assert "bolt-1.0-py3-none-any.whl" in response.text


@pytest.mark.parametrize("filename", ["../acme-1.0.tar.gz", "acme.tar.gz", "acme-1.0.exe", "", "acme-x.tar.gz"])
def test_a_filename_that_is_none_is_refused(site: Site, tmp_path: Path, filename: str) -> None:
    sdist = make_sdist(tmp_path, "acme", "1.0")
    form = [entry for entry in upload_form(sdist) if entry[0] != "content"]
    response = site.post([*form, ("content", (io.BytesIO(sdist.read_bytes()), filename))])
    assert response.status_code == 400
    assert stored(site) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"name=acme", "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data"),
        (
            b'--b\r\nContent-Disposition: form-data; name="content"; filename="acme-1.0.tar.gz"\r\n\r\nhalf',
            "multipart/form-data; boundary=b",
        ),
        (b"nonsense", "multipart/form-data; boundary=b"),
    ],
)
def test_a_body_that_is_no_form_is_refused(site: Site, body: bytes, content_type: str) -> None:
    response = site.client.post("/legacy/", data=body, content_type=content_type, auth=("writer", "secret"))
    assert response.status_code == 400
    assert stored(site) == []


@pytest.mark.parametrize(
    ("user", "project", "status"),
    [
        (None, "acme", 401),
        ("reader", "acme", 403),
        ("writer", "acme", 200),
        ("admin", "acme", 200),
        ("team", "acme-tools", 200),
        ("team", "bolt", 403),
        ("guest", "acme", 403),
    ],
)
def test_uploading_needs_permission_for_the_project(
    site: Site, tmp_path: Path, user: str | None, project: str, status: int
) -> None:
    assert site.upload(make_wheel(tmp_path, project, "1.0"), user=user).status_code == status
    assert len(stored(site)) == (status == 200)


def test_an_index_that_is_still_being_built_takes_nothing(site: Site, tmp_path: Path) -> None:
    site.place.lose_catalog()
    response = site.upload(make_wheel(tmp_path, "acme", "1.0"))
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert site.get("/simple/acme/").status_code == site.get("/simple/").status_code == 503
    assert site.get("/health").status_code == 503


@pytest.mark.only_in_a_directory("a bucket has no directories")
def test_a_place_that_is_taken_by_no_file_is_named_in_the_log(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (site.data / "files" / "acme" / ACME).mkdir(parents=True)
    assert site.upload(make_wheel(tmp_path, "acme", "1.0")).status_code == 503
    assert f"acme/{ACME} cannot be stored: something lies there that is no file" in caplog.text
