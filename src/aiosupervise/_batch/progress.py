"""Progress bars: a timer that shows the live counts of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiosupervise._events.outcomes import Tally

_INTERVAL = 0.1  # seconds; tqdm draws as often


class Progress(Protocol):
    """A progress bar. A timer passes it the counts, so that jobs pay nothing for being shown."""

    def open(self, tally: Tally) -> None:
        """Show the bar."""

    def show(self, tally: Tally, status: str = "") -> None:
        """Show the counts, and why the run starts no new jobs if it does not: `status` says that in words.

        Called ten times a second, and a last time when the run has ended.
        """

    def close(self) -> None:
        """Remove the bar, and leave its last line."""


class ProgressUpdater:
    """Updates the progress bar of a run ten times a second, until `stop`.

    A bar that raises is reported to the loop's exception handler and closed, and the run continues without it.
    """

    def __init__(self, progress: Progress, tally: Tally, status: Callable[[], str]) -> None:
        self._progress = progress
        self._tally = tally
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if self._succeeds(lambda: progress.open(tally)):
            self._update()

    def stop(self) -> None:
        """Show the final counts and close the bar."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._succeeds(self._show)
            self._succeeds(self._progress.close)

    def _update(self) -> None:
        self._timer = None
        if self._succeeds(self._show):
            self._timer = self._loop.call_later(_INTERVAL, self._update)
        else:
            self._succeeds(self._progress.close)

    def _show(self) -> None:
        self._progress.show(self._tally, self._status())

    def _succeeds(self, step: Callable[[], None]) -> bool:
        """Call a method of the bar; report the error and return False if it raises."""
        try:
            step()
        except Exception as error:
            self._report(error)
            return False
        return True

    # A method of its own, because the error's traceback holds the frame of `_succeeds`: a dict in that frame that held
    # the error would make a reference cycle.
    def _report(self, error: Exception) -> None:
        message = "a progress bar failed; its run continues without it"
        self._loop.call_exception_handler({"message": message, "exception": error})
