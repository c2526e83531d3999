"""The Lambda function that a schedule calls: it makes the catalog equal to the bucket, or only says where it is not.

What it finds, events have missed.
"""

from __future__ import annotations

import os

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.opening import open_function
from elasticpypi.handler.scheduled import Scheduled

_function = open_function(os.environ, serving=False)
handle = Scheduled(_function.index, _function.lines).handle
elasticpypi.handler.starting.end_start()
