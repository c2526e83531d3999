"""Tasks in threads of which exactly one runs at a time, so that a list of numbers decides how they interleave.

A task runs until it calls `switching_point`; who goes on from there is decided outside of it: by the lines of a test
(`task.run_until("catalog.put")`) or by a list of choices (`run_all`). `Interleaved` makes every call to a method of
an object such a point.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import IO, Any, cast

_current = threading.local()


class _CancelledError(BaseException):
    """Ends a task that nobody will let go on; no `except Exception` catches it."""


class Task:
    """A function in a thread of its own, which runs only while somebody waits for it."""

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self.name = name
        self.at: str | None = "its start"  # the point where the task stands, None once it has come to its end
        self._function = function
        self._error: BaseException | None = None
        self._cancelled = False
        self._may_run = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<{self.name} at {self.at}>"

    def step(self) -> None:
        """Run up to the next switching point; raise what the task raises."""
        assert self.at is not None, f"{self} has ended"
        self._may_run.release()
        self._stands.acquire()
        if self._error is not None:
            raise self._error

    def run_until(self, point: str, *, time: int = 1) -> None:
        """Run until the task stands at the given point, for the given time from now on."""
        for _ in range(time):
            self.step()
            while self.at != point:
                assert self.at is not None, f"{self.name} has ended without coming to {point}"
                self.step()

    def finish(self) -> None:
        """Run to the end."""
        while self.at is not None:
            self.step()

    def cancel(self) -> None:
        """End the task where it stands."""
        if self.at is not None:
            self._cancelled = True
            self._may_run.release()
            self._thread.join()

    def stand(self, point: str) -> None:
        """Hand control back, and wait for it (called by the task itself)."""
        if not self._cancelled:
            self.at = point
            self._stands.release()
            self._may_run.acquire()
        if self._cancelled:
            raise _CancelledError

    def _run(self) -> None:
        _current.task = self
        self._may_run.acquire()
        try:
            if not self._cancelled:
                self._function()
        except _CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 (it is raised again by `step`)
            self._error = error
        self.at = None
        self._stands.release()


def switching_point(name: str) -> None:
    """Let others run, if the caller is a task."""
    task: Task | None = getattr(_current, "task", None)
    if task is not None:
        task.stand(name)


class Pace(Enum):
    """How far a task goes before the next choice."""

    STEP = auto()  # to the next switching point
    WRITE = auto()  # until it is about to write
    END = auto()


@dataclass(frozen=True, slots=True)
class Choice:
    """Who goes on, and how far."""

    task: int  # 0 is the one that ran last, the others follow in the order in which they were started
    pace: Pace


class Tasks:
    """The tasks of one test, in the order in which they were started; what has not ended with it is cancelled."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()

    def start(self, name: str, function: Callable[[], object]) -> Task:
        """Make a task that stands at its start; tasks may start others."""
        task = Task(name, function)
        self._tasks.append(task)
        return task

    def run_all(self, choices: Iterator[Choice], *, writes: Container[str]) -> None:
        """Run every task to its end, those too that are started meanwhile, as far at a time as the choices say.

        `writes` are the points that come before a write. Without a choice the running task goes on, then the oldest.
        """
        running: Task | None = None
        while unfinished := [task for task in self._tasks if task.at is not None]:
            if running is None or running.at is None:
                running = unfinished[0]
            ordered = [running, *(task for task in unfinished if task is not running)]
            choice = next(choices, Choice(0, Pace.STEP))
            running = ordered[choice.task % len(ordered)]
            running.step()
            while running.at is not None and not _is_far_enough(running.at, choice.pace, writes):
                running.step()


def _is_far_enough(point: str, pace: Pace, writes: Container[str]) -> bool:
    return pace is Pace.STEP or (pace is Pace.WRITE and point in writes)


class Interleaved:
    """Stands for an object: every call of a method, and each step of what it returns, is a switching point.

    Iterators have one before each item; context managers one before entering, one before each `read` of a stream in
    them, and one before leaving.
    """

    def __init__(self, name: str, inner: object) -> None:
        self._name = name
        self._inner = inner

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._inner, attribute)
        if not callable(value):
            return value
        point = f"{self._name}.{attribute}"

        def call(*args: object, **kwargs: object) -> object:
            switching_point(point)
            return _interleave(point, value(*args, **kwargs))

        return call


def _interleave(point: str, result: object) -> object:
    if isinstance(result, AbstractContextManager):
        return _interleave_context(point, result)
    if isinstance(result, Iterator):
        return _interleave_items(point, result)
    return result


@contextmanager
def _interleave_context(point: str, context: AbstractContextManager[object]) -> Iterator[object]:
    with context as inside:
        yield _Stream(point, inside) if hasattr(inside, "read") else Interleaved(point, inside)
        switching_point(f"{point}, leaving")


def _interleave_items(point: str, items: Iterator[object]) -> Iterator[object]:
    for item in items:
        yield item
        switching_point(f"{point}, next")


class _Stream:
    """A stream for reading, with a switching point before each read."""

    def __init__(self, point: str, inner: object) -> None:
        self._point = f"{point}, reading"
        self._inner = cast("IO[bytes]", inner)

    def read(self, size: int = -1) -> bytes:
        switching_point(self._point)
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()
