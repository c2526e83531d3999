"""How many examples a property test tries: a few in `make test`, many in `make test-heavy`.

Such a test is marked `many_examples`, so that `make test-heavy`, which sets EXAMPLES=many, runs it once more.
"""

from __future__ import annotations

import os


def examples(few: int, many: int) -> int:
    """Return one of the two numbers, as the environment says."""
    return many if os.environ.get("EXAMPLES") == "many" else few
