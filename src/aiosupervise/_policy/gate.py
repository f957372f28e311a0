"""The gate of a policy: an async context manager, or a function of a call's arguments that returns one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeGuard

from .checks import is_async_callable, name_of, safe_repr

Gate: TypeAlias = "AbstractAsyncContextManager[object, bool | None]"
GateOf: TypeAlias = Callable[..., Gate]

_RULE = "an async context manager that can be entered many times, such as asyncio.Semaphore(10)"

# The class of the objects that an @asynccontextmanager function returns has no public name.
_ENTERED_ONCE = contextlib._AsyncGeneratorContextManager  # noqa: SLF001


def check_gate(gate: object) -> None:
    """Raise unless `gate` is None, a gate, or a plain function."""
    rule = f"gate must be {_RULE}, or a function of the call's arguments that returns one"
    if gate is None or _is_gate(gate):
        return
    if isinstance(gate, _ENTERED_ONCE):
        raise TypeError(f"{rule}; an object that an @asynccontextmanager function returns can be entered only once")
    if isinstance(gate, type) or not callable(gate):
        raise TypeError(f"{rule}; got {safe_repr(gate)}")
    if is_async_callable(gate):
        raise TypeError(f"{rule}; {name_of(gate)} is async: make it a plain def")


def gate_for(gate: Gate | GateOf | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gate | None:
    """Return the gate of a call with these arguments.

    Raises:
        TypeError: if a function returns something other than a gate.

    """
    if gate is None or _is_gate(gate):
        return gate
    found = gate(*args, **kwargs)  # type: ignore[operator]  # check_gate has seen it
    if not _is_gate(found):
        raise TypeError(f"gate {name_of(gate)} must return {_RULE}; got {safe_repr(type(found))}")
    return found


def _is_gate(gate: object) -> TypeGuard[Gate]:
    is_manager = hasattr(gate, "__aenter__") and hasattr(gate, "__aexit__")
    return is_manager and not isinstance(gate, (type, _ENTERED_ONCE))
