"""The feeds of new releases, as an XML parser reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from elasticpypi.auth import Authenticator, Principal
from elasticpypi.config import Permission
from elasticpypi.model import Entry, File, ListedProject, ProjectSnapshot, RootSnapshot
from elasticpypi.names import Kind, NormalizedName
from elasticpypi.web.app import create_app
from elasticpypi.web.feeds import MOST_PROJECTS, MOST_RELEASES, NewestReleases, Release
from tests.atom import Feed, read_feed
from tests.dists import make_sdist, make_wheel
from tests.site import USERS, Site

EVERYTHING = Principal("admin", Permission.READ)
EPOCH = datetime.fromisoformat("2026-01-01T00:00:00Z")


def feed(site: Site, path: str = "/feed.xml", *, user: str = "reader") -> Feed:
    answer = site.get(path, user=user)
    assert (answer.status_code, answer.content_type) == (200, "application/atom+xml; charset=utf-8"), answer.text
    return read_feed(answer.data)


@pytest.mark.both_worlds
def test_releases_come_newest_first(site: Site, tmp_path: Path) -> None:
    for name, version in (("acme", "2.0"), ("bolt", "1.0"), ("acme", "1.0+local")):
        assert site.upload(make_wheel(tmp_path, name, version)).status_code == 200
    assert site.upload(make_sdist(tmp_path, "acme", "2.0")).status_code == 200  # not its first file
    files = {file["filename"]: file for name in ("acme", "bolt") for file in site.json(f"/simple/{name}/")["files"]}
    times = {filename: file["upload-time"] for filename, file in files.items()}
    root = "http://localhost/"
    shown = feed(site)
    came = [
        (times["acme-2.0-py3-none-any.whl"], "acme 2.0", f"{root}project/acme/2.0/"),
        (times["bolt-1.0-py3-none-any.whl"], "bolt 1.0", f"{root}project/bolt/1.0/"),
        (times["acme-1.0+local-py3-none-any.whl"], "acme 1.0+local", f"{root}project/acme/1.0%2Blocal/"),
    ]
    # S3 knows seconds only; of what came in the same one the names decide.
    assert [(entry.updated, entry.title, entry.link) for entry in shown.entries] == sorted(came, reverse=True)
    assert (shown.id, shown.link_to_self, shown.link) == (f"{root}feed.xml", f"{root}feed.xml", root)
    assert shown.updated == shown.entries[0].updated
    assert len({entry.id for entry in shown.entries}) == 3
    for entry in shown.entries:
        assert site.get(entry.link.removeprefix("http://localhost")).status_code == 200
    of_acme = feed(site, "/project/acme/feed.xml")
    assert of_acme.entries == [entry for entry in shown.entries if entry.title.startswith("acme")]
    assert of_acme.link_to_self == of_acme.id == f"{root}project/acme/feed.xml"
    assert of_acme.link == f"{root}project/acme/"


def test_everybody_sees_the_releases_of_what_they_may_see(site: Site, tmp_path: Path) -> None:
    for name in ("acme", "bolt", "acme-tools"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    for user, titles in (
        ("reader", {"acme 1.0", "bolt 1.0", "acme-tools 1.0"}),
        ("guest", {"acme 1.0", "acme-tools 1.0"}),
    ):
        assert {entry.title for entry in feed(site, user=user).entries} == titles
    assert site.get("/project/bolt/feed.xml", user="guest").status_code == 403
    assert site.get("/project/nowhere/feed.xml").status_code == 404
    assert site.get("/feed.xml", user=None).status_code == 401
    assert site.get("/project/Acme.Tools/feed.xml").headers["Location"] == "../acme-tools/feed.xml"


def test_a_feed_without_releases_is_one(site: Site) -> None:
    shown = feed(site)
    assert (shown.entries, shown.updated) == ([], "1970-01-01T00:00:00.000000Z")
    site.decide("acme", "{}")
    assert feed(site, "/project/acme/feed.xml").entries == []


def test_quarantined_projects_have_no_releases(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    assert len(feed(site).entries) == 1
    site.decide("acme", '{"status": "quarantined"}')
    assert feed(site).entries == feed(site, "/project/acme/feed.xml").entries == []


def test_an_unchanged_feed_is_a_304(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    answer = site.get("/feed.xml")
    assert answer.headers["Cache-Control"] == "private, max-age=0"
    assert site.get("/feed.xml", if_none_match=answer.headers["ETag"]).status_code == 304
    site.drop(make_wheel(tmp_path, "acme", "2.0"))
    assert site.get("/feed.xml", if_none_match=answer.headers["ETag"]).status_code == 200


def test_a_feed_bears_title_and_url_as_configured(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    app = create_app(site.index, Authenticator(USERS), url="https://x.org/dev", title="<A> & \x00\x1b\u202e'\"")
    shown = read_feed(Client(app).get("/feed.xml", auth=("reader", "secret")).data)
    assert shown.title == "New releases · <A> & \u202e'\""
    assert shown.link_to_self == "https://x.org/dev/feed.xml"
    assert shown.entries[0].link == "https://x.org/dev/project/acme/1.0/"


def test_behind_a_proxy_with_tls_a_feed_says_so(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    shown = read_feed(site.get("/feed.xml", x_forwarded_proto="https").data)
    assert (shown.link_to_self, shown.entries[0].link) == (
        "https://localhost/feed.xml",
        "https://localhost/project/acme/1.0/",
    )


@dataclass
class Known:
    """An index that counts what is read of it."""

    projects: dict[NormalizedName, list[datetime]]  # when their releases came: 1.0, 2.0, …
    reads: list[str]

    def root_revision(self, _form: object) -> int:
        return max(map(self.project_revision, self.projects), default=0)

    def project_revision(self, name: NormalizedName) -> int:
        return int(max(self.projects[name]).timestamp() * 1_000_000)

    def root(self) -> RootSnapshot:
        listed = tuple(ListedProject(name, self.project_revision(name)) for name in sorted(self.projects))
        return RootSnapshot(0, 0, 0, listed)

    def snapshot(self, name: NormalizedName) -> ProjectSnapshot:
        self.reads.append(name)
        entries = tuple(_entry(name, f"{number}.0", time) for number, time in enumerate(self.projects[name], 1))
        return ProjectSnapshot(name, self.project_revision(name), entries)


def _entry(name: NormalizedName, version: str, time: datetime) -> Entry:
    filename = f"{name}-{version}.tar.gz"
    return Entry(f"{name}/{filename}", name, 1, "f", File(filename, version, Kind.SDIST, 1, "0" * 64, time))


def known(counts: Iterator[int] | list[int]) -> Known:
    """An index of projects with so many releases each; all came an hour apart, those of the first project first."""
    times = (EPOCH + timedelta(hours=number) for number in itertools.count())
    return Known(
        {NormalizedName(f"p{number:03}"): list(itertools.islice(times, count)) for number, count in enumerate(counts)},
        [],
    )


def of_all(newest: NewestReleases) -> list[Release]:
    return list(newest.of_all(EVERYTHING))


def test_no_more_projects_are_read_than_have_new_releases() -> None:
    index: Any = known([10] * 300)
    found = of_all(NewestReleases(index))
    assert len(found) == MOST_RELEASES
    assert found == sorted(found, reverse=True)
    assert (found[0].name, found[-1].name) == ("p299", "p295")
    assert index.reads == ["p299", "p298", "p297", "p296", "p295"]


def test_what_came_before_the_newest_of_others_is_found_behind_an_old_release_that_changed() -> None:
    index: Any = known([60, 1, 1])
    index.projects["p001"][0] = EPOCH - timedelta(days=9)
    found = of_all(NewestReleases(index))
    assert [release.version for release in found if release.name == "p000"] == [f"{n}.0" for n in range(60, 11, -1)]


def test_at_most_so_many_projects_are_read() -> None:
    index: Any = known([1] * 300)
    index.projects = {name: [EPOCH, times[0]] for name, times in index.projects.items()}
    of_all(NewestReleases(index))
    assert len(index.reads) == MOST_RELEASES
    quarantined: Any = known([1] * 300)
    quarantined.snapshot = lambda name: quarantined.reads.append(name) or ProjectSnapshot(name, 1, ())
    assert of_all(NewestReleases(quarantined)) == []
    assert len(quarantined.reads) == MOST_PROJECTS


def test_only_what_has_changed_is_read_again() -> None:
    index: Any = known([10] * 30)
    newest = NewestReleases(index)
    first = of_all(newest)
    index.reads.clear()
    assert of_all(newest) == first
    assert index.reads == []
    index.projects["p003"].append(EPOCH + timedelta(days=99))
    again = of_all(newest)
    assert again == [Release(EPOCH + timedelta(days=99), NormalizedName("p003"), "11.0"), *first[:-1]]
    assert index.reads == ["p003"]
