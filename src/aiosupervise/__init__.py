"""Supervise a call, a batch, a service: retries, limits and outcomes for asyncio work that can fail.

Imports point one way:
integrations, examples -> _batch, _supervise -> _call -> _policy, _backoff, _budget, _errors, _verdict.
(One exception: `progress=True` imports the tqdm integration when it is called.)
"""

from ._backoff import Backoff
from ._batch.api import map_all, run_all
from ._batch.outcomes import Failure, Outcome, Pending, Report, Success, Tally
from ._batch.overload import Adaptive, Overload
from ._batch.run import Run
from ._budget import Budget
from ._errors import AttemptTimeout, DeadlineExceeded, GiveUp, RetryAfter
from ._policy import Policy
from ._supervise import supervise
from ._verdict import Reason, Verdict, verdict

__all__ = [
    "Adaptive",
    "AttemptTimeout",
    "Backoff",
    "Budget",
    "DeadlineExceeded",
    "Failure",
    "GiveUp",
    "Outcome",
    "Overload",
    "Pending",
    "Policy",
    "Reason",
    "Report",
    "RetryAfter",
    "Run",
    "Success",
    "Tally",
    "Verdict",
    "map_all",
    "run_all",
    "supervise",
    "verdict",
]

for _name in __all__:  # users see aiosupervise.Run, in tracebacks and in the docs
    if _name != "Outcome":  # an alias
        globals()[_name].__module__ = __name__
