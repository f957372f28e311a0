r"""The control loop: the task that starts, restarts and stops the children of a supervisor.

Theory of operation. Whatever happens to a child is a message in one mailbox: its task has ended, a user asks to stop or
restart it, its restart timer has fired. The control loop handles one message after the other, as an OTP supervisor
does: a handler that stops a child can take that child's grace, and no other handler ever sees it half done.

    running -> (ends by itself) -> waiting -> running
       |                       \-> ended, failed
       \-> stopping -> stopped

Laws, each with a test:
- A child that is stopped is cancelled once, and a second time only when its grace is over. When the event loop shuts
  down, asyncio.run cancels every task: a cancellation of the control loop itself means that the children have been
  cancelled too.
- The control loop ends only when no child runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from aiosupervise._call.tasks import cancellation, task_factory, wait_until_done
from aiosupervise._events.emit import Scope
from aiosupervise._events.records import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated
from aiosupervise._policy.backoff import BackoffLike, delay_before
from aiosupervise._policy.errors import RestartsExceeded
from aiosupervise._policy.record import record

from .child_state import ChildState
from .intensity import RestartIntensity
from .mailbox import Completion, Mailbox, Message, RejectedError
from .registry import ChildRegistry, RestartStrategy
from .termination import terminate
from .timers import RestartTimer, RestartTimers


@record
class SupervisorConfig:
    """The settings of a supervisor that its control loop needs: OTP's supervisor flags, a backoff and a name."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
    backoff: BackoffLike
    name: str


class ControlLoop:
    """Starts, restarts and stops the children of one supervisor."""

    def __init__(self, config: SupervisorConfig, scope: Scope, cancel_body: Callable[[], None]) -> None:
        self.children = ChildRegistry()
        # The error with which the supervisor escalates.
        self.error: BaseException | None = None
        self.termination = Completion()
        self._config = config
        self._scope = scope
        self._cancel_body = cancel_body
        self._intensity = RestartIntensity(config.max_restarts, config.within)
        self._mailbox = Mailbox()
        self._timers = RestartTimers()
        self._idle = asyncio.Event()
        self._stop_requested = False
        self._ends_when_idle = False
        self._task_ended_early = False
        self._loop = asyncio.get_running_loop()
        # Under asyncio.eager_task_factory, too, a child runs its first step only after its start is complete. With an
        # eager task factory of the user's own, the child may even have ended by the time its task is assigned.
        self._new_task = task_factory(self._loop)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task of the control loop."""
        # An eager task factory (Python 3.12 and later) runs the first step of the task before `_task` is set.
        self._task = self._loop.create_task(self._run(), name=f"{self._config.name} control loop")
        self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:  # `join` has called it before
            return
        # The task may end without having stopped the children: a task that is cancelled before its first step never
        # runs its coroutine, not even a `finally` in it; and a KeyboardInterrupt of a backoff ends it at once. In both
        # cases the event loop shuts down. A second task then stops the children.
        if not self.termination.is_done:
            # The KeyboardInterrupt has been raised from the event loop. Retrieving it, asyncio does not log it as well.
            _ = task.cancelled() or task.exception()
            self._task_ended_early = True
            self._task = self._loop.create_task(self._stop_all(), name=task.get_name())

    # Called by the supervisor and by its children's handles.

    @property
    def is_stopping(self) -> bool:
        """Whether the supervisor is stopping or has stopped, and so starts no more children."""
        return self._stop_requested or self._is_shutdown() or self.termination.is_done

    def add(self, child: ChildState, coroutine: Coroutine[object, None, object]) -> None:
        """Start a new child, whose first run is this coroutine."""
        self.children.add(child)
        self._start(child, coroutine)

    def stop(self) -> None:
        """Stop all children and end."""
        self._stop_requested = True
        self._mailbox.wake()

    def end_when_idle(self) -> None:
        """End as soon as all children have ended."""
        self._ends_when_idle = True
        self._mailbox.wake()

    async def join(self) -> None:
        """Wait until the control loop has ended; a caller that is cancelled stops it, and continues to wait."""
        task = self._task
        assert task is not None  # noqa: S101 - for the type checkers
        try:
            await wait_until_done(task, self.stop)
        finally:
            if task.done():  # its callbacks may not have run yet
                self._on_task_done(task)
            if self._task is not None and self._task is not task:
                await wait_until_done(self._task, self.stop)

    async def wait_until_idle(self) -> None:
        """Wait until no child runs or waits for its restart."""
        while self._has_live_children():
            self._idle.clear()
            await self._idle.wait()

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        return self._mailbox.put(partial(self._handle_stop, child))

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        rejection = f"child {child.name} cannot be restarted: its supervisor has stopped"
        if self.is_stopping:
            raise RuntimeError(rejection)
        if self.children.is_replaced(child):
            raise RuntimeError(f"child {child.name} cannot be restarted: it has ended, and its name is another child's")
        return self._mailbox.put(partial(self._handle_restart, child), rejection)

    # The task.

    async def _run(self) -> None:
        while not self.is_stopping and (self._mailbox or not self._ends_when_idle or self._has_live_children()):
            try:
                if message := await self._mailbox.get():
                    await self._handle(message)
            except asyncio.CancelledError:
                self.stop()
        await self._stop_all()

    async def _handle(self, message: Message) -> None:
        try:
            await message.handler()
        except RejectedError:
            message.completion.reject()
        except (Exception, asyncio.CancelledError) as error:
            # Raised by a user's backoff: handlers wait in `terminate` only, which catches cancellations.
            self._escalate(error)
        message.completion.resolve()
        if not self._has_live_children():
            self._idle.set()

    async def _stop_all(self) -> None:
        for child in reversed([*self.children]):
            self._timers.remove(child)
            await self._stop(child)
        # A child's function may hold the supervisor, which holds the control loop: reference cycles.
        for child in self.children:
            del child.func
        del self._cancel_body
        self.termination.resolve()
        self._idle.set()
        self._mailbox.close()

    def _has_live_children(self) -> bool:
        return any(child.is_alive for child in self.children)

    def _is_shutdown(self) -> bool:
        # No user has the task of the control loop. So a cancellation of it comes from asyncio.run, or from other code
        # that cancels all tasks of the event loop.
        return self._task_ended_early or (self._task is not None and self._task.cancelling() > 0)

    # The handlers of messages.

    async def _handle_exit(self, child: ChildState, task: asyncio.Task[object]) -> None:
        # Nothing is left to do for a child that has been stopped, and maybe started again, since its task ended.
        if child.task is not task:
            return
        error = cancellation(task) if task.cancelled() else task.exception()
        child.task_ended(error)
        self._scope.emit(ChildExited, child.name, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._escalate(error)
        elif child.restart_type == "permanent" or (child.restart_type == "transient" and error is not None):
            await self._restart_group_of(child, error)
        else:
            child.enter("ended" if error is None else "failed", self._loop.time())
            self.children.forget(child)

    async def _handle_stop(self, child: ChildState) -> None:
        self._timers.remove(child)
        await self._stop(child)
        self.children.forget(child)

    async def _handle_restart(self, child: ChildState) -> None:
        if self.children.is_replaced(child):
            raise RejectedError
        self._timers.remove(child)
        await self._stop(child)
        if self.is_stopping:
            raise RejectedError
        # A temporary child that has ended was forgotten.
        self.children.add(child)
        self._start(child)

    async def _handle_timer(self, timer: RestartTimer) -> None:
        for child in self._timers.expire(timer):
            child.restarts += 1
            self._start(child, again=True)

    # What handlers are made of.

    async def _restart_group_of(self, child: ChildState, error: BaseException | None) -> None:
        """Restart a child that has ended, and the siblings named by the strategy, unless the intensity is exceeded."""
        now = self._loop.time()
        if now - child.since >= self._config.within:
            child.backoff_count = 0
        child.enter("stopped", now)
        if not self._intensity.add_restart(child.clock, now, error):
            self._escalate(self._restarts_exceeded(child))
            return
        delay = delay_before(self._config.backoff, child.backoff_count, _error_for_backoff(child, error))
        child.backoff_count += 1
        group = self.children.restart_group(child, self._config.strategy)
        for sibling in reversed(group):
            await self._stop(sibling)
            self.children.forget(sibling)
        # Temporary siblings have been forgotten.
        self._schedule([member for member in group if member in self.children], delay)

    def _schedule(self, group: list[ChildState], delay: float) -> None:
        """Start a group after a delay, unless the supervisor is stopping by now."""
        if self.is_stopping:
            return
        for child in group:
            self._timers.remove(child)
            child.enter("waiting", self._loop.time())
        self._timers.schedule(group, delay, lambda timer: self._mailbox.put(partial(self._handle_timer, timer)))

    def _start(
        self, child: ChildState, coroutine: Coroutine[object, None, object] | None = None, *, again: bool = False
    ) -> None:
        task = self._new_task(
            coroutine or _call(child.func), loop=self._loop, name=child.name, context=child.context.copy()
        )
        child.task = task
        child.enter("running", self._loop.time())
        if again:
            self._scope.emit(ChildRestarted, child.name, child.restarts)
        else:
            self._scope.emit(ChildStarted, child.name)
        task.add_done_callback(lambda task: self._mailbox.put(partial(self._handle_exit, child, task)))

    async def _stop(self, child: ChildState) -> None:
        """Stop a child, however long that takes."""
        if child.task is not None:
            child.enter("stopping", self._loop.time())
            error = await terminate(child, child.task, is_cancelled=self._is_shutdown(), on_cancel=self.stop)
            child.task_ended(error)
            self._scope.emit(ChildStopped, child.name, error)
        if child.is_alive:
            child.enter("stopped", self._loop.time())

    def _restarts_exceeded(self, child: ChildState) -> RestartsExceeded:
        errors = tuple(self._intensity.errors(child.clock))
        assert self._config.max_restarts is not None  # noqa: S101 - for the type checkers
        exceeded = RestartsExceeded(child.name, errors, self._config.max_restarts, self._config.within)
        exceeded.__cause__ = errors[-1] if errors else None
        self._scope.emit(Escalated, child.name, exceeded)
        return exceeded

    def _escalate(self, error: BaseException) -> None:
        """Stop all children, and let the supervisor raise this error from its block."""
        self.error = error
        self.stop()
        self._cancel_body()


def _error_for_backoff(child: ChildState, error: BaseException | None) -> Exception:
    """Return the error that a user's backoff is called with: an Exception in any case."""
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"child {child.name} {'returned' if error is None else 'raised CancelledError by itself'}")


async def _call(func: Callable[[], Coroutine[object, None, object]]) -> object:
    """Call a child's function in its task, so that a call that raises is a failure of the child."""
    return await func()
