"""The states of a run's circuit, each with the fields that it alone needs, and what the states share.

    Closed -> Paused -> RampUp -> Closed             the server asked to wait
    Closed -> Open -> HalfOpen -> Closed             the service fails, and a probe finds that it works again
                      HalfOpen -> Open | Stopped     a probe has failed; too many have

The server can ask to wait in any state: Paused and Open end no earlier than it asked. A retry that nobody can pay for
opens the circuit from Closed, Paused and RampUp alike. Ended follows on any state, when the run has ended.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import ClassVar

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._events.records import RunPaused, RunResumed

from .circuit import Circuit, Payment, State, Stopped, Timer

_SPREAD = 0.25  # of a server's retry-after: the time over which those who waited for it come back
_DOUBLINGS = 60  # of a pause: after these any is longer than a lifetime, and no number overflows


class Closed(State):
    """Everything goes on."""

    is_closed = True

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def enter(self) -> None:
        """Release the queue, in order and without paying, and let new jobs start."""
        self._circuit.waiters.release_all(Permit.GO)
        self._circuit.context.wake()

    def pay(self, delay: float, *, throttled: bool) -> Payment:
        """Pay from the budget."""
        return _pay(self._circuit, delay, throttled=throttled)

    def permit(self) -> Permit:
        """Let every call retry."""
        return Permit.GO

    def on_failure(self, *_: object, asked: bool) -> None:
        """Pause if the server asked to wait."""
        if asked:
            self._circuit.go_to(Paused(self._circuit))


class Pause(State, ABC):
    """Nothing goes on until a moment; retries wait in the queue."""

    why: ClassVar[str]

    def __init__(self, circuit: Circuit, seconds: float) -> None:
        self._circuit = circuit
        self._end = circuit.end_of_pause(seconds)
        self._timer = Timer()

    def enter(self) -> None:
        """Begin the pause."""
        self._timer.set(self._end, self._on_end)
        self._circuit.context.scope.emit(RunPaused, self._end - self._circuit.now(), self.why)

    def leave(self) -> None:
        """End the pause."""
        self._timer.cancel()

    def describe(self) -> str:
        """Return the time that is left, and why."""
        return f"paused for {max(self._end - self._circuit.now(), 0.0):.1f} s, {self.why}"

    def _on_end(self) -> None:
        is_over = self._circuit.retry_after_end <= self._end
        self._circuit.go_to(self._next() if is_over else self._again())

    @abstractmethod
    def _next(self) -> State:
        """Return the state after the pause."""

    @abstractmethod
    def _again(self) -> State:
        """Return the state if the server has asked for a later moment meanwhile."""


class Paused(Pause):
    """The server asked to wait. No probe is needed: the service is there."""

    why = "the server asked to wait"

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit, 0.0)

    def pay(self, delay: float, *, throttled: bool) -> Payment:
        """Pay from the budget."""
        return _pay(self._circuit, delay, throttled=throttled)

    def _next(self) -> State:
        return RampUp(self._circuit)

    def _again(self) -> State:
        return Paused(self._circuit)


class RampUp(State):
    """After a retry-after: one by one those in the queue go on, then new jobs.

    All at once would only be turned away again.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._seconds = circuit.retry_after * _SPREAD
        self._end = circuit.now() + self._seconds
        self._new_jobs = 0
        self._timer = Timer()

    def enter(self) -> None:
        """Release the first."""
        self._circuit.context.scope.emit(RunResumed)
        self._step()

    def leave(self) -> None:
        """Release no more."""
        self._timer.cancel()

    def pay(self, delay: float, *, throttled: bool) -> Payment:
        """Pay from the budget."""
        return _pay(self._circuit, delay, throttled=throttled)

    def free_slots(self, slots: int) -> int:
        """Let one new job start, when its moment has come."""
        return min(slots, self._new_jobs)

    def on_start(self, job: object) -> None:  # noqa: ARG002 - any job
        """Let no other start before the next moment."""
        self._new_jobs = 0

    def on_failure(self, *_: object, asked: bool) -> None:
        """Pause again if the server asked again."""
        if asked:
            self._circuit.go_to(Paused(self._circuit))

    def _step(self) -> None:
        """Release one waiter, or let one new job start, and come back for the next."""
        circuit = self._circuit
        now = circuit.now()
        if now >= self._end:
            circuit.go_to(Closed(circuit))
            return
        if circuit.waiters.release_first(Permit.GO) is None:
            self._new_jobs = 1
            circuit.context.wake()
        gap = self._seconds / max(circuit.context.tally.limit or 1, len(circuit.waiters))
        self._timer.set(now + random.uniform(0, 2 * gap), self._step)  # noqa: S311 - no secret


class Open(Pause):
    """The service fails: the run waits, each time twice as long, up to the longest pause."""

    why = "the retry budget is empty"

    def __init__(self, circuit: Circuit, *, failed_probes: int, pauses: bool = True) -> None:
        longer = circuit.setting.first_pause * 2.0 ** min(failed_probes, _DOUBLINGS)
        super().__init__(circuit, min(longer, circuit.setting.longest_pause) if pauses else 0.0)
        self._failed_probes = failed_probes

    def _next(self) -> State:
        return HalfOpen(self._circuit, self._failed_probes)

    def _again(self) -> State:
        return Open(self._circuit, failed_probes=self._failed_probes, pauses=False)


class HalfOpen(State):
    """One probe at a time finds out whether the service works again."""

    def __init__(self, circuit: Circuit, failed_probes: int) -> None:
        self._circuit = circuit
        self._failed_probes = failed_probes  # in a row
        self._probe: object | None = None  # a call that retries, or a new job

    def enter(self) -> None:
        """Send the first probe."""
        self._send_probe()

    def describe(self) -> str:
        """Return what is going on."""
        return "probing"

    def on_wait(self) -> None:
        """Send the call as the probe, if there is none."""
        if self._probe is None:
            self._send_probe()

    def free_slots(self, slots: int) -> int:
        """Let one new job start as the probe, if no call waits."""
        return min(slots, int(self._probe is None and not self._circuit.waiters))

    def on_start(self, job: object) -> None:
        """Make the job the probe."""
        if self._probe is None:
            self._probe = job

    def on_failure(self, *who: object, asked: bool) -> None:
        """Open the circuit again if it was the probe, or stop the run; and pause if the server asked to wait."""
        circuit = self._circuit
        if self._is_probe(who):
            failed = self._failed_probes + 1
            circuit.go_to(
                Open(circuit, failed_probes=failed) if failed < circuit.setting.probes else Stopped(circuit, failed)
            )
        elif asked and self._probe is None:
            circuit.go_to(Open(circuit, failed_probes=self._failed_probes, pauses=False))

    def on_neutral(self, *who: object) -> None:
        """Send the next probe, if it was the last one that ended without an answer."""
        if self._is_probe(who):
            self._probe = None
            self._send_probe()

    def on_success(self, *who: object) -> None:
        """Close the circuit if it was the probe, unless the server has asked to wait longer."""
        circuit = self._circuit
        if not self._is_probe(who):
            return
        circuit.budget.put(circuit.budget.capacity // 4)
        if circuit.retry_after_end > circuit.now():
            circuit.go_to(Paused(circuit))
        else:
            circuit.context.scope.emit(RunResumed)
            circuit.go_to(Closed(circuit))

    def _is_probe(self, who: tuple[object, ...]) -> bool:
        return self._probe is not None and self._probe in who

    def _send_probe(self) -> None:
        """Send the first waiter as the probe; if there is none, the pump may start a new job as one."""
        circuit = self._circuit
        if circuit.retry_after_end > circuit.now():
            circuit.go_to(Open(circuit, failed_probes=self._failed_probes, pauses=False))
            return
        self._probe = circuit.waiters.release_first(Permit.PROBE)
        if self._probe is None:
            circuit.context.wake()


def _pay(circuit: Circuit, delay: float, *, throttled: bool) -> Payment:
    """Take the price of a retry from the budget; if that is empty, open the circuit, or refuse."""
    price = circuit.budget.take(throttled=throttled)
    if price is not None or circuit.setting.when_exhausted == "fail":
        return price, delay
    circuit.go_to(Open(circuit, failed_probes=0))
    return 0, 0.0
