"""`Child`: what the user holds of a child, and the error that a supervisor raises because of one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from .child_state import Record, State


class Commands(Protocol):
    """What can be asked of whoever keeps a child alive."""

    def stop_child(self, record: Record) -> Awaitable[None]:
        """Stop a child."""
        ...

    def restart_child(self, record: Record) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        ...


@final
class Child:
    """A task that a supervisor keeps alive, as `Supervisor.start` returns it.

    What it tells is live.
    """

    __slots__ = ("_keeper", "_record")

    def __init__(self, keeper: Commands, record: Record) -> None:
        """Take what `Supervisor.start` has made."""
        self._keeper = keeper
        self._record = record

    @property
    def name(self) -> str:
        """Its name, which it alone has among the children of its supervisor."""
        return self._record.name

    @property
    def state(self) -> State:
        """How it is doing.

        "running"; "waiting" for its restart; "stopping", then "stopped"; "ended" when it has returned and "failed" when
        it has raised, and is not to be restarted.
        """
        return self._record.state

    @property
    def restarts(self) -> int:
        """How often it was started again after it, or a sibling, had ended."""
        return self._record.restarts

    @property
    def since(self) -> float:
        """The loop's time at which it came into its state."""
        return self._record.since

    @property
    def last_error(self) -> BaseException | None:
        """What it raised last; None if it never did."""
        return self._record.last_error

    def stop(self) -> Awaitable[None]:
        """Cancel its task, and do not start it again by itself.

        It begins at once; await what is returned to wait until the task has ended. It can be called again. As in OTP,
        a sibling that ends under `one_for_all` or `rest_for_one` starts it again, unless it is temporary.
        """
        return self._keeper.stop_child(self._record)

    def restart(self) -> Awaitable[None]:
        """Stop it, if it runs, and start it. That is no restart that counts for `max_restarts`.

        It begins at once; await what is returned to wait until it has been started.

        Raises:
            RuntimeError: if the supervisor has stopped, or if this is a temporary child that has ended, and another
                child has its name now.

        """
        return self._keeper.restart_child(self._record)

    def __repr__(self) -> str:
        last = "" if self.last_error is None else f", last error {self.last_error!r}"
        return f"<Child {self.name}: {self.state}, {self.restarts} restarts{last}>"
