"""The slots of a run with groups: a job that waits to retry leaves its slot, and returns before new jobs start.

Otherwise a group whose service is down would fill the run with waiting jobs. Within its group, a job keeps its slot
until it ends, so a waiting job counts towards `limit_per_group`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiosupervise._events.outcomes import Tally


class SlotHolder(Protocol):
    """A job that can leave its slot."""

    is_away: bool

    def has_room(self) -> bool:
        """Return whether the group of the job permits another job to make attempts."""
        ...

    def on_away(self, change: int) -> None:
        """Update the number of jobs of the group that have left their slots."""


class Slots:
    """The jobs of one run that have left their slots, and the queue of jobs that wait to return.

    Attributes:
        away: the number of running jobs that have left their slots.
    """

    def __init__(self, tally: Tally) -> None:
        self.away = 0
        self._tally = tally
        self._returning: dict[asyncio.Future[None], SlotHolder] = {}

    @property
    def are_full(self) -> bool:
        """True if all slots of the run are occupied."""
        limit = self._tally.limit
        return limit is not None and self._tally.running - self.away >= limit

    def leave(self, job: SlotHolder) -> None:
        """Free the slot of a job."""
        job.is_away = True
        self.away += 1
        job.on_away(1)

    def reassign(self, job: SlotHolder) -> None:
        """Assign a slot to a job again, even if none is free, because the job continues after its wait."""
        job.is_away = False
        self.away -= 1
        job.on_away(-1)

    async def reacquire(self, job: SlotHolder) -> None:
        """Wait until a slot is free for a job that has left its slot, and assign the slot to the job."""
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
            first = next((pair for pair in waiting if pair[1].has_room()), None)
            if first is None:
                return
            future, job = first
            del self._returning[future]
            self.reassign(job)
            future.set_result(None)
