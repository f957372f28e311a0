"""`Child`: the handle of a child, as `Supervisor.start` returns it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from aiosupervise._policy.checks import error_text

from .child_state import ChildState, StateName
from .child_waits import wait_for_end, wait_ready


class ChildControl(Protocol):
    """The part of the state machine that a handle needs: a protocol, so that the state machine need not be imported."""

    def is_stopping(self) -> bool:
        """Return whether the supervisor no longer starts children."""
        ...

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        ...

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child if it is running, and start it again."""
        ...


@final
class Child:
    """A child of a supervisor: a task that is restarted when it ends. `Supervisor.start` and `children` return it.

    The attributes always show the current state of the child.
    """

    __slots__ = ("_child", "_control")

    def __init__(self, control: ChildControl, child: ChildState) -> None:
        """Create a handle; only the supervisor calls this."""
        self._control = control
        self._child = child

    @property
    def name(self) -> str:
        """The name of the child and of its tasks, unique among the children of its supervisor."""
        return self._child.name

    @property
    def state(self) -> StateName:
        """The state of the child.

        - "waiting": it will be started after its backoff, or when the children that it depends on are ready.
        - "starting": its task is running but has not called `ready()` yet; only for a child that was started with
          `ready=`.
        - "running": its task is running, and is ready.
        - "stopping": it has been cancelled, and its task has not ended yet.
        - "stopped": it was stopped, or its supervisor was stopped before the child was restarted.
        - "ended": it has returned and is not restarted.
        - "failed": it has raised an error and is not restarted.
        """
        return self._child.state

    @property
    def restarts(self) -> int:
        """The number of restarts after the child or a sibling had ended. `restart()` does not count."""
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
        """Stop the child: cancel its task, or its pending restart.

        Stopping begins immediately, without an `await`. Await the returned object to wait until the task has ended. A
        task that does not end is cancelled again each time its grace, at least 1 s, has passed. Stopping a child that
        is not running does nothing. As in OTP, a group restart under `one_for_all` or `rest_for_one` starts a stopped
        child again, unless it is temporary.
        """
        return self._control.stop_child(self._child)

    def restart(self) -> Awaitable[None]:
        """Stop the child if it is running, and start it again without a delay, whatever its state.

        Restarting begins immediately, without an `await`. Await the returned object to wait until the child has been
        started. This restart does not count towards `max_restarts`.

        Raises:
            RuntimeError: if the supervisor has stopped, or if the child was forgotten and another child has taken its
                name. Awaiting the returned object also raises it, if the supervisor stops or `stop()` is called before
                the child is started.
        """
        return self._control.restart_child(self._child)

    async def wait_ready(self) -> None:
        """Wait until the child is ready: until it has called `ready()`, or has started if it has no `ready=`.

        Raises:
            Exception: the child's own error, if it fails before it has ever been ready. After a later failure the wait
                continues, because the child is restarted.
            TimeoutError: if it has not called `ready()` in time.
            RuntimeError: if it returned before it was ready, was stopped, or its supervisor is stopping; also in place
                of a CancelledError that the child raised itself.
        """
        await wait_ready(self._child, is_stopping=self._control.is_stopping())

    async def wait(self) -> object:
        """Wait until the child has ended and will not be restarted, and return the value of its last run.

        The value is None if the child was stopped.

        Raises:
            Exception: the error that ended its last run.
            RuntimeError: in place of a CancelledError that the child raised itself.
        """
        return await wait_for_end(self._child)

    def __repr__(self) -> str:
        last = "" if self.last_error is None else f", last error {error_text(self.last_error)}"
        return f"<Child {self.name}: {self.state}, {self.restarts} restarts{last}>"
