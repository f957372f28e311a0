"""The four forms of supervised code, which keep the same promises: functions and blocks, async and plain.

A test takes `supervise` as an argument, and gets one that makes its async functions run in each form in turn. For the
plain forms it runs the function's coroutine to its end in one go, so such a function must not suspend: it lets time
pass by `pass_time`. The clock of the plain forms is that of the test's loop, plus the seconds slept.
"""

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

import pytest

from aiosupervise import Policy, supervise
from aiosupervise._call import attempt, blocks, thread, wrappers

P = ParamSpec("P")
R = TypeVar("R")


class Decorate(Protocol):
    """What `supervise(...)` returns; the result is awaited, whatever the form."""

    def __call__(self, func: Callable[P, Coroutine[object, None, R]], /) -> Callable[P, Coroutine[object, None, R]]: ...


class Supervise(Protocol):
    """`supervise` in one of the forms."""

    def __call__(self, *args: Any, **options: Any) -> Decorate: ...


FORMS = ("async function", "async block", "plain function", "plain block")
only_async = pytest.mark.parametrize("supervise", FORMS[:2], indirect=True)
"""For what plain code cannot do: to be interrupted, or to wait for something else than time."""
two_forms = pytest.mark.parametrize("supervise", FORMS[::3], indirect=True)
"""For tests with many cases, which cover one function and one block for each driver."""
only_functions = pytest.mark.parametrize("supervise", FORMS[::2], indirect=True)
"""For what a block has not: arguments, and a function's name."""
only_async_functions = pytest.mark.parametrize("supervise", FORMS[:1], indirect=True)


class _Clock:
    """The clock of plain code in tests."""

    slept = 0.0
    runs_plain_code = False

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


clock = _Clock()


def now() -> float:
    """The time of the form that is tested."""
    return clock.monotonic()


async def pass_time(seconds: float) -> None:
    """Sleep, as the form that is tested does."""
    if clock.runs_plain_code:
        clock.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def in_form(form: str, patch: pytest.MonkeyPatch) -> Supervise:
    """`supervise` in this form."""
    patch.setattr(clock, "slept", 0.0)
    patch.setattr(clock, "runs_plain_code", form.startswith("plain"))
    if clock.runs_plain_code:
        for module in (attempt, blocks, thread, wrappers):
            patch.setattr(module, "time", clock)
        patch.setattr(thread, "running_loop", lambda: None)  # the loop of the test is not to be warned about
    gates: Gates = {}

    def supervise_in_form(*args: Any, **options: Any) -> Decorate:
        policy = args[0] if args else Policy(**options)
        return decorators[form](policy if form.startswith("async") else plain_policy(policy, gates))

    return supervise_in_form


def async_block(policy: Policy) -> Decorate:
    """Run the functions in a block of an async function."""

    def decorate(func: Callable[P, Coroutine[object, None, R]], /) -> Callable[P, Coroutine[object, None, R]]:
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            async for each in policy:
                async with each:
                    return await func(*args, **kwargs)
            pytest.fail("the loop has ended without a success and without an error")

        return call

    return decorate


def plain_function(policy: Policy) -> Decorate:
    """Supervise the functions as plain ones."""

    def decorate(func: Callable[P, Coroutine[object, None, R]], /) -> Callable[P, Coroutine[object, None, R]]:
        supervised = supervise(policy)(plain(func))

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return supervised(*args, **kwargs)

        return call

    return decorate


def plain_block(policy: Policy) -> Decorate:
    """Run the functions in a block of plain code."""

    def decorate(func: Callable[P, Coroutine[object, None, R]], /) -> Callable[P, Coroutine[object, None, R]]:
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            for each in policy:
                with each:
                    return plain(func)(*args, **kwargs)
            pytest.fail("the loop has ended without a success and without an error")

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return run(*args, **kwargs)

        return call

    return decorate


decorators: dict[str, Callable[[Policy], Decorate]] = {
    "async function": supervise,
    "async block": async_block,
    "plain function": plain_function,
    "plain block": plain_block,
}


def plain(func: Callable[P, Coroutine[object, None, R]]) -> Callable[P, R]:
    """Make a plain function of an async one that never suspends, but for turns of the loop."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return finished(func(*args, **kwargs))

    call.__name__ = getattr(func, "__name__", type(func).__name__)
    return call


def finished(coroutine: Coroutine[object, None, R]) -> R:
    """Run a coroutine to its end."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as returned:
        result: R = returned.value
        return result
    coroutine.close()
    pytest.fail("the function waits for the loop: use pass_time, or test the async forms only")


Gates: TypeAlias = dict[int, tuple[object, object]]
"""The gates that stand for others, by the ids of these; they are kept, so that no other one has its id."""


def plain_policy(policy: Policy, gates: Gates) -> Policy:
    """The same policy for plain code: without attempt_timeout, and with a synchronous gate for each async one."""
    gate = None if policy.gate is None else plain_gate(policy.gate, gates)
    return policy.replace(attempt_timeout=None, gate=gate)


def plain_gate(gate: Any, gates: Gates) -> Any:
    """A synchronous gate that does the same."""
    if isinstance(gate, types.FunctionType):
        return lambda *args, **kwargs: plain_gate(gate(*args, **kwargs), gates)
    is_lock = type(gate) in (asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore, asyncio.Condition)
    return gates.setdefault(id(gate), (gate, threading.Semaphore(3) if is_lock else PlainGate(gate)))[1]


class PlainGate:
    """A synchronous gate that does what an async one does, which never suspends."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self.__name__ = type(gate).__name__

    def __enter__(self) -> None:
        finished(self._gate.__aenter__())

    def __exit__(self, *exception: object) -> Any:
        return finished(self._gate.__aexit__(*exception))
