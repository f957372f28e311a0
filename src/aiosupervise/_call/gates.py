"""The gate of an attempt: entered for each attempt, unless the attempt would wait for itself.

Theory of operation. A task that holds an asyncio lock or semaphore and acquires it again may wait forever: always for a
lock, and only under load for a semaphore. It is therefore always refused. The holders of gates are recorded by task,
because a child task has its own slot. A context variable would be inherited by child tasks, and could not be reset when
a coroutine is closed from elsewhere. The ids stay valid, because an entry is removed before its frame releases the
gate. Similarly, a plain function holds the lock or semaphore of `threading` by its thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeVar

from aiosupervise._policy.checks import name_of
from aiosupervise._policy.errors import GateError
from aiosupervise._policy.gate import AsyncGate, Gate, SyncGate

from .frames import register_module

R = TypeVar("R")

_NOT_REENTRANT = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition, type(threading.Lock()), threading.Semaphore)
_holders: Final[dict[tuple[int, int], str]] = {}
"""The name of the supervised function that holds a gate, by the ids of its task or thread, and of the gate."""


class _Passage:
    """One attempt inside a gate; `name` is that of the supervised function.

    Raises:
        GateError: if a call around this one, in the same task or thread, holds the gate, or if the gate suppresses an
            error. Cancellation and exit propagate regardless of the gate.
    """

    __slots__ = ("_gate", "_key", "_name")

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self._name = name
        self._key: tuple[int, int] | None = None

    def _check(self, holder: int) -> None:
        if isinstance(self._gate, _NOT_REENTRANT):
            key = holder, id(self._gate)
            if key in _holders:
                raise _refusal(self._gate, _holders[key], self._name)
            self._key = key

    def _hold(self) -> None:
        if self._key is not None:
            _holders[self._key] = self._name

    def _let_go(self) -> None:
        if self._key is not None:
            del _holders[self._key]

    def _suppression(self, method: str) -> GateError:
        gate = name_of(self._gate)
        rule = f"gate {gate} suppressed an error, so that the call would return None as if it had succeeded"
        return GateError(f"{rule}: let its {method} return None or False")


class AsyncPassage(_Passage):
    """One attempt of an async function inside its gate."""

    __slots__ = ()

    _gate: AsyncGate

    async def __aenter__(self) -> None:
        self._check(id(asyncio.current_task()))
        await self._gate.__aenter__()
        self._hold()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._let_go()
        if await self._gate.__aexit__(kind, error, traceback) and issubclass(type(error), Exception):
            raise self._suppression("__aexit__") from error


class SyncPassage(_Passage):
    """One attempt of a plain function inside its gate."""

    __slots__ = ()

    _gate: SyncGate

    def __enter__(self) -> None:
        self._check(threading.get_ident())
        self._gate.__enter__()
        self._hold()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._let_go()
        if self._gate.__exit__(kind, error, traceback) and issubclass(type(error), Exception):
            raise self._suppression("__exit__") from error


def call_inside(gate: SyncGate, name: str, func: Callable[..., R], /, *args: object, **kwargs: object) -> R:
    """Call a plain function inside its gate; `name` is the name of the function."""
    with SyncPassage(gate, name):
        return func(*args, **kwargs)


def _refusal(gate: Gate, holder: str, name: str) -> GateError:
    return GateError(
        f"{name} was called inside of an attempt of {holder}, which holds the same gate ({name_of(gate)}), so that it "
        f"could wait for itself for ever: give the gate to one of them only, such as @supervise(policy.replace("
        f"gate=None)) above {holder}, or give each a gate of its own"
    )


register_module(__name__)
