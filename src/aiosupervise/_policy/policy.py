"""The policy: which errors are retried, how often, after which delay, and within which limits.

A policy only stores and checks its arguments; `classify` and `decide` apply them. Pure: no clock, no asyncio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableSequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, final

from .backoff import Backoff, BackoffLike, check_backoff
from .budget import Budget
from .checks import check_count, check_name, check_seconds, is_async_callable, name_of, safe_repr
from .gate import Gate, GateOf, check_gate
from .loops import AsyncAttempts, SyncAttempts, loops
from .record import keyword_record, replaced

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Unpack

Classes: TypeAlias = type[Exception] | tuple[type[Exception], ...]
RetryOn: TypeAlias = Classes | Callable[[Exception], bool | float | timedelta | None]
IrrecoverableIf: TypeAlias = Classes | Callable[[Exception], bool]

# All policies share this object, which is safe because a Backoff is frozen.
_DEFAULT_BACKOFF = Backoff()
_DEFAULT_RETRIES = 3


if TYPE_CHECKING:
    # These classes list the keywords for type checkers, which read them through `Unpack`. At run time, nothing refers
    # to the classes.

    class PolicyOptions(TypedDict, total=False):
        """The keywords of a Policy that have a default."""

        irrecoverable: IrrecoverableIf
        max_retries: int | None
        backoff: BackoffLike
        attempt_timeout: float | None
        deadline: float | None
        max_retry_after: float | None
        budget: Budget | None
        gate: Gate | GateOf | None
        name: str | None

    class Changes(PolicyOptions, total=False):
        """The keywords of `Policy.replace`."""

        retry_on: RetryOn


@final
@keyword_record
class Policy:
    """A retry policy: which errors to retry, how often, and how long to wait.

    A loop over a policy retries a block of code: write `async for attempt in policy:` with `async with attempt:`
    inside, or `for attempt in policy:` with `with attempt:` inside in synchronous code. Each loop has its own state. A
    policy is immutable, so functions can share it.

    Args:
        retry_on: the transient errors: an Exception class, a tuple of classes, or a function of the error that returns
            True, False or None, or the wait that the server asked for as seconds or a timedelta, which may be 0. There
            is no default, because only you know which errors are transient. Since Python 3.11, `TimeoutError` is a
            subclass of `OSError`. With a gate, an attempt_timeout or a deadline, `retry_on` may be `()`, which means no
            retries and sets max_retries to 0.
        irrecoverable: errors that are never retried: an Exception class, a tuple of classes, or a function of the error
            that returns a bool. They take precedence over everything but `GiveUp`.
        max_retries: the number of retries after the first attempt: 3 means at most 4 attempts. None means no limit.
        backoff: the delay before each retry: a `Backoff`, a function `(n, error) -> seconds` with n from 0, or a list
            of seconds, the last of which repeats.
        attempt_timeout: the maximum duration of one attempt, in seconds. The resulting AttemptTimeout is retried unless
            it is irrecoverable. Not available for plain functions, which cannot be interrupted. None means no limit.
        deadline: the maximum duration of the whole call, including waits, in seconds. A plain function is not
            interrupted, but the call gives up instead of waiting beyond the deadline. None means no limit.
        max_retry_after: the longest wait, in seconds, that a server may ask for; the call gives up if it asks for more.
            None means no limit.
        budget: a `Budget` that limits the retries; policies may share one. If too few tokens are left, the call gives
            up. None means no budget or, in a batch, the budget of the run.
        gate: a reusable async context manager, such as a semaphore or a rate limiter; for plain functions, a
            synchronous one; or a function of the call's arguments that returns one. Every attempt runs inside it; waits
            do not. None means no gate.
        name: the name of the call in events, logs, metrics and spans, and at the beginning of the note on an error.
            None means the name of the function, and a note without a name.

    Raises:
        TypeError, ValueError: immediately, if an argument is invalid; the message names the argument and the repair.
    """

    retry_on: RetryOn
    irrecoverable: IrrecoverableIf = ()
    max_retries: int | None = _DEFAULT_RETRIES
    backoff: BackoffLike = _DEFAULT_BACKOFF
    attempt_timeout: float | None = None
    deadline: float | None = None
    max_retry_after: float | None = 60.0
    budget: Budget | None = None
    gate: Gate | GateOf | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_condition("retry_on", self.retry_on)
        _check_condition("irrecoverable", self.irrecoverable)
        check_count("max_retries", self.max_retries, least=0)
        if isinstance(self.backoff, MutableSequence):
            # The caller may change the list later.
            object.__setattr__(self, "backoff", tuple(self.backoff))
        check_backoff(self.backoff)
        check_seconds("attempt_timeout", self.attempt_timeout, zero=False, none="no limit")
        check_seconds("deadline", self.deadline, zero=False, none="no limit")
        check_seconds("max_retry_after", self.max_retry_after, zero=True, none="no limit")
        _check_budget(self.budget)
        check_gate(self.gate)
        check_name(self.name)
        if self.retry_on == ():
            self._retry_nothing()

    def _retry_nothing(self) -> None:
        if self.gate is None and self.attempt_timeout is None and self.deadline is None:
            rule = "retry_on is empty, so that no error would be retried: list the transient errors"
            raise ValueError(f"{rule}, or pass the gate, attempt_timeout or deadline that should apply without retries")
        object.__setattr__(self, "max_retries", 0)

    def replace(self, **changes: Unpack[Changes]) -> Policy:
        """Return a copy of the policy with other values for these keywords.

        If the policy has no retries because of `retry_on=()`, a copy with another `retry_on` has the default number of
        retries.

        Raises:
            TypeError, ValueError: if a value is invalid, as for `Policy`.
        """
        if self.retry_on == () and changes.get("retry_on", ()) != ():
            changes.setdefault("max_retries", _DEFAULT_RETRIES)
        return replaced(self, dict(changes))

    # `copy.replace`, which exists since Python 3.13, calls this method.
    __replace__ = replace

    # These methods are decorated with `final` because of mutation testing, which would insert a frame between the
    # caller and an undecorated function.
    @final
    def __iter__(self) -> SyncAttempts:
        """Yield the attempts of a block in synchronous code, until one succeeds or the policy permits no other."""
        return loops.plain(self, sys._getframe(1))  # noqa: SLF001

    @final
    def __aiter__(self) -> AsyncAttempts:
        """Yield the attempts of a block in an async function, until one succeeds or the policy permits no other."""
        return loops.in_coroutine(self, sys._getframe(1))  # noqa: SLF001

    def __contains__(self, _: object) -> bool:
        """Raise a TypeError, because `in` would otherwise iterate over the policy, and so make attempts."""
        raise TypeError("a Policy contains nothing: compare with its fields, such as policy.retry_on")


def cannot_interrupt(what: str, repair: str) -> str:
    """Return the error message for an `attempt_timeout` on synchronous code, which cannot be interrupted."""
    rule = f"attempt_timeout does not work with {what}, since running synchronous code cannot be interrupted"
    return f"{rule}: set the timeout of the client that it calls, and attempt_timeout=None, or {repair}"


def _check_condition(name: str, condition: object) -> None:
    rule = f"{name} must be a subclass of Exception, a tuple of them, or a plain function of the error"
    if isinstance(condition, (type, tuple)):
        for member in condition if isinstance(condition, tuple) else (condition,):
            _check_class(rule, member)
    elif not callable(condition):
        raise TypeError(f"{rule}; got {safe_repr(condition)}")
    elif is_async_callable(condition):
        raise TypeError(f"{rule}; {name_of(condition)} is async: make it a plain def")


def _check_class(rule: str, member: object) -> None:
    if not isinstance(member, type):
        raise TypeError(f"{rule}; the tuple contains {safe_repr(member)}")
    if not issubclass(member, Exception):
        is_exit = issubclass(member, BaseException)
        why = "cancellation and exit are never retried" if is_exit else "it is not an exception"
        raise TypeError(f"{rule}; got {member.__name__}: {why}, so remove it")


def _check_budget(budget: object) -> None:
    if budget is not None and not isinstance(budget, Budget):
        repair = ": write Budget()" if budget is Budget else ""
        raise TypeError(f"budget must be a Budget, or None for no budget; got {safe_repr(budget)}{repair}")
