"""Which files of an upstream are chosen for what is wanted; specifiers are read by `packaging`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest
from packaging.specifiers import SpecifierSet

from elasticpypi.cli.choosing import Choice, choose
from elasticpypi.cli.wanted import Wanted
from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.index import HeldBack, Listing, UpstreamFile
from elasticpypi.model import Status
from elasticpypi.names import normalize_name, parse_filename
from elasticpypi.upstream.model import UpstreamPage

ACME = normalize_name("acme")
UPSTREAM = Upstream("pypi", "https://pypi.example.org/simple/", UpstreamMode.PROXY, keep=True)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
WHEEL, SDIST = "acme-1.0-py3-none-any.whl", "acme-1.0.tar.gz"
YOUNG = "is younger than 7 days"


def file(filename: str, *, sha256: str | None = "0" * 64, yanked: bool | str = False) -> UpstreamFile:
    version = str(parse_filename(filename).version)
    hashes = {} if sha256 is None else {"sha256": sha256}
    return UpstreamFile(filename, f"https://example.org/{filename}", version, hashes, yanked=yanked)


def listing(
    *shown: str | UpstreamFile, held_back: Iterable[str | HeldBack] = (), status: Status = Status.ACTIVE
) -> Listing:
    """Return what an upstream has; names stand for files, which are held back for their youth."""
    files = tuple(file(each) if isinstance(each, str) else each for each in shown)
    held = tuple(HeldBack(file(each), YOUNG) if isinstance(each, str) else each for each in held_back)
    return Listing(UPSTREAM, ACME, UpstreamPage((), status), files, held, {}, checked=0.0)


def wanted(
    specifier: str = "", *, files: Mapping[str, str | None] | None = None, sha256s: Iterable[str] = ()
) -> Wanted:
    releases = SpecifierSet(specifier) if specifier else None
    return Wanted(ACME, releases, files or {}, frozenset(sha256s), "a file")


def chosen(choice: Choice) -> list[str]:
    assert choice.problems == ()
    return [file.filename for file in choice.files]


MANY = (
    "acme-0.9.tar.gz",
    "acme-1.0-cp311-cp311-win32.whl",
    WHEEL,
    SDIST,
    "acme-1.9.tar.gz",
    "acme-1.10.tar.gz",
    "acme-2.0rc1.tar.gz",
)


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("", ["acme-1.10.tar.gz"]),
        ("==1.0", ["acme-1.0-cp311-cp311-win32.whl", WHEEL, SDIST]),
        ("==1.0.0", ["acme-1.0-cp311-cp311-win32.whl", WHEEL, SDIST]),
        ("===1.0", ["acme-1.0-cp311-cp311-win32.whl", WHEEL, SDIST]),
        ("<1", ["acme-0.9.tar.gz"]),
        ("~=1.0,!=1.10", ["acme-1.9.tar.gz"]),
        (">=1.0", ["acme-1.10.tar.gz"]),
        (">=2.0rc1", ["acme-2.0rc1.tar.gz"]),
        ("==2.0rc1", ["acme-2.0rc1.tar.gz"]),
        (">1.10", ["acme-2.0rc1.tar.gz"]),  # there is no other
    ],
)
def test_all_files_of_the_newest_release_that_fits_are_chosen(specifier: str, expected: list[str]) -> None:
    assert chosen(choose(listing(*MANY), wanted(specifier))) == expected


def test_of_nothing_but_pre_releases_the_newest_is_chosen() -> None:
    assert chosen(choose(listing("acme-1.0a1.tar.gz", "acme-1.0b1.tar.gz"), wanted())) == ["acme-1.0b1.tar.gz"]


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("", [SDIST]),
        (">=1.0", [SDIST]),
        ("==2.*", None),
        (">=2.0", None),
        ("==1.0", [WHEEL, SDIST]),
        ("==2.0", ["acme-2.0.tar.gz"]),
        ("===2.0", ["acme-2.0.tar.gz"]),
        ("==2.0,>1", ["acme-2.0.tar.gz"]),
    ],
)
def test_a_yanked_file_is_chosen_for_its_very_version_alone(specifier: str, expected: list[str] | None) -> None:
    there = listing(file(WHEEL, yanked="broken"), SDIST, file("acme-2.0.tar.gz", yanked=True))
    choice = choose(there, wanted(specifier))
    if expected is None:
        assert choice == Choice((), (f"no release of acme fits {specifier}: correct the version",))
    else:
        assert chosen(choice) == expected


@pytest.mark.parametrize("specifier", ["", "==1.0"])
def test_where_there_is_nothing_that_is_a_problem(specifier: str) -> None:
    told = f"no release of acme fits {specifier}: correct the version" if specifier else "there is no release of acme"
    assert choose(listing(), wanted(specifier)) == Choice((), (told,))


def test_digests_choose_among_files_and_each_must_be_there() -> None:
    there = listing(file(WHEEL, sha256=A), file(SDIST, sha256=B), "acme-2.0.tar.gz")
    assert chosen(choose(there, wanted("==1.0", sha256s=[A, B]))) == [WHEEL, SDIST]
    assert chosen(choose(there, wanted("==1.0", sha256s=[B]))) == [SDIST]
    assert chosen(choose(there, wanted(">=1.0", sha256s=[A]))) == [WHEEL]
    missing = choose(there, wanted("==1.0", sha256s=[A, C]))
    assert [each.filename for each in missing.files] == [WHEEL]
    assert missing.problems == (f"no file has the sha256 {C}: if it was not removed, find out who has changed it",)


def test_digests_of_another_release_choose_nothing() -> None:
    there = listing(file(WHEEL, sha256=A), file("acme-2.0.tar.gz", sha256=B))
    told = ("no release of acme fits ==2.0: correct the version",)
    assert choose(there, wanted("==2.0", sha256s=[A])) == Choice((), told)


def test_files_are_chosen_by_their_names_whatever_has_become_of_them() -> None:
    there = listing(file(WHEEL, sha256=A, yanked=True), file(SDIST, sha256=B), "acme-2.0.tar.gz")
    assert chosen(choose(there, wanted("==1.0", files={SDIST: B, WHEEL: A}))) == [WHEEL, SDIST]
    assert chosen(choose(there, wanted("==1.0", files={WHEEL: None}))) == [WHEEL]
    assert chosen(choose(there, wanted(files={WHEEL: None, SDIST: B}))) == [WHEEL, SDIST]


def test_a_file_that_is_gone_or_has_other_bytes_is_a_problem() -> None:
    there = listing(file(WHEEL, sha256=A), file(SDIST, sha256=C))
    choice = choose(there, wanted("==1.0", files={WHEEL: A, SDIST: B, "acme-1.0.zip": C}))
    assert [each.filename for each in choice.files] == [WHEEL]
    assert choice.problems == (other_digest(SDIST), "acme-1.0.zip is not there (any more): lock again")


def test_a_digest_that_was_locked_for_one_file_does_for_no_other() -> None:
    there = listing(file(WHEEL, sha256=B), file(SDIST, sha256=A), held_back=["acme-1.0.zip"])
    choice = choose(there, wanted("==1.0", files={WHEEL: A, SDIST: B, "acme-1.0.zip": A}))
    assert choice == Choice((), tuple(map(other_digest, (WHEEL, SDIST, "acme-1.0.zip"))))


def test_a_file_without_a_digest_is_not_taken_for_one_that_was_locked() -> None:
    unproven = HeldBack(file(WHEEL, sha256=None), "has no sha256")
    told = (f"{WHEEL} has no sha256 on the upstream's page that could be held against that of a file",)
    assert choose(listing(held_back=[unproven]), wanted(files={WHEEL: A})) == Choice((), told)
    assert choose(listing(unproven.file), wanted(files={WHEEL: A})) == Choice((), told)


def other_digest(filename: str) -> str:
    """Return what is said of a file whose digest is not the one that was locked."""
    return f"{filename} has another sha256 on the upstream's page than a file says: find out why before you lock again"


def test_what_is_held_back_is_a_problem_where_it_is_wanted() -> None:
    until = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    held = HeldBack(file("acme-1.0.zip", sha256=C), YOUNG, until)
    there = listing(file(WHEEL, sha256=A), held_back=[held, "acme-2.0.tar.gz"])
    until_then = f"acme-1.0.zip {YOUNG}, until 2030-01-02 03:04 UTC"
    table = [
        (wanted(), [WHEEL], [until_then]),
        (wanted("==1.0"), [WHEEL], [until_then]),
        (wanted("==1.0", sha256s=[A, C]), [WHEEL], [until_then]),
        (wanted("==1.0", sha256s=[A]), [WHEEL], []),
        (wanted(files={"acme-1.0.zip": None}), [], [until_then]),
        (wanted(files={"acme-1.0.zip": C}), [], [until_then]),
        (wanted("==2.0"), [], [f"acme-2.0.tar.gz {YOUNG}"]),
        (wanted(">=2.0"), [], [f"acme-2.0.tar.gz {YOUNG}"]),
    ]
    for want, files, problems in table:
        choice = choose(there, want)
        assert ([each.filename for each in choice.files], list(choice.problems)) == (files, problems), want


def test_a_kept_file_stands_in_for_one_of_its_name_that_is_held_back() -> None:
    there = listing(file(WHEEL, sha256=A), held_back=[HeldBack(file(WHEEL, sha256=B), "has other bytes now")])
    assert chosen(choose(there, wanted("==1.0"))) == [WHEEL]
    assert chosen(choose(there, wanted("==1.0", files={WHEEL: A}))) == [WHEEL]
    assert choose(there, wanted("==1.0", files={WHEEL: B})).problems == (f"{WHEEL} has other bytes now",)


def test_nothing_of_a_quarantined_project_is_chosen() -> None:
    there = listing(WHEEL, status=Status.QUARANTINED)
    told = ("its project is quarantined by the upstream 'pypi'; try again later",)
    assert choose(there, wanted()) == Choice((), told)
