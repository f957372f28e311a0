"""The queue of calls that wait until they may retry, in order of arrival."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiosupervise._call.enclosing_job import Permit


class WaitingJob(Protocol):
    """A job with a call in the queue."""

    def has_slot(self) -> bool:
        """Return whether the job occupies a slot."""
        ...


class Waiters:
    """The calls that wait until the circuit permits another attempt."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Future[Permit], tuple[object, WaitingJob]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def count_jobs(self) -> int:
        """Return how many jobs have a call in the queue."""
        return len({job for _, job in self._calls.values()})

    def join(self, call: object, job: WaitingJob) -> asyncio.Future[Permit]:
        """Put a call of a job at the end of the queue, and return the future of its permit."""
        waiter: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._calls[waiter] = call, job
        return waiter

    def leave(self, waiter: asyncio.Future[Permit]) -> None:
        """Remove a call from the queue, if it is still there."""
        self._calls.pop(waiter, None)

    def release_first(self, permit: Permit, *, with_slot: bool = False) -> object | None:
        """Grant a permit to the first call in the queue and return the call, or None if no call is waiting.

        Args:
            permit: the permit.
            with_slot: True to consider only calls whose jobs occupy a slot.
        """
        # A cancelled waiter stays in the queue until its task runs.
        waiting = ((waiter, job) for waiter, (_, job) in self._calls.items() if not waiter.done())
        waiter = next((waiter for waiter, job in waiting if not with_slot or job.has_slot()), None)
        if waiter is None:
            return None
        waiter.set_result(permit)
        call, _ = self._calls.pop(waiter)
        return call

    def release_all(self, permit: Permit) -> None:
        """Grant a permit to every call in the queue, in order."""
        calls, self._calls = self._calls, {}
        for waiter in calls:
            if not waiter.done():
                waiter.set_result(permit)
