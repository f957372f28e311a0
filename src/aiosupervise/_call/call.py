"""The state of one call, and the reaction to each failure. This module neither waits nor uses asyncio.

A driver makes the attempts and waits between them: `retry` for coroutines, `thread` for plain functions, each with its
own clock. The driver, or the block that makes an attempt, reports each failure and the success to the call.
`Call.on_failure` classifies the error, decides according to the policy, takes the tokens for a retry from the retry
budget, and records either the delay and the error of the attempt, or the error to raise. In a batch, the call reports
each failure and each successful retry to the job around it, which charges the retries to the budget of the run, and
decides when a waiting call may continue.

An error that is kept during a wait has no traceback: see `frames.drop_tracebacks`. Its line in the note is created only
when two further attempts have failed, because most calls succeed before that.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable
from logging import WARNING

from aiosupervise._events.emit import emit
from aiosupervise._events.listeners import listeners
from aiosupervise._events.log import CALLS, is_logged
from aiosupervise._events.records import AttemptFailed, AttemptStarted, CallFinished, Event, GaveUp, Recovered
from aiosupervise._policy.arguments import Arguments, read_once, used_up
from aiosupervise._policy.classify import PAST_DEADLINE, SPECIAL, Classification, Transient, classify, classify_ordinary
from aiosupervise._policy.decide import PASS_THROUGH, Decision, PassThrough, Stop, decide
from aiosupervise._policy.errors import DeadlineExceeded, unwrap
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.raw import cause_of, context_of, set_context, set_traceback, traceback_of
from aiosupervise._policy.verdict import Reason, add_line, attach_earlier_errors, attach_verdict, serial_numbers

from .enclosing_job import EnclosingJob, Permit, current_job
from .frames import given_up_inside, register_layer, register_module, register_retry_loop, without_internal_frames
from .no_waiting import no_waits

_numbers = itertools.count(1)


class Call:
    """The state of one call.

    While `final_error` is None, the call continues: with its first attempt if `last_error` is None, otherwise with a
    wait of `delay` seconds and another attempt.
    """

    __slots__ = (
        "arguments",
        "attempts",
        "cost",
        "delay",
        "error_before",
        "final_error",
        "first_failure",
        "is_logged",
        "is_special",
        "job",
        "last_error",
        "last_serial",
        "lines",
        "name",
        "number",
        "policy",
        "probes",
        "read_once",
        "started",
        "waits",
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
        """Create the state of a call that has made `attempts` attempts.

        Args:
            policy: the policy of the call.
            name: the name of the call in events.
            started: the time at the start; None if the policy has no limits.
            arguments: the arguments of each attempt.
            attempts: the number of attempts that have begun.
            last_serial: the serial number of the newest verdict when the last of these attempts began. If a call inside
                an attempt gives up, the error of that attempt has a verdict with a higher serial number.
        """
        no_waiting = no_waits.get()
        self.waits = no_waiting is None
        self.policy = policy if no_waiting is None else no_waiting.apply_to(policy)
        self.name = name
        # The number is assigned at the first event.
        self.number = 0
        self.started = started
        self.arguments = arguments
        self.job = current_job.get()
        self.attempts = attempts
        self.last_serial = last_serial
        # The number of attempts that were probes, which do not count as retries.
        self.probes = 0
        # The lines about the errors before `error_before`, which is the error before `last_error`.
        self.lines: tuple[str, ...] = ()
        self.error_before: Exception | None = None
        self.last_error: Exception | None = None
        self.final_error: Exception | None = None

    @abc.abstractmethod
    def now(self) -> float:
        """Return the current time of the driver's clock."""

    def time_left(self) -> float | None:
        """Return the seconds until the deadline; None if the policy has none."""
        deadline = self.policy.deadline
        return None if deadline is None or self.started is None else self.started + deadline - self.now()

    def begin(self) -> None:
        """Record that an attempt begins."""
        self.attempts += 1
        self.last_serial = serial_numbers.issued
        if listeners.count:
            self.emit(AttemptStarted, self.attempts)

    def on_failure(self, raised: Exception, own_wrappers: int = 0) -> None:
        """Decide what to do about the error that ended an attempt, and record it.

        Args:
            raised: the error.
            own_wrappers: the number of frames in its traceback that belong to this call's own wrapper: 1 if the wrapper
                made the attempt, otherwise 0.

        """
        policy, job = self.policy, self.job
        if self.attempts == 1:
            self.first_failure = self.now()
            self.read_once = read_once(self.arguments)
        self.is_special = is_special = issubclass(type(raised), SPECIAL)
        error = unwrap(raised) if is_special else raised
        # Nested calls do not multiply the retries: if a call inside the attempt gave up on the error, so does this one.
        if serial_numbers.issued != self.last_serial and given_up_inside(raised, self.last_serial, own_wrappers):
            if job is not None:
                job.on_neutral()
            self._end(error, PASS_THROUGH)
            return
        classification = classify(policy, raised) if is_special else classify_ordinary(policy, raised)
        elapsed = 0.0 if self.started is None else self.now() - self.started
        decision = decide(policy, error, classification, self.attempts - self.probes, elapsed)
        if job is not None:
            job.on_failure(policy, raised, classification)
        if isinstance(decision, float) and (self.read_once or policy.budget is not None or job is not None):
            decision = self._check_retry(decision, classification)
        if not isinstance(decision, float):
            self._end(error, decision, is_past_deadline=classification is PAST_DEADLINE)
            return
        # Retries without a wait follow each other so quickly that a single check of the loggers is sufficient for all
        # of them.
        if self.attempts == 1 or decision > 0.0:
            self.is_logged = is_logged(CALLS, WARNING)
        if listeners.count or self.is_logged:
            self.emit(AttemptFailed, self.attempts, error, decision)
        if self.error_before is not None:
            self.lines = add_line(self.lines, self.attempts - 2, self.error_before)
        self.error_before, self.last_error = self.last_error, error
        self.delay = decision if self.waits else 0.0

    def _end(self, error: Exception, decision: Stop | PassThrough, *, is_past_deadline: bool = False) -> None:
        """End the call with this error, because there is no further attempt."""
        if listeners.count:
            self.emit(AttemptFailed, self.attempts, error, None)
        if isinstance(decision, Stop):
            if is_past_deadline:
                self._set_cause(error)
            self._give_up(error, decision.reason, decision.detail)
            return
        if self.last_error is not None:
            self._add_other_lines()
            attach_earlier_errors(error, self.policy.name, self.attempts, self.last_serial, self.lines)
        self._set_final_error(error)

    def _set_cause(self, error: Exception) -> None:
        """Make the last error the cause of the DeadlineExceeded with which the deadline of this call ended an attempt.

        Until then, its cause is the CancelledError of the interrupted attempt. User code can also raise a
        DeadlineExceeded, whose cause is not changed.
        """
        is_users_own = self.policy.deadline is None or issubclass(type(cause_of(error)), Exception)
        if type(error) is DeadlineExceeded and not is_users_own and self.last_error is not None:
            error.__cause__ = self.last_error

    def _check_retry(self, delay: float, classification: Classification) -> Decision:
        """Take the tokens for a retry from the budget, and return the delay, or the decision that there is no retry."""
        detail = used_up(self.read_once)
        if detail is not None:
            return Stop(Reason.USED_UP, detail)
        cost: int | None = 0
        throttled = isinstance(classification, Transient) and classification.retry_after is not None
        if self.policy.budget is not None:
            cost = self.policy.budget.take(throttled=throttled)
        elif self.job is not None:
            # The run may make the retry wait longer.
            cost, delay = self.job.charge(delay, throttled=throttled)
        if cost is None:
            return Stop(Reason.BUDGET)
        self.cost = cost
        return float(delay)

    def _add_other_lines(self) -> None:
        """Add the lines about the last two earlier errors, which were postponed until the call ended with an error."""
        if self.error_before is not None:
            self.lines = add_line(self.lines, self.attempts - 2, self.error_before)
        if self.last_error is not None:
            self.lines = add_line(self.lines, self.attempts - 1, self.last_error)

    def on_permit(self, permit: Permit, job: EnclosingJob, last_error: Exception) -> None:
        """Record whether the job permits another attempt after a wait; if not, give up."""
        if permit is Permit.STOP:
            self.on_refusal(last_error, Reason.BUDGET)
        else:
            self.probes += permit is Permit.PROBE
            job.on_retry()

    def on_refusal(self, last_error: Exception, reason: Reason) -> None:
        """Give up on the last error, because the planned retry cannot be made."""
        # The last error becomes the final error, and the error before it becomes the last of the earlier errors.
        self.last_error, self.error_before = self.error_before, None
        self._give_up(last_error, reason)

    def is_too_late(self, last_error: Exception) -> bool:
        """Give up if the wait would end after the deadline; return whether the call has ended.

        This was checked when the retry was decided on, but a listener or the code after a block may have taken time
        since then, or a pause of the run may have made the wait longer.
        """
        left = self.time_left()
        if left is not None and self.delay >= left:
            self.on_refusal(last_error, Reason.DEADLINE)
        return self.final_error is not None

    def _give_up(self, error: Exception, reason: Reason, detail: str | None = None) -> None:
        elapsed = self.now() - self.first_failure
        self._add_other_lines()
        lines = self.lines if detail is None else (detail, *self.lines)
        attach_verdict(error, self.policy.name, self.attempts, elapsed, reason, lines)
        self.emit(GaveUp, self.attempts, elapsed, reason, error)
        self._set_final_error(error)

    def _set_final_error(self, error: Exception) -> None:
        set_traceback(error, without_internal_frames(traceback_of(error)))
        self.final_error = error

    def on_success(self) -> None:
        """Record the success: add tokens to the budget, and inform the job and the listeners.

        The tokens are the refill if the first attempt succeeded, otherwise those that the last retry took.
        """
        budget = self.policy.budget
        if budget is not None:
            budget.put(budget.refill if self.attempts == 1 else self.cost)
        if self.attempts > 1:
            if self.job is not None:
                self.job.on_success(0 if budget is not None else self.cost)
            if listeners.count:
                self.emit(Recovered, self.attempts, self.now() - self.first_failure)
        if listeners.count:
            self.emit(CallFinished, self.attempts, None)

    def take_final_error(self) -> Exception:
        """End the call: drop the reference to the error to raise, and return the error."""
        final: Exception = self.final_error  # type: ignore[assignment]  # there is one
        self.final_error = self.last_error = self.error_before = None
        if listeners.count:
            self.emit(CallFinished, self.attempts, final)
        return final

    def raise_final_error(self) -> None:
        """Raise the error that ends the call, if any."""
        if self.final_error is None:
            return
        final = self.take_final_error()
        # The context is restored, because raising the error replaces it with the error that the caller is handling.
        context = context_of(final)
        try:
            raise final
        finally:
            set_context(final, context)
            del final, context

    def on_abandoned(self, error: BaseException) -> None:
        """Record that the call ends without an outcome during an attempt or a wait, for example by cancellation."""
        if self.job is not None:
            self.job.on_neutral()
        if listeners.count:
            self.emit(CallFinished, self.attempts, error)

    def emit(self, kind: Callable[..., Event], *values: object) -> None:
        """Emit an event of this call, given the values that follow the fields common to all events of a call."""
        self.number = self.number or next(_numbers)
        job = self.job
        run, index, group = (None, None, None) if job is None else (job.run, job.index, job.group)
        fields = (self.number, self.name, run, index, *values)
        emit(kind, fields if group is None else (*fields, group), job)


register_module(__name__)
register_retry_loop(Call)
register_layer(Call.raise_final_error.__code__)
