"""No secret in what is logged: a pytest plugin that looks through a whole run's output, and fails it otherwise.

What a test prints and logs is looked through when it ends, and what servers and functions have written into files when
all have ended. A token that somebody asked for stands in the answer, which is no log.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_FORMS = {
    "a token": r"epypi_[0-9A-Za-z]{38}",
    "an ID token": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}",
    "a session": r"\belasticpypi=[0-9A-Za-z_.%-]{40,}",
    "a signed URL": r"(?:X-Amz-(?:Signature|Security-Token)|[?&]Signature)(?:=|%3D)[^\s&\"']{20,}",
}
_BASIC = re.compile(r"\bBasic ([A-Za-z0-9+/]{4,}={0,2})")
_NO_LOGS_BELOW = frozenset({".cache", ".venv", "code", "files", "node_modules"})  # and many files
_OTHERS_LOGS = ("moto-", "client.admin.")  # AWS sees what is signed, and so does radosgw, which is called so


def find_secrets(text: str) -> list[str]:
    """Return what a text has of secrets, by kind, each with its beginning."""
    found = [f"{kind}: {match[0][:20]}…" for kind, form in _FORMS.items() for match in re.finditer(form, text)]
    return found + [f"credentials: {match[0][:12]}…" for match in _BASIC.finditer(text) if _is_pair(match[1])]


def _is_pair(encoded: str) -> bool:
    """Whether what follows "Basic" is a username and a password, and no further word of a sentence."""
    try:
        return b":" in base64.b64decode(encoded, validate=True)
    except ValueError:
        return False


def find_in_logs(root: Path) -> list[str]:
    """Return what the logs below a directory have of secrets, each with the name of its file."""
    return [f"{log}: {secret}" for log in _logs(root) for secret in find_secrets(log.read_text(errors="replace"))]


def _logs(root: Path) -> Iterator[Path]:
    for directory, below, names in os.walk(root):
        below[:] = [name for name in below if name not in _NO_LOGS_BELOW]
        for name in names:
            if name.endswith(".log") and not name.startswith(_OTHERS_LOGS):
                yield Path(directory, name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail that has printed or logged a secret."""
    report = yield
    sections = (text for name, text in report.sections if name.endswith(call.when))  # "Captured stdout setup"
    found = [secret for text in sections for secret in find_secrets(text)]
    if found:
        report.outcome = "failed"
        report.longrepr = "\n".join(["A secret is in the output of this test:", *found, str(report.longrepr or "")])
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_secret_in_any_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look, when all tests have ended, through what lies below their directories."""
    yield
    found = find_in_logs(tmp_path_factory.getbasetemp())
    assert found == [], "a secret is in a log"
