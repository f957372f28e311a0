"""Heartbeats: the detection of children that have not called `alive()` in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from .child_state import ChildState
from .loop_clock import LoopClock

_ROUNDING = 1e-9  # seconds


class _Watched:
    """The state of a watched child: its heartbeat in seconds, and the time of its last beat by the loop clock."""

    __slots__ = ("last", "on_stalled", "seconds", "timer")

    def __init__(self, seconds: float, last: float, on_stalled: Callable[[], None]) -> None:
        self.seconds = seconds
        self.last = last
        self.on_stalled = on_stalled
        self.timer: asyncio.TimerHandle | None = None


class Heartbeats:
    """Watches children, and reports those that have not called `alive()` in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._loop = loop
        self._context = context
        self._clock = LoopClock(loop, context)
        self._watched: dict[ChildState, _Watched] = {}

    def watch(self, child: ChildState, seconds: float, on_stalled: Callable[[], None]) -> None:
        """Watch a child from now on; call `on_stalled` if it does not call `alive()` for `seconds` seconds."""
        self._clock.acquire(seconds)
        watched = self._watched[child] = _Watched(seconds, self._clock.time(), on_stalled)
        self._schedule(watched, seconds)

    def beat(self, child: ChildState) -> None:
        """Record that a child is alive; this may be called from any thread."""
        watched = self._watched.get(child)
        if watched is not None:
            watched.last = self._clock.time()

    def release(self, child: ChildState) -> None:
        """Stop watching a child; do nothing if it is not watched."""
        watched = self._watched.pop(child, None)
        if watched is not None:
            if watched.timer is not None:
                watched.timer.cancel()
            self._clock.release()

    def _schedule(self, watched: _Watched, seconds: float) -> None:
        watched.timer = self._loop.call_later(seconds, self._check, watched, context=self._context)

    def _check(self, watched: _Watched) -> None:
        watched.timer = None
        left = watched.last + watched.seconds - self._clock.time()
        if left > _ROUNDING:
            self._schedule(watched, left)
        else:
            watched.on_stalled()
