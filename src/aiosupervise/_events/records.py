"""What happened: frozen records that listeners get. The set is closed, so that a `match` over it can be complete.

They hold what a program needs to count, draw or trace, and never the arguments of a call, which may be secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from aiosupervise._policy.record import Record

if TYPE_CHECKING:
    from aiosupervise._policy.errors import RestartsExceeded
    from aiosupervise._policy.verdict import Reason

    from .outcomes import Outcome, Tally


class _OfCall(Record):
    """What every event of a supervised call tells.

    Attributes:
        call: a number that this call alone has in its process.
        name: the policy's name, or else the function's.
        run: the number of the run that the call was made in; None outside of a run.
        job: the index of its job in that run; None outside of a run.

    """

    call: int
    name: str
    run: int | None
    job: int | None


@final
class AttemptStarted(_OfCall):
    """An attempt of a supervised call is about to be made.

    Attributes:
        call: the number of the call, which it alone has in this process.
        name: the name of its policy, or else of its function.
        run: the number of the run that it is made in; None outside of a run.
        job: the index of its job in that run; None outside of a run.
        attempt: the number of the attempt, from 1.

    """

    attempt: int


@final
class AttemptFailed(_OfCall):
    """An attempt of a supervised call raised.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempt: its number, from 1.
        error: what it raised; for a `GiveUp` or a `RetryAfter`, what that stands for.
        wait: seconds until the next attempt, which come before those that a run in trouble may add; None if there
            will be no other attempt.

    """

    attempt: int
    error: Exception
    wait: float | None


@final
class GaveUp(_OfCall):
    """A supervised call gave up on an error that its policy lists. A `CallFinished` follows.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: how many attempts were made.
        elapsed: seconds since the first of them failed.
        reason: why no other attempt is made.
        error: what the caller gets.

    """

    attempts: int
    elapsed: float
    reason: Reason
    error: Exception


@final
class Recovered(_OfCall):
    """A supervised call succeeded after it had failed. A `CallFinished` follows.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: how many attempts were made.
        elapsed: seconds since the first of them failed.

    """

    attempts: int
    elapsed: float


@final
class CallFinished(_OfCall):
    """A supervised call has ended, in whatever way: it is the last event of each.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: how many attempts were made.
        error: what the caller gets, an asyncio.CancelledError included; None if the call returned.

    """

    attempts: int
    error: BaseException | None


class _OfRun(Record):
    """What every event of a run tells.

    Attributes:
        run: a number that this run alone has in its process.
        name: the run's name, or else its function's.
        tally: its live counts.

    """

    run: int
    name: str
    tally: Tally


@final
class RunStarted(_OfRun):
    """A run begins.

    Attributes:
        run: the number of the run, which it alone has in this process.
        name: its name, or else that of its function.
        tally: its live counts.

    """


@final
class RunPaused(_OfRun):
    """A run starts nothing new for a while, because the service behind it is in trouble.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        seconds: how long. What comes then is a `RunResumed`, or a probe that fails and the next `RunPaused`, or the
            end of the run.
        why: the reason in words.

    """

    seconds: float
    why: str


@final
class RunResumed(_OfRun):
    """A run that had paused goes on.

    It has `run`, `name` and `tally`, as every event of a run.

    """


@final
class JobFinished(_OfRun):
    """A job of a run has its outcome.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        outcome: a `Success`, a `Failure` or a `Pending`, which the tally has counted.

    """

    outcome: Outcome[object, object]


@final
class WorkerLost(_OfRun):
    """A worker of a cluster was lost, or a chunk of jobs was taken from it: they start again on another one.

    Jobs that a worker did without anybody seeing it start again without this event. It has `run`, `name` and `tally`,
    as every event of a run.

    Attributes:
        worker: the address of the worker that had them.
        jobs: how many of them have no outcome and so start again.

    """

    worker: str
    jobs: int


@final
class RunFinished(_OfRun):
    """A run has ended, in whatever way: it is the last event of each, and nothing of the run goes on.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        elapsed: seconds that it took.

    """

    elapsed: float


class _OfSupervisor(Record):
    """What every event of a supervisor tells.

    Attributes:
        supervisor: a number that this supervisor alone has in its process.
        name: its name.
        child: the name of the child.

    """

    supervisor: int
    name: str
    child: str


@final
class ChildStarted(_OfSupervisor):
    """A supervisor has started a child for the first time, or again after it was stopped.

    Attributes:
        supervisor: the number of the supervisor, which it alone has in this process.
        name: its name.
        child: the name of the child.

    """


@final
class ChildExited(_OfSupervisor):
    """A child has ended by itself.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: what it raised; None if it returned.

    """

    error: BaseException | None


@final
class ChildRestarted(_OfSupervisor):
    """A supervisor has started a child again, because it or a sibling had ended.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        restarts: how often that has happened to this child.

    """

    restarts: int


@final
class ChildStopped(_OfSupervisor):
    """A supervisor has stopped a child: it was asked to, it ends, or a sibling had ended.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: what the child raised in its clean-up; None if it did not.

    """

    error: BaseException | None


@final
class Escalated(_OfSupervisor):
    """A supervisor gives up: a child had to be restarted too often. It stops its children, and raises.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: what it raises, in an ExceptionGroup.

    """

    error: RestartsExceeded


Event: TypeAlias = (
    AttemptStarted
    | AttemptFailed
    | GaveUp
    | Recovered
    | CallFinished
    | RunStarted
    | RunPaused
    | RunResumed
    | JobFinished
    | WorkerLost
    | RunFinished
    | ChildStarted
    | ChildExited
    | ChildRestarted
    | ChildStopped
    | Escalated
)
