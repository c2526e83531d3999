"""What is written as JSON (the bytes that the standard library's encoder has always given), and links in HTML."""

from __future__ import annotations

import json
from typing import Any

import pytest

from elasticpypi.model import Status
from elasticpypi.simple import Form, dump, render_page, render_whole
from tests.looking import look

PAGE = {"meta": {"api-version": "1.4"}, "name": "acme", "project-status": {"status": "active"}, "versions": ["1.0"]}
FILE = {"filename": "acme-1.0.zip", "url": "../../packages/acme/acme-1.0.zip", "hashes": {"sha256": "0" * 64}}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"b": [1, -1, None, True, False], "a": {"": ""}},
        "".join(map(chr, range(0x180))),
        "\u2028\u2029\ufffe 包裹 \U0001f4e6",
        {"status": Status.ACTIVE},
        2**63,
        2**80,
    ],
)
def test_json_is_written_as_the_standard_library_writes_it(value: Any) -> None:
    assert dump(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        dump({"reason": "\ud800"})


def rendered(file: dict[str, Any], form: Form) -> str:
    page = b"".join(render_page(PAGE, [file], form))
    assert page == render_whole(PAGE, [file], form)
    return page.decode()


@pytest.mark.parametrize("url", ["https://example.org/provenance", "https://example.org/?a=b&c=\"'<script>"])
def test_provenance_is_announced_where_it_is_known(url: str) -> None:
    file = FILE | {"provenance": url}
    assert json.loads(rendered(file, Form.JSON))["files"] == [file]
    (link,) = look(rendered(file, Form.HTML)).find("a")
    assert link == {"href": f"{FILE['url']}#sha256={'0' * 64}", "data-provenance": url}


@pytest.mark.parametrize("more", [{}, {"provenance": None}])
def test_without_provenance_a_link_is_as_it_always_was(more: dict[str, Any]) -> None:
    link = f'    <a href="{FILE["url"]}#sha256={"0" * 64}">acme-1.0.zip</a><br>\n'
    assert f"\n{link}  </body>" in rendered(FILE | more, Form.HTML)
