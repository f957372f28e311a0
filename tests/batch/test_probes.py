"""The probe: which job or call it is, what it costs, and what its end means."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from aiosupervise import Failure, GiveUp, Overload, Reason, Success, map_all, run_all, supervise

from .service import POLICY, Service, budget_of, down, empty, tokens_of

pytestmark = pytest.mark.looptime

OWN_REASONS = [LookupError("404"), GiveUp(), PermissionError()]
STRICT = POLICY.replace(irrecoverable=PermissionError)


async def test_a_probe_does_not_count_as_a_retry() -> None:
    """A call that may retry once fails as a probe three times, and then succeeds."""
    service = Service(script={0: [down()] * 4})
    report = await map_all(supervise(POLICY.replace(max_retries=1))(service), [0], overload=empty())
    assert [type(outcome) for outcome in report] == [Success]
    assert report[0].attempts == 5  # type: ignore[union-attr]  # a Success
    assert report.tally.retries == 4


async def test_a_call_that_resumes_after_the_pause_uses_a_retry() -> None:
    """Only the probe is free: a call that was queued behind it makes a retry as any other."""
    service = Service(script={0: [down()], 1: [down()] * 2, 2: [down()] * 2})
    report = await map_all(supervise(POLICY.replace(max_retries=1))(service), range(3), overload=empty())
    assert [type(outcome) for outcome in report] == [Success, Failure, Failure]
    assert [failure.reason for failure in report.failed] == [Reason.EXHAUSTED] * 2
    assert [failure.attempts for failure in report.failed] == [2, 2]


async def test_a_retry_after_a_probe_is_counted_from_where_it_was() -> None:
    """Probes do not change the count: a call that may retry twice, and failed as a probe, retries twice after it."""
    service = Service(script={0: [down()] * 2, 1: [down()] * 9})
    setting = Overload(budget=budget_of(0, capacity=1000))
    report = await map_all(supervise(POLICY.replace(max_retries=2))(service), range(2), overload=setting)
    assert [failure.reason for failure in report.failed] == [Reason.EXHAUSTED]
    assert len(service.times(1)) == 1 + 1 + 2


@pytest.mark.parametrize("error", OWN_REASONS, ids=repr)
async def test_a_probe_that_fails_for_its_own_reasons_makes_room_for_the_next(error: Exception) -> None:
    """Its error is neutral about the service: the next queued call is released at once, and no token moves."""
    service = Service(takes=1, script={0: [down(), (1, error)], 1: [down(), (1, error)], 2: [down(), (1, None)]})
    setting = empty()
    report = await map_all(supervise(STRICT)(service), range(3), overload=setting)
    assert service.numbers()[3:] == [0, 1, 2]
    probe = service.times(0)[1]
    assert [service.times(n)[1] - probe for n in range(3)] == pytest.approx([0, 1, 2])
    assert [failure.error for failure in report.failed] == [error, error]
    assert tokens_of(setting) == 125


@pytest.mark.parametrize("error", OWN_REASONS, ids=repr)
async def test_a_job_that_fails_for_its_own_reasons_moves_no_token(error: Exception) -> None:
    """However many there are, the budget stays as it was."""
    service = Service(script={number: [(0, error)] for number in range(200)})
    setting = empty(tokens=100)
    report = await map_all(supervise(STRICT)(service), range(200), overload=setting)
    assert len(report.failed) == 200
    assert tokens_of(setting) == 100
    assert report.elapsed == 0


async def test_a_new_job_is_the_probe_though_calls_wait() -> None:
    """It starts alone; when it has succeeded, the waiting call and the others start, and a quarter is put back."""
    service = Service(takes=1, script={0: [down(0.1), (0, LookupError())], 1: [(0.2, None)]})
    setting = empty()
    await map_all(supervise(POLICY)(service), range(6), limit=3, overload=setting)
    # Number 2, which started with 0 and 1, has ended after 1 s.
    (started,) = service.times(3)
    assert [service.times(n)[-1] for n in (0, 4, 5)] == pytest.approx([started + 1] * 3)
    assert tokens_of(setting) == 125 + 5


async def test_a_new_job_that_fails_as_the_probe_doubles_the_pause() -> None:
    """Its attempt was a failed probe; then its call is queued, and is the next probe."""
    service = Service(script={0: [down(), (0, LookupError())], 1: [down()]})
    await map_all(supervise(POLICY)(service), range(3), limit=1, overload=empty(first_pause=1))
    first, second = service.times(1)
    assert 0.5 <= first <= 1
    assert 1 <= second - first <= 2
    assert service.times(2) == [second]


@pytest.mark.parametrize("error", OWN_REASONS, ids=repr)
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "bare"])
async def test_a_new_job_that_fails_for_its_own_reasons_makes_room_for_the_next(
    error: Exception, *, supervised: bool
) -> None:
    """The next new job starts at once in its place."""
    service = Service(takes=1, script={0: [down(), (0, LookupError())], 1: [(1, error)], 2: [(1, error)]})
    call: Callable[[int], Awaitable[int]] = supervise(STRICT)(service)
    jobs = [partial(call if supervised or n == 0 else service, n) for n in range(5)]
    setting = empty()
    await run_all(jobs, limit=1, overload=setting)
    probe = service.times(1)[0]
    assert [service.times(n)[0] - probe for n in range(1, 5)] == pytest.approx([0, 1, 2, 3])
    assert tokens_of(setting) == 125 + 2


async def test_a_job_without_supervised_calls_can_be_the_probe() -> None:
    """Its success resumes the run."""
    service = Service(takes=1, script={0: [down(), (0, LookupError())]})
    jobs: list[Callable[[], Awaitable[int]]] = [
        partial(supervise(POLICY)(service), 0),
        *(partial(service, n) for n in range(1, 5)),
    ]
    await run_all(jobs, limit=1, overload=empty())
    assert len(service.times(4)) == 1


@pytest.mark.parametrize("new", [False, True], ids=["retry", "new job"])
async def test_a_probe_that_is_cancelled_makes_room_for_the_next(*, new: bool) -> None:
    """A cancelled job is neutral about the service too."""
    first: list[Any] = [down(), (0.0, LookupError())] if new else [down(), (50.0, None)]
    service = Service(script={0: first, 1: [(50.0, None)] if new else [down(0.01)]})
    setting = empty()
    run = map_all(supervise(POLICY)(service), range(3 if new else 2), limit=1 if new else 2, overload=setting)
    victim = 1 if new else 0

    def cancel() -> None:
        task = service.tasks[victim]
        assert task is not None
        task.cancel()

    asyncio.get_running_loop().call_at(5, cancel)
    report = await run
    assert service.times(2 if new else 1)[-1] == 5
    assert [type(failure.error) for failure in report.failed][-1] is asyncio.CancelledError
    assert isinstance(report[-1], Success)


async def test_a_probe_that_its_job_times_out_makes_room_for_the_next() -> None:
    """`asyncio.timeout` around the call cancels the attempt, not the job: the next probe starts before the job ends."""
    service = Service(script={0: [down(), (50, None)], 1: [down(0.01)]})
    call = supervise(POLICY)(service)

    async def job(number: int) -> None:
        try:
            async with asyncio.timeout(5 if number == 0 else 50):
                await call(number)
        except TimeoutError:
            await asyncio.sleep(100)

    await map_all(job, range(2), overload=empty())
    assert service.times(1)[-1] == 5


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_cancelled_call_leaves_the_queue(victim: int) -> None:
    """One of the remaining calls is the probe at the end of the pause; the cancelled one is not waited for."""
    service = Service(script={number: [down()] for number in range(3)})
    run = map_all(supervise(POLICY)(service), range(3), overload=empty(first_pause=4))

    def cancel() -> None:
        task = service.tasks[victim]
        assert task is not None
        task.cancel()

    asyncio.get_running_loop().call_at(1, cancel)
    report = await run
    assert service.numbers()[3:] == [number for number in range(3) if number != victim]
    assert [failure.index for failure in report.failed] == [victim]
    assert 2 <= service.attempts[3][0] <= 4


async def test_a_call_that_is_cancelled_in_the_step_of_its_release_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that was released, and cancelled before it started, is not waited for."""
    monkeypatch.setattr(random, "uniform", max)  # the pause ends after exactly half a second
    service = Service(script={number: [down(0.1)] for number in range(2)} | {2: [(9, None)]})
    run = map_all(supervise(POLICY)(service), range(3), overload=empty())
    loop = asyncio.get_running_loop()
    states: list[str] = []

    def cancel() -> None:
        states.append(repr(run))
        task = service.tasks[0]
        assert task is not None
        task.cancel()

    loop.call_at(0.2, lambda: loop.call_at(0.6, cancel))
    report = await run
    assert "probing" in states[0]
    assert [type(outcome) for outcome in report] == [Failure, Success, Success]
    assert service.attempts == [(0, 0), (0, 1), (0, 2), (0.6, 1)]


async def test_with_nothing_left_to_probe_with_the_run_just_ends() -> None:
    """The only queued call gives up as a probe for its own reasons, and there is no job left."""
    service = Service(script={0: [down(), (0, LookupError())], 1: [(3, None)]})
    report = await map_all(supervise(POLICY)(service), range(2), overload=empty())
    assert [type(outcome) for outcome in report] == [Failure, Success]
    assert report.elapsed == 3


async def test_a_call_that_fails_while_no_probe_is_running_is_the_probe() -> None:
    """A call that fails while the run has nothing to probe with is released at once."""
    service = Service(script={0: [down(), (0, LookupError())], 1: [down(3)]})
    report = await map_all(supervise(POLICY)(service), range(2), overload=empty())
    assert service.times(1) == [0, 3]
    assert isinstance(report[1], Success)


@pytest.mark.parametrize("error", [LookupError(), ConnectionError()], ids=repr)
@pytest.mark.parametrize("retries", [0, 3])
async def test_another_call_of_the_same_job_is_not_the_probe(error: Exception, retries: int) -> None:
    """Of two calls in one job one is the probe; however the other ends, it is neutral about the probe."""
    service = Service(script={0: [down(), (5, None)], 1: [down(0.1)], 2: [(2, error)]})
    call = supervise(POLICY)(service)

    async def both() -> None:
        other = supervise(POLICY.replace(max_retries=retries))(service)
        await asyncio.gather(call(0), other(2), return_exceptions=True)

    jobs: list[Any] = [both, partial(call, 1)]
    await run_all(jobs, overload=empty())
    probe = service.times(0)[1]
    assert service.between(probe, probe + 5) == []


async def test_a_new_job_that_survives_its_own_error_makes_room_for_the_next() -> None:
    """The probe is over when a call in it fails for its own reasons, though the job goes on for long."""
    service = Service(script={0: [down()], 2: [(0, ValueError())]})

    async def job(number: int) -> None:
        policy = POLICY.replace(deadline=0.1) if number == 0 else POLICY
        with suppress(ValueError):
            await supervise(policy)(service)(number)
        await asyncio.sleep(100 if number == 2 else 0)

    report = await map_all(job, range(4), limit=2, overload=empty(first_pause=1))
    assert [failure.index for failure in report.failed] == [0]
    assert 0.5 <= service.times(2)[0] == service.times(3)[0] <= 1


async def test_a_new_job_that_survives_what_a_run_inside_of_it_gave_up_on_makes_room_for_the_next() -> None:
    """The probe ends without an answer, though the job goes on for long."""
    service = Service(script={0: [down()], 2: [down()]})
    inner = supervise(POLICY.replace(max_retries=0))(service)

    @supervise(POLICY)
    async def call(number: int) -> None:
        (await map_all(inner, [number])).values()

    async def job(number: int) -> None:
        if number == 0:
            await supervise(POLICY.replace(deadline=0.1))(service)(number)
        with suppress(ExceptionGroup):
            await call(number)
        await asyncio.sleep(100 if number == 2 else 0)

    await map_all(job, range(4), limit=2, overload=empty(first_pause=1))
    assert 0.5 <= service.times(2)[0] == service.times(3)[0] <= 1


@pytest.mark.parametrize("error", [ConnectionError(), ValueError()])
@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("nested", [False, True])
async def test_a_call_inside_of_the_probe_is_part_of_it(error: Exception, retries: int, *, nested: bool) -> None:
    """A call that fails deep in the probe is not another call to wait for: the run resumes, in time."""
    service = Service(script={0: [(0, error)]})
    inner = supervise(POLICY.replace(irrecoverable=ValueError, max_retries=retries))(service)
    failures = iter([ConnectionError()])

    @supervise(POLICY)
    async def outer() -> None:
        for failure in failures:
            raise failure
        if nested:
            (await map_all(inner, [0])).values()
        else:
            await inner(0)

    other = Service(script={1: [down()]})
    jobs: list[Callable[[], Awaitable[object]]] = [outer, partial(supervise(POLICY)(other), 1)]
    async with asyncio.timeout(100):
        report = await run_all(jobs, overload=empty())
    assert isinstance(report[1], Success)
