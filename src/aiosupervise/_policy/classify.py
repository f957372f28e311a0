"""Classifies an error by a policy. Pure: no clock, no asyncio."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TypeAlias

from .checks import check_seconds, name_of
from .errors import OVERRIDES, AttemptTimeout, DeadlineExceeded, GiveUp, RetryAfter, unwrap
from .policy import Policy, RetryOn
from .verdict import Reason, verdict

Classification: TypeAlias = float | Reason | None
"""Transient: the seconds that the server asks to wait, or NOT_ASKED; or never to be retried, and why; None as above."""

NOT_ASKED = -1.0  # below any wait that a server can ask for


def classify(policy: Policy, error: Exception) -> Classification:
    """Judge an error, of whatever attempt: is it transient, and does the server ask for a wait?"""
    if isinstance(error, ExceptionGroup):
        return _classify_group(policy, error)
    if type(error) in _OURS and (classified := _classify_ours(policy, error)) is not None:
        return classified
    if policy.irrecoverable != () and _matches(policy.irrecoverable, error):
        return Reason.IRRECOVERABLE
    condition = policy.retry_on
    answer = isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)
    if answer is True:
        return _retry_after_of(error)
    if answer is None or answer is False:
        return None
    check_seconds(f"what retry_on answers, {name_of(policy.retry_on)} here, if not a bool,", answer, zero=True)
    return float(answer)


def _classify_group(policy: Policy, group: ExceptionGroup[Exception]) -> Classification:
    """Judge a group by its leaves: the worst decides, and the longest wait that one of them asks for is waited."""
    classified = [classify(policy, leaf) for leaf in leaves(group)]
    waits = [wait for wait in classified if isinstance(wait, float)]
    if len(waits) == len(classified):
        return max(waits)
    return next((worst for worst in (Reason.IRRECOVERABLE, Reason.DEADLINE) if worst in classified), None)


_LIMITS = (AttemptTimeout, DeadlineExceeded)
_OURS = (*OVERRIDES, *_LIMITS)  # all final, so that the type tells


def _classify_ours(policy: Policy, error: Exception) -> Classification:
    """Judge an exception of this library: one that overrules the policy, or one that a limit of this call raised.

    What a RetryAfter stands for may still be irrecoverable. A timeout with a verdict has left another call: None.
    """
    if isinstance(error, GiveUp):
        return Reason.IRRECOVERABLE
    if isinstance(error, _LIMITS) and verdict(error) is not None:
        return None
    if isinstance(error, DeadlineExceeded):
        return Reason.DEADLINE
    if any(_matches(policy.irrecoverable, leaf) for leaf in _unwrapped_leaves(error)):
        return Reason.IRRECOVERABLE
    return float(error.seconds) if isinstance(error, RetryAfter) else NOT_ASKED


def leaves(error: Exception) -> Iterator[Exception]:
    """Yield the errors at the leaves of a group, at any depth; an error that is no group is its own leaf."""
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, ExceptionGroup):
            stack.extend(reversed(error.exceptions))
        else:
            yield error


def _unwrapped_leaves(error: Exception) -> Iterator[Exception]:
    """Yield what an error stands for, and of a group what its leaves stand for in their turn."""
    stack = [error]
    seen = set[int]()  # by identity: errors can refer to each other in circles, and need not be hashable
    while stack:
        error = unwrap(stack.pop())
        if isinstance(error, ExceptionGroup) and id(error) not in seen:
            stack.extend(error.exceptions)
        elif id(error) not in seen:
            yield error
        seen.add(id(error))


_CLASSES = (type, tuple)


def _matches(condition: RetryOn, error: Exception) -> bool | float | None:
    return isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)


def _retry_after_of(error: Exception) -> float:
    """Read the wait from the error's `retry_after`; libraries put other things there too, which are left alone."""
    try:
        asked = getattr(error, "retry_after", None)
    except Exception:  # a property that fails must not take the place of the error itself
        return NOT_ASKED
    if asked is None:  # of most errors
        return NOT_ASKED
    if isinstance(asked, bool) or not isinstance(asked, (int, float)):
        return NOT_ASKED
    return float(min(asked, sys.float_info.max)) if asked >= 0 else NOT_ASKED  # an int can be beyond floats
