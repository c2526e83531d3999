"""Runs one handler of an unpacked bundle and notes what it asks of AWS: a JSON line in for each event, one out.

Started as `python -I -S aws_worker.py <directory> <handler>`, so that only the bundle can be imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


class _Context:
    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def _note_calls(calls: list[Any]) -> None:
    client_class: Any = importlib.import_module("botocore.client").BaseClient
    make = client_class._make_api_call  # noqa: SLF001 -- here are all calls, with what came back

    def noted(client: Any, operation: str, parameters: Any) -> Any:
        answer: Any = {}
        try:
            answer = make(client, operation, parameters)
            return answer
        finally:
            kept = {name: answer[name] for name in ("Item", "Items", "Responses") if name in answer}
            calls.append([client.meta.service_model.service_name, operation, parameters, kept])

    client_class._make_api_call = noted  # noqa: SLF001


def _plain(value: Any) -> Any:
    """Put in place of bytes a text of the same length, and of a stream nothing: only sizes matter."""
    return "." * len(value) if isinstance(value, bytes | bytearray) else None


def main() -> None:
    """Answer events until there are none."""
    directory, name = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the function prints is its log
    sys.path.insert(0, directory)
    calls: list[Any] = []
    module, _, attribute = name.rpartition(".")
    _note_calls(calls)
    handle = getattr(importlib.import_module(module), attribute)
    for line in sys.stdin:
        calls.clear()
        event = json.loads(line)
        began = time.perf_counter()
        result = handle(event, _Context())
        seconds = time.perf_counter() - began
        answers.write(json.dumps({"result": result, "seconds": seconds, "calls": calls}, default=_plain) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
