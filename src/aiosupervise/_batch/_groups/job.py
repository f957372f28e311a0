"""The job of a group: while it waits to retry, it leaves its slot of the run."""

from __future__ import annotations

import asyncio

from aiosupervise._batch.context import JobContext
from aiosupervise._call.enclosing_job import Permit

from .group import Group
from .slots import Slots


class GroupedJob(JobContext):
    """A running job of a group, as seen by the supervised calls in it.

    The job leaves its slot only for a call made by its own task: while a call in a child task waits, other tasks of the
    job may still be working.

    Attributes:
        group_context: the group of the job.
        is_away: True if the job has left its slot.
        task_id: the id of the job's task.
    """

    def __init__(self, index: int, name: str, started: float, group: Group, slots: Slots) -> None:
        super().__init__(index, name, started, group)
        self.is_away = False
        self.task_id = 0
        self.group_context = group
        self._slots = slots

    def has_room(self) -> bool:
        """Return whether the group permits the job to make an attempt."""
        return self.group_context.has_room()

    def on_away(self, change: int) -> None:
        """Update the number of jobs of the group that have left their slots."""
        self.group_context.away += change

    def on_wait(self) -> None:
        """Leave the slot, because a call is about to wait."""
        if not self.is_away and self._is_own_task():
            self._slots.leave(self)
            self.group_context.wake()

    def has_slot(self) -> bool:
        """Return whether the job occupies a slot of the run."""
        return not self.is_away

    async def acquire(self, call: object) -> Permit:
        """Wait until the group permits a call to retry, and the run has a slot for it."""
        breaker = self._breaker()
        permit = Permit.GO
        try:
            if breaker is not None:
                if breaker.circuit.state.permit() is None:
                    self.on_wait()
                permit = await breaker.acquire(call, self)
            if self._is_own_task():
                await self._slots.come_back(self)
        except BaseException:
            self.on_neutral()
            raise
        if breaker is not None and permit is Permit.PROBE:
            breaker.started(call)
        return permit

    def on_neutral(self) -> None:
        """Record a call that ended without a response from the service, perhaps during a wait."""
        if self.is_away and self._is_own_task():
            self._slots.take_back(self)
        super().on_neutral()

    def _is_own_task(self) -> bool:
        return self.run_context.is_running_here() and id(asyncio.current_task()) == self.task_id
