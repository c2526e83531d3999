"""What our pages show of an upstream's files, as independent parsers read it; what is hostile stays text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypi_simple import ProjectPage

from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form, render_page
from elasticpypi.upstream.describing import describe_listing, describe_upstream_file
from elasticpypi.upstream.formats import dump_page, load_page
from elasticpypi.upstream.model import Listing, UpstreamFile, UpstreamPage
from elasticpypi.upstream.reading import read_page
from tests.examples import examples
from tests.looking import Looked, look

SPAM = NormalizedName("spam")
UPSTREAM = Upstream("pypi", "https://pypi.example.org/simple/", UpstreamMode.PROXY)
FILES = "https://files.example.org/"
WHEEL, SDIST = "spam-1.0-py3-none-any.whl", "spam-1.0.tar.gz"
FULL = UpstreamFile(
    WHEEL,
    f"{FILES}{WHEEL}",
    "1.0",
    {"md5": "b" * 32, "sha256": "a" * 64},
    12,
    datetime(2020, 2, 20, 20, 20, 20, 202020, UTC),
    ">=3.8",
    "leaks & <worse>",
    {"sha256": "c" * 64},
    "https://pypi.example.org/provenance",
)
BARE = UpstreamFile(SDIST, f"{FILES}{SDIST}", "1.0", {})


def listing(*shown: UpstreamFile, status: Status = Status.ACTIVE, reason: str | None = None) -> Listing:
    return Listing(UPSTREAM, SPAM, UpstreamPage(shown, status, reason), shown, (), {}, checked=0.0)


def render(found: Listing, form: Form) -> str:
    files = (describe_upstream_file(file, file.url) for file in found.shown)
    return b"".join(render_page(describe_listing(found), files, form)).decode()


def as_json(found: Listing) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render(found, Form.JSON))
    return document


def as_html(found: Listing) -> Looked:
    return look(render(found, Form.HTML))


def test_a_page_shows_what_upstream_says() -> None:
    assert as_json(listing(FULL)) == {
        "meta": {"api-version": "1.4"},
        "name": "spam",
        "project-status": {"status": "active"},
        "versions": ["1.0"],
        "files": [
            {
                "filename": WHEEL,
                "url": f"{FILES}{WHEEL}",
                "hashes": {"md5": "b" * 32, "sha256": "a" * 64},
                "size": 12,
                "upload-time": "2020-02-20T20:20:20.202020Z",
                "requires-python": ">=3.8",
                "yanked": "leaks & <worse>",
                "core-metadata": {"sha256": "c" * 64},
                "provenance": "https://pypi.example.org/provenance",
            }
        ],
    }
    assert as_html(listing(FULL)).find("a") == [
        {
            "href": f"{FILES}{WHEEL}#sha256={'a' * 64}",
            "data-requires-python": ">=3.8",
            "data-yanked": "leaks & <worse>",
            "data-core-metadata": f"sha256={'c' * 64}",
            "data-dist-info-metadata": f"sha256={'c' * 64}",
            "data-provenance": "https://pypi.example.org/provenance",
        }
    ]


def test_what_upstream_does_not_say_is_not_there() -> None:
    page = as_json(listing(BARE, FULL))
    assert page["files"][0] == {
        "filename": SDIST,
        "url": f"{FILES}{SDIST}",
        "hashes": {},
        "yanked": False,
        "core-metadata": False,
    }
    assert page["meta"] == {"api-version": "1.0"}  # later ones demand a size
    assert as_html(listing(BARE)).find("a") == [{"href": f"{FILES}{SDIST}"}]


@pytest.mark.parametrize(
    ("core_metadata", "shown"), [(False, False), (True, True), ({"md5": "d" * 32}, {"md5": "d" * 32})]
)
def test_core_metadata_is_announced_as_upstream_does(
    core_metadata: bool | Mapping[str, str], shown: bool | dict[str, str]
) -> None:
    assert as_json(listing(replace(BARE, core_metadata=core_metadata)))["files"][0]["core-metadata"] == shown


def test_versions_are_those_of_what_is_shown() -> None:
    files = [
        replace(BARE, filename=f"spam-{version}.zip", version=version) for version in ("0.9", "1.0", "1.0", "1.10")
    ]
    assert as_json(listing(*files))["versions"] == ["0.9", "1.0", "1.10"]


def test_a_status_has_its_reason() -> None:
    found = listing(FULL, status=Status.DEPRECATED, reason="see <eggs>")
    assert as_json(found)["project-status"] == {"status": "deprecated", "reason": "see <eggs>"}
    assert as_html(found).find("meta", name="pypi:project-status-reason") == [
        {"name": "pypi:project-status-reason", "content": "see <eggs>"}
    ]


def test_a_quarantined_project_has_a_status_and_no_versions() -> None:
    document = describe_listing(listing(FULL, status=Status.QUARANTINED, reason="malware"))
    assert document == {
        "meta": {"api-version": "1.4"},
        "name": "spam",
        "project-status": {"status": "quarantined", "reason": "malware"},
        "versions": [],
    }


# Hostile texts --------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onclick='x",
    "&quot;",
    "\ud800",
    "\0",
    "]]>",
    "-->",
]
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.text(st.characters())).map("".join)
ELEMENTS = {"html", "head", "meta", "title", "body", "h1", "a", "br"}


@settings(max_examples=examples(100, 1000))
@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_hostile_texts_stay_texts(reason: str, yanked: str, requires_python: str, path: str, more: str) -> None:
    entry = {
        "filename": WHEEL,
        "url": f"/{path}/{WHEEL}",
        "hashes": {"sha256": "a" * 64, more: more},
        "requires-python": requires_python,
        "yanked": yanked,
        "core-metadata": {more: more},
        "provenance": f"https://pypi.example.org/{path}",
    }
    fine = {"filename": SDIST, "url": SDIST, "hashes": {}, "yanked": yanked}
    other = {"filename": more, "url": path, "hashes": {}}
    document = {
        "meta": {"api-version": "1.4"},
        "name": "spam",
        "files": [entry, fine, other],
        "project-status": {"status": "archived", "reason": reason},
    }
    url = "https://pypi.example.org/simple/spam/"
    page = read_page(SPAM, json.dumps(document).encode(), content_type="application/vnd.pypi.simple.v1+json", url=url)
    assert load_page(json.loads(json.dumps(dump_page(page)))) == page
    assert all(text.isprintable() for text in page.left_out)
    found = Listing(UPSTREAM, SPAM, page, page.files, (), {}, checked=0.0)
    check_forms_agree(found)


def check_forms_agree(found: Listing) -> None:
    """Read both forms, by parsers that are not ours, and compare them."""
    shown, looked = as_json(found), as_html(found)
    assert {tag for tag, _ in looked.elements} <= ELEMENTS
    assert [file["filename"] for file in shown["files"]] == [file.filename for file in found.shown]
    for file, link in zip(shown["files"], looked.find("a"), strict=True):
        assert link["href"].partition("#")[0] == file["url"]
        assert link.get("data-requires-python") == file.get("requires-python")
        assert link.get("data-yanked", False) == ("" if file["yanked"] is True else file["yanked"])
        assert link.get("data-provenance") == file.get("provenance")
    reasons = [element["content"] for element in looked.find("meta", name="pypi:project-status-reason")]
    assert reasons == [shown["project-status"]["reason"]] if "reason" in shown["project-status"] else not reasons
    ProjectPage.from_json_data(shown)  # as strict as any
