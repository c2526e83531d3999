"""Whatever fails, and however: a name that is ours is never asked for outside, and nothing unknown is an empty page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from pypi_simple import ProjectPage
from werkzeug.routing import Map
from werkzeug.test import TestResponse

from elasticpypi.catalog import Catalog
from elasticpypi.config import UpstreamMode
from elasticpypi.errors import CatalogError
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.fetching import Limits
from tests.aws import Cloud
from tests.dists import make_wheel
from tests.dynamodb_rules import faults
from tests.site import JSON, Account, Clock, Outside, Place, Site, open_cloud_site, open_site, routes_of
from tests.upstreams import ABSENCES, FAILURES, FakeUpstream, running_upstream

pytestmark = pytest.mark.both_worlds
FORMS = (JSON, "text/html")
OWN_NAMES, DENIED = ("acme-*",), ("denied-*",)
LISTED, EMPTIED, QUARANTINED, RESERVED, FORBIDDEN = "listed", "emptied", "locked", "acme-secret", "denied-thing"
# What is answered for a name that upstream has, too, where nothing of ours fails: status, filenames, project status.
Said = tuple[int, tuple[str, ...], str | None]
OWN: Mapping[str, Said] = {
    LISTED: (200, ("listed-1.0-py3-none-any.whl",), "active"),
    EMPTIED: (200, (), "active"),
    QUARANTINED: (200, (), "quarantined"),
    RESERVED: (404, (), None),
    FORBIDDEN: (404, (), None),
}
NOT_NOW: Said = (503, (), None)
UPSTREAM_STATES = ("up", *FAILURES, *ABSENCES)
# State of upstream -> what becomes of a name that is unknown here.
UNKNOWN = {"up": 200, **dict.fromkeys(FAILURES, 503), **dict.fromkeys(ABSENCES, 404)}
LIMITS = Limits(page_seconds=1, connect_seconds=1, failure_seconds=0)  # seconds that a busy machine keeps
_numbers = count()


@dataclass(frozen=True, slots=True)
class Shop:
    """Indexes in all modes, with an upstream that has every name, too."""

    upstream: FakeUpstream
    sites: Mapping[str, tuple[Site, ...]]  # proxies, redirecting ones, and those whose catalog is not complete
    directory: Path

    def make_unknown(self) -> str:
        """Return a name of which nobody has heard yet, so that nothing of it is remembered."""
        name = f"spam{next(_numbers)}"
        self.upstream.add(make_wheel(self.directory, name, "9.0"))
        return name

    @property
    def working(self) -> tuple[Site, ...]:
        """Those of which nothing fails."""
        return self.sites["proxy"] + self.sites["redirect"]

    @property
    def place(self) -> Place:
        return self.working[0].place

    @property
    def catalog_states(self) -> tuple[str, ...]:
        """How a catalog can fail; a file is not throttled."""
        return ("down", "incomplete", "throttled") if isinstance(self.place, Account) else ("down", "incomplete")

    @contextmanager
    def failing(self, catalog: str) -> Iterator[tuple[Site, ...]]:
        """Let the catalog fail until the context ends."""
        match catalog, self.place:
            case "incomplete", _:
                yield self.sites["incomplete"]
            case "throttled", Account() as account:
                with throttled(account):
                    yield self.working
            case _:
                with refusing(self.place, METHODS):
                    yield self.working

    @contextmanager
    def failing_now_and_then(self, every: int) -> Iterator[None]:
        """Let every nth call of the catalog fail until the context ends."""
        if isinstance(self.place, Account):
            with throttled(self.place, every=every):
                yield
        else:
            with refusing(self.place, METHODS, every=every):
                yield


METHODS = [name for name in vars(Catalog) if not name.startswith("_") and callable(getattr(Catalog, name))]


@contextmanager
def throttled(account: Account, *, every: int = 1) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, faults(account.cloud.aws.dynamodb, every=every):
        patch.setattr("elasticpypi.catalog.dynamodb.table._PATIENCE_SECONDS", 0.0)
        yield


@contextmanager
def refusing(place: Place, methods: Iterable[str], *, every: int = 1) -> Iterator[None]:
    """Let methods of the catalog fail, all of their calls or every nth one."""
    calls = count(1)

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) % every == 0:
                raise CatalogError("the catalog cannot be reached")
            return method(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in methods:
            patch.setattr(place.catalog_type, name, wrap(getattr(place.catalog_type, name)))
        yield


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("matrix")
    cloud: Cloud | None = request.getfixturevalue("cloud") if request.param == "aws" else None
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        for name in OWN:
            upstream.add(make_wheel(directory / "theirs", name, "9.0"))
        built = [_build(cloud, directory / place) for place in ("as-it-was", "rebuilt", "incomplete")]
        for site in built[1:]:
            site.index.close()
            site.place.lose_catalog()
        proxy = upstream.configured(deny=DENIED)
        keeping, redirecting = replace(proxy, keep=True), replace(proxy, mode=UpstreamMode.REDIRECT)
        plain, kept, sent = (Outside((each,), OWN_NAMES, LIMITS) for each in (proxy, keeping, redirecting))
        as_it_was, rebuilt, incomplete = built
        sites = {
            "proxy": (as_it_was.reopen(outside=plain), rebuilt.reopen(outside=kept)),
            "redirect": (rebuilt.reopen(outside=sent),),
            "incomplete": tuple(incomplete.reopen(outside=each, complete=False) for each in (plain, kept, sent)),
        }
        for site in (built[0], *(site for several in sites.values() for site in several)):
            stack.callback(site.index.close)
        yield Shop(upstream, sites, directory)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with running_upstream() as running:
        yield running


def _build(cloud: Cloud | None, data: Path) -> Site:
    """Make an index that has had these names, one way or another."""
    site = open_site(data) if cloud is None else open_cloud_site(cloud)
    for name in (LISTED, EMPTIED, QUARANTINED):
        site.drop(make_wheel(data / "ours", name, "1.0"), f"{name}/{name}-1.0-py3-none-any.whl")
    site.place.remove(f"{EMPTIED}/{EMPTIED}-1.0-py3-none-any.whl")
    site.index.reconcile(f"{EMPTIED}/{EMPTIED}-1.0-py3-none-any.whl")
    site.decide(QUARANTINED, '{"status": "quarantined"}')
    return site


def said(answer: TestResponse, name: str) -> Said:
    """Return what an answer says of a project."""
    if answer.status_code != 200:
        return answer.status_code, (), None
    if answer.content_type == JSON:
        page = ProjectPage.from_json_data(answer.get_json(force=True))
    else:
        page = ProjectPage.from_html(name, answer.text)
    return 200, tuple(package.filename for package in page.packages), page.status and page.status.value


def ask(site: Site, name: str, form: str) -> TestResponse:
    return site.get(f"/simple/{name}/", accept=form)


@pytest.mark.parametrize("state", UPSTREAM_STATES)
def test_what_is_ours_is_answered_by_us_alone(shop: Shop, state: str) -> None:
    shop.upstream.take()
    with behaving(shop.upstream, state):
        for site, form, name in product(shop.working, FORMS, OWN):
            assert said(ask(site, name, form), name) == OWN[name]
    assert shop.upstream.take() == []


@pytest.mark.parametrize("state", UPSTREAM_STATES)
def test_what_cannot_be_told_from_ours_is_not_answered(shop: Shop, state: str) -> None:
    names = [*OWN, shop.make_unknown()]
    shop.upstream.take()
    for catalog in shop.catalog_states:
        with behaving(shop.upstream, state), shop.failing(catalog) as sites:
            for site, form, name in product(sites, FORMS, names):
                answer = ask(site, name, form)
                assert said(answer, name) == NOT_NOW
                assert answer.headers["Retry-After"]
    assert shop.upstream.take() == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("state", UPSTREAM_STATES)
def test_what_is_unknown_is_never_an_empty_page(shop: Shop, state: str, form: str) -> None:
    for site in shop.sites["proxy"]:
        name = shop.make_unknown()
        shop.upstream.take()
        with behaving(shop.upstream, state):
            answers = [said(ask(site, name, form), name) for _ in range(2)]  # what was found out is remembered
        status = UNKNOWN[state]
        assert [status for status, _, _ in answers] == [status, status]
        assert [files for _, files, _ in answers] == [(f"{name}-9.0-py3-none-any.whl",) if status == 200 else ()] * 2
        assert {asked.path for asked in shop.upstream.take()} <= {f"/simple/{name}/", "/simple/login"}


@pytest.mark.parametrize("state", UPSTREAM_STATES)
def test_the_next_upstream_is_asked_for_what_the_first_says_it_does_not_have(
    site: Site, upstream: FakeUpstream, tmp_path: Path, state: str
) -> None:
    with running_upstream() as second:
        for version, each in (("1.0", upstream), ("9.0", second)):
            each.add(make_wheel(tmp_path, "spam", version))
        both = (upstream.configured(name="first"), second.configured(name="second"))
        opened = site.reopen(outside=Outside(both, limits=LIMITS))
        with behaving(upstream, state):
            answer = said(ask(opened, "spam", JSON), "spam")
        opened.index.close()
    is_absent = state in ("404", "410")
    assert answer[0] == (200 if is_absent else UNKNOWN[state])
    assert answer[1] == (
        ("spam-9.0-py3-none-any.whl",) if is_absent else ("spam-1.0-py3-none-any.whl",)[: state == "up"]
    )
    assert second.paths() == (["/simple/spam/"] if is_absent else [])


@pytest.mark.parametrize("state", UPSTREAM_STATES)
def test_clients_are_sent_to_upstream_for_what_is_unknown_alone(shop: Shop, state: str) -> None:
    shop.upstream.take()
    with behaving(shop.upstream, state):
        for site, form in product(shop.sites["redirect"], FORMS):
            answer = ask(site, "unknown", form)
            assert (answer.status_code, answer.headers["Location"]) == (302, f"{shop.upstream.url}unknown/")
            assert answer.headers["Cache-Control"] == "no-store"
    assert shop.upstream.take() == []


@contextmanager
def behaving(upstream: FakeUpstream, state: str) -> Iterator[None]:
    with nullcontext() if state == "up" else upstream.behaving(state):
        yield


# Beyond pages ---------------------------------------------------------------------------------------------------------


def paths_of(site: Site, name: str) -> list[str]:
    """Return a path for every route that names a project."""
    filename = f"{name}-9.0-py3-none-any.whl"
    values = {"name": name, "project": name, "version": "9.0", "filename": filename, "path": filename}
    rules = [rule for rule in routes_of(site.index).url_map.iter_rules() if "GET" in (rule.methods or ())]
    adapter = Map([rule.empty() for rule in rules]).bind("localhost")
    named = [rule for rule in rules if {"name", "project"} & rule.arguments]
    paths = [adapter.build(rule.endpoint, {key: values[key] for key in rule.arguments}) for rule in named]
    return [*paths, *(f"/packages/{name}/{filename}{suffix}" for suffix in (".metadata", ".provenance"))]


@pytest.mark.parametrize("name", OWN)
def test_no_route_asks_for_what_is_ours(shop: Shop, name: str) -> None:
    shop.upstream.take()
    for site, path in product(shop.working, paths_of(shop.working[0], name)):
        check_nothing_is_upstreams(shop, site.get(path))
    for catalog in shop.catalog_states:
        with shop.failing(catalog) as sites:
            for site, path in product(sites, paths_of(sites[0], name)):
                answer = site.get(path)
                assert answer.status_code != 200
                check_nothing_is_upstreams(shop, answer)
    assert shop.upstream.take() == []


def check_nothing_is_upstreams(shop: Shop, answer: TestResponse) -> None:
    assert f"{shop.upstream.base}/files/" not in answer.text
    assert shop.upstream.netloc not in answer.headers.get("Location", "")


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_catalog_that_answers_now_and_then_gives_nothing_away(shop: Shop, every: int) -> None:
    shop.upstream.take()
    with shop.failing_now_and_then(every):
        for site, form, name in product(shop.working * 3, FORMS, OWN):
            assert said(ask(site, name, form), name) in (OWN[name], NOT_NOW)
    assert shop.upstream.take() == []


@pytest.mark.parametrize("method", METHODS)
def test_whatever_the_catalog_cannot_say_is_no_proof(shop: Shop, method: str) -> None:
    shop.upstream.take()
    with refusing(shop.place, [method]):
        for site, form, name in product(shop.working, FORMS, OWN):
            assert said(ask(site, name, form), name) in (OWN[name], NOT_NOW)
    assert shop.upstream.take() == []


# Over time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_name_is_ours_from_its_first_file_on_wherever_it_came_from_before(
    site: Site, upstream: FakeUpstream, tmp_path: Path, form: str
) -> None:
    theirs, ours = (make_wheel(tmp_path, "spam", version) for version in ("9.0", "1.0"))
    upstream.add(theirs)
    opened = site.reopen(outside=Outside((upstream.configured(keep=True),), limits=LIMITS))
    before = ask(opened, "spam", form)
    assert said(before, "spam") == (200, (theirs.name,), "active")
    assert opened.get(f"/packages/spam/{theirs.name}").status_code in (200, 302)
    upstream.take()
    assert site.upload(ours).status_code == 200  # by another process
    after = opened.get("/simple/spam/", accept=form, if_none_match=before.headers["ETag"])
    assert said(after, "spam") == (200, (ours.name,), "active")
    for suffix in ("", ".metadata", ".provenance"):
        assert opened.get(f"/packages/spam/{theirs.name}{suffix}").status_code == 404
    site.index.delete(NormalizedName("spam"))
    assert said(ask(opened, "spam", form), "spam") == (200, (), "active")
    site.place.lose_catalog()
    assert said(ask(opened, "spam", form), "spam") in ((200, (), "active"), NOT_NOW)
    rebuilt = site.reopen(outside=Outside((upstream.configured(keep=True),), limits=LIMITS))
    assert said(ask(rebuilt, "spam", form), "spam") == (200, (), "active")
    assert upstream.take() == []


@pytest.mark.parametrize("state", [*FAILURES, *ABSENCES])
def test_what_upstream_has_said_holds_for_a_while_and_no_longer(
    site: Site, upstream: FakeUpstream, tmp_path: Path, state: str
) -> None:
    clock, wheel = Clock(), make_wheel(tmp_path, "spam", "9.0")
    upstream.add(wheel)
    outside = Outside((upstream.configured(),), limits=LIMITS, clock=clock)
    opened = site.reopen(outside=outside)
    known: Said = (200, (wheel.name,), "active")
    assert said(ask(opened, "spam", JSON), "spam") == known
    for seconds, expected in ((3601, known), (3 * 86_400, NOT_NOW)):
        clock.turn(seconds=seconds)
        with upstream.behaving(state):
            for each in (opened, site.reopen(outside=outside)):  # and for a process that is new
                answer = ask(each, "spam", JSON)
                assert said(answer, "spam") == (expected if state in FAILURES else (404, (), None))
                assert ("fwd=stale" in answer.headers.get("Cache-Status", "")) == (said(answer, "spam") == known)
    assert said(ask(opened, "spam", JSON), "spam") in (known, NOT_NOW, (404, (), None))  # for as long as it remembers
    clock.turn(seconds=601)
    assert said(ask(opened, "spam", JSON), "spam") == known
