"""Signals that end a run: the first one stops it, the second one cancels it.

Theory of operation. One handler of ours, `_heard`, serves all runs of the process. The first run that wants a signal
puts it in the place of what was there, the last one puts that back. It runs in the main thread between any two steps
of Python, so it only counts, and leaves the rest to the loop of each run. It is installed with `signal.signal`:
`loop.remove_signal_handler` cannot put back what was there before, such as the handler of asyncio.run, which
`asyncio.Runner` compares by identity in the end. A loop hears of signals by itself, so what was given to
`loop.add_signal_handler` is called all the same. But Python calls a handler like ours only between two of its steps: a
loop that is just about to wait, or whose signal went to another thread, waits on. So a timer ends its wait often.

Laws, each with a test:
- A signal that a run takes is in its `stopped_by`: none is swallowed unseen.
- No signal is heard much later than it comes, whatever the loop waits for.
- A run that has been cancelled takes no more: what was there before is back while the handler still runs.
- If somebody has replaced our handler, theirs stays. If ours is called when no run wants the signal (somebody has put
  it back, the process is a fork, the run's loop was closed under it), it makes room and passes the signal on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any

_BEAT = 0.2  # seconds that a signal is heard late at most


class SignalWatcher:
    """Tells a run of its signals, from the moment it is made until `close`."""

    def __init__(
        self, signals: tuple[signal.Signals, ...], stop: Callable[[], None], cancel: Callable[[], None]
    ) -> None:
        check_place(signals)
        self.stopped_by: signal.Signals | None = None
        self._signals = signals
        self._stop = stop
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # the handler may run in that of any job
        self._process = os.getpid()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        try:
            for number in signals:
                _watching[number] = [*_watches(number), self]
                _install(number)
            self._beat()
        except BaseException:
            self.close()
            raise

    def is_alive(self) -> bool:
        """Tell whether the run can still hear; a fork of the process has a copy of this, and no run."""
        return not self._closed and not self._loop.is_closed() and self._process == os.getpid()

    def hear(self, number: int) -> None:
        """Hear a signal, in the middle of anything."""
        act = self._cancel
        if self.stopped_by is None:
            self.stopped_by, act = signal.Signals(number), self._stop
        else:
            self._make_room()
        self._loop.call_soon_threadsafe(act, context=self._context)

    def close(self) -> None:
        """Hear no more, and put back what was there before unless others still listen. It can be called again."""
        self._make_room()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        """Do nothing, and again in a moment: the loop has to wake up for it, and then Python calls the handler."""
        self._timer = self._loop.call_later(_BEAT, self._beat)

    def _make_room(self) -> None:
        self._closed = True
        for number in self._signals:
            if not _watches(number):
                _put_back(number)


_watching: dict[int, list[SignalWatcher]] = {}  # who hears a signal
_previous: dict[int, Any] = {}  # what our handler has taken the place of; what a handler is, only the stubs can say


def check_place(signals: tuple[signal.Signals, ...]) -> None:
    """Refuse to handle signals where that cannot be done, or not be undone."""
    if signals and threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "stop_on works in the main thread only, where Python handles signals: handle them there, "
            "and call loop.call_soon_threadsafe(run.stop) with the loop of the run"
        )
    for number in signals:
        if signal.getsignal(number) is None:
            raise RuntimeError(
                f"stop_on cannot take {number.name}: its handler was not installed from Python, "
                "so it could not be put back afterwards"
            )


def _watches(number: int) -> list[SignalWatcher]:
    """Return who hears a signal, and forget those that no longer do."""
    watches = _watching[number] = [watch for watch in _watching.get(number, []) if watch.is_alive()]
    return watches


def _install(number: int) -> None:
    handler = signal.getsignal(number)
    if handler is not _heard:
        _previous[number] = handler
        signal.signal(number, _heard)


def _put_back(number: int) -> bool:
    """Put back what was there before us, and tell whether that was done: here, and not by somebody else."""
    if signal.getsignal(number) is not _heard or threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(number, _previous.get(number, signal.SIG_DFL))
    _previous.pop(number, None)
    return True


def _heard(number: int, frame: FrameType | None) -> None:
    watches = _watches(number)
    for watch in watches:
        watch.hear(number)
    if watches:
        return
    previous = _previous.get(number)
    if _put_back(number):
        signal.raise_signal(number)
    elif callable(previous):  # somebody's handler has kept ours, and calls it from within
        previous(number, frame)
