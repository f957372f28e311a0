"""What a run keeps, and for how long."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from aiosupervise import map_all, run_all, supervise


class Big:
    """A value whose end can be seen."""


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """What only the collector could free at the end of the test."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    found: list[Any] = []
    try:
        yield found
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


@supervise(retry_on=ConnectionError, max_retries=1, backoff=[0])
async def call(number: int) -> int:
    """A job that succeeds, or fails in one of several ways."""
    await asyncio.sleep(0)
    if number % 4 == 1:
        raise ConnectionError
    if number % 4 == 2:
        raise ValueError(number)
    if number % 4 == 3:
        raise asyncio.CancelledError
    return number


async def awaited(strategy: Any) -> None:
    """A batch with failures."""
    report = await map_all(call, range(40), strategy=strategy, limit=4)
    assert report.tally.failed == 30


async def streamed(strategy: Any) -> None:
    """The same, read one by one."""
    async with map_all(call, range(40), strategy=strategy, limit=4) as run:
        async for _ in run:
            pass


async def left_early(strategy: Any) -> None:
    """The same, left early."""
    async with map_all(call, range(40), strategy=strategy, limit=4) as run:
        async for _ in run:
            break


async def timed_out(strategy: Any) -> None:
    """The same, ended by its timeout."""
    await map_all(call, range(40), strategy=strategy, limit=4, timeout=0)


async def as_a_task(strategy: Any) -> None:
    """The same, given to a task itself; one more is cancelled."""
    await asyncio.create_task(map_all(call, range(40), strategy=strategy, limit=4))
    task = asyncio.create_task(map_all(call, range(40), strategy=strategy, limit=4))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("way", [awaited, streamed, left_early, timed_out, as_a_task])
async def test_a_batch_with_failures_leaves_no_cyclic_garbage(garbage: list[Any], way: Any, strategy: Any) -> None:
    """A run and its parts release each other at the end: nothing is left for the collector."""
    await asyncio.create_task(way(strategy))
    await asyncio.sleep(0)
    gc.collect()
    garbage.extend(
        thing for thing in gc.garbage if type(thing).__module__.startswith(("aiosupervise", "builtins", "_asyncio"))
    )
    assert [repr(thing)[:80] for thing in garbage] == []


async def test_a_streamed_run_holds_only_limit_outcomes() -> None:
    """However long the stream, no more outcomes are alive than `limit`, and those that the reader holds."""
    alive: weakref.WeakSet[Big] = weakref.WeakSet()
    most = 0

    async def job() -> Big:
        big = Big()
        alive.add(big)
        return big

    async with run_all((job for _ in range(500)), limit=5) as run:
        async for outcome in run:
            del outcome
            most = max(most, len(alive))
    assert 0 < most <= 5


async def test_an_awaited_run_keeps_all_until_it_is_dropped() -> None:
    """The report holds every value, and letting go of it frees them."""
    alive: weakref.WeakSet[Big] = weakref.WeakSet()

    async def job() -> Big:
        big = Big()
        alive.add(big)
        return big

    report = await run_all([job] * 10)
    gc.collect()
    assert len(alive) == len(report) == 10
    del report
    await asyncio.sleep(0)
    gc.collect()
    assert len(alive) == 0


async def test_the_context_of_a_job_does_not_keep_the_job_alive() -> None:
    """A timer that a job leaves behind holds its context for long, but not what the job returned."""

    async def job() -> Big:
        asyncio.get_running_loop().call_later(3600, print)
        return Big()

    report = await run_all([job])
    big = weakref.ref(report.values()[0])
    del report
    await asyncio.sleep(0)
    gc.collect()
    assert big() is None
