"""A newcomer's walk from `git clone` to moving in from another index, as one script: walk.sh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dists import make_wheel
from tests.running import bare_environment, free_port

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_newcomer_gets_all_the_way(tmp_path: Path) -> None:
    for version in ("1.0", "1.1"):
        make_wheel(tmp_path / "wheels", "acme", version)
    make_wheel(tmp_path / "packages", "bolt", "2.0")
    environment = bare_environment(tmp_path / "home")
    # The clients are ours; the checkout makes an environment of its own with the machine's Python and pip's settings.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    del environment["PIP_CONFIG_FILE"]
    done = subprocess.run(
        ["bash", ROOT / "tests/heavy/walk.sh", ROOT, tmp_path / "wheels", tmp_path / "packages", str(free_port())],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("== stop")
