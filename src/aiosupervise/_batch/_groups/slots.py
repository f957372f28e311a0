"""The slots of a run with groups: waiting jobs release their slots to other groups, and return before new jobs.

Otherwise a group whose service is down would fill the run with waiting jobs. A job keeps its slot of the group, the one
that `limit_per_group` counts, until it ends.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiosupervise._events.outcomes import Tally


class Leaver(Protocol):
    """A job that can leave its slot."""

    is_away: bool

    def has_room(self) -> bool:
        """Return whether its group permits another job to make attempts."""
        ...

    def on_away(self, change: int) -> None:
        """Update the count of jobs of its group that are away from their slots."""


class Slots:
    """The jobs of one run that are away from their slots, and those that wait to return.

    Attributes:
        away: the number of running jobs that have left their slots.
    """

    def __init__(self, tally: Tally) -> None:
        self.away = 0
        self._tally = tally
        self._returning: dict[asyncio.Future[None], Leaver] = {}

    @property
    def are_full(self) -> bool:
        """Return whether all slots of the run are occupied."""
        limit = self._tally.limit
        return limit is not None and self._tally.running - self.away >= limit

    def leave(self, job: Leaver) -> None:
        """Free the slot of a job."""
        job.is_away = True
        self.away += 1
        job.on_away(1)

    def take_back(self, job: Leaver) -> None:
        """Assign a job a slot again immediately, even if none is free, because its wait has ended and it continues."""
        job.is_away = False
        self.away -= 1
        job.on_away(-1)

    async def come_back(self, job: Leaver) -> None:
        """Wait until a slot is free for a job that has left its own, and take it."""
        if not job.is_away:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning[future] = job
        self.release()
        if future.done():
            return
        try:
            await future
        except BaseException:
            self._returning.pop(future, None)
            raise

    def release(self) -> None:
        """Let jobs return to free slots, in the order of their requests."""
        while self._returning and not self.are_full:
            # A cancelled request stays in the queue until its task runs.
            waiting = ((future, job) for future, job in self._returning.items() if not future.done())
            future, job = next((pair for pair in waiting if pair[1].has_room()), (None, None))
            if future is None or job is None:
                return
            del self._returning[future]
            self.take_back(job)
            future.set_result(None)
