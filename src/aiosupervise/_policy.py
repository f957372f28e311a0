"""Decides: this error, after so many attempts and seconds: retry in so many seconds, or give up because of that.

Pure: no clock, no asyncio. The order of the rules is the order of the lines in `judge` and `decide`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, TypedDict, final

from ._backoff import Backoff, BackoffLike, check_backoff, delay_before
from ._budget import Budget
from ._checks import check_count, check_name, check_seconds, is_async_callable, name_of
from ._errors import OVERRULES, AttemptTimeout, DeadlineExceeded, GiveUp, RetryAfter, stand_in
from ._verdict import Reason, verdict

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


Decision: TypeAlias = float | Reason | None
"""Retry in so many seconds, or give up because of a reason; None: the error is none of the policy's business."""

Judgement: TypeAlias = float | Reason | None
"""Transient: the seconds that the server asks to wait, or NOT_ASKED; or never to be retried, and why; None as above."""

NOT_ASKED = -1.0  # below any wait that a server can ask for


def decide(policy: Policy, error: Exception, judged: Judgement, attempts: int, elapsed: float) -> Decision:
    """Decide what follows from `error`, which ended attempt number `attempts` after `elapsed` seconds of the call."""
    if not isinstance(judged, float):
        return judged
    if policy.max_retries is not None and attempts > policy.max_retries:
        return Reason.EXHAUSTED
    if policy.max_retry_after is not None and judged > policy.max_retry_after:
        return Reason.RETRY_AFTER_TOO_LONG
    delay = 0.0 + delay_before(policy.backoff, attempts - 1, error)  # which may be an int
    if judged != NOT_ASKED:
        delay = min(judged + delay, sys.float_info.max)
    if policy.deadline is not None and elapsed + delay >= policy.deadline:
        return Reason.DEADLINE
    return delay


def judge(policy: Policy, error: Exception) -> Judgement:
    """Judge an error, of whatever attempt: is it transient, and does the server ask for a wait?"""
    if isinstance(error, ExceptionGroup):
        return _judge_group(policy, error)
    if type(error) in _OURS and (judged := _judge_ours(policy, error)) is not None:
        return judged
    if policy.irrecoverable != () and _matches(policy.irrecoverable, error):
        return Reason.IRRECOVERABLE
    condition = policy.retry_on
    answer = isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)
    if answer is True:
        return _asked_by(error)
    if answer is None or answer is False:
        return None
    check_seconds(f"what retry_on answers, {name_of(policy.retry_on)} here, if not a bool,", answer, zero=True)
    return float(answer)


def _judge_group(policy: Policy, group: ExceptionGroup[Exception]) -> Judgement:
    """Judge a group by its leaves: the worst decides, and the longest wait that one of them asks for is waited."""
    judged = [judge(policy, leaf) for leaf in leaves(group)]
    waits = [wait for wait in judged if isinstance(wait, float)]
    if len(waits) == len(judged):
        return max(waits)
    return next((worst for worst in (Reason.IRRECOVERABLE, Reason.DEADLINE) if worst in judged), None)


_LIMITS = (AttemptTimeout, DeadlineExceeded)
_OURS = (*OVERRULES, *_LIMITS)  # all final, so that the type tells


def _judge_ours(policy: Policy, error: Exception) -> Judgement:
    """Judge an exception of this library: one that overrules the policy, or one that a limit of this call raised.

    What a RetryAfter stands for may still be irrecoverable. A timeout with a verdict has left another call: None.
    """
    if isinstance(error, GiveUp):
        return Reason.IRRECOVERABLE
    if isinstance(error, _LIMITS) and verdict(error) is not None:
        return None
    if isinstance(error, DeadlineExceeded):
        return Reason.DEADLINE
    if any(_matches(policy.irrecoverable, leaf) for leaf in _behind(error)):
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


def _behind(error: Exception) -> Iterator[Exception]:
    """Yield what an error stands for, and of a group what its leaves stand for in their turn."""
    stack = [error]
    seen = set[int]()  # by identity: errors can refer to each other in circles, and need not be hashable
    while stack:
        error = stand_in(stack.pop())
        if isinstance(error, ExceptionGroup) and id(error) not in seen:
            stack.extend(error.exceptions)
        elif id(error) not in seen:
            yield error
        seen.add(id(error))


_CLASSES = (type, tuple)


def _matches(condition: RetryOn, error: Exception) -> bool | float | None:
    return isinstance(error, condition) if isinstance(condition, _CLASSES) else condition(error)


def _asked_by(error: Exception) -> float:
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
