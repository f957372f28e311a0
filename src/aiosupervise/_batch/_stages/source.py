"""An earlier run, as the source of the stage that owns it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

from aiosupervise._batch.config import RunConfig
from aiosupervise._batch.first_error import FirstError
from aiosupervise._batch.outlet import Outlet
from aiosupervise._batch.progress import Progress
from aiosupervise._batch.source import END, AsyncSource, End, Source
from aiosupervise._batch.strategies import Strategy
from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import Outcome, Pending, Stopped, Success, Tally
from aiosupervise._policy.record import record


class EarlierPump(Protocol):
    """The part of an earlier run's pump that the owner uses."""

    outlet: Outlet[Any, Any]
    error: FirstError

    @property
    def is_stopping(self) -> bool:
        """True if the run or its first stage starts no further jobs."""
        ...

    def stop(self, why: Stopped) -> None:
        """Start no further jobs."""

    def cancel(self, why: Stopped) -> None:
        """Start no further jobs and cancel the running ones."""

    async def read(self) -> Outcome[Any, Any] | End:
        """Return the next outcome."""
        ...

    async def join(self) -> None:
        """Wait until the run has ended."""


@record
class Stage:
    """The part of an earlier run that its owner uses to begin it.

    Attributes:
        config: the configuration of the run.
        tally: the live counts of the run.
        progress: the progress bar of the run, which the owner shows above its own; None for no bar.
        begin: begins the run with a strategy, and with a scope to which its events are passed on.
        status: returns the reason why no jobs are starting at the moment, or an empty string.
    """

    config: RunConfig[Any, Any]
    tally: Tally
    progress: Progress | None
    begin: Callable[[Strategy[Any, Any], Scope], EarlierPump]
    status: Callable[[], str]


def stages_before(source: Source[object]) -> list[Stage]:
    """Return the stages before a run with this source, in order."""
    return [*stages_before(source.stage.config.source), source.stage] if isinstance(source, StageSource) else []


class StageSource(AsyncSource[Any]):
    """The outcomes of an earlier run; its successes are the items of the next stage.

    Attributes:
        stage: the earlier run.
        origins: by index, the success from which each unfinished job of the owner was created.
    """

    def __init__(self, run: AsyncIterable[object], stage: Stage) -> None:
        super().__init__(run)
        self.total = stage.tally.total
        self.stage = stage
        self.origins: dict[int, Success[Any, Any]] = {}
        self._pump: EarlierPump | None = None
        # Why the run was stopped before it began.
        self._stop_reason: Stopped | None = None
        # Whether the owner stopped the run for a reason of its own.
        self._is_interrupted = False

    def connect(self, order: Strategy[Any, Any], scope: Scope) -> None:
        """Set the strategy and the scope with which the earlier run begins at the first pull."""
        self._order, self._scope = order, scope

    @property
    def has_begun(self) -> bool:
        """True if the earlier run has begun."""
        return self._pump is not None

    @property
    def is_stopping(self) -> bool:
        """True if the earlier run, or one before it, starts no further jobs."""
        return self._stop_reason is not None if self._pump is None else self._pump.is_stopping

    @property
    def stopped(self) -> Stopped | None:
        """Why the earlier run ended before its source was exhausted; None if it did not."""
        return None if self._pump is None or self._is_interrupted else self._pump.outlet.stopped

    @property
    def stopped_groups(self) -> Collection[object]:
        """The groups of the earlier run that were stopped."""
        return () if self._pump is None else self._pump.outlet.stopped_groups

    @property
    def available(self) -> int:
        """The number of successes that are available before any other outcome; 1 if there are none."""
        ready = () if self._pump is None else self._pump.outlet.ready
        return max(1, sum(1 for _ in takewhile(_is_success, ready)))

    async def pull(self) -> Outcome[Any, Any] | End:
        """Return the next outcome, or END if there are no more.

        Raises:
            BaseException: the error of the earlier run; it is raised only once.
        """
        outcome = await self.begin().read()
        if outcome is END:
            await self.close()
        return outcome

    def begin(self) -> EarlierPump:
        """Begin the earlier run, unless it has begun, and return its pump."""
        if self._pump is None:
            self._pump = self.stage.begin(self._order, self._scope)
            if self._stop_reason is not None:
                self._pump.stop(self._stop_reason)
        return self._pump

    def interrupt(self) -> None:
        """Stop the earlier run; a pull in progress ends when that run has ended."""
        self._is_interrupted = self._is_interrupted or not self.is_stopping
        self.stop(Stopped.STOP)

    def stop(self, why: Stopped) -> None:
        """Stop the earlier run gracefully."""
        # A reason that concerns only the owner is not the reason of the earlier run.
        why = Stopped.STOP if why in (Stopped.PROBES, Stopped.FAILURES) else why
        if self._pump is None:
            self._stop_reason = why
        else:
            self._pump.stop(why)

    def cancel(self, why: Stopped) -> None:
        """Cancel the earlier run."""
        if self._pump is not None:
            self._pump.cancel(why)

    def rest(self) -> Iterator[Outcome[Any, Any]]:
        """Remove and yield the outcomes not yet pulled; for a run that has not begun, those of its jobs in memory."""
        if self._pump is None:
            yield from _never_started(self.stage.config)
        elif self._pump.outlet.closed:
            yield from self._pump.outlet.take_rest()

    async def close(self) -> None:
        """Stop the earlier run, wait until it has ended, and raise its error, if any."""
        if self._pump is not None:
            self.interrupt()
            await self._pump.join()
            self.exhausted = self.stage.config.source.exhausted
            self._pump.error.raise_once()


def _is_success(outcome: Outcome[Any, Any]) -> bool:
    return isinstance(outcome, Success)


def _never_started(config: RunConfig[Any, Any]) -> Iterator[Outcome[Any, Any]]:
    """Create the outcomes of the jobs in memory of a run that will not begin, and close their coroutines."""
    if isinstance(config.source, StageSource):
        for outcome in config.source.rest():
            yield passed_on(outcome, config.for_engine.func)
        return
    for index, item in enumerate(config.source.rest()):
        yield config.jobs.pending(item, index, started=False)
        # Closing a coroutine that has begun may raise an error, which must not affect the other outcomes.
        with suppress(Exception):
            config.jobs.discard(item)


def passed_on(outcome: Outcome[Any, Any], func: Callable[[Any], Any]) -> Outcome[Any, Any]:
    """Return an outcome as the stage that calls `func` passes it on; a pending job then runs both stages."""
    if not isinstance(outcome, Pending) or outcome.job is None:
        return outcome
    job = partial(_do_both, outcome.job, func)
    return Pending(outcome.index, job, outcome.started, outcome.name, outcome.input)


async def _do_both(job: Callable[[], Any], func: Callable[[Any], Any]) -> Any:
    return await func(await job())
