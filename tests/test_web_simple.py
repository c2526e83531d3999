"""The pages of the simple API, in both forms."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import pytest
from pypi_simple import ProjectPage
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from elasticpypi.names import NormalizedName
from tests.dists import make_sdist, make_wheel
from tests.site import JSON, Site

pytestmark = pytest.mark.both_worlds
HTML = "application/vnd.pypi.simple.v1+html"
PLAIN = "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, PLAIN),
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/*", PLAIN),
        ("application/*", JSON),
        (JSON, JSON),
        (HTML, HTML),
        ("text/html", PLAIN),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML),
        # pip, uv, poetry, a browser
        (f"{JSON}, {HTML};q=0.1, text/html;q=0.01", JSON),
        (f"{JSON}, {HTML};q=0.2, text/html;q=0.01", JSON),
        (f"{JSON}, */*;q=0.1", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PLAIN),
        # a quality of 0 excludes, and the most specific range decides
        (f"{JSON};q=0, */*", PLAIN),
        (f"text/html;q=0, {HTML};q=0.1", HTML),
        ("text/html;q=0, */*", JSON),
        (f"{JSON};q=0.3, text/html;q=0.8", PLAIN),
        (f"{JSON}, {HTML}, text/html", JSON),
        (f"text/html, {JSON}", JSON),
        ("TEXT/HTML;charset=utf-8;q=0.5", PLAIN),
    ],
)
def test_the_form_is_the_one_that_the_client_likes_best(site: Site, accept: str | None, content_type: str) -> None:
    response = site.get("/simple/") if accept is None else site.get("/simple/", accept=accept)
    assert (response.status_code, response.content_type) == (200, content_type)
    assert response.headers["Vary"] == "Accept, Accept-Encoding, Authorization, Cookie"


@pytest.mark.parametrize("accept", ["application/json", "image/png", "*/*;q=0", f"{JSON};q=0"])
def test_a_client_that_likes_none_of_the_forms_is_told_which_there_are(site: Site, accept: str) -> None:
    response = site.get("/simple/", accept=accept)
    assert response.status_code == 406
    assert JSON in response.text


def test_a_project_page_says_in_json_what_the_files_say(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0+local.1", requires_python=">=3.8,<4")
    sdist = make_sdist(tmp_path, "acme", "1.0+local.1")
    for file in (wheel, sdist):
        assert site.upload(file).status_code == 200
    document = site.json("/simple/acme/")
    files = {file["filename"]: file for file in document.pop("files")}
    assert document == {
        "meta": {"_last-serial": site.index.project_revision(NormalizedName("acme")), "api-version": "1.4"},
        "name": "acme",
        "project-status": {"status": "active"},
        "versions": ["1.0+local.1"],
    }
    times = [file.pop("upload-time") for file in files.values()]
    assert all(time.endswith("Z") and len(time) == len("2026-01-01T00:00:00.000000Z") for time in times)
    assert files == {
        wheel.name: {
            "filename": wheel.name,
            "url": f"../../packages/acme/{wheel.name.replace('+', '%2B')}",
            "hashes": {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()},
            "size": wheel.stat().st_size,
            "requires-python": ">=3.8,<4",
            "yanked": False,
            "core-metadata": {"sha256": _metadata_sha256(wheel)},
        },
        sdist.name: {
            "filename": sdist.name,
            "url": f"../../packages/acme/{sdist.name.replace('+', '%2B')}",
            "hashes": {"sha256": hashlib.sha256(sdist.read_bytes()).hexdigest()},
            "size": sdist.stat().st_size,
            "yanked": False,
            "core-metadata": False,
        },
    }


def test_both_forms_read_the_same(site: Site, tmp_path: Path) -> None:
    for version in ("1.0", "1.10", "1.9", "2.0rc1"):
        site.drop(make_wheel(tmp_path, "acme", version, requires_python=">=3.8"))
    site.decide("acme", '{"status": "deprecated", "status-reason": "use <b>bolt</b>", "yanked": {"1.9": "\\"&<br>"}}')
    pages = {}
    for accept in (JSON, HTML, "text/html"):
        response = site.get("/simple/acme/", accept=accept)
        pages[accept] = (
            ProjectPage.from_json_data(response.get_json(force=True))
            if accept == JSON
            else ProjectPage.from_html("acme", response.text)
        )
    json_page, *html_pages = pages.values()
    for page in html_pages:
        assert [p.filename for p in page.packages] == [p.filename for p in json_page.packages]
        for ours, theirs in zip(json_page.packages, page.packages, strict=True):
            for attribute in ("digests", "requires_python", "is_yanked", "yanked_reason", "metadata_digests"):
                assert getattr(ours, attribute) == getattr(theirs, attribute)
        assert page.status == json_page.status
        assert page.status_reason == json_page.status_reason == "use <b>bolt</b>"
        assert page.repository_version == json_page.repository_version == "1.4"
    assert [p.version for p in json_page.packages] == ["1.0", "1.9", "1.10", "2.0rc1"]
    assert json_page.packages[1].yanked_reason == '"&<br>'


def _metadata_sha256(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return hashlib.sha256(archive.read(name)).hexdigest()


@pytest.mark.parametrize("path", ["/simple/", "/simple/acme/"])
@pytest.mark.parametrize("accept", [JSON, HTML, "text/html"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
class TestConditionalRequests:
    """An unchanged page is a 304, a changed one never."""

    def test_an_unchanged_page_is_a_304(
        self, site: Site, tmp_path: Path, path: str, accept: str, encoding: str
    ) -> None:
        site.drop(make_wheel(tmp_path, "acme", "1.0"))
        first = site.get(path, accept=accept, accept_encoding=encoding)
        again = site.get(path, accept=accept, accept_encoding=encoding, if_none_match=first.headers["ETag"])
        assert (again.status_code, again.data) == (304, b"")
        for header in ("ETag", "Cache-Control", "Vary"):
            assert again.headers[header] == first.headers[header]
        assert first.headers["Cache-Control"] == "private, max-age=0"
        assert not first.headers["ETag"].startswith("W/")

    def test_a_new_file_is_seen_at_once(
        self, site: Site, tmp_path: Path, path: str, accept: str, encoding: str
    ) -> None:
        site.drop(make_wheel(tmp_path, "acme", "1.0"))
        first = site.get(path, accept=accept, accept_encoding=encoding)
        site.drop(make_wheel(tmp_path, "acme" if path == "/simple/acme/" else "bolt", "2.0"))
        again = site.get(path, accept=accept, accept_encoding=encoding, if_none_match=first.headers["ETag"])
        assert again.status_code == 200
        assert again.headers["ETag"] != first.headers["ETag"]

    def test_a_weakened_tag_is_recognised(
        self, site: Site, tmp_path: Path, path: str, accept: str, encoding: str
    ) -> None:
        site.drop(make_wheel(tmp_path, "acme", "1.0"))
        etag = site.get(path, accept=accept, accept_encoding=encoding).headers["ETag"]
        assert site.get(path, accept=accept, accept_encoding=encoding, if_none_match=f"W/{etag}").status_code == 304


def test_tags_differ_by_type_and_encoding(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    tags = {
        site.get("/simple/acme/", accept=accept, accept_encoding=encoding).headers["ETag"]
        for accept in (JSON, HTML, "text/html")
        for encoding in ("identity", "gzip")
    }
    assert len(tags) == 6


def test_a_file_of_a_known_project_leaves_the_root_as_it_is(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    before = site.get("/simple/").headers["ETag"]
    site.drop(make_wheel(tmp_path, "acme", "2.0"))
    assert site.get("/simple/").headers["ETag"] == before


def test_pages_are_compressed_for_those_who_accept_it(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    plain = site.get("/simple/acme/", accept_encoding="identity")
    packed = site.get("/simple/acme/", accept_encoding="br;q=1, gzip;q=0.5")
    refused = site.get("/simple/acme/", accept_encoding="gzip;q=0")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data == refused.data
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in refused.headers


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/simple/Acme.Tools/", "/simple/acme-tools/"),
        ("/simple/acme__tools", "/simple/acme-tools/"),
        ("/simple/acme-tools", "/simple/acme-tools/"),
        ("/simple", "/simple/"),
        ("/packages/Acme.Tools/x%2B1.whl", "/packages/acme-tools/x%2B1.whl"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/dev"])
def test_other_spellings_are_redirected_under_any_prefix(site: Site, path: str, location: str, prefix: str) -> None:
    client = Client(
        DispatcherMiddleware(lambda *_: [], {prefix: site.client.application}) if prefix else site.client.application
    )
    response = client.get(prefix + path, auth=("admin", "secret"))
    assert response.status_code in (301, 302)
    assert (
        urljoin(f"http://localhost{prefix}{path}", response.headers["Location"])
        == f"http://localhost{prefix}{location}"
    )


@pytest.mark.parametrize("path", ["/simple/unknown/", "/simple/-/", "/nothing", "/packages/acme/acme-1.0.tar.gz"])
def test_what_does_not_exist_is_a_404(site: Site, path: str) -> None:
    response = site.get(path)
    assert response.status_code == 404
    assert response.content_type == "text/plain; charset=utf-8"


def test_a_quarantined_project_lists_no_files(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    site.decide("acme", '{"status": "quarantined", "status-reason": "looks bad"}')
    document = site.json("/simple/acme/")
    assert document["files"] == document["versions"] == []
    assert document["project-status"] == {"status": "quarantined", "reason": "looks bad"}
    assert site.get("/packages/acme/acme-1.0-py3-none-any.whl").status_code == 403
    assert site.get("/packages/acme/acme-1.0-py3-none-any.whl.metadata").status_code == 403


def test_a_project_whose_last_file_went_stays_ours(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.drop(wheel)
    site.place.remove(wheel.name)
    site.index.reconcile(wheel.name)
    assert site.json("/simple/acme/")["files"] == []
    assert listed(site, "reader") == ["acme"]


def listed(site: Site, user: str) -> list[str]:
    return [project["name"] for project in site.json("/simple/", user=user)["projects"]]


@pytest.mark.only_in_a_directory("a table's writers overlap, so less of it is safe to be called seen")
def test_the_root_in_json_says_the_serial_of_everything(site: Site, tmp_path: Path) -> None:
    for name in ("acme", "bolt"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    seen = []
    for version in ("1.1", "1.2"):
        site.drop(make_wheel(tmp_path, "acme", version))
        root = site.json("/simple/")
        pages = {name: site.json(f"/simple/{name}/")["meta"]["_last-serial"] for name in ("acme", "bolt")}
        assert {project["name"]: project["_last-serial"] for project in root["projects"]} == pages
        assert root["meta"]["_last-serial"] == max(pages.values())
        seen.append(pages)
    assert seen[1]["acme"] > seen[0]["acme"]
    assert seen[1]["bolt"] == seen[0]["bolt"]


def test_the_root_in_html_changes_with_its_projects_only(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    tag = site.get("/simple/").headers["ETag"]
    site.drop(make_wheel(tmp_path, "acme", "1.1"))
    assert site.get("/simple/", if_none_match=tag).status_code == 304
    site.drop(make_wheel(tmp_path, "bolt", "1.0"))
    assert site.get("/simple/", if_none_match=tag).status_code == 200


def test_the_root_lists_what_the_principal_may_see(site: Site, tmp_path: Path) -> None:
    for name in ("acme", "acme-tools", "bolt"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    assert listed(site, "reader") == ["acme", "acme-tools", "bolt"]
    assert listed(site, "guest") == ["acme", "acme-tools"]
    everything, some = (site.get("/simple/", user=user).headers["ETag"] for user in ("reader", "guest"))
    assert everything != some
    assert site.get("/simple/", user="guest", if_none_match=everything).status_code == 200
    assert site.get("/simple/", user="guest", if_none_match=some).status_code == 304
