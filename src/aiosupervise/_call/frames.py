"""Tracebacks and their frames: which frames belong to this library, and which are dropped.

Theory of operation. A frame is recognized by the code object that it runs. A function definition has one code object,
which all calls of the function share, and which identifies the function even if another one has the same name. The
modules that an attempt runs in register the code objects of their functions when they are imported. The code objects of
wrappers, which are created inside a function, are registered when the wrapper is created. This also recognizes a
function that replaces another one, as in mutation testing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Final, TypeAlias

from aiosupervise._policy.raw import (
    cause_of,
    context_of,
    exceptions_of,
    is_group,
    members_of,
    set_traceback,
    traceback_of,
)
from aiosupervise._policy.verdict import verdict

# Code objects are keyed by id, because hashing or comparing them reads their whole bytecode. The values keep the code
# objects alive, so that their ids are not reused.
CodeObjects: TypeAlias = dict[int, CodeType]

WRAPPERS: Final[CodeObjects] = {}
"""The functions that `supervise` returns."""

LAYERS: Final[CodeObjects] = {}
"""The functions through which the final error of a call propagates: the wrappers, and the method that ends a block."""

RETRY_LOOP: Final[CodeObjects] = {}
"""The methods of `Call` and its drivers, in each of which the local variable `self` is the call."""

INTERNALS: Final[CodeObjects] = {}
"""The functions that run between a supervised function and its caller: wrappers, the retry loop and the limits."""

CONTEXTLIB: Final = vars(contextlib)
"""The globals of the frames of an ExitStack or of `closing`."""


def register_wrapper(code: CodeType) -> None:
    """Register the code of a wrapper, which all wrappers created by the same function share."""
    WRAPPERS[id(code)] = LAYERS[id(code)] = INTERNALS[id(code)] = code


def register_layer(code: CodeType) -> None:
    """Register the code of the function that raises the final error of a block."""
    LAYERS[id(code)] = code


def register_retry_loop(loop: type) -> None:
    """Register the methods of `loop`, a class of calls."""
    for function in _functions_of(loop, vars(sys.modules[loop.__module__])):
        RETRY_LOOP[id(function.__code__)] = function.__code__


def register_module(name: str) -> None:
    """Register all functions and methods defined in a module; to be called at the end of the module."""
    namespace = vars(sys.modules[name])
    for thing in namespace.values():
        # Imported objects are skipped. Going through all their methods would take 5% of the library's import time.
        if getattr(thing, "__module__", None) == name:
            for function in _functions_of(thing, namespace):
                INTERNALS[id(function.__code__)] = function.__code__


def _functions_of(thing: object, namespace: dict[str, object]) -> Iterator[FunctionType]:
    """Yield a function, or the methods of a class, if they were defined in this namespace.

    This excludes imported functions, and the wrapper that an imported decorator returns, because all functions with
    that decorator share its code.
    """
    for each in vars(thing).values() if isinstance(thing, type) else (thing,):
        if isinstance(each, FunctionType) and each.__globals__ is namespace:
            yield each


def frame_outside() -> tuple[FrameType | None, int]:
    """Return the innermost frame outside the library and `contextlib`, and the `stacklevel` for a warning about it."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    level = 1
    while frame is not None and (id(frame.f_code) in INTERNALS or frame.f_globals is CONTEXTLIB):
        frame, level = frame.f_back, level + 1
    return frame, level


def without_internal_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop the frames of the retry loop and the limits, so that the caller sees one wrapper, not every attempt."""
    kept = [entry for entry in _entries(traceback) if id(entry.tb_frame.f_code) not in INTERNALS]
    rest = None
    for entry in reversed(kept):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


def given_up_inside(error: Exception, last_serial: int, own_wrappers: int) -> bool:
    """Return whether a supervised call inside this attempt gave up on `error`, or on a leaf of it.

    If so, the verdict of that call is newer than the attempt, and the traceback contains the wrapper of that call.
    Another call may also have given up on the error in the meantime, for example if both await the same failed future.
    The traceback then contains no wrapper but that of the attempt itself.

    Args:
        error: the error that ended the attempt.
        last_serial: the serial number of the newest verdict before the attempt.
        own_wrappers: the number of frames of the attempt's own wrapper in the traceback.
    """
    stack = [error]
    visited = set[int]()
    while stack:
        current = stack.pop()
        if id(current) in visited:
            continue
        visited.add(id(current))
        note = verdict(current)
        if note is not None and note.serial > last_serial:
            layers = [entry for entry in _entries(traceback_of(current)) if id(entry.tb_frame.f_code) in LAYERS]
            if len(layers) > (own_wrappers if current is error else 0):
                return True
        if is_group(current):
            stack.extend(exceptions_of(current))
    return False


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def drop_tracebacks(error: Exception, may_be_group: bool) -> None:  # noqa: FBT001 - a keyword takes longer
    """Remove the tracebacks of an error that outlives its attempt, and of its causes, contexts and leaves.

    A traceback refers to its frames, and the frames refer to the attempt's local variables. The error that the caller
    is handling, if any, is left unchanged.
    """
    set_traceback(error, None)
    # Most errors have neither a cause nor a context. The attributes are read in the ordinary way first, which takes
    # half the time; for a class that overrides them, `raw` reads the real attributes below.
    try:
        if not may_be_group and error.__context__ is None and error.__cause__ is None:
            return
    except Exception:  # noqa: S110 - reading an attribute has raised it
        pass
    # Errors are compared by identity, because an error need not be hashable.
    visited = {id(sys.exception())}
    stack: list[BaseException | None] = [error]
    while stack:
        other = stack.pop()
        if other is not None and id(other) not in visited:
            visited.add(id(other))
            set_traceback(other, None)
            stack += (cause_of(other), context_of(other))
            stack += members_of(other) if issubclass(type(other), BaseExceptionGroup) else ()
