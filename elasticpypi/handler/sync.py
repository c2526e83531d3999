"""The Lambda function that a schedule calls: it makes the catalog equal to the bucket, or only says where it is not.

What it finds, events have missed. Then it compares the static files with the catalog, if there are any.
"""

from __future__ import annotations

import os

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.opening import open_function, open_site_keeper, open_work_queue
from elasticpypi.handler.scheduled import Scheduled

_function = open_function(os.environ, serving=False)
_send = open_work_queue(_function, os.environ)
_site = open_site_keeper(_function, _send)
# Only where pages wait for its end: others may not send, and the queue's function does not scan for them.
handle = Scheduled(_function.index, _function.lines, site=_site, send=None if _site is None else _send).handle
elasticpypi.handler.starting.end_start()
