"""The events: frozen records that listeners receive. The set is closed, so a `match` over it can be complete.

They contain the values that a program needs to count, draw or trace, and never the arguments of a call, which may be
secret. To add an event: a record here, a row in the table of `log` if it is to be logged, and a call of `emit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from aiosupervise._policy.errors import RestartsExceeded
    from aiosupervise._policy.verdict import Reason

    from .outcomes import Outcome, Stopped, Tally


@record
class _OfCall:
    """The fields of every event of a supervised call.

    Attributes:
        call: the number of the call, unique in its process.
        name: the policy's name, or else the function's.
        run: the number of the run in which the call was made; None outside of a run.
        job: the index of its job in that run; None outside of a run.

    """

    call: int
    name: str
    run: int | None
    job: int | None


@final
@record
class AttemptStarted(_OfCall):
    """An attempt of a supervised call is about to start.

    Attributes:
        call: the number of the call, unique in its process.
        name: the name of its policy, or else of its function.
        run: the number of the run in which the call was made; None outside of a run.
        job: the index of its job in that run; None outside of a run.
        attempt: the number of the attempt, from 1.

    """

    attempt: int


@final
@record
class AttemptFailed(_OfCall):
    """An attempt of a supervised call has raised.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempt: its number, from 1.
        error: the error that it raised; for a `GiveUp` or a `RetryAfter`, the error that this stands for.
        wait: seconds until the next attempt, without the pause that an overloaded run may add; None if there will be
            no further attempt.

    """

    attempt: int
    error: Exception
    wait: float | None


@final
@record
class GaveUp(_OfCall):
    """A supervised call has given up on an error that its policy lists. A `CallFinished` follows.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: the number of attempts that were made.
        elapsed: seconds since the first attempt failed.
        reason: why there is no further attempt.
        error: the error that the caller gets.

    """

    attempts: int
    elapsed: float
    reason: Reason
    error: Exception


@final
@record
class Recovered(_OfCall):
    """A supervised call has succeeded after at least one failed attempt. A `CallFinished` follows.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: the number of attempts that were made.
        elapsed: seconds since the first attempt failed.

    """

    attempts: int
    elapsed: float


@final
@record
class CallFinished(_OfCall):
    """A supervised call has ended: it returned, raised or was cancelled. This is the last event of each call.

    It has `call`, `name`, `run` and `job`, as every event of a call.

    Attributes:
        attempts: the number of attempts that were made.
        error: the error that the caller gets, which may be an asyncio.CancelledError; None if the call returned.

    """

    attempts: int
    error: BaseException | None


@record
class _OfRun:
    """The fields of every event of a run.

    Attributes:
        run: the number of the run, unique in its process.
        name: the name of the run, or else of its function.
        tally: its live counts.

    """

    run: int
    name: str
    tally: Tally


@final
@record
class RunStarted(_OfRun):
    """A run has started.

    Attributes:
        run: the number of the run, unique in its process.
        name: the name of the run, or else of its function.
        tally: its live counts.

    """


@final
@record
class RunPaused(_OfRun):
    """A run has paused because the service behind it is overloaded: it starts no jobs for a while.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        seconds: the length of the pause. A `RunResumed` follows, or the next `RunPaused` after a failed probe, or the
            end of the run.
        why: the reason in words.

    """

    seconds: float
    why: str


@final
@record
class RunResumed(_OfRun):
    """A paused run has resumed.

    It has `run`, `name` and `tally`, as every event of a run.

    """


@final
@record
class JobFinished(_OfRun):
    """A job of a run has ended, or the run has ended before it.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        outcome: a `Success`, a `Failure` or a `Pending`; the tally has already counted it.

    """

    outcome: Outcome[object, object]


@final
@record
class WorkerLost(_OfRun):
    """A worker of a cluster was lost, or a chunk of jobs was taken from it: its jobs start again on another worker.

    Jobs whose worker was lost before it reported them start again without this event. It has `run`, `name` and
    `tally`, as every event of a run.

    Attributes:
        worker: the address of the worker that had the jobs.
        jobs: the number of jobs without an outcome, which start again.

    """

    worker: str
    jobs: int


@final
@record
class RunStopped(_OfRun):
    """A run ends by itself: it starts no other job, because too many probes or too many jobs have failed.

    It has `run`, `name` and `tally`, as every event of a run. A `RunFinished` follows when its running jobs have ended.

    Attributes:
        why: `Stopped.PROBES` or `Stopped.FAILURES`.

    """

    why: Stopped


@final
@record
class RunFinished(_OfRun):
    """A run has ended, for whatever reason: none of its jobs runs any more. This is the last event of each run.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        elapsed: seconds from the start of the run to its end.

    """

    elapsed: float


@record
class _OfSupervisor:
    """The fields of every event of a supervisor.

    Attributes:
        supervisor: the number of the supervisor, unique in its process.
        name: the name of the supervisor.
        child: the name of the child.

    """

    supervisor: int
    name: str
    child: str


@final
@record
class ChildStarted(_OfSupervisor):
    """A supervisor has started a child for the first time, or on request after it was stopped.

    Attributes:
        supervisor: the number of the supervisor, unique in its process.
        name: the name of the supervisor.
        child: the name of the child.

    """


@final
@record
class ChildExited(_OfSupervisor):
    """A child has ended by itself: nobody stopped it.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: the error that it raised; None if it returned.

    """

    error: BaseException | None


@final
@record
class ChildRestarted(_OfSupervisor):
    """A supervisor has restarted a child, because the child or a sibling had ended.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        restarts: the number of restarts of this child so far.

    """

    restarts: int


@final
@record
class ChildStopped(_OfSupervisor):
    """A supervisor has stopped a child: on request, at the supervisor's own end, or because a sibling had ended.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: the error that the child raised in its clean-up; None if it raised none.

    """

    error: BaseException | None


@final
@record
class Escalated(_OfSupervisor):
    """A supervisor has given up, because a child would be restarted too often. It stops its children, then raises.

    It has `supervisor`, `name` and `child`, as every event of a supervisor.

    Attributes:
        error: the error that the supervisor raises, in an ExceptionGroup.

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
    | RunStopped
    | RunFinished
    | ChildStarted
    | ChildExited
    | ChildRestarted
    | ChildStopped
    | Escalated
)
