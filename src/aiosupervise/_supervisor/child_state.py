"""The state that a supervisor keeps for each of its children."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Literal, TypeAlias, TypeGuard

from aiosupervise._policy.record import quick_record, record

from .completion import Completion
from .intensity import RestartIntensity
from .this_run import ThisRun

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
StateName: TypeAlias = Literal["waiting", "starting", "running", "stopping", "stopped", "ended", "failed"]

ALIVE = frozenset({"waiting", "starting", "running", "stopping"})
"""The states of a child that is running, or will be started automatically."""


class Purpose(enum.Enum):
    """Why a child is being stopped, which determines its next state when its task has ended."""

    STOP = "it is not started again"
    RESTART = "it is started immediately"
    GROUP = "it waits until its group is started"
    FAILURE = "it has failed, and its restart type decides"


@record
class Ending:
    """The end of a run of a child: the purpose for which the run was being stopped, if any, and its error, if any."""

    purpose: Purpose | None
    error: BaseException | None


def is_exit(error: BaseException | None) -> TypeGuard[KeyboardInterrupt | SystemExit]:
    """Return whether an error ends the program, without reading its `__class__` as `isinstance` does."""
    return issubclass(type(error), (KeyboardInterrupt, SystemExit))


@quick_record
class ChildSpec:
    """A child spec, in OTP's terms: how a child is started and stopped, and when it is restarted.

    Attributes:
        func: the function, which is called without arguments at each start.
        restart_type: determines whether the child is restarted after it has ended.
        grace: seconds between two cancellations when the child is stopped.
        context: the context of which each run gets a copy.
        ready: seconds within which it must call `ready()`; None if it is ready as soon as it has started.
        heartbeat: seconds that may pass between two calls of `alive()`; None if it need not call it.
    """

    func: Callable[[], Coroutine[object, None, object]]
    restart_type: RestartType
    grace: float
    context: Context
    ready: float | None = None
    heartbeat: float | None = None


class ChildState:
    """The state of the child started from a child spec.

    Args:
        name: unique among the children that the supervisor knows.
        spec: the child spec, until the supervisor ends.
        intensity: the restarts of this child that count.
        coroutine: the coroutine of the first run.
    """

    __slots__ = (
        "backoff_count",
        "coroutine",
        "end_completion",
        "ending",
        "error",
        "failure",
        "has_run",
        "intensity",
        "is_restart_logged",
        "last_error",
        "name",
        "position",
        "purpose",
        "ready_completion",
        "restart_completion",
        "restarts",
        "since",
        "spec",
        "started_at",
        "state",
        "stop_completion",
        "task",
        "this_run",
        "timer",
        "value",
        "was_ready",
    )

    def __init__(
        self, name: str, spec: ChildSpec, intensity: RestartIntensity, coroutine: Coroutine[object, None, object]
    ) -> None:
        self.name: str = name
        self.spec: ChildSpec = spec
        self.intensity: RestartIntensity = intensity
        # The position of the child in the start order, which the registry assigns.
        self.position: int
        self.state: StateName = "stopped"
        # The loop's time at which the child entered its state, and at which its current or last run started.
        self.since: float = 0.0
        self.started_at: float
        # The coroutine of the first run, until it starts.
        self.coroutine: Coroutine[object, None, object] | None = coroutine
        self.has_run: bool = False
        self.was_ready: bool = False
        # The number of restarts, whether this child or a sibling had ended.
        self.restarts: int = 0
        # The number of restarts since the child last ran for `reset_after` seconds: the argument of
        # the backoff function.
        self.backoff_count: int = 0
        self.last_error: BaseException | None = None
        # The value that the last run returned, or its error.
        self.value: object = None
        self.error: BaseException | None = None
        # The current run. The timer belongs to the current state, and is cancelled when the child leaves that state.
        self.task: asyncio.Task[object] | None = None
        self.this_run: ThisRun | None = None
        self.timer: asyncio.TimerHandle | None = None
        # Why the child is being stopped, and the failure if that is the reason; None if it is not being stopped.
        self.purpose: Purpose | None = None
        self.failure: Exception | None = None
        # The end of a run that the state machine has not handled yet.
        self.ending: Ending | None = None
        # A restart is not logged if it follows a failure that is only counted; set before each restart.
        self.is_restart_logged: bool
        # The completions of commands in progress, and those that other tasks wait for.
        self.stop_completion: Completion | None = None
        self.restart_completion: Completion | None = None
        self.ready_completion: Completion | None = None
        self.end_completion: Completion | None = None

    @property
    def is_alive(self) -> bool:
        """True if the child is running, or will be started automatically."""
        return self.state in ALIVE

    def enter(self, state: StateName, now: float) -> None:
        """Enter a state at `now`, the loop's time. The restart intensity excludes time in the state "waiting"."""
        self.set_timer(None)
        self.state = state
        self.since = now
        if state == "waiting":
            self.intensity.pause(now)
        else:
            self.intensity.resume(now)

    def set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        """Cancel the timer of the current state, and store another one or None in its place."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer

    def will_restart(self, error: BaseException | None) -> bool:
        """Return whether the restart type requires a restart after a run that raised `error` or, if None, returned."""
        if is_exit(error):
            return False
        return self.spec.restart_type == "permanent" or (self.spec.restart_type == "transient" and error is not None)

    def close_coroutine(self) -> None:
        """Close the coroutine of a first run that will not start."""
        if self.coroutine is not None:
            self.coroutine.close()
            self.coroutine = None
