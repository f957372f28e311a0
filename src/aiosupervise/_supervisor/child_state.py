"""What a supervisor knows of a child."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Literal, TypeAlias

from .intensity import Clock

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
StateName: TypeAlias = Literal["running", "waiting", "stopping", "stopped", "ended", "failed"]


class ChildState:
    """What a supervisor knows of a child: what it runs, and how that is doing."""

    __slots__ = (
        "clock",
        "context",
        "func",
        "grace",
        "last_error",
        "name",
        "quick",
        "restarts",
        "since",
        "state",
        "task",
        "type",
    )

    def __init__(
        self,
        func: Callable[[], Coroutine[object, None, object]],
        name: str,
        restart: RestartType,
        grace: float | None,
        context: Context,
    ) -> None:
        self.func: Callable[[], Coroutine[object, None, object]] = func
        self.name: str = name
        self.type: RestartType = restart
        self.grace: float | None = grace
        self.context: Context = context
        self.clock: Clock = Clock()
        self.state: StateName = "stopped"
        self.since: float = 0.0  # loop time at which it came into this state
        self.restarts: int = 0  # starts after an end of it or of a sibling
        self.quick: int = 0  # restarts since it last ran for long
        self.last_error: BaseException | None = None
        self.task: asyncio.Task[object] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will run again by itself."""
        return self.state in ("running", "waiting", "stopping")

    def become(self, state: StateName, now: float) -> None:
        """Come into a state. Its clock stands still while it waits."""
        self.state = state
        self.since = now
        if state == "waiting":
            self.clock.stand(now)
        else:
            self.clock.go_on(now)
