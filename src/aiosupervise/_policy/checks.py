"""Checks of arguments: each error names the parameter, the rule and what was given."""

from __future__ import annotations

import functools
import inspect
import sys
import types


def check_seconds(name: str, value: object, *, zero: bool, none: str | None = None) -> None:
    """Refuse `value` unless it is a finite number of seconds; `none` says what None means, if it is allowed."""
    rule = f"{name} must be a finite number of seconds, {'0 or more' if zero else 'above 0'}"
    rule += f", or None for {none}" if none else ""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{rule}; got {shown(value)}")
    if not 0 <= value <= sys.float_info.max or (value == 0 and not zero):  # False for NaN, and for ints beyond floats
        raise ValueError(f"{rule}; got {shown(value)}")


def check_count(name: str, value: object, *, least: int, none: str | None = "no limit") -> None:
    """Refuse `value` unless it is an int of at least `least`; `none` says what None means, if it is allowed."""
    rule = f"{name} must be an int of at least {least}"
    rule += f", or None for {none}" if none else ""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{rule}; got {shown(value)}")
    if value < least:
        raise ValueError(f"{rule}; got {shown(value)}")


def check_name(value: object) -> None:
    """Refuse a name that is neither text nor None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name must be a str, or None; got {shown(value)}")


def shown(value: object) -> str:
    """Return the text of a value for an error message; an int can be too long for Python to print."""
    try:
        return repr(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be printed"


_ERROR_TEXT = 300  # characters


def error_text(error: BaseException) -> str:
    """Return the type and the message of an error as one line of bounded length, for logs.

    It is the `str` of the error and never its repr, which may quote arguments. Characters that do not print, such as
    line breaks and terminal codes, are escaped.
    """
    kind = type(error).__name__
    try:
        text = str(error)[:_ERROR_TEXT]
        if not text.isprintable():
            text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
        return f"{kind}: {text[:_ERROR_TEXT]}" if text else kind
    except Exception:
        return f"{kind}, whose message cannot be read"


def innermost(func: object) -> object:
    """Return the function inside partials and bound methods, or `func` itself."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, types.MethodType):
            func = func.__func__
        else:
            return func


def is_async_callable(func: object) -> bool:
    """Tell whether calling `func` gives a coroutine: an async function, or an object with an async `__call__`."""
    func = innermost(func)
    if isinstance(func, type):
        return False
    call = getattr(func, "__call__", None)  # noqa: B004 - what it is matters, not that it is there
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(call)


def name_of(thing: object) -> str:
    """Return the name by which a user knows a function, a coroutine or an object."""
    thing = innermost(thing)
    return getattr(thing, "__name__", None) or type(thing).__name__
