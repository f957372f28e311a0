"""The sweep: cancel the caller of a scripted run at every single step of the loop, once and twice.

After each of these ends all the rules of `laws` hold, and a cancel that the caller's task has accepted comes out.
"""

import asyncio
import gc
import selectors
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import pytest

from aiosupervise import Run, run_all, supervise

from .laws import Make, Witness

Strategy: TypeAlias = Literal["gather", "as_completed", "wait"]
Scenario: TypeAlias = Callable[[Witness, Strategy], Awaitable[object]]


class Clock(selectors.DefaultSelector):
    """Virtual time, which passes when the loop waits; it counts the steps and cancels a task at some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.begin(None)

    def begin(self, task: asyncio.Task[Any] | None, cancel_at: frozenset[int] = frozenset()) -> None:
        """Count from 0, and cancel this task at these steps."""
        self.steps = 0
        self.cancels = 0
        self._task = task
        self._cancel_at = cancel_at

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let time pass at once. The loop calls this at each of its steps."""
        self.steps += 1
        if self._task is not None and self.steps in self._cancel_at:
            self.cancels += self._task.cancel()
            timeout = 0.0
        assert timeout is not None, "everybody waits, and nobody will wake them: the run hangs"
        self.now += max(timeout, 0.0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop that lives by a Clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.complaints: list[dict[str, Any]] = []
        super().__init__(self.clock)
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        """The virtual time."""
        return self.clock.now

    def play(self, scenario: Scenario, strategy: Strategy, *cancel_at: int) -> int:
        """Play a scenario with the caller cancelled at these steps; return how many steps it took."""

        async def scene() -> None:
            witness = Witness()
            try:
                await scenario(witness, strategy)
            finally:
                witness.check(cancels=self.clock.cancels)

        task = self.create_task(scene())
        self.clock.begin(task, frozenset(cancel_at))
        with suppress(asyncio.CancelledError):
            self.run_until_complete(task)
        assert task.cancelled() == (self.clock.cancels > 0), "a cancel was swallowed, or made up"
        assert not asyncio.all_tasks(self)
        return self.clock.steps


def sleeper(seconds: float, *, error: BaseException | None = None) -> Make:
    """A job that sleeps, and then returns or raises."""

    async def sleep() -> float:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error
        return seconds

    return sleep


def at_once(value: object) -> Make:
    """A job that never waits."""

    async def give() -> object:
        return value

    return give


def flaky(failures: int) -> Make:
    """A supervised job that succeeds when it has failed so often."""
    left = iter(range(failures))

    @supervise(retry_on=ConnectionError, backoff=[0.02])
    async def call() -> str:
        await asyncio.sleep(0.01)
        if next(left, None) is not None:
            raise ConnectionError
        return "at last"

    return call


async def swallow_one_cancel() -> str:
    """A job that goes on after its first cancel."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.03)
    return "all the same"


async def read(witness: Witness, run: Run[object], most: int | None = None) -> None:
    """Read a run, to its end or until there are so many outcomes."""
    async with witness.of(run):
        async for outcome in run:
            witness.read.append(outcome)
            if len(witness.read) == most:
                break


MIXED = (
    sleeper(0.03),
    at_once("now"),
    sleeper(0.01, error=OSError("down")),
    sleeper(0.02, error=asyncio.CancelledError()),
    at_once("then"),
    sleeper(0.02),
)


async def plain_jobs(witness: Witness, strategy: Strategy) -> None:
    """Jobs that succeed, fail, and cancel themselves, from a generator."""
    await witness.of(run_all(witness.jobs(MIXED), strategy=strategy, limit=2))


async def a_list(witness: Witness, strategy: Strategy) -> None:
    """The same, from a list, which remembers what was never pulled."""
    await witness.of(run_all(witness.listed(MIXED), strategy=strategy, limit=2))


async def a_stream(witness: Witness, strategy: Strategy) -> None:
    """The same, read one by one."""
    await read(witness, run_all(witness.jobs(MIXED), strategy=strategy, limit=2))


async def retries(witness: Witness, strategy: Strategy) -> None:
    """Supervised jobs that wait and try again."""
    await witness.of(run_all(witness.jobs([flaky(1), flaky(2), flaky(0)]), strategy=strategy, limit=2))


async def slow_clean_up(witness: Witness, strategy: Strategy) -> None:
    """Jobs that need time after their cancel."""
    jobs = witness.jobs([witness.clean_up_slowly(name) for name in "abc"])
    await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def swallowed_cancels(witness: Witness, strategy: Strategy) -> None:
    """Jobs that finish in spite of their cancel."""
    jobs = witness.jobs([swallow_one_cancel, sleeper(0.02), swallow_one_cancel])
    await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def failing_source(witness: Witness, strategy: Strategy) -> None:
    """A source that raises while jobs run."""
    jobs = witness.jobs([sleeper(0.02), sleeper(0.05), sleeper(0.01)], error=LookupError("no more pages"))
    with suppress(LookupError):
        await witness.of(run_all(jobs, strategy=strategy, limit=2))


async def async_source(witness: Witness, strategy: Strategy) -> None:
    """A source that has to be waited for."""
    await witness.of(run_all(witness.async_jobs(MIXED), strategy=strategy, limit=2))


async def async_source_streamed(witness: Witness, strategy: Strategy) -> None:
    """The same, read one by one, and left when it waits for the source."""
    await read(witness, run_all(witness.async_jobs(MIXED), strategy=strategy, limit=2), most=4)


async def early_leave(witness: Witness, strategy: Strategy) -> None:
    """A reader that takes one outcome and goes."""
    makes = [at_once(1), witness.clean_up_slowly("a"), sleeper(0.5), sleeper(0.5)]
    await read(witness, run_all(witness.listed(makes), strategy=strategy, limit=3), most=1)


async def nested(witness: Witness, strategy: Strategy) -> None:
    """A run inside a job of a run."""

    async def inner() -> None:
        makes = [sleeper(0.02), witness.clean_up_slowly("inner"), flaky(1)]
        await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=2))

    await witness.of(run_all(witness.listed([inner, at_once(1)]), strategy=strategy, limit=2))


async def run_timeout(witness: Witness, strategy: Strategy) -> None:
    """A run that its timeout ends, in the middle of a retry, a sleep and a clean-up."""
    makes = [flaky(9), swallow_one_cancel, witness.clean_up_slowly("a"), sleeper(1)]
    await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=3, timeout=0.05))


async def stopped(witness: Witness, strategy: Strategy) -> None:
    """A run that a job of its own stops, while its source is waited for."""
    makes: list[Make] = []
    run = witness.of(run_all(witness.async_jobs(makes), strategy=strategy, limit=3))

    async def stop() -> None:
        await asyncio.sleep(0.005)
        run.stop()

    makes += [sleeper(0.03), stop, sleeper(0.02), sleeper(0.02)]
    await run


async def first_exception(witness: Witness, strategy: Strategy) -> None:
    """A run that its own return_when ends; for the other strategies, one that it does not."""
    makes = [sleeper(0.01, error=OSError("down")), witness.clean_up_slowly("a"), swallow_one_cancel, sleeper(1)]
    when: Literal["FIRST_EXCEPTION", "ALL_COMPLETED"]
    when = "FIRST_EXCEPTION" if strategy == "wait" else "ALL_COMPLETED"
    await witness.of(run_all(witness.listed(makes), strategy=strategy, limit=3, return_when=when))


SCENARIOS: list[Scenario] = [
    plain_jobs,
    a_list,
    a_stream,
    retries,
    slow_clean_up,
    swallowed_cancels,
    failing_source,
    async_source,
    async_source_streamed,
    early_leave,
    nested,
    run_timeout,
    stopped,
    first_exception,
]


@pytest.fixture(
    params=[
        pytest.param(False, id="lazy tasks"),
        pytest.param(
            True,
            id="eager tasks",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"),
        ),
    ]
)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop with each kind of tasks."""
    loop = Loop()
    if request.param and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect(1)
    assert loop.complaints == []


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cancel_at_any_step_leaves_all_rules_intact(loop: Loop, scenario: Scenario, strategy: Strategy) -> None:
    """However often and whenever the caller is cancelled, every rule of a clean end holds."""
    steps = loop.play(scenario, strategy)
    for k in range(1, steps + 1):
        loop.play(scenario, strategy, k)
        for later in (1, 3):
            loop.play(scenario, strategy, k, k + later)
