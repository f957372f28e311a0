"""The waits before restarts: children that are restarted together wait together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .child_state import Record


class Wait:
    """Children that wait to be restarted together."""

    __slots__ = ("group", "timer")

    def __init__(self, group: list[Record]) -> None:
        self.group = group
        self.timer: asyncio.TimerHandle | None = None


class Waits:
    """All waits of one supervisor."""

    def __init__(self) -> None:
        self._waits: list[Wait] = []

    def begin(self, group: list[Record], seconds: float, is_over: Callable[[Wait], object]) -> None:
        """Let a group wait; `is_over` is called when its time has come."""
        wait = Wait(group)
        wait.timer = asyncio.get_running_loop().call_later(seconds, is_over, wait)
        self._waits.append(wait)

    def leave(self, record: Record) -> None:
        """Take a child out of its wait, if it is in one."""
        for wait in [wait for wait in self._waits if record in wait.group]:
            wait.group.remove(record)
            if not wait.group and wait.timer is not None:
                wait.timer.cancel()
                self._waits.remove(wait)

    def end(self, wait: Wait) -> list[Record]:
        """Return who still waits now that the time has come: nobody, if all were taken out since then."""
        if wait not in self._waits:
            return []
        self._waits.remove(wait)
        wait.timer = None  # the timer holds this
        return wait.group
