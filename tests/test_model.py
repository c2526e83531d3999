"""Files, decisions and what a page lists of them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elasticpypi.model import (
    Decisions,
    Entry,
    File,
    ListedFile,
    ProjectSnapshot,
    Rejection,
    Status,
    format_decisions,
    format_time,
    parse_decisions,
    parse_time,
    served_entry,
)
from elasticpypi.names import NormalizedName, parse_filename

ACME = NormalizedName("acme")
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def file_at(key: str, *, size: int = 1) -> Entry:
    """Return the row of a file that is called as the key says."""
    parsed = parse_filename(key.rpartition("/")[2])
    content = File(parsed.filename, str(parsed.version), parsed.kind, size, "00" * 32, TIME)
    return Entry(key, ACME, 1, "f", content)


def snapshot(*entries: Entry, decisions: Decisions | None = None) -> ProjectSnapshot:
    rows = [*entries]
    if decisions is not None:
        rows.append(Entry("acme/project.json", ACME, 1, "f", decisions))
    return ProjectSnapshot(ACME, 1, tuple(sorted(rows, key=lambda entry: entry.key.encode())))


def test_files_are_listed_by_version_then_filename() -> None:
    ordered = [
        "acme-1.0.dev1.zip",
        "acme-1.0a1.zip",
        "acme-1.0rc1.zip",
        "acme-1-py3-none-any.whl",
        "acme-1.0-py3-none-any.whl",
        "acme-1.0.zip",
        "acme-1.0.post1.zip",
        "acme-1.9.zip",
        "acme-1.10.zip",
        "acme-1!0.1.zip",
    ]
    shuffled = random.Random(7).sample(ordered, len(ordered))
    listing = snapshot(*(file_at(f"acme/{filename}") for filename in shuffled)).listing()
    assert [item.file.filename for item in listing] == ordered


@pytest.mark.parametrize(
    ("keys", "served"),
    [
        (["acme/acme-1.zip", "acme-1.zip", "a/acme-1.zip"], "acme/acme-1.zip"),
        (["acme-1.zip", "a/acme-1.zip", "b/acme-1.zip"], "a/acme-1.zip"),
        (["Acme/acme-1.zip", "acme-1.zip"], "Acme/acme-1.zip"),
        (["acme-1.zip", "x/acme/acme-1.zip"], "acme-1.zip"),
        (["zeta/acme-1.zip", "acme/acme-1.zip"], "acme/acme-1.zip"),
        (["acme-1.zip"], "acme-1.zip"),
    ],
)
def test_of_keys_with_the_same_filename_the_canonical_is_served_then_the_smallest(keys: list[str], served: str) -> None:
    entries = [file_at(key, size=number) for number, key in enumerate(keys)]
    expected = entries[keys.index(served)]
    assert served_entry(entries) == expected
    assert isinstance(expected.content, File)
    assert snapshot(*entries).listing() == [ListedFile(expected.content, yanked=False)]


def test_what_is_rejected_or_gone_is_not_served() -> None:
    rejected = Entry("acme/acme-1.zip", ACME, 1, "f", Rejection("acme-1.zip", "broken"))
    gone = Entry("acme/acme-1.zip", ACME, 1)
    other = file_at("z/acme-1.zip")
    assert served_entry([]) is None
    assert served_entry([rejected, gone]) is None
    assert served_entry([rejected, other]) == other
    assert [item.file for item in snapshot(rejected, other).listing()] == [other.content]


FILENAMES = ("acme-1.0.zip", "acme-1.0-py3-none-any.whl", "acme-2.0.zip")


@pytest.mark.parametrize(
    ("yanked", "expected"),
    [
        ({}, [False, False, False]),
        ({"1.0": "bad"}, ["bad", "bad", False]),
        ({"1": "bad"}, ["bad", "bad", False]),
        ({"v1.0.0": ""}, [True, True, False]),
        ({"acme-1.0.zip": "bad"}, ["bad", False, False]),
        ({"acme-1.0.zip": "", "1.0": "bad"}, [True, "bad", False]),
        ({"3": "bad", "acme-3.zip": "bad", "nightly": "bad"}, [False, False, False]),
        ({"2": "<b>&"}, [False, False, "<b>&"]),
    ],
)
def test_a_file_or_a_release_is_yanked(yanked: dict[str, str], expected: list[bool | str]) -> None:
    project = snapshot(*(file_at(f"acme/{name}") for name in FILENAMES), decisions=Decisions(yanked=yanked))
    found = {item.file.filename: item.yanked for item in project.listing()}
    assert [found[name] for name in FILENAMES] == expected


def test_without_a_project_json_the_decisions_are_the_defaults() -> None:
    assert snapshot(file_at("acme/acme-1.zip")).decisions == Decisions(Status.ACTIVE, None, {}, {}, None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, None),
        (Rejection("x.whl", "broken"), "broken"),
        (Decisions(), None),
        (Decisions(problem="unreadable"), "unreadable"),
        (file_at("acme-1.zip").content, None),
    ],
)
def test_problems(content: File | Rejection | Decisions | None, problem: str | None) -> None:
    assert Entry("key", ACME, content=content).problem == problem


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", Decisions()),
        (b'{"status": "archived"}', Decisions(Status.ARCHIVED)),
        (b'{"status-reason": null}', Decisions()),
        (
            '{"status": "deprecated", "status-reason": "é"}'.encode(),
            Decisions(Status.DEPRECATED, "é"),
        ),
        (b'{"yanked": {"1": "", "a.zip": "r"}}', Decisions(yanked={"1": "", "a.zip": "r"})),
        (b'{"deleted": {"a.zip": "AB"}}', Decisions(deleted={"a.zip": "ab"})),
        (b"", "project.json is not JSON: "),
        (b"{", "project.json is not JSON: "),
        (b"\xff", "project.json is not JSON: "),
        (b"[]", "project.json is not a JSON object"),
        (b"null", "project.json is not a JSON object"),
        (b'{"yank": {}}', "project.json has an unknown key 'yank'"),
        (
            b'{"status": "gone"}',
            "project.json: 'status' is 'gone', not one of active, archived, quarantined, deprecated",
        ),
        (b'{"status": null}', "project.json: 'status' is None, not one of "),
        (b'{"status": []}', "project.json: 'status' is [], not one of "),
        (b'{"status": {}}', "project.json: 'status' is {}, not one of "),
        (b'{"status-reason": 1}', "project.json: 'status-reason' is not a string"),
        (b'{"yanked": ["1"]}', "project.json: 'yanked' is not an object of strings"),
        (b'{"yanked": {"1": true}}', "project.json: 'yanked' is not an object of strings"),
        (b'{"yanked": null}', "project.json: 'yanked' is not an object of strings"),
        (b'{"deleted": {"a.zip": null}}', "project.json: 'deleted' is not an object of strings"),
        (b"[" * 100_000, "project.json is not JSON: "),
        (b'{"status-reason": "\\ud800"}', "project.json is not JSON: "),
    ],
)
def test_decisions_are_read_strictly(data: bytes, expected: Decisions | str) -> None:
    if isinstance(expected, Decisions):
        assert parse_decisions(data) == expected
    else:
        with pytest.raises(ValueError, match=r"project\.json") as caught:
            parse_decisions(data)
        assert str(caught.value).startswith(expected)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
DECISIONS = st.builds(
    Decisions,
    st.sampled_from(Status),
    st.none() | TEXTS,
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.dictionaries(TEXTS, st.text("0123456789abcdef", max_size=8), max_size=3),
)


@given(DECISIONS)
def test_decisions_are_read_as_they_were_written(decisions: Decisions) -> None:
    assert parse_decisions(format_decisions(decisions)) == decisions


def test_people_can_read_and_edit_decisions() -> None:
    decisions = Decisions(Status.DEPRECATED, "benütze zeta", {"1": ""}, {})
    written = format_decisions(decisions).decode()
    assert json.loads(written) == {
        "status": "deprecated",
        "status-reason": "benütze zeta",
        "yanked": {"1": ""},
        "deleted": {},
    }
    assert '\n  "status-reason": "benütze zeta",\n' in written
    assert written.endswith("}\n")


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (TIME, "2026-01-02T03:04:05.678901Z"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000000Z"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00.000000Z"),
    ],
)
def test_times_are_utc_with_microseconds(time: datetime, expected: str) -> None:
    assert format_time(time) == expected
    assert parse_time(expected) == time
    assert parse_time(expected).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901+00:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time in UTC|Invalid isoformat"):
        parse_time(text)
