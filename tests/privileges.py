"""What root may do beyond others, taken away for a while, so that permissions count in a test run by root too."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_DAC = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root pass over permissions


@contextmanager
def unprivileged() -> Iterator[None]:
    """Have permissions apply to this thread, root's too (Linux, capabilities(7))."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~_DAC
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0
