"""`Child`: the handle of a child, as `Supervisor.start` returns it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from .child_state import ChildState, StateName


class ChildControl(Protocol):
    """What a handle needs of the control loop, which imports more than a handle may."""

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

    __slots__ = ("_child", "_control_loop")

    def __init__(self, control_loop: ChildControl, child: ChildState) -> None:
        """Called by the supervisor only."""
        self._control_loop = control_loop
        self._child = child

    @property
    def name(self) -> str:
        """The name of the child and of its tasks, unique among the children of its supervisor."""
        return self._child.name

    @property
    def state(self) -> StateName:
        """The state of the child.

        - "running": its task runs.
        - "waiting": it will be restarted when the backoff is over.
        - "stopping": it has been cancelled, and its task has not ended yet.
        - "stopped": it was stopped, or its supervisor was before it was restarted.
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

        Stopping begins without an `await`. Await the returned object to wait until the task has ended. Stopping a
        child that does not run does nothing. As in OTP, a stopped child is started again by the restart of a sibling
        under `one_for_all` or `rest_for_one`, unless it is temporary.
        """
        return self._control_loop.stop_child(self._child)

    def restart(self) -> Awaitable[None]:
        """Stop the child, if it runs, and start it again, without a delay and whatever its state.

        Restarting begins without an `await`. Await the returned object to wait until the child has been started. This
        restart does not count towards `max_restarts`.

        Raises:
            RuntimeError: if the supervisor has stopped, or stops before the child is started, which is raised when the
                returned object is awaited; and for a temporary child that has ended, if another child has been started
                under its name.

        """
        return self._control_loop.restart_child(self._child)

    def __repr__(self) -> str:
        last = "" if self.last_error is None else f", last error {self.last_error!r}"
        return f"<Child {self.name}: {self.state}, {self.restarts} restarts{last}>"
