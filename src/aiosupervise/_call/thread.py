"""The retry loop of a plain function: it makes the attempts of a call and waits between them, in the caller's thread.

It follows the state of the call and keeps the same invariants as the retry loop of coroutines: see `retry`. Its clock
is `time.monotonic`, and it waits with `time.sleep`. In a thread that runs an event loop, such a wait blocks the loop,
so a warning is issued, once for each line of code that makes such a call. A call in the event loop of its own run
cannot wait in the queue of the run's circuit breaker either, because only the blocked loop could release it: see
`EnclosingJob.permit_at_once`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

from aiosupervise._events.listeners import listeners
from aiosupervise._policy.checks import name_of
from aiosupervise._policy.raw import context_of, set_context

from .call import Call
from .frames import drop_tracebacks, frame_outside, register_module, register_retry_loop
from .tasks import running_loop

R = TypeVar("R")

# The lines of code, by file and number, for which a warning was issued. The registry of `warnings` would treat each
# number of seconds as a new warning.
_blocking_lines: set[tuple[str, int]] = set()

# The longest sleep: 100 years. A server can ask for any number of seconds, and above 292 years `time.sleep` raises
# OverflowError.
_LONGEST_SLEEP: Final = 100 * 365 * 86_400.0

ORDINARY: Final = frozenset((str, int, float, bool, bytes, dict, list, tuple, type(None)))
"""A shortcut: most results have one of these types, which are not awaitable. On Python 3.11 the full check is slow."""


class SyncCall(Call):
    """A call of a plain function, and its retry loop."""

    __slots__ = ()

    def now(self) -> float:
        """Return the time of the clock used for plain functions."""
        return time.monotonic()

    def run(self, func: Callable[..., R]) -> R:
        """Make attempts, each by calling `func`, until one succeeds or there is an error to raise."""
        bare, args, kwargs = self.arguments
        try:
            while self.final_error is None:
                if self.last_error is not None:
                    self.wait_to_retry(self.last_error)
                    if self.final_error is not None:
                        break
                self.begin()
                try:
                    result = func(*args, **kwargs)
                except Exception as error:
                    self.on_failure(error)
                else:
                    if type(result) not in ORDINARY and hasattr(type(result), "__await__"):
                        raise awaitable_result(bare, result)
                    if listeners.count or self.job is not None or self.policy.budget is not None:
                        self.on_success()
                    return result
        except BaseException as error:
            self.on_abandoned(error)
            raise
        # This is the same as `raise_final_error`, which would add a frame to the traceback.
        final = self.take_final_error()
        context = context_of(final)
        try:
            raise final
        finally:
            set_context(final, context)
            del final, context

    def wait_to_retry(self, last_error: Exception) -> None:
        """Wait after a failed attempt until another one may be made, or give up."""
        drop_tracebacks(last_error, self.is_special)
        if self.is_too_late(last_error):
            return
        if self.delay > 0:
            if running_loop() is not None:
                _warn_of_blocking(self.name, self.delay)
            time.sleep(min(self.delay, _LONGEST_SLEEP))
        if self.job is not None:
            self.on_permit(self.job.permit_at_once(), self.job, last_error)


def awaitable_result(func: Callable[..., object], result: object) -> TypeError:
    """Close the awaitable that a plain function returned, and return a TypeError: its errors would not be seen."""
    if isinstance(result, Coroutine):
        with contextlib.suppress(Exception):
            result.close()
    wrapper, call = _async_wrapper_of(func)
    return TypeError(
        f"{name_of(func)} is a plain function, and it returned an awaitable, a value of type {type(result).__name__}, "
        f"whose errors supervise would not see: supervise an async function that awaits it, "
        f"`async def {wrapper}(*args, **kwargs): return await {call}(*args, **kwargs)`"
    )


def _async_wrapper_of(func: Callable[..., object]) -> tuple[str, str]:
    """Return a name for an async wrapper, and a different expression that refers to the wrapped function."""
    name = name_of(func)
    while isinstance(func, functools.partial):
        func = func.func
    # Methods of clients are often plain functions that return awaitables.
    owner = getattr(func, "__self__", None) if inspect.isroutine(func) else func
    if owner is None or inspect.ismodule(owner):
        return "call", name if name.isidentifier() else "func"
    variable = owner.__name__ if isinstance(owner, type) else type(owner).__name__.lower()
    return ("call", variable) if owner is func or name == "__call__" else (name, f"{variable}.{name}")


def _warn_of_blocking(name: str, seconds: float) -> None:
    """Warn, at the user's line of code, that a wait blocks the event loop of the thread."""
    frame, level = frame_outside()
    line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    if line not in _blocking_lines:
        what = f"{name} waits {seconds:.3g} s before its next attempt, in a thread that runs an event loop"
        repair = "supervise an async function, or call it in a thread: await asyncio.to_thread(...)"
        warnings.warn(f"{what}, which is blocked meanwhile: {repair}", RuntimeWarning, stacklevel=level)
        _blocking_lines.add(line)


register_module(__name__)
register_retry_loop(SyncCall)
