"""The retry loop: a policy applied to one call.

Theory of operation. A wrapper makes the first attempt of a call. If that fails, the wrapper creates a `Call`, which
holds the state of this call alone, and tells it of the failure. `Call.on_failure` classifies the error, decides by
the policy (`_policy.classify`, `_policy.decide`), pays for a retry, and records the result: either a delay and the
error of the attempt, or the error to raise. `Call.run` obeys: it waits and makes another attempt, or raises.

In a batch, the job around the call is informed of each failure and of each success of a retry, sells the retries, and
decides when a call that has waited may go on: see `enclosing_job`.

Laws, each with a test:
- Only an Exception is caught: cancellation and exit pass through.
- Each further attempt is made outside of any `except` block, and the error that is kept during the wait has no
  traceback, since a traceback keeps the local variables of the failed attempt alive.
- A frame that holds an error drops it before raising it, since error and frame would otherwise refer to each other
  and stay in memory until the garbage collector finds the cycle.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from logging import WARNING
from typing import Any, TypeAlias, TypeVar

from aiosupervise._events.emit import emit
from aiosupervise._events.listeners import listeners
from aiosupervise._events.log import CALLS, is_logged
from aiosupervise._events.records import AttemptFailed, AttemptStarted, CallFinished, Event, GaveUp, Recovered
from aiosupervise._policy.arguments import used_up
from aiosupervise._policy.budget import Budget
from aiosupervise._policy.checks import error_text
from aiosupervise._policy.classify import classify
from aiosupervise._policy.decide import PASS_THROUGH, Decision, PassThrough, Retry, Stop, decide
from aiosupervise._policy.errors import DeadlineExceeded, unwrap
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.raw import context_of, set_context, set_traceback, traceback_of
from aiosupervise._policy.verdict import Reason, attach_earlier_errors, attach_verdict, serial_numbers

from .enclosing_job import EnclosingJob, Permit, current_job
from .frames import drop_tracebacks, given_up_inside, register_module, register_retry_loop, without_internal_frames
from .limits import await_until, now
from .no_waiting import no_waits

R = TypeVar("R")
Coro: TypeAlias = Coroutine[object, None, R]
Arguments: TypeAlias = tuple[Callable[..., object], tuple[Any, ...], Mapping[str, Any]]
"""The function of a call, with its arguments by position and by name."""

_MAX_EARLIER_ERRORS = 10
"""The earlier errors that a verdict lists."""

_MAX_LINE = 200
"""Characters of the line about each."""

_numbers = itertools.count(1)


class Call:
    """The state of one call, and its retry loop.

    While `final_error` is None, the call goes on: if `last_error` is None, with its first attempt, else with a wait of
    `delay` seconds and another attempt.
    """

    __slots__ = (
        "arguments",
        "attempts",
        "delay",
        "earlier_errors",
        "final_error",
        "first_failure",
        "job",
        "last_error",
        "last_serial",
        "name",
        "no_waiting",
        "number",
        "policy",
        "price",
        "probes",
        "started",
    )

    def __init__(
        self,
        policy: Policy,
        name: str,
        started: float | None,
        arguments: Arguments,
        attempts: int = 0,
        last_serial: int = 0,
    ) -> None:
        """Create the state of a call of which `attempts` were made.

        Args:
            policy: the policy of the call.
            name: the name of the call in events.
            started: the loop's time at the start; None if the policy has no limits.
            arguments: what each attempt is given.
            attempts: the number of attempts that were begun.
            last_serial: the serial number of the newest verdict before the last of them. An attempt ends with a newer
                one if a call inside of it gave up.

        """
        self.no_waiting = no_waits.get()
        self.policy = policy if self.no_waiting is None else self.no_waiting.apply_to(policy)
        self.name = name
        self.number = 0  # until its first event
        self.started = started
        self.arguments = arguments
        self.job = current_job.get()
        self.attempts = attempts
        self.last_serial = last_serial
        # How many of the attempts do not count as retries.
        self.probes = 0
        self.earlier_errors: list[str] = []
        self.last_error: Exception | None = None
        self.final_error: Exception | None = None

    async def run(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Make attempts until one succeeds or there is an error to raise."""
        try:
            while self.final_error is None:
                if self.last_error is not None:
                    drop_tracebacks(self.last_error)
                    await asyncio.sleep(self.delay if self.no_waiting is None else 0)
                    if self.job is not None and not await self._acquire_permit(self.job, self.last_error):
                        continue
                self.attempts += 1
                self.last_serial = serial_numbers.issued
                if listeners.count:
                    self._emit(AttemptStarted, self.attempts)
                try:
                    result = await attempt()
                except Exception as error:
                    self.on_failure(error)
                else:
                    if listeners.count or self.job is not None or self.policy.budget is not None:
                        self._on_success()
                    return result
        except BaseException as error:
            self._on_abandoned(error)
            raise
        final, self.final_error, self.last_error = self.final_error, None, None
        if listeners.count:
            self._emit(CallFinished, self.attempts, final)
        # Raising it here sets its context to the error that the caller is handling.
        context = context_of(final)
        try:
            raise final
        finally:
            set_context(final, context)
            del final, context

    def on_failure(self, error: Exception, own_wrappers: int = 0) -> None:
        """Decide what follows from the error that ended an attempt, and record it.

        Args:
            error: the error.
            own_wrappers: how many frames of this call's own wrapper are in its traceback: 1 if the wrapper made the
                attempt itself.

        """
        if self.attempts == 1:
            self.first_failure = now()
        raised, error = error, unwrap(error)
        decision = self._decide(raised, error, own_wrappers)
        if isinstance(decision, Retry):
            delay = decision.delay
            if listeners.count or is_logged(CALLS, WARNING):
                self._emit(AttemptFailed, self.attempts, error, delay)
            if self.last_error is not None:
                self._add_to_earlier_errors(self.last_error)
            self.delay, self.last_error = delay, error
            return
        if listeners.count:
            self._emit(AttemptFailed, self.attempts, error, None)
        if isinstance(decision, PassThrough):
            self._pass_through(error)
        else:
            self._give_up(error, decision.reason, decision.detail)

    def _decide(self, raised: Exception, error: Exception, own_wrappers: int) -> Decision:
        """Return the policy's decision, or that the call must stop because there can be no other attempt.

        Args:
            raised: the error that ended the attempt.
            error: the error that it stands for.
            own_wrappers: as for `on_failure`.

        """
        # Layers do not multiply: if a call inside of the attempt gave up on the error, so does this one.
        if serial_numbers.issued != self.last_serial and given_up_inside(raised, self.last_serial, own_wrappers):
            if self.job is not None:
                self.job.on_neutral()
            return PASS_THROUGH
        policy = self.policy
        classification = classify(policy, raised)
        elapsed = 0.0 if self.started is None else now() - self.started
        decision = decide(policy, error, classification, self.attempts - self.probes, elapsed)
        if self.job is not None:
            self.job.on_failure(policy, raised, classification)
        return self._check_retry(decision) if isinstance(decision, Retry) else decision

    def _check_retry(self, retry: Retry) -> Decision:
        """Return a retry, for which this pays, or the reason why it cannot be made."""
        detail = used_up(*self.arguments)
        if detail is not None:
            return Stop(Reason.USED_UP, detail)
        if self.policy.budget is not None:
            return self._pay_from_budget(self.policy.budget, retry)
        return retry if self.job is None else self._pay_from_run(self.job, retry)

    def _pay_from_budget(self, budget: Budget, retry: Retry) -> Decision:
        price = budget.take(throttled=retry.throttled)
        if price is None:
            return Stop(Reason.BUDGET)
        self.price = price
        return retry

    def _pay_from_run(self, job: EnclosingJob, retry: Retry) -> Decision:
        """Pay from the budget of the run, which may make the retry wait longer."""
        price, delay = job.pay(retry.delay, throttled=retry.throttled)
        if price is None:
            return Stop(Reason.BUDGET)
        self.price = price
        return Retry(delay, retry.throttled)

    def _add_to_earlier_errors(self, error: Exception) -> None:
        self.earlier_errors.append(f"attempt {self.attempts - 1}: {error_text(error, join_lines=True)}"[:_MAX_LINE])
        if len(self.earlier_errors) > _MAX_EARLIER_ERRORS:
            del self.earlier_errors[0]

    def _pass_through(self, error: Exception) -> None:
        """Raise the error without a verdict; if attempts failed before, a note lists their errors."""
        if self.last_error is not None:
            self._add_to_earlier_errors(self.last_error)
            attach_earlier_errors(error, self.policy.name, self.attempts, self.last_serial, self.earlier_errors)
        self._set_final_error(error)

    def _give_up(self, error: Exception, reason: Reason, detail: str | None = None) -> None:
        elapsed = now() - self.first_failure
        if self.last_error is not None:
            self._add_to_earlier_errors(self.last_error)
            if issubclass(type(error), DeadlineExceeded):
                error.__cause__ = self.last_error
        lines = self.earlier_errors if detail is None else [detail, *self.earlier_errors]
        attach_verdict(error, self.policy.name, self.attempts, elapsed, reason, lines)
        self._emit(GaveUp, self.attempts, elapsed, reason, error)
        self._set_final_error(error)

    def _set_final_error(self, error: Exception) -> None:
        set_traceback(error, without_internal_frames(traceback_of(error)))
        self.final_error = error

    async def _acquire_permit(self, job: EnclosingJob, last_error: Exception) -> bool:
        """Wait until the run permits another attempt; if it refuses, or the deadline comes first, give up."""
        try:
            permit = await self._await_within_deadline(functools.partial(job.acquire, self))
        except DeadlineExceeded:
            refusal = Reason.DEADLINE
        else:
            if permit is not Permit.STOP:
                self.probes += permit is Permit.PROBE
                job.on_retry()
                return True
            refusal = Reason.BUDGET
        # It is the final error now, and not one before it.
        self.last_error = None
        self._give_up(last_error, refusal)
        return False

    async def _await_within_deadline(self, func: Callable[[], Awaitable[R]]) -> R:
        seconds = self.policy.deadline
        if seconds is None or self.started is None:
            return await func()
        return await await_until(self.started + seconds, func, DeadlineExceeded, seconds)

    def _on_success(self) -> None:
        """Add to the budget: its refill if the first attempt succeeded, else the price of the last retry."""
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

    def _on_abandoned(self, error: BaseException) -> None:
        """Record that the call ends without an outcome, in an attempt or in a wait: it was cancelled, for instance."""
        if self.job is not None:
            self.job.on_neutral()
        if listeners.count:
            self._emit(CallFinished, self.attempts, error)

    def _emit(self, kind: Callable[..., Event], *values: object) -> None:
        """Emit an event of this call, given the values of its own fields."""
        self.number = self.number or next(_numbers)
        run, index = (None, None) if self.job is None else (self.job.run, self.job.index)
        emit(kind, (self.number, self.name, run, index, *values), self.job)


register_module(__name__)
register_retry_loop(Call)
