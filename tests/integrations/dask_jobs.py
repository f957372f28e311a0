"""What the tests let workers do: importable there, as a user's module would be."""

import asyncio
import contextlib
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator, Iterator

from aiosupervise import Backoff, supervise


class BusyError(Exception):
    """What a service says."""


class StubbornError(Exception):
    """Comes out of no pickle: it wants two arguments."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)
        self.two = two


class UntoldError(Exception):
    """Goes into no pickle, and cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("no pickle")


class Changeling:
    """Goes into a pickle and comes out as something else, or not at all."""

    def __init__(self, into: object) -> None:
        self.into = into

    def __reduce__(self) -> tuple[object, ...]:
        return (pickle.loads, (b"",)) if self.into is None else (type(self.into), (self.into,))


class FickleError(Exception):
    """An exception that comes out of a pickle as a str."""

    def __reduce__(self) -> tuple[object, ...]:
        return str, ("no error",)


async def double(n: int) -> int:
    """Succeed at once."""
    return 2 * n


async def odd_fails(n: int) -> int:
    """Fail for every other input, after a moment."""
    await asyncio.sleep(0.001)
    if n % 2:
        raise BusyError(n)
    return n


async def only_one_fails(n: int) -> None:
    """Fail for input 1, after a moment, and never end for the others."""
    await asyncio.sleep(0.001 if n == 1 else 3600)
    raise BusyError(n)


@supervise(retry_on=BusyError, max_retries=2, backoff=Backoff(base=0.001))
async def always_busy(n: int) -> None:
    """Use up its retries."""
    raise BusyError(n)


async def nap(seconds: float) -> float:
    """Sleep so long."""
    await asyncio.sleep(seconds)
    return seconds


async def never(n: int) -> None:
    """Never end by itself."""
    await asyncio.sleep(3600 + n)


async def cancels_itself(n: int) -> None:
    """Raise what a cancelled task raises."""
    raise asyncio.CancelledError(n)


async def trouble(kind: str) -> object:
    """Raise or return what travels badly."""
    match kind:
        case "error that cannot be unpickled":
            raise StubbornError(1, 2)
        case "error that cannot be pickled":
            raise UntoldError
        case "error that becomes something else":
            raise FickleError
        case "result that cannot be pickled":
            return asyncio.get_running_loop()
        case "result that cannot be unpickled":
            return Changeling(None)
        case _:
            return kind


async def die(path: str) -> str:
    """Kill the worker, each time or only as long as the file is there, which it removes first."""
    if path:
        await asyncio.sleep(0.3)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - quick
            os.kill(os.getpid(), signal.SIGKILL)
    return path


async def die_of(n: int) -> int:
    """Kill the worker for one input."""
    if n == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.001)
    return n


async def process(seconds: float) -> int:
    """Tell in which process it ran."""
    await asyncio.sleep(seconds)
    return os.getpid()


def endless() -> Iterator[int]:
    """Count for ever."""
    n = 0
    while True:
        yield n
        n += 1


async def endless_async(closed: list[str]) -> AsyncIterator[int]:
    """Count for ever, and note that it was closed."""
    try:
        for n in endless():
            yield n
    finally:
        closed.append("closed")


def left_over() -> list[str]:
    """Name the tasks of a run that a worker has."""
    tasks = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in tasks if any(word in name for word in ("never", "nap", "on a worker", "pump"))]


async def lingers(seconds: float) -> None:
    """Take a while to be cancelled."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(seconds)


async def blocks(seconds: float) -> float:
    """Stop the loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - the mistake
    return seconds


async def leave(n: int) -> int:
    """End the process, in the way of a program."""
    if n == 1:
        raise SystemExit(3)
    return n


@supervise(retry_on=BusyError, max_retries=None, backoff=Backoff(base=0.001))
async def hopeless(n: int) -> None:
    """Retry for ever."""
    raise BusyError(n)


gate: list[asyncio.Event] = []  # shared with the tests by a cluster of their own process
cleaned: list[int] = []


async def waits_for_two(n: int) -> int:
    """Wait, for input 0, until input 2 was there."""
    if n == 2:
        gate[0].set()
    elif n == 0:
        await gate[0].wait()
    return n


async def cleans_up(n: int) -> None:
    """Take a moment to be cancelled, and note that it came to its end; input 4 tells that all have begun."""
    if n == 4:
        gate[0].set()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.05)
        cleaned.append(n)


async def size(text: bytes) -> int:
    """Tell how long it is."""
    return len(text)
