"""One group of a run: the object to which its jobs report, and which its circuit protects."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from functools import partial
from typing import Any

from aiosupervise._batch.breaker import Breaker
from aiosupervise._batch.context import RunContext
from aiosupervise._batch.protocol import UNLIMITED, EngineContext
from aiosupervise._call.enclosing_job import EnclosingJob
from aiosupervise._events.records import GroupPaused, GroupResumed, GroupStopped

from .schedule import EMPTY_QUEUE, Entry, Schedule
from .slots import Slots


class GroupsContext:
    """The data shared by the groups of one run.

    Attributes:
        context: the engine context of the run.
        parent: the job that encloses the run; None if there is none.
        schedule: the waiting inputs.
        slots: the slots of the run.
        stopped_keys: the keys of the groups whose service stayed down, each once even if the group was forgotten and
            stopped again.
        stopping: the groups whose waiting inputs are to be skipped.
    """

    def __init__(self, context: EngineContext[Any, Any], parent: EnclosingJob | None) -> None:
        self.context = context
        self.parent = parent
        self.schedule = Schedule()
        self.slots = Slots(context.tally)
        self.stopped_keys: dict[Hashable, None] = {}
        self.stopping: list[Group] = []


class Group(RunContext):
    """The jobs of one group.

    Attributes:
        queue: the inputs that were pulled and have not started, in input order.
        running: the number of running jobs, including those that have left their slots.
        away: the number of jobs that have left their slots.
        is_listed: True if the group is in the schedule's list.
        is_stopped: True if the service stayed down, so that the group starts no further jobs.
    """

    __slots__ = ("_limit", "_shared", "away", "is_listed", "is_paused", "is_stopped", "queue", "running")

    def __init__(self, shared: GroupsContext, key: Hashable, limit: int | None) -> None:
        context = shared.context
        overload = context.config.overload
        new_breaker = None if overload is None else partial(Breaker, overload, self, 0)
        super().__init__(context.tally, context.scope, new_breaker, None, shared.parent, key)
        self.queue: deque[Entry] = EMPTY_QUEUE
        self.running = 0
        self.away = 0
        self.is_listed = False
        self.is_stopped = False
        self.is_paused = False
        self._shared = shared
        self._limit = limit

    def may_start(self) -> bool:
        """Return whether the limit and the circuit of the group permit another job to start."""
        breaker, limit, running = self.breaker, self._limit, self.running
        if breaker is None or breaker.circuit.is_closed:
            return limit is None or running < limit
        return breaker.free_slots(UNLIMITED if limit is None else limit - running, running) > 0

    def has_room(self) -> bool:
        """Return whether a job of the group may return to a slot; probes can have filled the group beyond its limit."""
        return self._limit is None or self.running - self.away < self._limit

    def close(self) -> None:
        """Release the breaker when the group is forgotten or the run has ended; later failures create no new one."""
        super().close()
        self.breaker = None
        self._set_paused(paused=False)

    # The interface that the circuit of the group uses.

    @property
    def limit(self) -> int | None:
        """The limit of the group, or of the run if the group has none."""
        return self.tally.limit if self._limit is None else self._limit

    def have_all_started(self) -> bool:
        """Return whether the group has no further inputs."""
        return self._shared.schedule.is_exhausted and not self.queue

    def wake(self) -> None:
        """Start as many jobs of the group as the limits permit."""
        self._shared.schedule.enlist(self)
        self._shared.context.wake()

    def stop(self) -> None:
        """Start no further jobs of the group; its inputs become pending."""
        self.is_stopped = True
        self._set_paused(paused=False)
        try:
            self._shared.stopped_keys[self.group] = None
        except Exception as error:
            # The `__hash__` of the user's object may raise any error.
            self._shared.context.fail(error)
        self._shared.stopping.append(self)
        self.scope.emit(GroupStopped, self.group)
        self._shared.context.wake()

    def on_pause(self, seconds: float, why: str) -> None:
        """Count the pause, and emit an event for it."""
        self._set_paused(paused=True)
        self.scope.emit(GroupPaused, self.group, seconds, why)

    def on_resume(self) -> None:
        """Count the end of the pause, and emit an event for it."""
        self._set_paused(paused=False)
        self.scope.emit(GroupResumed, self.group)

    def _set_paused(self, *, paused: bool) -> None:
        self.tally.paused_groups += paused - self.is_paused
        self.is_paused = paused
