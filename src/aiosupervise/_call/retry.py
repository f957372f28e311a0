"""A policy applied to one call: what the wrappers that `supervise` returns do.

Theory of operation. A wrapper has a few lines: it makes the first attempt and is done when that
succeeds. Only an error makes a `_Call`, the state of this call alone, which asks `_policy.decide` and obeys: wait
and try again, or raise. A policy with a timeout, a deadline or a gate runs each attempt inside a `Limits`. While
somebody listens, the first attempt is made by a `_Call` too.

Laws, each with a test:
- Only Exception is caught: cancellation and exit pass through.
- The next attempt is made outside of any `except` block, and what is kept of the last error while waiting has no
  traceback: that holds its frames, and those the attempt's local variables.
- Whatever holds an error lets go of it before raising it, or frame and error would keep each other alive.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, TypeAlias, TypeVar

from aiosupervise._events.emit import emit
from aiosupervise._events.listeners import listeners
from aiosupervise._events.records import AttemptFailed, AttemptStarted, CallFinished, Event, GaveUp, Recovered
from aiosupervise._policy.classify import NOT_ASKED, classify
from aiosupervise._policy.decide import decide
from aiosupervise._policy.errors import OVERRIDES, DeadlineExceeded, unwrap
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.verdict import Reason, attach_verdict, serial_numbers

from .enclosing_job import EnclosingJob, Permit, current_job
from .frames import drop_frames, given_up_inside, without_our_frames
from .limits import Limits, now, until
from .no_waiting import no_waits

P = ParamSpec("P")
R = TypeVar("R")
Coro: TypeAlias = Coroutine[object, None, R]

_EARLIER = 10  # errors before the last that a verdict lists
_LINE = 200  # characters of each
_numbers = itertools.count(1)


def plain(policy: Policy, name: str, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap `func` for a policy without limits on time: a call that succeeds at once makes nothing of ours."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        if listeners.count:
            return await _Call(policy, name, None).go_on(functools.partial(func, *args, **kwargs))
        seen = serial_numbers.issued
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            call = _Call(policy, name, None, 1, seen)
            call.failed(error, 1)
        return await call.go_on(functools.partial(func, *args, **kwargs))

    return supervised


def guarded(policy: Policy, name: str, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap `func` for a policy with a timeout, a deadline, a budget or a gate."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        seen = serial_numbers.issued
        started = now()
        attempt = functools.partial(Limits(policy, started).attempt, functools.partial(func, *args, **kwargs))
        if listeners.count:
            return await _Call(policy, name, started).go_on(attempt)
        try:
            result = await attempt()
        except Exception as error:
            call = _Call(policy, name, started, 1, seen)
            call.failed(error, 1)
        else:
            if policy.budget is not None:
                policy.budget.put(policy.budget.refill)
            return result
        return await call.go_on(attempt)

    return supervised


class _Call:
    """One call: what happened so far, and what is to be done: wait `delay`, or raise `error`."""

    __slots__ = (
        "attempts",
        "delay",
        "earlier",
        "error",
        "first_failure",
        "job",
        "last",
        "name",
        "number",
        "policy",
        "price",
        "probes",
        "seen",
        "started",
        "waits",
    )

    def __init__(self, policy: Policy, name: str, started: float | None, attempts: int = 0, seen: int = 0) -> None:
        self.waits = no_waits.get()
        self.policy = policy if self.waits is None else self.waits.applied_to(policy)
        self.name = name
        self.number = 0  # until its first event
        self.started = started
        self.job = current_job.get()
        self.attempts = attempts
        self.seen = seen  # verdicts issued before the running attempt: a later one is from inside of it
        self.probes = 0  # of these attempts, those that count as no retry
        self.earlier: list[str] = []
        self.last: Exception | None = None
        self.error: Exception | None = None

    def failed(self, error: Exception, wrappers: int = 0) -> None:
        """Decide what follows from the error that ended the running attempt, and say so.

        Of our own wrappers, so many are in the error's traceback: the one that made the first attempt itself.
        """
        if self.attempts == 1:
            self.first_failure = now()
        follows = self._follows(error, wrappers)
        error = error if type(error) not in OVERRIDES else unwrap(error)
        if isinstance(follows, float):
            self._emit(AttemptFailed, self.attempts, error, follows)
            if self.last is not None:
                self._describe_last()
            self.delay, self.last = follows, error
            return
        if listeners.count:
            self._emit(AttemptFailed, self.attempts, error, None)
        if follows is None:
            self._raise(error)
        else:
            self._give_up(error, follows)

    def _follows(self, error: Exception, wrappers: int) -> float | Reason | None:
        """Return the seconds until the next attempt, or why there is none; None for an error that is not ours."""
        # Layers do not multiply.
        if serial_numbers.issued != self.seen and given_up_inside(error, self.seen, wrappers):
            if self.job is not None:
                self.job.on_neutral()
            return None
        policy = self.policy
        classified = classify(policy, error)
        elapsed = 0.0 if self.started is None else now() - self.started
        decision = decide(policy, error, classified, self.attempts - self.probes, elapsed)
        if self.job is not None:
            self.job.on_failure(policy, error, classified)
        if not isinstance(decision, float) or (policy.budget is None and self.job is None):
            return decision
        return self._paid(decision, throttled=classified != NOT_ASKED)

    def _paid(self, delay: float, *, throttled: bool) -> float | Reason:
        """Pay for a retry, from the policy's own budget if it has one, else from that of the run."""
        if self.policy.budget is not None:
            price = self.policy.budget.take(throttled=throttled)
        else:
            assert self.job is not None  # noqa: S101 - for the type checkers
            price, delay = self.job.pay(delay, throttled=throttled)
        self.price = price or 0
        return Reason.BUDGET if price is None else delay

    def _describe_last(self) -> None:
        self.earlier.append(_describe(self.attempts - 1, self.last))
        if len(self.earlier) > _EARLIER:
            del self.earlier[0]

    def _give_up(self, error: Exception, reason: Reason) -> None:
        elapsed = now() - self.first_failure
        if self.last is not None:
            self._describe_last()
            if isinstance(error, DeadlineExceeded):
                error.__cause__ = self.last
        attach_verdict(error, self.policy.name, self.attempts, elapsed, reason, self.earlier)
        self._emit(GaveUp, self.attempts, elapsed, reason, error)
        self._raise(error)

    def _raise(self, error: Exception) -> None:
        self.error = error.with_traceback(without_our_frames(error.__traceback__))

    async def go_on(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Make attempts until one succeeds, or there is an error to raise."""
        try:
            while self.error is None:
                if self.last is not None:
                    drop_frames(self.last)
                    await asyncio.sleep(self.delay if self.waits is None else 0)
                    if self.job is not None and not await self._may_go(self.job):
                        continue
                self.attempts += 1
                self.seen = serial_numbers.issued
                if listeners.count:
                    self._emit(AttemptStarted, self.attempts)
                try:
                    result = await attempt()
                except Exception as error:
                    self.failed(error)
                else:
                    if listeners.count or self.job is not None or self.policy.budget is not None:
                        self._succeeded()
                    return result
        except BaseException as error:
            self._left(error)
            raise
        final, self.error, self.last = self.error, None, None
        if listeners.count:
            self._emit(CallFinished, self.attempts, final)
        context = final.__context__
        try:
            raise final
        finally:  # raising it puts what the caller is handling in place of its own context
            BaseException.__setattr__(final, "__context__", context)
            del final, context

    async def _may_go(self, job: EnclosingJob) -> bool:
        """Wait for the run's permission; without it, and when the deadline comes first, give up on the last error."""
        try:
            turn = await self._before_deadline(functools.partial(job.acquire, self))
        except DeadlineExceeded:
            self._give_up_on_last(Reason.DEADLINE)
            return False
        if turn is Permit.STOP:
            self._give_up_on_last(Reason.BUDGET)
            return False
        self.probes += turn is Permit.PROBE
        job.on_retry()
        return True

    async def _before_deadline(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.deadline
        if seconds is None or self.started is None:
            return await func()
        return await until(self.started + seconds, func, DeadlineExceeded, seconds)

    def _give_up_on_last(self, reason: Reason) -> None:
        error, self.last = self.last, None
        assert error is not None  # noqa: S101 - for the type checkers
        try:
            self._give_up(error, reason)
        finally:
            del error

    def _succeeded(self) -> None:
        """Put into the budget what the success is worth: a refill, or what the retry that has succeeded had cost."""
        budget = self.policy.budget
        if budget is not None:
            budget.put(budget.refill if self.attempts == 1 else self.price)
        if self.attempts > 1:
            if self.job is not None:
                self.job.on_success(0 if budget is not None else self.price)
            if listeners.count:
                self._emit(Recovered, self.attempts, now() - self.first_failure)
        if listeners.count:
            self._emit(CallFinished, self.attempts, None)

    def _left(self, error: BaseException) -> None:
        """Go without an answer: cancelled, in an attempt or in a wait."""
        if self.job is not None:
            self.job.on_neutral()
        if listeners.count:
            self._emit(CallFinished, self.attempts, error)

    def _emit(self, kind: Callable[..., Event], *values: object) -> None:
        """Emit an event of this call, given the values of its own fields."""
        self.number = self.number or next(_numbers)
        run, index = (None, None) if self.job is None else (self.job.run, self.job.index)
        emit(kind, (self.number, self.name, run, index, *values), self.job)


def _describe(attempt: int, error: Exception | None) -> str:
    """Write one short line about an error: it may be kept long after the error itself."""
    try:
        line = f"attempt {attempt}: {type(error).__name__}: {error}"
    except Exception:
        line = f"attempt {attempt}: {type(error).__name__}, whose text cannot be read"
    return line if len(line) <= _LINE and "\n" not in line else line.partition("\n")[0][:_LINE]
