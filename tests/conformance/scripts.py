"""Jobs as scripts: what each attempt does and how it takes a cancel; and a model that knows how such a job must end."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hypothesis import strategies as st

from aiosupervise import AttemptTimeout, DeadlineExceeded, Failure, Outcome, Reason, Success, supervise

from .loops import TICK, pause

Ending: TypeAlias = type[BaseException] | Literal["return", "cancel myself", "cancel the next"]
TRANSIENT, IRRECOVERABLE = ConnectionError, PermissionError
CLEAN_UP = 3  # ticks
SWALLOWED = "all the same"


@dataclass(frozen=True)
class Attempt:
    """One attempt: it waits some ticks and ends."""

    ticks: int
    ending: Ending


@dataclass(frozen=True)
class Limits:
    """A policy, in ticks. Whole ticks and a few times an eighth never come to three quarters, so no two things tie."""

    max_retries: int
    delay: int
    attempt_timeout: float | None
    deadline: float | None


@dataclass(frozen=True)
class Script:
    """A job: its attempts, the last of which repeats, its policy if it has one, and how an attempt takes a cancel."""

    attempts: tuple[Attempt, ...]
    limits: Limits | None
    on_cancel: Literal["end", "clean up", "swallow"]

    def attempt(self, number: int) -> Attempt:
        """The attempt of this number, from 1."""
        return self.attempts[min(number, len(self.attempts)) - 1]

    def ends(self) -> tuple[type[BaseException] | None, Reason | None, int, float]:
        """How the job ends if nobody cancels it: the kind of its error, the reason, the attempts, the ticks."""
        now = 0.0
        for number in range(1, 100):
            now, error = self._attempt_ends(number, now)
            if error is None:
                return None, None, number, now
            reason = self._gives_up(error, number, now)
            if reason is not None or self.limits is None or error not in (TRANSIENT, AttemptTimeout):
                return error, reason, number, now
            now += self.limits.delay
        raise AssertionError("a script has to end")

    def _attempt_ends(self, number: int, start: float) -> tuple[float, type[BaseException] | None]:
        attempt = self.attempt(number)
        end: tuple[float, type[BaseException] | None] = start + attempt.ticks, raised_by(attempt.ending)
        interrupts: list[tuple[float, type[BaseException] | None]] = []
        if self.limits is not None and self.limits.attempt_timeout is not None:
            interrupts.append((start + self.limits.attempt_timeout, AttemptTimeout))
        if self.limits is not None and self.limits.deadline is not None:
            interrupts.append((self.limits.deadline, DeadlineExceeded))
        first = min([end, *interrupts], key=lambda one: one[0])
        if first is end or self.on_cancel == "end":
            return first
        return first[0] + CLEAN_UP, None if self.on_cancel == "swallow" else first[1]

    def _gives_up(self, error: type[BaseException], number: int, now: float) -> Reason | None:
        if self.limits is None or error not in (TRANSIENT, AttemptTimeout, IRRECOVERABLE, DeadlineExceeded):
            return None
        if error is IRRECOVERABLE:
            return Reason.IRRECOVERABLE
        if error is DeadlineExceeded:
            return Reason.DEADLINE
        if number > self.limits.max_retries:
            return Reason.EXHAUSTED
        if self.limits.deadline is not None and now + self.limits.delay >= self.limits.deadline:
            return Reason.DEADLINE
        return None


def raised_by(ending: Ending) -> type[BaseException] | None:
    """The kind of error with which a job ends; Python itself turns a StopIteration in a coroutine into another."""
    if isinstance(ending, str):
        return asyncio.CancelledError if ending == "cancel myself" else None
    return RuntimeError if ending is StopIteration else ending


ENDINGS: list[Ending] = [
    "return",
    "cancel myself",
    "cancel the next",
    TRANSIENT,
    IRRECOVERABLE,
    ValueError,
    TimeoutError,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
]


def _timeouts(least: int, fraction: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.integers(least, least + 10).map(lambda ticks: ticks + fraction)


def _scripts() -> st.SearchStrategy[Script]:
    endings = st.sampled_from([*ENDINGS, *[TRANSIENT, IRRECOVERABLE] * 3])  # what policies are for comes more often
    attempts = st.lists(st.builds(Attempt, st.integers(0, 8), endings), min_size=1, max_size=4).map(tuple)
    limits = st.builds(Limits, st.integers(0, 3), st.integers(0, 5), _timeouts(0, 0.125), _timeouts(2, 0.75))
    on_cancel = st.sampled_from(["end", "end", "clean up", "swallow"])
    return st.builds(Script, attempts, st.one_of(limits, limits, limits, st.none()), on_cancel).filter(_is_clear)


def _is_clear(script: Script) -> bool:
    """Whether at most one limit can interrupt an attempt, so that none can interrupt its clean-up."""
    limits = script.limits
    return script.on_cancel == "end" or limits is None or None in (limits.attempt_timeout, limits.deadline)


SCRIPTS = _scripts()


class Actor:
    """A job that plays a script, can be cancelled from outside, and knows whether that has happened."""

    def __init__(self, script: Script, visit: Callable[[str], None], successor: Callable[[], "Actor | None"]) -> None:
        self.script = script
        self.begun = False
        self.disturbed = False  # somebody other than the run has cancelled it
        self._visit = visit
        self._next = successor
        self._task: asyncio.Task[object] | None = None
        self._made = 0
        self._by_itself = False

    def cancel(self) -> None:
        """Cancel this job from outside, if it runs."""
        if self._task is not None and self._task.cancel():
            self.disturbed = True

    async def play(self) -> object:
        """Do what the script says."""
        self.begun = True
        self._task = asyncio.current_task()
        try:
            return await self._call()()
        except asyncio.CancelledError as error:
            if not self._by_itself:
                self._visit("cancelled in an attempt" if self._is_in_attempt(error) else "cancelled in a wait")
            raise
        finally:
            self._task = None

    def _call(self) -> Callable[[], Coroutine[object, None, object]]:
        limits = self.script.limits
        if limits is None:
            return self._attempt
        return supervise(
            retry_on=TRANSIENT,
            irrecoverable=IRRECOVERABLE,
            max_retries=limits.max_retries,
            backoff=[limits.delay * TICK],
            attempt_timeout=limits.attempt_timeout and limits.attempt_timeout * TICK,
            deadline=limits.deadline and limits.deadline * TICK,
        )(self._attempt)

    async def _attempt(self) -> object:
        self._made += 1
        attempt = self.script.attempt(self._made)
        try:
            await pause(attempt.ticks)
        except asyncio.CancelledError:
            if self.script.on_cancel != "end":
                await pause(CLEAN_UP)
            if self.script.on_cancel != "swallow":
                raise
            return SWALLOWED
        return await self._end(attempt.ending)

    def _is_in_attempt(self, error: BaseException) -> bool:
        frames = traceback.walk_tb(error.__traceback__)
        return any(frame.f_code is Actor._attempt.__code__ for frame, _ in frames)

    async def _end(self, ending: Ending) -> object:
        self._by_itself = raised_by(ending) is asyncio.CancelledError
        if ending == "cancel the next" and (actor := self._next()) is not None:
            actor.cancel()
        elif ending == "cancel myself" and self._task is not None:
            self._task.cancel()
            await asyncio.sleep(0)
        elif not isinstance(ending, str):
            raise ending
        return ending

    # The model's opinion of an outcome.

    def accepts(self, outcome: Outcome[object], *, cut: bool, stopped: bool) -> bool:
        """Whether the job may have come to this in a run that was stopped, or cut: ended while it still ran."""
        if self._is_as_scripted(outcome):
            return True
        if isinstance(outcome, Success):
            return (cut or self.disturbed) and outcome.value == SWALLOWED and self.script.on_cancel == "swallow"
        if isinstance(outcome, Failure):
            return self.disturbed and isinstance(outcome.error, asyncio.CancelledError)
        return outcome.started == self.begun and (cut or (stopped and not self.begun))

    def _is_as_scripted(self, outcome: Outcome[object]) -> bool:
        error, reason, attempts, ticks = self.script.ends()
        if isinstance(outcome, Success):
            known = error is None
        elif isinstance(outcome, Failure):
            known = type(outcome.error) is error and outcome.reason is reason
        else:
            return False
        return known and outcome.attempts == attempts and abs(outcome.elapsed - ticks * TICK) < TICK / 100
