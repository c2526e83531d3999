"""What is written as JSON: the bytes that the standard library's encoder has always given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from elasticpypi.model import Status
from elasticpypi.simple import dump


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"b": [1, -1, None, True, False], "a": {"": ""}},
        "".join(map(chr, range(0x180))),
        "\u2028\u2029\ufffe 包裹 \U0001f4e6",
        {"status": Status.ACTIVE},
        2**63,
        2**80,
    ],
)
def test_json_is_written_as_the_standard_library_writes_it(value: Any) -> None:
    assert dump(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        dump({"reason": "\ud800"})
