"""READMEs as people see them: rendered where that is safe and quick, else the text that they are."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import nh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readme_renderer.clean import ALLOWED_TAGS
from readme_renderer.clean import clean as clean_first

from elasticpypi import readme
from elasticpypi.readme import Readme, Readmes, rendering
from elasticpypi.readme.cleaning import clean
from tests.examples import examples
from tests.looking import look

GFM = "text/markdown; charset=UTF-8; variant=GFM"


@pytest.mark.parametrize(
    ("content_type", "text", "html"),
    [
        (GFM, "# Hi\n\n~~no~~ *yes*\n", '<h3 id="readme-hi">Hi</h3>\n<p><del>no</del> <em>yes</em></p>\n'),
        ("text/markdown", "a **b**", "<p>a <strong>b</strong></p>\n"),
        ("Text/Markdown;variant=CommonMark", "# Hi\n\n~~no~~", "<h3>Hi</h3>\n<p>~~no~~</p>\n"),
        ("text/plain", "*<b>*\n", '<pre class="text" tabindex="0">*&lt;b&gt;*\n</pre>'),
        ("text/html", "<b>x</b>", '<pre class="text" tabindex="0">&lt;b&gt;x&lt;/b&gt;</pre>'),
        ("nonsense", "*yes*", '<pre class="text" tabindex="0">*yes*</pre>'),
    ],
)
def test_a_readme_is_rendered_by_its_content_type(content_type: str | None, text: str, html: str) -> None:
    assert Readmes().render(text, content_type) == Readme(html)


def test_a_readme_without_a_content_type_is_restructuredtext() -> None:
    readmes, types = Readmes(), ("text/x-rst", None, "", "Text/X-RST; charset=UTF-8")
    shown = [readmes.render("Hi\n==\n\n*yes*", content_type) for content_type in types]
    assert shown == [Readme('<div id="readme-hi">\n<h3>Hi</h3>\n<p><em>yes</em></p>\n</div>\n')] * 4


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_nothing_is_no_readme(text: str) -> None:
    assert Readmes().render(text, GFM) is None


def test_what_cannot_be_rendered_is_shown_as_text() -> None:
    text = 201 * ">" + "a"
    assert Readmes().render(text, GFM) == Readme(f'<pre class="text" tabindex="0">{201 * "&gt;"}a</pre>')


@pytest.mark.parametrize(
    "text",
    ["*a", ".. include:: /etc/passwd", ".. raw:: html\n\n   <b>x</b>", ".. csv-table::\n   :file: /etc/passwd"],
)
def test_what_has_errors_is_not_rendered_nor_what_would_read_a_file_or_write_html(text: str) -> None:
    assert rendering.render(text, "rst") is None


def test_what_takes_too_long_is_shown_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    assert Readmes(seconds=0.1).render("a", GFM) == Readme('<pre class="text" tabindex="0">a</pre>')


@pytest.mark.heavy
def test_a_short_one_that_takes_hours_is_shown_as_text() -> None:
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


class Renderer:
    """Stands in for the process that renders, and can be held up in the middle of it."""

    def __init__(self) -> None:
        self.rendered: list[tuple[str, str]] = []
        self.outcome: Readme | None = RENDERED
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, raw: bytes, kind: str, _seconds: float) -> Readme | None:
        self.rendered.append((raw.decode(), kind))
        self.begun.release()
        assert self.may_end.wait(LONG)
        return self.outcome

    @contextmanager
    def held_up(self, readmes: Readmes, *texts: str) -> Iterator[list[Future[Readme | None]]]:
        """Have these READMEs looked at, whose rendering ends with the context."""
        self.may_end.clear()
        with ThreadPoolExecutor(len(texts)) as pool:
            views = [pool.submit(readmes.render, text, GFM) for text in texts]
            try:
                assert all(self.begun.acquire(timeout=LONG) for _ in texts)
                yield views
            finally:
                self.may_end.set()


RENDERED = Readme("x" * 40)
LONG = 30.0  # seconds, in which what is waited for happens at once


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Renderer:
    renderer = Renderer()
    monkeypatch.setattr(readme, "_run", renderer)
    return renderer


def as_text(text: str) -> Readme:
    return Readme(f'<pre class="text" tabindex="0">{text}</pre>')


def test_a_readme_is_rendered_once(renderer: Renderer) -> None:
    readmes = Readmes(memory_bytes=100)
    for text in "aabacb":  # "c" does not fit beside the two others, of which "b" was used longest ago
        readmes.render(text, GFM)
    readmes.render("a", "text/x-rst")
    assert renderer.rendered == [
        ("a", "markdown"), ("b", "markdown"), ("c", "markdown"), ("b", "markdown"), ("a", "rst")
    ]  # fmt: skip


def test_one_that_is_larger_than_the_memory_is_not_kept(renderer: Renderer) -> None:
    readmes = Readmes(memory_bytes=10)
    assert [readmes.render("a", GFM) for _ in range(2)] == [RENDERED] * 2
    assert renderer.rendered == [("a", "markdown")] * 2


def test_what_could_not_be_rendered_is_not_tried_again(renderer: Renderer) -> None:
    renderer.outcome = None
    readmes = Readmes()
    assert [readmes.render("a", GFM) for _ in range(2)] == [as_text("a")] * 2
    assert renderer.rendered == [("a", "markdown")]


def test_who_looks_while_it_is_rendered_waits_for_that_but_four_at_most(renderer: Renderer) -> None:
    readmes = Readmes(seconds=LONG)
    with ThreadPoolExecutor(5) as pool, renderer.held_up(readmes, "a") as firsts:
        others = [pool.submit(readmes.render, "a", GFM) for _ in range(5)]
        refused, waiting = wait(others, timeout=LONG, return_when=FIRST_COMPLETED)
        assert [view.result() for view in refused] == [as_text("a")]
        assert len(waiting) == 4
        renderer.may_end.set()
        assert [view.result() for view in (*firsts, *waiting)] == [RENDERED] * 5
    assert renderer.rendered == [("a", "markdown")]


def test_two_are_rendered_at_once_and_four_wait_for_a_turn(renderer: Renderer) -> None:
    readmes = Readmes(seconds=LONG)
    with ThreadPoolExecutor(5) as pool, renderer.held_up(readmes, "a", "b"):
        others = {pool.submit(readmes.render, text, GFM): text for text in "cdefg"}
        refused, waiting = wait(others, timeout=LONG, return_when=FIRST_COMPLETED)
        late = "".join(others[view] for view in refused)
        assert [view.result() for view in refused] == [as_text(late)]
        assert len(renderer.rendered) == 2
        renderer.may_end.set()
        assert [view.result() for view in waiting] == [RENDERED] * 4
    assert readmes.render(late, GFM) == RENDERED, "that all were busy should be forgotten"
    assert sorted(text for text, _ in renderer.rendered) == list("abcdefg")


def test_who_has_waited_long_enough_is_shown_text_for_this_once(renderer: Renderer) -> None:
    readmes = Readmes(seconds=0.02)
    with renderer.held_up(readmes, "a", "b"):
        assert [readmes.render(text, GFM) for text in "abc"] == [as_text("a"), as_text("b"), as_text("c")]
    assert [readmes.render(text, GFM) for text in "abc"] == [RENDERED] * 3
    assert sorted(text for text, _ in renderer.rendered) == ["a", "b", "c"]


def test_that_no_process_could_be_started_is_not_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readmes = Readmes()
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", str(tmp_path / "missing"))
        with pytest.raises(FileNotFoundError):
            readmes.render("a", GFM)
    assert readmes.render("a", GFM) == Readme("<p>a</p>\n")


def test_the_process_that_renders_is_not_given_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    ("kind", "text", "images", "links"),
    [
        (
            "markdown",
            MARKDOWN,
            4,
            {"#readme-title", "https://example.org/", "mailto:jane@example.org", "HTTPS://example.org/i", "https://ci.example.org/"},
        ),
        ("rst", RST, 2, {"https://example.org/"}),
    ],
)  # fmt: skip
def test_only_what_is_harmless_is_left(kind: str, text: str, images: int, links: set[str]) -> None:
    rendered = rendering.render(text, kind)
    assert rendered is not None
    html, left_out = clean(rendered)
    page = look(html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "style", "iframe", "form", "input", "button", "svg", "img", "nav", "main", "link"}
        assert attributes.keys() <= ALLOWED.get(tag, {"id"}), (tag, attributes)
        assert attributes.get("id", "readme-").startswith("readme-")
        assert not {"top", "banner"} & set(attributes.get("class", "").split())
    assert set(page.urls) == links
    assert [found for _, found in page.elements if "spy.example.org" in "".join(found.values())] == []
    assert left_out == images
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
        ('<p id="user-content-a">x</p><p id="a">y', '<p id="readme-a">x</p><p>y</p>'),
        ("<table><tbody><tr><td colspan=2 rowspan=x align=right>a</table>",
         '<div class="wide" tabindex="0"><table><tbody><tr><td colspan="2" class="align-right">a</td></tr></tbody>'
         "</table></div>"),
        ("<ol start=3><li>a</ol><ol start=x></ol>", '<ol start="3"><li>a</li></ol><ol></ol>'),
        ("<pre>\n\n\n\n\n\n\n\n\na\n", '<pre tabindex="0">a\n</pre>'),
        ("<input type=checkbox checked><input>", "☑☐"),
        ("<tt>a</tt><acronym title='b'>c</acronym>", '<code>a</code><abbr title="b">c</abbr>'),
        ("a<script>b</script>c<style>d", "ac"),
        ("<unknown>a</unknown>&lt;b&gt;&amp;", "a&lt;b&gt;&amp;"),
        ("<hr><br/>", "<hr><br>"),
    ],
)  # fmt: skip
def test_html_is_written_anew(html: str, cleaned: str) -> None:
    assert clean(html) == (cleaned, 0)


def test_what_is_nested_too_deeply_is_no_html_for_a_page() -> None:
    assert clean("<i>" * 200) == ("<i>" * 200 + "</i>" * 200, 0)
    with pytest.raises(ValueError, match="more than 200 elements"):
        clean("<i>" * 201)


# Reads a page as a browser does (html5ever, by the HTML specification), and writes the tree that came of it.
BROWSER = nh3.Cleaner(
    tags=ALLOWED_TAGS | {"section", "s", "tfoot"},
    attributes={"*": {"class", "colspan", "href", "id", "rel", "rowspan", "start", "tabindex", "title"}},
    link_rel=None,
)


def in_a_page(html: str) -> str:
    """Return a part of a page that has a README in it, as `people/project.html` has."""
    head = '<section class="description"><h2 id="description">Description</h2><div class="readme">'
    return f'{head}{html}</div><p class="hint">cut</p></section><section><h2 id="files">Files</h2></section>'


def check_that_it_stays_inside(html: str) -> None:
    """Check a README's HTML, as it is written and as the renderer leaves it: its tags make the tree that they show."""
    for source in (html, clean_first(html)):
        assert source is not None
        page = in_a_page(clean(source)[0])
        assert BROWSER.clean(page) == page


@pytest.mark.parametrize(
    "html",
    [
        "<dl><dd><nav><dd><nav><dd>x</dd></nav></dd></nav></dd></dl>",
        "<dl><dd><div><article><dd>x</dd></article></div></dd></dl>",  # the renderer leaves out the article
        "<dl><dt><aside><main><dt>x</dt></main></aside></dt></dl>",
        "<ul><li><div><section><li>x</li></section></div></li></ul></div>",
        "<ul><li><div><object><li>x</li></object></div></li></ul>",
        "<p><button><div><p>x</p></div></button></p>",
        "<div><p><button><table><tr><td><p>x</table></button></p></div>",
        "<p><object><h1><marquee><h2>x</h2></marquee></h1></object></p>",
        "<table><tr><td><table><caption><div><td>x</td></div></caption></table></td></tr></table>",
        "<table><form><tr><td><form><div></form><div>x</table></form></div>",
        "<table><input type=hidden><tr><input>x<div></table></div>",
        "<table><colgroup><div><col></div></colgroup></table></div>",
        "<table><select><tr><td><div></select></table></div>",
        "<select><option><div><optgroup></div></select></div>",
        "<svg><desc><div><dd><p></desc></svg><foreignObject></div>",
        "<svg><p><style><!--</style><div title='--></div></div>'>x",
        "<math><mtext><table><mglyph><style><div></table></math></div>",
        "<math><annotation-xml encoding=text/html><dd><div><dd></math></div>",
        "<template><div></template></div><template></div></template>",
        "<form><div></form><form><dd></div></form></div>",
        "<a href=https://x/>1<a href=https://x/>2<div><a href=https://x/>3</div></a></div>",
        "<a href=https://x/>1<table><a href=https://x/>2<tr><a href=https://x/>3</table></div>",
        "<a href=https://x/>1<button><a href=https://x/>2</button></a></div>",
        "<b><i><p></b>x</i><div></p></b></div></div>",
        "<h1><div><h2>x</h1></div></h2></div>",
        "<details><summary><div><summary></details></div></summary></div>",
        "<pre><pre>\n\n</pre>\n<span></span>\n</pre></div>",
        "<frameset></frameset><body class=x></body></html></div></section>x",
        "<plaintext></div>",
        "<textarea><div></textarea></div><noscript></div></noscript><xmp></div></xmp>",
    ],
)
def test_nothing_in_a_readme_ends_what_is_around_it(html: str) -> None:
    check_that_it_stays_inside(html)


TAGS = sorted(
    {*ALLOWED_TAGS, "article", "button", "caption", "form", "main", "marquee", "math", "mtext", "object", "option"}
    | {"s", "select", "svg", "template", "tfoot", "foreignObject", "title"}
)
PIECES = st.one_of(
    st.sampled_from([f"<{tag}>" for tag in TAGS] + ["<a href=https://x/ id=a>", "<div class=admonition>"]),
    st.sampled_from([f"</{tag}>" for tag in TAGS]),
    st.sampled_from(["x", " ", "\n", "&nbsp;", "&#13;", "'\"<", "<input type=hidden>", "<img src=x alt=y>"]),
)
NESTED = st.recursive(
    PIECES,
    lambda inside: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", st.sampled_from(TAGS), st.lists(inside, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.many_examples
@settings(max_examples=examples(60, 3000), deadline=None, derandomize=True)
@given(st.lists(NESTED, max_size=8).map("".join))
def test_no_nesting_of_elements_ends_what_is_around_it(html: str) -> None:
    check_that_it_stays_inside(html)
