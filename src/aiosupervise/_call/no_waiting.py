"""Whether waits take time: the switch that tests turn, read when a call fails and when a run starts.

Imports no module of ours that waits, so that whatever waits can read it.
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
    """Waits take no time.

    Attributes:
        max_retries: the most retries that a call makes, however many its policy allows; None to leave that to the
            policy.

    """

    max_retries: int | None = None

    def applied_to(self, policy: Policy) -> Policy:
        """Return the policy with no more retries than these rules allow."""
        most = self.max_retries
        if most is None or (policy.max_retries is not None and policy.max_retries <= most):
            return policy
        return policy.replace(max_retries=most)


no_waits: ContextVar[NoWaiting | None] = ContextVar("aiosupervise.no_waits", default=None)
"""None, in production: waits take their time."""
