"""The wrappers that `supervise` returns: they make the first attempt, and enter the retry loop only if it fails.

A call that succeeds on the first attempt therefore costs one `try`, and without limits it allocates no object of this
library. If there is a listener, the retry loop makes the first attempt too.

`attempt()` finds a wrapper in the stack by its code, and reads the policy and the start of the call from its local
variables `policy` and `started`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from aiosupervise._events.listeners import listeners
from aiosupervise._policy.checks import name_of
from aiosupervise._policy.gate import gate_for
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.verdict import serial_numbers

from .frames import register_wrapper
from .gates import GateLimit, call_inside
from .limits import await_within, limit_of, now
from .retry import AsyncCall, Coro
from .thread import ORDINARY, SyncCall, awaitable_result

P = ParamSpec("P")
R = TypeVar("R")


def wrap_plain(policy: Policy, name: str, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap an async function under a policy that has no timeout, deadline, budget or gate."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        if listeners.count:
            return await AsyncCall(policy, name, None, (func, args, kwargs)).run(func)
        last_serial = serial_numbers.issued
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            call = AsyncCall(policy, name, None, (func, args, kwargs), 1, last_serial)
            call.on_failure(error, 1)
        return await call.run(func)

    register_wrapper(supervised.__code__)
    return supervised


def wrap_limited(policy: Policy, name: str, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap an async function under a policy that has a timeout, a deadline, a budget or a gate."""
    function = name_of(func)

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        last_serial = serial_numbers.issued
        started = now()
        limit = limit_of(policy, function, args, kwargs, started)
        if listeners.count:
            call = AsyncCall(policy, name, started, (func, args, kwargs))
        else:
            try:
                async with limit:
                    result = await func(*args, **kwargs)
            except Exception as error:
                call = AsyncCall(policy, name, started, (func, args, kwargs), 1, last_serial)
                call.on_failure(error, 1)
            else:
                if policy.budget is not None:
                    policy.budget.put(policy.budget.refill)
                return result
        return await call.run(functools.partial(await_within, limit, func))

    register_wrapper(supervised.__code__)
    return supervised


def wrap_plain_sync(policy: Policy, name: str, func: Callable[P, R]) -> Callable[P, R]:
    """Wrap a plain function under a policy that has no deadline, budget or gate."""

    def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        if listeners.count:
            return SyncCall(policy, name, None, (func, args, kwargs)).run(func)
        last_serial = serial_numbers.issued
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            call = SyncCall(policy, name, None, (func, args, kwargs), 1, last_serial)
            call.on_failure(error, 1)
        else:
            if type(result) not in ORDINARY and hasattr(type(result), "__await__"):
                raise awaitable_result(func, result)
            return result
        return call.run(func)

    register_wrapper(supervised.__code__)
    return supervised


def wrap_limited_sync(policy: Policy, name: str, func: Callable[P, R]) -> Callable[P, R]:
    """Wrap a plain function under a policy that has a deadline, a budget or a gate."""
    function = name_of(func)

    def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        started = time.monotonic()
        call = SyncCall(policy, name, started, (func, args, kwargs))
        if policy.gate is None:
            return call.run(func)
        gate = gate_for(policy.gate, args, kwargs, is_async=False)
        return call.run(functools.partial(call_inside, GateLimit(gate, function), func))

    register_wrapper(supervised.__code__)
    return supervised
