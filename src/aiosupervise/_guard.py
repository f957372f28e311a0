"""The limits of a call's attempts: the deadline, inside it the gate, inside that the attempt's timeout."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ._errors import AttemptTimeout, DeadlineExceeded
from ._policy import Policy

R = TypeVar("R")


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


class Guard:
    """The limits of one call's attempts: the deadline, inside it the gate, inside that the attempt's timeout."""

    __slots__ = ("policy", "started")

    def __init__(self, policy: Policy, started: float) -> None:
        self.policy = policy
        self.started = started

    async def attempt(self, func: Callable[[], Awaitable[R]]) -> R:
        """Make one attempt within the limits."""
        seconds = self.policy.deadline
        if seconds is None:
            return await self._through_gate(func)
        gated = functools.partial(self._through_gate, func)
        return await until(self.started + seconds, gated, DeadlineExceeded, seconds)

    async def _through_gate(self, func: Callable[[], Awaitable[R]]) -> R:
        if self.policy.gate is None:
            return await self._timed(func)
        async with self.policy.gate:
            return await self._timed(func)

    async def _timed(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.attempt_timeout
        if seconds is None:
            return await func()
        return await until(now() + seconds, func, AttemptTimeout, seconds)


async def until(
    when: float, func: Callable[[], Awaitable[R]], expired: type[AttemptTimeout | DeadlineExceeded], seconds: float
) -> R:
    """Await `func()` until the loop's time is `when`; raise `expired` only if that is what ended it.

    Ours is a timeout that came as a CancelledError through the function: a TimeoutError of its own is not.
    """
    if when <= now():  # a timeout of 0 would swallow a pending cancel, gh-134471
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
        where_it_stood = error.__context__
    try:
        raise expired(seconds) from where_it_stood
    finally:
        del where_it_stood
