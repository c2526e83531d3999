"""However runs interleave while projects change, and whoever is killed: the site ends as one that is built anew."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elasticpypi.errors import BusyError
from elasticpypi.names import NormalizedName
from elasticpypi.output import Output
from elasticpypi.static_site import SiteOptions
from elasticpypi.static_site.site import Site
from tests.outputs import MemoryOutput, MemorySource, dangling, site_of
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
    st.tuples(st.lists(CHANGES, max_size=4), st.sampled_from(["update", "build", "everything"]), st.integers(0, 40)),
    min_size=1,
    max_size=5,
)


def run(site: Site, what: str) -> None:
    if what == "update":
        site.update(NAMES)
    else:
        site.build(everything=what == "everything")


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(LIVES, st.sampled_from(["build", "everything"]))
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


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
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

    def build(self, *, everything: bool) -> Task:
        def work() -> None:
            with self._working(*NAMES):
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


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
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


HAPPENINGS = st.lists(
    CHANGES | CHANGES | st.builds(Kill, st.integers(0, 3)) | st.builds(Start, st.booleans()), min_size=2, max_size=8
)


def go_on(world: World, happenings: list[Change | Kill | Start]) -> None:
    started: list[Task] = []
    for each in happenings:
        if isinstance(each, Kill):
            if each.number < len(started):
                started[-1 - each.number].cancel()
        elif isinstance(each, Start):
            started.append(world.build(everything=each.everything))
        else:
            each.happen(world.source)
            started.append(world.handle(each.name))
        switching_point("the world")


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
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


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(HISTORIES, st.lists(st.booleans(), min_size=1, max_size=2), CHOICES)
def test_builds_and_events_keep_a_site_current_together(
    history: list[Change], builds: list[bool], choices: list[Choice]
) -> None:
    with Tasks() as tasks:
        world = World(tasks, per_page=MANY)
        tasks.start("the world", lambda: happen(world, history))
        for everything in builds:
            world.build(everything=everything)
        tasks.run_all(iter(choices), writes=WRITES)
        assert without_packages(site_of(world.output)) == without_packages(built_anew(world.source, per_page=MANY))


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
