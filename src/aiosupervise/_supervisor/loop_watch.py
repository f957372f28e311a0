"""The task of a supervisor: it only detects the shutdown of the event loop, and ends with the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiosupervise._call.tasks import named_task, wait_until_done


class LoopWatch:
    """Waits until the supervisor has ended.

    User code has no reference to its task. Therefore only asyncio.run, or other code that cancels all tasks of the
    event loop, including those of the children, can cancel it.

    Args:
        name: the name of the task.
        on_shutdown: called when the event loop shuts down.
    """

    def __init__(self, name: str, on_shutdown: Callable[[], None]) -> None:
        self._name = name
        self._on_shutdown: Callable[[], None] | None = on_shutdown
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._has_shut_down = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_shutdown(self) -> bool:
        """True if the event loop is shutting down."""
        return self._has_shut_down or (self._task is not None and self._task.cancelling() > 0)

    def start(self) -> None:
        """Start the task."""
        # An eager task factory (Python 3.12 and later) runs the first step of the task before `_task` is set.
        watching = self._watch()
        try:
            self._task = named_task(self._loop, watching, self._name)
        except BaseException:
            # A task factory may raise any error.
            watching.close()
            raise
        self._task.add_done_callback(self._on_task_done)

    def end(self) -> None:
        """End the task, because the supervisor has ended."""
        self._on_shutdown = None
        self._over.set()

    def note_shutdown(self) -> None:
        """Record that the event loop is shutting down, and call `on_shutdown`."""
        self._has_shut_down = True
        if self._on_shutdown is not None:
            self._on_shutdown()

    async def join(self, stop: Callable[[], None]) -> None:
        """Wait until the supervisor has ended; if the caller is cancelled, call `stop` and keep waiting."""
        task = self._task
        assert task is not None  # noqa: S101 - for the type checkers
        try:
            await wait_until_done(task, stop)
        finally:
            # The callbacks of the task may not have run yet.
            if task.done():
                self._on_task_done(task)
            if self._task is not None and self._task is not task:
                await wait_until_done(self._task, stop)

    async def _watch(self) -> None:
        while not self._over.is_set():
            try:
                await self._over.wait()
            except asyncio.CancelledError:
                self.note_shutdown()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never runs its coroutine, not even a `finally` in it. In that
        # case, a second task replaces it.
        if task is self._task and not self._over.is_set():
            self._task = named_task(self._loop, self._watch(), self._name)
            self.note_shutdown()
