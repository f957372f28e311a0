"""Classify an error under a policy: transient, irrecoverable, or not listed. Pure: no clock, no asyncio.

The rules apply in this order: an exception of this library that overrides the policy, then `irrecoverable`, then
`retry_on`. A group is classified only by its leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, TypeAlias, final

from .checks import check_retry_after, name_of, retry_after_of
from .errors import OVERRIDES, AttemptTimeout, DeadlineExceeded, GateError, GiveUp, RetryAfter, stands_for
from .policy import Policy, RetryOn
from .raw import exceptions_of, is_group, leaves
from .verdict import Reason, verdict


@final
class Transient:
    """The classification of an error that may be retried.

    Attributes:
        retry_after: the wait that the server asked for, in seconds, at least 0; None if it asked for none.
    """

    __slots__ = ("retry_after",)

    def __init__(self, retry_after: float | None) -> None:
        self.retry_after: Final = retry_after

    def __repr__(self) -> str:
        return f"Transient({self.retry_after})"


@final
class Irrecoverable:
    """The classification of an error that must not be retried.

    Attributes:
        reason: IRRECOVERABLE, or DEADLINE for the DeadlineExceeded with which the deadline of this call ended an
            attempt.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: Reason) -> None:
        self.reason: Final = reason

    def __repr__(self) -> str:
        return f"Irrecoverable({self.reason})"


@final
class Unlisted:
    """The classification of an error that the policy does not list; it passes through without a verdict."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Unlisted()"


Classification: TypeAlias = Transient | Irrecoverable | Unlisted

# These instances are shared, so that classifying an ordinary error allocates nothing. `classify` returns no other
# instances of Irrecoverable and Unlisted, so these can be compared by identity.
TRANSIENT: Final = Transient(None)
IRRECOVERABLE: Final = Irrecoverable(Reason.IRRECOVERABLE)
PAST_DEADLINE: Final = Irrecoverable(Reason.DEADLINE)
UNLISTED: Final = Unlisted()


def classify(policy: Policy, error: Exception) -> Classification:
    """Return the classification of an error under a policy, regardless of which attempt it ended.

    Raises:
        TypeError: if a `retry_on` function returns something other than a bool, None, seconds or a timedelta.

    """
    if not issubclass(type(error), SPECIAL):
        return classify_ordinary(policy, error)
    return _classify_leaves(policy, error)


def classify_ordinary(policy: Policy, error: Exception) -> Classification:
    """Return the classification of an error whose type is not in SPECIAL: the fast path of `classify`."""
    # Usually `irrecoverable` is the empty tuple, of which Python has only one instance.
    if policy.irrecoverable is not _EMPTY and _matches(policy.irrecoverable, error):
        return IRRECOVERABLE
    condition = policy.retry_on
    answer = issubclass(type(error), condition) if isinstance(condition, _CLASSES) else condition(error)
    if answer is True:
        # Libraries also use `retry_after` for other purposes, so anything but a number or a timedelta is ignored. If
        # the attribute is a property that raises an error, that error must not replace the one that is being
        # classified.
        try:
            asked = getattr(error, "retry_after", None)
            return TRANSIENT if asked is None else _after(retry_after_of(asked))
        except Exception:
            return TRANSIENT
    if answer is None or answer is False:
        return UNLISTED
    check_retry_after(f"the return value of retry_on ({name_of(policy.retry_on)}), if not a bool or None,", answer)
    return _after(retry_after_of(answer))


def _classify_leaf(policy: Policy, error: Exception, cleared: set[int]) -> Classification:
    """Return the classification of an error that is not a group; for `cleared`, see `_unwrapped_leaves`."""
    if issubclass(type(error), _LIBRARY_ERRORS):
        classification = _classify_library_error(policy, error, cleared)
        if classification is not None:
            return classification
    return classify_ordinary(policy, error)


def _classify_leaves(policy: Policy, error: Exception) -> Classification:
    """Return the worst classification of any leaf; if all leaves are transient, the one with the longest wait."""
    cleared = set[int]()
    classifications = [_classify_leaf(policy, leaf, cleared) for leaf in leaves(error)]
    for worst in (IRRECOVERABLE, PAST_DEADLINE, UNLISTED):
        if worst in classifications:
            return worst
    waits = [each.retry_after for each in classifications if isinstance(each, Transient)]
    asked = [seconds for seconds in waits if seconds is not None]
    return _after(max(asked, default=None))


_LIMITS = (AttemptTimeout, DeadlineExceeded)
_LIBRARY_ERRORS = (*OVERRIDES, *_LIMITS, GateError)
SPECIAL = (*_LIBRARY_ERRORS, ExceptionGroup)
"""The types of errors that can override a policy, are raised by a limit, or are classified by their leaves."""


def _classify_library_error(policy: Policy, error: Exception, cleared: set[int]) -> Classification | None:
    """Return the classification of an exception that overrides the policy, or was raised by a limit of this call.

    The error that a RetryAfter stands for may still be irrecoverable. A timeout that carries a verdict was raised by a
    limit of another call. The result is then None, and the policy classifies the timeout like any other error.
    """
    if isinstance(error, GateError):
        return UNLISTED
    if isinstance(error, GiveUp):
        return IRRECOVERABLE
    if isinstance(error, _LIMITS) and verdict(error) is not None:
        return None
    if isinstance(error, DeadlineExceeded):
        return PAST_DEADLINE
    if any(_matches(policy.irrecoverable, leaf) for leaf in _unwrapped_leaves(error, cleared)):
        return IRRECOVERABLE
    return Transient(error.seconds) if isinstance(error, RetryAfter) else TRANSIENT


def _unwrapped_leaves(error: Exception, cleared: set[int]) -> Iterator[Exception]:
    """Yield the error that a RetryAfter stands for or, if that is a group, the error that each leaf stands for.

    Args:
        error: the RetryAfter, or an AttemptTimeout, which stands for itself.
        cleared: the ids of the errors that were visited before, which are skipped. The calls for all leaves of a group
            share one set, because several leaves can stand for the same error.
    """
    stack = [error]
    while stack:
        error = stack.pop()
        if id(error) in cleared:
            continue
        cleared.add(id(error))
        meant = stands_for(error) if issubclass(type(error), OVERRIDES) else None
        if meant is not None:
            stack.append(meant)
        elif is_group(error):
            stack.extend(exceptions_of(error))
        else:
            yield error


_CLASSES = (type, tuple)
_EMPTY: Final = ()


def _matches(condition: RetryOn, error: Exception) -> bool | float | timedelta | None:
    return issubclass(type(error), condition) if isinstance(condition, _CLASSES) else condition(error)


def _after(seconds: float | None) -> Transient:
    return TRANSIENT if seconds is None else Transient(seconds)
