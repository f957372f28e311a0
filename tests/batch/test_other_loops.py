"""Calls that a job makes in another loop or thread retry by themselves, outside of the run's protection."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from aiosupervise import Adaptive, Overload, map_all, run_all, supervise

from .service import POLICY, BusyError, DownError, budget_of, tokens_of

Call = Callable[[int], Coroutine[object, None, int]]
Way = Callable[[Call, int], Coroutine[object, None, int]]


async def in_a_thread(call: Call, number: int) -> int:
    """Call in a loop of its own, in a thread."""
    return await asyncio.to_thread(asyncio.run, call(number))


@pytest.fixture
def in_another_loop() -> Iterator[Way]:
    """Call in a loop that runs in another thread all the time."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def call_there(call: Call, number: int) -> int:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(number), loop))

    yield call_there
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(params=["thread", "loop"])
def way(request: pytest.FixtureRequest, in_another_loop: Way) -> Way:
    """Each way to leave the loop of the run."""
    return in_a_thread if request.param == "thread" else in_another_loop


@pytest.mark.parametrize("make_error", [DownError, partial(BusyError, 0)], ids=["down", "busy"])
@pytest.mark.parametrize("limit", [5, Adaptive(start=5)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("capacity", [0, 500], ids=["empty", "full"])
async def test_they_retry_by_themselves(
    way: Way, make_error: Callable[[], Exception], limit: Any, capacity: int
) -> None:
    """Every job is done, its attempts are counted, nothing pauses and nothing is paid."""
    failed = set[int]()

    @supervise(POLICY)
    async def call(number: int) -> int:
        if number not in failed:
            failed.add(number)
            raise make_error()
        return number

    setting = Overload(budget_of(capacity, capacity=capacity))
    report = await map_all(partial(way, call), range(5), limit=limit, overload=setting)
    assert report.values() == list(range(5))
    assert [outcome.attempts for outcome in report.succeeded] == [2] * 5
    assert report.tally.retries == 5
    assert tokens_of(setting) == capacity


async def test_errors_of_their_own_stay_outside_too(way: Way) -> None:
    """A call that gives up there raises its error in the job, as anywhere."""

    @supervise(POLICY)
    async def call(number: int) -> int:
        raise LookupError(number)

    report = await map_all(partial(way, call), range(3))
    assert [str(failure.error) for failure in report.failed] == ["0", "1", "2"]


async def test_retries_in_many_threads_are_all_counted() -> None:
    """For the job, its run, and the job around that."""

    @supervise(POLICY.replace(max_retries=None))
    async def call(number: int) -> int:
        if counts[number] < 200:
            counts[number] += 1
            raise DownError
        return number

    async def job() -> None:
        await asyncio.gather(*(in_a_thread(call, number) for number in range(4)))

    async def outer() -> int:
        return (await run_all([job])).tally.retries

    counts = [0] * 4
    report = await run_all([outer])
    assert report.values() == [800]
    assert report.tally.retries == 800
