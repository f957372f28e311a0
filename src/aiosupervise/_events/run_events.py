"""The events of a run: a batch of jobs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from .outcomes import Outcome, Stopped, Tally


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
        known: the number of results that its journal had for it; None without a journal.

    """

    known: int | None = None


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


@record
class _OfGroup(_OfRun):
    """The fields of every event of a group.

    Attributes:
        run: the number of the run, unique in its process.
        name: the name of the run, or else of its function.
        tally: its live counts.
        group: what `group_by` has returned for its inputs.

    """

    group: Hashable


@final
@record
class GroupPaused(_OfGroup):
    """A group of a run has paused because the service behind it is overloaded; other groups go on.

    It has `run`, `name`, `tally` and `group`, as every event of a group.

    Attributes:
        seconds: the length of the pause. A `GroupResumed` follows, or the next `GroupPaused` after a failed probe, or a
            `GroupStopped`, or the end of the run.
        why: the reason in words.

    """

    seconds: float
    why: str


@final
@record
class GroupResumed(_OfGroup):
    """A paused group has resumed.

    It has `run`, `name`, `tally` and `group`, as every event of a group.

    """


@final
@record
class GroupStopped(_OfGroup):
    """A group starts no other job, because too many probes have failed: its inputs are pending. Other groups go on.

    It has `run`, `name`, `tally` and `group`, as every event of a group.

    """


@final
@record
class JobFinished(_OfRun):
    """A job of a run has ended, or the run has ended before it.

    It has `run`, `name` and `tally`, as every event of a run.

    Attributes:
        outcome: a `Success`, a `Failure` or a `Pending`; the tally has already counted it.
        group: the group of its job in a run with `group_by`; else None.

    """

    outcome: Outcome[object, object]
    group: Hashable = None


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
        replayed: the number of outcomes that came from its journal; None without a journal.

    """

    elapsed: float
    replayed: int | None = None
