"""docs/static-site.md: what web servers make of an index that is written as files, and that clients install from it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest
from packaging.utils import canonicalize_name
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from elasticpypi.web.pages import negotiate
from tests.aws import Cloud
from tests.clients import INSTALLERS, Account, Desk, core_metadata_of
from tests.dists import make_wheel
from tests.policies import is_allowed
from tests.running import serving
from tests.site import open_site
from tests.static_serving import EXAMPLES, Bucket, fetch, nginx
from tests.static_shops import (
    EPOCH,
    LOCAL,
    PAGE,
    Shop,
    build,
    cloudfront,
    code_blocks,
    install,
    nginx_below_prefix,
    run_script,
    s3_website,
    shop_in_bucket,
    shop_in_directory,
)
from tests.test_clients_install import REASON

pytestmark = pytest.mark.xdist_group("static sites")  # servers and clouds that all of these tests share
PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
UV = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
POETRY = "application/vnd.pypi.simple.v1+json, */*;q=0.1"
JSON, V1_HTML, HTML = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html", "text/html"
ACCEPTED = [
    None,
    "*/*",
    PIP,
    UV,
    POETRY,
    JSON,
    V1_HTML,
    HTML,
    "application/vnd.pypi.simple.latest+json",
    "application/vnd.pypi.simple.latest+html",
    "Application/Vnd.PyPI.Simple.V1+JSON",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    f"{JSON},{V1_HTML},{HTML}",
    f"{HTML}, {V1_HTML}, {JSON}",
    f"{V1_HTML}, {HTML}",
    f"{HTML}, {V1_HTML};q=0.9",
    f"{V1_HTML};q=0.5, {HTML};q=0.50",
    f"{V1_HTML};q=0.5, {HTML};q=0.501",
    f"{JSON};q=0.2, {HTML};q=0.15",
    f"{JSON};q=0.15, {HTML};q=0.2",
    f"{JSON};q=0.15, {V1_HTML};q=0.2",
    f"{JSON};q=0.9, {HTML}",
    f"{JSON};q=1.000, {HTML};q=1",
    f"{JSON}; q=1.0 , {HTML} ; q=0.999",
    f"{JSON};q=0, {HTML};q=0.001",
    f"{JSON};q=0.0, {V1_HTML};q=0.1",
    f"{JSON};q=0, */*",
    f"{JSON};q=0.5, */*",
    f"{V1_HTML};q=0.5, */*;q=0.4",
    f"{V1_HTML};q=0, */*",
    f"{JSON};q=0.1, text/html;q=0.1, */*",
]


def preferred_form(accept: str | None) -> str:
    """Return the form that the dynamic index would answer with."""
    return "json" if negotiate(accept) == JSON else "html"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_in_directory(tmp_path_factory.mktemp("shop")) as made:
        yield made


# nginx ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(shop.output, shop.site.data, tmp_path_factory.mktemp("nginx")) as url:
        yield url


@pytest.mark.parametrize("accept", ACCEPTED)
def test_nginx_answers_with_the_pages_and_types_of_the_dynamic_index(
    shop: Shop, served: str, accept: str | None
) -> None:
    headers = {} if accept is None else {"accept": accept}
    for name in shop.names():
        answer, expected = fetch(f"{served}/simple/{name}/", **headers), shop.site.get(f"/simple/{name}/", **headers)
        assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (
            200,
            expected.headers["Content-Type"],
            expected.data,
        )
        assert answer.headers["Cache-Control"] == expected.headers["Cache-Control"]
        assert "Accept" in answer.headers["Vary"]


def test_the_root_is_that_of_the_dynamic_index_but_for_its_serials(shop: Shop, served: str) -> None:
    answer, expected = fetch(f"{served}/simple/", accept=PIP), shop.site.json("/simple/")
    for projects in (expected["projects"], [expected["meta"]]):
        for each in projects:
            del each["_last-serial"]
    assert answer.headers["Content-Type"] == JSON
    assert answer.json() == expected
    html, expected_html = fetch(f"{served}/simple/"), shop.site.get("/simple/")
    assert (html.headers["Content-Type"], html.content) == (expected_html.headers["Content-Type"], expected_html.data)


def test_nginx_gives_html_to_who_accepts_nothing_that_there_is(served: str) -> None:
    answer = fetch(f"{served}/simple/acme-local/", accept="image/png")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/simple/acme-local/index.html", "text/html; charset=utf-8"),
        ("/simple/acme-local/index.json", JSON),
        ("/simple/index.json", JSON),
        ("/project/acme-local/", "text/html; charset=utf-8"),
        ("/changelog/", "text/html; charset=utf-8"),
        ("/changelog/feed.xml", "application/atom+xml"),
        ("/pypi/acme-local/json", "application/json"),
        ("/pypi/acme-local/1.0%2Blocal.1/json", "application/json"),
        ("/pypi/acme-epoch/1%212.0/json", "application/json"),
        ("/packages.json", "application/json"),
        ("/assets/site.css", "text/css; charset=utf-8"),
        ("/assets/site.js", "text/javascript; charset=utf-8"),
        (f"/packages/acme-local/{LOCAL}", "application/octet-stream"),
        (f"/packages/acme-local/{quote(LOCAL)}", "application/octet-stream"),
        (f"/packages/acme-epoch/{EPOCH}", "application/octet-stream"),
        (f"/packages/acme-epoch/{EPOCH}.metadata", "application/octet-stream"),
    ],
)
def test_everything_has_its_type(served: str, path: str, expected: str) -> None:
    answer = fetch(served + path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, expected)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    head = fetch(served + path, method="HEAD")
    assert (head.status_code, head.headers["Content-Type"], head.content) == (200, expected, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/nowhere/",
        "/simple/nowhere/",
        "/simple/acme-local/nowhere",
        "/simple/acme%0d%0aX-Header:%20x/",
        "/project/nowhere/",
        "/pypi/nowhere/json",
        "/pypi/acme-local/9/json",
        "/pypi/",
        "/assets/",
        "/packages/",
        "/packages/acme-local",
        "/packages/acme-local/",
        "/packages/acme-local/acme_local-9-py3-none-any.whl",
        "/packages/acme-local/acme_local-9-py3-none-any.whl.metadata",
        "/packages/acme-yanked/project.json",
        "/.elasticpypi/site.json",
        "/%2eelasticpypi/site.json",
        "/simple/.%2e/.elasticpypi/site.json",
        "/packages/.elasticpypi/seen.whl",
        "/packages/acme-local/.hidden-1.0.tar.gz",
        "/packages/..%2fcatalog.sqlite",
    ],
)
def test_what_is_missing_and_what_is_nobody_s_business_is_not_found(shop: Shop, served: str, path: str) -> None:
    for hidden in (".elasticpypi/seen.whl", "acme-local/.hidden-1.0.tar.gz"):
        (shop.files / hidden).write_bytes(b"")
    assert (shop.files / "acme-yanked" / "project.json").exists()
    assert fetch(served + path).status_code == 404


def test_a_link_out_of_the_storage_is_not_followed(shop: Shop, served: str) -> None:
    (shop.files / "acme-leaf" / "acme-leaf-9.tar.gz").symlink_to(shop.output / "index.html")
    assert fetch(f"{served}/packages/acme-leaf/acme-leaf-9.tar.gz").status_code in (403, 404)


def test_a_missing_page_is_shown_as_one(shop: Shop, served: str) -> None:
    assert fetch(f"{served}/simple/nowhere/").content == (shop.output / "404.html").read_bytes()


REDIRECTS = [
    ("/simple", "/simple/"),
    ("/simple/acme-local", "/simple/acme-local/"),
    ("/simple/Acme_Local", "/simple/acme-local/"),
    ("/simple/Acme._-Local/", "/simple/acme-local/"),
    ("/simple/acme--local/", "/simple/acme-local/"),
    ("/simple/ACME.LOCAL", "/simple/acme-local/"),
    ("/simple/ACME.DOTTED.NAME/", "/simple/acme-dotted-name/"),
    ("/project/acme-local", "/project/acme-local/"),
    ("/project/Acme.Local/", "/project/acme-local/"),
    ("/changelog", "/changelog/"),
    ("/pypi/Acme.Local/json", "/pypi/acme-local/json"),
    ("/pypi/Acme_Local/1.0+local.1/json", "/pypi/acme-local/1.0+local.1/json"),
]


def follow(url: str) -> str:
    """Follow redirects by hand, and return the path where the last one leads; each is relative, and few."""
    for _ in range(5):
        answer = fetch(url, accept=PIP)
        if answer.status_code == 200:
            return urlsplit(url).path
        assert answer.status_code == 301, (url, answer.text)
        assert re.match(r"(?:\.\./)*[A-Za-z]", answer.headers["Location"])
        url = urljoin(url, answer.headers["Location"])
    raise AssertionError(f"no end of redirects at {url}")


@pytest.mark.parametrize(("path", "lands"), REDIRECTS)
def test_names_in_any_spelling_and_without_a_slash_are_redirected(served: str, path: str, lands: str) -> None:
    assert follow(served + path) == lands


def test_a_file_comes_whole_in_parts_or_not_again(shop: Shop, served: str) -> None:
    url, data = f"{served}/packages/acme-local/{quote(LOCAL)}", (shop.files / "acme-local" / LOCAL).read_bytes()
    whole = fetch(url, accept_encoding="gzip")
    assert (whole.content, whole.headers["Accept-Ranges"]) == (data, "bytes")
    part = fetch(url, range="bytes=10-19")
    assert (part.status_code, part.content) == (206, data[10:20])
    assert fetch(url, range=f"bytes={len(data)}-").status_code == 416
    assert fetch(url, if_none_match=whole.headers["ETag"]).status_code == 304
    assert whole.headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/simple/acme-local/", JSON), ("/simple/acme-local/", HTML), ("/simple/acme-local/", V1_HTML), ("/", HTML)],
)
def test_pages_are_compressed_and_not_sent_again(served: str, path: str, accept: str) -> None:
    plain = fetch(served + path, accept=accept)
    packed = fetch(served + path, accept=accept, accept_encoding="gzip")  # which requests unpacks
    assert (packed.headers["Content-Encoding"], packed.content) == ("gzip", plain.content)
    assert "Accept-Encoding" in packed.headers["Vary"]
    for answer in (plain, packed):
        again = fetch(served + path, accept=accept, if_none_match=answer.headers["ETag"])
        assert (again.status_code, again.content) == (304, b"")


def test_two_changes_within_a_second_are_two_pages(shop: Shop, served: str) -> None:
    tags = set()
    for reason in ("first", "other", REASON):
        shop.site.index.yank(canonicalize_name("acme-yanked"), "1.1", reason)
        build(shop.site, shop.output)
        page = fetch(f"{served}/simple/acme-yanked/", accept=PIP)
        assert {file["yanked"] for file in page.json()["files"]} == {False, True, reason}
        tags.add(page.headers["ETag"])
    assert len(tags) == 3


def test_core_metadata_is_that_of_the_file(shop: Shop, served: str) -> None:
    for name in shop.names():
        page = f"{served}/simple/{name}/"
        for file in fetch(page, accept=PIP).json()["files"]:
            url = urljoin(page, file["url"])
            data = fetch(url).content
            assert hashlib.sha256(data).hexdigest() == file["hashes"]["sha256"]
            if file["core-metadata"]:
                core_metadata = fetch(f"{url}.metadata").content
                assert core_metadata == core_metadata_of(shop.files / name / file["filename"])
                assert hashlib.sha256(core_metadata).hexdigest() == file["core-metadata"]["sha256"]


@pytest.fixture(scope="module")
def served_below_prefix(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx_below_prefix(shop, tmp_path_factory.mktemp("prefix")) as url:
        yield url


@pytest.mark.parametrize(("path", "lands"), REDIRECTS)
def test_redirects_stay_below_the_prefix(served_below_prefix: str, path: str, lands: str) -> None:
    assert follow(served_below_prefix + path) == f"/pypi{lands}"


@pytest.fixture(params=["served", "served_below_prefix"])
def base(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_clients_install_from_nginx(base: str, desk: Desk, client: str) -> None:
    install(desk, client, base)


@pytest.mark.parametrize("accept", [ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY])
def test_an_independent_reader_sees_the_same_files_in_both_forms(shop: Shop, base: str, accept: str) -> None:
    expected = {
        name: {file["filename"] for file in shop.site.json(f"/simple/{name}/")["files"]} for name in shop.names()
    }
    with PyPISimple(f"{base}/simple/", accept=accept) as reader:
        found = {name: reader.get_project_page(name) for name in reader.get_index_page().projects}
        assert {name: {file.filename for file in page.packages} for name, page in found.items()} == expected
        deprecated = found["acme-deprecated"]
        assert deprecated.status == "deprecated"
        (file,) = found["acme-epoch"].packages
        data = shop.files / "acme-epoch" / file.filename
        assert reader.get_package_metadata(file) == core_metadata_of(data).decode()


def test_nginx_asks_for_a_password(shop: Shop, tmp_path: Path, desk: Desk) -> None:
    _, password = code_blocks("sh", "## nginx")
    run_script(password, tmp_path, {})
    with nginx(shop.output, shop.site.data, tmp_path, users=(tmp_path / "elasticpypi.htpasswd").read_text()) as url:
        for path in ("/simple/", "/nowhere", f"/packages/acme-local/{LOCAL}", "/.elasticpypi/site.json"):
            answer = fetch(url + path)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="elasticpypi"')
        outcome = desk.pip("install", "--index-url", Account(url, "reader", "PASSWORD").index_url, "acme-leaf")
        assert outcome.succeeded, outcome.output


def test_the_way_to_the_files_is_open_and_that_to_catalog_and_credentials_is_not(tmp_path: Path) -> None:
    with serving(
        tmp_path / "data", home=tmp_path / "home", before=("sh", "-c", 'umask 022; exec "$@"', "sh")
    ) as server:
        assert server.upload(make_wheel(tmp_path)).status_code == 200
    script, _ = code_blocks("sh", "## nginx")
    run_script(script, tmp_path, {})
    with serving(
        tmp_path / "data", home=tmp_path / "home", before=("sh", "-c", 'umask 022; exec "$@"', "sh")
    ) as server:
        assert server.upload(make_wheel(tmp_path, "other")).status_code == 200
    for path in (tmp_path / "data").rglob("*"):
        mode, kept = stat.S_IMODE(path.stat().st_mode), path.relative_to(tmp_path / "data")
        if kept.parts[:2] == ("files", "acme") or kept.parts[:2] == ("files", "other"):
            assert mode & 0o055 == (0o055 if path.is_dir() else 0o044), path
        if path.name == "credentials.json" or ("catalog.sqlite" in path.name and path.stat().st_size):
            assert mode & 0o077 == 0, path
    modes = [stat.S_IMODE((tmp_path / kept).stat().st_mode) for kept in ("data", "data/files")]
    assert modes == [0o711, 0o755]


# Any other web server ----------------------------------------------------------------------------------------------


@contextmanager
def plainly_served(directory: Path) -> Iterator[str]:
    """Serve a directory as `python -m http.server` does."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_clients_install_from_any_web_server(desk: Desk, tmp_path: Path) -> None:
    files = tmp_path / "data" / "files" / "acme"
    files.mkdir(parents=True)
    core_metadata = b"Metadata-Version: 2.1\nName: acme\nVersion: 1.0+local.1\nRequires-Dist: bolt\n"
    wheel = make_wheel(files, "acme", "1.0+local.1", core_metadata=core_metadata)
    make_wheel(files.parent, "bolt", "2.0")
    site = open_site(tmp_path / "data")
    try:
        assert site.index.sync(patience_seconds=20).unsettled == []
        (script,) = code_blocks("sh", "## Any web server")
        run_script(script, tmp_path, {})
        build(site, tmp_path / "site", "--everything", "--core-metadata", "beside", "--packages-url", "../../files")
    finally:
        site.index.close()
    with plainly_served(tmp_path / "site") as url:
        found = fetch(f"{url}/files/acme/{quote(wheel.name)}.metadata").content
        assert found == core_metadata
        for client in ("pip", "uv"):
            own = replace(desk, project_name=client)
            outcome = INSTALLERS[client](own, Account(url, "any", "any"), "acme")
            assert outcome.succeeded, outcome.output
            assert own.installed() == {"acme": "1.0+local.1", "bolt": "2.0"}


# S3 as a website -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud_shop(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_in_bucket(cloud, tmp_path_factory.mktemp("cloud-shop")) as made:
        yield made


@pytest.fixture(scope="module")
def website(
    cloud: Cloud, cloud_shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Bucket, Bucket]]:
    with s3_website(cloud, cloud_shop, tmp_path_factory.mktemp("website")) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        ("/", 200, HTML),
        ("/simple/", 200, HTML),
        ("/simple", 302, None),
        ("/simple/acme-local/", 200, HTML),
        ("/simple/acme-local", 302, None),
        ("/simple/acme-local/index.json", 200, JSON),
        ("/project/acme-local/", 200, HTML),
        ("/changelog/feed.xml", 200, "application/atom+xml"),
        ("/pypi/acme-local/json", 200, "application/json"),
        ("/pypi/acme-local/1.0%2Blocal.1/json", 200, "application/json"),
        ("/pypi/acme-epoch/1%212.0/json", 200, "application/json"),
        ("/simple/nowhere/", 404, HTML),
        ("/pypi/acme-local/9/json", 404, HTML),
        ("/.elasticpypi/site.json", 403, HTML),
    ],
)
def test_what_an_s3_website_answers(
    website: tuple[str, Bucket, Bucket], path: str, status: int, content_type: str | None
) -> None:
    url, pages, _ = website
    assert "simple/acme-local/index.html" in keys(pages)
    answer = fetch(url + path, accept=PIP)
    assert answer.status_code == status
    if content_type is None:
        assert answer.headers["Location"] == f"{path}/"
    else:
        assert answer.headers["Content-Type"].partition(";")[0] == content_type


def keys(bucket: Bucket) -> set[str]:
    pages = bucket.cloud.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return {found["Key"] for page in pages for found in page.get("Contents", [])}


def test_policies_let_everybody_read_what_is_meant_for_them_and_nothing_else(
    website: tuple[str, Bucket, Bucket],
) -> None:
    _, pages, files = website
    private = {key for key in keys(pages) if not pages.may("s3:GetObject", key)}
    assert private == {key for key in keys(pages) if key.startswith(".elasticpypi/")} != set()
    private = {key for key in keys(files) if not files.may("s3:GetObject", key)}
    assert private == {key for key in keys(files) if key.startswith(".elasticpypi/")} | {
        f"acme-{project}/project.json" for project in ("deprecated", "quarantined", "yanked")
    }
    for name in ("acme-1.0-py3-none-any.whl", "acme-1.0.tar.gz", "acme-1.0.tar.gz.metadata"):
        assert files.may("s3:GetObject", f"acme/{name}")
        assert not files.may("s3:GetObject", f".elasticpypi/uploads/token/{name}")
    assert pages.may("s3:ListBucket")
    assert not files.may("s3:ListBucket")
    for bucket in (pages, files):
        assert not any(bucket.may(f"s3:{action}Object", "simple/index.html") for action in ("Put", "Delete"))


def test_what_is_kept_from_others_is_not_kept_from_us() -> None:
    policy = json.loads((EXAMPLES / "s3-files-policy.json").read_text())["Statement"]
    rights = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    rights += [{key: each[key] for key in each if key != "Principal"} for each in policy if each["Effect"] == "Deny"]
    key = "arn:aws:s3:::acme-pypi-files/.elasticpypi/uploads/token/acme-1.0.tar.gz"
    asking = ({"aws:PrincipalAccount": account} for account in ("123456789012", "210987654321"))
    assert [is_allowed(rights, "s3:GetObject", key, who) for who in asking] == [True, False]


def test_core_metadata_is_announced_and_lies_beside_the_files(
    website: tuple[str, Bucket, Bucket], cloud_shop: Shop
) -> None:
    url, _, _ = website
    page = fetch(f"{url}/simple/acme-local/index.json").json()
    assert len(page["files"]) == 2
    for file in page["files"]:
        body = fetch(f"{file['url']}.metadata").content
        assert body == core_metadata_of(cloud_shop.files / "acme-local" / file["filename"])
        assert file["core-metadata"] == {"sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_clients_install_from_an_s3_website(website: tuple[str, Bucket, Bucket], desk: Desk, client: str) -> None:
    install(desk, client, website[0])


# CloudFront ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def distribution(cloud: Cloud, cloud_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cloudfront(cloud, cloud_shop, tmp_path_factory.mktemp("cloudfront")) as url:
        yield url


@pytest.mark.parametrize("accept", [None, PIP, HTML])
def test_cloudfront_answers_with_the_pages_of_the_dynamic_index(
    cloud_shop: Shop, distribution: str, accept: str | None
) -> None:
    headers = {} if accept is None else {"accept": accept}
    for name in cloud_shop.names():
        answer = fetch(f"{distribution}/simple/{name}/", **headers)
        expected = cloud_shop.site.get(f"/simple/{name}/", **headers)
        assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (
            200,
            expected.headers["Content-Type"],
            expected.data,
        )
        assert "max-age=0" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(("path", "lands"), REDIRECTS)
def test_cloudfront_redirects_names_in_any_spelling(distribution: str, path: str, lands: str) -> None:
    assert follow(distribution + path) == quote(lands)


def test_what_is_missing_is_not_found_behind_cloudfront(distribution: str) -> None:
    for path in ("/simple/nowhere/", "/packages/nowhere/nowhere-1.0.tar.gz", "/.elasticpypi/site.json"):
        assert fetch(distribution + path).status_code == 404


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_clients_install_through_cloudfront(distribution: str, desk: Desk, client: str) -> None:
    install(desk, client, distribution)


def test_cloudfront_asks_for_a_password(cloud: Cloud, cloud_shop: Shop, tmp_path: Path, desk: Desk) -> None:
    (command,) = code_blocks("sh", "## CloudFront")
    digest = run_script(command, tmp_path, {}).strip()
    with cloudfront(cloud, cloud_shop, tmp_path, digests=[digest]) as url:
        for path in ("/simple/", "/nowhere", f"/packages/acme-local/{quote(LOCAL)}"):
            answer = fetch(url + path)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="elasticpypi"')
        outcome = desk.pip("install", "--index-url", Account(url, "reader", "PASSWORD").index_url, "acme-leaf")
        assert outcome.succeeded, outcome.output


def test_all_commands_of_the_page_are_run_here() -> None:
    sections = {"## Building": 1, "## Any web server": 1, "## nginx": 2, "## S3 as a website": 1, "## CloudFront": 1}
    assert {heading: len(code_blocks("sh", heading)) for heading in sections} == sections
    assert PAGE.count("```sh\n") == sum(sections.values())


def test_the_commands_for_building_run_as_they_stand_there(tmp_path: Path, shop: Shop) -> None:
    (tmp_path / "data").symlink_to(shop.site.data)
    (script,) = code_blocks("sh", "## Building")
    run_script(script, tmp_path, {})
    assert "Python packages of Acme" in (tmp_path / "site" / "index.html").read_text()
