"""Checks that a user-defined engine follows the protocol, because the run relies on it for every outcome.

An outcome that is recorded twice would replace the outcome of another job, or make the run wait forever. The engines
that run jobs in the loop of the run are not checked: they record each outcome in the done callback of its task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from aiosupervise._events.outcomes import Outcome
from aiosupervise._policy.checks import kind_of, safe_repr

from .jobs import discard
from .protocol import Engine, EngineContext, EngineRun


def start_engine(engine: Engine, context: EngineContext[Any, Any], unrecorded: set[int]) -> EngineRun:
    """Start an engine for a run.

    Args:
        engine: the engine.
        context: the context that the engine receives.
        unrecorded: the indexes of the jobs without an outcome, if the engine is checked.

    Raises:
        TypeError: if the engine does not return an `EngineRun`.
    """
    record = context.record
    # The engine may store `record` as soon as it starts.
    context.record = partial(_record_once, unrecorded, threading.get_ident(), record)
    run: object = engine.start(context)
    if not isinstance(run, EngineRun):
        discard(run)
        rule = "the method start of an engine must be a plain method that returns an EngineRun"
        raise TypeError(f"{rule}; that of {safe_repr(engine)} returned {kind_of(run)}")
    if not run._is_checked:  # noqa: SLF001 - not part of the protocol
        context.record = record
    return run


class CheckedStarter:
    """Starts jobs on an engine, and notes that their outcomes are expected."""

    def __init__(self, engine: EngineRun, unrecorded: set[int]) -> None:
        self.context: EngineContext[Any, Any] = engine.context
        self._engine = engine
        self._unrecorded = unrecorded

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start now."""
        return self._engine.free_slots(taken)

    def start_job(self, item: Any, index: int) -> None:
        """Start the job of an item."""
        self._expect_outcome(self._engine.start_job, item, index)

    def skip(self, item: Any, index: int) -> None:
        """Record an item that was pulled too late to be started."""
        self._expect_outcome(self._engine.skip, item, index)

    def _expect_outcome(self, method: Callable[[Any, int], None], item: Any, index: int) -> None:
        self._unrecorded.add(index)
        try:
            method(item, index)
        except BaseException:
            self._unrecorded.discard(index)
            raise


def _record_once(
    unrecorded: set[int], thread: int, record: Callable[[Outcome[Any, Any]], None], outcome: Outcome[Any, Any]
) -> None:
    if threading.get_ident() != thread:
        raise RuntimeError(
            "the context of an engine must be called in the thread of the run's event loop; record was called in "
            "another thread: write loop.call_soon_threadsafe(context.record, outcome)"
        )
    if outcome.index not in unrecorded:
        raise RuntimeError(
            f"context.record must be called once for each job that was started; job {outcome.index} was never started, "
            f"or already has its outcome: record each outcome once"
        )
    unrecorded.remove(outcome.index)
    record(outcome)
