"""`ready()` and `alive()`: a child's reports to its supervisor, from any of its tasks and threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import final

from aiosupervise._call.tasks import running_loop


@final
class ThisRun:
    """One run of a child, as its code sees it. When the run ends, it drops its references to the supervisor."""

    __slots__ = ("_loop", "_on_alive", "_on_ready")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_ready: Callable[[], None] | None,
        on_alive: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._on_ready = on_ready
        self._on_alive = on_alive

    def ready(self) -> None:
        """Report that the child is ready."""
        if self._on_ready is None:
            return
        if running_loop() is self._loop:
            self._on_ready()
            return
        # The loop may be closed while a thread of the child still runs.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ready)

    def alive(self) -> None:
        """Report that the child is alive."""
        on_alive = self._on_alive
        if on_alive is not None:
            on_alive()

    def close(self) -> None:
        """Ignore further reports, because the run has ended; its threads and tasks may still be running."""
        self._on_ready = self._on_alive = None


this_run: ContextVar[ThisRun | None] = ContextVar("aiosupervise.this_run", default=None)
"""The current run of the innermost child around the running code; None outside a child."""


def ready() -> None:
    """Report that the calling child is ready; required only of children started with `ready=`.

    The call applies to the innermost child around the caller, and also works in tasks of the child and in threads with
    its context, such as those of `asyncio.to_thread`. Outside a child, and when called again, it does nothing.
    """
    run = this_run.get()
    if run is not None:
        run.ready()


def alive() -> None:
    """Report that the calling child is alive; required only of children started with `heartbeat=`.

    The call applies to the innermost child around the caller, and also works in tasks of the child and in threads with
    its context, such as those of `asyncio.to_thread`. Outside a child it does nothing. `alive()` is cheap enough to
    call in every iteration of a loop.
    """
    run = this_run.get()
    if run is not None:
        run.alive()
