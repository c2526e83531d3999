"""Measure what it costs to have another index behind ours: one project resolved from both, and proxpi, by turns.

python -m bench.upstream            # writes docs/benchmarks-upstream.md
python -m bench.upstream --quick    # a few small projects, printed
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import contestants
from bench.contestants import OURS, PEERS, PROXPI, Server, find_nginx
from bench.indexes import PASSWORD, USERNAME, sync
from bench.load import Load, has_wrk, measure_load, median_load
from bench.pages import copy_pages, request_headers
from bench.processes import process_tree, processor_seconds, wait_until_idle
from bench.resolving import Installer, Workplace
from bench.scenarios import Form, Scenario, Target
from bench.upstream_inputs import add_projects, project_names
from bench.upstream_report import Behind, Case, Measured, Resolved, Sizes, Way, markdown

ROOT = Path(__file__).parent.parent
_QUICK_CASES = (Case("uv", Installer.UV, 2), Case("pip", Installer.PIP, 2))
QUICK = Sizes(projects=14, releases=(2, 4), cases=_QUICK_CASES, load_rounds=1, seconds=1)
_SETTLED_SECONDS = 1.5  # after its last change, a file is indexed
_OF_OURS = "It wants credentials, so that files and core metadata come through those before it."
_OF_NGINX = (
    "Its pages are the very bytes of the other one; elasticpypi's page leads to its files, `keep` has them itself."
)


@dataclass(frozen=True, slots=True)
class _Run:
    """Where things lie in this run, and what is resolved."""

    sizes: Sizes
    work: Path
    projects: Sequence[str]
    clients: Workplace

    @property
    def index(self) -> Path:
        """The data directory of the upstream."""
        return self.work / "index"

    @property
    def static(self) -> Path:
        """The same as files."""
        return self.work / "static"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small projects, and the result is printed")
    quick = parser.parse_args(arguments).quick
    report = markdown(measure(QUICK if quick else Sizes()))
    print(report)
    if not quick:
        (ROOT / "docs" / "benchmarks-upstream.md").write_text(report)


def measure(sizes: Sizes) -> Measured:
    """Fill an index, serve it in two ways, and put others before each."""
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="elasticpypi-bench-") as name:
        work, projects = Path(name), project_names(sizes.projects, sizes.releases)
        run = _Run(sizes, work, projects, Workplace(work / "clients", projects))
        files = add_projects(run.index / "files", run.static / "metadata", projects)
        time.sleep(_SETTLED_SECONDS)
        sync(run.index)
        return Measured(sizes, files, load_average, list(_measure_upstreams(run)))


def _measure_upstreams(run: _Run) -> Iterator[Behind]:
    with contestants.elasticpypi(run.index, OURS.path(_page(run.projects[0])) or "/", run.work) as upstream:
        wait_until_idle(upstream.main.pid)
        copy_pages(upstream, _all_pages(run.projects), run.static)
        yield _measure(run, upstream, "`elasticpypi serve`", _OF_OURS)
    if find_nginx() is None:
        _say("nginx is not there: an upstream of static files is not measured (apt install nginx)")
        return
    first = f"/simple/{run.projects[0]}/"
    with contestants.nginx(run.static, run.index / "files", first, run.work) as upstream:
        yield _measure(run, upstream, "nginx with static files", _OF_NGINX)


def _measure(run: _Run, upstream: Server, name: str, files: str) -> Behind:
    """Put everybody before an upstream, and measure all by turns."""
    with _before(run, upstream) as servers:
        first = {way: run.clients.resolve(Installer.UV, _url(server)) for way, server in servers.items()}
        for server in servers.values():
            run.clients.install(_url(server))  # so that what is kept is there
        resolved = {case.label: _resolve(run, case, servers) for case in run.sizes.cases}
        behind = Behind(name, files, first, resolved, _load(run, servers))
    for label in resolved:
        medians = (f"{way} {statistics.median(behind.ratios(label, way)):.2f}" for way in servers)
        _say(f"{label}, {name}: {', '.join(medians)}")
    return behind


@contextmanager
def _before(run: _Run, upstream: Server) -> Iterator[Mapping[Way, Server]]:
    """Start all who have their projects from an upstream, each with nothing of its own."""
    logs = Path(tempfile.mkdtemp(dir=run.work))
    servers = {Way.ITSELF: upstream}
    with ExitStack() as stack:
        for way in (Way.PROXY, Way.KEEP):
            data = logs / way.name
            data.mkdir()
            settings = {"ELASTICPYPI_UPSTREAMS": _configured(upstream, keep=way is Way.KEEP)}
            starting = contestants.elasticpypi(data, "/simple/", logs, settings=settings)
            servers[way] = stack.enter_context(starting)
        if (PEERS / "gunicorn").exists():
            first = PROXPI.path(_page(run.projects[0])) or "/"
            servers[Way.PROXPI] = stack.enter_context(contestants.proxpi(_url(upstream), first, logs))
        else:
            _say("proxpi is not there and not measured (make .peers/installed)")
        for server in servers.values():
            wait_until_idle(server.main.pid)
        yield servers


def _configured(upstream: Server, *, keep: bool) -> str:
    """Return the configuration of an upstream, as the environment has it."""
    entry = {"name": "upstream", "url": f"{upstream.url}/simple/", "mode": "proxy", "private": True, "keep": keep}
    if upstream.kind is OURS:
        entry |= {"username": USERNAME, "password": PASSWORD}
    return json.dumps([entry])


def _url(server: Server) -> str:
    """Return the URL that installers are given."""
    credentials = f"{USERNAME}:{PASSWORD}@" if server.kind is OURS else ""
    return f"http://{credentials}127.0.0.1:{server.port}/{'index' if server.kind is PROXPI else 'simple'}/"


def _resolve(run: _Run, case: Case, servers: Mapping[Way, Server]) -> Mapping[Way, Resolved]:
    """Resolve from all by turns, in each order as often as in the other."""
    seconds: dict[Way, list[float]] = {way: [] for way in servers}
    used: dict[Way, list[tuple[float, float]]] = {way: [] for way in servers}
    for number in range(case.rounds):
        time.sleep(case.rest_seconds)
        for way in list(servers)[:: 1 if number % 2 else -1]:
            before = _used(servers, way)
            seconds[way].append(run.clients.resolve(case.installer, _url(servers[way])))
            after = _used(servers, way)
            used[way].append((after[0] - before[0], after[1] - before[1]))
    return {way: Resolved(tuple(seconds[way]), *map(statistics.mean, zip(*used[way], strict=True))) for way in servers}


def _used(servers: Mapping[Way, Server], way: Way) -> tuple[float, float]:
    """Return the seconds of processor that a server has used so far, and the upstream behind it."""
    own, upstream = (processor_seconds(process_tree(servers[each].main.pid)) for each in (way, Way.ITSELF))
    return own, 0.0 if way is Way.ITSELF else upstream


def _load(run: _Run, servers: Mapping[Way, Server]) -> Mapping[str, Mapping[Way, Load]]:
    """Load all of them by turns with requests for one page."""
    if not has_wrk():
        _say("wrk is not there: pages by themselves are not measured (apt install wrk)")
        return {}
    loads = {}
    for scenario in _scenarios(run):
        asked = {way: server for way, server in servers.items() if server.kind.path(scenario)}
        headers = {way: request_headers(server, scenario) for way, server in asked.items()}
        taken: dict[Way, list[Load]] = {way: [] for way in asked}
        for _ in range(run.sizes.load_rounds):
            for way, server in asked.items():
                url = server.url + (server.kind.path(scenario) or "/")
                taken[way].append(measure_load(server.main.pid, url, headers[way], run.sizes.seconds))
        loads[scenario.label] = {way: median_load(each) for way, each in taken.items()}
    return loads


def _scenarios(run: _Run) -> Iterator[Scenario]:
    releases = run.sizes.releases
    place = releases.index(sorted(releases)[len(releases) // 2])
    page = f"page of {releases[place]} files"
    project = run.projects[place]
    yield _page(project, label=f"{page}, JSON")
    yield _page(project, gzipped=True, label=f"{page}, JSON, gzip")
    yield _page(project, gzipped=True, conditional=True, label=f"{page}, 304")


def _all_pages(projects: Sequence[str]) -> Iterator[Scenario]:
    for gzipped in (False, True):
        yield Scenario(Target.ROOT, form=Form.JSON, gzipped=gzipped)
        yield from (_page(project, gzipped=gzipped) for project in projects)


def _page(project: str, *, gzipped: bool = False, conditional: bool = False, label: str = "") -> Scenario:
    return Scenario(Target.PAGE, project, Form.JSON, gzipped=gzipped, conditional=conditional, label=label)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


if __name__ == "__main__":
    main()
