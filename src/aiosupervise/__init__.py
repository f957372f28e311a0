"""Retries, concurrency limits, job outcomes and supervisors for asyncio code that can fail.

Imports point in one direction:
integrations, examples, testing -> engines -> _supervisor, _batch -> _call -> _events -> _policy.
(One exception: a run with `progress=True` imports the tqdm integration.)

`_batch` and `_supervisor` are imported when one of their names is first used: they take most of the import time, and
many programs need neither, or only one of them.
"""

import importlib as _importlib
import typing as _typing

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

if _typing.TYPE_CHECKING:  # pragma: no cover
    from ._batch import Adaptive, Journal, Overload, Report, Run, map_all, run_all
    from ._supervisor import Child, Supervisor, alive, ready

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

_LATER = {
    "Adaptive": "_batch",
    "Child": "_supervisor",
    "Journal": "_batch",
    "Overload": "_batch",
    "Report": "_batch",
    "Run": "_batch",
    "Supervisor": "_supervisor",
    "alive": "_supervisor",
    "map_all": "_batch",
    "ready": "_supervisor",
    "run_all": "_batch",
}

# This makes tracebacks and the docs show the public names, such as aiosupervise.Policy.
for _name in __all__:
    if _name not in _LATER and _name not in ("Event", "Outcome"):  # aliases
        globals()[_name].__module__ = __name__


# `__getattr__` is hidden from type checkers, which would otherwise accept any name.
if not _typing.TYPE_CHECKING:  # pragma: no branch

    def __getattr__(name: str) -> object:
        """Import the package to which a name belongs, with all of its public names."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        level = _importlib.import_module(f".{_LATER[name]}", __name__)
        # A name that the program has replaced stays replaced.
        for public in level.__all__:
            globals().setdefault(public, getattr(level, public))
        return globals()[name]

    def __dir__() -> list[str]:
        """Return the names of the module, including those that are imported later."""
        return sorted({*globals(), *__all__})
