r"""The lifecycle of children: starting their tasks, recording how they ended, and stopping them.

    waiting -> starting -> running -> (ends by itself) -> waiting, ended, failed
                  \-> stopping <-/
    stopping -> stopped, or waiting (for its group), or started (on request), or as after a failure

The end of a task changes the state of its child immediately. The state machine handles ends in slices, so that
thousands of children that end in the same iteration do not block the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Protocol

from aiosupervise._call.tasks import task_factory
from aiosupervise._events.emit import Scope
from aiosupervise._events.records import ChildReady, ChildRestarted, ChildStalled, ChildStarted, Event

from .cancelling import LEAST_GRACE, cancel_again, interval_of
from .child_state import ChildState, Ending, Purpose, StateName
from .heartbeats import Heartbeats
from .registry import ChildRegistry
from .run_errors import error_of, failure_of
from .steps import Steps
from .this_run import ThisRun, this_run

# The number of ends in a slice.
_SLICE = 64

# Since Python 3.14, asyncio's call graph shows who awaits a task. A supervisor learns of the end of a child through a
# callback, so it registers the task that entered its block, as asyncio.TaskGroup does:
# https://docs.python.org/3/library/asyncio-graph.html
_add_awaiter: Callable[..., None] | None = getattr(asyncio, "future_add_to_awaited_by", None)
_discard_awaiter: Callable[..., None] | None = getattr(asyncio, "future_discard_from_awaited_by", None)


class LifecycleDelegate(Protocol):
    """The methods of the state machine that the lifecycle calls, such as its reactions to the end of a child."""

    def is_stopping(self) -> bool:
        """Return whether the supervisor is stopping, so that children that end are not restarted."""
        ...

    def are_tasks_cancelled(self) -> bool:
        """Return whether the event loop is shutting down, and has therefore cancelled every task."""
        ...

    def on_end(self, child: ChildState, ending: Ending) -> None:
        """Handle the end of a run."""
        ...

    def on_ready(self, child: ChildState) -> None:
        """Continue a group restart that waits for this child."""
        ...


class Lifecycle:
    """Starts, tracks and stops the runs of the children of one supervisor."""

    def __init__(self, name: str, scope: Scope, registry: ChildRegistry, steps: Steps) -> None:
        self.loop = asyncio.get_running_loop()
        # Callbacks run in the context of the supervisor, not in that of the child or the caller.
        self.context: Context = copy_context()
        self.delegate: LifecycleDelegate | None = None
        self.awaiter: asyncio.Task[object] | None = asyncio.current_task()
        self._name = name
        self._scope = scope
        self._registry = registry
        self._steps = steps
        self._ends: deque[ChildState] = deque()
        self._slice: asyncio.Handle | None = None
        self._heartbeats = Heartbeats(self.loop, self.context)
        # Under asyncio.eager_task_factory, too, a child runs its first step only after its start is complete.
        self._new_task = task_factory(self.loop)

    @property
    def has_ends(self) -> bool:
        """True if the end of a child is still to be handled."""
        return bool(self._ends)

    @property
    def _delegate(self) -> LifecycleDelegate:
        assert self.delegate is not None  # noqa: S101 - for the type checkers
        return self.delegate

    def emit(self, kind: Callable[..., Event], child: ChildState, *values: object, is_logged: bool = True) -> None:
        """Emit an event of a child after the current step."""
        self._steps.defer(partial(self._scope.emit, kind, child.name, *values, is_logged=is_logged))

    def enter(self, child: ChildState, state: StateName) -> None:
        """Move a child to a state now."""
        self._registry.enter(child, state, self.loop.time())

    def after(self, seconds: float, child: ChildState, step: Callable[[ChildState], None]) -> None:
        """Run a step for a child after this many seconds, unless the child leaves its state first."""
        call = partial(self._steps.run, partial(step, child))
        child.set_timer(self.loop.call_later(seconds, call, context=self.context))

    # Starting.

    def start(self, child: ChildState, *, again: bool = False) -> None:
        """Start a run of a child; `again` is True for a restart after its end or that of a sibling."""
        coroutine, context = self._begin_run(child)
        if again:
            child.restarts += 1
            self.emit(ChildRestarted, child, child.restarts, is_logged=child.is_restart_logged)
        else:
            self.emit(ChildStarted, child)
        if child.spec.ready is None:
            self.enter(child, "running")
            self._on_running(child)
        else:
            self.enter(child, "starting")
            self.after(child.spec.ready, child, self._on_too_late)
        self._create_task(child, coroutine, context)
        if child.restart_completion is not None:
            child.restart_completion.resolve()
            child.restart_completion = None

    def _create_task(self, child: ChildState, coroutine: Coroutine[object, None, object], context: Context) -> None:
        """Create the task of a run; an error of the task factory is a failure of the child."""
        try:
            # With an eager task factory of the user's own, the child may have ended by the time its task is assigned.
            child.task = self._new_task(coroutine, name=child.name, context=context)
        except BaseException as error:
            self._end_run(child, Ending(None, error))
            if not issubclass(type(error), Exception):
                raise
        else:
            # Recording an end is not a step, because there may be thousands in one iteration, and each changes only its
            # child.
            child.task.add_done_callback(partial(self._record_end, child), context=self.context)
            if _add_awaiter is not None and self.awaiter is not None:
                _add_awaiter(child.task, self.awaiter)

    def _begin_run(self, child: ChildState) -> tuple[Coroutine[object, None, object], Context]:
        """Clear the child's data about its last run; return the coroutine of the next one, and its context."""
        child.purpose = child.failure = child.error = child.value = None
        child.started_at = self.loop.time()
        child.this_run = self._this_run(child)
        context = child.spec.context.copy()
        context.run(this_run.set, child.this_run)
        coroutine, child.coroutine = child.coroutine or _call(child), None
        child.has_run = True
        return coroutine, context

    def _this_run(self, child: ChildState) -> ThisRun:
        on_ready = None if child.spec.ready is None else partial(self._steps.run, partial(self._on_ready, child))
        on_alive = None if child.spec.heartbeat is None else partial(self._heartbeats.beat, child)
        return ThisRun(self.loop, on_ready, on_alive)

    def _on_running(self, child: ChildState) -> None:
        child.was_ready = True
        if child.ready_completion is not None:
            child.ready_completion.resolve()
            child.ready_completion = None
        if child.spec.heartbeat is not None:
            stall = partial(self._steps.run, partial(self._on_stalled, child, child.spec.heartbeat))
            self._heartbeats.watch(child, child.spec.heartbeat, stall)

    def _on_ready(self, child: ChildState) -> None:
        if child.state == "starting":
            self.enter(child, "running")
            self._on_running(child)
            self.emit(ChildReady, child)
            self._delegate.on_ready(child)

    # Failures of a child whose task has not ended.

    def _on_too_late(self, child: ChildState) -> None:
        if not _has_ended(child):
            self._fail(child, f"child {child.name} has not called ready() within {child.spec.ready:g} s of its start")

    def _on_stalled(self, child: ChildState, heartbeat: float) -> None:
        if not _has_ended(child):
            self.emit(ChildStalled, child, heartbeat)
            self._fail(child, f"child {child.name} has not called alive() for {heartbeat:g} s")

    def _fail(self, child: ChildState, rule: str) -> None:
        child.failure = TimeoutError(rule)
        self.stop(child, Purpose.FAILURE)

    # Stopping.

    def stop(self, child: ChildState, purpose: Purpose) -> None:
        """Stop the run of a child; if it is already being stopped, change its next state."""
        child.purpose = purpose
        if child.state == "stopping":
            return
        self._heartbeats.release(child)
        self.enter(child, "stopping")
        if child.task is not None and not self._delegate.are_tasks_cancelled():
            child.task.cancel()
        self.after(interval_of(child), child, partial(self._cancel_again, interval_of(child)))

    def cancel(self, child: ChildState, task: asyncio.Task[object]) -> None:
        """Cancel a child immediately, even if it is already stopping, and again every second, whatever its grace."""
        if child.state == "stopping":
            task.cancel()
        else:
            self.stop(child, Purpose.STOP)
        self.after(LEAST_GRACE, child, partial(self._cancel_again, LEAST_GRACE))

    def _cancel_again(self, interval: float, child: ChildState) -> None:
        self.after(interval, child, partial(self._cancel_again, interval))
        seconds = self.loop.time() - child.since
        self._steps.defer(partial(cancel_again, child, self._name, seconds))

    # Ends.

    def _record_end(self, child: ChildState, task: asyncio.Task[object]) -> None:
        """Move a child whose task has ended to its next state."""
        # A command may have recorded the end before this callback.
        if child.task is not task:
            return
        if _discard_awaiter is not None and self.awaiter is not None:
            _discard_awaiter(task, self.awaiter)
        purpose, error = child.purpose, error_of(task)
        if purpose is None and task.cancelled() and self._delegate.are_tasks_cancelled():
            purpose = Purpose.STOP
        if purpose is Purpose.FAILURE:
            error = failure_of(child, error)
        elif purpose is not None and task.cancelled():
            error = None
        child.value = None if task.cancelled() or error is not None else task.result()
        self._end_run(child, Ending(purpose, error))

    def _end_run(self, child: ChildState, ending: Ending) -> None:
        child.error = ending.error
        if ending.error is not None:
            child.last_error = ending.error
        self._heartbeats.release(child)
        assert child.this_run is not None  # noqa: S101 - for the type checkers
        child.this_run.close()
        child.task = child.this_run = child.purpose = child.failure = None
        child.ending = ending
        self.enter(child, self._next_state(child, ending))
        self._ends.append(child)
        self._schedule_slice()

    def _next_state(self, child: ChildState, ending: Ending) -> StateName:
        purpose, error = ending.purpose, ending.error
        if purpose is Purpose.STOP or (purpose is Purpose.GROUP and child.spec.restart_type == "temporary"):
            return "stopped"
        if purpose in (Purpose.RESTART, Purpose.GROUP):
            return "stopped" if self._delegate.is_stopping() else "waiting"
        if child.will_restart(error) and not self._delegate.is_stopping():
            return "waiting"
        return "ended" if error is None else "failed"

    def _handle_slice(self) -> None:
        self._slice = None
        try:
            for _ in range(min(_SLICE, len(self._ends))):
                self._steps.run(partial(self.handle_end, self._ends.popleft()))
        finally:
            # A listener may have raised a KeyboardInterrupt.
            self._schedule_slice()

    def _schedule_slice(self) -> None:
        if self._ends and self._slice is None:
            self._slice = self.loop.call_soon(self._handle_slice, context=self.context)

    def catch_up(self, child: ChildState) -> None:
        """Record and handle the end of the child's task, if that has not been done yet."""
        if child.task is not None and child.task.done():
            self._record_end(child, child.task)
        self.handle_end(child)

    def handle_end(self, child: ChildState) -> None:
        """Handle the end of a child, unless it has already been handled."""
        ending, child.ending = child.ending, None
        if ending is not None:
            self._delegate.on_end(child, ending)


def _has_ended(child: ChildState) -> bool:
    """Return whether the task of a child has ended, although that has not been recorded yet."""
    return child.task is not None and child.task.done()


def _call(child: ChildState) -> Coroutine[object, None, object]:
    """Return a coroutine that calls the function of a child, so that an error in the call is a failure of the child."""
    return _called(child.spec.func)


async def _called(func: Callable[[], Coroutine[object, None, object]]) -> object:
    return await func()
