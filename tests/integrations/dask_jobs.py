"""The jobs of the tests: importable on workers, as a user's module would be."""

import asyncio
import os
import pickle
import signal
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# Importing it changes how instances of all exception classes are pickled that are defined by then, through tblib. Those
# below come after it, in every process and in every order of the tests.
import distributed  # noqa: F401

from aiosupervise import Backoff, supervise


class BusyError(Exception):
    """The error of a service."""


class StubbornError(Exception):
    """Cannot be unpickled: it needs two arguments."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)
        self.two = two


class UnprintableError(Exception):
    """Can neither be pickled nor printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("no pickle")


class Changeling:
    """Is unpickled as something else, or not at all."""

    def __init__(self, into: object) -> None:
        self.into = into

    def __reduce__(self) -> tuple[object, ...]:
        return (pickle.loads, (b"",)) if self.into is None else (type(self.into), (self.into,))


class FickleError(Exception):
    """An exception that is unpickled as a str."""

    def __reduce__(self) -> tuple[object, ...]:
        return str, ("no error",)


class Exiting:
    """Raises, whenever it is pickled or unpickled, an exception that is no Exception."""

    def __init__(self, kind: type[BaseException], *, when: str = "unpickled") -> None:
        self.kind = kind
        self.when = when

    def __reduce__(self) -> tuple[object, ...]:
        if self.when == "pickled":
            raise self.kind
        return _exit, (self.kind,)


def _exit(kind: type[BaseException]) -> None:
    raise kind


class ExitingError(Exception):
    """Exits wherever something is read of it."""

    def __str__(self) -> str:
        raise SystemExit

    def __reduce__(self) -> tuple[object, ...]:
        raise SystemExit

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # that is the point
        raise SystemExit


class Interrupted:
    """Stands for a value whose unpickling a signal interrupts: it raises each of `signals` once, then it arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        return _arrive, ()


def _arrive() -> str:
    if signals:
        raise signals.pop()
    return "arrived"


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
    if n != 1:
        await asyncio.Event().wait()
    await asyncio.sleep(0.001)
    raise BusyError(n)


@supervise(retry_on=BusyError, max_retries=2, backoff=Backoff(base=0.001))
async def always_busy(n: int) -> None:
    """Use up its retries."""
    raise BusyError(n)


async def never(_: int) -> None:
    """Never end by itself."""
    await asyncio.Event().wait()


async def cancels_itself(n: int) -> None:
    """Raise the error of a cancelled task."""
    raise asyncio.CancelledError(n)


async def hard_to_send(kind: str) -> object:
    """Raise or return an object that cannot be sent as it is."""
    match kind:
        case "error that cannot be unpickled":
            raise StubbornError(1, 2)
        case "error that cannot be pickled":
            raise UnprintableError
        case "error that becomes something else":
            raise FickleError
        case "result that cannot be pickled":
            return asyncio.get_running_loop()
        case "result that cannot be unpickled":
            return Changeling(None)
        case _:
            return kind


async def exiting(given: object) -> object:
    """Return, for the name of an exception, an object that raises it when it is unpickled; else return the input."""
    match given:
        case type():
            return Exiting(given)
        case "result":
            return Exiting(SystemExit, when="pickled")
        case "error":
            raise ExitingError
        case _:
            return given


async def interrupted(n: int) -> object:
    """Return, for input 0, a value whose unpickling a signal interrupts; never end for the others."""
    begun.append(n)
    if n == 0:
        await events["open"].wait()
        return Interrupted()
    await asyncio.Event().wait()
    return n


# Files are events that every process can set and wait for.

_PERIOD = 0.005  # seconds between two checks


async def waits_for(path: str) -> str:
    """Wait until there is a file at this path; return at once for an empty path."""
    while path and not _is_there(path):  # noqa: ASYNC110 - of another process
        await asyncio.sleep(_PERIOD)
    return path


def _is_there(path: str) -> bool:
    return Path(path).exists()


def _note(path: str) -> bool:
    """Make a file, and return whether it was not there."""
    was_there = _is_there(path)
    Path(path).touch()
    return not was_there


async def first_returns(index: int) -> int:
    """Return at once for input 1, and never end for the others."""
    if index != 1:
        await asyncio.Event().wait()
    return index


async def blocks(path: str) -> str:
    """Block the loop until there is a file at this path, and make another file when it begins."""
    if path:
        _note(f"{path}.begun")
        while not _is_there(path):
            time.sleep(_PERIOD)  # noqa: ASYNC251 - the mistake
    return path


async def dies(path: str) -> str:
    """Kill the worker as soon as there is a file at this path, at every try."""
    if await waits_for(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return path


async def dies_once(path: str) -> str:
    """Kill the worker as soon as there is a file at this path, but only once."""
    if await waits_for(path) and _note(f"{path}.died"):
        os.kill(os.getpid(), signal.SIGKILL)
    return path


async def meet(folder: str) -> int:
    """Wait until jobs run in two processes; return the id of this one."""
    _note(f"{folder}/{os.getpid()}")
    while len(os.listdir(folder)) < 2:  # noqa: ASYNC110, PTH208 - of another process
        await asyncio.sleep(_PERIOD)
    return os.getpid()


_neighbours = 0


async def counts_neighbours(path: str) -> int:
    """Wait for a file; return how many of these jobs ran at once in its process when it began."""
    global _neighbours  # noqa: PLW0603 - of this process
    _neighbours += 1
    seen = _neighbours
    await waits_for(path)
    _neighbours -= 1
    return seen


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
    """Return the names of the tasks of a run that a worker has."""
    tasks = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in tasks if any(word in name for word in ("never", "gate", "on a worker", "pump"))]


async def leave(n: int) -> int:
    """End the process, in the way of a program."""
    if n == 1:
        raise SystemExit(3)
    return n


@supervise(retry_on=BusyError, max_retries=None, backoff=Backoff(base=0.001))
async def hopeless(n: int) -> None:
    """Retry for ever."""
    raise BusyError(n)


# Shared with the tests by a cluster that is in their own process.

events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
begun: list[object] = []  # the inputs of jobs that have started
cleaning: list[object] = []  # of those that have been cancelled
cleaned: list[object] = []  # and of those that have cleaned up after that
released = threading.Event()
signals: list[BaseException] = []  # what interrupts the unpickling of values


def forget_all() -> None:
    """Prepare for another test."""
    events.clear()
    for noted in begun, cleaning, cleaned:
        noted.clear()
    signals.clear()
    released.clear()


async def gate(value: float) -> float:
    """Note that it has begun, and return its input when the event "open" is set."""
    begun.append(value)
    await events["open"].wait()
    return value


async def gate_for_all_but_0(n: int) -> int:
    """Return at once for input 0; wait at the gate for the others."""
    return n if n == 0 else int(await gate(n))


async def cleans_up(n: int) -> None:
    """Never end by itself; when cancelled, clean up until the event "clean" is set."""
    begun.append(n)
    try:
        await asyncio.Event().wait()
    finally:
        cleaning.append(n)
        await events["clean"].wait()
        cleaned.append(n)


async def waits_for_two(n: int) -> int:
    """Wait, for input 0, until input 2 was there."""
    if n == 2:
        events["two"].set()
    elif n == 0:
        await events["two"].wait()
    return n


def holds_its_thread() -> None:
    """Keep a thread of the worker busy until it is released: a task of someone else."""
    begun.append("other")
    released.wait()


async def size(text: bytes) -> int:
    """Return its length."""
    return len(text)
