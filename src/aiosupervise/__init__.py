"""Retries, concurrency limits, job outcomes and supervisors for asyncio code that can fail.

Imports point in one direction:
integrations, examples, testing -> engines -> _supervisor, _batch -> _call -> _events -> _policy.
(One exception: `progress=True` imports the tqdm integration when it is used.)
"""

from ._batch._journal.journal import Journal
from ._batch.api import map_all, run_all
from ._batch.overload import Adaptive, Overload
from ._batch.report import Report
from ._batch.run import Run
from ._call import blocks as _blocks  # noqa: F401 - makes policies iterable
from ._call.attempt import Attempt, attempt
from ._call.supervise import policy_of, supervise
from ._events.listeners import listen
from ._events.outcomes import Failure, Outcome, Pending, Stopped, Success, Tally
from ._events.records import (
    AttemptFailed,
    AttemptStarted,
    CallFinished,
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    GaveUp,
    GroupPaused,
    GroupResumed,
    GroupStopped,
    JobFinished,
    Recovered,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    WorkerLost,
)
from ._policy.backoff import Backoff
from ._policy.budget import Budget
from ._policy.errors import AttemptTimeout, DeadlineExceeded, GiveUp, RestartsExceeded, RetryAfter
from ._policy.policy import Policy
from ._policy.verdict import Reason, Verdict, verdict
from ._supervisor.child import Child
from ._supervisor.supervisor import Supervisor
from ._supervisor.this_run import alive, ready

__all__ = [
    "Adaptive",
    "Attempt",
    "AttemptFailed",
    "AttemptStarted",
    "AttemptTimeout",
    "Backoff",
    "Budget",
    "CallFinished",
    "Child",
    "ChildExited",
    "ChildReady",
    "ChildRestarted",
    "ChildStalled",
    "ChildStarted",
    "ChildStopped",
    "DeadlineExceeded",
    "Escalated",
    "Event",
    "Failure",
    "GaveUp",
    "GiveUp",
    "GroupPaused",
    "GroupResumed",
    "GroupStopped",
    "JobFinished",
    "Journal",
    "Outcome",
    "Overload",
    "Pending",
    "Policy",
    "Reason",
    "Recovered",
    "Report",
    "RestartsExceeded",
    "RetryAfter",
    "Run",
    "RunFinished",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStopped",
    "Stopped",
    "Success",
    "Supervisor",
    "Tally",
    "Verdict",
    "WorkerLost",
    "alive",
    "attempt",
    "listen",
    "map_all",
    "policy_of",
    "ready",
    "run_all",
    "supervise",
    "verdict",
]

# Tracebacks and the docs then show the public names, such as aiosupervise.Run.
for _name in __all__:
    if _name not in ("Event", "Outcome"):  # aliases
        globals()[_name].__module__ = __name__
