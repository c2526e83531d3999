"""The README: every command and example in it works, and nothing that it should name is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from elasticpypi.archives.source import MAX_RATIO, MAX_ZIP_MEMBERS
from elasticpypi.model import parse_decisions
from elasticpypi.names import MAX_NAME
from elasticpypi.web.files import DOWNLOADS
from tests.dists import make_sdist, make_wheel
from tests.running import RunningServer, bare_environment, free_port, wait_for

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_screen_shows_both_commands() -> None:
    first_screen = README.splitlines()[:12]
    assert any(line.startswith("make serve") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


@pytest.mark.timeout(300)
def test_the_commands_run_as_they_stand_there(server: RunningServer, tmp_path: Path) -> None:
    work = server.data.parent  # so that `data` is the directory of the running server
    make_wheel(work / "dist", "acme", "1.0")
    make_sdist(work / "dist", "acme", "1.0")
    script = "\n".join(block for block in blocks("sh") if "make serve" not in block)
    real = f"export INDEX={server.url_with_credentials}"
    script, replaced = re.subn(r"^export INDEX=.*$", real, script, flags=re.MULTILINE)
    assert replaced == 1
    # uv wants a virtual environment to install into
    environment = bare_environment(tmp_path / "home", {"VIRTUAL_ENV": str(work / "venv")})
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], env=environment, check=True)
    environment["PATH"] = f"{work / 'venv' / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
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
    assert "Successfully installed acme-1.0" in done.stdout
    assert sorted(path.name for path in (work / "data" / "files").glob("acme-*")) == [
        "acme-1.0-py3-none-any.whl",
        "acme-1.0.tar.gz",
    ]


def test_make_serve_serves(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = bare_environment(tmp_path / "home")
    command = ["make", "--no-print-directory", "serve", f"PORT={port}", f"DATA={tmp_path / 'data'}"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: _answers(port))
    finally:
        process.terminate()
        process.wait(60)
    assert f"serves http://127.0.0.1:{port}/simple/" in log.read_text()
    commands = [line.split("http")[0] for line in log.read_text().splitlines() if line.endswith(("PROJECT", "dist/*"))]
    assert len(commands) == 3
    assert [command for command in commands if command not in README] == []


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("block", blocks("json"))
def test_the_decisions_are_valid(block: str) -> None:
    assert parse_decisions(block.encode()).yanked == json.loads(block)["yanked"]


@pytest.mark.parametrize("limit", [MAX_ZIP_MEMBERS, MAX_NAME, DOWNLOADS, MAX_RATIO])
def test_the_limits_are_those_of_the_code(limit: int) -> None:
    limits = README.partition("## Limits")[2].partition("## How")[0]
    assert re.search(rf"\b{limit:,}\b", limits)


def test_every_linked_page_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    missing = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert missing == []
