"""`attempt()`: which attempt of a supervised call is running.

Theory of operation. The answer is read from the frames of the running task, in which a wrapper of `_call` is found
below the function that asks. So a call whose function never asks pays nothing for it: a context variable, set and
reset around each attempt, would double the price of a call that succeeds at once.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

from .frames import is_ours
from .limits import now

if TYPE_CHECKING:
    from aiosupervise._policy.policy import Policy

    from .retry import _Call


@final
@record
class Attempt:
    """Which attempt of a supervised call is running.

    Attributes:
        number: from 1.
        previous_error: what the attempt before raised, without its traceback; None in the first.
        time_left: seconds until the call's deadline; None if its policy has none.

    """

    number: int
    previous_error: Exception | None
    time_left: float | None


def attempt() -> Attempt:
    """Return which attempt is running, of the innermost supervised call that the caller is in.

    Call it in the supervised function, or in a function that this awaits or calls. A task that the function starts
    has a stack of its own: ask before, and hand over the answer. To ask costs the more the deeper the stack is; not
    to ask costs nothing.

    Raises:
        RuntimeError: outside of a supervised function.

    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, if not public
    while frame is not None:
        if is_ours(frame):
            if frame.f_code.co_name == "go_on":
                return _of_call(frame.f_locals["self"])
            if frame.f_code.co_name == "supervised":
                return Attempt(1, None, _time_left(frame.f_locals["policy"], frame.f_locals.get("started")))
        frame = frame.f_back
    raise RuntimeError(
        "attempt() is asked outside of a supervised function: call it in one, in the task that runs it, "
        "not in a task that it starts"
    )


def _of_call(call: _Call) -> Attempt:
    return Attempt(call.attempts, call.last, _time_left(call.policy, call.started))


def _time_left(policy: Policy, started: float | None) -> float | None:
    if policy.deadline is None or started is None:
        return None
    return started + policy.deadline - now()
