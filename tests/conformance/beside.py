"""Jobs to be run by asyncio's functions and by ours, and what to compare afterwards."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Literal, TypeAlias

from aiosupervise import Failure, Outcome, Success, run_all

Make: TypeAlias = Callable[[], Awaitable[object]]
When: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
Strategy: TypeAlias = Literal["gather", "as_completed", "wait"]
NOT_DONE = "not done"


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def me() -> asyncio.Task[Any]:
    """The task of the test."""
    task = asyncio.current_task()
    assert task is not None
    return task


def succeed(seconds: float) -> Make:
    """A job that returns its seconds."""

    async def job() -> float:
        await asyncio.sleep(seconds)
        return seconds

    return job


def fail(seconds: float, error: BaseException) -> Make:
    """A job that raises."""

    async def job() -> None:
        await asyncio.sleep(seconds)
        raise error

    return job


class Cleaners:
    """Jobs that take ten seconds and clean up for one when they are cancelled, and record how each ended."""

    def __init__(self, number: int = 3) -> None:
        self.begun = now()
        self.finished: list[int] = []
        self.cancels: Counter[int] = Counter()
        self.cleaned: list[int] = []
        self.makes = [self._make(index) for index in range(number)]

    def _make(self, index: int) -> Make:
        async def job() -> None:
            try:
                await asyncio.sleep(10)
                self.finished.append(index)
            except asyncio.CancelledError:
                self.cancels[index] += 1
                await self._clean_up(index)
                raise

        return job

    async def _clean_up(self, index: int) -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cancels[index] += 1
            raise
        self.cleaned.append(index)


class Ordered:
    """An awaitable with a hash that says where a set puts it."""

    def __init__(self, place: int, started: list[int]) -> None:
        self.place = place
        self.started = started

    def __hash__(self) -> int:
        return self.place

    def __await__(self) -> Generator[None, None, None]:
        self.started.append(self.place)
        yield


async def theirs(strategy: Strategy, makes: Iterable[Make]) -> None:
    """Run the jobs as one would with asyncio."""
    if strategy == "gather":
        await asyncio.gather(*(make() for make in makes))
    elif strategy == "as_completed":
        for future in asyncio.as_completed([make() for make in makes]):
            await future
    else:
        await asyncio.wait([asyncio.ensure_future(make()) for make in makes])


async def ours(strategy: Strategy, makes: Iterable[Make]) -> None:
    """Run the jobs as one would with aiosupervise."""
    (await run_all(makes, strategy=strategy)).values()


async def sweep_up() -> None:
    """Cancel and await all tasks that were left running."""
    rest = asyncio.all_tasks() - {me()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def plain(outcome: Outcome[object]) -> object:
    """What asyncio would have given for an outcome: a value or an exception."""
    if isinstance(outcome, Success):
        return outcome.value
    if isinstance(outcome, Failure):
        return described(outcome.error)
    return NOT_DONE


def described(result: object) -> object:
    """An exception as something that can be compared."""
    return (type(result), str(result)) if isinstance(result, BaseException) else result


def result_of(task: "asyncio.Task[object]") -> object:
    """What a task of asyncio.wait has come to."""
    if not task.done():
        return NOT_DONE
    if task.cancelled():
        return (asyncio.CancelledError, "")
    return described(task.exception() or task.result())


async def read(futures: Iterable[Awaitable[object]]) -> list[object]:
    """Read what as_completed gives."""
    return [await future for future in futures]


async def result_of_each(futures: Iterable[Awaitable[object]]) -> list[tuple[float, object]]:
    """What a loop over asyncio.as_completed sees, and after how many seconds."""
    start = now()
    seen: list[tuple[float, object]] = []
    for future in futures:
        try:
            result = await future
        except (Exception, asyncio.CancelledError, GeneratorExit) as error:
            result = error
        seen.append((now() - start, described(result)))
    return seen
