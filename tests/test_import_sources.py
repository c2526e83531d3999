"""What is left of other indexes on this machine: a directory, a list for dumb-pypi, an export of devpi."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.errors import ConfigError, SourceError
from elasticpypi.importing import SourceFile, SourceProject
from elasticpypi.importing.devpi import open_export
from elasticpypi.importing.directory import PackageDirectory
from elasticpypi.importing.dumb_pypi import PackageList
from elasticpypi.importing.local import LocalContent
from elasticpypi.importing.run import Report
from tests.dists import make_sdist, make_wheel
from tests.moving import Answer, bring_in, serving_answers
from tests.privileges import unprivileged
from tests.site import Site

WHEEL = "acme-1.0-py3-none-any.whl"
TIME = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


def test_a_directory_is_read_as_pypiserver_reads_it(tmp_path: Path) -> None:
    root = tmp_path / "packages"
    paths = [make_wheel(root), make_sdist(root / "sub" / "deeper"), make_wheel(tmp_path / "elsewhere", version="3.0")]
    (root / "linked.whl").symlink_to(paths[2])
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    make_wheel(root / ".hidden", version="2.0")
    (root / ".hidden.whl").write_text("")
    for path in paths:
        os.utime(path, (10**9, 10**9))
    paths[2:] = [root / "linked.whl"]
    found = [
        SourceFile(path.name, LocalContent(path), {}, path.stat().st_size, TIME)
        for path in (paths[0], paths[2], paths[1])
    ]
    source = PackageDirectory(root)
    assert (source.name, list(source.projects())) == ("pypiserver packages", [SourceProject(tuple(found))])


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    make_wheel(tmp_path / "packages" / "private")
    with unprivileged():
        (tmp_path / "packages" / "private").chmod(0)
        with pytest.raises(SourceError, match="private cannot be read"):
            list(PackageDirectory(tmp_path / "packages").projects())
        (tmp_path / "packages" / "private").chmod(0o700)


def test_a_file_that_cannot_be_read_does_not_stop_the_others(site: Site, tmp_path: Path) -> None:
    private, good = make_wheel(tmp_path / "packages"), make_wheel(tmp_path / "packages", version="2.0")
    source = PackageDirectory(tmp_path / "packages")
    with unprivileged():
        private.chmod(0)
        report = bring_in(site.index, source)
        private.chmod(0o600)
    assert report == Report(imported=[good.name], failed={private.name: f"{private} cannot be read: Permission denied"})


# Lists for dumb-pypi ---------------------------------------------------------------------------------------------


def lines(*objects: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(json.dumps(fields) for fields in objects)


def test_a_plain_list_names_files_of_a_directory(site: Site, tmp_path: Path) -> None:
    wheel, sdist = make_wheel(tmp_path / "packages"), make_sdist(tmp_path / "packages")
    make_wheel(tmp_path / "packages", "unlisted")
    source = PackageList((wheel.name, "", f"  {sdist.name}  ", "setup.exe"), str(tmp_path / "packages"))
    assert source.name == "dumb-pypi packages"
    assert bring_in(site.index, source) == Report(
        imported=[wheel.name, sdist.name], skipped={"setup.exe": "it is not a wheel, sdist or egg"}
    )


def test_a_list_of_json_objects_says_more(tmp_path: Path) -> None:
    content = LocalContent(tmp_path / WHEEL)
    source = PackageList(
        lines(
            {"filename": WHEEL},
            {
                "filename": WHEEL,
                "hash": "md5=00",
                "requires_python": ">=3",
                "upload_timestamp": 10**9,
                "uploaded_by": "alice",
                "yanked_reason": "broken",
                "core_metadata": "sha256=11",
            },
            {"filename": WHEEL, "hash": None, "upload_timestamp": 1e300, "yanked_reason": None},
            {"filename": WHEEL, "hash": "", "upload_timestamp": "soon", "yanked_reason": ""},
        ),
        str(tmp_path),
    )
    nothing = SourceFile(WHEEL, content, {})
    everything = SourceFile(WHEEL, content, {"md5": "00"}, upload_time=TIME, yanked="broken")
    assert list(source.projects()) == [SourceProject((nothing, everything, nothing, nothing))]


def test_lines_that_cannot_be_read_do_not_stop_the_others(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "packages")
    make_wheel(tmp_path / "elsewhere", version="2.0")
    outside = "../elsewhere/acme-2.0-py3-none-any.whl"
    source = PackageList(
        ("{", "{}", '{"filename": 1}', outside, '{"filename": "a\\u0000b.whl"}', "gone-1.0.tar.gz", wheel.name),
        str(tmp_path / "packages"),
    )
    report = bring_in(site.index, source)
    assert report == Report(
        imported=[wheel.name],
        failed={
            "line 1": "it begins as a JSON object and is none",
            "line 2": "it has no filename",
            "line 3": "it has no filename",
            "line 4": f"{outside!r} leads out of {tmp_path / 'packages'}, so it is not read",
            "line 5": f"'a\\x00b.whl' leads out of {tmp_path / 'packages'}, so it is not read",
            "gone-1.0.tar.gz": f"{tmp_path / 'packages' / 'gone-1.0.tar.gz'} cannot be read: No such file or directory",
        },
    )


def test_a_list_names_files_behind_a_url(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, version="1.0+local")
    md5 = hashlib.md5(wheel.read_bytes()).hexdigest()
    with serving_answers() as web:
        web.put("/pool/acme-1.0%2Blocal-py3-none-any.whl", Answer(wheel.read_bytes()))
        credentials = web.url.replace("//", "//alice:wonder@") + "/pool/"
        source = PackageList(lines({"filename": wheel.name, "hash": f"md5={md5}"}), credentials)
        assert source.name == f"dumb-pypi {web.url}"
        assert bring_in(site.index, source) == Report(imported=[wheel.name])
        assert bring_in(site.index, source) == Report(unchanged=[wheel.name])
        assert web.asked == [("/pool/acme-1.0%2Blocal-py3-none-any.whl", "Basic YWxpY2U6d29uZGVy")]


# Exports of devpi ------------------------------------------------------------------------------------------------


def write_export(root: Path, indexes: Mapping[str, Any], version: str = "2") -> None:
    root.mkdir(exist_ok=True)
    document = {"dumpversion": version, "users": {}, "indexes": indexes}
    (root / "dataindex.json").write_text(json.dumps(document))


def entry(path: str, **fields: Any) -> dict[str, Any]:
    return {"type": "releasefile", "relpath": path, "projectname": "acme", "version": "1.0", **fields}


def test_each_release_of_devpi_writes_digests_and_times_in_its_own_way(tmp_path: Path) -> None:
    path = f"root/dev/{WHEEL}"
    files = [
        entry(path, entrymapping={"md5": "00", "last_modified": "Sun, 09 Sep 2001 01:46:40 GMT"}),
        entry(path, entrymapping={"hash_spec": "sha256=11"}, log=[]),
        entry(path, entrymapping={"hash_spec": "sha256=11", "hashes": {"sha256": "11", "md5": "00"}, "md5": None}),
        entry(path, log=[{"what": "upload", "when": [2001, 9, 9, 1, 46, 40]}, {"when": [2020, 1, 1, 0, 0, 0]}]),
        entry(path, log=[{"when": "today"}], entrymapping={"last_modified": "today"}),
        entry(path, log=[{"when": [10**20, 1, 1, 0, 0, 0]}]),
        entry(path, log=5),
        entry(path, projectname="tool"),
    ]
    projects = {"acme": {"1.0": {"name": "acme"}}, "tool": {"1.0": {"yanked": "broken"}}}
    write_export(tmp_path, {"root/dev": {"files": files, "projects": projects}}, "1")
    content = LocalContent(tmp_path / path)
    found = (
        SourceFile(WHEEL, content, {"md5": "00"}, upload_time=TIME),
        SourceFile(WHEEL, content, {"sha256": "11"}),
        SourceFile(WHEEL, content, {"sha256": "11", "md5": "00"}),
        SourceFile(WHEEL, content, {}, upload_time=TIME),
        SourceFile(WHEEL, content, {}),
        SourceFile(WHEEL, content, {}),
        SourceFile(WHEEL, content, {}),
        SourceFile(WHEEL, content, {}, yanked="broken"),
    )
    source = open_export(tmp_path, None)
    assert source.name == f"devpi {tmp_path.name} root/dev"
    assert list(source.projects()) == [SourceProject(found)]


def test_only_release_files_of_an_export_are_read_and_none_outside_it(tmp_path: Path) -> None:
    files = [
        entry("root/dev/acme-1.0.doc.zip", type="doczip"),
        entry("root/dev/result.json", type="toxresult"),
        entry("root/dev/other", type="other"),
        entry("../acme-1.0.tar.gz"),
    ]
    write_export(tmp_path / "export", {"root/dev": {"files": files}})
    skipped = {
        "root/dev/acme-1.0.doc.zip": "documentation is not kept",
        "root/dev/result.json": "test results are not kept",
        "root/dev/other": "it is of a kind that is not known",
    }
    failed = {"../acme-1.0.tar.gz": f"'../acme-1.0.tar.gz' leads out of {tmp_path / 'export'}, so it is not read"}
    source = open_export(tmp_path / "export", "root/dev")
    assert list(source.projects()) == [SourceProject((), skipped=skipped, failed=failed)]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "name one index of the export with --index: those with files are a/one, a/two"),
        ("a/three", "the export has no index 'a/three'; those with files are a/one, a/two"),
    ],
)
def test_of_several_indexes_one_must_be_named(index: str | None, message: str, tmp_path: Path) -> None:
    files = {"files": [entry(WHEEL)]}
    write_export(tmp_path, {"a/one": files, "a/two": files, "root/pypi": {"indexconfig": {"type": "mirror"}}})
    with pytest.raises(ConfigError) as caught:
        open_export(tmp_path, index)
    assert str(caught.value) == message


def test_files_that_are_no_list_are_none(tmp_path: Path) -> None:
    write_export(tmp_path, {"root/dev": {"files": 5}})
    assert list(open_export(tmp_path, "root/dev").projects()) == [SourceProject(())]


def test_a_list_whose_lines_are_nested_deeply_names_them() -> None:
    source = PackageList(('{"filename":' + "[" * 100_000,), ".")
    assert list(source.projects()) == [SourceProject((), failed={"line 1": "it begins as a JSON object and is none"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is of dump version None"),
        ('{"dumpversion": "3"}', "is of dump version 3; known are 1, 2"),
    ],
)
def test_what_is_no_export_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "dataindex.json").write_text(text)
    with pytest.raises(SourceError, match=message):
        open_export(tmp_path, None)
