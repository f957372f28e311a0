"""Why a run ended: `report.stopped`, `report.ok`, and the number of failures that stops one."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from aiosupervise import (
    Budget,
    Event,
    Overload,
    Pending,
    Report,
    Run,
    RunFinished,
    RunStopped,
    Stopped,
    map_all,
    run_all,
    supervise,
)
from aiosupervise._batch.pump import Pump

pytestmark = pytest.mark.looptime


async def double(number: int) -> int:
    """A job."""
    await asyncio.sleep(1)
    return 2 * number


async def fails(_: object) -> None:
    """A job that fails."""
    await asyncio.sleep(1)
    raise ValueError("broken")


def endless() -> Iterator[int]:
    """A source without an end."""
    number = 0
    while True:
        yield number
        number += 1


async def test_a_run_that_did_all_its_jobs_was_not_stopped() -> None:
    """And it is ok if all of them succeeded."""
    report = await map_all(double, range(5))
    assert (report.stopped, report.ok) == (None, True)
    broken = await map_all(fails, range(5))
    assert (broken.stopped, broken.ok) == (None, False)


async def test_an_empty_run_is_ok() -> None:
    """Nothing failed."""
    assert (await map_all(double, [])).ok


async def after(seconds: float, act: Callable[[Run[Any, Any]], object], **settings: Any) -> Report[Any, Any]:
    """Await an endless run, and act on it after some seconds."""
    run = map_all(double, endless(), limit=2, **settings)
    asyncio.get_running_loop().call_later(seconds, act, run)
    return await run


async def test_each_early_end_is_told_in_the_report() -> None:
    """A timeout, `stop()`, a signal, and `return_when`."""
    assert (await after(9, str, timeout=1.5)).stopped is Stopped.TIMEOUT
    assert (await after(1.5, Run.stop)).stopped is Stopped.STOP
    sends: Callable[[object], None] = lambda _: signal.raise_signal(signal.SIGUSR1)  # noqa: E731 - for a table
    assert (await after(1.5, sends, stop_on=[signal.SIGUSR1])).stopped is Stopped.SIGNAL
    first = await after(9, str, strategy="wait", return_when="FIRST_COMPLETED")
    assert (first.stopped, first.ok) == (Stopped.RETURN_WHEN, False)


async def test_a_cancelled_run_says_so() -> None:
    """Its report is that of the run, since the caller gets a CancelledError."""
    run = map_all(double, endless(), limit=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await run
    assert run.report.stopped is Stopped.CANCELLED


@pytest.mark.parametrize("error", [None, ValueError, asyncio.CancelledError])
async def test_a_streamed_run_whose_block_was_left(error: type[BaseException] | None) -> None:
    """By a break or an error; a cancellation is reported as one."""
    run = map_all(double, endless(), limit=2)
    try:
        async with run:
            async for _ in run:
                if error is not None:
                    raise error
                break
    except (ValueError, asyncio.CancelledError):
        pass
    assert run.report.stopped is (Stopped.CANCELLED if error is asyncio.CancelledError else Stopped.LEFT)


async def test_a_streamed_run_that_was_read_to_its_end_was_not_stopped() -> None:
    """Leaving its block then changes nothing."""
    async with map_all(double, range(3)) as run:
        assert [outcome.index async for outcome in run] == [0, 1, 2]
    assert (run.report.stopped, run.report.ok) == (None, True)


async def test_a_stop_that_loses_nothing_is_none() -> None:
    """The run had pulled all of its source, and every job finished."""
    report = await after_all_started(map_all(double, [1, 2, 3]))
    assert (report.stopped, report.ok) == (None, True)
    report = await after_all_started(map_all(double, iter([1, 2, 3])))
    assert (report.stopped, report.ok) == (None, True)
    # All slots are taken, so the run has not tried to pull a fourth input when it is stopped.
    report = await after_all_started(map_all(double, [1, 2, 3], limit=3))
    assert (report.stopped, report.ok) == (None, True)


async def after_all_started(run: Run[int, int]) -> Report[int, int]:
    """Stop a run while its jobs are running."""
    asyncio.get_running_loop().call_later(0.5, run.stop)
    return await run


async def test_the_first_reason_counts() -> None:
    """A run that was stopped, and cancelled afterwards, was stopped."""
    assert (await after(0.5, Run.stop, timeout=0.7)).stopped is Stopped.STOP


async def test_values_that_were_never_pulled_are_missed() -> None:
    """A lazy source leaves nothing pending, and its values are not complete all the same."""
    report = await after(1.5, Run.stop)
    assert report.pending == ()
    with pytest.raises(ExceptionGroup) as raised:
        report.values()
    [missing] = raised.value.exceptions
    assert str(missing) == "the run ended before its source did, so inputs may be missing: stop() was called"


# max_failures


@pytest.mark.parametrize("most", [0, 1, 20])
async def test_too_many_failures_stop_a_run(most: int) -> None:
    """The one after `max_failures`; running jobs finish, and a list's other inputs are pending."""
    events: list[Event] = []
    report = await map_all(fails, list(range(100)), limit=1, max_failures=most, listen=events.append)
    assert len(report.failed) == most + 1
    assert len(report.pending) == 99 - most
    assert (report.stopped, report.ok) == (Stopped.FAILURES, False)
    [stopped] = [event for event in events if isinstance(event, RunStopped)]
    assert (stopped.why, stopped.name) == (Stopped.FAILURES, "fails")
    assert isinstance(events[-1], RunFinished)


async def test_running_jobs_finish_when_there_were_too_many_failures() -> None:
    """As after `stop()`."""

    async def job(number: int) -> int:
        await asyncio.sleep(number)
        if number == 1:
            raise ValueError
        return number

    report = await map_all(job, [1, 2, 3, 4], limit=3, max_failures=0)
    assert [success.value for success in report.succeeded] == [2, 3]
    assert [type(outcome) for outcome in report if outcome.index == 3] == [Pending]


async def test_failures_up_to_the_number_stop_nothing() -> None:
    """Exactly `max_failures` are allowed."""
    report = await map_all(fails, range(3), max_failures=3)
    assert report.stopped is None
    given = await run_all([fails(1), fails(2), fails(3)], limit=1, max_failures=1)
    assert given.stopped is Stopped.FAILURES
    report = await map_all(fails, range(3), max_failures=3)
    assert (len(report.failed), report.stopped) == (3, None)


async def test_a_run_that_stops_by_itself_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It names the run, the reason and the counts."""
    await map_all(fails, range(9), limit=1, max_failures=1, name="import")
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == (
        "run import starts no further jobs: too many jobs failed; so far 0 succeeded, 2 failed; "
        "run the pending inputs again when the cause is fixed"
    )


async def test_probes_that_fail_stop_a_run_with_their_reason() -> None:
    """The report, an event and the log say so."""

    @supervise(retry_on=OSError)
    async def down(_: object) -> None:
        await asyncio.sleep(0.01)
        raise OSError("down")

    events: list[Event] = []
    overload = Overload(Budget(capacity=0), first_pause=0.1, longest_pause=0.1, probes=2)
    report = await map_all(down, list(range(50)), limit=5, overload=overload, listen=events.append)
    assert report.stopped is Stopped.PROBES
    assert [event.why for event in events if isinstance(event, RunStopped)] == [Stopped.PROBES]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_max_failures_is_a_count(value: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises((TypeError, ValueError), match="max_failures must be an integer of at least 0"):
        map_all(double, [], max_failures=value)
    with pytest.raises((TypeError, ValueError), match="max_failures must be an integer of at least 0"):
        run_all([], max_failures=value)


# total


async def numbers() -> AsyncIterator[int]:
    """A source without a length."""
    for number in range(3):
        yield number


@pytest.mark.parametrize("source", [lambda: iter(range(3)), numbers], ids=["sync", "async"])
async def test_a_total_for_a_source_without_a_length(source: Callable[[], Any]) -> None:
    """The tally has it from the start; at the end it has the true number."""
    run = map_all(double, source(), total=5)
    assert run.tally.total == 5
    await run
    assert run.tally.total == 3


def test_a_total_beside_a_length_is_refused() -> None:
    """And coroutines are closed."""
    with pytest.raises(ValueError, match="total is for a source without a length; this one has 1: leave it out"):
        run_all([double(1)], total=3)


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_a_total_is_a_count(value: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises((TypeError, ValueError), match="total must be an integer of at least 0"):
        map_all(double, iter([]), total=value)


# Whatever ends the pump


async def awaiting(run: Run[Any, Any]) -> None:
    """Await a run."""
    await run


@pytest.mark.parametrize("turns", [1, 3, 6])
@pytest.mark.parametrize("is_exhausted", [False, True])
async def test_a_loop_that_shuts_down_cancels_the_run(turns: int, *, is_exhausted: bool) -> None:
    """Every task is cancelled at once: while the pump fills slots, and while it waits for the last jobs."""
    run = run_all([asyncio.Event().wait for _ in range(4)], limit=5 if is_exhausted else 2)
    caller = asyncio.create_task(awaiting(run))
    for _ in range(turns):
        await asyncio.sleep(0)
    pump = next(task for task in asyncio.all_tasks() if task.get_name() == "run_all pump")
    for task in asyncio.all_tasks() - {asyncio.current_task(), caller}:
        task.cancel()
    await asyncio.wait([pump])
    assert run.report.stopped is Stopped.CANCELLED
    await caller


async def test_an_exit_of_the_source_cancels_the_run() -> None:
    """The process is about to end: the jobs are cancelled, and the exit is raised."""

    def source() -> Iterator[Callable[[], Any]]:
        yield asyncio.Event().wait
        raise SystemExit(3)

    run = run_all(source(), limit=2)
    with pytest.raises(SystemExit):
        await run
    assert run.report.stopped is Stopped.CANCELLED


async def test_an_error_of_the_pump_itself_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """No error is lost, not even one that no step of the run has caught."""

    async def fail(*_: object) -> None:
        raise LookupError("of the pump")

    monkeypatch.setattr(Pump, "_guard", fail)
    with pytest.raises(LookupError, match="of the pump"):
        await map_all(double, [1])


async def test_a_running_run_has_not_stopped() -> None:
    """Its report says why it ended when it has."""
    async with map_all(double, [1]) as run:
        assert run.report.stopped is None
        assert [outcome.index async for outcome in run] == [0]
