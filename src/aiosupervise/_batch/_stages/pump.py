"""The pump of a stage: also ends the previous stages, and delivers outcomes with the inputs of the first stage."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

from aiosupervise._batch.config import RunConfig
from aiosupervise._batch.pump import Pump
from aiosupervise._batch.strategies import Gather, strategy_named
from aiosupervise._events.emit import EnclosingScope
from aiosupervise._events.outcomes import Failure, I, Outcome, Pending, Stopped, Success, Tally

from .source import StageSource

T = TypeVar("T")


def pump_of(
    config: RunConfig[T, I], tally: Tally, *, streamed: bool, enclosing: EnclosingScope | None = None
) -> Pump[T, I]:
    """Create the pump of a run, which may be a later stage."""
    make = StagedPump if isinstance(config.source, StageSource) else Pump
    return make(config, tally, streamed=streamed, enclosing=enclosing)


class StagedPump(Pump[T, I]):
    """The pump of a later stage, which runs from the start of the first stage to its own end."""

    def __init__(
        self, config: RunConfig[T, I], tally: Tally, *, streamed: bool, enclosing: EnclosingScope | None = None
    ) -> None:
        super().__init__(config, tally, streamed=streamed, enclosing=enclosing)
        assert isinstance(config.source, StageSource)  # noqa: S101 - for the type checkers
        self._earlier = config.source
        self._is_simple = False
        # In input order, the reader waits for one particular outcome. If other outcomes occupied all slots before that
        # one was pulled, the reader would wait forever.
        is_ordered = streamed and isinstance(config.strategy, Gather)
        self._earlier.connect(strategy_named("gather" if is_ordered else "as_completed", "ALL_COMPLETED"), self._scope)

    @property
    def is_stopping(self) -> bool:
        """True if any stage starts no further jobs."""
        return super().is_stopping or self._earlier.is_stopping

    def _wind_down(self, why: Stopped) -> None:
        """Stop the first stage and process its outcomes; if this stage's service is down, start no further jobs."""
        if why is Stopped.PROBES:
            super()._wind_down(why)
        else:
            self.error.guard(partial(self._earlier.stop, why))

    def cancel(self, why: Stopped) -> None:
        """Start no further jobs and cancel the running ones, including those of the previous stages."""
        if not (self.outlet.closed or self._is_loop_shutting_down()):
            # The earlier run is begun if necessary, because its jobs may be running tasks, which are cancelled and
            # awaited as in a run of one stage.
            self.error.guard(self._earlier.begin)
        super()._wind_down(why)
        super().cancel(why)
        self.error.guard(partial(self._earlier.cancel, why))

    def _deliver(self, outcome: Outcome[T, I]) -> None:
        origin = self._earlier.origins.pop(outcome.index, None)
        if origin is not None:
            super()._deliver(_with_origin(outcome, origin))
        elif self._earlier.has_begun:
            # The stage that produced the outcome has emitted the event.
            self.outlet.add(outcome)
        else:
            super()._deliver(outcome)

    def _other_work(self) -> str:
        what = super()._other_work()
        return f"the stage {self._earlier.stage.config.name}" if what == "the source" else what

    def _finalize(self, task: asyncio.Task[None]) -> None:
        if not self.outlet.closed:
            self._why = self._why or self._earlier.stopped
            self.outlet.stopped_groups = [*self._earlier.stopped_groups, *self.outlet.stopped_groups]
        super()._finalize(task)


def _with_origin(outcome: Outcome[Any, Any], origin: Success[Any, Any]) -> Outcome[Any, Any]:
    """Return an outcome with the input of the first stage, plus the attempts and seconds of the previous stages."""
    index, name = outcome.index, outcome.name
    if isinstance(outcome, Pending):
        return Pending(index, outcome.job, outcome.started, name, origin.input)
    attempts, elapsed = outcome.attempts + origin.attempts - 1, outcome.elapsed + origin.elapsed
    if isinstance(outcome, Success):
        return Success(index, outcome.value, attempts, elapsed, name, origin.input, outcome.replayed)
    return Failure(index, outcome.error, attempts, elapsed, outcome.reason, name, origin.input)
