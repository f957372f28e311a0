"""How a run ends that is paused or probing, and what calls do that are held: deadlines, stops, cancels, memory."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from aiosupervise import (
    Failure,
    Overload,
    Pending,
    Policy,
    Reason,
    Success,
    map_all,
    run_all,
    supervise,
    verdict,
)

from .service import POLICY, BusyError, DownError, Service, busy, down, empty, now

pytestmark = pytest.mark.looptime


# Held calls.


@pytest.mark.parametrize(
    "limits", [{}, {"attempt_timeout": 3}, {"gate": asyncio.Semaphore(5)}], ids=["no other", "attempt timeout", "gate"]
)
async def test_a_deadline_ends_the_wait_in_line(limits: dict[str, Any]) -> None:
    """A held call gives up at its deadline, not later, with its last error and the reason; the others continue."""
    service = Service(script={0: [down()], 1: [down(1)]})
    jobs = [
        partial(supervise(POLICY)(service), 0),
        partial(supervise(POLICY.replace(deadline=3, **limits))(service), 1),
    ]
    report = await run_all(jobs, overload=empty(first_pause=20))
    assert isinstance(report[0], Success)
    failure = report[1]
    assert isinstance(failure, Failure)
    assert (failure.error, failure.reason, failure.attempts) == (service.errors[1], Reason.DEADLINE, 1)
    assert failure.elapsed == 3
    given_up = verdict(failure.error)
    assert given_up is not None
    assert given_up.startswith("gave up after 1 attempt, 2.00 s after the first failure: deadline")


async def test_a_call_that_gave_up_at_its_deadline_is_not_the_probe() -> None:
    """The next queued call is."""
    service = Service(script={0: [down()], 1: [down(0.1)]})
    jobs = [
        partial(supervise(POLICY.replace(deadline=3))(service), 0),
        partial(supervise(POLICY)(service), 1),
    ]
    await run_all(jobs, overload=empty(first_pause=20))
    assert service.numbers() == [0, 1, 1]
    assert 10 <= service.times(1)[1] <= 20.2


async def test_a_deadline_that_interrupts_a_probe_is_a_failed_probe() -> None:
    """The service did not answer in time: the pause doubles."""
    service = Service(script={0: [down(), (50, None)], 1: [down(0.1)]})
    jobs = [
        partial(supervise(POLICY.replace(deadline=10))(service), 0),
        partial(supervise(POLICY)(service), 1),
    ]
    report = await run_all(jobs, overload=empty(first_pause=4))
    assert [failure.reason for failure in report.failed] == [Reason.DEADLINE]
    assert 10 + 4 <= service.times(1)[1] <= 10 + 8


@pytest.mark.parametrize("trouble", ["budget", "retry-after"])
async def test_a_call_that_outlives_its_run_is_not_held_for_ever(trouble: str) -> None:
    """A task that a job left running goes on when the run has ended, held or about to be."""
    service = Service(script={0: [down()], 1: [busy(30, 0.1)] if trouble == "retry-after" else [down()]})
    call = supervise(POLICY.replace(backoff=[0.5]))(service)
    left: list[asyncio.Task[Any]] = []

    async def job(number: int) -> None:
        left.append(asyncio.create_task(call(number)))
        left.append(asyncio.create_task(supervise(POLICY.replace(backoff=[5]))(service)(10 + number)))
        await asyncio.sleep(1)

    overload = Overload() if trouble == "retry-after" else empty(first_pause=100, longest_pause=100)
    await map_all(job, range(2), overload=overload)
    assert now() == 1
    done, pending = await asyncio.wait(left, timeout=60)
    for task in pending:
        task.cancel()
    assert len(done) == 4
    assert all(task.exception() is None for task in done)


class Big:
    """Something that an attempt holds in a local variable."""


@pytest.mark.parametrize("policy", [POLICY, POLICY.replace(deadline=900, attempt_timeout=5)], ids=["plain", "guarded"])
@pytest.mark.parametrize("trouble", ["budget", "retry-after", "backoff"])
async def test_no_locals_are_kept_while_a_call_is_held(policy: Policy, trouble: str) -> None:
    """The variables of a failed attempt are released while its call is queued, or waits for its own backoff."""
    held: list[weakref.ref[Big]] = []
    alive: list[int] = []

    async def attempt() -> None:
        big = Big()
        held.append(weakref.ref(big))
        if len(held) <= 3:
            try:
                int("why")
            except ValueError as error:
                raise (BusyError(20) if trouble == "retry-after" else DownError()) from error

    def look() -> None:
        alive.append(sum(big() is not None for big in held))

    setting = Overload() if trouble != "budget" else empty(first_pause=20)
    call = supervise(policy.replace(backoff=[20 if trouble == "backoff" else 0]))(attempt)
    gc.collect()
    gc.disable()
    try:
        asyncio.get_running_loop().call_at(5, look)
        await run_all([call] * 3, overload=setting)
    finally:
        gc.enable()
    assert alive == [0]


# Ends.

STUCK: dict[str, Callable[[], tuple[Service, Overload]]] = {
    "paused": lambda: (Service(script={n: [down()] for n in range(3)}), empty(first_pause=10)),
    "probing": lambda: (Service(script={n: [down()] for n in range(3)} | {3: [(50, None)]}), empty()),
    "new job probes": lambda: (
        Service(takes=50, script={0: [down(), (0, LookupError())], 1: [(0, LookupError())], 2: [(1, LookupError())]}),
        empty(),
    ),
    "waiting for the server": lambda: (Service(script={0: [busy(30)], 1: [busy(30)], 2: [busy(30)]}), Overload()),
}
"""Runs of jobs 0 to 8 with a limit of 3 that are in that state after 3 seconds."""


@pytest.mark.parametrize("state", STUCK)
async def test_the_timeout_of_a_run_ends_it_in_any_state(state: str) -> None:
    """At that very moment, with an outcome for each job: what was held had started, what never ran had not."""
    service, setting = STUCK[state]()
    report = await map_all(supervise(POLICY)(service), list(range(9)), limit=3, timeout=3, overload=setting)
    assert now() == 3
    assert [outcome.index for outcome in report] == list(range(9))
    for outcome in report.pending:
        assert outcome.started == bool(service.times(outcome.input))
    assert len(report.pending) >= 6


@pytest.mark.parametrize("state", STUCK)
async def test_stop_lets_those_that_are_held_finish(state: str) -> None:
    """A graceful end starts nothing new; a call that waits for a retry continues as it would have."""
    service, setting = STUCK[state]()
    run = map_all(supervise(POLICY)(service), list(range(9)), limit=3, overload=setting)
    asyncio.get_running_loop().call_at(3, run.stop)
    report = await run
    started = {number for _, number in service.attempts}
    assert {outcome.index for outcome in report.pending} == set(range(9)) - started
    assert all(not isinstance(outcome, Pending) for outcome in report if outcome.index in started)
    assert all(isinstance(failure.error, LookupError) for failure in report.failed)
    assert max(started) <= 3


@pytest.mark.parametrize("state", STUCK)
async def test_a_reader_can_leave_in_any_state(state: str) -> None:
    """Leaving the block ends the run at once, and its tasks with it."""
    before = asyncio.all_tasks()
    service, setting = STUCK[state]()
    async with map_all(supervise(POLICY)(service), range(9), limit=3, overload=setting) as run:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(3):
                async for _ in run:
                    pass
    assert now() == 3
    assert asyncio.all_tasks() == before
    assert run.tally.running == 0


@pytest.mark.parametrize("state", STUCK)
async def test_no_timer_is_left_behind(state: str) -> None:
    """After the end nothing is scheduled any more that would still do something."""
    loop: Any = asyncio.get_running_loop()
    service, setting = STUCK[state]()
    before = [handle for handle in loop._scheduled if not handle.cancelled()]
    await map_all(supervise(POLICY)(service), range(9), limit=3, timeout=3, overload=setting)
    left = [handle for handle in loop._scheduled if not handle.cancelled()]
    assert [handle for handle in left if handle not in before] == []


@pytest.mark.parametrize("end", ["stopped", "timed out", "left", "gone on"])
async def test_a_run_in_trouble_leaves_no_cyclic_garbage(garbage: list[Any], end: str) -> None:
    """The run, its queue and its calls release each other, however it ends."""

    @supervise(POLICY)
    async def call(_: int) -> None:
        if end != "gone on" or now() < 3:
            raise DownError

    async def play_it() -> None:
        run = map_all(
            call,
            range(9),
            limit=3,
            timeout=1 if end == "timed out" else None,
            overload=empty(first_pause=2, probes=2 if end == "stopped" else 50),
        )
        if end != "left":
            await run
            return
        with suppress(TimeoutError):
            async with run, asyncio.timeout(1):
                async for _ in run:
                    pass

    await asyncio.create_task(play_it())
    await asyncio.sleep(0)
    gc.collect()
    ours = ("aiosupervise", "builtins", "_asyncio", "asyncio")
    assert [repr(thing)[:80] for thing in garbage if type(thing).__module__.startswith(ours)] == []
