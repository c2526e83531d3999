"""READMEs as people see them: rendered where that is safe and quick, else the text that they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elasticpypi import readme
from elasticpypi.readme import Readme, Readmes
from elasticpypi.readme.cleaning import clean
from tests.looking import look

GFM = "text/markdown; charset=UTF-8; variant=GFM"


@pytest.mark.parametrize(
    ("content_type", "text", "html"),
    [
        (GFM, "# Hi\n\n~~no~~ *yes*\n", '<h3 id="readme-hi">Hi</h3>\n<p><del>no</del> <em>yes</em></p>\n'),
        ("text/markdown", "a **b**", "<p>a <strong>b</strong></p>\n"),
        ("Text/Markdown;variant=CommonMark", "# Hi\n\n~~no~~", "<h3>Hi</h3>\n<p>~~no~~</p>\n"),
        ("text/x-rst", "Hi\n==\n\n*yes*", '<div id="readme-hi">\n<h3>Hi</h3>\n<p><em>yes</em></p>\n</div>\n'),
        (None, "*yes*", "<p><em>yes</em></p>\n"),
        ("text/plain", "*<b>*\n", '<pre class="text" tabindex="0">*&lt;b&gt;*\n</pre>'),
        ("text/html", "<b>x</b>", '<pre class="text" tabindex="0">&lt;b&gt;x&lt;/b&gt;</pre>'),
        ("", "*yes*", "<p><em>yes</em></p>\n"),
        ("nonsense", "*yes*", '<pre class="text" tabindex="0">*yes*</pre>'),
    ],
)
def test_a_readme_is_rendered_by_its_content_type(content_type: str | None, text: str, html: str) -> None:
    assert Readmes().render(text, content_type) == Readme(html)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_nothing_is_no_readme(text: str) -> None:
    assert Readmes().render(text, GFM) is None


@pytest.mark.parametrize(
    "text",
    [
        "*a",
        ".. include:: /etc/passwd",
        ".. raw:: html\n\n   <b>x</b>",
        ".. csv-table::\n   :file: /etc/passwd",
    ],
)
def test_what_cannot_be_rendered_is_shown_as_text(text: str) -> None:
    shown = Readmes().render(text, "text/x-rst")
    assert shown is not None
    assert shown.html.startswith('<pre class="text" tabindex="0">')
    assert look(shown.html).text == " ".join(text.split())


def test_what_takes_too_long_is_shown_as_text() -> None:
    definitions = "".join(f".. |a{n}| replace:: |a{n + 1}| |a{n + 1}|\n" for n in range(40))
    bomb = f"{definitions}.. |a40| replace:: x\n\n|a0|\n"
    shown = Readmes(seconds=1.5).render(bomb, "text/x-rst")
    assert shown is not None
    assert shown.html.startswith('<pre class="text"')


@pytest.mark.heavy
def test_what_becomes_too_much_is_shown_as_text() -> None:
    notes = "[^1]" * 20_000 + "\n\n[^1]: x"  # 80 kB, of which 2.5 MB become
    shown = Readmes(seconds=30).render(notes, GFM)
    assert shown is not None
    assert shown.html.startswith('<pre class="text"')


def test_a_long_readme_is_shown_as_text_and_cut() -> None:
    shown = Readmes().render("é" * 300_000, GFM)  # two bytes each
    assert shown == Readme(f'<pre class="text" tabindex="0">{"é" * 262_144}</pre>', is_cut=True)
    odd = Readmes().render("a" + "é" * 300_000, GFM)
    assert odd == Readme(f'<pre class="text" tabindex="0">a{"é" * 262_143}</pre>', is_cut=True)


def test_a_readme_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[tuple[bytes, str]] = []

    def run(raw: bytes, kind: str, _seconds: float) -> Readme:
        rendered.append((raw, kind))
        return Readme("x" * 40)

    monkeypatch.setattr(readme, "_run", run)
    readmes = Readmes(memory_bytes=100)
    for text in (
        "a",
        "a",
        "b",
        "a",
        "c",
        "b",
    ):  # the third one does not fit beside two others: "b" was used longest ago
        readmes.render(text, GFM)
    readmes.render("a", "text/x-rst")
    assert rendered == [(b"a", "markdown"), (b"b", "markdown"), (b"c", "markdown"), (b"b", "markdown"), (b"a", "rst")]


def test_one_that_is_larger_than_the_memory_is_not_kept() -> None:
    readmes = Readmes(memory_bytes=10)
    first, second = (readmes.render("a" * 100, "text/plain") for _ in range(2))
    assert first == second
    assert first is not second


def test_the_process_that_renders_knows_nothing_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\ncat > /dev/null; printf \'{"html": "%s", "images": 0}\' "$(env | cut -d= -f1 | xargs)"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("ELASTICPYPI_PASSWORD", "x")
    shown = Readmes().render("a", GFM)
    assert shown is not None
    assert set(shown.html.split()) <= {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PWD", "OLDPWD", "SHLVL", "_"}


MARKDOWN = """\
# Title <img src=https://spy.example.org/a.png>

## <script>alert(1)</script>

[a](javascript:alert(1)) [b](data:text/html,x) [c](//spy.example.org/) [d](docs/x.md) [e](vbscript:x) [f](#title)
[g](https://example.org/) [h](mailto:jane@example.org) [i](HTTPS://example.org/i) [j](/account) [k](ftp://x/)
[![badge](https://spy.example.org/b.svg)](https://ci.example.org/) ![](x.png)

<a href="https://example.org/" onclick="alert(1)" style="position:fixed" target="x" id="content" name="q">x</a>
<form action=/logout method=post><input name=csrf><button>x</button></form>
<iframe src=https://spy.example.org/></iframe> <object data=x></object> <embed src=x> <video src=x poster=y></video>
<svg onload=alert(1)><image href=https://spy.example.org/></svg> <math><mi xlink:href=x>y</mi></math>
<style>@import "https://spy.example.org/"</style> <link rel=stylesheet href=https://spy.example.org/>
<meta http-equiv=refresh content="0;url=https://spy.example.org/"> <base href=https://spy.example.org/>
<picture><source srcset=https://spy.example.org/s.png><img src=https://spy.example.org/t.png alt=pic></picture>
<div class="top banner" id="content">x</div> <nav class=top>y</nav> <table background=https://spy.example.org/><td>z
<p id="a b">x</p><details open ontoggle=alert(1)><summary>s</summary>t</details> </main></body></html> <!-- x -->
"""
RST = """\
Title
=====

.. image:: https://spy.example.org/a.png
   :target: javascript:alert(1)
   :alt: picture

`a <javascript:alert(1)>`_ `b <https://example.org/>`_ `c <data:text/html,x>`_

.. _content:

.. class:: top banner

paragraph

.. figure:: https://spy.example.org/b.png

   caption

.. container:: top

   <script>alert(1)</script>
"""
ALLOWED = {
    "a": {"href", "rel", "id"},
    "pre": {"tabindex"},
    "div": {"class", "tabindex", "id"},
    "span": {"class", "id"},
    "td": set(),
    "ol": {"start"},
}


@pytest.mark.parametrize(
    ("content_type", "text", "images", "links"),
    [
        (
            GFM,
            MARKDOWN,
            4,
            {"#readme-title", "https://example.org/", "mailto:jane@example.org", "HTTPS://example.org/i", "https://ci.example.org/"},
        ),
        ("text/x-rst", RST, 2, {"https://example.org/"}),
    ],
)  # fmt: skip
def test_only_what_is_harmless_is_left(content_type: str, text: str, images: int, links: set[str]) -> None:
    shown = Readmes().render(text, content_type)
    assert shown is not None
    assert not shown.html.startswith("<pre"), "it should be rendered"
    page = look(shown.html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "style", "iframe", "form", "input", "button", "svg", "img", "nav", "main", "link"}
        assert attributes.keys() <= ALLOWED.get(tag, {"id"}), (tag, attributes)
        assert attributes.get("id", "readme-").startswith("readme-")
        assert not {"top", "banner"} & set(attributes.get("class", "").split())
    assert set(page.urls) == links
    assert [found for _, found in page.elements if "spy.example.org" in "".join(found.values())] == []
    assert shown.images == images
    for link in page.find("a"):
        assert ("rel" in link) is not link["href"].startswith("#")


def test_headings_skip_no_level_and_lie_below_those_of_the_page() -> None:
    text = "## a\n\n#### b\n\n### c\n\n# d\n\n# e\n\n## f\n\n### g\n\n#### h\n\n##### i\n\n## j\n\n#\n"
    shown = Readmes().render(text, GFM)
    assert shown is not None
    assert re.findall(r"<h(\d)", shown.html) == ["3", "4", "4", "3", "3", "4", "5", "6", "6", "4"]


@pytest.mark.parametrize(
    ("html", "cleaned"),
    [
        ("<p>a<b>b</p>c", "<p>a<b>b</b></p>c"),
        ("</p></div>a", "a"),
        ("<span>a</span><span class=k>b</span>", 'a<span class="token-keyword">b</span>'),
        ('<a href="">a</a><a href="https://x/"></a>', "a"),
        ('<a href="https://x/&quot;&gt;<b>">a</a>',
         '<a href="https://x/&quot;&gt;&lt;b&gt;" rel="nofollow noopener noreferrer">a</a>'),
        ('<a href="https://x/\u202e">a</a>', "a"),
        ('<p id="user-content-a">x<p id="a">y', '<p id="readme-a">x<p>y</p></p>'),
        ("<table><tr><td colspan=2 rowspan=x align=right>a</table>",
         '<div class="wide" tabindex="0"><table><tr><td colspan="2" class="align-right">a</td></tr></table></div>'),
        ("<input type=checkbox checked><input>", "☑☐"),
        ("<tt>a</tt><acronym title='b'>c</acronym>", '<code>a</code><abbr title="b">c</abbr>'),
        ("a<script>b</script>c<style>d", "ac"),
        ("<unknown>a</unknown>&lt;b&gt;&amp;", "a&lt;b&gt;&amp;"),
        ("<hr><br/>", "<hr><br>"),
    ],
)  # fmt: skip
def test_html_is_written_anew(html: str, cleaned: str) -> None:
    assert clean(html) == (cleaned, 0)
