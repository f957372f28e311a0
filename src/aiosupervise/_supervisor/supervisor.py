"""`Supervisor`: checks its arguments, and connects the body of its `async with` block with the control loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self, TypeVarTuple, final, get_args

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._events.emit import Scope
from aiosupervise._policy.backoff import Backoff, BackoffLike, check_backoff
from aiosupervise._policy.checks import check_count, check_name, check_seconds, is_async_callable, name_of, safe_repr

from .child import Child
from .child_state import ChildState, RestartType
from .control_loop import ControlLoop, SupervisorConfig
from .registry import RestartStrategy

Ts = TypeVarTuple("Ts")
_numbers = itertools.count(1)


@final
class Supervisor:
    """Keeps long-running tasks alive by restarting them when they end, as an Erlang/OTP supervisor does.

    `async with Supervisor() as sup: sup.start(poll)` starts a child: a task that is restarted whenever it ends. Leaving
    the block normally waits until all children have ended, as asyncio.TaskGroup does. `stop()` stops them in reverse
    start order. Leaving the block by an error or a cancellation stops them too, and raises that error unchanged.

    When the children have to be restarted too often, the supervisor escalates: it stops all children and raises a
    RestartsExceeded from its block. In a child of another supervisor this is an ordinary failure of that child, so
    errors escalate up a tree of supervisors.

    Args:
        strategy: which children are restarted when one of them is: "one_for_one", this child only; "one_for_all", all
            children; "rest_for_one", this child and those started after it. Siblings that run are stopped first, in
            reverse start order. The group is restarted in start order, without temporary children.
        max_restarts: the restart intensity: the supervisor escalates at one more restart than this in `within` seconds.
            0 allows no restarts; None means no limit.
        within: the period of the restart intensity in seconds, more than 0. As in OTP, a restart exactly this long ago
            still counts. Restart delays are left out.
        backoff: the delay before a restart, as for `Policy`; `[0]` for no delay. It starts again from its first delay
            after a child has run for `within` seconds.
        grace: seconds that a child has for its clean-up when it is stopped, 0 or more. After that it is cancelled once
            more, a RuntimeWarning names it, and the supervisor continues to wait for it.
        name: the name of the supervisor in events, log messages, errors and the name of its task; None for
            "supervisor".

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range, or `strategy` is unknown.
        ExceptionGroup: from the `async with` block, if the supervisor escalates: of a `RestartsExceeded`, or of the
            error that the backoff raised; and of the body's own error, if it raised one. A KeyboardInterrupt or
            SystemExit of a child is raised as it is. A CancelledError takes precedence if the caller is cancelled
            while the supervisor escalates; a note on it names the error of the supervisor.

    """

    def __init__(
        self,
        *,
        strategy: RestartStrategy = "one_for_one",
        max_restarts: int | None = 3,
        within: float = 5.0,
        backoff: BackoffLike = Backoff(),  # noqa: B008 - frozen
        grace: float = 5.0,
        name: str | None = None,
    ) -> None:
        if strategy not in get_args(RestartStrategy):
            raise ValueError(
                f"strategy must be 'one_for_one', 'one_for_all' or 'rest_for_one'; got {safe_repr(strategy)}"
            )
        check_count("max_restarts", max_restarts, least=0)
        check_seconds("within", within, zero=False)
        check_backoff(backoff)
        check_seconds("grace", grace, zero=True)
        check_name(name)
        self._config = SupervisorConfig(strategy, max_restarts, within, backoff, name or "supervisor")
        self._grace = grace
        self._control_loop: ControlLoop | None = None
        self._parent_task: asyncio.Task[object] | None = None
        self._parent_cancel_requested = False
        self._cancelling_at_entry = 0
        self._is_in_body = False
        self._start_count = 0

    def start(
        self,
        func: Callable[[*Ts], Coroutine[object, None, object]],
        *args: *Ts,
        restart: RestartType = "permanent",
        name: str | None = None,
        grace: float | None = None,
    ) -> Child:
        """Start a child: a task that runs `func(*args)` and is restarted when it ends.

        It does not wait for the first step of the child. Each run has a copy of the caller's context.

        Args:
            func: an async function, supervised or not. Bind keyword arguments with functools.partial.
            args: positional arguments of each call.
            restart: the restart type: "permanent", the child is restarted whenever it ends; "transient", only after an
                error, which includes a CancelledError that it raises by itself; "temporary", never.
            name: the name of the child, unique among the children of the supervisor; None for the name of the function
                and a number, such as "poll-0".
            grace: seconds that the child has for its clean-up, 0 or more; None for the grace of the supervisor.

        Raises:
            TypeError: if `func` is not an async function, or another argument has the wrong type.
            ValueError: if `restart` is unknown, `grace` is out of range, or a child of this name exists.
            RuntimeError: before the `async with` block, and when the supervisor is stopping or has stopped.

        """
        _check_function(func)
        check_name(name)
        if restart not in get_args(RestartType):
            raise ValueError(f"restart must be 'permanent', 'transient' or 'temporary'; got {safe_repr(restart)}")
        if grace is not None:
            check_seconds("grace", grace, zero=True)
        control_loop = self._entered()
        if control_loop.is_stopping:
            raise RuntimeError(f"{self!r} cannot start a child: it is stopping or has stopped")
        name = name or f"{name_of(func)}-{self._start_count}"
        if control_loop.children.has_name(name):
            raise ValueError(f"name must be unique among the children of {self!r}; got {name}, which is taken")
        # Arguments that do not fit the function's signature raise here, in the caller, not in the child.
        coroutine = func(*args)
        child = ChildState(partial(func, *args), name, restart, self._grace if grace is None else grace, copy_context())
        self._start_count += 1
        control_loop.add(child, coroutine)
        return Child(control_loop, child)

    def stop(self) -> Awaitable[None]:
        """Stop all children, in reverse start order, and start no more.

        Stopping begins without an `await`. Await the returned object to wait until all children have ended. Calling it
        again does nothing more.

        Raises:
            RuntimeError: before the `async with` block.

        """
        control_loop = self._entered()
        control_loop.stop()
        return control_loop.termination

    def children(self) -> tuple[Child, ...]:
        """Return the children in start order, without the temporary ones that have ended."""
        if self._control_loop is None:
            return ()
        return tuple(Child(self._control_loop, child) for child in self._control_loop.children)

    async def wait(self) -> None:
        """Wait until no child runs or waits for its restart. The supervisor stays open, and can start children after.

        Raises:
            RuntimeError: before the `async with` block.

        """
        await self._entered().wait_until_idle()

    async def __aenter__(self) -> Self:
        if self._control_loop is not None:
            raise RuntimeError(f"{self!r} cannot be entered again: a supervisor is used once; create a new one")
        self._parent_task = asyncio.current_task()
        self._cancelling_at_entry = self._parent_task.cancelling() if self._parent_task is not None else 0
        self._is_in_body = True
        scope = Scope(next(_numbers), self._config.name, around=current_job.get())
        self._control_loop = ControlLoop(self._config, scope, self._cancel_body)
        self._control_loop.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        control_loop = self._entered()
        self._is_in_body = False
        if error is None:
            control_loop.end_when_idle()
        else:
            control_loop.stop()
        cancellation = error if isinstance(error, asyncio.CancelledError) else None
        try:
            await control_loop.join()
        except asyncio.CancelledError as late_cancellation:
            cancellation = late_cancellation
        try:
            self._raise_errors(control_loop, error, cancellation)
        finally:
            # The parent may be the task of a child, whose frames hold this supervisor; and an error's traceback holds
            # this frame: reference cycles.
            self._parent_task = None
            del cancellation, error

    # Three errors can meet at the end of the block: `error`, which the body raised; `cancellation`, a CancelledError
    # from the body or from the wait for the children; and the one with which the supervisor escalates. Which one is
    # raised:
    #
    # 1. A cancellation from outside, as it is. Whoever requested it (asyncio.timeout, an outer TaskGroup, asyncio.run)
    #    relies on seeing it; swallowing it here was a bug of TaskGroup (https://github.com/python/cpython/issues/116720).
    #    The supervisor's error goes with it as a note.
    # 2. KeyboardInterrupt and SystemExit of a child, outside of a group, as asyncio.TaskGroup raises them: they end
    #    the program.
    # 3. The supervisor's error, in a group with the body's own error: a body that is cancelled by `_cancel_body` may
    #    raise anything in its clean-up.
    # 4. The body's error: it propagates by itself, since `__aexit__` returns None.
    def _raise_errors(
        self, control_loop: ControlLoop, error: BaseException | None, cancellation: asyncio.CancelledError | None
    ) -> None:
        """Raise the error that the block ends with, unless it is the one that the body raised."""
        failure, control_loop.error = control_loop.error, None
        # Not behind the `and` below: `_cancel_body` has to be undone whatever the body made of its CancelledError
        # (https://github.com/python/cpython/issues/95289).
        is_cancelled_from_outside = self._undo_cancel_body()
        try:
            if cancellation is not None and is_cancelled_from_outside:
                if failure is not None:
                    cancellation.add_note(f"{self._config.name} had escalated: {failure!r}")
                if cancellation is not error:
                    raise cancellation
            elif isinstance(failure, (KeyboardInterrupt, SystemExit)):
                raise failure
            elif failure is not None:
                errors = [failure] if error is None or error is cancellation else [failure, error]
                raise BaseExceptionGroup(f"{self._config.name} escalated", errors) from None
        finally:
            del failure, error, cancellation

    # When the supervisor escalates, a body that waits for something else must be released. There is one way to do so:
    # cancel the parent task, as asyncio.TaskGroup does. Every `cancel()` adds one to the task's count of cancellation
    # requests; `uncancel()` takes ours back and returns the number of those that others have made
    # (https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel). Requests from before the block do not
    # end it: a supervisor can be used in the clean-up of a task that has been cancelled
    # (https://github.com/python/cpython/issues/102780).
    def _cancel_body(self) -> None:
        """Cancel the parent task, if it is still in the body of the block."""
        if self._is_in_body and self._parent_task is not None and not self._parent_task.done():
            self._parent_cancel_requested = True
            self._parent_task.cancel()

    def _undo_cancel_body(self) -> bool:
        """Take back the cancellation of `_cancel_body`, and return whether a CancelledError comes from elsewhere."""
        if self._parent_task is None or not self._parent_cancel_requested:
            return True
        return self._parent_task.uncancel() > self._cancelling_at_entry

    def _entered(self) -> ControlLoop:
        if self._control_loop is None:
            raise RuntimeError(f"{self!r} has not been entered: use it in `async with Supervisor(...) as sup:`")
        return self._control_loop

    def __repr__(self) -> str:
        state = "not entered"
        if self._control_loop is not None:
            alive = sum(child.is_alive for child in self._control_loop.children)
            state = f"{alive} of {len(self._control_loop.children)} children alive"
            if self._control_loop.is_stopping:
                state += ", stopped"
        return f"<Supervisor {self._config.name}: {state}>"


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
