"""Every way in which a run ends, and that it ends clean."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from aiosupervise import Failure, Pending, Run, Stopped, Success, map_all, run_all


async def sleep(seconds: float) -> float:
    """A job."""
    await asyncio.sleep(seconds)
    return seconds


class Cleaner:
    """Jobs that clean up for a second when they are cancelled."""

    def __init__(self) -> None:
        self.cleaned: list[int] = []

    async def __call__(self, number: int) -> None:
        """A job."""
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            self.cleaned.append(number)


class Query:
    """An awaitable that can be called too, as database libraries have them: calling it does something else."""

    def __await__(self) -> Iterator[None]:
        yield

    def __call__(self) -> "Query":
        return self


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def me() -> asyncio.Task[Any]:
    """The task of the test."""
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.looptime
@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_timeout_makes_pending_what_was_not_finished(strategy: Any) -> None:
    """The timeout is of the whole run; what a list still holds is pending too, and can be run again."""
    report = await run_all(
        [lambda: sleep(1), lambda: sleep(9), lambda: sleep(2)], strategy=strategy, limit=1, timeout=5
    )
    assert [type(outcome) for outcome in report] == [Success, Pending, Pending]
    assert [outcome.started for outcome in report.pending] == [True, False]
    assert report.elapsed == now() == 5
    job = report.pending[1].job
    assert job is not None
    assert await job() == 2
    assert asyncio.all_tasks() == {me()}


@pytest.mark.looptime
async def test_a_pending_coroutine_cannot_be_run_again() -> None:
    """Pending.job is None where the job was an awaitable, or no job: coroutines are closed, tasks cancelled."""
    task = asyncio.ensure_future(sleep(100))
    future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    jobs: list[Any] = [sleep(9), sleep(9), task, future, Query(), "no job at all"]
    report = await run_all(jobs, limit=1, timeout=1)
    assert [outcome.job for outcome in report.pending] == [None] * 6
    assert task.cancelled()
    assert not future.done()


@pytest.mark.looptime
async def test_a_task_in_the_rest_has_ended_when_control_returns() -> None:
    """A task that a list still holds runs by itself: it is cancelled, and its clean-up is awaited."""
    cleaner = Cleaner()
    task = asyncio.ensure_future(cleaner(7))
    await run_all([sleep(9), task], limit=1, timeout=1)
    assert task.done()
    assert cleaner.cleaned == [7]


@pytest.mark.looptime
async def test_a_timeout_of_zero_ends_a_run_at_once() -> None:
    """Zero seconds are a limit like any other."""
    report = await map_all(sleep, [1, 2], timeout=0)
    assert len(report.pending) == 2
    assert now() == 0


@pytest.mark.looptime
async def test_the_timeout_of_a_run_and_of_a_job_in_the_same_tick() -> None:
    """A job's own TimeoutError is its failure; only what the run cancelled is pending."""

    async def job(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await asyncio.sleep(100)

    report = await map_all(job, [1, 5, 9], timeout=5)
    assert isinstance(report[0], Failure)
    assert isinstance(report[0].error, TimeoutError)
    assert isinstance(report[2], Pending)
    assert len(report) == 3


@pytest.mark.looptime
@pytest.mark.parametrize("cancels", [[2], [2, 2.5], [2, 2, 2.5, 2.9]], ids=["once", "twice", "four times"])
async def test_a_cancelled_caller_gets_its_cancel_when_all_have_cleaned_up(cancels: list[float]) -> None:
    """Cancel the caller as often as you like: jobs are cancelled once and all clean up together."""
    cleaner = Cleaner()
    run = map_all(cleaner, [0, 1, 2, 3, 4], limit=3)
    caller = asyncio.ensure_future(run)
    for moment in cancels:
        asyncio.get_running_loop().call_at(moment, caller.cancel)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert cleaner.cleaned == [0, 1, 2]
    assert now() == 3
    assert [outcome.started for outcome in run.report.pending] == [True, True, True, False, False]
    assert asyncio.all_tasks() == {me()}


@pytest.mark.looptime
async def test_asyncio_timeout_around_a_run_works_as_ever() -> None:
    """A run inside asyncio.timeout: TimeoutError outside, cancelling() is 0 after, the next await works."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await map_all(sleep, [5, 9])
    assert me().cancelling() == 0
    assert (await map_all(sleep, [1])).values() == [1]


@pytest.mark.looptime
async def test_a_nested_run_that_is_cancelled_from_outside() -> None:
    """A run inside a job of a run: both clean up, and the job is pending."""
    cleaner = Cleaner()

    async def outer(number: int) -> None:
        await map_all(cleaner, [number, number + 1])

    report = await map_all(outer, [0, 10], timeout=1)
    assert sorted(cleaner.cleaned) == [0, 1, 10, 11]
    assert [type(outcome) for outcome in report] == [Pending, Pending]
    assert report.elapsed == 2


@pytest.mark.looptime
async def test_a_cancelled_job_that_returns_or_raises_has_that_outcome() -> None:
    """A cancelled job that returns all the same is a Success, one that raises a Failure, any other is Pending."""

    async def job(answer: str) -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            if answer == "raise":
                raise ValueError(answer) from None
            if answer == "cancel":
                raise
        return answer

    report = await map_all(job, ["return", "raise", "cancel"], timeout=1)
    assert [type(outcome) for outcome in report] == [Success, Failure, Pending]


@pytest.mark.looptime
async def test_a_job_that_does_not_end_is_named_and_waited_for() -> None:
    """A job that has not ended five seconds after its cancel is named in a warning, and waiting goes on."""

    async def deaf(_: int) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        await asyncio.sleep(20)
        return "at last"

    with pytest.warns(RuntimeWarning, match="^cancelled 5 s ago and still running.*: deaf-0, deaf-1$"):
        report = await map_all(deaf, [0, 1], timeout=1)
    assert report.values() == ["at last"] * 2
    assert report.elapsed == 21


@pytest.mark.looptime
async def test_a_source_that_does_not_end_is_named() -> None:
    """A source that takes more than five seconds to close is named as well."""

    async def slow() -> AsyncIterator[Awaitable[float]]:
        try:
            yield sleep(100)
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(10)

    with pytest.warns(RuntimeWarning, match="still running.*: the source$"):
        report = await run_all(slow(), timeout=1)
    assert report.elapsed == 11


@pytest.mark.looptime
async def test_cancelled_error_of_a_jobs_own_is_its_failure() -> None:
    """A job that awaits a future which somebody else cancelled fails, keeps its position, and ends nothing."""
    future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel)
    run = run_all([sleep(2), future, sleep(3)])
    report = await run
    failure = report[1]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, asyncio.CancelledError)
    assert len(report.succeeded) == 2
    assert me().cancelling() == 0


@pytest.mark.looptime
async def test_stop_lets_what_runs_finish() -> None:
    """stop() starts nothing new and cancels nothing; it can be called again."""
    run: Run[float, float] = map_all(sleep, [1, 3, 1, 1], limit=2)
    loop = asyncio.get_running_loop()
    loop.call_later(0.5, run.stop)
    loop.call_later(0.6, run.stop)
    report = await run
    assert [type(outcome) for outcome in report] == [Success, Success, Pending, Pending]
    assert report.elapsed == 3
    run.stop()


@pytest.mark.looptime
async def test_stop_ends_the_wait_for_an_async_source() -> None:
    """stop() gets the run out of a source that gives nothing, and closes it in the task that iterated it."""
    tasks = []

    async def endless() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        tasks.append(me())
        try:
            yield lambda: sleep(2)
            await asyncio.sleep(1000)
        finally:
            tasks.append(me())

    run = run_all(endless())
    asyncio.get_running_loop().call_later(1, run.stop)
    report = await run
    assert [success.value for success in report.succeeded] == [2]
    assert report.tally.total is None
    assert report.elapsed == 2
    assert tasks[0] is tasks[1]


@pytest.mark.looptime
@pytest.mark.parametrize("in_source", ["sync", "async"])
async def test_a_source_that_stops_its_own_run(in_source: str) -> None:
    """An item that the source gives when the run has been stopped already is pending."""

    def source() -> Iterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(1)
        run.stop()
        yield lambda: sleep(2)

    async def async_source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        for job in source():
            yield job

    run = run_all(source() if in_source == "sync" else async_source())
    report = await run
    assert [type(outcome) for outcome in report] == [Success, Pending]
    again = report.pending[0].job
    assert again is not None
    assert await again() == 2


@pytest.mark.looptime
@pytest.mark.parametrize("swallows", [False, True])
async def test_an_async_source_that_ignores_its_interruption(*, swallows: bool) -> None:
    """Items yielded after the wait was interrupted are pending; a CancelledError of the source is the run's error."""

    async def source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(2)
        if not swallows:
            raise asyncio.CancelledError
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        yield lambda: sleep(3)

    run = run_all(source(), timeout=1)
    if swallows:
        assert [type(outcome) for outcome in await run] == [Pending, Pending]
    else:
        with pytest.raises(asyncio.CancelledError):
            await run
    assert me().cancelling() == 0
    assert len(run.report) == (2 if swallows else 1)


@pytest.mark.looptime
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_source_that_fails_raises_once_when_all_have_finished(*, is_async: bool, streamed: bool) -> None:
    """If the source raises, running jobs finish, their outcomes are kept, then the error is raised, once."""

    def source() -> Iterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(1)
        yield lambda: sleep(2)
        raise LookupError("page 3")

    async def async_source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        for job in source():
            yield job

    run = run_all(async_source() if is_async else source())
    seen = []
    if streamed:
        async with run:
            seen += [await anext(run), await anext(run)]
            with pytest.raises(LookupError, match="page 3"):
                await anext(run)
    else:
        with pytest.raises(LookupError, match="page 3"):
            await run
        seen.extend(run.report)
    assert [outcome.value for outcome in seen if isinstance(outcome, Success)] == [1, 2]
    assert now() == 2


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_source_that_cannot_be_closed_or_begun(*, is_async: bool) -> None:
    """An error in the source's own close is raised too; without close there is nothing to do."""

    class Pages:
        def __init__(self, *, closes: bool) -> None:
            if closes:
                self.close = self.fail

        def fail(self) -> None:
            raise OSError("cannot close")

        def __next__(self) -> Callable[[], Awaitable[float]]:
            return self.job

        async def __anext__(self) -> Callable[[], Awaitable[float]]:
            await asyncio.sleep(0)
            return self.job

        async def job(self) -> float:
            run.stop()
            return 1.0

    class Source:
        def __init__(self, *, closes: bool) -> None:
            self.pages: Any = Pages(closes=closes)

        def __iter__(self) -> Any:
            return self.pages

    class AsyncSource(Source):
        def __aiter__(self) -> Any:
            return self.pages

    kind = AsyncSource if is_async else Source
    source: Any = kind(closes=True)
    run = run_all(source, limit=1)
    with pytest.raises(OSError, match="cannot close"):
        await run
    assert run.tally.succeeded == 1
    source = kind(closes=False)
    run = run_all(source, limit=1)
    await run
    assert run.tally.succeeded == 1


async def test_an_iterable_that_cannot_be_iterated_is_an_error_of_the_source() -> None:
    """An error in __iter__ or __aiter__ is raised from the run."""

    class Broken:
        def __iter__(self) -> Any:
            raise OSError("broken")

    class AsyncBroken:
        def __aiter__(self) -> Any:
            raise OSError("broken")

    for source in (Broken(), AsyncBroken()):
        with pytest.raises(OSError, match="broken"):
            await run_all(source)


def run_until_exit(error: type[BaseException], cleaned: list[str]) -> None:
    """Run jobs one of which raises KeyboardInterrupt or SystemExit, as a program does."""

    async def job(number: int) -> None:
        if number == 2:
            await asyncio.sleep(0)
            raise error
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(4):
                await asyncio.sleep(0)
            cleaned.append(f"job {number}")

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("source")

    async def main() -> None:
        run = map_all(job, source())
        try:
            await run
        finally:
            cleaned.append(f"{len(run.report)} outcomes, {run.tally.running} running")

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_job_that_exits_ends_the_program_clean(error: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit in a job end the program; the other jobs and the source clean up first, once."""
    cleaned: list[str] = []
    with pytest.raises(error):
        run_until_exit(error, cleaned)
    gc.collect()
    assert sorted(cleaned[:-1]) == ["job 0", "job 1", "source"]
    assert cleaned[-1] == "3 outcomes, 0 running"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_source_that_exits_ends_the_program_clean(error: type[BaseException]) -> None:
    """The same when the source raises it: running jobs are cancelled, not waited for."""
    cleaned: list[str] = []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("job")

    def source() -> Iterator[Callable[[], Awaitable[None]]]:
        yield job
        raise error

    async def main() -> None:
        await run_all(source())

    with pytest.raises(error):
        asyncio.run(main())
    gc.collect()
    assert cleaned in (["job"], [])


def test_an_interrupt_while_the_last_jobs_run() -> None:
    """The same when the source has come to its end: each job is cancelled once and cleans up."""
    cleaned: list[int] = []

    async def job(number: int) -> None:
        if number == 1:
            await asyncio.sleep(0)
            raise KeyboardInterrupt
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(4):
                await asyncio.sleep(0)
            cleaned.append(number)

    async def main() -> None:
        await map_all(job, [0, 1, 2])

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert sorted(cleaned) == [0, 2]


@pytest.mark.looptime
async def test_a_caller_that_is_thrown_away_leaves_no_job_running() -> None:
    """A coroutine that is closed while it awaits a run cancels the run."""
    run = map_all(sleep, [100, 100])

    async def main() -> None:
        await run

    caller = main()
    caller.send(None)
    await asyncio.sleep(1)
    assert run.tally.running == 2
    caller.close()
    await asyncio.sleep(0.1)
    assert (run.tally.running, run.tally.pending) == (0, 2)
    assert asyncio.all_tasks() == {me()}


@pytest.mark.parametrize("ended", [False, True], ids=["source open", "source ended"])
def test_a_loop_that_is_thrown_away_with_its_run_warns_of_nothing(*, ended: bool) -> None:
    """A loop closed in the middle of a run breaks nothing: no warning, no error from the run's own parts."""
    complaints: list[str] = []

    async def source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(100)
        if not ended:
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(run_all(source()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert set(complaints) <= {"Task was destroyed but it is pending!"}


async def read(run: Run[float]) -> None:
    """The body of a block that reads."""
    async for _ in run:
        pass


async def wait(_: Run[float]) -> None:
    """The body of a block that waits for something else."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("body", [read, wait])
@pytest.mark.parametrize("closed", [True, False], ids=["closed loop", "open loop"])
def test_a_block_that_is_thrown_away_outside_its_loop(
    body: Callable[[Run[float]], Awaitable[None]], *, closed: bool
) -> None:
    """It cannot wait: it raises nothing and restores the handlers of signals; an open loop ends the jobs."""
    run = run_all([lambda: sleep(100), lambda: sleep(100)], stop_on=[signal.SIGINT])
    before = signal.getsignal(signal.SIGINT)

    async def main() -> None:
        async with run:
            await body(run)

    async def begin() -> None:
        block.send(None)
        for _ in range(5):
            await asyncio.sleep(0)
        assert run.tally.running == 2

    block = main()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    assert signal.getsignal(signal.SIGINT) is not before
    tasks = asyncio.all_tasks(loop)
    if closed:
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # they go with the loop
    block.close()
    if not closed:
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
        assert (run.tally.running, run.tally.pending) == (0, 2)
        assert run.report.stopped is Stopped.LEFT
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.looptime
async def test_a_run_that_comes_to_its_end_says_so() -> None:
    """From `stop` on until nothing runs any more, the repr and the bar say that the run is stopping."""

    async def work() -> None:
        await asyncio.sleep(1)

    run = run_all([work for _ in range(9)], limit=3)
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.5)
    assert "stopping" not in repr(run)
    run.stop()
    assert repr(run) == "<Run run_all: stopping; 3 running, 0 succeeded, 0 failed, 0 pending>"
    await waiting
    assert repr(run) == "<Run run_all: ended; 0 running, 3 succeeded, 0 failed, 6 pending>"
