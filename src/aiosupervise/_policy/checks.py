"""Argument checks, and the names of objects in error messages.

Each error names the parameter, the rule and the given value.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import types
from datetime import timedelta

from .raw import is_group, leaves, type_name_of


def check_seconds(name: str, value: object, *, zero: bool, none: str | None = None) -> None:
    """Raise unless `value` is a finite number of seconds; `none` states what None means, if it is allowed."""
    rule = f"{name} must be a finite number of seconds, {'0 or more' if zero else 'above 0'}"
    rule += f", or None for {none}" if none else ""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{rule}; got {safe_repr(value)}")
    # The condition is written so that NaN, and an int that is too large for a float, also fail the check.
    if not 0 <= value <= sys.float_info.max or (value == 0 and not zero):
        raise ValueError(f"{rule}; got {safe_repr(value)}")


def check_retry_after(name: str, value: object) -> None:
    """Raise unless `value` is a number of seconds or a timedelta. Any number is allowed, as servers may send any."""
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise TypeError(f"{name} must be a number of seconds, or a timedelta; got {safe_repr(value)}")


def retry_after_of(value: object) -> float | None:
    """Return the seconds that a server asks for; None if `value` is not a number or a timedelta.

    Libraries and servers may send any value. A negative number is treated as 0, an infinite one as the largest float,
    and NaN like a value of another type.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124 - NaN
        return None
    # An int can be too large for a float.
    return float(min(max(value, 0), sys.float_info.max))


def check_count(name: str, value: object, *, least: int, none: str | None = "no limit") -> None:
    """Raise unless `value` is an int of at least `least`; `none` states what None means, if it is allowed."""
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


# The number of characters of a text that an error message shows.
_SHOWN_TEXT = 60


def safe_repr(value: object) -> str:
    """Return the text for a setting in an error message: the repr of a string, number or class, or a function's name.

    Any other value is represented by its type, because a repr may reveal secrets. The repr of an error, for example,
    quotes its arguments.
    """
    kind = type(value)
    try:
        if kind is str:
            return repr(value)[:_SHOWN_TEXT]
        if value is None or issubclass(kind, (int, float, type)):
            return repr(value)
        if inspect.isroutine(inner_function(value)):
            return name_of(value)
    except Exception:
        # The repr of a huge int raises, and so may any attribute of a proxy.
        return f"a value of type {kind.__name__} that cannot be printed"
    return f"a value of type {kind.__name__}"


def kind_of(value: object) -> str:
    """Return the text for an input or result, which may be secret: the repr of a number or None, otherwise the type."""
    kind = type(value)
    return safe_repr(value) if kind in (bool, int, float, type(None)) else f"a value of type {kind.__name__}"


def safe_str(value: object) -> str:
    """Return the text of a value, or a substitute if its `__str__` raises."""
    try:
        return str(value)
    except Exception:
        return f"a value of type {type_name_of(type(value))} that cannot be read"


def line_of(value: object) -> str:
    """Return the text of a value as one line of bounded length, with unprintable characters escaped."""
    return printable(safe_str(value)[:_SHOWN_TEXT])


_ERROR_TEXT = 300  # characters

# The limits for a group, chosen so that its text shows the types of several leaves.
_SHOWN_LEAVES = 10
_LEAF_TEXT = 60  # characters


def error_text(error: BaseException, *, join_lines: bool = False) -> str:
    """Return the type and the message of an error as one line of bounded length, for logs and notes.

    It uses the `str` of the error and never its repr, which may quote arguments. Unprintable characters, such as line
    breaks and terminal codes, are escaped; `join_lines` replaces line breaks and the indentation after them with a
    space. The text of a group is followed by those of its leaves.
    """
    text = _message_of(error, join_lines=join_lines)
    if is_group(error):
        shown = itertools.islice(leaves(error), _SHOWN_LEAVES)
        named = "; ".join(_message_of(leaf, join_lines=join_lines)[:_LEAF_TEXT] for leaf in shown)
        text = f"{text}: {named}"
    return text[: len(type_name_of(type(error))) + len(": ") + _ERROR_TEXT]


def _message_of(error: BaseException, *, join_lines: bool) -> str:
    kind = printable(type_name_of(type(error)))
    try:
        text = str(error)[:_ERROR_TEXT]
        if join_lines:
            text = " ".join(filter(None, map(str.strip, text.splitlines())))
        text = printable(text)
    except Exception:
        return f"{kind}, whose message cannot be read"
    return f"{kind}: {text}" if text else kind


def printable(text: str) -> str:
    """Return a text with its unprintable characters, such as line breaks and terminal codes, escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


IF_IT_BLOCKS = (
    "if it blocks, call it in a thread: https://aiosupervise.readthedocs.io/en/stable/how-to/blocking-functions.html"
)
"""The advice in the error message about a plain function that was passed where an async one is required."""


def inner_function(func: object) -> object:
    """Return the function inside partials and bound methods, or `func` itself."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, types.MethodType):
            func = func.__func__
        else:
            return func


def is_async_callable(func: object) -> bool:
    """Return whether `func` is an async function, an object with an async `__call__`, or a partial of one."""
    func = inner_function(func)
    if isinstance(func, type):
        return False
    if inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__):
        return True
    # Before Python 3.12 introduced `inspect.markcoroutinefunction`, asyncio marked functions with an `object()`.
    # asgiref does so on Python 3.11, and `unittest.mock.create_autospec` also in early releases of 3.12.
    return type(inspect.getattr_static(func, "_is_coroutine", None)) is object


def name_of(thing: object) -> str:
    """Return the name by which a user knows a function, a coroutine or an object."""
    try:
        thing = inner_function(thing)
        return str(getattr(thing, "__name__", None) or type(thing).__name__)
    except Exception:
        # The attributes of a proxy may raise any error.
        return type(thing).__name__
