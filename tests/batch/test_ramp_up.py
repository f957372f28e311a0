"""The ramp-up after a server's retry-after: calls and jobs start one after the other, at random intervals."""

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial

import pytest

from aiosupervise import Failure, Overload, Pending, Success, map_all, run_all, supervise

from .service import POLICY, Answer, BusyError, Service, budget_of, busy, down, empty, tokens_of

pytestmark = pytest.mark.looptime


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every random interval and pause as long as it can be."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)


@pytest.fixture
def middling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every random interval and pause the mean of its range."""
    monkeypatch.setattr("random.uniform", lambda shortest, longest: (shortest + longest) / 2)


@pytest.mark.usefixtures("middling")
@pytest.mark.parametrize(("calls", "limit", "slots"), [(4, 4, 4), (4, 20, 20), (4, None, 2), (3, None, 1)])
async def test_the_queue_is_spread_over_a_quarter_of_the_wait(calls: int, limit: int | None, slots: int) -> None:
    """The mean interval is a quarter of the wait, divided by the slots, or by the queue's length without a limit."""
    service = Service(script={number: [busy(8 if number == 0 else 4)] for number in range(calls)})
    await map_all(supervise(POLICY.replace(max_retry_after=8))(service), range(calls), limit=limit)
    times = [time for time, _ in service.attempts[calls:]]
    assert times[:2] == pytest.approx([8, 8 + 8 / 4 / slots])


@pytest.mark.usefixtures("middling")
async def test_of_two_waits_that_end_together_the_one_asked_for_last_spreads_the_queue() -> None:
    """A server's latest request, for the same moment, is the best estimate of how long it needs."""
    service = Service(script={0: [busy(8)], 1: [busy(4, 4)], 2: [busy(1)], 3: [busy(1)]})
    await map_all(supervise(POLICY)(service), range(4), limit=4)
    times = [time for time, _ in service.attempts[4:]]
    assert times[:2] == pytest.approx([8, 8 + 4 / 4 / 4])


@pytest.mark.usefixtures("middling")
async def test_during_the_ramp_up_the_run_is_running() -> None:
    """Its repr shows neither a probe nor the pause that is over."""
    service = Service(script={number: [busy(8 if number == 0 else 4)] for number in range(4)})
    run = map_all(supervise(POLICY)(service), range(4), limit=4)
    seen: list[str] = []
    asyncio.get_running_loop().call_at(8.1, lambda: seen.append(repr(run)))
    await run
    assert seen == ["<Run Service: running; 3 running, 1 succeeded, 0 failed, 0 pending>"]


@pytest.mark.usefixtures("longest")
async def test_a_server_that_asks_in_the_pause_of_an_empty_budget_does_not_shorten_it() -> None:
    """A wait that ends before the pause does is over by then."""
    service = Service(script={0: [down()], 1: [busy(2, 1)]})
    await map_all(supervise(POLICY)(service), range(2), overload=empty(first_pause=9))
    assert service.attempts[2:] == [(9, 0), (9, 1)]


@pytest.mark.usefixtures("middling")
async def test_new_jobs_start_one_by_one_behind_the_queue() -> None:
    """When the queue is empty, free slots are filled at the same intervals, and their jobs are not probes."""
    setting = Overload(budget_of(100))
    service = Service(takes=0.1, script={0: [busy(8)]})
    await map_all(supervise(POLICY)(service), range(9), limit=4, overload=setting)
    starts = [time for time, number in service.attempts if number > 3]
    assert starts == pytest.approx([8, 9, 9.5, 10, 10])
    assert tokens_of(setting) == 100 + 8


async def test_the_ramp_up_may_have_no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest interval is 0."""
    monkeypatch.setattr("random.uniform", lambda shortest, _: shortest)
    service = Service(script={number: [busy(8)] for number in range(4)})
    await map_all(supervise(POLICY)(service), range(4), limit=4)
    assert [time for time, _ in service.attempts[4:]] == [8, 8, 8, 8]


@pytest.mark.usefixtures("longest")
async def test_a_server_that_asks_again_during_the_ramp_up_stops_it() -> None:
    """Calls that are still queued wait for the later moment."""
    service = Service(script={number: [busy(8), busy(8)] for number in range(4)})
    await map_all(supervise(POLICY)(service), range(4), limit=4)
    assert len(service.between(8, 9.1)) == 1
    assert service.between(9.1, 17) == []
    assert len(service.attempts) == 12


@pytest.mark.usefixtures("longest")
async def test_a_slightly_later_moment_lengthens_the_wait_slightly() -> None:
    """If a server asks for a slightly later moment, the wait is longer by exactly that difference."""
    service = Service(script={0: [busy(10)], 1: [busy(0.2, 9.9)]})
    await map_all(supervise(POLICY)(service), range(2))
    assert service.attempts[2][0] == pytest.approx(10.1)


@pytest.mark.usefixtures("longest")
async def test_pauses_double() -> None:
    """Each pause is twice as long as the one before, up to the longest."""
    service = Service(script={0: [down()] * 8})
    await map_all(supervise(POLICY)(service), [0], overload=empty())
    times = service.times(0)
    assert [later - time for time, later in itertools.pairwise(times)] == [0.5, 1, 2, 4, 8, 16, 20, 20]


async def test_when_the_queue_is_empty_one_new_job_after_the_other_is_the_probe() -> None:
    """A probe that fails without a retry leaves the queue empty: after the pause a new job is the probe."""
    service = Service(script={0: [down()], 1: [down()], 2: [down()]})
    patient = POLICY.replace(deadline=0.1)
    jobs = [supervise(patient if n == 0 else POLICY.replace(max_retries=0))(service) for n in range(5)]
    report = await run_all([partial(job, n) for n, job in enumerate(jobs)], limit=1, overload=empty())
    assert [failure.index for failure in report.failed] == [0, 1, 2]
    assert len(report.succeeded) == 2
    assert service.times(2)[0] - service.times(1)[0] >= 0.5


async def test_tokens_are_whole() -> None:
    """A quarter of a small budget is rounded down."""
    setting = Overload(budget_of(0, capacity=6))
    service = Service(script={0: [down()]})
    await map_all(supervise(POLICY)(service), [0], overload=setting)
    assert repr(tokens_of(setting)) == "1"


async def test_the_last_second_of_a_pause_is_shown_as_it_is() -> None:
    """The repr shows the remaining time of a pause in tenths of a second."""
    service = Service(script={0: [busy(10)]})
    run = map_all(supervise(POLICY)(service), [0])
    seen: list[str] = []
    asyncio.get_running_loop().call_at(9.5, lambda: seen.append(repr(run)))
    await run
    assert "paused for 0.5 s" in seen[0]


async def test_the_repr_of_a_run_without_protection_shows_the_plain_state() -> None:
    """It shows no pause and no probe."""
    run = map_all(Service(takes=5), [0], overload=None)
    seen: list[str] = []
    asyncio.get_running_loop().call_at(1, lambda: seen.append(repr(run)))
    await run
    assert seen == ["<Run Service: running; 1 running, 0 succeeded, 0 failed, 0 pending>"]


@pytest.mark.usefixtures("longest")
async def test_a_job_that_waits_for_a_slot_is_closed_when_the_loop_shuts_down() -> None:
    """An item that an async source gave during a pause is pending when everything is cancelled, and closed."""
    service = Service(script={0: [down(1)]})
    call = supervise(POLICY)(service)
    late = call(1)

    async def jobs() -> AsyncIterator[Coroutine[object, None, int]]:
        yield call(0)
        await asyncio.sleep(2)
        yield late

    run = run_all(jobs(), limit=2, overload=empty(first_pause=9))
    running = asyncio.ensure_future(run)
    await asyncio.sleep(3)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [type(outcome) for outcome in run.report] == [Pending, Pending]
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED


@pytest.mark.parametrize("answer", [down(), busy(3)])
async def test_a_call_that_outlives_its_run_is_on_its_own(answer: Answer) -> None:
    """A task that a job leaves behind retries as its policy says, and pays nothing, when the run is over."""
    service = Service(script={1: [(5, answer[1])]})
    left: list[asyncio.Task[int]] = []

    async def leave() -> None:
        left.append(asyncio.ensure_future(supervise(POLICY.replace(backoff=[2]))(service)(1)))

    setting = empty()
    await run_all([leave], overload=setting)
    assert await left[0] == 1
    assert service.times(1)[1] == 5 + 2 + (3 if isinstance(answer[1], BusyError) else 0)
    assert tokens_of(setting) == 1


async def test_a_call_that_first_fails_after_its_run_has_ended_is_not_protected() -> None:
    """The run created no circuit, since nothing had failed in it, and creates none later: only the policy applies."""
    service = Service(script={1: [down(5)]})
    left: list[asyncio.Task[int]] = []

    async def leave() -> None:
        left.append(asyncio.ensure_future(supervise(POLICY.replace(backoff=[2]))(service)(1)))

    await run_all([leave])
    assert await left[0] == 1
    assert service.times(1) == [0, 5 + 2]


async def test_a_call_that_is_cancelled_at_the_moment_of_its_release_makes_no_attempt() -> None:
    """A queued call that is cancelled in the step in which the probe succeeds is not tried again."""
    service = Service(script={1: [down()]})
    failures = iter([ConnectionError()])

    @supervise(POLICY)
    async def cancel_the_other() -> None:
        for error in failures:
            raise error
        other = service.tasks[1]
        assert other is not None
        other.cancel()

    jobs: list[Callable[[], Awaitable[object]]] = [cancel_the_other, partial(supervise(POLICY)(service), 1)]
    report = await run_all(jobs, overload=empty())
    assert [type(outcome) for outcome in report] == [Success, Failure]
    assert len(service.attempts) == 1


async def test_without_protection_a_retry_can_be_cancelled() -> None:
    """A run that is left while a retry is under way ends clean."""
    service = Service(script={0: [down(), (50, None)]})
    async with run_all([partial(supervise(POLICY)(service), 0)], overload=None) as run:
        await asyncio.sleep(3)
    assert [outcome.started for outcome in run.report.pending] == [True]


async def test_what_a_policys_own_budget_paid_goes_back_to_it_alone() -> None:
    """The budget of the run neither pays for such a retry nor gets its price."""
    own, setting = budget_of(100), Overload(budget_of(200))
    service = Service(script={0: [down()]})
    await map_all(supervise(POLICY.replace(budget=own))(service), [0], overload=setting)
    assert (own.tokens, tokens_of(setting)) == (100, 200)


@pytest.mark.usefixtures("middling")
async def test_a_call_that_fails_during_the_ramp_up_pays_as_any_other() -> None:
    """The circuit is closed then: a retry takes its price from the budget, and nothing pauses."""
    service = Service(script={number: [busy(8), down()] for number in range(4)})
    setting = Overload(budget_of(100))
    report = await map_all(supervise(POLICY)(service), range(4), limit=4, overload=setting)
    assert report.values() == [0, 1, 2, 3]
    assert tokens_of(setting) == 100 - 4 * 5
    assert report.elapsed <= 8 + 8 / 4 + 1e-5
