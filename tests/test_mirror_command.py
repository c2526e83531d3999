"""`elasticpypi mirror`: what it fetches from an upstream, what it leaves alone, and what it says of the rest."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from elasticpypi.cli.main import main
from elasticpypi.names import parse_filename
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.upstream.kept import KeptFiles
from elasticpypi.upstream.model import KeptFile, UpstreamFile
from tests.clients import Desk, account
from tests.dists import make_sdist, make_wheel
from tests.running import bare_environment, run_command, serving
from tests.upstreams import FakeUpstream, Request, running_upstream

NOTHING_YET = "0 fetched, 0 unchanged, 0 ours already, 0 skipped, 0 problems\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Where files lie before they are at upstream."""
    path = tmp_path / "dist"
    path.mkdir()
    return path


def run(*arguments: str | Path, home: Path, extra: Mapping[str, str] | None = None) -> Result:
    """Run `elasticpypi` in this process, with the environment that it has in one of its own."""
    bare = bare_environment(home, extra)
    environment = {name: bare.get(name) for name in bare.keys() | os.environ.keys()}
    return CliRunner(catch_exceptions=False).invoke(main, [str(each) for each in arguments], env=environment)


class Mirror:
    """Runs the command for an index in a directory that has one upstream."""

    def __init__(self, upstream: FakeUpstream, data: Path, home: Path) -> None:
        self.upstream = upstream
        self.data = data
        self.home = home
        self.configured: dict[str, Any] = {"keep": True}

    def run(self, text: str, *options: str, name: str = "requirements.txt") -> Result:
        """Mirror a file with this text."""
        return run(*self.command(text, *options, name=name), home=self.home, extra=self.environment())

    def report(self, text: str, *options: str) -> Any:
        done = self.run(text, "--json", *options)
        return json.loads(done.stdout)

    def command(self, text: str, *options: str, name: str = "requirements.txt") -> tuple[str | Path, ...]:
        path = self.data.parent / name
        path.write_text(text)
        return "mirror", "-r", path, "--data", self.data, *options

    def environment(self) -> dict[str, str]:
        usual = {"name": "fake", "url": self.upstream.url, "mode": "proxy", "private": True}
        return {"ELASTICPYPI_UPSTREAMS": json.dumps([usual | self.configured])}

    def source(self, line: int) -> str:
        return f"{self.data.parent / 'requirements.txt'}, line {line}"

    def kept(self) -> dict[str, bytes]:
        """Return what is kept, filename to bytes."""
        paths = (self.data / "files" / ".elasticpypi" / "upstream").glob("*/*/*")
        return {path.name: path.read_bytes() for path in paths if not path.name.endswith(".metadata")}


@pytest.fixture
def mirror(upstream: FakeUpstream, data: Path, home: Path) -> Mirror:
    return Mirror(upstream, data, home)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes"


# What is fetched -----------------------------------------------------------------------------------------------------


def test_the_newest_release_that_fits_is_fetched_and_then_left_alone(mirror: Mirror, dist: Path) -> None:
    files = [make_wheel(dist, "acme", "1.0"), make_sdist(dist, "acme", "1.0"), make_sdist(dist, "bolt", "3.0")]
    for file in (*files, make_sdist(dist, "acme", "2.0"), make_sdist(dist, "bolt", "4.0rc1")):
        mirror.upstream.add(file)
    requirements = "acme<2 ; sys_platform == 'win32'\nbolt\n-e ./lib\n"
    first = mirror.run(requirements, "--parallel", "1")
    assert first.stdout == (
        "".join(f"fetched: {file.name} ({size(file)})\n" for file in files)
        + "3 fetched, 0 unchanged, 0 ours already, 1 skipped, 0 problems\n"
    )
    assert first.stderr == (
        "".join(f"fetching {file.name} ({size(file)})\n" for file in files)
        + f"skipped: ./lib: comes from a directory ({mirror.source(3)})\n"
    )
    assert first.exit_code == 0
    assert mirror.kept() == {file.name: file.read_bytes() for file in files}

    mirror.upstream.take()
    again = mirror.run(requirements)
    assert again.stdout == "0 fetched, 3 unchanged, 0 ours already, 1 skipped, 0 problems\n"
    assert again.exit_code == 0
    assert mirror.upstream.paths("/files/") == []


def test_what_is_locked_is_fetched_and_can_be_installed_without_upstream(tmp_path: Path, home: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    ours, theirs = make_wheel(dist, "acme", "1.0"), [make_wheel(dist, "bolt", "1.0"), make_sdist(dist, "bolt", "1.0")]
    desk = Desk(tmp_path)
    with serving(tmp_path / "theirs", home=home) as upstream:
        for file in theirs:
            assert upstream.upload(file).status_code == 200
        project = '[project]\nname = "app"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["bolt"]\n'
        (desk.project / "pyproject.toml").write_text(project)
        locked = desk.uv("lock", "--default-index", account(upstream).index_url)
        assert locked.succeeded, locked.output
        configured = {
            "name": "theirs",
            "url": f"{upstream.url}/simple/",
            "mode": "proxy",
            "username": upstream.username,
            "password": upstream.password,
            "private": True,
            "keep": True,
        }
        extra = {"ELASTICPYPI_UPSTREAMS": json.dumps([configured])}
        lock = desk.project / "uv.lock"
        done = run_command("mirror", "-r", lock, "--data", tmp_path / "ours", home=home, extra=extra)
        assert done.returncode == 0, done.stderr
        assert sorted(done.stdout.splitlines()) == sorted(
            [
                *(f"fetched: {file.name} ({size(file)})" for file in theirs),
                "2 fetched, 0 unchanged, 0 ours already, 1 skipped, 0 problems",
            ]
        )
        assert upstream.password not in done.stdout + done.stderr
    with serving(tmp_path / "ours", home=home, extra=extra) as index:
        assert index.upload(ours).status_code == 200
        assert index.listing("bolt") == {file.name: sha256(file) for file in theirs}
        installed = desk.uv("pip", "install", "--default-index", account(index).index_url, "acme", "bolt")
        assert installed.succeeded, installed.output
    assert desk.installed() == {"acme": "1.0", "bolt": "1.0"}


def test_files_with_these_digests_are_fetched_and_no_others(mirror: Mirror, dist: Path) -> None:
    wheel, sdist = make_wheel(dist, "acme", "1.0"), make_sdist(dist, "acme", "1.0")
    for file in (wheel, sdist):
        mirror.upstream.add(file)
    done = mirror.run(f"acme==1.0 --hash=sha256:{sha256(wheel)}")
    assert (done.exit_code, mirror.kept()) == (0, {wheel.name: wheel.read_bytes()})


def test_a_dry_run_says_what_would_be_fetched_and_keeps_nothing(mirror: Mirror, dist: Path) -> None:
    wheel = make_wheel(dist, "acme", "1.0")
    sdist = make_sdist(dist, "acme", "1.0")
    mirror.upstream.add(wheel)
    mirror.upstream.add(sdist, says={"size": None})
    nowhere = mirror.run("acme", "--dry-run")
    assert (nowhere.exit_code, nowhere.stdout, mirror.data.exists()) == (2, "", False)
    assert f"there is no index in {mirror.data}" in nowhere.stderr

    assert mirror.run("# nothing yet").stdout == NOTHING_YET
    done = mirror.run("acme", "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f"not yet fetched: {wheel.name} ({size(wheel)})\n"
        f"not yet fetched: {sdist.name}\n"
        "0 fetched, 2 not yet fetched, 0 unchanged, 0 ours already, 0 skipped, 0 problems\n"
    )
    assert (mirror.kept(), mirror.upstream.paths("/files/")) == ({}, [])


def test_a_project_of_ours_is_never_asked_for(mirror: Mirror, dist: Path) -> None:
    file = make_wheel(dist, "acme", "1.0")
    mirror.upstream.add(file)
    assert run("upload", file, "--data", mirror.data, home=mirror.home).exit_code == 0
    done = mirror.run("acme==2.0\nacme")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "ours already: acme\n0 fetched, 0 unchanged, 1 ours already, 0 skipped, 0 problems\n"
    assert mirror.upstream.asked == []


# What cannot be had --------------------------------------------------------------------------------------------------


def test_what_cannot_be_had_is_told_and_everything_else_is_fetched(mirror: Mirror, dist: Path) -> None:
    wheel, locked, broken = (make_wheel(dist, name, "1.0") for name in ("acme", "locked", "broken"))
    for file in (wheel, locked, broken):
        mirror.upstream.add(file)
    mirror.configured |= {"deny": ["denied"], "deny-files": ["*.zip"]}
    mirror.upstream.add(make_sdist(dist, "acme", "1.0", suffix=".zip"))
    other_digest = "0" * 64
    text = f"missing\ndenied==1.0\nlocked==1.0 --hash=sha256:{other_digest}\nbroken\nacme\nacme==9.0\n"
    with mirror.upstream.behaving("one other byte", at=f"/files/{broken.name}"):
        done = mirror.run(text)
    assert done.exit_code == 1
    assert done.stdout == (
        f"fetched: {wheel.name} ({size(wheel)})\n1 fetched, 0 unchanged, 0 ours already, 0 skipped, 6 problems\n"
    )
    problems = [line for line in done.stderr.splitlines() if line.startswith("problem: ")]
    digest = f"no file has the sha256 {other_digest}: if it was not removed, find out who has changed it"
    assert problems[:3] == [
        f"problem: missing: there is no project 'missing' ({mirror.source(1)})",
        f"problem: denied: there is no project 'denied' ({mirror.source(2)})",
        f"problem: locked: {digest} ({mirror.source(3)})",
    ]
    assert problems[3].startswith("problem: acme: acme-1.0.zip ")
    assert problems[4:] == [
        f"problem: acme: no release of acme fits ==9.0: correct the version ({mirror.source(6)})",
        f"problem: broken: the upstream 'fake' has sent other bytes than its page says for {broken.name} "
        f"({mirror.source(4)})",
    ]
    assert mirror.kept() == {wheel.name: wheel.read_bytes()}


def test_files_whose_bytes_were_exchanged_are_not_kept_under_the_names_that_were_locked(
    mirror: Mirror, dist: Path
) -> None:
    files = [make_wheel(dist, "acme", "1.0"), make_sdist(dist, "acme", "1.0")]
    text = 'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "acme"\nversion = "1.0"\n'
    for key, file in zip(("wheels", "sdist"), files, strict=True):
        entry = f'{{ url = "https://example.org/{file.name}", hashes = {{ sha256 = "{sha256(file)}" }} }}'
        text += f"{key} = {entry}\n" if key == "sdist" else f"{key} = [{entry}]\n"
    first, second = (file.read_bytes() for file in files)
    for file, other in zip(files, (second, first), strict=True):
        file.write_bytes(other)
        mirror.upstream.add(file, core_metadata=b"Name: acme\n")
    done = mirror.run(text, name="pylock.toml")
    assert (done.exit_code, mirror.kept(), mirror.upstream.paths("/files/")) == (1, {}, [])
    assert [line.split(" says: ")[0] for line in done.stderr.splitlines()] == [
        f"problem: acme: {file.name} has another sha256 on the upstream's page than {mirror.data.parent}/pylock.toml"
        for file in files
    ]


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ({}, 'add "keep": true to it'),
        ({"mode": "redirect"}, 'its mode has to be "proxy", with "keep": true'),
    ],
)
def test_an_upstream_that_is_not_kept_is_named(
    configured: dict[str, Any], told: str, mirror: Mirror, dist: Path
) -> None:
    mirror.upstream.add(make_wheel(dist, "acme", "1.0"))
    mirror.configured = configured
    done = mirror.run("acme")
    assert (done.exit_code, done.stderr) == (
        1,
        f"problem: acme: files of 'fake' are not kept: {told} ({mirror.source(1)})\n",
    )


def test_an_upstream_that_is_down_is_a_problem_for_each_project(mirror: Mirror) -> None:
    with mirror.upstream.behaving("down"):
        report = mirror.report("acme\nbolt")
    assert [problem["project"] for problem in report["problems"]] == ["acme", "bolt"]
    assert all(problem["message"].startswith("the upstream 'fake' ") for problem in report["problems"])


def test_other_bytes_that_were_kept_meanwhile_are_not_taken_for_what_was_wanted(mirror: Mirror, dist: Path) -> None:
    wheel = make_wheel(dist, "acme", "1.0")
    mirror.upstream.add(wheel)

    def keep_others(upstream: FakeUpstream, request: Request) -> None:
        name = parse_filename(wheel.name).project
        other = UpstreamFile(wheel.name, f"{upstream.base}/{wheel.name}", "1.0", {"sha256": "0" * 64})
        KeptFiles(FilesystemStorage(mirror.data / "files")).add(name, KeptFile("fake", other))
        request.send(upstream.find(request))

    with mirror.upstream.behaving(keep_others, at=f"/files/{wheel.name}"):
        done = mirror.run("acme")
    assert done.exit_code == 1
    assert f"problem: acme: {wheel.name} was replaced by its upstream meanwhile: try again" in done.stderr


def test_there_must_be_an_upstream(home: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("acme")
    done = run("mirror", "-r", tmp_path / "requirements.txt", "--data", data, home=home)
    told = "Error: there is no upstream to fetch from: name one in 'upstreams' of the configuration\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", told)


def test_a_file_that_cannot_be_read_as_it_is_meant_stops_everything(mirror: Mirror) -> None:
    done = mirror.run("acme\nbolt=1.0")
    told = f"Error: {mirror.source(2)}: 'bolt=1.0' is no requirement: write for example acme==1.0\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", told)
    assert not mirror.data.exists()


@pytest.mark.parametrize("arguments", [(), ("-r",), ("-r", "/no/such/file"), ("-r", "/"), ("--parallel", "0")])
def test_wrong_usage_is_2(arguments: tuple[str, ...], home: Path) -> None:
    done = run("mirror", *arguments, home=home)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr


# How it is told ------------------------------------------------------------------------------------------------------


def test_programs_get_json(mirror: Mirror, dist: Path) -> None:
    wheel, broken = make_wheel(dist, "acme", "1.0"), make_sdist(dist, "broken", "1.0")
    mirror.upstream.add(wheel)
    mirror.upstream.add(broken)
    own = make_wheel(dist, "own", "1.0")
    assert run("upload", own, "--data", mirror.data, home=mirror.home).exit_code == 0
    text = "acme\nbroken\nown\n./lib\nacme==1.0"

    def entry(file: Path, status: str, line: int) -> dict[str, Any]:
        return {
            "project": parse_filename(file.name).project,
            "filename": file.name,
            "sha256": sha256(file),
            "size": file.stat().st_size,
            "source": mirror.source(line),
            "status": status,
        }

    rest = {
        "ours": ["own"],
        "skipped": [{"source": mirror.source(4), "text": "./lib", "reason": "comes from a directory"}],
    }
    planned = mirror.report(text, "--dry-run")
    files = [entry(wheel, "not-fetched", 1), entry(broken, "not-fetched", 2)]
    assert planned == {"dry_run": True, "files": files, **rest, "problems": []}

    with mirror.upstream.behaving("500", at=f"/files/{broken.name}"):
        done = mirror.report(text)
    (problem,) = done.pop("problems")
    files = [entry(wheel, "fetched", 1), entry(broken, "failed", 2)]
    assert done == {"dry_run": False, "files": files, **rest}
    assert (problem["project"], problem["source"]) == ("broken", mirror.source(2))

    assert [file["status"] for file in mirror.report(text)["files"]] == ["unchanged", "fetched"]


def test_a_bar_shows_the_progress_on_a_terminal(mirror: Mirror, dist: Path) -> None:
    files = [make_wheel(dist, "acme", "1.0"), make_sdist(dist, "acme", "1.0")]
    for file in files:
        mirror.upstream.add(file)
    terminal, inner = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "elasticpypi", *map(str, mirror.command("acme"))],
        env=bare_environment(mirror.home, {"TERM": "xterm", **mirror.environment()}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=inner,
        check=True,
        timeout=60,
    )
    os.close(inner)
    shown = b"".join(iter(lambda: read_terminal(terminal), b"")).decode()
    os.close(terminal)
    assert done.stdout.splitlines()[-1] == b"2 fetched, 0 unchanged, 0 ours already, 0 skipped, 0 problems"
    assert "2 files  [####" in shown
    assert "100%" in shown
    assert "fetching" not in shown


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where nobody writes any more
        return b""
