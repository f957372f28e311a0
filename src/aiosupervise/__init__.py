"""Supervise a call, a batch, a service: retries, limits and outcomes for asyncio work that can fail.

Imports point one way:
integrations, testing, examples -> _service, _batch, _supervise, _attempt -> _call -> _job, _listen
-> _policy, _backoff, _budget, _errors, _verdict, _events.
(One exception: `progress=True` imports the tqdm integration when it is called.)
"""

from ._attempt import Attempt, attempt
from ._backoff import Backoff
from ._batch.api import map_all, run_all
from ._batch.outcomes import Failure, Outcome, Pending, Report, Success, Tally
from ._batch.overload import Adaptive, Overload
from ._batch.run import Run
from ._budget import Budget
from ._errors import AttemptTimeout, DeadlineExceeded, GiveUp, RetryAfter
from ._events import (
    AttemptFailed,
    AttemptStarted,
    CallFinished,
    ChildExited,
    ChildRestarted,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    GaveUp,
    JobFinished,
    Recovered,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    WorkerLost,
)
from ._listen import listen
from ._policy import Policy
from ._service.child import Child, RestartsExceeded
from ._service.supervisor import Supervisor
from ._supervise import supervise
from ._verdict import Reason, Verdict, verdict

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
    "ChildRestarted",
    "ChildStarted",
    "ChildStopped",
    "DeadlineExceeded",
    "Escalated",
    "Event",
    "Failure",
    "GaveUp",
    "GiveUp",
    "JobFinished",
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
    "Success",
    "Supervisor",
    "Tally",
    "Verdict",
    "WorkerLost",
    "attempt",
    "listen",
    "map_all",
    "run_all",
    "supervise",
    "verdict",
]

for _name in __all__:  # users see aiosupervise.Run, in tracebacks and in the docs
    if _name not in ("Event", "Outcome"):  # aliases
        globals()[_name].__module__ = __name__
