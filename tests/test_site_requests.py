"""What one new file costs in an output bucket: so many requests, however large the index and the project are."""

from __future__ import annotations

from collections import Counter

import pytest

from elasticpypi.names import normalize_name
from elasticpypi.output.s3 import S3Output
from elasticpypi.static_site import SiteOptions
from elasticpypi.static_site.changelog import PER_PAGE
from elasticpypi.static_site.site import Site
from tests.aws import Cloud, counting
from tests.outputs import MemoryOutput, MemorySource, site_of

ACME = normalize_name("acme")
LATER = 9000  # seconds: a time after that of all files


def make_source(projects: int, files: int) -> MemorySource:
    source = MemorySource()
    for at in range(projects):
        source.put(f"other-{at}", "1", at)
    for at in range(files):
        source.put("acme", str(at + 1), at)
    return source


def count_update(
    cloud: Cloud, source: MemorySource, *, name: str, prefix: str = "", per_page: int = PER_PAGE
) -> Counter[str]:
    """Build a site, add a file, and count what it takes to show it."""
    output = S3Output(cloud.aws, cloud.make_bucket(), prefix)
    site = Site(source, output, SiteOptions(), per_page=per_page)
    site.build()
    source.put(name, "999", LATER)
    with counting(cloud.aws.s3) as requests:
        site.update([normalize_name(name)])
    expected = MemoryOutput()
    Site(source, expected, SiteOptions(), per_page=per_page).build()
    found, wanted = site_of(output), site_of(expected)
    assert {path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path)} == {"packages.json"}
    return requests


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["acme", "new"])
def test_a_new_file_costs_as_many_requests_in_any_index(cloud: Cloud, name: str) -> None:
    small = count_update(cloud, make_source(1, 1), name=name)
    large = count_update(cloud, make_source(30, 30), name=name, prefix="pypi")
    assert small == large
    assert small["ListObjectsV2"] == 0


@pytest.mark.heavy
def test_it_costs_no_more_where_the_changelog_has_pages_and_a_project_many_releases(cloud: Cloud) -> None:
    many = count_update(cloud, make_source(1, 103), name="acme", per_page=101)  # the feed's 100 are on both pages
    few = count_update(cloud, make_source(1, 1), name="acme")
    assert many["ListObjectsV2"] == 0
    assert many - few == {"GetObject": 1, "HeadObject": 1}  # the page before the newest, which is looked at again


def test_an_event_about_nothing_new_costs_two_requests(cloud: Cloud) -> None:
    source = make_source(3, 3)
    site = Site(source, S3Output(cloud.aws, cloud.make_bucket()), SiteOptions())
    site.build()
    with counting(cloud.aws.s3) as requests:
        report = site.update([ACME])
    assert requests == {"GetObject": 2}
    assert report.written == report.removed == 0


def test_a_build_of_what_has_not_changed_looks_at_no_page(cloud: Cloud) -> None:
    source = make_source(30, 3)
    site = Site(source, S3Output(cloud.aws, cloud.make_bucket()), SiteOptions())
    site.build()
    with counting(cloud.aws.s3) as requests:
        report = site.build()
    assert requests == {"GetObject": 4, "ListObjectsV2": 1, "HeadObject": 1}
    assert report.written == report.removed == 0


def test_many_projects_that_change_together_share_what_is_said_of_all(cloud: Cloud) -> None:
    source = make_source(10, 1)
    output = S3Output(cloud.aws, cloud.make_bucket())
    site = Site(source, output, SiteOptions())
    site.build()
    for at in range(10):
        source.put(f"other-{at}", "2", LATER)
    with counting(cloud.aws.s3) as ten:
        site.update([name for name in source.projects if name != "acme"])
    source.put("acme", "2", LATER)
    with counting(cloud.aws.s3) as one:
        site.update([ACME])
    assert ten.total() < 10 * one.total() - 50  # the changelog alone is ten requests
