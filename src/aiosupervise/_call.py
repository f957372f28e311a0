"""A policy applied to one call: what the wrappers that `supervise` returns do.

Theory of operation. A wrapper has a few lines: it makes the first attempt and is done when that
succeeds. Only an error makes a `_Call`, the state of this call alone, which asks `_policy.decide` and obeys: wait
and try again, or raise. A policy with a timeout, a deadline or a gate runs each attempt inside a `_Guard`.

Laws, each with a test:
- Only Exception is caught: cancellation and exit pass through.
- The next attempt is made outside of any `except` block, and nothing here holds the last error while waiting: an
  error holds its traceback, that its frames, those the attempt's local variables.
- Whatever holds an error lets go of it before raising it, or frame and error would keep each other alive.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from types import CodeType, TracebackType
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

from ._errors import OVERRULES, AttemptTimeout, DeadlineExceeded, stand_in
from ._policy import Policy, decide
from ._verdict import Reason, clerk, pronounce, verdict

P = ParamSpec("P")
R = TypeVar("R")
Coro: TypeAlias = Coroutine[object, None, R]

_EARLIER = 10  # errors before the last that a verdict lists
_LINE = 200  # characters of each


class CountsRetries(Protocol):
    """What a job puts into its context, so that the retries made in it are counted."""

    def retried(self) -> None:
        """Count one retry that is about to be made."""


current_job: ContextVar[CountsRetries | None] = ContextVar("aiosupervise.current_job", default=None)


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
    """Wrap `func` for a policy with a timeout, a deadline or a gate."""

    async def supervised(*args: P.args, **kwargs: P.kwargs) -> R:
        seen = clerk.issued
        started = _now()
        handled = id(sys.exception())  # the caller's, not to be touched; by identity, so as not to hold it
        attempt = functools.partial(_Guard(policy, started).attempt, functools.partial(func, *args, **kwargs))
        try:
            return await attempt()
        except Exception as error:
            call = _Call(policy, seen, started, handled)
            call.failed(error)
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
        "handled",
        "last",
        "policy",
        "seen",
        "started",
    )

    def __init__(self, policy: Policy, seen: int, started: float | None, handled: int = 0) -> None:
        self.policy = policy
        self.seen = seen  # verdicts issued before the running attempt: a later one is from inside of it
        self.started = started
        self.handled = handled
        self.attempts = 1
        self.first_failure = _now()
        self.earlier: list[str] = []
        self.last: Exception | None = None
        self.error: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Decide what follows from the error that ended the running attempt."""
        # Layers do not multiply. (Our own wrapper, which catches the first error, is in that one's traceback.)
        if clerk.issued != self.seen and _given_up_inside(error, self.seen, ours=int(self.attempts == 1)):
            self._raise(error)
            return
        elapsed = 0.0 if self.started is None else _now() - self.started
        decision = decide(self.policy, error, self.attempts, elapsed)
        if decision is None:
            self._raise(error)
        elif type(decision) is Reason:
            self._give_up(stand_in(error), decision, _now() - self.first_failure)
        else:
            self._will_retry(error if type(error) not in OVERRULES else stand_in(error), decision)

    def _will_retry(self, error: Exception, delay: float) -> None:
        self.delay = delay
        self.earlier.append(_describe(self.attempts, error))
        if len(self.earlier) > _EARLIER:
            del self.earlier[0]
        if self.policy.deadline is not None:  # it may have to be the cause of a DeadlineExceeded
            self.last = _without_frames(error, self.handled)

    def _give_up(self, error: Exception, reason: Reason, elapsed: float) -> None:
        if self.last is not None and isinstance(error, DeadlineExceeded):
            error.__cause__ = self.last
        pronounce(error, self.policy.name, self.attempts, elapsed, reason, self.earlier)
        self._raise(error)

    def _raise(self, error: Exception) -> None:
        self.error = error.with_traceback(_without_our_frames(error.__traceback__))

    async def go_on(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Wait and try again until an attempt succeeds, or there is an error to raise."""
        while self.error is None:
            await asyncio.sleep(self.delay)
            self.attempts += 1
            self.seen = clerk.issued
            job = current_job.get()
            if job is not None:
                job.retried()
            try:
                return await attempt()
            except Exception as error:
                self.failed(error)
        final, self.error = self.error, None
        context = final.__context__
        try:
            raise final
        finally:  # raising it puts what the caller is handling in place of its own context
            BaseException.__setattr__(final, "__context__", context)
            del final, context


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Guard:
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
        return await _until(self.started + seconds, gated, DeadlineExceeded, seconds)

    async def _through_gate(self, func: Callable[[], Awaitable[R]]) -> R:
        if self.policy.gate is None:
            return await self._timed(func)
        async with self.policy.gate:
            return await self._timed(func)

    async def _timed(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.attempt_timeout
        if seconds is None:
            return await func()
        return await _until(_now() + seconds, func, AttemptTimeout, seconds)


async def _until(
    when: float, func: Callable[[], Awaitable[R]], expired: type[AttemptTimeout | DeadlineExceeded], seconds: float
) -> R:
    """Await `func()` until the loop's time is `when`; raise `expired` only if that is what ended it.

    Ours is a timeout that came as a CancelledError through the function: a TimeoutError of its own is not.
    """
    if when <= _now():  # a timeout of 0 would swallow a pending cancel, gh-134471
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
        where_it_stood = error.__cause__
    try:
        raise expired(seconds) from where_it_stood
    finally:
        del where_it_stood


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop the frames of this file: the caller sees one wrapper and one loop, not every attempt and every limit."""
    theirs = [entry for entry in _entries(traceback) if entry.tb_frame.f_code.co_filename != _FILE]
    rest = None
    for entry in reversed(theirs):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


def _given_up_inside(error: Exception, seen: int, ours: int) -> bool:
    """Tell whether a call inside this attempt gave up on `error`, or on a leaf of it.

    Its verdict is newer than the attempt, and the error came out through its wrapper; an error that another call gave
    up on meanwhile, such as a failed future's, came through no wrapper but ours, of which the traceback has `ours`.
    """
    note = verdict(error)
    if note is not None and note.number > seen:
        wrappers = [entry for entry in _entries(error.__traceback__) if _is_wrapper(entry.tb_frame.f_code)]
        if len(wrappers) > ours:
            return True
    return isinstance(error, ExceptionGroup) and any(_given_up_inside(leaf, seen, 0) for leaf in error.exceptions)


def _is_wrapper(code: CodeType) -> bool:
    return code.co_name == "supervised" and code.co_filename == _FILE


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


_FILE = _now.__code__.co_filename  # `_now` has nothing to mutate, so that mutmut leaves it where it is


def _without_frames(error: Exception, handled: int) -> Exception:
    """Take the tracebacks off an error that outlives its attempt, and off what it refers to, up to the caller's."""
    seen = {handled}  # by identity: an error need not be hashable
    stack: list[BaseException | None] = [error]
    while stack:
        other = stack.pop()
        if other is not None and id(other) not in seen:
            seen.add(id(other))
            stack += (other.with_traceback(None).__cause__, other.__context__)
            stack += other.exceptions if isinstance(other, BaseExceptionGroup) else ()
    return error


def _describe(attempt: int, error: Exception) -> str:
    """Write one short line about an error: it may be kept long after the error itself."""
    try:
        line = f"attempt {attempt}: {type(error).__name__}: {error}"
    except Exception:
        line = f"attempt {attempt}: {type(error).__name__}, whose text cannot be read"
    return line if len(line) <= _LINE and "\n" not in line else line.partition("\n")[0][:_LINE]
