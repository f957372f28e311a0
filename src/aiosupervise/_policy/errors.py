"""The exceptions of the library: those that the user raises to overrule a policy, and those that a limit raises."""

from __future__ import annotations

from typing import final

from .checks import check_seconds, error_text


@final
class GiveUp(Exception):  # noqa: N818
    """Raise this in a supervised function to give up at once, whatever the policy says.

    After `raise GiveUp from error` the caller gets `error`; without a cause, the error that was being handled; if
    there was none, this exception itself.
    """


@final
class RetryAfter(Exception):  # noqa: N818
    """Raise this in a supervised function to retry after some seconds, even if the policy does not list the error.

    It uses up a retry, and `irrecoverable` still wins. It stands for its cause; without one, for the error that was
    being handled; if there was none, for itself. The caller gets the error that it stands for when the call gives up.

    Args:
        seconds: the shortest wait before the next attempt, 0 or more; the delay of the policy's backoff is added.

    Raises:
        TypeError, ValueError: if `seconds` is not a finite number of 0 or more.

    """

    def __init__(self, seconds: float) -> None:
        check_seconds("seconds", seconds, zero=True)
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"retry after {self.seconds:g} s"


@final
class AttemptTimeout(TimeoutError):  # noqa: N818
    """An attempt took longer than the policy's `attempt_timeout`; its cause shows where the attempt was interrupted.

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
    """The policy's `deadline` interrupted an attempt; its cause is the error of the previous attempt, if there was one.

    Attributes:
        seconds: the `deadline`.

    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the call was not done within deadline={self.seconds:g} s"


_SHOWN = 3  # errors in the message of a RestartsExceeded


@final
class RestartsExceeded(Exception):  # noqa: N818 - the limit's name
    """A supervisor escalates: it would have to make more than `max_restarts` restarts in `within` seconds.

    `Supervisor` raises it from its block in an ExceptionGroup, when all of its children have ended. Its cause is the
    last of `errors`.

    Attributes:
        child: the name of the child whose end exceeded the limit.
        errors: the errors of this child that still counted, the latest last. Empty if it has only returned.
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
        errors = ", ".join(error_text(error) for error in self.errors[-_SHOWN:])
        return f"{rule} when child {self.child} ended; {f'its last errors: {errors}' if errors else 'it returned'}"


OVERRIDES = (GiveUp, RetryAfter)


def unwrap(raised: Exception) -> Exception:
    """Return the error that a GiveUp or RetryAfter stands for: its cause, else its context, else itself.

    It can only stand for an Exception: a cancellation that was being handled is not the caller's error.
    """
    # Both are final. `isinstance` takes longer to return False, which is the usual case.
    if type(raised) not in OVERRIDES:
        return raised
    seen = [raised]
    while isinstance(raised, OVERRIDES):
        meant = raised.__context__ if raised.__cause__ is None else raised.__cause__
        if not isinstance(meant, Exception) or any(meant is other for other in seen):
            break
        seen.append(raised := meant)
    return raised
