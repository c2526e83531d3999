"""The only Lambda function of an index of nothing but static files: it is told of objects, and called by a schedule.

Its catalog lies in the bucket with the pages: there is neither an API nor a table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.opening import open_function, open_site_keeper, open_work_queue
from elasticpypi.handler.scheduled import Scheduled
from elasticpypi.handler.trying import Context

_function = open_function(os.environ, serving=False)
_send = open_work_queue(_function, os.environ)
_site = open_site_keeper(_function, _send)
_scheduled = Scheduled(_function.index, _function.lines, site=_site, send=_send)
_batches = Batches(
    _function.index,
    _function.lines,
    bucket=_function.bucket,
    site=_site,
    long_work={"sync": _scheduled.go_on} | ({} if _site is None else {"build": _site.build}),
)


def handle(event: Mapping[str, Any] | None, context: Context) -> Mapping[str, Any] | None:
    """Do what the queue's messages or a notification of S3 ask for; any other event has it look at everything."""
    asked = event or {}
    return _batches.handle(asked, context) if "Records" in asked else _scheduled.handle(asked, context)


elasticpypi.handler.starting.end_start()
