"""Decides: this error, after so many attempts and seconds: retry in so many seconds, or give up because of that.

Pure: no clock, no asyncio. The order of the rules is the order of the lines in `classify` and `decide`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, TypedDict, final

from .backoff import Backoff, BackoffLike, check_backoff
from .budget import Budget
from .checks import check_count, check_name, check_seconds, is_async_callable, name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Classes: TypeAlias = type[Exception] | tuple[type[Exception], ...]
RetryOn: TypeAlias = Classes | Callable[[Exception], bool | float | None]
Irrecoverable: TypeAlias = Classes | Callable[[Exception], bool]
Gate: TypeAlias = "AbstractAsyncContextManager[object, bool | None]"


class Options(TypedDict, total=False):
    """The keywords of a Policy that have a default."""

    irrecoverable: Irrecoverable
    max_retries: int | None
    backoff: BackoffLike
    attempt_timeout: float | None
    deadline: float | None
    max_retry_after: float | None
    budget: Budget | None
    gate: Gate | None
    name: str | None


class Changes(Options, total=False):
    """The keywords of `Policy.replace`."""

    retry_on: RetryOn


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to retry, how often, and how long to wait: a value, to be shared by as many functions as you like.

    Args:
        retry_on: what is transient: an Exception class, a tuple of them, or a function of the error that answers
            True, False or None, or the seconds that the server wants us to wait (0 included). No default: only you
            know. Beware: since Python 3.11 `TimeoutError` is an `OSError`.
        irrecoverable: what is never retried, in the same forms; it wins over everything but `GiveUp`.
        max_retries: retries after the first attempt: 3 means at most 4 attempts. None means no limit.
        backoff: the wait before each retry: a `Backoff`, any function `(n, error) -> seconds` with n from 0, or a
            list of seconds, whose last one repeats.
        attempt_timeout: seconds that one attempt may take; the AttemptTimeout that ends it is retried unless
            irrecoverable. None means no limit.
        deadline: seconds that the whole call may take, every wait included. None means no limit.
        max_retry_after: seconds; a server that asks for a longer wait makes the call give up. None means no limit.
        budget: a `Budget` that retries are paid from, to be shared among policies; when it is empty, calls give up.
            None means no budget, and in a batch that of the run.
        gate: an async context manager that can be entered many times, such as a semaphore or a rate limiter: every
            attempt runs inside it, no wait does.
        name: what events, the log, metrics and spans call the function, and what is put before the note on an error
            that a call gave up on, to tell policies apart. None for the function's name, and no name in the note.

    Raises:
        TypeError, ValueError: at once, for an argument that makes no sense; the text names it and the repair.

    """

    retry_on: RetryOn
    irrecoverable: Irrecoverable = ()
    max_retries: int | None = 3
    backoff: BackoffLike = Backoff()  # noqa: RUF009 - frozen
    attempt_timeout: float | None = None
    deadline: float | None = None
    max_retry_after: float | None = 60.0
    budget: Budget | None = None
    gate: Gate | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_condition("retry_on", self.retry_on)
        _check_condition("irrecoverable", self.irrecoverable)
        check_count("max_retries", self.max_retries, least=0)
        check_backoff(self.backoff)
        check_seconds("attempt_timeout", self.attempt_timeout, zero=False, none="no limit")
        check_seconds("deadline", self.deadline, zero=False, none="no limit")
        check_seconds("max_retry_after", self.max_retry_after, zero=True, none="no limit")
        _check_budget(self.budget)
        _check_gate(self.gate)
        check_name(self.name)

    def replace(self, **changes: Unpack[Changes]) -> Policy:
        """Return a policy that differs in these keywords."""
        return dataclasses.replace(self, **changes)


def _check_condition(name: str, condition: object) -> None:
    rule = f"{name} must be a subclass of Exception, a tuple of them, or a plain function of the error"
    if condition == () and name == "retry_on":
        raise ValueError("retry_on is empty, so nothing would ever be retried: name what is transient")
    if isinstance(condition, (type, tuple)):
        for member in condition if isinstance(condition, tuple) else (condition,):
            _check_class(rule, member)
    elif not callable(condition):
        raise TypeError(f"{rule}; got {condition!r}")
    elif is_async_callable(condition):
        raise TypeError(f"{rule}; {name_of(condition)} is async: make it a plain def")


def _check_class(rule: str, member: object) -> None:
    if not isinstance(member, type):
        raise TypeError(f"{rule}; got {member!r} in it")
    if not issubclass(member, Exception):
        why = "cancellation and exit are never retried" if issubclass(member, BaseException) else "it is no error"
        raise TypeError(f"{rule}; got {member.__name__}: {why}, take it out")


def _check_budget(budget: object) -> None:
    if budget is not None and not isinstance(budget, Budget):
        repair = ": write Budget()" if budget is Budget else ""
        raise TypeError(f"budget must be a Budget, or None for none; got {budget!r}{repair}")


def _check_gate(gate: object) -> None:
    rule = "gate must be an async context manager that can be entered many times, such as asyncio.Semaphore(10)"
    if gate is None:
        return
    if isinstance(gate, type) or not (hasattr(gate, "__aenter__") and hasattr(gate, "__aexit__")):
        raise TypeError(f"{rule}; got {gate!r}")
    if isinstance(gate, contextlib._AsyncGeneratorContextManager):  # noqa: SLF001 - it has no public name
        raise TypeError(f"{rule}; what an @asynccontextmanager function returns can be entered only once")
