"""The events of a run: a batch of jobs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from .outcomes import Outcome, Stopped, Tally


@record
class _RunEvent:
    """The fields of every event of a run.

    Attributes:
        run: the number of the run, unique within the process.
        name: the name of the run, or of its function.
        tally: its live counts.
    """

    run: int
    name: str
    tally: Tally


@final
@record
class RunStarted(_RunEvent):
    """A run has started.

    Attributes:
        run: the number of the run, unique within the process.
        name: the name of the run, or of its function.
        tally: its live counts.
        known: the number of results in its journal when it started; None without a journal.
    """

    known: int | None = None


@final
@record
class RunPaused(_RunEvent):
    """A run has paused because the service behind it is overloaded: it starts no jobs for a while.

    It has the fields `run`, `name` and `tally`, like every event of a run.

    Attributes:
        seconds: the length of the pause. Afterwards `RunResumed` follows, or another `RunPaused` after a failed probe,
            or the end of the run.
        why: the reason as text.
    """

    seconds: float
    why: str


@final
@record
class RunResumed(_RunEvent):
    """A paused run has resumed.

    It has the fields `run`, `name` and `tally`, like every event of a run.
    """


@record
class _GroupEvent(_RunEvent):
    """The fields of every event of a group.

    Attributes:
        run: the number of the run, unique within the process.
        name: the name of the run, or of its function.
        tally: its live counts.
        group: the value that `group_by` returned for its inputs.

    """

    group: Hashable


@final
@record
class GroupPaused(_GroupEvent):
    """A group of a run has paused because the service behind it is overloaded; other groups continue.

    It has the fields `run`, `name`, `tally` and `group`, like every event of a group.

    Attributes:
        seconds: the length of the pause. Afterwards `GroupResumed` follows, or another `GroupPaused` after a failed
            probe, or `GroupStopped`, or the end of the run.
        why: the reason as text.
    """

    seconds: float
    why: str


@final
@record
class GroupResumed(_GroupEvent):
    """A paused group has resumed.

    It has the fields `run`, `name`, `tally` and `group`, like every event of a group.
    """


@final
@record
class GroupStopped(_GroupEvent):
    """A group starts no further jobs after too many failed probes; its inputs are pending. The other groups continue.

    It has the fields `run`, `name`, `tally` and `group`, like every event of a group.
    """


@final
@record
class JobFinished(_RunEvent):
    """A job has an outcome, because it has ended or because the run ended first.

    It has the fields `run`, `name` and `tally`, like every event of a run.

    Attributes:
        outcome: a `Success`, a `Failure` or a `Pending`; the tally already includes it.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    outcome: Outcome[object, object]
    group: Hashable = None


@final
@record
class WorkerLost(_RunEvent):
    """A cluster worker was lost, or a chunk was taken from it; the unfinished jobs start again on another worker.

    No event is emitted if the worker was lost before it reported that it had the jobs. It has the fields `run`, `name`
    and `tally`, like every event of a run.

    Attributes:
        worker: the address of the worker that had the jobs.
        jobs: the number of unfinished jobs, which start again.
    """

    worker: str
    jobs: int


@final
@record
class RunStopped(_RunEvent):
    """A run starts no further jobs, because too many probes or jobs have failed.

    It has the fields `run`, `name` and `tally`, like every event of a run. A `RunFinished` follows when its running
    jobs have ended.

    Attributes:
        why: `Stopped.PROBES` or `Stopped.FAILURES`.
    """

    why: Stopped


@final
@record
class RunFinished(_RunEvent):
    """A run has ended, for whatever reason, and none of its jobs is running. This is the last event of every run.

    It has the fields `run`, `name` and `tally`, like every event of a run.

    Attributes:
        elapsed: the duration of the run in seconds.
        replayed: the number of outcomes that came from its journal; None without a journal.
    """

    elapsed: float
    replayed: int | None = None
