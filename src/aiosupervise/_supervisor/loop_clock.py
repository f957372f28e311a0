"""The clock of heartbeats: the loop's time, excluding the time during which the loop was blocked."""

from __future__ import annotations

import asyncio
import math
from contextvars import Context

# The number of ticks in the shortest heartbeat.
_TICKS = 8


class LoopClock:
    """Measures the time during which the event loop could run callbacks. It ticks while it is in use.

    A late tick shows how long the loop was blocked. That time does not count, because a child that could not run could
    not call `alive()` either. Blocking is detected only by the tick that it delays, so up to an eighth of the shortest
    heartbeat goes undetected each time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._loop = loop
        self._context = context
        self._interval = math.inf
        self._users = 0
        self._blocked = 0.0
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """Return the time of this clock; it may be called from any thread."""
        return min(self._loop.time(), self._due) - self._blocked

    def acquire(self, heartbeat: float) -> None:
        """Tick often enough for this heartbeat, until `release` is called."""
        self._users += 1
        self._interval = min(self._interval, heartbeat / _TICKS)
        self._tick()

    def release(self) -> None:
        """Stop ticking if the clock has no other user."""
        self._users -= 1
        if not self._users:
            self._end_tick()
            self._due = self._interval = math.inf

    def _tick(self) -> None:
        self._due = self._end_tick() + self._interval
        self._timer = self._loop.call_at(self._due, self._tick, context=self._context)

    def _end_tick(self) -> float:
        """Cancel the next tick, add the time for which the loop was blocked, and return the loop's time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        self._blocked += max(now - self._due, 0.0)
        return now
