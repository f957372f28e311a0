"""A limit that grows with success and is halved by overload."""

from __future__ import annotations

from aiosupervise._events.outcomes import Failure, Outcome, Success, Tally

from .overload import Adaptive


class AdaptiveLimit:
    """Keeps the limit in a run's tally: one more for each round of successes, half at a sign of overload."""

    def __init__(self, setting: Adaptive, tally: Tally) -> None:
        self.generation = 0
        self._setting = setting
        self._tally = tally
        self._limit = setting.start
        self._credit = 0
        self._busy = 0

    def started(self) -> None:
        """Hear that a job has started, and is counted as running: so many places are used."""
        self._busy = self._tally.running  # not what is left of it when several end in one step of the loop

    def ended(self, generation: int, outcome: Outcome[object, object]) -> None:
        """Hear what became of a job whose last attempt was of this generation."""
        if isinstance(outcome, Failure) and isinstance(outcome.error, TimeoutError):
            self.overloaded(generation)
        if not isinstance(outcome, Success) or 2 * self._busy < self._limit:
            return
        self._credit += 1
        if self._credit >= self._limit:
            self._set(min(self._limit + 1, self._setting.maximum))

    def overloaded(self, generation: int) -> None:
        """Hear a sign of overload from an attempt of this generation; an older one has been heard before."""
        if generation == self.generation:
            self.generation += 1
            self._set(max(self._limit // 2, self._setting.minimum))

    def _set(self, limit: int) -> None:
        self._limit = self._tally.limit = limit
        self._credit = 0
