"""Trusted publishers: who is one, what is kept of them, and what their jobs get."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from elasticpypi.catalog.dynamodb import DynamoDBLedger
from elasticpypi.catalog.ledger import Record
from elasticpypi.catalog.sqlite import SqliteLedger
from elasticpypi.config import Permission
from elasticpypi.errors import BackupError, IdTokenError, InvalidRequestError, NotFoundError, UnreadableObjectError
from elasticpypi.model import Actor
from elasticpypi.oidc import LEEWAY_SECONDS, IdToken
from elasticpypi.publishers import KEY, Provider, Publisher, fits, make_publisher
from elasticpypi.storage import Document, Storage
from tests.dists import make_wheel
from tests.issuers import GITHUB, Issuer, issuing
from tests.site import Directory, Site, open_site

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
WIDGET_CI = "gitlab.com/acme/tools/widget//.gitlab-ci.yml"
MERGE_REQUEST = {"ref": "refs/merge-requests/7/head", "ref_path": "refs/merge-requests/7/head"}


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
        ({}, {"pipeline_source": "push", "ref": "v1.0"}, True),
        ({}, {"pipeline_source": "merge_request_event"}, False),
        # A fork's pipeline that a member runs in the parent project, and a child of it.
        ({}, {"ci_config_ref_uri": f"{WIDGET_CI}@refs/merge-requests/7/head"} | MERGE_REQUEST, False),
        ({}, {"ci_config_ref_uri": f"{WIDGET_CI}@{SHA}"} | MERGE_REQUEST, False),
        ({}, {"ci_config_ref_uri": f"{WIDGET_CI}@{SHA}", "ref": "refs/merge-requests/7/merge"}, False),
        ({}, {"ref_path": "refs/heads/refs/merge-requests/7", "ci_config_ref_uri": f"{WIDGET_CI}@{SHA}"}, True),
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
    for _ in range(2):
        backup.seek(0)
        assert other.index.restore(backup, by=ADMIN).problems == {}
    assert other.index.publishers.registered() == site.index.publishers.registered()
    ((made, publisher),) = site.index.publishers.trusted().items()
    (event,) = other.index.audit.events(limit=10)
    assert (event.actor, event.action, event.target, event.details) == (
        ADMIN,
        "add-publisher",
        made,
        {
            "provider": "github",
            "issuer": publisher.issuer,
            "repository": "acme/widget",
            "workflow": "release.yml",
            "projects": "widget",
            "from": "backup",
        },
    )
    other.index.close()


def test_a_backup_that_ends_too_early_has_brought_publishers_too(site: Site, tmp_path: Path) -> None:
    site.index.publishers.add(github(), by=ADMIN)
    site.upload(make_wheel(tmp_path))
    backup = io.BytesIO()
    site.index.backup(backup)
    backup.seek(0)
    with tarfile.open(fileobj=backup) as archive:
        last = archive.getmembers()[-1].offset
    other = open_site(tmp_path / "other")
    with pytest.raises(BackupError):
        other.index.restore(io.BytesIO(backup.getvalue()[:last]), by=ADMIN)
    assert [action for _, _, action, _ in told(other)] == ["add-publisher"]
    other.index.close()


def test_the_command_says_whom_a_backup_has_brought_back(site: Site, tmp_path: Path) -> None:
    made = site.index.publishers.add(github(), by=ADMIN)
    assert site.run("backup", str(tmp_path / "index.tar")).exit_code == 0
    other = open_site(tmp_path / "other")
    first, second = (other.run("restore", str(tmp_path / "index.tar")) for _ in range(2))
    other.index.close()
    line = f"may publish here now: {made.id}  github:acme/widget (`elasticpypi publisher list` and `remove`)\n"
    assert (first.exit_code, first.stderr) == (0, line)
    assert (second.exit_code, second.stderr) == (0, "")


@pytest.mark.parametrize("present", [{}, {"repository": "acme/other"}])
def test_publishers_that_are_registered_here_are_not_replaced(
    site: Site, tmp_path: Path, present: dict[str, str]
) -> None:
    site.index.publishers.add(github(), by=ADMIN)
    backup = io.BytesIO()
    site.index.backup(backup)
    other = open_site(tmp_path / "other")
    made = other.index.publishers.add(github(**present), by=ADMIN)
    if not present:
        other.index.publishers.remove(made.id, by=ADMIN)
    before = other.index.publishers.registered()
    backup.seek(0)
    report = other.index.restore(backup, by=ADMIN)
    assert list(report.problems) == [KEY]
    assert other.index.publishers.registered() == before
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


def test_a_used_id_token_is_remembered_for_longer_than_it_is_taken(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishers = site.index.publishers
    publishers.add(github(issuer=issuer.url), by=ADMIN)
    expires = int(time.time()) + 200
    added: list[Record] = []
    ledger_type = SqliteLedger if isinstance(site.place, Directory) else DynamoDBLedger
    add: Any = ledger_type.add

    def note_and_add(ledger: Any, record: Record) -> Any:
        added.append(record)
        return add(ledger, record)

    monkeypatch.setattr(ledger_type, "add", note_and_add)
    publishers.mint(issuer.token(publishers.audience(), exp=expires))
    (used,) = [record.expires for record in added if record.kind == "id-token"]
    assert used == expires + 2 * LEEWAY_SECONDS


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
