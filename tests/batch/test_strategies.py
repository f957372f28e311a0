"""The order and the end of each strategy."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiosupervise import Outcome, Pending, Report, Success, map_all, run_all
from aiosupervise._batch.strategies import strategy_named

pytestmark = pytest.mark.looptime
JOB_SECONDS = [3, 1, 2]


async def sleep(seconds: float) -> float:
    """Sleep; below zero: fail at once, at zero: cancel itself."""
    await asyncio.sleep(abs(seconds))
    if seconds < 0:
        raise ValueError(seconds)
    if seconds == 0:
        raise asyncio.CancelledError
    return seconds


def indexes(outcomes: Report[Any, Any] | list[Outcome[Any, Any]]) -> list[int]:
    """Which inputs the outcomes are of."""
    return [outcome.index for outcome in outcomes]


@pytest.mark.parametrize(
    ("strategy", "order"), [("gather", [0, 1, 2]), ("as_completed", [1, 2, 0]), ("wait", [1, 2, 0])]
)
async def test_outcomes_come_in_the_strategys_order(strategy: Any, order: list[int]) -> None:
    """gather keeps input order, the other two completion order; awaited and streamed alike."""
    assert indexes(await map_all(sleep, JOB_SECONDS, strategy=strategy)) == order
    async with map_all(sleep, JOB_SECONDS, strategy=strategy) as run:
        assert indexes([outcome async for outcome in run]) == order


async def test_a_streamed_run_in_input_order_delivers_each_outcome_as_soon_as_it_is_next() -> None:
    """When a slow job ends, the outcomes behind it are read at once, while later jobs are running."""
    async with map_all(sleep, [3, 1, 2, 9]) as run:
        read = [(outcome.index, asyncio.get_running_loop().time()) async for outcome in run]
    assert read == [(0, 3), (1, 3), (2, 3), (3, 9)]


@pytest.mark.parametrize(("strategy", "awaited"), [("gather", 0), ("as_completed", None), ("wait", None)])
def test_only_input_order_awaits_one_particular_outcome(strategy: Any, awaited: int | None) -> None:
    """The reader of a run in completion order takes any outcome."""
    assert strategy_named(strategy, "ALL_COMPLETED").awaited == awaited


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_failures_end_no_run(strategy: Any) -> None:
    """One outcome per job, whatever fails: a failure, or a CancelledError of a job's own, ends no run."""
    report = await map_all(sleep, [1, -2, 0, 3, -1], strategy=strategy)
    assert (len(report), len(report.failed), len(report.succeeded)) == (5, 3, 2)
    assert {type(failure.error) for failure in report.failed} == {ValueError, asyncio.CancelledError}
    assert not report.pending


@pytest.mark.parametrize(
    ("strategy", "order"), [("gather", [0, 1, 2, 3]), ("as_completed", [1, 0, 2, 3]), ("wait", [1, 0, 2, 3])]
)
async def test_pending_comes_last_but_under_gather_in_its_place(strategy: Any, order: list[int]) -> None:
    """Jobs that had not started at the timeout are in input order under gather, and last otherwise."""
    report = await map_all(sleep, [9, 1, 9, 1], strategy=strategy, limit=2, timeout=1.5)
    assert indexes(report) == order
    assert [(outcome.index, outcome.started) for outcome in report.pending] == [(0, True), (2, True), (3, False)]


@pytest.mark.parametrize(
    ("return_when", "seconds", "done", "elapsed"),
    [
        ("FIRST_COMPLETED", [3, 1, 2], [1], 1),
        ("FIRST_COMPLETED", [3, -1, 2], [1], 1),
        ("FIRST_EXCEPTION", [1, -2, 9, 3], [0, 1], 2),
        ("FIRST_EXCEPTION", [1, 0, 2], [1, 0, 2], 2),
        ("ALL_COMPLETED", [2, -1, 3], [1, 0, 2], 3),
    ],
)
async def test_return_when_ends_a_wait(return_when: Any, seconds: list[float], done: list[int], elapsed: float) -> None:
    """`wait` ends as asyncio.wait does, for which a cancelled job is no exception; what it came before is pending."""
    report = await map_all(sleep, seconds, strategy="wait", return_when=return_when)
    assert [outcome.index for outcome in report if not isinstance(outcome, Pending)] == done
    assert len(report) == len(seconds)
    assert report.elapsed == elapsed


async def test_return_when_waits_for_the_clean_up_of_siblings() -> None:
    """At the first failure the siblings are cancelled, and have cleaned up before the run returns."""
    cleaned: list[int] = []

    async def job(number: int) -> None:
        if number == 0:
            await asyncio.sleep(1)
            raise ValueError
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(2)
            cleaned.append(number)

    report = await map_all(job, [0, 1, 2, 3], strategy="wait", return_when="FIRST_EXCEPTION", limit=3)
    assert cleaned == [1, 2]
    assert report.elapsed == 3
    assert [outcome.started for outcome in report.pending] == [True, True, False]


async def test_first_completed_looks_at_jobs_and_not_at_an_empty_source() -> None:
    """If slots are free, the end of the source does not count as a completion."""
    report = await map_all(sleep, [2, 1], strategy="wait", return_when="FIRST_COMPLETED", limit=None)
    assert [type(outcome) for outcome in report] == [Success, Pending]
    assert report.elapsed == 1


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("call", [False, True])
async def test_errors_that_end_iterations_are_data(error: type[BaseException], *, call: bool) -> None:
    """StopIteration and its kin, raised by a job, end nothing early: every job has its outcome."""

    class Odd:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            raise error

    jobs: list[Callable[[], Awaitable[Any]] | Awaitable[Any]] = [lambda: sleep(1), Odd if call else Odd(), sleep(2)]
    async with run_all(jobs) as run:
        seen = [outcome async for outcome in run]
    assert indexes(seen) == [0, 1, 2]
    assert run.tally.failed == 1
