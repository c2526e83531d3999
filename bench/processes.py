"""Started servers as the kernel sees them: their processes, what they use, their end. Reads /proc, so on Linux only."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

_IDLE_SHARE = 0.02  # of a processor
_LOOK_SECONDS = 0.5


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants, the first one first."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def processor_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that these processes have used so far."""
    texts = [Path(f"/proc/{pid}/stat").read_text() for pid in pids]
    ticks = sum(sum(map(int, text.rpartition(")")[2].split()[11:13])) for text in texts)
    return ticks / os.sysconf("SC_CLK_TCK")


def status_bytes(pids: Iterable[int], field: str) -> int:
    """Return the sum of a field of /proc/<pid>/status."""
    return _sum_of_kilobytes(pids, "status", field)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes; pages that several of them share count once."""
    return _sum_of_kilobytes(pids, "smaps_rollup", "Pss")


def _sum_of_kilobytes(pids: Iterable[int], name: str, field: str) -> int:
    texts = [Path(f"/proc/{pid}/{name}").read_text() for pid in pids]
    return sum(int(match[1]) * 1024 for text in texts if (match := re.search(rf"\b{field}:\s+(\d+)", text)))


def written_bytes(pids: Iterable[int]) -> int:
    """Return the bytes on their way to a disk so far."""
    texts = [Path(f"/proc/{pid}/io").read_text() for pid in pids]
    return sum(int(match[1]) for text in texts if (match := re.search(r"\nwrite_bytes: (\d+)", text)))


def wait_until_idle(pid: int, *, seconds: float = 120) -> None:
    """Wait until a server has done what it does after its start; TimeoutError if it never has."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = processor_seconds(process_tree(pid))
        time.sleep(_LOOK_SECONDS)
        if processor_seconds(process_tree(pid)) - before <= _IDLE_SHARE * _LOOK_SECONDS:
            return
    raise TimeoutError(f"process {pid} is still busy after {seconds} seconds")


def end(pids: Iterable[int]) -> None:
    """Kill these processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """Return a port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])
