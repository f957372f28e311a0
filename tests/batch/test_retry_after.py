"""A server's retry-after pauses the whole run, not only the job that saw it."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from aiosupervise import Failure, Overload, Reason, RetryAfter, Success, map_all, run_all, supervise

from .service import POLICY, BusyError, Service, budget_of, busy, down, empty, now, tokens_of

pytestmark = pytest.mark.looptime


class Shy:
    """Asks to wait in one of three ways: an attribute of the error, a RetryAfter, the answer of the predicate."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.policy = POLICY if way != "predicate" else POLICY.replace(retry_on=lambda _: 10)

    async def __call__(self) -> None:
        if now() >= 10:
            return
        if self.way == "predicate":
            raise LookupError
        if self.way == "attribute":
            raise BusyError(10)
        raise RetryAfter(10)


@pytest.mark.parametrize("way", ["attribute", "predicate", "RetryAfter"])
@pytest.mark.parametrize("retries", [0, 3])
async def test_nothing_starts_before_the_moment_that_the_server_named(way: str, retries: int) -> None:
    """Until then no new job starts and no call is retried, even if the call that saw it is not retried itself."""
    service = Service(script={0: [down()], 1: [(2, None)]})
    shy = Shy(way)
    calls = [partial(supervise(POLICY.replace(backoff=[3]))(service), number) for number in range(20)]
    jobs: list[Any] = [supervise(shy.policy.replace(max_retries=retries))(shy), *calls]
    await run_all(jobs, limit=3)
    assert service.between(0, 10) == []
    assert min(service.times(2)) >= 10
    assert len(service.attempts) == 21


@pytest.mark.parametrize("limit", [5, 20, None])
async def test_soon_after_everything_resumes_in_order_but_not_all_at_once(limit: int | None) -> None:
    """Queued calls are retried one after the other, in the order of the queue, then new jobs start; all soon."""
    random.seed(4)
    first = limit or 30
    service = Service(script={number: [busy(10, 0.01 * number)] for number in range(first)})
    report = await map_all(supervise(POLICY)(service), range(30), limit=limit)
    after = [(time, number) for time, number in service.attempts if time > 9]
    assert [number for _, number in after] == list(range(30))
    assert all(10 <= time <= 10 + 0.3 + 5 for time, _ in after)
    assert len({time for time, number in after if number < first}) > 1
    assert report.values() == list(range(30))


async def test_the_latest_moment_counts() -> None:
    """If several servers ask, nothing starts before the latest of the moments that they named."""
    service = Service(script={0: [busy(10)], 1: [busy(4, 1)], 2: [busy(19, 1)], 3: [down(2)]})
    await map_all(supervise(POLICY)(service), range(10), limit=4)
    assert service.between(0, 20) == []
    assert len(service.attempts) == 14


async def test_a_second_one_pauses_again() -> None:
    """A server that asks again during the ramp-up pauses the run again, and nothing slips through."""
    service = Service(takes=4, script={0: [busy(1), busy(10, 1)], 1: [(4, None)]})
    await map_all(supervise(POLICY)(service), range(6), limit=2)
    second = service.times(0)[1] + 1
    assert second < 4
    assert service.between(second, second + 10) == []


@pytest.mark.parametrize("retries", [0, 3])
async def test_one_that_is_too_long_fails_its_own_call_and_pauses_nobody(retries: int) -> None:
    """Above the policy's max_retry_after the call gives up at once; all others continue unaffected."""
    service = Service(script={0: [busy(61)], 3: [down()]})
    policy = POLICY.replace(max_retries=3)
    calls = [partial(supervise(policy)(service), number) for number in range(1, 10)]
    first = partial(supervise(policy.replace(max_retries=retries))(service), 0)
    report = await run_all([first, *calls], limit=2)
    assert report.elapsed == 0
    reason = Reason.RETRY_AFTER_TOO_LONG if retries else Reason.EXHAUSTED
    assert [(failure.index, failure.reason) for failure in report.failed] == [(0, reason)]


async def test_max_retry_after_is_the_longest_that_is_waited() -> None:
    """The whole run waits for exactly as long as allowed."""
    service = Service(script={0: [busy(60)]})
    await map_all(supervise(POLICY)(service), range(3), limit=1)
    assert service.numbers() == [0, 0, 1, 2]
    assert service.times(0)[1] >= 60


async def test_it_pauses_without_a_budget_being_empty() -> None:
    """It costs the price of a throttled retry, 5, which its success puts back."""
    service = Service(script={0: [busy(10)]})
    setting = Overload(budget=budget_of(100))
    seen: list[int] = []

    async def look() -> None:
        await asyncio.sleep(5)
        seen.append(tokens_of(setting))

    jobs: list[Any] = [partial(supervise(POLICY)(service), 0), look]
    await run_all(jobs, overload=setting)
    assert seen == [95]
    assert tokens_of(setting) == 100 + 1


async def test_when_the_budget_cannot_pay_for_it_the_run_waits_for_both() -> None:
    """The circuit opens, and its probe starts when the server's moment has come, not before."""
    service = Service(script={0: [busy(10)], 1: [down()]})
    await map_all(supervise(POLICY)(service), range(3), limit=2, overload=empty())
    assert service.between(0, 10) == []
    assert service.numbers() == [0, 1, 2, 0, 1]


async def test_a_probe_that_is_asked_to_wait_has_failed_and_is_waited_for() -> None:
    """The next probe starts no earlier than the server asked."""
    service = Service(script={0: [down(), busy(30)]})
    setting = empty(probes=2)
    report = await map_all(supervise(POLICY)(service), range(3), limit=1, overload=setting)
    first, second, third = service.times(0)
    assert (first, second > 0) == (0, True)
    assert third >= second + 30
    assert [type(outcome) for outcome in report] == [Success] * 3


async def test_as_the_last_probe_it_stops_the_run() -> None:
    """The run stops after the allowed number of failed probes, whatever their errors were."""
    service = Service(script={0: [down()], 1: [busy(30)]})
    report = await map_all(supervise(POLICY)(service), [0, 1, 2], limit=1, overload=empty(probes=1))
    assert [failure.reason for failure in report.failed] == [Reason.BUDGET] * 2
    assert len(report.pending) == 1
    assert report.elapsed < 1


async def test_a_new_job_that_is_asked_to_wait_as_the_probe_has_failed() -> None:
    """If the queue is empty, a new job that is asked to wait is a failed probe."""
    service = Service(script={0: [down()], 1: [busy(30)]})
    jobs = [
        partial(supervise(POLICY.replace(deadline=0.1))(service), 0),
        partial(supervise(POLICY)(service), 1),
    ]
    report = await run_all(jobs, limit=1, overload=empty(probes=1))
    assert [failure.reason for failure in report.failed] == [Reason.DEADLINE, Reason.BUDGET]
    assert service.numbers() == [0, 1]


ENDS: list[Any] = [None, LookupError()]


@pytest.mark.parametrize("end", ENDS, ids=["succeeds", "neutral"])
async def test_one_that_comes_while_a_probe_is_running_is_kept(end: Exception | None) -> None:
    """However the probe ends, nothing starts before the moment that the server named to another call meanwhile."""
    service = Service(script={0: [down()], 1: [busy(10, 2)], 2: [down()], 3: [(3, end)]})
    await map_all(supervise(POLICY)(service), range(6), limit=3, overload=empty())
    (probe,) = service.times(3)
    assert service.between(probe, 12) == []
    assert set(service.numbers()) == set(range(6))


async def test_one_that_comes_while_there_is_no_probe_is_waited_in_full() -> None:
    """The call that saw it is the next probe, when the server's moment has come."""
    service = Service(script={0: [down(), (0, LookupError())], 1: [busy(10, 5)]})
    await map_all(supervise(POLICY)(service), range(2), overload=empty())
    assert service.times(1)[1] >= 15


async def test_a_wait_of_nothing_is_hardly_a_pause() -> None:
    """A retry-after of 0 starts a pause that is over at once."""
    service = Service(script={0: [busy(0)]})
    report = await map_all(supervise(POLICY)(service), range(10), limit=1)
    assert report.values() == list(range(10))
    assert report.elapsed < 0.1


@pytest.mark.parametrize("when_exhausted", ["pause", "fail"])
async def test_it_pauses_whatever_is_done_when_the_budget_is_empty(when_exhausted: Any) -> None:
    """A retry-after pauses the run under both settings of `when_exhausted`."""
    service = Service(script={0: [busy(10)]})
    report = await map_all(
        supervise(POLICY)(service), range(3), limit=1, overload=Overload(when_exhausted=when_exhausted)
    )
    assert report.values() == [0, 1, 2]
    assert service.times(1)[0] >= 10


async def test_without_protection_only_its_own_call_waits() -> None:
    """With `overload=None` no other call or job is paused."""
    service = Service(script={0: [busy(10)]})
    await map_all(supervise(POLICY)(service), range(10), limit=2, overload=None)
    assert service.times(9) == [0]
    assert service.times(0) == [0, 10]


async def test_jobs_of_a_slow_source_do_not_start_in_the_pause() -> None:
    """A job that the source gives in the middle of the pause waits for its end, and none is lost."""
    service = Service(script={0: [busy(10, 0.5)]})

    async def source() -> AsyncIterator[int]:
        for number in range(30):
            yield number
            await asyncio.sleep(0.1)

    report = await map_all(supervise(POLICY)(service), source())
    assert service.between(0.5, 10.5) == []
    assert report.values() == list(range(30))


async def test_a_deadline_ends_the_wait() -> None:
    """A retry-after beyond the deadline of another call: that one gives up at its deadline, not after the pause."""
    service = Service(script={0: [busy(30)], 1: [down(1)]})
    jobs = [
        partial(supervise(POLICY)(service), 0),
        partial(supervise(POLICY.replace(deadline=5))(service), 1),
    ]
    report = await run_all(jobs)
    failure = report[1]
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.elapsed, failure.error) == (Reason.DEADLINE, 5, service.errors[1])


async def test_one_that_is_just_not_too_long_pauses_everybody() -> None:
    """A wait of exactly max_retry_after is waited in full, by the whole run."""
    service = Service(takes=1, script={0: [busy(60)]})
    await map_all(supervise(POLICY)(service), range(4), limit=2)
    assert service.between(0.5, 60) == []
