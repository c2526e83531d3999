"""The legacy JSON API: what it says is what the files say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from elasticpypi.auth import Authenticator
from elasticpypi.names import NormalizedName
from elasticpypi.web.app import create_app
from tests.dists import make_egg, make_sdist, make_wheel
from tests.site import USERS, Site

pytestmark = pytest.mark.both_worlds
ACME = NormalizedName("acme")
METADATA = """\
Metadata-Version: 2.4
Name: Acme
Version: 1.0
Summary: Änvils
Keywords: anvil,rocket
Home-page: UNKNOWN
Author-email: "W. E. Coyote" <coyote@example.org>
License-Expression: MIT
License-File: LICENSE
License-File: NOTICE
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: Utilities
Project-URL: Homepage, https://example.org/a,b
Project-URL: Issues,https://example.org/issues
Requires-Dist: bolt>=1
Requires-Dist: nut ; extra == "all"
Provides-Extra: all
Requires-Python: >=3.8
Platform: linux
Platform: macos
Description-Content-Type: text/markdown

# Acme

Content-Type: multipart/mixed; boundary=x
"""


@pytest.fixture
def described(site: Site, tmp_path: Path) -> Path:
    """A wheel of acme 1.0 in the index, with all the metadata there is."""
    wheel = make_wheel(tmp_path, "acme", "1.0", core_metadata=METADATA.encode())
    site.drop(wheel)
    return wheel


def document(site: Site, path: str = "/pypi/acme/json") -> Any:
    response = site.get(path)
    assert (response.status_code, response.mimetype) == (200, "application/json"), response.text
    return response.json


@pytest.mark.usefixtures("described")
def test_a_project_shows_the_core_metadata_of_its_release(site: Site) -> None:
    assert document(site)["info"] == {
        "author": None,
        "author_email": '"W. E. Coyote" <coyote@example.org>',
        "bugtrack_url": None,
        "classifiers": ["Programming Language :: Python :: 3", "Topic :: Utilities"],
        "description": "# Acme\n\nContent-Type: multipart/mixed; boundary=x\n",
        "description_content_type": "text/markdown",
        "docs_url": None,
        "download_url": None,
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "dynamic": None,
        "home_page": None,
        "keywords": "anvil,rocket",
        "license": None,
        "license_expression": "MIT",
        "license_files": ["LICENSE", "NOTICE"],
        "maintainer": None,
        "maintainer_email": None,
        "name": "Acme",
        "package_url": "http://localhost/simple/acme/",
        "platform": "linux,macos",
        "project_url": "http://localhost/simple/acme/",
        "project_urls": {"Homepage": "https://example.org/a,b", "Issues": "https://example.org/issues"},
        "provides_extra": ["all"],
        "release_url": "http://localhost/simple/acme/",
        "requires_dist": ["bolt>=1", 'nut ; extra == "all"'],
        "requires_python": ">=3.8",
        "summary": "Änvils",
        "version": "1.0",
        "yanked": False,
        "yanked_reason": None,
    }


def test_the_files_are_those_of_the_simple_page(site: Site, described: Path, tmp_path: Path) -> None:
    for file in (make_sdist(tmp_path, "acme", "1.1+local"), make_egg(tmp_path, "acme", "1.0")):
        site.drop(file)
    site.index.yank(ACME, described.name, "broken")
    shown = document(site)
    listed = {file["filename"]: file for file in site.json("/simple/acme/")["files"]}
    files = [file for files in shown["releases"].values() for file in files]
    assert [file["filename"] for file in files] == list(listed)
    for file in files:
        expected = listed[file["filename"]]
        assert file["digests"] == expected["hashes"]
        assert file["upload_time_iso_8601"] == expected["upload-time"]
        assert (file["size"], file["requires_python"]) == (expected["size"], expected.get("requires-python"))
        assert (file["yanked"], file["yanked_reason"]) == ((True, "broken") if expected["yanked"] else (False, None))
        path = file["url"].removeprefix("http://localhost")
        assert hashlib.sha256(site.download(path)).hexdigest() == file["digests"]["sha256"]
    kinds = [(file["packagetype"], file["python_version"]) for file in files]
    assert kinds == [("bdist_wheel", "py3"), ("bdist_egg", "3.11"), ("sdist", "source")]
    assert list(shown["releases"]) == ["1.0", "1.1+local"]
    assert shown["urls"] == shown["releases"][shown["info"]["version"]]


def test_a_release_is_shown_alone_however_its_version_is_spelled(site: Site, described: Path, tmp_path: Path) -> None:
    site.drop(make_sdist(tmp_path, "acme", "2.0", description="From the sdist"))
    one, two = document(site, "/pypi/Acme/1.0.0/json"), document(site, "/pypi/acme/2.0/json")
    assert [file["filename"] for file in one["urls"]] == [described.name]
    assert (one["info"]["version"], one["info"]["name"]) == ("1.0", "Acme")
    assert (two["info"]["version"], two["info"]["description"]) == ("2.0", "From the sdist")
    assert "releases" not in one | two
    assert "last_serial" not in one | two  # else every release's document changed with every other release


@pytest.mark.parametrize(
    ("versions", "yanked", "shown"),
    [
        (["1.0", "1.10", "1.9"], [], "1.10"),
        (["1.0", "2.0rc1"], [], "1.0"),
        (["2.0rc1", "2.0a1"], [], "2.0rc1"),
        (["1.0", "2.0"], ["2.0"], "1.0"),
        (["1.0", "2.0"], ["1.0", "2.0"], "2.0"),
        (["1.0rc1", "2.0"], ["2.0"], "1.0rc1"),
    ],
)
def test_a_project_is_shown_by_its_latest_release(
    site: Site, tmp_path: Path, versions: list[str], yanked: list[str], shown: str
) -> None:
    for version in versions:
        site.drop(make_wheel(tmp_path, "acme", version))
    for version in yanked:
        site.index.yank(ACME, version, "no good")
    info = document(site)["info"]
    assert info["version"] == shown
    assert (info["yanked"], info["yanked_reason"]) == ((True, "no good") if shown in yanked else (False, None))


@pytest.mark.usefixtures("described")
def test_a_quarantined_project_shows_nothing(site: Site) -> None:
    site.decide("acme", '{"status": "quarantined"}')
    shown = document(site)
    assert (shown["urls"], shown["releases"], shown["info"]["summary"]) == ([], {}, None)
    assert (shown["info"]["name"], shown["info"]["version"]) == ("acme", "")
    assert site.get("/pypi/acme/1.0/json").status_code == 404


@pytest.mark.parametrize("path", ["/pypi/bolt/json", "/pypi/acme/9/json", "/pypi/-/json"])
@pytest.mark.usefixtures("described")
def test_what_is_unknown_is_not_found(site: Site, path: str) -> None:
    assert site.get(path).status_code == 404


def test_who_may_not_see_a_project_does_not(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "bolt", "1.0"))
    assert site.get("/pypi/bolt/json", user="guest").status_code == 403
    assert site.get("/pypi/bolt/json", user=None).status_code == 401


@pytest.mark.usefixtures("described")
def test_mirrors_learn_the_serial_and_what_has_not_changed(site: Site, tmp_path: Path) -> None:
    response = site.get("/pypi/acme/json")
    serial = site.json("/simple/acme/")["meta"]["_last-serial"]
    assert response.headers["X-PyPI-Last-Serial"] == str(serial)
    assert response.json is not None
    assert response.json["last_serial"] == serial
    tag = response.headers["ETag"]
    assert site.get("/pypi/acme/json", if_none_match=tag).status_code == 304
    site.drop(make_wheel(tmp_path, "acme", "1.1"))
    assert site.get("/pypi/acme/json", if_none_match=tag).status_code == 200


def test_urls_begin_where_the_client_asks_or_where_it_is_told_to(site: Site, described: Path) -> None:
    asked = site.client.get("/pypi/acme/json", base_url="https://proxy.example/dev", headers=_credentials())
    assert asked.json is not None
    assert asked.json["urls"][0]["url"] == f"https://proxy.example/dev/packages/acme/{described.name}"
    told = create_app(site.index, Authenticator(USERS), url="https://pypi.example.org/dev")
    answer = Client(told).get("/pypi/acme/json", headers=_credentials())
    assert answer.json is not None
    assert answer.json["urls"][0]["url"] == f"https://pypi.example.org/dev/packages/acme/{described.name}"


def _credentials() -> dict[str, str]:
    return {"Authorization": "Basic YWRtaW46c2VjcmV0"}  # admin:secret


def test_a_description_in_a_field_is_unfolded(site: Site, tmp_path: Path) -> None:
    head = b"Metadata-Version: 1.0\nName: acme\nVersion: 1.0\n"
    for version, folded in (
        ("1.0", b"        One\n        \n          two"),
        ("1.1", b"       |One\n       |\n       |  two"),
    ):
        text = head.replace(b"1.0\n", version.encode() + b"\n") + b"Description: First\n" + folded + b"\n"
        site.drop(make_wheel(tmp_path, "acme", version, core_metadata=text))
        assert document(site, f"/pypi/acme/{version}/json")["info"]["description"] == "First\nOne\n\n  two"
