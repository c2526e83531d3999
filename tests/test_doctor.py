"""`elasticpypi doctor`: each check is quiet where all is well, and says what is wrong and what to do where not."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from elasticpypi.cli.doctor import EXAMPLE_PASSWORDS, examine
from elasticpypi.cli.doctor_local import check_file_system, check_space, check_sqlite, check_watches
from elasticpypi.config import Settings, Upstream, UpstreamMode, write_upstream
from elasticpypi.finding import Finding
from elasticpypi.index import open_index
from elasticpypi.passwords import is_hash
from tests.dists import make_wheel
from tests.privileges import unprivileged
from tests.running import run_command, serving
from tests.site import Site
from tests.upstreams import FakeUpstream, running_upstream

OF_THE_MACHINE = {"free space", "file system", "watches"}
HASH = "scrypt:1024:8:1$salt$" + "0" * 128
GIB = 2**30


@pytest.fixture
def data(site: Site, tmp_path: Path) -> Path:
    """The data directory of an index with a file of its own and a dropped one, which nobody serves."""
    site.upload(make_wheel(tmp_path / "dist", "acme", "1.0"))
    site.drop(make_wheel(tmp_path / "dist", "acme", "1.1"))
    site.index.close()
    return site.data


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file as it should be."""
    path = tmp_path / "config.json"
    path.touch(mode=0o600)
    path.write_text('{"username": "alice", "password": "wonder"}')
    return path


def findings(data: Path | None, **variables: str | Path) -> list[Finding]:
    environ = {f"ELASTICPYPI_{key}": str(value) for key, value in variables.items()}
    return [finding for finding in examine(environ, data) if finding.check not in OF_THE_MACHINE]


def problems(data: Path | None, **variables: str | Path) -> list[Finding]:
    return [finding for finding in findings(data, **variables) if finding.remedy is not None]


def test_a_healthy_index(data: Path, config: Path) -> None:
    assert findings(data, CONFIG=config) == [
        Finding("configuration", str(config)),
        Finding("passwords", "none that others know"),
        Finding("SQLite", f"version {sqlite3.sqlite_version}"),
        Finding("data directory", str(data)),
        Finding("privacy", "others may not look into it"),
        Finding("credentials", "those of the configuration"),
        Finding("server", "none serves this directory now"),
        Finding("catalog and storage", "both can be read"),
        Finding("sync", "catalog and storage agree"),
        Finding("files", "each one is listed"),
    ]


# Configuration -----------------------------------------------------------------------------------------------------


def test_a_configuration_that_cannot_be_used_is_a_finding(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"username": "alice"}')
    assert problems(None, CONFIG=config) == [
        Finding(
            "configuration",
            f"'password' is missing in {config}, where 'username' and 'password' come together or "
            'not at all; add for example "password": "something-secretive"',
            "correct that, and run `elasticpypi doctor` again",
        )
    ]


@pytest.mark.parametrize("password", sorted(EXAMPLE_PASSWORDS))
def test_a_password_of_the_examples(password: str, data: Path, config: Path) -> None:
    user = json.dumps([{"username": "bob", "password": password}])
    assert problems(data, CONFIG=config, USERS=user) == [
        Finding(
            "passwords",
            "'bob' has the password of the documentation's example",
            "choose another; `elasticpypi hash-password` makes a hash of it",
        )
    ]


def test_all_example_passwords_are_known() -> None:
    root = Path(__file__).parent.parent
    documents = [*root.glob("*.md"), *root.glob("docs/*.md"), root / "elasticpypi" / "config-example.json"]
    shown = {
        password
        for document in documents
        for password in re.findall(r'"password": "([^"]+)"', document.read_text())
        if not is_hash(password)
    }
    assert shown - EXAMPLE_PASSWORDS == set()


def test_a_configuration_file_that_others_may_read(data: Path, config: Path) -> None:
    config.chmod(0o644)
    assert problems(data, CONFIG=config) == [
        Finding("passwords", f"everybody on this machine may look into {config}", f"`chmod o= {config}`")
    ]
    # Unless there is nothing to be read:
    assert problems(data, CONFIG=config, PASSWORD="from-a-variable") == []
    config.write_text(json.dumps({"username": "alice", "password": HASH}))
    assert problems(data, CONFIG=config) == []


def test_made_credentials_that_others_may_read(data: Path) -> None:
    credentials = data / "credentials.json"
    credentials.write_text('{"username": "admin", "password": "secret"}')
    credentials.chmod(0o604)
    expected = Finding(
        "credentials", f"everybody on this machine may look into {credentials}", f"`chmod o= {credentials}`"
    )
    assert problems(data) == [expected]
    credentials.chmod(0o600)
    assert problems(data) == []


def test_made_credentials_that_are_broken(data: Path) -> None:
    credentials = data / "credentials.json"
    credentials.touch(mode=0o600)
    credentials.write_text('{"username": "admin"}')
    assert problems(data) == [
        Finding(
            "credentials",
            f"{credentials} cannot be read as credentials ('password'): mend it, or remove it and have new ones made",
            "put a backup of the file in its place, or remove it",
        )
    ]


# The data directory ------------------------------------------------------------------------------------------------


def test_a_data_directory_that_is_missing_stays_so(tmp_path: Path, config: Path) -> None:
    missing = tmp_path / "not there"
    assert problems(missing, CONFIG=config) == [
        Finding(
            "data directory",
            f"{missing} is no directory that can be found",
            f"start an index there with `elasticpypi serve --data '{missing}'`, or name another with --data",
        )
    ]
    assert not missing.exists()


def test_a_data_directory_that_others_may_look_into(data: Path, config: Path) -> None:
    data.chmod(0o755)
    assert problems(data, CONFIG=config) == [
        Finding("privacy", f"everybody on this machine may look into {data}", f"`chmod o= {data}`")
    ]


@pytest.mark.parametrize(("below", "mode"), [("", 0o000), ("files", 0o500)])
def test_directories_that_may_not_be_used(below: str, mode: int, data: Path, config: Path) -> None:
    (data / below).chmod(mode)
    with unprivileged():
        found = problems(data, CONFIG=config)
    (data / below).chmod(0o700)
    user = os.geteuid()
    assert found == [
        Finding(
            "data directory",
            f"user {user} may not read and write {data / below}",
            f"run elasticpypi as user {user}, who owns {data}, or `chown -R {user} {data}`",
        )
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_root_in_the_directory_of_somebody_else(data: Path, config: Path) -> None:
    os.chown(data, 12345, -1)
    assert problems(data, CONFIG=config) == [
        Finding(
            "data directory",
            f"{data} belongs to user 12345, and this is root",
            f"run elasticpypi as that user: `sudo -u '#12345' elasticpypi doctor --data {data}`",
        )
    ]


@pytest.mark.parametrize(
    ("total", "free", "is_enough"),
    [
        (10 * GIB, GIB, True),
        (10 * GIB, GIB - 1, False),
        (100 * GIB, 5 * GIB, True),
        (100 * GIB, 5 * GIB - 1, False),
        (10_000 * GIB, 20 * GIB, True),
        (10_000 * GIB, 20 * GIB - 1, False),
    ],
)
def test_free_space(total: int, free: int, is_enough: bool) -> None:
    remedy = None if is_enough else "make room on that volume, or move the data directory to a larger one"
    found = f"{free / GIB:.1f} GiB of {total / GIB:.1f} GiB are free for /srv"
    assert check_space(Path("/srv"), total=total, free=free) == Finding("free space", found, remedy)


MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/export /srv nfs4 rw 0 0
/dev/sdb1 /srv/my\\040disk xfs rw 0 0
/dev/sdc1 /mnt ext4 rw 0 0
//server/share /mnt cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("directory", "kind", "is_of_the_network"),
    [
        ("/var/lib/index", "ext4", False),
        ("/srv", "nfs4", True),
        ("/srv/index", "nfs4", True),
        ("/srvices/index", "ext4", False),
        ("/srv/my disk/index", "xfs", False),
        ("/mnt/index", "cifs", True),  # mounted over the other
    ],
)
def test_file_systems(directory: str, kind: str, is_of_the_network: bool) -> None:
    found = check_file_system(Path(directory), MOUNTS)
    if is_of_the_network:
        assert found == Finding(
            "file system",
            f"{directory} lies on a network file system ({kind}), where the catalog can be damaged",
            "move the data directory to a disk of this machine",
        )
    else:
        assert found == Finding("file system", kind)


def test_directories_to_be_watched() -> None:
    assert check_watches(6_553, 8_192) == Finding("watches", "6,553 directories are to be watched, 8,192 may be")
    assert check_watches(6_554, 8_192) == Finding(
        "watches",
        "6,554 directories are to be watched, 8,192 may be",
        "raise the limit: `sysctl fs.inotify.max_user_watches=26216`",
    )


def test_the_machine_is_looked_at(data: Path, config: Path) -> None:
    found = {finding.check: finding.found for finding in examine({"ELASTICPYPI_CONFIG": str(config)}, data)}
    assert found.keys() >= OF_THE_MACHINE
    assert found["free space"].endswith(f"are free for {data}")
    directories = sum(path.is_dir() for path in (data / "files").rglob("*")) + 1
    assert found["watches"].startswith(f"{directories} directories")


def test_sqlite_versions() -> None:
    assert check_sqlite((3, 35, 0)) == Finding("SQLite", "version 3.35.0")
    assert check_sqlite((3, 34, 1)) == Finding(
        "SQLite", "version 3.34.1", "use a Python that brings 3.35.0 or newer, as those do that uv installs"
    )


# The index ---------------------------------------------------------------------------------------------------------


def test_no_catalog_is_made(data: Path, config: Path) -> None:
    for file in data.glob("catalog.*"):
        file.unlink()
    assert problems(data, CONFIG=config) == [
        Finding(
            "catalog",
            f"there is none in {data}",
            f"start the server, or run `elasticpypi sync --data {data}`, which makes it anew from the files",
        )
    ]
    assert list(data.glob("catalog.*")) == []


def test_a_catalog_that_is_damaged(data: Path, config: Path) -> None:
    catalog = data / "catalog.sqlite"
    catalog.write_bytes(b"no database" * 1000)
    (problem,) = problems(data, CONFIG=config)
    assert problem.check == "catalog"
    assert problem.found.startswith(f"the catalog {catalog} is damaged")
    sync = f"`elasticpypi sync --data {data}`"
    assert problem.remedy == f"stop the server, remove {catalog}, and run {sync}, which makes it anew from the files"


def test_a_catalog_that_is_not_complete(tmp_path: Path, config: Path) -> None:
    data = tmp_path / "data"
    open_index(Settings(), data=data).close()
    assert problems(data, CONFIG=config) == [
        Finding(
            "catalog",
            "it does not know all files yet",
            f"let the server finish, or run `elasticpypi sync --data {data}`",
        )
    ]


def test_a_volume_that_is_not_mounted(data: Path, config: Path) -> None:
    files = data / "files"
    files.rename(data / "elsewhere")
    assert problems(data, CONFIG=config) == [
        Finding(
            "storage",
            f"{files} does not look like the storage (it has no .elasticpypi/): is its volume mounted?",
            "mount its volume, let this user read it, or `elasticpypi restore` a backup",
        )
    ]


def test_a_catalog_that_differs_from_the_storage(data: Path, config: Path) -> None:
    remedy = f"run `elasticpypi sync --data {data}`"
    (data / "files" / "acme" / "acme-1.0-py3-none-any.whl").unlink()
    found = "catalog and storage differ in acme/acme-1.0-py3-none-any.whl"
    assert problems(data, CONFIG=config) == [Finding("sync", found, remedy)]
    (data / "files" / "acme-1.1-py3-none-any.whl").unlink()
    found = "catalog and storage differ in acme-1.1-py3-none-any.whl and 1 more"
    assert problems(data, CONFIG=config) == [Finding("sync", found, remedy)]


def test_each_file_that_is_not_listed(site: Site, config: Path) -> None:
    broken = site.data / "files" / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no wheel")
    site.index.reconcile(broken.name)
    site.decide("acme", '{"status": "gone"}')
    found = problems(site.data, CONFIG=config)
    assert [(problem.check, problem.remedy) for problem in found] == [
        ("decisions", "mend the file; the README shows how one looks"),
        ("files", "put a whole file in its place, or remove it"),
    ]
    assert found[0].found.startswith("acme/project.json cannot be read (")
    assert found[1].found.startswith("broken-1.0-py3-none-any.whl is not listed: ")


def test_other_bytes_under_the_same_filename(site: Site, tmp_path: Path, config: Path) -> None:
    ours = make_wheel(tmp_path / "ours", "acme", "1.0")
    other = make_wheel(tmp_path / "other", "acme", "1.0", description="other bytes")
    site.upload(ours)
    site.drop(ours, f"copies/{ours.name}")
    assert problems(site.data, CONFIG=config) == []
    site.drop(other, f"others/{other.name}")
    assert problems(site.data, CONFIG=config) == [
        Finding(
            "files",
            f"others/{other.name} is not served, because other bytes under the same filename are",
            "remove whichever of the two is wrong",
        )
    ]


# Upstreams ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with running_upstream() as running:
        yield running


def written(*upstreams: Upstream) -> str:
    """Return upstreams as a variable has them."""
    return json.dumps([write_upstream(upstream) for upstream in upstreams])


ADVICE = Finding(
    "own names",
    "upstreams are asked for every name under which nothing has been uploaded yet",
    advice='name yours by a pattern, such as "own_names": ["acme-*"]: then nobody else can have one of them first',
)


def test_upstreams_that_answer(data: Path, config: Path, upstream: FakeUpstream) -> None:
    first = upstream.configured(allow=("spam",), name="first")
    second = upstream.configured(mode=UpstreamMode.REDIRECT, name="second")
    variables: dict[str, str | Path] = {"CONFIG": config, "UPSTREAMS": written(first, second)}
    answers = [Finding("upstream 'first'", "it answers"), Finding("upstream 'second'", "it answers")]
    assert findings(data, **variables)[-3:] == [ADVICE, *answers]
    kept = Finding("own names", "nobody else is asked for acme-*, tools")
    assert findings(data, **variables, OWN_NAMES='["acme-*", "tools"]')[-3:] == [kept, *answers]


def test_an_upstream_is_asked_with_its_credentials(data: Path, config: Path, upstream: FakeUpstream) -> None:
    upstream.credentials = ("reader", "tr0ub4dor&3")
    with_them = upstream.configured()
    others = replace(with_them, name="others", password="correct-horse")
    none = replace(with_them, name="none", username=None, password=None)
    found = problems(data, CONFIG=config, UPSTREAMS=written(with_them, others, none))
    assert [(problem.check, problem.found) for problem in found] == [
        ("upstream 'others'", "it refuses our credentials (401)"),
        ("upstream 'none'", "it asks for credentials (401)"),
    ]
    assert "correct-horse" not in str(found)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("down", "it cannot be reached at "),
        ("500", "it answers 500"),
        ("reset", "it breaks off at "),
        ("a redirect to the metadata service", "it leads to http://169.254.169.254, which is not among its 'hosts'"),
    ],
)
def test_an_upstream_that_does_not_answer(
    data: Path, config: Path, upstream: FakeUpstream, behaviour: str, says: str
) -> None:
    with upstream.behaving(behaviour):
        (problem,) = problems(data, CONFIG=config, UPSTREAMS=written(upstream.configured()))
    assert (problem.check, problem.remedy) == (
        "upstream 'fake'",
        "mend that there, or change its entry in 'upstreams'; until then what has not been asked for lately is "
        "answered with 503",
    )
    assert problem.found.startswith(says)


def test_an_upstream_that_clients_are_sent_to_in_vain(data: Path, config: Path, upstream: FakeUpstream) -> None:
    redirecting = upstream.configured(mode=UpstreamMode.REDIRECT)
    with upstream.behaving("503"):
        found = problems(data, CONFIG=config, UPSTREAMS=written(redirecting))
    remedy = "mend that there, or change its entry in 'upstreams'; until then clients are sent there all the same"
    assert found == [Finding("upstream 'fake'", "it answers 503", remedy)]


def test_an_upstream_at_an_address_that_is_not_public(data: Path, config: Path, upstream: FakeUpstream) -> None:
    url = upstream.url.replace("http:", "https:")  # nobody speaks TLS there, and nobody is asked to
    (problem,) = problems(data, CONFIG=config, UPSTREAMS=written(upstream.configured(url=url, private=False)))
    assert problem.found.startswith("it has an address at ")
    assert "that is not public; set 'private'" in problem.found
    assert upstream.asked == []


def test_advice_is_a_note_and_no_problem(data: Path, config: Path, upstream: FakeUpstream, tmp_path: Path) -> None:
    extra = {"ELASTICPYPI_CONFIG": str(config), "ELASTICPYPI_UPSTREAMS": written(upstream.configured())}
    answer = run_command("doctor", "--data", data, home=tmp_path / "home", extra=extra)
    lines = answer.stdout.splitlines()
    assert f"note     own names: {ADVICE.found}. Better: {ADVICE.advice}." in lines
    assert "ok       upstream 'fake': it answers." in lines
    of_the_machine = [line for line in lines if line.startswith("problem") and line.split()[1] in ("free", "watches:")]
    assert answer.returncode == int(bool(of_the_machine)), answer.stdout


# The command -------------------------------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, bytes]:
    """Return what lies in a directory, but for what SQLite's adapters note for as long as a file is open."""
    return {
        str(path): path.read_bytes() if path.is_file() and path.suffix != ".lock" else b""
        for path in directory.rglob("*")
    }


def test_nothing_is_changed(data: Path, config: Path) -> None:
    (data / "files" / "acme-1.1-py3-none-any.whl").unlink()
    (data / "storage-was-made").unlink()
    before = contents(data)
    assert [problem.check for problem in problems(data, CONFIG=config)] == ["sync"]
    assert contents(data) == before


def test_the_command_prints_a_line_for_each_check(data: Path, config: Path, tmp_path: Path) -> None:
    data.chmod(0o755)
    answer = run_command("doctor", "--data", data, home=tmp_path / "home", extra={"ELASTICPYPI_CONFIG": str(config)})
    assert (answer.returncode, answer.stderr) == (1, "")
    lines = answer.stdout.splitlines()
    expected = list(examine({"ELASTICPYPI_CONFIG": str(config)}, data))
    assert len(lines) == len(expected)
    assert f"problem  privacy: everybody on this machine may look into {data}. Remedy: `chmod o= {data}`." in lines
    assert "ok       sync: catalog and storage agree." in lines


def test_the_command_prints_json_beside_a_server(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, home=home):
        answer = run_command("doctor", "--data", data, "--json", home=home)
    found = [Finding(**document) for document in json.loads(answer.stdout)]
    assert [finding for finding in found if finding.remedy and finding.check not in OF_THE_MACHINE] == []
    assert Finding("server", "one serves this directory") in found
    assert Finding("credentials", f"those in {data / 'credentials.json'}") in found
    assert answer.returncode == int(any(finding.remedy for finding in found))
