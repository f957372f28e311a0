"""The gate of an attempt: entered for each attempt, unless the attempt would wait for a lock that it holds itself.

Theory of operation. A task that holds an asyncio lock or semaphore and acquires it again may wait forever: always for a
lock, and only under load for a semaphore. Acquiring it again is therefore always an error. The holders of gates are
recorded by task, because a child task acquires a slot of its own. A context variable would be inherited by child tasks,
and could not be reset when a coroutine is closed in another context. The ids in an entry remain valid, because the
entry is removed before the gate is released. For plain functions, the holder of a lock or semaphore of `threading` is
recorded by thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiosupervise._policy.checks import name_of
from aiosupervise._policy.errors import GateError
from aiosupervise._policy.gate import Gate, GateOf

from .frames import register_module

R = TypeVar("R")

_NOT_REENTRANT = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition, type(threading.Lock()), threading.Semaphore)
_holders: Final[dict[tuple[int, int], str]] = {}
"""The name of the supervised function that holds a gate, by the ids of its task or thread, and of the gate."""


class GateLimit:
    """Runs the attempts of one call inside its gate, one at a time: `async with` for an async gate, otherwise `with`.

    Args:
        gate: the gate of the call.
        name: the name of the supervised function.

    Raises:
        GateError: if a call around this one, in the same task or thread, holds the gate, or if the gate suppresses an
            error. Cancellation and exit propagate regardless of the gate.
    """

    __slots__ = ("_gate", "_key", "_name")

    def __init__(self, gate: Gate | GateOf, name: str) -> None:
        # The gate is typed as Any, because it is either async or synchronous, and only the matching methods are called.
        self._gate: Any = gate
        self._name = name
        self._key: tuple[int, int] | None = None

    async def __aenter__(self) -> None:
        if isinstance(self._gate, _NOT_REENTRANT):
            self._check(id(asyncio.current_task()))
        await self._gate.__aenter__()
        if self._key is not None:
            _holders[self._key] = self._name

    def __enter__(self) -> None:
        if isinstance(self._gate, _NOT_REENTRANT):
            self._check(threading.get_ident())
        self._gate.__enter__()
        if self._key is not None:
            _holders[self._key] = self._name

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._key is not None:
            del _holders[self._key]
        if await self._gate.__aexit__(kind, error, traceback):
            self._refuse_to_suppress(error, "__aexit__")

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._key is not None:
            del _holders[self._key]
        if self._gate.__exit__(kind, error, traceback):
            self._refuse_to_suppress(error, "__exit__")

    def _check(self, holder: int) -> None:
        key = holder, id(self._gate)
        if key in _holders:
            raise GateError(
                f"{self._name} was called inside an attempt of {_holders[key]}, which holds the same gate "
                f"({name_of(self._gate)}), so that it could wait for itself forever: give the gate to one of them "
                f"only, with policy.replace(gate=None) for {_holders[key]}, or give each a gate of its own"
            )
        self._key = key

    def _refuse_to_suppress(self, error: BaseException | None, method: str) -> None:
        if issubclass(type(error), Exception):
            rule = f"gate {name_of(self._gate)} suppressed an error, so that the call would return None as if it had"
            raise GateError(f"{rule} succeeded: let its {method} return None or False") from error


def call_inside(limit: GateLimit, func: Callable[..., R], /, *args: object, **kwargs: object) -> R:
    """Call a plain function inside its gate."""
    with limit:
        return func(*args, **kwargs)


register_module(__name__)
