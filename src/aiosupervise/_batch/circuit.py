"""The data shared by the states of a circuit, the base class of states, and the two final states."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._call.no_waiting import no_waits
from aiosupervise._policy.budget import Budget

from .first_attempts import FirstAttempts
from .overload import Overload
from .protected import Protected
from .waiters import Waiters

Charge: TypeAlias = tuple[int | None, float]
"""A pair: the tokens that a retry takes, or None if the call must give up; and the seconds to wait before the retry."""


class Circuit:
    """The current state, and the data that all states share: settings, budget, queue, and the server's retry-after."""

    def __init__(
        self, setting: Overload, protected: Protected, initial: Callable[[Circuit], CircuitState], successes: int
    ) -> None:
        self.setting = setting
        self.protected = protected
        self.budget = Budget() if setting.budget is None else setting.budget
        self.first_attempts = FirstAttempts(successes)
        self.waiters = Waiters()
        # The wait in seconds that a response last asked for, and the loop's time at which that wait ends.
        self.retry_after = 0.0
        self.retry_after_end = 0.0
        self.is_closed = True
        self.state = initial(self)
        self._time_scale = 1.0 if no_waits.get() is None else 0.0
        self.loop = asyncio.get_running_loop()

    def now(self) -> float:
        """Return the loop's time."""
        return self.loop.time()

    def go_to(self, state: CircuitState) -> None:
        """Leave the current state and enter another."""
        self.state.leave()
        self.state = state
        self.is_closed = state.is_closed
        state.enter()

    def record_retry_after(self, seconds: float) -> None:
        """Record that the server asked for a wait; of several waits, the one that ends last applies."""
        seconds *= self._time_scale
        if self.now() + seconds >= self.retry_after_end:
            self.retry_after = seconds
            self.retry_after_end = self.now() + seconds

    def end_of_pause(self, seconds: float) -> float:
        """Return the end of a pause of up to `seconds`, or the end of the server's retry-after if that is later."""
        seconds *= self._time_scale
        return max(self.now() + random.uniform(seconds / 2, seconds), self.retry_after_end)  # noqa: S311 - no secret

    def shows_outage(self) -> bool:
        """Return whether the failures indicate that the service is down, rather than that some inputs are bad.

        Once every job has started, no new job is available as a probe, only a call that has already failed. More
        evidence of an outage is required then.
        """
        if self.protected.have_all_started():
            return self.first_attempts.show_outage_now()
        return self.first_attempts.show_outage()


class Timer:
    """A timer that triggers the next action of a state."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float, act: Callable[[], None]) -> None:
        """Schedule an action, replacing any previous one."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_at(when, act)

    def cancel(self) -> None:
        """Cancel the action."""
        if self._handle is not None:
            self._handle.cancel()
            # A cancelled timer still refers to its context, which may be that of a job.
            self._handle = None


class CircuitState:
    """A state of a circuit. By default, it permits neither new jobs nor retries."""

    is_closed: ClassVar[bool] = False

    def enter(self) -> None:
        """Perform the actions with which the state begins."""

    def leave(self) -> None:
        """Cancel the scheduled actions."""

    def describe(self) -> str:
        """Return the reason why no jobs are starting at the moment, or an empty string."""
        return ""

    def charge(self, delay: float, *, throttled: bool) -> Charge:  # noqa: ARG002 - as in the other states
        """Take the tokens for a retry. By default none are taken, because the call has to wait in the queue first."""
        return 0, 0.0

    def permit(self) -> Permit | None:
        """Return the permit with which a call retries or gives up; None if the call has to wait in the queue."""
        return None

    def permit_at_once(self) -> Permit:
        """Return the permit of a call that cannot wait in the queue: if it would have to wait, it gives up."""
        return self.permit() or Permit.STOP

    def on_wait(self) -> None:
        """Record that a call has joined the queue."""

    def free_slots(self, slots: int, taken: int) -> int:  # noqa: ARG002 - as above
        """Return how many new jobs may start, when the limit permits `slots` more and `taken` slots are occupied."""
        return 0

    def on_start(self, job: object) -> None:
        """Record that a new job starts."""

    def on_failure(self, *who: object, asked: bool) -> None:
        """Record a failed attempt of a job or a call; the server may have asked for a wait."""

    def on_neutral(self, *who: object) -> None:
        """Record that an attempt of a job or a call ended without a response from the service."""

    def on_success(self, *who: object) -> None:
        """Record a successful attempt of a job or a call."""


class PermanentlyOpen(CircuitState):
    """The state after too many failed probes: no job or retry starts."""

    def __init__(self, circuit: Circuit, failed_probes: int) -> None:
        self._circuit = circuit
        self._failed_probes = failed_probes

    def enter(self) -> None:
        """Make all waiting calls give up, and stop the run or the group."""
        self._circuit.waiters.release_all(Permit.STOP)
        self._circuit.protected.stop()

    def describe(self) -> str:
        """Return why the run has stopped."""
        return f"stopped, {self._failed_probes} probes failed"

    def charge(self, delay: float, *, throttled: bool) -> Charge:  # noqa: ARG002 - as in the other states
        """Refuse the retry, so that the call gives up."""
        return None, delay

    def permit(self) -> Permit:
        """Return the permit with which a call gives up."""
        return Permit.STOP


class Ended(CircuitState):
    """The state after the end of the run: calls that outlive the run continue without its protection."""

    is_closed = True

    def __init__(self, circuit: Circuit) -> None:
        self._waiters = circuit.waiters
        self._description = circuit.state.describe() if isinstance(circuit.state, PermanentlyOpen) else ""

    def enter(self) -> None:
        """Release all waiting calls."""
        self._waiters.release_all(Permit.GO)

    def describe(self) -> str:
        """Return the reason if failed probes stopped the run, otherwise an empty string."""
        return self._description

    def charge(self, delay: float, *, throttled: bool) -> Charge:  # noqa: ARG002 - as in the other states
        """Take no tokens."""
        return 0, delay

    def permit(self) -> Permit:
        """Permit every call to retry, because the run has ended."""
        return Permit.GO
