"""Arguments that can be read only once, such as a generator that an attempt has started. Pure: no clock, no asyncio."""

from __future__ import annotations

import functools
import opcode
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from types import CodeType, CoroutineType, FrameType
from typing import Any, TypeAlias

from .checks import name_of

Arguments: TypeAlias = tuple[Callable[..., object], tuple[Any, ...], Mapping[str, Any]]
"""The function of a call, its positional arguments and its keyword arguments."""

# `CoroutineType` is used instead of the abstract `Coroutine`, because an object that only has the same methods may be
# awaited many times.
_READ_ONCE = (Generator, AsyncGenerator, CoroutineType)
# A shortcut: most arguments are of these types.
_READ_OFTEN = frozenset((str, int, float, bool, bytes, dict, list, tuple, type(None)))
_RESUME = opcode.opmap["RESUME"]


def read_once(call: Arguments) -> tuple[tuple[str, object], ...]:
    """Return the arguments of a call that can be read only once, each with its name for error messages.

    Other iterators, such as files, are not included: a websocket or a database cursor is an iterator too, and all
    attempts may use it.
    """
    func, args, kwargs = call
    # Most calls have no argument that can be read only once, so they need no names.
    for value in args:
        if type(value) not in _READ_OFTEN and _can_be_read_once(type(value)):
            return _named(call)
    for value in kwargs.values():
        if type(value) not in _READ_OFTEN and _can_be_read_once(type(value)):
            return _named(call)
    return _named(call) if issubclass(type(func), functools.partial) else ()


def _named(call: Arguments) -> tuple[tuple[str, object], ...]:
    return tuple(pair for pair in _arguments_of(*call) if _can_be_read_once(type(pair[1])))


def used_up(arguments: Iterable[tuple[str, object]]) -> str | None:
    """Return a sentence about the first of these generators and coroutines that has been started; None if none has."""
    for name, value in arguments:
        if _has_begun(value):
            description = f"the {_term_for(type(value))} {name_of(value)}"
            return f"{name}, {description}, was begun and cannot be read again: pass a function that creates it"
    return None


def _can_be_read_once(kind: type) -> bool:
    # Looking for a method is much faster than checking against an abstract base class.
    return (hasattr(kind, "throw") or hasattr(kind, "athrow")) and issubclass(kind, _READ_ONCE)


def _term_for(kind: type) -> str:
    if issubclass(kind, Generator):
        return "generator"
    return "async generator" if issubclass(kind, AsyncGenerator) else "coroutine"


def _arguments_of(
    func: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    """Yield the arguments of a call, including those in partials, each with its name for error messages."""
    for number, value in enumerate(args, 1):
        yield f"argument {number}", value
    for name, value in kwargs.items():
        yield f"argument {name}", value
    if isinstance(func, functools.partial):
        yield from _arguments_of(func.func, func.args, func.keywords)


def _has_begun(value: Any) -> bool:
    """Return whether a generator or coroutine has been started; assume so if it is not implemented by Python itself."""
    prefix = next((prefix for prefix in ("gi", "ag", "cr") if hasattr(type(value), f"{prefix}_frame")), None)
    if prefix is None:
        return True
    frame: FrameType | None = getattr(value, f"{prefix}_frame")
    return frame is None or _has_resumed(frame, getattr(value, f"{prefix}_code"))


def _has_resumed(frame: FrameType, code: CodeType) -> bool:
    """Return whether the frame of a generator has run beyond its creation, which ends at the first RESUME.

    `inspect.getgeneratorstate` would also work, but has no counterpart for async generators before Python 3.12.
    """
    return frame.f_lasti >= 2 * code.co_code[::2].index(_RESUME)
