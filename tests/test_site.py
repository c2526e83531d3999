"""A site: what is written when, what is left alone, what is removed. Who meets whom: test_site_interleaved."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.errors import StorageError, UnreadableObjectError
from elasticpypi.names import NormalizedName
from elasticpypi.output import Output
from elasticpypi.output.directory import DirectoryOutput
from elasticpypi.output.s3 import S3Output
from elasticpypi.static_site import CoreMetadataPlace, SiteOptions
from elasticpypi.static_site.of_index import IndexSource
from elasticpypi.static_site.site import Site, SiteReport
from tests.aws import Cloud
from tests.dists import make_wheel
from tests.outputs import MemoryOutput, MemorySource, dangling, site_of
from tests.site import JSON
from tests.site import Site as IndexSite

ACME, SPAM, HAM = NormalizedName("acme"), NormalizedName("spam"), NormalizedName("ham")
PER_TEST_PAGE = 10


@pytest.fixture(params=["directory", pytest.param("s3", id="s3")])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "directory":
        return DirectoryOutput(tmp_path / "site")
    cloud: Cloud = request.getfixturevalue("cloud")
    return S3Output(cloud.aws, cloud.make_bucket(), "pypi")


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource()
    for at, (name, version) in enumerate(itertools.product((ACME, SPAM, HAM), "12")):
        source.put(name, version, at)
    return source


def open_site(source: MemorySource, output: Output, options: SiteOptions | None = None, **more: Any) -> Site:
    return Site(source, output, options or SiteOptions(), per_page=PER_TEST_PAGE, pause=lambda _: None, **more)


def built_anew(source: MemorySource, options: SiteOptions | None = None) -> dict[str, bytes]:
    output = MemoryOutput(is_exclusive=True)
    open_site(source, output, options).build()
    return site_of(output)


def differing(found: dict[str, bytes], expected: dict[str, bytes]) -> set[str]:
    return {path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)}


def changed_by(output: Output, step: Callable[[], SiteReport]) -> tuple[set[str], SiteReport]:
    before = site_of(output)
    report = step()
    return differing(before, site_of(output)), report


def test_a_new_file_rewrites_what_names_it_and_nothing_else(source: MemorySource, output: Output) -> None:
    site = open_site(source, output)
    site.build()
    source.put(ACME, "3", 100)
    changed, report = changed_by(output, lambda: site.update([ACME]))
    assert changed == {
        "packages/acme/acme-3-py3-none-any.whl.metadata",
        "pypi/acme/3/json",
        "pypi/acme/json",
        "project/acme/index.html",
        "simple/acme/index.html",
        "simple/acme/index.json",
        "changelog/index.html",
        "changelog/feed.xml",
    }
    assert (report.written, report.removed, report.failed, report.is_partial) == (len(changed), 0, {}, False)
    assert differing(site_of(output), built_anew(source)) == {"packages.json"}


def test_the_lists_of_projects_change_with_a_projects_first_file_and_its_end(
    source: MemorySource, output: Output
) -> None:
    site = open_site(source, output)
    site.build()
    lists = {"index.html", "simple/index.html", "simple/index.json"}
    source.put("new", "1", 100)
    changed, _ = changed_by(output, lambda: site.update([NormalizedName("new")]))
    assert lists < changed
    source.forget("new")
    changed, report = changed_by(output, lambda: site.update([NormalizedName("new")]))
    assert lists < changed
    assert report.removed == 6
    assert differing(site_of(output), built_anew(source)) == set()


def test_what_has_not_changed_is_not_written(source: MemorySource, output: Output) -> None:
    site = open_site(source, output)
    site.build()
    for step in (site.build, lambda: site.build(everything=True), lambda: site.update([ACME, SPAM, HAM])):
        changed, report = changed_by(output, step)
        assert (changed, report.written, report.removed) == (set(), 0, 0)


def test_a_build_after_some_changes_writes_those(source: MemorySource, output: Output) -> None:
    site = open_site(source, output)
    site.build()
    source.put(SPAM, "3", 100)
    source.forget(HAM)
    source.put("new", "1", 2)
    changed, report = changed_by(output, site.build)
    assert not [path for path in changed if "acme" in path]
    assert "packages.json" in changed
    assert report.projects == 3
    assert site_of(output) == built_anew(source)


OTHERWISE = [
    SiteOptions(title="Ours"),
    SiteOptions(url="https://pypi.example.com/"),
    SiteOptions(per_release_json=False),
    SiteOptions(core_metadata=CoreMetadataPlace.NONE),
]


@pytest.mark.parametrize("options", OTHERWISE, ids=["title", "url", "no releases", "no core metadata"])
def test_other_options_write_the_site_anew(source: MemorySource, tmp_path: Path, options: SiteOptions) -> None:
    output = DirectoryOutput(tmp_path)
    open_site(source, output).build()
    open_site(source, output, options).build()
    assert site_of(output) == built_anew(source, options)


def spoil(output: Output, path: str, data: bytes | None) -> None:
    found = output.look(path)
    if data is not None:
        output.write(path, data, "text/plain", replacing=found)
    elif found is not None:
        output.remove(found)


DRIFT = [
    ("simple/acme/index.html", b"other"),
    ("simple/acme/index.html", None),
    ("simple/acme/index.json", b"{"),
    ("pypi/acme/1/json", None),
    ("packages/acme/acme-1-py3-none-any.whl.metadata", None),
    ("packages/acme/acme-9-py3-none-any.whl.metadata", b"nobody's"),
    ("packages/gone/gone-9-py3-none-any.whl.metadata", b"nobody's"),
    ("packages/flat-9-py3-none-any.whl.metadata", b"nobody's"),
    ("simple/gone/index.json", b"{}"),
    ("pypi/gone/1/json", b"{}"),
    ("pypi/acme/9/json", b"{}"),
    ("assets/old.css", b""),
    ("changelog/page7.html", b""),
    ("changelog/index.html", b""),
    ("simple/index.json", b"{"),
    ("simple/index.html", None),
    ("index.html", b""),
    ("404.html", b""),
    ("packages.json", b"[]"),
    (".elasticpypi/root.json", b"["),
    (".elasticpypi/site.json", b"[]"),
    (".elasticpypi/site.json", None),
    (".elasticpypi/changelog/index.json", b"{"),
    (".elasticpypi/site/gone", b"{"),
]


@pytest.mark.parametrize(("path", "data"), DRIFT)
def test_a_look_at_everything_repairs_drift(
    source: MemorySource, tmp_path: Path, path: str, data: bytes | None
) -> None:
    output = DirectoryOutput(tmp_path)
    site = open_site(source, output)
    site.build()
    spoil(output, path, data)
    site.build(everything=True)
    assert site_of(output) == built_anew(source)
    assert list(output.list(".elasticpypi/site/")) == []


def test_what_somebody_else_has_put_at_the_top_stays(source: MemorySource, output: Output) -> None:
    spoil(output, "robots.txt", b"User-agent: *")
    site = open_site(source, output)
    site.build()
    site.build(everything=True)
    assert site_of(output) == {**built_anew(source), "robots.txt": b"User-agent: *"}


def test_a_project_that_cannot_be_read_stops_no_other(source: MemorySource, output: Output) -> None:
    source.unreadable[ACME] = UnreadableObjectError("acme/acme-1-py3-none-any.whl", "it is forbidden")
    site = open_site(source, output)
    for report in (site.build(), site.update([ACME, SPAM])):
        assert report.failed == {ACME: "acme/acme-1-py3-none-any.whl cannot be read: it is forbidden"}
    assert "simple/spam/index.json" in site_of(output)
    assert json.loads(site_of(output)["simple/index.json"])["projects"] == [{"name": "ham"}, {"name": "spam"}]
    source.unreadable.clear()
    assert site.build().failed == {}
    assert site_of(output) == built_anew(source)


def test_a_source_that_fails_as_a_whole_stops_everything(source: MemorySource, output: Output) -> None:
    source.unreadable[ACME] = StorageError("the disk is gone")
    site = open_site(source, output)
    with pytest.raises(StorageError):
        site.build()
    with pytest.raises(StorageError):
        site.update([ACME])
    source.unreadable.clear()
    site.build()
    assert site_of(output) == built_anew(source)


@pytest.mark.parametrize("everything", [False, True])
def test_a_build_goes_on_where_its_time_was_over(source: MemorySource, tmp_path: Path, *, everything: bool) -> None:
    output = DirectoryOutput(tmp_path)
    seen: list[int] = []
    for _ in range(10):
        report = open_site(source, output).build(everything=everything, deadline=0)
        seen.append(report.projects)
        if not report.is_partial:
            break
    assert sum(seen) in {3, 4}  # one by one; the lists may take another run
    assert site_of(output) == built_anew(source)


def test_a_build_tells_how_far_it_is(source: MemorySource, tmp_path: Path) -> None:
    told: list[SiteReport] = []
    report = open_site(source, DirectoryOutput(tmp_path)).build(progress=told.append)
    assert [each.projects for each in told] == [1, 2, 3]
    assert told[-1].written < report.written


def many(count: int) -> MemorySource:
    source = MemorySource()
    for at in range(count):
        source.put(f"project-{at % 7}", str(at + 1), at)
    return source


@pytest.mark.parametrize("count", [0, 1, 10, 11, 35])
def test_the_changelog_has_full_pages_and_a_newest_one(tmp_path: Path, count: int) -> None:
    source, output = many(count), DirectoryOutput(tmp_path)
    open_site(source, output).build()
    pages = {path for path in site_of(output) if path.startswith("changelog/page")}
    assert pages == {f"changelog/page{number}.html" for number in range(1, max(-(-count // PER_TEST_PAGE), 1))}


def test_pages_that_fill_up_come_one_by_one(tmp_path: Path) -> None:
    source, output = many(1), DirectoryOutput(tmp_path)
    site = open_site(source, output)
    site.build()
    for at in range(1, 35):
        source.put("acme", str(at), at)
        site.update([ACME])
        assert differing(site_of(output), built_anew(source)) <= {"packages.json"}


def test_a_file_that_goes_leaves_a_gap_until_the_next_build(tmp_path: Path) -> None:
    source, output = many(35), DirectoryOutput(tmp_path)
    site = open_site(source, output)
    site.build()
    source.remove("project-1", "2")
    changed, _ = changed_by(output, lambda: site.update([NormalizedName("project-1")]))
    assert {path for path in changed if path.startswith("changelog/")} == {"changelog/page1.html", "changelog/feed.xml"}
    site.build()
    assert site_of(output) == built_anew(source)


def test_the_pages_of_an_index_are_its_dynamic_ones(site: IndexSite, tmp_path: Path) -> None:
    for version in ("1", "2"):
        site.drop(make_wheel(tmp_path, "acme", version), f"acme/acme-{version}-py3-none-any.whl")
    site.run("yank", "acme", "1", "--reason", "bad")
    options, output = SiteOptions(), DirectoryOutput(tmp_path / "site")
    Site(IndexSource(site.index, options), output, options).build()
    written = site_of(output)
    for accept, name in (("text/html", "index.html"), (JSON, "index.json")):
        assert written[f"simple/acme/{name}"] == site.get("/simple/acme/", Accept=accept).data
    assert dangling(written) == []
    assert len([path for path in written if path.endswith(".metadata")]) == 2


def test_an_event_of_an_index_rewrites_its_project(site: IndexSite, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1"))
    options, output = SiteOptions(), DirectoryOutput(tmp_path / "site")
    kept = Site(IndexSource(site.index, options), output, options)
    kept.update([ACME])
    site.drop(make_wheel(tmp_path, "acme", "2"))
    kept.update([ACME])
    anew = DirectoryOutput(tmp_path / "anew")
    Site(IndexSource(site.index, options), anew, options).build()
    assert differing(site_of(output), site_of(anew)) == {"packages.json"}


def test_core_metadata_beside_the_files(source: MemorySource, tmp_path: Path) -> None:
    options = SiteOptions(core_metadata=CoreMetadataPlace.BESIDE)
    output, beside = DirectoryOutput(tmp_path / "site"), DirectoryOutput(tmp_path / "files")
    spoil(beside, "acme/acme-1-py3-none-any.whl", b"a wheel")
    site = open_site(source, output, options, beside=beside)
    site.build()
    assert not [path for path in site_of(output) if path.endswith(".metadata")]
    assert beside.read("acme/acme-1-py3-none-any.whl.metadata") is not None
    source.remove(ACME, "1")
    site.update([ACME])
    assert beside.look("acme/acme-1-py3-none-any.whl.metadata") is None
    assert beside.look("acme/acme-1-py3-none-any.whl") is not None
    site.build(everything=True)
    assert len(site_of(beside)) == 6


def test_nothing_is_named_that_is_not_there(source: MemorySource, output: Output) -> None:
    open_site(source, output).build()
    assert dangling(site_of(output)) == []
