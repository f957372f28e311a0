"""The wake-up of a run's pump, which waits for free slots and, in the end, for the last jobs."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Wakes up one task that waits for a change.

    Attributes:
        waiter: what the task awaits; None while it does not wait.

    """

    def __init__(self) -> None:
        self.waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def wait(self) -> None:
        """Wait until a job has ended, an outcome was read, or the run was stopped."""
        self.waiter = self._loop.create_future()
        await self.waiter

    def wake(self) -> None:
        """Wake up the task, if it waits."""
        if self.waiter is not None:
            if not self.waiter.done():  # the end of the loop may have cancelled it
                self.waiter.set_result(None)
            self.waiter = None
