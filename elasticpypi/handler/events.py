"""The Lambda function that keeps catalog and static files current: told of objects by the queue, or by S3 itself."""

from __future__ import annotations

import os

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.opening import open_function, open_site_keeper, open_work_queue
from elasticpypi.handler.scheduled import Scheduled

# Here and not on the first event: it is part of what Lambda prepares, or keeps as a snapshot.
_function = open_function(os.environ, serving=False)
_send = open_work_queue(_function, os.environ)
_site = open_site_keeper(_function, _send)
_scheduled = Scheduled(_function.index, _function.lines, site=_site, send=_send)
handle = Batches(
    _function.index,
    _function.lines,
    bucket=_function.bucket,
    site=_site,
    long_work={} if _site is None else {"build": _site.build, "sync": _scheduled.go_on},
).handle
elasticpypi.handler.starting.end_start()
