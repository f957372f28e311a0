"""The exceptions of a supervised call: two that the user raises, two that a limit raises."""

from __future__ import annotations

from typing import final

from .checks import check_seconds, error_text


@final
class GiveUp(Exception):  # noqa: N818 - it says what to do, as StopIteration does
    """Raise it in a supervised function to give up at once, whatever the policy says.

    `raise GiveUp from error` gives the caller `error`; without a cause the caller gets the error that was being
    handled, else this exception itself.
    """


@final
class RetryAfter(Exception):  # noqa: N818 - it says what to do
    """Raise it in a supervised function to retry after some seconds, even if the policy does not list the error.

    It uses up a retry, and `irrecoverable` still wins. It stands for its cause, else for the error that was being
    handled, else for itself: that is what the caller gets when the retries are used up.

    Args:
        seconds: the least wait before the next attempt, 0 or more; the policy's backoff comes on top.

    Raises:
        TypeError, ValueError: if `seconds` is no finite number of 0 or more.

    """

    def __init__(self, seconds: float) -> None:
        check_seconds("seconds", seconds, zero=True)
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"retry after {self.seconds:g} s"


@final
class AttemptTimeout(TimeoutError):  # noqa: N818 - a timeout, as asyncio names it
    """One attempt took longer than the policy's `attempt_timeout` of `seconds`; its cause shows where it stood."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the attempt took longer than attempt_timeout={self.seconds:g} s"


@final
class DeadlineExceeded(TimeoutError):  # noqa: N818 - the field's own name for it
    """The policy's `deadline` of `seconds` interrupted an attempt; its cause is the error of the attempt before."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the call was not done within deadline={self.seconds:g} s"


_SHOWN = 3  # errors in the text of a RestartsExceeded


@final
class RestartsExceeded(Exception):  # noqa: N818 - the limit's name
    """A child had to be restarted more than `max_restarts` times in `within` seconds, so its supervisor gave up.

    Attributes:
        child: its name.
        errors: what it raised in that time, the last one last.
        max_restarts: how many restarts the supervisor allows.
        within: in how many seconds.

    """

    def __init__(self, child: str, errors: tuple[BaseException, ...], max_restarts: int, within: float) -> None:
        super().__init__(child, errors, max_restarts, within)
        self.child: str = child
        self.errors: tuple[BaseException, ...] = errors
        self.max_restarts: int = max_restarts
        self.within: float = within

    def __str__(self) -> str:
        rule = f"more than {self.max_restarts} restarts within {self.within:g} s"
        errors = ", ".join(error_text(error) for error in self.errors[-_SHOWN:]) or "it returned"
        return f"{rule}, the last one of {self.child}: {errors}"


OVERRIDES = (GiveUp, RetryAfter)


def unwrap(raised: Exception) -> Exception:
    """Return the error that a GiveUp or RetryAfter stands for: its cause, else its context, else itself.

    Only an Exception can be stood for: a cancellation that was being handled is not the caller's error.
    """
    if type(raised) not in OVERRIDES:  # both are final; isinstance is slow at saying no
        return raised
    seen = [raised]
    while isinstance(raised, OVERRIDES):
        meant = raised.__context__ if raised.__cause__ is None else raised.__cause__
        if not isinstance(meant, Exception) or any(meant is other for other in seen):
            break
        seen.append(raised := meant)
    return raised
