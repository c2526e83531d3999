"""Requirements files and lock files: written by hand for what is odd, by uv, pip and pdm for what is usual."""

from __future__ import annotations

import codecs
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from elasticpypi.cli.wanted import Needs, Skipped, Wanted, read_wanted
from elasticpypi.errors import SourceError
from elasticpypi.names import normalize_name
from tests.clients import Account, Desk, account
from tests.dists import make_sdist, make_wheel
from tests.running import serving

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
NOTHING = frozenset[str]()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files lie, by whose names they are called."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wanted(
    name: str,
    specifier: str | None = None,
    *,
    files: Mapping[str, str | None] | None = None,
    sha256s: frozenset[str] | set[str] = NOTHING,
    source: str = "requirements.txt, line 1",
) -> Wanted:
    releases = None if specifier is None else SpecifierSet(specifier)
    return Wanted(normalize_name(name), releases, files or {}, frozenset(sha256s), source)


def read(text: str, *, name: str = "requirements.txt", **others: str) -> Needs:
    """Read a file with this text; `others` lie beside it, with `.txt` behind their names."""
    for other, its_text in others.items():
        Path(f"{other}.txt").write_text(its_text)
    Path(name).write_text(text)
    return read_wanted([Path(name)])


def refusal(text: str, *, name: str = "requirements.txt", **others: str) -> str:
    with pytest.raises(SourceError) as caught:
        read(text, name=name, **others)
    return str(caught.value)


# Lines of requirements files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("acme", wanted("acme")),
        ("Acme.Tools", wanted("acme-tools")),
        ("acme==1.0", wanted("acme", "==1.0")),
        ("acme >= 1.0, <2 ,!=1.5", wanted("acme", ">=1.0,<2,!=1.5")),
        ("acme (>=1.0)", wanted("acme", ">=1.0")),
        ("acme===1.0-odd", wanted("acme", "===1.0-odd")),
        ("acme[extra, other]~=1.2", wanted("acme", "~=1.2")),
        ("acme==1.0 ; python_version < '3' and sys_platform == 'win32'", wanted("acme", "==1.0")),
        ("acme==1.0;platform_machine=='a/b'", wanted("acme", "==1.0")),
        ("  acme==1.0   # as it was", wanted("acme", "==1.0")),
        ("acme==1.0\t# as it was", wanted("acme", "==1.0")),
        (f"acme==1.0 --hash=sha256:{A}", wanted("acme", "==1.0", sha256s={A})),
        (f"acme==1.0 --hash sha256:{A} --hash='sha256:{B.upper()}'", wanted("acme", "==1.0", sha256s={A, B})),
        (f"acme==1.0 ; os_name == 'nt' --hash=sha256:{A}", wanted("acme", "==1.0", sha256s={A})),
        ("acme==1.0 --config-settings '--build-option=-O' -C x=y", wanted("acme", "==1.0")),
        ("acme==1.0 --global-option=--fast --global-option x", wanted("acme", "==1.0")),
    ],
)
def test_a_requirement_is_wanted_whatever_the_environment(line: str, expected: Wanted) -> None:
    assert read(line) == Needs((expected,), ())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# acme==1.0",
        "   # acme==1.0 \\",
        "-i https://user:secret@pypi.example.org/simple/",
        "--index-url https://user:${TOKEN}@pypi.example.org/simple/",
        "--index-url=https://pypi.example.org/simple/ --extra-index-url https://other.example.org/",
        "--no-index --find-links ./wheels -f https://example.org/",
        "--only-binary :all: --no-binary=acme",
        "--trusted-host pypi.example.org",
        "--require-hashes",
        "--pre --prefer-binary --use-feature fast-deps",
    ],
)
def test_options_for_the_index_and_comments_want_nothing(line: str) -> None:
    assert read(f"{line}\nacme") == Needs((wanted("acme", source="requirements.txt, line 2"),), ())


def test_a_line_goes_on_behind_a_backslash_and_counts_from_its_first() -> None:
    text = (
        "# by pip-compile\n"
        "\n"
        "acme==1.0 \\\n"
        f"    --hash=sha256:{A} \\\n"
        f"    --hash=sha256:{B}\n"
        "    # via other\n"
        "ot\\\n"
        "her\\\n"
        "==2.0\n"
        "third\\\n"
        "# a comment ends it \\\n"
        "fourth==4.0 \\"
    )
    assert read(text).wanted == (
        wanted("acme", "==1.0", sha256s={A, B}, source="requirements.txt, line 3"),
        wanted("other", "==2.0", source="requirements.txt, line 7"),
        wanted("third", source="requirements.txt, line 10"),
        wanted("fourth", "==4.0", source="requirements.txt, line 12"),
    )


@pytest.mark.parametrize(
    "encode",
    [
        str.encode,
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["UTF-8", "with a mark", "UTF-16", "UTF-16, big end first", "CRLF"],
)
def test_files_are_read_as_editors_on_windows_write_them(encode: object) -> None:
    assert callable(encode)
    Path("requirements.txt").write_bytes(encode("# für alle\nacme==1.0 \\\n  ; os_name == 'nt'\n"))
    assert read_wanted([Path("requirements.txt")]).wanted == (
        wanted("acme", "==1.0", source="requirements.txt, line 2"),
    )


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        ("-e .", ".", "comes from a directory"),
        ("--editable=./lib[extra]", "./lib[extra]", "comes from a directory"),
        (
            "-e git+ssh://git@git.example.org/acme.git@main#egg=acme",
            "git+ssh://git.example.org/…",
            "comes from version control",
        ),
        ("-e git+https://token:x@git.example.org/a", "git+https://git.example.org/…", "comes from version control"),
        ("./lib", "./lib", "comes from a directory"),
        ("../lib ; os_name == 'nt'", "../lib ; os_name == 'nt'", "comes from a directory"),
        ("lib/", "lib/", "comes from a directory"),
        ("C:\\lib", "C:\\lib", "comes from a directory"),
        ("acme-1.0-py3-none-any.whl", "acme-1.0-py3-none-any.whl", "comes from a file"),
        ("./acme-1.0.tar.gz[extra]", "./acme-1.0.tar.gz[extra]", "comes from a file"),
        ("file:///srv/acme-1.0.zip", "file:///srv/acme-1.0.zip", "comes from a file"),
        ("acme @ file:///srv/acme", "acme", "comes from a directory"),
        ("acme@https://user:secret@example.org/acme.whl?sig=x", "acme", "comes from a URL"),
        ("acme @ ./acme-1.0.whl", "acme", "comes from a file"),
        ("acme[extra] @ git+https://example.org/acme@1.0", "acme[extra]", "comes from version control"),
        ("https://user:secret@example.org/a.whl?sig=x", "https://example.org/…", "comes from a URL"),
        ("https://${TOKEN}@example.org/acme.whl", "https://example.org/…", "comes from a URL"),
        (f"https://[broken/acme.whl --hash=sha256:{A}", "https:///…", "comes from a URL"),
    ],
)
def test_what_no_index_has_is_skipped_without_its_credentials(line: str, text: str, reason: str) -> None:
    assert read(line) == Needs((), (Skipped("requirements.txt, line 1", text, reason),))


ANEW = "write the file anew"
CUT_OFF = "the options are cut off: close the quotation, or give the last option its value"
ALONE = "cannot stand behind a requirement: give it a line of its own, or remove it"
VARIABLE = "is a variable, and none is read: write what it stands for"
NO_REQUIREMENT = "is no requirement: write for example acme==1.0"
UNREADABLE = "correct its name or its permissions"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("acme==${VERSION}", f"${{VERSION}} {VARIABLE}"),
        ("-r ${WHERE}/base.txt", f"${{WHERE}} {VARIABLE}"),
        ("acme==1 --hash=sha256:${DIGEST}", f"${{DIGEST}} {VARIABLE}"),
        ("acme=1.0", f"'acme=1.0' {NO_REQUIREMENT}"),
        ("acme==1.0 @x", f"'acme==1.0 @x' {NO_REQUIREMENT}"),
        ("acme==1.0 @ https://user:secret@example.org/", f"it {NO_REQUIREMENT}"),
        ("acme==one", f"'acme==one' {NO_REQUIREMENT}"),
        ("acme==1.0 \\ # why", f"'acme==1.0 \\\\' {NO_REQUIREMENT}"),
        ("=" * 200, f"{'=' * 80!r} {NO_REQUIREMENT}"),
        (f"acme==1.0 --hash=sha512:{A}{A}", f"--hash is of 'sha512': {ANEW} with sha256, which indexes have"),
        (f"acme --hash=sha256:{A} --hash=md5:{A}", f"--hash is of 'md5': {ANEW} with sha256, which indexes have"),
        ("acme==1.0 --hash=sha256:aa", f"--hash=sha256: is not followed by 64 hexadecimal digits: {ANEW}"),
        (f"--hash=sha256:{A}", "--hash stands there alone: end the line before it with a backslash"),
        ("acme==1.0 --hash", CUT_OFF),
        ("acme==1.0 --hash='sha256:", CUT_OFF),
        ("-r", CUT_OFF),
        (f"acme==1.0 --hashes=sha256:{A}", f"--hashes {ALONE}"),
        (f"acme==1.0 -- --hash=sha256:{A}", f"-- {ALONE}"),
        ("acme==1.0 -r base.txt", f"-r, -c or -e {ALONE}"),
        ("-c https://user:secret@example.org/c.txt", "it names a URL, and nothing is fetched to be read: save it as a "
         "file, and name that"),
        ("-r missing.txt", f"missing.txt cannot be read (No such file or directory): {UNREADABLE}"),
        ("-r .", f". cannot be read (Is a directory): {UNREADABLE}"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_named_with_its_remedy(line: str, sentence: str) -> None:
    assert refusal(f"# the first line\n{line}\n") == f"requirements.txt, line 2: {sentence}"


def test_a_name_that_no_index_has_is_named() -> None:
    assert refusal("a" * 300).startswith(f"requirements.txt, line 1: '{'a' * 20}…' is not a project name: use ")


def test_a_file_that_is_no_text_is_named() -> None:
    Path("acme.whl").write_bytes(make_wheel(None).read_bytes())
    with pytest.raises(SourceError, match=r"^acme\.whl is no text in UTF-8: name a requirements file, or save it as"):
        read_wanted([Path("acme.whl")])


@pytest.mark.parametrize("name", ["poetry.lock", "pdm.lock", "Pipfile.lock", "pyproject.toml", "environment.json"])
def test_a_file_of_another_format_is_named_with_what_exports_it(name: str) -> None:
    assert refusal("{}", name=name).startswith(f"{name} is of a format that is not read: export a requirements.txt")


# Files that name files -----------------------------------------------------------------------------------------------


def test_files_are_named_relative_to_those_that_name_them() -> None:
    Path("deeper", "still").mkdir(parents=True)
    Path("deeper", "base.txt").write_text("-r still/deep.txt\nbase\n")
    Path("deeper", "still", "deep.txt").write_text("deep\n--requirement=../../first.txt")
    text = "-rdeeper/base.txt\nlast==1.0\n"
    assert [(each.name, each.source) for each in read(text, first="first").wanted] == [
        ("deep", "deeper/still/deep.txt, line 1"),
        ("first", "deeper/still/../../first.txt, line 1"),
        ("base", "deeper/base.txt, line 2"),
        ("last", "requirements.txt, line 2"),
    ]


@pytest.mark.parametrize("option", ["-r", "-c"])
def test_a_file_that_leads_back_to_itself_is_named(option: str) -> None:
    Path("elsewhere").mkdir()
    told = refusal(f"acme\n{option} other.txt", other="\n-r elsewhere/../requirements.txt")
    assert told == "other.txt, line 2: elsewhere/../requirements.txt leads back to itself: remove this line"


def test_a_file_that_two_others_name_is_read_once() -> None:
    needs = read("-r left.txt\n-r right.txt", left="-r base.txt", right="-r base.txt", base="acme==1.0\n./lib")
    assert needs == Needs(
        (wanted("acme", "==1.0", source="base.txt, line 1"),),
        (Skipped("base.txt, line 2", "./lib", "comes from a directory"),),
    )


@pytest.mark.parametrize(
    ("lines", "constraints", "expected"),
    [
        ("acme", "acme==1.0", [("acme", "==1.0", NOTHING)]),
        ("acme", "other==1.0", [("acme", None, NOTHING)]),
        ("acme>=1", "Acme[extra]<3\nacme!=2", [("acme", ">=1,<3,!=2", NOTHING)]),
        ("acme", f"acme==1.0 --hash=sha256:{A}", [("acme", "==1.0", {A})]),
        (f"acme --hash=sha256:{A} --hash=sha256:{B}", f"acme==1 --hash=sha256:{B}", [("acme", "==1", {B})]),
        (f"acme==1 --hash=sha256:{A}", "acme<2", [("acme", "==1,<2", {A})]),
        # Where a marker does not hold, nothing is limited.
        ("acme>=1", "acme<2; os_name=='nt'", [("acme", ">=1", NOTHING), ("acme", ">=1,<2", NOTHING)]),
        (
            "acme",
            "acme==1; python_version<'3'\nacme==2; python_version>='3'\nacme!=3",
            [("acme", "!=3", NOTHING), ("acme", "!=3,==1", NOTHING), ("acme", "!=3,==2", NOTHING)],
        ),
        ("acme==2", "acme==1; python_version<'3'", [("acme", "==2", NOTHING)]),
        ("acme>=2", "acme<1; python_version<'3'", [("acme", ">=2", NOTHING)]),
    ],
)
def test_a_constraint_limits_what_is_wanted_and_wants_nothing(
    lines: str, constraints: str, expected: list[tuple[str, str | None, set[str]]]
) -> None:
    found = read(f"-c limits.txt\n{lines}", limits=constraints).wanted
    source = "requirements.txt, line 2"
    assert list(found) == [wanted(name, spec, sha256s=hashes, source=source) for name, spec, hashes in expected]


def test_constraints_hold_for_the_files_that_one_leads_to_and_for_no_others() -> None:
    Path("limits.txt").write_text("acme<2\n")
    Path("own.txt").write_text("acme\n")
    Path("limited.txt").write_text("-r own.txt\n-c limits.txt\n")
    found = read_wanted([Path("limited.txt"), Path("own.txt")]).wanted
    assert found == (
        wanted("acme", "<2", source="own.txt, line 1"),
        wanted("acme", source="own.txt, line 1"),
    )


def test_a_constraint_without_a_common_digest_leaves_nothing_to_choose_from() -> None:
    told = refusal(f"-c limits.txt\nacme --hash=sha256:{A}", limits=f"acme==1 --hash=sha256:{B}")
    assert told == (
        "limits.txt, line 1: it allows none of the digests of acme that requirements.txt, line 2 has: "
        "write both files anew"
    )


def test_what_several_files_want_alike_is_wanted_once_in_its_first_place() -> None:
    Path("a.txt").write_text(f"acme==1.0 --hash=sha256:{A}\nother\n./lib\n")
    Path("b.txt").write_text(f"other>=1\nacme==1.0 --hash=sha256:{A} --hash=sha256:{B}\nother\nacme==1.0\n")
    assert read_wanted([Path("a.txt"), Path("b.txt"), Path("a.txt")]) == Needs(
        (
            wanted("acme", "==1.0", sha256s={A, B}, source="a.txt, line 1 and b.txt, line 2"),
            wanted("other", source="a.txt, line 2 and b.txt, line 3"),
            wanted("other", ">=1", source="b.txt, line 1"),
            wanted("acme", "==1.0", source="b.txt, line 4"),
        ),
        (Skipped("a.txt, line 3", "./lib", "comes from a directory"),),
    )


# Lock files ----------------------------------------------------------------------------------------------------------

UV_LOCK = f"""
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "app"
version = "1.0"
source = {{ virtual = "." }}
dependencies = [{{ name = "acme", extra = ["all"], marker = "sys_platform == 'win32'" }}]

[[package]]
name = "acme"
version = "1.0+local.1"
source = {{ registry = "https://user:secret@pypi.example.org/simple" }}
sdist = {{ url = "https://pypi.example.org/f/acme-1.0%2Blocal.1.tar.gz?s=x#sha256={C}", hash = "sha256:{A}", size = 9 }}
wheels = [
    {{ url = "https://pypi.example.org/f/acme-1.0%2Blocal.1-py3-none-any.whl", hash = "sha256:{B.upper()}" }},
    {{ url = "https://pypi.example.org/f/acme-1.0%2Blocal.1-cp311-cp311-win32.whl" }},
]

[[package]]
name = "bare"
version = "2.0"
source = {{ registry = "../links" }}

[[package]]
name = "linked"
version = "2.0"
source = {{ registry = "../links" }}
wheels = [{{ path = "linked-2.0-py3-none-any.whl" }}]

[[package]]
name = "from-git"
version = "1.0"
source = {{ git = "https://user:secret@git.example.org/a?rev=1#abc" }}

[[package]]
name = "from-url"
source = {{ url = "https://example.org/a.whl" }}

[[package]]
name = "from-file"
source = {{ path = "a.whl" }}

[[package]]
name = "lib"
source = {{ editable = "../lib" }}

[[package]]
name = "new"
source = {{ tape = "9-track" }}
"""


def test_a_uv_lock_wants_the_files_of_what_comes_from_an_index() -> None:
    assert read(UV_LOCK, name="uv.lock") == Needs(
        (
            wanted(
                "acme",
                "==1.0+local.1",
                files={
                    "acme-1.0+local.1.tar.gz": A,
                    "acme-1.0+local.1-py3-none-any.whl": B,
                    "acme-1.0+local.1-cp311-cp311-win32.whl": None,
                },
                source="uv.lock",
            ),
            wanted("bare", "==2.0", source="uv.lock"),
            wanted("linked", "==2.0", files={"linked-2.0-py3-none-any.whl": None}, source="uv.lock"),
        ),
        (
            Skipped("uv.lock", "app", "comes from a directory"),
            Skipped("uv.lock", "from-git", "comes from version control"),
            Skipped("uv.lock", "from-url", "comes from a URL"),
            Skipped("uv.lock", "from-file", "comes from a file"),
            Skipped("uv.lock", "lib", "comes from a directory"),
            Skipped("uv.lock", "new", "comes from no index"),
        ),
    )


def uv_package(files: str, *, name: str = "acme", version: str = "1.0") -> str:
    source = '{ registry = "https://pypi.example.org/simple" }'
    return f'version = 1\n[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {source}\n{files}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 2\npackage = []", "is of version 2, and only 1 can be read: write a pylock.toml with `uv export"),
        ("", "is of version None, and only 1 can be read"),
        ("version = ", "is not TOML ("),
        ("a = " + "[" * 5000, "is not TOML ("),
        ("version = 1\npackage = 3", "package 1: it has no name, version and source; lock again"),
        ('version = 1\n[[package]]\nname = "acme"', "package 1: it has no name, version and source; lock again"),
        (
            'version = 1\n[[package]]\nname = "acme"\nsource = { registry = "x" }',
            "package 1: it has no name, version and source; lock again",
        ),
        (uv_package("wheels = 3"), "package 'acme': a file of it has no URL and no path; lock again"),
        (uv_package("sdist = { size = 3 }"), "package 'acme': a file of it has no URL and no path; lock again"),
        (uv_package(f'sdist = {{ url = "https://e.org/a/", hash = "sha256:{A}" }}'), "ends with no filename; lock"),
        (uv_package(f'sdist = {{ url = "https://[e/a.zip", hash = "sha256:{A}" }}'), "ends with no filename; lock"),
        (uv_package(f'sdist = {{ url = "https://e.org/a.zip", hash = "sha512:{A}{A}" }}'), "no sha256, but 'sha512'"),
        (uv_package('sdist = { url = "https://e.org/a.zip", hash = "sha256:x" }'), "as a sha256 is none; lock again"),
        (uv_package('sdist = { url = "https://e.org/a.zip", hash = "sha256" }'), "as a sha256 is none; lock again"),
        (uv_package("", version="one"), "package 'acme': 'one' is no version; lock again"),
        (uv_package("", name="-"), "package '-': '-' is not a project name"),
    ],
)
def test_a_uv_lock_that_is_not_as_uv_writes_it_is_named(text: str, told: str) -> None:
    sentence = refusal(text, name="uv.lock")
    assert sentence.startswith("uv.lock")
    assert told in sentence


PYLOCK = f"""
lock-version = "1.0"
created-by = "hand"

[[packages]]
name = "acme"
version = "1.0"
marker = "sys_platform == 'win32'"
index = "https://user:secret@pypi.example.org/simple/"
sdist = {{ url = "https://pypi.example.org/acme-1.0.tar.gz", hashes = {{ md5 = "x", sha256 = "{A}" }} }}
wheels = [{{ name = "acme-1.0-py3-none-any.whl", path = "files/other", hashes = {{ sha256 = "{B}" }} }}]

[[packages]]
name = "versionless"
wheels = [{{ path = 'files\\versionless-1.0-py3-none-any.whl', hashes = {{ sha256 = "{C}" }} }}]

[[packages]]
name = "lib"
directory = {{ path = "../lib" }}

[[packages]]
name = "from-git"
vcs = {{ type = "git", url = "https://git.example.org/a", commit-id = "abc" }}

[[packages]]
name = "from-url"
archive = {{ url = "https://user:secret@example.org/a.zip", hashes = {{ sha256 = "{A}" }} }}

[[packages]]
name = "from-file"
archive = {{ path = "a.zip", hashes = {{ sha256 = "{A}" }} }}
"""


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.dev.toml"])
def test_a_pylock_wants_the_files_of_what_comes_from_an_index(name: str) -> None:
    files = {"acme-1.0.tar.gz": A, "acme-1.0-py3-none-any.whl": B}
    assert read(PYLOCK, name=name) == Needs(
        (
            wanted("acme", "==1.0", files=files, source=name),
            wanted("versionless", files={"versionless-1.0-py3-none-any.whl": C}, source=name),
        ),
        (
            Skipped(name, "lib", "comes from a directory"),
            Skipped(name, "from-git", "comes from version control"),
            Skipped(name, "from-url", "comes from a URL"),
            Skipped(name, "from-file", "comes from a file"),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"1.0"\ncreated', '"2.0"\ncreated', "cannot be read as a lock file (pylock version 2.0 is not supported)"),
        ("lock-version", "lck-version", "cannot be read as a lock file (Missing required value in 'lock-version')"),
        (B, "x", "package 'acme': what it has as a sha256 is none; lock again"),
        (f'sha256 = "{B}"', f'sha512 = "{B}{B}"', "it has no sha256, but 'sha512'; lock again from an index"),
        ("[[", "[", "is not TOML ("),
    ],
)
def test_a_pylock_that_is_none_is_named(old: str, new: str, told: str) -> None:
    assert old in PYLOCK
    sentence = refusal(PYLOCK.replace(old, new), name="pylock.toml")
    assert sentence.startswith("pylock.toml")
    assert told in sentence


def test_lock_files_are_put_together_where_they_say_the_same() -> None:
    texts = {"pylock.toml": PYLOCK, "pylock.same.toml": PYLOCK, "pylock.other.toml": PYLOCK.replace(B, C)}
    for name, text in texts.items():
        Path(name).write_text(text)
    files = {"acme-1.0.tar.gz": A, "acme-1.0-py3-none-any.whl": B}
    both = "pylock.toml and pylock.same.toml"
    assert [each for each in read_wanted(map(Path, texts)).wanted if each.name == "acme"] == [
        wanted("acme", "==1.0", files=files, source=both),
        wanted("acme", "==1.0", files=files | {"acme-1.0-py3-none-any.whl": C}, source="pylock.other.toml"),
    ]


# What tools write ----------------------------------------------------------------------------------------------------

_BIN = Path(sys.executable).parent
_PROJECT = """
[project]
name = "app"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["acme.tools>=1", "other; sys_platform == 'win32'", "lib"]

[tool.uv.sources]
lib = { path = "lib", editable = true }
"""
_PDM_PROJECT = """
[project]
name = "app"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["acme.tools>=1"]

[tool.pdm]
distribution = false

[[tool.pdm.source]]
name = "pypi"
url = "INDEX"
"""
_UV_EXPORT = ("export", "--default-index", "INDEX")
_UV_COMPILE = ("pip", "compile", "--default-index", "INDEX", "--emit-index-url", "--universal", "wishes.in")
_WHEEL = "acme_tools-1.0-py3-none-any.whl"
_SDIST = "acme_tools-1.0.tar.gz"
_OTHER = "other-1.0+here.1-py3-none-any.whl"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An index with two projects."""
    root = tmp_path_factory.mktemp("shop")
    files = [
        make_wheel(root, "Acme.Tools", "1.0"),
        make_sdist(root, "Acme.Tools", "1.0"),
        make_wheel(root, "Acme.Tools", "2.0rc1"),
        make_wheel(root, "other", "1.0+here.1"),
    ]
    with serving(root / "data", home=root / "home") as server:
        for file in files:
            assert server.upload(file).status_code == 200
        yield account(server)


def locked(
    index: Account, name: str, specifier: str, *filenames: str, source: Path, names_files: bool = True
) -> Wanted:
    """Return what a tool should have written down: these files of a project, with the digests that its page has."""
    listed = index.listed(name)
    files = {filename: listed[filename] for filename in filenames}
    if names_files:
        return wanted(name, specifier, files=files, source=str(source))
    line = next((n for n, line in enumerate(source.read_text().splitlines(), 1) if line.startswith(f"{name}==")), None)
    return wanted(name, specifier, sha256s={*files.values()}, source=f"{source}, line {line}")


def run(desk: Desk, index: Account, *command: str | Path) -> str:
    """Run a command in the project, with INDEX for the index's URL, and return what it says."""
    done = desk.run(*(str(word).replace("INDEX", index.index_url) for word in command))
    assert done.succeeded, done.output
    return done.output


@pytest.mark.parametrize(
    ("filename", "command", "names_files"),
    [
        ("uv.lock", ("lock", "--default-index", "INDEX"), True),
        ("pylock.toml", (*_UV_EXPORT, "--format", "pylock.toml", "-o", "pylock.toml"), True),
        ("requirements.txt", (*_UV_EXPORT, "-o", "requirements.txt"), False),
        ("compiled.txt", (*_UV_COMPILE, "--generate-hashes", "-o", "compiled.txt"), False),
        ("pylock.uv.toml", (*_UV_COMPILE, "--format", "pylock.toml", "-o", "pylock.uv.toml"), True),
    ],
)
def test_what_uv_writes_is_read(
    filename: str, command: tuple[str, ...], names_files: bool, shop: Account, desk: Desk
) -> None:
    (desk.project / "lib").mkdir()
    (desk.project / "lib" / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1.0"\n')
    (desk.project / "pyproject.toml").write_text(_PROJECT)
    (desk.project / "wishes.in").write_text("acme.tools>=1\nother; sys_platform == 'win32'\n./lib\n")
    run(desk, shop, _BIN / "uv", *command)
    path = desk.project / filename
    found = read_wanted([path])
    assert found.wanted == (
        locked(shop, "acme-tools", "==1.0", _WHEEL, _SDIST, source=path, names_files=names_files),
        locked(shop, "other", "==1.0+here.1", _OTHER, source=path, names_files=names_files),
    )
    assert {each.reason for each in found.skipped} == {"comes from a directory"}


def test_what_pip_writes_is_read(shop: Account, desk: Desk) -> None:
    (desk.project / "wishes.in").write_text("acme.tools>=1\n")
    pip = (sys.executable, "-m", "pip")
    path = desk.project / "pylock.toml"
    run(desk, shop, *pip, "lock", "-r", "wishes.in", "--index-url", "INDEX", "-o", path)
    assert read_wanted([path]) == Needs((locked(shop, "acme-tools", "==1.0", _WHEEL, source=path),), ())

    make_wheel(desk.project, "Acme.Tools", "1.0")
    with zipfile.ZipFile(desk.project / _WHEEL) as wheel:
        wheel.extractall(desk.project / "site")
    frozen = desk.project / "requirements.txt"
    frozen.write_text(run(desk, shop, *pip, "freeze", "--path", "site"))
    assert read_wanted([frozen]) == Needs((wanted("acme-tools", "==1.0", source=f"{frozen}, line 1"),), ())


def test_what_pdm_writes_is_read(shop: Account, desk: Desk) -> None:
    desk.make_environment()
    (desk.project / "pyproject.toml").write_text(_PDM_PROJECT.replace("INDEX", shop.index_url))
    run(desk, shop, _BIN / "pdm", "lock")
    for filename, form in (("requirements.txt", "requirements"), ("pylock.toml", "pylock")):
        path = desk.project / filename
        run(desk, shop, _BIN / "pdm", "export", "-f", form, "-o", path)
        names_files = form == "pylock"
        expected = locked(shop, "acme-tools", "==1.0", _WHEEL, _SDIST, source=path, names_files=names_files)
        assert read_wanted([path]) == Needs((expected,), ())
