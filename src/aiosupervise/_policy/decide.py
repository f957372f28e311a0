"""Decide what to do after a failed attempt: retry, give up, or pass the error on. Pure: no clock, no asyncio."""

from __future__ import annotations

import sys
from typing import Final, TypeAlias, final

from .backoff import delay_before
from .classify import Classification, Irrecoverable, Transient
from .policy import Policy
from .verdict import Reason


@final
class Stop:
    """The decision to give up on the error.

    Attributes:
        reason: why the call gives up.
        detail: an additional line for the note; None if there is none.
    """

    __slots__ = ("detail", "reason")

    def __init__(self, reason: Reason, detail: str | None = None) -> None:
        self.reason: Final = reason
        self.detail: Final = detail

    def __repr__(self) -> str:
        return f"Stop({self.reason})"


@final
class PassThrough:
    """The decision to raise the error unchanged, because the policy does not list it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PassThrough()"


# The decision to retry has no class of its own, because creating an object would take longer than the decision itself.
Decision: TypeAlias = float | Stop | PassThrough
"""The seconds to wait before the next attempt, or the decision to make none."""

# These instances are shared, because nothing in them depends on the call.
PASS_THROUGH: Final = PassThrough()
_EXHAUSTED = Stop(Reason.EXHAUSTED)
_RETRY_AFTER_TOO_LONG = Stop(Reason.RETRY_AFTER_TOO_LONG)
_PAST_DEADLINE = Stop(Reason.DEADLINE)


def decide(policy: Policy, error: Exception, classification: Classification, attempts: int, elapsed: float) -> Decision:
    """Decide what to do about `error`, which ended attempt number `attempts` after `elapsed` seconds of the call.

    The caller then checks whether the budget has enough tokens, and whether the arguments can still be read.

    Raises:
        TypeError, ValueError: if the policy's backoff returns something other than seconds.
    """
    if not isinstance(classification, Transient):
        return Stop(classification.reason) if isinstance(classification, Irrecoverable) else PASS_THROUGH
    if policy.max_retries is not None and attempts > policy.max_retries:
        return _EXHAUSTED
    retry_after = classification.retry_after
    if retry_after is not None and policy.max_retry_after is not None and retry_after > policy.max_retry_after:
        return _RETRY_AFTER_TOO_LONG
    backoff = policy.backoff
    # Every delay of a tuple was checked when the policy was created.
    if isinstance(backoff, tuple):
        delay: float = backoff[attempts - 1] if attempts <= len(backoff) else backoff[-1]
    else:
        delay = delay_before(backoff, attempts - 1, error)
    # The user's delay may be an int, but a decision is a float.
    delay += 0.0
    if retry_after is not None:
        delay = min(retry_after + delay, sys.float_info.max)
    if policy.deadline is not None and elapsed + delay >= policy.deadline:
        return _PAST_DEADLINE
    return delay
