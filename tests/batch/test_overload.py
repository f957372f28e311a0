"""Overload protection of a run: what it counts, whom it concerns and what it shows."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from aiosupervise import (
    Backoff,
    Budget,
    Failure,
    Overload,
    Reason,
    Success,
    map_all,
    run_all,
    supervise,
    verdict,
)

from .service import POLICY, DownError, Service, budget_of, busy, down, empty, now, tokens_of

pytestmark = pytest.mark.looptime


# What it counts.


async def test_each_job_that_succeeds_without_a_retry_puts_one_back() -> None:
    """Supervised or not; and never more than there is room for."""
    setting = Overload(budget=budget_of(100, capacity=110))
    await map_all(Service(), range(4), overload=setting)
    assert tokens_of(setting) == 104
    await map_all(supervise(POLICY)(Service()), range(4), overload=setting)
    assert tokens_of(setting) == 108
    await map_all(Service(), range(4), overload=setting)
    assert tokens_of(setting) == 110


async def test_a_retry_that_succeeds_puts_back_its_price() -> None:
    """The last price only, and no more for the job; a failure gives nothing back."""
    service = Service(script={0: [down()], 1: [busy(0)], 2: [down()] * 2, 3: [down()] * 4, 4: [down(), busy(0)]})
    setting = Overload(budget=budget_of(200))
    report = await map_all(supervise(POLICY)(service), range(5), limit=1, overload=setting)
    assert [type(outcome) for outcome in report] == [Success, Success, Success, Failure, Success]
    assert tokens_of(setting) == 200 - 14 - 3 * 14 - 14


async def test_a_job_with_a_retry_in_a_child_task_has_had_a_retry() -> None:
    """It puts its price back, and not the one token of a job without any."""
    service = Service(script={0: [down()]})
    setting = Overload(budget=budget_of(200))

    async def job() -> None:
        await asyncio.create_task(supervise(POLICY)(service)(0))

    await run_all([job], overload=setting)
    assert tokens_of(setting) == 200


# Whom it concerns.


async def test_a_setting_can_be_used_again() -> None:
    """Each run gets a fresh budget: one that has used up its own leaves nothing behind for the next."""
    setting = Overload()
    service = Service(back=1)
    await map_all(supervise(POLICY)(service), range(100), overload=setting)
    assert now() > 1
    after = now()
    report = await map_all(supervise(POLICY)(Service(script={0: [down()]})), range(3), overload=setting)
    assert now() == after
    assert len(report.succeeded) == 3


async def test_a_budget_can_be_shared_by_runs() -> None:
    """Tokens that one run has taken are not available to the other until they are returned."""
    budget = budget_of(14)
    spender = Service(script={0: [down(), (50, None)]})
    other = Service(script={0: [down(1)]})
    runs = [map_all(supervise(POLICY)(one), [0], overload=Overload(budget)) for one in (spender, other)]
    await asyncio.gather(*(asyncio.ensure_future(run) for run in runs))
    assert spender.times(0) == [0, 0]
    assert other.times(0)[1] > 1, "the other had to pause"
    assert budget.tokens == 14 + budget.capacity // 4, "what was put back, and the quarter for the probe"


async def test_calls_in_child_tasks_are_calls_of_the_run() -> None:
    """Calls that a job makes in tasks of its own are held in the same queue, and are released in order."""
    service = Service(script={number: [down(0.01 * number)] for number in range(6)})
    call = supervise(POLICY)(service)

    async def job(first: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + 3):
                group.create_task(call(number))

    report = await map_all(job, [0, 3], overload=empty())
    assert service.between(0.1, 0.2) == []
    assert service.numbers()[6:] == [0, 1, 2, 3, 4, 5]
    assert [outcome.attempts for outcome in report.succeeded] == [4, 4]


@pytest.mark.parametrize("inner", [Overload(), None], ids=["protected", "unprotected"])
async def test_a_nested_run_is_not_held_by_the_outer_one(inner: Overload | None) -> None:
    """It has protection of its own, or none: the pause of the outer run does not concern it."""
    service = Service(script={0: [down()], 1: [down(0.1)]})
    call = supervise(POLICY)(service)
    setting = empty(first_pause=10)

    async def nested() -> None:
        await run_all([partial(call, 1)], overload=inner)

    jobs: list[Any] = [partial(call, 0), nested]
    await run_all(jobs, overload=setting)
    assert service.times(1) == [0, 0.1]
    assert service.times(0)[1] >= 5
    assert tokens_of(setting) == 125


async def test_a_nested_run_does_not_pause_the_outer_one() -> None:
    """Neither its empty budget nor a retry-after in it does; its retries count in the outer tally."""
    service = Service(script={0: [down()], 1: [busy(10)], 2: [down(1)]})
    call = supervise(POLICY)(service)

    async def nested() -> None:
        await map_all(call, [0, 1], overload=empty(first_pause=10))

    outer = empty(tokens=14)
    jobs: list[Any] = [nested, *(partial(call, number) for number in range(2, 9))]
    report = await run_all(jobs, limit=2, overload=outer)
    assert service.times(2) == [0, 1]
    assert service.times(8) == [1]
    assert report.tally.retries == 3
    assert tokens_of(outer) == 14 + 6


async def test_the_budget_of_a_policy_takes_the_place_of_that_of_the_run() -> None:
    """Its calls pay from their own, give up when that is empty, and never pause the run or move its tokens."""
    own = budget_of(14)
    service = Service(script={0: [down()] * 9, 1: [down()]})
    setting = empty(tokens=20)
    jobs: list[Callable[[], Awaitable[int]]] = [
        partial(supervise(POLICY.replace(budget=own))(service), 0),
        partial(supervise(POLICY)(service), 1),
        *(partial(supervise(POLICY)(service), number) for number in range(2, 9)),
    ]
    report = await run_all(jobs, limit=1, overload=setting)
    assert [(failure.index, failure.reason, failure.attempts) for failure in report.failed] == [(0, Reason.BUDGET, 2)]
    assert report.elapsed == 0
    assert own.tokens == 0
    assert tokens_of(setting) == 20 + 7


async def test_a_call_with_a_budget_of_its_own_is_held_too() -> None:
    """The pause holds every retry, whichever budget has paid for it."""
    own = Budget()
    service = Service(script={0: [down()], 1: [down(0.01)]})
    jobs = [partial(supervise(POLICY)(service), 0), partial(supervise(POLICY.replace(budget=own))(service), 1)]
    await run_all(jobs, overload=empty())
    assert service.times(1)[1] >= 0.25
    assert own.tokens == 500


async def test_layers_do_not_multiply_in_the_line() -> None:
    """What an inner call gave up on when the run stopped is not tried again by the outer one, and is its own error."""
    service = Service(back=10_000)
    inner = supervise(POLICY)(service)

    @supervise(POLICY.replace(name="outer"))
    async def outer(number: int) -> int:
        return await inner(number)

    report = await map_all(outer, [0, 1], overload=empty(probes=2))
    assert len(service.attempts) == 4
    assert [failure.reason for failure in report.failed] == [Reason.BUDGET] * 2
    assert [failure.error for failure in report.failed] == [service.errors[0], service.errors[1]]
    assert [str(verdict(failure.error)).startswith("gave up") for failure in report.failed] == [True, True]


class Unreliable:
    """Fails a share of all attempts: always the same ones, whatever their order."""

    def __init__(self, share: float, seed: int) -> None:
        self.attempts: list[tuple[float, int]] = []
        self._share = share
        self._seed = seed
        self._start = now()
        self._tried: Counter[int] = Counter()

    async def __call__(self, number: int) -> int:
        self.attempts.append((round(now() - self._start, 6), number))
        self._tried[number] += 1
        await asyncio.sleep(0.1)
        if random.Random(f"{self._seed} {number} {self._tried[number]}").random() < self._share:
            raise DownError
        return number


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.usefixtures("untraced")
async def test_independent_failures_pause_nobody(share: float, seed: int) -> None:
    """With 5 or 20 % of failures at random, a run makes the very same attempts at the same times as without."""
    policy = POLICY.replace(max_retries=5, backoff=Backoff(jitter="none"))
    seen: list[tuple[list[tuple[float, int]], list[tuple[type, int]]]] = []
    for setting in (None, Overload()):
        service = Unreliable(share, seed)
        report = await map_all(supervise(policy)(service), range(1000), limit=50, overload=setting)
        seen.append((sorted(service.attempts), [(type(outcome), outcome.index) for outcome in report]))
        assert len(report.failed) <= 2
    assert seen[0] == seen[1]


# What it shows.


async def test_repr_tells_the_state_in_words() -> None:
    """Running, paused for how long and why, probing, running again; and ended, at last."""
    service = Service(takes=1, script={0: [down(1)], 1: [down(1)]})
    run = map_all(supervise(POLICY)(service), range(4), limit=1, overload=empty(first_pause=4, longest_pause=4))
    seen: list[str] = []

    async def watch() -> None:
        while not seen or "ended" not in seen[-1]:
            word = re.sub(r"\d", "#", repr(run).partition(": ")[2].partition(";")[0])
            if not seen or seen[-1] != word:
                seen.append(word)
            await asyncio.sleep(0.05)

    task = asyncio.ensure_future(run)
    await asyncio.sleep(0)
    await asyncio.gather(task, watch())
    pause = "paused for #.# s, the retry budget is empty"
    assert seen == ["running", pause, "probing", pause, "probing", "running", "ended"]


async def test_repr_tells_that_the_server_asked_to_wait() -> None:
    """With the seconds that are left."""
    run = map_all(supervise(POLICY)(Service(script={0: [busy(10)]})), [0])
    seen: list[str] = []
    asyncio.get_running_loop().call_at(4, lambda: seen.append(repr(run)))
    await run
    assert "paused for 6.0 s, the server asked to wait" in seen[0]


async def test_repr_tells_that_the_run_was_stopped() -> None:
    """While what still runs finishes, and afterwards, one sees why nothing more will start."""
    service = Service(script={number: [down()] * 9 for number in range(9)} | {1: [(50, None)]})
    run = map_all(supervise(POLICY)(service), range(9), limit=2, overload=empty(probes=2))
    seen: list[str] = []
    asyncio.get_running_loop().call_at(40, lambda: seen.append(repr(run)))
    await run
    assert "stopped, 2 probes failed" in seen[0]
    assert "stopped, 2 probes failed" in repr(run)
