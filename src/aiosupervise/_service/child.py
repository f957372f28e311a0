"""`Child`: what the user holds of a child, and the error that a supervisor raises because of one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, final

from .record import Record, State

_SHOWN = 3  # errors in the text of a RestartsExceeded


@final
class RestartsExceeded(Exception):  # noqa: N818 - the limit's name
    """A child had to be restarted more than `max_restarts` times in `within` seconds, so its supervisor gave up.

    Attributes:
        child: its name.
        errors: what it raised in that time, the last one last.
        max_restarts: how many restarts the supervisor allows.
        within: in how many seconds.

    """

    def __init__(self, child: str, errors: tuple[BaseException, ...], max_restarts: int, within: float) -> None:
        super().__init__(child, errors, max_restarts, within)
        self.child: str = child
        self.errors: tuple[BaseException, ...] = errors
        self.max_restarts: int = max_restarts
        self.within: float = within

    def __str__(self) -> str:
        rule = f"more than {self.max_restarts} restarts within {self.within:g} s"
        errors = ", ".join(repr(error) for error in self.errors[-_SHOWN:]) or "it returned"
        return f"{rule}, the last one of {self.child}: {errors}"


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
