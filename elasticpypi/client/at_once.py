"""Several things at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def run_at_once(work: Callable[[T], object], items: Iterable[T], *, threads: int) -> None:
    """Do work on each of the items, taken in their order by so many threads.

    After an error nothing more is begun, and it is raised once all have come to their end. The threads do not outlive
    the program: who presses Ctrl-C does not wait for gigabytes.
    """
    waiting = iter(items)
    turn = threading.Lock()
    errors: list[Exception] = []

    def take() -> Iterator[T]:
        while not errors:
            with turn:
                taken = list(itertools.islice(waiting, 1))
            if not taken:
                return
            yield from taken

    def run() -> None:
        try:
            for item in take():
                work(item)
        except Exception as error:  # noqa: BLE001  # raised below, where somebody is waiting
            errors.append(error)

    running = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
