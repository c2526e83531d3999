"""A token that is revoked is of no use after the stated time, whichever of several processes is asked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from elasticpypi.auth import TOKEN_SECONDS
from tests.running import RunningServer, serving

pytestmark = pytest.mark.heavy
WORKERS = 3
_REQUESTS = 20 * WORKERS  # each on a connection of its own, so that no process is left out
_LEEWAY_SECONDS = 3.0


def ask(server: RunningServer, token: str) -> int:
    """Return the status of the list of projects."""
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Connection": "close"}
        return session.get(f"{server.url}/simple/", auth=("__token__", token), headers=headers, timeout=60).status_code


def test_no_process_takes_it_any_more(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", str(WORKERS), home=tmp_path / "home") as server:
        auth = (server.username, server.password)
        tokens = f"{server.url}/api/v1/tokens"
        made = requests.post(tokens, json={"name": "CI", "permission": "read"}, auth=auth, timeout=60).json()
        assert {ask(server, made["token"]) for _ in range(_REQUESTS)} == {200}
        answer = requests.delete(f"{tokens}/{made['id']}", auth=auth, timeout=60)
        revoked = time.monotonic()
        assert answer.status_code == 200, answer.text
        seen = []
        while (begun := time.monotonic()) < revoked + TOKEN_SECONDS + _LEEWAY_SECONDS:
            seen.append((begun - revoked, ask(server, made["token"])))
        assert {status for _, status in seen} <= {200, 401}
        after = [status for seconds, status in seen if seconds > TOKEN_SECONDS]
        assert len(after) >= _REQUESTS
        assert set(after) == {401}
