"""A switch for tests that makes waits take no time.

A call reads the switch when it fails, and a run reads it when it starts.

At run time, this module imports only `_policy.record`, so that every module that waits can import it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from aiosupervise._policy.policy import Policy


@final
@record
class NoWaiting:
    """The rules of a block in which waits take no time.

    Attributes:
        max_retries: an upper bound for the retries of each call; None to apply only the limit of its policy.
    """

    max_retries: int | None = None

    def apply_to(self, policy: Policy) -> Policy:
        """Return the policy with its retries limited by these rules."""
        bound = self.max_retries
        if bound is None or (policy.max_retries is not None and policy.max_retries <= bound):
            return policy
        return policy.replace(max_retries=bound)


no_waits: ContextVar[NoWaiting | None] = ContextVar("aiosupervise.no_waits", default=None)
"""The rules of the innermost block around the running code; None outside tests, where waits take real time."""
