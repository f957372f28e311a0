"""Scripted runs, one for each way in which a run is fed, read and ended; the sweep plays them under each strategy."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, TypeAlias

from aiosupervise import DeadlineExceeded, Run, run_all, supervise

from .laws import Make, Witness
from .loops import pause, seconds

Strategy: TypeAlias = Literal["gather", "as_completed", "wait"]
Scenario: TypeAlias = Callable[[Witness, Strategy], Awaitable[object]]

# Jobs


def sleeper(ticks: int, *, error: Callable[[], BaseException] | None = None) -> Make:
    """A job that waits, and then returns or raises."""

    async def sleep() -> int:
        await pause(ticks)
        if error is not None:
            raise error()
        return ticks

    return sleep


def at_once(value: object) -> Make:
    """A job that never waits."""

    async def give() -> object:
        return value

    return give


def flaky(failures: int) -> Make:
    """A supervised job that succeeds when it has failed so often."""
    left = iter(range(failures))

    @supervise(retry_on=ConnectionError, backoff=[seconds(2)])
    async def call() -> str:
        await pause(1)
        if next(left, None) is not None:
            raise ConnectionError
        return "at last"

    return call


async def swallow_one_cancel() -> str:
    """A job that goes on after its first cancel."""
    with suppress(asyncio.CancelledError):
        await pause(10)
    await pause(3)
    return "all the same"


async def cancel_a_child() -> str:
    """A job that waits for a task of its own, which somebody cancels."""
    child = asyncio.ensure_future(pause(10))
    asyncio.get_running_loop().call_soon(child.cancel)
    await child
    return "never"


MIXED = (
    sleeper(3),
    at_once("now"),
    sleeper(1, error=OSError),
    sleeper(2, error=asyncio.CancelledError),
    at_once("then"),
    sleeper(2),
)

# Readers


async def read(witness: Witness, run: Run[object], most: int | None = None) -> None:
    """Read a run, to its end or until `most` outcomes have been read."""
    async with witness.of(run):
        async for outcome in run:
            witness.read.append(outcome)
            if len(witness.read) == most:
                break


# Scenarios


async def plain_jobs(witness: Witness, strategy: Strategy) -> None:
    """Jobs that succeed, fail, and cancel themselves, from a generator."""
    await witness.of(run_all(witness.jobs(MIXED), strategy=strategy, limit=2))


async def a_list(witness: Witness, strategy: Strategy) -> None:
    """The same, from a list, which remembers what was never pulled."""
    await witness.of(run_all(witness.listed(MIXED), strategy=strategy, limit=2))


async def a_stream(witness: Witness, strategy: Strategy) -> None:
    """The same, read one by one."""
    await read(witness, run_all(witness.jobs(MIXED), strategy=strategy, limit=2))


async def a_slow_reader(witness: Witness, strategy: Strategy) -> None:
    """The same, by a reader who takes longer than the jobs."""
    async with witness.of(run_all(witness.jobs(MIXED), strategy=strategy, limit=2)) as run:
        async for outcome in run:
            witness.read.append(outcome)
            await pause(4)


async def retries(witness: Witness, strategy: Strategy) -> None:
    """Supervised jobs that wait and try again, until they succeed or their retries are exhausted."""
    makes = [flaky(1), flaky(2), flaky(0), flaky(9)]
    await witness.of(run_all(witness.jobs(makes), strategy=strategy, limit=2))


async def slow_clean_up(witness: Witness, strategy: Strategy) -> None:
    """Jobs that need time after their cancel."""
    jobs = witness.jobs([witness.clean_up_slowly(name) for name in "abc"])
    await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def swallowed_cancels(witness: Witness, strategy: Strategy) -> None:
    """Jobs that finish in spite of their cancel."""
    jobs = witness.jobs([swallow_one_cancel, sleeper(2), swallow_one_cancel])
    await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def cancelled_children(witness: Witness, strategy: Strategy) -> None:
    """Jobs whose own tasks are cancelled, beside some that are not."""
    jobs = witness.jobs([cancel_a_child, sleeper(2), cancel_a_child, sleeper(1)])
    await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def failing_source(witness: Witness, strategy: Strategy) -> None:
    """A source that raises while jobs run."""
    jobs = witness.jobs([sleeper(2), sleeper(5), sleeper(1)], error=LookupError)
    with suppress(LookupError):
        await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def async_source(witness: Witness, strategy: Strategy) -> None:
    """A source that has to be waited for."""
    await witness.of(run_all(witness.async_jobs(MIXED), strategy=strategy, limit=2))


async def early_leave(witness: Witness, strategy: Strategy) -> None:
    """A reader that takes one outcome and goes."""
    makes = [at_once(1), witness.clean_up_slowly("a"), sleeper(50), sleeper(50)]
    await read(witness, run_all(witness.listed(makes), strategy=strategy, limit=3), most=1)


async def early_leave_of_an_async_source(witness: Witness, strategy: Strategy) -> None:
    """A reader that goes while the source is waited for."""
    await read(witness, run_all(witness.async_jobs(MIXED), strategy=strategy, limit=2), most=4)


async def nested(witness: Witness, strategy: Strategy) -> None:
    """A run inside a job of a run."""

    async def inner() -> None:
        makes = [sleeper(2), witness.clean_up_slowly("inner"), flaky(1)]
        await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=2))

    await witness.of(run_all(witness.listed([inner, at_once(1)]), strategy=strategy, limit=2))


async def stopped(witness: Witness, strategy: Strategy) -> None:
    """A run that a job of its own stops, while its source is waited for."""
    makes: list[Make] = []
    run = witness.of(run_all(witness.async_jobs(makes), strategy=strategy, limit=3))

    async def stop() -> None:
        await pause(1)
        run.stop()

    makes += [sleeper(3), stop, sleeper(2), sleeper(2)]
    await run


async def first_exception(witness: Witness, strategy: Strategy) -> None:
    """A run that its own return_when ends; under the other strategies, one that it does not."""
    makes = [sleeper(1, error=OSError), witness.clean_up_slowly("a"), swallow_one_cancel, sleeper(20)]
    when: Literal["FIRST_EXCEPTION", "ALL_COMPLETED"]
    when = "FIRST_EXCEPTION" if strategy == "wait" else "ALL_COMPLETED"
    await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=3, return_when=when))


async def through_a_gate(witness: Witness, strategy: Strategy) -> None:
    """Supervised jobs that share a gate, all of whose slots are free in the end."""
    gate = asyncio.Semaphore(1)
    supervised = supervise(retry_on=ConnectionError, gate=gate)
    makes = [supervised(sleeper(1)) for _ in range(3)]
    try:
        await witness.of(run_all(witness.jobs(makes), strategy=strategy, limit=3))
    finally:
        assert not gate.locked(), "a slot of the gate is still taken"


async def attempt_timeout(witness: Witness, strategy: Strategy) -> None:
    """Attempts that take too long, one of which returns all the same, and a call that its deadline ends."""
    lengths = iter([10, 1])
    limited = supervise(retry_on=ConnectionError, attempt_timeout=0.03, backoff=[0.01], max_retries=1)
    hurried = supervise(retry_on=ConnectionError, deadline=0.05, backoff=[0.01])

    @limited
    async def too_long_once() -> None:
        await pause(next(lengths))

    makes = [too_long_once, limited(swallow_one_cancel), hurried(sleeper(10))]
    report = await witness.of(run_all(witness.jobs(makes), strategy=strategy, limit=2))
    assert [type(failure.error) for failure in report.failed].count(DeadlineExceeded) == 1


async def run_timeout(witness: Witness, strategy: Strategy) -> None:
    """A run that its timeout ends, in the middle of a retry, a sleep and a clean-up."""
    makes = [flaky(9), swallow_one_cancel, witness.clean_up_slowly("a"), sleeper(20)]
    await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=3, timeout=0.05))


ANY_TIME: list[Scenario] = [
    plain_jobs,
    a_list,
    a_stream,
    a_slow_reader,
    retries,
    slow_clean_up,
    swallowed_cancels,
    cancelled_children,
    failing_source,
    async_source,
    early_leave,
    early_leave_of_an_async_source,
    nested,
    stopped,
    first_exception,
    through_a_gate,
]
VIRTUAL_TIME: list[Scenario] = [attempt_timeout, run_timeout]
