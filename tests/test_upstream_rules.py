"""Which files of an upstream our clients see, which are held back until when, and what keeping changes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName, parse_filename
from elasticpypi.upstream.model import HeldBack, KeptFile, UpstreamFile, UpstreamPage
from elasticpypi.upstream.rules import hold_back, next_change

SPAM = NormalizedName("spam")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OPEN = Upstream("pypi", "https://pypi.example.org/simple/", UpstreamMode.PROXY, hosts=("files.example.org",))
KEEPING = replace(OPEN, keep=True)
WEEK = replace(OPEN, min_age_days=7)
DAY = timedelta(1)
WHEEL, SDIST = "spam-1.0-py3-none-any.whl", "spam-1.0.tar.gz"
A, B = "a" * 64, "b" * 64
OTHER_BYTES = "has other hashes on the upstream's page than the file that is kept under this name"
OTHER_HOST = "lies on a host that is neither that of the upstream's 'url' nor among its 'hosts'"
NO_SHA256 = "has no sha256 on the upstream's page, so that what comes could not be verified"
NO_TIME = "has no upload time on the upstream's page, so that its age is not known"
QUARANTINED = "belongs to a project that the upstream has quarantined"
YOUNG = "is younger than 7 days"


def file(
    filename: str, *, sha256: str | None = A, host: str = "files.example.org", days_ago: float | None = 100
) -> UpstreamFile:
    return UpstreamFile(
        filename,
        f"https://{host}/{filename}",
        str(parse_filename(filename).version),
        {} if sha256 is None else {"sha256": sha256},
        upload_time=None if days_ago is None else NOW - days_ago * DAY,
    )


def hold(
    upstream: Upstream,
    *files: UpstreamFile,
    kept: Iterable[UpstreamFile] = (),
    status: Status = Status.ACTIVE,
    now: datetime = NOW,
    project: NormalizedName = SPAM,
) -> tuple[tuple[UpstreamFile, ...], tuple[HeldBack, ...]]:
    lying_here = {each.filename: KeptFile(upstream.name, each) for each in kept}
    return hold_back(upstream, project, UpstreamPage(files, status), lying_here, now=now)


@pytest.mark.parametrize("upstream", [OPEN, KEEPING, replace(OPEN, undated_are_old=True)], ids=["open", "keep", "old"])
def test_without_rules_all_is_shown_in_the_order_of_the_page(upstream: Upstream) -> None:
    files = [file("spam-0.9.zip"), file(SDIST, days_ago=None), file(WHEEL, days_ago=0)]
    assert hold(upstream, *files) == (tuple(files), ())


def test_what_has_no_sha256_is_shown_where_clients_get_it_themselves() -> None:
    unproven = file(WHEEL, sha256=None)
    assert hold(OPEN, unproven) == ((unproven,), ())
    for upstream in (KEEPING, replace(OPEN, username="us", password="secret")):
        assert hold(upstream, unproven) == ((), (HeldBack(unproven, NO_SHA256),))


@pytest.mark.parametrize(
    ("allowed", "denied", "reasons"),
    [
        (("*.whl",), (), {SDIST: "matches nothing in the upstream's 'allow-files'"}),
        (("*.whl", "*.tar.gz"), (), {}),
        (("*.WHL",), (), dict.fromkeys([WHEEL, SDIST], "matches nothing in the upstream's 'allow-files'")),
        (("*",), ("*.tar.*",), {SDIST: "matches '*.tar.*' in the upstream's 'deny-files'"}),
        (
            ("*.whl",),
            ("spam-1.0*",),
            dict.fromkeys([WHEEL, SDIST], "matches 'spam-1.0*' in the upstream's 'deny-files'"),
        ),
    ],
    ids=["allow", "allow both", "case counts", "deny", "deny wins"],
)
@pytest.mark.parametrize("is_kept", [False, True])
def test_filenames_can_be_denied_even_of_what_is_kept(
    allowed: tuple[str, ...], denied: tuple[str, ...], reasons: dict[str, str], is_kept: bool
) -> None:
    upstream = replace(KEEPING, allow_files=allowed, deny_files=denied)
    files = (file(WHEEL), file(SDIST))
    shown, held = hold(upstream, *files, kept=files if is_kept else ())
    assert {each.file.filename: each.reason for each in held} == reasons
    assert [each.filename for each in shown] == [each.filename for each in files if each.filename not in reasons]


@pytest.mark.parametrize(
    ("project", "pattern", "denied", "others"),
    [
        (
            "evil",
            "evil-6.6-*",
            "Evil-6.6-py3-none-any.whl EVIL-06.6-py3-none-any.whl evil-6.6.0-1-py3-none-any.whl evil-6.6.0-py3.11.egg",
            "evil-6.6.1-py3-none-any.whl evil-6.60-py3-none-any.whl evil-6.6.0.tar.gz evil-6.6rc1-py3-none-any.whl",
        ),
        (
            "evil",
            "evil-6.6.0.tar.gz",
            "evil-6.6.tar.gz Evil-6.6.tar.gz evil-v6.6.0.0.tar.gz",
            "evil-6.6.zip evil-6.6.tar.xz evil-6.6.0.1.tar.gz evil-0!6.6-py3-none-any.whl",
        ),
        ("evil", "evil-6.6.0rc1*", "evil-6.6.c1.zip evil-6.6.0.0rc.1.tar.gz", "evil-6.6.zip evil-6.6rc2.zip"),
        ("evil", "evil-1!6.0-*", "evil-1!6-py3-none-any.whl evil-1!06-py3.11.egg", "evil-6.0-py3-none-any.whl"),
        ("evil", "evil-0.0.zip", "evil-0.zip evil-0.0.0.zip", "evil-0.1.zip"),
        ("evil", "evil-1.0+here.1-*", "evil-1+HERE_1-py3-none-any.whl", "evil-1-py3-none-any.whl"),
        ("very-evil", "very_evil-*", "very-evil-1.tar.gz very.evil-1.tar.gz Very.Evil-1-py3-none-any.whl", ""),
        ("very-evil", "Very-Evil-1.*", "very_evil-1.tar.gz very.evil-1.0.tar.gz", "very-evil-2.zip"),
        ("evil", "*.[E]XE", "", "evil-1.0.tar.gz"),
        ("evil", "*-CP31[0-9]-*", "evil-1-cp311-cp311-win32.whl", "evil-1-cp39-cp39-win32.whl"),
    ],
)
def test_what_is_denied_is_denied_however_it_is_spelled(project: str, pattern: str, denied: str, others: str) -> None:
    files = [file(filename) for filename in f"{denied} {others}".split()]
    assert {parse_filename(each.filename).project for each in files} == {project}
    upstream = replace(OPEN, deny_files=("*.none", pattern))
    shown, held = hold(upstream, *files, project=NormalizedName(project))
    assert [each.file.filename for each in held] == denied.split()
    assert {each.reason for each in held} <= {f"matches {pattern!r} in the upstream's 'deny-files'"}
    assert [each.filename for each in shown] == others.split()


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        (f"https://files.example.org/{WHEEL}", True),
        (f"https://files.example.org:443/{WHEEL}", True),
        (f"https://pypi.example.org/{WHEEL}?x", True),
        (f"https://files.example.org:8443/{WHEEL}", False),
        (f"https://files.example.org.evil.org/{WHEEL}", False),
        (f"http://files.example.org/{WHEEL}", False),
        (f"https://169.254.169.254/{WHEEL}", False),
    ],
)
def test_files_lie_on_the_upstreams_own_hosts(url: str, is_shown: bool) -> None:
    asked = replace(file(WHEEL), url=url)
    beside = file(SDIST)
    shown, held = hold(OPEN, asked, beside)
    assert (shown, held) == (((asked, beside), ()) if is_shown else ((beside,), (HeldBack(asked, OTHER_HOST),)))


@pytest.mark.parametrize(
    ("days_ago", "until"),
    [
        (8, None),
        (7, None),
        (6.999, NOW + 0.001 * DAY),
        (0, NOW + 7 * DAY),
        (-3, NOW + 10 * DAY),  # from a time to come it counts from there
    ],
)
def test_files_are_shown_when_they_are_old_enough(days_ago: float, until: datetime | None) -> None:
    young = file(WHEEL, days_ago=days_ago)
    assert hold(WEEK, young) == (((young,), ()) if until is None else ((), (HeldBack(young, YOUNG, until),)))
    if until is not None:
        assert hold(WEEK, young, now=until) == ((young,), ())
        assert hold(WEEK, young, now=until - timedelta(microseconds=1))[0] == ()


def test_exceptions_of_projects_have_their_own_age() -> None:
    exempt = replace(WEEK, min_age_exceptions={"sp*": 0, "spam": 30})
    assert hold(exempt, file(WHEEL, days_ago=-1))[1] == ()
    (held,) = hold(replace(WEEK, min_age_exceptions={"spam": 1}), file(WHEEL, days_ago=0))[1]
    assert held.reason == "is younger than 1 day"


def test_the_end_of_all_time_is_no_end_of_ours() -> None:
    last = replace(file(WHEEL), upload_time=datetime.max.replace(tzinfo=UTC))
    first = replace(file(SDIST), upload_time=datetime.min.replace(tzinfo=UTC))
    shown, (held,) = hold(replace(OPEN, min_age_days=36_500), first, last)
    assert (shown, held.until) == ((first,), last.upload_time)


def test_what_has_no_upload_time_is_young_unless_people_say_otherwise() -> None:
    undated = file(WHEEL, days_ago=None)
    assert hold(WEEK, undated) == ((), (HeldBack(undated, NO_TIME),))
    assert hold(replace(WEEK, undated_are_old=True), undated) == ((undated,), ())


def test_nothing_of_a_quarantined_project_is_shown() -> None:
    listed, kept = file(WHEEL), file("spam-0.5.zip")
    held = (HeldBack(kept, QUARANTINED), HeldBack(listed, QUARANTINED))
    assert hold(KEEPING, listed, kept=[kept], status=Status.QUARANTINED) == ((), held)


@pytest.mark.parametrize("status", [Status.ARCHIVED, Status.DEPRECATED])
def test_other_statuses_hide_nothing(status: Status) -> None:
    assert hold(OPEN, file(WHEEL), status=status) == ((file(WHEEL),), ())


# What is kept ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now",
    [
        file(WHEEL, days_ago=0),
        file(WHEEL, days_ago=None),
        file(WHEEL, host="evil.example.org"),
        file(WHEEL, sha256=None),
        None,
    ],
    ids=["young", "undated", "elsewhere", "unproven", "gone"],
)
def test_what_is_kept_stays_whatever_becomes_of_it(now: UpstreamFile | None) -> None:
    shown, held = hold(replace(KEEPING, min_age_days=7), *[now] if now else [], kept=[file(WHEEL)])
    assert [(each.filename, each.sha256, each.upload_time) for each in shown] == [(WHEEL, A, NOW - 100 * DAY)]
    assert held == ()


def test_what_is_kept_is_shown_with_what_people_have_decided_since() -> None:
    kept = replace(file(WHEEL), size=5, core_metadata={"sha256": B}, provenance="https://pypi.example.org/p")
    for since, before in (("leaks", False), (True, "leaks"), (False, True)):
        was = replace(kept, yanked=before)
        assert hold(KEEPING, replace(kept, yanked=since), kept=[was]) == ((replace(kept, yanked=since),), ())
    assert hold(KEEPING, kept=[replace(kept, yanked=True)]) == ((replace(kept, yanked=True),), ())


@pytest.mark.parametrize(
    "kept",
    [file(WHEEL, days_ago=None), replace(file(WHEEL), requires_python=">=3.9", core_metadata={"sha256": A}, size=4)],
    ids=["bare", "described"],
)
def test_nothing_else_comes_to_bytes_that_are_kept(kept: UpstreamFile) -> None:
    now = UpstreamFile(
        WHEEL,
        f"https://files.example.org/new/{WHEEL}",
        "1.0",
        {"sha256": A, "md5": "0" * 32},
        size=5,
        upload_time=NOW,
        requires_python=">=2",
        core_metadata={"sha256": B},
        provenance="https://pypi.example.org/p",
    )
    assert hold(KEEPING, now, kept=[kept]) == ((kept,), ())


def test_bytes_that_are_kept_are_not_exchanged() -> None:
    kept, now = file(WHEEL), replace(file(WHEEL, sha256=B), yanked=True)
    assert hold(KEEPING, now, file(SDIST), kept=[kept]) == ((kept, file(SDIST)), (HeldBack(now, OTHER_BYTES),))
    kept = replace(kept, hashes={"sha256": A, "md5": "0" * 32})
    now = replace(now, hashes={"md5": "1" * 32})
    assert hold(KEEPING, now, kept=[kept]) == ((kept,), (HeldBack(now, OTHER_BYTES),))


def test_what_is_kept_and_gone_takes_its_place_in_the_order() -> None:
    listed = [file("spam-1.0rc1.zip"), file(WHEEL), file("spam-1.10.zip")]
    kept = [file("spam-1.9.zip"), file("spam-1.0.zip"), file("spam-0.9.zip")]
    shown, _ = hold(KEEPING, *listed, kept=kept)
    assert [each.filename for each in shown] == [
        "spam-0.9.zip",
        "spam-1.0rc1.zip",
        WHEEL,
        "spam-1.0.zip",
        "spam-1.9.zip",
        "spam-1.10.zip",
    ]


# When it changes ------------------------------------------------------------------------------------------------------


def test_the_next_change_is_the_first_that_comes_by_itself() -> None:
    held = [HeldBack(file(WHEEL), YOUNG, NOW + days * DAY) for days in (3, 1, 2)]
    assert next_change([HeldBack(file(WHEEL), NO_TIME), *held]) == NOW + DAY
    assert next_change([HeldBack(file(WHEEL), NO_TIME)]) is None
    assert next_change([]) is None
