"""The local engine of a run with groups: each job reports to its group, and leaves its slot while it waits to retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from aiosupervise._batch.context import RunContext
from aiosupervise._batch.jobs import Jobs
from aiosupervise._batch.local import LocalJob, LocalRun
from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise._call.enclosing_job import Permit, current_job
from aiosupervise._events.outcomes import I

from .registry import Groups
from .settings import GroupSettings

T = TypeVar("T")


class GroupedJob(LocalJob):
    """A running job of a group, as seen by the supervised calls in it; it leaves its slot while it waits to retry.

    The job leaves its slot only for a call made by its own task: while a call in a child task waits, other tasks of the
    job may still be working.

    Attributes:
        group_context: the group of the job.
        is_away: True if the job has left its slot.
    """

    is_away = False

    def __init__(self, engine: LocalRun, index: int, item: Any, coroutine: Coroutine[object, None, Any]) -> None:
        super().__init__(engine, index, item, coroutine)
        assert isinstance(engine, GroupedRun)  # noqa: S101 - for the type checkers
        self._groups = engine.groups
        self.run_context = self.group_context = self._groups.starting[index]

    def finish(self, task: asyncio.Task[Any]) -> None:
        """Record the outcome of the job, whose task is done, and update the group."""
        group, groups = self.group_context, self._groups
        group.running -= 1
        if group.queue:
            groups.schedule.enlist(group)
        groups.on_ended(self.index, group)
        try:
            super().finish(task)
        finally:
            if not (group.running or group.queue):
                groups.on_idle(group)

    def has_room(self) -> bool:
        """Return whether the group permits the job to make an attempt."""
        return self.group_context.has_room()

    def on_away(self, change: int) -> None:
        """Update the number of jobs of the group that have left their slots."""
        self.group_context.away += change

    def on_wait(self) -> None:
        """Leave the slot, because a call is about to wait."""
        if not self.is_away and self._is_own_task():
            self._groups.slots.leave(self)
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
                await self._groups.slots.reacquire(self)
        except BaseException:
            self.on_neutral()
            raise
        if breaker is not None and permit is Permit.PROBE:
            breaker.on_start(call)
        return permit

    def on_neutral(self) -> None:
        """Record a call that ended without a response from the service, perhaps during a wait."""
        if self.is_away and self._is_own_task():
            self._groups.slots.reassign(self)
        super().on_neutral()

    def _is_own_task(self) -> bool:
        task = self.task
        return task is not None and self.run_context.is_running_here() and asyncio.current_task() is task


class GroupedEngine:
    """Runs the jobs as tasks in the run's own loop, and protects each group separately."""

    def __init__(self, jobs: Jobs[Any, Any], settings: GroupSettings) -> None:
        self._jobs = jobs
        self._settings = settings

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Accept any function and any inputs, because nothing leaves the process."""

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run."""
        return GroupedRun(self._jobs, context, self._settings)


class GroupedRun(LocalRun):
    """The running jobs of one run.

    Attributes:
        groups: the groups of the run.

    """

    job_type = GroupedJob

    def __init__(self, jobs: Jobs[Any, Any], context: EngineContext[Any, Any], settings: GroupSettings) -> None:
        # The jobs report to their groups, which report to the enclosing job.
        super().__init__(jobs, context, RunContext(context.tally, context.scope, None, None, None))
        self.groups = Groups(settings, context, current_job.get())

    def start_job(self, item: Any, index: int) -> None:
        """Start the task of a job in the group that the feed has recorded for the job."""
        groups = self.groups
        group = groups.starting[index]
        group.running += 1
        if group.breaker is not None:
            groups.on_busy(group)
        try:
            super().start_job(item, index)
        except BaseException:
            group.running -= 1
            raise
        finally:
            del groups.starting[index]

    async def close(self) -> None:
        """Detach calls that outlive the run, so that they continue without it."""
        self.groups.close()
