"""Tells what happens in one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from logging import INFO, WARNING

from aiosupervise._events.emit import call_listener, emit
from aiosupervise._events.listeners import Listener, Scope, listeners
from aiosupervise._events.log import is_logged
from aiosupervise._events.outcomes import Outcome, Tally
from aiosupervise._events.records import Event, JobFinished, RunFinished, RunPaused, RunResumed, RunStarted, WorkerLost

_numbers = itertools.count(1)


class RunEvents:
    """Tells what happens in one run: to those who listen to everything, to the run's own listener, and around it."""

    __slots__ = ("_around", "_listener", "_name", "_tally", "run")

    def __init__(self, name: str, tally: Tally, listener: Listener | None, around: Scope | None) -> None:
        self.run: int = next(_numbers)
        self._name = name
        self._tally = tally
        self._listener = listener
        self._around = around  # the job that the run is made in

    def notify(self, event: Event) -> None:
        """Pass on an event to the run's own listener, and to those of the runs around it."""
        if self._listener is not None:
            call_listener(self._listener, event)
        if self._around is not None:
            self._around.notify(event)

    def started(self) -> None:
        """Tell that the run begins."""
        listeners.adjust(0 if self._listener is None else 1)
        if listeners.count:
            self._announce(RunStarted)

    def paused(self, seconds: float, why: str) -> None:
        """Tell that the run starts nothing new for so long."""
        if listeners.count or is_logged(WARNING):
            self._announce(RunPaused, seconds, why)

    def resumed(self) -> None:
        """Tell that the run goes on."""
        if listeners.count:
            self._announce(RunResumed)

    def started_again(self, jobs: int, worker: str) -> None:
        """Tell that jobs start again, because the worker that had them was lost."""
        if listeners.count or is_logged(WARNING):
            self._announce(WorkerLost, worker, jobs)

    def finished(self, outcome: Outcome[object, object]) -> None:
        """Tell what became of a job."""
        if listeners.count:
            self._announce(JobFinished, outcome)

    def ended(self, elapsed: float) -> None:
        """Tell that the run has ended, and let go of its listener, which may hold the run."""
        if listeners.count or is_logged(INFO):
            self._announce(RunFinished, elapsed)
        if self._listener is not None:
            self._listener = None
            listeners.adjust(-1)

    def _announce(self, kind: Callable[..., Event], *values: object) -> None:
        emit(kind(self.run, self._name, self._tally, *values), self)
