"""The Lambda function that keeps the catalog current: told of objects by the queue, or by S3 itself."""

from __future__ import annotations

import os

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.opening import open_function

# Here and not on the first event: it is part of what Lambda prepares, or keeps as a snapshot.
_function = open_function(os.environ, serving=False)
handle = Batches(_function.index, _function.lines, bucket=_function.bucket).handle
elasticpypi.handler.starting.end_start()
