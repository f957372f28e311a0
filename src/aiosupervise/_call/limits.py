"""The limits of an attempt: the deadline of the call, inside of it the gate, inside of that the attempt's timeout."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiosupervise._policy.errors import AttemptTimeout, DeadlineExceeded
from aiosupervise._policy.gate import Gate
from aiosupervise._policy.policy import Policy

from .frames import register_module
from .gates import await_inside

R = TypeVar("R")


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


class Limits:
    """The limits of the attempts of one call.

    Args:
        policy: the policy of the call.
        name: the name of the supervised function.
        gate: the gate of the call.
        started: the loop's time at the start of the call.

    """

    __slots__ = ("gate", "name", "policy", "started")

    def __init__(self, policy: Policy, name: str, gate: Gate | None, started: float) -> None:
        self.policy = policy
        self.name = name
        self.gate = gate
        self.started = started

    async def attempt(self, func: Callable[[], Awaitable[R]]) -> R:
        """Await one call of `func` within the limits."""
        seconds = self.policy.deadline
        if seconds is None:
            return await self._inside_gate(func)
        gated = functools.partial(self._inside_gate, func)
        return await await_until(self.started + seconds, gated, DeadlineExceeded, seconds)

    async def _inside_gate(self, func: Callable[[], Awaitable[R]]) -> R:
        if self.gate is None:
            return await self._with_timeout(func)
        return await await_inside(self.gate, self.name, functools.partial(self._with_timeout, func))

    async def _with_timeout(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.attempt_timeout
        if seconds is None:
            return await func()
        return await await_until(now() + seconds, func, AttemptTimeout, seconds)


async def await_until(
    when: float, func: Callable[[], Awaitable[R]], expired: type[AttemptTimeout | DeadlineExceeded], seconds: float
) -> R:
    """Await `func()`, and raise `expired(seconds)` if the loop's time reaches `when` before it is done.

    `asyncio.timeout_at` cancels the function and turns the CancelledError that comes out of it into a TimeoutError.
    So only a TimeoutError that follows a CancelledError is the timeout's; any other is the function's own.
    """
    # asyncio.timeout_at would swallow a pending cancel if its time has passed when it is entered:
    # https://github.com/python/cpython/issues/134471
    if when <= now():
        raise expired(seconds)
    interrupted = False
    try:
        async with asyncio.timeout_at(when):
            try:
                return await func()
            except asyncio.CancelledError:
                interrupted = True
                raise
    except TimeoutError as error:
        if not interrupted:
            raise
        # asyncio sets `__cause__` only from Python 3.11.3 on: https://github.com/python/cpython/issues/102780
        cancellation = error.__context__
    # The traceback of the cancellation shows where the attempt was interrupted, and holds this frame.
    try:
        raise expired(seconds) from cancellation
    finally:
        del cancellation


register_module(__name__)
