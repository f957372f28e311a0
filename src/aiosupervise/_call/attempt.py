"""`attempt()`: returns the current attempt of a supervised call.

Theory of operation. The attempt is found in the stack of the running task. Among the callers of `attempt` there is one
of three frames: a frame of the retry loop, whose `self` is the call; a frame in which a block is running, which is
registered in `BLOCKS` for that time; or, in the first attempt of a function, only the frame of a wrapper. A call that
never uses `attempt()` therefore has no overhead. The alternative, a context variable that is set and reset around each
attempt, would double the cost of a call that succeeds on the first attempt.
"""

from __future__ import annotations

import inspect
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Final, final

from aiosupervise._policy.record import record

from .frames import RETRY_LOOP, WRAPPERS
from .limits import now

if TYPE_CHECKING:
    from .call import Call

BLOCKS: Final[dict[int, Call]] = {}
"""The call of the innermost block that is running in a frame, by the id of the frame."""


@final
@record
class Attempt:
    """The current attempt of a supervised call or block.

    Attributes:
        number: the number of the attempt, from 1.
        previous_error: the error of the previous attempt, without its traceback; None in the first attempt.
        time_left: seconds until the deadline of the call; None if its policy has no deadline.
    """

    number: int
    previous_error: Exception | None
    time_left: float | None


def attempt() -> Attempt:
    """Return the current attempt of the innermost supervised call or block around the caller.

    Call it in the supervised function or block, or in a function that is called or awaited there. A task started by the
    function does not inherit the attempt: call `attempt()` first and pass the result on. The cost grows with the depth
    of the stack; functions that do not call it have no overhead.

    Raises:
        RuntimeError: outside a supervised function or block.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        if id(frame) in BLOCKS:
            return _of_call(BLOCKS[id(frame)])
        if id(frame.f_code) in RETRY_LOOP:
            return _of_call(frame.f_locals["self"])
        if id(frame.f_code) in WRAPPERS:
            return Attempt(1, None, _time_left(frame))
        frame = frame.f_back
    raise RuntimeError(
        "attempt() was called outside a supervised function or block: call it in one, in the task that runs it, "
        "not in a task that it starts"
    )


def _of_call(call: Call) -> Attempt:
    return Attempt(call.attempts, call.last_error, call.time_left())


def _time_left(wrapper: FrameType) -> float | None:
    policy, started = wrapper.f_locals["policy"], wrapper.f_locals.get("started")
    if policy.deadline is None or started is None:
        return None
    is_async = wrapper.f_code.co_flags & inspect.CO_COROUTINE
    return float(started + policy.deadline - (now() if is_async else time.monotonic()))
