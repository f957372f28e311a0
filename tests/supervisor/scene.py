"""Scripted children: what each of their runs does, and a diary of starts, cancellations and ends."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from aiosupervise import Child, RestartsExceeded, Supervisor

eager_task_factory: Any = getattr(asyncio, "eager_task_factory", None)
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


class Run(NamedTuple):
    """One run of a child: its duration, and the error that ends it; None if it returns."""

    seconds: float
    error: BaseException | None = None


def fails(seconds: float = 0, error: BaseException | None = None) -> Run:
    """A run that ends with an error."""
    return Run(seconds, ValueError("broken") if error is None else error)


def returns(seconds: float = 0) -> Run:
    """A run that ends by returning."""
    return Run(seconds)


def cancels(seconds: float = 0) -> Run:
    """A run that ends with a CancelledError that the child raises by itself."""
    return Run(seconds, asyncio.CancelledError("from inside"))


class Scene:
    """Children with scripted runs, one after another; after the last one they run until they are cancelled."""

    def __init__(self) -> None:
        self.diary: list[tuple[float, str]] = []
        self.alive: list[str] = []

    def write(self, what: str) -> None:
        """Add an entry to the diary, at the current time."""
        self.diary.append((now(), what))

    def words(self) -> list[str]:
        """Return the entries of the diary, and clear it."""
        words = [what for _, what in self.diary]
        self.diary.clear()
        return words

    def times(self, what: str) -> list[float]:
        """Return the times of an entry."""
        return [when for when, what_else in self.diary if what_else == what]

    def child(self, name: str, *runs: Run, clean_up: float = 0) -> Callable[[], Coroutine[object, None, str]]:
        """Return the function of a child with these runs."""
        script = list(runs)

        async def play() -> str:
            self.write(f"{name} starts")
            self.alive.append(name)
            try:
                await self._play(name, script.pop(0) if script else None, clean_up)
            finally:
                self.alive.remove(name)
            return f"{name} has returned"

        return play

    def start(self, sup: Supervisor, name: str, *runs: Run, clean_up: float = 0, **settings: Any) -> Child:
        """Start a child with these runs."""
        return sup.start(self.child(name, *runs, clean_up=clean_up), name=name, **settings)

    async def _play(self, name: str, run: Run | None, clean_up: float) -> None:
        try:
            if run is None:
                await asyncio.Event().wait()
            elif run.seconds:
                await asyncio.sleep(run.seconds)
        except asyncio.CancelledError:
            self.write(f"{name} is cancelled")
            if clean_up:
                await asyncio.sleep(clean_up)
                self.write(f"{name} has cleaned up")
            raise
        self.write(f"{name} ends")
        if run is not None and run.error is not None:
            raise run.error


async def stubborn() -> None:
    """A child that ignores its first cancel."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


def now() -> float:
    """Return the loop's time, without the rounding errors of added floats."""
    return round(asyncio.get_running_loop().time(), 6)


def me() -> "asyncio.Task[Any]":
    """Return the task of the test."""
    task = asyncio.current_task()
    assert task is not None
    return task


async def turns(count: int = 20) -> None:
    """Let other tasks run for this many iterations of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def times_out(waiting: Awaitable[object]) -> bool:
    """Return whether an awaitable is not done after a long time; if so, cancel it."""
    try:
        async with asyncio.timeout(1000):
            await waiting
    except TimeoutError:
        return True
    return False


def reason(group: BaseExceptionGroup[BaseException]) -> RestartsExceeded:
    """Return the RestartsExceeded of a group that has no other errors."""
    [error] = group.exceptions
    assert isinstance(error, RestartsExceeded)
    return error


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that no task is left running, and that the task of the test is not cancelled."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before
    assert me().cancelling() == 0
