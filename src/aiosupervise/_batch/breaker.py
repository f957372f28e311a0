"""A circuit breaker that pauses: when the service behind a run fails, the run waits, sends a probe, and resumes.

Theory of operation. Every retry of the run's calls is paid from a budget. When the budget is empty, the circuit opens:
no job is started, and calls that want to retry wait in a queue. After a pause the circuit is half-open: the first
waiter is sent as a probe, or a new job if there is none. Its success closes the circuit: the waiters are released, in
order and without paying. Its failure opens the circuit again for twice as long, and puts the probe at the end of the
queue. A server that asks to wait pauses the run too, with the circuit closed: no probe is needed, and when the time has
come, the waiters are released one after another (the ramp-up), since all at once would only be turned away again.

    CLOSED -> PAUSED -> HALF_OPEN -> CLOSED | PAUSED | STOPPED

Laws, each with a test:
- A failure that is the call's own (irrecoverable, or not listed) says nothing about the service: it is neutral, and as
  a probe it makes room for the next one.
- The breaker does not wait for a probe that has ended in whatever way, cancellation included.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._call.no_waiting import no_waits
from aiosupervise._events.outcomes import Outcome, Stopped, Success
from aiosupervise._events.records import RunPaused, RunResumed
from aiosupervise._policy.budget import Budget

from .overload import Overload
from .protocol import EngineContext

_SPREAD = 0.25  # of a server's retry-after: the time over which those who waited for it come back
_DOUBLINGS = 60  # of a pause: after these any is longer than a lifetime, and no number overflows


_probing_call: ContextVar[object] = ContextVar("aiosupervise.probing_call", default=None)
"""The call that was sent as a probe: whatever is called in its attempt is part of the probe."""


class State(enum.Enum):
    """The states of a breaker."""

    CLOSED = "closed"  # or ramping up: jobs and retries go on
    PAUSED = "paused"  # nothing goes on: the circuit is open, or the server asked to wait
    HALF_OPEN = "half-open"  # one probe at a time
    STOPPED = "stopped"  # too many probes have failed


class Breaker:
    """The circuit of one run, its budget, and the queue of calls that wait to retry."""

    def __init__(self, setting: Overload, context: EngineContext[Any, Any]) -> None:
        self.is_closed = True  # the circuit is closed, and no ramp-up is under way
        self._state = State.CLOSED
        self._setting = setting
        self._context = context
        self.budget = Budget() if setting.budget is None else setting.budget
        self._time_scale = 1.0 if no_waits.get() is None else 0.0
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[asyncio.Future[Permit], object] = {}
        self._probe: object | None = None  # a call that retries, or a new job
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False  # the circuit is open: the pause ends with a probe
        self._pause_end = 0.0
        self._retry_after_end = 0.0
        self._retry_after = 0.0  # seconds, as the server asked last
        self._ramp_up_end = 0.0
        self._failed_probes = 0  # in a row
        self._new_jobs = 0  # that the ramp-up lets start
        self._closed = False

    def describe(self) -> str:
        """Return in words why the run starts no job; an empty text if the circuit is closed."""
        if self._state is State.PAUSED:
            return f"paused for {max(self._pause_end - self._loop.time(), 0.0):.1f} s, {self._why()}"
        if self._state is State.STOPPED:
            return f"stopped, {self._failed_probes} probes failed"
        return "" if self._state is State.CLOSED else "probing"

    def _why(self) -> str:
        return "the retry budget is empty" if self._is_open else "the server asked to wait"

    # Reports and requests of the calls in the run.

    def on_failure(self, job: object, retry_after: float | None) -> None:
        """Record an attempt that failed by a fault of the service, which may have asked to wait."""
        if retry_after is not None and self._loop.time() + retry_after * self._time_scale >= self._retry_after_end:
            self._retry_after = retry_after * self._time_scale
            self._retry_after_end = self._loop.time() + self._retry_after
        if self._is_probe(job):
            self._probe_failed()
        elif retry_after is not None and self._probe is None and self._state in (State.CLOSED, State.HALF_OPEN):
            self._pause()

    def _is_probe(self, job: object) -> bool:
        return self._probe is not None and self._probe in (job, _probing_call.get())

    def on_neutral(self, job: object) -> None:
        """Record an attempt that ended in a way that says nothing about the service."""
        if self._is_probe(job):
            self._probe = None
            self._send_probe()

    def on_success(self, price: int) -> None:
        """Record a retry that succeeded, and refund its price; it may have been the probe."""
        self.budget.put(price)
        if self._probe is not None and self._probe is _probing_call.get():
            self._probe_succeeded()

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Take the price of a retry; while the circuit is open it costs nothing, and waits in the queue alone."""
        if self._closed:
            return 0, delay
        if self._state is State.STOPPED:
            return None, delay
        if self._is_open:
            return 0, 0.0
        price = self.budget.take(throttled=throttled)
        if price is not None or self._setting.when_exhausted == "fail":
            return price, delay
        self._is_open = True
        self._pause(self._setting.first_pause)
        return 0, 0.0

    async def acquire(self, call: object) -> Permit:
        """Wait in the queue until a call may retry."""
        if self.is_closed:
            return Permit.GO
        if self._state is State.STOPPED:
            return Permit.STOP
        waiter: asyncio.Future[Permit] = self._loop.create_future()
        self._waiters[waiter] = call
        if self._state is State.HALF_OPEN and self._probe is None:
            self._send_probe()
        try:
            permit = await waiter
        except asyncio.CancelledError:
            self._waiters.pop(waiter, None)
            if call is self._probe:  # it was sent, and cancelled before it could run
                self._probe = None
            if self._state is State.HALF_OPEN and self._probe is None:
                self._send_probe()
            raise
        if permit is Permit.PROBE:
            _probing_call.set(call)
        return permit

    # Reports and requests of the pump.

    def free_slots(self) -> int:
        """Return how many new jobs may start while the circuit is not closed, or ramps up."""
        if self._state is State.HALF_OPEN:
            return int(self._probe is None and not self._waiters)
        return self._new_jobs

    def started(self, job: object) -> None:
        """Record that a new job starts while the circuit is not closed, or ramps up."""
        if self._state is State.HALF_OPEN and self._probe is None:
            self._probe = job
        self._new_jobs = 0

    def ended(self, job: object, outcome: Outcome[object, object]) -> None:
        """Record the outcome of a job."""
        if isinstance(outcome, Success):
            if outcome.attempts == 1:
                self.budget.put(self.budget.refill)
            if job is self._probe:
                self._probe_succeeded()
        else:
            self.on_neutral(job)

    def close(self) -> None:
        """Release the calls that outlive the run, which has ended."""
        self._closed = self.is_closed = True
        self._probe = None
        if self._state is not State.STOPPED:
            self._state = State.CLOSED
            self._release(Permit.GO)
        self._stop_timer()

    # Pauses and probes.

    def _pause(self, seconds: float = 0.0) -> None:
        """Pause for half of these seconds at least, and for as long as the server asked."""
        if self._closed:
            return
        self._state = State.PAUSED
        self.is_closed = False
        self._new_jobs = 0
        now = self._loop.time()
        seconds *= self._time_scale
        self._pause_end = max(now + random.uniform(seconds / 2, seconds), self._retry_after_end)  # noqa: S311 - no secret
        self._set_timer(self._pause_end, self._on_pause_end)
        self._context.scope.emit(RunPaused, self._pause_end - now, self._why())

    def _on_pause_end(self) -> None:
        if self._retry_after_end > self._pause_end:
            self._pause()
        elif self._is_open:
            self._state = State.HALF_OPEN
            self._send_probe()
        else:
            self._close_circuit()
            self._ramp_up_end = self._loop.time() + self._retry_after * _SPREAD
            self._ramp_up()

    def _send_probe(self) -> None:
        """Send the first waiter as the probe; if there is none, the pump may start a new job as one."""
        waiter = self._first_waiter()
        if self._retry_after_end > self._loop.time():
            self._pause()
        elif waiter is None:
            self._context.wake()
        else:
            self._probe = self._waiters.pop(waiter)
            waiter.set_result(Permit.PROBE)

    def _probe_failed(self) -> None:
        self._probe = None
        self._failed_probes += 1
        if self._failed_probes < self._setting.probes:
            longer = self._setting.first_pause * 2.0 ** min(self._failed_probes, _DOUBLINGS)
            self._pause(min(longer, self._setting.longest_pause))
            return
        self._state = State.STOPPED
        self._release(Permit.STOP)
        self._context.stop(Stopped.PROBES)

    def _probe_succeeded(self) -> None:
        self.budget.put(self.budget.capacity // 4)
        self._resume()

    def _resume(self) -> None:
        """Close the circuit and release all waiters, unless the server has asked to wait longer."""
        self._probe = None
        self._is_open = False
        self._failed_probes = 0
        if self._retry_after_end > self._loop.time():
            self._pause()
        else:
            self._close_circuit()
            self.is_closed = True
            self._release(Permit.GO)
            self._context.wake()

    def _close_circuit(self) -> None:
        if self._state is not State.CLOSED:
            self._context.scope.emit(RunResumed)
        self._state = State.CLOSED

    # The queue.

    def _first_waiter(self) -> asyncio.Future[Permit] | None:
        # A waiter that has been cancelled is in the queue until its task runs.
        return next((waiter for waiter in self._waiters if not waiter.done()), None)

    def _release(self, permit: Permit) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(permit)

    def _ramp_up(self) -> None:
        """Release one waiter, or let one new job start, and come back for the next."""
        now = self._loop.time()
        if now >= self._ramp_up_end:
            self._resume()
            return
        waiter = self._first_waiter()
        if waiter is None:
            self._new_jobs = 1
            self._context.wake()
        else:
            del self._waiters[waiter]
            waiter.set_result(Permit.GO)
        gap = self._retry_after * _SPREAD / max(self._context.tally.limit or 1, len(self._waiters))
        self._set_timer(now + random.uniform(0, 2 * gap), self._ramp_up)  # noqa: S311 - no secret

    def _set_timer(self, when: float, act: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(when, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # a cancelled timer, too, holds its context, and that one of our jobs
