"""The waits before restarts: children that are restarted together wait together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .child_state import ChildState


class RestartTimer:
    """Children that wait to be restarted together."""

    __slots__ = ("group", "timer")

    def __init__(self, group: list[ChildState]) -> None:
        self.group = group
        self.timer: asyncio.TimerHandle | None = None


class RestartTimers:
    """All waits of one supervisor."""

    def __init__(self) -> None:
        self._timers: list[RestartTimer] = []

    def begin(self, group: list[ChildState], seconds: float, is_over: Callable[[RestartTimer], object]) -> None:
        """Let a group wait; `is_over` is called when its time has come."""
        wait = RestartTimer(group)
        wait.timer = asyncio.get_running_loop().call_later(seconds, is_over, wait)
        self._timers.append(wait)

    def leave(self, child: ChildState) -> None:
        """Take a child out of its wait, if it is in one."""
        for wait in [wait for wait in self._timers if child in wait.group]:
            wait.group.remove(child)
            if not wait.group and wait.timer is not None:
                wait.timer.cancel()
                self._timers.remove(wait)

    def end(self, wait: RestartTimer) -> list[ChildState]:
        """Return who still waits now that the time has come: nobody, if all were taken out since then."""
        if wait not in self._timers:
            return []
        self._timers.remove(wait)
        wait.timer = None  # the timer holds this
        return wait.group
