"""What `npx sls deploy` makes on AWS: what it is called, whether it is as it should be, and how it is mended.

The names and rules here are those of serverless.yml; tests hold the two together. Only `elasticpypi doctor` needs this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from elasticpypi.config import Settings

NOTIFICATION_ID = "elasticpypi"
DEPLOY = "`npx sls deploy`"
FIX = "`elasticpypi doctor --fix`"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a configuration names on AWS."""

    bucket: str
    table: str
    stack: str

    @property
    def queue(self) -> str:
        """The queue that the bucket tells of its objects."""
        return f"{self.stack}-events"

    @property
    def dead_letter_queue(self) -> str:
        """Where messages go that failed again and again."""
        return f"{self.stack}-events-dead"

    @property
    def indexer(self) -> str:
        """The function that reads the queue."""
        return f"{self.stack}-events"


def deployment_of(settings: Settings, *, bucket: str, table: str) -> Deployment:
    """Return what the settings name."""
    return Deployment(bucket, table, f"{settings.service}-{settings.stage}")


@dataclass(frozen=True, slots=True)
class Result:
    """What one look has shown; with a remedy it is a problem."""

    found: str
    remedy: str | None = None
    mend: Callable[[], str] | None = None  # what `doctor --fix` may do about it; returns a sentence about that
