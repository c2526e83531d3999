"""`elasticpypi upload` in constant memory, on both sides and across broken connections."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cutting import cutting
from tests.heavy.test_large_upload import CHUNK_BYTES, LIMIT_KB, assert_memory_is_small, make_large_wheel
from tests.running import RunningServer, bare_environment

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
PAYLOAD_BYTES = 200 * CHUNK_BYTES


# Its own high-water mark: that of wait4 begins with the memory of the process that forks.
_COMMAND = """\
import atexit, pathlib
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text()))
from elasticpypi.cli.main import main
main()
"""


def upload(path: Path, url: str, home: Path) -> int:
    """Run the command and return its peak resident memory in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, "upload", path, "--url", url],
        env=bare_environment(home),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", done.stdout, re.MULTILINE)
    assert peak is not None
    return int(peak[1])


def test_hundreds_of_megabytes_go_on_in_constant_memory(server: RunningServer, tmp_path: Path) -> None:
    large = make_large_wheel(tmp_path, payload_bytes=PAYLOAD_BYTES)
    with cutting(server.port, [90 * CHUNK_BYTES, 70 * CHUNK_BYTES]) as proxy:
        url = server.url_with_credentials.replace(str(server.port), str(proxy.port))
        assert upload(large.path, url, tmp_path / "home") < LIMIT_KB
        assert sum(proxy.passed) < large.path.stat().st_size + 8 * CHUNK_BYTES
    assert_memory_is_small(server, "200 MB by elasticpypi upload, broken twice")
    assert server.listing("huge") == {large.path.name: large.sha256}
