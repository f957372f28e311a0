"""`Child`: what the user holds of a child, and the error that a supervisor raises because of one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from .child_state import ChildState, StateName


class Commands(Protocol):
    """What can be asked of whoever keeps a child alive."""

    def stop_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child."""
        ...

    def restart_child(self, child: ChildState) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        ...


@final
class Child:
    """A task that a supervisor keeps alive, as `Supervisor.start` returns it.

    What it tells is live.
    """

    __slots__ = ("_child", "_control_loop")

    def __init__(self, control_loop: Commands, child: ChildState) -> None:
        """Take what `Supervisor.start` has made."""
        self._control_loop = control_loop
        self._child = child

    @property
    def name(self) -> str:
        """Its name, which it alone has among the children of its supervisor."""
        return self._child.name

    @property
    def state(self) -> StateName:
        """How it is doing.

        "running"; "waiting" for its restart; "stopping", then "stopped"; "ended" when it has returned and "failed" when
        it has raised, and is not to be restarted.
        """
        return self._child.state

    @property
    def restarts(self) -> int:
        """How often it was started again after it, or a sibling, had ended."""
        return self._child.restarts

    @property
    def since(self) -> float:
        """The loop's time at which it came into its state."""
        return self._child.since

    @property
    def last_error(self) -> BaseException | None:
        """What it raised last; None if it never did."""
        return self._child.last_error

    def stop(self) -> Awaitable[None]:
        """Cancel its task, and do not start it again by itself.

        It begins at once; await what is returned to wait until the task has ended. It can be called again. As in OTP,
        a sibling that ends under `one_for_all` or `rest_for_one` starts it again, unless it is temporary.
        """
        return self._control_loop.stop_child(self._child)

    def restart(self) -> Awaitable[None]:
        """Stop it, if it runs, and start it. That is no restart that counts for `max_restarts`.

        It begins at once; await what is returned to wait until it has been started.

        Raises:
            RuntimeError: if the supervisor has stopped, or if this is a temporary child that has ended, and another
                child has its name now.

        """
        return self._control_loop.restart_child(self._child)

    def __repr__(self) -> str:
        last = "" if self.last_error is None else f", last error {self.last_error!r}"
        return f"<Child {self.name}: {self.state}, {self.restarts} restarts{last}>"
