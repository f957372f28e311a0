"""Progress bars for all runs, drawn by rich: a line for each run, with its counts and the reason for a pause.

Install with `pip install "aiosupervise[rich]"`.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final, final

try:
    from rich.console import Console, Group, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column
except ImportError as _error:
    raise ImportError('aiosupervise.integrations.rich needs rich: pip install "aiosupervise[rich]"') from _error

from aiosupervise._events import log as _log
from aiosupervise._events.records import (
    AttemptFailed,
    AttemptStarted,
    CallFinished,
    Event,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
)
from aiosupervise._policy.checks import safe_repr

from ._rich_line import RunLine

__all__ = ["Bars"]

_INTERVAL: Final = 0.1  # seconds
_MAX_FINISHED: Final = 10  # lines


@final
class Bars:
    """A listener that shows a line for each run: its finished jobs, how they ended, and why the run is paused.

    For one run and the runs inside it, use `run_all(..., listen=Bars())`. For all runs, put `with listen(Bars()): ...`
    around them. Runs that started earlier are not shown.

    Events only update counts. A timer of the event loop refreshes the display ten times a second.

    Args:
        progress: your own `rich.progress.Progress`, to which a task is added for each run; you start and stop it
            yourself. It is drawn by its own thread, or by the timer if it has `auto_refresh=False`. None for a Progress
            on stderr that all `Bars()` share and that is shown while there are runs.

    The description of a run's task includes the counts, so they are shown with any columns. Your own columns can use
    these fields. Numbers: `succeeded`, `failed` and `pending` jobs, `retrying` calls (in an attempt after the first)
    and `waiting` calls (for their next attempt). Texts: `paused` (for how long and why, empty if the run is not
    paused), `status` (all of these as text) and `name` (with its square brackets escaped). The tasks of finished runs
    remain until ten later runs have finished.

    Raises:
        TypeError: if `progress` is neither a Progress nor None.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        if not (progress is None or isinstance(progress, Progress)):
            hint = ": write Bars(), with parentheses" if isinstance(progress, Event) else ""
            rule = "progress must be a rich.progress.Progress, or None for the shared one on stderr"
            raise TypeError(f"{rule}; got {safe_repr(progress)}{hint}")
        self._display = _SHARED_DISPLAY if progress is None else _Display(progress)
        self._runs: set[int] = set()
        # A listener that is removed before a run ends receives no event for that end. Its lines are therefore finished
        # when the listener is garbage-collected.
        weakref.finalize(self, self._display.finish_all, self._runs)

    def __call__(self, event: Event) -> None:
        """Apply an event to the line of its run."""
        match event:
            case RunStarted(run=run):
                self._display.add(event)
                self._runs.add(run)
            case RunFinished(run=run):
                self._runs.discard(run)
                self._display.finish(run)
            case AttemptStarted() | AttemptFailed() | CallFinished() | RunPaused() | RunResumed():
                self._display.on_event(event)
            case _:
                pass


class _SharedProgress(Progress):
    """A Progress on stderr that is hidden while the log prints a line.

    While it is shown, rich replaces `sys.stderr`, and prints the program's output above the bars. But a log handler
    keeps the `sys.stderr` that was current when the handler was created, and so bypasses rich.
    """

    def __init__(self) -> None:
        self._is_hidden = False
        super().__init__(
            TextColumn("{task.fields[name]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            # The column that TextColumn creates by default does not wrap a long status.
            TextColumn("{task.fields[status]}", markup=False, table_column=Column()),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            # Otherwise rich would print on stderr the output that the program writes to stdout for a file or a pipe.
            redirect_stdout=_is_terminal(sys.stdout),
        )

    def get_renderable(self) -> RenderableType:
        """Return the object that rich draws, which is empty while the lines are hidden."""
        return Group() if self._is_hidden else super().get_renderable()

    def start(self) -> None:
        """Show the lines, and register with the log."""
        super().start()
        if self.console.is_terminal:
            _log.beside_bars.append(self.hidden)

    def stop(self) -> None:
        """Deregister from the log, and leave the final lines on the screen."""
        if self.hidden in _log.beside_bars:
            _log.beside_bars.remove(self.hidden)
        super().stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the lines, and draw them again below the output that was printed in the meantime.

        rich's lock is not held while the lines are hidden, because that could cause a deadlock: the logging handler
        that prints the output may wait for its own lock, while the thread that holds the handler's lock waits for
        rich's lock.
        """
        try:
            self._redraw(hidden=True)
            yield
        finally:
            self._redraw(hidden=False)

    def _redraw(self, *, hidden: bool) -> None:
        self._is_hidden = hidden
        # The log line must be printed even if drawing fails. The timer will encounter the same error, and report it.
        with suppress(Exception):
            self.refresh()


def _is_terminal(file: IO[str] | None) -> bool:
    return bool(getattr(file, "isatty", bool)())


class _Display:
    """The lines of runs in one Progress: the user's own, or a shared one that exists while there are runs."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._is_shared = progress is None
        self._lines: dict[int | None, RunLine] = {}
        self._finished: deque[TaskID] = deque()
        # Runs may be in several threads. The lock is reentrant, because the garbage collector may call `finish_all`
        # even in the middle of another method.
        self._lock = threading.RLock()

    def add(self, event: RunStarted) -> None:
        """Add a line for a run that starts."""
        with self._lock:
            if event.run in self._lines:
                return
            if self._progress is None:
                progress = _SharedProgress()
                progress.start()
                self._progress = progress
            line = RunLine(event)
            line.task = self._progress.add_task(**line.task_fields())
            line.timer = line.loop.call_later(_INTERVAL, self.update, event.run)
            self._lines[event.run] = line

    def on_event(self, event: AttemptStarted | AttemptFailed | CallFinished | RunPaused | RunResumed) -> None:
        """Apply an event to the line of its run, if there is one."""
        line = self._lines.get(event.run)
        if line is not None:
            line.on_event(event)

    def update(self, run: int) -> None:
        """Show the current counts of a run, and schedule the next update; called by the timer of its line."""
        with self._lock:
            line, progress = self._lines.get(run), self._progress
            if line is None or progress is None:
                # Another thread has finished the line while this one waited for the lock.
                return
            _update(progress, line)
            # Only the first line draws, so that the display is drawn ten times a second for any number of lines.
            if next(iter(self._lines)) == run:
                _draw(progress)
            line.timer = line.loop.call_later(_INTERVAL, self.update, run)

    def finish(self, run: int) -> None:
        """Show how a run ended, and remove the lines of runs that finished long ago."""
        with self._lock:
            line, progress = self._lines.pop(run, None), self._progress
            if line is None or progress is None:
                return
            line.finish()
            try:
                _update(progress, line, finished=True)
                progress.stop_task(line.task)
                self._finished.append(line.task)
                if len(self._finished) > _MAX_FINISHED:
                    progress.remove_task(self._finished.popleft())
                _draw(progress)
            finally:
                if self._is_shared and not self._lines:
                    self._progress = None
                    self._finished.clear()
                    progress.stop()

    def finish_all(self, runs: set[int]) -> None:
        """Finish the lines of runs that will not report their end."""
        for run in tuple(runs):
            self.finish(run)


def _update(progress: Progress, line: RunLine, *, finished: bool = False) -> None:
    if replayed := line.take_replayed():
        for task in progress.tasks:
            if task.id == line.task:
                # `update` would count these jobs towards the speed.
                task.completed += replayed
    progress.update(line.task, **line.task_fields(finished=finished))


def _draw(progress: Progress) -> None:
    if not progress.live.auto_refresh:
        progress.refresh()


_SHARED_DISPLAY: Final = _Display(None)
