"""What `npx sls deploy` makes on AWS: what it is called, whether it is as it should be, and how it is mended.

The names and rules here are those of serverless.yml; tests hold the two together. Only `elasticpypi doctor` needs this.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from elasticpypi.config import Settings

DEPLOY = "`npx sls deploy`"
FIX = "`elasticpypi doctor --fix`"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a configuration names on AWS."""

    bucket: str
    table: str
    stack: str
    take_over: bool = False  # the stack makes neither bucket nor table
    profile: str | None = None  # whose credentials are used; None: those of the environment
    url: str | None = None  # where clients find the index; None: where the stack says
    is_alone: bool = False  # nothing but static files: there is neither a table nor an API

    @property
    def notification(self) -> str:
        """What the notification is called that leads to the queue; two stages may have one each on a bucket."""
        return f"elasticpypi-{self.stack}"

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
        return f"{self.stack}-site" if self.is_alone else f"{self.stack}-events"


def deployment_of(settings: Settings, *, bucket: str, table: str | None) -> Deployment:
    """Return what the settings name; without a table, an index of nothing but static files."""
    stack = f"{settings.service}-{settings.stage}"
    own = (settings.take_over, settings.profile, settings.url)
    return Deployment(bucket, table or "", stack, *own, is_alone=table is None)


def named_on_the_command_line(names: Deployment, region: str) -> str:
    """Return the options by which the `aws` command works where we do, whatever its own defaults are."""
    profile = "" if names.profile is None else f" --profile {shlex.quote(names.profile)}"
    return f" --region {region}{profile}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one look has shown; with a remedy it is a problem."""

    found: str
    remedy: str | None = None
    mend: Callable[[], str] | None = None  # what `doctor --fix` may do about it; returns a sentence about that
