r"""The control loop: the task that starts, stops and restarts the children of a supervisor.

Theory of operation. Ends of children, what users ask for, and waits that are over come as steps into one mailbox. The
control loop takes one step after the other, as an OTP supervisor takes its messages: a step that stops a child can take
that child's grace, and never meets another step half-way.

    running -> (ends by itself) -> waiting -> running
       |                       \-> ended, failed
       \-> stopping -> stopped

Laws, each with a test:
- A child is cancelled once, and a second time only when its grace is over. When the loop shuts down, it cancels every
  task: a control_loop cancelled by somebody else tells that the children have been cancelled too.
- The control_loop ends only when no child runs.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from aiosupervise._call.tasks import cancellation, task_maker, wait_until_done
from aiosupervise._events.emit import Scope
from aiosupervise._events.records import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated
from aiosupervise._policy.backoff import BackoffLike, delay_before
from aiosupervise._policy.errors import RestartsExceeded
from aiosupervise._policy.record import record

from .child_state import ChildState
from .intensity import Intensity
from .mailbox import Command, Mailbox, RefusedError
from .registry import ChildRegistry, RestartStrategy
from .timers import RestartTimer, RestartTimers


@record
class SupervisorConfig:
    """How a supervisor keeps its children."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
    backoff: BackoffLike
    name: str


class ControlLoop:
    """Keeps the children of one supervisor."""

    def __init__(self, config: SupervisorConfig, scope: Scope, gave_up: Callable[[], None]) -> None:
        self.children = ChildRegistry()
        self.error: BaseException | None = None  # why it gave up
        self.ended = asyncio.Event()
        self._config = config
        self._scope = scope
        self._gave_up = gave_up
        self._intensity = Intensity(config.max_restarts, config.within)
        self._mailbox = Mailbox()
        self._timers = RestartTimers()
        self._idle = asyncio.Event()
        self._is_stopping = False
        self._is_left = False
        self._is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._new_task = task_maker(self._loop)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the task."""
        self._task = self._loop.create_task(self._run(), name=f"{self._config.name} control loop")
        self._task.add_done_callback(self._make_sure)

    def _make_sure(self, task: asyncio.Task[None]) -> None:
        """End the children of a control loop that was cancelled before its first step, and so never was."""
        if not self.ended.is_set():
            self._is_cancelled = True
            self._task = self._loop.create_task(self._end_all(), name=task.get_name())

    # What the supervisor and the children ask for.

    @property
    def is_over(self) -> bool:
        """Whether nothing can be started any more."""
        return self._is_stopping or self._shut_down() or self.ended.is_set()

    def add(self, child: ChildState, coroutine: Coroutine[object, None, object]) -> None:
        """Start a new child."""
        self.children.add(child)
        self._start(child, coroutine)

    def stop(self) -> None:
        """Stop all children, and end."""
        self._is_stopping = True
        self._mailbox.wake()

    def leave(self) -> None:
        """End when all children have ended."""
        self._is_left = True
        self._mailbox.wake()

    async def join(self) -> None:
        """Wait until it has ended; a caller that is cancelled meanwhile stops it, and still waits."""
        task = self._task
        assert task is not None  # noqa: S101 - for the type checkers
        try:
            await wait_until_done(task, self.stop)
        finally:
            if self._task is not None and self._task is not task:
                await wait_until_done(self._task, self.stop)

    async def idle(self) -> None:
        """Wait until no child runs, or waits to run."""
        while self._has_work():
            self._idle.clear()
            await self._idle.wait()

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        return self._mailbox.put(partial(self._stop_one, child))

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        refusal = f"{child.name} cannot be restarted: its supervisor has stopped"
        if self.is_over:
            raise RuntimeError(refusal)
        if self.children.has_another(child):
            raise RuntimeError(f"{child.name} has ended, and another child has its name now")
        return self._mailbox.put(partial(self._restart_one, child), refusal)

    # The task.

    async def _run(self) -> None:
        while not self.is_over and (self._mailbox or not self._is_left or self._has_work()):
            try:
                if order := await self._mailbox.next():
                    await self._carry_out(order)
            except asyncio.CancelledError:
                self.stop()
        await self._end_all()

    async def _carry_out(self, order: Command) -> None:
        try:
            await order.step()
        except RefusedError:
            order.close(refused=True)
        except (Exception, asyncio.CancelledError) as error:  # of a backoff of the user's
            self._give_up(error)
        order.close()  # unless it has been refused
        if not self._has_work():
            self._idle.set()

    async def _end_all(self) -> None:
        for child in reversed([*self.children]):
            self._timers.leave(child)
            await self._end(child)
        for child in self.children:
            child.func = _nothing_more  # it may hold the supervisor
        self._gave_up = _nothing  # the supervisor, which holds this
        self.ended.set()
        self._idle.set()
        self._mailbox.close()

    def _has_work(self) -> bool:
        return not self.ended.is_set() and any(child.is_alive for child in self.children)

    def _shut_down(self) -> bool:
        """Tell whether somebody else has cancelled the control loop, and so every task of the loop."""
        return self._is_cancelled or (self._task is not None and self._task.cancelling() > 0)

    # The steps.

    async def _exited(self, child: ChildState, task: asyncio.Task[object]) -> None:
        """A child has ended by itself, unless it was stopped meanwhile."""
        if child.task is not task:
            return
        error = _error_of(task)
        child.task = None
        child.last_error = child.last_error if error is None else error
        self._scope.emit(ChildExited, child.name, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._give_up(error)
        elif child.type == "permanent" or (child.type == "transient" and error is not None):
            await self._restart(child, error)
        else:
            child.become("ended" if error is None else "failed", self._loop.time())
            self.children.forget(child)

    async def _restart(self, child: ChildState, error: BaseException | None) -> None:
        """Restart a child that has ended, and those siblings that the strategy names, if it is not once too often."""
        now = self._loop.time()
        if now - child.since >= self._config.within:
            child.quick = 0
        child.become("stopped", now)
        if not self._intensity.allows(child.clock, now, error):
            self._escalate(child)
            return
        delay = delay_before(self._config.backoff, child.quick, _as_error(child, error))
        child.quick += 1
        group = self.children.restarted_with(child, self._config.strategy)
        for sibling in reversed(group):
            await self._end(sibling)
            self.children.forget(sibling)
        self._wait([one for one in group if one in self.children], delay)

    async def _stop_one(self, child: ChildState) -> None:
        self._timers.leave(child)
        await self._end(child)
        self.children.forget(child)

    async def _restart_one(self, child: ChildState) -> None:
        if self.children.has_another(child):
            raise RefusedError
        self._timers.leave(child)
        await self._end(child)
        if self.is_over:
            raise RefusedError
        self.children.add(child)  # which has been forgotten, if it is a temporary one
        self._start(child)

    async def _start_group(self, wait: RestartTimer) -> None:
        for child in self._timers.end(wait):
            self._start(child, again=True)

    # Their parts.

    def _wait(self, group: list[ChildState], delay: float) -> None:
        """Start a group after the delay, unless the supervisor has been stopped meanwhile."""
        if self.is_over:
            return
        for child in group:
            self._timers.leave(child)
            child.become("waiting", self._loop.time())
        self._timers.begin(group, delay, lambda wait: self._mailbox.put(partial(self._start_group, wait)))

    def _start(
        self, child: ChildState, coroutine: Coroutine[object, None, object] | None = None, *, again: bool = False
    ) -> None:
        child.restarts += again
        task = self._new_task(coroutine or _call(child.func), name=child.name, context=child.context.copy())
        child.task = task
        child.become("running", self._loop.time())
        if again:
            self._scope.emit(ChildRestarted, child.name, child.restarts)
        else:
            self._scope.emit(ChildStarted, child.name)
        task.add_done_callback(lambda task: self._mailbox.put(partial(self._exited, child, task)))

    async def _end(self, child: ChildState) -> None:
        """Stop a child, however long that takes: cancel it, and once more when its grace is over."""
        task = child.task
        if task is not None:
            child.become("stopping", self._loop.time())
            if not self._shut_down():
                task.cancel()
            await self._done_within(child.grace, task)
            if not task.done():
                self._loop.call_soon(_warn, child)  # where warnings are errors, it must not end the waiting
                task.cancel()
                await self._done_within(None, task)
            child.task = None
            error = None if task.cancelled() else task.exception()
            child.last_error = child.last_error if error is None else error
            self._scope.emit(ChildStopped, child.name, error)
        if child.is_alive:
            child.become("stopped", self._loop.time())

    async def _done_within(self, seconds: float | None, task: asyncio.Task[object]) -> None:
        """Wait for a task for some seconds, None for ever; a control loop that is cancelled meanwhile waits on."""
        until = None if seconds is None else self._loop.time() + seconds
        while not task.done():
            left = None if until is None else max(until - self._loop.time(), 0)
            try:
                await asyncio.wait([task], timeout=left)  # a turn of the loop even where no time is left
            except asyncio.CancelledError:
                self.stop()
            if left == 0:
                return

    def _escalate(self, child: ChildState) -> None:
        errors = tuple(self._intensity.errors(child.clock))
        assert self._config.max_restarts is not None  # noqa: S101 - for the type checkers
        exceeded = RestartsExceeded(child.name, errors, self._config.max_restarts, self._config.within)
        exceeded.__cause__ = errors[-1] if errors else None
        self._scope.emit(Escalated, child.name, exceeded)
        self._give_up(exceeded)

    def _give_up(self, error: BaseException) -> None:
        self.error = error
        self.stop()
        self._gave_up()


def _error_of(task: asyncio.Task[object]) -> BaseException | None:
    return cancellation(task) if task.cancelled() else task.exception()


def _as_error(child: ChildState, error: BaseException | None) -> Exception:
    """Return what a backoff of the user's is asked about."""
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"{child.name} {'returned' if error is None else 'was cancelled from inside'}")


def _warn(child: ChildState) -> None:
    text = f"cancelled {child.grace:g} s ago and still running, so it is cancelled again: {child.name}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _nothing() -> None:
    """Do nothing."""


async def _nothing_more() -> None:
    """Do nothing: the function of a child whose supervisor has ended."""


async def _call(func: Callable[[], Coroutine[object, None, object]]) -> object:
    """Call a child's function inside of its task, so that it is the child that fails if it cannot be called."""
    return await func()
