"""The commands and the local server on an index in S3 and DynamoDB, as they are on one in a directory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from elasticpypi.names import NormalizedName
from tests.aws import Cloud
from tests.dists import make_sdist, make_wheel
from tests.running import bare_environment, free_port, run_command, serving, wait_for
from tests.site import Account, Site, open_cloud_site, open_site

ACME = NormalizedName("acme")
WHEEL = "acme-1.0-py3-none-any.whl"


@pytest.fixture
def site(cloud: Cloud) -> Iterator[Site]:
    opened = open_cloud_site(cloud)
    yield opened
    opened.index.close()


def pages(site: Site) -> dict[str, Any]:
    """Return the root and each project's page, without serials and the times at which the storage got the files."""
    paths = [f"/simple/{project['name']}/" for project in site.json("/simple/")["projects"]]
    found = {path: site.json(path) for path in ("/simple/", *paths)}
    for page in found.values():
        page.pop("meta")
        for file in page.get("files", []):
            file.pop("upload-time")
    for project in found["/simple/"]["projects"]:
        project.pop("_last-serial", None)
    return found


# The commands ------------------------------------------------------------------------------------------------------


def test_files_put_into_the_bucket_are_synced(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    site.place.put(f"acme/{WHEEL}", wheel.read_bytes())
    check = site.run("sync", "--check")
    assert (check.exit_code, check.stdout.splitlines()[0]) == (1, f"not yet added: acme/{WHEEL}")
    done = site.run("sync", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["added"] == [f"acme/{WHEEL}"]
    assert site.run("sync", "--check").exit_code == 0
    shown = json.loads(site.run("show", "acme", "--json").stdout)
    (file,) = shown["releases"][0]["files"]
    assert (file["filename"], file["sha256"]) == (WHEEL, hashlib.sha256(wheel.read_bytes()).hexdigest())


def test_a_lost_table_is_made_anew(site: Site, tmp_path: Path) -> None:
    site.upload(make_wheel(tmp_path))
    site.index.yank(ACME, "1.0", "broken")
    before = pages(site)
    site.place.lose_catalog()
    lost = site.run("list")
    assert (lost.exit_code, lost.stdout) == (1, "")
    assert "run `elasticpypi sync`" in lost.stderr
    assert site.run("sync").exit_code == 0
    assert pages(site.reopen(overwrite=False)) == before


def test_the_files_of_another_index_come_in(site: Site, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "packages", "acme", version)
    done = site.run("import", "pypiserver", str(tmp_path / "packages"))
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 imported, 0 unchanged, 0 skipped, 0 failed")
    again = site.run("import", "pypiserver", str(tmp_path / "packages"))
    assert again.stdout == "0 imported, 2 unchanged, 0 skipped, 0 failed\n"


def test_a_backup_moves_an_index_to_a_directory_and_back(site: Site, cloud: Cloud, tmp_path: Path) -> None:
    site.upload(make_wheel(tmp_path))
    site.drop(make_sdist(tmp_path, "other"), "by/hand/other-1.0.tar.gz")
    site.drop(make_wheel(tmp_path, "gone"))
    site.index.yank(ACME, "1.0", "broken")
    site.index.delete(NormalizedName("gone"))
    backup = str(tmp_path / "backup.tar")
    assert site.run("backup", backup).exit_code == 0
    local = open_site(tmp_path / "data")
    assert local.run("restore", backup).exit_code == 0
    assert pages(local) == pages(site)
    assert local.run("backup", backup).exit_code == 0
    other = open_cloud_site(cloud)
    for restored in ("6 restored, 0 there already", "0 restored, 6 there already"):
        done = other.run("restore", backup)
        assert (done.exit_code, done.stdout) == (0, f"{restored}, 0 not restored\n")
        assert pages(other) == pages(site)
    for opened in (local, other):
        opened.index.close()


# What is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, 1, ("credentials", "'profile'")),
        ({"AWS_DEFAULT_REGION": None}, 2, ("no region", '"region": "eu-central-1"')),
        ({"ELASTICPYPI_PROFILE": "nobody"}, 2, ("nobody", "correct 'profile'")),
        ({"ELASTICPYPI_BUCKET": "there-is-no-such-bucket"}, 1, ("'there-is-no-such-bucket'", "correct 'bucket'")),
        ({"ELASTICPYPI_TABLE": "there-is-no-such-table"}, 1, ("'there-is-no-such-table'", "`elasticpypi doctor`")),
    ],
)
@pytest.mark.parametrize("arguments", [("sync",), ("serve",), ("backup", "backup.tar")])
def test_what_is_wrong_is_one_sentence_with_its_remedy(
    arguments: tuple[str, ...],
    variables: dict[str, str | None],
    code: int,
    words: tuple[str, ...],
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    site.place.put(WHEEL, b"something")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    changed = site.place.environment | variables
    extra = {name: value for name, value in changed.items() if value is not None}
    port = ("--port", str(free_port())) if arguments == ("serve",) else ()
    answer = run_command(*arguments, *port, home=tmp_path / "home", extra=_with_code(extra))
    assert (answer.returncode, answer.stdout) == (code, "")
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1
    assert [word for word in words if word not in answer.stderr] == [], answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_is_missing_without_the_extra_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['botocore'] = None; from elasticpypi.cli.main import main; main(['list'])"
    names = {"BUCKET": "acme-files", "TABLE": "acme-table", "USERNAME": "alice", "PASSWORD": "wonder"}
    extra = {f"ELASTICPYPI_{key}": value for key, value in names.items()}
    environment = bare_environment(tmp_path / "home", _with_code(extra))
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        "Error: 'bucket' and 'table' name S3 and DynamoDB, for which botocore is missing here: "
        "`pip install 'elasticpypi[aws]'` brings it, or --data names a directory instead\n"
    )


@pytest.mark.parametrize(
    ("world", "unneeded"),
    [
        ("aws", {"sqlite3", "elasticpypi.catalog.sqlite", "elasticpypi.storage.filesystem"}),
        ("directory", {"boto3", "botocore", "elasticpypi.aws", "elasticpypi.catalog.dynamodb", "urllib3"}),
    ],
)
def test_an_index_loads_its_own_adapters_alone_and_nothing_for_upstreams_yet(
    world: str, unneeded: set[str], site: Site, tmp_path: Path
) -> None:
    place = site.place
    assert isinstance(place, Account)
    named = f"bucket={place.bucket!r}, table={place.table!r}, " if world == "aws" else ""
    program = (
        "import json, sys; from pathlib import Path; from elasticpypi.config import Settings, Upstream, UpstreamMode;"
        "from elasticpypi.index import open_index;"
        "upstream = Upstream('pypi', 'https://pypi.example.org/simple/', UpstreamMode.PROXY, keep=True);"
        f"index = open_index(Settings({named}upstreams=(upstream,)), data=Path(sys.argv[1])); index.sync();"
        "print(json.dumps(list(sys.modules)))"
    )
    environment = bare_environment(tmp_path / "home", _with_code(place.environment))
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    of_upstreams = {"bs4", "elasticpypi.upstream.connecting", "pydantic", "pypi_simple", "requests"}
    assert (unneeded | of_upstreams) & set(json.loads(done.stdout)) == set()


def _with_code(extra: dict[str, str]) -> dict[str, str]:
    return {**extra, "PYTHONPATH": str(Path(__file__).parents[1])}


# The local server --------------------------------------------------------------------------------------------------


def test_a_bucket_is_served_from_here(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = site.place
    wheel = make_wheel(tmp_path)
    site.drop(make_wheel(tmp_path, "dropped"))
    extra = _with_code(place.environment)
    with serving(tmp_path / "unused", home=tmp_path / "home", extra=extra, local=False) as server:
        assert server.upload(wheel).status_code == 200
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        assert server.listing("acme") == {WHEEL: digest}
        assert server.projects() == ["acme", "dropped"]
        with requests.Session() as session:
            session.trust_env = False
            address = f"{server.url}/packages/acme/{WHEEL}"
            with session.get(address, auth=(server.username, server.password), allow_redirects=False) as answer:
                assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
            with session.get(answer.headers["Location"], timeout=60) as answer:
                assert answer.content == wheel.read_bytes()
        assert f"from the bucket {place.environment['ELASTICPYPI_BUCKET']!r}" in server.output()
        assert "secret" not in server.output()
    assert f"acme/{WHEEL}" in place.list_keys()
    assert not (tmp_path / "unused").exists()
    assert not (tmp_path / "data").exists()


def test_a_new_table_is_filled_by_the_server(site: Site, tmp_path: Path) -> None:
    site.drop(make_wheel(tmp_path))
    site.place.lose_catalog()
    extra = _with_code(site.place.environment)
    with serving(tmp_path / "unused", home=tmp_path / "home", extra=extra, local=False, healthy=False) as server:
        found = wait_for(lambda: server.fetch("/simple/acme/"), lambda answer: answer.status_code != 503)
        assert [file["filename"] for file in found.json()["files"]] == [WHEEL]
