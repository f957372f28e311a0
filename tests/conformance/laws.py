"""The rules that hold after any end of a run, whatever ended it, checked by one function: `play`."""

import asyncio
import gc
import math
import warnings
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import aclosing, contextmanager, nullcontext
from typing import Any, TypeAlias

from aiosupervise import (
    AttemptStarted,
    CallFinished,
    Event,
    JobFinished,
    Outcome,
    Pending,
    Run,
    RunFinished,
    RunStarted,
    Success,
    listen,
)

from .loops import Steps, VirtualLoop, has_virtual_time, moments, pause, perform

Make: TypeAlias = Callable[[], Coroutine[object, None, object]]

CLEAN_UP = 0.08 + 1e-9
"""Seconds of virtual time that the clean-up of a run takes at most: that of the slowest job, then the source's."""


class Witness:
    """Watches the runs of one caller: take their jobs from it, and call `check` when control has returned."""

    def __init__(self, steps: Steps) -> None:
        self.read: list[Outcome[object]] = []
        self._steps = steps
        self._task = self._me()
        self._tasks = asyncio.all_tasks()
        self._runs: list[Run[object]] = []
        self._stages: list[Run[object]] = []
        self._cut_short: list[str] = []
        self._too_many = False
        self.pulled = 0
        self._open_sources = 0
        self._started = 0
        self._ended = 0
        self._events: list[Event] = []

    # The sources of the run.

    def jobs(
        self, makes: Iterable[Make], *, error: Callable[[], Exception] | None = None
    ) -> Iterator[Awaitable[object]]:
        """A source of coroutines that must be closed; it raises `error` at its end, if there is one."""
        self._open_sources += 1
        try:
            for make in makes:
                self.pulled += 1
                yield self.job(make)
            if error is not None:
                raise error()
        finally:
            self._open_sources -= 1

    async def fed(self, makes: AsyncGenerator[Make, None]) -> AsyncIterator[Awaitable[object]]:
        """The same for the jobs of an async generator."""
        self._open_sources += 1
        try:
            async with aclosing(makes):
                async for make in makes:
                    self.pulled += 1
                    yield self.job(make)
        finally:
            self._open_sources -= 1

    async def async_jobs(self, makes: Iterable[Make]) -> AsyncIterator[Awaitable[object]]:
        """The same as an async source, which takes its time for each job and for its own clean-up."""
        owner = self._me()
        self._open_sources += 1
        try:
            for make in makes:
                await pause(1)
                self.pulled += 1
                yield self.job(make)
            await pause(1)
        except (asyncio.CancelledError, GeneratorExit):
            await self._clean_up("the source", ticks=[2])
            raise
        finally:
            assert self._me() is owner, "the source was closed in another task than iterated it"
            self._open_sources -= 1

    def listed(self, makes: Iterable[Make]) -> list[Awaitable[object]]:
        """A list of coroutines, none of which may be forgotten, pulled or not."""
        jobs: list[Awaitable[object]] = [self.job(make) for make in makes]
        self.pulled += len(jobs)
        return jobs

    async def job(self, make: Make) -> object:
        """A job whose start and end are counted."""
        self._started += 1
        self._too_many |= self._started - self._ended > sum(
            run.tally.limit or math.inf for run in (*self._runs, *self._stages)
        )
        try:
            return await make()
        finally:
            self._ended += 1

    def clean_up_slowly(self, name: str) -> Make:
        """A job that takes three more steps when it is cancelled, and records whether those are cut short."""

        async def work() -> str:
            try:
                await pause(10)
            except asyncio.CancelledError:
                await self._clean_up(name, ticks=[2, 2, 2])
                raise
            return name

        return work

    async def _clean_up(self, name: str, ticks: Iterable[int]) -> None:
        try:
            for n in ticks:
                await pause(n)
        except asyncio.CancelledError:
            self._cut_short.append(name)
            raise

    # The checks.

    def of(self, run: Run[object], *stages: Run[object]) -> Run[object]:
        """Watch this run, too; its outcomes are those of the jobs of its first stage, if it has several."""
        if run not in self._runs:
            self._runs.append(run)
        self._stages += stages
        return run

    def check(self) -> None:
        """Check every rule that holds at the moment in which control returns."""
        self._check_outcomes([*self.read, *(outcome for run in self._runs for outcome in run.report)])
        assert not self._too_many, "more jobs ran at once than the limit allows"
        assert self._open_sources == 0, "a source was left open"
        assert self._started == self._ended, "a job is still under way"
        assert self._cut_short == [], "clean-up was cut short"
        assert asyncio.all_tasks() == self._tasks, "tasks were left behind"
        assert self._task.cancelling() == self._steps.cancels, "the caller's cancels were miscounted"
        if self._steps.first_cancel is not None and has_virtual_time():
            taken = asyncio.get_running_loop().time() - self._steps.first_cancel
            assert taken <= CLEAN_UP, "the end took longer than the clean-up"

    def on_event(self, event: Event) -> None:
        """Record an event."""
        self._events.append(event)

    def check_events(self) -> None:
        """Check that each call and each run emitted its start and its end once, and that every outcome was emitted."""
        began = [event.call for event in self._events if isinstance(event, AttemptStarted) and event.attempt == 1]
        assert sorted(event.call for event in self._events if isinstance(event, CallFinished)) == sorted(began)
        runs = [event.run for event in self._events if isinstance(event, RunStarted)]
        assert sorted(event.run for event in self._events if isinstance(event, RunFinished)) == sorted(runs)
        assert len(runs) >= len(self._runs), "a run emitted no RunStarted"
        finished = [event.outcome for event in self._events if isinstance(event, JobFinished)]
        if self._stages:
            # Each stage emits what it has made; what it hands on was emitted before.
            names = [outcome.name for outcome in finished]
            assert len({*names}) == len(names), "an outcome was emitted twice"
            outcomes = [*self.read, *(outcome for run in self._runs for outcome in run.report)]
            assert {outcome.name for outcome in outcomes} <= {*names}, "an outcome was not emitted"
        else:
            count = sum(run.tally.succeeded + run.tally.failed + run.tally.pending for run in self._runs)
            assert len(finished) == count, "an outcome was not emitted"

    def clear(self) -> None:
        """Forget the runs: the errors in their reports hold the frames of the jobs, and those this witness."""
        self._runs.clear()
        self._stages.clear()
        self.read.clear()
        self._events.clear()

    def _check_outcomes(self, outcomes: list[Outcome[object]]) -> None:
        if len(self._runs) == 1:
            indexes = sorted(outcome.index for outcome in outcomes)
            assert indexes == list(range(self.pulled)), "not every pulled job has exactly one outcome"
        assert len(outcomes) == self.pulled, "jobs and outcomes differ in number"
        tallies = [run.tally for run in self._runs]
        assert all(run.tally.running == 0 for run in (*self._runs, *self._stages)), "a slot is still taken"
        assert sum(t.pending for t in tallies) == sum(isinstance(one, Pending) for one in outcomes)
        assert sum(t.succeeded for t in tallies) == sum(isinstance(one, Success) for one in outcomes)
        assert sum(t.succeeded + t.failed + t.pending for t in tallies) == len(outcomes)

    @staticmethod
    def _me() -> asyncio.Task[object]:
        task = asyncio.current_task()
        assert task is not None
        return task


Scene: TypeAlias = Callable[[Witness], Awaitable[object]]


def play(
    loop: asyncio.AbstractEventLoop,
    scene: Scene,
    cancel_at: Collection[int] = (),
    *,
    listened: bool = False,
) -> Steps:
    """Play a scene on a loop, its caller cancelled at these steps, and check every rule of a clean end."""

    async def caller(steps: Steps) -> None:
        witness = Witness(steps)
        with listen(witness.on_event) if listened else nullcontext():
            try:
                await scene(witness)
            finally:
                witness.check()
                if listened:
                    witness.check_events()
                witness.clear()

    with _no_traces(loop):
        return perform(loop, caller, cancel_at)


def cancel_everywhere(scene: Scene, counts: "Counter[str]", *, thorough: bool) -> None:
    """Play a random scene in virtual time, its caller cancelled at each step; in an ordinary run at some 40 of them."""
    loop = VirtualLoop()
    try:
        steps = play(loop, scene).count
        for k in range(1, steps + 1, 1 if thorough else 1 + steps // 40):
            for cancel_at in moments(k, thorough=thorough):
                counts["sweep: cancels"] += play(loop, scene, cancel_at, listened=k % 2 == 0).cancels
                counts["sweep: cancelled runs"] += 1
    finally:
        loop.close()


@contextmanager
def _no_traces(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Check that afterwards nobody complains: no coroutine un-awaited, no exception un-retrieved, no cycle, no task."""
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        garbage = gc.collect()
    assert [str(warning.message) for warning in warned] == []
    assert complaints == []
    assert garbage == 0, "cyclic garbage was left"
    assert not asyncio.all_tasks(loop), "tasks were left behind"
