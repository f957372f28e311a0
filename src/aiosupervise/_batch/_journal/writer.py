"""The writer of a journal: the only thread that uses the file, so that a slow disk does not block the event loop.

Theory of operation. The runs of one journal submit calls, which the writer makes in order. For each call, it resolves a
future in the event loop of the caller. The thread starts with the first call, and ends when no run has the file open.
It is a daemon thread: if a run was discarded together with its loop, its file may still be open, but the thread must
not keep the program from ending.

A loop with a virtual clock, as used in tests, would wait for a thread either not at all or forever. In such a loop the
call is made immediately, in the loop itself, and its result arrives in the next iteration. `no_waiting` has the same
effect.

After a fork, the child process has no such thread, and must not use the connection. Even closing the connection could
corrupt the file that the parent uses: https://www.sqlite.org/howtocorrupt.html. The store is a local variable of the
thread, and the frames of the parent's threads are never freed in the child, so the connection is never closed there.
The next call in the child starts a new thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from aiosupervise._call.no_waiting import no_waits

from .store import Store

R = TypeVar("R")
Work: TypeAlias = Callable[[Store], R]
Callback: TypeAlias = Callable[[Any, BaseException | None], object]


class Writer:
    """Makes the calls that use the file of a journal, in one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._store = Store(self._path)
        # The lock is reentrant, because garbage collection may discard a run at any moment.
        self._start_lock = threading.RLock()
        self._queue: SimpleQueue[tuple[Work[object], Callback]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, work: Work[R], *, in_loop: bool) -> asyncio.Future[R]:
        """Submit work to the thread, or perform it immediately in the event loop; return a future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if in_loop:
            self._reset_after_fork()
            self._perform(self._store, work, partial(_resolve_in_next_iteration, loop, future))
        else:
            self.post(work, partial(_resolve_threadsafe, loop, future))
        return future

    def post(self, work: Work[object], callback: Callback = lambda *_: None) -> None:
        """Submit work to the thread, which then calls `callback`."""
        self._reset_after_fork()
        with self._start_lock:
            self._queue.put((work, callback))
            if self._thread is None:
                name = f"journal {os.path.basename(self._path)}"  # noqa: PTH119 - it is a str
                thread = threading.Thread(target=self._run, args=(self._store,), name=name, daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except Exception as error:
                    self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Report to all callers that the thread cannot be started; the next call tries again."""
        self._thread = None
        while not self._queue.empty():
            _, callback = self._queue.get()
            callback(None, error)

    def _reset_after_fork(self) -> None:
        if self._process != os.getpid():
            self._reset()

    def _run(self, store: Store) -> None:
        while True:
            self._perform(store, *self._queue.get())
            if not store.is_open:
                with self._start_lock:
                    if self._queue.empty():
                        self._thread = None
                        return

    def _perform(self, store: Store, work: Work[object], callback: Callback) -> None:
        try:
            # Several loops may use the store without the thread.
            with store.mutex:
                result = work(store)
        except BaseException as error:
            # The traceback is removed, because its frames refer to the work, which refers to the run. The cause of the
            # error keeps its own traceback.
            callback(None, error.with_traceback(None))
        else:
            callback(result, None)


def works_in_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a run in this loop uses the file in the loop itself: under `no_waiting`, or with a virtual clock.

    A loop that is not based on asyncio's, such as uvloop's, has a real clock.
    """
    has_own_clock = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is not asyncio.BaseEventLoop.time
    return has_own_clock or no_waits.get() is not None


def _resolve_in_next_iteration(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: object, error: BaseException | None
) -> None:
    loop.call_soon(_resolve, future, result, error)


def _resolve_threadsafe(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: object, error: BaseException | None
) -> None:
    # The loop may have been closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_resolve, future, result, error)


def _resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        # The task that waited for the result was cancelled.
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
