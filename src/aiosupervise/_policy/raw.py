"""Access to exceptions that bypasses the overrides in their classes, so that it never raises.

An exception class can be a proxy whose `__getattr__` fails, or define a property in place of `__notes__`, `__class__`
or `with_traceback`. An error raised there would replace the one that the caller should get. The library therefore uses
the descriptors of the builtin classes, and `type` instead of `__class__`, which `isinstance` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, TypeGuard

_BASE = vars(BaseException)

# Each function reads or sets an attribute as if the class of the exception overrode nothing.
cause_of: Final[Callable[[BaseException], BaseException | None]] = _BASE["__cause__"].__get__
context_of: Final[Callable[[BaseException], BaseException | None]] = _BASE["__context__"].__get__
traceback_of: Final[Callable[[BaseException], TracebackType | None]] = _BASE["__traceback__"].__get__
attributes_of: Final[Callable[[BaseException], dict[str, object]]] = _BASE["__dict__"].__get__
members_of: Final[Callable[[BaseException], tuple[BaseException, ...]]] = vars(BaseExceptionGroup)["exceptions"].__get__
message_of: Final[Callable[[BaseException], str]] = vars(BaseExceptionGroup)["message"].__get__
set_context: Final[Callable[[BaseException, BaseException | None], None]] = _BASE["__context__"].__set__
set_traceback: Final[Callable[[BaseException, TracebackType | None], object]] = BaseException.with_traceback
type_name_of: Final[Callable[[type], str]] = vars(type)["__name__"].__get__
module_of: Final[Callable[[type], object]] = vars(type)["__module__"].__get__
mro_of: Final[Callable[[type], tuple[type, ...]]] = vars(type)["__mro__"].__get__


def is_group(error: BaseException) -> TypeGuard[ExceptionGroup[Exception]]:
    """Return whether an error is an ExceptionGroup, without reading its `__class__` as `isinstance` does."""
    return issubclass(type(error), ExceptionGroup)


def leaves(error: Exception) -> Iterator[Exception]:
    """Yield the leaves of a group, at any depth and in order; an error that is not a group is its own leaf.

    A group that several groups share is visited only once, because visiting it on every path can take exponential time.
    """
    stack = [error]
    visited = set[int]()
    while stack:
        error = stack.pop()
        if not is_group(error):
            yield error
        elif id(error) not in visited:
            visited.add(id(error))
            stack.extend(reversed(exceptions_of(error)))


def exceptions_of(group: ExceptionGroup[Exception]) -> tuple[Exception, ...]:
    """Return the members of a group, ignoring an override of `exceptions` in its class."""
    members: tuple[Exception, ...] = members_of(group)  # type: ignore[assignment]  # the rule of ExceptionGroup
    return members


def copy_state(group: BaseException, copy: BaseException) -> None:
    """Copy the cause, the context, the traceback and the notes of an error to its copy."""
    notes = attributes_of(group).get("__notes__")
    if isinstance(notes, list):
        attributes_of(copy)["__notes__"] = list(notes)
    for name in ("__cause__", "__context__", "__traceback__", "__suppress_context__"):
        attribute = _BASE[name]
        attribute.__set__(copy, attribute.__get__(group))
