"""The jobs that a circuit protects: those of a run or of a group, all of which call one service."""

from __future__ import annotations

from typing import Any, Protocol

from aiosupervise._events.outcomes import Stopped
from aiosupervise._events.records import RunPaused, RunResumed

from .protocol import EngineContext


class Protected(Protocol):
    """The interface through which a circuit controls the jobs that it protects."""

    @property
    def limit(self) -> int | None:
        """The number of jobs that may run concurrently; None for no limit."""
        ...

    @property
    def running(self) -> int:
        """The number of running jobs, including those that wait to retry."""
        ...

    def have_all_started(self) -> bool:
        """Return whether all jobs have started."""
        ...

    def wake(self) -> None:
        """Start as many jobs as the circuit permits now."""

    def stop(self) -> None:
        """Start no further jobs, because too many probes have failed."""

    def on_pause(self, seconds: float, why: str) -> None:
        """Record that the circuit permits no attempt for this many seconds."""

    def on_resume(self) -> None:
        """Record that the pause is over."""


class ProtectedRun:
    """The jobs of a run."""

    def __init__(self, context: EngineContext[Any, Any]) -> None:
        self._context = context
        self._tally = context.tally

    @property
    def limit(self) -> int | None:
        """The limit of the run."""
        return self._tally.limit

    @property
    def running(self) -> int:
        """The number of running jobs of the run."""
        return self._tally.running

    def have_all_started(self) -> bool:
        """Return whether all jobs of the run have started."""
        tally = self._tally
        started = tally.running + tally.succeeded + tally.failed + tally.pending
        return tally.total is not None and started >= tally.total

    def wake(self) -> None:
        """Wake the pump."""
        self._context.wake()

    def stop(self) -> None:
        """Stop the run."""
        self._context.stop(Stopped.PROBES)

    def on_pause(self, seconds: float, why: str) -> None:
        """Emit an event for the pause."""
        self._context.scope.emit(RunPaused, seconds, why)

    def on_resume(self) -> None:
        """Emit an event for the end of the pause."""
        self._context.scope.emit(RunResumed)
