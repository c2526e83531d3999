"""Trusted publishers: who is one, what is kept of them, and what their jobs get."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from elasticpypi.config import Permission
from elasticpypi.errors import IdTokenError, InvalidRequestError, NotFoundError, UnreadableObjectError
from elasticpypi.model import Actor
from elasticpypi.oidc import IdToken
from elasticpypi.publishers import KEY, Provider, Publisher, fits, make_publisher
from elasticpypi.storage import Document, Storage
from tests.issuers import GITHUB, Issuer, issuing
from tests.site import Site, open_site

pytestmark = pytest.mark.both_worlds
ADMIN = Actor("admin", "password")
GITLAB: dict[str, Any] = {
    "project_path": "acme/tools/widget",
    "namespace_id": "72",
    "ci_config_ref_uri": "gitlab.com/acme/tools/widget//.gitlab-ci.yml@refs/tags/v1.0",
    "ref_path": "refs/tags/v1.0",
    "sha": "6b1e6ac8a1bc5d7e2a0c2c6fbf4c3f5d5a3f9d10",
    "environment": "production",
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


def github(**changes: Any) -> Publisher:
    fields = {"repository": "acme/widget", "workflow": "release.yml", "projects": ["widget"], **changes}
    return make_publisher(Provider.GITHUB, **fields)


def gitlab(**changes: Any) -> Publisher:
    fields = {"repository": "acme/tools/widget", "workflow": ".gitlab-ci.yml", "projects": ["widget"], **changes}
    return make_publisher(Provider.GITLAB, **fields)


def registered(site: Site) -> list[Publisher]:
    return list(site.index.publishers.registered().publishers.values())


def told(site: Site) -> list[tuple[str, str, str, str | None]]:
    """Return what the audit trail says, the oldest first."""
    events = site.index.audit.events(limit=100)
    return [(e.actor.name, e.actor.credential, e.action, e.target) for e in reversed(events)]


# Whose job it is -------------------------------------------------------------------------------------------------

WORKFLOWS = "acme/widget/.github/workflows/release.yml"
SHA = GITHUB["sha"]


@pytest.mark.parametrize(
    ("registration", "job", "expected"),
    [
        ({}, {}, True),
        ({"repository": "Acme/Widget"}, {}, True),
        ({}, {"repository": "ACME/widget", "job_workflow_ref": f"ACME/widget{WORKFLOWS[11:]}@refs/tags/v1.0"}, True),
        ({}, {"job_workflow_ref": f"{WORKFLOWS}@{SHA}"}, True),
        ({}, {"environment": None}, True),
        ({"environment": "PyPI"}, {}, True),
        ({"owner_id": "4711"}, {}, True),
        ({}, {"repository": "evil/widget"}, False),
        ({}, {"repository": None}, False),
        ({}, {"repository": ["acme/widget"]}, False),
        ({}, {"job_workflow_ref": None}, False),
        ({}, {"job_workflow_ref": f"{WORKFLOWS}@refs/heads/other"}, False),
        ({}, {"job_workflow_ref": f"{WORKFLOWS}@"}, False),
        ({}, {"job_workflow_ref": WORKFLOWS}, False),
        ({}, {"job_workflow_ref": f"{WORKFLOWS}@", "ref": "", "sha": ""}, False),
        ({}, {"job_workflow_ref": f"{WORKFLOWS}@refs/tags/v1.0", "ref": None, "sha": None}, False),
        ({}, {"job_workflow_ref": f"x{WORKFLOWS}@refs/tags/v1.0"}, False),
        ({}, {"job_workflow_ref": "evil/shared/.github/workflows/release.yml@refs/tags/v1.0"}, False),
        ({}, {"job_workflow_ref": "acme/widget/.github/workflows/test.yml@refs/tags/v1.0"}, False),
        ({}, {"job_workflow_ref": "acme/widget/.github/workflows/Release.yml@refs/tags/v1.0"}, False),
        ({}, {"event_name": "pull_request_target"}, False),
        ({"environment": "pypi"}, {"environment": None}, False),
        ({"environment": "pypi"}, {"environment": "test"}, False),
        ({"owner_id": "4711"}, {"repository_owner_id": "4712"}, False),
        ({"owner_id": "4711"}, {"repository_owner_id": None}, False),
        ({"owner_id": "4711"}, {"repository_owner_id": 4711}, False),
        ({"issuer": "https://token.example"}, {}, False),
    ],
)
def test_whose_a_job_at_github_is(registration: dict[str, Any], job: dict[str, Any], expected: bool) -> None:
    claims = {name: value for name, value in {**GITHUB, **job}.items() if value is not None}
    shown = IdToken("https://token.actions.githubusercontent.com", claims, "", 0)
    assert fits(github(**registration), shown) is expected
    assert not fits(gitlab(issuer=shown.issuer, repository="acme/widget", workflow="release.yml"), shown)


@pytest.mark.parametrize(
    ("registration", "job", "expected"),
    [
        ({}, {}, True),
        ({"repository": "Acme/Tools/Widget"}, {}, True),
        ({}, {"ci_config_ref_uri": f"gitlab.com/acme/tools/widget//.gitlab-ci.yml@{SHA}"}, True),
        ({"environment": "Production", "owner_id": "72"}, {}, True),
        (
            {"workflow": "ci/release.yml"},
            {"ci_config_ref_uri": "gitlab.com/acme/tools/widget//ci/release.yml@refs/tags/v1.0"},
            True,
        ),
        ({}, {"project_path": "acme/widget"}, False),
        ({}, {"project_path": None}, False),
        ({}, {"ci_config_ref_uri": None}, False),
        ({}, {"ci_config_ref_uri": "gitlab.com/acme/tools/widget//.gitlab-ci.yml@refs/heads/other"}, False),
        ({}, {"ci_config_ref_uri": "gitlab.com/evil/shared//.gitlab-ci.yml@refs/tags/v1.0"}, False),
        ({}, {"ci_config_ref_uri": "other.example/acme/tools/widget//.gitlab-ci.yml@refs/tags/v1.0"}, False),
        ({}, {"ci_config_ref_uri": "gitlab.com/acme/tools/widget//ci/.gitlab-ci.yml@refs/tags/v1.0"}, False),
        ({"owner_id": "72"}, {"namespace_id": "73"}, False),
        ({"environment": "production"}, {"environment": "staging"}, False),
        ({"issuer": "https://gitlab.example"}, {}, False),
    ],
)
def test_whose_a_job_at_gitlab_is(registration: dict[str, Any], job: dict[str, Any], expected: bool) -> None:
    claims = {name: value for name, value in (GITLAB | job).items() if value is not None}
    shown = IdToken("https://gitlab.com", claims, "", 0)
    assert fits(gitlab(**registration), shown) is expected


@pytest.mark.parametrize(
    ("make", "changes", "problem"),
    [
        (github, {"repository": "widget"}, "the repository is 'widget', and not such as acme/widget"),
        (github, {"repository": "a/b/c"}, "the repository is 'a/b/c'"),
        (github, {"repository": "acme/.."}, "the repository is"),
        (github, {"repository": "acme/widget\n"}, "the repository is"),
        (github, {"repository": "acmé/widget"}, "the repository is"),
        (github, {"workflow": ".github/workflows/release.yml"}, "the workflow is"),
        (github, {"workflow": "release"}, "the workflow is 'release', and not such as release.yml"),
        (github, {"workflow": "release.yml@main"}, "the workflow is"),
        (github, {"owner_id": "acme"}, "the owner-id is 'acme'"),
        (github, {"owner_id": ""}, "the owner-id is ''"),
        (github, {"environment": " "}, "the environment is not a name"),
        (github, {"environment": "a\nb"}, "the environment is not a name"),
        (github, {"projects": []}, "'projects' is not a list of patterns"),
        (github, {"projects": ["Acme"]}, "'projects' has 'Acme'"),
        (github, {"issuer": "http://gitlab.com"}, "the issuer 'http://gitlab.com' is not an https URL"),
        (gitlab, {"repository": "widget"}, "the repository is"),
        (gitlab, {"repository": "/acme/widget"}, "the repository is"),
        (gitlab, {"repository": "acme//widget"}, "the repository is"),
        (gitlab, {"workflow": "/.gitlab-ci.yml"}, "the workflow is"),
        (gitlab, {"workflow": "ci//release.yml"}, "the workflow is"),
    ],
)
def test_a_publisher_that_makes_no_sense_is_refused(make: Any, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(problem)):
        make(**changes)


# What is kept ----------------------------------------------------------------------------------------------------


def test_publishers_are_kept_in_the_storage(site: Site) -> None:
    publishers = site.index.publishers
    first, second = github(environment="pypi", owner_id="4711", projects=["widget", "acme-*"]), gitlab()
    assert [publishers.add(each, by=ADMIN) for each in (first, second)] == [first, second]
    again = site.reopen(overwrite=False)
    assert registered(again) == [first, second]
    assert re.fullmatch(r"elasticpypi-[0-9a-f]{12}", again.index.publishers.audience())
    assert json.loads(site.place.read(KEY))["publishers"][first.id] == {
        "provider": "github",
        "issuer": "https://token.actions.githubusercontent.com",
        "repository": "acme/widget",
        "workflow": "release.yml",
        "environment": "pypi",
        "owner-id": "4711",
        "projects": ["widget", "acme-*"],
    }
    again.index.close()
    site.index.reconcile(KEY)  # as an event of S3 would have it
    assert list(site.index.problems()) == []


def test_the_same_publisher_is_registered_once(site: Site) -> None:
    first = site.index.publishers.add(github(), by=ADMIN)
    assert site.index.publishers.add(github(), by=ADMIN) == first
    assert registered(site) == [first]
    assert told(site) == [("admin", "password", "add-publisher", first.id)]


def test_the_audience_stays_and_is_told_while_there_are_publishers(site: Site) -> None:
    publishers = site.index.publishers
    with pytest.raises(NotFoundError, match="no trusted publishers"):
        publishers.audience()
    made = publishers.add(github(), by=ADMIN)
    audience = publishers.audience()
    assert publishers.remove(made.id, by=ADMIN) == made
    with pytest.raises(NotFoundError):
        publishers.audience()
    publishers.add(gitlab(), by=ADMIN)
    assert publishers.audience() == audience
    with pytest.raises(NotFoundError, match=f"there is no publisher '{made.id}'"):
        publishers.remove(made.id, by=ADMIN)
    assert [action for _, _, action, _ in told(site)] == ["add-publisher", "remove-publisher", "add-publisher"]


def test_what_several_register_at_once_is_all_kept(site: Site) -> None:
    wanted = [github(projects=[f"widget-{number}"]) for number in range(4)]
    threads = [
        threading.Thread(target=site.index.publishers.add, args=(each,), kwargs={"by": ADMIN}) for each in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.id for each in registered(site)) == sorted(each.id for each in wanted)


def test_what_is_registered_in_between_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (github(projects=[name]) for name in ("one", "two", "three"))
    site.index.publishers.add(first, by=ADMIN)
    in_between = [second]
    read = site.place.storage_type.read_document

    def read_and_be_overtaken(storage: Storage, key: str) -> Document:
        document = read(storage, key)
        if in_between:
            site.index.publishers.add(in_between.pop(), by=ADMIN)
        return document

    monkeypatch.setattr(site.place.storage_type, "read_document", read_and_be_overtaken)
    site.index.publishers.add(third, by=ADMIN)
    assert registered(site) == [first, second, third]


DAMAGED = [
    "{",
    "[]",
    "{}",
    '{"audience": "pypi", "publishers": {}}',
    '{"audience": null, "publishers": {}}',
    '{"audience": "elasticpypi-0123456789ab", "publishers": []}',
    '{"audience": "elasticpypi-0123456789ab", "publishers": {"a": {}}}',
    *(
        '{"audience": "elasticpypi-0123456789ab", "publishers": {"a": {"provider": "github", "repository": "a/b", '
        f'"workflow": "a.yml", "environment": null, "owner-id": null, "issuer": {issuer}, "projects": {projects}}}}}}}'
        for issuer, projects in (('"http://x.example"', '["a"]'), ('"https://x.example"', '"a"'), ("1", '["a"]'))
    ),
]


def test_a_damaged_document_is_not_taken_for_an_empty_one(site: Site) -> None:
    for text in DAMAGED:
        site.place.put(KEY, text.encode())
        for act in (
            site.index.publishers.registered,
            site.index.publishers.audience,
            lambda: site.index.publishers.mint("x"),
            lambda: site.index.publishers.add(github(), by=ADMIN),
        ):
            with pytest.raises(UnreadableObjectError, match="it is not as it was written"):
                act()
        assert site.place.read(KEY) == text.encode()


def test_a_backup_brings_publishers_back(site: Site, tmp_path: Path) -> None:
    site.index.publishers.add(github(), by=ADMIN)
    backup = io.BytesIO()
    site.index.backup(backup)
    backup.seek(0)
    other = open_site(tmp_path / "other")
    report = other.index.restore(backup)
    assert report.problems == {}
    assert other.index.publishers.registered() == site.index.publishers.registered()
    other.index.close()


# What a job gets -------------------------------------------------------------------------------------------------


def test_a_job_gets_an_upload_token_for_the_projects_of_its_publishers(site: Site, issuer: Issuer) -> None:
    publishers = site.index.publishers
    first = publishers.add(github(issuer=issuer.url, projects=["widget", "acme-*"]), by=ADMIN)
    second = publishers.add(github(issuer=issuer.url, environment="pypi", projects=["bolt", "widget"]), by=ADMIN)
    publishers.add(github(issuer=issuer.url, repository="acme/other", projects=["other"]), by=ADMIN)
    before = datetime.now(UTC)
    token = site.index.tokens.find(publishers.mint(issuer.token(publishers.audience())))
    assert token is not None
    assert (token.name, token.owner, token.permission, token.projects, token.created_by) == (
        "github:acme/widget",
        None,
        Permission.UPLOAD,
        ("widget", "acme-*", "bolt"),
        "github:acme/widget",
    )
    assert token.expires is not None
    assert timedelta(seconds=0) <= token.expires - before - timedelta(minutes=14, seconds=59) < timedelta(seconds=30)
    assert told(site)[-1] == (
        "github:acme/widget",
        f"trusted publisher {first.id}, {second.id}",
        "create-token",
        token.id,
    )


def test_a_job_at_a_gitlab_of_one_s_own_gets_one_too(site: Site, issuer: Issuer) -> None:
    publishers = site.index.publishers
    publishers.add(gitlab(issuer=issuer.url, owner_id="72"), by=ADMIN)
    (shown,) = (value for name, value in issuer.gitlab_ci(publishers.audience()).items() if name.endswith("_ID_TOKEN"))
    token = site.index.tokens.find(publishers.mint(shown))
    assert token is not None
    assert (token.name, token.projects) == ("gitlab:acme/tools/widget", ("widget",))
    assert urlsplit(issuer.url).hostname == "127.0.0.1"


def test_an_id_token_is_good_for_one_token(site: Site, issuer: Issuer) -> None:
    publishers = site.index.publishers
    publishers.add(github(issuer=issuer.url), by=ADMIN)
    shown = issuer.token(publishers.audience())
    publishers.mint(shown)
    for again in (site.index.publishers, site.reopen(overwrite=False).index.publishers):
        with pytest.raises(IdTokenError, match="it was used already") as caught:
            again.mint(shown)
        assert caught.value.code == "invalid-reuse-token"
    assert len(site.index.tokens.find_all()) == 1


def test_of_several_at_once_one_is_served(site: Site, issuer: Issuer) -> None:
    publishers = site.index.publishers
    publishers.add(github(issuer=issuer.url), by=ADMIN)
    shown = issuer.token(publishers.audience())
    outcomes: list[str] = []

    def try_it() -> None:
        try:
            publishers.mint(shown)
            outcomes.append("served")
        except IdTokenError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["invalid-reuse-token"] * 5 + ["served"]


def test_a_job_that_is_nobody_s_gets_nothing_and_leaves_no_trace(site: Site, issuer: Issuer) -> None:
    publishers = site.index.publishers
    made = publishers.add(github(issuer=issuer.url), by=ADMIN)
    audience = publishers.audience()
    stranger = issuer.token(audience, repository="evil/widget", job_workflow_ref="x" * 1000)
    with pytest.raises(IdTokenError) as caught:
        publishers.mint(stranger)
    assert caught.value.code == "invalid-publisher"
    assert "repository 'evil/widget'" in caught.value.reason
    assert stranger.split(".")[1] not in str(caught.value)
    assert len(str(caught.value)) < 700
    publishers.add(github(issuer=issuer.url, repository="acme/x"), by=ADMIN)
    good = issuer.token(audience)
    publishers.remove(made.id, by=ADMIN)
    with pytest.raises(IdTokenError, match="no trusted publisher of this index fits its job"):
        publishers.mint(good)
    assert site.index.tokens.find_all() == []
    publishers.add(github(issuer=issuer.url), by=ADMIN)
    publishers.mint(good)  # which was not used up by being refused


def test_without_publishers_nobody_is_asked(site: Site, issuer: Issuer) -> None:
    made = site.index.publishers.add(github(issuer=issuer.url), by=ADMIN)
    shown = issuer.token(site.index.publishers.audience())
    site.index.publishers.remove(made.id, by=ADMIN)
    with pytest.raises(IdTokenError, match="this index has no trusted publishers"):
        site.index.publishers.mint(shown)
    assert issuer.asked == []
