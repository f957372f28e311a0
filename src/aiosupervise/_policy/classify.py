"""Classify an error by a policy: transient, irrecoverable, or not listed. Pure: no clock, no asyncio.

The order of the rules is the order of the lines in `classify`: an exception of this library that overrules the
policy, then `irrecoverable`, then `retry_on`. A group is classified by its leaves alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final, TypeAlias, final

from .checks import check_seconds, name_of
from .errors import OVERRIDES, AttemptTimeout, DeadlineExceeded, GiveUp, RetryAfter, unwrap
from .policy import Policy, RetryOn
from .verdict import Reason, verdict


@final
class Transient:
    """The class of an error that may be retried.

    Attributes:
        retry_after: seconds that the server asked for, 0 or more; None if it did not ask.

    """

    __slots__ = ("retry_after",)

    def __init__(self, retry_after: float | None) -> None:
        self.retry_after: Final = retry_after

    def __repr__(self) -> str:
        return f"Transient({self.retry_after})"


@final
class Irrecoverable:
    """The class of an error that must not be retried.

    Attributes:
        reason: IRRECOVERABLE, or DEADLINE for the error by which the deadline of this call ended an attempt.

    """

    __slots__ = ("reason",)

    def __init__(self, reason: Reason) -> None:
        self.reason: Final = reason

    def __repr__(self) -> str:
        return f"Irrecoverable({self.reason})"


@final
class Unlisted:
    """The class of an error that the policy does not list: it passes through, without a verdict."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Unlisted()"


Classification: TypeAlias = Transient | Irrecoverable | Unlisted

# Shared, so that classifying an ordinary error allocates nothing. Of Irrecoverable and Unlisted these are the only
# instances that `classify` returns, so that they can be compared by identity.
TRANSIENT: Final = Transient(None)
IRRECOVERABLE: Final = Irrecoverable(Reason.IRRECOVERABLE)
PAST_DEADLINE: Final = Irrecoverable(Reason.DEADLINE)
UNLISTED: Final = Unlisted()


def classify(policy: Policy, error: Exception) -> Classification:
    """Return the class of an error under a policy, whatever the attempt that it ended.

    Raises:
        TypeError, ValueError: if a `retry_on` function returns something other than a bool, None or seconds.

    """
    if isinstance(error, ExceptionGroup):
        return _classify_group(policy, error)
    if type(error) in _LIBRARY_ERRORS and (classification := _classify_library_error(policy, error)) is not None:
        return classification
    if policy.irrecoverable != () and _matches(policy.irrecoverable, error):
        return IRRECOVERABLE
    condition = policy.retry_on
    answer = isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)
    if answer is True:
        return _transient(error)
    if answer is None or answer is False:
        return UNLISTED
    check_seconds(f"the return value of retry_on ({name_of(condition)}), if not a bool or None,", answer, zero=True)
    return Transient(float(answer))


def _classify_group(policy: Policy, group: ExceptionGroup[Exception]) -> Classification:
    """Return the class of the worst leaf; if all are transient, with the longest wait that one of them asks for."""
    classifications = [classify(policy, leaf) for leaf in leaves(group)]
    for worst in (IRRECOVERABLE, PAST_DEADLINE, UNLISTED):
        if worst in classifications:
            return worst
    waits = [each.retry_after for each in classifications if isinstance(each, Transient)]
    asked = [seconds for seconds in waits if seconds is not None]
    return Transient(max(asked)) if asked else TRANSIENT


_LIMITS = (AttemptTimeout, DeadlineExceeded)
# All of them are final, so that comparing types is enough.
_LIBRARY_ERRORS = frozenset({*OVERRIDES, *_LIMITS})


def _classify_library_error(policy: Policy, error: Exception) -> Classification | None:
    """Return the class of an exception that overrules the policy, or that a limit of this call raised.

    The error that a RetryAfter stands for may still be irrecoverable. A timeout that carries a verdict was raised by
    a limit of another call, so this returns None, and the policy classifies it as any other error.
    """
    if isinstance(error, GiveUp):
        return IRRECOVERABLE
    if isinstance(error, _LIMITS) and verdict(error) is not None:
        return None
    if isinstance(error, DeadlineExceeded):
        return PAST_DEADLINE
    if any(_matches(policy.irrecoverable, leaf) for leaf in _unwrapped_leaves(error)):
        return IRRECOVERABLE
    return Transient(float(error.seconds)) if isinstance(error, RetryAfter) else TRANSIENT


def leaves(error: Exception) -> Iterator[Exception]:
    """Yield the leaves of a group, at any depth and in order; an error that is not a group is its own leaf."""
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, ExceptionGroup):
            stack.extend(reversed(error.exceptions))
        else:
            yield error


def _unwrapped_leaves(error: Exception) -> Iterator[Exception]:
    """Yield the error that a RetryAfter stands for, or if that is a group, what each of its leaves stands for."""
    stack = [error]
    # Errors can refer to each other in circles, and need not be hashable.
    visited = set[int]()
    while stack:
        error = unwrap(stack.pop())
        if isinstance(error, ExceptionGroup) and id(error) not in visited:
            stack.extend(error.exceptions)
        elif id(error) not in visited:
            yield error
        visited.add(id(error))


_CLASSES = (type, tuple)


def _matches(condition: RetryOn, error: Exception) -> bool | float | None:
    return isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)


def _transient(error: Exception) -> Transient:
    """Return the class of an error that `retry_on` matches, with the seconds in its `retry_after` attribute.

    Libraries use an attribute of this name for other things too: anything but a number of 0 or more is ignored. A
    property that raises must not put its own error in place of the one that is being classified.
    """
    try:
        seconds = getattr(error, "retry_after", None)
    except Exception:
        return TRANSIENT
    if seconds is None or isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        return TRANSIENT
    # An int can be too large for a float.
    return Transient(float(min(seconds, sys.float_info.max)))
