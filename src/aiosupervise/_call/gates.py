"""The gate of an attempt: entered for each, unless the attempt would wait for itself.

Theory of operation. A task that holds an asyncio lock or semaphore and acquires it again may wait for ever: at once if
it is a lock, and only under load if it is a semaphore. So it is refused always. Who holds a gate is known by task,
since a child task has a slot of its own. A context variable would be inherited by child tasks, and could not be reset
when a coroutine is closed from elsewhere. The ids stay valid: an entry is removed before its frame lets go of the gate.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiosupervise._policy.checks import name_of
from aiosupervise._policy.errors import GateError
from aiosupervise._policy.gate import Gate

from .frames import register_module

R = TypeVar("R")

_NOT_REENTRANT = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition)
_holders: Final[dict[tuple[int, int], str]] = {}
"""The name of the supervised function that holds a gate, by the ids of its task and of the gate."""


async def await_inside(gate: Gate, name: str, func: Callable[[], Awaitable[R]]) -> R:
    """Await `func()` inside of the gate; `name` is that of the supervised function.

    Raises:
        GateError: if a call around this one, in the same task, holds the gate, or if the gate suppresses an error.

    """
    if isinstance(gate, _NOT_REENTRANT):
        key = (id(asyncio.current_task()), id(gate))
        if key in _holders:
            raise _refusal(gate, _holders[key], name)
        func = functools.partial(_await_as_holder, key, name, func)
    failure: BaseException | None = None
    try:
        async with gate:
            try:
                return await func()
            except BaseException as error:
                failure = error
                raise
        rule = f"gate {name_of(gate)} suppressed an error, so that the call would return None as if it had succeeded"
        raise GateError(f"{rule}: let its __aexit__ return None or False") from failure
    finally:
        # The traceback of the error holds this frame.
        del failure


async def _await_as_holder(key: tuple[int, int], name: str, func: Callable[[], Awaitable[R]]) -> R:
    _holders[key] = name
    try:
        return await func()
    finally:
        del _holders[key]


def _refusal(gate: Gate, holder: str, name: str) -> GateError:
    return GateError(
        f"{name} was called inside of an attempt of {holder}, which holds the same gate ({name_of(gate)}), so that it "
        f"could wait for itself for ever: give the gate to one of them only, such as @supervise(policy.replace("
        f"gate=None)) above {holder}, or give each a gate of its own"
    )


register_module(__name__)
