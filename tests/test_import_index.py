"""Other indexes by URL: HTML and JSON, with what they say, and with all that can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import pytest
import requests

from elasticpypi.errors import SourceError
from elasticpypi.importing import SourceFile, SourceProject
from elasticpypi.importing.remote import open_session
from elasticpypi.importing.run import Report
from elasticpypi.importing.simple_index import SimpleIndex
from elasticpypi.model import Origin, Status
from elasticpypi.names import NormalizedName
from tests.dists import make_sdist, make_wheel
from tests.moving import Answer, Web, bring_in, serving_answers
from tests.running import RunningServer, bare_environment, free_port, wait_for
from tests.site import Site, open_site

ACME = NormalizedName("acme")
WHEEL = "acme-1.0-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html; charset=utf-8"
PYPISERVER = Path(__file__).parent.parent / ".peers" / "bin" / "pypi-server"


@pytest.fixture(params=["html", "json"])
def form(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has: no proxy, and nobody's own netrc."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def web() -> Iterator[Web]:
    """A server whose answers the test gives."""
    with serving_answers() as serving:
        yield serving


def index_of(web: Web, *names: str, url: str | None = None) -> SimpleIndex:
    return SimpleIndex(url or f"{web.url}/simple/", tuple(map(NormalizedName, names)), backoff_seconds=0)


def file_of(path: Path, **fields: Any) -> dict[str, Any]:
    """Return what a page says of a file, in the words of the JSON form."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"filename": path.name, "url": f"../../files/{path.name}", "hashes": {"sha256": digest}, **fields}


def page_of(form: str, *files: dict[str, Any], status: dict[str, str] | None = None) -> Answer:
    """Return a project's page in one of the two forms."""
    if form == "json":
        document = {"meta": {"api-version": "1.4"}, "name": "acme", "files": files, "project-status": status or {}}
        return Answer(json.dumps(document).encode(), JSON)
    metas = "".join(
        f'<meta name="pypi:project-{name}" content="{escape(value)}">'
        for name, value in {
            "status": (status or {}).get("status"),
            "status-reason": (status or {}).get("reason"),
        }.items()
        if value
    )
    return Answer(f"<html><head>{metas}</head><body>{''.join(map(_link, files))}</body></html>".encode(), HTML)


def _link(file: dict[str, Any]) -> str:
    yanked = file.get("yanked", False)
    attribute = "" if yanked is False else f' data-yanked="{escape("" if yanked is True else yanked)}"'
    fragment = "".join(f"#{name}={digest}" for name, digest in file["hashes"].items())
    return f'<a href="{file["url"]}{fragment}"{attribute}>{file["filename"]}</a>'


def root_of(form: str, *names: str) -> Answer:
    if form == "json":
        projects = [{"name": name} for name in names]
        return Answer(json.dumps({"meta": {"api-version": "1.0"}, "projects": projects}).encode(), JSON)
    return Answer("".join(f'<a href="{name}/">{name}</a>' for name in names).encode(), HTML)


def serve(web: Web, *paths: Path) -> None:
    for path in paths:
        web.put(f"/files/{path.name}", Answer(path.read_bytes()))


# What pages say --------------------------------------------------------------------------------------------------


def test_all_projects_come_in_with_what_their_pages_say(form: str, web: Web, site: Site, tmp_path: Path) -> None:
    first, second, tool = make_wheel(tmp_path), make_wheel(tmp_path, version="2.0"), make_sdist(tmp_path, "My.Tool")
    serve(web, first, second, tool)
    web.put("/simple/", root_of(form, "My.Tool", "acme", "../"))
    files = (file_of(first, yanked="broken & bad"), file_of(second, yanked=True))
    web.put("/simple/acme/", page_of(form, *files, status={"status": "archived", "reason": "use tool"}))
    web.put("/simple/my-tool/", page_of(form, file_of(tool)))
    report = bring_in(site.index, index_of(web))
    assert report == Report(
        imported=[first.name, second.name, tool.name],
        yanked=[first.name, second.name],
        statuses={"acme": "archived"},
        skipped={"../": report.skipped["../"]},
    )
    page = site.json("/simple/acme/")
    assert {file["filename"]: file["yanked"] for file in page["files"]} == {
        first.name: "broken & bad",
        second.name: True,
    }
    assert page["project-status"] == {"status": "archived", "reason": "use tool"}
    web.asked.clear()
    repeated = bring_in(site.index, index_of(web))
    assert (repeated.unchanged, repeated.imported, repeated.failed) == ([first.name, second.name, tool.name], [], {})
    assert web.paths == ["/simple/", "/simple/acme/", "/simple/my-tool/"]


def test_a_page_is_read_field_by_field(web: Web, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    full = file_of(wheel, **{"size": 123, "upload-time": "2020-01-02T03:04:05", "yanked": "broken"})  # without a zone
    bare = file_of(wheel, hashes={})
    web.put("/simple/", root_of("json", "tool", "Acme"))
    web.put("/simple/acme/", page_of("json", full, bare, status={"status": "deprecated", "reason": "use tool"}))
    listed, acme, tool = index_of(web).projects()
    file = acme.files[0]
    time = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert acme.files == (
        SourceFile(WHEEL, file.content, full["hashes"], 123, time, "broken"),
        SourceFile(WHEEL, acme.files[1].content, {}),
    )
    assert file.content.url == f"{web.url}/files/{WHEEL}"  # type: ignore[attr-defined]  # a RemoteContent
    assert replace(acme, files=()) == SourceProject((), ACME, Status.DEPRECATED, "use tool", remaining=1)
    assert (listed, tool) == (
        SourceProject((), remaining=2),
        SourceProject((), failed={"tool": f"{web.url}/simple/ has no project of this name"}),
    )


def test_only_the_projects_that_are_named_come_in(form: str, web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    serve(web, wheel)
    web.put("/simple/acme/", page_of(form, file_of(wheel)))
    report = bring_in(site.index, index_of(web, "acme", "gone"))
    assert report == Report(imported=[WHEEL], failed={"gone": f"{web.url}/simple/ has no project of this name"})
    assert web.paths == ["/simple/acme/", f"/files/{WHEEL}", "/simple/gone/"]


def test_an_upload_time_is_kept_as_a_claim(web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    serve(web, wheel)
    file = file_of(wheel, **{"upload-time": "2020-01-02T03:04:05.5Z", "size": wheel.stat().st_size})
    web.put("/simple/acme/", page_of("json", file))
    bring_in(site.index, index_of(web, "acme"))
    claimed = datetime(2020, 1, 2, 3, 4, 5, 500000, UTC)
    assert site.index.origins(ACME) == {WHEEL: Origin(file["hashes"]["sha256"], claimed, web.url)}
    assert site.json("/simple/acme/")["files"][0]["upload-time"] > "2026"


def test_wrong_digests_are_found_in_both_forms(form: str, web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    serve(web, wheel)
    web.put("/simple/acme/", page_of(form, file_of(wheel, hashes={"sha256": "0" * 64})))
    report = bring_in(site.index, index_of(web, "acme"))
    assert (report.imported, list(report.failed)) == ([], [WHEEL])
    assert "but the source says 000" in report.failed[WHEEL]
    assert site.json("/simple/")["projects"] == []


def test_a_directory_listing_that_shortens_names_is_read_by_its_links(web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, version="1.0+local")
    web.put("/simple/acme/acme-1.0%2Blocal-py3-none-any.whl", Answer(wheel.read_bytes()))
    web.put("/simple/", Answer(b'<a href="../">../</a><a href="acme/">acme/</a>', HTML))
    links = '<a href="../">..</a><a href="acme-1.0%2Blocal-py3-none-any.whl">acme-1.0+local-p..&gt;</a>'
    web.put("/simple/acme/", Answer(links.encode(), HTML))
    report = bring_in(site.index, index_of(web))
    assert (report.imported, list(report.skipped), report.failed) == ([wheel.name], ["../", ".."], {})


def test_a_newer_minor_version_of_the_api_is_read(web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    serve(web, wheel)
    document = {"meta": {"api-version": "1.99"}, "name": "acme", "files": [file_of(wheel)], "more": 1}
    web.put("/simple/acme/", Answer(json.dumps(document).encode(), JSON))
    assert bring_in(site.index, index_of(web, "acme")) == Report(imported=[WHEEL])


# What goes wrong on the way --------------------------------------------------------------------------------------


NO_PAGE = "is no page of the simple API"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(b"{}", JSON), NO_PAGE),
        (Answer(b"{", JSON), NO_PAGE),
        (Answer(b'{"meta": {"api-version": "2.0"}, "name": "acme", "files": []}', JSON), NO_PAGE),
        (Answer(b"acme", "text/plain"), NO_PAGE),
        (Answer(status=500), "answers 500; try again later"),
        (Answer(status=401), "answers 401: put the right credentials into the URL"),
        (Answer(status=302, headers={"Location": "/simple/aaaa/"}), "redirects again and again"),
    ],
)
def test_a_page_that_cannot_be_read_does_not_stop_the_others(
    answer: Answer, words: str, web: Web, site: Site, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path)
    serve(web, wheel)
    web.put("/simple/acme/", page_of("json", file_of(wheel)))
    web.put("/simple/aaaa/", answer)
    report = bring_in(site.index, index_of(web, "aaaa", "acme"))
    assert (report.imported, list(report.failed)) == ([WHEEL], ["aaaa"])
    assert web.url in report.failed["aaaa"]
    assert words in report.failed["aaaa"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "answers 404"), (403, "answers 403: put the right credentials into the URL"), (503, "try again later")],
)
def test_a_file_that_is_not_to_be_had_does_not_stop_the_others(
    status: int, words: str, web: Web, site: Site, tmp_path: Path
) -> None:
    gone, wheel = make_sdist(tmp_path), make_wheel(tmp_path)
    serve(web, wheel)
    web.put(f"/files/{gone.name}", Answer(b"sorry", status=status))
    web.put("/simple/acme/", page_of("json", file_of(gone), file_of(wheel)))
    report = bring_in(site.index, index_of(web, "acme"))
    assert (report.imported, list(report.failed)) == ([WHEEL], [gone.name])
    assert words in report.failed[gone.name]


def test_a_page_brings_in_files_of_its_own_project_only(form: str, web: Web, site: Site, tmp_path: Path) -> None:
    secret = make_wheel(tmp_path, "secret")
    serve(web, secret)
    web.put("/simple/acme/", page_of(form, file_of(secret)))
    assert list(bring_in(site.index, index_of(web, "acme")).failed) == [secret.name]
    assert site.json("/simple/")["projects"] == []


@pytest.mark.parametrize("answer", [Answer(b"<html>hello</html>", HTML), Answer(status=404), Answer(b"", "image/png")])
def test_what_is_no_index_is_said_to_be_none(answer: Answer, web: Web, site: Site) -> None:
    web.put("/simple/", answer)
    with pytest.raises(SourceError, match=web.url):
        bring_in(site.index, index_of(web))


def test_an_index_that_is_not_there_is_said_to_be_so(site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}/simple/"
    with pytest.raises(SourceError, match="cannot be reached"):
        bring_in(site.index, SimpleIndex(url, backoff_seconds=0))


def test_an_index_that_is_overloaded_is_asked_again(web: Web, site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    busy = Answer(status=503, headers={"Retry-After": "0"})
    web.put("/simple/acme/", busy, busy, page_of("json", file_of(wheel)))
    web.put(f"/files/{WHEEL}", Answer(status=500), Answer(wheel.read_bytes()))
    assert bring_in(site.index, index_of(web, "acme")) == Report(imported=[WHEEL])


@pytest.mark.parametrize(("broken", "comes_in"), [(2, True), (3, False)])
def test_a_download_that_breaks_off_begins_anew(
    broken: int, comes_in: bool, web: Web, site: Site, tmp_path: Path
) -> None:
    data = make_wheel(tmp_path).read_bytes()
    web.put("/simple/acme/", page_of("json", file_of(tmp_path / WHEEL)))
    web.put(f"/files/{WHEEL}", *[Answer(data[:-10], missing=10)] * broken, Answer(data))
    report = bring_in(site.index, index_of(web, "acme"))
    said = f"the download from {web.url} broke off; import again"
    assert report == (Report(imported=[WHEEL]) if comes_in else Report(failed={WHEEL: said}))


def test_bytes_are_taken_as_they_lie_there(web: Web, site: Site, tmp_path: Path) -> None:
    """A web server may say of an sdist that it is a gzip-encoded tar, which a client then unpacks."""
    sdist = make_sdist(tmp_path)
    web.put("/simple/acme/", page_of("json", file_of(sdist)))
    web.put(
        f"/files/{sdist.name}", Answer(sdist.read_bytes(), "application/x-tar", headers={"Content-Encoding": "gzip"})
    )
    assert bring_in(site.index, index_of(web, "acme")) == Report(imported=[sdist.name])
    assert web.encodings[f"/files/{sdist.name}"] == "identity"


@pytest.mark.parametrize("url", ["file:///etc/acme-1.0.tar.gz", "http://[/acme-1.0.tar.gz", "ftp://127.0.0.1/a-1.zip"])
def test_files_are_fetched_over_http_and_from_nowhere_else(url: str, web: Web, site: Site, tmp_path: Path) -> None:
    wheel, odd = make_wheel(tmp_path), make_sdist(tmp_path)
    serve(web, wheel)
    web.put("/simple/acme/", page_of("json", file_of(odd, url=url), file_of(wheel)))
    report = bring_in(site.index, index_of(web, "acme"))
    assert odd.name not in report.imported
    assert report.failed


# Credentials -----------------------------------------------------------------------------------------------------


def test_credentials_go_to_their_own_host_and_to_no_other(web: Web, site: Site, tmp_path: Path) -> None:
    first, second, third = (make_wheel(tmp_path, version=f"{version}.0") for version in (1, 2, 3))
    serve(web, first, third)
    with serving_answers() as other:
        serve(other, second, third)
        elsewhere = file_of(second, url=f"{other.url}/files/{second.name}")
        redirected = file_of(third, url="../../moved")
        web.put("/moved", Answer(status=302, headers={"Location": f"{other.url}/files/{third.name}"}))
        web.put("/simple/acme/", page_of("json", file_of(first), elsewhere, redirected))
        url = f"{web.url}/simple/".replace("//", "//alice%40home:w%C3%B6nder@", 1)
        source = index_of(web, "acme", url=url)
        assert source.name == web.url
        assert len(bring_in(site.index, source).imported) == 3
        basic = "Basic YWxpY2VAaG9tZTp3w7ZuZGVy"
        assert web.asked == [("/simple/acme/", basic), (f"/files/{first.name}", basic), ("/moved", basic)]
        assert other.asked == [(f"/files/{second.name}", None), (f"/files/{third.name}", None)]


@pytest.mark.parametrize(
    ("url", "is_sent"),
    [
        ("https://example.com/files/", True),
        ("https://example.com:443/files/", True),
        ("https://EXAMPLE.com/files/", True),
        ("http://example.com/files/", False),
        ("https://example.com:444/files/", False),
        ("https://files.example.com/", False),
    ],
)
def test_a_host_is_one_scheme_name_and_port(url: str, is_sent: bool) -> None:
    with open_session("https://alice:wonder@example.com/simple/") as session:
        request = session.prepare_request(requests.Request("GET", url))
    assert ("Authorization" in request.headers) is is_sent


def test_credentials_of_a_netrc_count_where_the_url_has_none(web: Web, site: Site, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password wonder\n")
    (tmp_path / "netrc").chmod(0o600)
    web.put("/simple/acme/", page_of("json"))
    bring_in(site.index, index_of(web, "acme"))
    assert web.asked == [("/simple/acme/", "Basic YWxpY2U6d29uZGVy")]


# Real indexes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Site]:
    """An index beside that of a server."""
    opened = open_site(tmp_path / "target")
    yield opened
    opened.index.close()


def test_an_index_of_ours_comes_in_whole(server: RunningServer, target: Site, tmp_path: Path) -> None:
    files = [
        make_wheel(tmp_path),
        make_sdist(tmp_path),
        make_wheel(tmp_path, version="2.0"),
        make_wheel(tmp_path, "tool"),
    ]
    for path in files:
        assert server.upload(path).status_code == 200
    decisions = {"status": "deprecated", "status-reason": "use tool", "yanked": {"2.0": "broken"}}
    (server.files / "acme" / "project.json").write_text(json.dumps(decisions))

    def theirs(project: str) -> Any:
        return server.fetch(f"/simple/{project}/").json()

    wait_for(lambda: theirs("acme"), lambda page: page["project-status"]["status"] == "deprecated")
    report = bring_in(target.index, SimpleIndex(server.index_url))
    assert (sorted(report.imported), report.failed, report.skipped) == (sorted(path.name for path in files), {}, {})
    assert (report.yanked, report.statuses) == ([files[2].name], {"acme": "deprecated"})
    for project in ("acme", "tool"):
        ours, times = target.json(f"/simple/{project}/"), {}
        for page in (ours, source := theirs(project)):
            del page["meta"]["_last-serial"]
            times = {file["filename"]: file.pop("upload-time") for file in page["files"]}
        assert ours == source
        origins = target.index.origins(NormalizedName(project))
        claimed = {name: origin.upload_time for name, origin in origins.items()}
        assert claimed == {name: datetime.fromisoformat(time) for name, time in times.items()}
        assert {origin.source for origin in origins.values()} == {server.url}
    assert len(bring_in(target.index, SimpleIndex(server.index_url)).unchanged) == 4


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "off"])
def test_a_running_pypiserver_comes_in(algorithm: str, target: Site, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    files = [make_wheel(packages), make_sdist(packages, "My.Tool", "2.0"), make_wheel(packages, version="1.0+local")]
    port = free_port()
    options = ["-i", "127.0.0.1", "-p", str(port), "--hash-algo", algorithm, "--disable-fallback"]
    environment = bare_environment(tmp_path / "home")
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([PYPISERVER, "run", *options, packages], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/simple/"
            wait_for(lambda: _answers(url))
            names = sorted(path.name for path in files)
            report = bring_in(target.index, SimpleIndex(url))
            assert (sorted(report.imported), report.failed) == (names, {})
            report = bring_in(target.index, SimpleIndex(url))
            assert (sorted(report.unchanged), report.imported, report.failed) == (names, [], {})
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=30).ok
    except requests.ConnectionError:
        return False
