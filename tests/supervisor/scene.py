"""Scripted children: what each of their lives does, and a diary of when it began and how it ended."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from aiosupervise import Child, RestartsExceeded, Supervisor

eager_task_factory: Any = getattr(asyncio, "eager_task_factory", None)
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


class Life(NamedTuple):
    """One life of a child: it lasts so long, and ends by this error, or by returning."""

    seconds: float
    error: BaseException | None = None


def fails(seconds: float = 0, error: BaseException | None = None) -> Life:
    """A life that ends by an error."""
    return Life(seconds, ValueError("broken") if error is None else error)


def returns(seconds: float = 0) -> Life:
    """A life that ends by returning."""
    return Life(seconds)


def cancels(seconds: float = 0) -> Life:
    """A life that ends by a CancelledError that nobody asked for."""
    return Life(seconds, asyncio.CancelledError("from inside"))


class Scene:
    """Children that play their lives, one after the other, and then live for ever."""

    def __init__(self) -> None:
        self.diary: list[tuple[float, str]] = []
        self.alive: list[str] = []

    def write(self, what: str) -> None:
        """Note what has happened now."""
        self.diary.append((now(), what))

    def words(self) -> list[str]:
        """Return what has happened, and forget it."""
        words = [what for _, what in self.diary]
        self.diary.clear()
        return words

    def times(self, what: str) -> list[float]:
        """When this has happened."""
        return [when for when, what_else in self.diary if what_else == what]

    def child(self, name: str, *lives: Life, clean_up: float = 0) -> Callable[[], Coroutine[object, None, str]]:
        """Return the function of a child with these lives."""
        script = list(lives)

        async def play() -> str:
            self.write(f"{name} starts")
            self.alive.append(name)
            try:
                await self._live(name, script.pop(0) if script else None, clean_up)
            finally:
                self.alive.remove(name)
            return f"{name} has returned"

        return play

    def start(self, sup: Supervisor, name: str, *lives: Life, clean_up: float = 0, **settings: Any) -> Child:
        """Start a child with these lives."""
        return sup.start(self.child(name, *lives, clean_up=clean_up), name=name, **settings)

    async def _live(self, name: str, life: Life | None, clean_up: float) -> None:
        try:
            if life is None:
                await asyncio.Event().wait()
            elif life.seconds:
                await asyncio.sleep(life.seconds)
        except asyncio.CancelledError:
            self.write(f"{name} is cancelled")
            if clean_up:
                await asyncio.sleep(clean_up)
                self.write(f"{name} has cleaned up")
            raise
        self.write(f"{name} ends")
        if life is not None and life.error is not None:
            raise life.error


async def stubborn() -> None:
    """A child that ignores its first cancel."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


def now() -> float:
    """The loop's time, without the noise of adding up floats."""
    return round(asyncio.get_running_loop().time(), 6)


def me() -> "asyncio.Task[Any]":
    """The task of the test."""
    task = asyncio.current_task()
    assert task is not None
    return task


async def turns(count: int = 20) -> None:
    """Let the others have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def times_out(waiting: Awaitable[object]) -> bool:
    """Tell whether this is still waiting after a long time; it is given up then."""
    try:
        async with asyncio.timeout(1000):
            await waiting
    except TimeoutError:
        return True
    return False


def reason(group: BaseExceptionGroup[BaseException]) -> RestartsExceeded:
    """The one error of a group that says that a child was restarted too often."""
    [error] = group.exceptions
    assert isinstance(error, RestartsExceeded)
    return error


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the tasks are as before, and the task of the test uncancelled."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before
    assert me().cancelling() == 0
