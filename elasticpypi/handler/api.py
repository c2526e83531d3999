"""The Lambda function behind API Gateway. It is built when it is imported, so that a start from a snapshot has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import elasticpypi.handler.starting  # first, since it matters for the others
from elasticpypi.handler.gateway import GatewayHandler
from elasticpypi.handler.opening import open_function
from elasticpypi.index import connect_aws

# "Defined runtime environment variables" in the Lambda developer guide. A snapshot had better have everything in it;
# any other start is waited for by somebody, who most likely asks for a page.
_HAS_SNAPSHOT = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
_QUEUE = "QUEUE_URL"  # what takes longer than a request goes there, if there is one
_function = open_function(os.environ, serving=True)


def _send(work: str, request: Mapping[str, Any]) -> None:
    # Imported by the one request in thousands that needs it, which also makes its client.
    from elasticpypi.queue import send_message

    send_message(connect_aws(_function.settings), os.environ[_QUEUE], {work: request})


handle = GatewayHandler(
    _function.index,
    _function.settings,
    lines=_function.lines,
    finish_later=partial(_send, "finish") if _QUEUE in os.environ else None,
    keep_later=partial(_send, "keep") if _QUEUE in os.environ else None,
    at_once=_HAS_SNAPSHOT,
)
elasticpypi.handler.starting.end_start()
