"""What an early end leaves behind, in the corners: tasks given as jobs, cancels in one tick, jobs that never began."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiosupervise import Failure, Pending, Success, map_all, run_all

pytestmark = pytest.mark.looptime

eager_task_factory = getattr(asyncio, "eager_task_factory", None)
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


async def sleep(seconds: float = 1) -> float:
    """Sleep and say how long."""
    await asyncio.sleep(seconds)
    return seconds


async def cancelled_after(steps: int, work: Awaitable[object]) -> None:
    """Await `work` in a task and cancel that task after some steps of the loop."""

    async def caller() -> None:
        await work

    task = asyncio.create_task(caller())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stop_lets_running_jobs_finish_under_first_completed() -> None:
    """Jobs that never started have not completed: they do not end a run that waits for the first to complete."""
    run = run_all([sleep, sleep, sleep], limit=1, strategy="wait", return_when="FIRST_COMPLETED")
    asyncio.get_running_loop().call_later(0.5, run.stop)
    report = await run
    assert [type(outcome) for outcome in report] == [Success, Pending, Pending]


@pytest.mark.parametrize("steps", range(1, 6))
async def test_tasks_given_as_jobs_are_not_left_running(steps: int) -> None:
    """Whenever the caller is cancelled, tasks that were given as jobs have ended, those never pulled too."""
    tasks = [asyncio.create_task(sleep()) for _ in range(3)]
    await cancelled_after(steps, run_all(tasks, limit=2))
    assert all(task.done() for task in tasks)


async def test_tasks_that_were_never_pulled_keep_their_results() -> None:
    """A task in a list runs by itself: if it has ended, its outcome counts, though the run ended before its turn."""

    async def fail() -> None:
        raise ValueError

    async def clean_up_badly() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError

    jobs = [asyncio.create_task(job) for job in (sleep(9), fail(), sleep(0), clean_up_badly(), sleep(9))]
    report = await run_all(jobs, limit=1, timeout=1)
    assert [type(outcome) for outcome in report] == [Pending, Failure, Success, Failure, Pending]
    assert [type(failure.error) for failure in report.failed] == [ValueError, KeyError]
    assert [pending.started for pending in report.pending] == [True, True]


async def test_stop_waits_for_tasks_that_run_by_themselves() -> None:
    """A graceful end starts nothing new; a task that was given runs already, so it finishes."""
    run = run_all([asyncio.create_task(sleep(seconds)) for seconds in (1, 2, 3)], limit=1)
    asyncio.get_running_loop().call_later(0.5, run.stop)
    assert (await run).values() == [1, 2, 3]


async def test_a_cancel_of_its_own_in_the_tick_of_the_end_is_a_failure() -> None:
    """A job that raised CancelledError by itself before the run reached it is not pending."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def cancel_itself() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError("mine")

    report = await run_all([fail(), cancel_itself(), sleep()], strategy="wait", return_when="FIRST_EXCEPTION")
    assert [type(outcome) for outcome in report] == [Failure, Failure, Pending]


async def test_pending_tells_whether_the_job_had_begun() -> None:
    """A job whose task was cancelled before its first step ran none of its code: it has not started."""
    began: list[int] = []

    async def job(n: int) -> None:
        began.append(n)
        await asyncio.sleep(1)

    run = map_all(job, [0, 1])
    await cancelled_after(1, run)
    assert began == []
    assert [pending.started for pending in run.report.pending] == [False, False]
    run = map_all(job, [0, 1])
    await cancelled_after(4, run)
    assert began == [0, 1]
    assert [pending.started for pending in run.report.pending] == [True, True]


async def test_a_future_of_another_loop_is_not_cancelled() -> None:
    """The future does not belong to the run; its job, which had not begun when the run was cancelled, is pending."""
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    run = run_all([future])
    await cancelled_after(1, run)
    assert [pending.started for pending in run.report.pending] == [False]
    assert not future.done()
    loop.close()


async def test_jobs_that_never_started_have_their_place_and_name() -> None:
    """A job that did not start before the end of the run has the index and name that it would have had."""
    report = await run_all([sleep, sleep, sleep, sleep], limit=1, timeout=0.5)
    assert [(pending.index, pending.name) for pending in report.pending] == [(n, f"sleep-{n}") for n in range(4)]


async def test_the_second_of_the_same_coroutine_does_not_harm_the_first() -> None:
    """A coroutine that is given twice runs on, and cleans up, when the run ends before its second turn."""
    cleaned: list[bool] = []

    async def job() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            cleaned.append(True)
            raise

    twice = job()
    jobs: list[Any] = [twice, sleep, twice, sleep, twice]
    run = run_all(jobs, limit=1, timeout=1)
    with pytest.raises(TypeError, match=r"^job 2 is a coroutine of job that was given before.*call job again"):
        await run
    assert cleaned == [True]
    assert [type(outcome) for outcome in run.report] == [Pending, Pending, Pending]


async def test_without_a_limit_other_tasks_still_get_a_turn() -> None:
    """A run without a limit starts its jobs in bursts, so that something else can stop it meanwhile."""
    run = run_all((sleep for _ in range(5000)), limit=None)
    task = asyncio.ensure_future(run)
    for _ in range(3):
        await asyncio.sleep(0)
    run.stop()
    await task
    assert 0 < len(run.report) < 5000


async def test_coroutines_in_a_set_are_closed_too() -> None:
    """Whatever collection holds them, coroutines that never started are closed and pending."""
    report = await run_all({sleep(), sleep(), sleep()}, limit=1, timeout=0.1)
    assert [pending.started for pending in report.pending] == [True, False, False]


async def test_a_cancelled_caller_hears_of_a_failed_source() -> None:
    """The CancelledError that the caller gets says that the source had failed as well."""

    def source() -> Callable[[], Awaitable[float]]:
        raise OSError("out of jobs")

    run = run_all((job() for job in (lambda: sleep, source)), limit=2)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.__notes__ == ["the source of the run had failed too: OSError: out of jobs"]


def test_the_call_instead_of_the_function() -> None:
    """map_all(f(1), ...) is refused, and the coroutine closed: no warning follows."""
    with pytest.raises(TypeError, match="func must be an async function"):
        map_all(sleep(), [1])  # type: ignore[call-overload]  # the mistake in question


@needs_eager
def test_keyboard_interrupt_with_eager_tasks() -> None:
    """Where tasks are eager, a job that raises KeyboardInterrupt in its first step still has an outcome."""

    async def interrupt() -> float:
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(eager_task_factory)
        await run

    jobs: list[Callable[[], Awaitable[float]]] = [sleep, interrupt, sleep]
    run = run_all(jobs)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [type(outcome) for outcome in run.report] == [Pending, Failure, Pending]


@needs_eager
async def test_failures_with_eager_tasks_leave_no_cycle() -> None:
    """Where tasks are eager, the error of a job that fails at once does not hold the frames that started it."""

    async def fail(n: int) -> None:
        raise ValueError(n)

    asyncio.get_running_loop().set_task_factory(eager_task_factory)
    gc.collect()
    gc.disable()
    try:
        assert len((await map_all(fail, range(10))).failed) == 10
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("eager_tasks", [True, False])
async def test_a_task_factory_of_the_users_own_makes_the_tasks(
    monkeypatch: pytest.MonkeyPatch, *, eager_tasks: bool
) -> None:
    """A factory that is not asyncio's eager one, such as a tracer's, is used, whether or not asyncio has eager ones.

    It receives the context of a job.
    """
    if not eager_tasks:
        monkeypatch.delattr(asyncio, "eager_task_factory", raising=False)
    contexts: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        contexts.append(options.get("context"))
        return task

    asyncio.get_running_loop().set_task_factory(factory)
    await run_all([sleep], name="traced")
    pump, job = contexts
    assert pump is None
    assert job is not None
