"""Who hears of what happens: listeners for everything, one for a run, and the log.

Theory of operation. Whoever has something to tell asks first whether somebody would hear it, so that what nobody
hears is never made: `listeners.count` counts the listeners for everything and those of runs, and `_log.is_logged`
knows about the log. The fast paths look at the former alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeAlias, final

from aiosupervise._policy.checks import is_async_callable, safe_repr

from .records import Event

Listener: TypeAlias = Callable[[Event], None]


class Scope(Protocol):
    """Where something happens, a job or a run: it tells its own listener, and the place around it."""

    def notify(self, event: Event) -> None:
        """Pass on an event to the listeners of this place."""


class ListenerRegistry:
    """The listeners of this process."""

    __slots__ = ("_lock", "count", "global_listeners")

    def __init__(self) -> None:
        self.count = 0  # how many there are, those of runs included
        self.global_listeners: tuple[
            Listener, ...
        ] = ()  # a new one for each change: loops in other threads are reading it
        self._lock = threading.Lock()

    def add(self, listener: Listener) -> None:
        """Let a listener hear everything."""
        with self._lock:
            self.global_listeners = (*self.global_listeners, listener)
            self.count += 1

    def remove(self, listener: Listener) -> None:
        """Let go of a listener: of one that was added twice, the later one."""
        with self._lock:
            place = len(self.global_listeners) - 1 - self.global_listeners[::-1].index(listener)
            self.global_listeners = self.global_listeners[:place] + self.global_listeners[place + 1 :]
            self.count -= 1

    def adjust(self, change: int) -> None:
        """Count listeners of runs."""
        with self._lock:
            self.count += change


listeners = ListenerRegistry()


@final
class Subscription:
    """What `listen` returns: leaving its `with` block ends the listening."""

    __slots__ = ("_is_over", "_listener")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._is_over = False
        listeners.add(listener)

    def __enter__(self) -> None:
        """Listen on; it began with `listen`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_over:
            self._is_over = True
            listeners.remove(self._listener)


def listen(listener: Listener) -> Subscription:
    """Let `listener` hear what happens in all supervised calls and all runs of this process.

    `listen(listener)` is for the whole life of the process; `with listen(listener): ...` for a while. For a single
    run, give the listener to it: `run_all(..., listen=listener)`.

    Args:
        listener: a function of one argument, an `Event`. It is called in the thread, the task and the context in
            which the event happens, and the work waits for it: let it be short. What it raises is reported to the
            loop's exception handler and does not hurt the work.

    Raises:
        TypeError: if it cannot be called, or is async.

    """
    check_listener("listener", listener)
    return Subscription(listener)


def check_listener(name: str, value: object) -> None:
    """Refuse what cannot listen."""
    if not callable(value):
        raise TypeError(f"{name} must be a function of one argument, the event; got {safe_repr(value)}")
    if is_async_callable(value):
        raise TypeError(f"{name} is called and not awaited: write `def`, not `async def`; got {safe_repr(value)}")
