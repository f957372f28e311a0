"""A policy applied to one call: what the wrappers that `supervise` returns do.

Theory of operation. A wrapper has a few lines: it makes the first attempt and is done when that
succeeds. Only an error makes a `_Call`, the state of this call alone, which asks `_policy.decide` and obeys: wait
and try again, or raise. A policy with a timeout, a deadline or a gate runs each attempt inside a `Guard`.

Laws, each with a test:
- Only Exception is caught: cancellation and exit pass through.
- The next attempt is made outside of any `except` block, and nothing here holds the last error while waiting: an
  error holds its traceback, that its frames, those the attempt's local variables.
- Whatever holds an error lets go of it before raising it, or frame and error would keep each other alive.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

from ._errors import OVERRULES, DeadlineExceeded, stand_in
from ._frames import drop_frames, given_up_inside, without_our_frames
from ._guard import Guard, now, until
from ._policy import NOT_ASKED, Judgement, Policy, decide, judge
from ._verdict import Reason, clerk, pronounce

P = ParamSpec("P")
R = TypeVar("R")
Coro: TypeAlias = Coroutine[object, None, R]

_EARLIER = 10  # errors before the last that a verdict lists
_LINE = 200  # characters of each


class Turn(enum.Enum):
    """What a call that wants to try again is told."""

    GO = "go"
    PROBE = "go, to see whether the service is back; this counts as no retry"
    STOP = "give up: the service is not coming back"


class Job(Protocol):
    """What a job of a batch puts into its context: what the calls in it tell their run, and are told by it."""

    def heard(self, call: object, policy: Policy, error: Exception, judged: Judgement) -> None:
        """Hear that an attempt of a call has failed, and how its policy has judged that."""

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Pay for a retry in `delay` seconds; return the price, None if there can be no retry, and the wait."""
        ...

    async def turn(self, call: object) -> Turn:
        """Wait until a call may try again."""
        ...

    def retried(self) -> None:
        """Count one retry that is about to be made."""

    def recovered(self, call: object, price: int) -> None:
        """Hear that a retry that had cost `price` succeeded."""

    def left(self, call: object) -> None:
        """Hear that a retry was cancelled."""


current_job: ContextVar[Job | None] = ContextVar("aiosupervise.current_job", default=None)


def plain(policy: Policy, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap `func` for a policy without limits on time: a call that succeeds at once makes nothing of ours."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        seen = clerk.issued
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            call = _Call(policy, seen, None)
            call.failed(error)
        return await call.go_on(functools.partial(func, *args, **kwargs))

    return supervised


def guarded(policy: Policy, func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Wrap `func` for a policy with a timeout, a deadline, a budget or a gate."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        seen = clerk.issued
        started = now()
        attempt = functools.partial(Guard(policy, started).attempt, functools.partial(func, *args, **kwargs))
        try:
            result = await attempt()
        except Exception as error:
            call = _Call(policy, seen, started)
            call.failed(error)
        else:
            if policy.budget is not None:
                policy.budget.put(policy.budget.refill)
            return result
        return await call.go_on(attempt)

    return supervised


class _Call:
    """One call that has failed: what happened so far, and what is to be done: wait `delay`, or raise `error`."""

    __slots__ = (
        "attempts",
        "delay",
        "earlier",
        "error",
        "first_failure",
        "job",
        "last",
        "policy",
        "price",
        "probes",
        "seen",
        "started",
    )

    def __init__(self, policy: Policy, seen: int, started: float | None) -> None:
        self.policy = policy
        self.seen = seen  # verdicts issued before the running attempt: a later one is from inside of it
        self.started = started
        self.job = current_job.get()
        self.attempts = 1
        self.probes = 0  # of these attempts, those that count as no retry
        self.price = 0
        self.first_failure = now()
        self.earlier: list[str] = []
        self.last: Exception | None = None
        self.error: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Decide what follows from the error that ended the running attempt."""
        # Layers do not multiply. (Our own wrapper, which catches the first error, is in that one's traceback.)
        if clerk.issued != self.seen and given_up_inside(error, self.seen, ours=int(self.attempts == 1)):
            if self.job is not None:
                self.job.left(self)
            self._raise(error)
            return
        elapsed = 0.0 if self.started is None else now() - self.started
        judged = judge(self.policy, error)
        decision = decide(self.policy, error, judged, self.attempts - self.probes, elapsed)
        if self.job is not None:
            self.job.heard(self, self.policy, error, judged)
        if decision is None:
            self._raise(error)
            return
        error = error if type(error) not in OVERRULES else stand_in(error)
        if type(decision) is Reason:
            self._give_up(error, decision)
            return
        self.delay = decision
        if (self.policy.budget is None and self.job is None) or self._can_pay(throttled=judged != NOT_ASKED):
            self._will_retry(error)
        else:
            self._give_up(error, Reason.BUDGET)

    def _can_pay(self, *, throttled: bool) -> bool:
        """Pay for a retry, from the policy's own budget if it has one, else from that of the run."""
        if self.policy.budget is not None:
            price = self.policy.budget.take(throttled=throttled)
        else:
            assert self.job is not None  # noqa: S101 - for the type checkers
            price, self.delay = self.job.pay(self.delay, throttled=throttled)
        self.price = price or 0
        return price is not None

    def _will_retry(self, error: Exception) -> None:
        self.earlier.append(_describe(self.attempts, error))
        if len(self.earlier) > _EARLIER:
            del self.earlier[0]
        if self.policy.deadline is not None or self.job is not None:  # it may have to be raised after the wait
            self.last = error

    def _give_up(self, error: Exception, reason: Reason) -> None:
        elapsed = now() - self.first_failure
        if self.last is not None and isinstance(error, DeadlineExceeded):
            error.__cause__ = self.last
        pronounce(error, self.policy.name, self.attempts, elapsed, reason, self.earlier)
        self._raise(error)

    def _raise(self, error: Exception) -> None:
        self.error = error.with_traceback(without_our_frames(error.__traceback__))

    async def go_on(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Wait and try again until an attempt succeeds, or there is an error to raise."""
        while self.error is None:
            if self.last is not None:
                drop_frames(self.last, sys.exception())
            await asyncio.sleep(self.delay)
            if self.job is not None and not await self._may_go(self.job):
                continue
            self.attempts += 1
            self.seen = clerk.issued
            try:
                result = await attempt()
            except Exception as error:
                self.failed(error)
            except BaseException:
                if self.job is not None:
                    self.job.left(self)
                raise
            else:
                if self.price or self.job is not None:
                    self._recovered()
                return result
        final, self.error, self.last = self.error, None, None
        context = final.__context__
        try:
            raise final
        finally:  # raising it puts what the caller is handling in place of its own context
            BaseException.__setattr__(final, "__context__", context)
            del final, context

    async def _may_go(self, job: Job) -> bool:
        """Wait for the run's permission; without it, and when the deadline comes first, give up on the last error."""
        try:
            turn = await self._before_deadline(functools.partial(job.turn, self))
        except DeadlineExceeded:
            self._give_up_on_last(Reason.DEADLINE)
            return False
        if turn is Turn.STOP:
            self._give_up_on_last(Reason.BUDGET)
            return False
        self.probes += turn is Turn.PROBE
        job.retried()
        return True

    async def _before_deadline(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.deadline
        if seconds is None or self.started is None:
            return await func()
        return await until(self.started + seconds, func, DeadlineExceeded, seconds)

    def _give_up_on_last(self, reason: Reason) -> None:
        error, self.last = self.last, None
        assert error is not None  # noqa: S101 - for the type checkers
        self.earlier.pop()  # it is not an earlier one
        try:
            self._give_up(error, reason)
        finally:
            del error

    def _recovered(self) -> None:
        """Put back what the retry that has succeeded had cost."""
        if self.policy.budget is not None:
            self.policy.budget.put(self.price)
            self.price = 0
        if self.job is not None:
            self.job.recovered(self, self.price)


def _describe(attempt: int, error: Exception) -> str:
    """Write one short line about an error: it may be kept long after the error itself."""
    try:
        line = f"attempt {attempt}: {type(error).__name__}: {error}"
    except Exception:
        line = f"attempt {attempt}: {type(error).__name__}, whose text cannot be read"
    return line if len(line) <= _LINE and "\n" not in line else line.partition("\n")[0][:_LINE]
