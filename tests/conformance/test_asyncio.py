"""The three strategies beside their namesakes in asyncio, on the same jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import pytest

from aiosupervise import Failure, Outcome, Pending, Success, run_all

pytestmark = pytest.mark.looptime
Make: TypeAlias = Callable[[], Awaitable[object]]
When: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
NOT_DONE = "not done"


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


JOBS: dict[str, list[Make]] = {
    "one": [succeed(1)],
    "mixed order": [succeed(3), succeed(1), succeed(2)],
    "at once": [succeed(0), succeed(0), succeed(0)],
    "one fails": [succeed(2), fail(1, KeyError("k")), succeed(3)],
    "all fail": [fail(2, KeyError("k")), fail(1, OSError("o"))],
    "one cancels itself": [succeed(3), fail(1, asyncio.CancelledError()), succeed(2)],
    "one times out": [succeed(1), fail(2, TimeoutError("t")), succeed(3)],
    "one never ends": [succeed(2), succeed(1), fail(3, ValueError("v")), succeed(4)],
}
every_kind = pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)


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


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


@every_kind
async def test_gather_gives_what_asyncio_gather_gives(jobs: list[Make]) -> None:
    """The same values and exceptions in the same order after the same time."""
    theirs = await asyncio.gather(*(job() for job in jobs), return_exceptions=True)
    taken = now()
    ours = await run_all(jobs, strategy="gather")
    assert [plain(outcome) for outcome in ours] == [described(result) for result in theirs]
    assert [outcome.index for outcome in ours] == list(range(len(jobs)))
    assert ours.elapsed == taken


@every_kind
async def test_as_completed_gives_what_asyncio_as_completed_gives(jobs: list[Make]) -> None:
    """The same values and exceptions in the same order at the same moments, and with the place of each."""
    theirs: list[tuple[float, object]] = []
    for future in asyncio.as_completed([job() for job in jobs]):
        try:
            result: object = await future
        except (Exception, asyncio.CancelledError) as error:
            result = error
        theirs.append((now(), described(result)))
    start = now()
    ours: list[tuple[float, object]] = []
    places: list[int] = []
    async with run_all(jobs, strategy="as_completed") as run:
        async for outcome in run:
            ours.append((now() - start, plain(outcome)))
            places.append(outcome.index)
    assert ours == theirs
    assert sorted(places) == list(range(len(jobs)))


@every_kind
@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_wait_gives_what_asyncio_wait_gives(jobs: list[Make], when: When) -> None:
    """The same jobs done and pending after the same time; but ours are results, and nothing is left running."""
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(job()) for job in jobs]
    await asyncio.wait(tasks, return_when=when)
    taken = now()
    theirs = [result_of(task) for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ours = await run_all(jobs, strategy="wait", return_when=when)
    assert [plain(outcome) for outcome in sorted(ours, key=lambda one: one.index)] == theirs
    assert ours.elapsed == taken
    assert len(asyncio.all_tasks()) == 1


@every_kind
async def test_wait_with_a_timeout_gives_what_asyncio_wait_gives(jobs: list[Make]) -> None:
    """A timeout raises nothing: the same jobs are pending, and ours come last."""
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(job()) for job in jobs]
    await asyncio.wait(tasks, timeout=1.5)
    theirs = [result_of(task) for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ours = await run_all(jobs, strategy="wait", timeout=1.5)
    assert [plain(outcome) for outcome in sorted(ours, key=lambda one: one.index)] == theirs
    pending = [isinstance(outcome, Pending) for outcome in ours]
    assert pending == sorted(pending)


async def test_values_raise_where_gather_raises() -> None:
    """Where asyncio.gather raises the first error and runs on, values() raises all, when all have finished."""
    jobs = JOBS["all fail"]
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(job()) for job in jobs]
    with pytest.raises(OSError, match="o"):
        await asyncio.gather(*tasks)
    await asyncio.wait(tasks)
    with pytest.raises(ExceptionGroup) as caught:
        (await run_all(jobs)).values()
    assert [type(error) for error in caught.value.exceptions] == [KeyError, OSError]
