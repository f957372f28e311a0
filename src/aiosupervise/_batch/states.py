"""The states of a run's circuit, each with its own fields.

    Closed -> Paused -> RampUp -> Closed     the server asked for a wait
    Closed -> Open -> HalfOpen -> Closed     the service fails, and a probe shows that it works again
    HalfOpen -> Open                         a probe has failed
    HalfOpen -> PermanentlyOpen              too many probes have failed

The server can ask for a wait in any state: Paused and Open last at least until that wait has ended. If the budget is
empty while most first attempts fail, the circuit opens from Closed, Paused and RampUp alike. An overdue probe counts as
failed, but if it succeeds after all, the circuit closes, even from the state Open. When the run ends, every state
changes to Ended.
"""

from __future__ import annotations

import random
from functools import partial

from aiosupervise._call.enclosing_job import Permit

from .circuit import Charge, Circuit, CircuitState, PermanentlyOpen, Timer
from .outage import Outage
from .pause import Pause

# The duration of the ramp-up, as a fraction of the wait that the server asked for.
_SPREAD = 0.25


class Closed(CircuitState):
    """The normal state: jobs and retries start without delay."""

    is_closed = True

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def enter(self) -> None:
        """Release the queued calls in order, without taking tokens, and let new jobs start."""
        self._circuit.waiters.release_all(Permit.GO)
        self._circuit.protected.wake()

    def charge(self, delay: float, *, throttled: bool) -> Charge:
        """Take the tokens for a retry from the retry budget."""
        return _charge(self._circuit, delay, throttled=throttled)

    def permit(self) -> Permit:
        """Let every call retry."""
        return Permit.GO

    def on_failure(self, *_: object, asked: bool) -> None:
        """Pause if the server asked for a wait."""
        if asked:
            self._circuit.go_to(Paused(self._circuit))


class Paused(Pause):
    """The server asked for a wait. No probe is needed, because the service responds."""

    why = "the server asked to wait"

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit, 0.0)

    def charge(self, delay: float, *, throttled: bool) -> Charge:
        """Take the tokens for a retry from the retry budget."""
        return _charge(self._circuit, delay, throttled=throttled)

    def permit_at_once(self) -> Permit:
        """Permit the retry of a call that has already waited as long as the server asked."""
        return Permit.GO

    def _extend(self) -> None:
        self._circuit.go_to(Paused(self._circuit))

    def _finish(self) -> None:
        self._circuit.go_to(RampUp(self._circuit))


class RampUp(CircuitState):
    """The state after a Retry-After: first the queued calls and then new jobs are released, one by one.

    If all of them were released simultaneously, the server would only reject them again.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._seconds = circuit.retry_after * _SPREAD
        self._end = circuit.now() + self._seconds
        self._new_jobs = 0
        self._timer = Timer()

    def enter(self) -> None:
        """Start the ramp-up by releasing the first call."""
        self._circuit.protected.on_resume()
        self._step()

    def leave(self) -> None:
        """Stop the ramp-up: release no further calls."""
        self._timer.cancel()

    def charge(self, delay: float, *, throttled: bool) -> Charge:
        """Take the tokens for a retry from the retry budget."""
        return _charge(self._circuit, delay, throttled=throttled)

    def permit_at_once(self) -> Permit:
        """Permit the retry of a call that has already waited as long as the server asked."""
        return Permit.GO

    def free_slots(self, slots: int, taken: int) -> int:  # noqa: ARG002 - as in the other states
        """Let one new job start if the ramp-up has reached new jobs."""
        return min(slots, self._new_jobs)

    def on_start(self, job: object) -> None:  # noqa: ARG002 - any job
        """Let no other job start before the next step."""
        self._new_jobs = 0

    def on_failure(self, *_: object, asked: bool) -> None:
        """Pause again if the server asked for another wait."""
        if asked:
            self._circuit.go_to(Paused(self._circuit))

    def _step(self) -> None:
        """Release one waiter, or let one new job start, and schedule the next step."""
        circuit = self._circuit
        now = circuit.now()
        if now >= self._end:
            circuit.go_to(Closed(circuit))
            return
        if circuit.waiters.release_first(Permit.GO) is None:
            self._new_jobs = 1
            circuit.protected.wake()
        gap = self._seconds / max(circuit.protected.limit or 1, len(circuit.waiters))
        self._timer.set(now + random.uniform(0, 2 * gap), self._step)  # noqa: S311 - not for cryptography


class Open(Pause):
    """The service is failing: the run is paused, each time for twice as long as before, up to `longest_pause`."""

    why = "the retry budget is empty"

    def __init__(self, circuit: Circuit, outage: Outage, seconds: float) -> None:
        super().__init__(circuit, seconds)
        self._outage = outage

    def on_failure(self, *who: object, asked: bool) -> None:  # noqa: ARG002 - the pause includes any such wait
        """Forget an overdue probe that has failed."""
        self._outage.forget(who)

    def on_neutral(self, *who: object) -> None:
        """Forget an overdue probe that has ended without a response."""
        self._outage.forget(who)

    def on_success(self, *who: object) -> None:
        """Close the circuit if an overdue probe has succeeded after all."""
        if self._outage.is_overdue(who):
            _resume(self._circuit)

    def _extend(self) -> None:
        self._circuit.go_to(Open(self._circuit, self._outage, 0.0))

    def _finish(self) -> None:
        # The first attempts that were running when the circuit opened count as probes.
        if self._circuit.first_attempts.rule_out_outage():
            _resume(self._circuit)
        else:
            self._circuit.go_to(HalfOpen(self._circuit, self._outage))


class HalfOpen(CircuitState):
    """One probe at a time tests whether the service works again.

    A new job is preferred as the probe, because the queued calls have already failed, perhaps because of their own
    inputs. The pump starts a new job in its next iteration if possible; otherwise a queued call becomes the probe. A
    probe that has to wait for a slot might never receive one, because all slots may belong to jobs whose calls wait for
    the circuit. A call whose job has a slot is therefore preferred, and replaces such a probe even if it joins the
    queue later.
    """

    def __init__(self, circuit: Circuit, outage: Outage) -> None:
        self._circuit = circuit
        self._outage = outage
        # A new job, or a call that retries.
        self._probe: object | None = None
        self._has_started = False
        self._timer = Timer()

    def enter(self) -> None:
        """Send a new job or a waiting call as the first probe."""
        self._find_probe()

    def leave(self) -> None:
        """Cancel the timer of the probe."""
        self._timer.cancel()

    def describe(self) -> str:
        """Describe the state for progress bars."""
        return "probing"

    def on_wait(self) -> None:
        """Look for a probe if none has started; the call that has joined the queue may become the probe."""
        if not self._has_started:
            self._find_probe()

    def free_slots(self, slots: int, taken: int) -> int:  # noqa: ARG002 - the limit may be exceeded
        """Let one new job start as the probe, even if waiting calls occupy all slots."""
        return int(self._probe is None and self._outage.admits_job(taken))

    def on_start(self, job: object) -> None:
        """Use a new job as the probe, or start the timer of a probe that has received the slot it was waiting for."""
        if self._probe is None or self._probe is job:
            self._send(job)

    def on_failure(self, *who: object, asked: bool) -> None:
        """Open the circuit again or stop the run if the probe has failed; pause if the server asked for a wait."""
        self._outage.forget(who)
        if self._probe is None and asked:
            self._circuit.go_to(Open(self._circuit, self._outage, 0.0))
        elif self._is_probe(who):
            self._fail()

    def on_neutral(self, *who: object) -> None:
        """Send the next probe if the current probe ended without a response."""
        self._outage.forget(who)
        if self._is_probe(who):
            self._probe, self._has_started = None, False
            self._find_probe()

    def on_success(self, *who: object) -> None:
        """Close the circuit if the probe, or an overdue probe, has succeeded."""
        if self._is_probe(who) or self._outage.is_overdue(who):
            _resume(self._circuit)

    def _is_probe(self, who: tuple[object, ...]) -> bool:
        return self._probe is not None and self._probe in who

    def _find_probe(self) -> None:
        circuit = self._circuit
        if circuit.retry_after_end > circuit.now():
            circuit.go_to(Open(circuit, self._outage, 0.0))
            return
        circuit.protected.wake()
        self._timer.set(circuit.now(), self._send_waiter)

    def _send_waiter(self) -> None:
        waiters = self._circuit.waiters
        call = waiters.release_first(Permit.PROBE, with_slot=True)
        if self._probe is None or call is not None:
            self._probe = call or waiters.release_first(Permit.PROBE)

    def _send(self, probe: object) -> None:
        self._probe, self._has_started = probe, True
        self._timer.set(self._circuit.now() + self._circuit.setting.longest_pause, partial(self._expire, probe))

    def _expire(self, probe: object) -> None:
        """Count a probe that takes too long as failed, although it continues."""
        self._outage.add_overdue(probe)
        self._fail()

    def _fail(self) -> None:
        circuit, outage = self._circuit, self._outage
        outage.failed_probes += 1
        if outage.failed_probes < circuit.setting.probes:
            circuit.go_to(Open(circuit, outage, outage.seconds_to_pause()))
        else:
            circuit.go_to(PermanentlyOpen(circuit, outage.failed_probes))


def _charge(circuit: Circuit, delay: float, *, throttled: bool) -> Charge:
    """Take the tokens for a retry from the budget.

    If the budget is empty and the service is failing, open the circuit or make the call give up. If the budget is empty
    because only some inputs fail, their retries follow the policy and take no tokens.
    """
    cost = circuit.budget.take(throttled=throttled)
    if cost is not None:
        return cost, delay
    if not circuit.shows_outage():
        return 0, delay
    if circuit.setting.when_exhausted == "fail":
        return None, delay
    outage = Outage(circuit)
    circuit.go_to(Open(circuit, outage, outage.seconds_to_pause()))
    return 0, 0.0


def _resume(circuit: Circuit) -> None:
    """Close the circuit after a successful probe, unless the server has asked for a longer wait."""
    circuit.budget.put(circuit.budget.capacity // 4)
    if circuit.retry_after_end > circuit.now():
        circuit.go_to(Paused(circuit))
    else:
        circuit.protected.on_resume()
        circuit.go_to(Closed(circuit))
