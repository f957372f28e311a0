"""The local engine of a run with groups: each job reports to its group instead of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from aiosupervise._batch.context import JobContext, RunContext
from aiosupervise._batch.jobs import Jobs
from aiosupervise._batch.local import LocalRun
from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise._call.enclosing_job import current_job
from aiosupervise._events.outcomes import I

from .job import GroupedJob
from .registry import Groups
from .settings import GroupSettings

T = TypeVar("T")


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

    def __init__(self, jobs: Jobs[Any, Any], context: EngineContext[Any, Any], settings: GroupSettings) -> None:
        parent = current_job.get()
        super().__init__(jobs, context, RunContext(context.tally, context.scope, None, None, parent))
        self.groups = Groups(settings, context, parent)

    def start_job(self, item: Any, index: int) -> None:
        """Start the task of a job in the group that the feed has recorded for the job."""
        groups = self.groups
        group = groups.starting.pop(index)
        job = GroupedJob(index, self._jobs.name(item, index), self._loop.time(), group, groups.slots)
        group.running += 1
        if group.breaker is not None:
            groups.on_busy(group)
        try:
            job.task_id = id(self._start(item, job))
        except BaseException:
            group.running -= 1
            raise

    async def close(self) -> None:
        """Detach calls that outlive the run, so that they continue without it."""
        self.groups.close()

    def _finish(self, job: JobContext, coroutine: Coroutine[object, None, Any], task: asyncio.Task[Any]) -> None:
        assert isinstance(job, GroupedJob)  # noqa: S101 - for the type checkers
        group, groups = job.group_context, self.groups
        group.running -= 1
        if group.queue:
            groups.schedule.enlist(group)
        groups.on_ended(job.index, group)
        try:
            super()._finish(job, coroutine, task)
        finally:
            if not (group.running or group.queue):
                groups.on_idle(group)
