"""Waiting for a file ends where too little of it comes, and what is done with it meanwhile does not count."""

from __future__ import annotations

import time

import pytest

from elasticpypi.upstream.patience import Deadline, Flow

MIB = 1024 * 1024


def flow() -> Flow:
    return Flow(idle_seconds=20, grace_seconds=60, least_rate=16 * 1024)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ([], 20),
        ([(1, 19)] * 2, 20),
        ([(1, 19)] * 3, 3),  # of the 60 seconds
        ([(MIB, 19)] * 3, 20),
        ([(MIB, 19)] * 10, 20),  # 10 MiB may have taken 640 seconds
        ([(MIB, 60)] * 10, 20),
        ([(MIB, 63)] * 10, 10),
    ],
)
def test_the_next_wait_is_as_long_as_the_rate_allows(heard: list[tuple[int, float]], expected: float) -> None:
    patience = flow()
    for size, seconds in heard:
        patience.heard(size, seconds)
    assert patience.rest() == expected


def test_a_file_that_comes_too_slowly_is_not_waited_for() -> None:
    patience = flow()
    patience.heard(1000, 19)
    assert patience.complaint == "has sent nothing of a file for 20 seconds"
    for _ in range(3):
        patience.heard(1000, 19)
    with pytest.raises(TimeoutError, match="sends a file at less than 16 KiB a second"):
        patience.rest()


def test_a_file_has_no_time_beyond_what_is_left_for_it() -> None:
    now = time.monotonic()
    patience = Flow(idle_seconds=20, grace_seconds=60, least_rate=16 * 1024, until=now + 10)
    assert 0 < patience.rest() <= 10
    assert Flow(idle_seconds=20, grace_seconds=60, least_rate=16 * 1024, until=now + 100).rest() == 20
    over = Flow(idle_seconds=20, grace_seconds=60, least_rate=16 * 1024, until=now)
    with pytest.raises(TimeoutError, match="has not sent all of it in time"):
        over.rest()


def test_a_deadline_may_end_before_its_time() -> None:
    now = time.monotonic()
    assert 0 < Deadline(20, until=now + 10).rest() <= 10
    assert 0 < Deadline(20, until=now + 100).rest() <= 20
    with pytest.raises(TimeoutError, match="has not sent all of it in time"):
        Deadline(20, until=now).rest()


def test_a_deadline_ends_whatever_has_come() -> None:
    patience = Deadline(0)
    patience.heard(MIB, 0)
    with pytest.raises(TimeoutError, match="does not answer within 0 seconds"):
        patience.rest()
