"""`Supervisor`: checks what it is given, and holds the body of its `async with` block and the control loop together."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self, TypeVarTuple, final, get_args

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._events.emit import Scope
from aiosupervise._policy.backoff import Backoff, BackoffLike, check_backoff
from aiosupervise._policy.checks import check_count, check_name, check_seconds, is_async_callable, name_of, shown

from .child import Child
from .child_state import ChildState, RestartType
from .control_loop import ControlLoop, SupervisorConfig
from .mailbox import Until
from .registry import RestartStrategy

Ts = TypeVarTuple("Ts")
_numbers = itertools.count(1)


@final
class Supervisor:
    """Keeps tasks alive that should never end, as an Erlang/OTP supervisor does.

    `async with Supervisor() as sup: sup.start(poll)` starts a task, and starts it again whenever it ends. Leaving the
    block waits for the children, as asyncio.TaskGroup does; `stop()` stops them, in reverse start order. Leaving it by
    an error or a cancel stops them too, and that error comes out as it is.

    A child that has to be restarted too often is more than the supervisor can mend: it stops all children, and raises.
    In a child of another supervisor that is an ordinary failure, so that trees escalate.

    Args:
        strategy: who is restarted when a child is: "one_for_one": only that one; "one_for_all": all children;
            "rest_for_one": it and those that were started after it. Siblings are stopped in reverse start order, and
            restarted in start order; temporary ones are not restarted.
        max_restarts: more restarts than this in `within` seconds are too many; 0 for none at all, None for no limit.
        within: seconds. A restart exactly this long ago still counts, as in OTP; the time that a child waits for its
            restart does not.
        backoff: the wait before a restart, as for `Policy`. It begins anew for a child that has run for `within`
            seconds. `[0]` for no wait.
        grace: seconds that a child has for its clean-up when it is stopped. Then it is cancelled once more, a
            RuntimeWarning names it, and the waiting goes on.
        name: what tasks, events and errors call it; None for "supervisor".

    Raises:
        TypeError, ValueError: for an argument that makes no sense.
        ExceptionGroup: out of the `async with` block, of a `RestartsExceeded`, if a child was restarted too often.

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
            raise ValueError(f"strategy must be 'one_for_one', 'one_for_all' or 'rest_for_one'; got {shown(strategy)}")
        check_count("max_restarts", max_restarts, least=0)
        check_seconds("within", within, zero=False)
        check_backoff(backoff)
        check_seconds("grace", grace, zero=True)
        check_name(name)
        self._config = SupervisorConfig(strategy, max_restarts, within, backoff, name or "supervisor")
        self._grace = grace
        self._control_loop: ControlLoop | None = None
        self._parent: asyncio.Task[object] | None = None
        self._started = 0
        self._in_body = False
        self._has_cancelled = False

    def start(
        self,
        func: Callable[[*Ts], Coroutine[object, None, object]],
        *args: *Ts,
        restart: RestartType = "permanent",
        name: str | None = None,
        grace: float | None = None,
    ) -> Child:
        """Start a child: a task that runs `func(*args)`, and runs it again when it ends.

        Args:
            func: an async function, supervised or not; functools.partial binds keywords.
            args: what it is called with, each time.
            restart: "permanent": whenever it ends; "transient": only after an error, for which a CancelledError from
                inside counts too; "temporary": never.
            name: no other child has it; None for the function's name and a number.
            grace: seconds for its clean-up; None for those of the supervisor.

        Raises:
            TypeError, ValueError: for an argument that makes no sense, such as a function that is not async, or a name
                that is taken.
            RuntimeError: outside of the `async with` block, and when the supervisor has stopped.

        """
        _check_function(func)
        check_name(name)
        if restart not in get_args(RestartType):
            raise ValueError(f"restart must be 'permanent', 'transient' or 'temporary'; got {shown(restart)}")
        if grace is not None:
            check_seconds("grace", grace, zero=True)
        control_loop = self._entered()
        if control_loop.is_over:
            raise RuntimeError(f"{self!r} starts nothing more")
        name = name or f"{name_of(func)}-{self._started}"
        if control_loop.children.has_name(name):
            raise ValueError(f"{self!r} has a child of this name: {name}; give each its own")
        coroutine = func(*args)
        child = ChildState(partial(func, *args), name, restart, self._grace if grace is None else grace, copy_context())
        self._started += 1
        control_loop.add(child, coroutine)
        return Child(control_loop, child)

    def stop(self) -> Awaitable[None]:
        """Stop all children, in reverse start order, and start nothing more.

        It begins at once; await what is returned to wait until all have ended. It can be called again.

        Raises:
            RuntimeError: before the `async with` block.

        """
        control_loop = self._entered()
        control_loop.stop()
        return Until(control_loop.ended)

    def children(self) -> tuple[Child, ...]:
        """Return the children in start order: all but temporary ones that have ended."""
        if self._control_loop is None:
            return ()
        return tuple(Child(self._control_loop, child) for child in self._control_loop.children)

    async def wait(self) -> None:
        """Wait until all children have ended: none runs, and none waits for its restart."""
        await self._entered().idle()

    async def __aenter__(self) -> Self:
        if self._control_loop is not None:
            raise RuntimeError(f"{self!r} was used before, and a supervisor is used once")
        self._parent = asyncio.current_task()
        self._in_body = True
        self._control_loop = ControlLoop(
            self._config, Scope(next(_numbers), self._config.name, around=current_job.get()), self._release
        )
        self._control_loop.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        control_loop = self._entered()
        self._in_body = False
        if error is None:
            control_loop.leave()
        else:
            control_loop.stop()
        cancellation = error if isinstance(error, asyncio.CancelledError) else None
        try:
            await control_loop.join()
        except asyncio.CancelledError as late:
            cancellation = late
        try:
            self._end(control_loop, error, cancellation)
        finally:
            self._parent = None  # which may be a child's task, and hold this
            del cancellation, error

    def _end(
        self, control_loop: ControlLoop, error: BaseException | None, cancellation: asyncio.CancelledError | None
    ) -> None:
        """Raise what there is to raise: the caller's own cancel, or else what made the supervisor give up."""
        failure, control_loop.error = control_loop.error, None
        is_from_outside = self._take_back()
        try:
            if cancellation is not None and is_from_outside:
                if failure is not None:
                    cancellation.add_note(f"{self._config.name} had given up: {failure!r}")
                if cancellation is not error:
                    raise cancellation
            elif isinstance(failure, (KeyboardInterrupt, SystemExit)):
                raise failure
            elif failure is not None:
                errors = [failure] if error is None or error is cancellation else [failure, error]
                raise BaseExceptionGroup(f"{self._config.name} gave up", errors) from None
        finally:
            del failure, error, cancellation

    def _take_back(self) -> bool:
        """Take back the cancel of `_release`, and tell whether another one came, or none was ours."""
        if self._parent is None or not self._has_cancelled:
            return True
        return self._parent.uncancel() > 0

    def _release(self) -> None:
        """Get the body out of whatever it waits for, as asyncio.TaskGroup does."""
        if self._in_body and self._parent is not None and not self._parent.done():
            self._has_cancelled = True
            self._parent.cancel()

    def _entered(self) -> ControlLoop:
        if self._control_loop is None:
            raise RuntimeError(f"{self!r} is not entered: use it in `async with Supervisor(...) as sup:`")
        return self._control_loop

    def __repr__(self) -> str:
        state = "not entered"
        if self._control_loop is not None:
            alive = sum(child.is_alive for child in self._control_loop.children)
            state = f"{alive} of {len(self._control_loop.children)} children alive" + (
                ", stopped" * self._control_loop.is_over
            )
        return f"<Supervisor {self._config.name}: {state}>"


def _check_function(func: object) -> None:
    if is_async_callable(func):
        return
    rule = "a child is an async function and its arguments"
    if inspect.iscoroutine(func):
        func.close()
        raise TypeError(f"{rule}, since it may have to be called again: sup.start({name_of(func)}, ...), not its call")
    if callable(func):
        raise TypeError(f"{rule}; {name_of(func)} is not async: write `async def {name_of(func)}`")
    raise TypeError(f"{rule}; got {shown(func)}")
