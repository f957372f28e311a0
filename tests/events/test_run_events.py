"""The events that a run emits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiosupervise import (
    AttemptFailed,
    AttemptStarted,
    Budget,
    Failure,
    JobFinished,
    Overload,
    Pending,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    Success,
    Tally,
    listen,
    map_all,
    run_all,
    supervise,
)

from .kept import POLICY, Kept

pytestmark = pytest.mark.looptime


async def fetch(number: int) -> int:
    """Take a second, and fail for 1."""
    await asyncio.sleep(1)
    if number == 1:
        raise ValueError(number)
    return number


class Service:
    """Fails until it is back, as the error says."""

    def __init__(self, back: float, error: Exception) -> None:
        self._back = back
        self._error = error

    async def __call__(self, _: int) -> None:
        if asyncio.get_running_loop().time() < self._back:
            raise self._error


def empty(probes: int = 8) -> Overload:
    """Protection whose budget is empty."""
    budget = Budget()
    budget.tokens = 0
    return Overload(budget=budget, probes=probes)


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_run(strategy: str) -> None:
    """It emits its start, each job's outcome and its end; each event has the run's number, name and live counts."""
    kept = Kept()
    await asyncio.sleep(3)
    run = map_all(fetch, range(3), strategy=strategy, limit=2, listen=kept, name="pages")  # type: ignore[call-overload]
    report = await run
    assert kept.names() == ["RunStarted", *["JobFinished"] * 3, "RunFinished"]
    [started] = kept.only(RunStarted)
    assert all(event.run == started.run and event.name == "pages" for event in kept.only(JobFinished))
    assert all(event.tally is run.tally for event in kept.only(JobFinished))
    assert {event.outcome for event in kept.only(JobFinished)} == set(report)
    assert [event.elapsed for event in kept.only(RunFinished)] == [report.elapsed] == [2.0]


async def test_events_of_calls_name_their_run_and_job() -> None:
    """Events of a call have the number of the run and the index of the job, also in tasks that the job starts."""
    calls = 0

    @supervise(POLICY)
    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError

    async def job(_: int) -> None:
        await asyncio.create_task(call())

    kept = Kept()
    await map_all(job, range(2), limit=1, listen=kept)
    [started] = kept.only(RunStarted)
    assert [(event.run, event.job) for event in kept.only(AttemptStarted)] == [
        (started.run, 0),
        (started.run, 1),
        (started.run, 1),
    ]
    assert [(event.run, event.job) for event in kept.only(AttemptFailed)] == [(started.run, 1)]


async def test_each_job_has_one_outcome_even_if_the_run_ends_early() -> None:
    """Jobs cut off by the timeout are emitted as Pending, before RunFinished."""
    kept = Kept()
    await map_all(fetch, range(4), limit=2, timeout=1.5, listen=kept)
    kinds = [type(event.outcome) for event in kept.only(JobFinished)]
    assert sorted(kind.__name__ for kind in kinds) == ["Failure", "Pending", "Pending", "Success"]
    assert {Failure, Pending, Success} == set(kinds)
    assert kept.names()[-1] == "RunFinished"


@pytest.mark.parametrize("way", ["left", "cancelled", "source failed"])
async def test_run_finished_is_emitted_however_the_run_ends(way: str) -> None:
    """Also if it is left or cancelled, or its source fails; and every pulled job has its JobFinished."""
    kept = Kept()

    async def numbers() -> AsyncIterator[int]:
        for number in range(10):
            if way == "source failed" and number == 3:
                raise LookupError
            yield number

    async def use() -> None:
        async with map_all(fetch, numbers(), limit=2, listen=kept) as run:
            async for outcome in run:
                if way == "left" and outcome.index == 1:
                    break

    task = asyncio.create_task(use())
    await asyncio.sleep(1.5)
    if way == "cancelled":
        task.cancel()
    await asyncio.wait([task])
    assert kept.names()[0] == "RunStarted"
    assert kept.names()[-1] == "RunFinished"
    [tally] = [event.tally for event in kept.only(RunFinished)]
    assert tally.succeeded + tally.failed + tally.pending == len(kept.only(JobFinished))
    task.cancelled() or task.exception()


def test_a_tally_counts_outcomes() -> None:
    """Successes from a journal also count as successes."""
    tally = Tally(5, None)
    for outcome in (
        Success(0, "a", 1, 0.0),
        Success(1, "b", 1, 0.0, replayed=True),
        Success(2, "c", 1, 0.0, replayed=True),
        Failure(3, ValueError(), 1, 0.0, None),
        Pending[object](4, None, started=False),
    ):
        tally.count(outcome)
    assert tally == Tally(5, None, succeeded=3, failed=1, pending=1, replayed=2)


async def test_a_run_that_cannot_begin_has_ended_at_once() -> None:
    """Where the loop's task factory raises, the run is finished after no time at all."""

    def broken(*_: Any, **__: Any) -> Any:
        raise LookupError

    kept = Kept()
    asyncio.get_running_loop().set_task_factory(broken)
    with pytest.raises(LookupError):
        await map_all(fetch, range(3), listen=kept)
    asyncio.get_running_loop().set_task_factory(None)
    assert kept.names() == ["RunStarted", "RunFinished"]
    assert [event.elapsed for event in kept.only(RunFinished)] == [0.0]


async def test_a_run_that_pauses_and_goes_on() -> None:
    """With an empty budget each pause, longer than the one before, is emitted with its length, and then its end."""
    service = Service(3.0, ConnectionError())
    kept = Kept()
    await map_all(supervise(POLICY)(service), range(3), overload=empty(), listen=kept)
    pauses = kept.only(RunPaused)
    assert len(pauses) > 1
    assert all(event.why == "the retry budget is empty" for event in pauses)
    assert all(0.25 * 2**n <= event.seconds <= 0.5 * 2**n for n, event in enumerate(pauses))
    assert len(kept.only(RunResumed)) == 1
    assert kept.names().index("RunResumed") > len(kept) - 1 - kept.names()[::-1].index("RunPaused")


async def test_a_run_that_the_server_asks_to_wait() -> None:
    """The pause is as long as the server asked, and is emitted with that reason; then the run resumes."""
    busy = ConnectionError()
    busy.retry_after = 7  # type: ignore[attr-defined]  # as libraries put it there
    service = Service(3.0, busy)
    kept = Kept()
    await map_all(supervise(POLICY)(service), range(3), limit=1, listen=kept)
    assert [(event.seconds, event.why) for event in kept.only(RunPaused)] == [(7.0, "the server asked to wait")]
    assert len(kept.only(RunResumed)) == 1


async def test_a_run_whose_service_never_comes_back() -> None:
    """After the last probe the run ends, and no RunResumed is emitted."""
    kept = Kept()
    service = Service(10**6, ConnectionError())
    await map_all(supervise(POLICY)(service), range(3), overload=empty(probes=2), listen=kept)
    assert len(kept.only(RunPaused)) == 2
    assert kept.only(RunResumed) == []
    assert kept.names()[-1] == "RunFinished"


async def test_a_run_without_a_name_is_called_run_all() -> None:
    """The name is that of the function or the run; of jobs of any kind it is that of run_all."""
    kept = Kept()
    with listen(kept):
        await run_all([fetch(0)])
        await map_all(fetch, [0])
    assert [event.name for event in kept.only(RunStarted)] == ["run_all", "fetch"]
