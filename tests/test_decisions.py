"""Decisions as people make them, from the command line and in races; what they do to the pages."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elasticpypi.catalog import Catalog
from elasticpypi.cli.main import main
from elasticpypi.errors import DecisionsError
from elasticpypi.model import Decisions, Entry, Status, parse_decisions
from elasticpypi.names import NormalizedName, parse_key
from elasticpypi.storage import Storage
from tests.dists import make_sdist, make_wheel
from tests.running import bare_environment
from tests.site import Site

pytestmark = pytest.mark.both_worlds
ACME = NormalizedName("acme")
WHEEL, OLD_WHEEL, SDIST = "acme-1.1-py3-none-any.whl", "acme-1.0-py3-none-any.whl", "acme-1.1.tar.gz"


@pytest.fixture
def acme(site: Site, tmp_path: Path) -> Site:
    """An index with two releases of acme."""
    for version in ("1.0", "1.1"):
        site.drop(make_wheel(tmp_path, "acme", version))
    site.drop(make_sdist(tmp_path, "acme", "1.1"))
    return site


def decided(site: Site) -> Decisions:
    return parse_decisions(site.place.read("acme/project.json"))


def listed(site: Site) -> dict[str, object]:
    return {file["filename"]: file["yanked"] for file in site.json("/simple/acme/")["files"]}


def files(site: Site) -> list[str]:
    """Return the keys of all files that lie there."""
    return sorted(key for key in site.place.list_keys() if parse_key(key) and not key.endswith("/project.json"))


def run(site: Site, *arguments: str, text: str | None = None) -> Result:
    return site.run(*arguments, text=text)


# From the command line --------------------------------------------------------------------------------------------


def test_a_release_is_yanked_with_a_reason_and_back_again(acme: Site) -> None:
    done = run(acme, "yank", "Acme", "1.1", "--reason", "broken, see #12")
    assert (done.exit_code, done.output) == (0, f"yanked: {WHEEL}\nyanked: {SDIST}\n")
    assert listed(acme) == {OLD_WHEEL: False, WHEEL: "broken, see #12", SDIST: "broken, see #12"}
    assert decided(acme).yanked == {"1.1": "broken, see #12"}
    done = run(acme, "unyank", "acme", "1.1")
    assert (done.exit_code, done.output) == (0, f"not yanked any more: {WHEEL}\nnot yanked any more: {SDIST}\n")
    assert listed(acme) == {OLD_WHEEL: False, WHEEL: False, SDIST: False}
    assert run(acme, "unyank", "acme", "1.1").output == "nothing has changed\n"


def test_a_file_is_yanked_alone(acme: Site) -> None:
    assert json.loads(run(acme, "yank", "acme", SDIST, "--json").output) == {"project": "acme", "filenames": [SDIST]}
    assert listed(acme) == {OLD_WHEEL: False, WHEEL: False, SDIST: True}


def test_a_project_gets_a_status(acme: Site) -> None:
    assert run(acme, "status", "acme").output == "acme: active\n"
    done = run(acme, "status", "acme", "archived", "--reason", "use bolt")
    assert (done.exit_code, done.output) == (0, "acme: archived (use bolt)\n")
    assert acme.json("/simple/acme/")["project-status"] == {"status": "archived", "reason": "use bolt"}
    assert json.loads(run(acme, "status", "acme", "--json").output) == {
        "project": "acme",
        "status": "archived",
        "status-reason": "use bolt",
    }
    assert run(acme, "status", "acme", "active").output == "acme: active\n"
    assert run(acme, "status", "acme", "--reason", "why").exit_code == 2


def test_a_release_is_deleted_when_asked_twice(acme: Site) -> None:
    kept = run(acme, "delete", "acme", "1.1", text="n\n")
    assert kept.exit_code == 1
    assert len(listed(acme)) == 3
    done = run(acme, "delete", "acme", "1.1", text="y\n")
    assert done.exit_code == 0
    assert "Delete 2 files of 'acme' for good?" in done.stderr
    assert done.stdout == f"deleted: {WHEEL}\ndeleted: {SDIST}\n"
    assert listed(acme) == {OLD_WHEEL: False}
    assert files(acme) == [OLD_WHEEL]


def test_all_files_of_a_project_are_deleted_and_its_name_stays(acme: Site) -> None:
    assert run(acme, "delete", "acme", "--yes").exit_code == 0
    assert listed(acme) == {}
    assert set(decided(acme).deleted) == {WHEEL, OLD_WHEEL, SDIST}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("yank", "acme", "9.9"), "the project 'acme' has no release and no file '9.9'"),
        (("unyank", "bolt", "1.0"), "there is no project 'bolt'"),
        (
            ("delete", "acme", "nothing.whl", "--yes"),
            "the project 'acme' has no release and no file 'nothing.whl'",
        ),
        (("status", "bolt", "archived"), "there is no project 'bolt'"),
        (("show", "bolt"), "there is no project 'bolt'"),
    ],
)
def test_what_is_not_there_is_said(acme: Site, arguments: tuple[str, ...], sentence: str) -> None:
    done = run(acme, *arguments)
    remedy = " (`elasticpypi list` and `elasticpypi show` name what there is)"
    assert (done.exit_code, done.stderr) == (1, f"Error: {sentence}{remedy}\n")


@pytest.mark.parametrize("arguments", [("list",), ("show", "acme"), ("yank", "acme", "1.0"), ("status", "acme")])
def test_a_directory_without_an_index_is_named_and_left_alone(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    data = tmp_path / "nowhere"
    done = CliRunner().invoke(main, [*arguments, "--data", str(data)])
    assert (done.exit_code, done.stderr) == (
        2,
        f"Error: there is no index in {data}: name its directory with --data\n",
    )
    assert not data.exists()


def test_the_projects_are_listed(acme: Site, tmp_path: Path) -> None:
    acme.drop(make_wheel(tmp_path, "bolt", "1.0"))
    assert run(acme, "list").output == "acme\nbolt\n"
    assert run(acme, "list", "a*").output == "acme\n"
    assert [project["name"] for project in json.loads(run(acme, "list", "--json").output)["projects"]] == [
        "acme",
        "bolt",
    ]


def test_a_project_is_shown(acme: Site) -> None:
    acme.index.yank(ACME, "1.0", "old")
    acme.index.delete(ACME, SDIST)
    acme.place.put("acme/acme-2.0-py3-none-any.whl", b"no wheel")
    acme.index.reconcile("acme/acme-2.0-py3-none-any.whl")
    shown = run(acme, "show", "acme").output
    lines = [line for line in shown.splitlines() if "sha256" not in line]
    assert [line.partition("  (")[0] for line in lines] == [
        "acme: active",
        "",
        "1.1",
        f"  {WHEEL}",
        "",
        "1.0",
        f"  {OLD_WHEEL}",
        "",
        "rejected: acme/acme-2.0-py3-none-any.whl: it is truncated or not a zip: File is not a zip file",
        "",
        f"deleted: {SDIST}",
    ]
    assert "UTC, yanked: old)" in shown
    assert json.loads(run(acme, "show", "acme", "--json").output) == acme.index.describe(ACME)


def test_a_shell_completes_commands_and_projects(acme: Site, tmp_path: Path) -> None:
    acme.drop(make_wheel(tmp_path, "bolt", "1.0"))
    program = str(Path(sys.executable).parent / "elasticpypi")
    script = subprocess.run([program, "completion", "bash"], capture_output=True, text=True, check=True)
    assert "_ELASTICPYPI_COMPLETE" in script.stdout
    show = " ".join(["elasticpypi show", *acme.place.arguments, "b"])
    for line, expected in (("elasticpypi ya", "plain,yank"), (show, "plain,bolt")):
        environment = bare_environment(
            tmp_path / "home",
            {
                **acme.place.environment,
                "_ELASTICPYPI_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split()) - 1),
            },
        )
        done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines() == [expected]


# What it comes to -------------------------------------------------------------------------------------------------


def test_versions_are_compared_normalised(acme: Site) -> None:
    acme.index.yank(ACME, "1.1.0", "first")
    acme.index.yank(ACME, "v1.1", "second")
    assert decided(acme).yanked == {"1.1": "second"}
    acme.decide("acme", '{"yanked": {"1.1.0.0": "by hand"}}')
    acme.index.unyank(ACME, "1.1")
    assert decided(acme).yanked == {}


def test_a_release_takes_the_yanks_of_its_files_back(acme: Site) -> None:
    acme.index.yank(ACME, SDIST, "no good")
    assert acme.index.unyank(ACME, "1.1") == [SDIST]
    assert decided(acme).yanked == {}


def test_a_file_that_is_yanked_with_its_release_stays_so(acme: Site) -> None:
    acme.index.yank(ACME, "1.1")
    with pytest.raises(DecisionsError, match=f"{SDIST} is yanked with its release: unyank 1.1"):
        acme.index.unyank(ACME, SDIST)
    assert listed(acme)[SDIST] is True


def test_other_decisions_stay(acme: Site) -> None:
    acme.decide("acme", '{"status": "deprecated", "status-reason": "old", "yanked": {"1.0": ""}}')
    acme.index.yank(ACME, SDIST, "no good")
    acme.index.delete(ACME, WHEEL)
    assert decided(acme) == Decisions(
        Status.DEPRECATED, "old", {"1.0": "", SDIST: "no good"}, {WHEEL: decided(acme).deleted[WHEEL]}
    )


def test_a_deleted_name_stays_that_of_its_bytes(acme: Site, tmp_path: Path) -> None:
    acme.index.delete(ACME, "1.1")
    other = make_wheel(tmp_path / "other", "acme", "1.1", description="other bytes")
    answer = acme.upload(other)
    assert answer.status_code == 409
    assert "already exist" in answer.text
    assert acme.upload(tmp_path / WHEEL).status_code == 200
    assert WHEEL in listed(acme)


def test_a_file_under_several_keys_goes_from_all_of_them(acme: Site, tmp_path: Path) -> None:
    acme.drop(make_wheel(tmp_path / "other", "acme", "1.0", description="in its shadow"), f"aside/{OLD_WHEEL}")
    assert acme.index.delete(ACME, "1.0") == [OLD_WHEEL]
    assert OLD_WHEEL not in listed(acme)
    assert files(acme) == [WHEEL, SDIST]


def test_a_rejected_file_can_be_deleted(acme: Site) -> None:
    broken = "acme-2.0-py3-none-any.whl"
    acme.place.put(f"acme/{broken}", b"no wheel")
    acme.index.reconcile(f"acme/{broken}")
    assert acme.index.delete(ACME, broken) == [broken]
    assert f"acme/{broken}" not in files(acme)
    assert list(acme.index.problems()) == []


def test_what_was_replaced_after_it_was_looked_up_is_looked_up_again(acme: Site, tmp_path: Path) -> None:
    key = f"acme/{WHEEL}"
    acme.drop(tmp_path / WHEEL, key)
    acme.place.remove(WHEEL)
    acme.index.reconcile(WHEEL)
    replacement = make_wheel(tmp_path / "other", "acme", "1.1", description="other bytes")
    acme.place.put(key, replacement.read_bytes())  # and nobody has indexed it yet
    assert acme.index.delete(ACME, WHEEL) == [WHEEL]
    assert key not in files(acme)
    assert decided(acme).deleted == {WHEEL: hashlib.sha256(replacement.read_bytes()).hexdigest()}
    deletions = [event.details for event in acme.index.audit.events(limit=99) if event.action == "delete"]
    assert deletions == [{"filenames": WHEEL}]  # although it was tried twice


def test_decisions_made_at_once_are_all_kept(acme: Site, tmp_path: Path) -> None:
    versions = [f"2.{number}" for number in range(12)]
    for version in versions:
        acme.drop(make_wheel(tmp_path, "acme", version))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda version: acme.index.yank(ACME, version, f"of {version}"), versions))
    assert decided(acme).yanked == {version: f"of {version}" for version in versions}


def test_a_reason_that_is_no_text_is_refused(acme: Site) -> None:
    for arguments in (("yank", "acme", "1.1"), ("status", "acme", "archived")):
        done = run(acme, *arguments, "--reason", "x\udcff")
        assert (done.exit_code, done.stderr) == (1, "Error: the reason is no text: it contains half a character\n")
    answer = acme.send("PUT", "/api/v1/projects/acme/yanked/1.1", {"reason": "\ud800"})
    assert (answer.status_code, answer.mimetype) == (400, "application/json")
    assert "acme/project.json" not in acme.place.list_keys()


def test_who_cannot_be_asked_is_told_how_to_confirm(acme: Site) -> None:
    done = run(acme, "delete", "acme", text="")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("Nothing was deleted; with --yes nobody is asked.\n")
    assert len(listed(acme)) == 3


def test_a_catalog_that_is_not_there_is_no_empty_one(acme: Site) -> None:
    acme.index.close()
    acme.place.lose_catalog()
    done = run(acme, "list")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "run `elasticpypi sync`" in done.stderr


def test_no_bytes_come_out_of_the_shadow_while_a_file_is_deleted(
    acme: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.drop(tmp_path / OLD_WHEEL, f"acme/{OLD_WHEEL}")
    acme.drop(make_wheel(tmp_path / "other", "acme", "1.0", description="in its shadow"), f"aside/{OLD_WHEEL}")
    served = digest(acme, OLD_WHEEL)
    seen = []
    remove = acme.place.storage_type.remove

    def remove_and_look(storage: Storage, key: str, *, fingerprint: str) -> None:
        remove(storage, key, fingerprint=fingerprint)
        acme.index.reconcile(key)
        seen.append(digest(acme, OLD_WHEEL))

    monkeypatch.setattr(acme.place.storage_type, "remove", remove_and_look)
    assert acme.index.delete(ACME, OLD_WHEEL) == [OLD_WHEEL]
    assert seen == [served, served, None]
    assert decided(acme).deleted == {OLD_WHEEL: served}


def digest(site: Site, filename: str) -> str | None:
    files = site.json("/simple/acme/")["files"]
    return next((file["hashes"]["sha256"] for file in files if file["filename"] == filename), None)


def test_a_file_that_is_deleted_while_another_comes_keeps_its_name(
    acme: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_wheel(tmp_path / "other", "acme", "1.1", description="other bytes")
    ask = acme.place.catalog_type.entries_named
    deleted: list[str] = []

    def ask_and_delete(catalog: Catalog, name: NormalizedName, filename: str) -> list[Entry]:
        if not deleted:
            deleted.append(filename)
            acme.index.delete(ACME, WHEEL)
        return ask(catalog, name, filename)

    monkeypatch.setattr(acme.place.catalog_type, "entries_named", ask_and_delete)
    assert acme.upload(other).status_code == 409
    assert deleted == [WHEEL]


@pytest.mark.parametrize("version", ["9" * 5000, "1" + ".1" * 5000])
def test_a_version_that_is_far_too_long_is_none(acme: Site, version: str) -> None:
    for method, path in (
        ("GET", f"/pypi/acme/{version}/json"),
        ("PUT", f"/api/v1/projects/acme/yanked/{version}"),
        ("DELETE", f"/api/v1/projects/acme/files/{version}"),
    ):
        assert acme.send(method, path).status_code == 404
    acme.decide("acme", json.dumps({"yanked": {version: "by hand", "1.0": ""}}))
    assert listed(acme)[OLD_WHEEL] is True
