"""Runs one handler of an unpacked bundle, as Lambda's runtime does: a JSON line in for each event, one out.

Started as `python -I -S worker_main.py <directory> <handler>`, so that only the bundle can be imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


class Context:
    """What a handler is told of its invocation."""

    function_version = "$LATEST"
    memory_limit_in_mb = "1024"

    def __init__(self, request_id: str, seconds: float) -> None:
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.aws_request_id = request_id
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def record_calls(calls: list[Any]) -> None:
    """Note what AWS is asked for."""
    client_class: Any = importlib.import_module("botocore.client").BaseClient  # of the bundle
    make = client_class._make_api_call  # noqa: SLF001

    def noted(client: Any, operation: str, parameters: Any) -> Any:
        calls.append([client.meta.service_model.service_name, operation, named(parameters)])
        return make(client, operation, parameters)

    client_class._make_api_call = noted  # noqa: SLF001


def named(parameters: Any) -> dict[str, Any]:
    """Return what says which resources a call is about."""
    kept = {
        name: parameters[name]
        for name in ("Bucket", "Key", "CopySource", "TableName", "QueueUrl")
        if name in parameters
    }
    if "TransactItems" in parameters:
        kept["Actions"] = sorted({action for item in parameters["TransactItems"] for action in item})
        kept["TableName"] = next(iter(next(iter(parameters["TransactItems"])).values()))["TableName"]
    if "RequestItems" in parameters:
        kept["TableName"] = next(iter(parameters["RequestItems"]))
    return kept


def main() -> None:
    directory, name = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the function prints is its log

    def answer(document: Any) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    def failed(error: BaseException) -> dict[str, Any]:
        return {"error": {"type": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}}

    sys.path.insert(0, directory)
    calls: list[Any] = []
    try:
        module, _, attribute = name.rpartition(".")
        record_calls(calls)
        handle = getattr(importlib.import_module(module), attribute)
    except BaseException as error:  # noqa: BLE001 -- reported, as Lambda does
        answer(failed(error))
        return
    answer({"modules": sorted(sys.modules), "calls": calls})
    for line in sys.stdin:
        asked = json.loads(line)
        calls.clear()
        try:
            document = {"result": handle(asked["event"], Context(asked["request_id"], asked["seconds"]))}
        except BaseException as error:  # noqa: BLE001
            document = failed(error)
        sys.stdout.flush()
        answer({**document, "calls": calls})


if __name__ == "__main__":
    main()
