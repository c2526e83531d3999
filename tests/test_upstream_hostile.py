"""An upstream that means harm, through the whole application: what it sends, where it leads, and what it costs."""

from __future__ import annotations

import gzip
import json
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pypi_simple import ProjectPage

from elasticpypi.errors import UpstreamError
from elasticpypi.names import parse_filename
from elasticpypi.upstream.fetching import Limits
from tests.dists import make_wheel
from tests.site import JSON, Clock, Outside, Site
from tests.upstreams import (
    ATTACKS,
    HTML,
    METADATA_SERVICE,
    WRONG_BYTES,
    FakeUpstream,
    Request,
    Sent,
    redirect_below,
    render_json,
    running_upstream,
    send,
)

pytestmark = pytest.mark.both_worlds
SECRET = "s3cr3t-of-upstream"
GOOD = "spam-1.0-py3-none-any.whl"
FILE = f"/packages/spam/{GOOD}"
LIMITS = Limits(
    page_seconds=1,
    page_bytes=1_000_000,
    connect_seconds=1,
    idle_seconds=0.5,
    grace_seconds=0.5,
    least_rate=100_000,
    failure_seconds=0,
)
Open = Callable[..., Site]
EVERYWHERE_THE_SAME = pytest.mark.only_in_a_directory("what upstream says is read by what knows of no adapter")


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[FakeUpstream]:
    """An upstream that wants credentials and has one good file."""
    with running_upstream() as running:
        running.credentials = ("ours", SECRET)
        running.add(make_wheel(tmp_path / "upstream", "spam", "1.0"))
        yield running


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[FakeUpstream]:
    """Another host, with a better file, to which nobody should come."""
    with running_upstream() as running:
        running.add(make_wheel(tmp_path / "trap", "spam", "1.0", description="evil"))
        yield running


@pytest.fixture
def open_proxy(site: Site, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture) -> Iterator[Open]:
    """Open an index with the upstream; keyword arguments are configuration. Its credentials are in no log."""
    clock = Clock()
    with ExitStack() as stack:

        def open_it(**changes: Any) -> Site:
            outside = Outside((upstream.configured(**changes),), limits=LIMITS, clock=clock)
            opened = site.reopen(outside=outside)
            stack.callback(opened.index.close)
            return opened

        yield open_it
    assert SECRET not in caplog.text
    assert b64encode(f"ours:{SECRET}".encode()).decode() not in caplog.text


@pytest.fixture
def contacted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses to which this process has connected, or tried to."""
    addresses: list[str] = []
    connect = socket.socket.connect

    def remember(self: socket.socket, address: Any) -> None:
        addresses.append(f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address))
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", remember)
    return addresses


def announce_provenance(upstream: FakeUpstream, url: str | None = None) -> None:
    """Let the good file have its provenance, at a URL (None: beside the file)."""
    path = f"/files/{GOOD}.provenance"
    document = json.dumps({"version": 1, "padding": "x" * 100}).encode()  # which takes a drip some seconds
    upstream.documents[path] = Sent(document, "application/vnd.pypi.integrity.v1+json")
    upstream.projects["spam"].files[0]["provenance"] = url or upstream.base + path


def listed(site: Site, name: str = "spam") -> list[str]:
    return [file["filename"] for file in site.json(f"/simple/{name}/")["files"]]


# Pages ----------------------------------------------------------------------------------------------------------------

DEEP = 100_000
OTHERS_PAGE = {
    "meta": {"api-version": "1.4"},
    "name": "eggs",
    "files": [{"filename": GOOD, "url": f"../../files/{GOOD}", "hashes": {"sha256": "0" * 64}}],
}
NO_PAGES: Mapping[str, tuple[str, bytes]] = {
    "a list": (JSON, b"[]"),
    "null": (JSON, b"null"),
    "an empty object": (JSON, b"{}"),
    "files that are none": (JSON, b'{"meta": {"api-version": "1.0"}, "name": "spam", "files": {"a": 1}}'),
    "numbers for files": (JSON, b'{"meta": {"api-version": "1.0"}, "name": "spam", "files": [1, 2]}'),
    "no files at all": (JSON, b'{"meta": {"api-version": "1.0"}, "name": "spam"}'),
    "deep lists": (JSON, b"[" * DEEP),
    "deep objects": (JSON, b'{"files":' * DEEP),
    "half a character": (JSON, b'{"meta": {"api-version": "1.0"}, "name": "\xff", "files": []}'),
    "another version of everything": (JSON, b'{"meta": {"api-version": "2.0"}, "name": "spam", "files": []}'),
    "the page of another project": (JSON, json.dumps(OTHERS_PAGE).encode()),
    "HTML called JSON": (JSON, b"<!DOCTYPE html><a href=spam-1.0-py3-none-any.whl>spam-1.0-py3-none-any.whl</a>"),
    "JSON called HTML": (HTML, b'{"meta": {"api-version": "1.0"}, "name": "spam", "files": []}'),
    "binary": (HTML, bytes(range(256)) * 100),
    "another version as HTML": (
        HTML,
        b'<meta name="pypi:repository-version" content="2.0"><a href=spam-1.0-py3-none-any.whl>'
        b"spam-1.0-py3-none-any.whl</a>",
    ),
}


@EVERYWHERE_THE_SAME
@pytest.mark.parametrize("page", NO_PAGES)
def test_what_is_no_page_is_no_answer(open_proxy: Open, upstream: FakeUpstream, page: str) -> None:
    content_type, body = NO_PAGES[page]
    upstream.add_page("spam", body, content_type)
    answer = open_proxy().get("/simple/spam/", accept=JSON)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def _explode(upstream: FakeUpstream, request: Request) -> None:
    """Send a good page that is a hundred times as large as it looks."""
    page = render_json(upstream.projects["spam"]) + b" " * 10_000_000
    request.send(Sent(gzip.compress(page, 1), JSON, headers={"Content-Encoding": "gzip"}))


@pytest.mark.parametrize("attack", [*ATTACKS, "a bomb"])
def test_what_would_never_end_or_leads_astray_ends(
    open_proxy: Open, upstream: FakeUpstream, contacted: list[str], attack: str
) -> None:
    site = open_proxy()
    contacted.clear()
    with upstream.behaving(_explode if attack == "a bomb" else attack):
        answer = site.get("/simple/spam/", accept=JSON)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert SECRET not in answer.text
    assert len(upstream.take()) <= 6  # the first one and five redirects
    assert not [address for address in contacted if address.startswith("169.254.")]


@pytest.mark.parametrize("is_allowed", [False, True])
def test_credentials_and_requests_stay_with_the_hosts_that_are_configured(
    open_proxy: Open, upstream: FakeUpstream, trap: FakeUpstream, is_allowed: bool
) -> None:
    site = open_proxy(hosts=(trap.netloc,) if is_allowed else ())
    with upstream.behaving(redirect_below(trap.base)):
        answer = site.get("/simple/spam/", accept=JSON)
    assert answer.status_code == (200 if is_allowed else 503)
    assert trap.paths() == (["/simple/spam/"] if is_allowed else [])
    assert all("authorization" not in asked.headers for asked in trap.take())


# What pages say -------------------------------------------------------------------------------------------------------

SCRIPT = '"><script>alert(1)</script>'
BAD = "spam-2.0-py3-none-any.whl"
# What is said of a second file (NETLOC: of the upstream) -> whether it is a file of the project for all that.
ENTRIES: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "a file of another project": ({"filename": "eggs-2.0-py3-none-any.whl"}, False),
    "a path out of here": ({"filename": f"../../{BAD}"}, False),
    "a path": ({"filename": f"spam/{BAD}"}, False),
    "a line break": ({"filename": f"{BAD}\n"}, False),
    "a zero": ({"filename": f"{BAD}\0"}, False),
    "letters from right to left": ({"filename": f"spam-2.0-py3-none-any.whl\u202e{SCRIPT}"}, False),
    "a script for a name": ({"filename": f"{SCRIPT}.whl"}, False),
    "no name": ({"filename": None}, False),
    "a script for a URL": ({"url": "javascript:alert(1)//.whl"}, False),
    "a file here": ({"url": "file:///etc/passwd"}, False),
    "data": ({"url": "data:application/zip;base64,UEsFBg=="}, False),
    "another protocol": ({"url": f"ftp://127.0.0.1/{BAD}"}, False),
    "no URL": ({"url": None}, False),
    "credentials in the URL": ({"url": f"http://user:{SECRET}@NETLOC/files/{BAD}"}, False),
    "half an address": ({"url": f"http://[::1/{BAD}"}, False),
    "another host": ({"url": f"http://files.example.org/{BAD}"}, False),
    "another host, the short way": ({"url": f"//files.example.org/{BAD}"}, False),
    "the metadata service": ({"url": f"{METADATA_SERVICE}{BAD}"}, False),
    "a digest that is none": ({"hashes": {"sha256": "zz"}}, False),
    "a path for a digest": ({"hashes": {"sha256": "../" * 21 + "x"}}, False),
    "another digest": ({"hashes": {"md5": "0" * 32}}, False),
    "no digest": ({"hashes": {}}, False),
    "a script for a Python": ({"requires-python": f">=3{SCRIPT}"}, True),
    "a script for a reason": ({"yanked": SCRIPT}, True),
    "a script for a time": ({"upload-time": SCRIPT}, False),
    "a negative size": ({"size": -1}, True),
    "a script for provenance": ({"provenance": "javascript:alert(1)"}, True),
    "a script for the digest of core metadata": ({"core-metadata": {"sha256": SCRIPT}}, True),
}


@EVERYWHERE_THE_SAME
@pytest.mark.parametrize("entry", ENTRIES)
def test_what_a_page_says_of_a_file_is_not_believed(
    open_proxy: Open, upstream: FakeUpstream, tmp_path: Path, entry: str
) -> None:
    written, is_file = ENTRIES[entry]
    says = json.loads(json.dumps(written).replace("NETLOC", upstream.netloc))
    upstream.add(make_wheel(tmp_path, "spam", "2.0"), says=says)
    upstream.forms = (JSON,)
    site = open_proxy()
    assert listed(site) == ([GOOD, BAD] if is_file else [GOOD])
    check_pages(site, upstream)


@pytest.mark.parametrize("changes", [{}, {"keep": True}, {"username": None, "password": None}])
def test_others_can_read_a_page_with_provenance(
    open_proxy: Open, upstream: FakeUpstream, changes: Mapping[str, Any]
) -> None:
    announce_provenance(upstream)
    upstream.credentials = None if "username" in changes else upstream.credentials
    check_pages(open_proxy(**changes), upstream)


def check_pages(site: Site, upstream: FakeUpstream) -> None:
    """Look at all forms of a page: other programs can read them, and nothing on them runs."""
    document = site.json("/simple/spam/")
    page = ProjectPage.from_json_data(document)
    for package in page.packages:
        assert parse_filename(package.filename).project == "spam"
        assert package.url.startswith(("../../packages/spam/", upstream.base))
        assert all(len(digest) == 64 for digest in package.digests.values())
    html = site.get("/simple/spam/", accept="text/html")
    for text in (html.text, site.get("/project/spam/", accept="text/html").text):
        assert "<script>alert" not in text
        assert "javascript:" not in text
        assert SECRET not in text
    for theirs, ours in zip(ProjectPage.from_html("spam", html.text).packages, page.packages, strict=True):
        assert (theirs.filename, theirs.url.partition("#")[0]) == (ours.filename, ours.url)
        assert (theirs.requires_python, theirs.yanked_reason) == (ours.requires_python, ours.yanked_reason)


LINK = '<a href="../../files/spam-1.0-py3-none-any.whl#sha256={sha256}">spam-1.0-py3-none-any.whl</a>'
# What stands around a good link.
AROUND = {
    "scripts": "<script>alert(1)</script>{link}<script>document.write('<a href=x>spam-3.0.zip</a>')</script>",
    "a comment": "<!-- <a href=/files/eggs-1.0.zip>spam-3.0.zip</a> -->{link}",
    "attributes with quotes": """{link}<a title='">' href='javascript:alert("1")'>spam-3.0.zip</a>""",
    "a link within a link": "{link}<a href=javascript:alert(1)><a href=/x onclick='alert(1)'>spam-3.0.zip#</a></a>",
    "no end": "{link}<table><tr><td><a href='spam",
    "an entity": "{link}<a href='&#106;avascript:alert(1)'>spam-3.0.zip</a>",
}


@EVERYWHERE_THE_SAME
@pytest.mark.parametrize("around", AROUND)
def test_html_is_read_for_its_links_alone(open_proxy: Open, upstream: FakeUpstream, around: str) -> None:
    (entry,) = upstream.projects["spam"].files
    upstream.add_page("spam", AROUND[around].format(link=LINK.format(sha256=entry["hashes"]["sha256"])))
    site = open_proxy()
    assert listed(site) == [GOOD]
    check_pages(site, upstream)


def test_a_base_leads_nowhere_else(open_proxy: Open, upstream: FakeUpstream, trap: FakeUpstream) -> None:
    (entry,) = upstream.projects["spam"].files
    link = LINK.format(sha256=entry["hashes"]["sha256"])
    upstream.add_page("spam", f'<html><head><base href="{trap.url}spam/"></head><body>{link}</body></html>')
    site = open_proxy()
    assert site.get("/simple/spam/", accept=JSON).status_code in (404, 503)
    assert site.get(FILE).status_code in (403, 404, 503)
    assert trap.take() == []


def test_a_script_for_a_status_is_none(open_proxy: Open, upstream: FakeUpstream) -> None:
    upstream.project("spam").status = {"status": "deprecated", "reason": SCRIPT}
    site = open_proxy()
    assert site.json("/simple/spam/")["project-status"] == {"status": "deprecated", "reason": SCRIPT}
    check_pages(site, upstream)


@pytest.mark.parametrize("form", [JSON, HTML])
def test_one_project_goes_by_all_spellings_of_its_name_and_no_other(
    open_proxy: Open, upstream: FakeUpstream, tmp_path: Path, form: str
) -> None:
    upstream.forms = (form,)
    upstream.add(make_wheel(tmp_path, "Foo.Bar", "1.0"), under="foo-bar")
    upstream.add(make_wheel(tmp_path, "foobar", "2.0"), under="foo-bar")
    upstream.add(make_wheel(tmp_path, "foo", "3.0"), under="foo-bar")
    upstream.project("foo-bar").name = "Foo_Bar"
    site = open_proxy()
    assert listed(site, "foo-bar") == ["foo_bar-1.0-py3-none-any.whl"]
    assert site.get("/packages/foo-bar/foobar-2.0-py3-none-any.whl").status_code == 404
    assert site.get("/simple/Foo_Bar/").headers["Location"] == "../foo-bar/"
    assert upstream.paths("/simple/") == ["/simple/foo-bar/"]


HEADERS: Mapping[str, Mapping[str, str]] = {
    "an age that is none": {"Cache-Control": "max-age=soon"},
    "an age without end": {"Cache-Control": "max-age=" + "9" * 100},
    "a negative age": {"Cache-Control": "max-age=-1"},
    "a long tag": {"ETag": '"' + "x" * 10_000 + '"'},
    "a tag without quotes": {"ETag": "x y"},
    "a tag of other letters": {"ETag": '"\xfc\xff"'},
    "a time that is none": {"Last-Modified": "soon; \xff"},
    "a type with nonsense": {"Content-Type": f"{JSON}; charset=utf-7; q=\xff"},
}


@EVERYWHERE_THE_SAME
@pytest.mark.parametrize("headers", HEADERS)
def test_headers_are_not_believed_either(site: Site, upstream: FakeUpstream, headers: str) -> None:
    upstream.forms, upstream.has_etags = (JSON,), False
    upstream.page_headers = dict(HEADERS[headers])
    clock = Clock()
    opened = site.reopen(outside=Outside((upstream.configured(),), limits=LIMITS, clock=clock))
    for _ in range(3):
        assert opened.get("/simple/spam/", accept=JSON).status_code in (200, 503)
        clock.turn(seconds=601)  # whatever was said, it is asked for again by now
    assert len(upstream.paths("/simple/")) == 3
    opened.index.close()


def test_a_page_that_was_never_sent_is_not_unchanged(open_proxy: Open, upstream: FakeUpstream) -> None:
    site = open_proxy()
    with upstream.behaving(send(304)):
        assert site.get("/simple/spam/", accept=JSON).status_code == 503


# Files ----------------------------------------------------------------------------------------------------------------


def get_whole(site: Site, path: str = FILE) -> bytes | None:
    """Return what a client takes for a whole file; None where it is told, or can see, that it is none.

    It asks twice where it is told to: on AWS, a file may have to be copied first.
    """
    try:
        answer = site.get(path)
        if answer.status_code == 503:
            answer = site.get(path)
    except UpstreamError:  # the server ends the connection
        return None
    if answer.status_code == 302:
        return site.download(path)
    announced = answer.headers.get("Content-Length")
    is_whole = answer.status_code == 200 and announced in (None, str(len(answer.data)))
    return answer.data if is_whole else None


def kept_keys(site: Site) -> list[str]:
    return sorted(key for key in site.place.list_keys() if key.startswith(".elasticpypi/upstream/"))


@pytest.mark.parametrize("size", ["said", "not said"])
@pytest.mark.parametrize("wrong", WRONG_BYTES)
@pytest.mark.parametrize("keep", [False, True])
def test_nobody_gets_the_whole_of_a_wrong_file(
    open_proxy: Open, upstream: FakeUpstream, wrong: str, keep: bool, size: str
) -> None:
    (entry,) = upstream.projects["spam"].files
    good = upstream.documents[f"/files/{GOOD}"].body
    if size == "not said":
        del entry["size"]
    site = open_proxy(keep=keep)
    with upstream.behaving(wrong, at=f"/files/{GOOD}"):
        assert get_whole(site) is None
        assert GOOD not in [key.rpartition("/")[2] for key in kept_keys(site)]
    assert get_whole(site) == good  # and nothing of it has stayed


@pytest.mark.parametrize("size", ["said", "not said"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_would_never_end_or_leads_astray_ends(
    open_proxy: Open,
    upstream: FakeUpstream,
    contacted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    attack: str,
    size: str,
) -> None:
    monkeypatch.setattr("elasticpypi.upstream.transfers._MOST_FILE_BYTES", 10_000_000)  # sixteen gigabytes take a while
    if size == "not said":
        del upstream.projects["spam"].files[0]["size"]
    site = open_proxy()
    assert listed(site) == [GOOD]
    contacted.clear()
    with upstream.behaving(attack):
        assert get_whole(site) is None
    assert not [address for address in contacted if address.startswith("169.254.")]


@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.parametrize("path", [FILE, f"{FILE}.metadata", f"{FILE}.provenance"])
def test_what_leads_to_another_host_goes_there_without_credentials_or_not_at_all(
    open_proxy: Open, upstream: FakeUpstream, trap: FakeUpstream, path: str, is_allowed: bool
) -> None:
    announce_provenance(upstream)
    beside = path.replace("/packages/spam/", "/files/")
    trap.documents[beside] = upstream.documents[beside]
    site = open_proxy(hosts=(trap.netloc,) if is_allowed else ())
    assert listed(site) == [GOOD]
    with upstream.behaving(redirect_below(trap.base), at="/files/"):
        got = get_whole(site, path)
    assert got == (upstream.documents[beside].body if is_allowed else None)
    assert set(trap.paths()) == ({beside} if is_allowed else set())
    assert all("authorization" not in asked.headers for asked in trap.take())


@pytest.mark.parametrize("document", ["metadata", "provenance"])
@pytest.mark.parametrize(
    "behaviour", ["endless", "a slow drip", "a stop half-way", "a redirect to the metadata service", "500"]
)
def test_what_lies_beside_a_file_is_bounded_as_well(
    open_proxy: Open, upstream: FakeUpstream, contacted: list[str], document: str, behaviour: str
) -> None:
    announce_provenance(upstream)
    site = open_proxy()
    assert listed(site) == [GOOD]
    contacted.clear()
    with upstream.behaving(behaviour, at="/files/"):
        answer = site.get(f"{FILE}.{document}")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert not [address for address in contacted if address.startswith("169.254.")]


@pytest.mark.parametrize("behaviour", [*WRONG_BYTES, "404"])
def test_core_metadata_that_was_not_announced_is_none(open_proxy: Open, upstream: FakeUpstream, behaviour: str) -> None:
    site = open_proxy(keep=True)
    with upstream.behaving(behaviour, at=f"/files/{GOOD}.metadata"):
        assert site.get(f"{FILE}.metadata").status_code == 503
    assert site.get(f"{FILE}.metadata").data == upstream.documents[f"/files/{GOOD}.metadata"].body


def test_provenance_elsewhere_is_not_got(open_proxy: Open, upstream: FakeUpstream, trap: FakeUpstream) -> None:
    announce_provenance(upstream, f"{trap.base}/files/{GOOD}.provenance")
    site = open_proxy()
    assert get_whole(site, f"{FILE}.provenance") is None
    assert trap.take() == []
