"""A run that is read outcome by outcome."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from aiosupervise import Failure, Pending, Success, map_all, run_all

pytestmark = pytest.mark.looptime


async def sleep(seconds: float) -> float:
    """A job."""
    await asyncio.sleep(seconds)
    return seconds


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def test_each_outcome_is_handed_over_once_when_it_is_there() -> None:
    """Outcomes come as they are completed, each once, and the report keeps none of them."""
    seen = []
    async with map_all(sleep, [3, 1, 2], strategy="as_completed") as run:
        async for outcome in run:
            seen.append((now(), outcome.index))
            assert outcome not in run.report
    assert seen == [(1, 1), (2, 2), (3, 0)]
    assert len(run.report) == 0
    assert (run.tally.succeeded, run.report.tally.succeeded) == (3, 3)


class Endless:
    """An endless source, which records how much was pulled and whether it was closed."""

    def __init__(self) -> None:
        self.pulled = 0
        self.closed_by: asyncio.Task[Any] | None = None
        self.pulled_by: asyncio.Task[Any] | None = None

    def sync(self) -> Iterator[Callable[[], Awaitable[float]]]:
        """As a generator."""
        self.pulled_by = asyncio.current_task()
        try:
            while True:
                self.pulled += 1
                yield lambda: sleep(1)
        finally:
            self.closed_by = asyncio.current_task()

    async def by_await(self) -> AsyncIterator[Callable[[], Awaitable[float]]]:
        """As an async generator."""
        self.pulled_by = asyncio.current_task()
        try:
            while True:
                await asyncio.sleep(0)
                self.pulled += 1
                yield lambda: sleep(1)
        finally:
            await asyncio.sleep(0.5)
            self.closed_by = asyncio.current_task()


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("kind", [Endless.sync, Endless.by_await])
async def test_leaving_early_closes_an_endless_source(kind: Callable[[Endless], Any], strategy: Any) -> None:
    """The reader takes k: at most k + limit are pulled, the source is closed by the task that read it, nothing runs."""
    source = Endless()
    taken = 0
    async with run_all(kind(source), strategy=strategy, limit=3) as run:
        async for _ in run:
            taken += 1
            if taken == 5:
                break
    assert source.pulled <= 5 + 3
    assert source.closed_by is source.pulled_by is not None
    assert len(asyncio.all_tasks()) == 1
    assert len(run.report) + taken == source.pulled
    assert run.tally.running == 0


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_slow_reader_slows_the_run(strategy: Any) -> None:
    """Nothing is pulled while `limit` outcomes are unread."""
    source = Endless()
    async with run_all(source.sync(), strategy=strategy, limit=4) as run:
        await asyncio.sleep(50)
        assert source.pulled == len(run.report) == 4
        await anext(run)
        await asyncio.sleep(50)
        assert source.pulled == 5


async def test_under_gather_a_slow_first_job_holds_the_others_back() -> None:
    """Once `limit` outcomes wait behind the first, nothing is pulled."""
    started = []

    async def job(seconds: float) -> None:
        started.append(seconds)
        await asyncio.sleep(seconds)

    async with map_all(job, [100, 1, 2, 3], limit=3) as run:
        await asyncio.sleep(50)
        assert started == [100, 1, 2]
        assert [outcome.index async for outcome in run] == [0, 1, 2, 3]


async def test_what_nobody_read_is_in_the_report() -> None:
    """After leaving early the report holds the unread, and what was cancelled or never started."""
    async with map_all(sleep, [1, 2, 30, 40], limit=3) as run:
        async for outcome in run:
            assert outcome.index == 0
            await asyncio.sleep(5)
            break
    assert [type(outcome) for outcome in run.report] == [Success, Pending, Pending]
    assert [outcome.index for outcome in run.report] == [1, 2, 3]


async def test_an_error_in_the_block_comes_out_after_the_clean_up() -> None:
    """The reader's own error is what comes out, when all jobs have ended; the report is there."""
    run = map_all(sleep, [1, 30])

    async def read() -> None:
        async with run:
            async for _ in run:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        await read()
    assert not hasattr(caught.value, "__notes__")
    assert len(run.report.pending) == 1
    assert now() == 1


async def test_leaving_before_anything_began() -> None:
    """A block that is left at once has run nothing and pulled nothing."""
    source = Endless()
    async with run_all(source.by_await()) as run:
        pass
    assert source.pulled == len(run.report) == 0


async def test_leaving_after_stop_cancels_what_still_runs() -> None:
    """stop() is gentle; leaving the block afterwards is not, also where stop() has interrupted an async source."""

    async def source() -> AsyncIterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(100)
        await asyncio.Event().wait()

    async with run_all(source()) as run:
        await asyncio.sleep(1)
        run.stop()
        await asyncio.sleep(1)
    assert [type(outcome) for outcome in run.report] == [Pending]
    assert now() == 2


async def test_two_errors_at_once() -> None:
    """If the source has failed too, a note on the reader's error says so."""

    def source() -> Iterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(1)
        raise LookupError("page 2")

    async def read() -> None:
        async with run_all(source()) as run:
            async for _ in run:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        await read()
    (note,) = caught.value.__notes__
    assert "source" in note
    assert "page 2" in note


async def test_leaving_raises_what_the_source_raised() -> None:
    """An error of the source is not lost when the reader leaves before it would have seen it."""

    def source() -> Iterator[Callable[[], Awaitable[float]]]:
        yield lambda: sleep(1)
        raise LookupError("page 2")

    with pytest.raises(LookupError, match="page 2"):
        async with run_all(source()):
            await asyncio.sleep(2)


async def test_reading_past_the_end_goes_on_to_end() -> None:
    """After its end a run is like any exhausted iterator, inside its block."""
    async with map_all(sleep, [1]) as run:
        assert len([outcome async for outcome in run]) == 1
        assert [outcome async for outcome in run] == []


async def test_two_readers_share_a_run() -> None:
    """Two tasks may read one run: each outcome goes to one of them."""
    seen: list[int] = []

    async def reader() -> None:
        seen.extend([outcome.index async for outcome in run])

    async with map_all(sleep, [1, 2, 1, 3], strategy="as_completed", limit=2) as run:
        await asyncio.gather(reader(), reader())
    assert sorted(seen) == [0, 1, 2, 3]


async def test_a_timeout_ends_a_stream_with_its_pending() -> None:
    """The stream goes on to the pending outcomes, and ends."""
    async with map_all(sleep, [1, 9, 9], limit=2, timeout=5) as run:
        kinds = [type(outcome) async for outcome in run]
    assert kinds == [Success, Pending, Pending]


async def test_failures_are_outcomes() -> None:
    """A failed job raises nothing at the reader."""

    async def job(_: int) -> None:
        raise ValueError

    async with map_all(job, [1]) as run:
        assert [type(outcome) async for outcome in run] == [Failure]


async def test_stop_inside_the_block() -> None:
    """After stop() a reader gets the outcomes of running jobs, then the pending ones, then the end."""
    async with map_all(sleep, [1, 2, 3, 4], limit=2) as run:
        assert type(await anext(run)) is Success
        run.stop()
        kinds = [type(outcome) async for outcome in run]
    assert kinds == [Success, Pending, Pending]


async def test_a_cancel_while_leaving_does_not_cut_the_clean_up_short() -> None:
    """A caller that is cancelled while it leaves still waits, and then gets its cancel."""
    cleaned = []

    async def job(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            cleaned.append(number)

    async def caller() -> None:
        async with map_all(job, [0, 1]):
            await asyncio.sleep(1)

    task = asyncio.create_task(caller())
    asyncio.get_running_loop().call_at(2, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cleaned) == [0, 1]
    assert now() == 3
