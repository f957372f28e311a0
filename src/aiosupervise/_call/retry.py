"""The retry loop of a coroutine: it makes the attempts of a call and waits between them, as the call's state requires.

Theory of operation. A wrapper makes the first attempt of a call. If that fails, the wrapper creates an `AsyncCall` and
reports the failure to it. `AsyncCall.run` then does what the state of the call requires: it waits and makes another
attempt, or raises.

Invariants, each with a test:
- Only an Exception is caught: cancellation and exit pass through.
- Each further attempt is made outside any `except` block, and the error kept during the wait has no traceback, because
  a traceback keeps the local variables of the failed attempt alive.
- A frame that raises an error drops its own reference to the error, because error and frame would otherwise refer to
  each other and stay in memory until the garbage collector finds the cycle.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TypeAlias, TypeVar

from aiosupervise._events.listeners import listeners
from aiosupervise._events.records import AttemptStarted
from aiosupervise._policy.errors import DeadlineExceeded
from aiosupervise._policy.raw import context_of, set_context
from aiosupervise._policy.verdict import Reason, serial_numbers

from .call import Call
from .enclosing_job import EnclosingJob
from .frames import drop_tracebacks, register_module, register_retry_loop
from .limits import NestedLimits, TimeLimit, await_within

R = TypeVar("R")
Coro: TypeAlias = Coroutine[object, None, R]


class AsyncCall(Call):
    """A call of a coroutine function, and its retry loop."""

    __slots__ = ()

    def now(self) -> float:
        """Return the time of the running loop."""
        return asyncio.get_running_loop().time()

    async def run(self, func: Callable[..., Awaitable[R]]) -> R:
        """Make attempts, each by awaiting a call of `func`, until one succeeds or there is an error to raise."""
        _, args, kwargs = self.arguments
        try:
            while self.final_error is None:
                if self.last_error is not None:
                    await self.wait_to_retry(self.last_error)
                    if self.final_error is not None:
                        break
                # This is the same as `begin`, without the cost of a call.
                self.attempts += 1
                self.last_serial = serial_numbers.issued
                if listeners.count:
                    self.emit(AttemptStarted, self.attempts)
                try:
                    result = await func(*args, **kwargs)
                except Exception as error:
                    self.on_failure(error)
                else:
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

    def wait_to_retry(self, last_error: Exception) -> Awaitable[None]:
        """Return an awaitable that waits, after a failed attempt, until another attempt may be made.

        If the wait would end after the deadline, the call gives up and does not wait.
        """
        drop_tracebacks(last_error, self.is_special)
        if self.policy.deadline is not None and self.is_too_late(last_error):
            return _next_iteration()
        wait = asyncio.sleep(self.delay) if self.delay > 0.0 else _next_iteration()
        # Outside a job, the wait is not wrapped in a coroutine, which would double the cost of a wait of 0 seconds.
        return wait if self.job is None else self._wait_in_job(wait, self.job, last_error)

    async def _wait_in_job(self, wait: Awaitable[None], job: EnclosingJob, last_error: Exception) -> None:
        if self.delay > 0:
            job.on_wait()
        await wait
        seconds = self.policy.deadline
        limit = NestedLimits(()) if seconds is None else TimeLimit(DeadlineExceeded, seconds, self.started)
        try:
            permit = await await_within(limit, job.acquire, self)
        except DeadlineExceeded:
            self.on_refusal(last_error, Reason.DEADLINE)
        else:
            self.on_permit(permit, job, last_error)


@types.coroutine
def _next_iteration() -> Generator[None, None, None]:
    """Yield to the event loop once, like `asyncio.sleep(0)`."""
    yield


register_module(__name__)
register_retry_loop(AsyncCall)
