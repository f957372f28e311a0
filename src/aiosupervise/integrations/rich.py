"""Bars for all runs, drawn by rich: a line for each, with what its calls do and why it pauses.

Install with `pip install "aiosupervise[rich]"`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Final, TypedDict, final

try:
    from rich.console import Console, Group, RenderableType
    from rich.markup import escape
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

__all__ = ["Bars"]

_INTERVAL: Final = 0.1  # seconds between two looks at the counts
_KEPT: Final = 10  # lines of runs that have ended, in a display that goes on


@final
class Bars:
    """A listener that shows a line for each run: how many jobs are done, how they ended, and what it waits for.

    For one run, and the runs inside of it: `run_all(..., listen=Bars())`. For all: `with listen(Bars()): ...`, around
    the whole of them: a run that has begun before is not shown.

    Events only change numbers. A timer of the loop looks at these ten times a second.

    Args:
        progress: a `rich.progress.Progress` of yours, which gets a task for each run. You start and stop it, and its
            own thread draws it; if it has `auto_refresh=False`, the timer does. None for one on stderr, which all
            `Bars()` share: it is there while there are runs to show.

    The task of a run has its counts in the description, so that any columns show them, and has these fields:
    `succeeded`, `failed`, `pending`, `retrying` (calls in an attempt after the first), `waiting` (calls that wait for
    the next one), which are numbers; `paused` (why and how long, empty if it does not), `status` (all of these in
    words) and `name`, which are texts, of which the name has its square brackets escaped. When a run has ended, its
    task stays; the ten latest do.

    Raises:
        TypeError: if `progress` is something else.

    """

    def __init__(self, progress: Progress | None = None) -> None:
        if not (progress is None or isinstance(progress, Progress)):
            raise TypeError(f"progress must be a rich.progress.Progress, or None for one of our own; {_got(progress)}")
        self._display = _OURS if progress is None else _Display(progress)
        self._runs: set[int] = set()
        # Who stops listening before a run ends does not hear of its end: the line goes with the listener.
        weakref.finalize(self, self._display.forget, self._runs)

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        match event:
            case RunStarted(run=run):
                self._display.begin(event)
                self._runs.add(run)
            case RunFinished(run=run):
                self._runs.discard(run)
                self._display.end(run)
            case AttemptStarted() | AttemptFailed() | CallFinished() | RunPaused() | RunResumed():
                self._display.hear(event)
            case _:
                pass


def _got(value: object) -> str:
    hint = ": write Bars(), with parentheses" if isinstance(value, Event) else ""
    return f"got {safe_repr(value)}{hint}"


class _Shown(TypedDict):
    """What a task is told: its own attributes, then the fields for columns."""

    description: str
    completed: int
    total: int | None
    name: str
    succeeded: int
    failed: int
    pending: int
    retrying: int
    waiting: int
    paused: str
    status: str


class _Line:
    """What is known of a run. The same event may come twice, from two places where the listener was given."""

    __slots__ = ("_look", "_loop", "_name", "_pause", "_retrying", "_tally", "_timer", "_waiting", "task")

    def __init__(self, event: RunStarted, look: Callable[[int], None]) -> None:
        self._name = escape(event.name)
        self._tally = event.tally
        self._retrying: set[int] = set()  # numbers of calls
        self._waiting: set[int] = set()
        self._pause: tuple[float, str] | None = None  # until when, and why
        self._loop = asyncio.get_running_loop()
        self._look = partial(look, event.run)
        self.task = TaskID(0)
        self.later()

    def hear(self, event: Event) -> None:
        """Take an event into the counts."""
        match event:
            case AttemptStarted(call=call, attempt=attempt) if attempt > 1:
                self._waiting.discard(call)
                self._retrying.add(call)
            case AttemptFailed(call=call, wait=wait):
                self._retrying.discard(call)
                if wait is not None:
                    self._waiting.add(call)
            case CallFinished(call=call):
                self._retrying.discard(call)
                self._waiting.discard(call)
            case RunPaused(seconds=seconds, why=why):
                self._pause = (self._loop.time() + seconds, why)
            case RunResumed():
                self._pause = None
            case _:
                pass

    def later(self) -> None:
        """Look again in a while."""
        self._timer = self._loop.call_later(_INTERVAL, self._look)

    def end(self) -> None:
        """Know that the run has ended, and with it whatever it waited for."""
        self._timer.cancel()
        self._pause = None
        self._retrying.clear()
        self._waiting.clear()

    def safe_repr(self, *, ended: bool = False) -> _Shown:
        """Tell what the line shows now."""
        tally = self._tally
        done = tally.succeeded + tally.failed
        paused = self._paused()
        counts = {"succeeded": tally.succeeded, "failed": tally.failed}
        others = {"pending": tally.pending, "retrying": len(self._retrying), "waiting": len(self._waiting)}
        told = counts | {word: count for word, count in others.items() if count}
        status = "; ".join(filter(None, [", ".join(f"{count} {word}" for word, count in told.items()), paused]))
        return _Shown(
            description=f"{self._name}: {status}",
            completed=done,
            total=done + tally.pending if ended and tally.total is None else tally.total,
            name=self._name,
            succeeded=tally.succeeded,
            failed=tally.failed,
            pending=others["pending"],
            retrying=others["retrying"],
            waiting=others["waiting"],
            paused=paused,
            status=status,
        )

    def _paused(self) -> str:
        if self._pause is None:
            return ""
        until, why = self._pause
        left = until - self._loop.time()
        return f"paused for {left:.1f} s, {why}" if left > 0 else f"probing, {why}"


class _OurProgress(Progress):
    """A Progress that steps aside for a log line. What prints through `sys.stderr` as it is now needs no help."""

    def __init__(self) -> None:
        self._aside = False
        super().__init__(
            TextColumn("{task.fields[name]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False, table_column=Column()),  # breaks where it is too long
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=_is_terminal(sys.stdout),  # what goes into a file or a pipe is to arrive there
        )

    def get_renderable(self) -> RenderableType:
        """Give what is drawn: nothing, while a line is printed."""
        return Group() if self._aside else super().get_renderable()

    def start(self) -> None:
        """Show it."""
        super().start()
        if self.console.is_terminal:
            _log.beside_bars.append(self.aside)

    def stop(self) -> None:
        """Leave the last lines."""
        if self.aside in _log.beside_bars:
            _log.beside_bars.remove(self.aside)
        super().stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Step aside. No lock is held meanwhile: a handler may have one that another thread holds, who draws."""
        try:
            self._show(aside=True)
            yield
        finally:
            self._show(aside=False)

    def _show(self, *, aside: bool) -> None:
        self._aside = aside
        with suppress(Exception):  # the line is to be printed all the same, and the timer meets this error, too
            self.refresh()


def _is_terminal(file: IO[str] | None) -> bool:
    return bool(getattr(file, "isatty", bool)())


class _Display:
    """The lines in one Progress: of the user's, or if there is none, one of ours that comes and goes."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._is_ours = progress is None
        self._lines: dict[int | None, _Line] = {}
        self._ended: deque[TaskID] = deque()
        # Runs may be in several threads; and the collector, which may come at any time, calls `forget`.
        self._lock = threading.RLock()

    def begin(self, event: RunStarted) -> None:
        """Add a line."""
        with self._lock:
            if event.run in self._lines:
                return
            if self._progress is None:
                progress = _OurProgress()
                progress.start()
                self._progress = progress
            line = _Line(event, self.look)
            line.task = self._progress.add_task(**line.safe_repr())
            self._lines[event.run] = line

    def hear(self, event: AttemptStarted | AttemptFailed | CallFinished | RunPaused | RunResumed) -> None:
        """Take an event into the counts of its run, if that is shown."""
        line = self._lines.get(event.run)
        if line is not None:
            line.hear(event)

    def look(self, run: int) -> None:
        """Show the counts of a run as they are now."""
        with self._lock:
            line, progress = self._lines.get(run), self._progress
            if line is None or progress is None:  # it could not be added, or went while its timer came
                return
            progress.update(line.task, **line.safe_repr())
            # However many lines there are, it is drawn ten times a second: when it is the turn of the first.
            if next(iter(self._lines)) == run:
                _draw(progress)
            line.later()

    def end(self, run: int) -> None:
        """Show how a run has ended."""
        with self._lock:
            line, progress = self._lines.pop(run, None), self._progress
            if line is None or progress is None:
                return
            line.end()
            try:
                progress.update(line.task, **line.safe_repr(ended=True))
                progress.stop_task(line.task)
                self._ended.append(line.task)
                if len(self._ended) > _KEPT:
                    progress.remove_task(self._ended.popleft())
                _draw(progress)
            finally:
                if self._is_ours and not self._lines:
                    self._progress = None
                    self._ended.clear()
                    progress.stop()

    def forget(self, runs: set[int]) -> None:
        """Leave the lines of runs whose end nobody will tell."""
        for run in tuple(runs):
            self.end(run)


def _draw(progress: Progress) -> None:
    if not progress.live.auto_refresh:
        progress.refresh()


_OURS: Final = _Display(None)
