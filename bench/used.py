"""What a command uses: processor, time and memory, as the kernel counts them for a process and those it has waited for.

A process begins with the memory of the one that starts it, as far as its highest mark goes. So a small one starts it:
this file, as a program of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Used(NamedTuple):
    """What one run has used."""

    processor: float  # seconds, user and system
    wall: float  # seconds
    memory: int  # bytes at most, of the largest process


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Used:
    """Run a command to its end; RuntimeError with what it has said where it fails."""
    launcher = [sys.executable, "-I", "-S", __file__, *command]
    done = subprocess.run(launcher, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2_000:]}")
    return Used(*json.loads(done.stdout))


def _launch(command: list[str]) -> None:
    """Run a command whose output is thrown away, and print what it has used; end as it has ended."""
    began = time.perf_counter()
    quiet = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[quiet])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status:
        sys.exit(1)
    print(json.dumps([usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024]))


if __name__ == "__main__":
    _launch(sys.argv[1:])
