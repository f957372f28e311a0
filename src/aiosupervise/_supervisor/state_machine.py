"""The state machine of a supervisor: it determines the reaction to a command or to the end of a child.

Theory of operation. No task waits for a child. Each callback of a task or a timer, and each command, runs one step to
its end before the next one begins (see `steps`). A step never waits, so a child that does not stop delays only the
children that depend on it. The task of the supervisor only detects the shutdown of the event loop (see `loop_watch`).

Invariants, each with a test:
- A child that is stopped is cancelled once, and again each time its grace, at least 1 s, has passed. When the event
  loop shuts down, asyncio.run cancels every task, and this counts as the first cancellation.
- The event of an escalation is emitted immediately, but the supervisor ends only when no child is running.
- Each command is either carried out or rejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aiosupervise._events.emit import Scope
from aiosupervise._events.records import ChildExited, ChildStopped, Escalated
from aiosupervise._policy.backoff import BackoffLike, delay_before
from aiosupervise._policy.errors import RestartsExceeded
from aiosupervise._policy.record import record

from .child_state import ChildState, Ending, Purpose, is_exit
from .child_waits import SUPERVISOR_STOPPED, cannot_restart, complete_end, reject_readiness, reject_restart
from .completion import Completion
from .crash_reports import CrashReports
from .group_restarts import GroupRestarts
from .lifecycle import Lifecycle
from .loop_watch import LoopWatch
from .registry import ChildRegistry, RestartStrategy
from .restarts import Restarts, SingleRestarts
from .run_errors import as_failure
from .shutdown import Shutdown
from .steps import Steps


@record
class SupervisorConfig:
    """The settings of a supervisor that its state machine needs: OTP's supervisor flags, a backoff and a name."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
    backoff: BackoffLike
    reset_after: float
    name: str


class StateMachine:
    """Starts, restarts and stops the children of one supervisor."""

    def __init__(self, config: SupervisorConfig, scope: Scope, cancel_body: Callable[[], None]) -> None:
        self.children = ChildRegistry(remembers=config.strategy != "simple_one_for_one")
        # The error with which the supervisor escalates.
        self.error: BaseException | None = None
        self.termination = Completion()
        self._config = config
        self._cancel_body = cancel_body
        self._watch = LoopWatch(f"{config.name} control loop", self._on_loop_shutdown)
        self._steps = Steps(self._check_idle, self._watch.note_shutdown)
        self._lifecycle = Lifecycle(config.name, scope, self.children, self._steps)
        self._lifecycle.delegate = self
        self._restarts: Restarts = self._restarts_of(config.strategy)
        self._shutdown = Shutdown(self._lifecycle)
        self.loop = self._lifecycle.loop
        self._reports = CrashReports(config.name, config.within, self.loop, self._lifecycle.context)
        self._idle = asyncio.Event()
        self._ends_when_idle = False

    def _restarts_of(self, strategy: RestartStrategy) -> Restarts:
        if strategy == "one_for_all":
            return GroupRestarts(self._lifecycle, self._steps, self.children.all_of)
        if strategy == "rest_for_one":
            return GroupRestarts(self._lifecycle, self._steps, self.children.started_since)
        return SingleRestarts(self._lifecycle)

    def start(self) -> None:
        """Begin to watch the event loop."""
        self._watch.start()

    # Called by the supervisor and by its children's handles.

    def is_stopping(self) -> bool:
        """Return whether the supervisor is stopping or has stopped, and so starts no more children."""
        return self._shutdown.has_begun or self._watch.is_shutdown

    @property
    def is_healthy(self) -> bool:
        """True if every child is running and ready, except for those that have ended and will not be restarted."""
        return not self.is_stopping() and self.children.running == self.children.alive

    def add(self, child: ChildState) -> None:
        """Start a new child."""
        self.children.add(child)
        self._lifecycle.enter(child, "waiting")
        self._steps.run(partial(self._add, child))

    def stop(self) -> None:
        """Stop all children and end."""
        if not self.loop.is_closed():
            self._steps.run(self._stop)

    def cancel(self) -> None:
        """Stop, and cancel all children immediately, including children that are being stopped."""
        self._steps.run(self._cancel)

    def end_when_idle(self) -> None:
        """End as soon as all children have ended."""
        self._ends_when_idle = True
        self._steps.run(_do_nothing)

    async def join(self) -> None:
        """Wait until the supervisor has ended; if the caller is cancelled, stop the supervisor and keep waiting."""
        await self._watch.join(self.stop)

    async def wait_until_idle(self) -> None:
        """Wait until no child is running or about to be restarted."""
        while self._has_work():
            self._idle.clear()
            await self._idle.wait()

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        completion = child.stop_completion = child.stop_completion or Completion()
        self._steps.run(partial(self._stop_child, child))
        return completion

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child if it is running, and start it again."""
        if self.is_stopping():
            raise cannot_restart(child, SUPERVISOR_STOPPED)
        if self.children.is_replaced(child):
            raise cannot_restart(child, "it has ended, and another child has its name")
        completion = child.restart_completion = child.restart_completion or Completion()
        self._steps.run(partial(self._restart_child, child))
        return completion

    # The steps of commands.

    def _add(self, child: ChildState) -> None:
        # An earlier command may have stopped the supervisor.
        if child.state == "waiting":
            self._restarts.add(child)

    def _stop_child(self, child: ChildState) -> None:
        self._lifecycle.catch_up(child)
        reject_restart(child, "it was stopped")
        # Otherwise, its group would start the child again, even if the child is not alive.
        self._restarts.leave(child)
        if child.task is not None:
            self._lifecycle.stop(child, Purpose.STOP)
            return
        if child.state == "waiting":
            self._lifecycle.enter(child, "stopped")
            child.close_coroutine()
            self.children.forget(child)
            self._restarts.advance(child)
        complete_end(child)

    def _restart_child(self, child: ChildState) -> None:
        self._lifecycle.catch_up(child)
        if self.is_stopping():
            reject_restart(child, SUPERVISOR_STOPPED)
            return
        self._restarts.leave(child)
        if child.task is not None:
            self._lifecycle.stop(child, Purpose.RESTART)
            return
        # A child that has ended may have been forgotten.
        self.children.add(child)
        self._lifecycle.start(child)

    def _stop(self) -> None:
        if not self._shutdown.has_begun:
            self._restarts.close()
            at_once = self._config.strategy == "simple_one_for_one" or self._watch.is_shutdown
            self._shutdown.begin(self.children, at_once=at_once)
            for child in self.children:
                reject_restart(child, SUPERVISOR_STOPPED)
                reject_readiness(child)
                if child.task is None:
                    complete_end(child)

    def _cancel(self) -> None:
        self._stop()
        self._shutdown.cancel_all(self.children)

    def _on_loop_shutdown(self) -> None:
        self._steps.run(self._stop_with_loop)

    def _stop_with_loop(self) -> None:
        self._stop()
        self._shutdown.advance(at_once=True)

    # The methods of the protocol `LifecycleDelegate`.

    def are_tasks_cancelled(self) -> bool:
        """Return whether the event loop is shutting down, and has therefore cancelled every task."""
        return self._watch.is_shutdown

    def on_ready(self, child: ChildState) -> None:
        """Continue starting the group of a child that has become ready."""
        self._restarts.advance(child)

    def on_end(self, child: ChildState, ending: Ending) -> None:
        """Handle the end of a run: emit its event, and restart the child or escalate if required."""
        purpose, error = ending.purpose, ending.error
        self.children.forget(child)
        if child not in self.children:
            self._restarts.leave(child)
        has_exited = purpose in (None, Purpose.FAILURE)
        is_return = has_exited and error is None and child.state == "waiting"
        is_new = error is None or self._reports.is_new(child.name, error)
        kind = ChildExited if has_exited else ChildStopped
        self._lifecycle.emit(kind, child, error, is_logged=is_new and not is_return)
        if is_return:
            self._steps.defer(partial(self._reports.log_return, child.name))
        if has_exited and not child.was_ready:
            reject_readiness(child)
        if is_exit(error):
            self._escalate(error)
        elif child.state == "waiting" and purpose is Purpose.RESTART:
            self._lifecycle.start(child)
        elif child.state == "waiting" and has_exited and not self._restarts.absorbs(child):
            child.is_restart_logged = is_new
            self._restart(child, error)
        if self.is_stopping():
            reject_restart(child, SUPERVISOR_STOPPED)
        complete_end(child)
        self._restarts.advance(child)
        if self._shutdown.has_begun:
            self._shutdown.advance()

    def _restart(self, child: ChildState, error: BaseException | None) -> None:
        """Restart a child that has ended, and the siblings chosen by the strategy, unless the intensity is exceeded."""
        now = self._lifecycle.loop.time()
        if now - child.started_at >= self._config.reset_after:
            child.backoff_count = 0
        if not child.intensity.add_restart(now, error):
            self._give_up(child)
            return
        try:
            delay = delay_before(self._config.backoff, child.backoff_count, as_failure(child, error))
        except (Exception, asyncio.CancelledError) as failure:
            self._escalate(failure)
            return
        child.backoff_count += 1
        self._restarts.restart(child, delay)

    def _give_up(self, child: ChildState) -> None:
        errors = tuple(child.intensity.errors())
        assert self._config.max_restarts is not None  # noqa: S101 - for the type checkers
        exceeded = RestartsExceeded(child.name, errors, self._config.max_restarts, self._config.within)
        exceeded.__cause__ = errors[-1] if errors else None
        self._lifecycle.emit(Escalated, child, exceeded)
        self._escalate(exceeded)

    def _escalate(self, error: BaseException) -> None:
        """Stop all children, and let the supervisor raise this error from its block."""
        if self.error is None:
            self.error = error
        self._stop()
        self._cancel_body()

    # The end.

    def _has_work(self) -> bool:
        return self.children.alive > 0 or self._lifecycle.has_ends

    def _check_idle(self) -> None:
        """If no child is running or will be started, wake the tasks that wait for that, and end if required."""
        if self._has_work():
            return
        self._idle.set()
        if (self._ends_when_idle or self.is_stopping()) and not self.termination.is_done:
            self._finish()

    def _finish(self) -> None:
        if not self._shutdown.has_begun:
            self._stop()
        self._reports.close()
        # Break reference cycles: a child's function may hold the supervisor, which holds this state machine.
        for child in self.children:
            del child.spec
        self._lifecycle.delegate = self._lifecycle.awaiter = None
        self._cancel_body = _do_nothing
        self._steps.close()
        self.termination.resolve()
        self._watch.end()


def _do_nothing() -> None:
    """Do nothing, as a step that only triggers `_check_idle`, or in place of cancelling a body that has ended."""
