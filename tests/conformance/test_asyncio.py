"""The three strategies beside their namesakes in asyncio, on the same jobs."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import pytest

from aiosupervise import Pending, run_all

from .beside import (
    Make,
    Strategy,
    When,
    described,
    fail,
    now,
    plain,
    result_of,
    result_of_each,
    succeed,
    sweep_up,
)

pytestmark = pytest.mark.looptime
COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


async def raise_at_once(error: BaseException) -> None:
    """A job that raises in its first step."""
    raise error


JOBS: dict[str, list[Make]] = {
    "one": [succeed(1)],
    "mixed order": [succeed(3), succeed(1), succeed(2)],
    "at once": [succeed(0), succeed(0), succeed(0)],
    "one fails": [succeed(2), fail(1, KeyError("k")), succeed(3)],
    "all fail": [fail(2, KeyError("k")), fail(1, OSError("o"))],
    "one cancels itself": [succeed(3), fail(1, asyncio.CancelledError()), succeed(2)],
    "one times out": [succeed(1), fail(2, TimeoutError("t")), succeed(3)],
    "one fails late": [succeed(2), succeed(1), fail(3, ValueError("v")), succeed(4)],
    "one stops an iteration": [succeed(2), fail(1, StopIteration(7)), succeed(3)],
    "one stops an async iteration": [succeed(2), fail(1, StopAsyncIteration(7)), succeed(3)],
    "one is thrown away": [succeed(2), fail(1, GeneratorExit("g")), succeed(3)],
    "one raises a group": [succeed(2), fail(1, ExceptionGroup("g", [OSError()])), succeed(3)],
    "one fails at once": [succeed(2), lambda: raise_at_once(StopIteration(7)), succeed(1)],
}
every_kind = pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)


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
    """The same values and exceptions in the same order at the same moments, and with the index of each."""
    theirs = await result_of_each(asyncio.as_completed([job() for job in jobs]))
    start = now()
    ours: list[tuple[float, object]] = []
    indexes: list[int] = []
    async with run_all(jobs, strategy="as_completed") as run:
        async for outcome in run:
            ours.append((now() - start, plain(outcome)))
            indexes.append(outcome.index)
    assert ours == theirs
    assert sorted(indexes) == list(range(len(jobs)))


@every_kind
@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_wait_gives_what_asyncio_wait_gives(jobs: list[Make], when: When) -> None:
    """The same jobs done and pending after the same time; but ours are results, and nothing is left running."""
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(job()) for job in jobs]
    await asyncio.wait(tasks, return_when=when)
    taken = now()
    theirs = [result_of(task) for task in tasks]
    await sweep_up()
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
    await sweep_up()
    ours = await run_all(jobs, strategy="wait", timeout=1.5)
    assert [plain(outcome) for outcome in sorted(ours, key=lambda one: one.index)] == theirs
    pending = [isinstance(outcome, Pending) for outcome in ours]
    assert pending == sorted(pending)


from_3_12 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before 3.12 asyncio takes a generator for a coroutine"
)


@pytest.mark.parametrize(
    "collect", [list, set, iter, pytest.param(lambda jobs: (job for job in jobs), id="generator", marks=from_3_12)]
)
async def test_the_same_sources_feed_both(collect: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
    """Coroutines in a list, a set, an iterator or a generator do for asyncio and for ours."""
    makes = [succeed(2), succeed(1)]
    first = [await future for future in asyncio.as_completed(collect([make() for make in makes]))]
    report = await run_all(collect([make() for make in makes]), strategy="as_completed")
    assert report.values() == first == [1, 2]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="as_completed can be read with `async for` since Python 3.13")
async def test_both_can_be_read_with_async_for() -> None:
    """An `async for` gives the same results in the same order."""
    makes = [succeed(2), succeed(1)]
    futures: Any = asyncio.as_completed([make() for make in makes])
    first = [await future async for future in futures]
    async with run_all(makes, strategy="as_completed") as run:
        seen = [plain(outcome) async for outcome in run]
    assert seen == first == [1, 2]


async def test_each_job_has_a_context_of_its_own() -> None:
    """What a job sets no other job sees, and what the caller has set all see, with gather and with ours."""

    async def paint(colour: str) -> str:
        before = COLOUR.get()
        COLOUR.set(colour)
        await asyncio.sleep(1)
        return f"{before} {COLOUR.get()}"

    COLOUR.set("blue")
    seen = list(await asyncio.gather(paint("red"), paint("green")))
    assert (await run_all([paint("red"), paint("green")])).values() == seen == ["blue red", "blue green"]
    assert COLOUR.get() == "blue"


async def test_the_same_task_given_twice_counts_twice_as_for_gather() -> None:
    """A task or future that comes twice gives its result at both positions."""
    task = asyncio.ensure_future(succeed(1)())
    both = list(await asyncio.gather(task, task))
    other = asyncio.ensure_future(succeed(1)())
    assert (await run_all([other, other])).values() == both == [1, 1]


@pytest.mark.parametrize("strategy", ["gather", "as_completed"])
async def test_nothing_to_do_gives_nothing(strategy: Strategy) -> None:
    """Without jobs gather gives an empty list, as_completed nothing, and ours an empty report."""
    assert await asyncio.gather() == list(asyncio.as_completed([])) == []
    assert list(await run_all([], strategy=strategy)) == []
