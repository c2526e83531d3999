"""However runs interleave while projects change, and whoever is killed: the site ends as one that is built anew."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elasticpypi.errors import BusyError
from elasticpypi.names import NormalizedName
from elasticpypi.output import Output, Written
from elasticpypi.static_site import SiteOptions
from elasticpypi.static_site.paging import Paging
from elasticpypi.static_site.putting import Tally
from elasticpypi.static_site.site import Site
from tests.examples import examples
from tests.outputs import Meeting, MemoryOutput, MemorySource, dangling, site_of
from tests.scheduler import Choice, Interleaved, Pace, Task, Tasks, switching_point

ACME, SPAM = NormalizedName("acme"), NormalizedName("spam")
NAMES = (ACME, SPAM)
OPTIONS = SiteOptions()
PER_PAGE = 3  # entries of the changelog
MANY = 100
WRITES = frozenset({"output.write", "output.remove"})
UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]

VERSIONS = ("1", "2", "3")
TIMES = {(name, version): at for at, (version, name) in enumerate(itertools.product(VERSIONS, NAMES))}


@dataclass(frozen=True)
class Put:
    name: NormalizedName
    version: str
    body: bytes = b"x"

    def happen(self, source: MemorySource) -> None:
        source.put(self.name, self.version, TIMES[self.name, self.version], core_metadata=self.body)


@dataclass(frozen=True)
class Yank:
    name: NormalizedName
    version: str
    yanked: bool | str

    def happen(self, source: MemorySource) -> None:
        source.yank(self.name, self.version, self.yanked)


@dataclass(frozen=True)
class Remove:
    name: NormalizedName
    version: str

    def happen(self, source: MemorySource) -> None:
        source.remove(self.name, self.version)


@dataclass(frozen=True)
class Forget:
    name: NormalizedName

    def happen(self, source: MemorySource) -> None:
        source.forget(self.name)


Change = Put | Yank | Remove | Forget
SOME = {"name": st.sampled_from(NAMES), "version": st.sampled_from(VERSIONS)}
CHANGES: st.SearchStrategy[Change] = (
    st.builds(Put, **SOME, body=st.sampled_from([b"x", b"y"]))
    | st.builds(Yank, **SOME, yanked=st.sampled_from([False, True, "bad"]))
    | st.builds(Remove, **SOME)
    | st.builds(Forget, st.sampled_from(NAMES))
)
TASKS = (0, 0, 1, 1, 2, 2, 3, 4)
PACES = (Pace.STEP, Pace.WRITE, Pace.WRITE, Pace.END)
CHOICES = st.binary(min_size=60, max_size=160).map(
    lambda data: [Choice(TASKS[byte % 8], PACES[byte // 8 % 4]) for byte in data]
)
# What happened most often where something was wrong: a project goes back to what it was while somebody is at work.
MEETINGS: list[list[Change]] = [
    [Put(ACME, "1"), Put(ACME, "2"), Remove(ACME, "2")],
    [Put(ACME, "1"), Remove(ACME, "1"), Put(ACME, "1")],
    [Put(ACME, "1"), Put(ACME, "1", b"y"), Put(ACME, "1")],
    [Put(ACME, "1"), Forget(ACME), Put(ACME, "1")],
    [Put(ACME, "1"), Put(SPAM, "1"), Forget(ACME), Put(ACME, "2")],
]
HISTORIES = st.sampled_from(MEETINGS) | st.lists(CHANGES, min_size=2, max_size=7)


def open_site(source: MemorySource, output: Output, *, per_page: int = PER_PAGE) -> Site:
    return Site(source, output, OPTIONS, per_page=per_page, pause=lambda _: None)


def built_anew(source: MemorySource, *, per_page: int = PER_PAGE) -> dict[str, bytes]:
    output = MemoryOutput(is_exclusive=True)
    open_site(source, output, per_page=per_page).build()
    return site_of(output)


class KilledError(BaseException):
    """The end of a process."""


class Mortal:
    """An output at which whoever writes is killed, after so many calls."""

    def __init__(self, inner: MemoryOutput, calls: int) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in {"write", "remove"}:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls -= 1
            if self._calls < 0:
                raise KilledError
            result = value(*args, **kwargs)
            assert dangling(self._inner.documents) == []
            return result

        return call


LIVES = st.lists(
    st.tuples(
        st.lists(CHANGES, max_size=4),
        st.sampled_from(["update", "build", "everything", "build in parts", "everything in parts"]),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=5,
)


def run(site: Site, what: str) -> None:
    if what == "update":
        site.update(NAMES)
    elif what.endswith(" in parts"):
        build_in_parts(site, everything=what.startswith("everything"))
    else:
        site.build(everything=what == "everything")


def build_in_parts(site: Site, *, everything: bool) -> None:
    """Build as somebody whose time is over at once, again and again."""
    for _ in range(10):
        if not site.build(everything=everything, deadline=0).is_partial:
            return
    raise AssertionError("a build comes to no end")


@pytest.mark.many_examples
@settings(max_examples=examples(60, 2000), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(LIVES, st.sampled_from(["build", "everything", "build in parts", "everything in parts"]))
def test_a_build_mends_what_those_who_were_killed_have_left(
    lives: list[tuple[list[Change], str, int]], last: str
) -> None:
    source, output = MemorySource(), MemoryOutput(is_exclusive=True)
    for changes, what, calls in lives:
        for change in changes:
            change.happen(source)
        site = open_site(source, cast("Output", Mortal(output, calls)))
        try:
            run(site, what)
        except KilledError:
            continue
    run(open_site(source, cast("Output", Mortal(output, 10_000))), last)
    assert site_of(output) == built_anew(source)


@pytest.mark.many_examples
@settings(max_examples=examples(40, 1500), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(st.lists(st.tuples(st.lists(CHANGES, min_size=1, max_size=3), st.integers(0, 40)), min_size=1, max_size=4))
def test_an_event_that_comes_again_mends_what_those_who_were_killed_have_left(
    lives: list[tuple[list[Change], int]],
) -> None:
    source, output = MemorySource(), MemoryOutput()
    open_site(source, output, per_page=MANY).build()
    for changes, calls in lives:
        for change in changes:
            change.happen(source)
        try:
            open_site(source, cast("Output", Mortal(output, calls)), per_page=MANY).update(NAMES)
        except KilledError:
            continue
    open_site(source, output, per_page=MANY).update(NAMES)
    expected = built_anew(source, per_page=MANY)
    assert without_packages(site_of(output)) == without_packages(expected)


ALL: list[Change] = [Put(name, version) for version in VERSIONS for name in NAMES]
SECOND: list[Change] = [Put(ACME, "1"), Put(SPAM, "1"), Put(ACME, "2")]  # a page of the changelog, which is full

# (what is there, what changes, who is killed, what changes then, who comes next)
ENDS: list[tuple[list[Change], list[Change], str, list[Change], str]] = [
    (SECOND, [Put(SPAM, "2")], "update", [], "update"),
    (SECOND, [Put(SPAM, "2")], "update", [Remove(SPAM, "2")], "build"),
    ([Put(ACME, "1"), Put(ACME, "2"), Put(SPAM, "2")], [Put(SPAM, "1")], "update", [], "update"),
    ([], ALL, "update", [], "update"),
    ([Put(ACME, "1")], [Put(SPAM, "2")], "update", [Forget(SPAM)], "build"),
    ([Put(ACME, "1"), Put(SPAM, "1")], [Forget(SPAM)], "update", [Put(SPAM, "1")], "build"),
    (ALL, [Remove(ACME, "1")], "update then build", [], "build"),
    (SECOND, [Put(ACME, "3"), Put(SPAM, "3")], "everything", [], "build"),
    ([], ALL, "build", [], "build"),
]


@pytest.mark.parametrize(("before", "changes", "killed", "then", "last"), ENDS)
@pytest.mark.parametrize("is_exclusive", [False, True])
def test_wherever_a_run_is_killed_the_next_one_mends_it(
    before: list[Change], changes: list[Change], killed: str, then: list[Change], last: str, *, is_exclusive: bool
) -> None:
    for calls in itertools.count():
        source, output = MemorySource(), MemoryOutput(is_exclusive=is_exclusive)
        change(source, before)
        open_site(source, output).build()
        change(source, changes)
        if killed == "update then build":
            open_site(source, output).update(NAMES)
        try:
            run(open_site(source, cast("Output", Mortal(output, calls))), killed.removeprefix("update then "))
            is_killed = False
        except KilledError:
            is_killed = True
        change(source, then)
        run(open_site(source, output), last)
        found, expected = site_of(output), built_anew(source)
        if last == "update":
            found, expected = without_packages(found), without_packages(expected)
        assert found == expected, calls
        assert not [path for path in output.documents if path.startswith(".elasticpypi/site/")]
        if not is_killed:
            assert calls > 5
            return


def change(source: MemorySource, changes: list[Change]) -> None:
    for each in changes:
        each.happen(source)


def test_a_page_that_is_gone_is_written_again_though_who_began_to_is_killed() -> None:
    """The mark alone tells a build that there is something to do."""
    for calls in range(1, 12):
        source, output = MemorySource(), MemoryOutput(is_exclusive=True)
        change(source, ALL)
        site = open_site(source, output)
        site.build()
        del output.documents[f"simple/{ACME}/index.json"], output.documents[f"pypi/{ACME}/1/json"]
        with suppress(KilledError):
            open_site(source, cast("Output", Mortal(output, calls))).update([ACME])
        site.build()
        assert site_of(output) == built_anew(source)


def test_a_page_of_the_changelog_gives_a_newer_one_what_somebody_has_left_on_it() -> None:
    def spoilt() -> tuple[MemorySource, MemoryOutput]:
        source, output = MemorySource(), MemoryOutput()
        change(source, [*SECOND, Put(SPAM, "2")])
        open_site(source, output).build()
        path = ".elasticpypi/changelog/index.json"
        index = json.loads(output.documents[path])
        output.documents[path] = json.dumps({**index, "unfinished": 0}).encode()
        older, newer = (f".elasticpypi/changelog/{identifier}" for _, identifier in index["pages"])
        output.documents[older] += output.documents[newer]
        output.documents[newer] = b""
        change(source, [Yank(ACME, "1", True), Remove(ACME, "1"), Put(ACME, "1")])
        return source, output

    for calls in range(20):
        source, output = spoilt()
        with suppress(KilledError):
            Paging(cast("Output", Mortal(output, calls)), OPTIONS, Tally(), per_page=PER_PAGE).update(
                [], [("2026-01-01T00:00:00.000000Z", ACME, "none")]
            )
        open_site(source, output).build()
        assert site_of(output) == built_anew(source)


def without_packages(documents: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what a build alone writes."""
    return {path: data for path, data in documents.items() if path != "packages.json"}


class World:
    """A source that changes, an output, and those who are at work between them."""

    def __init__(self, tasks: Tasks, *, per_page: int) -> None:
        self.source = MemorySource()
        self.output = MemoryOutput()
        self.tasks = tasks
        self.at_work: Counter[str] = Counter()
        self.met: set[str] = set()  # projects at which several are at work, until all of them have come to their end
        self._per_page = per_page
        site = open_site(self.source, self.output, per_page=per_page)
        site.build()
        watched = cast("Output", Interleaved("output", Watched(self)))
        self.site = open_site(cast("MemorySource", Interleaved("source", self.source)), watched, per_page=per_page)

    def handle(self, name: NormalizedName) -> Task:
        """Start somebody who handles an event, and does so again until he is done."""

        def work() -> None:
            with self._working(name):
                while True:
                    try:
                        report = self.site.update([name])
                    except BusyError:
                        continue
                    if not report.failed:
                        return

        return self.tasks.start(f"update {name}", work)

    def build(self, *, everything: bool, in_parts: bool = False) -> Task:
        def work() -> None:
            with self._working(*NAMES):
                if in_parts:
                    build_in_parts(self.site, everything=everything)
                else:
                    self.site.build(everything=everything)

        return self.tasks.start("build", work)

    def _working(self, *names: str) -> Any:
        return AtWork(self.at_work, self.met, names)

    def check(self) -> None:
        assert dangling(self.output.documents, busy=self.met) == []


class AtWork:
    """Counts who is at work; who is cancelled is so no longer."""

    def __init__(self, counter: Counter[str], met: set[str], names: tuple[str, ...]) -> None:
        self._counter = counter
        self._met = met
        self._names = names

    def __enter__(self) -> None:
        self._counter.update(self._names)
        self._met.update(name for name in self._names if self._counter[name] > 1)

    def __exit__(self, *_: object) -> None:
        self._counter.subtract(self._names)
        self._met.difference_update(name for name in self._names if self._counter[name] == 0)


class Watched:
    """An output that is looked at after every write."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._world.output, name)
        if name not in {"write", "remove"}:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            self._world.check()
            return result

        return call


def happen(world: World, changes: list[Change]) -> None:
    for change in changes:
        change.happen(world.source)
        world.handle(change.name)
        switching_point("the world")


@pytest.mark.many_examples
@settings(max_examples=examples(75, 2000), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HISTORIES, CHOICES)
def test_events_alone_keep_a_site_current(history: list[Change], choices: list[Choice]) -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=MANY)
        tasks.start("the world", lambda: happen(world, history))
        tasks.run_all(iter(choices), writes=WRITES)
        assert without_packages(site_of(world.output)) == without_packages(built_anew(world.source, per_page=MANY))
        assert world.output.documents.keys() >= {".elasticpypi/root.json"}
        assert not [path for path in world.output.documents if path.startswith(".elasticpypi/site/")]


@dataclass(frozen=True)
class Kill:
    """The end of whoever started so many before the last."""

    number: int


@dataclass(frozen=True)
class Start:
    """A build beside all others."""

    everything: bool
    in_parts: bool


HAPPENINGS = st.lists(
    CHANGES | CHANGES | st.builds(Kill, st.integers(0, 3)) | st.builds(Start, st.booleans(), st.booleans()),
    min_size=2,
    max_size=8,
)


def go_on(world: World, happenings: list[Change | Kill | Start]) -> None:
    started: list[Task] = []
    for each in happenings:
        if isinstance(each, Kill):
            if each.number < len(started):
                started[-1 - each.number].cancel()
        elif isinstance(each, Start):
            started.append(world.build(everything=each.everything, in_parts=each.in_parts))
        else:
            each.happen(world.source)
            started.append(world.handle(each.name))
        switching_point("the world")


@pytest.mark.many_examples
@settings(max_examples=examples(75, 2000), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HAPPENINGS, CHOICES)
def test_a_look_at_everything_mends_whatever_has_happened(
    happenings: list[Change | Kill | Start], choices: list[Choice]
) -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=PER_PAGE)
        tasks.start("the world", lambda: go_on(world, happenings))
        tasks.run_all(iter(choices), writes=WRITES)
        open_site(world.source, world.output).build(everything=True)
        assert site_of(world.output) == built_anew(world.source)


@pytest.mark.many_examples
@settings(max_examples=examples(60, 1000), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(st.lists(CHANGES, min_size=2, max_size=7), CHOICES)
def test_a_build_finds_the_changelog_whole_after_events_that_have_filled_its_pages(
    history: list[Change], choices: list[Choice]
) -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=2)
        tasks.start("the world", lambda: happen(world, history))
        tasks.run_all(iter(choices), writes=WRITES)
        open_site(world.source, world.output, per_page=2).build()
        assert site_of(world.output) == built_anew(world.source, per_page=2)


@pytest.mark.many_examples
@settings(max_examples=examples(50, 1500), deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HISTORIES, st.lists(st.builds(Start, st.booleans(), st.booleans()), min_size=1, max_size=2), CHOICES)
def test_builds_and_events_keep_a_site_current_together(
    history: list[Change], builds: list[Start], choices: list[Choice]
) -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=MANY)
        tasks.start("the world", lambda: happen(world, history))
        for each in builds:
            world.build(everything=each.everything, in_parts=each.in_parts)
        tasks.run_all(iter(choices), writes=WRITES)
        assert without_packages(site_of(world.output)) == without_packages(built_anew(world.source, per_page=MANY))


def meet(
    source: MemorySource, output: MemoryOutput, method: str, path: str, happening: Callable[[], object]
) -> tuple[Site, Meeting]:
    meeting = Meeting(output, method, path, happening)
    return open_site(source, cast("Output", meeting)), meeting


def test_what_another_has_taken_out_of_the_changelog_meanwhile_does_not_stay_in_it() -> None:
    source, output = MemorySource(), MemoryOutput()
    change(source, [Put(ACME, "1")])
    open_site(source, output).build()
    change(source, [Put(ACME, "2")])

    def take_back() -> None:
        change(source, [Remove(ACME, "2")])
        open_site(source, output).update([ACME])

    site, meeting = meet(source, output, "read", ".elasticpypi/changelog/index.json", take_back)
    site.update([ACME])
    assert meeting.has_happened
    assert without_packages(site_of(output)) == without_packages(built_anew(source))


def test_a_page_in_json_never_goes_back_to_an_older_state() -> None:
    serials: list[int] = []

    class Recorded(MemoryOutput):
        def write(self, path: str, data: bytes, content_type: str, *, replacing: Written | None) -> Written:
            written = super().write(path, data, content_type, replacing=replacing)
            if path == f"simple/{ACME}/index.json":
                serials.append(json.loads(data)["meta"]["_last-serial"])
            return written

    source, output = MemorySource(), Recorded()
    change(source, [Put(ACME, "1")])
    open_site(source, output).build()
    change(source, [Put(ACME, "2")])

    def add() -> None:
        change(source, [Put(ACME, "3")])
        open_site(source, output).update([ACME])

    site, meeting = meet(source, output, "read", ".elasticpypi/changelog/index.json", add)
    site.update([ACME])
    assert meeting.has_happened
    assert serials == [1, 3]


def test_whoever_is_no_longer_the_last_at_work_removes_nothing() -> None:
    source, output = MemorySource(), MemoryOutput()
    change(source, [Put(ACME, "1"), Put(ACME, "2")])
    open_site(source, output).build()
    change(source, [Remove(ACME, "2")])
    removed: list[str] = []

    def put_back() -> None:
        change(source, [Put(ACME, "2")])
        open_site(source, output).update([ACME])

    inner = Meeting(output, "look", f".elasticpypi/site/{ACME}", put_back)

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def remove(self, written: Written) -> None:
            removed.append(written.path)
            output.remove(written)

    open_site(source, cast("Output", Noting())).update([ACME])
    assert inner.has_happened
    assert [path for path in removed if not path.startswith(".elasticpypi/")] == []
    assert without_packages(site_of(output)) == without_packages(built_anew(source))


# The other one only adds to the page that is shown, or begins another one.
@pytest.mark.parametrize("before", [[Put(ACME, "1")], [Put(ACME, "1"), Put(SPAM, "1")]])
def test_a_page_of_the_changelog_that_changes_while_it_is_shown_is_shown_again(before: list[Change]) -> None:
    source, output = MemorySource(), MemoryOutput()
    change(source, before)
    open_site(source, output).build()
    change(source, [Put(ACME, "2")])

    def add() -> None:
        change(source, [Put(SPAM, "3")])
        open_site(source, output).update([SPAM])

    site, meeting = meet(source, output, "look", "changelog/index.html", add)
    site.update([ACME])
    assert meeting.has_happened
    assert without_packages(site_of(output)) == without_packages(built_anew(source))


def test_what_comes_while_the_changelog_is_packed_anew_is_in_it() -> None:
    source, output = MemorySource(), MemoryOutput()
    change(source, ALL[:5])
    site = open_site(source, output)
    site.build()
    change(source, [Remove(ACME, "1")])
    site.update([ACME])

    def add() -> None:
        change(source, [Put(SPAM, "3")])
        open_site(source, output).update([SPAM])

    packing, meeting = meet(source, output, "write", ".elasticpypi/changelog/index.json", add)
    packing.build()
    assert meeting.has_happened
    site.build()
    assert site_of(output) == built_anew(source)
    pages = json.loads(output.documents[".elasticpypi/changelog/index.json"])["pages"]
    state = {path.rpartition("/")[2] for path in output.documents if path.startswith(".elasticpypi/changelog/")}
    assert state == {"index.json", *(identifier for _, identifier in pages)}


def test_the_note_about_the_lists_is_of_what_they_are() -> None:
    """Who comes second changes nothing and notes what he has found, which is none of it when the first one ends."""
    source, output = MemorySource(), MemoryOutput()
    change(source, [Put(ACME, "1"), Put(SPAM, "1")])
    open_site(source, output).build()
    change(source, [Forget(SPAM)])

    def list_again() -> None:
        del output.documents[f"simple/{ACME}/index.json"]
        open_site(source, output).update([ACME])

    site, meeting = meet(source, output, "write", "simple/index.html", list_again)
    site.update([SPAM])
    assert meeting.has_happened
    note = json.loads(output.documents[".elasticpypi/root.json"])
    assert note["names"] == hashlib.sha256(ACME.encode()).hexdigest()
    assert without_packages(site_of(output)) == without_packages(built_anew(source))


def test_whoever_has_read_an_older_state_does_not_show_it_after_a_newer_one() -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=MANY)
        Put(ACME, "1").happen(world.source)
        early = world.handle(ACME)
        early.run_until("output.write")  # its mark: the source has been read
        Put(ACME, "2").happen(world.source)
        world.handle(ACME).finish()
        while early.at is not None:
            assert b"acme-2-" in world.output.documents["simple/acme/index.html"]
            early.step()
        assert b"acme-2-" in world.output.documents["simple/acme/index.html"]


def test_whoever_removes_what_has_come_back_meanwhile_writes_it_again() -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=MANY)
        for change in (Put(ACME, "1"), Put(ACME, "2"), Remove(ACME, "2")):
            change.happen(world.source)
            early = world.handle(ACME)
            if not isinstance(change, Remove):
                early.finish()
        early.run_until("output.remove")
        Put(ACME, "2").happen(world.source)
        world.handle(ACME).finish()
        early.finish()
        assert without_packages(site_of(world.output)) == without_packages(built_anew(world.source, per_page=MANY))
