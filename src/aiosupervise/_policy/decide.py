"""Decides what follows from a failed attempt. Pure: no clock, no asyncio."""

from __future__ import annotations

import sys
from typing import TypeAlias

from .backoff import delay_before
from .classify import NOT_ASKED, Classification
from .policy import Policy
from .verdict import Reason

Decision: TypeAlias = float | Reason | None
"""Retry in so many seconds, or give up because of a reason; None: the error is none of the policy's business."""


def decide(policy: Policy, error: Exception, classified: Classification, attempts: int, elapsed: float) -> Decision:
    """Decide what follows from `error`, which ended attempt number `attempts` after `elapsed` seconds of the call."""
    if not isinstance(classified, float):
        return classified
    if policy.max_retries is not None and attempts > policy.max_retries:
        return Reason.EXHAUSTED
    if policy.max_retry_after is not None and classified > policy.max_retry_after:
        return Reason.RETRY_AFTER_TOO_LONG
    delay = 0.0 + delay_before(policy.backoff, attempts - 1, error)  # which may be an int
    if classified != NOT_ASKED:
        delay = min(classified + delay, sys.float_info.max)
    if policy.deadline is not None and elapsed + delay >= policy.deadline:
        return Reason.DEADLINE
    return delay
