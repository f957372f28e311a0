"""A concurrency limit that grows with success and is halved on overload."""

from __future__ import annotations

from aiosupervise._events.outcomes import Failure, Outcome, Success, Tally

from .overload import Adaptive


class AdaptiveLimit:
    """Adapts the limit in a run's tally: adds one for each round of successes, and halves it at a sign of overload."""

    def __init__(self, setting: Adaptive, tally: Tally) -> None:
        self.generation = 0
        self._setting = setting
        self._tally = tally
        self._limit = setting.start
        self._credit = 0
        self._busy = 0

    def on_start(self) -> None:
        """Record that a job has started, and how many slots are in use."""
        # The number is read here, and not when a job ends, because several jobs can end in one iteration of the loop.
        self._busy = self._tally.running

    def on_end(self, generation: int, outcome: Outcome[object, object]) -> None:
        """Record the outcome of a job; `generation` is the number of halvings before its last attempt began."""
        # `isinstance` would read the `__class__` of the error, which may be a property that raises.
        if isinstance(outcome, Failure) and issubclass(type(outcome.error), TimeoutError):
            self.on_overload(generation)
        if not isinstance(outcome, Success) or 2 * self._busy < self._limit:
            return
        self._credit += 1
        if self._credit >= self._limit:
            self._set(min(self._limit + 1, self._setting.maximum))

    def on_overload(self, generation: int) -> None:
        """Halve the limit at a sign of overload, unless it has already been halved since the attempt began."""
        if generation == self.generation:
            self.generation += 1
            self._set(max(self._limit // 2, self._setting.minimum))

    def _set(self, limit: int) -> None:
        self._limit = self._tally.limit = limit
        self._credit = 0
