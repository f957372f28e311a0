"""The exceptions of the library: those that users raise to override a policy, and those that limits raise."""

from __future__ import annotations

from datetime import timedelta
from typing import final

from .checks import check_retry_after, error_text, retry_after_of
from .raw import copy_state, exceptions_of, is_group, message_of


@final
class GiveUp(Exception):  # noqa: N818
    """Raise this in a supervised function to give up immediately, whatever the policy says.

    After `raise GiveUp from error`, the caller gets `error`. Without a cause, the caller gets the error that was being
    handled, or this exception itself if there was none.
    """


@final
class RetryAfter(Exception):  # noqa: N818
    """Raise this in a supervised function to retry after a delay, even if the policy does not list the error.

    The retry counts towards `max_retries`, and `irrecoverable` still takes precedence. The exception stands for its
    cause if it has one, otherwise for the error that was being handled, otherwise for itself. When the call gives up,
    the caller gets the error that the exception stands for.

    Args:
        seconds: the minimum wait before the next attempt, in seconds or as a timedelta; the policy's backoff is added
            to it. A negative number or NaN counts as 0. If the wait is longer than the policy's `max_retry_after`, the
            call gives up.

    Raises:
        TypeError: if `seconds` is neither a number nor a timedelta.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        check_retry_after("the argument of RetryAfter", seconds)
        super().__init__(seconds)
        self.seconds: float = retry_after_of(seconds) or 0.0

    def __str__(self) -> str:
        return f"retry after {self.seconds:g} s"


@final
class AttemptTimeout(TimeoutError):  # noqa: N818
    """An attempt took longer than the policy's `attempt_timeout`; the error's cause shows where it was interrupted.

    Attributes:
        seconds: the `attempt_timeout`.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the attempt took longer than attempt_timeout={self.seconds:g} s"


@final
class DeadlineExceeded(TimeoutError):  # noqa: N818
    """The policy's `deadline` interrupted an attempt; the cause is the error of the previous attempt, if any.

    Attributes:
        seconds: the `deadline`.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the call was not done within deadline={self.seconds:g} s"


# The number of errors in the message of a RestartsExceeded.
_SHOWN = 3


@final
class RestartsExceeded(Exception):  # noqa: N818 - the limit's name
    """A child needs more than `max_restarts` restarts within `within` seconds, so its supervisor escalates.

    Once all children have ended, the block of the `Supervisor` raises this error in an ExceptionGroup. Its cause is the
    last of `errors`.

    Attributes:
        child: the name of the child that exceeded the limit.
        errors: the errors of this child that counted towards the limit, the latest last; empty if the child only
            returned.
        max_restarts: the number of restarts that the supervisor allows in the period.
        within: the length of the period in seconds.
    """

    def __init__(self, child: str, errors: tuple[BaseException, ...], max_restarts: int, within: float) -> None:
        super().__init__(child, errors, max_restarts, within)
        self.child: str = child
        self.errors: tuple[BaseException, ...] = errors
        self.max_restarts: int = max_restarts
        self.within: float = within

    def __str__(self) -> str:
        rule = f"max_restarts={self.max_restarts} within {self.within:g} s was exceeded"
        errors = self._last_errors()
        return f"{rule} when child {self.child} ended; {f'its last errors: {errors}' if errors else 'it returned'}"

    # The default repr would contain the reprs of the child's errors, which may quote secrets or raise.
    def __repr__(self) -> str:
        return f"RestartsExceeded({self.child!r}, ({self._last_errors()}), {self.max_restarts}, {self.within})"

    def _last_errors(self) -> str:
        return ", ".join(error_text(error) for error in self.errors[-_SHOWN:])


OVERRIDES = (GiveUp, RetryAfter)
_UNWRAPPED = (*OVERRIDES, ExceptionGroup)


@final
class GateError(RuntimeError):
    """A gate would make a call wait forever, or has suppressed the call's error. No policy retries a GateError."""


def unwrap(error: Exception) -> Exception:
    """Return the error that a GiveUp or RetryAfter stands for: its cause, else its context, else itself.

    In a group, each leaf is replaced by the error it stands for. Chains of causes can be long, and groups can be deeply
    nested or share members, so each error is visited only once.
    """
    if not issubclass(type(error), _UNWRAPPED):
        return error
    # The dict is keyed by identity, because an error need not be hashable.
    found: dict[int, Exception] = {}
    visited = set[int]()
    stack = [error]
    while stack:
        current = stack[-1]
        if id(current) not in visited:
            visited.add(id(current))
            stack += [one for one in _within(current) if id(one) not in visited]
        else:
            # All errors within `current` have been unwrapped, except for those that in turn contain `current`.
            stack.pop()
            if id(current) not in found:
                found[id(current)] = _unwrapped(current, found)
    return found[id(error)]


def stands_for(raised: Exception) -> Exception | None:
    """Return the cause of a GiveUp or RetryAfter, else its context; None if it stands for itself.

    It can stand only for an Exception, because a cancellation that was being handled is not an error of the call.
    """
    meant = raised.__context__ if raised.__cause__ is None else raised.__cause__
    return meant if meant is not None and issubclass(type(meant), Exception) else None  # type: ignore[return-value]


def _within(error: Exception) -> tuple[Exception, ...]:
    """Return the members of a group, or the error that a GiveUp or RetryAfter stands for; otherwise an empty tuple."""
    if is_group(error):
        return exceptions_of(error)
    meant = stands_for(error) if issubclass(type(error), OVERRIDES) else None
    return () if meant is None else (meant,)


def _unwrapped(error: Exception, found: dict[int, Exception]) -> Exception:
    """Return the replacement for an error, given those for the errors within it; in a cycle, return the error."""
    within = _within(error)
    others = [found.get(id(one), one) for one in within]
    if not is_group(error):
        return found.get(id(within[0]), error) if within else error
    if all(one is other for one, other in zip(within, others, strict=True)):
        return error
    return _derive(error, others)


def _derive(group: ExceptionGroup[Exception], members: list[Exception]) -> Exception:
    """Return a copy of a group with other members; it has the same class if that class can be copied."""
    try:
        copy = group.derive(members)
    except Exception:
        copy = None
    if copy is None or not is_group(copy) or list(map(id, exceptions_of(copy))) != list(map(id, members)):
        copy = ExceptionGroup(message_of(group), members)
    copy_state(group, copy)
    return copy
