"""The events of the children of a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from aiosupervise._policy.errors import RestartsExceeded


@record
class _SupervisorEvent:
    """The fields of every event of a supervisor.

    Attributes:
        supervisor: the number of the supervisor, unique within the process.
        name: the name of the supervisor.
        child: the name of the child.
    """

    supervisor: int
    name: str
    child: str


@final
@record
class ChildStarted(_SupervisorEvent):
    """A supervisor has started a child for the first time, or on request after it was stopped.

    Attributes:
        supervisor: the number of the supervisor, unique within the process.
        name: the name of the supervisor.
        child: the name of the child.
    """


@final
@record
class ChildExited(_SupervisorEvent):
    """A child has ended without being stopped: it returned or raised, was not ready in time, or stalled.

    It has the fields `supervisor`, `name` and `child`, like every event of a supervisor.

    Attributes:
        error: the error that it raised; None if it returned.
    """

    error: BaseException | None


@final
@record
class ChildReady(_SupervisorEvent):
    """A child that was started with `ready=` has called `ready()`.

    Attributes:
        supervisor: the number of the supervisor, unique within the process.
        name: the name of the supervisor.
        child: the name of the child.
    """


@final
@record
class ChildStalled(_SupervisorEvent):
    """A child has not called `alive()` for longer than its `heartbeat`. It is cancelled, and `ChildExited` follows.

    It has the fields `supervisor`, `name` and `child`, like every event of a supervisor.

    Attributes:
        seconds: the `heartbeat` of the child.
    """

    seconds: float


@final
@record
class ChildRestarted(_SupervisorEvent):
    """A supervisor has restarted a child, because the child or a sibling had ended.

    It has the fields `supervisor`, `name` and `child`, like every event of a supervisor.

    Attributes:
        restarts: the number of restarts of this child so far.
    """

    restarts: int


@final
@record
class ChildStopped(_SupervisorEvent):
    """A supervisor has stopped a child: on request, at its own shutdown, or because a sibling had ended.

    It has the fields `supervisor`, `name` and `child`, like every event of a supervisor.

    Attributes:
        error: the error that the child raised in its clean-up; None if it raised none.
    """

    error: BaseException | None


@final
@record
class Escalated(_SupervisorEvent):
    """A supervisor has given up because a child needed too many restarts. It stops its children, then raises.

    It has the fields `supervisor`, `name` and `child`, like every event of a supervisor.

    Attributes:
        error: the error that the supervisor raises, in an ExceptionGroup.
    """

    error: RestartsExceeded
