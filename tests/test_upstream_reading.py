"""What is read of upstreams' pages, in both forms, and what is not believed."""

from __future__ import annotations

import html
import itertools
import json
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.upstream import forms, reading
from elasticpypi.upstream.model import UpstreamFile, UpstreamPage
from elasticpypi.upstream.reading import read_page
from tests.examples import examples
from tests.running import PATIENCE_SECONDS

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
SPAM = NormalizedName("spam")
URL = "https://pypi.example.org/simple/spam/"
FILES = "https://files.example.org/packages/"
WHEEL = "spam-1.0-py3-none-any.whl"
NO_PAGE = "is no page of the simple API: "
SHA256 = "0123456789abcdef" * 4
MIB = 1024 * 1024
LONG_AGO = datetime(2020, 2, 20, 20, 20, 20, 202020, UTC)
Render = Callable[..., UpstreamPage]


def entry(filename: str = WHEEL, **says: Any) -> dict[str, Any]:
    """Return a file as a page says it in JSON; keyword arguments are its keys, `requires_python` for requires-python.

    With None a key is not there.
    """
    named = {key.replace("_", "-"): value for key, value in says.items()}
    fields = {"filename": filename, "url": f"{FILES}{filename}", "hashes": {"sha256": SHA256}} | named
    return {key: value for key, value in fields.items() if value is not None}


def json_page(*entries: Any, **says: Any) -> bytes:
    fields = {key.replace("_", "-"): value for key, value in says.items()}
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "spam", "files": entries} | fields).encode()


def html_page(*entries: Mapping[str, Any], head: str = "") -> bytes:
    links = "<br>\n".join(map(html_link, entries))
    return f"<!DOCTYPE html><html><head>{head}</head><body>{links}</body></html>".encode(errors="replace")


def html_link(says: Mapping[str, Any]) -> str:
    attributes = {
        f"data-{key}": "=".join(*value.items()) if isinstance(value, dict) else "true" if value is True else value
        for key, value in says.items()
        if key not in ("filename", "url", "hashes", "yanked", "size", "upload-time") and value not in (None, False)
    }
    if says.get("yanked", False) is not False:
        attributes["data-yanked"] = "" if says["yanked"] is True else says["yanked"]
    digest = next((f"#{algorithm}={digest}" for algorithm, digest in says["hashes"].items()), "")
    written = "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())
    return f'<a href="{html.escape(says["url"])}{digest}"{written}>{html.escape(says["filename"])}</a>'


def read(body: bytes, content_type: str = JSON, *, name: str = SPAM, url: str = URL) -> UpstreamPage:
    return read_page(NormalizedName(name), body, content_type=content_type, url=url)


@pytest.fixture(params=["html", "json"])
def page_of(request: pytest.FixtureRequest) -> Render:
    """Return what reads a page of files, in one form or the other."""

    def page_of(*entries: dict[str, Any], name: str = SPAM, url: str = URL) -> UpstreamPage:
        if request.param == "json":
            return read(json_page(*entries, name=name), name=name, url=url)
        return read(html_page(*entries), HTML, name=name, url=url)

    return page_of


def one(page: UpstreamPage) -> UpstreamFile:
    (file,) = page.files
    return file


# What pages say -------------------------------------------------------------------------------------------------------


def test_all_that_both_forms_say_is_read(page_of: Render) -> None:
    says = entry(
        requires_python=">=3.8,<4",
        yanked="broken & <sad>",
        core_metadata={"sha256": "ab" * 32},
        provenance="https://pypi.example.org/integrity/spam/provenance",
    )
    assert page_of(says) == UpstreamPage(
        (
            UpstreamFile(
                filename=WHEEL,
                url=f"{FILES}{WHEEL}",
                version="1.0",
                hashes={"sha256": SHA256},
                requires_python=">=3.8,<4",
                yanked="broken & <sad>",
                core_metadata={"sha256": "ab" * 32},
                provenance="https://pypi.example.org/integrity/spam/provenance",
            ),
        )
    )


def test_files_come_by_version_then_filename(page_of: Render) -> None:
    ordered = ["spam-1.0rc1.zip", "spam-1-py3-none-any.whl", "spam-1.0.tar.gz", "spam-1.9.zip", "spam-1.10.zip"]
    files = page_of(*(entry(filename) for filename in sorted(ordered, key=len))).files
    assert [file.filename for file in files] == ordered
    assert [file.version for file in files] == ["1.0rc1", "1", "1.0", "1.9", "1.10"]


@pytest.mark.parametrize("name", ["Foo.Bar", "foo_bar", "FOO--BAR", "foo-bar"])
def test_a_project_goes_by_all_spellings_of_its_name(name: str) -> None:
    spelt = entry(f"{name.replace('-', '_')}-1.0.tar.gz")
    other = entry("foobar-1.0.tar.gz")
    for page in (
        read(json_page(spelt, other, name=name), name="foo-bar"),
        read(html_page(spelt, other), HTML, name="foo-bar"),
    ):
        assert one(page).filename == spelt["filename"]
        assert page.left_out == {"foobar-1.0.tar.gz": "belongs to another project, 'foobar'"}


PYPI = """{
  "alternate-locations": [],
  "files": [
    {
      "core-metadata": {"sha256": "%(metadata)s"},
      "data-dist-info-metadata": {"sha256": "%(metadata)s"},
      "filename": "spam-1.0-py3-none-any.whl",
      "hashes": {"sha256": "%(sha256)s"},
      "provenance": "https://pypi.org/integrity/spam/1.0/spam-1.0-py3-none-any.whl/provenance",
      "requires-python": ">=3.8",
      "size": 12345,
      "upload-time": "2020-02-20T20:20:20.202020Z",
      "url": "https://files.pythonhosted.org/packages/01/23/456/spam-1.0-py3-none-any.whl",
      "yanked": false
    },
    {
      "core-metadata": false,
      "data-dist-info-metadata": false,
      "filename": "spam-1.0.tar.gz",
      "hashes": {"sha256": "%(sha256)s", "blake2b": "%(blake2b)s", "md5": "%(md5)s"},
      "provenance": null,
      "requires-python": null,
      "size": 1234,
      "upload-time": "2020-02-20T20:20:20.202020Z",
      "url": "https://files.pythonhosted.org/packages/01/23/456/spam-1.0.tar.gz",
      "yanked": "leaks"
    }
  ],
  "meta": {"_last-serial": 22222222, "api-version": "1.4"},
  "name": "spam",
  "project-status": {"status": "archived", "reason": "see eggs"},
  "versions": ["1.0"]
}"""


def test_a_page_of_pypi_is_read() -> None:
    digests = {"metadata": "ab" * 32, "sha256": SHA256, "blake2b": "cd" * 64, "md5": "ef" * 16}
    elsewhere = "https://files.pythonhosted.org/packages/01/23/456/"
    assert read((PYPI % digests).encode()) == UpstreamPage(
        (
            UpstreamFile(
                WHEEL,
                f"{elsewhere}{WHEEL}",
                "1.0",
                {"sha256": SHA256},
                12345,
                LONG_AGO,
                ">=3.8",
                core_metadata={"sha256": "ab" * 32},
                provenance=f"https://pypi.org/integrity/spam/1.0/{WHEEL}/provenance",
            ),
            UpstreamFile(
                "spam-1.0.tar.gz",
                f"{elsewhere}spam-1.0.tar.gz",
                "1.0",
                {"sha256": SHA256, "blake2b": "cd" * 64, "md5": "ef" * 16},
                1234,
                LONG_AGO,
                yanked="leaks",
            ),
        ),
        Status.ARCHIVED,
        "see eggs",
    )


PEP_503 = f'<!DOCTYPE html><html><body><a href="{WHEEL}">{WHEEL}</a></body></html>'
PYPISERVER = f"""<!DOCTYPE html>
<html>
    <head><title>Links for spam</title></head>
    <body>
        <h1>Links for spam</h1>
            <a href="/packages/{WHEEL}#sha256={SHA256}">{WHEEL}</a><br>
    </body>
</html>"""
DEVPI = f"""<!DOCTYPE html><html><head><title>root/dev: links for spam</title></head><body>
<h1>root/dev: links for spam</h1>
<form action="/root/pypi/+simple/spam/refresh" method="post"><input name="refresh" type="submit"/></form>
root/dev <a href="../../+f/012/3456789abcdef/{WHEEL}#sha256={SHA256}" data-requires-python="&gt;=3.8"
 data-yanked=""
>{WHEEL}</a><br/>
</body></html>"""
APACHE = f"""<table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><a href="/simple/">Parent Directory</a></td></tr>
<tr><td><a href="{WHEEL}">spam-1.0-py3-none..&gt;</a></td></tr></table>"""


@pytest.mark.parametrize(
    ("body", "file"),
    [
        (PEP_503, UpstreamFile(WHEEL, f"{URL}{WHEEL}", "1.0", {})),
        (
            PYPISERVER,
            UpstreamFile(WHEEL, f"https://pypi.example.org/packages/{WHEEL}", "1.0", {"sha256": SHA256}),
        ),
        (
            DEVPI,
            UpstreamFile(
                WHEEL,
                f"https://pypi.example.org/+f/012/3456789abcdef/{WHEEL}",
                "1.0",
                {"sha256": SHA256},
                requires_python=">=3.8",
                yanked=True,
            ),
        ),
        (APACHE, UpstreamFile(WHEEL, f"{URL}{WHEEL}", "1.0", {})),
    ],
    ids=["minimal", "pypiserver", "devpi", "a directory"],
)
@pytest.mark.parametrize("content_type", [HTML, "text/html", "Text/HTML; charset=utf-8"])
def test_pages_of_other_indexes_are_read(body: str, file: UpstreamFile, content_type: str) -> None:
    assert one(read(body.encode(), content_type)) == file


def test_a_byte_order_mark_is_no_part_of_a_page() -> None:
    assert one(read(b"\xef\xbb\xbf" + json_page(entry()))).filename == WHEEL
    assert one(read(b"\xef\xbb\xbf" + html_page(entry()), HTML)).filename == WHEEL


def test_what_has_no_end_hides_nothing_before_it() -> None:
    assert one(read(html_page(entry()) + b'<p><a href="spam-2.0.zip" title="', HTML)).filename == WHEEL
    assert one(read(b"<a href=x>" * 49_999 + html_page(entry()), HTML)).filename == WHEEL


def test_of_two_attributes_the_first_counts() -> None:
    assert one(read(f"<a href={WHEEL} href=//evil.example.org/{WHEEL}>{WHEEL}</a>".encode(), HTML)).url == URL + WHEEL


@pytest.mark.parametrize("version", ["1.0", "1.4", "1.5", "1.99"])
def test_minor_versions_of_the_api_are_left_alone(version: str) -> None:
    assert one(read(json_page(entry(), meta={"api-version": version}))).filename == WHEEL
    head = f'<meta name="pypi:repository-version" content="{version}">'
    assert one(read(html_page(entry(), head=head), HTML)).filename == WHEEL


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (None, Status.ACTIVE, None),
        ({}, Status.ACTIVE, None),
        ({"status": "active"}, Status.ACTIVE, None),
        ({"status": "quarantined", "reason": "malware"}, Status.QUARANTINED, "malware"),
        ({"status": "deprecated", "reason": "  \ud800\n\u202e"}, Status.DEPRECATED, None),
        ({"status": "archived", "reason": "a\nb\0c" + "d" * 5000}, Status.ARCHIVED, "a b c" + "d" * 995),
    ],
)
def test_the_status_of_a_project_is_read(said: dict[str, str] | None, status: Status, reason: str | None) -> None:
    within = {"meta": {"api-version": "1.4", "project-status": said}}
    head = "".join(
        f'<meta name="pypi:project-status{"" if key == "status" else "-reason"}" content="{html.escape(value)}">'
        for key, value in (said or {}).items()
    )
    for page in (
        read(json_page(entry(), project_status=said)),
        read(json_page(entry(), **within)),
        read(html_page(entry(), head=head), HTML),
    ):
        assert (page.status, (page.status_reason or "").replace("?", "").strip() or None) == (status, reason)


def test_a_quarantined_project_has_a_page_without_links() -> None:
    head = '<meta name="pypi:project-status" content="quarantined">'
    assert read(html_page(head=head), HTML) == UpstreamPage((), Status.QUARANTINED)
    assert read(json_page()) == UpstreamPage(())  # of what there is


# What is no page ------------------------------------------------------------------------------------------------------

DEEP = 200_000
NO_PAGES: Mapping[str, tuple[str, bytes, str]] = {
    "no type": ("", json_page(), "it has no content type"),
    "plain JSON": ("application/json", json_page(), "its content type is 'application/json'"),
    "nonsense": ("\xff;", b"", "its content type is 'ÿ'"),
    "nothing, as JSON": (JSON, b"", "it is not JSON"),
    "nothing, as HTML": (HTML, b" \n", "it has no link to a file of the project"),
    "no link": (HTML, b"<h1>Service Unavailable</h1>", "it has no link to a file of the project"),
    "a page to sign in on": (HTML, b"<a href=/login>Sign in</a>", "it has no link to a file of the project"),
    "a page of another project": (
        HTML,
        b"<a href=eggs-1.0.zip>eggs-1.0.zip</a>",
        "it has no link to a file of the project",
    ),
    "binary": (HTML, bytes(range(256)) * 100, "it has no link to a file of the project"),
    "HTML called JSON": (JSON, html_page(entry()), "it is not JSON"),
    "no UTF-8": (JSON, b'{"name": "\xff"}', "it is not JSON"),
    "a long number": (JSON, json_page().replace(b"[]", b"[" + b"9" * 10_000 + b"]"), "it is not JSON"),
    "deep lists": (JSON, b"[" * DEEP, "it is nested too deeply"),
    "deep objects": (JSON, b'{"files":' * DEEP, "it is nested too deeply"),
    "a list": (JSON, b"[]", "it is not a JSON object"),
    "an empty object": (JSON, b"{}", "it has no 'meta'"),
    "no files": (JSON, json_page(files=None), "its 'files' are no list of objects"),
    "an object of files": (JSON, json_page(files={"a": 1}), "its 'files' are no list of objects"),
    "numbers for files": (JSON, json_page(1, 2), "its 'files' are no list of objects"),
    "no name": (JSON, json_page(name=None), "its 'name' is not that of a project"),
    "a name that is none": (JSON, json_page(name="\ud800"), "its 'name' is not that of a project"),
    "another name": (JSON, json_page(name="spam-eggs"), "it is that of another project, 'spam-eggs'"),
    "no version": (JSON, json_page(meta={}), "it does not say of which version of the API it is"),
    "a version that is none": (
        JSON,
        json_page(meta={"api-version": 1}),
        "it does not say of which version of the API it is",
    ),
    "another version": (
        JSON,
        json_page(meta={"api-version": "2.0"}),
        "it is of version 2.0 of the API, and 1 is known here",
    ),
    "another version as HTML": (
        HTML,
        html_page(entry(), head='<meta name="pypi:repository-version" content="2.0">'),
        "it is of version 2.0 of the API, and 1 is known here",
    ),
    "another epoch": (
        JSON,
        json_page(meta={"api-version": "1!1.0"}),
        "it is of version 1!1.0 of the API, and 1 is known here",
    ),
    "a status that is none": (
        JSON,
        json_page(project_status={"status": "on\nfire"}),
        r"the project has the status 'on\\nfire', which is not known here",
    ),
    "a status that is none as HTML": (
        HTML,
        html_page(entry(), head='<meta name="pypi:project-status" content="frozen">'),
        "the project has the status 'frozen', which is not known here",
    ),
    "a list for a status": (JSON, json_page(project_status=["active"]), "its 'project-status' is no object"),
    "a number for a status": (
        JSON,
        json_page(project_status={"status": 1}),
        "its 'project-status' does not consist of strings",
    ),
    "a base that is none": (
        HTML,
        html_page(entry(), head='<base href="http://[">'),
        "its 'base' is no URL",
    ),
}


@pytest.mark.parametrize("page", NO_PAGES)
def test_what_is_no_page_is_refused_with_a_sentence(page: str) -> None:
    content_type, body, reason = NO_PAGES[page]
    with pytest.raises(ValueError, match=f"^{NO_PAGE}") as caught:
        read(body, content_type)
    assert str(caught.value) == f"{NO_PAGE}{reason}"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, json_page(*(entry(f"spam-{number}.zip") for number in range(10)))),
        (HTML, html_page(*(entry(f"spam-{number}.zip") for number in range(10)))),
        (HTML, b"<a " * 10_000),
        (HTML, b"<!--" * 10_000),
    ],
    ids=["JSON", "links", "attributes without end", "comments without end"],
)
def test_what_takes_too_long_is_refused(content_type: str, body: bytes) -> None:
    ticks = itertools.count(0, 6)
    with pytest.raises(ValueError, match=f"^{NO_PAGE}it takes more than 10 seconds to read$"):
        read_page(SPAM, body, content_type=content_type, url=URL, clock=lambda: float(next(ticks)))


MANY = 1_000_001
TOO_MANY, LISTED = "it has more than 1000000 values", "it lists more than 50000 files"


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        (JSON, json_page().replace(b"[]", b"[" + b"{}," * MANY + b"{}]"), TOO_MANY),
        (JSON, json_page().replace(b"[]", b"[" + b"{}," * (MANY // 2) + b"{}]"), TOO_MANY),
        (JSON, json_page().replace(b"[]", b"[" + b"[]," * (MANY // 2) + b"{}]"), TOO_MANY),
        (JSON, json_page().replace(b"[]", b"[" + b"9," * MANY + b"9]"), TOO_MANY),
        (JSON, b"{" + b",".join(b'"%x":9' % number for number in range(MANY)) + b"}", TOO_MANY),
        (JSON, json_page(*({} for _ in range(50_001))), LISTED),
        (HTML, b"<a href>x</a>" * 50_001, LISTED),
    ],
    ids=["objects", "half as many objects", "lists", "numbers", "keys", "files", "links"],
)
def test_what_would_take_much_memory_is_refused_before(content_type: str, body: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"^{NO_PAGE}{reason}$"):
            read(body, content_type)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"<a href " + b" ".join(b"a%x" % number for number in range(50_000)) + b">",
        b"<a href>" + b"xy<b>" * 100_000,
        b"".join(b"<meta name=%x content>" % number for number in range(20_000)),
    ],
    ids=["attributes", "pieces of text", "what a page says of itself"],
)
def test_of_html_only_that_is_kept_which_may_be_needed(body: bytes) -> None:
    reader = forms._Reader()  # noqa: SLF001 -- what it keeps is seen nowhere else
    reader.feed(body.decode())
    assert len(reader.said) + sum(len(attributes) + len(texts) for attributes, texts in reader.links) < 100


def test_a_page_as_large_as_the_largest_is_read() -> None:
    page = read(json_page(*(entry(f"spam-{number}.zip", requires_python="<4,>=3.8") for number in range(20_000))))
    assert len(page.files) == 20_000


def test_only_two_pages_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started, released = threading.Semaphore(0), threading.Event()

    def clock() -> float:
        started.release()
        released.wait(PATIENCE_SECONDS)
        return 0.0

    def read_slowly() -> UpstreamPage:
        return read_page(SPAM, json_page(entry()), content_type=JSON, url=URL, clock=clock)

    with ThreadPoolExecutor(2) as pool:
        pages = [pool.submit(read_slowly) for _ in range(2)]
        for _ in pages:
            assert started.acquire(timeout=PATIENCE_SECONDS)
        monkeypatch.setattr(reading, "_TURN_SECONDS", 0.01)
        with pytest.raises(ValueError, match=r"^could not be read yet: other pages are being read; "):
            read(json_page(entry()))
        released.set()
        assert [len(page.result().files) for page in pages] == [1, 1]
    assert len(read(json_page(entry())).files) == 1


# What is no file of the project ---------------------------------------------------------------------------------------

NO_FILE = "is not the filename of a wheel, sdist or egg: "
NOT_DESCRIBED = "is not described as the simple API has it"
NO_URL = "has no URL that can be asked for"
OTHER_NAME = "has a URL that leads to a file of another name"
GOOD = entry("spam-0.1.zip")


@pytest.mark.parametrize(
    ("filename", "shown", "reason"),
    [
        ("eggs-1.0.zip", "eggs-1.0.zip", "belongs to another project, 'eggs'"),
        ("spam-eggs-1.0.zip", "spam-eggs-1.0.zip", "belongs to another project, 'spam-eggs'"),
        ("sp.am-1.0.zip", "sp.am-1.0.zip", "belongs to another project, 'sp-am'"),
        (
            "spam-1.0.exe",
            "spam-1.0.exe",
            f"{NO_FILE}its ending is not one of .whl, .tar.gz, .zip, .tar.bz2, .tar.xz, .egg",
        ),
        ("x/spam-1.0.zip", "x/spam-1.0.zip", f"{NO_FILE}it contains a character that no such filename has"),
        ("spam\t-1.0.zip", r"spam\t-1.0.zip", f"{NO_FILE}it contains a character that no such filename has"),
        ("späm-1.0.zip", "späm-1.0.zip", f"{NO_FILE}it contains a character that no such filename has"),
        (
            "spam-1.0\u202e.zip",
            r"spam-1.0\u202e.zip",
            f"{NO_FILE}it contains a character that no such filename has",
        ),
        (
            f"spam-1.0{'0' * 300}.zip",
            f"spam-1.0{'0' * 232}…",
            f"{NO_FILE}it has more than 240 characters",
        ),
        (
            f"spam-1.0-{'a.' * 32}a-{'b.' * 32}b-{'c.' * 32}c.whl",
            f"spam-1.0-{'a.' * 32}a-{'b.' * 32}b-{'c.' * 32}c.whl",
            "stands for more than 1000 combinations of tags",
        ),
    ],
)
def test_names_that_are_none_of_its_files_are_left_out(page_of: Render, filename: str, shown: str, reason: str) -> None:
    page = page_of(GOOD, entry(filename))
    assert [file.filename for file in page.files] == ["spam-0.1.zip"]
    assert page.left_out == {shown: reason}


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (entry(url="javascript:alert(1)//" + WHEEL), NO_URL),
        (entry(url=f"ftp://files.example.org/{WHEEL}"), NO_URL),
        (entry(url=f"file:///{WHEEL}"), NO_URL),
        (entry(url=f"data:;,/{WHEEL}"), NO_URL),
        (entry(url=f"https://user:secret@files.example.org/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org\\@evil.example.org/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org:0/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org:99999/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org/\0/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org/\u202e/{WHEEL}"), NO_URL),
        (entry(url=f"https://files.example.org/{'x' * 8000}/{WHEEL}"), NO_URL),
        (entry(url=f"{FILES}spam-2.0-py3-none-any.whl"), OTHER_NAME),
        (entry(url=f"{FILES}?{WHEEL}"), OTHER_NAME),
        (entry(url=f"{FILES}spam-2.0-py3-none-any.whl?/{WHEEL}"), OTHER_NAME),
        (entry(hashes={"sha256": SHA256[:-1]}), "has a sha256 that is none"),
        (entry(hashes={"sha256": SHA256[:-1] + "g"}), "has a sha256 that is none"),
        (entry(hashes={"sha256": SHA256 + "00"}), "has a sha256 that is none"),
        (entry(hashes={"sha256": "٣" * 64}), "has a sha256 that is none"),
        (entry(requires_python=">=3" + "," * 1024), "has a 'requires-python' that is none"),
        (entry(requires_python=">=3\n.8"), "has a 'requires-python' that is none"),
    ],
)
def test_files_of_which_something_wrong_is_said_are_left_out(
    page_of: Render, says: dict[str, Any], reason: str
) -> None:
    page = page_of(GOOD, says)
    assert [file.filename for file in page.files] == ["spam-0.1.zip"]
    assert page.left_out == {WHEEL: reason}


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (entry(url=None), NOT_DESCRIBED),
        (entry(url=1), NOT_DESCRIBED),
        (entry(url=f"{FILES}\ud800/{WHEEL}"), NO_URL),
        (entry(url=f"https://[::1/{WHEEL}"), NO_URL),
        (entry(hashes=None), NOT_DESCRIBED),
        (entry(hashes=[SHA256]), NOT_DESCRIBED),
        (entry(hashes={"sha256": 1}), NOT_DESCRIBED),
        (entry(yanked=1.5), NOT_DESCRIBED),
        (entry(size="many"), NOT_DESCRIBED),
        (entry(upload_time="soon"), NOT_DESCRIBED),
        (entry(requires_python=3), NOT_DESCRIBED),
        (entry(requires_python="\ud800"), "has a 'requires-python' that is none"),
        (entry(core_metadata="yes"), NOT_DESCRIBED),
    ],
)
def test_entries_that_are_none_are_left_out_alone(says: dict[str, Any], reason: str) -> None:
    page = read(json_page(GOOD, says))
    assert [file.filename for file in page.files] == ["spam-0.1.zip"]
    assert page.left_out == {WHEEL: reason}


def test_what_has_no_name_is_called_by_its_place() -> None:
    unnamed = entry() | {"filename": None}
    assert list(read(json_page(GOOD, unnamed)).left_out) == ["files[1]"]
    assert list(read(html_page(GOOD) + b"<a href=/><img src=/x.png></a>", HTML).left_out) == ["links[1]"]


def test_a_name_that_means_two_files_means_none(page_of: Render) -> None:
    again, other = entry(url=f"{FILES}again/{WHEEL}", yanked=True), entry(hashes={"sha256": "00" * 32})
    assert one(page_of(entry(), again, again)).yanked is False
    ambiguous = {WHEEL: "is listed more than once, as different files"}
    for entries in ((entry(), other), (other, entry()), (entry(), entry(hashes={}))):
        page = page_of(*entries, GOOD)
        assert (one(page).filename, page.left_out) == ("spam-0.1.zip", ambiguous)
    unproven = entry(hashes={})
    assert one(page_of(unproven, unproven)).hashes == {}
    assert page_of(GOOD, unproven, entry(hashes={}, url=f"{FILES}again/{WHEEL}")).left_out == ambiguous


def test_no_more_than_a_thousand_of_what_is_left_out_is_remembered(page_of: Render) -> None:
    page = page_of(GOOD, *(entry(f"eggs-{number}.zip") for number in range(1200)), entry(), entry(hashes={}))
    assert [file.filename for file in page.files] == ["spam-0.1.zip"]
    assert len(page.left_out) == 1000


# What is said of a file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "absolute"),
    [
        (f"../../files/{WHEEL}", URL, f"https://pypi.example.org/files/{WHEEL}"),
        (f"../../files/{WHEEL}", "https://cdn.example.org/a/b/c/?x=y#z", f"https://cdn.example.org/a/files/{WHEEL}"),
        (f"//files.example.org/{WHEEL}", URL, f"https://files.example.org/{WHEEL}"),
        (f"HTTPS://files.example.org/{WHEEL}#egg=spam", URL, f"https://files.example.org/{WHEEL}"),
        (f"http://127.0.0.1:3141/{WHEEL}", URL, f"http://127.0.0.1:3141/{WHEEL}"),
        (f"http://[::1]:3141/{WHEEL}", URL, f"http://[::1]:3141/{WHEEL}"),
        (f" \n{FILES}{WHEEL}\t", URL, f"{FILES}{WHEEL}"),
        (f"{FILES}a b/ü/{WHEEL}?signed=a%20b", URL, f"{FILES}a%20b/%C3%BC/{WHEEL}?signed=a%20b"),
        (f"{FILES}%73pam-1.0-py3-none-any.whl", URL, f"{FILES}%73pam-1.0-py3-none-any.whl"),
    ],
)
def test_urls_become_absolute(page_of: Render, url: str, base: str, absolute: str) -> None:
    assert one(page_of(entry(url=url, hashes={}), url=base)).url == absolute


def test_local_versions_are_found_in_urls(page_of: Render) -> None:
    file = one(page_of(entry("spam-1.0+cpu-py3-none-any.whl", url="spam-1.0%2Bcpu-py3-none-any.whl")))
    assert (file.version, file.url) == ("1.0+cpu", f"{URL}spam-1.0%2Bcpu-py3-none-any.whl")


def test_the_first_base_counts_and_is_itself_relative() -> None:
    head = '<base target="_top"><base href="../files/"><base href="https://evil.example.org/">'
    assert (
        one(read(html_page(entry(url=WHEEL), head=head), HTML)).url == f"https://pypi.example.org/simple/files/{WHEEL}"
    )


@pytest.mark.parametrize(
    ("said", "hashes"),
    [
        ({"sha256": SHA256.upper()}, {"sha256": SHA256}),
        ({"md5": "ab" * 16}, {"md5": "ab" * 16}),
        ({"md5": "ab" * 15}, {}),
        ({"blake2b_256": "ab" * 32}, {"blake2b_256": "ab" * 32}),  # of which hashlib knows nothing
        ({"egg": "spam"}, {}),
        ({"new": "abc"}, {}),
        ({"new": "ab" * 200}, {}),
        ({"<script>": "ab"}, {}),
        ({"sha-1": "ab" * 20}, {}),
    ],
)
def test_only_digests_are_hashes(page_of: Render, said: dict[str, str], hashes: dict[str, str]) -> None:
    assert one(page_of(entry(hashes=said))).hashes == hashes


@pytest.mark.parametrize(
    ("said", "size"),
    [(0, 0), (12, 12), ("13", 13), (-1, None), (None, None), (2**63, None), (10**30, None)],
)
def test_sizes_are_numbers_of_bytes(said: object, size: int | None) -> None:
    assert one(read(json_page(entry(size=said)))).size == size


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("2020-02-20T20:20:20.202020Z", LONG_AGO),
        ("2020-02-20T20:20:20.202020", LONG_AGO),
        ("2020-02-20T22:20:20.202020+02:00", LONG_AGO),
        ("2020-02-20T20:20:20Z", LONG_AGO.replace(microsecond=0)),
        ("9999-12-31T23:59:59-01:00", None),
        (None, None),
    ],
)
def test_times_are_aware_and_in_utc(said: str | None, time: datetime | None) -> None:
    found = one(read(json_page(entry(upload_time=said)))).upload_time
    assert found == time
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("said", "yanked"),
    [
        (False, False),
        (True, True),
        ("", True),
        ("\x00 \u200b\n", True),
        ("leaks", "leaks"),
        ("a\r\nb", "a  b"),
        ("x" * 2000, "x" * 1000),
        ('"><script>', '"><script>'),
    ],
)
def test_yanks_keep_their_reasons(page_of: Render, said: bool | str, yanked: bool | str) -> None:
    found = one(page_of(entry(yanked=said))).yanked
    assert found == yanked or (isinstance(said, str) and "\x00" in said and found == "\N{REPLACEMENT CHARACTER}")


def test_half_a_character_in_a_reason_is_left_away() -> None:
    assert one(read(json_page(entry(yanked="a\ud800b")))).yanked == "a b"


@pytest.mark.parametrize(
    ("said", "core_metadata"),
    [
        (None, False),
        (False, False),
        (True, True),
        ({"sha256": SHA256.upper()}, {"sha256": SHA256}),
        ({"sha512": "ab" * 64}, {"sha512": "ab" * 64}),
        ({"sha256": "ab"}, False),
        ({"sha256": "nothing"}, False),
        ({"other": "nothing"}, False),
    ],
)
@pytest.mark.parametrize("key", ["core-metadata", "dist-info-metadata"])
def test_core_metadata_is_believed_in_where_it_may_be_there(
    page_of: Render, key: str, said: object, core_metadata: bool | dict[str, str]
) -> None:
    assert one(page_of(entry() | {key: said})).core_metadata == core_metadata


def test_the_new_name_of_core_metadata_wins(page_of: Render) -> None:
    said = entry(core_metadata={"sha256": SHA256}, dist_info_metadata={"sha256": "00" * 32})
    assert one(page_of(said)).core_metadata == {"sha256": SHA256}


@pytest.mark.parametrize(
    ("said", "provenance"),
    [
        ("https://pypi.example.org/p", "https://pypi.example.org/p"),
        ("/integrity/spam#x", "https://pypi.example.org/integrity/spam"),
        ("javascript:alert(1)", None),
        ("https://user:secret@pypi.example.org/p", None),
        ("http://[", None),
        (None, None),
    ],
)
def test_provenance_is_a_url(page_of: Render, said: str | None, provenance: str | None) -> None:
    assert one(page_of(entry(provenance=said))).provenance == provenance


@pytest.mark.parametrize("said", [1, [], {}, "\ud800"])
def test_provenance_that_is_none_hides_no_file(said: object) -> None:
    assert one(read(json_page(entry(provenance=said)))).provenance is None


# Anything -------------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([*entry(), "size", "upload-time", "requires-python", "yanked", "core-metadata", "provenance"])


def read_or_refuse(body: bytes, content_type: str) -> UpstreamPage | None:
    """Return None where it is refused with a sentence."""
    try:
        return read(body, content_type)
    except ValueError as error:
        if not str(error).startswith(NO_PAGE):
            raise
        return None


@settings(max_examples=examples(60, 1500))
@given(st.lists(st.dictionaries(KEYS, VALUES), max_size=3))
def test_whatever_is_said_of_other_files_a_good_one_is_found(entries: list[dict[str, Any]]) -> None:
    page = read(json_page(GOOD, *(entry() | said for said in entries)))
    assert GOOD["filename"] in [file.filename for file in page.files]


@settings(max_examples=examples(60, 1500))
@given(st.dictionaries(st.sampled_from(["meta", "name", "files", "project-status", "versions", "other"]), VALUES))
def test_whatever_is_said_of_a_project_it_is_read_or_refused(said: dict[str, Any]) -> None:
    page = read_or_refuse(json_page(GOOD, **said), JSON)
    assert page is None or {file.filename for file in page.files} <= {GOOD["filename"]}


@settings(max_examples=examples(60, 1500))
@given(st.lists(st.sampled_from(["<", ">", "a ", "href=", '"', "'", "</a>", "<!--", "<base ", "&", WHEEL]) | st.text()))
def test_whatever_stands_in_html_it_is_read_or_refused(pieces: list[str]) -> None:
    page = read_or_refuse("".join(pieces).encode(errors="replace"), HTML)
    assert page is None or {file.filename for file in page.files} <= {WHEEL}
