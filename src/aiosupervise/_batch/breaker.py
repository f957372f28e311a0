"""A circuit breaker that pauses: when the service behind a run fails, the run waits, sends a probe, and resumes.

Theory of operation. Every retry of the run's calls is paid from a budget. An empty budget alone is no sign of an
outage, as a few inputs that always fail empty it too. So the circuit opens only if, besides, most jobs have failed
their first attempt lately (`first_attempts`). Then no job is started, and calls that want to retry wait in a queue.
After a pause the circuit is half-open, and a probe is sent: a new job, or the first waiter if none can be had. Its
success closes the circuit: the waiters are released, in order and without paying. Its failure opens the circuit again
for twice as long, and puts the probe at the end of the queue. A server that asks to wait pauses the run too, with the
circuit closed: no probe is needed, and when the time has come, the waiters are released one after another (the
ramp-up), since all at once would only be turned away again.

Here is what the calls and the pump report to the circuit, and ask of it; its states are in `states`.

Laws, each with a test:
- A failure that is the call's own (irrecoverable, or not listed) says nothing about the service: it is neutral, and as
  a probe it makes room for the next one.
- The breaker does not wait for a probe that has ended in whatever way, cancellation included, nor for any probe longer
  than `longest_pause`.
- All of it happens in the run's own loop: see `JobContext`.
"""

from __future__ import annotations

from contextvars import ContextVar

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._call.tasks import running_loop
from aiosupervise._events.outcomes import Outcome, Success

from .circuit import Circuit, Ended, Payment
from .overload import Overload
from .protected import Protected
from .states import Closed

_probing_call: ContextVar[object] = ContextVar("aiosupervise.probing_call", default=None)
"""The call that was sent as a probe: whatever is called in its attempt is part of the probe."""


class Breaker:
    """What the calls of one run and its pump report to the run's circuit, and ask of it."""

    def __init__(self, setting: Overload, protected: Protected) -> None:
        self.circuit = Circuit(setting, protected, Closed)
        self.budget = self.circuit.budget
        self.first_attempts = self.circuit.first_attempts

    @property
    def is_at_rest(self) -> bool:
        """Whether the success of another job changes nothing."""
        budget = self.budget
        return self.first_attempts.are_clean and self.circuit.is_closed and budget.tokens >= budget.capacity

    def describe(self) -> str:
        """Return in words why the run starts no job; an empty text if the circuit is closed."""
        return self.circuit.state.describe()

    # Reports and requests of the calls in the run.

    def on_failure(self, job: object, retry_after: float | None, *, first: bool) -> None:
        """Record an attempt that failed by a fault of the service.

        Args:
            job: the job that made it.
            retry_after: the seconds for which the service asked to wait; None if it did not ask.
            first: whether it is the first attempt of the job that failed.

        """
        if first:
            self.first_attempts.record(failed=True)
        if retry_after is not None:
            self.circuit.record_retry_after(retry_after)
        self.circuit.state.on_failure(job, _probing_call.get(), asked=retry_after is not None)

    def on_neutral(self, job: object) -> None:
        """Record an attempt that ended in a way that says nothing about the service."""
        self.circuit.state.on_neutral(job, _probing_call.get())

    def on_success(self, price: int) -> None:
        """Record a retry that succeeded, and refund its price; it may have been the probe."""
        self.budget.put(price)
        self.circuit.state.on_success(_probing_call.get())

    def pay(self, delay: float, *, throttled: bool) -> Payment:
        """Pay for a retry, which may have to wait for longer or shorter than its policy says."""
        return self.circuit.state.pay(delay, throttled=throttled)

    async def acquire(self, call: object, job: object) -> Permit:
        """Wait in the queue until a call of a job may retry."""
        permit = self.circuit.state.permit()
        if permit is not None:
            return permit
        waiters = self.circuit.waiters
        waiter = waiters.join(call, job)
        self.circuit.state.on_wait()
        try:
            permit = await waiter
        except BaseException:
            # Cancelled, or closed, which the loop may have been before. It may have been sent as the probe.
            waiters.leave(waiter)
            if running_loop() is self.circuit.loop:
                self.circuit.state.on_neutral(call)
            raise
        if permit is Permit.PROBE:
            _probing_call.set(call)
        return permit

    # Reports and requests of the pump.

    def free_slots(self, slots: int, taken: int) -> int:
        """Return how many new jobs may start, where the limit lets `slots` start and `taken` slots are taken."""
        return self.circuit.state.free_slots(slots, taken)

    def started(self, job: object) -> None:
        """Record that a new job starts, or the attempt of a call that was sent as the probe."""
        self.circuit.state.on_start(job)

    def ended(self, job: object, outcome: Outcome[object, object], *, has_failed: bool) -> None:
        """Record the outcome of a job, of which an attempt may have failed before."""
        if isinstance(outcome, Success):
            if outcome.attempts == 1:
                self.budget.put(self.budget.refill)
                if not has_failed:
                    self.first_attempts.record(failed=False)
            self.circuit.state.on_success(job)
        else:
            self.on_neutral(job)

    def close(self) -> None:
        """Release the calls that outlive the run, which has ended."""
        self.circuit.go_to(Ended(self.circuit))
