"""The outlet of a run: counts outcomes, puts them in the strategy's order, and delivers them to a reader or report."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from aiosupervise._events.outcomes import I, Outcome, Stopped, Tally

from .report import Report
from .source import END, End
from .strategies import Strategy

T = TypeVar("T")


class Outlet(Generic[T, I]):
    """Delivers the outcomes of one run, from the engine to the user."""

    def __init__(self, strategy: Strategy[T, I], tally: Tally, *, streamed: bool) -> None:
        # Whether no more outcomes will follow.
        self.closed = False
        self.stopped_groups: Collection[Hashable] = ()
        # The number of outcomes that a reader has taken.
        self.read = 0
        # The number of outcomes that a reader may take; None for all.
        self._last: int | None = None
        self._strategy = strategy
        self._tally = tally
        self.streamed = streamed
        self._arrival = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._finished: float | None = None
        # Why the run ended before its source was exhausted.
        self.stopped: Stopped | None = None

    @property
    def elapsed(self) -> float:
        """Seconds from the start of the run to its end, or to now."""
        return (self._loop.time() if self._finished is None else self._finished) - self._started

    @property
    def awaited(self) -> int | None:
        """The index of the outcome that the reader receives next; None if it may be any outcome."""
        return self._strategy.awaited

    @property
    def ready(self) -> Sequence[Outcome[T, I]]:
        """The outcomes that a reader can take immediately."""
        return self._strategy.ready

    @property
    def held_pending(self) -> int:
        """The number of pending outcomes that are withheld and delivered last."""
        return self._strategy.held_pending

    def hold_pending(self, *, hold: bool) -> None:
        """Set whether pending outcomes are withheld and delivered last, or delivered as they arrive."""
        self._strategy.holds_pending = hold

    def add(self, outcome: Outcome[T, I]) -> None:
        """Record an outcome."""
        self._tally.count(outcome)
        if self.streamed:
            self._arrival.set()
        self._strategy.add(outcome)

    def seal(self) -> None:
        """Withhold from the reader all outcomes that are added from now on; they appear only in the report."""
        if self._last is None:
            self._last = self.read + len(self._strategy.ready)

    def close(self, stopped: Stopped | None) -> None:
        """Release the outcomes that the strategy has withheld, because no more will follow.

        Args:
            stopped: why the run ended before its source was exhausted; None if it did not.
        """
        self.stopped = stopped
        self._strategy.flush()
        self._finished = self._loop.time()
        self.closed = True
        self._arrival.set()

    async def next(self) -> Outcome[T, I] | End:
        """Return the next outcome in the strategy's order, or END if there are no more."""
        ready = self._strategy.ready
        while not ready or self.read == self._last:
            if self.closed:
                return END
            self._arrival.clear()
            await self._arrival.wait()
        self.read += 1
        return ready.popleft()

    def take_rest(self) -> Iterator[Outcome[T, I]]:
        """Remove and yield the unread outcomes, after the run has ended."""
        ready = self._strategy.ready
        while ready:
            yield ready.popleft()

    def report(self) -> Report[T, I]:
        """Create a report of the known outcomes that have not been read."""
        outcomes = [*self._strategy.ready, *self._strategy.held()]
        return Report(outcomes, self._tally.copy(), self.elapsed, self.stopped, self.stopped_groups)
