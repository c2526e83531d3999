"""A site's documents: those for clients are what the dynamic index answers, those for people are safe to look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from pypi_simple import ProjectPage

from elasticpypi.errors import BusyError
from elasticpypi.model import format_time
from elasticpypi.names import NormalizedName
from elasticpypi.presenting import describe_size
from elasticpypi.simple import describe_listed
from elasticpypi.static_site import CoreMetadataPlace, Document, SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.of_index import IndexSource
from elasticpypi.static_site.of_lists import read_list
from elasticpypi.static_site.pages import (
    changed_versions,
    fingerprint,
    fixed_documents,
    metadata_documents,
    metadata_paths,
    package_lines,
    paths_of_page,
    project_documents,
    project_paths,
    root_documents,
)
from tests.dists import make_egg, make_sdist, make_wheel
from tests.site import JSON, Site

ACME = NormalizedName("acme")
SITE = "http://localhost/"
NO_ICON = "data:,"  # keeps a browser from asking for one
ODD_KEY = "old files/ä&b/acme-0.9.tar.gz"
METADATA = b"""\
Metadata-Version: 2.1
Name: Acme
Version: 2.0
Summary: <script>alert(1)</script>
Home-page: https://example.org/"><script>
Requires-Python: >=3.8
Project-URL: Evil, javascript:alert(1)
Project-URL: Data, data:text/html,x
Project-URL: Hidden, JavaScript://example.org/%0aalert(1)
Project-URL: <b>Good</b>, https://example.org/good
Project-URL: Broken, http://[
Project-URL: Relative, //example.org/
"""
RELATIVE = SiteOptions()
KINDS = [
    RELATIVE,
    SiteOptions(url=SITE),
    SiteOptions(url="https://example.org/dev/", packages_url="https://files.example.org/a b"),
    SiteOptions(packages_url="../../pool/"),
    SiteOptions(packages_url="/files"),
    SiteOptions(core_metadata=CoreMetadataPlace.BESIDE),
    SiteOptions(core_metadata=CoreMetadataPlace.NONE),
    SiteOptions(per_release_json=False),
]


@pytest.fixture
def shop(site: Site, tmp_path: Path) -> Site:
    """An index with a project of all kinds of files, under all kinds of keys, some of them yanked."""
    site.drop(make_wheel(tmp_path, "acme", "2.0", core_metadata=METADATA), "acme/acme-2.0-py3-none-any.whl")
    site.drop(make_sdist(tmp_path, "acme", "1.0+local", requires_python="<4"))
    site.drop(make_sdist(tmp_path, "acme", "0.9"), ODD_KEY)
    site.drop(make_egg(tmp_path, "acme", "1!0.1"))
    site.drop(make_wheel(tmp_path, "bolt", "1.0"))
    reason = 'broken <a href="x">'
    site.decide(
        "acme", json.dumps({"status": "deprecated", "status-reason": "use <b>", "yanked": {"0.9": reason, "1!0.1": ""}})
    )
    return site


def read(site: Site, options: SiteOptions = RELATIVE, name: NormalizedName = ACME) -> SiteProject:
    project = IndexSource(site.index, options).project(name)
    assert project is not None
    return project


def written(project: SiteProject, options: SiteOptions = RELATIVE) -> dict[str, bytes]:
    return {document.path: document.data for document in project_documents(project, options)}


def listed(*files: Mapping[str, Any], requires_dist: list[str] | None = None) -> SiteProject:
    """A project that is known from a list: what a file does not say, nobody knows."""
    found = []
    for number, file in enumerate(files):
        filename = f"acme-{number}.0.tar.gz"
        document = {"filename": filename, "url": f"https://x/{filename}", "hashes": {}} | dict(file)
        found.append(SiteFile(document, f"{number}.0", filename, requires_dist=requires_dist))
    page = describe_listed(ACME, [file.version for file in found], [file.document for file in found])
    return SiteProject(ACME, page, found, lambda _: None)


@pytest.mark.parametrize(
    ("path", "asked", "accept"),
    [
        ("simple/acme/index.html", "/simple/acme/", "text/html"),
        ("simple/acme/index.json", "/simple/acme/", JSON),
        ("pypi/acme/json", "/pypi/acme/json", "*/*"),
        ("pypi/acme/2.0/json", "/pypi/acme/2.0/json", "*/*"),
        ("pypi/acme/1.0+local/json", "/pypi/acme/1.0+local/json", "*/*"),
        ("pypi/acme/1!0.1/json", "/pypi/acme/1!0.1/json", "*/*"),
    ],
)
def test_clients_read_what_the_dynamic_index_answers(shop: Site, path: str, asked: str, accept: str) -> None:
    options = SiteOptions(url=SITE) if path.startswith("pypi/") else RELATIVE
    project = read(shop, options)
    expected = shop.get(asked, accept=accept).data
    for file in project.files:  # whose keys are not in the dynamic index's URLs
        dynamic = f"packages/acme/{quote(file.document['filename'], safe='')}"
        expected = expected.replace(f"{dynamic}#".encode(), f"{path_of(file)}#".encode())
        expected = expected.replace(f'{dynamic}"'.encode(), f'{path_of(file)}"'.encode())
    assert written(project, options)[path] == expected


def path_of(file: SiteFile) -> str:
    return f"packages/{quoted(file.path)}"


def quoted(path: str) -> str:
    return "/".join(quote(part, safe="") for part in path.split("/"))


def test_the_root_is_that_of_the_dynamic_index_without_serials(shop: Site) -> None:
    documents = {document.path: document.data for document in root_documents([ACME, NormalizedName("bolt")], RELATIVE)}
    assert documents["simple/index.html"] == shop.get("/simple/").data
    expected = shop.json("/simple/")
    del expected["meta"]["_last-serial"]
    for project in expected["projects"]:
        del project["_last-serial"]
    assert json.loads(documents["simple/index.json"]) == expected


@pytest.mark.parametrize("options", KINDS)
def test_every_url_leads_to_the_file_and_its_metadata(shop: Site, options: SiteOptions) -> None:
    project = read(shop, options)
    site = options.url or "https://site.example/prefix/"
    base = urljoin(f"{site}simple/acme/", f"{options.packages_url or '../../packages'}".rstrip("/") + "/")
    files = {urljoin(f"{base}", quoted(file.path)) for file in project.files}
    documents = written(project, options)
    for path, data in documents.items():
        found = links(data) if path.endswith(".html") else json_urls(json.loads(data))
        here = {urljoin(f"{site}{quoted(path)}", url).partition("#")[0] for url in found}
        assert here & files, path
        if path.startswith(("simple/", "project/")) or path == "pypi/acme/json":
            assert files <= here, path
        if options.url is not None and path.startswith("pypi/"):
            assert all(url.startswith(("https://", "http://")) for url in found), path
    announced = {file.path: file.document["core-metadata"] for file in project.files if file.document["core-metadata"]}
    under = "" if options.core_metadata is CoreMetadataPlace.BESIDE else "packages/"
    bodies = {document.path: document.data for document in metadata_documents(project, options)}
    assert {path: {"sha256": hashlib.sha256(data).hexdigest()} for path, data in bodies.items()} == {
        f"{under}{path}.metadata": hashes for path, hashes in announced.items()
    }
    assert bool(announced) is (options.core_metadata is not CoreMetadataPlace.NONE)


class Links(HTMLParser):
    """What a page leads to, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.urls += [value or "" for name, value in attrs if name in ("href", "src") and value != NO_ICON]

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(page: bytes) -> Links:
    links = Links()
    links.feed(page.decode())
    return links


def links(page: bytes) -> list[str]:
    return parse(page).urls


def json_urls(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [
            *([document["url"]] if "url" in document else []),
            *(url for value in document.values() for url in json_urls(value)),
        ]
    return [url for value in document for url in json_urls(value)] if isinstance(document, list) else []


def test_documents_come_in_the_order_in_which_they_may_be_written(shop: Site) -> None:
    documents = list(project_documents(read(shop), RELATIVE))
    assert [(document.path, document.content_type.partition(";")[0]) for document in documents] == [
        ("pypi/acme/0.9/json", "application/json"),
        ("pypi/acme/1.0+local/json", "application/json"),
        ("pypi/acme/2.0/json", "application/json"),
        ("pypi/acme/1!0.1/json", "application/json"),
        ("pypi/acme/json", "application/json"),
        ("project/acme/index.html", "text/html"),
        ("simple/acme/index.html", "text/html"),
        ("simple/acme/index.json", JSON),
    ]


@pytest.mark.parametrize("options", KINDS)
def test_paths_are_known_without_rendering_and_from_an_old_page(shop: Site, options: SiteOptions) -> None:
    project = read(shop, options)
    documents = written(project, options)
    metadata = {document.path for document in metadata_documents(project, options)}
    assert project_paths(project, options) == set(documents)
    assert metadata_paths(project, options) == metadata
    page = json.loads(documents["simple/acme/index.json"])
    assert paths_of_page(page, options) == (set(documents), metadata)


def test_only_releases_that_are_asked_for_are_rendered_and_read(shop: Site) -> None:
    project = read(shop)
    some = [document.path for document in project_documents(project, RELATIVE, versions={"0.9"})]
    assert [path for path in some if path not in written(project, SiteOptions(per_release_json=False))] == [
        "pypi/acme/0.9/json"
    ]
    assert [document.path for document in metadata_documents(project, RELATIVE, versions={"2.0"})] == [
        "packages/acme/acme-2.0-py3-none-any.whl.metadata"
    ]
    everything = written(project)
    for document in project_documents(project, RELATIVE, versions=()):
        assert document.data == everything[document.path]


def test_core_metadata_is_read_once_a_release(shop: Site) -> None:
    project = read(shop)
    asked: list[str] = []

    def read_core_metadata(file: SiteFile) -> bytes | None:
        asked.append(file.version)
        return project.core_metadata(file)

    written(replace(project, core_metadata=read_core_metadata))
    assert sorted(asked) == ["0.9", "1.0+local", "2.0"]


def test_a_project_of_which_the_files_are_withheld_shows_none(shop: Site) -> None:
    before = read(shop)
    shop.decide("acme", '{"status": "quarantined", "status-reason": "bad"}')
    documents = written(read(shop))
    assert documents["simple/acme/index.html"] == shop.get("/simple/acme/").data
    assert json.loads(documents["pypi/acme/json"])["releases"] == {}
    assert "pypi/acme/2.0/json" not in documents
    shown = parse(documents["project/acme/index.html"])
    assert "quarantined" in shown.text
    assert "bad" in shown.text
    assert not any("packages/" in url for url in shown.urls)
    page = json.loads(written(before)["simple/acme/index.json"])
    assert changed_versions(page, read(shop)) == {"0.9", "1.0+local", "2.0", "1!0.1"}


def test_what_is_announced_but_was_replaced_is_not_written(shop: Site, tmp_path: Path) -> None:
    stale = read(shop)
    other = make_wheel(tmp_path / "other", "acme", "2.0", description="Other")
    shop.drop(other, "acme/acme-2.0-py3-none-any.whl")
    with pytest.raises(BusyError):
        list(metadata_documents(stale, RELATIVE))
    shop.place.remove("acme/acme-2.0-py3-none-any.whl")
    shop.index.reconcile("acme/acme-2.0-py3-none-any.whl")
    with pytest.raises(BusyError):
        list(metadata_documents(stale, RELATIVE))


def test_marks_change_with_what_they_stand_for(shop: Site, tmp_path: Path) -> None:
    source = IndexSource(shop.index, RELATIVE)
    names, marks = source.list_mark(), dict(source.marks())
    assert list(marks) == ["acme", "bolt"]
    assert marks == {name: source.mark(name) for name in marks}
    shop.drop(make_wheel(tmp_path, "bolt", "1.1"))
    assert source.list_mark() == names
    assert source.marks()[ACME] == marks[ACME]
    assert source.marks()[NormalizedName("bolt")] != marks[NormalizedName("bolt")]
    shop.drop(make_wheel(tmp_path, "nut", "1.0"))
    assert source.list_mark() != names
    assert (source.mark(NormalizedName("gone")), source.project(NormalizedName("gone"))) == (None, None)


def test_a_project_page_is_safe_whatever_the_core_metadata_says(shop: Site) -> None:
    page = written(read(shop))["project/acme/index.html"]
    shown = parse(page)
    assert [attributes.get("src") for tag, attributes in shown.elements if tag == "script"] == ["../../assets/site.js"]
    assert {tag for tag, _ in shown.elements} & {"b", "iframe", "img"} == set()
    away = [url for url in shown.urls if ":" in url or url.startswith("//")]
    assert away == ['https://example.org/"><script>', "https://example.org/good"]
    for text in ("<script>alert(1)</script>", "<b>Good</b>", ">=3.8", 'broken <a href="x">', "use <b>", "deprecated"):
        assert text in shown.text


def test_a_project_page_shows_releases_newest_first_with_their_files(shop: Site) -> None:
    shown = parse(written(read(shop))["project/acme/index.html"])
    assert [attributes["id"] for tag, attributes in shown.elements if tag == "h3"] == [
        "1!0.1", "2.0", "1.0+local", "0.9"
    ]  # fmt: skip
    digests = {attributes.get("title") for _, attributes in shown.elements if attributes.get("class") == "digest"}
    assert digests == {f"sha256={file.document['hashes']['sha256']}" for file in read(shop).files}
    assert shown.text.count("yanked") == 4  # two releases, and their files


@pytest.mark.parametrize("url", ["pool/a.whl", "../pool/a.whl", "../../pool/a.whl", "/a.whl", "https://x/a.whl"])
def test_a_page_for_people_links_to_the_same_file_as_the_one_for_clients(url: str) -> None:
    page = parse(written(listed({"url": url}))["project/acme/index.html"])
    links = {urljoin(f"{SITE}project/acme/", link) for link in page.urls}
    assert urljoin(f"{SITE}simple/acme/", url) in links


def test_a_page_for_people_says_in_which_zone_its_times_are() -> None:
    pages = written(listed({"upload-time": "2017-07-14T03:10:00.000000Z"}))
    assert "2017-07-14 03:10 UTC" in parse(pages["project/acme/index.html"]).text


def test_no_page_for_people_has_a_browser_ask_for_an_icon(shop: Site) -> None:
    pages = [written(read(shop))["project/acme/index.html"]]
    pages += [document.data for document in root_documents([ACME], RELATIVE) if document.path == "index.html"]
    pages += [document.data for document in fixed_documents(RELATIVE) if document.path == "404.html"]
    icons = [[a["href"] for _, a in parse(page).elements if a.get("rel") == "icon"] for page in pages]
    assert icons == [[NO_ICON]] * 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (SiteOptions(url="https://example.org/dev/"), "pip install --index-url https://example.org/dev/simple/ acme"),
        (RELATIVE, "pip install --index-url URL-of-this-site/simple/ acme"),
    ],
)
def test_a_project_page_says_how_to_install(shop: Site, options: SiteOptions, line: str) -> None:
    assert line in parse(written(read(shop, options), options)["project/acme/index.html"]).text


def test_pages_for_people_bear_the_title_and_the_logo(shop: Site) -> None:
    options = SiteOptions(title="A & B", logo="assets/ours.svg", logo_width=32)
    pages = {
        **written(read(shop, options), options),
        **{document.path: document.data for document in root_documents([ACME], options)},
    }
    for path, up in (("index.html", ""), ("project/acme/index.html", "../../")):
        shown = parse(pages[path])
        assert ("img", {"src": f"{up}assets/ours.svg", "alt": "", "width": "32"}) in shown.elements
        assert "A & B" in shown.text


@pytest.mark.parametrize("names", [[], ["acme"], [f"project-{n}" for n in range(3000)]])
def test_the_list_for_people_names_every_project(names: list[NormalizedName]) -> None:
    (page,) = (document.data for document in root_documents(names, RELATIVE) if document.path == "index.html")
    shown = parse(page)
    assert [url for url in shown.urls if url.startswith("project/")] == [f"project/{name}/" for name in names]
    assert f"{len(names)} project{'' if len(names) == 1 else 's'}" in shown.text


@pytest.mark.parametrize(
    "options", [SiteOptions(logo="ours.svg"), SiteOptions(url="https://example.org/dev/", logo="ours.svg")]
)
def test_nothing_is_relative_where_a_page_is_missing_at_any_depth(options: SiteOptions) -> None:
    documents = {document.path: document for document in fixed_documents(options)}
    assert set(documents) == {"404.html", "assets/site.css", "assets/site.js"}
    shown = parse(documents["404.html"].data)
    assert all(url.startswith("https://example.org/dev/") for url in shown.urls)
    assert bool(shown.urls) is (options.url is not None)


def test_no_page_asks_another_host_for_anything(shop: Site) -> None:
    every: list[Document] = [
        *project_documents(read(shop), RELATIVE),
        *root_documents([ACME], RELATIVE),
        *fixed_documents(RELATIVE),
    ]
    for document in every:
        if document.content_type.startswith("text/html"):
            for tag, attributes in parse(document.data).elements:
                if tag != "a":
                    assert "//" not in f"{attributes.get('href')}{attributes.get('src')}", document.path
        elif document.path.startswith("assets/"):
            assert b"url(" not in document.data
            assert b"http" not in document.data


def test_what_a_list_does_not_say_no_page_says() -> None:
    project = listed({}, {"hashes": {"md5": "0" * 32}, "core-metadata": True, "yanked": "a < b"})
    documents = written(project)
    page = ProjectPage.from_json_data(json.loads(documents["simple/acme/index.json"]))
    assert (page.repository_version, [file.size for file in page.packages]) == ("1.0", [None, None])
    assert b'href="https://x/acme-0.0.tar.gz">' in documents["simple/acme/index.html"]
    assert (
        b'<a href="https://x/acme-1.0.tar.gz#md5=00000000000000000000000000000000" data-core-metadata="true"'
        b' data-dist-info-metadata="true" data-yanked="a &lt; b">' in documents["simple/acme/index.html"]
    )
    release = json.loads(documents["pypi/acme/0.0/json"])
    assert [release["urls"][0][key] for key in ("size", "upload_time", "digests", "yanked")] == [None, None, {}, False]
    assert "last_serial" not in json.loads(documents["pypi/acme/json"])
    assert metadata_paths(project, RELATIVE) == set()


def test_a_page_of_files_with_sizes_is_of_the_present_version() -> None:
    page = json.loads(written(listed({"size": 1}, {"size": 2}))["simple/acme/index.json"])
    assert page["meta"] == {"api-version": "1.4"}


def test_a_list_says_what_a_release_requires() -> None:
    documents = written(listed({"requires-python": ">=3.9"}, requires_dist=["bolt>=1"]))
    for path in ("pypi/acme/json", "pypi/acme/0.0/json"):
        info = json.loads(documents[path])["info"]
        expected = {"requires_dist": ["bolt>=1"], "requires_python": ">=3.9", "name": "acme", "version": "0.0"}
        assert info.items() >= expected.items()


@pytest.mark.parametrize("hostile", ["<i>", "a\0b", "\0", "\"'&"])
def test_what_a_list_says_is_text(hostile: str) -> None:
    project = listed({"requires-python": hostile, "yanked": hostile or True}, {"upload-time": "2024-01-01T00:00:00Z"})
    project = replace(project, files=[replace(file, uploaded_by=hostile) for file in project.files])
    shown = parse(written(project)["project/acme/index.html"])
    assert "i" not in {tag for tag, _ in shown.elements}
    assert shown.text.count(f"by {hostile}".replace("\0", "\0")) == 2
    assert [url for url in shown.urls if "acme-" in url] == [f"https://x/acme-{n}.0.tar.gz" for n in (1, 0)]


def test_releases_whose_files_differ_are_found_by_the_old_page(shop: Site, tmp_path: Path) -> None:
    page = json.loads(written(read(shop))["simple/acme/index.json"])
    assert changed_versions(page, read(shop)) == set()
    shop.drop(make_sdist(tmp_path, "acme", "2.0"))  # one more
    shop.place.remove("acme-1.0+local.tar.gz")  # a release that goes
    shop.index.reconcile("acme-1.0+local.tar.gz")
    shop.index.unyank(ACME, "0.9")
    assert changed_versions(page, read(shop)) == {"2.0", "1.0+local", "0.9"}
    page = json.loads(written(read(shop))["simple/acme/index.json"])
    shop.place.remove("acme-2.0.tar.gz")  # one of a release's files
    shop.index.reconcile("acme-2.0.tar.gz")
    assert changed_versions(page, read(shop)) == {"2.0"}


def test_every_option_is_part_of_the_fingerprint() -> None:
    seen = [fingerprint(options) for options in [*KINDS, SiteOptions(title="x"), SiteOptions(logo="x")]]
    assert len(set(seen)) == len(seen)
    assert fingerprint(SiteOptions()) == fingerprint(SiteOptions(title=SiteOptions().title))


def test_lines_of_packages_json_are_those_of_a_list(shop: Site) -> None:
    beside = SiteOptions(core_metadata=CoreMetadataPlace.BESIDE)  # a list means what lies there
    lines = [json.loads(line) for line in package_lines(read(shop, beside), beside).splitlines()]
    among_pages = [json.loads(line) for line in package_lines(read(shop), RELATIVE).splitlines()]
    assert among_pages == [{key: line[key] for key in line if key != "core_metadata"} for line in lines]
    first, wheel = lines[0], lines[2]
    page = shop.json("/simple/acme/")["files"]
    assert [line["filename"] for line in lines] == [file["filename"] for file in page]
    assert first["yanked_reason"] == 'broken <a href="x">'
    assert wheel == {
        "filename": "acme-2.0-py3-none-any.whl",
        "hash": f"sha256={page[2]['hashes']['sha256']}",
        "requires_python": ">=3.8",
        "upload_timestamp": wheel["upload_timestamp"],
        "core_metadata": f"sha256={page[2]['core-metadata']['sha256']}",
    }
    told = datetime.fromtimestamp(wheel["upload_timestamp"], UTC)
    assert format_time(told) == page[2]["upload-time"]
    assert 0 <= wheel["upload_timestamp"] - int(Path(shop.data / "files").stat().st_ctime) < 100_000


@pytest.mark.parametrize("place", CoreMetadataPlace)
def test_a_list_announces_core_metadata_only_where_it_is_beside_the_files(shop: Site, place: CoreMetadataPlace) -> None:
    options = SiteOptions(core_metadata=place)
    lines = [json.loads(line) for line in package_lines(read(shop, options), options).splitlines()]
    assert any("core_metadata" in line for line in lines) is (place is CoreMetadataPlace.BESIDE)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("2017-07-14T03:10:00.000000Z", b"1500001800"), ("2017-07-14T03:10:00.250000Z", b"1500001800.25")],
)
def test_a_time_in_packages_json_is_as_exact_as_the_file_s(time: str, seconds: bytes) -> None:
    options = SiteOptions(core_metadata=CoreMetadataPlace.NONE)
    assert b'"upload_timestamp":%b}' % seconds in package_lines(listed({"upload-time": time}), options)


def test_lines_of_packages_json_give_back_what_a_list_says() -> None:
    project = listed({"core-metadata": True, "yanked": True}, requires_dist=["bolt"])
    project = replace(project, files=[replace(project.files[0], uploaded_by="jane")])
    assert json.loads(package_lines(project, SiteOptions(core_metadata=CoreMetadataPlace.NONE))) == {
        "filename": "acme-0.0.tar.gz",
        "requires_dist": ["bolt"],
        "uploaded_by": "jane",
        "yanked_reason": "yanked",
        "core_metadata": "true",
    }


@pytest.mark.parametrize(("yanked", "read"), [(False, False), (True, "yanked"), ("", "yanked"), ("broken", "broken")])
def test_no_yank_is_lost_on_the_way_through_packages_json(*, yanked: bool | str, read: bool | str) -> None:
    lines = package_lines(listed({"yanked": yanked}), RELATIVE).splitlines()
    source = read_list(lines, as_json=True, packages_url="https://x/", report=lambda line: pytest.fail(line.reason))
    project = source.project(ACME)
    assert project is not None
    assert project.files[0].document["yanked"] == read


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"), (999_499, "999 kB"),
     (999_500, "1.0 MB"), (1_234_567_890, "1.2 GB"), (10**15, "1000 TB")],
)  # fmt: skip
def test_sizes_are_written_for_people(size: int | None, shown: str) -> None:
    assert describe_size(size) == shown
