"""Inputs that always fail are no outage: the run goes on as without protection while most first attempts succeed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from aiosupervise import (
    Adaptive,
    Budget,
    Event,
    Overload,
    Policy,
    Reason,
    Report,
    RunPaused,
    RunResumed,
    Success,
    map_all,
    run_all,
    supervise,
)

from .service import POLICY, Answer, DownError, Service, budget_of, down, empty, now, tokens_of

pytestmark = pytest.mark.looptime

ONCE = POLICY.replace(max_retries=0)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of failures are not logged."""
    caplog.set_level("CRITICAL", "aiosupervise")


async def play(
    jobs: int, limit: int | Adaptive, is_dead: Callable[[int], bool], overload: Overload | None
) -> tuple[Report[int, int], float]:
    """Run jobs of a healthy service, some of whose inputs always fail; return the report, and how long it took."""
    random.seed(3)
    lengths = [random.expovariate(10) for _ in range(jobs)]

    @supervise(retry_on=DownError)
    async def call(number: int) -> int:
        await asyncio.sleep(lengths[number])
        if is_dead(number):
            raise DownError
        return number

    began = now()
    return await map_all(call, range(jobs), limit=limit, overload=overload), now() - began


@pytest.mark.slow
@pytest.mark.parametrize("limit", [5, 20, 100])
@pytest.mark.parametrize("percent", [1, 3, 5, 10, 20, 30])
@pytest.mark.usefixtures("quiet")
async def test_a_run_with_dead_inputs_ends_as_without_protection(percent: int, limit: int) -> None:
    """Spread at random, up to 30 % of them: the same jobs are done, the same fail, and it takes hardly longer."""
    jobs = 1000
    dead = set(random.Random(percent).sample(range(jobs), jobs * percent // 100))
    (bare, seconds), (protected, longer) = [
        await play(jobs, limit, dead.__contains__, overload) for overload in (None, Overload())
    ]
    assert {failure.index for failure in protected.failed} == {failure.index for failure in bare.failed} == dead
    assert (len(protected.succeeded), len(protected.pending)) == (jobs - len(dead), 0)
    assert protected.stopped is None
    assert longer <= 1.3 * seconds


@pytest.mark.usefixtures("quiet", "untraced")
async def test_one_dead_host_of_ten_costs_its_own_pages_alone() -> None:
    """The pages of the nine others are all done, and nothing pauses."""
    report, seconds = await play(1000, 100, lambda number: number % 10 == 4, Overload())
    assert {failure.index % 10 for failure in report.failed} == {4}
    assert len(report.succeeded) == 900
    assert seconds == (await play(1000, 100, lambda number: number % 10 == 4, None))[1]


# Which jobs count, and when the circuit opens. The jobs of these tests run one after another.

KINDS: dict[str, tuple[Policy, list[Answer]]] = {
    "S": (POLICY, []),  # succeeds
    "F": (ONCE, [down()]),  # fails, and is not retried
    "R": (POLICY, [down()]),  # fails, and wants to retry
    "N": (POLICY, [(0.0, LookupError("404"))]),  # fails by its own fault
    "O": (ONCE.replace(budget=budget_of(100)), [down()]),  # fails, with a budget of its own
}


async def pauses(kinds: str, **options: Any) -> tuple[int, Report[int, None]]:
    """Run jobs of these kinds with a budget that is always empty; return how often the run paused, and its report."""
    events: list[Event] = []
    service = Service(script={number: list(KINDS[kind][1]) for number, kind in enumerate(kinds)})
    jobs = [partial(supervise(KINDS[kind][0])(service), number) for number, kind in enumerate(kinds)]
    report = await run_all(jobs, limit=1, overload=Overload(Budget(capacity=0), **options), listen=events.append)
    assert not report.pending
    return sum(isinstance(event, RunPaused) for event in events), report


@pytest.mark.parametrize(
    ("kinds", "opens"),
    [
        ("RS", True),
        ("SRS", True),
        ("SSRS", False),
        ("SSFRS", True),
        ("SNNRS", True),
        ("SSNNRS", False),
        ("SSOOORS", False),
        ("S" * 25 + "F" * 24 + "RS", True),
        ("S" * 26 + "F" * 23 + "RS", False),
        ("S" * 90 + "F" * 24 + "RS", True),
        ("S" * 90 + "F" * 23 + "RS", False),
        ("F" * 90 + "S" * 25 + "RS", True),
        ("F" * 90 + "S" * 26 + "RS", False),
    ],
)
async def test_it_opens_when_half_of_the_latest_first_attempts_failed(kinds: str, *, opens: bool) -> None:
    """Of the last 50, or of all if there are fewer; errors that are the call's own are neutral."""
    paused, report = await pauses(kinds)
    assert paused == opens
    assert isinstance(report[-2], Success), "the retry is made, before or after a probe"


async def test_successes_before_the_first_failure_count() -> None:
    """The budget is empty after 12 of 20 dead inputs, but of the 50 latest jobs most have succeeded: no pause."""
    events: list[Event] = []
    service = Service(script={number: [down()] * 99 for number in range(50, 70)})
    policy = POLICY.replace(max_retries=3)
    report = await map_all(supervise(policy)(service), range(80), limit=1, listen=events.append)
    assert not [event for event in events if isinstance(event, RunPaused)]
    assert (len(report.succeeded), len(report.failed)) == (60, 20)


async def test_while_most_jobs_succeed_retries_go_on_unpaid() -> None:
    """At the times that the policy says, as often as it says; their success puts nothing back."""
    service = Service(script={3: [down()] * 9, 4: [down()]})
    setting = empty(tokens=5)
    policy = POLICY.replace(max_retries=2, backoff=[3])
    report = await map_all(supervise(policy)(service), range(5), limit=1, overload=setting)
    assert service.times(3) == [0, 3, 6]
    assert service.times(4) == [6, 9]
    assert [failure.reason for failure in report.failed] == [Reason.EXHAUSTED]
    assert tokens_of(setting) == 5 + 3


@pytest.mark.parametrize(("good", "reasons"), [(2, []), (1, [Reason.BUDGET])])
async def test_calls_are_given_up_on_only_while_the_service_fails(good: int, reasons: list[Reason]) -> None:
    """`when_exhausted="fail"` follows the same condition."""
    paused, report = await pauses("S" * good + "RS", when_exhausted="fail")
    assert paused == 0
    assert [failure.reason for failure in report.failed] == reasons


async def fail_twice(service: Service) -> None:
    """A job whose two calls fail, and that ends well."""
    call = supervise(ONCE)(service)
    for number in (100, 101):
        with suppress(DownError):
            await call(number)


@pytest.mark.parametrize(("twice", "good", "opens"), [(1, 3, False), (2, 3, True)])
async def test_a_job_counts_once(twice: int, good: int, *, opens: bool) -> None:
    """However many of its calls fail, as one that failed; and not as one that succeeded besides."""
    service = Service(script={number: [down()] * 9 for number in (100, 101)} | {0: [down()]})
    call = supervise(POLICY)(service)
    events: list[Event] = []
    jobs: list[Callable[[], Awaitable[object]]] = [
        *[partial(fail_twice, service)] * twice,
        *(partial(call, number) for number in range(1, good + 1)),
        partial(call, 0),
        partial(call, 99),
    ]
    await run_all(jobs, limit=1, overload=empty(), listen=events.append)
    assert any(isinstance(event, RunPaused) for event in events) == opens


@pytest.mark.parametrize(
    ("kinds", "opens"),
    [
        ("F" * 24 + "S" * 25 + "R", False),
        ("F" * 16 + "S" * 25 + "F" * 8 + "R", False),
        ("F" * 15 + "S" * 25 + "F" * 9 + "R", True),
        ("F" * 16 + "S" * 24 + "F" * 8 + "R", True),
        ("SFSR", True),
    ],
    ids=["mixed", "nine in a row", "ten in a row", "fewer than fifty", "four"],
)
async def test_when_every_job_has_started_it_takes_more_to_open(kinds: str, *, opens: bool) -> None:
    """There is no new job that could be the probe: of a full window, the last ten must have failed."""
    paused, _ = await pauses(kinds)
    assert paused == opens
    paused, _ = await pauses(kinds + "S")
    assert paused == 1


async def test_attempts_that_succeed_in_the_pause_take_the_place_of_a_probe() -> None:
    """If most of the last 50 have succeeded at its end, the service is up: the run resumes at once."""
    script = {number: [down()] for number in range(24)} | {number: [(0.01, None)] for number in range(24, 49)}
    service = Service(takes=1, script=script | {49: [down(0.02)]} | {number: [(0.1, None)] for number in range(50, 60)})
    jobs = [partial(supervise(ONCE if number < 24 else POLICY)(service), number) for number in range(150)]
    events: list[Event] = []
    setting = Overload(Budget(capacity=13), first_pause=1)
    report = await run_all(jobs, limit=60, overload=setting, listen=events.append)
    assert [type(event) for event in events if isinstance(event, RunPaused | RunResumed)] == [RunPaused, RunResumed]
    resumed = service.times(49)[1]
    assert 0.5 <= resumed <= 1.02
    assert len(service.between(resumed - 0.001, resumed + 0.001)) >= 11
    assert isinstance(report[49], Success)
    assert tokens_of(setting) == 13
