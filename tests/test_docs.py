"""docs/commands.md: every command and option is in it, and every example in it runs. docs/aws.md: what is logged."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from elasticpypi.cli.main import main
from elasticpypi.config import Settings
from elasticpypi.index import open_index
from elasticpypi.upstream.fetching import Limits
from elasticpypi.upstream.source import STALE_SECONDS
from tests.dists import make_sdist, make_wheel
from tests.programs import require
from tests.running import RunningServer, bare_environment, run_command
from tests.upstreams import running_upstream

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = (DOCS / "commands.md").read_text()
ALL_PAGES = "".join(page.read_text() for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"])
EVERYWHERE = {"--help", "--data", "--json"}
PUBLISHING = (DOCS / "trusted-publishing.md").read_text()
RUNNING = (DOCS / "running.md").read_text()
AWS = (DOCS / "aws.md").read_text()
UPSTREAM = (DOCS / "upstream.md").read_text()
HANDLERS = "".join(path.read_text() for path in (DOCS.parent / "elasticpypi" / "handler").glob("*.py"))
LINES = sorted(set(re.findall(r"\.write\(\s*\"(\w+)\"", HANDLERS)))
METRICS = (
    *("Drift", "Errors", "Failed", "FailedSignIns", "Indexed", "Lag", "Rejected", "Removed", "Requests"),
    *("SiteDrift", "SiteFailed", "SiteLag", "SiteRemoved", "SiteWritten"),
)


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")
        else:
            yield prefix + name, command


def options() -> Iterator[tuple[str, str]]:
    """Yield each command with each of its options, the opposite of a flag after a bar."""
    for name, command in commands(main):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, "|".join(o for o in (*parameter.opts, *parameter.secondary_opts) if o.startswith("--"))


@pytest.mark.parametrize(("command", "option"), [pair for pair in options() if pair[1] not in EVERYWHERE])
def test_every_option_is_explained(command: str, option: str) -> None:
    assert re.search(rf"(?<![\w-])({option})(?![\w-])", ALL_PAGES), f"{command} {option}"


@pytest.mark.parametrize("command", [name for name, _ in commands(main)])
def test_every_command_is_explained(command: str) -> None:
    assert re.search(rf"elasticpypi {command}\b", ALL_PAGES)


def run_examples(page: str, server: RunningServer, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the examples of a page beside a server, with files to publish; CompletedProcess once all have succeeded."""
    work = server.data.parent
    home.mkdir(exist_ok=True)
    netrc = home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login {server.username} password {server.password}\n")
    netrc.chmod(0o600)
    for directory in ("dist", "packages"):
        make_wheel(work / directory, "acme", "1.0")
        make_sdist(work / directory, "acme", "1.0")
    script = "\n".join(blocks(page))
    # The deleted file stays away when it is imported, which is no success; so the import goes elsewhere.
    real = script.replace("import pypiserver packages --data data", "import pypiserver packages --data imported")
    real = real.replace("admin:PASSWORD@", f"{server.username}:{server.password}@")
    real, count = re.subn(r"127\.0\.0\.1:5000", f"127.0.0.1:{server.port}", real)
    assert count >= 1
    return run_script(real, work, home)


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def run_script(script: str, work: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = bare_environment(home)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.timeout(300)
def test_the_examples_run_as_they_stand_there(server: RunningServer, tmp_path: Path) -> None:
    run_examples(COMMANDS, server, tmp_path / "home")
    assert [file["filename"] for file in server.fetch("/simple/acme/").json()["files"]] == ["acme-1.0-py3-none-any.whl"]
    shown = run_command("show", "acme", "--json", "--data", server.data.parent / "elsewhere", home=tmp_path / "home")
    restored = json.loads(shown.stdout)
    assert (restored["status"], restored["status-reason"]) == ("deprecated", "use bolt")
    assert list(restored["deleted"]) == ["acme-1.0.tar.gz"]


@pytest.mark.timeout(300)
def test_the_examples_about_tokens_run_as_they_stand_there(server: RunningServer, tmp_path: Path) -> None:
    server.upload(make_wheel(tmp_path, "acme", "0.9"))
    require("curl")
    page = (DOCS / "sign-in.md").read_text().replace("pip install", f"pip install --target {tmp_path / 'installed'}")
    done = run_examples(page, server, tmp_path / "home")
    assert "Successfully installed acme-0.9" in done.stdout
    assert len(server.fetch("/simple/acme/").json()["files"]) == 3
    assert [token["name"] for token in server.fetch("/api/v1/tokens").json()["tokens"]] == ["CI of acme"]
    told = server.fetch("/api/v1/audit").json()["events"]
    deeds = [(event["action"], event["details"]["name"]) for event in told if event["action"].endswith("-token")]
    assert deeds == [("revoke-token", "nightly"), ("create-token", "nightly"), ("create-token", "CI of acme")]


def test_the_examples_about_publishers_run_as_they_stand_there(server: RunningServer, tmp_path: Path) -> None:
    done = run_script("\n".join(blocks(PUBLISHING)), server.data.parent, tmp_path / "home")
    (left,) = server.fetch("/api/v1/publishers").json()["publishers"]
    assert (left["repository"], left["projects"]) == ("acme/tools/widget", ["acme-*"])
    assert re.search(r"^removed: [0-9a-f]{8}  github:acme/widget$", done.stdout, re.MULTILINE)


@pytest.mark.timeout(300)
def test_the_examples_about_upstreams_run_as_they_stand_there(tmp_path: Path) -> None:
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    (work / "requirements.txt").write_text("requests==2.32.5\n")
    config = json.loads("{" + re.findall(r"^```json\n(.*?)^```$", UPSTREAM, re.MULTILINE | re.DOTALL)[0] + "}")
    with running_upstream() as upstream:
        upstream.add(make_wheel(tmp_path, "requests", "2.32.5"))
        config["upstreams"][0] |= {"url": upstream.url, "private": True}
        (work / "config.json").write_text(json.dumps(config))
        script = "export ELASTICPYPI_CONFIG=config.json\nmkdir data\nelasticpypi sync --data data\n"
        done = run_script(script + "\n".join(blocks(UPSTREAM)), work, home)
    assert "requests" in done.stdout
    kept = work / "data" / "files" / ".elasticpypi" / "upstream" / "requests"
    assert [path.name for path in kept.rglob("*.whl")] == ["requests-2.32.5-py3-none-any.whl"]


def test_what_is_said_of_upstreams_is_so() -> None:
    limits = Limits()
    assert f"| a page | {limits.page_seconds} seconds, {limits.page_bytes // 2**20} MiB" in UPSTREAM
    assert f"{limits.pages_at_once} at once and {limits.pages_waiting} waiting" in UPSTREAM
    assert (
        f"| a file | {limits.idle_seconds} seconds without a byte; {limits.least_rate // 1024} KiB a second" in UPSTREAM
    )
    assert f"; {limits.files_at_once} at once |" in UPSTREAM
    assert f"is not asked again for {limits.failure_seconds} seconds" in UPSTREAM
    assert STALE_SECONDS == 3 * 86_400
    assert "for three days" in UPSTREAM


def test_the_ledger_is_copied_and_put_back_as_it_stands_there(server: RunningServer, tmp_path: Path) -> None:
    work, home = server.data.parent, tmp_path / "home"
    token = run_command("token", "create", "CI", "--data", server.data, home=home).stdout.strip()
    (copying,) = [block for block in blocks(RUNNING) if "ledger" in block]
    for _ in range(2):  # over a former copy, too
        run_script(copying, work, home)
    copy = work / "ledger-copy.sqlite"
    assert copy.stat().st_mode & 0o777 == 0o600
    run_command("backup", tmp_path / "index.tar", "--data", server.data, home=home)
    other = tmp_path / "other"
    run_command("restore", tmp_path / "index.tar", "--data", other, home=home)
    with closing(open_index(Settings(), data=other)) as index:
        assert index.tokens.find(token) is None
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (other / name).unlink(missing_ok=True)
    shutil.copy(copy, other / "ledger.sqlite")
    with closing(open_index(Settings(), data=other)) as index:
        found = index.tokens.find(token)
    assert found is not None
    assert found.name == "CI"


@pytest.mark.parametrize("kind", LINES)
def test_every_line_that_a_function_writes_is_explained(kind: str) -> None:
    assert re.search(rf"^\| .*`{kind}`.* \| ", AWS, re.MULTILINE)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained(metric: str) -> None:
    assert re.search(rf"^\| .*`{metric}`.* \| ", AWS, re.MULTILINE)
