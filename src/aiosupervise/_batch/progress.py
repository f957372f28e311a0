"""Progress bars: a timer that displays the live counts of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol, TypedDict, get_type_hints, runtime_checkable

from aiosupervise._events.outcomes import Tally
from aiosupervise._policy.checks import check_seconds, safe_repr


@runtime_checkable
class TextFile(Protocol):
    """A file to which a progress bar can be written."""

    def write(self, text: str, /) -> object:
        """Write text."""

    def flush(self) -> object:
        """Flush the buffer."""


class BarOptions(TypedDict, total=False):
    """The keywords of tqdm that `progress=` accepts; the run sets the others."""

    desc: str
    leave: bool | None
    file: TextFile
    ncols: int | None
    mininterval: float
    miniters: float
    ascii: bool | str
    disable: bool | None
    unit: str
    unit_scale: bool | float
    dynamic_ncols: bool
    smoothing: float
    bar_format: str
    position: int
    unit_divisor: float
    nrows: int
    colour: str
    delay: float


def check_progress(progress: object) -> None:
    """Raise an error unless `progress` is a bool or a dict of the keywords in `BarOptions`."""
    if isinstance(progress, bool):
        return
    rule = "progress must be True, False or a dict of tqdm's keywords, such as {'leave': False}"
    if not isinstance(progress, Mapping):
        repair = ": pass an event listener as listen=" if callable(progress) else ""
        raise TypeError(f"{rule}; got {safe_repr(progress)}{repair}")
    kinds = get_type_hints(BarOptions)
    for key, value in progress.items():
        if key not in kinds:
            repair = ": write total=... beside progress" if key == "total" else f": it may have {', '.join(kinds)}"
            raise TypeError(f"{rule}; got the key {safe_repr(key)}{repair}")
        kind = kinds[key]
        # As in type checkers, an int is accepted in place of a float.
        if not (isinstance(value, kind) or (isinstance(value, int) and isinstance(0.0, kind))):
            text = kind.__name__ if isinstance(kind, type) else str(kind)
            raise TypeError(f"progress[{key!r}] must be of the type {text}; got {safe_repr(value)}")
    for key in progress.keys() & {"mininterval", "delay"}:
        check_seconds(f"progress[{key!r}]", progress[key], zero=True)


class Progress(Protocol):
    """A progress bar. A timer passes the counts to the bar, so that the display adds no overhead to the jobs.

    Attributes:
        interval: seconds between two updates; set when the bar is opened.
    """

    interval: float

    def open(self, tally: Tally) -> None:
        """Show the bar."""

    def show(self, tally: Tally, status: str) -> None:
        """Show the counts and, if not empty, `status`: the reason why no jobs are starting.

        Called once per interval, and once more when the run has ended.
        """

    def close(self) -> None:
        """Close the bar, and leave its final line on the screen."""


class ProgressUpdater:
    """Updates the progress bar of a run with a timer, until `stop` and `close` are called.

    An error raised by a bar is reported to the loop's exception handler and the bar is closed; the run continues
    without it.
    """

    def __init__(self, progress: Progress, tally: Tally, status: Callable[[], str]) -> None:
        self._progress = progress
        self._tally = tally
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = self._succeeds(lambda: progress.open(tally))
        if self._is_open:
            self._update()

    def stop(self) -> None:
        """Show the final counts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._succeeds(self._show)

    def close(self) -> None:
        """Close the bar; called after all bars have shown their final counts, because closing one moves those below."""
        if self._is_open:
            self._is_open = False
            self._succeeds(self._progress.close)

    def _update(self) -> None:
        self._timer = None
        if self._succeeds(self._show):
            self._timer = self._loop.call_later(self._progress.interval, self._update)
        else:
            self.close()

    def _show(self) -> None:
        self._progress.show(self._tally, self._status())

    def _succeeds(self, step: Callable[[], None]) -> bool:
        """Call a method of the bar, and return whether it succeeded; report its error if it did not."""
        try:
            step()
        except Exception as error:
            self._report(error)
            return False
        return True

    # This is a separate method, because the error's traceback refers to the frame of `_succeeds`. A dict in that frame
    # that contained the error would create a reference cycle.
    def _report(self, error: Exception) -> None:
        message = "a progress bar failed; its run continues without it"
        self._loop.call_exception_handler({"message": message, "exception": error})
