"""Lists for dumb-pypi as the source of a site: what a line becomes, what is left out and why, what a mark says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elasticpypi.errors import InvalidFilenameError
from elasticpypi.names import NormalizedName, parse_filename
from elasticpypi.static_site import SiteProject
from elasticpypi.static_site.of_lists import ListSource, Skipped, read_list

WHEEL, SDIST = "acme-1.0-py3-none-any.whl", "acme-1.0.tar.gz"
SHA = "ab" * 32
ACME = NormalizedName("acme")


def read(lines: Iterable[bytes], *, as_json: bool = True, url: str = "../../pool/") -> tuple[ListSource, list[Skipped]]:
    skipped: list[Skipped] = []
    return read_list(lines, as_json=as_json, packages_url=url, report=skipped.append), skipped


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def project(source: ListSource, name: str) -> SiteProject:
    found = source.project(NormalizedName(name))
    assert found is not None
    return found


def filenames(source: ListSource) -> dict[str, list[str]]:
    return {name: [file.document["filename"] for file in project(source, name).files] for name in source.marks()}


def test_a_line_becomes_a_file_as_the_simple_api_has_it() -> None:
    source, skipped = read(
        [
            line(
                filename=WHEEL,
                hash=f"sha256={SHA.upper()}",
                requires_dist=["bolt>=2"],
                requires_python=">=3.9",
                upload_timestamp=1500001800,
                uploaded_by="alice",
                yanked_reason="broken",
                core_metadata=f"sha256={SHA}",
            )
        ]
    )
    found = project(source, "acme")
    assert skipped == []
    assert found.document == {
        "meta": {"api-version": "1.0"},
        "name": "acme",
        "project-status": {"status": "active"},
        "versions": ["1.0"],
    }
    (file,) = found.files
    assert file.document == {
        "filename": WHEEL,
        "url": f"../../pool/{WHEEL}",
        "hashes": {"sha256": SHA},
        "upload-time": "2017-07-14T03:10:00.000000Z",
        "yanked": "broken",
        "core-metadata": {"sha256": SHA},
        "requires-python": ">=3.9",
    }
    assert (file.version, file.path, file.uploaded_by, file.requires_dist) == ("1.0", WHEEL, "alice", ["bolt>=2"])
    assert found.core_metadata(file) is None


@pytest.mark.parametrize("as_json", [True, False])
def test_of_a_filename_alone_nothing_else_is_said(as_json: bool) -> None:
    source, _ = read([line(filename=SDIST) if as_json else SDIST.encode()], as_json=as_json)
    (file,) = project(source, "acme").files
    assert file.document == {
        "filename": SDIST,
        "url": f"../../pool/{SDIST}",
        "hashes": {},
        "yanked": False,
        "core-metadata": False,
    }


@pytest.mark.parametrize(
    ("fields", "key", "expected"),
    [
        ({"hash": "md5=d41d8cd98f00b204e9800998ecf8427e"}, "hashes", {"md5": "d41d8cd98f00b204e9800998ecf8427e"}),
        ({"hash": None}, "hashes", {}),
        ({"hash": ""}, "hashes", {}),
        ({"core_metadata": "true"}, "core-metadata", True),
        ({"core_metadata": None}, "core-metadata", False),
        ({"yanked_reason": None}, "yanked", False),
        ({"yanked_reason": ""}, "yanked", False),
        ({"upload_timestamp": 0}, "upload-time", "1970-01-01T00:00:00.000000Z"),
        ({"upload_timestamp": 1.5}, "upload-time", "1970-01-01T00:00:01.500000Z"),
        ({"upload_timestamp": None}, "upload-time", None),
        ({"requires_python": ""}, "requires-python", None),
    ],
)
def test_a_value_as_it_is_shown(fields: dict[str, Any], key: str, expected: object) -> None:
    source, skipped = read([line(filename=SDIST, **fields)])
    assert skipped == []
    assert project(source, "acme").files[0].document.get(key) == expected


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (line(filename=SDIST, color="red"), SDIST, "the key 'color' is unknown"),
        (line(filename=SDIST, hash=5), SDIST, "its 'hash' is not a string"),
        (line(filename=SDIST, hash=SHA), SDIST, "its 'hash' is not like"),
        (line(filename=SDIST, hash="sha256=xyz"), SDIST, "its 'hash' is not like"),
        (line(filename=SDIST, core_metadata="yes"), SDIST, "its 'core_metadata' is neither"),
        (line(filename=SDIST, core_metadata=True), SDIST, "its 'core_metadata' is not a string"),
        (line(filename=SDIST, requires_dist="bolt"), SDIST, "its 'requires_dist' is not a list of strings"),
        (line(filename=SDIST, requires_dist=[1]), SDIST, "its 'requires_dist' is not a list of strings"),
        (line(filename=SDIST, upload_timestamp="1500"), SDIST, "its 'upload_timestamp' is not a number of seconds"),
        (line(filename=SDIST, upload_timestamp=True), SDIST, "its 'upload_timestamp' is not a number of seconds"),
        (line(filename=SDIST, upload_timestamp=1e300), SDIST, "its 'upload_timestamp' is no number"),
        (line(filename=SDIST, upload_timestamp=float("nan")), SDIST, "its 'upload_timestamp' is no number"),
        (line(filename=SDIST, yanked_reason="\ud800"), SDIST, "it has half a character"),
        (line(hash="md5=00"), '{"hash": "md5=00"}', "the line has no 'filename'"),
        (line(filename=None), '{"filename": null}', "the line has no 'filename'"),
        (line(filename=["a"]), '{"filename": ["a"]}', "its 'filename' is not a string"),
        (b'{"filename": "acme-1.0.tar.gz"', '{"filename": "acme-1.0.tar.gz"', "the line is not JSON"),
        (b"[1]", "[1]", "the line is not a JSON object"),
        (b"null", "null", "the line is not a JSON object"),
        (b"[" * 100_000, "[" * 60 + "…", "the line is not JSON"),
        (b'{"filename": "acme-1.0\xff.tar.gz"}', '{"filename": "acme-1.0\ufffd.tar.gz"}', "the line is not JSON"),
        (line(filename="acme.tar.gz"), "acme.tar.gz", "Invalid sdist filename"),
        (line(filename="setup.exe"), "setup.exe", "its ending is not one of"),
        (line(filename="../acme-1.0.tar.gz"), "../acme-1.0.tar.gz", "it contains a character"),
        (line(filename="acme-1.0\n.tar.gz"), r"acme-1.0\n.tar.gz", "it contains a character"),
        (line(filename="acme-2004d.tar.gz"), "acme-2004d.tar.gz", "Invalid sdist filename"),
        (line(filename=f"{'a' * 250}-1.0.tar.gz"), f"{'a' * 250}-1.0.tar.gz", "it has more than 240 characters"),
    ],
)
@pytest.mark.parametrize("neighbours", [0, 3])
def test_a_line_that_cannot_be_used_is_named_with_its_reason(
    text: bytes, name: str, reason: str, neighbours: int
) -> None:
    others = [line(filename=f"bolt-{number}.0.tar.gz") for number in range(neighbours)]
    source, (skipped,) = read([*others, text, *others])
    assert skipped.name == name
    assert skipped.reason.startswith(reason), skipped.reason
    assert sum(map(len, filenames(source).values())) == neighbours


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"filename": "a-1.0.zip"}, {"filename": "b-1.0.zip"}', b'{"filename": "c-1.0.zip"', b'"hash": null}'],
        [b'{"filename": "a-1.0.zip"}, {"filename": "b-1.0.zip"}', b'{"filename": "b-1.0.zip"', b'"hash": "b-1.0.zip"}'],
        [b'{"filename": "a-1.0.zip", "uploaded_by": "}', b'{"}, {"filename": "b-1.0.zip"}'],
        [b'{"filename": "', b'{", "hash": "x"}', b'{"filename": "a-1.0.zip"}, "x"'],
    ],
)
def test_broken_lines_that_make_up_objects_together_are_all_refused(lines: list[bytes]) -> None:
    source, skipped = read(lines)
    assert (filenames(source), len(skipped)) == ({}, len(lines))


def test_braces_in_a_line_are_as_good_as_other_characters() -> None:
    source, skipped = read([line(filename=SDIST, yanked_reason="{"), line(filename=WHEEL, yanked_reason="}{")])
    assert [file.document["yanked"] for file in project(source, "acme").files] == ["}{", "{"]
    assert skipped == []


@pytest.mark.parametrize("as_json", [True, False])
def test_empty_lines_ends_of_lines_and_spaces_around_do_not_matter(as_json: bool) -> None:
    text = line(filename=SDIST).strip() if as_json else SDIST.encode()
    source, skipped = read([b"\n", b"  " + text + b" \r\n", b"\r\n"], as_json=as_json)
    assert (filenames(source), skipped) == ({"acme": [SDIST]}, [])


def test_a_plain_list_may_hold_anything() -> None:
    lines = [b"acme-1.0.tar.gz\n", b"acme\xff-1.0.tar.gz\n", b'{"filename": "acme-2.0.tar.gz"}\n', b"README\n"]
    source, skipped = read(lines, as_json=False)
    assert filenames(source) == {"acme": [SDIST]}
    assert [left.name for left in skipped] == [r"acme\xff-1.0.tar.gz", '{"filename": "acme-2.0.tar.gz"}', "README"]


def test_spellings_of_a_name_are_one_project_and_files_are_in_the_order_of_versions() -> None:
    names = ["Acme_Lib-1.10-py3-none-any.whl", "acme-lib-1.9.tar.gz", "acme.lib-1.9.zip", "ACME__lib-1.10rc1.tar.gz"]
    source, _ = read([name.encode() for name in names], as_json=False)
    assert filenames(source) == {
        "acme-lib": ["acme-lib-1.9.tar.gz", "acme.lib-1.9.zip", "ACME__lib-1.10rc1.tar.gz", names[0]]
    }
    assert project(source, "acme-lib").document["versions"] == ["1.9", "1.10rc1", "1.10"]


def test_of_several_lines_of_a_file_the_last_one_counts() -> None:
    first, last = line(filename=SDIST, requires_python=">=3"), line(filename=SDIST, requires_python=">=3.9")
    source, skipped = read([first, first, last, last])
    (file,) = project(source, "acme").files
    assert file.document["requires-python"] == ">=3.9"
    assert skipped == [Skipped(SDIST, "a later line says something else of it, which is what counts")]


@pytest.mark.parametrize(
    ("packages_url", "filename", "expected"),
    [
        ("https://files.example.org/pool", "acme-1.0+local.1.tar.gz", "acme-1.0%2Blocal.1.tar.gz"),
        ("https://files.example.org/pool/", "acme-1!2.0.tar.gz", "acme-1%212.0.tar.gz"),
    ],
)
def test_urls_are_quoted(packages_url: str, filename: str, expected: str) -> None:
    source, _ = read([line(filename=filename)], url=packages_url)
    (file,) = project(source, "acme").files
    assert file.document["url"] == f"https://files.example.org/pool/{expected}"


# Marks -----------------------------------------------------------------------------------------------------------


def test_a_mark_changes_with_the_lines_of_its_project_alone() -> None:
    acme, bolt = line(filename=SDIST), [line(filename=f"bolt-{number}.tar.gz") for number in range(3)]
    before, _ = read([acme, *bolt])
    reordered, _ = read([*reversed(bolt), acme])
    changed, _ = read([line(filename=SDIST, requires_python=">=3"), *bolt])
    assert before.marks() == reordered.marks()
    assert {name for name, mark in changed.marks().items() if before.marks()[name] != mark} == {"acme"}
    assert changed.mark(ACME) == changed.marks()[ACME]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_mark_of_the_list_changes_where_a_project_comes_or_goes(as_json: bool) -> None:
    def lines(*names: str) -> list[bytes]:
        return [line(filename=name) if as_json else name.encode() for name in names]

    one, _ = read(lines(SDIST), as_json=as_json)
    same, _ = read(lines(SDIST, WHEEL), as_json=as_json)
    two, _ = read(lines(SDIST, "bolt-1.0.tar.gz"), as_json=as_json)
    assert one.list_mark() == same.list_mark() != two.list_mark()
    assert one.mark(ACME) != same.mark(ACME)


def test_projects_are_sorted_and_an_unknown_one_is_none() -> None:
    source, _ = read([b"bolt-1.0.zip", b"acme-1.0.zip", b"cog-1.0.zip"], as_json=False)
    nobody = NormalizedName("nobody")
    assert list(source.marks()) == ["acme", "bolt", "cog"]
    assert (source.mark(nobody), source.project(nobody)) == (None, None)


def test_more_lines_than_are_parsed_at_once_are_all_read() -> None:
    lines = [line(filename=f"acme-{number}.tar.gz") for number in range(2500)]
    lines[1200] = b"{"
    source, skipped = read(lines)
    assert (len(project(source, "acme").files), [left.name for left in skipped]) == (2499, ["{"])


_part = st.text("aZ09._-+!", max_size=6)
_ending = st.sampled_from([".tar.gz", ".zip", ".whl", ".egg", "-py3-none-any.whl", "-py2.py3-none-any.whl"])
_odd = st.builds(lambda *parts: "-".join(parts[:2]) + parts[2], _part, _part, _ending)
_like = st.from_regex(r"\A[A-Za-z0-9._-]{1,8}-[0-9.]{1,5}(a|b|rc|\.post|\.dev)?[0-9]?\Z")


@given(st.one_of(_odd, st.builds(str.__add__, _like, _ending)))
@example("acme-1.0-1-py3-none-any.whl")
@example("acme-1.0-2.0.tar.gz")
@example("acme-01.0.tar.gz")
@example("acme__lib-1.0-py3-none-any.whl")
@example("acme._lib-1.0-py3-none-any.whl")
@example("acme-1.0-py3.-none-any.whl")
def test_names_are_placed_as_everywhere_else(filename: str) -> None:
    source, skipped = read([line(filename=filename)])
    found = {
        name: [(file.document["filename"], file.version) for file in project(source, name).files]
        for name in source.marks()
    }
    assert (found, [(left.name, left.reason) for left in skipped]) == expected_place(filename)


def expected_place(filename: str) -> tuple[dict[str, list[tuple[str, str]]], list[tuple[str, str]]]:
    try:
        parsed = parse_filename(filename)
    except InvalidFilenameError as error:
        return {}, [(filename, error.reason)]
    return {parsed.project: [(filename, str(parsed.version))]}, []
