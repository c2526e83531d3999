"""The plugin that looks for secrets finds them, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.no_secrets import find_in_logs, find_secrets

TOKEN = "epypi_" + "aB3" * 12 + "xy"
ID_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9." + "aB3-_" * 10
COOKIE = "elasticpypi=" + "eyJub25jZSI6.aB-_x" * 4
SIGNED = "https://files.example.com/acme.whl?X-Amz-Date=2026&X-Amz-Signature=" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"GET /account {TOKEN}", ["a token"]),
        (f"__token__:{TOKEN}@127.0.0.1", ["a token"]),
        (f'{{"headers": "Cookie: {COOKIE}; theme=dark"}}', ["a session"]),
        ("Authorization: Basic YWRtaW46c2VjcmV0", ["credentials"]),
        (f'"Location": "{SIGNED}"', ["a signed URL"]),
        (SIGNED.replace("=", "%3D"), ["a signed URL"]),
        (f"{TOKEN} {TOKEN}", ["a token", "a token"]),
        (f"the job shows {ID_TOKEN}", ["an ID token"]),
        ("epypi_ is how a token begins, the cookie is elasticpypi=…", []),
        ('WWW-Authenticate: Basic realm="elasticpypi", Basic authentication, Basic auth', []),
        ("token 0123456789abcdef by alice, elasticpypi=0.1.0", []),
    ],
)
def test_secrets_are_told_from_what_is_like_them(text: str, kinds: list[str]) -> None:
    found = find_secrets(text)
    assert [secret.partition(":")[0] for secret in found] == kinds
    assert not any(secret in "".join(found) for secret in (TOKEN, COOKIE, SIGNED))


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that is not looked through when this run ends."""
    with TemporaryDirectory() as directory:
        yield Path(directory)


def test_logs_are_looked_through_but_for_those_of_others(elsewhere: Path) -> None:
    for name in (
        "home/server-5000.log",
        "moto-5001.log",
        "radosgw0/client.admin.log",
        "home/credentials.json",
        "data/files/readme.log",
    ):
        path = elsewhere / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"2026-11-22 {TOKEN}\n")
    assert find_in_logs(elsewhere) == [f"{elsewhere}/home/server-5000.log: a token: {TOKEN[:20]}…"]


RUN = f"""
import logging, sys

def test_says_nothing(tmp_path):
    print("token 0123456789abcdef")

def test_prints():
    print("{COOKIE}")

def test_logs():
    logging.getLogger("any").warning("Authorization: %s", "Basic YWRtaW46c2VjcmV0")

def test_leaves_a_log(tmp_path):
    (tmp_path / "server-5000.log").write_text("{TOKEN}")
"""


def test_a_run_whose_output_has_a_secret_fails(elsewhere: Path) -> None:
    (elsewhere / "test_it.py").write_text(RUN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_secrets", "-rA", "--basetemp=runs", "test_it.py"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = re.findall(r"^(PASSED|FAILED) test_it\.py::(\w+)", done.stdout, re.MULTILINE)
    assert {name: outcome for outcome, name in summary} == {
        "test_says_nothing": "PASSED",
        "test_prints": "FAILED",
        "test_logs": "FAILED",
        "test_leaves_a_log": "PASSED",  # the logs are looked through after the last test
    }, done.stdout
    assert "2 failed, 2 passed, 1 error" in done.stdout
