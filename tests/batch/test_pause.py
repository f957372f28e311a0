"""When the retry budget of a run is empty: the run pauses, probes, and resumes or stops."""

import itertools
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from aiosupervise import Budget, Failure, Overload, Pending, Reason, Success, map_all, run_all, supervise, verdict

from .service import POLICY, DownError, Service, budget_of, down, empty, now, tokens_of

pytestmark = pytest.mark.looptime

STRATEGIES = ["gather", "as_completed", "wait"]


async def test_nothing_starts_what_runs_finishes_and_one_probe_goes() -> None:
    """In the pause no attempt is made; running attempts finish; then one new job starts, and nothing beside it."""
    service = Service(takes=1, script={0: [down(1)], 1: [(1.1, None)], 2: [(1.9, None)]})
    report = await map_all(supervise(POLICY)(service), range(6), limit=3, overload=empty())
    assert service.numbers()[:3] == [0, 1, 2]
    probe, number = service.attempts[3]
    assert number == 3
    assert 1.25 <= probe <= 1.5
    assert [time for time, _ in service.attempts[4:]] == pytest.approx([probe + 1, probe + 1, probe + 1])
    assert service.numbers()[4:] == [0, 4, 5]
    assert report.values() == list(range(6))


async def test_a_retry_that_was_paid_before_waits_too() -> None:
    """A retry whose wait ends in the pause is queued behind the calls that were queued before it."""
    service = Service(script={0: [down()], 1: [down(0.01)], 2: [down(0.02)]})
    setting = empty(tokens=14)
    await map_all(supervise(POLICY.replace(backoff=[0.1]))(service), range(3), overload=setting)
    probe, number = service.attempts[3]
    assert number == 1
    assert probe > 0.2
    assert service.attempts[3:] == [(probe, 1), (probe, 2), (probe, 0)]
    assert tokens_of(setting) == 125 + 14


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_probe_that_succeeds_lets_everybody_go_in_order_and_unpaid(strategy: Any) -> None:
    """Queued calls are released at once, in order; a quarter of the capacity is put back, and nothing taken from it."""
    service = Service(back=0.1)
    setting = empty()
    report = await map_all(supervise(POLICY)(service), range(5), strategy=strategy, overload=setting)
    (probe,) = {time for time, _ in service.attempts[5:]}
    assert service.numbers()[5:] == [0, 1, 2, 3, 4]
    assert 0.25 <= probe <= 0.5
    assert tokens_of(setting) == 125
    assert sorted(report.values()) == [0, 1, 2, 3, 4]
    assert all(isinstance(outcome, Success) and outcome.attempts == 2 for outcome in report)


@pytest.mark.parametrize("capacity", [40, 500])
async def test_a_quarter_is_put_back_and_never_more_than_there_is_room_for(capacity: int) -> None:
    """A quarter of the capacity; with what was there it can be at most full."""
    service = Service(script={0: [down()]})
    budget = budget_of(13, capacity=capacity)
    await map_all(supervise(POLICY)(service), [0], overload=Overload(budget=budget))
    assert budget.tokens == 13 + capacity // 4


@pytest.mark.parametrize("seed", range(5))
async def test_each_failed_probe_doubles_the_pause_up_to_the_longest(seed: int) -> None:
    """Each pause takes half to all of its length, and the lengths are 1, 2, 4, 5, 5, 5 when the longest is 5."""
    random.seed(seed)
    service = Service(back=1000)
    setting = empty(first_pause=1, longest_pause=5, probes=6)
    await map_all(supervise(POLICY)(service), [0], overload=setting)
    pauses = [later - sooner for sooner, later in itertools.pairwise(service.times(0))]
    shares = [pause / length for pause, length in zip(pauses, [1, 2, 4, 5, 5, 5], strict=True)]
    assert all(0.5 - 1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert max(shares) - min(shares) > 0.05, "no jitter"


async def test_the_pause_is_short_again_after_a_success() -> None:
    """After it has gone on, a run in new trouble begins with the first pause, and counts its probes anew."""
    service = Service(script={0: [down()] * 3, 1: [down(20)] * 2})
    setting = Overload(budget=budget_of(0, capacity=8), first_pause=1, longest_pause=30, probes=3)
    report = await map_all(supervise(POLICY)(service), range(2), overload=setting)
    assert [type(outcome) for outcome in report] == [Success, Success]
    first, second, third = service.times(1)
    assert 20.5 <= second <= 21
    assert 1 <= third - second - 20 <= 2
    assert first == 0


async def test_a_failed_probe_goes_to_the_back_of_the_line() -> None:
    """Probes are taken in turn: who has failed waits until all others have been tried."""
    service = Service(back=4)
    await map_all(supervise(POLICY)(service), range(3), overload=empty())
    probes = [number for time, number in service.attempts if 0 < time < 4]
    assert len(probes) >= 3
    assert probes == [number % 3 for number in range(len(probes))]


@pytest.mark.parametrize("probes", [1, 3, 8])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_after_so_many_failed_probes_the_run_stops(probes: int, strategy: Any) -> None:
    """Calls that wait fail with their last error and the reason; jobs that never ran are pending.

    Each new job is a probe once. When there are no more, the calls that wait take turns. The verdict has one line for
    itself and one for each earlier attempt.
    """
    service = Service(back=10_000)
    inputs = list(range(9))
    run = map_all(supervise(POLICY)(service), inputs, limit=4, strategy=strategy, overload=empty(probes=probes))
    report = await run
    assert len(service.attempts) == 4 + probes
    tried = min(4 + probes, 9)
    assert sorted(failure.index for failure in report.failed) == list(range(tried))
    for failure in report.failed:
        assert failure.error is service.errors[failure.input]
        given_up = verdict(failure.error)
        assert given_up is not None
        assert (failure.reason, given_up.reason) == (Reason.BUDGET, Reason.BUDGET)
        assert given_up.attempts == failure.attempts == len(service.times(failure.input))
        assert len(given_up.splitlines()) == given_up.attempts
    assert [(pending.input, pending.started) for pending in report.pending] == [(n, False) for n in range(tried, 9)]
    assert (run.tally.failed, run.tally.pending, run.tally.running) == (tried, 9 - tried, 0)


async def test_the_error_of_a_call_that_was_held_tells_the_whole_story() -> None:
    """Its verdict lists the earlier attempts, each once, and not the last; its traceback and cause are its own."""
    service = Service(back=10_000)
    report = await map_all(supervise(POLICY)(service), [0], overload=empty(probes=2))
    error = report.failed[0].error
    given_up = verdict(error)
    assert given_up is not None
    assert given_up.splitlines()[0].startswith("gave up after 3 attempts")
    assert [line.split(":")[0].strip() for line in given_up.splitlines()[1:]] == ["attempt 1", "attempt 2"]
    assert error.__cause__ is None


async def test_a_stopped_run_is_continued_by_another() -> None:
    """The pending jobs of the one are the jobs of the next, when the service is back."""
    service = Service(back=100)
    jobs = [partial(supervise(POLICY)(service), number) for number in range(6)]
    report = await run_all(jobs, limit=2, overload=empty(probes=2))
    assert now() < 100
    service = jobs[0].func.__wrapped__  # type: ignore[attr-defined]  # a Supervised
    service._back = 0
    again = await run_all(pending.job for pending in report.pending if pending.job is not None)
    assert again.values() == [4, 5]
    assert len(service.times(5)) == 1


async def test_coroutines_that_never_ran_are_closed_when_the_run_stops() -> None:
    """They cannot be run again, and print no warning that they were never awaited."""
    call = supervise(POLICY)(Service(back=10_000))
    report = await run_all([call(number) for number in range(6)], limit=1, overload=empty(probes=2))
    assert [type(outcome) for outcome in report] == [Failure, Failure, Failure, Pending, Pending, Pending]
    assert [pending.job for pending in report.pending] == [None] * 3


@pytest.mark.parametrize("streamed", [False, True], ids=["awaited", "streamed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_lazy_source_is_closed_when_the_run_stops(strategy: Any, *, streamed: bool) -> None:
    """It is pulled no further than there were slots and probes, and closed where it stands."""
    pulled: list[int] = []
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            for number in itertools.count():
                pulled.append(number)
                yield number
        finally:
            closed.append(True)

    run = map_all(
        supervise(POLICY)(Service(back=10_000)), source(), limit=3, strategy=strategy, overload=empty(probes=2)
    )
    if streamed:
        async with run:
            outcomes = [outcome async for outcome in run]
            assert closed == [True]
    else:
        outcomes = list(await run)
    assert closed == [True]
    assert pulled == [0, 1, 2, 3, 4]
    assert [type(outcome) for outcome in outcomes] == [Failure] * 5


async def test_a_streamed_run_goes_on_after_a_pause() -> None:
    """It hands over each outcome once, those from before the pause and those from after it."""
    service = Service(back=3, takes=0.1)
    async with map_all(supervise(POLICY)(service), range(40), limit=4, overload=empty()) as run:
        values = [outcome.value async for outcome in run if isinstance(outcome, Success)]
    assert values == list(range(40))


async def test_jobs_that_run_when_the_run_stops_finish() -> None:
    """A success is a success; who wants to retry after the stop fails with the reason, and so does who slept."""
    service = Service(script={0: [down()] * 9, 1: [(30, None)], 2: [down(30)], 3: [down()] * 9})
    policy = POLICY.replace(backoff=lambda _, error: 100 if error is first else 0)
    first = service._script[3][0][1]
    report = await map_all(supervise(policy)(service), [3, 0, 1, 2], overload=empty(tokens=14, probes=3))
    assert [type(outcome) for outcome in report] == [Failure, Failure, Success, Failure]
    assert [failure.reason for failure in report.failed] == [Reason.BUDGET] * 3
    assert (len(service.times(3)), len(service.times(0)), len(service.times(2))) == (1, 4, 1)


async def test_when_exhausted_fail_gives_up_on_the_calls() -> None:
    """Who cannot pay fails at once with the reason; the run does not pause, and the others continue."""
    service = Service(back=1, script={3: [(2, None)], 4: [(2, None)]})
    setting = empty(tokens=14, when_exhausted="fail")
    report = await map_all(supervise(POLICY.replace(max_retries=1))(service), range(5), overload=setting)
    assert [failure.reason for failure in report.failed] == [Reason.EXHAUSTED, Reason.BUDGET, Reason.BUDGET]
    assert [len(service.times(number)) for number in range(5)] == [2, 1, 1, 1, 1]
    assert report.elapsed == 2


async def test_without_overload_protection_nothing_is_counted() -> None:
    """`overload=None`: every call makes all its attempts, however many fail, and nothing pauses."""
    service = Service(back=10_000)
    report = await map_all(supervise(POLICY)(service), range(200), overload=None)
    assert len(service.attempts) == 800
    assert {failure.reason for failure in report.failed} == {Reason.EXHAUSTED}
    assert report.elapsed == 0


async def test_by_default_a_run_is_protected() -> None:
    """Without a word about it: when the budget is empty, retries that were paid wait as well, and probes are few."""
    service = Service(back=10_000)
    report = await map_all(supervise(POLICY.replace(max_retries=None))(service), list(range(300)), limit=50)
    assert len(service.attempts) == 50 + 8
    assert (len(report.failed), len(report.pending)) == (50 + 8, 250 - 8)
    assert all(isinstance(failure.error, DownError) for failure in report.failed)


@pytest.mark.usefixtures("untraced")
async def test_no_number_of_probes_overflows() -> None:
    """Whoever asks for thousands of probes gets them: the pause stays at the longest."""
    service = Service(script={0: [down()] * 1040})
    setting = Overload(budget=Budget(capacity=0), probes=2000, first_pause=0.5, longest_pause=1)
    report = await map_all(supervise(POLICY)(service), [0], overload=setting)
    assert report.values() == [0]
