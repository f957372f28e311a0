"""`Supervisor`: checks its arguments, and connects the body of its `async with` block with the state machine."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self, TypeVarTuple, final, get_args

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.signals import SignalWatcher, checked_signals
from aiosupervise._call.tasks import is_discarded
from aiosupervise._events.emit import Scope
from aiosupervise._policy.backoff import Backoff, BackoffLike, check_backoff
from aiosupervise._policy.checks import (
    check_count,
    check_name,
    check_seconds,
    is_async_callable,
    name_of,
    safe_repr,
)

from .body import Body
from .child import Child
from .child_state import ChildSpec, ChildState, RestartType
from .intensity import RestartIntensity
from .registry import RestartStrategy
from .state_machine import StateMachine, SupervisorConfig

Ts = TypeVarTuple("Ts")
_numbers = itertools.count(1)


@final
class Supervisor:
    """Keeps long-running tasks alive by restarting them when they end, like an Erlang/OTP supervisor.

    `async with Supervisor() as sup: sup.start(poll)` starts a child: a task that is restarted whenever it ends. Leaving
    the block normally waits until all children have ended, as asyncio.TaskGroup does. `stop()` stops the children in
    reverse start order. Leaving the block through an error or a cancellation also stops the children, and raises that
    error unchanged.

    If a child has to be restarted too often, the supervisor escalates: it stops all children and raises a
    RestartsExceeded from its block. If the supervisor runs in a child of another supervisor, the escalation is an
    ordinary failure of that child, so errors escalate up a tree of supervisors.

    Args:
        strategy: which children are restarted when one has ended. "one_for_one": only this child. "one_for_all": all
            children. "rest_for_one": this child and those started after it. Running siblings are stopped first, in
            reverse start order. The group is restarted in start order, without temporary children. "simple_one_for_one"
            is for children that are started dynamically: only this child is restarted, children that have ended are
            forgotten, and a shutdown stops all children simultaneously.
        max_restarts: the restart intensity: the supervisor escalates if a child needs more than this number of restarts
            in `within` seconds. 0 allows no restarts; None means no limit.
        within: the period of the restart intensity in seconds, more than 0. As in OTP, a restart exactly this long ago
            still counts. The delays before restarts are not included.
        backoff: the delay before a restart, as for `Policy`; `[0]` for no delay.
        reset_after: the number of seconds, more than 0, that a child must run before its backoff starts again from the
            first delay.
        grace: seconds that a child has for its clean-up when it is stopped, 0 or more. Each time this period has
            passed, and at most once a second, the child is cancelled again and named in the log, and the supervisor
            continues to wait for it.
        stop_on: signals, such as `(signal.SIGINT, signal.SIGTERM)`. The first one stops the supervisor like `stop()`;
            the second one cancels all children immediately, and again every second.
        name: the name of the supervisor in events, log messages, errors and the name of its task; None for
            "supervisor".

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range, or `strategy` is unknown.
        RuntimeError: if `stop_on` is used outside the main thread, or names a signal whose handler could not be
            restored.
        ExceptionGroup: from the `async with` block, if the supervisor escalates. It contains a `RestartsExceeded`, or
            the error that the backoff raised, and the body's own error, if any. A KeyboardInterrupt or SystemExit of a
            child is raised as it is. A CancelledError takes precedence if the caller is cancelled while the supervisor
            escalates; a note on it names the supervisor's error.
    """

    def __init__(
        self,
        *,
        strategy: RestartStrategy = "one_for_one",
        max_restarts: int | None = 20,
        within: float = 60.0,
        backoff: BackoffLike = Backoff(base=0.1, cap=30.0),  # noqa: B008 - frozen
        reset_after: float = 30.0,
        grace: float = 5.0,
        stop_on: Collection[int] = (),
        name: str | None = None,
    ) -> None:
        if strategy not in get_args(RestartStrategy):
            rule = "strategy must be 'one_for_one', 'one_for_all', 'rest_for_one' or 'simple_one_for_one'"
            raise ValueError(f"{rule}; got {safe_repr(strategy)}")
        check_count("max_restarts", max_restarts, least=0)
        check_seconds("within", within, zero=False)
        check_backoff(backoff)
        check_seconds("reset_after", reset_after, zero=False)
        check_seconds("grace", grace, zero=True)
        check_name(name)
        self._stop_on = checked_signals(stop_on)
        self._config = SupervisorConfig(strategy, max_restarts, within, backoff, reset_after, name or "supervisor")
        self._grace = grace
        self._machine: StateMachine | None = None
        self._body: Body
        self._watcher: SignalWatcher | None = None
        self._start_count = 0

    def start(
        self,
        func: Callable[[*Ts], Coroutine[object, None, object]],
        *args: *Ts,
        restart: RestartType = "permanent",
        name: str | None = None,
        grace: float | None = None,
        ready: float | None = None,
        heartbeat: float | None = None,
    ) -> Child:
        """Start a child: a task that runs `func(*args)` and is restarted when it ends.

        `start` does not wait for the first step of the child. Each run has a copy of the caller's context. Under
        one_for_all and rest_for_one, the child starts only when all children started before it with `ready=` are ready.

        Args:
            func: an async function, supervised or not. Bind keyword arguments with functools.partial.
            args: positional arguments of each call.
            restart: the restart type. "permanent": the child is restarted whenever it ends. "transient": only after an
                error, including a CancelledError that it raises itself. "temporary": never.
            name: the name of the child, unique among the children of the supervisor; None for the name of the function
                and a number, such as "poll-0".
            grace: seconds that the child has for its clean-up, 0 or more; None for the grace of the supervisor.
            ready: seconds, more than 0, within which each run of the child must call `ready()`. The child is "starting"
                until then, and fails if the call is late. None if it is ready as soon as it has started.
            heartbeat: seconds, more than 0: a running child that has not called `alive()` for this long is considered
                failed and is cancelled. None if it need not call `alive()`.

        Raises:
            TypeError: if `func` is not an async function, or another argument has the wrong type.
            ValueError: if `restart` is unknown, a number is out of range, or the name is in use.
            RuntimeError: before the `async with` block, and when the supervisor is stopping or has stopped.
        """
        _check_function(func)
        check_name(name)
        _check_child_options(restart, grace, ready, heartbeat)
        machine = self._entered()
        if machine.is_stopping():
            raise RuntimeError(f"{self!r} cannot start a child: it is stopping or has stopped")
        name = self._unique_name(name, func, machine)
        # Arguments that do not match the function's signature raise a TypeError here, in the caller, not in the child.
        coroutine = func(*args)
        grace = self._grace if grace is None else grace
        spec = ChildSpec(partial(func, *args), restart, grace, copy_context(), ready, heartbeat)
        child = ChildState(name, spec, RestartIntensity(self._config.max_restarts, self._config.within), coroutine)
        self._start_count += 1
        machine.add(child)
        return Child(machine, child)

    def _unique_name(self, name: str | None, func: object, machine: StateMachine) -> str:
        """Return the name of a new child, derived from its function if it was not given one."""
        if not name:
            return self._free_name(name_of(func), machine)
        if machine.children.has_name(name):
            raise ValueError(f"name must be unique among the children of {self!r}; got {name}, which is taken")
        return name

    def _free_name(self, func: str, machine: StateMachine) -> str:
        while machine.children.has_name(f"{func}-{self._start_count}"):
            self._start_count += 1
        return f"{func}-{self._start_count}"

    @property
    def is_healthy(self) -> bool:
        """True while every child is running and ready, except for those that have ended and will not be restarted.

        Return this value from a health check. It is False outside the block, while any child is waiting, starting or
        being stopped, and from the moment the supervisor stops or escalates.
        """
        return self._machine is not None and self._machine.is_healthy

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The first signal in `stop_on` that was received; None if there was none."""
        return None if self._watcher is None else self._watcher.stopped_by

    def stop(self) -> Awaitable[None]:
        """Stop all children, in reverse start order, and start no more.

        Stopping begins immediately, without an `await`. Await the returned object to wait until all children have
        ended. Further calls have no effect.

        Raises:
            RuntimeError: before the `async with` block.
        """
        machine = self._entered()
        machine.stop()
        return machine.termination

    def children(self) -> tuple[Child, ...]:
        """Return the children in start order, without those that were forgotten.

        Children that have ended or were stopped are forgotten if they are temporary, or under simple_one_for_one.
        """
        if self._machine is None:
            return ()
        return tuple(Child(self._machine, child) for child in self._machine.children)

    async def wait(self) -> None:
        """Wait until no child is running or about to be restarted. The supervisor stays open for further children.

        Raises:
            RuntimeError: before the `async with` block.
        """
        await self._entered().wait_until_idle()

    async def __aenter__(self) -> Self:
        if self._machine is not None:
            raise RuntimeError(f"{self!r} cannot be entered again: a supervisor is used once; create a new one")
        self._body = Body()
        scope = Scope(next(_numbers), self._config.name, enclosing=current_job.get())
        machine = StateMachine(self._config, scope, self._body.cancel)
        if self._stop_on:
            self._watcher = SignalWatcher(self._stop_on, machine.stop, machine.cancel)
        try:
            machine.start()
        except BaseException:
            self._unwatch_signals()
            raise
        self._machine = machine
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        machine = self._entered()
        if is_discarded(error, machine.loop):
            machine.stop()
            self._unwatch_signals()
            return
        self._body.leave()
        if error is None:
            machine.end_when_idle()
        else:
            machine.stop()
        is_cancelled = issubclass(type(error), asyncio.CancelledError)
        cancellation: asyncio.CancelledError | None = error if is_cancelled else None  # type: ignore[assignment]
        try:
            await machine.join()
        except asyncio.CancelledError as late_cancellation:
            cancellation = late_cancellation
        finally:
            self._unwatch_signals()
        failure, machine.error = machine.error, None
        try:
            self._body.raise_errors(self._config.name, failure, error, cancellation)
        finally:
            # Break reference cycles: the tracebacks of the errors hold this frame.
            del failure, cancellation, error

    def _unwatch_signals(self) -> None:
        if self._watcher is not None:
            self._watcher.close()

    def _entered(self) -> StateMachine:
        if self._machine is None:
            raise RuntimeError(f"{self!r} has not been entered: use it in `async with Supervisor(...) as sup:`")
        return self._machine

    def __repr__(self) -> str:
        state = "not entered"
        if self._machine is not None:
            state = f"{self._machine.children.alive} of {len(self._machine.children)} children alive"
            if self._machine.is_stopping():
                state += ", stopped"
        return f"<Supervisor {self._config.name}: {state}>"


def _check_child_options(restart: object, grace: object, ready: object, heartbeat: object) -> None:
    if restart not in get_args(RestartType):
        raise ValueError(f"restart must be 'permanent', 'transient' or 'temporary'; got {safe_repr(restart)}")
    if grace is not None:
        check_seconds("grace", grace, zero=True)
    check_seconds("ready", ready, zero=False, none="a child that need not call ready()")
    check_seconds("heartbeat", heartbeat, zero=False, none="a child that need not call alive()")


def _check_function(func: object) -> None:
    if is_async_callable(func):
        return
    name = name_of(func)
    if isinstance(func, Coroutine):
        func.close()
        call = f"write sup.start({name}, ...) instead of sup.start({name}(...))"
        raise TypeError(f"func must be an async function; got a coroutine, which cannot be restarted: {call}")
    if callable(func):
        raise TypeError(f"func must be an async function; got {name}, which is not async: write `async def {name}`")
    raise TypeError(f"func must be an async function; got {safe_repr(func)}")
