"""A circuit breaker that pauses a run when its service fails, sends a probe, and resumes when the probe succeeds.

Theory of operation. Every retry of the run's calls takes tokens from a budget. An empty budget alone does not indicate
an outage, because a few inputs that always fail also empty it. The circuit therefore opens only if, in addition, most
jobs have recently failed their first attempt (`first_attempts`). While it is open, no job is started, and calls that
need to retry wait in a queue. After a pause the circuit is half-open, and a probe is sent: a new job, or the first
waiter if no new job is available. If the probe succeeds, the circuit closes: the waiters are released in order, without
taking tokens. If the probe fails, the circuit opens again for twice as long, and a call that was the probe goes to the
end of the queue. A server that asks for a wait also pauses the run, but leaves the circuit closed: no probe is needed.
After the wait, the waiters are released one after another (the ramp-up), because simultaneous retries would only be
rejected again.

This module handles the reports and requests of the calls and the pump; the module `states` contains the circuit states.

Invariants, each with a test:
- A failure caused by the call itself (irrecoverable, or not listed) does not show whether the service works. It is
  neutral: if a probe ends in this way, the next probe is sent.
- The breaker stops waiting for a probe when the probe ends in any way, including cancellation, or has taken longer than
  `longest_pause`.
- All methods are called in the run's own event loop; see `RunContext.is_running_here`.
"""

from __future__ import annotations

from contextvars import ContextVar

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._call.tasks import running_loop
from aiosupervise._events.outcomes import Outcome, Success

from .circuit import Charge, Circuit, Ended
from .overload import Overload
from .protected import Protected
from .states import Closed
from .waiters import WaitingJob

_probing_call: ContextVar[object] = ContextVar("aiosupervise.probing_call", default=None)
"""The call that was sent as a probe; all calls within its attempt are part of the probe."""


class Breaker:
    """Passes the reports and requests of one run's calls and pump to the circuit of the run."""

    def __init__(self, setting: Overload, protected: Protected, successes: int) -> None:
        """Create the breaker of a run or of a group.

        Args:
            setting: the settings of the overload protection.
            protected: the run or group that the breaker protects.
            successes: the number of jobs that succeeded before any job failed because of the service.
        """
        self.circuit = Circuit(setting, protected, Closed, successes)
        self.budget = self.circuit.budget
        self.first_attempts = self.circuit.first_attempts

    @property
    def is_clean(self) -> bool:
        """True if recording another successful job would change nothing."""
        budget = self.budget
        return self.first_attempts.are_clean and self.circuit.is_closed and budget.tokens >= budget.capacity

    def describe(self) -> str:
        """Return the reason why no jobs are starting at the moment, or an empty string."""
        return self.circuit.state.describe()

    # Reports and requests of the calls in the run.

    def on_failure(self, job: object, retry_after: float | None, *, first: bool) -> None:
        """Record an attempt that failed because of the service.

        Args:
            job: the job that made the attempt.
            retry_after: the wait in seconds that the service asked for; None if it did not ask for a wait.
            first: True for the first failed attempt of the job.
        """
        if first:
            self.first_attempts.record(failed=True)
        if retry_after is not None:
            self.circuit.record_retry_after(retry_after)
        self.circuit.state.on_failure(job, _probing_call.get(), asked=retry_after is not None)

    def on_neutral(self, job: object) -> None:
        """Record an attempt whose result does not show whether the service works."""
        self.circuit.state.on_neutral(job, _probing_call.get())

    def on_success(self, cost: int) -> None:
        """Record a successful retry, which may have been the probe, and return its tokens to the budget."""
        self.budget.put(cost)
        self.circuit.state.on_success(_probing_call.get())

    def charge(self, delay: float, *, throttled: bool) -> Charge:
        """Take the tokens for a retry from the budget; the returned wait may differ from `delay`."""
        return self.circuit.state.charge(delay, throttled=throttled)

    async def acquire(self, call: object, job: WaitingJob) -> Permit:
        """Wait in the queue until a call of a job receives a permit, and return the permit."""
        permit = self.circuit.state.permit()
        if permit is not None:
            return permit
        waiters = self.circuit.waiters
        waiter = waiters.join(call, job)
        self.circuit.state.on_wait()
        try:
            permit = await waiter
        except BaseException:
            # The call, which may have been sent as the probe, was cancelled or closed, perhaps after its loop was
            # closed.
            waiters.leave(waiter)
            if running_loop() is self.circuit.loop:
                self.circuit.state.on_neutral(call)
            raise
        if permit is Permit.PROBE:
            _probing_call.set(call)
        return permit

    # Reports and requests of the pump.

    def free_slots(self, slots: int, taken: int) -> int:
        """Return how many new jobs may start, when the limit permits `slots` more and `taken` slots are occupied."""
        return self.circuit.state.free_slots(slots, taken)

    def on_start(self, job: object) -> None:
        """Record the start of a new job, or of the attempt of a call that was sent as the probe."""
        self.circuit.state.on_start(job)

    def on_end(self, job: object, outcome: Outcome[object, object], *, has_failed: bool) -> None:
        """Record the outcome of a job; `has_failed` is True if one of its attempts failed because of the service."""
        if isinstance(outcome, Success):
            if outcome.attempts == 1:
                self.budget.put(self.budget.refill)
                if not has_failed:
                    self.first_attempts.record(failed=False)
            self.circuit.state.on_success(job)
        else:
            self.on_neutral(job)

    def close(self) -> None:
        """Release the calls that outlive the run."""
        self.circuit.go_to(Ended(self.circuit))
