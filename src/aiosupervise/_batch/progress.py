"""Shows a run while it goes on: a timer that lets a progress bar look at the live counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiosupervise._events.outcomes import Tally

_INTERVAL = 0.1  # seconds between two looks, as often as tqdm draws


class Progress(Protocol):
    """A progress bar: it looks at the counts when it is told to, so that jobs pay nothing for it."""

    def open(self, tally: Tally) -> None:
        """Show the bar."""

    def show(self, tally: Tally, trouble: str = "") -> None:
        """Show these counts, and what the run waits for; called ten times a second, and once more at the end."""

    def close(self) -> None:
        """Leave a tidy last line."""


class Ticker:
    """Shows a run's counts while it goes on. A bar that raises is reported to the loop and let go: it kills no run."""

    def __init__(self, progress: Progress, tally: Tally, trouble: Callable[[], str]) -> None:
        self._progress = progress
        self._tally = tally
        self._trouble = trouble
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if self._try(lambda: progress.open(tally)):
            self._tick()

    def stop(self) -> None:
        """Show the last counts and close the bar."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._try(self._show)
            self._try(self._progress.close)

    def _tick(self) -> None:
        self._timer = None
        if self._try(self._show):
            self._timer = self._loop.call_later(_INTERVAL, self._tick)
        else:
            self._try(self._progress.close)

    def _show(self) -> None:
        self._progress.show(self._tally, self._trouble())

    def _try(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:
            self._report(error)
            return False
        return True

    def _report(self, error: Exception) -> None:  # not in `_try`, a frame that the error holds
        message = "a progress bar failed; its run goes on without it"
        self._loop.call_exception_handler({"message": message, "exception": error})
