"""The stack of a suspended task: the frames from its function down to the line at which it waits."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from types import CoroutineType, FrameType, GeneratorType
from typing import Any

_MOST_FRAMES = 20


def stack_of(task: asyncio.Task[Any]) -> str:
    """Return the stack of a suspended task as text, innermost frame last; a deep stack is cut to its innermost frames.

    `asyncio.Task.get_stack` returns only the outermost frame of a suspended task.
    """
    frames = deque[FrameType](maxlen=_MOST_FRAMES)
    frame, awaited = _frame_and_awaited(task.get_coro())
    while frame is not None:
        frames.append(frame)
        frame, awaited = _frame_and_awaited(awaited)
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return "".join(summary.format()).rstrip() or "  (its coroutine has no frames)"


def _frame_and_awaited(awaited: object) -> tuple[FrameType | None, object]:
    if isinstance(awaited, CoroutineType):
        return awaited.cr_frame, awaited.cr_await
    if isinstance(awaited, GeneratorType):
        return awaited.gi_frame, awaited.gi_yieldfrom
    return None, None
