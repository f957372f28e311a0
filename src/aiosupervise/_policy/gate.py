"""The gate of a policy: a context manager around every attempt, or a function of a call's arguments that returns one.

An async function needs an async context manager, because waiting for a synchronous one would block its event loop. A
plain function needs a synchronous one, because it cannot await. A policy accepts both kinds; whether its gate suits a
function is checked when the function is decorated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias

from .checks import is_async_callable, name_of, safe_repr

AsyncGate: TypeAlias = "AbstractAsyncContextManager[object, bool | None]"
SyncGate: TypeAlias = "AbstractContextManager[object, bool | None]"
Gate: TypeAlias = "AsyncGate | SyncGate"
GateOf: TypeAlias = "Callable[..., Gate]"

_ASYNC = "an async context manager that can be entered many times, such as asyncio.Semaphore(10)"
_SYNC = "a synchronous context manager that can be entered many times, such as threading.Semaphore(10)"

# The classes of the objects that an `@asynccontextmanager` or `@contextmanager` function returns; they have no public
# names.
_ENTERED_ONCE = (contextlib._AsyncGeneratorContextManager, contextlib._GeneratorContextManager)  # noqa: SLF001


def check_gate(gate: object) -> None:
    """Raise unless `gate` is None, a gate, or a plain function."""
    rule = f"gate must be {_ASYNC}, for plain functions {_SYNC}, or a function of the call's arguments that returns one"
    if gate is None or _is_gate(gate, is_async=True) or _is_gate(gate, is_async=False):
        return
    if isinstance(gate, _ENTERED_ONCE):
        kind = "asynccontextmanager" if isinstance(gate, _ENTERED_ONCE[0]) else "contextmanager"
        raise TypeError(f"{rule}; an object that an @{kind} function returns can be entered only once")
    if isinstance(gate, type) or not callable(gate):
        raise TypeError(f"{rule}; got {safe_repr(gate)}")
    if is_async_callable(gate):
        raise TypeError(f"{rule}; {name_of(gate)} is async: make it a plain def")


def check_gate_fits(gate: object, name: str, *, is_async: bool, repair: str) -> None:
    """Raise if a gate does not suit async or synchronous code; a gate that is itself a function is not checked.

    `repair` says how to make synchronous code async.
    """
    if not _is_gate(gate, is_async=is_async) and _is_gate(gate, is_async=not is_async):
        if is_async:
            why = f"gate {name_of(gate)} is synchronous, and waiting for it would block the event loop of {name}"
            raise TypeError(f"{why}: give {_ASYNC}")
        why = f"gate {name_of(gate)} is async, and {name} is not, so that it cannot await it"
        raise TypeError(f"{why}: give {_SYNC}, or {repair}")


def check_gate_of_loop(gate: object, name: str, *, is_async: bool, repair: str) -> None:
    """Raise unless the attempts of a loop over a policy can enter its gate; `repair` is as in `check_gate_fits`."""
    if gate is not None and not _is_gate(gate, is_async=True) and not _is_gate(gate, is_async=False):
        rule = f"gate {name_of(gate)} is a function of a call's arguments, and a loop over a Policy has none"
        raise TypeError(f"{rule}: call it, and loop over policy.replace(gate=...)")
    check_gate_fits(gate, name, is_async=is_async, repair=repair)


def gate_for(gate: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_async: bool) -> Any:
    """Return the gate of a call with these arguments: the policy's gate or, if that is a function, its return value.

    Raises:
        TypeError: if the function does not return an async context manager or, for a plain function, a synchronous one.

    """
    if _is_gate(gate, is_async=is_async):
        return gate
    found = gate(*args, **kwargs)
    if not _is_gate(found, is_async=is_async):
        rule = f"gate {name_of(gate)} must return {_ASYNC if is_async else _SYNC}"
        raise TypeError(f"{rule}; got {safe_repr(type(found))}")
    return found


def _is_gate(gate: object, *, is_async: bool) -> bool:
    enter, leave = ("__aenter__", "__aexit__") if is_async else ("__enter__", "__exit__")
    return hasattr(gate, enter) and hasattr(gate, leave) and not isinstance(gate, (type, *_ENTERED_ONCE))
