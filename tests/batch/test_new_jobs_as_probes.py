"""Probes ask a new job where one can be had, and are bounded in time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from aiosupervise import Adaptive, Failure, Stopped, Success, map_all, run_all, supervise

from .service import POLICY, Answer, Service, down, empty, now

pytestmark = pytest.mark.looptime

OWN: Answer = (0.0, LookupError("404"))


@pytest.fixture(autouse=True)
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause is as long as it can be."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)


async def test_new_jobs_probe_though_the_limit_is_full_of_calls_that_wait() -> None:
    """Each probe is another new job, one at a time; at most as many as probes may fail."""
    service = Service(back=10_000, takes=0.1)
    report = await map_all(supervise(POLICY)(service), range(30), limit=2, overload=empty())
    assert service.numbers() == list(range(10))
    assert len(report.failed) == 10
    assert report.stopped is Stopped.PROBES


async def test_five_dead_inputs_do_not_hold_up_a_run_of_five_slots() -> None:
    """The healthy input behind them is the probe: everything else is done."""
    service = Service(script={number: [down()] * 99 for number in range(5)})
    report = await map_all(supervise(POLICY)(service), range(50), limit=5, overload=empty())
    assert [failure.index for failure in report.failed] == [0, 1, 2, 3, 4]
    assert len(report.succeeded) == 45
    assert service.times(5) == [0.5]


async def test_at_most_as_many_jobs_as_probes_exist_beyond_the_limit() -> None:
    """When they do, a waiting call is the probe."""
    service = Service(script={number: [down()] for number in range(3)} | {number: [OWN] for number in range(3, 99)})

    async def job(number: int) -> None:
        with suppress(LookupError):
            await supervise(POLICY)(service)(number)
        await asyncio.sleep(10 if number in (3, 4) else 0)

    await map_all(job, range(9), limit=3, overload=empty(probes=2))
    assert service.attempts[3:6] == [(0.5, 3), (0.5, 4), (0.5, 0)]


async def test_no_more_attempts_run_than_the_limit() -> None:
    """A probe beyond the limit takes the place of a job whose call waits; while none does, it waits for a slot."""
    service = Service(script={0: [down()], 1: [(30, None)]})

    async def job(number: int) -> None:
        if number == 0:
            with suppress(ConnectionError):
                await supervise(POLICY.replace(deadline=0.1))(service)(number)
            await asyncio.sleep(100)
        else:
            await supervise(POLICY)(service)(number)

    await map_all(job, range(4), limit=2, overload=empty())
    assert [service.times(number) for number in range(4)] == [[0], [0], [30], [30]]


async def test_a_limit_that_has_shrunk_leaves_room_for_a_new_job() -> None:
    """The bound is the number of jobs that were running when the circuit opened."""
    service = Service(script={number: [(0, TimeoutError())] for number in range(20)})
    policy = POLICY.replace(retry_on=TimeoutError)
    await map_all(supervise(policy)(service), range(30), limit=Adaptive(start=20), overload=empty(probes=1))
    assert service.attempts[20] == (0.5, 20)


async def test_a_run_without_a_limit_probes_with_new_jobs() -> None:
    """Where a source gives its items late, for instance."""
    service = Service(script={0: [down()], 1: [down()]})

    async def source() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(0.2)
        yield 1
        yield 2

    await map_all(supervise(POLICY)(service), source(), limit=None, overload=empty())
    assert service.attempts == [(0, 0), (0.5, 1), (1.5, 2), (1.5, 0), (1.5, 1)]


async def test_an_async_source_that_does_not_deliver_at_once_is_not_waited_for() -> None:
    """A waiting call is the probe. The item that comes while it is out waits for its end."""
    service = Service(script={0: [down(), (3, None)]})

    async def source() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(2)
        yield 1

    await map_all(supervise(POLICY)(service), source(), limit=2, overload=empty())
    assert service.attempts == [(0, 0), (0.5, 0), (3.5, 1)]


async def test_an_item_that_was_pulled_before_is_the_probe() -> None:
    """A job that an async source gave in the pause starts as the probe."""
    service = Service(script={0: [down(), (3, None)]})

    async def source() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(0.2)
        yield 1

    await map_all(supervise(POLICY)(service), source(), limit=2, overload=empty())
    assert service.attempts == [(0, 0), (0.5, 1), (0.5, 0)]


# A probe takes too long.


async def test_a_probe_that_hangs_does_not_hold_the_run() -> None:
    """After the longest pause it has failed, and the next one is due; the run goes on beside it."""
    service = Service(script={0: [down()], 1: [(500, None)]})
    report = await map_all(supervise(POLICY)(service), range(9), limit=1, overload=empty(longest_pause=4))
    assert service.times(1) == [0.5]
    assert service.times(2) == [0.5 + 4 + 1]
    assert service.times(0) == [0, 5.5]
    assert isinstance(report[1], Success)
    assert len(report.succeeded) == 9


async def test_a_call_that_hangs_as_the_probe_does_not_hold_the_run() -> None:
    """Nor does one that waited."""
    service = Service(script={0: [down(), (500, None)], 1: [down()]})
    await map_all(supervise(POLICY)(service), range(2), overload=empty(longest_pause=4))
    assert service.times(1) == [0, 0.5 + 4 + 1]


async def test_a_service_that_hangs_stops_the_run() -> None:
    """Probes that take too long have failed as others have."""
    service = Service(takes=5000, script={0: [down()]})
    run = map_all(supervise(POLICY)(service), range(20), limit=1, overload=empty(longest_pause=4, probes=3), timeout=50)
    report = await run
    assert service.numbers() == [0, 1, 2, 3]
    assert report.stopped is Stopped.PROBES


@pytest.mark.parametrize("answer", [4.5, 6.5], ids=["open", "half-open"])
async def test_a_probe_that_succeeds_late_closes_the_circuit(answer: float) -> None:
    """Its success is one all the same, in the next pause and beside the next probe."""
    service = Service(script={0: [down()], 1: [(answer, None)], 2: [(500, None)]})
    await map_all(supervise(POLICY)(service), range(9), limit=1, overload=empty(longest_pause=4))
    assert service.times(0) == [0, 0.5 + answer]
    assert (service.times(2) == [5.5]) == (answer > 5)


async def test_a_waiting_call_that_succeeds_late_closes_the_circuit() -> None:
    """As a new job does."""
    service = Service(script={0: [down(), (5, None)], 1: [down()]})
    await map_all(supervise(POLICY)(service), range(2), overload=empty(longest_pause=4))
    assert service.times(1) == [0, 5.5]


@pytest.mark.parametrize("error", [down()[1], OWN[1]], ids=["fails", "says nothing"])
@pytest.mark.parametrize("late", [4.5, 6.5], ids=["open", "half-open"])
async def test_a_probe_that_fails_late_counts_once(error: Exception, late: float) -> None:
    """It has failed when its time was over; afterwards it is a call as any other."""
    service = Service(script={0: [down()], 1: [(late, error)], 2: [(3, None)]})
    await map_all(supervise(POLICY)(service), range(9), limit=1, overload=empty(longest_pause=4, probes=2))
    assert service.times(2) == [5.5]
    assert service.times(0) == [0, 8.5]


async def test_a_late_success_of_a_call_that_failed_meanwhile_is_no_answer_to_the_probe() -> None:
    """Once it has failed, it waits for the circuit, and the next probe decides."""
    service = Service(script={0: [down()], 1: [down(4.5)], 2: [down()], 3: [(1, None)]})
    await map_all(supervise(POLICY)(service), range(4), limit=1, overload=empty(longest_pause=4))
    assert service.times(3) == [5.5 + 2]
    assert service.times(1) == [0.5, 8.5]


async def test_a_task_that_is_waited_for_meanwhile_is_not_the_probe() -> None:
    """When the run is stopped, a task among the jobs runs on by itself; the probe that is out still decides."""
    service = Service(script={0: [down()], 1: [(3, None)]})
    call = supervise(POLICY)(service)
    jobs: list[Any] = [partial(call, 0), partial(call, 1), asyncio.create_task(asyncio.sleep(50))]
    run = run_all(jobs, limit=1, overload=empty())
    asyncio.get_running_loop().call_at(2, run.stop)
    await run
    assert service.times(0) == [0, 3.5]


# A call that is closed.


async def test_a_call_that_is_closed_leaves_the_queue() -> None:
    """It never becomes the probe; the next call does."""
    service = Service(script={0: [down()], 1: [down()]})

    async def job(number: int) -> None:
        call = supervise(POLICY)(service)(number)
        if number == 1:
            await call
            return
        while call.send(None) is None:
            pass
        await asyncio.sleep(0.1)
        call.close()

    async with asyncio.timeout(5):
        report = await run_all([lambda: job(0), lambda: job(1)], overload=empty())
    assert not any(isinstance(outcome, Failure) for outcome in report)
    assert service.attempts == [(0, 0), (0, 1), (0.5, 1)]
    assert now() == 0.5


def test_a_call_that_is_closed_outside_of_its_loop_does_not_touch_it() -> None:
    """As the garbage collector may do: it leaves the queue, and nothing is raised."""
    calls: list[Coroutine[object, None, int]] = []

    async def job() -> None:
        call = supervise(POLICY)(Service(script={0: [down()]}))(0)
        calls.append(call)
        while call.send(None) is None:
            pass
        await asyncio.sleep(50)

    async def main() -> None:
        await run_all([job], overload=empty())

    loop = asyncio.new_event_loop()
    try:
        running = loop.create_task(main())
        while not calls:
            loop.run_until_complete(asyncio.sleep(0))
        calls[0].close()
        running.cancel()
        loop.run_until_complete(asyncio.wait([running]))
        assert running.cancelled()
    finally:
        loop.close()
