"""The slots of a run with groups: jobs that wait to retry leave theirs to other groups, and come back before new jobs.

A group that is down would otherwise fill the run with jobs that wait for it. Its own slots, those of `limit_per_group`,
a job keeps until it ends.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiosupervise._events.outcomes import Tally


class Leaver(Protocol):
    """A job that can leave its slot."""

    is_away: bool

    def has_room(self) -> bool:
        """Return whether its group lets another job make attempts."""
        ...

    def on_away(self, change: int) -> None:
        """Count it among the jobs of its group that are away, or no more."""


class Slots:
    """Who is away from the slots of one run, and who waits to come back.

    Attributes:
        away: how many running jobs have left their slots.

    """

    def __init__(self, tally: Tally) -> None:
        self.away = 0
        self._tally = tally
        self._returning: dict[asyncio.Future[None], Leaver] = {}

    @property
    def are_full(self) -> bool:
        """Whether as many jobs have a slot as the run has slots."""
        limit = self._tally.limit
        return limit is not None and self._tally.running - self.away >= limit

    def leave(self, job: Leaver) -> None:
        """Free the slot of a job."""
        job.is_away = True
        self.away += 1
        job.on_away(1)

    def take_back(self, job: Leaver) -> None:
        """Give a job a slot again at once, though there may be none: its wait has ended, and it goes on."""
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
        """Let jobs come back into free slots, in the order in which they asked."""
        while self._returning and not self.are_full:
            # One that has been cancelled is in the queue until its task runs.
            waiting = ((future, job) for future, job in self._returning.items() if not future.done())
            future, job = next((pair for pair in waiting if pair[1].has_room()), (None, None))
            if future is None or job is None:
                return
            del self._returning[future]
            self.take_back(job)
            future.set_result(None)
