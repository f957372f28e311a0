"""The limits of an attempt, from the outside in: the deadline of the call, the gate, and the attempt's timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

from aiosupervise._policy.errors import AttemptTimeout, DeadlineExceeded
from aiosupervise._policy.gate import gate_for
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.raw import context_of, set_context, traceback_of

from .frames import register_module
from .gates import GateLimit

R = TypeVar("R")

Limit: TypeAlias = "AbstractAsyncContextManager[None, None]"
"""A limit of the attempts of a call: a context manager that is entered once for each attempt."""


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


def limit_of(policy: Policy, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], started: float) -> Limit:
    """Return the limits of the attempts of one call, combined into one context manager.

    Args:
        policy: the policy of the call.
        name: the name of the supervised function.
        args: the arguments of the call, which its gate may depend on.
        kwargs: the keyword arguments of the call.
        started: the loop's time at the start of the call.

    """
    limits: list[Limit] = []
    if policy.deadline is not None:
        limits.append(TimeLimit(DeadlineExceeded, policy.deadline, started))
    if policy.gate is not None:
        limits.append(GateLimit(gate_for(policy.gate, args, kwargs, is_async=True), name))
    if policy.attempt_timeout is not None:
        limits.append(TimeLimit(AttemptTimeout, policy.attempt_timeout))
    return limits[0] if len(limits) == 1 else NestedLimits(limits)


async def await_within(limit: Limit, func: Callable[..., Awaitable[R]], /, *args: object, **kwargs: object) -> R:
    """Await one call of `func` within the limits."""
    async with limit:
        return await func(*args, **kwargs)


class NestedLimits:
    """Nests any number of limits, from the outside in."""

    __slots__ = ("_entered", "_limits")

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = limits
        self._entered: list[Any] = []

    async def __aenter__(self) -> None:
        try:
            for limit in self._limits:
                await limit.__aenter__()
                self._entered.append(limit)
        except BaseException as error:
            if self._entered:
                await self.__aexit__(type(error), error, traceback_of(error))
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
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
    """Raises `expired(seconds)` from its block if the block is not done in time.

    `asyncio.timeout_at` cancels the block and turns the CancelledError that leaves it into a TimeoutError. A
    TimeoutError that its `__aexit__` raises therefore comes from the timeout. A TimeoutError of the block itself is
    only passed to `__aexit__`, and propagates.

    Args:
        expired: the class of the error.
        seconds: the time limit in seconds.
        started: the loop's time from which the limit counts; None to count from the entry of the block.

    """

    __slots__ = ("_expired", "_seconds", "_started", "_timeout")

    def __init__(
        self, expired: type[AttemptTimeout | DeadlineExceeded], seconds: float, started: float | None = None
    ) -> None:
        self._expired = expired
        self._seconds = seconds
        self._started = started

    async def __aenter__(self) -> None:
        time = now()
        when = (time if self._started is None else self._started) + self._seconds
        # asyncio.timeout_at would swallow a pending cancellation if it were entered after its time:
        # https://github.com/python/cpython/issues/134471
        if when <= time:
            raise self._expired(self._seconds)
        self._timeout: Any = asyncio.timeout_at(when)
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        has_expired = False
        # Break a reference cycle: the timeout refers to its task, and the task to an error whose frames may refer to
        # this limit.
        timeout, self._timeout = self._timeout, None
        try:
            await timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            has_expired = True
        except Exception:  # noqa: S110
            # Since Python 3.13, the timeout reads attributes of the error, which the class of the error can override.
            pass
        # The traceback of the cancellation shows where the attempt was interrupted.
        if has_expired:
            raise self._expired(self._seconds) from error


register_module(__name__)
