"""Restart timers: the delays before restarts, each for the children that are restarted together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .child_state import ChildState


class RestartTimer:
    """The delay before the restart of a group of children."""

    __slots__ = ("group", "handle")

    def __init__(self, group: list[ChildState]) -> None:
        self.group = group
        self.handle: asyncio.TimerHandle | None = None


class RestartTimers:
    """The restart timers of one supervisor. A child belongs to one of them at most."""

    def __init__(self) -> None:
        self._timers: dict[ChildState, RestartTimer] = {}

    def schedule(self, group: list[ChildState], delay: float, callback: Callable[[RestartTimer], object]) -> None:
        """Call the callback with a new timer for this group after a delay in seconds."""
        timer = RestartTimer(group)
        timer.handle = asyncio.get_running_loop().call_later(delay, callback, timer)
        self._timers.update(dict.fromkeys(group, timer))

    def remove(self, child: ChildState) -> None:
        """Remove a child from its timer, if it has one; cancel a timer whose last child this was."""
        timer = self._timers.pop(child, None)
        if timer is None:
            return
        timer.group.remove(child)
        if not timer.group and timer.handle is not None:
            timer.handle.cancel()

    def expire(self, timer: RestartTimer) -> list[ChildState]:
        """Forget a timer that has fired and return its children, without those removed since it fired."""
        for child in timer.group:
            del self._timers[child]
        # The handle holds the timer as an argument of its callback: a reference cycle.
        timer.handle = None
        return timer.group
