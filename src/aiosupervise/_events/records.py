"""The events: frozen records that listeners receive. The set is closed, so a `match` over it can be exhaustive.

Events contain the values that a program needs to count, draw or trace, and never the arguments of a call, which may be
secret. To add an event, add a record to the module of its kind, add its name here, add a row to the table in `log` if
it should be logged, and call `emit`.
"""

from __future__ import annotations

from typing import TypeAlias

from .call_events import AttemptFailed, AttemptStarted, CallFinished, GaveUp, Recovered
from .child_events import (
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
)
from .run_events import (
    GroupPaused,
    GroupResumed,
    GroupStopped,
    JobFinished,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    WorkerLost,
)

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "CallFinished",
    "ChildExited",
    "ChildReady",
    "ChildRestarted",
    "ChildStalled",
    "ChildStarted",
    "ChildStopped",
    "Escalated",
    "Event",
    "GaveUp",
    "GroupPaused",
    "GroupResumed",
    "GroupStopped",
    "JobFinished",
    "Recovered",
    "RunFinished",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStopped",
    "WorkerLost",
]

Event: TypeAlias = (
    AttemptStarted
    | AttemptFailed
    | GaveUp
    | Recovered
    | CallFinished
    | RunStarted
    | RunPaused
    | RunResumed
    | GroupPaused
    | GroupResumed
    | GroupStopped
    | JobFinished
    | WorkerLost
    | RunStopped
    | RunFinished
    | ChildStarted
    | ChildReady
    | ChildStalled
    | ChildExited
    | ChildRestarted
    | ChildStopped
    | Escalated
)
