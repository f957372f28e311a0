"""The feed of a stage: starts a job for each success of the previous stage, and passes the other outcomes on."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiosupervise._batch._groups.feed import GroupedFeed
from aiosupervise._batch.feed import Feed, JobStarter
from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise._batch.source import END, AsyncSource, End
from aiosupervise._events.outcomes import Outcome, Pending, Stopped, Success

from .source import StageSource, passed_on


class StagedFeed(Feed):
    """The feed of a run that reads the outcomes of another run.

    Its items are successes, which already have an index; the engine receives their values.
    """

    def connect(self, engine: EngineRun, unrecorded: set[int]) -> None:
        """Set the engine that receives the values of the items."""
        super().connect(engine, unrecorded)
        self._engine = _ValueEngine(self._engine)

    def stop(self) -> None:
        """Start no further jobs; outcomes that become pending are delivered last."""
        self._outlet.hold_pending(hold=True)
        super().stop()

    async def pull_one(self, source: AsyncSource[Any]) -> Success[Any, Any] | End:
        """Return the next success of the previous stage, and pass on the outcomes before it."""
        assert isinstance(source, StageSource)  # noqa: S101 - for the type checkers
        while (outcome := await source.pull()) is not END:
            self._tally.total = source.stage.tally.total
            if isinstance(outcome, Success):
                return outcome
            self.skip(outcome)
            await self._wait_for_room(source)
        return END

    async def _wait_for_room(self, source: StageSource) -> None:
        """Wait until the next outcome may be pulled: unread outcomes that were passed on occupy slots too."""
        # If the previous stage starts no further jobs, its remaining outcomes are in memory, and are pulled without
        # waiting. In input order, waiting for a free slot might never end, because no reader receives the outcomes
        # behind an item that the engine has refused.
        while not (self.is_stopped or source.is_stopping) and self.slots_to_pull() == 0:
            await self.wait_for_change()

    def _on_exhausted(self) -> None:
        super()._on_exhausted()
        assert isinstance(self._source, StageSource)  # noqa: S101 - for the type checkers
        self._tally.total = self._source.stage.tally.total

    def _taken(self) -> int:
        """Return the number of occupied slots, excluding pending outcomes, which a reader receives last."""
        return super()._taken() - (0 if self._reader is None else self._reader.held_pending)

    def number(self, item: Any) -> int:
        """Record an item as the origin of its job, and return the item's index."""
        assert isinstance(self._source, StageSource)  # noqa: S101 - for the type checkers
        self._pulled += 1
        self._source.origins[item.index] = item
        index: int = item.index
        return index

    def skip(self, item: Any) -> None:
        """Record a success that was pulled too late, or pass on any other outcome."""
        if isinstance(item, Success):
            super().skip(item)
        else:
            self._error.guard(partial(self._pass_outcome_on, item))

    async def close(self) -> None:
        """Pass on the remaining outcomes, and wait until the previous stage has ended."""
        source = self._source
        assert isinstance(source, StageSource)  # noqa: S101 - for the type checkers
        try:
            # The outcomes are still pulled, because a stopped stage finishes its running jobs, and may need free slots
            # to do so.
            while source.has_begun and (outcome := await source.pull()) is not END:
                self.skip(outcome)
        except BaseException:
            source.cancel(Stopped.CANCELLED)
            raise
        finally:
            await super().close()

    def _pass_outcome_on(self, outcome: Outcome[Any, Any]) -> None:
        if isinstance(outcome, Pending):
            # The pending outcomes of a stopped group are delivered immediately; those of an early end come last.
            assert isinstance(self._source, StageSource)  # noqa: S101 - for the type checkers
            self._outlet.hold_pending(hold=self._source.is_stopping)
        self._pulled += 1
        self.expect_outcome(outcome.index)
        context = self._engine.context
        context.record(passed_on(outcome, context.config.func))


class GroupedStagedFeed(StagedFeed, GroupedFeed):
    """The feed of a run with groups that reads the outcomes of another run."""


class _ValueEngine:
    """Passes the values of a stage's items to its engine."""

    def __init__(self, engine: JobStarter) -> None:
        self.context: EngineContext[Any, Any] = engine.context
        self._engine = engine

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start now."""
        return self._engine.free_slots(taken)

    def start_job(self, item: Success[Any, Any], index: int) -> None:
        """Start the job of an item."""
        self._engine.start_job(item.value, index)

    def skip(self, item: Success[Any, Any], index: int) -> None:
        """Record an item that was pulled too late to be started."""
        self._engine.skip(item.value, index)
