"""Iteration over a policy: the attempts that its loops yield, and the hook through which `_call` creates the loops.

A policy is pure, but its loops are not. The policy therefore knows only the types, and `_call.blocks`, which imports
the policy, registers the loops.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Protocol


class _BlockAttempt(Protocol):
    """An attempt of a block, async or synchronous."""

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


class SyncAttempt(_BlockAttempt, Protocol):
    """An attempt of a block in synchronous code: `with attempt`."""

    def __enter__(self) -> None:
        """Begin the attempt."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool:
        """End the attempt; return True if its error is dropped because another attempt follows."""
        ...


class AsyncAttempt(_BlockAttempt, Protocol):
    """An attempt of a block in an async function: `async with attempt`."""

    async def __aenter__(self) -> None:
        """Begin the attempt."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool:
        """End the attempt; return True if its error is dropped because another attempt follows."""
        ...


class Loops:
    """The functions that create the loops over a policy, given the policy and the frame that iterates."""

    plain: Callable[[Any, FrameType], Iterator[SyncAttempt]]
    in_coroutine: Callable[[Any, FrameType], AsyncIterator[AsyncAttempt]]


loops = Loops()
