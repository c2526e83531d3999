"""`elasticpypi import` as a person runs it: what it prints, how it ends, that it can be interrupted and repeated."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from elasticpypi.config import Settings
from elasticpypi.index import open_index
from elasticpypi.names import NormalizedName
from tests.clients import Desk, account
from tests.dists import make_sdist, make_wheel
from tests.moving import Answer, serving_answers
from tests.running import bare_environment, free_port, run_command, serving, wait_for

PEERS = Path(__file__).parent.parent / ".peers" / "bin"
JSON = "application/vnd.pypi.simple.v1+json"
WHEEL = "acme-1.0-py3-none-any.whl"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files_in(data: Path) -> list[str]:
    """Return the keys of the files that an index has."""
    files = data / "files"
    suffixes = (".whl", ".gz", ".zip", ".egg")
    found = [path.relative_to(files).as_posix() for path in files.rglob("*") if path.name.endswith(suffixes)]
    return sorted(key for key in found if not key.startswith("."))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A directory with three wheels and something else."""
    directory = tmp_path / "packages"
    for version in (1, 2, 3):
        make_wheel(directory, version=f"{version}.0")
    (directory / "setup.exe").write_text("")
    return directory


# What it prints --------------------------------------------------------------------------------------------------


def test_a_directory_comes_in_and_again_moves_nothing(home: Path, data: Path, packages: Path) -> None:
    names = sorted(path.name for path in packages.glob("*.whl"))
    for lines in (
        [*(f"imported: {name}" for name in names), "3 imported, 0 unchanged, 1 skipped, 0 failed"],
        ["0 imported, 3 unchanged, 1 skipped, 0 failed"],
    ):
        answer = run_command("import", "pypiserver", packages, "--data", data, home=home)
        assert (answer.returncode, answer.stdout.splitlines()) == (0, lines)
        assert answer.stderr.splitlines() == [
            f"1 of 4 files are done; now {WHEEL}",
            "skipped: setup.exe: it is not a wheel, sdist or egg",
        ]
        assert files_in(data) == [f"acme/{name}" for name in names]


def test_a_failure_is_named_and_makes_the_exit_code_1(home: Path, data: Path, packages: Path) -> None:
    (packages / WHEEL).write_bytes(b"no zip")
    answer = run_command("import", "pypiserver", packages, "--data", data, home=home)
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-1] == "2 imported, 0 unchanged, 1 skipped, 1 failed"
    assert f"failed: {WHEEL}: {WHEEL}: " in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_rehearsal_imports_nothing(home: Path, data: Path, packages: Path) -> None:
    make_wheel(packages, version="4.0")
    answer = run_command("import", "pypiserver", packages, "--data", data, "--dry-run", home=home)
    names = [f"acme-{version}.0-py3-none-any.whl" for version in (1, 2, 3, 4)]
    lines = [*(f"not yet imported: {name}" for name in names)]
    assert (answer.returncode, answer.stdout.splitlines()) == (
        0,
        [*lines, "4 not yet imported, 0 unchanged, 1 skipped, 0 failed"],
    )
    assert files_in(data) == []


def test_json_has_everything(home: Path, data: Path, tmp_path: Path) -> None:
    first, second = make_wheel(tmp_path / "pool"), make_wheel(tmp_path / "pool", version="2.0")
    lines = [{"filename": first.name, "yanked_reason": "broken"}, {"filename": second.name, "hash": "sha256=00"}]
    listing = tmp_path / "pool" / "packages.json"
    listing.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"filename": "setup.exe"}]))
    answer = run_command("import", "dumb-pypi", listing, "--data", data, "--json", home=home)
    assert answer.returncode == 1
    document = json.loads(answer.stdout)
    assert list(document.pop("failed")) == [second.name]
    assert document == {
        "source": "dumb-pypi pool",
        "dry_run": False,
        "imported": [first.name],
        "unchanged": [],
        "yanked": [first.name],
        "statuses": {},
        "skipped": {"setup.exe": "it is not a wheel, sdist or egg"},
    }


def test_many_that_are_skipped_are_one_line(home: Path, data: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list"
    listing.write_text("".join(f"{number}.exe\n" for number in range(7)))
    answer = run_command("import", "dumb-pypi", listing, "--data", data, home=home)
    assert answer.stderr == "skipped: 0.exe, 1.exe, 2.exe, 3.exe, 4.exe and 2 more: it is not a wheel, sdist or egg\n"
    assert (answer.returncode, answer.stdout) == (0, "0 imported, 0 unchanged, 7 skipped, 0 failed\n")


def test_a_terminal_shows_a_bar(home: Path, data: Path, packages: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "elasticpypi", "import", "pypiserver", str(packages), "--data", str(data)]
    with subprocess.Popen(
        command, env=bare_environment(home), stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
        os.close(ours)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout.splitlines()[-1]) == (0, "3 imported, 0 unchanged, 1 skipped, 0 failed")
    assert "[####################]  4/4  acme-3.0-py3-none-any.whl" in shown
    assert "files are done" not in shown


def read_terminal(descriptor: int) -> bytes:
    """Return what has been written to a terminal; nothing when the other side is closed."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


# Wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), ("pypiserver",), ("devpi",), ("dumb-pypi",), ("index",)])
def test_every_kind_of_source_has_help(command: tuple[str, ...], home: Path) -> None:
    answer = run_command("import", *command, "--help", home=home)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pypiserver", "no-such-directory"),
        ("devpi", "no-such-directory"),
        ("dumb-pypi", "no-such-list"),
        ("index", "alice:wonder"),
        ("index", "ftp://alice:wonder@127.0.0.1/simple/"),
        ("index", "http://alice:wonder@[/simple/"),
        ("index", "https://alice:wonder@127.0.0.1:http/simple/"),
    ],
)
def test_wrong_usage_is_2_and_repeats_no_password(arguments: tuple[str, ...], home: Path, data: Path) -> None:
    answer = run_command("import", *arguments, "--data", data, home=home)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Usage: ")
    assert "wonder" not in answer.stderr
    assert not data.exists()


def test_an_export_without_the_index_is_wrong_usage(home: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "dataindex.json").write_text('{"dumpversion": "2", "indexes": {}}')
    answer = run_command("import", "devpi", tmp_path, "--index", "a/b", "--data", data, home=home)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "Error: the export has no index 'a/b'; those with files are none\n"


def test_no_password_is_printed_or_kept(home: Path, data: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with serving_answers() as web:
        link = f'<a href="{web.url.replace("//", "//bob:builder@")}/{WHEEL}?token=looking">{WHEEL}</a>'
        web.put("/simple/acme/", Answer(link.encode(), "text/html"))
        web.put(f"/{WHEEL}?token=looking", Answer(status=404), Answer(wheel.read_bytes()))
        url = web.url.replace("//", "//alice:wonder@") + "/simple/"
        failed = run_command("import", "index", url, "acme", "gone", "--data", data, home=home)
        done = run_command("import", "index", url, "acme", "--data", data, "--json", home=home)
    assert (failed.returncode, done.returncode) == (1, 0)
    kept = "".join(path.read_text() for path in data.rglob("*.json"))
    assert f'"source": "{web.url}"' in kept  # without its path, in which there may be a secret, too
    said = failed.stdout + failed.stderr + done.stdout + done.stderr + kept
    assert [secret for secret in ("alice", "wonder", "builder", "looking") if secret in said] == []


# Interrupted -----------------------------------------------------------------------------------------------------


@contextmanager
def serving_wheels(tmp_path: Path, *, stuck: threading.Event | None = None) -> Iterator[str]:
    """Serve an index of three wheels; the last sets `stuck` when it is asked for, and comes when the context ends."""
    go_on = threading.Event()
    wheels = [make_wheel(tmp_path / "pool", version=f"{version}.0") for version in (1, 2, 3)]

    def wait() -> Answer:
        if stuck is not None:
            stuck.set()
            go_on.wait(60)
        return Answer(wheels[2].read_bytes())

    with serving_answers() as web:
        links = "".join(f'<a href="/{path.name}">{path.name}</a>' for path in wheels)
        web.put("/simple/acme/", Answer(links.encode(), "text/html"))
        for path in wheels[:2]:
            web.put(f"/{path.name}", Answer(path.read_bytes()))
        web.put(f"/{wheels[2].name}", wait)
        try:
            yield f"{web.url}/simple/"
        finally:
            go_on.set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_import_goes_on_where_it_was(
    number: signal.Signals, home: Path, data: Path, tmp_path: Path
) -> None:
    command = ["import", "index", "URL", "acme", "--data", str(data)]
    first, second, third = (f"acme-{version}.0-py3-none-any.whl" for version in (1, 2, 3))
    stuck = threading.Event()
    with serving_wheels(tmp_path, stuck=stuck) as command[2]:
        process = subprocess.Popen(
            [sys.executable, "-m", "elasticpypi", *command],
            env=bare_environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert stuck.wait(60)  # by then the second is not only there, but done
        finally:
            process.send_signal(number)
            said, _ = process.communicate(timeout=60)
        if number is signal.SIGINT:
            assert process.returncode == 1
            assert f"imported: {first}\nimported: {second}\n2 imported" in said
    assert files_in(data) == [f"acme/{first}", f"acme/{second}"]
    with serving_wheels(tmp_path) as command[2]:
        answer = run_command(*command, home=home)
    assert (answer.returncode, answer.stdout) == (
        0,
        f"imported: {third}\n1 imported, 2 unchanged, 0 skipped, 0 failed\n",
    )


# The whole way ---------------------------------------------------------------------------------------------------


def test_what_came_in_installs_while_it_comes(home: Path, data: Path, packages: Path, tmp_path: Path) -> None:
    with serving(data, home=tmp_path / "server") as server:
        assert run_command("import", "pypiserver", packages, "--data", data, home=home).returncode == 0
        desk = Desk(tmp_path / "desk")
        installed = desk.pip("install", "--index-url", account(server).index_url, "acme")
        assert installed.succeeded, installed.output
        assert desk.installed() == {"acme": "3.0"}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_an_export_that_devpi_has_written_comes_in(home: Path, data: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    files = [make_wheel(pool), make_sdist(pool), make_wheel(pool, "My.Tool", "2.0+local")]
    export = export_from_devpi(tmp_path, files, home)
    answer = run_command("import", "devpi", export, "--data", data, "--json", home=home)
    assert (answer.returncode, json.loads(answer.stdout)) == (
        0,
        {
            "source": "devpi export root/dev",
            "dry_run": False,
            "imported": sorted(path.name for path in files),
            "unchanged": [],
            "yanked": [],
            "statuses": {},
            "skipped": {},
            "failed": {},
        },
    )
    again = run_command("import", "devpi", export, "--index", "root/dev", "--data", data, home=home)
    assert (again.returncode, again.stdout) == (0, "0 imported, 3 unchanged, 0 skipped, 0 failed\n")
    written = json.loads((export / "dataindex.json").read_text())["indexes"]["root/dev"]["files"]
    uploaded = {Path(entry["relpath"]).name: tuple(entry["log"][0]["when"]) for entry in written}
    with closing(open_index(Settings(), data=data)) as index:
        origins = {**index.origins(NormalizedName("acme")), **index.origins(NormalizedName("my-tool"))}
    claimed = {name: origin.upload_time.timetuple()[:6] for name, origin in origins.items() if origin.upload_time}
    assert claimed == uploaded
    damaged = export / written[0]["relpath"]
    damaged.write_bytes(damaged.read_bytes() + b"\0")
    answer = run_command("import", "devpi", export, "--data", tmp_path / "other", home=home)
    assert answer.returncode == 1
    assert f"failed: {damaged.name}: its sha256 is" in answer.stderr


def export_from_devpi(tmp_path: Path, files: list[Path], home: Path) -> Path:
    """Upload files to a devpi with twine, as root/dev, and return what devpi-export writes."""
    directory = tmp_path / "devpi"
    devpi(home, "devpi-init", "--serverdir", directory, "--no-root-pypi", "--root-passwd", "secret")
    url = f"http://127.0.0.1:{free_port()}"
    with (tmp_path / "devpi.log").open("w") as log:
        process = subprocess.Popen(
            [PEERS / "devpi-server", "--serverdir", directory, "--listen", urlsplit(url).netloc],
            env=bare_environment(home),
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(lambda: ask_devpi("GET", f"{url}/+api"), seconds=60)
            password = ask_devpi("POST", f"{url}/+login", {"user": "root", "password": "secret"})["result"]["password"]
            ask_devpi("PUT", f"{url}/root/dev", {"type": "stage"}, b64encode(f"root:{password}".encode()).decode())
            where = ("--repository-url", f"{url}/root/dev/", "-u", "root", "-p", "secret", "--non-interactive")
            twine = Path(sys.executable).with_name("twine")
            uploaded = Desk(tmp_path / "desk").run(twine, "upload", *where, "--disable-progress-bar", *files)
            assert uploaded.succeeded, uploaded.output
        finally:
            process.terminate()
            process.wait(60)
    devpi(home, "devpi-export", "--serverdir", directory, tmp_path / "export")
    return tmp_path / "export"


def devpi(home: Path, program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [PEERS / program, *arguments], env=bare_environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def ask_devpi(method: str, url: str, document: dict[str, str] | None = None, token: str = "") -> Any:
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(method, url, json=document, headers={"X-Devpi-Auth": token}, timeout=30)
        except requests.ConnectionError:
            return None
    assert answer.ok, answer.text
    return answer.json()
