"""The rules that hold after any end of a run, whatever ended it, as one function to call: `Witness.check`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias

from aiosupervise import Outcome, Pending, Run, Success

Make: TypeAlias = Callable[[], Awaitable[object]]


class Witness:
    """Watches one run: make it before the run, feed the run from it, and `check` after the end."""

    def __init__(self) -> None:
        self.read: list[Outcome[object]] = []
        self.cut_short: list[str] = []
        self._task = self._me()
        self._tasks = asyncio.all_tasks()
        self._cancelling = self._task.cancelling()
        self._runs: list[Run[object]] = []
        self._pulled = 0
        self._open_sources = 0
        self._started = 0
        self._ended = 0

    # What the run is fed with.

    def jobs(self, makes: Iterable[Make], *, error: Exception | None = None) -> Iterator[Awaitable[object]]:
        """A source of coroutines that must be closed; it raises `error` at its end, if there is one."""
        self._open_sources += 1
        try:
            for make in makes:
                self._pulled += 1
                yield self.job(make)
            if error is not None:
                raise error
        finally:
            self._open_sources -= 1

    async def async_jobs(self, makes: Iterable[Make]) -> AsyncIterator[Awaitable[object]]:
        """The same as an async source, which takes its time for each job and for its own clean-up."""
        owner = self._me()
        self._open_sources += 1
        try:
            for make in makes:
                await asyncio.sleep(0.01)
                self._pulled += 1
                yield self.job(make)
            await asyncio.sleep(0.01)
        except (asyncio.CancelledError, GeneratorExit):
            await self._clean_up("the source", steps=1)
            raise
        finally:
            assert self._me() is owner, "the source was closed in another task than iterated it"
            self._open_sources -= 1

    def listed(self, makes: Iterable[Make]) -> list[Awaitable[object]]:
        """A list of coroutines: of those, none may be forgotten, pulled or not."""
        jobs: list[Awaitable[object]] = [self.job(make) for make in makes]
        self._pulled += len(jobs)
        return jobs

    async def job(self, make: Make) -> object:
        """A job that is known to have started and to have ended."""
        self._started += 1
        try:
            return await make()
        finally:
            self._ended += 1

    def clean_up_slowly(self, name: str) -> Make:
        """A job that takes three more steps when it is cancelled, and tells when those are cut short."""

        async def work() -> str:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                await self._clean_up(name, steps=3)
                raise
            return name

        return work

    async def _clean_up(self, name: str, steps: int) -> None:
        try:
            for _ in range(steps):
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cut_short.append(name)
            raise

    # What is checked.

    def of(self, run: Run[object]) -> Run[object]:
        """Watch this run, too."""
        self._runs.append(run)
        return run

    def check(self, *, cancels: int = 0) -> None:
        """Check every rule; `cancels` is how often the caller has been cancelled from outside."""
        outcomes = [*self.read, *(outcome for run in self._runs for outcome in run.report)]
        self._check_outcomes(outcomes)
        assert self._open_sources == 0, "a source was left open"
        assert self._started == self._ended, "a job is still under way"
        assert self.cut_short == [], "clean-up was cut short"
        assert asyncio.all_tasks() == self._tasks, "tasks were left behind"
        assert self._task.cancelling() == self._cancelling + cancels, "the caller's cancels were miscounted"

    def _check_outcomes(self, outcomes: list[Outcome[object]]) -> None:
        if len(self._runs) == 1:
            indexes = sorted(outcome.index for outcome in outcomes)
            assert indexes == list(range(self._pulled)), "not every pulled job has exactly one outcome"
        assert len(outcomes) == self._pulled, "jobs and outcomes differ in number"
        for run in self._runs:
            assert run.tally.running == 0, "the tally says that something runs"
        tallies = [run.tally for run in self._runs]
        assert sum(t.pending for t in tallies) == sum(isinstance(one, Pending) for one in outcomes)
        assert sum(t.succeeded for t in tallies) == sum(isinstance(one, Success) for one in outcomes)
        assert sum(t.succeeded + t.failed + t.pending for t in tallies) == len(outcomes)

    @staticmethod
    def _me() -> asyncio.Task[object]:
        task = asyncio.current_task()
        assert task is not None
        return task
