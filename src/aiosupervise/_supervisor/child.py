"""`Child`: the handle of a child, as `Supervisor.start` returns it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from aiosupervise._policy.checks import error_text

from .child_state import ChildState, StateName
from .child_waits import wait_for_end, wait_ready


class ChildControl(Protocol):
    """The part of the state machine that a handle needs; the machine itself imports more than a handle may."""

    def is_stopping(self) -> bool:
        """Return whether the supervisor starts no more children."""
        ...

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        ...

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        ...


@final
class Child:
    """A child of a supervisor: a task that is restarted when it ends. `Supervisor.start` and `children` return it.

    The attributes show the present state of the child, not that of the call that returned this object.
    """

    __slots__ = ("_child", "_control")

    def __init__(self, control: ChildControl, child: ChildState) -> None:
        """Called by the supervisor only."""
        self._control = control
        self._child = child

    @property
    def name(self) -> str:
        """The name of the child and of its tasks, unique among the children of its supervisor."""
        return self._child.name

    @property
    def state(self) -> StateName:
        """The state of the child.

        - "waiting": it will be started: when its backoff is over, or in its turn, after those that it depends on.
        - "starting": its task runs, and has not called `ready()` yet; only of a child that was started with `ready=`.
        - "running": its task runs, and is ready.
        - "stopping": it has been cancelled, and its task has not ended yet.
        - "stopped": it was stopped, or its supervisor was stopped before the child was restarted.
        - "ended": it has returned and is not restarted.
        - "failed": it has raised an error and is not restarted.
        """
        return self._child.state

    @property
    def restarts(self) -> int:
        """The number of restarts made because the child or a sibling had ended. `restart()` does not count."""
        return self._child.restarts

    @property
    def since(self) -> float:
        """The time at which the child entered its state, by the clock of the event loop (`loop.time()`)."""
        return self._child.since

    @property
    def last_error(self) -> BaseException | None:
        """The last error that the child raised; None if it has not raised any."""
        return self._child.last_error

    def stop(self) -> Awaitable[None]:
        """Stop the child: cancel its task, or its restart if it waits for one.

        Stopping begins without an `await`. Await the returned object to wait until the task has ended. A task that does
        not end is cancelled again each time its grace, 1 s at least, is over. Stopping a child that does not run does
        nothing. As in OTP, a stopped child is started again by the restart of a sibling
        under `one_for_all` or `rest_for_one`, unless it is temporary.
        """
        return self._control.stop_child(self._child)

    def restart(self) -> Awaitable[None]:
        """Stop the child, if it runs, and start it again, without a delay and whatever its state.

        Restarting begins without an `await`. Await the returned object to wait until the child has been started. This
        restart does not count towards `max_restarts`.

        Raises:
            RuntimeError: if the supervisor has stopped; and for a child that was forgotten, if another child has been
                started under its name. When the returned object is awaited, if the supervisor stops, or `stop()` is
                called, before the child is started.

        """
        return self._control.restart_child(self._child)

    async def wait_ready(self) -> None:
        """Wait until the child is ready: until it has called `ready()`, or has started if it has no `ready=`.

        Raises:
            Exception: the child's own error, if it fails before it was ever ready. Later failures are waited through:
                the child is restarted.
            TimeoutError: if it has not called `ready()` in time.
            RuntimeError: if it has returned without having been ready, was stopped, or its supervisor is stopping; or
                in place of a CancelledError that it raised by itself.

        """
        await wait_ready(self._child, is_stopping=self._control.is_stopping())

    async def wait(self) -> object:
        """Wait until the child has ended for good, and return the value that its last run returned.

        The value is None if the child was stopped.

        Raises:
            Exception: the error with which its last run has ended.
            RuntimeError: in place of a CancelledError that the child raised by itself.

        """
        return await wait_for_end(self._child)

    def __repr__(self) -> str:
        last = "" if self.last_error is None else f", last error {error_text(self.last_error)}"
        return f"<Child {self.name}: {self.state}, {self.restarts} restarts{last}>"
