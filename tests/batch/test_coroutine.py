"""A run is a coroutine to asyncio: it can be run, be made a task, and be closed."""

import asyncio
import gc
import inspect
import warnings
from collections.abc import Callable, Coroutine, Iterator
from traceback import walk_tb
from typing import Any

import pytest

from aiosupervise import Report, Run, Supervisor, map_all, run_all, supervise
from aiosupervise.testing import Faults


async def job(number: int = 1) -> int:
    """A job of one second."""
    await asyncio.sleep(1)
    return number


@pytest.fixture(autouse=True)
def no_later_warning() -> Iterator[None]:
    """Let "never awaited" warnings come while the test still runs: they would fail it."""
    yield
    gc.collect()


def test_asyncio_run_takes_a_run() -> None:
    """Made outside of any loop, it is all of the program."""

    async def quick(number: int) -> int:
        return number

    assert asyncio.run(map_all(quick, [1, 2])).values() == [1, 2]
    assert asyncio.run(run_all([quick(1), quick(2)])).values() == [1, 2]


async def of_create_task(run: Run[int]) -> Report[int]:
    """A task of the loop."""
    return await asyncio.create_task(run)


async def of_task_group(run: Run[int]) -> Report[int]:
    """A task of a group."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run)
    return task.result()


async def of_gather(run: Run[int]) -> Report[int]:
    """One argument of several."""
    (report,) = await asyncio.gather(run)
    return report


async def of_wait_for(run: Run[int]) -> Report[int]:
    """Within a time limit."""
    return await asyncio.wait_for(run, 9)


@pytest.mark.looptime
@pytest.mark.parametrize("way", [of_create_task, of_task_group, of_gather, of_wait_for])
async def test_asyncio_takes_a_run_for_a_coroutine(way: Callable[[Run[int]], Coroutine[Any, Any, Report[int]]]) -> None:
    """Wherever asyncio takes a coroutine."""
    report = await way(run_all([job(1), job(2)]))
    assert report.values() == [1, 2]
    assert report.elapsed == 1


async def test_what_a_run_says_that_it_is() -> None:
    """To asyncio it is a coroutine, to `inspect` an awaitable; a task shows its name."""
    run = map_all(job, [1])
    assert isinstance(run, Coroutine)
    assert asyncio.iscoroutine(run)
    assert inspect.isawaitable(run)
    task = asyncio.create_task(run)
    assert "coro=<job()>" in repr(task)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.looptime
async def test_a_task_that_is_cancelled_cancels_its_run() -> None:
    """The jobs have ended before the task has, and the report has what is known."""
    run = map_all(job, [1, 2])
    task = asyncio.create_task(run)
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(run.report.pending) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_that_is_cancelled_before_its_first_step_closes_its_run() -> None:
    """No warning that the run, or one of its coroutines, was never awaited."""
    run = run_all([job()])
    task = asyncio.create_task(run)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "ended" in repr(run)


async def test_a_discarded_run_is_closed_by_whoever_discards_it() -> None:
    """A task group that takes no more tasks closes what it was given, since Python 3.13."""
    async with asyncio.TaskGroup() as group:
        pass
    run = run_all([job()])
    with pytest.raises(RuntimeError, match="finished"):
        group.create_task(run)
    run.close()


@pytest.mark.looptime
async def test_an_error_of_the_source_is_that_of_the_task() -> None:
    """As of the caller who awaits the run."""

    def source() -> Iterator[int]:
        yield 1
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await asyncio.create_task(map_all(job, source()))


@pytest.mark.looptime
async def test_two_tasks_cannot_run_one_run() -> None:
    """The second gets the error that a second await gets, and the first goes on."""
    run = run_all([job(1)])
    first, second, third = (asyncio.create_task(run) for _ in range(3))
    third.cancel()
    results = await asyncio.gather(first, second, third, return_exceptions=True)
    assert isinstance(results[0], Report)
    assert results[0].values() == [1]
    assert "was used before, and a run is used once" in str(results[1])
    assert isinstance(results[2], asyncio.CancelledError)
    with pytest.raises(RuntimeError, match="was used before"):
        await asyncio.create_task(run)


# close


def test_a_closed_run_is_silent() -> None:
    """It closes its coroutines, so that no warning says that they were never awaited."""
    coroutine = job()
    run = run_all([coroutine])
    run.close()
    run.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert repr(run) == "<Run run_all: ended; 0 running, 0 succeeded, 0 failed, 0 pending>"


async def test_a_closed_run_cannot_be_used() -> None:
    """As a coroutine that was closed."""
    run = map_all(job, [1])
    run.close()
    with pytest.raises(RuntimeError, match="a run is used once"):
        await run


@pytest.mark.looptime
async def test_a_run_that_has_ended_can_be_closed() -> None:
    """And so can one that is read or awaited, which goes on."""
    run = map_all(job, [1])
    task = asyncio.ensure_future(awaiting(run))
    await asyncio.sleep(0.5)
    run.close()
    assert (await task).values() == [1]
    run.close()
    async with map_all(job, [1, 2]) as streamed:
        streamed.close()
        assert [outcome.index async for outcome in streamed] == [0, 1]


async def awaiting(run: Run[int, int]) -> Report[int, int]:
    """Await a run in the ordinary way."""
    return await run


@pytest.mark.looptime
async def test_closing_a_run_that_was_begun_by_hand_cancels_its_jobs() -> None:
    """As closing a coroutine that awaits a run does; the jobs end in the turns after that."""
    run = map_all(job, [1])
    run.send(None)
    await asyncio.sleep(0.5)
    run.close()
    await asyncio.sleep(0.1)
    assert len(run.report.pending) == 1


@pytest.mark.looptime
async def test_a_run_whose_task_has_ended_can_be_closed_in_another() -> None:
    """Closing it is safe, because nothing else will resume it."""
    run = map_all(job, [1])

    async def begin() -> None:
        run.send(None)

    await asyncio.create_task(begin())
    run.close()
    await asyncio.sleep(0.1)
    assert len(run.report.pending) == 1


async def test_an_error_thrown_in_by_hand() -> None:
    """In all forms that a coroutine knows: it is raised at once, and the run is closed."""
    error = LookupError("thrown")
    with pytest.raises(TypeError) as other:
        map_all()  # type: ignore[call-overload]
    traceback = other.value.__traceback__
    assert traceback is not None
    forms = ([error], [LookupError, error], [LookupError, error, None], [LookupError, error, traceback], [LookupError])
    for arguments in forms:
        run = run_all([job()])
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            pytest.raises(LookupError) as caught,
        ):
            run.throw(*arguments)  # more than one argument is deprecated since Python 3.12
        assert (caught.value is error) is (error in arguments)
        assert (traceback.tb_frame in [frame for frame, _ in walk_tb(caught.value.__traceback__)][1:]) is (
            traceback in arguments
        )
        assert "ended" in repr(run)
        error.__traceback__ = None


async def test_a_closed_run_is_silent_about_a_job_that_cannot_be_closed() -> None:
    """A half-run coroutine among the jobs may raise when it is closed; the run is closed all the same."""

    class StubbornError(Exception):
        pass

    async def refuse() -> None:
        try:
            await asyncio.sleep(10)
        except GeneratorExit:
            raise StubbornError from None

    stubborn, other = refuse(), job()
    stubborn.send(None)
    run = run_all([stubborn, other])
    run.close()
    assert inspect.getcoroutinestate(other) == inspect.CORO_CLOSED


# Refused


@pytest.mark.parametrize(
    "use",
    [
        lambda run: run_all([run], limit=0),
        lambda run: run_all([run, run], timeout=-1),
        lambda run: map_all(run, [1]),
        lambda run: map_all(job, run, limit=0),
        supervise(retry_on=OSError),
        Supervisor().start,
        Faults(0.5, ConnectionError, seed=1),
    ],
    ids=["job", "jobs", "function of map_all", "inputs", "supervised function", "child", "function with faults"],
)
def test_a_run_that_is_refused_is_closed(use: Any) -> None:
    """As a coroutine is: one error is enough."""
    run = run_all([job()])
    with pytest.raises((TypeError, ValueError)):
        use(run)
    assert "ended" in repr(run)


# A run as a job


@pytest.mark.looptime
async def test_a_run_is_a_job() -> None:
    """A run inside of a run, named after itself; its report is the value of its outcome."""
    report = await run_all([map_all(job, [1, 2]), map_all(job, [3], name="third")])
    assert [outcome.name for outcome in report] == ["job-0", "third-1"]
    assert [inner.values() for inner in report.values()] == [[1, 2], [3]]


@pytest.mark.looptime
@pytest.mark.parametrize("turns", [1, 2], ids=["before its first step", "while it runs"])
async def test_a_run_that_is_pending_as_a_job_is_closed(turns: int) -> None:
    """It does not warn that it was never awaited, whether it had begun, was just started or was not pulled."""
    runs = [run_all([job()]) for _ in range(3)]
    async with run_all(runs, limit=2) as run:
        for _ in range(turns):
            await asyncio.sleep(0)
    assert [pending.started for pending in run.report.pending] == [turns > 1, turns > 1, False]
    assert ["ended" in repr(inner) for inner in runs] == [True] * 3
