"""Which tests go to the same process when several run them: those that share what takes long to make.

A run of sls or of pip takes half a minute, which each process would need by itself. Under `--dist loadgroup` xdist is
to do this by marks, but 3.8.0 writes them where pytest 9.2 does not look; here names of tests tell.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# What a test's name is like -> its group; the first that fits. All others go one by one.
_GROUPS = (
    (r"tests/test_deploy\.py::\w+\[(.*)\]", r"packaged: \1"),
    (r"tests/test_(?:deploy|loop|loop_calls|loop_policies|loop_upstream)\.py::.*", "deployment"),
    (r"tests/test_clients_\w+\.py::\w+\[aws.*", "deployment"),
    (r"(tests/test_(?:bundle|site_serving)\.py)::.*", r"\1"),
)


def group_of(test: str) -> str:
    """Return what the names of all tests that are to run in one process have in common."""
    for pattern, group in _GROUPS:
        if found := re.fullmatch(pattern, test, re.DOTALL):
            return found.expand(group)
    return test


class Together(LoadScopeScheduling):  # type: ignore[misc]  # which has no types
    """xdist's scheduler for groups, the largest ones first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
