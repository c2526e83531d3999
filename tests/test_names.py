"""What names, filenames and keys say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from elasticpypi.errors import InvalidFilenameError, InvalidNameError
from elasticpypi.names import (
    DecisionsKey,
    FileKey,
    Kind,
    NormalizedName,
    ParsedFilename,
    canonical_key,
    decisions_key,
    normalize_name,
    parse_filename,
    parse_key,
    same_version,
)

ACME_TOOLS = NormalizedName("acme-tools")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acme", "acme"),
        ("Acme", "acme"),
        ("Acme_Tools", "acme-tools"),
        ("acme.-_tools", "acme-tools"),
        ("a", "a"),
        ("4Suite", "4suite"),
    ],
)
def test_names_are_normalised(name: str, expected: str) -> None:
    assert normalize_name(name) == expected


@pytest.mark.parametrize("name", ["", "-acme", "acme-", ".acme", "ac me", "acmé", "acme/x", "..", "acme\n", "acme\0"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        normalize_name(name)
    assert caught.value.name == name
    assert str(caught.value).startswith(f"{name!r} is not a project name: use ")


@pytest.mark.parametrize(
    ("filename", "project", "version", "kind"),
    [
        ("acme_tools-1.0-py3-none-any.whl", "acme-tools", "1.0", Kind.WHEEL),
        ("Acme.Tools-1.0-py3-none-any.whl", "acme-tools", "1.0", Kind.WHEEL),
        ("acme-1.0-1-py3-none-any.whl", "acme", "1.0", Kind.WHEEL),
        ("acme-1.0+cu118-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "acme", "1.0+cu118", Kind.WHEEL),
        ("acme-1!2.0rc1.post2.dev3-py2.py3-none-any.whl", "acme", "1!2.0rc1.post2.dev3", Kind.WHEEL),
        ("acme-1.0.tar.gz", "acme", "1.0", Kind.SDIST),
        ("acme-tools-1.0.tar.gz", "acme-tools", "1.0", Kind.SDIST),
        ("Acme.Tools-1.0.0.zip", "acme-tools", "1.0.0", Kind.SDIST),
        ("acme-1.0.tar.bz2", "acme", "1.0", Kind.SDIST),
        ("acme-1.0.tar.xz", "acme", "1.0", Kind.SDIST),
        ("acme-2004d.tar.gz", None, None, None),
        ("acme-1.0-py2.7.egg", "acme", "1.0", Kind.EGG),
        ("acme-1.0.egg", "acme", "1.0", Kind.EGG),
        ("acme_tools-1.0_1-py3.11-linux_x86_64.egg", "acme-tools", "1.0.post1", Kind.EGG),
        ("acme-1.0-py3.11-linux-x86_64.egg", None, None, None),
        ("acme.egg", None, None, None),
        ("acme-x-py3.11.egg", None, None, None),
        ("-1.0-py3.11.egg", None, None, None),
        ("acme-1.0.whl", None, None, None),
        ("acme-1.0-py3-none.whl", None, None, None),
        ("acme-x-py3-none-any.whl", None, None, None),
        ("acme-1.0-x1-py3-none-any.whl", None, None, None),
        ("acme__tools-1.0-py3-none-any.whl", None, None, None),
        ("acme.tar.gz", None, None, None),
        ("acme-1.0.tar", None, None, None),
        ("acme-1.0.tgz", None, None, None),
        ("acme-1.0.exe", None, None, None),
        ("acme-1.0.ZIP", None, None, None),
        ("acmé-1.0.zip", None, None, None),
        ("-1.0.zip", None, None, None),
        ("ac me-1.0.zip", None, None, None),
        ("acme/acme-1.0.zip", None, None, None),
        ("acme\\acme-1.0.zip", None, None, None),
        ("acme-1.0.zip\n", None, None, None),
        ("acme\0-1.0.zip", None, None, None),
        (".zip", None, None, None),
        (".whl", None, None, None),
        ("", None, None, None),
    ],
)
def test_filenames(filename: str, project: str | None, version: str | None, kind: Kind | None) -> None:
    if project is None or version is None or kind is None:
        with pytest.raises(InvalidFilenameError) as caught:
            parse_filename(filename)
        assert caught.value.filename == filename
        assert str(caught.value) == f"{filename!r} is not the filename of a wheel, sdist or egg: {caught.value.reason}"
    else:
        expected = ParsedFilename(filename, NormalizedName(project), Version(version), kind)
        assert parse_filename(filename) == expected


@given(st.text(max_size=40), st.sampled_from([".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".egg", ""]))
def test_any_text_is_a_filename_or_refused(stem: str, suffix: str) -> None:
    try:
        parsed = parse_filename(stem + suffix)
    except InvalidFilenameError:
        return
    assert normalize_name(parsed.project) == parsed.project
    assert parse_key(canonical_key(parsed.project, parsed.filename)) is not None or parsed.filename.startswith(".")


@pytest.mark.parametrize(
    "filename", [f"acme-1.0-{'.'.join(f'py{n}' for n in range(300))}-none-any.whl", f"{'a' * 233}-1.0.zip"]
)
def test_a_filename_that_leaves_no_room_is_refused_at_once(filename: str) -> None:
    with pytest.raises(InvalidFilenameError, match="more than 240 characters"):
        parse_filename(filename)


def test_a_name_that_no_filename_could_have_is_refused() -> None:
    with pytest.raises(InvalidNameError):
        normalize_name("a" * 241)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("acme/acme-1.0.zip", FileKey("acme/acme-1.0.zip", "acme-1.0.zip")),
        ("acme-1.0.zip", FileKey("acme-1.0.zip", "acme-1.0.zip")),
        ("a/b/c/x.whl", FileKey("a/b/c/x.whl", "x.whl")),
        ("a/x.egg", FileKey("a/x.egg", "x.egg")),
        ("a/é.tar.xz", FileKey("a/é.tar.xz", "é.tar.xz")),
        ("acme-tools/project.json", DecisionsKey("acme-tools/project.json", ACME_TOOLS)),
        ("Acme-Tools/project.json", None),
        ("acme_tools/project.json", None),
        ("project.json", None),
        ("a/acme/project.json", None),
        ("acme/project.json/", None),
        ("acme/PROJECT.JSON", None),
        (".elasticpypi/uploads/acme-1.0.zip", None),
        (".elasticpypi/project.json", None),
        ("acme/.acme-1.0.zip.x7f3", None),
        ("acme/.acme-1.0.zip", None),
        (".hidden/acme-1.0.zip", None),
        ("acme//acme-1.0.zip", None),
        ("/acme-1.0.zip", None),
        ("../acme-1.0.zip", None),
        ("lost+found/acme-1.0.zip", None),
        ("acme/", None),
        ("", None),
        ("acme/acme-1.0.zip.asc", None),
        ("acme/acme-1.0-py3-none-any.whl.metadata", None),
        ("acme/readme.txt", None),
    ],
)
def test_keys(key: str, expected: FileKey | DecisionsKey | None) -> None:
    assert parse_key(key) == expected


def test_what_we_write_has_keys_that_we_read() -> None:
    assert canonical_key(ACME_TOOLS, "x.whl") == "acme-tools/x.whl"
    assert decisions_key(ACME_TOOLS) == "acme-tools/project.json"
    assert parse_key(decisions_key(ACME_TOOLS)) == DecisionsKey("acme-tools/project.json", ACME_TOOLS)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("1.0", "1.0", True),
        ("1.0", "1", True),
        ("1.0.0", "v1", True),
        ("1.0-1", "1.0.post1", True),
        ("1.0RC1", "1.0rc1", True),
        ("1.0+A.b", "1.0+a-B", True),
        ("1.0", "1.0+a", False),
        ("1.0", "1.0.1", False),
        ("1!1.0", "1.0", False),
        ("nightly", "nightly", True),
        ("nightly", "Nightly", False),
        ("nightly", "1.0", False),
    ],
)
def test_versions_are_compared_as_versions(left: str, right: str, *, expected: bool) -> None:
    assert same_version(left, right) is same_version(right, left) is expected
