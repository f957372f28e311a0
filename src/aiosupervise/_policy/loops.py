"""Iteration over a policy: the types of its loops and attempts, and the hook through which `_call` creates the loops.

A policy is pure, but the loops over it are not. The policy therefore knows only their types, and `_call.blocks`, which
imports the policy, registers the loops.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import FrameType
from typing import Any, Protocol


class _BlockAttempt(Protocol):
    """An attempt of a block, async or synchronous. Its error is dropped if another attempt follows."""

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        ...

    @property
    def previous_error(self) -> Exception | None:
        """The error of the previous attempt, without its traceback; None in the first attempt."""
        ...

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline; None if the policy has none."""
        ...


class SyncAttempt(_BlockAttempt, AbstractContextManager[None, bool], Protocol):
    """An attempt of a block in synchronous code: `with attempt`."""


class AsyncAttempt(_BlockAttempt, AbstractAsyncContextManager[None, bool], Protocol):
    """An attempt of a block in an async function: `async with attempt`."""


class SyncAttempts(Iterator[SyncAttempt], Protocol):
    """The attempts of a block in synchronous code."""

    def close(self) -> None:
        """End the loop: no further attempt is made.

        Raises:
            RuntimeError: if the loop is waiting for its next attempt, in another task or thread.
        """


class AsyncAttempts(AsyncIterable[AsyncAttempt], Protocol):
    """The attempts of a block in an async function."""

    def __anext__(self) -> Awaitable[AsyncAttempt]: ...

    async def aclose(self) -> None:
        """End the loop: no further attempt is made.

        Raises:
            RuntimeError: if the loop is waiting for its next attempt, in another task or thread.
        """


class Loops:
    """The functions that create the loops over a policy, given the policy and the frame of the `for` statement."""

    plain: Callable[[Any, FrameType], SyncAttempts]
    in_coroutine: Callable[[Any, FrameType], AsyncAttempts]


loops = Loops()
