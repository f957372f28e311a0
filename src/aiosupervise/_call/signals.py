"""Signals that end a run or a supervisor: the first one stops it, the second one cancels it.

Theory of operation. One handler, `_handle`, serves every run and every supervisor of the process; in the following,
"run" means either. The first run that watches a signal installs the handler and remembers the one that it replaces;
when the last of these runs ends, the previous handler is restored. The handler runs in the main thread, between any two
of its instructions, so it only records the signal and leaves the rest to the event loop of each run.

It is installed with `signal.signal`, not with `loop.add_signal_handler`: `loop.remove_signal_handler` restores Python's
default and not the previous handler (https://github.com/agronholm/anyio/issues/689), whereas `asyncio.Runner`, when it
ends, expects the very SIGINT handler that it installed. Callbacks passed to `loop.add_signal_handler` are still called,
because the loop reads signals from the wakeup file descriptor.

Python calls a handler only when the main thread executes Python code. A signal usually interrupts a waiting event loop,
but not if it arrives just before the loop begins to wait, or if the kernel delivers it to another thread
(https://github.com/python-trio/trio/issues/109). Therefore a timer wakes the loop while a run watches signals. The
alternative, `signal.set_wakeup_fd`, can be used only once per process, and the loop already uses it.

Invariants, each with a test:
- The first signal that a run consumes is its `stopped_by`; no signal is lost.
- A signal is handled within `_WAKE_INTERVAL`, whatever the event loop waits for.
- A cancelled run consumes no further signals: the previous handler of the signal is restored before our handler
  returns, and those of the run's other signals are restored in the next iteration of the event loop. When Python calls
  the handlers, several signals may have arrived, especially under uvloop, which waits outside Python. If the handler of
  the first signal restored the default handler of a second one, Python would drop the second signal, with a message
  about a race. Outside a handler, `signal.signal` first calls the handlers of all signals that have arrived.
- A handler that other code has installed in place of ours is not replaced.
- If our handler is called while no run watches the signal, it restores the previous handler and passes the signal on.
  There are three such cases: other code reinstalled our handler after the run, the signal arrived in a forked process,
  or the event loop of a run was closed prematurely.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Collection
from contextvars import copy_context
from types import FrameType
from typing import Any

from aiosupervise._policy.checks import safe_repr

_WAKE_INTERVAL = 0.2  # seconds

_watchers: dict[int, list[SignalWatcher]] = {}
# The handlers that ours has replaced. They are typed as Any, because the type of a handler has a name only in the type
# stubs.
_previous_handlers: dict[int, Any] = {}


class SignalWatcher:
    """Stops a run at the first of its signals and cancels it at the second, from construction until `close`."""

    def __init__(
        self, signals: tuple[signal.Signals, ...], stop: Callable[[], None], cancel: Callable[[], None]
    ) -> None:
        check_signals(signals)
        self.stopped_by: signal.Signals | None = None
        self._signals = signals
        self._stop = stop
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        # The callbacks run in this context, because the handler itself runs in that of the code that it interrupts.
        self._context = copy_context()
        self._process = os.getpid()
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        try:
            for number in signals:
                _watchers[number] = [*_active_watchers(number), self]
                _install(number)
            self._keep_waking_loop()
        except BaseException:
            self.close()
            raise

    def is_active(self) -> bool:
        """Return whether the run can still react to a signal; a forked process, which has only a copy, cannot."""
        return not self._is_closed and not self._loop.is_closed() and self._process == os.getpid()

    def on_signal(self, number: int) -> None:
        """Record a signal and schedule the reaction; called by the handler, which may interrupt any code."""
        if self.stopped_by is None:
            self.stopped_by = signal.Signals(number)
            callback = self._stop
        else:
            self._is_closed = True
            _restore_unless_watched(number)
            self._loop.call_soon_threadsafe(self._release_signals)
            callback = self._cancel
        self._loop.call_soon_threadsafe(callback, context=self._context)

    def close(self) -> None:
        """Stop watching, and restore the previous handlers unless other runs watch the same signals. Idempotent."""
        self._release_signals()
        if self._timer is not None:
            self._timer.cancel()

    def _keep_waking_loop(self) -> None:
        """Schedule this method again: a loop that wakes for a timer executes Python code, so the handler can run."""
        self._timer = self._loop.call_later(_WAKE_INTERVAL, self._keep_waking_loop)

    def _release_signals(self) -> None:
        self._is_closed = True
        for number in self._signals:
            _restore_unless_watched(number)


def checked_signals(stop_on: Collection[int]) -> tuple[signal.Signals, ...]:
    """Return the signals of a `stop_on` argument without duplicates; raise if the argument is invalid."""
    rule = "stop_on must be a collection of signals, as in stop_on=(signal.SIGINT, signal.SIGTERM) or (signal.SIGINT,)"
    if isinstance(stop_on, str) or not isinstance(stop_on, Collection):
        raise TypeError(f"{rule}; got {safe_repr(stop_on)}")
    for item in stop_on:
        if isinstance(item, bool) or not isinstance(item, int):
            raise TypeError(f"{rule}; {safe_repr(item)} is not a signal")
        if item not in signal.valid_signals() & set(signal.Signals):
            raise ValueError(f"{rule}; {safe_repr(item)} is not a signal on this platform")
        if signal.Signals(item).name in ("SIGKILL", "SIGSTOP"):
            raise ValueError(f"{rule}; no process can handle {signal.Signals(item).name}: leave it out")
    signals = tuple(signal.Signals(item) for item in dict.fromkeys(stop_on))
    check_signals(signals)
    return signals


def check_signals(signals: tuple[signal.Signals, ...]) -> None:
    """Raise for signals that cannot be handled in this thread, or whose previous handler could not be restored."""
    if signals and threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "stop_on works in the main thread only, where Python handles signals: handle them there, "
            "and call loop.call_soon_threadsafe(run.stop) with the loop of the run, or sup.stop of the supervisor"
        )
    for number in signals:
        if signal.getsignal(number) is None:
            raise RuntimeError(
                f"stop_on cannot take {number.name}: its handler was not installed from Python, "
                "so it could not be restored afterwards; leave the signal out"
            )


def _active_watchers(number: int) -> list[SignalWatcher]:
    """Return the watchers of a signal, and forget those that are no longer active."""
    watchers = _watchers[number] = [watcher for watcher in _watchers.get(number, []) if watcher.is_active()]
    return watchers


def _restore_unless_watched(number: int) -> None:
    if not _active_watchers(number):
        _restore(number)


def _install(number: int) -> None:
    handler = signal.getsignal(number)
    if handler is not _handle:
        _previous_handlers[number] = handler
        signal.signal(number, _handle)


def _restore(number: int) -> bool:
    """Restore the handler that ours has replaced; return False outside the main thread, or if ours is not installed."""
    if signal.getsignal(number) is not _handle or threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(number, _previous_handlers.get(number, signal.SIG_DFL))
    _previous_handlers.pop(number, None)
    return True


def _handle(number: int, frame: FrameType | None) -> None:
    watchers = _active_watchers(number)
    for watcher in watchers:
        watcher.on_signal(number)
    if watchers:
        return
    previous = _previous_handlers.get(number)
    if _restore(number):
        signal.raise_signal(number)
    elif callable(previous):
        # Another handler has replaced ours and calls it, so pass the signal on to the handler that ours had replaced.
        previous(number, frame)
