"""The effects of cancelling a job or the caller: the three strategies, compared with their namesakes in asyncio."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeAlias

import pytest

from aiosupervise import run_all

from .beside import (
    Cleaners,
    Make,
    Strategy,
    When,
    described,
    me,
    now,
    ours,
    plain,
    result_of,
    result_of_each,
    sweep_up,
    theirs,
)

Way: TypeAlias = Callable[[Strategy, list[Make]], Coroutine[Any, Any, None]]
each_strategy = pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])


class End(NamedTuple):
    """What is known when control comes back to the caller."""

    seconds: float
    error: type[object]
    cancelling: int
    cleaned: list[int]
    cancels: list[int]
    left_running: int


OURS_CLEAN = End(3, asyncio.CancelledError, 1, [0, 1, 2], [1, 1, 1], 0)


async def end_of(jobs: Cleaners, caller: "asyncio.Task[None]") -> End:
    """Wait until control comes back to the caller, and look around."""
    await asyncio.wait([caller])
    (error,) = await asyncio.gather(caller, return_exceptions=True)
    cancels = [jobs.cancels[index] for index in range(len(jobs.makes))]
    left = len(asyncio.all_tasks()) - 1
    end = End(now() - jobs.begun, type(error), caller.cancelling(), sorted(jobs.cleaned), cancels, left)
    await sweep_up()
    return end


async def cancelled(way: Way, strategy: Strategy, *moments: float) -> End:
    """Cancel the caller at these moments."""
    jobs = Cleaners()
    caller = asyncio.create_task(way(strategy, jobs.makes))
    for moment in moments:
        asyncio.get_running_loop().call_later(moment, caller.cancel)
    return await end_of(jobs, caller)


async def timed_out(way: Way, strategy: Strategy) -> End:
    """Put a timeout around the whole."""
    jobs = Cleaners()

    async def caller() -> None:
        async with asyncio.timeout(2):
            await way(strategy, jobs.makes)

    return await end_of(jobs, asyncio.create_task(caller()))


@pytest.mark.looptime
@each_strategy
async def test_the_caller_is_cancelled(strategy: Strategy) -> None:
    """Gather and ours cancel the jobs and come back when they have cleaned up; the other two leave them running."""
    left = End(2, asyncio.CancelledError, 1, [], [0, 0, 0], 3)
    assert await cancelled(theirs, strategy, 2) == (OURS_CLEAN if strategy == "gather" else left)
    assert await cancelled(ours, strategy, 2) == OURS_CLEAN


@pytest.mark.looptime
@each_strategy
async def test_the_caller_is_cancelled_again_during_clean_up(strategy: Strategy) -> None:
    """Gather passes the second cancel on, which cuts clean-up short; ours cancels each job once and waits."""
    cut = End(2.5, asyncio.CancelledError, 2, [], [2, 2, 2], 0)
    left = End(2, asyncio.CancelledError, 1, [], [0, 0, 0], 3)
    assert await cancelled(theirs, strategy, 2, 2.5) == (cut if strategy == "gather" else left)
    assert await cancelled(ours, strategy, 2, 2.5) == OURS_CLEAN._replace(cancelling=2)


@pytest.mark.looptime
@each_strategy
async def test_a_timeout_around_the_whole(strategy: Strategy) -> None:
    """A TimeoutError comes out of both, and the caller is as before; ours and gather's jobs have cleaned up."""
    clean = OURS_CLEAN._replace(error=TimeoutError, cancelling=0)
    left = End(2, TimeoutError, 0, [], [0, 0, 0], 3)
    assert await timed_out(theirs, strategy) == (clean if strategy == "gather" else left)
    assert await timed_out(ours, strategy) == clean


# A job that somebody else cancels


async def sleep(seconds: float, result: object) -> object:
    """A job."""
    await asyncio.sleep(seconds)
    if isinstance(result, BaseException):
        raise result
    return result


def one_cancelled(moment: float) -> list[Coroutine[Any, Any, object]]:
    """Make jobs of which the second is cancelled at this moment, 0 being before its first step."""
    victim = sleep(10, "never")

    def cancel() -> None:
        (task,) = (task for task in asyncio.all_tasks() if task.get_coro() is victim)
        task.cancel()

    async def begin() -> object:
        if moment:
            asyncio.get_running_loop().call_later(moment, cancel)
        else:
            cancel()
        return await sleep(3, "first")

    return [begin(), victim, sleep(2, "third"), sleep(2.5, OSError("fourth"))]


before_and_after_its_first_step = pytest.mark.parametrize("moment", [0, 1])


@pytest.mark.looptime
@before_and_after_its_first_step
async def test_gather_with_a_job_that_is_cancelled(moment: float) -> None:
    """The results are those of gather with `return_exceptions`, at the same positions."""
    results = await asyncio.gather(*one_cancelled(moment), return_exceptions=True)
    taken = now()
    report = await run_all(one_cancelled(moment))
    assert [plain(outcome) for outcome in report] == [described(result) for result in results]
    assert report.elapsed == taken == 3
    assert me().cancelling() == 0


@pytest.mark.looptime
async def test_as_completed_with_a_job_that_is_cancelled() -> None:
    """Both give the CancelledError in its turn, and then the results of the others."""
    results = await result_of_each(asyncio.as_completed(one_cancelled(1)))
    report = await run_all(one_cancelled(1), strategy="as_completed")
    assert [plain(outcome) for outcome in report] == [result for _, result in results]
    assert [outcome.index for outcome in report] == [1, 2, 3, 0]


@pytest.mark.looptime
@before_and_after_its_first_step
@pytest.mark.parametrize(
    ("when", "seconds"), [("FIRST_COMPLETED", [0, 1]), ("FIRST_EXCEPTION", [2.5, 2.5]), ("ALL_COMPLETED", [3, 3])]
)
async def test_wait_with_a_job_that_is_cancelled(when: When, seconds: list[float], moment: int) -> None:
    """A cancelled job is completed for both, and has raised no exception."""
    tasks = [asyncio.ensure_future(job) for job in one_cancelled(moment)]
    start = now()
    await asyncio.wait(tasks, return_when=when)
    assert now() - start == seconds[moment]
    results = [result_of(task) for task in tasks]
    await sweep_up()
    report = await run_all(one_cancelled(moment), strategy="wait", return_when=when)
    assert [plain(outcome) for outcome in sorted(report, key=lambda one: one.index)] == results
    assert report.elapsed == seconds[moment]


# A job that ends the program


def cleaned_up_at_exit(way: Way, strategy: Strategy, error: type[BaseException]) -> list[str]:
    """Run a program one of whose jobs exits; return who completed its clean-up, in this order."""
    ended: list[str] = []

    def job(name: str) -> Make:
        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(4):
                    await asyncio.sleep(0)
                ended.append(name)

        return wait

    async def leave() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> None:
        try:
            await way(strategy, [job("job"), job("job"), leave])
        finally:
            ended.append("caller")

    with pytest.raises(error):
        asyncio.run(main())
    gc.collect()
    return ended


@each_strategy
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_job_that_exits(strategy: Strategy, error: type[BaseException]) -> None:
    """The program ends with both; with ours the jobs clean up, and before the caller goes on."""
    expected = {"gather": ["caller"], "as_completed": ["caller", "job", "job"], "wait": ["caller", "job", "job"]}
    assert cleaned_up_at_exit(theirs, strategy, error) == expected[strategy]
    assert cleaned_up_at_exit(ours, strategy, error) == ["job", "job", "caller"]
