"""Tracebacks and the frames in them: which are shown, which are kept alive, and what they tell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

from aiosupervise._policy.verdict import verdict

_LOOP = ("aiosupervise._call.retry", "aiosupervise._call.limits")  # the modules that an attempt runs in


def without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop the frames of the retry loop: the caller sees one wrapper, not every attempt and every limit."""
    theirs = [entry for entry in _entries(traceback) if not is_ours(entry.tb_frame)]
    rest = None
    for entry in reversed(theirs):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


def given_up_inside(error: Exception, seen: int, ours: int) -> bool:
    """Tell whether a call inside this attempt gave up on `error`, or on a leaf of it.

    Its verdict is newer than the attempt, and the error came out through its wrapper; an error that another call gave
    up on meanwhile, such as a failed future's, came through no wrapper but ours, of which the traceback has `ours`.
    """
    note = verdict(error)
    if note is not None and note.serial > seen:
        wrappers = [entry for entry in _entries(error.__traceback__) if _is_wrapper(entry.tb_frame)]
        if len(wrappers) > ours:
            return True
    return isinstance(error, ExceptionGroup) and any(given_up_inside(leaf, seen, 0) for leaf in error.exceptions)


def is_ours(frame: FrameType) -> bool:
    """Tell whether a frame belongs to the retry loop."""
    return frame.f_globals.get("__name__") in _LOOP


def _is_wrapper(frame: FrameType) -> bool:
    return frame.f_code.co_name == "supervised" and is_ours(frame)


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def drop_frames(error: Exception) -> None:
    """Take the tracebacks off an error that outlives its attempt, and off what it refers to, up to the caller's."""
    error.with_traceback(None)
    if error.__context__ is None and error.__cause__ is None and not isinstance(error, ExceptionGroup):
        return  # the usual case
    seen = {id(sys.exception())}  # by identity: an error need not be hashable
    stack: list[BaseException | None] = [error]
    while stack:
        other = stack.pop()
        if other is not None and id(other) not in seen:
            seen.add(id(other))
            stack += (other.with_traceback(None).__cause__, other.__context__)
            stack += other.exceptions if isinstance(other, BaseExceptionGroup) else ()
