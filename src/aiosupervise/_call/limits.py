"""The limits of an attempt, from the outside in: the deadline of the call, the gate, and the attempt's timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ParamSpec, TypeVar

from aiosupervise._policy.errors import AttemptTimeout, DeadlineExceeded
from aiosupervise._policy.gate import AsyncGate
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.raw import context_of, set_context

from .frames import register_module
from .gates import AsyncPassage

P = ParamSpec("P")
R = TypeVar("R")


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


class Limits:
    """The limits of the attempts of one call, entered for each: `async with limits`.

    Args:
        policy: the policy of the call.
        name: the name of the supervised function.
        gate: the gate of the call.
        started: the loop's time at the start of the call.

    """

    __slots__ = ("_entered", "gate", "name", "policy", "started")

    def __init__(self, policy: Policy, name: str, gate: AsyncGate | None, started: float) -> None:
        self.policy = policy
        self.name = name
        self.gate = gate
        self.started = started
        self._entered: list[AbstractAsyncContextManager[None]] = []

    async def attempt(self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await one call of `func` within the limits."""
        async with self:
            return await func(*args, **kwargs)

    def _each(self) -> Iterator[AbstractAsyncContextManager[None]]:
        """Yield the limits from the outside in; the attempt's timeout begins when the gate has been entered."""
        deadline, timeout = self.policy.deadline, self.policy.attempt_timeout
        if deadline is not None:
            yield TimeLimit(self.started + deadline, DeadlineExceeded, deadline)
        if self.gate is not None:
            yield AsyncPassage(self.gate, self.name)
        if timeout is not None:
            yield TimeLimit(now() + timeout, AttemptTimeout, timeout)

    async def __aenter__(self) -> None:
        try:
            for limit in self._each():
                await limit.__aenter__()
                self._entered.append(limit)
        except BaseException as error:
            if self._entered:
                await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        last = error
        while self._entered:
            try:
                await self._entered.pop().__aexit__(None if last is None else type(last), last, traceback)
            except BaseException as raised:
                last = raised
        # The traceback of an error that a limit raises holds this frame.
        try:
            if last is not None and last is not error:
                raise_again(last)
        finally:
            del last, error


def raise_again(error: BaseException) -> None:
    """Raise an error with its existing context, which Python would otherwise replace with the error being handled."""
    context = context_of(error)
    try:
        raise error
    finally:
        set_context(error, context)
        del error, context


class TimeLimit:
    """Raises `expired(seconds)` from its block if the loop's time reaches `when` before the block is done.

    `asyncio.timeout_at` cancels the block and turns the resulting CancelledError into a TimeoutError. Only a
    TimeoutError that follows a CancelledError is therefore the timeout's; any other was raised by the block itself.
    """

    __slots__ = ("_expired", "_seconds", "_timeout", "_when")

    def __init__(self, when: float, expired: type[AttemptTimeout | DeadlineExceeded], seconds: float) -> None:
        self._when = when
        self._expired = expired
        self._seconds = seconds

    async def __aenter__(self) -> None:
        # asyncio.timeout_at would swallow a pending cancel if its time has passed when it is entered:
        # https://github.com/python/cpython/issues/134471
        if self._when <= now():
            raise self._expired(self._seconds)
        self._timeout = asyncio.timeout_at(self._when)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        has_expired = False
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            has_expired = True
        # The traceback of the cancellation shows where the attempt was interrupted.
        if has_expired:
            raise self._expired(self._seconds) from error


register_module(__name__)
