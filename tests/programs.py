"""Programs that a test needs and that pip cannot install; `make test` installs them where it may."""

from __future__ import annotations

import os
import shutil

import pytest


def require(program: str) -> str:
    """Return where a program lies; without it the test is skipped, or fails where CI=true says that nothing may be."""
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if found is not None:
        return found
    reason = f"{program} is not installed; `make test` run by root on Debian or Ubuntu installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
