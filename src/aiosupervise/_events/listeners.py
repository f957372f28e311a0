"""The listeners of this process: those for all events, and the number of runs that have a listener of their own.

An event is created only if somebody receives it: `listeners.count` counts all listeners, and `log.is_logged` returns
whether a log record would be read. A call that succeeds on the first attempt checks only `listeners.count`.

A run whose loop is closed prematurely never ends, and so never unregisters its listener. The listener is subtracted
from the count when the run is deallocated, or before the next event if that comes first. The listeners of runs are
therefore counted per loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias, final

from aiosupervise._policy.checks import is_async_callable, safe_repr

from .records import Event

Listener: TypeAlias = Callable[[Event], None]


@final
class ListenerRegistry:
    """The listeners of this process.

    Attributes:
        count: the number of listeners, including those of runs.
        global_listeners: the listeners for all events, in the order in which they were added. Each change creates a new
            tuple, because loops in other threads may be iterating over it.
    """

    __slots__ = ("_lock", "_of_runs", "_returned_coroutines", "count", "global_listeners")

    def __init__(self) -> None:
        self.count = 0
        self.global_listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        # The number of listeners of the runs in each loop.
        self._of_runs: dict[asyncio.AbstractEventLoop, int] = {}
        # The ids of the listeners that have returned a coroutine.
        self._returned_coroutines: set[int] = set()

    def add(self, listener: Listener) -> None:
        """Add a listener for all events."""
        with self._lock:
            self.global_listeners = (*self.global_listeners, listener)
            self.count += 1

    def remove(self, listener: Listener) -> None:
        """Remove a listener for all events; if it was added more than once, remove the latest one.

        Listeners are compared by identity, because two different listeners may be equal.
        """
        with self._lock:
            remaining = list(self.global_listeners)
            later = max(index for index, other in enumerate(remaining) if other is listener)
            del remaining[later]
            self.global_listeners = tuple(remaining)
            self.count -= 1
        self.forget(listener)

    def adjust(self, change: int, loop: asyncio.AbstractEventLoop) -> None:
        """Adjust the number of listeners of the runs in this loop."""
        with self._lock:
            self._of_runs[loop] = self._of_runs.get(loop, 0) + change
            self.count += change
            if not self._of_runs[loop]:
                del self._of_runs[loop]

    def drop_closed(self) -> None:
        """Drop the counts of loops that were closed before their runs had ended."""
        closed = [loop for loop in tuple(self._of_runs) if loop.is_closed()]
        # The garbage collector may call this while one of the methods above holds the lock; then the next event drops
        # the counts.
        if closed and self._lock.acquire(blocking=False):
            try:
                for loop in closed:
                    self.count -= self._of_runs.pop(loop, 0)
            finally:
                self._lock.release()

    def is_first_coroutine(self, listener: object) -> bool:
        """Record that a listener has returned a coroutine; return whether that is the first time."""
        with self._lock:
            is_first = id(listener) not in self._returned_coroutines
            self._returned_coroutines.add(id(listener))
        return is_first

    def forget(self, listener: object) -> None:
        """Forget a listener that will receive no more events, because its id may be reused."""
        self._returned_coroutines.discard(id(listener))


listeners = ListenerRegistry()


@final
class Subscription:
    """The subscription that `listen` returns: leaving its `with` block ends it."""

    __slots__ = ("_is_over", "_listener")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._is_over = False
        listeners.add(listener)

    def __enter__(self) -> None:
        """Do nothing: the subscription began with `listen`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_over:
            self._is_over = True
            listeners.remove(self._listener)


def listen(listener: Listener) -> Subscription:
    """Call `listener` with every event of the supervised calls, runs and supervisors in this process.

    `listen(listener)` subscribes it permanently, and `with listen(listener): ...` for the duration of the block. To
    listen to a single run, use `run_all(..., listen=listener)`.

    Args:
        listener: a function that takes an `Event` as its only argument. It is called synchronously, in the thread, task
            and context that emitted the event, so keep it fast. An error that it raises is reported to the loop's
            exception handler and does not affect the code that emitted the event.

    Raises:
        TypeError: if the listener is not callable, or is async.
    """
    check_listener("listener", listener)
    return Subscription(listener)


def check_listener(name: str, value: object) -> None:
    """Raise if a listener is not callable, or is async."""
    if not callable(value):
        raise TypeError(f"{name} must be a function of one argument, the event; got {safe_repr(value)}")
    if is_async_callable(value):
        raise TypeError(f"{name} is called and not awaited: write `def`, not `async def`; got {safe_repr(value)}")
