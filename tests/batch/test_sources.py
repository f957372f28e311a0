"""Where jobs come from, in the corners: sources that end, break, wait for ever, or change under the run."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import nullcontext
from typing import Any

import pytest

from aiosupervise import Pending, Stopped, Success, run_all

pytestmark = pytest.mark.looptime


async def sleep(seconds: float = 1) -> float:
    """Sleep and say how long."""
    await asyncio.sleep(seconds)
    return seconds


class Opening:
    """An iterable that opens this iterator, which the run closes therefore."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __iter__(self) -> Any:
        return self.iterator


class AsyncOpening(Opening):
    """The same for an async iterator."""

    def __aiter__(self) -> Any:
        return self.iterator


class Waiting:
    """An async source that gives some jobs and then waits for ever, or ends; it counts how often it is closed."""

    def __init__(self, *jobs: Callable[[], Awaitable[object]], ends: bool = False) -> None:
        self.jobs = list(jobs)
        self.ends = ends
        self.closed = 0

    def __aiter__(self) -> "Waiting":
        return self

    async def __anext__(self) -> Callable[[], Awaitable[object]]:
        if self.jobs:
            return self.jobs.pop(0)
        if self.ends:
            raise StopAsyncIteration
        await asyncio.Event().wait()
        raise AssertionError

    async def aclose(self) -> None:
        """Close."""
        self.closed += 1


async def test_a_source_that_raises_cancelled_error_by_itself() -> None:
    """That is an error of the source as any other: running jobs finish first."""

    async def source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        yield sleep
        raise asyncio.CancelledError("mine")

    run = run_all(source())
    with pytest.raises(asyncio.CancelledError, match="mine"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success]


async def test_an_interrupted_source_is_closed_in_a_task_that_is_not_being_cancelled() -> None:
    """The cancel that ends the wait for the next job is taken back before the source cleans up."""
    cancels: list[int] = []

    class Noting(Waiting):
        async def aclose(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            cancels.append(task.cancelling())

    source: AsyncIterable[Callable[[], Awaitable[object]]] = AsyncOpening(Noting())
    assert len(await run_all(source, timeout=1)) == 0
    assert cancels == [0]


@pytest.mark.parametrize("ends", [False, True])
async def test_a_source_that_has_ended_is_not_closed(*, ends: bool) -> None:
    """Closing is for a source that stands somewhere: one that came to its end has closed itself."""
    source = Waiting(sleep, ends=ends)
    opening: AsyncIterable[Callable[[], Awaitable[object]]] = AsyncOpening(source)
    await run_all(opening, timeout=5)
    assert source.closed == (0 if ends else 1)


async def test_an_item_that_breaks_whoever_looks_at_it() -> None:
    """A job that was never pulled and cannot even be named is pending, under the name of its type."""

    class Hostile:
        @property
        def __name__(self) -> str:
            raise OSError("no name")

    async def job() -> None:
        run.stop()

    jobs: list[Any] = [job, Hostile()]
    run = run_all(jobs, limit=1)
    report = await run
    assert [(type(outcome), outcome.name) for outcome in report] == [(Success, "job-0"), (Pending, "Hostile-1")]


async def test_jobs_that_change_the_deque_they_come_from() -> None:
    """A deque or set that changes breaks its iterator: a source's error, raised when the running jobs have ended."""
    jobs: deque[Callable[[], Awaitable[object]]] = deque()
    ended: list[bool] = []
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def add() -> None:
        jobs.append(sleep)
        await asyncio.sleep(1)

    async def slow() -> None:
        await asyncio.sleep(5)
        ended.append(True)

    jobs.extend([slow, add, sleep])
    with pytest.raises(RuntimeError, match="deque mutated during iteration"):
        await run_all(jobs, limit=2)
    assert (ended, complaints) == ([True], [])


@pytest.mark.parametrize("streamed", [False, True], ids=["awaited", "streamed"])
async def test_a_deque_that_its_jobs_change_breaks_a_run_that_ends_early_too(*, streamed: bool) -> None:
    """The deque's remaining items cannot be listed: its error is raised, once, when the run has ended."""
    jobs: deque[Callable[[], Awaitable[object]]] = deque()

    async def add() -> None:
        jobs.append(sleep)
        await asyncio.sleep(9)

    jobs.extend([add, sleep])
    run = run_all(jobs, limit=1, timeout=1)
    async with run if streamed else nullcontext():
        with pytest.raises(RuntimeError, match="deque mutated during iteration"):
            [outcome async for outcome in run] if streamed else await run
    assert (run.tally.pending, run.tally.running) == (1, 0)
    assert asyncio.get_running_loop().time() == 1


async def test_a_deque_that_changes_does_not_hide_what_went_wrong_first() -> None:
    """The error of an item that is not a job is raised, though the rest of the deque cannot be listed."""

    class Hostile:
        @property  # type: ignore[misc]  # the mistake
        def __class__(self) -> type:
            jobs.append(sleep)
            return Hostile

    jobs: deque[Any] = deque([sleep, Hostile(), sleep])
    with pytest.raises(TypeError, match="job 1 is a value of type Hostile"):
        await run_all(jobs)


class Pages:
    """A plain iterator of jobs that ends or breaks; it knows whether it was closed."""

    def __init__(self, *, breaks: bool) -> None:
        self.breaks = breaks
        self.closed = False

    def __iter__(self) -> "Pages":
        return self

    def __next__(self) -> Callable[[], Awaitable[object]]:
        if self.breaks:
            raise OSError("no first page")
        raise StopIteration

    def close(self) -> None:
        """Close."""
        self.closed = True


async def test_a_plain_source_that_has_ended_is_not_closed_and_one_that_broke_is() -> None:
    """The same for a plain iterator; to break, also at the first job, is not to end."""
    ended, broken = Pages(breaks=False), Pages(breaks=True)
    sources: list[Iterable[Callable[[], Awaitable[object]]]] = [Opening(ended), Opening(broken)]
    await run_all(sources[0])
    with pytest.raises(OSError, match="no first page"):
        await run_all(sources[1])
    assert (ended.closed, broken.closed) == (False, True)


async def test_the_first_error_of_a_source_is_the_one_that_counts() -> None:
    """A source that breaks and then cannot be closed either: the caller gets what it broke with."""

    class Stuck(Pages):
        def close(self) -> None:
            raise OSError("cannot close")

    source: Iterable[Callable[[], Awaitable[object]]] = Opening(Stuck(breaks=True))
    with pytest.raises(OSError, match="no first page"):
        await run_all(source)


class File:
    """An object that is its own iterator, as files, cursors and websockets are; it knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> Callable[[], Awaitable[object]]:
        return sleep

    def close(self) -> None:
        """Close."""
        self.closed = True


class AsyncFile(File):
    """One that is read with `async for`."""

    def __aiter__(self) -> "AsyncFile":
        return self

    async def __anext__(self) -> Callable[[], Awaitable[object]]:
        return sleep

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


@pytest.mark.parametrize("kind", [File, AsyncFile])
async def test_a_source_that_is_its_own_iterator_stays_open(kind: type[File]) -> None:
    """It belongs to whoever opened it, who may want to read on after an early end."""
    file = kind()
    assert (await run_all(file, limit=2, timeout=1.5)).stopped is Stopped.TIMEOUT
    assert not file.closed


async def test_an_iterator_that_the_run_has_opened_is_closed() -> None:
    """An iterable whose iterator is another object opens it for the run; a generator is closed in any case."""
    file = File()
    source: Iterable[Callable[[], Awaitable[object]]] = Opening(file)
    await run_all(source, limit=2, timeout=1.5)
    generator = (sleep for _ in itertools.count())
    await run_all(generator, limit=2, timeout=1.5)
    assert file.closed
    assert list(generator) == []


async def shut_down() -> None:
    """Cancel every other task, jobs before the pump, as the end of asyncio.run does."""
    me = asyncio.current_task()
    for task in sorted(asyncio.all_tasks() - {me}, key=asyncio.Task.get_name):
        task.cancel()


async def test_a_shutdown_that_finds_the_run_at_its_first_job() -> None:
    """A source that was cut off by the end of the loop has not come to its end: the total stays unknown."""
    async with run_all(Waiting()) as run:
        await asyncio.sleep(1)
        await shut_down()
        assert [outcome async for outcome in run] == []
    assert run.tally.total is None


async def test_a_shutdown_after_stop_cancels_each_job_once() -> None:
    """A job that the end of the loop has cancelled can clean up, though stop() had interrupted the source before."""
    cleaned: list[bool] = []

    async def job() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    async with run_all(Waiting(job)) as run:
        await asyncio.sleep(1)
        run.stop()
        await asyncio.sleep(1)
        await shut_down()
        assert [type(outcome) async for outcome in run] == [Pending]
    assert cleaned == [True]
