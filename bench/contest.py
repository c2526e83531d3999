"""The servers side by side: every scenario on each in turns, then uploads, cold starts and memory."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from bench import contestants
from bench.contestants import FLOOR, NGINX, OURS, PEERS, PROXPI, PYPISERVER, Server
from bench.indexes import PASSWORD, USERNAME
from bench.load import CONNECTIONS, Load, format_rate, has_wrk, measure_load, median_load
from bench.pages import copy_pages, request_headers
from bench.processes import process_tree, proportional_bytes, wait_until_idle
from bench.publish import make_wheels, post_wheels
from bench.results import Results
from bench.scenarios import Form, Scenario, Target, page_project, scenarios

_MOST_SECONDS = 12.0  # of load, where the answers take seconds
PARTS = ("load", "start", "upload", "publish")


@dataclass(frozen=True, slots=True)
class Run:
    """Where things lie in this run, and what has been found so far."""

    results: Results
    main: Path  # data directory of the main index
    work: Path  # an empty directory
    only: str  # the part or the scenarios to measure; all of them where it is empty

    def wants(self, part: str) -> bool:
        """Whether this part is to be run; what is no part's name picks scenarios of the load."""
        return self.only in ("", part) or (part == "load" and self.only not in PARTS)

    def asked(self) -> list[Scenario]:
        """Return the scenarios of the load."""
        name = "" if self.only == "load" else self.only
        return [scenario for scenario in scenarios(self.results.sizes) if name in scenario.label]

    @property
    def first_project(self) -> str:
        """The project whose page a server must answer to have started."""
        return page_project(self.results.sizes.pages[0])

    def first_page(self, kind: contestants.Kind) -> str:
        """Return the path of that page."""
        return kind.path(Scenario(Target.PAGE, self.first_project, Form.HTML)) or "/"

    def ours(self) -> AbstractContextManager[Server]:
        """Start elasticpypi over the main index."""
        return contestants.elasticpypi(self.main, self.first_page(OURS), self.work)

    def nginx(self) -> AbstractContextManager[Server]:
        """Start nginx over copies of our pages."""
        return contestants.nginx(self.work / "pages", self.main / "files", self.first_page(NGINX), self.work)

    def floor(self) -> AbstractContextManager[Server]:
        """Start a callable that knows our pages by heart."""
        return contestants.floor(self.work / "pages", self.first_page(FLOOR), self.work)

    def proxpi(self, upstream: Server) -> AbstractContextManager[Server]:
        """Start proxpi over our server."""
        url = f"http://{USERNAME}:{PASSWORD}@127.0.0.1:{upstream.port}/simple/"
        return contestants.proxpi(url, self.first_page(PROXPI), self.work)

    def pypiserver(self, project: str = "") -> AbstractContextManager[Server]:
        """Start pypiserver over the main index, or over one project of it."""
        first = PYPISERVER.path(Scenario(Target.PAGE, project or self.first_project)) or "/"
        files = self.main / "files" / project if project else self.flat(self.main)
        return contestants.pypiserver(files, first, self.work)

    def flat(self, data: Path) -> Path:
        """Return one directory of links to all wheels of an index; in several, pypiserver's watcher may lock up."""
        directory = self.work / f"flat-{data.name}"
        if not directory.exists():
            directory.mkdir()
            for path in (data / "files").glob("*/*.whl"):
                (directory / path.name).symlink_to(path)
        return directory

    @contextmanager
    def forgiving(self, what: str) -> Iterator[None]:
        """Note what cannot be measured since another server fails at it, and go on."""
        try:
            yield
        except (OSError, HTTPException, RuntimeError) as error:
            self.note_missing(what, f"it failed ({' '.join(str(error).split())[:200]})")

    def note_missing(self, what: str, why: str) -> None:
        """Say, here and in the report, what is not measured."""
        sentence = f"{what}: not measured, {why}."
        if sentence not in self.results.skipped:
            self.results.skipped.append(sentence)
            print(sentence, file=sys.stderr)


def has_peers(run: Run) -> bool:
    """Whether proxpi and pypiserver are installed."""
    if not (PEERS / "gunicorn").exists():
        run.note_missing("proxpi and pypiserver", "they are not installed (make .peers/installed)")
    return (PEERS / "gunicorn").exists()


def has_nginx(run: Run) -> bool:
    """Whether nginx is installed."""
    found = contestants.find_nginx() is not None
    if not found:
        run.note_missing("nginx", "it is not installed (apt install nginx)")
    return found


def measure_servers(run: Run) -> None:
    """Load all servers with all scenarios; look at their memory after that, and start some of them anew."""
    if not has_wrk():
        run.note_missing("pages and downloads", "wrk is not installed (apt install wrk)")
        return
    with ExitStack() as stack:
        contest = _Contest(run, stack)
        for scenario in run.asked():
            loads = _measure_in_turns(scenario, contest.servers_for(scenario), run.results)
            run.results.loads[scenario] = loads
            print(f"{scenario.label}: {_rates(loads)}", file=sys.stderr)
        if not run.only:
            for server in contest.everywhere:  # pypiserver runs with single projects here
                run.results.memory[server.kind.name] = proportional_bytes(process_tree(server.main.pid))


@dataclass(slots=True)
class _Contest:
    """The servers that run; pypiserver is started for one project after the other."""

    run: Run
    stack: ExitStack
    everywhere: list[Server] = field(default_factory=list)
    _pypiservers: dict[str, Server] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours = self._enter(self.run.ours())
        wait_until_idle(ours.main.pid)
        copy_pages(ours, scenarios(self.run.results.sizes), self.run.work / "pages")
        if has_nginx(self.run):
            self._enter(self.run.nginx())
        self._enter(self.run.floor())
        if has_peers(self.run):
            self._enter(self.run.proxpi(ours))

    def _enter(self, server: AbstractContextManager[Server]) -> Server:
        self.everywhere.append(self.stack.enter_context(server))
        return self.everywhere[-1]

    def servers_for(self, scenario: Scenario) -> list[Server]:
        """Return those that can do what the scenario asks.

        pypiserver looks through all files for each answer; it is given the project's own directory and nothing else,
        and is not asked for the root.
        """
        servers = [server for server in self.everywhere if server.kind.path(scenario)]
        if scenario.project and PYPISERVER.path(scenario) and has_peers(self.run):
            servers.append(self._pypiserver(scenario.project))
        return servers

    def _pypiserver(self, project: str) -> Server:
        if project not in self._pypiservers:
            self._pypiservers[project] = self.stack.enter_context(self.run.pypiserver(project))
        return self._pypiservers[project]


def _measure_in_turns(scenario: Scenario, servers: list[Server], results: Results) -> dict[str, Load]:
    """Ask all servers in turns, so that a busy moment of the machine hits each, and return medians."""
    taken: dict[str, list[Load]] = {server.kind.name: [] for server in servers}
    headers = {server.kind.name: request_headers(server, scenario) for server in servers}
    for _ in range(results.sizes.rounds):
        for server in servers:
            name, path = server.kind.name, server.kind.path(scenario) or "/"
            began = time.perf_counter()
            server.fetch(path, headers[name])
            # Slow answers are waited for: wrk does not count those that are under way when its time is up.
            patience = min(_MOST_SECONDS, 2 * CONNECTIONS * (time.perf_counter() - began))
            seconds = max(results.sizes.seconds, patience)
            taken[name].append(measure_load(server.main.pid, server.url + path, headers[name], seconds))
    return {name: median_load(loads) for name, loads in taken.items()}


def _rates(loads: dict[str, Load]) -> str:
    return ", ".join(f"{name} {format_rate(load.rate)}/s" for name, load in loads.items())


def measure_uploads(run: Run) -> None:
    """Post small wheels, one after the other, to empty indexes."""
    sizes = run.results.sizes
    with ExitStack() as stack:
        data = run.work / "uploads"
        servers = [stack.enter_context(contestants.elasticpypi(data, "/simple/", run.work))]
        if has_peers(run):
            files = run.work / "uploads-pypiserver"
            files.mkdir()
            servers.append(stack.enter_context(contestants.pypiserver(files, "/simple/", run.work)))
        taken: dict[str, list[Load]] = {server.kind.name: [] for server in servers}
        for number in range(sizes.rounds):
            projects = [f"upload-{each:04}" for each in range(sizes.uploads)]
            wheels = make_wheels(run.work / "wheels", projects, f"1.{number}")
            for server in servers:
                taken[server.kind.name].append(post_wheels(server, wheels))
        run.results.uploads = {name: median_load(loads) for name, loads in taken.items()}
    print(f"uploads: {_rates(run.results.uploads)}", file=sys.stderr)


def measure_starts(run: Run) -> None:
    """Start each server some times over the main index, and take the time until its first page."""
    taken: dict[str, list[float]] = {}
    for _ in range(run.results.sizes.rounds):
        # Alone, so that it has its look through the storage to do; proxpi needs one that runs.
        _note_start(taken, run.ours())
        with run.ours() as ours:
            wait_until_idle(ours.main.pid)
            if has_nginx(run):
                copy_pages(ours, [Scenario(Target.PAGE, run.first_project, Form.HTML)], run.work / "pages")
                _note_start(taken, run.nginx())
            if has_peers(run):
                _note_start(taken, run.proxpi(ours))
        if has_peers(run):
            with run.forgiving("starts of pypiserver"):
                run.results.memory[PYPISERVER.name] = _note_start(taken, run.pypiserver())
    run.results.starts = {name: statistics.median(seconds) for name, seconds in taken.items()}


def _note_start(taken: dict[str, list[float]], start: AbstractContextManager[Server]) -> int:
    """Start and stop a server; return the memory that it has in between."""
    with start as server:
        taken.setdefault(server.kind.name, []).append(server.started_seconds)
        return proportional_bytes(process_tree(server.main.pid))
