"""Heartbeats: the detection of children that have not called `alive()` in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from .child_state import ChildState
from .loop_clock import LoopClock

_ROUNDING = 1e-9  # seconds


class _Heart:
    """The heartbeat of a watched child: its interval, and the time of the last beat by the loop clock."""

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
        self._hearts: dict[ChildState, _Heart] = {}

    def watch(self, child: ChildState, seconds: float, on_stalled: Callable[[], None]) -> None:
        """Watch a child from now on; call `on_stalled` if it does not call `alive()` for `seconds` seconds."""
        self._clock.acquire(seconds)
        heart = self._hearts[child] = _Heart(seconds, self._clock.time(), on_stalled)
        self._schedule(heart, seconds)

    def beat(self, child: ChildState) -> None:
        """Record that a child is alive; this may be called from any thread."""
        heart = self._hearts.get(child)
        if heart is not None:
            heart.last = self._clock.time()

    def release(self, child: ChildState) -> None:
        """Stop watching a child; do nothing if it is not watched."""
        heart = self._hearts.pop(child, None)
        if heart is not None:
            if heart.timer is not None:
                heart.timer.cancel()
            self._clock.release()

    def _schedule(self, heart: _Heart, seconds: float) -> None:
        heart.timer = self._loop.call_later(seconds, self._check, heart, context=self._context)

    def _check(self, heart: _Heart) -> None:
        heart.timer = None
        left = heart.last + heart.seconds - self._clock.time()
        if left > _ROUNDING:
            self._schedule(heart, left)
        else:
            heart.on_stalled()
