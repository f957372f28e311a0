"""Waits for tasks at the end of a run, where a cancellation must not prevent the clean-up of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any


async def wait_shielded(tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:  # noqa: ASYNC109 - see below
    """Wait until tasks are done or this many seconds have passed, however often the caller is cancelled.

    Cancellations are dropped, because the run is ending anyway. A caller that is cancelled in every iteration of the
    event loop regains control in the iteration after the last task has ended. `asyncio.timeout` cannot be used, because
    it would also end the wait with a cancellation.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while waiting := [task for task in tasks if not task.done()]:
        left = deadline - loop.time()
        if left <= 0:
            return
        with suppress(asyncio.CancelledError):
            await asyncio.wait(waiting, timeout=left)
