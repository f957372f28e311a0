"""The state of a child, as its supervisor keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Literal, TypeAlias

from .intensity import Clock

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
StateName: TypeAlias = Literal["running", "waiting", "stopping", "stopped", "ended", "failed"]


class ChildState:
    """A child spec, in OTP's words (name, function, restart type, grace), and the state of the child started from it.

    Args:
        func: called for each start, without arguments.
        name: unique among the children that the supervisor knows.
        restart_type: after which ends the child is restarted.
        grace: seconds between the first and the second cancellation when the child is stopped.
        context: copied for each start.

    """

    __slots__ = (
        "backoff_count",
        "clock",
        "context",
        "func",
        "grace",
        "last_error",
        "name",
        "restart_type",
        "restarts",
        "since",
        "state",
        "task",
    )

    def __init__(
        self,
        func: Callable[[], Coroutine[object, None, object]],
        name: str,
        restart_type: RestartType,
        grace: float,
        context: Context,
    ) -> None:
        self.func: Callable[[], Coroutine[object, None, object]] = func
        self.name: str = name
        self.restart_type: RestartType = restart_type
        self.grace: float = grace
        self.context: Context = context
        self.clock: Clock = Clock()
        self.state: StateName = "stopped"
        # The loop's time at which the child entered its state.
        self.since: float = 0.0
        # All restarts, after an end of this child or of a sibling.
        self.restarts: int = 0
        # Restarts since the child last ran for the whole period of the restart intensity: the argument of the backoff.
        self.backoff_count: int = 0
        self.last_error: BaseException | None = None
        self.task: asyncio.Task[object] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the child runs, or will be restarted without a request."""
        return self.state in ("running", "waiting", "stopping")

    def enter(self, state: StateName, now: float) -> None:
        """Enter a state at `now`, the loop's time. The child's clock is paused while the child waits."""
        self.state = state
        self.since = now
        if state == "waiting":
            self.clock.pause(now)
        else:
            self.clock.resume(now)

    def task_ended(self, error: BaseException | None) -> None:
        """Drop the task, which has ended, and remember its error, if it raised one."""
        self.task = None
        if error is not None:
            self.last_error = error
