"""What a check of `elasticpypi doctor` has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found; with a remedy it is a problem."""

    check: str
    found: str
    remedy: str | None = None  # None: nothing is wrong, or no longer
    mended: str | None = None  # what `doctor --fix` has done about it
    advice: str | None = None  # what would be better, though nothing is wrong
