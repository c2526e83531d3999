"""A site: what is written when, what is left alone, what is removed. Who meets whom: test_site_interleaved."""

from __future__ import annotations

import io
import itertools
import json
import math
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.errors import BusyError, StorageError, UnreadableObjectError
from elasticpypi.names import NormalizedName
from elasticpypi.output import Output
from elasticpypi.output.directory import DirectoryOutput
from elasticpypi.output.s3 import S3Output
from elasticpypi.static_site import CoreMetadataPlace, SiteOptions, SiteProject
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
    SiteOptions(packages_url="https://files.example.com/a"),
]


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("options", OTHERWISE, ids=["title", "url", "no releases", "no core metadata", "packages"])
def test_other_options_write_the_site_anew(
    source: MemorySource, tmp_path: Path, options: SiteOptions, *, everything: bool
) -> None:
    """An event in between writes what is new with them; what it leaves as it was, the next build writes."""
    output = DirectoryOutput(tmp_path)
    open_site(source, output).build()
    source.packages_url = options.packages_url
    site = open_site(source, output, options)
    source.put(ACME, "3", 100)
    source.put("new", "1", 101)
    assert site.update([ACME, SPAM, NormalizedName("new")]).failed == {}
    site.build(everything=everything)
    assert site_of(output) == built_anew(source, options)


@pytest.mark.parametrize("everything", [False, True])
def test_other_options_write_the_site_anew_though_time_is_over(
    source: MemorySource, tmp_path: Path, *, everything: bool
) -> None:
    output, options = DirectoryOutput(tmp_path), SiteOptions(title="Ours")
    open_site(source, output).build()
    for _ in range(10):
        if not open_site(source, output, options).build(everything=everything, deadline=0).is_partial:
            break
    assert site_of(output) == built_anew(source, options)


def test_core_metadata_that_moves_beside_the_files_is_no_longer_among_the_pages(
    source: MemorySource, tmp_path: Path
) -> None:
    output, beside = DirectoryOutput(tmp_path / "site"), DirectoryOutput(tmp_path / "files")
    open_site(source, output).build()
    open_site(source, output, SiteOptions(core_metadata=CoreMetadataPlace.BESIDE), beside=beside).build()
    assert not [path for path in site_of(output) if path.endswith(".metadata")]
    assert len(site_of(beside)) == 6


def test_an_event_after_core_metadata_was_moved_moves_that_of_its_project_whole(
    source: MemorySource, tmp_path: Path
) -> None:
    output, beside = DirectoryOutput(tmp_path / "site"), DirectoryOutput(tmp_path / "files")
    open_site(source, output).build()
    site = open_site(source, output, SiteOptions(core_metadata=CoreMetadataPlace.BESIDE), beside=beside)
    for name in ("new", ACME, SPAM):  # a new one changes the lists, too, which are not all
        source.put(name, "3", 100)
        site.update([NormalizedName(name)])
    assert site_of(beside).keys() == {
        f"{name}/{name}-{version}-py3-none-any.whl.metadata"
        for name, versions in (("new", "3"), (ACME, "123"), (SPAM, "123"))
        for version in versions
    }
    site.build()
    assert len(site_of(beside)) == 9
    assert not [path for path in site_of(output) if path.endswith(".metadata")]


# What cannot lie in a directory: the name of the core metadata, then that of the release as well.
@pytest.mark.parametrize("digits", [240, 300])
def test_a_name_that_is_too_long_stops_no_other(source: MemorySource, tmp_path: Path, digits: int) -> None:
    output = DirectoryOutput(tmp_path)
    site = open_site(source, output)
    source.put(ACME, "1" * digits, 100)
    for report in (site.build(), site.build(), site.build(everything=True), site.update([ACME, SPAM])):
        assert report.failed.keys() == {ACME}
        assert report.failed[ACME].endswith("is too long for this file system: write to another one, or to S3")
    assert json.loads(site_of(output)["simple/index.json"])["projects"] == [{"name": "ham"}, {"name": "spam"}]
    assert dangling(site_of(output)) == []
    source.remove(ACME, "1" * digits)
    site.build()
    assert site_of(output) == built_anew(source)


def test_a_link_in_the_way_is_told_for_each_project_behind_it(source: MemorySource, tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path / "site")
    spoil(output, "robots.txt", b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "site/packages").symlink_to(tmp_path / "elsewhere")
    source.put("bare", "1", 100, core_metadata=None)
    site = open_site(source, output)
    for report in (site.build(), site.update([ACME, SPAM, HAM])):
        sentence = f"{tmp_path}/site/packages is a symbolic link, which is not followed: make it a directory"
        assert report.failed == dict.fromkeys((ACME, HAM, SPAM), sentence)
    assert json.loads(site_of(output)["simple/index.json"])["projects"] == [{"name": "bare"}]
    (tmp_path / "site/packages").unlink()
    site.build()
    assert site_of(output) == {**built_anew(source), "robots.txt": b""}


def test_a_project_that_came_by_an_event_and_goes_without_one_is_missed_by_a_build(
    source: MemorySource, output: Output
) -> None:
    site = open_site(source, output)
    site.build()
    source.put("new", "1", 100)
    site.update([NormalizedName("new")])
    source.forget("new")
    site.build()
    assert site_of(output) == built_anew(source)


def test_what_a_look_at_everything_could_not_read_is_looked_at_again(source: MemorySource, tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path)
    site = open_site(source, output)
    site.build()
    spoil(output, "pypi/acme/1/json", None)
    source.unreadable[ACME] = UnreadableObjectError("acme/acme-1-py3-none-any.whl", "it is forbidden")
    site.build(everything=True)
    source.unreadable.clear()
    site.build()
    assert site_of(output) == built_anew(source)


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
    ("simple/index.json", b'{"projects":[{"name":"acme"},{"name":"gone"},{"name":"ham"},{"name":"spam"}]}'),
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


FOREIGN = {
    "packages/acme-1.0-py3-none-any.whl": b"a wheel",
    "packages/acme-1.0-py3-none-any.whl.metadata": b"of it",
    "packages/acme/acme-7-py3-none-any.whl.metadata": b"of another",
    "project/README.md": b"ours",
    "project/mine/main.c": b"int main(void);",
    "project/acme/main.c": b"int main(void);",
    "assets/logo.png": b"a logo",
}


@pytest.mark.parametrize("everything", [False, True])
def test_the_first_build_removes_nothing_that_it_did_not_write(
    source: MemorySource, output: Output, *, everything: bool
) -> None:
    for path, data in FOREIGN.items():
        spoil(output, path, data)
    report = open_site(source, output).build(everything=everything)
    assert (report.removed, report.failed) == (0, {})
    assert site_of(output) == {**built_anew(source), **FOREIGN}


@pytest.mark.parametrize("place", [CoreMetadataPlace.NONE, CoreMetadataPlace.BESIDE])
def test_a_pool_of_files_is_left_alone_where_no_core_metadata_is_among_the_pages(
    source: MemorySource, tmp_path: Path, place: CoreMetadataPlace
) -> None:
    output, options = DirectoryOutput(tmp_path / "site"), SiteOptions(core_metadata=place)
    pool = {path: data for path, data in FOREIGN.items() if path.startswith("packages/")}
    for path, data in pool.items():
        spoil(output, path, data)
    site = open_site(source, output, options, beside=DirectoryOutput(tmp_path / "files"))
    steps: list[Callable[[], SiteReport]] = [
        site.build,
        lambda: site.build(everything=True),
        lambda: site.update([ACME]),
    ]
    for step in steps:
        source.put(ACME, "3", 100)
        step()
        assert pool.items() <= site_of(output).items()
    source.forget(ACME)
    site.update([ACME])
    assert pool.items() <= site_of(output).items()


def listed(output: Output) -> list[str]:
    return [project["name"] for project in json.loads(site_of(output)["simple/index.json"])["projects"]]


@pytest.mark.parametrize(("everything", "deadline"), [(False, math.inf), (True, math.inf), (True, 0)])
def test_a_project_that_comes_while_a_build_begins_stays_listed(
    source: MemorySource, *, everything: bool, deadline: float
) -> None:
    output = MemoryOutput()
    open_site(source, output).build()
    seen: list[list[str]] = []

    def come() -> None:
        source.put("new", "1", 100)
        open_site(source, output).update([NormalizedName("new")])
        seen.append(listed(output))

    source.happenings.append(come)
    open_site(source, output).build(everything=everything, deadline=deadline)
    assert seen == [listed(output)] == [["acme", "ham", "new", "spam"]]
    open_site(source, output).build()
    assert site_of(output) == built_anew(source)


@pytest.mark.parametrize("everything", [False, True])
def test_a_project_that_goes_while_a_build_begins_is_not_listed_again(
    source: MemorySource, *, everything: bool
) -> None:
    output = MemoryOutput()
    open_site(source, output).build()
    source.put(SPAM, "3", 100)

    def go() -> None:
        source.forget(HAM)
        open_site(source, output).update([HAM])

    source.happenings.append(go)
    open_site(source, output).build(everything=everything)
    assert listed(output) == ["acme", "spam"]
    open_site(source, output).build()
    assert site_of(output) == built_anew(source)


@pytest.mark.parametrize("damaged", [None, b'{"projects":['])
def test_a_list_that_is_lost_is_made_again_of_what_lies_there(
    source: MemorySource, output: Output, damaged: bytes | None
) -> None:
    site = open_site(source, output)
    site.build()
    spoil(output, "simple/index.json", damaged)
    source.put("new", "1", 100)
    site.update([NormalizedName("new")])
    assert differing(site_of(output), built_anew(source)) == {"packages.json"}


def test_a_look_at_everything_in_several_runs_repairs_all_drift(source: MemorySource, tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path)
    open_site(source, output).build()
    for path, data in (
        ("assets/old.css", b""),
        ("packages/acme-9-py3-none-any.whl.metadata", b"of a project that is looked at first"),
        ("packages/flat-9-py3-none-any.whl.metadata", b"nobody's"),
        ("packages/what-is-this.metadata", b"nobody's"),
        ("simple/gone/index.json", b"{}"),
        ("simple/index.json", b'{"projects":[{"name":"acme"},{"name":"gone"},{"name":"ham"},{"name":"spam"}]}'),
    ):
        spoil(output, path, data)
    partial = [open_site(source, output).build(everything=True, deadline=0).is_partial for _ in range(4)]
    assert partial == [True, True, False, True] or partial == [True, True, True, False]
    assert site_of(output) == built_anew(source)


def test_core_metadata_that_is_no_longer_among_the_pages_goes_in_several_runs_too(
    source: MemorySource, tmp_path: Path
) -> None:
    output, options = DirectoryOutput(tmp_path), SiteOptions(core_metadata=CoreMetadataPlace.NONE)
    open_site(source, output).build()
    for _ in range(4):
        open_site(source, output, options).build(everything=True, deadline=0)
    assert site_of(output) == built_anew(source, options)


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


def test_core_metadata_that_is_announced_and_not_there_keeps_a_project_as_it_was(
    source: MemorySource, tmp_path: Path
) -> None:
    class Replaced(MemorySource):
        """A source whose files are always others by the time that their core metadata is read."""

        def project(self, name: NormalizedName) -> SiteProject | None:
            found = source.project(name)
            return None if found is None else replace(found, core_metadata=lambda _: None)

    output, replaced = DirectoryOutput(tmp_path), Replaced()
    open_site(source, output).build()
    for at in (source, replaced):
        at.put(ACME, "3", 100)
    report = open_site(replaced, output).update([ACME])
    assert report.failed == {ACME: str(BusyError(ACME))}
    assert "acme-3-" not in site_of(output)["simple/acme/index.html"].decode()
    assert dangling(site_of(output)) == []
    open_site(source, output).update([ACME])
    assert differing(site_of(output), built_anew(source)) == {"packages.json"}


def test_packages_json_that_is_another_one_by_now_is_not_copied_from(source: MemorySource, output: Output) -> None:
    site = open_site(source, output)
    site.build()
    spoil(output, "packages.json", b"x" * len(site_of(output)["packages.json"]))
    source.put(ACME, "3", 100)
    site.build()
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


def test_an_event_whose_time_is_over_says_for_which_projects(source: MemorySource, tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path)
    site = open_site(source, output)
    report = site.update([ACME, SPAM], deadline=0)
    assert report.failed == dict.fromkeys((ACME, SPAM), "there was no time left for it")
    assert site_of(output) == {}
    assert site.update([ACME, SPAM, HAM], deadline=time.monotonic() + 3600).failed == {}
    assert differing(site_of(output), built_anew(source)) == {"packages.json"}


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


def test_core_metadata_beside_the_files_of_an_index_is_none_of_its_files(site: IndexSite, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1")
    site.upload(wheel)
    options, files = SiteOptions(core_metadata=CoreMetadataPlace.BESIDE), tmp_path / "data/files"
    kept = Site(
        IndexSource(site.index, options), DirectoryOutput(tmp_path / "site"), options, beside=DirectoryOutput(files)
    )
    kept.build()
    described = files / "acme" / f"{wheel.name}.metadata"
    (files / ".elasticpypi/output.new").write_bytes(b"left by somebody who was killed")
    assert described.is_file()
    assert (files / ".elasticpypi/output.lock").is_file()
    for arguments in (["sync", "--check"], ["sync"]):
        done = site.run(*arguments)
        assert (done.exit_code, ".metadata" in done.output) == (0, False)
    stream = io.BytesIO()
    assert site.index.backup(stream).left_out == {}
    stream.seek(0)
    with tarfile.open(fileobj=stream) as backup:
        names = [name for name in backup.getnames() if "first-seen" not in name]
    assert names == [f"acme/{wheel.name}", ".elasticpypi/backup.json"]
    kept.build(everything=True)
    assert described.is_file()


def test_nothing_is_named_that_is_not_there(source: MemorySource, output: Output) -> None:
    open_site(source, output).build()
    assert dangling(site_of(output)) == []
