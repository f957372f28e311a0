"""Checks of arguments, and the names of things in error messages.

Each error names the parameter, the rule and what was given.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types


def check_seconds(name: str, value: object, *, zero: bool, none: str | None = None) -> None:
    """Raise unless `value` is a finite number of seconds; `none` says what None means, if it is allowed."""
    rule = f"{name} must be a finite number of seconds, {'0 or more' if zero else 'above 0'}"
    rule += f", or None for {none}" if none else ""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{rule}; got {safe_repr(value)}")
    # Written so that NaN fails it too, and an int that is too large for a float.
    if not 0 <= value <= sys.float_info.max or (value == 0 and not zero):
        raise ValueError(f"{rule}; got {safe_repr(value)}")


def check_count(name: str, value: object, *, least: int, none: str | None = "no limit") -> None:
    """Raise unless `value` is an int of at least `least`; `none` says what None means, if it is allowed."""
    rule = f"{name} must be an integer of at least {least}"
    rule += f", or None for {none}" if none else ""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{rule}; got {safe_repr(value)}")
    if value < least:
        raise ValueError(f"{rule}; got {safe_repr(value)}")


def check_name(value: object) -> None:
    """Raise unless a name is a str or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name must be a str, or None; got {safe_repr(value)}")


def safe_repr(value: object) -> str:
    """Return the repr of a value for an error message, or a substitute if it raises, as that of a huge int does."""
    try:
        return repr(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be printed"


def safe_str(value: object) -> str:
    """Return the text of a value, or a substitute if its `__str__` raises."""
    try:
        return str(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be read"


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


IF_IT_BLOCKS = (
    "if it blocks, call it in a thread: https://aiosupervise.readthedocs.io/en/stable/how-to/blocking-functions.html"
)
"""The repair for a plain function that was given where an async one is wanted."""


def inner_function(func: object) -> object:
    """Return the function inside of partials and bound methods, or `func` itself."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, types.MethodType):
            func = func.__func__
        else:
            return func


def is_async_callable(func: object) -> bool:
    """Return whether `func` is an async function, or an object with an async `__call__`, or a partial of one."""
    func = inner_function(func)
    if isinstance(func, type):
        return False
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


def name_of(thing: object) -> str:
    """Return the name that a user knows a function, a coroutine or an object by."""
    try:
        thing = inner_function(thing)
        return str(getattr(thing, "__name__", None) or type(thing).__name__)
    except Exception:  # of a proxy, whose attributes may raise anything
        return type(thing).__name__
